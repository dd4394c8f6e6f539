//! Who may have which name: what REGISTER and LOGIN may answer, and that every name has one winner.

use std::collections::BTreeSet;

use super::cluster::Cluster;
use super::ledger::Boot;
use super::pipe::PipeId;
use super::schedule::ms;
use super::swarm::Class;
use super::user::{Stage, User};
use crate::base::time::Time;

impl Cluster {
    /// True while another device of the name is to register it.
    pub fn awaits_name(&self, u: usize) -> bool {
        let user = &self.users[u];
        let owner = |other: &User| other.name == user.name && other.is_registered;
        user.is_shared && !user.is_owner && !self.users.iter().any(owner)
    }

    /// The server of this connection was out of touch with one that was up, at some time between.
    fn was_apart(&self, host: usize, from: Time, to: Time) -> bool {
        let apart = |other: &usize| {
            *other != host
                && (self.was_up(*other, from, to) || self.began_empty(host))
                && !self.links.were_in_touch(host, *other, from, to)
        };
        (0..self.hosts.len()).any(|other| apart(&other))
    }

    /// All servers were down since the name was registered, and none that is up again had it on disk.
    fn is_known_to_none(&self, name: &str) -> bool {
        let won = self.users.iter().filter(|user| user.name == name).filter_map(|user| user.won_at).max();
        let knows = |boot: &Boot| boot.died.is_none() && boot.names.contains(name);
        won.is_some_and(|at| self.all_were_down(at, self.now())) && !self.ledger.boots.iter().any(knows)
    }

    /// REGISTER_SUCCESS.
    pub(super) fn name_won(&mut self, u: usize, pipe: PipeId) {
        self.judge.mark("a name was registered");
        let now = self.now();
        let host = self.talks[&pipe].host;
        let born = self.pipes[pipe].born;
        let name = self.users[u].name.clone();
        let is_apart = self.was_apart(host, born, now) || self.is_known_to_none(&name);
        if self.users[u].won_at.is_some() {
            if self.users[u].won_apart {
                self.judge.mark("excused: a name lost with the only server that knew it");
            } else if is_apart {
                // It was started again without what it knew, and reaches nobody who knows.
                self.judge.mark("excused: a name registered on both sides of a cut");
            } else {
                self.violate("a name is registered once", format!("client {u} registers {name} again"));
            }
        }
        let rival = (0..self.users.len())
            .find(|o| *o != u && self.users[*o].name == name && self.users[*o].won_at.is_some());
        if let Some(rival) = rival {
            if is_apart || self.users[rival].won_apart {
                self.judge.mark("excused: a name registered on both sides of a cut");
            } else {
                let text = format!("client {u} registers {name} after client {rival}");
                self.violate("a name is registered once", text);
            }
        }
        let asked = self.talks[&pipe].asked;
        let user = &mut self.users[u];
        user.is_registered = true;
        user.won_from = user.won_from.or(asked);
        user.won_at.get_or_insert(now);
        user.won_apart |= is_apart;
    }

    /// A registration or login was refused. Was there a reason, and what does the client do?
    pub(super) fn refused(&mut self, u: usize, pipe: PipeId, line: &str) {
        self.judge.mark("a client was refused");
        let now = self.now();
        let talk = &self.talks[&pipe];
        let (host, stage, asked) = (talk.host, talk.stage, talk.asked.unwrap_or(now));
        let is_behind = talk.came_to_congested || self.is_congested(self.hosts[host].boot);
        // What was held up by a cut comes a moment after it is mended.
        let is_apart = self.was_apart(host, self.before_mending(asked), now)
            || self.is_known_to_none(&self.users[u].name);
        let text = format!("client {u} at server {host}: {line}");
        if stage == Stage::Registering && line.contains("this server's disk takes nothing") {
            let disk = &self.hosts[host].disk;
            let is_late = disk.was_late.is_some_and(|at| asked <= at + ms(2_500));
            if !(disk.is_full || is_late) {
                let text = format!("{text}, asked at {asked:?}, late {:?}", disk.was_late);
                self.violate("a disk that takes rows takes registrations", text);
            }
            // Others may take it for a claim under way for a while.
            self.users[u].is_in_doubt = true;
            return self.judge.mark("a name was not registered, as the disk took nothing");
        }
        let user = &mut self.users[u];
        if stage == Stage::Registering && line.contains("is being registered by another client") {
            if !user.has_rival && !user.is_in_doubt {
                self.violate("a free name can be registered", text);
            }
            return self.judge.mark("a name was contested for too long");
        }
        if stage == Stage::Registering {
            if user.has_rival && !user.is_in_doubt && user.won_at.is_none() {
                user.is_retired = true;
                return;
            }
            // It may have the name: by an attempt whose answer it never saw, or it won it and was refused where
            // nobody knew that.
            user.is_registered = true;
            if !user.is_in_doubt && user.won_at.is_none() {
                self.violate("a free name can be registered", text);
            }
            return;
        }
        if user.has_rival {
            let lost =
                self.users.iter().any(|o| o.name == self.users[u].name && o.won_at.is_some() && o.won_apart);
            let user = &mut self.users[u];
            if user.won_at.is_none() || lost {
                self.judge.mark("a rival lost its name");
                // Perhaps to itself: the answer to its first REGISTER never came, and that one won.
                user.is_retired = match stage {
                    Stage::Online => !user.is_in_doubt,
                    _ => !is_apart,
                };
                return;
            }
        }
        let user = &mut self.users[u];
        let guessed = user.won_at.is_none() && user.is_owner;
        user.is_registered = false;
        if guessed || is_apart {
            self.judge.mark("excused: a login at a server that could not ask");
        } else if is_behind {
            // What it asked comes behind all that is said: its wait for an answer has a bound.
            self.judge.mark("excused: a login where others were far behind with their answers");
        } else if !self.users.iter().any(|o| o.name == self.users[u].name && o.won_apart) {
            self.violate("who registered can log in", text);
        }
    }

    /// A registration whose answer never came.
    pub(super) fn doubt(&mut self, pipe: PipeId) {
        if let Some(talk) = self.talks.get(&pipe)
            && talk.stage == Stage::Registering
        {
            self.users[talk.user].is_in_doubt = true;
        }
    }

    /// Every name that somebody wanted has exactly one winner.
    pub(super) fn every_name_has_one_winner(&mut self) {
        let names: BTreeSet<String> =
            self.users.iter().filter(|user| user.has_rival).map(|user| user.name.clone()).collect();
        for name in names {
            let of_name = (0..self.users.len()).filter(|u| self.users[*u].name == name);
            let winners: Vec<usize> = of_name.filter(|u| self.is_online(*u)).collect();
            let [winner] = winners[..] else {
                self.violate("a name has one winner", format!("{name}: {winners:?}"));
                continue;
            };
            // Clocks that differ may see it otherwise.
            let from = self.users[winner].won_from;
            let is_earlier =
                |o: &User| o.name == name && o.won_at.is_some_and(|at| from.is_some_and(|from| at < from));
            if !self.has(Class::Skew) && self.users.iter().any(is_earlier) {
                self.violate("the first of two has the name", format!("{name}: client {winner} was not it"));
            }
        }
    }
}
