//! What a login takes over: one entry of the name's broken sessions, begun where the furthest behind of
//! them stopped; the entries left are lowered to that.

use super::claims::{Claiming, Stage};
use super::names::merge;
use super::{Mutation, Node};
use crate::base::hlc::Generation;
use crate::base::id::{StreamId, UserId};
use crate::base::spans::Spans;
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::peer::{Beside, Entry, State};

/// What a claim takes over.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The session's generation, if not its claim's: the name had one that is far ahead of our clock.
    pub own: Option<Generation>,
    pub taken: Vec<(Generation, Generation)>,
    pub lowered: Vec<Entry>,
    /// Until when what those are lowered to is kept.
    pub until: Time,
    /// Its position: the lowest of all it takes over.
    pub vector: Vector,
    /// What is to be owed: exact where it was owed here.
    pub spans: Vec<Spans>,
    pub vectors: Vec<Vector>,
    /// What must be applied before it is attached.
    pub need: Vector,
    pub known: Vec<Generation>,
    pub multi: bool,
    /// Of those taken: sessions whose home was not heard, so that they may live.
    pub unheard: Vec<Generation>,
    /// Sessions that live, and should they end without a sign of life are owed what this takes.
    pub beside: Option<Beside>,
}

impl Plan {
    /// The session begins no later than this one stopped.
    fn take_over(&mut self, spans: Option<Spans>, vector: &Vector) {
        let is_first = self.vectors.is_empty() && self.spans.is_empty();
        self.vector = if is_first { vector.clone() } else { std::mem::take(&mut self.vector).min(vector) };
        match spans {
            Some(spans) => self.spans.push(spans),
            None => self.vectors.push(vector.clone()),
        }
    }
}

impl Node {
    /// Decides what the login takes over.
    pub(super) fn plan_claim(&mut self, generation: Generation) {
        let Some(mut claim) = self.sessions.claims.remove(&generation) else { return };
        let user = claim.user;
        let (now, away) = (self.now, self.limits.away);
        let (mesh, home) = (&self.mesh, self.relay.own());
        let gone = |stream: StreamId| stream != home && mesh.by_stream(stream).is_none();
        let names = self.registry.names.entry(user).or_default();
        let expired = names.expire(now, away, gone);
        self.counters.mailboxes_expired += expired;
        let mut all = std::mem::take(&mut claim.found);
        for entry in self.entries_of(user) {
            let merged = match all.remove(&entry.generation) {
                Some(other) => merge(other, entry),
                None => entry,
            };
            all.insert(merged.generation, merged);
        }
        let begin = claim.begin.clone().unwrap_or_default();
        // A session must be above all that the answers name. Later ones are claims that go on meanwhile, but
        // for those of a clock that is far ahead of ours. What a server that is gone claimed does not go on.
        let goes_on = |e: &Entry| e.pending && !gone(e.home);
        let is_far = |e: &&Entry| !goes_on(e) && self.mesh.clock.is_far(e.generation.at);
        let far = all.values().filter(is_far).map(|entry| entry.generation).max();
        let far = far.filter(|_| !self.is_mutated(Mutation::LocalGenerations));
        let own = far.map(|far| self.mesh.clock.draw_above(far));
        let mut plan = Plan { own, ..Plan::default() };
        let own = own.unwrap_or(generation);
        for entry in all.values() {
            log::trace!("login {own:?} knows of {entry:?}");
        }
        let mut open: Vec<&Entry> = Vec::new();
        // A living session may be the same device's that hangs; then the entries are other devices'.
        let mut hangs = false;
        let mut hanging: Vec<&Entry> = Vec::new();
        let mut healthy = Vec::new();
        for (other, entry) in &all {
            plan.known.push(*other);
            let Some(vector) = entry.vector.as_ref() else { continue };
            let mut taker = self.known(user).and_then(|names| names.taker(*other));
            taker = taker.or_else(|| claim.taken.iter().find(|(g, _)| g == other).map(|(_, by)| *by));
            // What a later claim took without hearing this one, both take.
            let is_taken = taker.is_some_and(|by| by < own && self.knows_taker(&claim, user, entry, by));
            if *other == generation || self.sessions.claims.contains_key(other) || entry.state == State::Ended
            {
                continue;
            }
            if is_taken {
                continue;
            }
            if entry.state == State::Live {
                plan.multi |= entry.authentic;
                // What it lacks of where this one begins it may never get, should it hang.
                if entry.authentic && (entry.unconfirmed || !vector.covers(&begin)) {
                    hangs = true;
                    hanging.push(entry);
                }
                if entry.authentic {
                    healthy.push(*other);
                }
                // Its home says that it lives, or answered and did not name it.
                if entry.authentic || entry.home == self.relay.own() || claim.answered.contains(&entry.home) {
                    continue;
                }
            }
            open.push(entry);
        }
        open.sort_by_key(|entry| (entry.vector.as_ref().map_or(0, Vector::total), entry.generation));
        // An unfinished claim of a dead server replaces no entry: it is taken beside one.
        let spare = open.iter().filter(|entry| !entry.pending).count();
        let mut beside = 0;
        open.retain(|entry| {
            let is_beside = entry.pending && beside < spare && entry.generation < own;
            if is_beside {
                beside += 1;
                plan.taken.push((entry.generation, own));
            }
            !is_beside
        });
        // It begins where the furthest behind of them stopped; without any, where LOGIN_SUCCESS was written.
        if open.is_empty() {
            plan.take_over(None, &begin);
        }
        for entry in open.iter().chain(&hanging) {
            plan.take_over(self.spans_of(user, entry), entry.vector.as_ref().unwrap_or(&Vector::NOTHING));
        }
        if let Some(at) = self.ids(claim.link).and_then(|ids| ids.at.clone()) {
            plan.take_over(None, &at);
        }
        plan.until = open.first().map_or(self.now, |entry| self.owed_until(user, entry.generation));
        let lowest = open.iter().filter_map(|entry| entry.vector.clone()).reduce(|a, b| a.min(&b));
        // A later session is never taken: it may live where it is not heard, and take this one.
        // Of the others the one that broke first: what is left lasts longest.
        let since = |g| self.known(user).and_then(|names| names.find(g)).map_or(now, |rec| rec.since);
        let earlier = open.iter().map(|e| e.generation).filter(|g| *g < own && !hangs);
        let one = earlier.min_by_key(|g| (since(*g), *g));
        if one.is_none() {
            healthy.clear();
        }
        for entry in open {
            if Some(entry.generation) == one || self.is_mutated(Mutation::OneEntry) {
                plan.taken.push((entry.generation, own));
                plan.unheard.extend((entry.state == State::Live).then_some(entry.generation));
            } else {
                healthy.extend((entry.state == State::Live).then_some(entry.generation));
                plan.lowered.push(Entry { vector: lowest.clone(), lowered: true, ..entry.clone() });
            }
        }
        if !healthy.is_empty() {
            let vector = lowest.unwrap_or_default();
            plan.beside = Some(Beside { sessions: healthy, vector, after: begin });
        }
        claim.last = self.relay.last_of(self.name_key(user)).max(&claim.last);
        plan.need = claim.last.clone().max(&plan.vector);
        plan.need.remove(self.relay.own());
        claim.plan = plan;
        claim.stage = Stage::Applying(self.now);
        self.sessions.claims.insert(generation, claim);
        self.apply_claim(generation);
    }

    /// What the home of a session says of it holds against a login that took it unheard: it may have lived.
    fn knows_taker(&self, claim: &Claiming, user: UserId, entry: &Entry, by: Generation) -> bool {
        if entry.home == self.relay.own() {
            return self.known(user).is_none_or(|names| names.has_heard_of(by));
        }
        !entry.authentic || claim.named.get(&entry.home).is_none_or(|named| named.contains(&by))
    }

    /// What a session of this server is exactly owed, unless another server says that it was lowered further.
    fn spans_of(&self, user: UserId, entry: &Entry) -> Option<Spans> {
        let spans = self.known(user)?.find(entry.generation)?.spans(&self.relay)?;
        (self.entry_of(user, entry.generation).vector == entry.vector).then_some(spans)
    }

    /// What a claim's plan is owed of the feed as it is now, and everything from now on.
    pub(super) fn owed_now(&mut self, user: UserId, plan: &Plan) -> Spans {
        let feed = &self.delivery.feed;
        let tail = feed.tail();
        let mut owed =
            plan.vectors.iter().fold(Spans::NOTHING, |all, v| all.union(&self.relay.owed(feed, v)));
        for spans in &plan.spans {
            owed = owed.union(spans);
        }
        let asked = owed.owed(tail);
        if owed.current().is_some_and(|r| r.from < feed.floor()) {
            owed = owed.above(feed.first_border());
        }
        let lost = asked - owed.owed(tail);
        self.counters.resumed += u64::from(!plan.taken.is_empty());
        self.counters.resumed_bytes += asked - lost;
        if lost > 0 {
            self.counters.lost_bytes += lost;
            let name = &self.registry.user(user).name;
            log::warn!("{name:?} came back to {lost} bytes that had left the feed");
        }
        owed.union(&Spans::open(tail))
    }
}
