//! What the process that was started and those that generate load say to each other: one line of JSON each.

use serde::{Deserialize, Serialize};

use super::figures::{Counts, Times};

/// To a generator, behind its plan. The end of its input ends it.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Talkers speak from `begin` until `to`; it is measured from `from`. Times are ns of the machine's clock.
    Talk { begin: u64, from: u64, to: u64 },
    /// So many messages each talker said: hear them all, log out, report.
    Expect { said: Vec<u32> },
}

/// From a generator.
#[derive(Debug, Serialize, Deserialize)]
pub enum Word {
    /// How far it is, several times a second.
    Progress(Progress),
    /// The talk is over: what each of its talkers said.
    Said(Vec<(u32, u32)>),
    /// The last word.
    Report(Box<Report>),
    /// The last word of one that cannot go on.
    Failed(String),
}

/// How far a generator is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Sessions now.
    pub online: u64,
    /// Clients that will not come back.
    pub gone: u64,
    /// Redirects followed.
    pub moved: u64,
    /// Messages said.
    pub said: u64,
    /// Deliveries.
    pub heard: u64,
    /// What was repeated or late so far.
    pub wrong: u64,
}

impl Progress {
    /// Adds another generator's.
    pub fn add(&mut self, other: &Progress) {
        self.online += other.online;
        self.gone += other.gone;
        self.moved += other.moved;
        self.said += other.said;
        self.heard += other.heard;
        self.wrong += other.wrong;
    }
}

/// What a generator found; a span is the first connect and the last of the first logins, in ns.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub counts: Counts,
    pub latency: Times,
    pub logins: Times,
    pub registrations: Times,
    pub login_span: (u64, u64),
    pub reasons: Vec<String>,
}
