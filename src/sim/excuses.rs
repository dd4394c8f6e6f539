//! What may go wrong because of a fault that did hit, and nothing else: each excuse is looked up in what
//! happened to that very client.

use std::time::Duration;

use super::cluster::Cluster;
use super::faults::MESHED;
use super::ledger::{Boot, MessageId};
use super::pipe::PipeId;
use super::schedule::ms;
use super::swarm::Class;
use super::user::Receipt;
use crate::base::limits::{CLAIM, CLAIM_DRY, FRONTIER, FRONTIER_LAG, PREV_WAIT};
use crate::base::time::Time;

/// Traffic of a killed server that may come again: what a session confirmed is told four times a second.
const KILLED: Duration = FRONTIER.saturating_add(FRONTIER_LAG);

/// How long after a way is free again what was held up on it may still be missing.
const RETRANSMITTED: Duration = Duration::from_millis(600);

impl Cluster {
    /// How much later than planned things may happen in this seed: turns, and ways.
    fn slack(&self) -> Duration {
        Duration::from_micros(6 * self.swarm.late_us + 8 * self.swarm.way_us.1) + ms(20)
    }

    /// What a server did not hear at this instant it may not have heard because of a cut that lasted until then.
    pub(super) fn before_mending(&self, at: Time) -> Time {
        Time::START + at.since(Time::START).saturating_sub(self.slack() + RETRANSMITTED)
    }

    /// A login, not the client's first, that could not ask every server: one that was up was out of touch, or far
    /// behind.
    pub(super) fn has_crossed(&self, pipe: PipeId) -> bool {
        let is_first = self.users[self.talks[&pipe].user].talks[0] == pipe;
        !is_first
            && (self.awaits_others(pipe)
                || self.talks[&pipe].came_to_congested
                || (0..self.hosts.len()).any(|other| self.could_not_ask(pipe, other)))
    }

    /// A login came when some server was not back after all were down: only that may know what was last.
    fn awaits_others(&self, pipe: PipeId) -> bool {
        let boots = &self.ledger.boots;
        let asked = self.talks[&pipe].asked.unwrap_or(self.pipes[pipe].born);
        let ends = boots.iter().filter_map(|boot| boot.died).filter(|at| *at <= asked);
        let Some(down) = ends.filter(|at| self.all_were_down(*at, *at)).max() else { return false };
        let is_back =
            |host| boots.iter().any(|b| b.host == host && b.born >= down && b.born + ms(500) <= asked);
        let was_there = |host| boots.iter().any(|b| b.host == host && b.born <= down);
        (0..self.hosts.len()).any(|host| was_there(host) && !is_back(host))
    }

    /// A server began without what its host had known before.
    pub(super) fn began_empty(&self, host: usize) -> bool {
        let before = self.ledger.boots[..self.hosts[host].boot].iter().rfind(|boot| boot.host == host);
        before.is_some_and(|boot| boot.lost_since == Some(Time::START))
    }

    /// A login could not ask this server, which was up and out of touch.
    fn could_not_ask(&self, pipe: PipeId, other: usize) -> bool {
        let talk = &self.talks[&pipe];
        let asked = talk.asked.unwrap_or(self.pipes[pipe].born);
        let to = talk.success.unwrap_or(asked).max(asked) + CLAIM + self.slack();
        let from = self.before_mending(asked);
        other != talk.host
            && self.was_up(other, from, to)
            && !self.links.were_in_touch(talk.host, other, from, to)
    }

    /// One of its logins could not ask the server of the session before it. Then that one is not taken, or
    /// what it took is taken again, and an entry stays that nobody needs: each login repeats what it is owed.
    fn has_left_an_entry(&self, u: usize) -> bool {
        let is_session = |pipe: &&PipeId| self.talks[*pipe].success.is_some();
        let sessions: Vec<PipeId> = self.users[u].talks.iter().filter(is_session).copied().collect();
        sessions.windows(2).any(|pair| {
            self.talks[&pair[1]].came_to_congested || self.could_not_ask(pair[1], self.talks[&pair[0]].host)
        })
    }

    /// A server that is up is so far behind with what this one said, or this one with what that said, that the
    /// answer to a claim comes behind all of it and too late. It is counted and never an error.
    pub(super) fn is_congested(&self, boot: usize) -> bool {
        let now = self.now();
        let is_late = |other: usize| {
            let way = self.ledger.lag(now, boot, other) + self.ledger.lag(now, other, boot);
            way >= CLAIM - CLAIM_DRY
        };
        (0..self.ledger.boots.len())
            .any(|other| other != boot && self.ledger.boots[other].died.is_none() && is_late(other))
    }

    pub(super) fn was_up(&self, host: usize, from: Time, to: Time) -> bool {
        let overlaps = |boot: &Boot| {
            let lived = boot.born < to && boot.died.is_none_or(|died| died > from);
            // One that is drained tells everybody all it knows. Before that all were in touch.
            let is_drained = boot.drained.is_some_and(|at| at <= from + MESHED);
            boot.host == host && lived && !is_drained
        };
        self.ledger.boots.iter().any(overlaps)
    }

    /// May a sender's message come after a later one of it, to anybody?
    pub(super) fn order_excused(&self, id: MessageId, highest: usize) -> Option<&'static str> {
        let message = self.ledger.get(id)?;
        if self.users[id.device].ids.is_some() {
            return self.came_again(id);
        }
        if message.single {
            return Some("excused: out of order, shown with one copy");
        }
        let is_late = message.accepted.is_some_and(|accepted| self.now().since(accepted.at) > PREV_WAIT);
        if is_late && self.has(Class::SlowDisk) && self.has(Class::Small) {
            return Some("excused: out of order, its server had to read it from a slow disk");
        }
        let boundaries = self.users[id.device].talks.iter().filter(|pipe| {
            let before = self.talks[*pipe].k_before;
            id.k <= before && before < highest
        });
        for pipe in boundaries {
            if self.users[id.device].is_anonymous() {
                return Some("excused: out of order, over two anonymous sessions");
            }
            // The login before the later one, or the one on which this was said and which held it up.
            if self.has_crossed(*pipe) || self.has_crossed(message.pipe) {
                return Some("excused: out of order, its sender crossed a cut");
            }
            let old = &self.talks[&message.pipe];
            let asked = self.talks[pipe].asked.unwrap_or(self.pipes[*pipe].born);
            // The answer that names it comes behind it.
            let later = self.talks[pipe].boot.map(|boot| &self.ledger.boots[boot].heard);
            let heard = later.and_then(|heard| heard.get(&id)).copied().unwrap_or(self.now());
            if heard.since(asked) >= CLAIM {
                return Some("excused: out of order, on its way for longer than a login waits");
            }
            if old.success.is_none_or(|at| at >= asked) {
                return Some("excused: out of order, said where its sender was not let in before it left");
            }
            let bound = if old.was_redirected { asked + CLAIM_DRY.saturating_sub(ms(10)) } else { asked };
            let arrived = self.pipes[message.pipe].flows[0].arrived_at(message.end);
            if arrived.is_none_or(|arrived| arrived >= bound) {
                return Some("excused: out of order, still on its way when its sender was elsewhere");
            }
        }
        None
    }

    /// The same to this client only.
    pub(super) fn order_excused_for(&self, u: usize, id: MessageId) -> Option<&'static str> {
        // To its server it had come. If another device missed it, it comes again.
        if self.users[u].unread.contains(&id) && self.users[u].is_shared {
            return Some("excused: out of order, its hearer's kernel had it and it never read it");
        }
        let accepted = self.ledger.get(id)?.accepted?;
        let is_before = |joined: Time| accepted.at <= joined + self.slack();
        if self.users[u].is_shared && self.users[u].joined.is_some_and(is_before) {
            return Some("excused: out of order, another device missed it before this one came");
        }
        let came_late = |pipe: &PipeId| {
            let success = self.talks[pipe].success;
            self.left_feed(*pipe, id).is_some_and(|at| success.is_some_and(|success| at <= success))
        };
        if self.users[u].talks.iter().any(came_late) {
            return Some(
                "excused: out of order, its hearer came where it had left the feed, and went on elsewhere",
            );
        }
        let late = |pipe: &&PipeId| {
            let begun = self.talks[*pipe].success.is_none_or(|at| accepted.at <= at + self.slack());
            begun && self.has_crossed(**pipe)
        };
        if self.has_overlapped(u) {
            return Some("excused: out of order, for one that logged in while its old session was there");
        }
        let crossed = self.users[u].talks.iter().find(late);
        crossed.map(|_| "excused: out of order, its hearer crossed a cut")
    }

    /// May a client hear again on `pipe` what it heard before?
    pub(super) fn repeat_excused(
        &mut self,
        u: usize,
        pipe: PipeId,
        before: &Receipt,
    ) -> Option<&'static str> {
        let now = self.now();
        if self.users[u].is_anonymous() {
            return Some("excused: a repeat in another anonymous session");
        }
        if before.end > self.pipes[before.pipe].confirmed(1, now) {
            return Some("excused: a repeat of what was not confirmed");
        }
        let boot = self.talks[&before.pipe].boot.map(|boot| &self.ledger.boots[boot]);
        let boot = boot.filter(|boot| boot.drained.is_none());
        let died = boot.and_then(|boot| boot.died);
        if let Some(died) = died
            && before.at + KILLED + self.slack() >= boot.map_or(died, |boot| boot.stored)
            && self.all_were_down(died, now)
        {
            return Some("excused: a repeat after all servers were killed");
        }
        if died.is_some_and(|died| before.at + KILLED + self.slack() >= died) {
            return Some("excused: a repeat after a server was killed");
        }
        let since: Vec<PipeId> = self.users[u]
            .talks
            .iter()
            .copied()
            .filter(|p| self.pipes[*p].born >= before.at || *p == pipe)
            .collect();
        if since.iter().any(|pipe| self.has_crossed(*pipe)) {
            return Some("excused: a repeat for one that crossed a cut");
        }
        if self.has_overlapped(u) {
            return Some("excused: a repeat for one that logged in while its old session was there");
        }
        if self.users[u].is_shared {
            return Some("excused: a repeat of what another device missed");
        }
        self.has_left_an_entry(u).then_some("excused: a repeat for one whose session before was across a cut")
    }

    /// No server was up at some time between.
    pub(super) fn all_were_down(&self, from: Time, to: Time) -> bool {
        let boots = &self.ledger.boots;
        let ends = boots.iter().filter_map(|boot| boot.died).filter(|at| from <= *at && *at <= to);
        let is_up = |at: Time| boots.iter().any(|b| b.born <= at && b.died.is_none_or(|died| died > at));
        ends.into_iter().any(|at| !is_up(at))
    }

    /// Its login was on no disk yet when all servers were killed: what was said between is not known to be owed.
    pub(super) fn was_forgotten(&self, u: usize, said: Time) -> bool {
        self.users[u].talks.iter().any(|pipe| {
            let talk = &self.talks[pipe];
            let Some(success) = talk.success.filter(|at| said > *at) else { return false };
            let Some(boot) = talk.boot.map(|boot| &self.ledger.boots[boot]) else { return false };
            let Some(died) = boot.died else { return false };
            success + self.slack() >= boot.stored && self.all_were_down(died, self.now())
        })
    }

    /// It left the feed of a server while this was a client there.
    pub(super) fn fell_past(&self, u: usize, id: MessageId) -> bool {
        self.users[u].talks.iter().any(|pipe| {
            let left = self.pipes[*pipe].closed_at[0].unwrap_or(self.now());
            self.left_feed(*pipe, id).is_some_and(|at| at <= left)
        }) || self.users[u].talk.is_some_and(|pipe| self.is_too_old_for(self.talks[&pipe].host, id))
    }

    /// When it left the feed of the server of this connection: its journal, as it was too old; or what its disk did
    /// not take left its ring, and behind such a gap nothing can be had.
    fn left_feed(&self, pipe: PipeId, id: MessageId) -> Option<Time> {
        let talk = &self.talks[&pipe];
        let disk = &self.hosts[talk.host].disk;
        let dropped = disk.dropped.get(&id).copied();
        let heard = &self.ledger.boots[talk.boot?].heard;
        let Some(shown) = heard.get(&id).filter(|_| self.has(Class::Full)) else { return dropped };
        let mut later: Vec<(Time, MessageId)> =
            heard.iter().filter(|(_, at)| *at >= shown).map(|(id, at)| (*at, *id)).collect();
        later.sort_unstable();
        let mut room = self.swarm.feed_bytes.next_power_of_two();
        let overran = later.into_iter().skip_while(|(_, id)| disk.ever.contains(id)).find(|(_, id)| {
            let line = self.ledger.get(*id).and_then(|message| message.line.as_deref());
            let length = line.map_or(0, |line| line.len() + 1);
            let is_out = room < length;
            room = room.saturating_sub(length);
            is_out
        });
        dropped.into_iter().chain(overran.map(|(at, _)| at)).min()
    }

    /// It left the journal when no row on disk said so yet, and its server was killed: so it is fetched again.
    pub(super) fn was_trimmed_untold(&self, boot: usize, id: MessageId) -> bool {
        let host = self.ledger.boots[boot].host;
        let Some(at) = self.hosts[host].disk.dropped.get(&id).copied() else { return false };
        let was_up = |b: &Boot| b.host == host && b.born <= at && b.died.is_some_and(|died| at <= died);
        let before = self.ledger.boots[..boot].iter().rfind(|b| was_up(b));
        before.is_some_and(|boot| at + KILLED + self.slack() >= boot.stored)
    }

    /// A server never had it, and it has left the journal of the server it was said on, or all that had it.
    pub(super) fn is_too_old_for(&self, h: usize, id: MessageId) -> bool {
        let accepted = self.ledger.get(id).and_then(|message| message.accepted);
        let origin = accepted.map(|accepted| self.ledger.boots[accepted.boot].host);
        let is_dropped = |host: usize| self.hosts[host].disk.dropped.contains_key(&id);
        let any = (0..self.hosts.len()).any(is_dropped);
        let all = any && !self.hosts.iter().any(|host| host.disk.has(id));
        !self.hosts[h].disk.ever.contains(&id) && (origin.is_some_and(is_dropped) || all)
    }

    /// The client has logged in while a server had its session before, of which it had said nothing. It looks
    /// like two devices then, and what the second misses is kept.
    pub(super) fn has_overlapped(&self, u: usize) -> bool {
        let talks = &self.users[u].talks;
        talks.iter().enumerate().any(|(i, pipe)| {
            let Some(asked) = self.talks[pipe].asked else { return false };
            talks[..i].iter().any(|old| {
                let talk = &self.talks[old];
                let is_there = self.pipes[*old].closed_at[1].is_none_or(|closed| closed >= asked);
                talk.success.is_some() && !talk.was_redirected && is_there
            })
        })
    }

    /// Another device of its name came for the first time while the client was away. Nobody can tell them
    /// apart: what was said meanwhile went to that one.
    pub(super) fn was_mistaken(&self, u: usize, said: Time) -> bool {
        let user = &self.users[u];
        let first = |o: &super::user::User| o.talks.iter().find_map(|pipe| self.talks[pipe].success);
        let others = || self.users.iter().filter(|o| user.is_shared && o.name == user.name);
        let successes: Vec<(Time, Option<Time>)> = user
            .talks
            .iter()
            .filter_map(|pipe| {
                // One that was sent on left before it read that.
                let (talk, closed) = (&self.talks[pipe], self.pipes[*pipe].closed_at[0]);
                Some((talk.success?, if talk.was_redirected { talk.success } else { closed }))
            })
            .collect();
        // What was owed before its first login is owed after it.
        let since = |at: Time| if at == successes[0].0 { user.joined.unwrap_or(at).min(at) } else { at };
        successes.windows(2).any(|pair| {
            let (left, back) = (pair[0].1.unwrap_or(pair[1].0), pair[1].0 + CLAIM + self.slack());
            let came = |at: Time| at + self.slack() >= left && at <= back;
            said >= since(pair[0].0)
                && said <= back
                && others().filter_map(first).any(|at| came(at) && at != successes[0].0)
        })
    }
}
