//! What this server's own sessions of a name have to say when a login asks: they are read dry, and what
//! hangs in them is counted. Then the claim goes on, or the peer that asked is answered.

use super::link::{Phase, Who};
use super::mesh::PeerId;
use super::names::{Rec, lower};
use super::registry::NO_SLOT;
use super::{Action, Mutation, Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, UserId};
use crate::base::limits::{CLAIM, CLAIM_DRY, SETTLED_SESSIONS};
use crate::base::spans::Spans;
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::peer::{Beside, Claim, Entry, PeerMessage, Release, State};

/// A peer's claim that is to be answered.
#[derive(Debug)]
pub(super) struct Answering {
    pub from: PeerId,
    pub generation: Generation,
    pub user: UserId,
    pub at: Time,
}

/// What sessions are looked at for.
#[derive(Debug)]
pub(super) struct Errand {
    pub left: usize,
    pub what: What,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Claim(Generation),
    Answer(PeerId, Generation, UserId),
}

impl Node {
    /// True while a session of the name that was sent elsewhere may still say something.
    pub(super) fn is_leaving(&self, user: UserId) -> bool {
        let mut slot = self.registry.user(user).newest;
        while slot != NO_SLOT {
            let link = &self.links[slot as usize];
            if link.is_leaving() {
                return true;
            }
            slot = link.older;
        }
        false
    }

    /// Has the name's sessions here read dry and their unconfirmed bytes counted: so that what they said
    /// comes first, and what hangs in them is not lost.
    pub(super) fn settle(&mut self, user: UserId, what: What) {
        let errand = self.sessions.next_errand;
        self.sessions.next_errand += 1;
        let mut slot = self.registry.user(user).newest;
        let mut left = 0;
        while slot != NO_SLOT && left < SETTLED_SESSIONS && !self.is_mutated(Mutation::NotReadDry) {
            let session = super::link::id(slot as usize, &self.links[slot as usize]);
            self.actions.push_back(Action::Settle { session, errand });
            slot = self.links[slot as usize].older;
            left += 1;
        }
        self.counters.sessions_unsettled += u64::from(slot != NO_SLOT);
        if left == 0 {
            return self.settled(what);
        }
        self.sessions.errands.insert(errand, Errand { left, what });
    }

    /// A session was read dry; `unacknowledged` bytes of its stream are still on the way.
    pub(super) fn on_settled(&mut self, session: LinkId, errand: u64, unacknowledged: u64, stalled: bool) {
        if let Some(link) = self.link(session).filter(|link| link.phase != Phase::Gone) {
            if matches!(link.phase, Phase::Closing | Phase::Draining) {
                // It goes on getting what it is owed; what of that hangs is its successor's from now on.
                self.end_session(session, unacknowledged, false);
            } else if stalled {
                self.count_out(session);
                self.end_session(session, unacknowledged, false);
                self.abort(session, super::CloseReason::Stalled);
            } else {
                self.look_at(session, unacknowledged);
            }
        }
        let Some(entry) = self.sessions.errands.get_mut(&errand) else { return };
        entry.left -= 1;
        if entry.left == 0
            && let Some(errand) = self.sessions.errands.remove(&errand)
        {
            self.settled(errand.what);
        }
    }

    /// Notes what a living session has confirmed.
    pub(super) fn look_at(&mut self, session: LinkId, unacknowledged: u64) {
        let Some(Who::User(user)) = self.link(session).map(|link| link.who) else { return };
        let tail = self.delivery.feed.tail();
        let owed = self.unconfirmed(session, unacknowledged);
        let is_behind = owed.owed(tail) > 0;
        let confirmed = owed.current().map_or(tail, |r| r.from);
        let known = self.registry.names.get_mut(&user);
        let rec = known.and_then(|names| names.on_link(session));
        let Some(here) = rec.and_then(|rec| rec.here.as_mut()) else { return };
        here.confirmed = confirmed;
        here.spans = is_behind.then_some(owed);
    }

    fn settled(&mut self, what: What) {
        match what {
            What::Claim(generation) => self.plan_claim(generation),
            What::Answer(to, generation, user) => self.release(to, generation, user),
        }
    }

    /// A peer has a login of a name.
    pub(super) fn on_claim(&mut self, from: PeerId, claim: Claim) {
        let Claim { entry, registration } = claim;
        self.mesh.clock.hear(entry.generation.at);
        let user = self.merge_registration(&registration);
        if registration.stamp != self.registry.user(user).stamp {
            // Its server knows another registration of the name, which wins or loses against ours.
            self.contradict(from, user);
            return self.release_nothing(from, &entry);
        }
        let generation = entry.generation;
        if !self.is_mutated(Mutation::ClaimsNotStored) {
            self.store(user, entry);
        }
        self.sessions.answers.push(Answering { from, generation, user, at: self.now });
        self.answer_claims();
    }

    /// Answers the peers' claims that need not wait any longer.
    pub(super) fn answer_claims(&mut self) {
        let waiting = std::mem::take(&mut self.sessions.answers);
        for answer in waiting {
            let waited = self.now.since(answer.at);
            let busy = waited < CLAIM && self.is_behind_another(answer.user, answer.generation);
            let dry = self.is_mutated(Mutation::NotReadDry);
            if busy || (waited < CLAIM_DRY && !dry && self.is_leaving(answer.user)) {
                let wait = if busy { CLAIM } else { CLAIM_DRY };
                self.timers.set(answer.at + wait, Timer::Claim(answer.generation));
                self.sessions.answers.push(answer);
            } else {
                self.settle(answer.user, What::Answer(answer.from, answer.generation, answer.user));
            }
        }
    }

    /// Answers a peer's claim.
    fn release(&mut self, to: PeerId, generation: Generation, user: UserId) {
        let mut idle = 0;
        let mut entries = self.entries_of(user);
        // Of very many healthy sessions of one name a few say as much.
        entries.retain(|entry| {
            let is_idle = entry.authentic && entry.state == State::Live && !entry.unconfirmed;
            idle += usize::from(is_idle);
            !is_idle || idle <= SETTLED_SESSIONS
        });
        let taken = self.known(user).map_or(Vec::new(), |n| n.taken.iter().map(|t| (t.0, t.1)).collect());
        let last = self.relay.last_of(self.name_key(user));
        let applied = Some(self.relay.applied());
        let (spared_ms, sent_away) = self.spared_ms(user);
        let changes = None;
        let release = Release { generation, entries, last, taken, applied, changes, spared_ms, sent_away };
        self.mesh.send(to, &PeerMessage::SessionRelease(release));
        if self.is_mutated(Mutation::EntryDroppedEarly) {
            self.known_mut(user)
                .recs
                .retain(|rec| rec.state != State::Broken || rec.generation == generation);
        }
    }

    /// Answers the claim of a name that is not known here.
    fn release_nothing(&mut self, to: PeerId, entry: &Entry) {
        let release = Release {
            generation: entry.generation,
            entries: Vec::new(),
            last: Vector::NOTHING,
            taken: Vec::new(),
            applied: Some(self.relay.applied()),
            changes: None,
            spared_ms: None,
            sent_away: false,
        };
        self.mesh.send(to, &PeerMessage::SessionRelease(release));
    }

    /// Lowers the entries that a login left to what it took over.
    pub(super) fn lower_entries(
        &mut self,
        user: UserId,
        entries: &[Entry],
        until: Time,
        owed: Option<&Spans>,
    ) {
        for entry in entries {
            let now = self.now;
            let names = self.known_mut(user);
            if owed.is_some()
                && names.find(entry.generation).is_none()
                && names.taker(entry.generation).is_none()
            {
                let mut rec = Rec::from_entry(entry, now);
                rec.state = State::Broken;
                names.put(rec);
            }
            let Some(rec) = names.find_mut(entry.generation).filter(|rec| !rec.is_session()) else {
                continue;
            };
            lower(rec, until, entry.vector.as_ref(), owed, None);
        }
        self.arm_away(user);
    }

    /// Sessions that lived when a login took an entry may be the same client's, so that the entry was
    /// another's: should they end without a sign of life, they are owed what that was.
    pub(super) fn lower_beside(
        &mut self,
        user: UserId,
        beside: Option<&Beside>,
        until: Time,
        owed: Option<&Spans>,
    ) {
        let Some(Beside { sessions, vector, after }) = beside else { return };
        for generation in sessions {
            let rec = self.known_mut(user).find_mut(*generation);
            if let Some(rec) = rec.filter(|rec| rec.state != State::Ended) {
                lower(rec, until, Some(vector), owed, Some(after));
                if rec.state == State::Broken {
                    rec.settle_low();
                }
            }
        }
    }
}
