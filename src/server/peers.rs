//! Links to other servers: their sockets, what proves them and hides what they say.
//!
//! A peer's socket lies among the connections like any other; what only peers need is here, by link. An
//! entry is there from the dialling, or the first line, until the socket is closed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Waker;
use mio::event::Event;

use super::conn::find;
use super::lookup::Lookup;
use super::noise::{Came, Credentials, Tunnel, Unproven};
use super::{Server, listen};
use crate::base::id::{LinkId, ServerId};
use crate::base::limits::{HANDSHAKES_MAX, PEER_OUT_BYTES, PEER_TURN_BYTES, QUIET, QUIET_MAX, TURN_PROOFS};
use crate::base::time::Time;
use crate::node::{Input, Node, Reading};
use crate::wire::frame::{BadFrame, Frames};
use crate::wire::line::Flow;

/// A link to another server, or one that may become that.
pub(super) struct Peer {
    /// Whom we mean, for the log: the address that was dialled, or that it came from.
    pub label: String,
    pub dialled: bool,
    /// The node was told that it is proven.
    pub joined: bool,
    /// The log says why it is no peer.
    pub explained: bool,
    /// Until there is a connection.
    pub dial: Option<Dial>,
    /// The first line, and what came behind it, until that is looked at.
    hello: Option<(Box<[u8]>, Vec<u8>)>,
    pub tunnel: Option<Tunnel>,
    frames: Frames,
    /// A frame was not taken yet.
    waiting: bool,
    /// Our side is to be shut when all is written.
    pub to_shut: bool,
}

/// What a dialled link needs until it is connected.
pub(super) struct Dial {
    pub hello: Vec<u8>,
    /// Addresses not yet tried.
    pub addresses: VecDeque<SocketAddr>,
    /// When the next of them is tried although nothing failed.
    pub until: Option<Time>,
    /// What the last address said.
    pub error: Option<io::Error>,
}

impl Peer {
    pub fn new(label: String, dial: Option<Dial>) -> Peer {
        let dialled = dial.is_some();
        Peer {
            label,
            dialled,
            joined: false,
            explained: false,
            dial,
            hello: None,
            tunnel: None,
            frames: Frames::default(),
            waiting: false,
            to_shut: false,
        }
    }

    /// Its socket is one of those kept back for servers.
    pub fn is_reserved(&self) -> bool {
        self.dialled || self.joined
    }
}

/// All of them, and who this server is to them.
pub(super) struct Peers {
    pub all: BTreeMap<LinkId, Peer>,
    pub credentials: Credentials,
    /// Started when the first name is to be looked up.
    pub lookup: Option<Lookup>,
    pub waker: Arc<Waker>,
    /// Links whose proof may be looked at in this turn.
    pub proofs_left: usize,
    /// Bytes that are still read from any of them in this turn.
    pub bytes_left: usize,
    quiet: BTreeMap<(&'static str, String), Time>,
}

impl Peers {
    pub fn new(credentials: Credentials, waker: Arc<Waker>) -> Peers {
        let (all, quiet) = (BTreeMap::new(), BTreeMap::new());
        Peers { all, credentials, lookup: None, waker, proofs_left: 0, bytes_left: 0, quiet }
    }

    /// As much again is done.
    pub fn start_turn(&mut self) {
        (self.proofs_left, self.bytes_left) = (TURN_PROOFS, PEER_TURN_BYTES);
    }

    /// True when this trouble with this address was not logged lately: then it may be now.
    pub fn may_log(&mut self, now: Time, trouble: &'static str, label: &str) -> bool {
        let key = (trouble, label.to_owned());
        if self.quiet.get(&key).is_some_and(|at| now.since(*at) < QUIET) {
            return false;
        }
        if self.quiet.len() >= QUIET_MAX {
            self.quiet.retain(|_, at| now.since(*at) < QUIET);
        }
        if self.quiet.len() < QUIET_MAX {
            self.quiet.insert(key, now);
            return true;
        }
        false
    }
}

impl Server {
    /// True for a link to another server, or one that may become that.
    pub(super) fn is_peer(&mut self, link: LinkId) -> bool {
        self.conn(link).is_some_and(|conn| conn.peer)
    }

    /// A link began as a server's does: what follows its first line proves that, or not.
    pub(super) fn upgrade(&mut self, link: LinkId, hello: Box<[u8]>) {
        self.make_room();
        let Some(conn) = find(&mut self.conns, link) else { return };
        conn.peer = true;
        let rest = self.inflow.take_rest(link, &mut conn.held);
        conn.waiting = false;
        let label = conn.stream.peer_addr().map(|address| address.ip().to_canonical().to_string());
        listen::widen(&conn.stream);
        let peer = Peer { hello: Some((hello, rest)), ..Peer::new(label.unwrap_or_default(), None) };
        self.peers.all.insert(link, peer);
        self.pump_peer(link);
    }

    /// Strangers who begin proofs and never end them push out each other, not servers.
    fn make_room(&mut self) {
        let strangers = self.peers.all.iter().filter(|(_, peer)| !peer.is_reserved());
        let mut links: Vec<LinkId> = strangers.map(|(link, _)| *link).collect();
        if links.len() >= HANDSHAKES_MAX {
            links.sort_unstable_by_key(|link| link.generation);
            log::debug!("link {}: gives way to a newer proof", links[0]);
            self.drop_conn(links[0]);
        }
    }

    /// Something happened to a peer's socket.
    pub(super) fn on_peer_event(&mut self, link: LinkId, event: &Event) {
        if self.peers.all.get(&link).is_some_and(|peer| peer.dial.is_some()) {
            return self.on_connect(link);
        }
        if event.is_writable() && self.write_peer(link) {
            self.node.unblocked(link);
            if self.peers.all.get(&link).is_some_and(|peer| peer.to_shut) {
                self.shut(link);
            }
        }
        let is_over = event.is_read_closed() || event.is_error();
        if event.is_readable() || is_over {
            let Some(conn) = self.conn(link) else { return };
            conn.readable = true;
            conn.hung_up |= is_over;
            self.pump(link);
        }
    }

    /// Takes from a peer what this turn allows.
    pub(super) fn pump_peer(&mut self, link: LinkId) {
        if !self.may_prove(link) {
            return;
        }
        let mut has_read = false;
        while self.understand(link) {
            let Some(conn) = find(&mut self.conns, link).filter(|conn| conn.readable) else { return };
            // Each is read once at least: one that says very much must not have the others taken for dead.
            if std::mem::replace(&mut has_read, true) && self.peers.bytes_left == 0 {
                return self.again.push(link);
            }
            match conn.stream.read(&mut self.buffer) {
                Ok(0) => {
                    (conn.readable, conn.eof) = (false, true);
                    return self.on_peer_end(link, None);
                }
                Ok(n) => {
                    conn.readable = n == self.buffer.len() || conn.hung_up;
                    self.peers.bytes_left = self.peers.bytes_left.saturating_sub(n);
                    let peer = self.peers.all.get_mut(&link);
                    if let Some(tunnel) = peer.and_then(|peer| peer.tunnel.as_mut()) {
                        tunnel.take(&self.buffer[..n]);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => conn.readable = false,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return self.on_peer_end(link, Some(&e)),
            }
        }
    }

    /// Proofs take long to look at, so only some are in one turn; false: this one has to wait, or failed.
    fn may_prove(&mut self, link: LinkId) -> bool {
        let Some(peer) = self.peers.all.get_mut(&link).filter(|peer| !peer.joined) else { return true };
        if self.peers.proofs_left == 0 {
            self.again.push(link);
            return false;
        }
        self.peers.proofs_left -= 1;
        if let Some((hello, rest)) = peer.hello.take() {
            match Tunnel::answer(&self.peers.credentials, &hello) {
                Ok(mut tunnel) => {
                    tunnel.take(&rest);
                    peer.tunnel = Some(tunnel);
                }
                Err(why) => {
                    self.unproven(link, &why);
                    return false;
                }
            }
        }
        true
    }

    /// Understands what came, as far as the node takes it. True when all was taken and more may come.
    fn understand(&mut self, link: LinkId) -> bool {
        loop {
            let Server { node, peers, now, .. } = self;
            let Some(peer) = peers.all.get_mut(&link) else { return false };
            let Some(tunnel) = peer.tunnel.as_mut() else { return false };
            let mut given = Ok(Given::All);
            if std::mem::take(&mut peer.waiting) {
                given = give(node, *now, link, &mut peer.frames, b"");
            }
            let came = if given == Ok(Given::All) { tunnel.receive() } else { Ok(Came::Nothing) };
            match came {
                // What cannot be written now is no reason not to read: else both ends might wait for ever.
                Ok(Came::Nothing) if given == Ok(Given::All) => {
                    return self.write_peer(link) || self.conn(link).is_some();
                }
                Ok(Came::Nothing) => {}
                Ok(Came::Record(record)) => given = give(node, *now, link, &mut peer.frames, record),
                Ok(Came::Proof { server, key }) => {
                    self.on_proof(link, server, key);
                    continue;
                }
                Err(why) => {
                    self.unproven(link, &why);
                    return false;
                }
            }
            match given {
                Ok(Given::All) => {}
                Ok(Given::Part) => {
                    peer.waiting = true;
                    return false;
                }
                Ok(Given::Closing) => return false,
                Err(bad) => {
                    log::warn!("link {link}: {} sent what is no frame ({bad:?})", peer.label);
                    self.drop_conn(link);
                    return false;
                }
            }
        }
    }

    /// The other end is proven to be this server.
    fn on_proof(&mut self, link: LinkId, server: ServerId, key: [u8; 32]) {
        // Its last part is told before the node is asked, which may close a link that it has no use for.
        self.write_peer(link);
        let Some(peer) = self.peers.all.get_mut(&link) else { return };
        let Some(Ok(address)) = find(&mut self.conns, link).map(|conn| conn.stream.peer_addr()) else {
            return self.drop_conn(link);
        };
        self.open -= usize::from(!peer.is_reserved());
        peer.joined = true;
        if server == self.peers.credentials.id {
            self.met_itself(link);
        }
        let address = address.ip().to_canonical();
        self.node.handle(self.now, Input::Joined { link, server, key, address });
    }

    /// The other end is no server of this network.
    fn unproven(&mut self, link: LinkId, why: &Unproven) {
        self.explain(link, "proof", |peer| format!("the server at {} is not let in: {why}", peer.label));
        self.node.handle(self.now, Input::Unproven(link));
    }

    /// The other end closed the connection, or it broke.
    fn on_peer_end(&mut self, link: LinkId, error: Option<&io::Error>) {
        let Some(peer) = self.peers.all.get(&link) else { return self.drop_conn(link) };
        if peer.tunnel.as_ref().is_some_and(Tunnel::is_unconfirmed) {
            return self.unproven(link, &Unproven::Secret);
        }
        if peer.joined && error.is_none() {
            return self.node.handle(self.now, Input::Eof(link));
        }
        if !peer.joined {
            self.explain(link, "end", |peer| {
                format!("{} closed the connection before it proved to be a server", peer.label)
            });
        }
        self.drop_conn(link);
    }

    /// Logs why a link is no peer: once a link, and seldom for an address.
    pub(super) fn explain(&mut self, link: LinkId, trouble: &'static str, why: impl FnOnce(&Peer) -> String) {
        let Some(peer) = self.peers.all.get_mut(&link) else { return };
        if std::mem::replace(&mut peer.explained, true) || self.stop_by.is_some() {
            return;
        }
        let (label, text) = (peer.label.clone(), why(peer));
        if self.peers.may_log(self.now, trouble, &label) {
            log::warn!("link {link}: {text}");
        } else {
            log::debug!("link {link}: {text}");
        }
    }

    /// Hides what the node has for a peer and writes it, up to what the socket takes.
    pub(super) fn flush_peer(&mut self, link: LinkId) {
        let Server { node, peers, .. } = self;
        let Some(tunnel) = peers.all.get_mut(&link).and_then(|peer| peer.tunnel.as_mut()) else {
            return self.drop_conn(link);
        };
        while tunnel.out().len() < PEER_OUT_BYTES {
            let text = node.transmit(link).parts[0];
            if text.is_empty() {
                break;
            }
            let n = tunnel.seal(text);
            if n == 0 {
                return self.drop_conn(link);
            }
            node.sent(link, n);
        }
        self.write_peer(link);
    }

    /// Writes what is ready for a peer. True when all of it was.
    pub(super) fn write_peer(&mut self, link: LinkId) -> bool {
        loop {
            let Some(conn) = find(&mut self.conns, link) else { return false };
            let peer = self.peers.all.get_mut(&link);
            let Some(tunnel) = peer.and_then(|peer| peer.tunnel.as_mut()) else { return false };
            if tunnel.out().is_empty() {
                return true;
            }
            match conn.stream.write(tunnel.out()) {
                Ok(n) => tunnel.written(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    self.block(link);
                    return false;
                }
                Err(e) => {
                    self.on_peer_end(link, Some(&e));
                    return false;
                }
            }
        }
    }
}

/// How far the node took frames.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    All,
    /// It wants no more for now.
    Part,
    /// It wants no more at all.
    Closing,
}

fn give(
    node: &mut Node,
    now: Time,
    link: LinkId,
    frames: &mut Frames,
    bytes: &[u8],
) -> Result<Given, BadFrame> {
    let mut last = Flow::Next;
    frames.feed(bytes, |frame| {
        last = node.frame(now, link, frame);
        last
    })?;
    Ok(match node.reading(link) {
        Reading::Frames(_) if last == Flow::Next => Given::All,
        Reading::Frames(_) => Given::Part,
        _ => Given::Closing,
    })
}
