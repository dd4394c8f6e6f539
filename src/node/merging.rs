//! Two registrations of one name become one: the lower wins, everywhere.
//!
//! The merge is commutative, associative and idempotent: what is kept of a name is its lowest
//! registration and the next few, whatever came first. The loser's sessions are closed; what it was owed
//! is dropped, because its name is another's.

use super::counters::CloseReason;
use super::link::Phase;
use super::mesh::PeerId;
use super::registry::{NO_SLOT, Record, Verifier};
use super::{Mutation, Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, UserId};
use crate::base::limits::VERIFIER;
use crate::wire::peer::{PeerMessage, State};
use crate::wire::registration::Registration;

impl Node {
    /// A name's registration as other servers are told it.
    pub(super) fn registration_of(&self, user: UserId) -> Registration {
        let user = self.registry.user(user);
        let Record { salt, digest, kib, passes } = user.record;
        Registration {
            name: user.name.clone(),
            stamp: user.stamp,
            salt,
            digest,
            kib,
            passes,
            lost: user.lost.to_vec(),
            verifier: user.verifier.map(|verifier| verifier.bytes()),
        }
    }

    /// Learns a registration. Of two of one name the lower wins.
    pub(super) fn merge_registration(&mut self, theirs: &Registration) -> UserId {
        let Registration { ref name, stamp, salt, digest, kib, passes, ref lost, verifier } = *theirs;
        let record = Record { salt, digest, kib, passes };
        self.mesh.clock.hear(stamp.at);
        let Some(user) = self.registry.find(name) else {
            let user = self.registry.add(self.now, name, record, stamp);
            self.learn_lost(user, lost);
            self.counters.registrations_learnt += 1;
            if let Some(bytes) = verifier {
                self.learn_verifier(user, bytes);
            }
            self.name_settled(user);
            return user;
        };
        let ours = self.registry.user(user).stamp;
        if stamp == ours {
            self.learn_lost(user, lost);
        } else if (stamp < ours) != self.is_mutated(Mutation::WrongWinner) {
            log::info!("{name:?} was registered at two servers: {stamp:?} wins against {ours:?}");
            self.drop_sessions_of_loser(user);
            self.registry.replace(user, Some((record, stamp)), lost.clone());
            self.counters.registrations_lost += 1;
            self.name_settled(user);
        } else {
            self.learn_lost(user, &[lost, &[stamp][..]].concat());
            return user;
        }
        if let (Some(bytes), None) = (verifier, self.registry.user(user).verifier) {
            self.learn_verifier(user, bytes);
        }
        user
    }

    fn learn_lost(&mut self, user: UserId, lost: &[Generation]) {
        if lost.iter().any(|stamp| !self.registry.user(user).lost.contains(stamp)) {
            self.registry.replace(user, None, lost.to_vec());
        }
    }

    /// A peer knows another registration of this name: it is told ours, and asked for its own.
    pub(super) fn contradict(&mut self, peer: PeerId, user: UserId) {
        let ours = self.registration_of(user);
        self.mesh.send(peer, &PeerMessage::RegistrySync(vec![ours]));
        self.tell_digest(peer, true);
    }

    /// The fast check of the secret of a name's registration, from a peer.
    pub(super) fn learn_verifier(&mut self, user: UserId, bytes: [u8; 16]) {
        let now = self.now;
        let entry = self.registry.user_mut(user);
        entry.verifier = Some(Verifier::new(bytes));
        entry.idle_since = now;
        if entry.newest == NO_SLOT && !std::mem::replace(&mut entry.verifier_set, true) {
            self.timers.set(now + VERIFIER, Timer::Verifier(user));
        }
    }

    /// The name is another's: its sessions here are told and end, and owe nobody anything.
    pub(super) fn drop_sessions_of_loser(&mut self, user: UserId) {
        let name = self.registry.user(user).name.clone();
        let info = format!("{name} was registered first on a server that this one could not reach");
        let logins: Vec<Generation> =
            self.sessions.claims.iter().filter(|(_, claim)| claim.user == user).map(|(g, _)| *g).collect();
        for generation in logins {
            let Some(claim) = self.sessions.claims.remove(&generation) else { continue };
            if self.link(claim.link).is_some_and(|link| link.phase == Phase::Claiming) {
                self.reply_and_close(claim.link, "LOGIN_FAILED", &info, CloseReason::NameLost);
            }
        }
        let mut links: Vec<LinkId> = Vec::new();
        let mut slot = self.registry.user(user).newest;
        while slot != NO_SLOT {
            links.push(super::link::id(slot as usize, &self.links[slot as usize]));
            slot = self.links[slot as usize].older;
        }
        for link_id in links {
            self.detach(link_id, user);
            self.sessions.firsts.remove(&link_id);
            self.sessions.late.remove(&link_id);
            if self.at(link_id).is_session() {
                self.reply_and_close(link_id, "LOGIN_FAILED", &info, CloseReason::NameLost);
            }
        }
        let own: Vec<Generation> = match self.known(user) {
            Some(names) => names.recs.iter().filter(|rec| rec.here.is_some()).map(|r| r.generation).collect(),
            None => Vec::new(),
        };
        for generation in own {
            if let Some(rec) = self.known_mut(user).find_mut(generation) {
                (rec.state, rec.vector, rec.pending) = (State::Ended, None, false);
                rec.here = Some(Box::default());
            }
            self.tell_session(user, generation, Vec::new());
        }
        self.registry.user_mut(user).names = None;
    }
}
