//! What clients do, and when: they talk, are sent elsewhere, break off, vanish, log out, come back.

use super::cluster::Cluster;
use super::host::Notice;
use super::ledger::MessageId;
use super::schedule::{Event, ms};
use super::swarm::Class;
use super::user::Stage;

impl Cluster {
    pub(super) fn on_act(&mut self, u: usize) {
        if self.healed.is_some() {
            return;
        }
        let (low, high) = self.swarm.gap_ms;
        let wait = self.rng.between(low, high);
        self.schedule.after(ms(wait), Event::Act(u));
        if self.has(Class::Skew) && self.rng.chance(1) {
            self.jump_clock();
        }
        let Some(pipe) = self.users[u].talk else { return };
        let stage = self.talks[&pipe].stage;
        let may_speak = match stage {
            Stage::Online => true,
            // Lines may follow LOGIN without waiting for its answer.
            Stage::LoggingIn => !self.users[u].is_anonymous(),
            _ => false,
        };
        if may_speak && self.rng.chance(60) {
            for _ in 0..*self.rng.choose(&[1, 1, 2, 5]) {
                self.say(u);
            }
        }
        // A device that logs in for the first time cannot be told from one that was broken off, so all
        // devices of a name come before any goes.
        let name = &self.users[u].name;
        let all_came = self.users.iter().all(|other| other.name != *name || other.joined.is_some());
        if stage == Stage::Online && (all_came || self.users[u].is_anonymous()) {
            self.wander(u, pipe);
        }
    }

    /// Some of those who are in go, or are sent, elsewhere.
    fn wander(&mut self, u: usize, pipe: usize) {
        let x = self.rng.below(1_000);
        let is_anonymous = self.users[u].is_anonymous();
        match x {
            0..30 if self.has(Class::Move) && !is_anonymous => self.send_away(u, pipe),
            30..50 if self.has(Class::Break) => {
                self.judge.mark("break");
                self.leave(pipe);
                let wait = match self.rng.below(3) {
                    0 => 0,
                    1 => self.rng.between(0, 20),
                    _ => self.rng.between(20, 900),
                };
                self.come_later(u, wait, None);
            }
            50..65 if self.has(Class::HalfOpen) => {
                self.judge.mark("half-open");
                self.tell(|| format!("client {u} vanishes from pipe {pipe}"));
                self.vanish(pipe);
                self.leave(pipe);
                let wait =
                    if self.rng.chance(50) { self.rng.between(0, 300) } else { self.rng.between(300, 2_500) };
                self.come_later(u, wait, None);
            }
            65..80 if self.has(Class::Logout) && !is_anonymous && !self.users[u].is_shared => {
                // One that was not told of its login yet hears nothing, and logs out of nothing.
                if self.talks[&pipe].success.is_none_or(|at| self.now().since(at) < ms(1_500)) {
                    return;
                }
                self.judge.mark("logout");
                self.tell(|| format!("client {u} logs out"));
                self.set_stage(pipe, Stage::Leaving);
                let (now, boot) = (self.now(), self.talks[&pipe].boot);
                self.users[u].absences.push((now, boot, None));
                self.client_writes(pipe, "{\"command\":\"LOGOUT\"}\n");
                // A machine that is gone says nothing, and one that has said LOGOUT asks nothing any more.
                self.schedule.after(ms(6_000), Event::Impatient(pipe));
            }
            _ => {}
        }
    }

    /// A server sends a client to another that it is linked with; sometimes all clients of that name.
    fn send_away(&mut self, u: usize, pipe: usize) {
        let h = self.talks[&pipe].host;
        let targets: Vec<usize> = (0..self.hosts.len())
            .filter(|to| *to != h && self.links.is_in_touch(h, *to) && !self.hosts[*to].is_stopping())
            .collect();
        if targets.is_empty() || !self.hosts[h].is_running() {
            return;
        }
        let is_of_name = |t: &super::user::Talk| self.users[t.user].name == self.users[u].name;
        let all = self.rng.chance(50);
        let pipes: Vec<usize> = self
            .talks
            .iter()
            .filter(|(p, t)| **p == pipe || (all && t.host == h && t.stage == Stage::Online && is_of_name(t)))
            .map(|(p, _)| *p)
            .collect();
        for pipe in pipes {
            let to = *self.rng.choose(&targets);
            if let Some(link) = self.pipes[pipe].links[1] {
                self.judge.mark("move");
                self.hosts[h].inbox.push(Notice::Redirect(link, to));
                self.wake(h);
            }
        }
    }

    /// All is well: everybody says one thing more, which everybody must hear.
    pub fn last_words(&mut self) {
        self.tell(|| "last words".into());
        for u in 0..self.users.len() {
            if self.is_online(u) {
                self.say(u);
            }
        }
    }

    /// What a client is owed and has not heard.
    pub fn missing(&self, u: usize) -> Vec<MessageId> {
        let user = &self.users[u];
        let Some(joined) = user.joined.filter(|_| !user.is_retired) else { return Vec::new() };
        let heard = |id: MessageId| user.got[id.device].get(id.k - 1).is_some_and(Option::is_some);
        if user.ids.is_some() {
            let all = self.ledger.accepted();
            let owed = all.filter(|(id, _, accepted)| {
                accepted.at > joined && !heard(*id) && self.ledger.is_held(accepted)
            });
            return owed.map(|(id, ..)| id).filter(|id| !self.is_lost_and_told(u, *id)).collect();
        }
        self.ledger
            .accepted()
            .filter(|(id, _, accepted)| accepted.at > joined && !heard(*id) && self.ledger.is_held(accepted))
            .filter(|(id, _, accepted)| !self.was_away(u, *id, accepted.at) && !user.unread.contains(id))
            .filter(|(_, _, accepted)| !self.was_mistaken(u, accepted.at))
            .filter(|(id, _, accepted)| !self.was_forgotten(u, accepted.at) && !self.fell_past(u, *id))
            .map(|(id, _, _)| id)
            .collect()
    }

    /// The client had logged out: it is owed what its server had applied before.
    fn was_away(&self, u: usize, id: MessageId, accepted: crate::base::time::Time) -> bool {
        self.users[u].absences.iter().any(|(from, boot, to)| {
            if to.is_some_and(|to| accepted > to) {
                return false;
            }
            let applied = boot.and_then(|boot| self.ledger.boots[boot].heard.get(&id));
            applied.is_none_or(|applied| *applied + ms(150) > *from)
        })
    }
}
