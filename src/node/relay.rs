//! What is said here goes to all servers, and what they say comes here: once, in each stream's order.
//!
//! Rules (their reasons are in docs/design.md): an own message is *accepted* when it has its number, and
//! *exposed*, which is shown to any client, when a second server holds it or nobody is there to wait for.
//! A foreign one is held, confirmed and applied in its stream's order, after what its sender said before.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};

use hashbrown::HashMap;

use super::mesh::PeerId;
use super::registry::Seed;
use super::stream::{Prev, Request, Stream};
use super::{Action, Mutation, Node, Timer};
use crate::base::feed::{Feed, Offset};
use crate::base::id::StreamId;
use crate::base::limits::{FETCH_WAIT, PEER_OUT_BYTES, PREV_MAX, PREV_WAIT, SECOND_COPY, UNEXPOSED_BYTES};
use crate::base::spans::{Range, Spans};
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::encode;
use crate::wire::frame::{self, Data};
use crate::wire::peer::{Fetch, PeerMessage};

/// All streams. The first is this boot's own.
#[derive(Debug)]
pub(super) struct Relay {
    streams: Vec<Stream>,
    by_id: BTreeMap<StreamId, usize>,
    /// When own messages were accepted that are not exposed: the last number of each turn.
    accepted: VecDeque<(u64, Time)>,
    /// Some other server holds own messages up to here.
    copied: u64,
    /// Streams whose next frame waits for another.
    blocked: Vec<usize>,
    /// The last number of each name in each stream, for those in the feed.
    last: HashMap<(u64, u32), u64, Seed>,
    seed: Seed,
    /// So many own messages wait that clients are not read.
    full: bool,
    fetch_set: bool,
}

/// The stream of this boot.
const OWN: usize = 0;

/// A name in the table of last numbers; 0 is nobody.
pub(super) type NameKey = u64;

impl Relay {
    pub fn new(own: StreamId, seed: Seed) -> Relay {
        Relay {
            streams: vec![Stream::new(own)],
            by_id: [(own, OWN)].into(),
            accepted: VecDeque::new(),
            copied: 0,
            blocked: Vec::new(),
            last: HashMap::with_hasher(seed),
            seed,
            full: false,
            fetch_set: false,
        }
    }

    /// True while so much waits for a second copy that clients are not read.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// This boot's stream.
    pub fn own(&self) -> StreamId {
        self.streams[OWN].id
    }

    /// How far each stream is held.
    pub fn held(&self) -> Vector {
        self.streams.iter().map(|stream| (stream.id, stream.held())).collect()
    }

    pub fn held_of(&self, stream: StreamId) -> u64 {
        self.find(stream).map_or(0, Stream::held)
    }

    /// What stands in the feed.
    pub fn applied(&self) -> Vector {
        self.streams.iter().map(|stream| (stream.id, stream.applied())).collect()
    }

    pub fn applied_of(&self, stream: StreamId) -> u64 {
        self.find(stream).map_or(0, Stream::applied)
    }

    /// True when all of `vector` stands in the feed.
    pub fn has_applied(&self, vector: &Vector) -> bool {
        vector.iter().all(|(stream, seq)| self.applied_of(stream) >= seq)
    }

    /// True when all of `vector` is here.
    pub fn has_held(&self, vector: &Vector) -> bool {
        vector.iter().all(|(stream, seq)| self.held_of(stream) >= seq)
    }

    /// A place in the feed as a position between servers: what lies below it.
    pub fn position(&self, at: Offset) -> Vector {
        self.streams.iter().map(|stream| (stream.id, stream.position(at))).collect()
    }

    /// What a reader that has `vector` is owed of the feed up to its tail: everything from the first
    /// frame it has not, but for frames behind that which it has.
    pub fn owed(&self, feed: &Feed, vector: &Vector) -> Spans {
        let first = |s: &Stream| s.offset_after(vector.get(s.id)).filter(|at| *at < feed.tail());
        let Some(start) = self.streams.iter().filter_map(first).min() else { return Spans::NOTHING };
        let start = start.max(feed.first_border());
        let mut had: Vec<Offset> =
            self.streams.iter().flat_map(|s| s.covered(start, vector.get(s.id))).collect();
        had.sort_unstable();
        let mut ranges = Vec::new();
        let mut from = start;
        for at in had {
            ranges.push(Range { from, to: at });
            from = feed.frame_end(at);
        }
        ranges.push(Range { from, to: feed.tail() });
        Spans::from_ranges(ranges)
    }

    /// The frames between two positions, as far as the feed has them.
    pub fn between(&self, feed: &Feed, low: &Vector, high: &Vector) -> Spans {
        let frames = self.streams.iter().flat_map(|s| {
            let from = s.offset_after(low.get(s.id)).unwrap_or(Offset::MAX);
            s.covered(from, high.get(s.id)).map(|at| Range { from: at, to: feed.frame_end(at) })
        });
        let frames: Vec<Range> = frames.filter(|r| r.from >= feed.first_border()).collect();
        Spans::from_ranges(frames)
    }

    /// How far a name has spoken in each stream, as far as the feed reaches.
    pub fn last_of(&self, name: NameKey) -> Vector {
        let last = |(i, s): (usize, &Stream)| Some((s.id, *self.last.get(&(name, i as u32))?));
        self.streams.iter().enumerate().filter_map(last).collect()
    }

    /// The key of a name as it stands in a broadcast line.
    pub fn name_key(&self, name: &[u8]) -> NameKey {
        if name.is_empty() || name == b"anonymous" {
            return 0;
        }
        let mut hasher = self.seed.build_hasher();
        hasher.write(name);
        hasher.finish().max(1)
    }

    fn find(&self, stream: StreamId) -> Option<&Stream> {
        self.by_id.get(&stream).map(|i| &self.streams[*i])
    }

    fn index(&mut self, stream: StreamId) -> usize {
        *self.by_id.entry(stream).or_insert_with(|| {
            self.streams.push(Stream::new(stream));
            self.streams.len() - 1
        })
    }

    /// Notes who said a frame.
    fn note(&mut self, stream: usize, seq: u64, line: &[u8]) {
        let key = self.name_key(encode::said_by(line));
        if key == 0 {
            return;
        }
        if self.last.len() == self.last.capacity() {
            let streams = &self.streams;
            self.last.retain(|(_, stream), seq| *seq + 1 >= streams[*stream as usize].position(0));
        }
        self.last.insert((key, stream as u32), seq);
    }

    /// Makes DATA frames for one peer, as much as is good at once: what it has not of the own stream, and
    /// what it asked for.
    pub fn write(&self, feed: &Feed, out: &mut Vec<u8>, next: &mut u64, asked: &mut Vec<Fetch>) {
        let own = &self.streams[OWN];
        let upto = own.held();
        *next = put(own, feed, out, *next, upto);
        asked.retain_mut(|fetch| {
            if out.len() < PEER_OUT_BYTES
                && let Some(stream) = self.find(fetch.stream)
            {
                fetch.from = put(stream, feed, out, fetch.from, fetch.upto);
                return fetch.from <= fetch.upto.min(stream.held());
            }
            out.len() >= PEER_OUT_BYTES
        });
    }
}

/// Appends the frames of `from..=upto` that fit. Returns the next to send. Those that are gone are named.
fn put(stream: &Stream, feed: &Feed, out: &mut Vec<u8>, from: u64, upto: u64) -> u64 {
    let mut seq = from;
    if seq <= upto && seq < stream.first(feed) {
        seq = stream.first(feed);
        frame::control(out, &PeerMessage::FetchGone { stream: stream.id, first: seq });
    }
    while seq <= upto && out.len() < PEER_OUT_BYTES {
        let Some(line) = stream.frame(feed, seq) else { break };
        frame::data(out, stream.id, seq, stream.prev(seq), line);
        seq += 1;
    }
    seq
}

impl Node {
    /// The line that was just encoded is accepted: it gets the next number of our stream, goes to all peers
    /// in this turn, and is exposed as soon as may be.
    pub(super) fn accept(&mut self, prev: Prev) {
        let line = std::mem::take(&mut self.line);
        let relay = &mut self.relay;
        let seq = relay.streams[OWN].held() + 1;
        relay.note(OWN, seq, &line);
        self.counters.feed_bytes += line.len() as u64;
        self.mesh.wake();
        let waits = seq > relay.streams[OWN].applied() + 1 || self.mesh.peers.len() > 0;
        let stream = &mut relay.streams[OWN];
        if !waits && prev.is_empty() {
            // Nobody is there to hold a second copy.
            let at = self.delivery.feed.tail();
            self.delivery.feed.append(&line);
            stream.applied_at_once(at, self.delivery.feed.head());
        } else {
            stream.hold(&line, prev);
            match relay.accepted.back_mut() {
                Some((last, at)) if *at == self.now => *last = seq,
                _ => relay.accepted.push_back((seq, self.now)),
            }
            relay.full |= stream.pending_bytes() >= UNEXPOSED_BYTES;
            if relay.accepted.len() == 1 {
                self.timers.set(self.now + SECOND_COPY, Timer::SecondCopy);
            }
            self.expose();
        }
        self.line = line;
    }

    /// Exposes own messages that another server holds, or that waited long enough.
    pub(super) fn expose(&mut self) {
        let lively = self.mesh.lively().filter(|(_, peer)| !peer.stalled).count();
        let mut upto = self.relay.copied;
        if lively == 0 || self.is_mutated(Mutation::NoSecondCopy) {
            upto = u64::MAX;
        }
        let late = |(_, at): &&(u64, Time)| *at + SECOND_COPY <= self.now;
        if let Some((seq, _)) = self.relay.accepted.iter().take_while(late).last().copied()
            && seq > upto
        {
            self.counters.exposed_single_copy += seq - upto.max(self.relay.streams[OWN].applied());
            upto = seq;
            for (_, peer) in &mut self.mesh.peers {
                peer.stalled |= peer.acked < seq;
            }
        }
        let own = &mut self.relay.streams[OWN];
        if own.applied() == own.held() || upto <= own.applied() {
            return;
        }
        while own.applied() < upto && own.next().is_some() {
            own.apply(&mut self.delivery.feed);
        }
        let applied = own.applied();
        while self.relay.accepted.front().is_some_and(|(seq, _)| *seq <= applied) {
            self.relay.accepted.pop_front();
        }
        if let Some((_, at)) = self.relay.accepted.front() {
            self.timers.set(*at + SECOND_COPY, Timer::SecondCopy);
        }
        if self.relay.full && self.relay.streams[OWN].pending_bytes() < UNEXPOSED_BYTES / 2 {
            self.relay.full = false;
            self.actions.push_back(Action::ResumeAll);
        }
        self.progress();
    }

    /// A peer holds our stream up to here.
    pub(super) fn on_ack(&mut self, from: PeerId, seq: u64) {
        let held = self.relay.streams[OWN].held();
        let Some(peer) = self.mesh.get_mut(from) else { return };
        peer.acked = peer.acked.max(seq.min(held));
        peer.stalled &= peer.acked < held;
        self.relay.copied = self.relay.copied.max(peer.acked);
        self.expose();
    }

    /// A frame of some stream came.
    pub(super) fn on_data(&mut self, from: PeerId, data: &Data) {
        let Some(peer) = self.mesh.get_mut(from) else { return };
        let is_own = peer.stream == Some(data.stream);
        peer.ack_owed |= is_own;
        let Some(origin) = peer.stream else { return };
        let i = self.relay.index(data.stream);
        let ack_first = self.is_mutated(Mutation::AckBeforeHold) && self.rng.chance(5);
        let stream = &mut self.relay.streams[i];
        if i == OWN || data.seq <= stream.held() {
            return;
        }
        if data.seq > stream.held() + 1 {
            if is_own {
                self.want(data.stream, data.seq - 1, Some(origin));
            }
            return;
        }
        if ack_first {
            let seq = data.seq;
            let mut bytes = Vec::new();
            frame::ack(&mut bytes, seq);
            self.mesh.send_bytes(from, &bytes);
            return;
        }
        if data.line.len() > self.limits.feed_bytes / 4 {
            // A server with other limits. It cannot be kept, but its number must not stop the stream.
            self.counters.frames_too_long += 1;
            log::warn!("a message of {} bytes is too long for this server's feed", data.line.len());
            stream.hold(b"\n", Prev::default());
        } else {
            stream.hold(data.line, data.prev().collect());
        }
        stream.gone.clear();
        stream.gone_first = u64::MAX;
        let held = stream.held();
        if stream.wanted <= held {
            stream.request = None;
        } else if let Some(request) = stream.request.as_mut() {
            request.at = self.now;
        }
        self.counters.relayed += 1;
        self.relay.note(i, data.seq, data.line);
        if !self.relay.blocked.contains(&i) && self.apply(i) {
            self.progress();
        }
        if self.membership.unsynced_until.is_some() {
            self.in_step();
        }
    }

    /// Applies what waits of one stream, as far as may be. True if anything was.
    fn apply(&mut self, i: usize) -> bool {
        let mut any = false;
        while let Some(prev) = self.relay.streams[i].next() {
            let missing = |(stream, seq): &&(StreamId, u64)| self.relay.applied_of(*stream) < *seq;
            let missing: Vec<(StreamId, u64)> = prev.iter().filter(missing).copied().collect();
            if !missing.is_empty() && i != OWN {
                let since = *self.relay.streams[i].waits_since.get_or_insert(self.now);
                if self.now < since + PREV_WAIT {
                    if !self.relay.blocked.contains(&i) {
                        self.relay.blocked.push(i);
                        self.timers.set(since + PREV_WAIT, Timer::Prev);
                    }
                    let origin = self.relay.streams[i].id;
                    missing.into_iter().for_each(|(stream, seq)| self.want(stream, seq, Some(origin)));
                    return any;
                }
                self.counters.prev_unmet += 1;
            }
            self.relay.streams[i].apply(&mut self.delivery.feed);
            any = true;
        }
        self.relay.blocked.retain(|other| *other != i);
        any
    }

    /// Something was applied: what waited for it may be next.
    pub(super) fn progress(&mut self) {
        let mut again = true;
        while std::mem::take(&mut again) {
            for i in self.relay.blocked.clone() {
                again |= self.apply(i);
            }
        }
        self.claims_progress();
    }

    /// Makes sure that a stream comes up to `upto`: from its origin if that is linked, else it is asked for,
    /// from the peer whose boot is `hint` first.
    pub(super) fn want(&mut self, stream: StreamId, upto: u64, hint: Option<StreamId>) {
        let i = self.relay.index(stream);
        let s = &mut self.relay.streams[i];
        if i == OWN || s.held() >= upto {
            return;
        }
        s.wanted = s.wanted.max(upto);
        if s.request.is_none() {
            let hint = hint.and_then(|hint| self.mesh.by_stream(hint));
            self.request(i, hint);
        }
    }

    /// Asks a peer for what is wanted of a stream.
    fn request(&mut self, i: usize, hint: Option<PeerId>) {
        let last = self.relay.streams[i].request.map(|r| r.from);
        let gone = &self.relay.streams[i].gone;
        let able: Vec<PeerId> =
            self.mesh.lively().map(|(id, _)| id).filter(|id| !gone.contains(id)).collect();
        let fresh: Vec<PeerId> = able.iter().copied().filter(|id| Some(*id) != last).collect();
        let draw = self.draw();
        let pick = |from: &[PeerId]| from.get((draw % from.len().max(1) as u64) as usize).copied();
        let peer = hint.filter(|hint| able.contains(hint)).or_else(|| pick(&fresh)).or_else(|| pick(&able));
        let stream = &mut self.relay.streams[i];
        let fetch = Fetch { stream: stream.id, from: stream.held() + 1, upto: stream.wanted };
        if let Some(peer) = peer {
            stream.request = Some(Request { from: peer, at: self.now });
            self.counters.fetches += 1;
            self.mesh.send(peer, &PeerMessage::Fetch(fetch));
        } else {
            stream.request = None;
        }
        if !std::mem::replace(&mut self.relay.fetch_set, true) {
            self.timers.set(self.now + FETCH_WAIT, Timer::Fetch);
        }
    }

    /// Asks again for what was asked for and does not come.
    pub(super) fn on_fetch_timer(&mut self) {
        self.relay.fetch_set = false;
        let mut any = false;
        for i in 1..self.relay.streams.len() {
            let stream = &self.relay.streams[i];
            if stream.held() >= stream.wanted {
                continue;
            }
            any = true;
            if stream.request.is_none_or(|r| r.at + FETCH_WAIT <= self.now) {
                self.request(i, None);
            }
        }
        if any && !std::mem::replace(&mut self.relay.fetch_set, true) {
            self.timers.set(self.now + FETCH_WAIT, Timer::Fetch);
        }
    }

    pub(super) fn on_prev_timer(&mut self) {
        for i in self.relay.blocked.clone() {
            if self.apply(i) {
                self.progress();
            }
        }
        let since = self.relay.blocked.iter().filter_map(|i| self.relay.streams[*i].waits_since).min();
        if let Some(since) = since {
            self.timers.set(since + PREV_WAIT, Timer::Prev);
        }
    }

    /// A peer asks for a part of a stream.
    pub(super) fn on_fetch(&mut self, from: PeerId, fetch: Fetch) {
        let known = self.relay.by_id.contains_key(&fetch.stream);
        let Some(peer) = self.mesh.get_mut(from) else { return };
        if fetch.from == 0 || fetch.from > fetch.upto || !known {
            let gone = PeerMessage::FetchGone { stream: fetch.stream, first: u64::MAX };
            return self.mesh.send(from, &gone);
        }
        peer.asked.retain(|other| other.stream != fetch.stream);
        peer.asked.push(fetch);
    }

    /// A peer has less of a stream than was asked for, or of its own than we are to get. When all say so,
    /// the frames are lost.
    pub(super) fn on_fetch_gone(&mut self, from: PeerId, stream: StreamId, first: u64) {
        let Some(i) = self.relay.by_id.get(&stream).copied().filter(|i| *i != OWN) else { return };
        let s = &mut self.relay.streams[i];
        if first <= s.held() + 1 {
            return;
        }
        if !s.gone.contains(&from) {
            s.gone.push(from);
        }
        s.gone_first = s.gone_first.min(first);
        if first != u64::MAX {
            s.wanted = s.wanted.max(first - 1);
        }
        let gone = &s.gone;
        if self.mesh.linked().any(|(id, _)| !gone.contains(&id)) {
            return self.request(i, None);
        }
        let s = &mut self.relay.streams[i];
        let first = std::mem::replace(&mut s.gone_first, u64::MAX);
        s.gone.clear();
        s.request = None;
        if first == u64::MAX {
            s.wanted = s.held();
        } else if s.held() == s.applied() && first > s.applied() + 1 {
            let lost = first - 1 - s.applied();
            // A server that was not there has lost nothing.
            if s.applied() > 0 {
                self.counters.frames_lost += lost;
                log::warn!("{lost} messages of stream {stream:?} are on no server any more");
            }
            s.skip_to(first);
            if s.wanted > s.held() {
                self.request(i, Some(from));
            }
            self.progress();
        }
    }

    /// A peer says what it holds.
    pub(super) fn on_held(&mut self, from: PeerId, held: &Vector) {
        let hint = self.mesh.get(from).and_then(|peer| peer.stream);
        for (stream, seq) in held.iter() {
            if self.mesh.by_stream(stream).is_none() {
                self.want(stream, seq, hint);
            }
        }
    }

    /// A link is up: the peer holds our stream up to `held`, and other streams as far as it says.
    pub(super) fn relay_up(&mut self, from: PeerId, held: u64, all: &Vector) {
        let own = self.relay.streams[OWN].held();
        if let Some(peer) = self.mesh.get_mut(from) {
            peer.acked = held.min(own);
            peer.next = peer.acked + 1;
            self.relay.copied = self.relay.copied.max(peer.acked);
        }
        self.on_held(from, all);
        self.expose();
    }

    /// A link is down: what was asked of that peer is asked of others.
    pub(super) fn relay_down(&mut self, peer: PeerId) {
        for stream in &mut self.relay.streams {
            stream.request.take_if(|r| r.from == peer);
            stream.gone.retain(|p| *p != peer);
        }
        self.on_fetch_timer();
        self.expose();
    }
}

/// What a session's first message must not come before: where its name spoke last on other servers, as
/// far as that stands in the feed here.
pub(super) fn prev_of(last: &Vector, relay: &Relay) -> Prev {
    let known = |(stream, seq): &(StreamId, u64)| *stream != relay.own() && relay.applied_of(*stream) >= *seq;
    let mut prev: Vec<(StreamId, u64)> = last.iter().filter(known).collect();
    prev.truncate(PREV_MAX);
    prev.into()
}
