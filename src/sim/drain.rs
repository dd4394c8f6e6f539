//! A server that is stopped as an operator does it: it sends its clients away and ends, and nobody loses
//! anything or hears it twice for that. So none of what excuses a crash excuses a drain.

use std::time::Duration;

use super::cluster::Cluster;
use super::disk::Fate;
use super::host::{Host, Notice};
use super::ledger::MessageId;
use super::pipe::PipeId;
use super::swarm::Class;
use crate::base::limits::{STOP, STOP_PEERS};
use crate::node::{Input, Node};

/// Sending clients away takes no longer than until who does not go is closed, and a little.
pub(super) const DRAIN: Duration = Duration::from_secs(7);

impl Host {
    /// It was told to stop, and runs.
    pub fn is_stopping(&self) -> bool {
        self.is_up() && self.stop_by.is_some()
    }

    /// It takes connections.
    pub fn is_listening(&self) -> bool {
        self.node.as_ref().is_some_and(|node| self.stop_by.is_none() || node.is_draining())
    }
}

impl Cluster {
    /// SIGTERM.
    pub fn drain(&mut self, h: usize) {
        self.tell(|| format!("server {h} is told to stop"));
        let boot = self.hosts[h].boot;
        self.ledger.boots[boot].drained = Some(self.now());
        self.hosts[h].stop_by = Some(self.now() + DRAIN + STOP + STOP_PEERS);
        self.hosts[h].inbox.push(Notice::Input(Input::Stop));
        self.wake(h);
    }

    /// Some server was told to stop and is not at its end. Nothing else goes wrong meanwhile.
    pub fn is_any_stopping(&self) -> bool {
        self.hosts.iter().any(Host::is_stopping)
    }

    /// A stopping server's process ends when its node has no link, or it is time.
    pub(super) fn end_if_stopped(&mut self, h: usize) {
        let now = self.now();
        let is_over = |node: &Node| node.links() == 0 && !node.is_draining() && node.is_kept();
        let Some(by) = self.hosts[h].stop_by.filter(|_| self.hosts[h].is_up()) else { return };
        let ends = self.hosts[h].node.as_deref().is_some_and(is_over);
        if !ends && now < by {
            return self.wake_at(h, by);
        }
        self.judge.mark(if ends { "a server was drained" } else { "a server was drained in part" });
        let boot = self.hosts[h].boot;
        // What no link could carry in the time there was stays behind, as when it is killed.
        let has_no_time = !ends && self.is_congested(boot);
        if has_no_time {
            self.ledger.boots[boot].drained = None;
        }
        let left = self.left_behind(boot);
        self.crash(h, false, Fate::Written);
        self.hosts[h].is_gone = self.hosts[h].retires;
        // Where others forget soon, one that was started may know more than they.
        let may_know_more = self.hosts[h].retires && self.has(Class::Small);
        if !left.is_empty() && !may_know_more && !has_no_time {
            self.violate(
                "a server that is drained leaves nothing behind",
                format!("server {h} alone had {left:?}"),
            );
        }
    }

    /// What no other server has that lives.
    fn left_behind(&self, boot: usize) -> Vec<MessageId> {
        let is_left = |(id, _, accepted)| {
            let mut holders = self.ledger.holders(&accepted).filter(|b| self.ledger.boots[*b].died.is_none());
            (holders.next() == Some(boot) && holders.next().is_none()).then_some(id)
        };
        self.ledger.accepted().filter_map(is_left).take(8).collect()
    }

    /// The simulator's own connection to a server is sent away, too.
    pub(super) fn tap_is_sent_away(&mut self, boot: usize, pipe: PipeId) {
        self.ledger.boots[boot].tap = None;
        self.close(pipe, 0);
    }

    /// A server that was stopped starts again, if it has ended.
    pub(super) fn restart(&mut self, h: usize, fault: usize) {
        if self.hosts[h].is_up() {
            self.mend_later(fault, h);
        } else {
            self.boot(h, false);
        }
    }
}
