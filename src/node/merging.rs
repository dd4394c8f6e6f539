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
use crate::wire::registration::{Registration, Sync};

impl Node {
    /// A name's registration as other servers are told it.
    pub(super) fn registration_of(&self, user: UserId) -> Registration {
        let lost = self.registry.lost(user).to_vec();
        let user = self.registry.user(user);
        let Record { salt, digest, kib, passes } = user.record;
        Registration {
            name: user.name.as_str().into(),
            stamp: user.stamp,
            salt,
            digest,
            kib,
            passes,
            lost,
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
            if self.registry.user(user).record != record {
                log::info!("{name:?} was registered at two servers: {stamp:?} wins against {ours:?}");
                self.counters.registrations_lost += 1;
                self.drop_sessions_of_loser(user);
            }
            self.unnote_stored(user);
            self.registry.replace(user, Some((record, stamp)), lost.clone());
            self.touch(user);
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

    /// Somebody has the secret of this registration, so it was made, and is not in doubt any more: what is found
    /// later of another claim to its name yields. The login tells all peers.
    pub(super) fn end_doubt(&mut self, user: UserId) {
        if self.registry.user(user).stamp.at.is_doubted() {
            let stamp = self.mesh.clock.draw();
            self.merge_registration(&Registration { stamp, ..self.registration_of(user) });
        }
    }

    fn learn_lost(&mut self, user: UserId, lost: &[Generation]) {
        if lost.iter().any(|stamp| !self.registry.lost(user).contains(stamp)) {
            self.registry.replace(user, None, lost.to_vec());
        }
    }

    /// A peer knows another registration of this name: it is told ours, and asked for its own.
    pub(super) fn contradict(&mut self, peer: PeerId, user: UserId) {
        let ours = self.registration_of(user);
        self.mesh.send(peer, &PeerMessage::RegistrySync(Sync { records: vec![ours], last: false }));
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
            self.count_out(link_id);
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
        self.touch(user);
        self.registry.names.remove(&user);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::hlc::Hlc;
    use crate::base::id::{ServerId, StreamId};
    use crate::base::limits::Limits;
    use crate::base::vector::Vector;
    use crate::node::Seeds;
    use crate::wire::peer::{Entry, Update};

    fn node() -> Node {
        Node::new(Limits { feed_bytes: 1 << 12, ..Limits::default() }, &Seeds::fixed(1))
    }

    fn registration(name: u8, at: u64, by: u8) -> Registration {
        Registration {
            name: format!("n{name}").into(),
            stamp: Generation { at: Hlc(at), by: ServerId([by; 16]) },
            salt: [by; 16],
            digest: [at as u8; 32],
            kib: 8,
            passes: 1,
            lost: Vec::new(),
            verifier: Some([at as u8 ^ by; 16]),
        }
    }

    /// All that a node knows of names, but for verifiers, which are forgotten at times.
    fn all(node: &Node) -> Vec<Registration> {
        let of = |i| Registration { verifier: None, ..node.registration_of(UserId(i)) };
        let mut all: Vec<_> = (0..node.names() as u32).map(of).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn merged(parts: &[&[Registration]]) -> Node {
        let mut node = node();
        parts.iter().copied().flatten().for_each(|one| {
            node.merge_registration(one);
        });
        node
    }

    fn broken(name: &str, n: u64, stamp: Option<Generation>) -> Entry {
        let generation = Generation { at: Hlc(n), by: ServerId([9; 16]) };
        let entry = Entry::new(name.into(), generation, StreamId(n), State::Broken);
        Entry { vector: Some(Vector::NOTHING), authentic: true, stamp, ..entry }
    }

    #[test]
    fn what_is_said_of_sessions_of_another_registration_is_not_kept() {
        let mut node = node();
        let (ours, theirs) = (registration(1, 2, 1), registration(1, 3, 2));
        let user = node.merge_registration(&ours);
        // One that says nothing of it is of an older version.
        for (n, stamp, known) in [(5, Some(theirs.stamp), 0), (6, Some(ours.stamp), 1), (7, None, 2)] {
            let entry = broken(&ours.name, n, stamp);
            let (taken, lowered, unheard) = (Vec::new(), Vec::new(), Vec::new());
            node.on_update(Update { entry, taken, lowered, unheard, beside: None });
            assert_eq!(node.entries_of(user).len(), known);
        }
    }

    #[test]
    fn a_session_whose_end_a_peer_did_not_hear_is_corrected_by_its_home() {
        let mut node = node();
        let ours = registration(1, 2, 1);
        let user = node.merge_registration(&ours);
        for (home, state) in [(StreamId(5), State::Live), (node.relay.own(), State::Ended)] {
            let entry = broken(&ours.name, home.0 % 1000, None);
            let generation = entry.generation;
            node.store(user, Entry { home, state: State::Live, ..entry });
            let kept = node.entry_of(user, generation);
            assert_eq!((kept.state, kept.authentic), (state, state == State::Ended));
        }
    }

    fn some() -> impl Strategy<Value = Vec<Registration>> {
        let one = (0u8..3, 0u64..6, 0u8..3).prop_map(|(name, at, by)| registration(name, at, by));
        prop::collection::vec(one, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_order_of_merges_and_repeats_of_them_change_nothing(a in some(), b in some(), c in some()) {
            let abc = merged(&[&a, &b, &c]);
            let whole = all(&abc);
            // Commutative, idempotent.
            for other in [merged(&[&c, &b, &a]), merged(&[&b, &a, &b, &c, &a]), merged(&[&whole, &whole])] {
                prop_assert_eq!(all(&other), whole.clone());
                prop_assert_eq!(other.registry_digest(), abc.registry_digest());
            }
            // Associative.
            let (ab, bc) = (all(&merged(&[&a, &b])), all(&merged(&[&b, &c])));
            prop_assert_eq!(all(&merged(&[&ab, &c])), whole.clone());
            prop_assert_eq!(all(&merged(&[&a, &bc])), whole.clone());
            // The lowest wins, and brings its own secret.
            for one in a.iter().chain(&b).chain(&c) {
                let user = abc.registry.find(&one.name).unwrap();
                prop_assert!(abc.registry.user(user).stamp <= one.stamp);
                if abc.registry.user(user).stamp == one.stamp {
                    prop_assert_eq!(abc.registration_of(user).verifier, one.verifier);
                }
                prop_assert!(abc.registry.lost(user).len() <= crate::base::limits::LOSERS_MAX);
            }
        }

        #[test]
        fn registries_that_differ_have_other_digests(a in some(), b in some()) {
            let (a, b) = (merged(&[&a]), merged(&[&b]));
            prop_assert_eq!(all(&a) == all(&b), a.registry_digest() == b.registry_digest());
        }
    }
}
