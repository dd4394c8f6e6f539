//! Where violations, marks and the story of a run are kept.

use std::collections::BTreeMap;

use super::cluster::{Cluster, Violation};
use crate::base::time::Time;
use crate::node::Node;

/// Violations kept; more say nothing new.
const KEPT: usize = 12;

pub(super) struct Judge {
    pub violations: Vec<Violation>,
    pub marks: BTreeMap<&'static str, u64>,
    /// What the nodes counted, all together.
    pub counted: BTreeMap<String, u64>,
    pub story: Vec<String>,
    tells: bool,
}

impl Judge {
    pub fn new(tells: bool) -> Judge {
        Judge {
            violations: Vec::new(),
            marks: BTreeMap::new(),
            counted: BTreeMap::new(),
            story: Vec::new(),
            tells,
        }
    }

    /// Counts something that happened.
    pub fn mark(&mut self, what: &'static str) {
        self.mark_count(what, 1);
    }

    pub fn mark_count(&mut self, what: &'static str, n: u64) {
        *self.marks.entry(what).or_default() += n;
    }

    /// A node is over: takes what it counted.
    pub fn count(&mut self, node: &Node) {
        let sent = node.traffic().list().map(|(name, kind, n)| (format!("{name}_{}", kind.label()), n));
        for (name, n) in node.counters().all().chain(sent) {
            *self.counted.entry(name).or_default() += n;
        }
    }

    pub fn tell(&mut self, now: Time, text: impl FnOnce() -> String) {
        if self.tells {
            self.story.push(format!("{} {}", at(now), text()));
        }
    }
}

impl Cluster {
    /// A promise was not kept.
    pub fn violate(&mut self, promise: &'static str, text: String) {
        let text = format!("{} {text}", at(self.now()));
        self.tell(|| format!("VIOLATION of \"{promise}\": {text}"));
        if self.judge.violations.len() < KEPT {
            self.judge.violations.push(Violation { promise, text });
        }
    }
}

/// A time as it is told.
pub(super) fn at(time: Time) -> String {
    format!("{:8.3}", time.since(Time::START).as_secs_f64())
}
