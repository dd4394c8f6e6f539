//! What is counted and timed: kept by each process, sent as lines of JSON, and added up.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::limits::{TIME_DIGITS, TIME_US_MAX};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// How often what happened.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Counts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counts {
            /// Adds another process's.
            pub fn add(&mut self, other: &Counts) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counts! {
    /// Messages said.
    said,
    /// Of them, while it was measured.
    said_measured,
    /// Messages heard, each counted once for each client.
    heard,
    /// Deliveries read while it was measured.
    heard_measured,
    /// Messages that a client was to hear and did not.
    lost,
    /// Messages heard that had been heard by the same client.
    repeated,
    /// The same, by a client whose connection had broken: what it had not confirmed may come again.
    repeated_after_break,
    /// Messages heard behind a later one of the same sender.
    out_of_order,
    /// Broadcasts of nobody of this run.
    foreign,
    /// Lines that a client must not get.
    malformed,
    /// Redirects followed.
    moved,
    /// Of them by clients that are owed nothing: what was said on their way is not expected of them.
    begun_anew,
    /// Slow clients that the server cut off.
    slow_cut,
    /// What those missed.
    slow_missed,
    /// Connections that broke.
    broken,
    /// Clients the server refused.
    refused,
    /// Messages that were said a second time, because nobody had heard them.
    said_again,
}

impl Counts {
    /// Whether each client heard each message once and in order.
    pub fn is_clean(&self) -> bool {
        let bad = [self.lost, self.repeated, self.out_of_order, self.malformed, self.broken, self.refused];
        bad.iter().all(|n| *n == 0)
    }
}

/// Times, with three significant digits, in µs.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        Times(Histogram::new_with_bounds(1, TIME_US_MAX, TIME_DIGITS).expect("these bounds are good"))
    }
}

impl Times {
    /// Counts one time, given in ns. What is above an hour is an hour.
    pub fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns / 1000);
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Times) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Below it, or at it, is that part of all times, in µs; 0 if there are none.
    pub fn quantile_us(&self, part: f64) -> u64 {
        self.0.value_at_quantile(part)
    }

    /// The largest, in µs.
    pub fn max_us(&self) -> u64 {
        self.0.max()
    }
}

/// As pairs of a time and how often it was.
impl Serialize for Times {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'a> Deserialize<'a> for Times {
    fn deserialize<D: Deserializer<'a>>(from: D) -> Result<Times, D::Error> {
        let mut times = Times::default();
        for (us, count) in Vec::<(u64, u64)>::deserialize(from)? {
            times.0.saturating_record_n(us, count);
        }
        Ok(times)
    }
}

/// Time a process has spent on processors since it began, in ms; `None` if there is none of that number.
pub fn cpu_ms(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which is in parentheses, the 12th and 13th fields count ticks of 10 ms.
    let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(10 * (ticks(11)? + ticks(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_several_processes_add_up_to_what_one_would_have_counted() {
        let (mut one, mut parts) = (Times::default(), [Times::default(), Times::default()]);
        for i in 0..10_000_u64 {
            let ns = 1000 * (i * i % 100_003);
            one.record(ns);
            parts[i as usize % 2].record(ns);
        }
        let mut sum = Times::default();
        for part in &parts {
            let line = serde_json::to_string(part).expect("numbers");
            sum.add(&serde_json::from_str(&line).expect("what was written"));
        }
        assert_eq!((sum.count(), sum.max_us()), (one.count(), one.max_us()));
        for part in [0.5, 0.99, 0.999] {
            assert_eq!(sum.quantile_us(part), one.quantile_us(part));
        }
        assert_eq!(Times::default().quantile_us(0.5), 0);
    }

    #[test]
    fn counts_add_up_and_say_what_is_clean() {
        let mut sum = Counts { heard: 3, slow_cut: 1, ..Counts::default() };
        assert!(sum.is_clean());
        sum.add(&Counts { heard: 4, lost: 1, ..Counts::default() });
        assert_eq!((sum.heard, sum.is_clean()), (7, false));
    }

    #[test]
    fn this_process_has_a_time_and_process_zero_has_none() {
        assert!(cpu_ms(std::process::id()).is_some() && cpu_ms(0).is_none());
    }
}
