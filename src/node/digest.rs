//! How two registries become one.
//!
//! Names fall into 256 buckets by a hash that a network has in common. When a link begins, both sides send
//! the digest of each bucket; who sees another one than its own sends what it has of that bucket, as 8 bytes
//! a name, and gets the rest. A newcomer has nothing and gets all. When both have what they asked for they
//! tell each other of sessions, and that they are in step. Later the digest of all names goes along with the
//! signs of life when it changed, so that what was missed is found within seconds.
//!
//! One peer at a time is asked for names: the others mostly have the same, and who comes to many servers that have
//! very many gets each once.
//!
//! All lists are made as the peer takes them, a frame at a time, and no more a turn than [`TURN_SYNC_BYTES`]:
//! the talk goes on, however many names and sessions there are.

use std::collections::VecDeque;

use super::Node;
use super::mesh::PeerId;
use super::registry::Bucket;
use crate::base::hlc::Generation;
use crate::base::id::UserId;
use crate::base::limits::{DIGEST_BEATS, SYNC_BYTES, TURN_SYNC_BYTES};
use crate::wire::peer::PeerMessage;
use crate::wire::registration::{Digest, Registration, Sync, Want};

/// What peers were told of this registry.
#[derive(Debug, Default)]
pub(super) struct Digests {
    told: u64,
    beats: u32,
    /// Who was asked for names and has not sent all.
    asked: Option<PeerId>,
}

/// What of its names a peer is still to be asked, and which of ours it is still to be sent.
#[derive(Debug, Default)]
pub(super) struct Syncing {
    /// Buckets in which it has others; none when it was asked for all of them.
    differing: Option<VecDeque<u8>>,
    /// Buckets, each with the digests of what the peer has of it, in order.
    wants: VecDeque<(u8, Vec<u64>)>,
    /// How far the first of them was sent.
    at: usize,
    /// No more will be asked for.
    is_all: bool,
    /// Then sessions are told, from this name's on.
    sessions: Option<UserId>,
}

/// Bytes of a registration in a frame but for its name, about.
const RECORD_BYTES: usize = 320;
/// Bytes of a digest in a frame.
const DIGEST_BYTES: usize = 21;

impl Node {
    /// The digest of all registrations. Servers that have the same ones have equal digests.
    pub fn registry_digest(&self) -> u64 {
        self.registry.root()
    }

    /// The stamp of a name's registration, if it is known here.
    pub fn registered(&self, name: &str) -> Option<Generation> {
        self.registry.find(name).map(|user| self.registry.user(user).stamp)
    }

    /// Tells a peer what the registry holds.
    pub(super) fn tell_digest(&mut self, to: PeerId, ask: bool) {
        let buckets = self.registry.buckets().iter().map(summary).collect();
        let digest = Digest { root: self.registry.root(), buckets, ask };
        self.mesh.send(to, &PeerMessage::RegistryDigest(digest));
    }

    /// Tells all peers the digest of all names, when it changed or was not told for a while.
    pub(super) fn tell_root(&mut self) {
        let root = self.registry.root();
        self.mesh.digests.beats += 1;
        if root != self.mesh.digests.told || self.mesh.digests.beats >= DIGEST_BEATS {
            (self.mesh.digests.told, self.mesh.digests.beats) = (root, 0);
            let digest = Digest { root, buckets: Vec::new(), ask: false };
            self.mesh.send_all(&PeerMessage::RegistryDigest(digest));
        }
    }

    pub(super) fn on_digest(&mut self, from: PeerId, theirs: &Digest) {
        if theirs.root == self.registry.root() {
            self.note_agreement(from);
        }
        if let Some(peer) = self.mesh.get_mut(from) {
            peer.root = Some(theirs.root);
        }
        if theirs.ask {
            self.tell_digest(from, false);
        }
        if !theirs.buckets.is_empty() {
            return self.want_names(from, theirs);
        }
        if theirs.root != self.registry.root() {
            self.counters.registries_differed += 1;
            self.tell_digest(from, true);
        }
    }

    /// Has a peer asked for what is missing here of its names, also when that is nothing.
    fn want_names(&mut self, from: PeerId, theirs: &Digest) {
        let all = self.registry.buckets().iter().zip(&theirs.buckets).enumerate();
        let differs = all.filter(|(_, (ours, theirs))| **theirs != summary(ours) && theirs.0 > 0);
        let differing: VecDeque<u8> = differs.map(|(i, _)| i as u8).collect();
        let has_more = !differing.is_empty();
        let is_next = !has_more || self.mesh.digests.asked.is_none();
        let Some(peer) = self.mesh.get_mut(from) else { return };
        peer.names_wait = !is_next;
        if is_next {
            peer.sync.get_or_insert_default().differing = Some(differing);
        }
        if is_next && has_more {
            self.mesh.digests.asked = Some(from);
        }
    }

    /// A peer has sent all names it was asked for, or is not waited for: the others are asked what they have besides.
    pub(super) fn names_came(&mut self, from: PeerId) {
        if self.mesh.digests.asked != Some(from) {
            return;
        }
        self.mesh.digests.asked = None;
        let waiting =
            self.mesh.peers.iter_mut().filter_map(|(slot, peer)| {
                std::mem::take(&mut peer.names_wait).then_some(PeerId(slot as u32))
            });
        for peer in waiting.collect::<Vec<_>>() {
            self.tell_digest(peer, true);
        }
    }

    /// Makes the next digests ready that a peer is asked by, one frame of them.
    fn fill_want(&mut self, peer_id: PeerId, sync: &mut Syncing) {
        let Some(mut differing) = sync.differing.take() else { return };
        let mut want = Want::default();
        let mut bytes = 0;
        while bytes < SYNC_BYTES
            && self.mesh.sync_left > 0
            && let Some(i) = differing.pop_front()
        {
            let users = &self.registry.buckets()[usize::from(i)].users;
            let have: Vec<u64> = users.iter().map(|u| self.registry.digest_of(UserId(*u))).collect();
            let more = DIGEST_BYTES * (1 + have.len());
            bytes += more;
            self.mesh.sync_left = self.mesh.sync_left.saturating_sub(more);
            want.buckets.push((i, have));
        }
        want.last = differing.is_empty();
        if !want.last {
            sync.differing = Some(differing);
        }
        if want.last || bytes > 0 {
            self.mesh.send(peer_id, &PeerMessage::RegistryWant(want));
        }
    }

    pub(super) fn on_want(&mut self, from: PeerId, want: Want) {
        let n = self.registry.buckets().len();
        let Some(peer) = self.mesh.get_mut(from) else { return };
        let sync = peer.sync.get_or_insert_default();
        for (bucket, mut have) in want.buckets.into_iter().filter(|(bucket, _)| usize::from(*bucket) < n) {
            have.sort_unstable();
            sync.wants.push_back((bucket, have));
        }
        sync.is_all = want.last;
    }

    /// Makes what a peer is to be sent next ready, a frame of each kind: a question, registrations, sessions.
    pub(super) fn fill_sync(&mut self, peer_id: PeerId) {
        let Some(peer) = self.mesh.peers.get_mut(peer_id.0 as usize) else { return };
        let Some(mut sync) = peer.sync.take() else { return };
        self.fill_want(peer_id, &mut sync);
        let mut records: Vec<Registration> = Vec::new();
        let mut bytes = 0;
        while let Some((bucket, have)) =
            sync.wants.front().filter(|_| bytes < SYNC_BYTES && self.mesh.sync_left > 0)
        {
            let users = &self.registry.buckets()[usize::from(*bucket)].users;
            let Some(user) = users.get(sync.at).map(|user| UserId(*user)) else {
                sync.wants.pop_front();
                sync.at = 0;
                continue;
            };
            sync.at += 1;
            let mut cost = DIGEST_BYTES;
            if have.binary_search(&self.registry.digest_of(user)).is_err() {
                let record = self.registration_of(user);
                cost = RECORD_BYTES + record.name.len();
                bytes += cost;
                records.push(record);
            }
            self.mesh.sync_left = self.mesh.sync_left.saturating_sub(cost);
        }
        let last = sync.wants.is_empty() && std::mem::take(&mut sync.is_all);
        if !records.is_empty() || last {
            self.mesh.send(peer_id, &PeerMessage::RegistrySync(Sync { records, last }));
        }
        self.fill_sessions(peer_id, &mut sync.sessions);
        let is_done =
            sync.wants.is_empty() && sync.differing.is_none() && !sync.is_all && sync.sessions.is_none();
        let Some(peer) = self.mesh.get_mut(peer_id) else { return };
        peer.sync = (!is_done).then_some(sync);
        if last {
            peer.names_told = true;
            self.begin_sessions(peer_id);
        }
    }

    /// A turn begins: as much again is made ready.
    pub(super) fn sync_more(&mut self) {
        if self.mesh.sync_left < TURN_SYNC_BYTES {
            self.mesh.sync_left = TURN_SYNC_BYTES;
            self.mesh.wake();
        }
    }

    pub(super) fn on_sync(&mut self, from: PeerId, sync: &Sync) {
        for record in &sync.records {
            self.merge_registration(record);
        }
        if let Some(peer) = self.mesh.get_mut(from).filter(|_| sync.last) {
            peer.names_heard = true;
            self.begin_sessions(from);
            self.names_came(from);
        }
    }

    /// A new peer is to be told of sessions, once it knows their names, and once those that lost against its own
    /// are closed.
    fn begin_sessions(&mut self, to: PeerId) {
        let Some(peer) = self.mesh.get_mut(to) else { return };
        if peer.names_told && peer.names_heard && !std::mem::replace(&mut peer.sessions_told, true) {
            peer.sync.get_or_insert_default().sessions = Some(UserId(0));
            self.mesh.wake();
        }
    }
}

fn summary(bucket: &Bucket) -> (u32, u64) {
    (bucket.users.len() as u32, bucket.sum)
}

#[cfg(test)]
mod tests;
