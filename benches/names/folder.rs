//! A server's folder with very many names, made by a node without sockets: each is registered as a client would, but
//! for the hash, which is made once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use activitystreamer::base::id::LinkId;
use activitystreamer::base::limits::Limits;
use activitystreamer::base::time::Time;
use activitystreamer::node::{Action, Hashed, Input, Node, Record, Seeds};
use activitystreamer::store::Records;
use argon2::{Algorithm, Argon2, Params, Version};

/// What all names have as their secret.
pub const SECRET: &str = "the secret of them all";
/// Connections at a time.
const AT_ONCE: usize = 4096;

/// A folder that goes with this.
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    pub fn new(what: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("as-names-{}-{what}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("there is room for temporary files");
        Folder(folder)
    }

    /// Bytes of its database.
    pub fn kept_bytes(&self, port: u16) -> u64 {
        std::fs::metadata(self.0.join(port.to_string()).join("records.redb")).map_or(0, |file| file.len())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Registers names for the server on this port. They have ten characters. Whoever registered is gone, and owed
    /// what is said from then on if `away`.
    pub fn fill(&self, port: u16, names: usize, away: bool) {
        let folder = self.0.join(port.to_string());
        std::fs::create_dir_all(&folder).expect("the folder can be written to");
        let opened = Records::open(&folder.join("records.redb"), 0, &mut |_| {});
        let mut limits = Limits { feed_bytes: 1 << 20, ..Limits::default() };
        if !away {
            limits.away = Duration::ZERO;
        }
        let mut office = Office {
            node: Node::new(limits, &Seeds::fixed(1)),
            records: opened.expect("a new database").0,
            record: record(),
            lines: BTreeMap::new(),
        };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
        office.node.set_wall(wall.as_millis() as u64);
        office.node.keep(Time::START, 0);
        for first in (0..names).step_by(AT_ONCE) {
            (first..names.min(first + AT_ONCE)).for_each(|i| office.ask(i));
            office.work();
            for link in std::mem::take(&mut office.lines).into_keys() {
                office.node.handle(Time::START, Input::Closed { link, unacknowledged: 0 });
            }
            office.work();
        }
        assert_eq!(office.node.names(), names, "each is registered");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The name with this number.
pub fn name(i: usize) -> String {
    format!("user{i:06}")
}

fn record() -> Record {
    let (salt, mut digest) = ([7; 16], [0; 32]);
    let cost = Params::new(8, 1, 1, Some(32)).expect("the least there is");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost);
    argon2.hash_password_into(SECRET.as_bytes(), &salt, &mut digest).expect("it has memory");
    Record { salt, digest, kib: 8, passes: 1 }
}

/// Where names are registered.
struct Office {
    node: Node,
    records: Records,
    record: Record,
    /// What each connection said, which is read again when it may go on.
    lines: BTreeMap<LinkId, String>,
}

impl Office {
    fn ask(&mut self, i: usize) {
        let link = self.node.connect(Time::START, Ipv4Addr::LOCALHOST.into());
        let name = name(i);
        let line = format!(r#"{{"command":"REGISTER","username":"{name}","secret":"{SECRET}"}}"#);
        self.node.line(Time::START, link, line.as_bytes());
        self.lines.insert(link, line);
    }

    fn work(&mut self) {
        while let Some(action) = self.node.action() {
            let done = match action {
                Action::Hash(job) => Input::Hashed(job.link, Hashed::Made(self.record.clone())),
                Action::Resume(link) => {
                    let line = &self.lines[&link];
                    self.node.line(Time::START, link, line.as_bytes());
                    continue;
                }
                Action::Settle { session, errand } => {
                    Input::Settled { session, errand, unacknowledged: 0, stalled: false }
                }
                Action::Commit { ticket, rows } => {
                    self.records.commit(rows.iter()).expect("the disk takes them");
                    Input::Committed { ticket, good: true }
                }
                _ => continue,
            };
            self.node.handle(Time::START, done);
        }
    }
}
