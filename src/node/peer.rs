//! A linked server, and the bytes that are made for it when its socket takes some: control frames, then
//! what it has not of our stream, then what it asked for.

use super::Node;
use super::digest::Syncing;
use super::link::Phase;
use super::traffic::Kind;
use crate::base::id::{LinkId, ServerId, StreamId};
use crate::base::limits::PEER_OUT_BYTES;
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::frame;
use crate::wire::peer::{Announce, Fetch, Spawning};

/// A peer's place among the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PeerId(pub u32);

/// A linked server.
#[derive(Debug)]
pub(super) struct Peer {
    pub link: LinkId,
    pub server: ServerId,
    /// We dialled it.
    pub dialled: bool,
    /// The boot it is in; none until its SERVER_HELLO came.
    pub stream: Option<StreamId>,
    /// It was told what this server holds and how far all sessions are; and what it said it holds.
    pub frontier_told: bool,
    pub holds: Vector,
    /// All it knew at the link's begin was told.
    pub synced: bool,
    /// Bytes ready for its socket, from `at` on.
    pub out: Vec<u8>,
    pub at: usize,
    /// The next frame of our stream it is to be sent.
    pub next: u64,
    /// Up to where it holds our stream.
    pub acked: u64,
    /// It holds more of its stream than it was told.
    pub ack_owed: bool,
    /// It let the bound of the second copy run out, and is waited for again when it holds our stream up to
    /// here: all that there was then.
    pub caught_up_at: u64,
    pub heard_at: Time,
    pub suspect: bool,
    /// Its load and the digest of its names, as it said last.
    pub load: u64,
    pub root: Option<u64>,
    /// It is about to stop: nobody is sent there.
    pub draining: bool,
    /// See [`Announce::spawned`].
    pub spawned: Option<u64>,
    /// It wants another server, and since when it says so.
    pub spawning: Option<(Spawning, Time)>,
    /// What it was told of our load last.
    pub told: Option<Announce>,
    /// It has all names before this one.
    pub has_names: u32,
    /// What it asked for, one part a stream.
    pub asked: Vec<Fetch>,
    /// Registrations it is to be sent.
    pub sync: Option<Syncing>,
    /// All names it asked for at the link's begin were told to it, and it told those that were missing here.
    pub names_told: bool,
    pub names_heard: bool,
    /// It has names that are not here, and is asked when another one has sent its own.
    pub names_wait: bool,
    /// Then it was told of all sessions.
    pub sessions_told: bool,
}

impl Peer {
    /// True while it is not waited for.
    pub fn is_stalled(&self) -> bool {
        self.acked < self.caught_up_at
    }

    /// A peer whose link was just proven.
    pub fn new(link: LinkId, server: ServerId, dialled: bool, now: Time) -> Peer {
        Peer {
            link,
            server,
            dialled,
            stream: None,
            frontier_told: false,
            holds: Vector::NOTHING,
            synced: false,
            out: Vec::new(),
            at: 0,
            next: u64::MAX,
            acked: 0,
            ack_owed: false,
            caught_up_at: 0,
            heard_at: now,
            suspect: false,
            load: 0,
            root: None,
            draining: false,
            spawned: None,
            spawning: None,
            told: None,
            has_names: 0,
            asked: Vec::new(),
            sync: None,
            names_told: false,
            names_heard: false,
            names_wait: false,
            sessions_told: false,
        }
    }
}

impl Node {
    /// A peer that has something to be sent and takes it.
    pub(super) fn writable_peer(&mut self) -> Option<LinkId> {
        if !self.mesh.dirty {
            return None;
        }
        for slot in 0..self.mesh.peers.capacity() {
            let Some(peer) = self.mesh.peers.get(slot) else { continue };
            let link = peer.link;
            if self.link(link).is_none_or(|link| link.blocked || link.phase != Phase::Peer) {
                continue;
            }
            self.fill(PeerId(slot as u32));
            if self.mesh.peers.get(slot).is_some_and(|peer| peer.at < peer.out.len()) {
                return Some(link);
            }
        }
        self.mesh.dirty = false;
        None
    }

    /// Makes bytes ready for a peer: what is missing of our stream, then what it asked for.
    fn fill(&mut self, peer_id: PeerId) {
        let is_short = |peer: &Peer| peer.out.len() - peer.at < PEER_OUT_BYTES / 4;
        if !self.mesh.peers.get(peer_id.0 as usize).is_some_and(is_short) {
            return;
        }
        self.fill_sync(peer_id);
        let Node { mesh, relay, delivery, .. } = self;
        let Some(peer) = mesh.peers.get_mut(peer_id.0 as usize) else { return };
        peer.out.drain(..peer.at);
        peer.at = 0;
        let Some(stream) = peer.stream else { return };
        if std::mem::take(&mut peer.ack_owed) {
            let before = peer.out.len();
            frame::ack(&mut peer.out, relay.held_of(stream));
            mesh.sent.count(Kind::Ack, peer.out.len() - before);
        }
        let missing =
            relay.write(&delivery.feed, &mut peer.out, &mut peer.next, &mut peer.asked, &mut mesh.sent);
        if let Some(at) = missing {
            self.ask_disk(at, None);
        }
    }

    /// The bytes ready for this peer.
    pub(super) fn peer_bytes(&self, peer_id: PeerId) -> &[u8] {
        self.mesh.get(peer_id).map_or(&[], |peer| &peer.out[peer.at..])
    }

    /// The shell took `n` of them.
    pub(super) fn peer_sent(&mut self, peer_id: PeerId, n: usize) {
        self.counters.peer_sent_bytes += n as u64;
        self.counters.peer_sends += 1;
        if let Some(peer) = self.mesh.get_mut(peer_id) {
            peer.at = (peer.at + n).min(peer.out.len());
            if peer.at == peer.out.len() {
                peer.out.clear();
                peer.at = 0;
                peer.out.shrink_to(2 * PEER_OUT_BYTES);
            }
        }
    }
}
