//! Floor 4: the mio server, the shell that drives a [`Node`] with real sockets and a real clock.
//!
//! One thread, one loop; every system call of the server is on this floor. The only other threads hash
//! passwords and look up names. A turn is the one that [`crate::node`] describes; peers come before clients.

mod conn;
mod dial;
pub mod group;
mod http;
mod inflow;
mod keep;
mod listen;
mod lookup;
pub mod metrics;
pub mod noise;
mod notify;
mod options;
mod pages;
mod peers;
mod pool;
pub mod secret;
mod signals;
pub(crate) mod spawn;
pub(crate) mod sys;

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;

pub use keep::Keep;
pub use listen::Bind;
use options::seeds;
pub use options::{Options, StartError};
pub use spawn::Spawn;

use crate::base::id::LinkId;
use crate::base::limits::{Limits, RESERVED_DESCRIPTORS, TURN_READ_BYTES, TURN_WRITES};
use crate::base::time::Time;
use crate::node::{Action, Histogram, Input, Node};
use crate::store::Request;
use conn::{Conn, find};
use http::Http;
use inflow::Inflow;
use keep::{Disk, wall};
use noise::Credentials;
use pages::Figures;
use peers::Peers;
use pool::Pool;
use secret::Keys;
use signals::report;
use spawn::Spawner;

const WAKER: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
/// Listeners count down from here. No link has such a token: its slot would be above two thousand million.
const LISTENER: usize = usize::MAX - 2;

/// More than there ever are.
const LISTENERS_MAX: usize = 8;
/// The status pages' listener; their connections count down from there.
const HTTP: usize = LISTENER - LISTENERS_MAX;

const _: () = assert!(usize::BITS == 64, "a token holds a slot and a generation");

struct Listener {
    socket: TcpListener,
    /// Connections may be waiting to be accepted.
    knocking: bool,
}

/// A running server.
pub struct Server {
    node: Node,
    poll: Poll,
    listeners: Vec<Listener>,
    http: Option<Http>,
    /// What its pages say of the node, and when that was so.
    figures: Figures,
    signals: Signals,
    pool: Pool,
    disk: Option<Disk>,
    /// By slot, as the node gives them.
    conns: Vec<Option<Conn>>,
    open: usize,
    open_max: usize,
    /// Not before then, because the machine is out of something.
    accept_from: Time,
    peers: Peers,
    inflow: Inflow,
    /// The one read buffer.
    buffer: Box<[u8]>,
    /// Links with more to read or to take than their last turn allowed, and those whose turn it is.
    again: Vec<LinkId>,
    resumed: Vec<LinkId>,
    start: Instant,
    /// The time of this turn.
    now: Time,
    /// How long turns took.
    turns: Histogram,
    stop_by: Option<Time>,
    /// Until then a signal to stop is the one before.
    deaf_until: Time,
    drain: Duration,
    spawner: Option<Spawner>,
    /// It ends because it is not needed, and leaves nothing behind.
    retires: bool,
    /// Reads the limits anew.
    reload: Option<Reload>,
}

/// Reads the limits anew; with none they stay. It says itself what it found.
pub type Reload = Box<dyn FnMut() -> Option<Limits>>;

impl Server {
    /// Opens the listeners, gets the cluster secret and starts the threads. Nobody is served before
    /// [`Server::run`].
    ///
    /// # Errors
    /// The text says what to do. Nothing is left behind but, perhaps, a secret that was made.
    pub fn new(options: &Options) -> Result<Server, StartError> {
        sys::return_big_blocks();
        let descriptors = sys::raise_descriptors()?;
        let open_max = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(16) as usize;
        log::info!("descriptor limit {descriptors}: up to {open_max} connections");
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut listeners = Vec::new();
        let listen = |port, shared| {
            let opened = listen::open(options.bind, port, shared);
            opened.map_err(|error| StartError::Listen(options.bind, port, error))
        };
        let mut sockets = listen(options.port, false)?;
        let port =
            sockets.first().map_or(Ok(options.port), |first| first.local_addr().map(|at| at.port()))?;
        if let Some(port) = options.shared_port {
            sockets.extend(listen(port, true)?);
        }
        for (i, mut socket) in sockets.into_iter().enumerate() {
            poll.registry().register(&mut socket, Token(LISTENER - i), Interest::READABLE)?;
            listeners.push(Listener { socket, knocking: false });
        }
        let http =
            options.http.map(|at| Http::open(at, poll.registry()).map_err(|e| StartError::Http(at, e)));
        let http = http.transpose()?;
        let secret = options.secret.obtain(options.join.is_some()).map_err(StartError::Secret)?;
        let keys = Keys::derive(&secret).map_err(StartError::Secret)?;
        let credentials = Credentials::new(&keys).map_err(StartError::Secret)?;
        let spawner = Spawner::new(options, port, secret, &waker);
        let mut node = Node::new(options.limits.clone(), &seeds(&keys, &credentials)?);
        log::info!("this is server {} at {}:{port}", credentials.id, options.hostname);
        node.introduce(&options.hostname, port);
        node.set_wall(wall());
        let keep = options
            .keep
            .as_ref()
            .map(|keep| Keep { folder: keep.folder.join(port.to_string()), ..keep.clone() });
        let opened = keep.map(|keep| Disk::open(&keep, &mut node, waker.clone())).transpose();
        let disk = opened.map_err(StartError::Store)?;
        if let Some((hostname, port)) = &options.join {
            node.join(Time::START, hostname, *port);
        }
        Ok(Server {
            node,
            poll,
            listeners,
            http,
            figures: Figures::default(),
            signals,
            pool: Pool::new(options.limits.hash_threads, &waker)?,
            disk,
            conns: Vec::new(),
            open: 0,
            open_max,
            accept_from: Time::START,
            peers: Peers::new(credentials, waker),
            inflow: Inflow::default(),
            buffer: vec![0; TURN_READ_BYTES].into_boxed_slice(),
            again: Vec::new(),
            resumed: Vec::new(),
            start: Instant::now(),
            now: Time::START,
            turns: Histogram::default(),
            stop_by: None,
            deaf_until: Time::START,
            drain: options.limits.drain,
            spawner,
            retires: false,
            reload: None,
        })
    }

    /// The addresses it listens on.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.socket.local_addr().ok())
    }

    /// At SIGHUP its bounds are read anew so.
    pub fn on_reload(&mut self, reload: Reload) {
        self.reload = Some(reload);
    }

    /// Serves until SIGTERM or SIGINT.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        notify::tell("READY=1");
        while self.stop_by.is_none_or(|by| self.is_busy() && self.now < by) {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(e) if e.kind() != ErrorKind::Interrupted => return Err(e),
                _ => {}
            }
            self.turn(&events);
            self.turns.add(self.clock().since(self.now), 1);
        }
        report(self.node.counters());
        self.leave_nothing();
        Ok(())
    }

    /// Somebody is still connected, or something is on its way to the disk.
    fn is_busy(&self) -> bool {
        self.node.links() > 0 || self.node.is_draining() || !self.node.is_kept()
    }

    fn turn(&mut self, events: &Events) {
        self.now = self.clock();
        self.peers.start_turn();
        self.node.set_wall(wall());
        self.node.handle(self.now, Input::Time);
        std::mem::swap(&mut self.again, &mut self.resumed);
        let mut resumed = std::mem::take(&mut self.resumed);
        for peers in [true, false] {
            for link in &resumed {
                if self.is_peer(*link) == peers {
                    self.pump(*link);
                }
            }
            for event in events {
                if self.is_peer(LinkId::unpack(event.token().0 as u64)) == peers {
                    self.on_event(event);
                }
            }
        }
        resumed.clear();
        self.resumed = resumed;
        self.on_slow_addresses();
        self.turn_of_disk();
        if self.stop_by.is_some() && !self.node.is_draining() {
            self.listeners.clear();
        }
        self.accept();
        self.turn_of_long_lines();
        self.actions();
        loop {
            self.flush();
            if !self.actions() {
                break;
            }
        }
        self.node.flushed(self.clock());
        self.turn_of_http();
    }

    fn on_event(&mut self, event: &Event) {
        match event.token() {
            WAKER => {
                while let Some((link, hashed)) = self.pool.take() {
                    self.node.handle(self.now, Input::Hashed(link, hashed));
                }
                self.take_lookups();
                self.take_failed_spawns();
            }
            SIGNALS => self.on_signals(),
            Token(n) if n > LISTENER - LISTENERS_MAX => {
                if let Some(listener) = self.listeners.get_mut(LISTENER - n) {
                    listener.knocking = true;
                }
            }
            Token(HTTP) => self.on_http_knock(),
            token if Http::place(token).is_some() => self.on_http(token),
            Token(n) => {
                let link = LinkId::unpack(n as u64);
                if self.is_peer(link) {
                    return self.on_peer_event(link, event);
                }
                if event.is_writable() {
                    self.node.unblocked(link);
                }
                if event.is_read_closed() || event.is_error() {
                    if let Some(conn) = self.conn(link) {
                        conn.hung_up = true;
                    }
                    self.on_readable(link);
                } else if event.is_readable() {
                    self.on_readable(link);
                }
            }
        }
    }

    /// Does what the node wants. False if there was nothing.
    fn actions(&mut self) -> bool {
        let mut any = false;
        while let Some(action) = self.node.action() {
            any = true;
            match action {
                Action::Hash(job) => self.pool.give(job),
                Action::Settle { session, errand } => self.settle(session, errand),
                Action::Resume(link) => self.pump(link),
                Action::Read { offset, length } => {
                    self.ask_disk(Request::Read { ticket: offset, offset, length });
                }
                Action::Commit { ticket, rows } => self.ask_disk(Request::Commit { ticket, rows }),
                Action::Shutdown(link) => self.shut(link),
                Action::Close(link) => self.drop_conn(link),
                Action::Measure(session) => self.measure(session),
                Action::ResumeAll => self.resume_all(),
                Action::Dial { link, hostname, port, hello } => self.dial(link, &hostname, port, hello),
                Action::Upgrade { link, hello } => self.upgrade(link, hello),
                Action::Spawn { ticket } => self.spawn(ticket),
                Action::Retire => self.retire(),
            }
        }
        any
    }

    /// Writes to every link that is owed something and takes it; if those are more than a turn's, to the others in
    /// the next.
    fn flush(&mut self) {
        self.append();
        for _ in 0..TURN_WRITES {
            let Some(link) = self.node.writable() else { return };
            let Some(conn) = find(&mut self.conns, link) else {
                self.node.handle(self.now, Input::Closed { link, unacknowledged: 0 });
                continue;
            };
            if conn.peer {
                self.flush_peer(link);
                continue;
            }
            let transmit = self.node.transmit(link);
            let written = if transmit.parts[1].is_empty() {
                conn.stream.write(transmit.parts[0])
            } else {
                conn.stream.write_vectored(&transmit.parts.map(IoSlice::new))
            };
            let offered = transmit.bytes();
            match written {
                Ok(n) => {
                    self.node.sent(link, n);
                    if n < offered {
                        self.block(link);
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.block(link),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.drop_conn(link),
            }
        }
    }

    fn turn_of_long_lines(&mut self) {
        if let Some(link) = self.inflow.late(self.now) {
            self.node.handle(self.now, Input::TooSlow(link));
            self.again.push(link);
        }
        while let Some(link) = self.inflow.next() {
            self.pump(link);
        }
    }

    /// How long the loop may sleep.
    fn timeout(&self) -> Option<Duration> {
        let now = self.clock();
        let accepts = self.open < self.open_max && self.listeners.iter().any(|listener| listener.knocking);
        if !self.again.is_empty() || self.inflow.is_free() || (accepts && self.accept_from <= now) {
            return Some(Duration::ZERO);
        }
        let accept = accepts.then_some(self.accept_from);
        let disk = self.disk.as_ref().map(Disk::deadline);
        let http = self.figures.deadline().or_else(|| self.http.as_ref()?.deadline());
        let deadlines = [self.inflow.deadline(), self.stop_by, accept, disk, http, self.next_slow_address()];
        let deadlines = deadlines.into_iter().flatten();
        deadlines.map(|at| at.since(now)).chain(self.node.timeout(now)).min()
    }

    fn clock(&self) -> Time {
        Time::from_start(self.start.elapsed())
    }
}
