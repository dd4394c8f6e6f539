//! What a run found: a table for people, one line of JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::Options;
use super::figures::Times;
use super::plan::Pace;
use super::words::Report;

/// Processor time used up to a moment.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub struct Cpu {
    /// That moment: ns of the machine's clock.
    pub at: u64,
    pub servers_ms: u64,
    pub generators_ms: u64,
}

/// All of it, of all generators.
#[expect(
    missing_docs,
    reason = "the fields are named after what they are, and documented where they are counted"
)]
pub struct Summary {
    pub all: Report,
    pub before: Cpu,
    pub after: Cpu,
}

impl Summary {
    /// Whether each client heard each message once and in order, and none was cut off for another reason than being
    /// slow.
    pub fn is_clean(&self) -> bool {
        self.all.counts.is_clean()
    }

    fn seconds(&self) -> f64 {
        (self.after.at - self.before.at) as f64 / 1e9
    }

    fn logins_a_second(&self) -> f64 {
        let span = self.all.login_span.1.saturating_sub(self.all.login_span.0);
        if span == 0 { 0.0 } else { self.all.logins.count() as f64 * 1e9 / span as f64 }
    }

    fn servers_s(&self) -> f64 {
        (self.after.servers_ms - self.before.servers_ms.min(self.after.servers_ms)) as f64 / 1e3
    }

    fn generators_s(&self) -> f64 {
        (self.after.generators_ms - self.before.generators_ms.min(self.after.generators_ms)) as f64 / 1e3
    }

    /// One line, without its end.
    pub fn json(&self, options: &Options) -> String {
        let (counts, seconds) = (&self.all.counts, options.time.as_secs_f64());
        let a_second = |n: u64| if seconds > 0.0 { (n as f64 / seconds).round() } else { 0.0 };
        let part =
            |n: u64, whole: f64| if whole > 0.0 { json!((n as f64 / whole).round()) } else { Value::Null };
        let mut page = json!({
            "ok": self.is_clean(),
            "clients": options.clients,
            "talkers": options.talkers,
            "servers": options.servers,
            "registered": options.registered,
            "size": options.size,
            "seconds": seconds,
            "processes": options.processes,
            "messages": counts.said,
            "deliveries": counts.heard,
            "messages_per_s": a_second(counts.said_measured),
            "deliveries_per_s": a_second(counts.heard_measured),
            "latency_us": times(&self.all.latency),
            "login_us": times(&self.all.logins),
            "registration_us": times(&self.all.registrations),
            "logins_per_s": self.logins_a_second().round(),
            "slow": options.slow,
            "generators_cpu_s": self.generators_s(),
            "reasons": self.all.reasons,
        });
        match options.pace {
            Pace::Window(n) => page["window"] = json!(n),
            Pace::Rate(n) => page["rate"] = json!(n),
        }
        if !options.server_pids.is_empty() {
            page["server_cpu_s"] = json!(self.servers_s());
            page["deliveries_per_server_cpu_s"] = part(counts.heard_measured, self.servers_s());
        }
        let all = serde_json::to_value(counts).expect("numbers");
        for name in COUNTED {
            page[name] = all[name].clone();
        }
        page.to_string()
    }

    /// The table.
    pub fn table(&self, options: &Options) -> String {
        let (counts, seconds) = (&self.all.counts, options.time.as_secs_f64());
        let mut text = String::new();
        let mut line = |args: std::fmt::Arguments<'_>| writeln!(text, "{args}").expect("a String takes all");
        let pace = match options.pace {
            Pace::Window(n) => format!("{n} in flight of each"),
            Pace::Rate(n) => format!("{n} messages a second"),
        };
        let who = if options.registered { "registered" } else { "anonymous" };
        line(format_args!(
            "{} {who} clients, {} of them talk, {pace}, {} bytes, {seconds} s, {} servers, {} generators",
            options.clients,
            options.talkers,
            options.size,
            options.servers.len(),
            options.processes
        ));
        if seconds > 0.0 {
            line(format_args!("{:<14}{:>14}{:>14}", "", "a second", "in all"));
            let a_second = |n: u64| n as f64 / seconds;
            line(format_args!(
                "{:<14}{:>14.0}{:>14}",
                "messages",
                a_second(counts.said_measured),
                counts.said
            ));
            let heard = a_second(counts.heard_measured);
            line(format_args!("{:<14}{heard:>14.0}{:>14}", "deliveries", counts.heard));
        }
        line(format_args!("{:<14}{:>14.0}{:>14}", "logins", self.logins_a_second(), self.all.logins.count()));
        line(format_args!("{:<14}{:>14}{:>14}{:>14}{:>14}", "ms", "p50", "p99", "p99.9", "max"));
        for (name, times) in [
            ("delivery", &self.all.latency),
            ("login", &self.all.logins),
            ("registration", &self.all.registrations),
        ] {
            if times.count() > 0 {
                let [p50, p99, p999] = QUANTILES.map(|(_, part)| times.quantile_us(part) as f64 / 1e3);
                let max = times.max_us() as f64 / 1e3;
                line(format_args!("{name:<14}{p50:>14.3}{p99:>14.3}{p999:>14.3}{max:>14.3}"));
            }
        }
        let percent = |s: f64| 100.0 * s / self.seconds().max(1e-9);
        if seconds > 0.0 {
            line(format_args!("processor: generators {:.0} %", percent(self.generators_s())));
        }
        if !options.server_pids.is_empty() && seconds > 0.0 {
            let each = counts.heard_measured as f64 / self.servers_s().max(0.01);
            line(format_args!(
                "processor: servers {:.0} %, {each:.0} deliveries a second of it",
                percent(self.servers_s())
            ));
        }
        let all = serde_json::to_value(counts).expect("numbers");
        let seen = COUNTED.iter().filter(|name| all[**name] != 0);
        let seen: Vec<String> =
            seen.map(|name| format!("{} {}", all[*name], name.replace('_', " "))).collect();
        if !seen.is_empty() {
            line(format_args!("counted: {}", seen.join(", ")));
        }
        self.all.reasons.iter().for_each(|why| line(format_args!("why: {why}")));
        line(format_args!(
            "{}",
            match self.is_clean() {
                true => "good: nothing lost, nothing repeated, all in order",
                false => "BAD: not every client heard every message once and in order",
            }
        ));
        text
    }
}

/// The figures that say what went wrong, or is out of the ordinary.
const COUNTED: [&str; 13] = [
    "lost",
    "repeated",
    "repeated_after_break",
    "out_of_order",
    "broken",
    "refused",
    "malformed",
    "slow_cut",
    "slow_missed",
    "moved",
    "begun_anew",
    "foreign",
    "said_again",
];

const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)];

fn times(times: &Times) -> Value {
    let mut page = json!({ "count": times.count(), "max": times.max_us() });
    for (name, part) in QUANTILES {
        page[name] = json!(times.quantile_us(part));
    }
    page
}
