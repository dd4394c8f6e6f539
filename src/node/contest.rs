//! The claims to one name that are under way, and what each is answered.
//!
//! Invariant: a claim is granted only while no lower one is under way here, and when those that were
//! granted before it are known to wait for it.

use std::collections::BTreeMap;

use super::asking::{Asks, Verdict as Outcome};
use super::mesh::PeerId;
use super::{Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, UserId};
use crate::base::limits::{REGISTRATION, REGISTRATION_KEPT};
use crate::base::time::Time;
use crate::wire::line::Flow;
use crate::wire::peer::PeerMessage;
use crate::wire::registration::{Announcement, RegisterReply, Registration, Verdict};

/// Names that are claimed and not registered yet, or whose registration is not answered yet.
#[derive(Debug, Default)]
pub(super) struct Contests {
    /// Links that wait for what comes of a name.
    pub asks: Asks,
    pub names: BTreeMap<Box<str>, Contest>,
    pub by_stamp: BTreeMap<Generation, Box<str>>,
}

/// The claims to one name.
#[derive(Debug, Default)]
pub(super) struct Contest {
    pub own: Option<Own>,
    pub others: Vec<Other>,
    /// Links here that want the name too and wait for what comes of the claims.
    pub waiting: Vec<u64>,
}

/// The claim of a client of this server.
#[derive(Debug)]
pub(super) struct Own {
    pub claim: Registration,
    pub at: Time,
    /// What its link waits under.
    pub ask: u64,
    /// Peers that have not answered.
    pub wait: Vec<PeerId>,
    /// Peers that know a lower claim under way.
    pub waits: Vec<PeerId>,
    pub committed: Option<UserId>,
    /// A peer keeps the registration.
    pub stored: bool,
    /// Since when its row is on its way to the disk, and whether it is there.
    pub kept: Option<(Time, bool)>,
}

/// A peer's claim.
#[derive(Debug)]
pub(super) struct Other {
    pub claim: Registration,
    /// Peers to be answered: the claimant, or who passed it on.
    pub from: Vec<PeerId>,
    pub is_granted: bool,
    /// Who waits was told so.
    pub is_told: bool,
    /// Claimants of higher claims that were granted: who was told of this one, and who has not said yet
    /// that it waits.
    pub passed: Option<Vec<PeerId>>,
    pub unsure: Vec<PeerId>,
}

impl Node {
    /// True while somebody else may be about to get this name.
    pub(super) fn is_contested(&self, name: &str) -> bool {
        let Some(contest) = self.contests.names.get(name) else { return false };
        contest.own.is_some() || contest.others.iter().any(|other| self.is_lively(&other.from))
    }

    pub(super) fn is_lively(&self, from: &[PeerId]) -> bool {
        from.iter().any(|peer| self.mesh.get(*peer).is_some_and(|peer| !peer.suspect))
    }

    /// Has a REGISTER wait until the claims to its name are over.
    pub(super) fn await_contest(&mut self, link_id: LinkId, name: &str) -> Flow {
        let ask = self.hold(link_id, Vec::new(), REGISTRATION, Outcome::Refused);
        if let Some(contest) = self.contests.names.get_mut(name) {
            contest.waiting.push(ask);
        }
        Flow::Again
    }

    /// Answers peers' claims to a name as far as may be, then goes on with our own.
    pub(super) fn judge(&mut self, name: &str) {
        let Some(mut contest) = self.contests.names.remove(name) else { return };
        let own = contest.own.iter().map(|own| own.claim.stamp);
        let lively = contest.others.iter().filter(|other| self.is_lively(&other.from));
        let lowest = own.chain(lively.map(|other| other.claim.stamp)).min();
        for i in 0..contest.others.len() {
            let stamp = contest.others[i].claim.stamp;
            if contest.others[i].is_granted {
                continue;
            }
            let is_behind = lowest.is_some_and(|lowest| lowest < stamp);
            if !is_behind {
                let passed = contest.others[i].passed.is_some();
                let higher = if passed { Vec::new() } else { self.pass_on(&contest, i) };
                let other = &mut contest.others[i];
                other.unsure.extend(&higher);
                other.passed.get_or_insert(higher);
                other.unsure.retain(|peer| self.mesh.get(*peer).is_some_and(|peer| !peer.suspect));
            }
            let other = &mut contest.others[i];
            other.is_granted = !is_behind && other.unsure.is_empty();
            if other.is_granted || !std::mem::replace(&mut other.is_told, true) {
                let verdict = if other.is_granted { Verdict::Granted } else { Verdict::Waits };
                let from = other.from.clone();
                self.reply(&from, name, stamp, verdict, None);
            }
        }
        self.contests.names.insert(name.into(), contest);
        self.decide(name);
        self.end_contest(name);
    }

    /// Tells the claimants of higher claims that were granted here of this one: they wait, or have
    /// committed already.
    fn pass_on(&mut self, contest: &Contest, i: usize) -> Vec<PeerId> {
        let lower = &contest.others[i];
        let granted = contest.others.iter().filter(|h| h.is_granted && h.claim.stamp > lower.claim.stamp);
        let to: Vec<PeerId> =
            granted.flat_map(|h| &h.from).filter(|peer| !lower.from.contains(peer)).copied().collect();
        for peer in &to {
            let claim = Announcement::Claim(lower.claim.clone());
            self.mesh.send(*peer, &PeerMessage::NewRegisterAnnouncement(claim));
        }
        to
    }

    pub(super) fn reply(
        &mut self,
        to: &[PeerId],
        name: &str,
        stamp: Generation,
        verdict: Verdict,
        record: Option<Registration>,
    ) {
        let reply = PeerMessage::RegisterReply(RegisterReply { name: name.into(), stamp, verdict, record });
        to.iter().for_each(|peer| self.mesh.send(*peer, &reply));
    }

    /// Nobody is about to get the name: those that wait for it may try. Without any claim it is forgotten.
    pub(super) fn end_contest(&mut self, name: &str) {
        if self.is_contested(name) {
            return;
        }
        let Some(contest) = self.contests.names.get_mut(name) else { return };
        let waiting = std::mem::take(&mut contest.waiting);
        if contest.others.is_empty() {
            self.contests.names.remove(name);
        }
        waiting.into_iter().for_each(|ask| self.wake(ask, None));
    }

    pub(super) fn on_name_claim(&mut self, from: PeerId, claim: Registration) {
        let stamp = claim.stamp;
        self.mesh.clock.hear(stamp.at);
        if let Some(user) = self.registry.find(&claim.name) {
            let is_it = self.registry.user(user).stamp == stamp;
            let verdict = if is_it { Verdict::Granted } else { Verdict::Denied };
            let record = (!is_it).then(|| self.registration_of(user));
            return self.reply(&[from], &claim.name, stamp, verdict, record);
        }
        let name = claim.name.clone();
        let contest = self.contests.names.entry(name.clone()).or_default();
        if contest.own.as_ref().is_some_and(|own| own.claim.stamp == stamp) {
            return;
        }
        match contest.others.iter_mut().find(|other| other.claim.stamp == stamp) {
            Some(other) if other.from.contains(&from) => {}
            Some(other) => {
                other.from.push(from);
                let verdict = if other.is_granted { Verdict::Granted } else { Verdict::Waits };
                self.reply(&[from], &name, stamp, verdict, None);
            }
            None => {
                let (from, passed, unsure) = (vec![from], None, Vec::new());
                contest.others.push(Other { claim, from, is_granted: false, is_told: false, passed, unsure });
                self.contests.by_stamp.insert(stamp, name.clone());
                self.timers.set(self.now + REGISTRATION_KEPT, Timer::Kept(stamp));
            }
        }
        self.judge(&name);
    }

    /// A peer's claim is over, and nobody got the name by it.
    pub(super) fn forget_claim(&mut self, name: &str, stamp: Generation) {
        let Some(contest) = self.contests.names.get_mut(name) else { return };
        let Some(i) = contest.others.iter().position(|other| other.claim.stamp == stamp) else { return };
        let other = contest.others.swap_remove(i);
        self.contests.by_stamp.remove(&stamp);
        let abort = PeerMessage::NewRegisterAnnouncement(Announcement::Abort { name: name.into(), stamp });
        for peer in other.passed.unwrap_or_default() {
            self.mesh.send(peer, &abort);
        }
        self.judge(name);
    }

    /// Of a peer's claim nothing more was heard: others may know what came of it.
    pub(super) fn on_kept_timer(&mut self, stamp: Generation) {
        if let Some(name) = self.contests.by_stamp.get(&stamp).cloned() {
            self.ask_idly(&name);
            self.forget_claim(&name, stamp);
        }
    }

    /// A peer is gone, or silent: its verdict is not waited for, and its claims stop nobody.
    pub(super) fn contests_peer_down(&mut self, peer: PeerId, is_gone: bool) {
        for name in self.contests.names.keys().cloned().collect::<Vec<_>>() {
            let Some(contest) = self.contests.names.get_mut(&name) else { continue };
            if let Some(own) = contest.own.as_mut() {
                own.wait.retain(|p| *p != peer);
                own.waits.retain(|p| *p != peer);
            }
            let mut is_orphan = false;
            for other in contest.others.iter_mut().filter(|_| is_gone) {
                is_orphan |= other.from == [peer];
                other.from.retain(|p| *p != peer);
                other.unsure.retain(|p| *p != peer);
                if let Some(passed) = other.passed.as_mut() {
                    passed.retain(|p| *p != peer);
                }
            }
            if is_orphan {
                self.ask_idly(&name);
            }
            self.judge(&name);
        }
    }
}
