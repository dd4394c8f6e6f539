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

use super::asking::Verdict as Outcome;
use super::contest::{Other, Own};
use super::mesh::PeerId;
use super::registry::Record;
use super::{Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, UserId};
use crate::base::limits::REGISTRATION;
use crate::base::time::Time;
use crate::wire::peer::PeerMessage;
use crate::wire::registration::{Announcement, RegisterReply, Registration, Verdict};

impl Node {
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
        if self.mesh.linked().next().is_none() && !self.keeping.on {
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
        let own = Own {
            claim,
            at: self.now,
            ask,
            wait,
            waits: Vec::new(),
            committed: None,
            stored: false,
            kept: None,
        };
        self.contests.by_stamp.insert(stamp, name.clone());
        self.contests.names.entry(name.clone()).or_default().own = Some(own);
        self.judge(&name);
        None
    }

    /// Goes on with our own claim: commits it, gives it up, or answers its client.
    pub(super) fn decide(&mut self, name: &str) {
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
        match self.claim_kept_since(name) {
            None => self.commit(name),
            Some(since) if self.now.since(since) >= REGISTRATION => self.refuse_unkept(name),
            Some(_) => {}
        }
    }

    /// None if our claim's row is on disk, or there is no disk. Else since when it is on its way there, at the
    /// latest from now on.
    fn claim_kept_since(&mut self, name: &str) -> Option<Time> {
        let own = self.contests.names.get_mut(name).and_then(|contest| contest.own.as_mut());
        let own = own.filter(|_| self.keeping.on)?;
        if own.kept.is_none() {
            own.kept = Some((self.now, false));
            let claim = own.claim.clone();
            self.keep_claim(&claim);
            self.timers.set(self.now + REGISTRATION, Timer::Registration(claim.stamp));
            return Some(self.now);
        }
        own.kept.filter(|(_, is_there)| !is_there).map(|(since, _)| since)
    }

    /// The disk's answer to our claim's row.
    pub(super) fn claim_kept(&mut self, name: &str, stamp: Generation, good: bool) {
        let own = self.contests.names.get_mut(name).and_then(|contest| contest.own.as_mut());
        match own.filter(|own| own.claim.stamp == stamp && own.committed.is_none()) {
            Some(own) if good => {
                own.kept = Some((self.now, true));
                self.decide(name);
            }
            Some(_) => self.refuse_unkept(name),
            None => self.unkeep_claim(name),
        }
    }

    /// The disk does not take our claim's row in time.
    fn refuse_unkept(&mut self, name: &str) {
        self.give_up_with(name, Outcome::Unkept);
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
        self.give_up_with(name, Outcome::Refused);
    }

    fn give_up_with(&mut self, name: &str, outcome: Outcome) {
        let Some(own) = self.contests.names.get_mut(name).and_then(|contest| contest.own.take()) else {
            return;
        };
        let stamp = own.claim.stamp;
        self.contests.by_stamp.remove(&stamp);
        let abort = Announcement::Abort { name: name.into(), stamp };
        self.mesh.send_all(&PeerMessage::NewRegisterAnnouncement(abort));
        if own.kept.is_some() {
            self.unkeep_claim(name);
        }
        self.wake(own.ask, Some(outcome));
        self.judge(name);
    }

    /// A name is registered, or has another registration: all claims to it are over.
    pub(super) fn name_settled(&mut self, user: UserId) {
        if self.contests.names.is_empty() {
            return;
        }
        let name = Box::<str>::from(self.registry.user(user).name.as_str());
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
                    self.stored_when_kept(from, user, record.stamp);
                } else {
                    let ours = Some(self.registration_of(user));
                    self.reply(&[from], &record.name, record.stamp, Verdict::Denied, ours);
                }
            }
            Announcement::Abort { name, stamp } => self.forget_claim(&name, stamp),
        }
    }

    pub(super) fn on_register_reply(&mut self, from: PeerId, reply: &RegisterReply) {
        if let Some(record) = &reply.record {
            self.merge_registration(record);
        }
        if reply.verdict == Verdict::Stored
            && let Some(user) = self.registry.find(&reply.name)
            && self.registry.user(user).stamp == reply.stamp
        {
            self.note_stored(user, from);
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
}
