//! A login of a registered name: it asks all servers what they know of the name, and goes on where the
//! name's broken sessions stopped.
//!
//! 1. *Gathering*: SESSION_CLAIM went to all peers; their answers come, for at most 250 ms. The first one
//!    means that a second server knows of the login, so LOGIN_SUCCESS is written.
//! 2. *Settling*: the name's older sessions on this server are read dry and their unconfirmed bytes counted.
//! 3. *Applying*: what the name said elsewhere, and what its broken sessions had, must stand in the feed.
//! 4. The link is *attached*: it is owed what the entry it takes has not, and everything from now on.

use std::collections::BTreeMap;

use super::answering::What;
use super::books::USERS;
use super::link::{Link, Phase, Who};
use super::mesh::PeerId;
use super::names::{Here, Rec, merge};
use super::plan::Plan;
use super::{Action, Mutation, Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, ServerId, StreamId, UserId};
use crate::base::limits::{CLAIM, CLAIM_APPLIED, CLAIM_DRY, CLAIM_STORED};
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::peer::{Claim, Entry, PeerMessage, Release, State, Update};

/// A login of this server that is not over.
#[derive(Debug)]
pub(super) struct Claiming {
    pub user: UserId,
    pub link: LinkId,
    /// LOGIN asked for it; else an activity did, which has no answer.
    pub is_login: bool,
    pub at: Time,
    pub stage: Stage,
    /// Peers whose answer is waited for, and the boots of those that gave theirs.
    pub wait: Vec<PeerId>,
    pub answered: Vec<StreamId>,
    /// The server that sent its client here, which waits for it to come.
    pub sent_by: Option<ServerId>,
    /// The generations that each of them named.
    pub named: BTreeMap<StreamId, Vec<Generation>>,
    pub found: BTreeMap<Generation, Entry>,
    pub taken: Vec<(Generation, Generation)>,
    /// How far the name spoke, and which boot said so.
    pub last: Vector,
    pub hints: BTreeMap<StreamId, StreamId>,
    /// What others had applied when they answered first.
    pub ahead: Vector,
    /// Where the session begins if nothing is owed: when LOGIN_SUCCESS was written.
    pub begin: Option<Vector>,
    pub plan: Plan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Gathering,
    Settling,
    Applying(Time),
}

impl Node {
    /// Begins the login of a link whose name and secret are right.
    pub(super) fn claim(&mut self, link_id: LinkId, user: UserId, is_login: bool) {
        self.end_doubt(user);
        // One that was far ahead when it was heard may be near by now.
        let known: Vec<_> = self.known(user).iter().flat_map(|n| &n.recs).map(|r| r.generation.at).collect();
        known.into_iter().for_each(|at| self.mesh.clock.hear(at));
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
        let registration = self.registration_of(user);
        self.mesh.send_all(&PeerMessage::SessionClaim(Claim { entry, registration }));
        let claiming = Claiming {
            user,
            link: link_id,
            is_login,
            at: now,
            stage: Stage::Gathering,
            wait,
            answered: Vec::new(),
            sent_by: None,
            named: BTreeMap::new(),
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
            named: self.sessions.homes.get(&self.relay.own()).map_or(0, |home| home.version),
            version: self.sessions.version,
            since: self.now,
            pending: false,
            low: None,
            here: None,
        }
    }

    /// A second server knows of the login, or none is there: the user is in.
    fn claim_stored(&mut self, generation: Generation) {
        let Some(claim) = self.sessions.claims.get_mut(&generation) else { return };
        if claim.begin.is_some() {
            return;
        }
        let begin = self.relay.applied().max(&claim.ahead);
        claim.begin = Some(begin.clone());
        let (link_id, user, is_login) = (claim.link, claim.user, claim.is_login);
        // A client with an id is told where it begins, which is not known yet.
        let is_told = |l: &Link| l.phase == Phase::Claiming && l.ids().is_none();
        if is_login && self.link(link_id).is_some_and(is_told) {
            let name = self.registry.user(user).name.clone();
            self.login_success(link_id, &name, &begin);
            if let Some(aside) = self.at_mut(link_id).aside.as_mut() {
                aside.answered = true;
            }
        }
    }

    /// True while a lower claim of the name is under way here.
    pub(super) fn is_behind_another(&self, user: UserId, generation: Generation) -> bool {
        self.sessions.claims.range(..generation).any(|(_, claim)| claim.user == user)
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

    /// Attaches the claim's link if all that must be applied before is, or it waited long enough.
    pub(super) fn apply_claim(&mut self, generation: Generation) {
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
        let Some(Claiming { user, link: link_id, is_login, sent_by, last, mut plan, .. }) =
            self.sessions.claims.remove(&generation)
        else {
            return;
        };
        if let Some(server) = sent_by {
            self.spread.books.arrived(server, USERS);
        }
        let owed = self.owed_now(user, &plan);
        // What it may have confirmed is at most what stands here.
        let mut start = plan.vector.clone().min(&self.relay.applied());
        if !plan.spans.is_empty() {
            // What was owed here exactly may hold more than a position says.
            start = self.relay.not_above(&self.delivery.feed, start, &owed);
        }
        log::debug!(
            "link {link_id}: a session of {:?} begins at {start:?}, takes {:?}, leaves {}",
            self.registry.user(user).name,
            plan.taken,
            plan.lowered.len(),
        );
        let begin = start.clone();
        let mut own = plan.own.unwrap_or(generation);
        self.known_mut(user).drop_rec(generation);
        if self.known(user).is_some_and(|names| names.taker(generation).is_some()) {
            own = self.mesh.clock.draw_above(own);
            plan.taken.iter_mut().for_each(|(_, by)| *by = own);
        }
        if own != generation {
            plan.taken.push((generation, own));
        }
        self.known_mut(user).multi |= plan.multi;
        let confirmed = owed.current().map_or(self.delivery.feed.tail(), |r| r.from);
        let (start_here, known) = (start.clone(), plan.known);
        let here = Here { link: Some(link_id), confirmed, start: start_here, known, ..Here::default() };
        let rec = Rec { vector: Some(start), here: Some(Box::new(here)), ..self.new_rec(own) };
        self.known_mut(user).put(rec);
        self.learn_taken(user, &plan.taken);
        self.lower_entries(user, &plan.lowered, plan.until, Some(&owed));
        self.lower_beside(user, plan.beside.as_ref(), plan.until, Some(&owed));
        self.frontier.is_stale = true;
        let is_there = self.link(link_id).is_some_and(|link| link.phase == Phase::Claiming);
        if is_there {
            let phase = if is_login { Phase::Online } else { Phase::Silent };
            self.start(link_id, Who::User(user), phase, owed);
            if is_login && self.ids(link_id).is_some() {
                let name = self.registry.user(user).name.clone();
                self.login_success(link_id, &name, &begin);
                self.at_mut(link_id).aside_mut().answered = true;
            }
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
            unheard: plan.unheard,
            beside: plan.beside,
        }));
        self.retry_claims(user);
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

    /// A peer's answer to a claim.
    pub(super) fn on_release(&mut self, from: PeerId, release: Release) {
        let Some(boot) = self.mesh.get(from).and_then(|peer| peer.stream) else { return };
        self.hear_release(from, &release);
        let Some(claim) = self.sessions.claims.get_mut(&release.generation) else {
            return self.late_release(boot, release);
        };
        for entry in &release.entries {
            self.mesh.clock.hear(entry.generation.at);
        }
        let applied = release.applied.clone().unwrap_or_default();
        if claim.begin.is_none() {
            claim.ahead = std::mem::take(&mut claim.ahead).max(&applied);
        }
        if claim.stage != Stage::Gathering {
            return self.late_release(boot, release);
        }
        claim.answered.push(boot);
        let named = release.entries.iter().map(|entry| entry.generation);
        let named = named.chain(release.taken.iter().flat_map(|(g, by)| [*g, *by]));
        claim.named.insert(boot, named.collect());
        for (stream, seq) in release.last.iter() {
            if seq > claim.last.get(stream) {
                claim.last.raise(stream, seq);
                claim.hints.insert(stream, boot);
            }
        }
        for (stream, _) in applied.iter() {
            claim.hints.entry(stream).or_insert(boot);
        }
        let stamp = self.registry.user(claim.user).stamp;
        for entry in release.entries.into_iter().filter(|entry| entry.is_of(stamp)) {
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
