//! Links to other servers: one each, what goes over them, and when they are given up.
//!
//! A link between servers is an ordinary link that said SERVER_HELLO, or that we dialled, and whose other
//! end the shell has proven. What is written to it is made here when its socket takes bytes, so a slow
//! peer costs no memory: control frames first, then what it has not of our stream, then what it asked for.

use std::net::IpAddr;

use slab::Slab;

use super::counters::CloseReason;
use super::digest::Digests;
use super::link::{Phase, Who};
use super::peer::Peer;
pub(super) use super::peer::PeerId;
use super::traffic::{Kind, Traffic};
use super::{Action, Node, Timer};
use crate::base::hlc::Clock;
use crate::base::id::{LinkId, ServerId, StreamId};
use crate::base::limits::{HEARTBEAT, SERVERS_MAX, SILENCE, SUSPECT, TURN_SYNC_BYTES};
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::frame::{self, Frame};
use crate::wire::line::Flow;
use crate::wire::peer::{self, Hello, PeerMessage};

/// Who a node is.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The first 16 bytes of SHA-256 of `key`.
    pub server: ServerId,
    /// The public key its links are proven with.
    pub key: [u8; 32],
    /// Drawn at random for this boot.
    pub stream: StreamId,
}

/// All linked servers, and who this one is.
#[derive(Debug)]
pub(super) struct Mesh {
    pub identity: Identity,
    pub clock: Clock,
    pub peers: Slab<Peer>,
    /// Some peer may have something to be sent.
    pub dirty: bool,
    pub beating: bool,
    pub digests: Digests,
    /// What this server holds, as FRONTIER said last.
    pub told: Vector,
    /// What was sent.
    pub sent: Traffic,
    /// Bytes of what registries lack that are still made ready in this turn.
    pub sync_left: usize,
}

impl Mesh {
    pub fn new(identity: Identity) -> Mesh {
        Mesh {
            identity,
            clock: Clock::new(identity.server),
            peers: Slab::new(),
            dirty: false,
            beating: false,
            digests: Digests::default(),
            told: Vector::NOTHING,
            sent: Traffic::default(),
            sync_left: TURN_SYNC_BYTES,
        }
    }

    pub fn get(&self, peer: PeerId) -> Option<&Peer> {
        self.peers.get(peer.0 as usize)
    }

    pub fn get_mut(&mut self, peer: PeerId) -> Option<&mut Peer> {
        self.dirty = true;
        self.peers.get_mut(peer.0 as usize)
    }

    /// All linked peers that have said hello.
    pub fn linked(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        let all = self.peers.iter().map(|(i, peer)| (PeerId(i as u32), peer));
        all.filter(|(_, peer)| peer.stream.is_some())
    }

    /// Those that are heard from, and so waited for.
    pub fn lively(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.linked().filter(|(_, peer)| !peer.suspect)
    }

    /// The linked peer whose boot this stream is.
    pub fn by_stream(&self, stream: StreamId) -> Option<PeerId> {
        self.linked().find(|(_, peer)| peer.stream == Some(stream)).map(|(id, _)| id)
    }

    pub fn by_server(&self, server: ServerId) -> Option<PeerId> {
        self.peers.iter().find(|(_, peer)| peer.server == server).map(|(i, _)| PeerId(i as u32))
    }

    /// Sends one peer a control frame.
    pub fn send(&mut self, to: PeerId, message: &PeerMessage) {
        let is_told = self.get(to).is_some_and(|peer| peer.frontier_told);
        let short = is_told.then(|| message.shortened(&self.told)).flatten();
        if let Some(peer) = self.get_mut(to) {
            let before = peer.out.len();
            frame::control(&mut peer.out, short.as_ref().unwrap_or(message));
            let bytes = peer.out.len() - before;
            self.sent.count(Kind::of(message), bytes);
        }
    }

    /// Sends one peer finished frames.
    pub fn send_bytes(&mut self, to: PeerId, bytes: &[u8]) {
        if let Some(peer) = self.get_mut(to) {
            peer.out.extend_from_slice(bytes);
        }
    }

    /// Sends all linked peers a control frame: encoded once, or once more for those that were not told yet what this
    /// server holds.
    pub fn send_all(&mut self, message: &PeerMessage) {
        match message.shortened(&self.told) {
            None => self.send_where(message, |_| true),
            Some(short) => {
                self.send_where(&short, |peer| peer.frontier_told);
                self.send_where(message, |peer| !peer.frontier_told);
            }
        }
    }

    /// The same to some of them.
    pub fn send_where(&mut self, message: &PeerMessage, mut is_one: impl FnMut(&mut Peer) -> bool) {
        let mut bytes = Vec::new();
        for (_, peer) in &mut self.peers {
            if peer.stream.is_some() && is_one(peer) {
                if bytes.is_empty() {
                    frame::control(&mut bytes, message);
                }
                peer.out.extend_from_slice(&bytes);
                self.sent.count(Kind::of(message), bytes.len());
            }
        }
        self.dirty = true;
    }

    /// There is something new for all peers.
    pub fn wake(&mut self) {
        self.dirty = !self.peers.is_empty();
    }
}

impl Node {
    /// The shell has proven who is at the other end of a link that was dialled or that said SERVER_HELLO.
    pub(super) fn on_joined(&mut self, link_id: LinkId, server: ServerId, key: [u8; 32], address: IpAddr) {
        let dialled = match self.link(link_id).map(|link| link.phase) {
            Some(Phase::Dialing) => true,
            Some(Phase::Upgrading) => false,
            _ => return,
        };
        let own = self.mesh.identity.server;
        if server == own {
            self.dialled_self(link_id);
            return self.abort(link_id, CloseReason::PeerSelf);
        }
        if let Some(other) = self.mesh.by_server(server) {
            let old = &self.mesh.peers[other.0 as usize];
            // Of two links the one that the lower id dialled stays, on both sides. Two that the same side
            // dialled mean that the older is dead.
            let keeps_old = old.dialled != dialled && old.dialled == (own < server);
            let old_link = old.link;
            if keeps_old {
                self.dial_over(link_id, Some(server));
                return self.abort(link_id, CloseReason::PeerTwice);
            }
            self.peer_down(other);
            self.abort(old_link, CloseReason::PeerTwice);
        }
        if self.mesh.peers.len() >= SERVERS_MAX {
            log::warn!("server {server:?} is one too many: a network has at most {SERVERS_MAX}");
            return self.abort(link_id, CloseReason::PeerTooMany);
        }
        let peer = Peer::new(link_id, server, dialled, self.now);
        let peer_id = PeerId(self.mesh.peers.insert(peer) as u32);
        let link = self.at_mut(link_id);
        link.phase = Phase::Peer;
        link.who = Who::Server(peer_id.0);
        link.aside = None;
        log::info!("link {link_id}: server {server:?} joined from {address}");
        self.counters.peers_joined += 1;
        self.dial_over(link_id, Some(server));
        self.learn_key(server, key, address);
        let hello = Hello {
            stream: self.mesh.identity.stream,
            clock: self.mesh.clock.draw().at,
            held: self.relay.held(),
        };
        self.mesh.send(peer_id, &PeerMessage::ServerHello(hello));
        if !std::mem::replace(&mut self.mesh.beating, true) {
            self.timers.set(self.now + HEARTBEAT, Timer::Heartbeat);
        }
    }

    /// A server's link sent one frame, without its length. [`Flow::Again`]: give it again after
    /// [`Action::Resume`].
    pub fn frame(&mut self, now: Time, link_id: LinkId, bytes: &[u8]) -> Flow {
        self.now = now;
        let Some(Who::Server(slot)) = self.link(link_id).map(|link| link.who) else { return Flow::Pause };
        let peer_id = PeerId(slot);
        self.counters.peer_bytes += bytes.len() as u64;
        if let Some(peer) = self.mesh.get_mut(peer_id) {
            let silence = now.since(std::mem::replace(&mut peer.heard_at, now));
            peer.suspect = false;
            self.counters.peers_late += u64::from(silence >= 2 * HEARTBEAT);
        }
        let why = match frame::read(bytes) {
            Ok(Frame::Data(data)) => {
                self.on_data(peer_id, &data);
                return Flow::Next;
            }
            Ok(Frame::Ack(seq)) => {
                self.on_ack(peer_id, seq);
                return Flow::Next;
            }
            Ok(Frame::Control(body)) => match peer::read(body) {
                Ok(Some(mut message)) => {
                    if let Some(peer) = self.mesh.get(peer_id) {
                        message.lengthen(&peer.holds);
                    }
                    self.on_peer_message(peer_id, message);
                    return Flow::Next;
                }
                Ok(None) => return Flow::Next,
                Err(why) => why,
            },
            Err(bad) => format!("{bad:?}"),
        };
        log::warn!("link {link_id}: a server sent a frame that cannot be read: {why}");
        self.abort(link_id, CloseReason::PeerBad);
        Flow::Pause
    }

    fn on_peer_message(&mut self, from: PeerId, message: PeerMessage) {
        let is_new = self.mesh.get(from).is_none_or(|peer| peer.stream.is_none());
        match message {
            PeerMessage::ServerHello(hello) if is_new => self.on_hello(from, &hello),
            _ if is_new => {}
            PeerMessage::ServerHello(_) | PeerMessage::Heartbeat => {}
            PeerMessage::ServerAnnounce(announce) => self.on_announce(from, announce),
            PeerMessage::ServerAuthKeyAnnouncement(servers) => self.on_servers(servers),
            PeerMessage::Fetch(fetch) => self.on_fetch(from, fetch),
            PeerMessage::FetchGone { stream, first } => self.on_fetch_gone(from, stream, first),
            PeerMessage::Frontier(frontier) => self.on_frontier(from, frontier),
            PeerMessage::SessionClaim(claim) => self.on_claim(from, claim),
            PeerMessage::SessionRelease(release) => self.on_release(from, release),
            PeerMessage::SessionUpdate(update) => self.on_update(update),
            PeerMessage::SessionTable(table) => self.on_table(from, table),
            PeerMessage::Synced => self.on_synced(from),
            PeerMessage::NewRegisterAnnouncement(announcement) => self.on_announcement(from, announcement),
            PeerMessage::RegisterReply(reply) => self.on_register_reply(from, &reply),
            PeerMessage::RegistryDigest(digest) => self.on_digest(from, &digest),
            PeerMessage::RegistryWant(want) => self.on_want(from, want),
            PeerMessage::RegistrySync(sync) => self.on_sync(from, &sync),
            PeerMessage::NameQuestion(question) => self.on_question(from, &question),
            PeerMessage::NameAnswer(answer) => self.on_answer(from, &answer),
        }
    }

    /// The link is up: from now on the peer counts.
    fn on_hello(&mut self, from: PeerId, hello: &Hello) {
        let own = self.mesh.identity.stream;
        let Some(peer) = self.mesh.get_mut(from) else { return };
        peer.stream = Some(hello.stream);
        self.mesh.clock.hear(hello.clock);
        let held = hello.held.get(own);
        self.relay_up(from, held, &hello.held);
        self.announce_to(from);
        self.tell_digest(from, false);
        if self.membership.unsynced_until.is_some() {
            self.sessions.goal.get_or_insert(hello.held.clone());
        }
        self.frontier.is_stale = true;
        self.begin_frontier();
    }

    fn on_synced(&mut self, from: PeerId) {
        if let Some(peer) = self.mesh.get_mut(from) {
            peer.synced = true;
        }
        self.in_step();
    }

    /// The link to a server is gone.
    pub(super) fn peer_down(&mut self, peer_id: PeerId) {
        let Some(peer) = self.mesh.peers.try_remove(peer_id.0 as usize) else { return };
        log::info!("link {}: server {:?} is gone", peer.link, peer.server);
        if let Some(link) = self.link_mut(peer.link) {
            link.who = Who::Nobody;
        }
        if let Some(stream) = peer.stream {
            self.home_down(stream);
            self.relay_down(peer_id);
            self.claims_peer_down(peer_id);
            self.asks_peer_down(peer_id);
            self.contests_peer_down(peer_id, true);
            self.names_came(peer_id);
        }
        self.spread.books.forget(peer.server);
        self.dial_again(peer.server, peer.draining);
    }

    /// Signs of life, and what their absence means.
    pub(super) fn on_heartbeat(&mut self) {
        let now = self.now;
        let mut silent = Vec::new();
        for (i, peer) in &mut self.mesh.peers {
            let silence = now.since(peer.heard_at);
            if silence >= SILENCE {
                silent.push(peer.link);
            } else if silence >= SUSPECT && !std::mem::replace(&mut peer.suspect, true) {
                log::info!("link {}: server {:?} is silent", peer.link, peer.server);
                self.suspected.push(PeerId(i as u32));
                self.counters.peers_suspected += 1;
            }
        }
        for link_id in silent {
            self.abort(link_id, CloseReason::PeerSilent);
        }
        while let Some(peer) = self.suspected.pop() {
            self.claims_peer_down(peer);
            self.asks_peer_down(peer);
            self.contests_peer_down(peer, false);
            self.names_came(peer);
        }
        self.mesh.send_all(&PeerMessage::Heartbeat);
        self.tell_root();
        self.expose();
        self.look_whether_to_retire();
        self.mesh.beating = !self.mesh.peers.is_empty();
        if self.mesh.beating {
            self.timers.set(self.now + HEARTBEAT, Timer::Heartbeat);
        }
    }

    /// A link that began as a client's says that it is a server's: the shell is to prove it.
    pub(super) fn upgrade(&mut self, link_id: LinkId, hello: &[u8]) -> Flow {
        let deadline = self.now + crate::base::limits::HANDSHAKE;
        self.at_mut(link_id).phase = Phase::Upgrading;
        self.timers.set(deadline, Timer::Handshake(link_id));
        self.actions.push_back(Action::Upgrade { link: link_id, hello: hello.into() });
        Flow::Pause
    }

    /// The other end of a link could not be proven: another secret, or no server at all.
    pub(super) fn on_unproven(&mut self, link_id: LinkId) {
        self.counters.peers_unproven += 1;
        self.dial_over(link_id, None);
        self.abort(link_id, CloseReason::PeerUnproven);
    }

    pub(super) fn on_handshake(&mut self, link_id: LinkId) {
        if self.link(link_id).is_some_and(|l| matches!(l.phase, Phase::Dialing | Phase::Upgrading)) {
            self.abort(link_id, CloseReason::PeerUnproven);
        }
    }
}
