//! Floor 2: the [`Node`], a server's whole mind as one value.
//!
//! It touches no socket, clock, thread, file or random source: time and seeds are arguments, work goes out
//! as [`Action`]s and comes back as [`Input`]s. So whatever it does can be replayed. It cannot fail. In turns:
//!
//! 1. [`Node::handle`] with `Input::Time`: what was due happens.
//! 2. [`Node::connect`] for each new connection; [`Node::line`] for each line that came, as long as
//!    [`Node::reading`] says `Take`; [`Node::handle`] for each other event.
//! 3. [`Node::action`] until there is none. Some make new input at once: `Settle` is answered by
//!    `Settled`, `Close` by `Closed`, `Resume` has held lines given again.
//! 4. [`Node::writable`] until there is none; for each link [`Node::transmit`], write, [`Node::sent`], and
//!    [`Node::blocked`] if the socket took less. Then 3 once more, for what the writing closed, and
//!    [`Node::flushed`], for what is measured.
//! 5. Sleep until an event or [`Node::timeout`].

mod answering;
mod answers;
mod asking;
mod balance;
mod behind;
mod books;
mod claims;
mod contest;
mod contract;
mod counters;
mod delivery;
mod digest;
mod draining;
mod ending;
mod exchange;
mod fetching;
mod frontier;
mod guess;
mod hashing;
mod hidden;
mod ids;
mod keeping;
mod lag;
mod late;
mod link;
mod membership;
mod merging;
mod mesh;
mod mutation;
mod names;
mod peer;
mod plan;
mod registration;
mod registry;
mod relay;
mod replica;
mod restoring;
mod saying;
mod scale;
mod sent;
mod session;
mod spread;
mod status;
mod stream;
mod sweep;
mod timers;
mod traffic;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use slab::Slab;

pub use contract::{Action, Input, Reading, Seeds};
pub use counters::{CloseReason, Counters};
pub use delivery::Transmit;
pub use hashing::{HashJob, HashTask, Hashed};
pub use lag::{Histogram, LAG_BOUNDS_US};
pub use mesh::Identity;
pub use mutation::Mutation;
pub use registry::Record;
pub use status::{Census, Other, OtherState, State, Status, Storage, word};
pub use traffic::{Kind, Traffic};

use crate::base::id::LinkId;
use crate::base::limits::{FRAME_BYTES, Limits, STRANGER_LINE_BYTES};
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::wire::decode::Decoder;
use crate::wire::encode;
use crate::wire::line::Flow;
use crate::wire::message::{ClientMessage, Refusal, shorten};
use contest::Contests;
use delivery::Delivery;
use draining::Draining;
use frontier::Frontier;
use guess::Guesses;
use hashing::HashQueue;
use ids::Clients;
use keeping::Keeping;
use link::{Link, Phase};
use membership::Membership;
use mesh::{Mesh, PeerId};
use registry::{Registry, Seed};
use relay::Relay;
use replica::Sessions;
use scale::Scale;
use spread::Spread;
use timers::{Timer, Timers};

/// A server's whole mind.
pub struct Node {
    limits: Limits,
    now: Time,
    links: Slab<Link>,
    /// Links ever made; the generation of the newest.
    generation: u32,
    registry: Registry,
    guesses: Guesses,
    hashes: HashQueue,
    timers: Timers,
    delivery: Delivery,
    counters: Counters,
    actions: VecDeque<Action>,
    /// Lent out while a line is handled.
    decoder: Option<Box<Decoder>>,
    /// Where broadcasts are written before the feed takes them.
    line: Vec<u8>,
    mesh: Mesh,
    membership: Membership,
    relay: Relay,
    sessions: Sessions,
    frontier: Frontier,
    clients: Clients,
    contests: Contests,
    keeping: Keeping,
    draining: Draining,
    spread: Spread,
    scale: Scale,
    /// Peers that were just found silent.
    suspected: Vec<PeerId>,
    rng: Rng,
    #[cfg(feature = "mutations")]
    mutation: Option<Mutation>,
}

impl Node {
    /// A node with nobody connected.
    pub fn new(limits: Limits, seeds: &Seeds) -> Node {
        let seed = Seed::new(seeds.tables[0], seeds.tables[1]);
        Node {
            now: Time::START,
            links: Slab::new(),
            generation: 0,
            registry: Registry::new(&seeds.verifiers, limits.names),
            guesses: Guesses::new(seed, limits.failed_logins),
            hashes: HashQueue::new(2 * limits.hash_threads),
            timers: Timers::default(),
            delivery: Delivery::new(limits.feed_bytes),
            counters: Counters::default(),
            actions: VecDeque::new(),
            decoder: Some(Box::default()),
            line: Vec::new(),
            mesh: Mesh::new(seeds.identity),
            membership: Membership::default(),
            relay: Relay::new(seeds.identity.stream, seed),
            sessions: Sessions::default(),
            frontier: Frontier::default(),
            clients: Clients::new(seed),
            contests: Contests::default(),
            keeping: Keeping::default(),
            draining: Draining::default(),
            spread: Spread::new(limits.max_clients),
            scale: Scale::default(),
            suspected: Vec::new(),
            rng: Rng::new(seeds.chance),
            #[cfg(feature = "mutations")]
            mutation: None,
            limits,
        }
    }

    /// Breaks one rule on purpose.
    #[cfg(feature = "mutations")]
    pub fn mutate(&mut self, mutation: Mutation) {
        self.mutation = Some(mutation);
    }

    /// True when this rule is broken on purpose.
    #[inline]
    #[cfg_attr(not(feature = "mutations"), expect(clippy::unused_self, reason = "there is nothing to ask"))]
    fn is_mutated(&self, _mutation: Mutation) -> bool {
        #[cfg(feature = "mutations")]
        return self.mutation == Some(_mutation);
        #[cfg(not(feature = "mutations"))]
        false
    }

    /// The wall clock says so many milliseconds since 1970. Only the order of what different servers do
    /// hangs on it, never a wait. A shell calls it at the begin of each turn.
    pub fn set_wall(&mut self, ms: u64) {
        self.mesh.clock.set_wall(ms);
    }

    fn draw(&mut self) -> u64 {
        self.rng.draw()
    }

    /// A client connected from `address`.
    pub fn connect(&mut self, now: Time, address: IpAddr) -> LinkId {
        self.now = now;
        self.counters.connections += 1;
        let link_id = self.new_link(|generation| Link::new(generation, address));
        self.timers.set(now + self.limits.login, Timer::Login(link_id));
        log::trace!("link {link_id}: connected from {address}");
        if self.draining.is_closing() {
            self.close(link_id, CloseReason::Stopping);
        }
        link_id
    }

    fn new_link(&mut self, make: impl FnOnce(u32) -> Link) -> LinkId {
        self.generation = self.generation.wrapping_add(1).max(1);
        let slot = self.links.insert(make(self.generation));
        LinkId { slot: slot as u32, generation: self.generation }
    }

    /// The client sent this line, without its line end.
    pub fn line(&mut self, now: Time, link_id: LinkId, line: &[u8]) -> Flow {
        self.now = now;
        match self.reading(link_id) {
            Reading::Take(_) => {}
            Reading::Hold => return Flow::Again,
            Reading::Discard | Reading::Frames(_) | Reading::Prove => return Flow::Pause,
        }
        if line.starts_with(encode::HELLO) && self.at(link_id).phase == Phase::New {
            return self.upgrade(link_id, line);
        }
        if self.membership.unsynced_until.is_some() && self.at(link_id).phase == Phase::New {
            self.at_mut(link_id).phase = Phase::Claiming;
            self.sessions.waiting.push(link_id);
            return Flow::Again;
        }
        let mut decoder = self.decoder.take().unwrap_or_default();
        let flow = match decoder.decode(line) {
            Ok(message) => self.on_message(link_id, &message),
            Err(refusal) => self.invalid(link_id, &refusal),
        };
        self.decoder = Some(decoder);
        if flow != Flow::Again {
            self.counters.lines += 1;
            self.counters.lines_bytes += line.len() as u64 + 1;
        }
        flow
    }

    fn on_message(&mut self, link_id: LinkId, message: &ClientMessage) -> Flow {
        let begins = matches!(message, ClientMessage::Login { .. } | ClientMessage::Register { .. });
        if begins && self.at(link_id).is_leaving() {
            // Its client was sent elsewhere meanwhile and logs in there.
            return Flow::Next;
        }
        match *message {
            ClientMessage::Activity { username, secret, ref activity, cseq } => {
                self.on_activity(link_id, username, secret, (activity, cseq))
            }
            ClientMessage::Login { username, secret, ref ext } => {
                self.on_login(link_id, username, secret, ext.as_deref())
            }
            ClientMessage::Register { username, secret, ref ext } => {
                self.on_register(link_id, username, secret, ext.as_deref())
            }
            ClientMessage::Logout => self.on_logout(link_id),
            ClientMessage::Invalid { info } => {
                self.counters.complaints += 1;
                log::debug!("link {link_id}: its client complains: {:?}", shorten(info));
                Flow::Next
            }
        }
    }

    fn invalid(&mut self, link_id: LinkId, refusal: &Refusal) -> Flow {
        self.reply_and_close(link_id, "INVALID_MESSAGE", &refusal.to_string(), CloseReason::Invalid)
    }

    /// Anything but a connection or a line happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = now;
        match input {
            Input::Time => self.on_time(),
            Input::Overlong(link) => self.on_bad_line(link, Refusal::LineTooLong),
            Input::TooSlow(link) => self.on_bad_line(link, |_| Refusal::LineTooSlow),
            Input::Eof(link) => self.on_eof(link),
            Input::Closed { link, unacknowledged } => self.on_closed(link, unacknowledged),
            Input::Settled { session, errand, unacknowledged, stalled } => {
                self.on_settled(session, errand, unacknowledged, stalled);
            }
            Input::Confirmed { session, unacknowledged } => self.on_confirmed(session, unacknowledged),
            Input::Hashed(link, hashed) => self.on_hashed(link, hashed),
            Input::Joined { link, server, key, address } => self.on_joined(link, server, key, address),
            Input::Unproven(link) => self.on_unproven(link),
            Input::Chunk { offset, bytes } => self.on_chunk(offset, bytes),
            Input::Committed { ticket, good } => self.on_committed(ticket, good),
            Input::SpawnFailed { ticket, why } => self.on_spawn_failed(ticket, &why),
            Input::Stop => self.on_stop(),
        }
    }

    /// The next thing the node wants done.
    pub fn action(&mut self) -> Option<Action> {
        self.actions.pop_front().or_else(|| self.commit_rows())
    }

    /// How long from `now` the node can wait for input; none for ever.
    pub fn timeout(&self, now: Time) -> Option<Duration> {
        let is_syncing = self.mesh.sync_left == 0;
        if self.delivery.is_pending() || self.relay.more || is_syncing || !self.actions.is_empty() {
            return Some(Duration::ZERO);
        }
        self.timers.next().map(|at| at.since(now))
    }

    /// What is to be done with the bytes that come from this link.
    pub fn reading(&self, link_id: LinkId) -> Reading {
        match self.link(link_id).map(|link| link.phase) {
            Some(Phase::Silent | Phase::Online | Phase::New) if self.relay.is_full() => Reading::Hold,
            Some(Phase::Silent | Phase::Online) => Reading::Take(self.limits.line_bytes),
            Some(Phase::New) => Reading::Take(STRANGER_LINE_BYTES.min(self.limits.line_bytes)),
            Some(Phase::Closing | Phase::Draining) if self.at(link_id).is_leaving() => {
                Reading::Take(self.limits.line_bytes)
            }
            Some(Phase::Hashing | Phase::Asking | Phase::Claiming | Phase::Refusing) => Reading::Hold,
            Some(Phase::Dialing | Phase::Upgrading) => Reading::Prove,
            Some(Phase::Peer) => Reading::Frames(FRAME_BYTES),
            Some(Phase::Closing | Phase::Draining | Phase::Gone) | None => Reading::Discard,
        }
    }

    /// Links that are there, closing ones too.
    pub fn links(&self) -> usize {
        self.links.len()
    }

    /// Names that are registered.
    pub fn names(&self) -> usize {
        self.registry.len()
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// For what only the shell sees.
    pub fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Other bounds hold from now on. The size of the feed and the number of hash threads stay as they are.
    pub fn set_limits(&mut self, limits: Limits) {
        self.registry.set_names_max(limits.names);
        self.guesses.set_allowed(limits.failed_logins);
        let Limits { feed_bytes, hash_threads, .. } = self.limits;
        self.spread.books.most = limits.max_clients;
        self.limits = Limits { feed_bytes, hash_threads, ..limits };
        self.counters.reloads += 1;
    }

    fn link(&self, link_id: LinkId) -> Option<&Link> {
        self.links.get(link_id.slot as usize).filter(|link| link.generation == link_id.generation)
    }

    fn link_mut(&mut self, link_id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(link_id.slot as usize).filter(|link| link.generation == link_id.generation)
    }

    /// A link whose caller has seen that it is there.
    fn at(&self, link_id: LinkId) -> &Link {
        &self.links[link_id.slot as usize]
    }

    fn at_mut(&mut self, link_id: LinkId) -> &mut Link {
        &mut self.links[link_id.slot as usize]
    }

    fn on_no_login(&mut self, link_id: LinkId) {
        let waits = |l: &Link| l.phase == Phase::New && l.aside.as_ref().is_some_and(|a| a.hashed.is_none());
        if self.link(link_id).is_some_and(waits) {
            let info = format!("no LOGIN within {} s", self.limits.login.as_secs_f32());
            self.reply_and_close(link_id, "INVALID_MESSAGE", &info, CloseReason::NoLogin);
        }
    }

    /// A line will never be complete; `refusal` makes the reason of its limit.
    fn on_bad_line(&mut self, link_id: LinkId, refusal: impl FnOnce(usize) -> Refusal) {
        if let Reading::Take(limit) = self.reading(link_id) {
            self.invalid(link_id, &refusal(limit));
        }
    }
}

#[cfg(test)]
mod tests;
