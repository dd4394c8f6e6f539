//! Connecting to other servers: names, their addresses one after the other, and what says that none is
//! there. The node decides whom and when, and gives up after its own time.

use std::collections::VecDeque;
use std::io;

use mio::{Interest, Token};

use super::conn::{Conn, find};
use super::lookup::{self, Found, Lookup};
use super::noise::Tunnel;
use super::peers::{Dial, Peer};
use super::{Server, listen};
use crate::base::id::LinkId;
use crate::base::limits::DIAL_ADDRESS;
use crate::base::time::Time;

impl Server {
    /// Begins to connect to another server.
    pub(super) fn dial(&mut self, link: LinkId, hostname: &str, port: u16, hello: Vec<u8>) {
        let dial = Dial { hello, addresses: VecDeque::new(), until: None, error: None };
        self.peers.all.insert(link, Peer::new(format!("{hostname}:{port}"), Some(dial)));
        if let Some(addresses) = lookup::plain(hostname, port) {
            return self.found(link, Ok(addresses));
        }
        let asked = match &mut self.peers.lookup {
            Some(lookup) => lookup.ask(link, hostname, port),
            none => Lookup::new(&self.peers.waker)
                .and_then(|lookup| none.insert(lookup).ask(link, hostname, port)),
        };
        if let Err(e) = asked {
            self.found(link, Err(e));
        }
    }

    /// Names were looked up.
    pub(super) fn take_lookups(&mut self) {
        while let Some((link, found)) = self.peers.lookup.as_mut().and_then(Lookup::take) {
            self.found(link, found);
        }
    }

    fn found(&mut self, link: LinkId, found: Found) {
        let Some(dial) = self.peers.all.get_mut(&link).and_then(|peer| peer.dial.as_mut()) else { return };
        match found {
            Ok(addresses) => dial.addresses = addresses.into(),
            Err(e) => dial.error = Some(e),
        }
        self.try_next(link);
    }

    /// Tries the next address. If there is none left, nobody is there.
    fn try_next(&mut self, link: LinkId) {
        self.take_conn(link);
        loop {
            let now = self.now;
            let Some(dial) = self.peers.all.get_mut(&link).and_then(|peer| peer.dial.as_mut()) else {
                return;
            };
            let Some(address) = dial.addresses.pop_front() else { break };
            match listen::dial(address) {
                Ok(mut stream) => {
                    dial.until = (!dial.addresses.is_empty()).then(|| now + DIAL_ADDRESS);
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    let token = Token(link.pack() as usize);
                    if let Err(e) = self.poll.registry().register(&mut stream, token, interest) {
                        dial.error = Some(e);
                        continue;
                    }
                    let mut conn = Conn::new(link.generation, stream);
                    (conn.peer, conn.watched) = (true, true);
                    return self.put_conn(link, conn);
                }
                Err(e) => dial.error = Some(e),
            }
        }
        self.unreachable(link);
    }

    fn unreachable(&mut self, link: LinkId) {
        self.explain(link, "dial", |peer| {
            let error = peer.dial.as_ref().and_then(|dial| dial.error.as_ref());
            let why = error.map_or("its name has no address".to_owned(), ToString::to_string);
            format!("no server at {}: {why}; it is tried again", peer.label)
        });
        self.drop_conn(link);
    }

    /// A socket that is connecting has something to say.
    pub(super) fn on_connect(&mut self, link: LinkId) {
        let Some(conn) = self.conn(link) else { return };
        let error = match conn.stream.take_error() {
            Ok(None) => match conn.stream.peer_addr() {
                Ok(_) => return self.connected(link),
                // Not yet.
                Err(e) if e.kind() == io::ErrorKind::NotConnected => return,
                Err(e) => e,
            },
            Ok(Some(e)) | Err(e) => e,
        };
        if let Some(dial) = self.peers.all.get_mut(&link).and_then(|peer| peer.dial.as_mut()) {
            dial.error = Some(error);
        }
        self.try_next(link);
    }

    fn connected(&mut self, link: LinkId) {
        let Some(peer) = self.peers.all.get_mut(&link) else { return };
        let Some(dial) = peer.dial.take() else { return };
        peer.tunnel = Some(Tunnel::dial(&self.peers.credentials, &dial.hello));
        if let Some(conn) = self.conn(link) {
            conn.readable = true;
        }
        self.pump_peer(link);
    }

    /// Addresses that had their time.
    pub(super) fn on_slow_addresses(&mut self) {
        let now = self.now;
        let is_due = |peer: &Peer| peer.dial.as_ref().and_then(|dial| dial.until).is_some_and(|at| at <= now);
        let due: Vec<LinkId> =
            self.peers.all.iter().filter(|(_, peer)| is_due(peer)).map(|(link, _)| *link).collect();
        for link in due {
            log::debug!("link {link}: trying another address");
            self.try_next(link);
        }
    }

    /// When the next address has had its time.
    pub(super) fn next_slow_address(&self) -> Option<Time> {
        self.peers.all.values().filter_map(|peer| peer.dial.as_ref()?.until).min()
    }

    /// A link that was dialled is closed and nobody has said why: the other end was silent.
    pub(super) fn explain_silence(&mut self, link: LinkId) {
        if self.peers.all.get(&link).is_none_or(|peer| !peer.dialled || peer.joined) {
            return;
        }
        self.explain(link, "silence", |peer| match &peer.dial {
            None => format!("{} took the connection and does not answer as a server does", peer.label),
            Some(_) => format!("no answer from {}; it is tried again", peer.label),
        });
    }

    /// What was dialled is this server: its other end is here, too, and need not wonder why it closes.
    pub(super) fn met_itself(&mut self, link: LinkId) {
        let near = find(&mut self.conns, link).and_then(|conn| conn.stream.local_addr().ok());
        for (other, peer) in &mut self.peers.all {
            let far = find(&mut self.conns, *other).and_then(|conn| conn.stream.peer_addr().ok());
            peer.explained |= far.is_some() && far == near;
        }
    }
}
