//! Time as an argument: a point on the shell's monotonic clock. Nothing below the shells reads a clock.

use std::ops::Add;
use std::time::Duration;

/// Nanoseconds since the shell started. Only differences mean anything; it never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(u64);

impl Time {
    /// The instant the shell started.
    pub const START: Time = Time(0);

    /// The point `since_start` after the start; saturates after 584 years.
    pub fn from_start(since_start: Duration) -> Time {
        Time(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;
    fn add(self, d: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_forward_and_never_wraps() {
        let t = Time::START + Duration::from_millis(250);
        assert_eq!(t.since(Time::START), Duration::from_millis(250));
        assert_eq!(Time::START.since(t), Duration::ZERO);
        assert_eq!(t + Duration::MAX, Time(u64::MAX));
    }
}
