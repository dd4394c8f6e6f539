//! One connection's socket: what is read from it, and how it is closed.

use std::io::{ErrorKind, Read};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::{Server, sys};
use crate::base::id::LinkId;
use crate::base::limits::{STALLED, TURN_LINES};
use crate::node::{Input, Reading};
use crate::wire::line::{Flow, Lines, Split};

/// The shell's part of a link: 24 bytes while it is idle.
pub(super) struct Conn {
    pub generation: u32,
    pub stream: TcpStream,
    /// Bytes read and not yet taken as lines.
    pub held: Option<Box<Lines>>,
    /// The socket may have bytes: it said so and was not read dry since.
    pub readable: bool,
    /// The client's end, or an error, is somewhere behind those bytes.
    pub hung_up: bool,
    /// `held` may have a complete line.
    pub waiting: bool,
    /// Its end was read.
    pub eof: bool,
    /// Our side is shut: a FIN counts as unacknowledged byte.
    shut: bool,
    /// The poll tells when it takes bytes. Most never refuse any, and for those that would be an event more.
    pub watched: bool,
    /// It is another server's, or may become that: the rest of it is among the peers.
    pub peer: bool,
}

const _: () = assert!(cfg!(debug_assertions) || size_of::<Option<Conn>>() <= 24);

impl Conn {
    pub fn new(generation: u32, stream: TcpStream) -> Conn {
        Conn {
            generation,
            stream,
            held: None,
            readable: false,
            hung_up: false,
            waiting: false,
            eof: false,
            shut: false,
            watched: false,
            peer: false,
        }
    }

    /// Bytes of feed and answers that the client's kernel has not acknowledged.
    fn unacknowledged(&self) -> u64 {
        sys::unacknowledged(sys::number(&self.stream)).saturating_sub(u64::from(self.shut))
    }
}

impl Server {
    /// The socket has bytes or its end.
    pub(super) fn on_readable(&mut self, link: LinkId) {
        if let Some(conn) = self.conn(link) {
            conn.readable = true;
            self.pump(link);
        }
    }

    /// Takes from a link what this turn allows: the lines it holds, then one read.
    pub(super) fn pump(&mut self, link: LinkId) {
        match self.node.reading(link) {
            Reading::Hold => {}
            Reading::Discard => self.discard(link),
            Reading::Prove | Reading::Frames(_) => self.pump_peer(link),
            Reading::Take(limit) => {
                let mut lines = 0;
                if self.conn(link).is_some_and(|conn| conn.waiting) && !self.split(link, 0, limit, &mut lines)
                {
                    return;
                }
                let Some(conn) = self.conn(link) else { return };
                if conn.eof {
                    self.node.handle(self.now, Input::Eof(link));
                } else if conn.readable
                    && let Reading::Take(limit) = self.node.reading(link)
                {
                    // Asked for again: the lines above may have logged it in, and then it may send longer ones.
                    self.read(link, limit, &mut lines);
                }
            }
        }
    }

    /// One read and its lines. What remains for later is noted in `again`.
    fn read(&mut self, link: LinkId, limit: usize, lines: &mut usize) {
        let now = self.now;
        let Some(conn) = find(&mut self.conns, link) else { return };
        let held = conn.held.as_ref().map_or(0, |lines| lines.len());
        let room = self.inflow.may_read(now, link, held);
        if room == 0 {
            return;
        }
        match conn.stream.read(&mut self.buffer[..room]) {
            Ok(0) => {
                (conn.readable, conn.eof) = (false, true);
                self.node.handle(now, Input::Eof(link));
            }
            Ok(n) => {
                // A short read emptied the socket; what comes later makes a new event.
                conn.readable = n == room || conn.hung_up;
                let more = conn.readable;
                if self.split(link, n, limit, lines) && more {
                    self.again.push(link);
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => conn.readable = false,
            Err(e) if e.kind() == ErrorKind::Interrupted => self.again.push(link),
            Err(_) => self.drop_conn(link),
        }
    }

    /// Gives the node the lines that are held or in the first `n` bytes of the buffer, [`TURN_LINES`] a turn.
    /// True when all complete ones were taken and more may come.
    fn split(&mut self, link: LinkId, n: usize, limit: usize, count: &mut usize) -> bool {
        let Server { node, conns, inflow, buffer, now, again, .. } = self;
        let Some(conn) = find(conns, link) else { return false };
        let mut lines = inflow.take(&mut conn.held);
        let split = lines.feed(&buffer[..n], limit, |line| {
            *count += 1;
            match node.line(*now, link, line) {
                Flow::Next if *count >= TURN_LINES => Flow::Pause,
                flow => flow,
            }
        });
        if split == Split::Overlong {
            node.handle(*now, Input::Overlong(link));
        }
        let reading = node.reading(link);
        if reading == Reading::Discard {
            lines.reset(0);
        }
        inflow.taken(link, lines.len());
        inflow.put(lines, &mut conn.held);
        conn.waiting = split == Split::Stopped && reading != Reading::Discard;
        if reading == Reading::Discard || (conn.waiting && matches!(reading, Reading::Take(_))) {
            again.push(link);
        }
        reading != Reading::Discard && !conn.waiting
    }

    /// Reads and forgets what comes on a closing link: closing a socket with unread bytes would reset it,
    /// and a reset can destroy the last answer on its way.
    fn discard(&mut self, link: LinkId) {
        let Some(conn) = find(&mut self.conns, link) else { return };
        self.inflow.release(link, &mut conn.held);
        if !conn.readable && !conn.eof {
            return;
        }
        match conn.stream.read(&mut self.buffer) {
            Ok(0) => {
                (conn.readable, conn.eof) = (false, true);
                self.node.handle(self.now, Input::Eof(link));
            }
            Ok(n) => {
                conn.readable = n == self.buffer.len() || conn.hung_up;
                if conn.readable {
                    self.again.push(link);
                }
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => conn.readable = false,
            Err(e) if e.kind() == ErrorKind::Interrupted => self.again.push(link),
            Err(_) => self.drop_conn(link),
        }
    }

    /// Reads a session's socket dry for a newer session of its name, and reports what hangs in it.
    pub(super) fn settle(&mut self, session: LinkId, errand: u64) {
        for _ in 0..SETTLE_READS {
            let Some(conn) = find(&mut self.conns, session) else { break };
            if self.node.reading(session) == Reading::Hold || (conn.eof && !conn.waiting) {
                break;
            }
            conn.readable = true;
            self.pump(session);
            if self.conn(session).is_none_or(|conn| !conn.readable && !conn.waiting) {
                break;
            }
        }
        let (unacknowledged, stalled) = self.conn(session).map_or((0, false), |conn| {
            (conn.unacknowledged(), sys::is_stalled(sys::number(&conn.stream), STALLED))
        });
        let input = Input::Settled { session, errand, unacknowledged, stalled };
        self.node.handle(self.now, input);
    }

    /// Counts what of a session's stream is not acknowledged.
    pub(super) fn measure(&mut self, session: LinkId) {
        let unacknowledged = self.conn(session).map_or(0, |conn| conn.unacknowledged());
        self.node.handle(self.now, Input::Confirmed { session, unacknowledged });
    }

    /// Links that were held take lines again, in the next turn: peers come first there.
    pub(super) fn resume_all(&mut self) {
        for (slot, conn) in self.conns.iter().enumerate() {
            if let Some(conn) = conn.as_ref().filter(|conn| conn.readable || conn.waiting) {
                self.again.push(LinkId { slot: slot as u32, generation: conn.generation });
            }
        }
    }

    /// The socket took less than it was offered.
    pub(super) fn block(&mut self, link: LinkId) {
        self.node.blocked(link);
        let Some(conn) = find(&mut self.conns, link).filter(|conn| !conn.watched) else { return };
        conn.watched = true;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(link.pack() as usize);
        if let Err(e) = self.poll.registry().reregister(&mut conn.stream, token, interest) {
            log::warn!("link {link}: cannot be watched: {e}");
            self.drop_conn(link);
        }
    }

    /// Shuts our side of the connection.
    pub(super) fn shut(&mut self, link: LinkId) {
        if self.peers.all.get(&link).is_some_and(|peer| !peer.joined) {
            return self.drop_conn(link);
        }
        if !self.write_peer(link)
            && let Some(peer) = self.peers.all.get_mut(&link)
        {
            // What it is still to be told goes first.
            peer.to_shut = true;
            return;
        }
        let Some(conn) = find(&mut self.conns, link) else { return };
        conn.shut = true;
        // An error means that the connection is gone already; reading will say so.
        let _ = conn.stream.shutdown(Shutdown::Write);
        self.again.push(link);
    }

    /// Closes the socket and tells the node what did not arrive.
    pub(super) fn drop_conn(&mut self, link: LinkId) {
        self.explain_silence(link);
        let peer = self.peers.all.remove(&link);
        let conn = self.take_conn(link);
        if conn.is_none() && peer.is_none() {
            return;
        }
        let unacknowledged = conn.as_ref().map_or(0, |conn| conn.unacknowledged());
        if conn.is_some() && !peer.is_some_and(|peer| peer.is_reserved()) {
            self.open -= 1;
        }
        drop(conn);
        self.node.handle(self.now, Input::Closed { link, unacknowledged });
    }

    /// Takes the connection of this link, if it is still there.
    pub(super) fn take_conn(&mut self, link: LinkId) -> Option<Conn> {
        let place = self.conns.get_mut(link.slot as usize)?;
        let mut conn = place.take_if(|conn| conn.generation == link.generation)?;
        self.inflow.release(link, &mut conn.held);
        Some(conn)
    }

    /// Puts a socket where the node wants this link.
    pub(super) fn put_conn(&mut self, link: LinkId, conn: Conn) {
        let slot = link.slot as usize;
        if slot >= self.conns.len() {
            self.conns.resize_with(slot + 1, || None);
        }
        self.conns[slot] = Some(conn);
    }

    pub(super) fn conn(&mut self, link: LinkId) -> Option<&mut Conn> {
        find(&mut self.conns, link)
    }
}

/// Reads of one older session before its newer one goes on anyway: 1 MiB, more than a receive buffer has
/// unless its client keeps on writing.
const SETTLE_READS: usize = 16;

/// The connection of this link, if it is still there.
pub(super) fn find(conns: &mut [Option<Conn>], link: LinkId) -> Option<&mut Conn> {
    conns.get_mut(link.slot as usize)?.as_mut().filter(|conn| conn.generation == link.generation)
}
