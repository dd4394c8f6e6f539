//! Servers that start others when they are full. A start takes its time, and may fail; and when all clients have
//! left, those that were started end.

use std::time::Duration;

use super::cluster::Cluster;
use super::host::{Host, Notice};
use super::schedule::{Event, ms};
use super::swarm::Class;
use crate::base::time::Time;
use crate::node::Input;

/// Servers that may be started.
pub(super) const SPAWN_MAX: usize = 4;
/// After how long without a client one ends.
pub(super) const RETIRE: Duration = Duration::from_secs(3);
/// How long that may take with all: they go one after the other.
const ALL_RETIRED: Duration = Duration::from_secs(30);
/// Who was in touch for so long has heard what the other is about to do.
const HEARD: Duration = Duration::from_millis(500);

/// A server that is being started.
#[derive(Debug)]
pub(super) struct Start {
    by: usize,
    boot: usize,
    since: Time,
    /// It is up, but not linked to that one yet.
    host: Option<usize>,
}

impl Host {
    /// Clients may come to it by themselves: where one is that has just been started, nobody knows before it joined.
    pub fn is_known(&self) -> bool {
        self.is_up() && self.has_joined
    }
}

impl Cluster {
    /// Servers that were started.
    fn spawned(&self) -> usize {
        self.hosts.iter().filter(|host| host.parent.is_some()).count()
    }

    /// Another may be started.
    pub fn can_grow(&self) -> bool {
        self.has(Class::Spawn) && self.spawned() < SPAWN_MAX
    }

    /// A server wants another. In the middle of a turn.
    pub(super) fn spawn(&mut self, h: usize, ticket: u64) {
        let now = self.now();
        self.tell(|| format!("server {h} starts another"));
        let before = |at: Time| Time::START + at.since(Time::START).saturating_sub(HEARD);
        let knows = |start: &Start| {
            let is_there = self.hosts[start.by].boot == start.boot;
            is_there && (start.by == h || self.links.were_in_touch(h, start.by, before(start.since), now))
        };
        if let Some(other) = self.starts.iter().find(|start| knows(start)) {
            let text = format!("server {h} starts one, and {other:?}");
            self.violate("one server is started at a time", text);
        }
        if self.is_linked_to_all(h) && self.spawned() >= SPAWN_MAX {
            self.violate("no more servers are started than may be", format!("server {h} starts one more"));
        }
        let good = self.healed.is_some() || self.rng.chance(75);
        let wait =
            if self.rng.chance(20) { self.rng.between(3_000, 9_000) } else { self.rng.between(50, 1_500) };
        let boot = self.hosts[h].boot;
        self.starts.push(Start { by: h, boot, since: now, host: None });
        self.schedule.after(ms(wait), Event::Spawn { by: h, boot, ticket, good });
    }

    fn is_linked_to_all(&self, h: usize) -> bool {
        let before = Time::START + self.now().since(Time::START).saturating_sub(HEARD);
        (0..self.hosts.len()).all(|o| o == h || self.links.were_in_touch(h, o, before, self.now()))
    }

    /// A server that was to be started starts, or does not.
    pub(super) fn on_spawn(&mut self, by: usize, boot: usize, ticket: u64, good: bool) {
        let is_it = |start: &Start| start.boot == boot && start.host.is_none();
        let Some(i) = self.starts.iter().position(is_it) else { return };
        if self.emptied.is_some() {
            return;
        }
        if good {
            self.judge.mark("a server was started");
            let mut start = self.starts.remove(i);
            start.host = Some(self.add_host(Some((by, ticket))));
            return self.starts.push(start);
        }
        self.starts.remove(i);
        self.judge.mark("a server did not start");
        self.tell(|| format!("what server {by} started does not start"));
        if self.hosts[by].is_up() && self.hosts[by].boot == boot {
            let why = "so it was drawn".to_owned();
            self.hosts[by].inbox.push(Notice::Input(Input::SpawnFailed { ticket, why }));
            self.wake(by);
        }
    }

    /// Servers that were started may have met who started them, or that one is gone.
    pub(super) fn look_at_starts(&mut self) {
        let mut starts = std::mem::take(&mut self.starts);
        starts.retain(|start| match start.host {
            Some(host) => {
                let is_there = self.hosts[start.by].is_up() && self.hosts[start.by].boot == start.boot;
                is_there && !self.links.is_in_touch(start.by, host)
            }
            None => true,
        });
        self.starts = starts;
    }

    /// A server ends because it is not needed. In the middle of a turn.
    pub(super) fn retire(&mut self, h: usize) {
        self.judge.mark("a server retired");
        self.hosts[h].retires = true;
        self.drain(h);
        if self.hosts[h].parent.is_none() {
            self.violate("only servers that were started end by themselves", format!("server {h}"));
        }
        let stays = |o: usize| o != h && self.hosts[o].is_up() && !self.hosts[o].is_stopping();
        if !(0..self.hosts.len()).any(stays) {
            self.violate("the last server stays", format!("server {h}"));
        }
    }

    /// All clients leave for good, the simulator's own last.
    pub(super) fn empty(&mut self) {
        self.tell(|| "all clients leave".into());
        self.emptied = Some(self.now());
        for u in 0..self.users.len() {
            self.users[u].is_retired = true;
            if let Some(pipe) = self.users[u].talk {
                self.leave(pipe);
            }
        }
        for h in 0..self.hosts.len() {
            let boot = self.hosts[h].boot;
            if self.hosts[h].parent.is_some()
                && let Some(tap) = self.ledger.boots[boot].tap.take()
            {
                self.close(tap, 0);
            }
        }
    }

    /// All servers that were started have ended, or it is said that they have not.
    pub(super) fn have_retired(&mut self) -> bool {
        let left: Vec<usize> = (0..self.hosts.len())
            .filter(|h| self.hosts[*h].parent.is_some() && !self.hosts[*h].is_gone)
            .collect();
        let is_late = self.emptied.is_some_and(|at| self.now().since(at) > ALL_RETIRED);
        if is_late && !left.is_empty() {
            self.violate("servers end that are not needed", format!("{left:?} are there"));
        }
        is_late || left.is_empty()
    }
}
