//! How the servers of a cluster are linked in truth, and how they were: what a fault excuses hangs on it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::Cluster;
use crate::base::time::Time;

/// For each pair of servers when it came to be in touch, or ceased to be. A pair that is not named never was.
#[derive(Debug, Default)]
pub(super) struct Links {
    pairs: BTreeMap<(usize, usize), Vec<(Time, bool)>>,
    /// Something happened that may have changed it.
    pub is_stale: bool,
}

impl Links {
    fn note(&mut self, pair: (usize, usize), now: Time, is_in_touch: bool) -> bool {
        let changes = self.pairs.entry(pair).or_default();
        let was = changes.last().is_some_and(|(_, was)| *was);
        if was != is_in_touch {
            changes.push((now, is_in_touch));
        }
        was != is_in_touch
    }

    pub fn is_in_touch(&self, a: usize, b: usize) -> bool {
        self.pairs.get(&(a.min(b), a.max(b))).and_then(|c| c.last()).is_some_and(|(_, now)| *now)
    }

    /// True if the two were in touch all the time between.
    pub fn were_in_touch(&self, a: usize, b: usize, from: Time, to: Time) -> bool {
        let Some(changes) = self.pairs.get(&(a.min(b), a.max(b))) else { return false };
        let i = changes.partition_point(|(at, _)| *at <= from);
        let before = i.checked_sub(1).is_some_and(|i| changes[i].1);
        before && changes[i..].iter().take_while(|(at, _)| *at <= to).all(|(_, is)| *is)
    }
}

impl Links {
    /// When the pair last ceased or began to be in touch.
    fn last_change(&self, a: usize, b: usize) -> Option<Time> {
        self.pairs.get(&(a.min(b), a.max(b))).and_then(|c| c.last()).map(|(at, _)| *at)
    }
}

impl Cluster {
    /// All have been linked for so long.
    pub fn meshed_for(&self, wait: Duration) -> bool {
        let n = self.hosts.len();
        let long = |at: Time| self.now().since(at) >= wait;
        (0..n).all(|a| (a + 1..n).all(|b| self.links.last_change(a, b).is_some_and(long)))
    }

    /// Looks who is in touch with whom.
    pub fn survey(&mut self) {
        let now = self.now();
        for a in 0..self.hosts.len() {
            for b in a + 1..self.hosts.len() {
                let is = self.look_at_pair(a, b);
                self.hosts[a].has_joined |= is;
                self.hosts[b].has_joined |= is;
                if self.links.note((a, b), now, is) {
                    self.tell(|| format!("servers {a} and {b} are {}in touch", if is { "" } else { "not " }));
                }
            }
        }
        self.links.is_stale = false;
        self.look_at_starts();
    }

    fn look_at_pair(&self, a: usize, b: usize) -> bool {
        // A server that has its turn right now has lent its node to it.
        let up = |h: usize| !self.hosts[h].paused && !self.hosts[h].dark && !self.hosts[h].socks.is_empty();
        if !up(a) || !up(b) || self.walls[a][b] > 0 || self.walls[b][a] > 0 {
            return false;
        }
        self.hosts[a].socks.values().filter(|sock| sock.peer == Some(b) && sock.greeted.is_some()).any(
            |sock| {
                let pipe = &self.pipes[sock.pipe];
                let other = pipe.links[1 - sock.side].and_then(|link| self.hosts[b].socks.get(&link));
                other.is_some_and(|o| o.pipe == sock.pipe && o.greeted.is_some())
                    && pipe.flows.iter().all(|flow| flow.frozen == 0)
                    && pipe.reset == [false; 2]
            },
        )
    }

    /// All servers are up and linked with each other.
    pub fn is_meshed(&self) -> bool {
        let n = self.hosts.len();
        self.hosts.iter().all(|host| host.is_running())
            && (0..n).all(|a| (a + 1..n).all(|b| self.links.is_in_touch(a, b)))
    }
}
