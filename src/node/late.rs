//! What a living session hears late of a broken one before it, or of one whose server is gone: it reads at
//! once what that was owed.

use super::{Mutation, Node};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, StreamId, UserId};
use crate::base::spans::Spans;
use crate::base::vector::Vector;
use crate::wire::peer::State;

impl Node {
    /// Living sessions of the name may have begun without knowing of a broken one before them: they read at
    /// once what it was owed. `home` names the boot that says it all itself.
    pub(super) fn learn_late(&mut self, user: UserId, told: &[Generation], home: Option<StreamId>) {
        if self.is_mutated(Mutation::LateAnswersIgnored) {
            return;
        }
        let Some(names) = self.known(user) else { return };
        let sessions: Vec<Generation> =
            names.recs.iter().filter(|rec| rec.is_session()).map(|rec| rec.generation).collect();
        let mut taken = Vec::new();
        for own in sessions {
            let Some(names) = self.known(user) else { return };
            let Some(here) = names.find(own).and_then(|rec| rec.here.as_deref()) else { continue };
            let mut known = Vec::new();
            let mut missed: Option<Vector> = None;
            let mut read = Vec::new();
            // A later one lacks nothing of what was before this, unless it was said late and clocks differ: then
            // that is read and left to whoever comes next.
            let is_before = |g: &Generation| *g < own || !names.multi;
            for other in told.iter().filter(|g| is_before(g) && **g != own && !here.known.contains(g)) {
                let Some(rec) = names.find(*other).filter(|rec| !rec.is_session()) else { continue };
                if names.taker(*other).is_some() || self.sessions.claims.contains_key(other) {
                    continue;
                }
                let named = self.sessions.homes.get(&rec.home);
                let (vector, _) = rec.confirmed(&self.relay, named, false);
                let is_gone = rec.home != self.relay.own() && self.mesh.by_stream(rec.home).is_none();
                match (rec.state, vector) {
                    (State::Ended, _) => known.push(*other),
                    (State::Live, _) if home == Some(rec.home) => known.push(*other),
                    // A login takes what lived on a server that is gone, too.
                    (state, Some(vector)) if state == State::Broken || is_gone => {
                        known.push(*other);
                        read.extend((*other < own).then_some(*other));
                        missed = Some(match missed {
                            Some(m) => m.min(&vector),
                            None => vector,
                        });
                    }
                    _ => {}
                }
            }
            let multi = names.multi;
            if known.is_empty() {
                continue;
            }
            if let Some(vector) = missed {
                self.read_late(user, own, &vector);
                if !multi {
                    taken.extend(read.into_iter().map(|g| (g, own)));
                }
                self.counters.sessions_late += 1;
                let now: Vec<_> = taken.iter().filter(|(_, by)| *by == own).copied().collect();
                self.tell_session(user, own, now);
            }
            let names = self.known_mut(user);
            if let Some(here) = names.find_mut(own).and_then(|rec| rec.here.as_mut()) {
                here.known.extend(known);
            }
        }
        self.learn_taken(user, &taken);
    }

    /// A living session is owed what lies between a position and its own begin.
    fn read_late(&mut self, user: UserId, own: Generation, vector: &Vector) {
        let Some(rec) = self.known_mut(user).find_mut(own) else { return };
        let Some(here) = rec.here.as_mut() else { return };
        let Some(link_id) = here.link else { return };
        let start = here.start.clone();
        here.start = start.clone().min(vector);
        let feed = &self.delivery.feed;
        let missed = self.relay.between(feed, vector, &start);
        let missed = if missed.current().is_some_and(|r| r.from < feed.floor()) {
            missed.above(feed.first_border())
        } else {
            missed
        };
        let Some(first) = missed.current() else { return };
        let names = self.known_mut(user);
        if let Some(here) = names.find_mut(own).and_then(|rec| rec.here.as_mut()) {
            here.confirmed = here.confirmed.min(first.from);
            here.spans = Some(here.spans.take().unwrap_or(Spans::NOTHING).union(&missed));
        }
        let late = self.sessions.late.entry(link_id).or_insert(Spans::NOTHING);
        *late = late.union(&missed);
        self.join_late(link_id);
    }

    /// Gives a session what it is owed in addition, if it stands at a frame's border.
    pub(super) fn join_late(&mut self, link_id: LinkId) {
        let Some(link) = self.link(link_id).filter(|link| link.is_session()) else { return };
        // What its client was told comes next comes next.
        let cursor = link.spans.current().map_or(0, |r| r.from);
        if link.mid_frame || link.ids().is_some_and(|ids| cursor < ids.announced) {
            return;
        }
        let Some(late) = self.sessions.late.remove(&link_id) else { return };
        self.frontier.is_stale = true;
        self.unfollow(link_id);
        let tail = self.delivery.feed.tail();
        let link = self.at_mut(link_id);
        let cursor = link.spans.current().map_or(tail, |r| r.from);
        link.spans = link.spans.union(&late);
        let next = link.spans.current().map_or(cursor, |r| r.from);
        if let Some(ids) = link.ids_mut() {
            ids.announced = 0;
        }
        if next != cursor {
            link.sent.jump(cursor, next);
        }
        self.enqueue(link_id);
    }
}
