//! A name is registered once, though two servers are asked for it at the same instant.
//!
//! The server that is asked *claims* the name: it tells all others and waits for what they say, for at
//! most half a second. Then it *commits*: the name is registered, all are told, and its client is answered
//! as soon as one other server says that it keeps the registration.
//!
//! Of claims under way the lowest stamp wins. Who hears a claim while a lower one is under way says that it
//! *waits* and passes the verdict on when it is there; meanwhile the claimant must not commit. Whoever
//! granted a claim and then hears a lower one asks the first claimant, and grants when that one waits too.
//! A name that is registered beats any claim.

use std::collections::BTreeMap;

use super::asking::Verdict as Outcome;
use super::mesh::PeerId;
use super::registry::Record;
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
    names: BTreeMap<Box<str>, Contest>,
    by_stamp: BTreeMap<Generation, Box<str>>,
}

/// The claims to one name.
#[derive(Debug, Default)]
struct Contest {
    own: Option<Own>,
    others: Vec<Other>,
    /// Links here that want the name too and wait for what comes of the claims.
    waiting: Vec<u64>,
}

/// The claim of a client of this server.
#[derive(Debug)]
struct Own {
    claim: Registration,
    at: Time,
    /// What its link waits under.
    ask: u64,
    /// Peers that have not answered.
    wait: Vec<PeerId>,
    /// Peers that know a lower claim under way.
    waits: Vec<PeerId>,
    committed: Option<UserId>,
    /// A peer keeps the registration.
    stored: bool,
}

/// A peer's claim.
#[derive(Debug)]
struct Other {
    claim: Registration,
    /// Peers to be answered: the claimant, or who passed it on.
    from: Vec<PeerId>,
    is_granted: bool,
    /// Who waits was told so.
    is_told: bool,
    /// Claimants of higher claims that were granted: who was told of this one, and who has not said yet
    /// that it waits.
    passed: Option<Vec<PeerId>>,
    unsure: Vec<PeerId>,
}

impl Node {
    /// True while somebody else may be about to get this name.
    pub(super) fn is_contested(&self, name: &str) -> bool {
        let Some(contest) = self.contests.names.get(name) else { return false };
        contest.own.is_some() || contest.others.iter().any(|other| self.is_lively(&other.from))
    }

    fn is_lively(&self, from: &[PeerId]) -> bool {
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

    /// Claims a name for a link. Gives its user at once when there is no other server.
    pub(super) fn claim_name(
        &mut self,
        link_id: LinkId,
        name: &str,
        secret: &str,
        record: Record,
    ) -> Option<UserId> {
        let stamp = self.mesh.clock.draw();
        let verifier = self.registry.verifier(name, secret);
        if self.mesh.linked().next().is_none() {
            let user = self.registry.add(self.now, name, record, stamp);
            self.registry.user_mut(user).verifier = Some(verifier);
            self.name_settled(user);
            return Some(user);
        }
        let Record { salt, digest, kib, passes } = record;
        let (name, lost, verifier) = (Box::<str>::from(name), Vec::new(), Some(verifier.bytes()));
        let claim = Registration { name: name.clone(), stamp, salt, digest, kib, passes, lost, verifier };
        let told = Registration { verifier: None, ..claim.clone() };
        self.mesh.send_all(&PeerMessage::NewRegisterAnnouncement(Announcement::Claim(told)));
        // Should all bounds run out the claim's own come first.
        let ask = self.hold(link_id, Vec::new(), 4 * REGISTRATION, Outcome::Refused);
        self.timers.set(self.now + REGISTRATION, Timer::Registration(stamp));
        let wait = self.mesh.lively().map(|(id, _)| id).collect();
        let own = Own { claim, at: self.now, ask, wait, waits: Vec::new(), committed: None, stored: false };
        self.contests.by_stamp.insert(stamp, name.clone());
        self.contests.names.entry(name.clone()).or_default().own = Some(own);
        self.judge(&name);
        None
    }

    /// Answers peers' claims to a name as far as may be, then goes on with our own.
    fn judge(&mut self, name: &str) {
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

    fn reply(
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

    /// Goes on with our own claim: commits it, gives it up, or answers its client.
    fn decide(&mut self, name: &str) {
        let Some(contest) = self.contests.names.get(name) else { return };
        let Some(own) = contest.own.as_ref() else { return };
        let is_late = self.now.since(own.at) >= REGISTRATION;
        if own.committed.is_some() {
            let is_alone = self.mesh.lively().next().is_none();
            if own.stored || is_alone || is_late {
                self.counters.registrations_single_copy += u64::from(!own.stored && !is_alone);
                self.answer_registration(name);
            }
            return;
        }
        if !self.is_waiting(own.ask) {
            return self.give_up(name);
        }
        let stamp = own.claim.stamp;
        let is_lower = |other: &Other| other.claim.stamp < stamp && self.is_lively(&other.from);
        if !own.waits.is_empty() || contest.others.iter().any(is_lower) {
            if is_late {
                self.give_up(name);
            }
            return;
        }
        if !own.wait.is_empty() {
            if !is_late {
                return;
            }
            self.counters.registrations_unanswered += 1;
        }
        self.commit(name);
    }

    fn commit(&mut self, name: &str) {
        let Some(own) = self.contests.names.get_mut(name).and_then(|contest| contest.own.as_mut()) else {
            return;
        };
        let Registration { stamp, salt, digest, kib, passes, verifier, .. } = own.claim;
        let user = self.registry.add(self.now, name, Record { salt, digest, kib, passes }, stamp);
        own.committed = Some(user);
        if let Some(bytes) = verifier {
            self.learn_verifier(user, bytes);
        }
        let record = self.registration_of(user);
        self.mesh.send_all(&PeerMessage::NewRegisterAnnouncement(Announcement::Commit(record)));
        self.name_settled(user);
        self.decide(name);
    }

    /// The registration is on two servers, or it cannot be: its client is told.
    fn answer_registration(&mut self, name: &str) {
        let Some(own) = self.contests.names.get_mut(name).and_then(|contest| contest.own.take()) else {
            return;
        };
        let stamp = own.claim.stamp;
        self.contests.by_stamp.remove(&stamp);
        let outcome = match own.committed {
            Some(user) if self.registry.user(user).stamp == stamp => Outcome::Registered(user, stamp),
            _ => Outcome::Refused,
        };
        self.wake(own.ask, Some(outcome));
        self.end_contest(name);
    }

    /// Gives our own claim up.
    fn give_up(&mut self, name: &str) {
        let Some(own) = self.contests.names.get_mut(name).and_then(|contest| contest.own.take()) else {
            return;
        };
        let stamp = own.claim.stamp;
        self.contests.by_stamp.remove(&stamp);
        let abort = Announcement::Abort { name: name.into(), stamp };
        self.mesh.send_all(&PeerMessage::NewRegisterAnnouncement(abort));
        self.wake(own.ask, Some(Outcome::Refused));
        self.judge(name);
    }

    /// Nobody is about to get the name: those that wait for it may try. Without any claim it is forgotten.
    fn end_contest(&mut self, name: &str) {
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

    /// A name is registered, or has another registration: all claims to it are over.
    pub(super) fn name_settled(&mut self, user: UserId) {
        if self.contests.names.is_empty() {
            return;
        }
        let name = self.registry.user(user).name.clone();
        let Some(mut contest) = self.contests.names.remove(&name) else { return };
        let winner = self.registry.user(user).stamp;
        for other in contest.others {
            let stamp = other.claim.stamp;
            self.contests.by_stamp.remove(&stamp);
            if stamp != winner {
                let record = self.registration_of(user);
                self.reply(&other.from, &name, stamp, Verdict::Denied, Some(record));
            }
        }
        contest.waiting.into_iter().for_each(|ask| self.wake(ask, None));
        match contest.own.take() {
            Some(own) if own.committed.is_none() => {
                self.contests.by_stamp.remove(&own.claim.stamp);
                let abort = Announcement::Abort { name, stamp: own.claim.stamp };
                self.mesh.send_all(&PeerMessage::NewRegisterAnnouncement(abort));
                self.wake(own.ask, Some(Outcome::Refused));
            }
            own @ Some(_) => self.contests.names.entry(name).or_default().own = own,
            None => {}
        }
    }

    pub(super) fn on_announcement(&mut self, from: PeerId, announcement: Announcement) {
        match announcement {
            Announcement::Claim(claim) => self.on_name_claim(from, claim),
            Announcement::Commit(record) => {
                let user = self.merge_registration(&record);
                if self.registry.user(user).stamp == record.stamp {
                    self.reply(&[from], &record.name, record.stamp, Verdict::Stored, None);
                } else {
                    let ours = Some(self.registration_of(user));
                    self.reply(&[from], &record.name, record.stamp, Verdict::Denied, ours);
                }
            }
            Announcement::Abort { name, stamp } => self.forget_claim(&name, stamp),
        }
    }

    fn on_name_claim(&mut self, from: PeerId, claim: Registration) {
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
    fn forget_claim(&mut self, name: &str, stamp: Generation) {
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

    pub(super) fn on_register_reply(&mut self, from: PeerId, reply: &RegisterReply) {
        if let Some(record) = &reply.record {
            self.merge_registration(record);
        }
        let Some(contest) = self.contests.names.get_mut(&reply.name) else { return };
        if let Some(own) = contest.own.as_mut().filter(|own| own.claim.stamp == reply.stamp) {
            own.wait.retain(|peer| *peer != from);
            own.waits.retain(|peer| *peer != from);
            match reply.verdict {
                Verdict::Granted => {}
                Verdict::Waits => own.waits.push(from),
                Verdict::Stored => own.stored = true,
                // Of one that is committed the merge has decided.
                Verdict::Denied if own.committed.is_some() => own.stored = true,
                Verdict::Denied => return self.give_up(&reply.name),
            }
            return self.decide(&reply.name);
        }
        let Some(other) = contest.others.iter_mut().find(|other| other.claim.stamp == reply.stamp) else {
            return;
        };
        if reply.verdict == Verdict::Granted {
            other.unsure.retain(|peer| *peer != from);
            self.judge(&reply.name);
        }
    }

    /// Our own claim may have waited long enough.
    pub(super) fn on_registration_timer(&mut self, stamp: Generation) {
        if let Some(name) = self.contests.by_stamp.get(&stamp).cloned() {
            self.decide(&name);
        }
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
