//! Many clients on one poll: they log in, talk, follow redirects, and what they hear is checked.
//!
//! Invariant: a client's connection is read to its end before the next one is made, so that what it hears is in
//! the order in which it was sent.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::conn::Conn;
use super::figures::{Counts, Times};
use super::limits::{AT_ONCE, EVENTS, READ_BYTES, REASONS_MAX, TICK};
use super::plan::Plan;
use super::stamp::Stamp;
use super::tally::Tally;
use crate::client::Client;
use crate::server::sys::{Alarm, monotonic_ns, number};

const ALARM: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// The clients of one process.
///
/// 1. Call [`Fleet::turn`] again and again; logins begin by themselves.
/// 2. Between two turns, let those [`Fleet::say`] something that [`Fleet::take_echoed`] names, or whose time it is.
/// 3. At the end, [`Fleet::missing`] says what was lost.
pub struct Fleet {
    pub(super) plan: Plan,
    pub(super) poll: Poll,
    alarm: Alarm,
    alarm_at: u64,
    pub(super) conns: Vec<Conn>,
    pub(super) tally: Tally,
    /// The one read buffer.
    pub(super) buffer: Vec<u8>,
    /// Scratch: what is said.
    text: String,
    /// Clients with something to read or to write, and whether to read.
    ready: VecDeque<(usize, bool)>,
    events: Events,
    /// Those with something to write.
    pub(super) dirty: Vec<usize>,
    /// Talkers that heard themselves.
    pub(super) echoed: Vec<usize>,
    /// Those that were redirected, and are read to the end.
    pub(super) moving: Vec<usize>,
    pub(super) retries: VecDeque<(u64, usize)>,
    hosts: BTreeMap<(String, u16), Option<SocketAddr>>,
    /// The first client that has not begun to log in, and how many are at it.
    next_login: usize,
    pub(super) logging_in: usize,
    tick_at: u64,
    /// Slow clients read no more than they may.
    pub(super) is_holding: bool,
    pub(super) is_leaving: bool,
    /// Lines are timed and counted that are heard, or were to be said, in this time.
    pub(super) measured: Range<u64>,
    /// When the clients' machines were made: their time begins there.
    pub(super) start: u64,
    /// From the first connect to the newest of the first logins.
    pub logins_span: (u64, u64),
    /// What happened.
    pub counts: Counts,
    /// From when a message was to be said until a client read it.
    pub latency: Times,
    /// From connect, or from REGISTER_SUCCESS, to LOGIN_SUCCESS.
    pub logins: Times,
    /// From connect to REGISTER_SUCCESS.
    pub registrations: Times,
    /// What went wrong, in words, the first of it.
    pub reasons: Vec<String>,
    /// Sessions now.
    pub online: usize,
    /// Clients of which nothing more is expected.
    pub gone: usize,
}

impl Fleet {
    /// The clients of a plan that are in its process. Nobody connects before the first turn.
    ///
    /// # Errors
    /// The system's, when it has no descriptor for a poll.
    pub fn new(plan: Plan) -> io::Result<Fleet> {
        let (poll, alarm) = (Poll::new()?, Alarm::new()?);
        poll.registry().register(&mut SourceFd(&number(&alarm)), ALARM, Interest::READABLE)?;
        let now = monotonic_ns();
        let conn = |id: u32| {
            let address = plan.servers[id as usize % plan.servers.len()];
            let talker = plan.talks(id).then_some(id);
            Conn::new(Client::new(plan.mode(id)), address, talker, plan.is_slow(id))
        };
        let conns: Vec<Conn> = plan.own().map(conn).collect();
        let tally = Tally::new(conns.len(), plan.talkers as usize);
        Ok(Fleet {
            plan,
            poll,
            alarm,
            alarm_at: 0,
            conns,
            tally,
            buffer: vec![0; READ_BYTES],
            text: String::new(),
            ready: VecDeque::new(),
            events: Events::with_capacity(EVENTS),
            dirty: Vec::new(),
            echoed: Vec::new(),
            moving: Vec::new(),
            retries: VecDeque::new(),
            hosts: BTreeMap::new(),
            next_login: 0,
            logging_in: 0,
            tick_at: now,
            is_holding: false,
            is_leaving: false,
            measured: 0..0,
            start: now,
            logins_span: (u64::MAX, 0),
            counts: Counts::default(),
            latency: Times::default(),
            logins: Times::default(),
            registrations: Times::default(),
            reasons: Vec::new(),
            online: 0,
            gone: 0,
        })
    }

    /// Ends a turn early, from another thread.
    pub fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Waits for something to happen, until then at most, and deals with it. Times are ns of the machine's clock.
    pub fn turn(&mut self, until: u64) -> io::Result<()> {
        self.echoed.clear();
        self.begin_logins();
        self.flush();
        if self.ready.is_empty() {
            self.wait(until)?;
        }
        // Who heard itself may have something to say at once, and not only when all others were read.
        while self.echoed.is_empty()
            && let Some((token, reads)) = self.ready.pop_front()
        {
            match Token(token) {
                // It rings once, so that it is to be set again.
                ALARM => self.alarm_at = 0,
                WAKER => {}
                Token(i) => self.on_ready(i, reads),
            }
        }
        self.flush();
        let now = monotonic_ns();
        if now >= self.tick_at {
            self.tick_at = now + nanos(TICK);
            self.tick(now);
        }
        Ok(())
    }

    fn wait(&mut self, until: u64) -> io::Result<()> {
        let wake_at = until.min(self.tick_at);
        if wake_at != self.alarm_at {
            self.alarm_at = wake_at;
            self.alarm.set(wake_at)?;
        }
        match self.poll.poll(&mut self.events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            Err(_) => return Ok(()),
            Ok(()) => {}
        }
        self.ready.extend(self.events.iter().map(|event| {
            let reads = event.is_readable() || event.is_read_closed() || event.is_error();
            (event.token().0, reads)
        }));
        Ok(())
    }

    /// Has a client say its next message, which should have been said at that time.
    pub fn say(&mut self, i: usize, at: u64) {
        let Some(by) = self.conns[i].talker else { return };
        let stamp = Stamp { run: self.plan.run, by, n: self.conns[i].said, at };
        self.conns[i].said += 1;
        self.counts.said += 1;
        self.counts.said_measured += u64::from(self.measured.contains(&at));
        self.put(i, &stamp);
    }

    /// Has a client say its last message once more, because nobody heard it.
    pub fn say_again(&mut self, i: usize, at: u64) {
        let conn = &self.conns[i];
        let (Some(by), Some(n)) = (conn.talker, conn.said.checked_sub(1)) else { return };
        self.counts.said_again += 1;
        self.put(i, &Stamp { run: self.plan.run, by, n, at });
    }

    fn put(&mut self, i: usize, stamp: &Stamp) {
        stamp.activity(&mut self.text, self.plan.size);
        self.conns[i].client.say(&self.text);
        self.dirty.push(i);
    }

    /// The talkers that heard messages of their own in the last turn, once for each.
    pub fn take_echoed(&mut self, into: &mut Vec<usize>) {
        into.clear();
        into.append(&mut self.echoed);
    }

    /// What it was made from.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Clients, by their places here.
    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether there are no clients at all.
    pub fn is_empty(&self) -> bool {
        self.conns.is_empty()
    }

    /// The clients that talk, each with its number as a talker, in rising order.
    pub fn talkers(&self) -> impl Iterator<Item = (usize, u32)> {
        self.conns.iter().enumerate().filter_map(|(i, conn)| conn.talker.map(|talker| (i, talker)))
    }

    /// How many messages a client said, and how many of them it has not heard.
    pub fn said(&self, i: usize) -> (u32, u32) {
        (self.conns[i].said, self.conns[i].in_flight())
    }

    /// Since when a client is logged in, in ns; `None` if it is not.
    pub fn online_since(&self, i: usize) -> Option<u64> {
        self.conns[i].is_online.then_some(self.conns[i].begun)
    }

    /// How many sessions are at each server.
    pub fn places(&self) -> BTreeMap<SocketAddr, usize> {
        let mut places = BTreeMap::new();
        for conn in self.conns.iter().filter(|conn| conn.is_online) {
            *places.entry(conn.address).or_default() += 1;
        }
        places
    }

    /// What is measured from now on.
    pub fn measure(&mut self, span: Range<u64>) {
        self.measured = span;
    }

    /// Others talk: slow clients are slow from now on.
    pub fn hold(&mut self) {
        self.is_holding = true;
    }

    /// The talk is over: slow clients read all there is.
    pub fn release(&mut self) {
        self.is_holding = false;
        for i in 0..self.conns.len() {
            if self.conns[i].is_slow {
                self.read(i, usize::MAX, false);
            }
        }
    }

    /// All log out; what they are still owed comes before the end.
    pub fn leave(&mut self) {
        self.is_leaving = true;
        for i in 0..self.conns.len() {
            self.conns[i].client.end();
            self.dirty.push(i);
        }
    }

    fn begin_logins(&mut self) {
        while self.logging_in < AT_ONCE && self.next_login < self.conns.len() {
            self.logging_in += 1;
            self.next_login += 1;
            self.connect(self.next_login - 1);
        }
    }

    pub(super) fn connect(&mut self, i: usize) {
        let now = monotonic_ns();
        let (conn, source) = (&mut self.conns[i], self.plan.source(i));
        if !conn.is_known {
            self.logins_span.0 = self.logins_span.0.min(now);
        }
        let registry = self.poll.registry();
        let all = Interest::READABLE | Interest::WRITABLE;
        let done = conn.connect(source, now).and_then(|socket| registry.register(socket, Token(i), all));
        if let Err(error) = done {
            self.end(i, Some(error));
        }
    }

    fn on_ready(&mut self, i: usize, reads: bool) {
        let Some(conn) = self.conns.get_mut(i) else { return };
        if let Err(error) = conn.stand() {
            self.end(i, Some(error));
            return;
        }
        conn.flush();
        if conn.is_read {
            // Only the last line that it said kept it open.
            self.end(i, None);
        } else if reads && !(conn.is_slow && self.is_holding) {
            self.read(i, usize::MAX, true);
        }
    }

    pub(super) fn flush(&mut self) {
        while let Some(i) = self.dirty.pop() {
            self.conns[i].flush();
        }
    }

    pub(super) fn note(&mut self, why: String) {
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&why) {
            self.reasons.push(why);
        }
    }

    /// Where a name is; the same for the whole run.
    pub(super) fn resolve(&mut self, host: String, port: u16) -> Option<SocketAddr> {
        let find = || resolve(&host, port);
        *self.hosts.entry((host.clone(), port)).or_insert_with(find)
    }
}

pub(crate) fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// The address of a host and port, of version 4 if there is one.
pub fn resolve(host: &str, port: u16) -> Option<SocketAddr> {
    let all: Vec<SocketAddr> = (host, port).to_socket_addrs().ok()?.collect();
    all.iter().find(|address| address.is_ipv4()).or(all.first()).copied()
}
