//! Servers that share their clients: clients who all knock at the same one, and what must come of it. The loads
//! become even, and nobody is sent about for that.

use std::time::Duration;

use super::cluster::Cluster;
use super::swarm::Class;
use super::user::Stage;
use crate::base::time::Time;

/// In such a time nobody is sent on more than [`SENT_MOST`] times; an anonymous one, whom nobody knows again, may
/// be once more where the simulator's own comes back to where it was sent away.
const SENT_WITHIN: Duration = Duration::from_secs(10);
const SENT_MOST: usize = 2;

impl Cluster {
    /// Clients that are in at this server; if `registered`, of those the ones that may be moved.
    fn clients_at(&self, h: usize, registered: bool) -> usize {
        let is_here = |pipe: usize| {
            let talk = &self.talks[&pipe];
            // One whose server's machine is gone has not noticed that yet.
            let is_there = talk.boot == Some(self.hosts[h].boot) && self.hosts[h].is_up();
            talk.host == h && is_there && talk.stage == Stage::Online
        };
        let all = self.users.iter().filter(|user| !registered || !user.is_anonymous());
        all.filter(|user| user.talk.is_some_and(is_here)).count()
    }

    fn loads(&self, registered: bool) -> Vec<usize> {
        (0..self.hosts.len()).map(|h| self.clients_at(h, registered)).collect()
    }

    /// The most and the fewest registered users on a server differ by one at most.
    fn users_are_even(&self) -> bool {
        let loads = self.loads(true);
        // Where all are full, who is too much stays.
        let is_full =
            self.swarm.max_clients.is_some_and(|most| self.loads(false).iter().all(|n| n + 1 >= most));
        is_full || loads.iter().max().zip(loads.iter().min()).is_none_or(|(max, min)| max - min <= 1)
    }

    /// No server has more than it should while another has room. One client is the simulator's own.
    fn caps_are_kept(&self) -> bool {
        let Some(most) = self.swarm.max_clients else { return true };
        let loads = self.loads(false);
        let is_over = |h: usize| loads[h] + 1 > most && self.clients_at(h, true) > 0;
        let has_room = loads.iter().any(|load| load + 1 < most) || self.can_grow();
        !has_room || !(0..loads.len()).any(is_over)
    }

    /// What is promised of servers that share their clients.
    pub fn is_balanced(&self) -> bool {
        !self.has(Class::Balance) || (self.users_are_even() && self.caps_are_kept() && self.starts.is_empty())
    }

    /// The liveness bound is over.
    pub fn say_what_is_uneven(&mut self) {
        if !self.has(Class::Balance) {
            return;
        }
        if !self.users_are_even() {
            let text = format!("{:?} on the servers", self.loads(true));
            self.violate("registered users become even", text);
        }
        if !self.caps_are_kept() {
            let text = format!("{:?} on the servers, and one each", self.loads(false));
            self.violate("caps are kept where there is room", text);
        }
    }

    /// A client is sent on. By one that stops it is in any case, and of one that is out of touch others do not
    /// hear that it did that.
    pub fn note_sent_on(&mut self, u: usize, by: usize) {
        let is_heard = (0..self.hosts.len()).all(|h| h == by || self.links.is_in_touch(h, by));
        if !self.has(Class::Balance) || self.hosts[by].is_stopping() || !is_heard {
            return;
        }
        self.judge.mark("a client was sent to a server with fewer");
        let now = self.now();
        let boot = self.hosts[by].boot;
        self.users[u].sent_on.push((now, boot));
        // A server that has ended answers no claim.
        let is_known = |sent: &&(Time, usize)| {
            now.since(sent.0) < SENT_WITHIN && self.ledger.boots[sent.1].died.is_none()
        };
        let n = self.users[u].sent_on.iter().filter(is_known).count();
        if n > SENT_MOST + usize::from(self.users[u].is_anonymous()) {
            let text = format!("client {u}, {n} times in {SENT_WITHIN:?}");
            self.violate("nobody is sent on over and over", text);
        }
    }

    /// A client comes by itself. Nobody knows an anonymous one again.
    pub fn note_knock(&mut self, u: usize) {
        if self.users[u].is_anonymous() {
            self.users[u].sent_on.clear();
        }
    }

    /// Where a client knocks: most at the first server, where loads are shared.
    pub fn choose_door(&mut self, up: &[usize]) -> usize {
        match self.has(Class::Balance) && self.rng.chance(70) {
            true => up[0],
            false => *self.rng.choose(up),
        }
    }
}
