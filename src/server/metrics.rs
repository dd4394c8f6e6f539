//! What is counted and measured, as Prometheus reads it (text exposition 0.0.4).
//!
//! A series is there from the start, so that its first movement is seen. What is counted has its help text
//! in [`Counters`]; gauges have theirs here.

use std::fmt::Write;

use crate::base::time::Time;
use crate::node::{
    CloseReason, Counters, Histogram, LAG_BOUNDS_US, Node, OtherState, Status, Storage, Traffic, word,
};

/// What only the shell knows.
#[derive(Clone, Debug, Default)]
pub struct Shell {
    /// The time of this turn.
    pub now: Time,
    /// Connections that are open.
    pub connections: usize,
    /// Connections there may be.
    pub connections_max: usize,
    /// Bytes held of half-received lines.
    pub input_bytes: usize,
    /// Bytes of memory the process has in use; 0 where the system does not say.
    pub memory_bytes: u64,
    /// How long turns took.
    pub turns: Histogram,
}

const PREFIX: &str = "activitystreamer";

/// All series. `status` is the node's, perhaps a moment old.
pub fn text(node: &Node, status: &Status, shell: &Shell) -> String {
    let mut page = Exposition(String::with_capacity(24 << 10));
    let counters = node.counters();
    page.counters(counters);
    page.traffic(node.traffic());
    let lag =
        "Time from a message's accept, or its receipt from another server, until a client's kernel has it.";
    page.histogram("delivery_lag_seconds", lag, node.delivery_lag());
    let copy = "Time from a message's accept until another server has a copy and it is shown.";
    page.histogram("second_copy_seconds", copy, node.second_copy_lag());
    let turn = "Time of a turn of the loop: from when the wait for events is over until the next begins.";
    page.histogram("turn_seconds", turn, &shell.turns);
    page.head("turn_longest_seconds", "The longest turn since the start.", "gauge");
    page.put(format_args!("{PREFIX}_turn_longest_seconds {}\n", shell.turns.max_us as f64 / 1e6));
    page.gauges(status, shell);
    page.0
}

struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.put(format_args!("# HELP {PREFIX}_{name} {help}\n# TYPE {PREFIX}_{name} {kind}\n"));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a String takes every write");
    }

    fn counters(&mut self, counters: &Counters) {
        for (name, help, n) in counters.list() {
            self.head(&format!("{name}_total"), help, "counter");
            self.put(format_args!("{PREFIX}_{name}_total {n}\n"));
        }
        self.head("closed_total", "Links closed, by reason.", "counter");
        for reason in CloseReason::ALL {
            let (label, n) = (reason.label(), counters.closed[reason as usize]);
            self.put(format_args!("{PREFIX}_closed_total{{reason=\"{label}\"}} {n}\n"));
        }
    }

    fn traffic(&mut self, sent: &Traffic) {
        let mut last = "";
        for (name, kind, n) in sent.list() {
            if std::mem::replace(&mut last, name) != name {
                let help = match name {
                    "peer_frames" => "Frames made for other servers, by kind.",
                    _ => "Bytes of frames made for other servers, by kind.",
                };
                self.head(&format!("{name}_total"), help, "counter");
            }
            self.put(format_args!("{PREFIX}_{name}_total{{kind=\"{}\"}} {n}\n", kind.label()));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, help, "histogram");
        let mut below = 0;
        for (i, n) in histogram.counts.iter().enumerate() {
            below += n;
            match LAG_BOUNDS_US.get(i) {
                Some(us) => {
                    let bound = *us as f64 / 1e6;
                    self.put(format_args!("{PREFIX}_{name}_bucket{{le=\"{bound}\"}} {below}\n"));
                }
                None => self.put(format_args!("{PREFIX}_{name}_bucket{{le=\"+Inf\"}} {below}\n")),
            }
        }
        let sum = histogram.sum_us as f64 / 1e6;
        self.put(format_args!("{PREFIX}_{name}_sum {sum}\n{PREFIX}_{name}_count {below}\n"));
    }

    fn gauges(&mut self, status: &Status, shell: &Shell) {
        let longest = |of: fn(&crate::node::Other) -> u64| status.servers.iter().map(of).max().unwrap_or(0);
        let plain = [
            ("sessions", "Sessions on this server: its load.", status.sessions),
            ("open_connections", "Connections that are open.", shell.connections as u64),
            ("open_connections_max", "Connections there may be.", shell.connections_max as u64),
            ("names", "Names that are registered.", status.names),
            ("mailboxes", "Broken sessions that are owed something, of all servers.", status.mailboxes),
            ("mailbox_bytes", "Bytes owed to broken sessions of this server.", status.mailbox_bytes),
            ("feed_memory_bytes", "Bytes of the feed in memory.", status.memory_bytes),
            ("feed_readable_bytes", "Bytes of the feed readers can have.", status.readable_bytes),
            (
                "unkept_rows",
                "Names and names' sessions that are not on disk as they are.",
                status.unkept_rows,
            ),
            ("unexposed_bytes", "Bytes of messages that wait for a second copy.", status.unexposed_bytes),
            ("unconfirmed", "Messages the server furthest behind lacks.", longest(|other| other.unconfirmed)),
            ("missing", "Messages known of that are not here.", longest(|other| other.missing)),
            ("input_bytes", "Bytes held of half-received lines.", shell.input_bytes as u64),
            ("in_sync", "1 while all servers are linked and in step.", u64::from(status.in_sync)),
            ("healthy", "1 while nothing is as it should not be.", u64::from(status.troubles.is_empty())),
            ("uptime_seconds", "Seconds since the start.", shell.now.since(Time::START).as_secs()),
        ];
        for (name, help, n) in plain {
            self.head(name, help, "gauge");
            self.put(format_args!("{PREFIX}_{name} {n}\n"));
        }
        self.head("servers", "Other servers of the network, by what they are to this one.", "gauge");
        for state in [OtherState::Linked, OtherState::Silent, OtherState::Stopped, OtherState::Lost] {
            let n = status.servers.iter().filter(|other| other.state == state).count();
            self.put(format_args!("{PREFIX}_servers{{state=\"{}\"}} {n}\n", word(state)));
        }
        self.head("storage", "1 for how what is to be kept is kept.", "gauge");
        for storage in [Storage::None, Storage::Good, Storage::Degraded] {
            let label = word(storage);
            let n = u8::from(status.storage == storage);
            self.put(format_args!("{PREFIX}_storage{{state=\"{label}\"}} {n}\n"));
        }
        self.head("build_info", "1, with the version.", "gauge");
        let version = env!("CARGO_PKG_VERSION");
        self.put(format_args!("{PREFIX}_build_info{{version=\"{version}\"}} 1\n"));
        if shell.memory_bytes > 0 {
            let help = "Resident memory size in bytes.";
            self.put(format_args!(
                "# HELP process_resident_memory_bytes {help}\n# TYPE process_resident_memory_bytes gauge\n\
                 process_resident_memory_bytes {}\n",
                shell.memory_bytes
            ));
        }
    }
}
