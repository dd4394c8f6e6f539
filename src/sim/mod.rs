//! Floor 4: a shell without sockets, for tests, benches and the fuzzer: the same [`Node`], a clock that
//! moves when told to, and connections whose kernels are under the test's control.
//!
//! Everything it does follows from its calls, so a run repeats exactly.

mod balance;
mod cluster;
mod conversation;
mod disk;
mod drain;
mod excuses;
mod faults;
mod hearing;
mod host;
mod ids;
mod judge;
mod ledger;
mod links;
mod names;
mod network;
mod pipe;
mod promises;
mod schedule;
mod spawn;
mod swarm;
mod turn;
mod user;
mod workload;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

pub use cluster::{Options, Outcome, Violation, run};
pub use conversation::check_line;
pub use swarm::{Class, Classes, Swarm};
pub use turn::hash;

use crate::base::id::LinkId;
use crate::base::limits::Limits;
use crate::base::time::Time;
use crate::node::{Action, HashJob, Input, Node, Reading, Seeds};
use crate::wire::line::{Lines, Split};

/// One connection as the kernels at both ends would have it.
#[derive(Debug, Default)]
pub struct Socket {
    /// Everything the server wrote so far.
    pub written: Vec<u8>,
    /// How much of `written` the test has looked at.
    seen: usize,
    /// How much of `written` the client's kernel acknowledged, where it does not do so at once.
    pub acknowledged: Option<usize>,
    /// How many more bytes the kernel takes; none means any number.
    pub room: Option<usize>,
    /// The kernel is retransmitting unanswered.
    pub stalled: bool,
    /// The server shut its side.
    pub shut: bool,
    /// The server closed the socket, or it broke.
    pub closed: bool,
    lines: Lines,
    arrived: Vec<u8>,
    ended: bool,
}

impl Socket {
    fn unacknowledged(&self) -> u64 {
        self.acknowledged.map_or(0, |n| self.written.len() - n.min(self.written.len())) as u64
    }
}

/// One node, its connections and its clock.
pub struct World {
    /// The node under test.
    pub node: Node,
    /// What time it is.
    pub now: Time,
    /// Every connection there ever was.
    pub sockets: BTreeMap<LinkId, Socket>,
    /// Jobs wait here instead of being done at once.
    pub hold_hashes: bool,
    /// The jobs that wait.
    pub jobs: Vec<HashJob>,
}

impl World {
    /// A node with nobody connected, at the start of time.
    pub fn new(limits: Limits) -> World {
        let seeds = Seeds::fixed(1);
        World {
            node: Node::new(limits, &seeds),
            now: Time::START,
            sockets: BTreeMap::new(),
            hold_hashes: false,
            jobs: Vec::new(),
        }
    }

    /// A client connects from 127.0.0.1.
    pub fn connect(&mut self) -> LinkId {
        self.connect_from(Ipv4Addr::LOCALHOST.into())
    }

    /// A client connects.
    pub fn connect_from(&mut self, address: IpAddr) -> LinkId {
        let link = self.node.connect(self.now, address);
        self.sockets.insert(link, Socket::default());
        link
    }

    /// The connection's socket.
    pub fn socket(&mut self, link: LinkId) -> &mut Socket {
        self.sockets.entry(link).or_default()
    }

    /// Bytes from the client reach the server's kernel; they are read in the next turn.
    pub fn arrive(&mut self, link: LinkId, bytes: &[u8]) {
        self.socket(link).arrived.extend_from_slice(bytes);
    }

    /// The client says these bytes and the server has a turn.
    pub fn send(&mut self, link: LinkId, bytes: &[u8]) {
        self.arrive(link, bytes);
        self.turn();
    }

    /// The client ends its side and the server has a turn.
    pub fn end(&mut self, link: LinkId) {
        self.socket(link).ended = true;
        self.turn();
    }

    /// The connection breaks, what was not acknowledged is lost, and the server has a turn.
    pub fn cut(&mut self, link: LinkId) {
        self.close(link);
        self.turn();
    }

    /// What the server wrote since the last call.
    pub fn heard(&mut self, link: LinkId) -> String {
        let socket = self.socket(link);
        let from = std::mem::replace(&mut socket.seen, socket.written.len());
        String::from_utf8_lossy(&socket.written[from..]).into_owned()
    }

    /// The kernel takes so many more bytes of this connection (none: any number).
    pub fn make_room(&mut self, link: LinkId, room: Option<usize>) {
        self.socket(link).room = room;
        self.node.unblocked(link);
        self.turn();
    }

    /// Time passes, with a turn at every deadline on the way.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        loop {
            self.turn();
            match self.node.timeout(self.now) {
                Some(wait) if self.now + wait <= until => self.now = self.now + wait,
                _ => break,
            }
        }
        self.now = until;
        self.turn();
    }

    /// Tells the node to stop.
    pub fn stop(&mut self) {
        self.node.handle(self.now, Input::Stop);
        self.turn();
    }

    /// Turns of the loop, as [`crate::node`] describes them, until the node would sleep.
    pub fn turn(&mut self) {
        self.turn_once();
        while self.node.timeout(self.now) == Some(Duration::ZERO) {
            self.turn_once();
        }
    }

    fn turn_once(&mut self) {
        self.node.handle(self.now, Input::Time);
        let links: Vec<LinkId> = self.sockets.keys().copied().collect();
        for link in links {
            self.read(link);
        }
        self.actions();
        loop {
            self.flush();
            if !self.actions() {
                break;
            }
        }
    }

    /// Does the jobs that wait.
    pub fn hash(&mut self) {
        for job in std::mem::take(&mut self.jobs) {
            self.node.handle(self.now, Input::Hashed(job.link, hash(&job)));
        }
        self.turn();
    }

    fn actions(&mut self) -> bool {
        let mut any = false;
        while let Some(action) = self.node.action() {
            any = true;
            match action {
                Action::Hash(job) if self.hold_hashes => self.jobs.push(job),
                Action::Hash(job) => self.node.handle(self.now, Input::Hashed(job.link, hash(&job))),
                Action::Settle { session, errand } => {
                    self.read(session);
                    let socket = self.socket(session);
                    let (unacknowledged, stalled) = (socket.unacknowledged(), socket.stalled);
                    let input = Input::Settled { session, errand, unacknowledged, stalled };
                    self.node.handle(self.now, input);
                }
                Action::Resume(link) => self.read(link),
                Action::Shutdown(link) => {
                    self.socket(link).shut = true;
                    self.read(link);
                }
                Action::Close(link) => self.close(link),
                Action::Read { .. } | Action::Commit { .. } => {}
                Action::Measure(session) => {
                    let unacknowledged = self.socket(session).unacknowledged();
                    self.node.handle(self.now, Input::Confirmed { session, unacknowledged });
                }
                Action::ResumeAll => {
                    self.sockets
                        .keys()
                        .copied()
                        .collect::<Vec<_>>()
                        .into_iter()
                        .for_each(|link| self.read(link));
                }
                // Servers are linked in a cluster; here there is one.
                Action::Dial { link, .. } => {
                    self.node.handle(self.now, Input::Closed { link, unacknowledged: 0 });
                }
                Action::Upgrade { link, .. } => self.node.handle(self.now, Input::Unproven(link)),
                Action::Spawn { .. } | Action::Retire => {}
            }
        }
        any
    }

    fn read(&mut self, link: LinkId) {
        let World { node, sockets, now, .. } = self;
        let Some(socket) = sockets.get_mut(&link).filter(|socket| !socket.closed) else { return };
        let chunk = std::mem::take(&mut socket.arrived);
        let mut chunk = &chunk[..];
        loop {
            match node.reading(link) {
                Reading::Hold => return socket.arrived.extend_from_slice(chunk),
                Reading::Prove | Reading::Frames(_) | Reading::Discard => {
                    socket.lines.reset(0);
                    break;
                }
                Reading::Take(limit) => {
                    match socket.lines.feed(chunk, limit, |line| node.line(*now, link, line)) {
                        Split::Dry => break,
                        Split::Stopped => chunk = &[],
                        Split::Overlong => node.handle(*now, Input::Overlong(link)),
                    }
                }
            }
        }
        if socket.ended {
            node.handle(*now, Input::Eof(link));
        }
    }

    fn flush(&mut self) {
        while let Some(link) = self.node.writable() {
            let transmit = self.node.transmit(link);
            let socket = self.sockets.entry(link).or_default();
            let offered = transmit.bytes();
            let n = socket.room.map_or(offered, |room| room.min(offered));
            let bytes = transmit.parts.iter().copied().flatten().take(n);
            socket.written.extend(bytes);
            socket.room = socket.room.map(|room| room - n);
            self.node.sent(link, n);
            if n < offered {
                self.node.blocked(link);
            }
        }
    }

    fn close(&mut self, link: LinkId) {
        let socket = self.socket(link);
        if !std::mem::replace(&mut socket.closed, true) {
            let unacknowledged = socket.unacknowledged();
            self.node.handle(self.now, Input::Closed { link, unacknowledged });
        }
    }
}
