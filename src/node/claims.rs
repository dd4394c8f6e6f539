//! A login of a registered name: it asks all servers what they know of the name, and goes on where the
//! name's broken sessions stopped.
//!
//! 1. *Gathering*: SESSION_CLAIM went to all peers; their answers come, for at most 250 ms. The first one
//!    means that a second server knows of the login, so LOGIN_SUCCESS is written.
//! 2. *Settling*: the name's older sessions on this server are read dry and their unconfirmed bytes counted.
//! 3. *Applying*: what the name said elsewhere, and what its broken sessions had, must stand in the feed.
//! 4. The link is *attached*: it is owed what the entry it takes has not, and everything from now on.

use std::collections::BTreeMap;

use super::link::{Phase, Who};
use super::mesh::PeerId;
use super::names::{Here, Rec, lower, merge};
use super::registry::NO_SLOT;
use super::{Action, Mutation, Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, StreamId, UserId};
use crate::base::limits::{CLAIM, CLAIM_APPLIED, CLAIM_DRY, CLAIM_STORED, SETTLED_SESSIONS};
use crate::base::spans::Spans;
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::peer::{Claim, Entry, PeerMessage, Release, State, Update};

/// A login of this server that is not over.
#[derive(Debug)]
pub(super) struct Claiming {
    pub user: UserId,
    link: LinkId,
    /// LOGIN asked for it; else an activity did, which has no answer.
    is_login: bool,
    at: Time,
    stage: Stage,
    /// Peers whose answer is waited for, and the boots of those that gave theirs.
    wait: Vec<PeerId>,
    answered: Vec<StreamId>,
    found: BTreeMap<Generation, Entry>,
    taken: Vec<(Generation, Generation)>,
    /// How far the name spoke, and which boot said so.
    last: Vector,
    hints: BTreeMap<StreamId, StreamId>,
    /// What others had applied when they answered first.
    ahead: Vector,
    /// Where the session begins if nothing is owed: when LOGIN_SUCCESS was written.
    begin: Option<Vector>,
    plan: Plan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Gathering,
    Settling,
    Applying(Time),
}

/// What a claim takes over.
#[derive(Debug, Default)]
struct Plan {
    taken: Vec<(Generation, Generation)>,
    lowered: Vec<Entry>,
    /// Its position: the lowest of all it takes over.
    vector: Vector,
    /// What is to be owed: exact where it was owed here.
    spans: Vec<Spans>,
    vectors: Vec<Vector>,
    /// What must be applied before it is attached.
    need: Vector,
    known: Vec<Generation>,
    multi: bool,
}

/// A peer's claim that is to be answered.
#[derive(Debug)]
pub(super) struct Answering {
    from: PeerId,
    generation: Generation,
    user: UserId,
    at: Time,
}

/// What sessions are looked at for.
#[derive(Debug)]
pub(super) struct Errand {
    left: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Claim(Generation),
    Answer(PeerId, Generation, UserId),
}

impl Node {
    /// Begins the login of a link whose name and secret are right.
    pub(super) fn claim(&mut self, link_id: LinkId, user: UserId, is_login: bool) {
        let generation = self.mesh.clock.draw();
        let now = self.now;
        let mut wait: Vec<PeerId> = self.mesh.lively().map(|(id, _)| id).collect();
        if self.is_mutated(Mutation::NoClaimWait) {
            wait.clear();
        }
        let alone = wait.is_empty();
        let rec = Rec {
            vector: Some(self.relay.applied()),
            pending: true,
            here: Some(Box::default()),
            ..self.new_rec(generation)
        };
        let names = self.known_mut(user);
        names.put(rec);
        let entry = self.entry_of(user, generation);
        let verifier = self.registry.user(user).verifier.map(|v| v.bytes());
        self.mesh.send_all(&PeerMessage::SessionClaim(Claim { entry, verifier }));
        let claiming = Claiming {
            user,
            link: link_id,
            is_login,
            at: now,
            stage: Stage::Gathering,
            wait,
            answered: Vec::new(),
            found: BTreeMap::new(),
            taken: Vec::new(),
            last: Vector::NOTHING,
            hints: BTreeMap::new(),
            ahead: Vector::NOTHING,
            begin: None,
            plan: Plan::default(),
        };
        self.at_mut(link_id).phase = Phase::Claiming;
        self.sessions.claims.insert(generation, claiming);
        if alone {
            self.claim_stored(generation);
        } else {
            self.timers.set(now + CLAIM_STORED, Timer::Claim(generation));
            self.timers.set(now + CLAIM, Timer::Claim(generation));
        }
        self.gathered(generation);
    }

    /// A record of a session that begins here now.
    pub(super) fn new_rec(&mut self, generation: Generation) -> Rec {
        self.sessions.version += 1;
        Rec {
            generation,
            home: self.relay.own(),
            state: State::Live,
            vector: None,
            named: 0,
            version: self.sessions.version,
            since: self.now,
            pending: false,
            lowered: false,
            here: None,
        }
    }

    /// A second server knows of the login, or none is there: the user is in.
    fn claim_stored(&mut self, generation: Generation) {
        let Some(claim) = self.sessions.claims.get_mut(&generation) else { return };
        if claim.begin.is_some() {
            return;
        }
        claim.begin = Some(self.relay.applied().max(&claim.ahead));
        let (link_id, user, is_login) = (claim.link, claim.user, claim.is_login);
        if is_login && self.link(link_id).is_some_and(|l| l.phase == Phase::Claiming) {
            let name = self.registry.user(user).name.clone();
            self.login_success(link_id, &name);
            if let Some(aside) = self.at_mut(link_id).aside.as_mut() {
                aside.answered = true;
            }
        }
    }

    /// True while a lower claim of the name is under way here.
    fn is_behind_another(&self, user: UserId, generation: Generation) -> bool {
        self.sessions.claims.range(..generation).any(|(_, claim)| claim.user == user)
    }

    /// True while a session of the name that was sent elsewhere may still say something.
    fn is_leaving(&self, user: UserId) -> bool {
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

    /// Goes on if all answers are in, or it waited long enough.
    fn gathered(&mut self, generation: Generation) {
        let Some(claim) = self.sessions.claims.get(&generation) else { return };
        let (user, waited) = (claim.user, self.now.since(claim.at));
        if claim.stage != Stage::Gathering || (!claim.wait.is_empty() && waited < CLAIM) {
            return;
        }
        if waited < CLAIM && self.is_behind_another(user, generation) {
            return self.timers.set(self.now + CLAIM, Timer::Claim(generation));
        }
        if waited < CLAIM_DRY && self.is_leaving(user) && !self.is_mutated(Mutation::NotReadDry) {
            return self.timers.set(self.now + CLAIM_DRY, Timer::Claim(generation));
        }
        if !claim.wait.is_empty() {
            self.counters.claims_unanswered += 1;
        }
        self.claim_stored(generation);
        if let Some(claim) = self.sessions.claims.get_mut(&generation) {
            claim.stage = Stage::Settling;
        }
        self.settle(user, What::Claim(generation));
    }

    /// Has the name's sessions here read dry and their unconfirmed bytes counted: so that what they said
    /// comes first, and what hangs in them is not lost.
    fn settle(&mut self, user: UserId, what: What) {
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
                self.end_session(session, unacknowledged);
            } else if stalled {
                self.end_session(session, unacknowledged);
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
        let is_behind = unacknowledged > 0 || owed.owed(tail) > 0;
        let confirmed = owed.current().map_or(tail, |r| r.from);
        let Some(here) = self.known_mut(user).on_link(session).and_then(|rec| rec.here.as_mut()) else {
            return;
        };
        here.confirmed = confirmed;
        here.spans = is_behind.then_some(owed);
    }

    fn settled(&mut self, what: What) {
        match what {
            What::Claim(generation) => self.plan_claim(generation),
            What::Answer(to, generation, user) => self.release(to, generation, user),
        }
    }

    /// Decides what the login takes over.
    fn plan_claim(&mut self, generation: Generation) {
        let Some(mut claim) = self.sessions.claims.remove(&generation) else { return };
        let user = claim.user;
        let (now, away) = (self.now, self.limits.away);
        let expired = self.known_mut(user).expire(now, away);
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
        let mut plan = Plan { vector: begin.clone(), vectors: vec![begin], ..Plan::default() };
        let mut open: Vec<&Entry> = Vec::new();
        for (other, entry) in &all {
            plan.known.push(*other);
            let Some(vector) = entry.vector.as_ref() else { continue };
            let mut taker = self.known(user).and_then(|names| names.taker(*other));
            taker = taker.or_else(|| claim.taken.iter().find(|(g, _)| g == other).map(|(_, by)| *by));
            // What a later claim took without hearing this one, both take.
            let is_taken = taker.is_some_and(|by| by < generation);
            if *other == generation || self.sessions.claims.contains_key(other) || entry.state == State::Ended
            {
                continue;
            }
            if is_taken {
                continue;
            }
            if entry.state == State::Live {
                plan.multi |= entry.authentic;
                if entry.authentic && entry.unconfirmed {
                    plan.take_over(self.spans_of(user, *other), vector);
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
            let is_beside = entry.pending && beside < spare;
            if is_beside {
                beside += 1;
                plan.taken.push((entry.generation, generation));
            }
            !is_beside
        });
        for entry in &open {
            plan.take_over(
                self.spans_of(user, entry.generation),
                entry.vector.as_ref().unwrap_or(&Vector::NOTHING),
            );
        }
        let lowest = open.iter().filter_map(|entry| entry.vector.clone()).reduce(|a, b| a.min(&b));
        for (i, entry) in open.into_iter().enumerate() {
            if i == 0 || self.is_mutated(Mutation::OneEntry) {
                plan.taken.push((entry.generation, generation));
            } else {
                plan.lowered.push(Entry { vector: lowest.clone(), lowered: true, ..entry.clone() });
            }
        }
        claim.last = self.relay.last_of(self.name_key(user)).max(&claim.last);
        plan.need = claim.last.clone().max(&plan.vector);
        plan.need.remove(self.relay.own());
        claim.plan = plan;
        claim.stage = Stage::Applying(self.now);
        self.sessions.claims.insert(generation, claim);
        self.apply_claim(generation);
    }

    /// What a session of this server is exactly owed.
    fn spans_of(&self, user: UserId, generation: Generation) -> Option<Spans> {
        self.known(user)?.find(generation)?.here.as_ref()?.spans.clone()
    }

    /// Attaches the claim's link if all that must be applied before is, or it waited long enough.
    fn apply_claim(&mut self, generation: Generation) {
        let Some(claim) = self.sessions.claims.get(&generation) else { return };
        let Stage::Applying(since) = claim.stage else { return };
        if self.relay.has_applied(&claim.plan.need) {
            return self.attach_claim(generation);
        }
        if since + CLAIM_APPLIED <= self.now {
            self.counters.claims_unapplied += 1;
            return self.attach_claim(generation);
        }
        self.timers.set(since + CLAIM_APPLIED, Timer::Claim(generation));
        let wanted: Vec<_> = claim
            .plan
            .need
            .iter()
            .map(|(stream, seq)| (stream, seq, claim.hints.get(&stream).copied()))
            .collect();
        wanted.into_iter().for_each(|(stream, seq, hint)| self.want(stream, seq, hint));
    }

    /// The login is over: the link is a session.
    fn attach_claim(&mut self, generation: Generation) {
        let Some(Claiming { user, link: link_id, is_login, last, mut plan, .. }) =
            self.sessions.claims.remove(&generation)
        else {
            return;
        };
        let owed = self.owed_now(user, &plan);
        // What it may have confirmed is at most what stands here.
        let start = plan.vector.clone().min(&self.relay.applied());
        let mut own = generation;
        self.known_mut(user).drop_rec(generation);
        if self.known(user).is_some_and(|names| names.taker(generation).is_some()) {
            own = self.mesh.clock.draw();
            plan.taken.iter_mut().for_each(|(_, by)| *by = own);
        }
        self.known_mut(user).multi |= plan.multi;
        self.learn_taken(user, &plan.taken);
        let confirmed = owed.current().map_or(self.delivery.feed.tail(), |r| r.from);
        let here =
            Here { link: Some(link_id), confirmed, spans: None, start: start.clone(), known: plan.known };
        let rec = Rec { vector: Some(start), here: Some(Box::new(here)), ..self.new_rec(own) };
        self.known_mut(user).put(rec);
        self.lower_entries(user, &plan.lowered, true, &owed);
        let is_there = self.link(link_id).is_some_and(|link| link.phase == Phase::Claiming);
        if is_there {
            let phase = if is_login { Phase::Online } else { Phase::Silent };
            self.start(link_id, Who::User(user), phase, owed);
            if !last.iter().all(|(stream, _)| stream == self.relay.own()) {
                self.sessions.firsts.insert(link_id, last);
            }
            self.actions.push_back(Action::Resume(link_id));
        } else if let Some(here) = self.known_mut(user).on_link(link_id).and_then(|rec| {
            rec.state = State::Broken;
            rec.here.as_mut()
        }) {
            // The client left before its login was over. What it was to be owed is kept.
            here.link = None;
            here.spans = Some(owed);
            self.arm_away(user);
        }
        let entry = self.entry_of(user, own);
        self.mesh.send_all(&PeerMessage::SessionUpdate(Update {
            entry,
            taken: plan.taken,
            lowered: plan.lowered,
        }));
        self.retry_claims(user);
    }

    /// What a claim's plan is owed of the feed as it is now, and everything from now on.
    fn owed_now(&mut self, user: UserId, plan: &Plan) -> Spans {
        let feed = &self.delivery.feed;
        let tail = feed.tail();
        let mut owed =
            plan.vectors.iter().fold(Spans::NOTHING, |all, v| all.union(&self.relay.owed(feed, v)));
        for spans in &plan.spans {
            owed = owed.union(spans);
        }
        let asked = owed.owed(tail);
        if owed.current().is_some_and(|r| r.from < feed.head()) {
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

    /// A claim, ours or a peer's, may have waited long enough.
    pub(super) fn on_claim_timer(&mut self, generation: Generation) {
        if let Some(claim) = self.sessions.claims.get(&generation) {
            if self.now.since(claim.at) >= CLAIM_STORED {
                self.claim_stored(generation);
            }
            self.gathered(generation);
            self.apply_claim(generation);
        }
        self.answer_claims();
    }

    /// Something was applied: claims that waited for it go on.
    pub(super) fn claims_progress(&mut self) {
        if self.sessions.claims.is_empty() {
            return;
        }
        for generation in self.sessions.claims.keys().copied().collect::<Vec<_>>() {
            self.apply_claim(generation);
        }
    }

    /// A claim of the name is over: those behind it go on.
    fn retry_claims(&mut self, user: UserId) {
        let behind = |(g, claim): (&Generation, &Claiming)| (claim.user == user).then_some(*g);
        for generation in self.sessions.claims.iter().filter_map(behind).collect::<Vec<_>>() {
            self.gathered(generation);
        }
        self.answer_claims();
    }

    /// A peer has a login of a name.
    pub(super) fn on_claim(&mut self, from: PeerId, claim: Claim) {
        let Claim { entry, verifier } = claim;
        self.mesh.clock.hear(entry.generation.at);
        let Some(user) = self.registry.find(&entry.name) else { return self.release_nothing(from, &entry) };
        if let Some(bytes) = verifier {
            self.learn_verifier(user, bytes);
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
        let applied = self.relay.applied();
        let release = Release { generation, entries, last, taken, applied };
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
            applied: self.relay.applied(),
        };
        self.mesh.send(to, &PeerMessage::SessionRelease(release));
    }

    /// A peer's answer to a claim.
    pub(super) fn on_release(&mut self, from: PeerId, release: Release) {
        let Some(boot) = self.mesh.get(from).and_then(|peer| peer.stream) else { return };
        let Some(claim) = self.sessions.claims.get_mut(&release.generation) else {
            return self.late_release(boot, release);
        };
        for entry in &release.entries {
            self.mesh.clock.hear(entry.generation.at);
        }
        if claim.begin.is_none() {
            claim.ahead = std::mem::take(&mut claim.ahead).max(&release.applied);
        }
        if claim.stage != Stage::Gathering {
            return self.late_release(boot, release);
        }
        claim.answered.push(boot);
        for (stream, seq) in release.last.iter() {
            if seq > claim.last.get(stream) {
                claim.last.raise(stream, seq);
                claim.hints.insert(stream, boot);
            }
        }
        for (stream, _) in release.applied.iter() {
            claim.hints.entry(stream).or_insert(boot);
        }
        for entry in release.entries {
            let merged = match claim.found.remove(&entry.generation) {
                Some(other) => merge(other, entry),
                None => entry,
            };
            claim.found.insert(merged.generation, merged);
        }
        claim.taken.extend(release.taken);
        claim.wait.retain(|peer| *peer != from);
        self.claim_stored(release.generation);
        self.gathered(release.generation);
    }

    /// A peer is gone, or silent: its answer is not waited for.
    pub(super) fn claims_peer_down(&mut self, peer: PeerId) {
        self.sessions.answers.retain(|answer| answer.from != peer);
        for generation in self.sessions.claims.keys().copied().collect::<Vec<_>>() {
            if let Some(claim) = self.sessions.claims.get_mut(&generation) {
                claim.wait.retain(|p| *p != peer);
            }
            self.gathered(generation);
        }
    }
}

impl Plan {
    /// The session begins no later than this one stopped.
    fn take_over(&mut self, spans: Option<Spans>, vector: &Vector) {
        self.vector = std::mem::take(&mut self.vector).min(vector);
        match spans {
            Some(spans) => self.spans.push(spans),
            None => self.vectors.push(vector.clone()),
        }
    }
}

impl Node {
    /// Lowers the entries that a login left to what it took over.
    pub(super) fn lower_entries(&mut self, user: UserId, entries: &[Entry], is_own: bool, owed: &Spans) {
        for entry in entries {
            let now = self.now;
            let names = self.known_mut(user);
            if is_own && names.find(entry.generation).is_none() && names.taker(entry.generation).is_none() {
                let mut rec = Rec::from_entry(entry, now);
                rec.state = State::Broken;
                names.put(rec);
            }
            let Some(rec) = names.find_mut(entry.generation).filter(|rec| !rec.is_session()) else {
                continue;
            };
            lower(rec, entry.vector.as_ref(), is_own.then_some(owed));
        }
        self.arm_away(user);
    }
}
