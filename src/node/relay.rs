//! What is said here goes to all servers, and what they say comes here: once, in each stream's order.
//!
//! Rules (their reasons are in docs/design.md): an own message is *accepted* when it has its number, and
//! *exposed*, which is shown to any client, when a second server holds it or nobody is there to wait for.
//! A foreign one is held, confirmed and applied in its stream's order, after what its sender said before.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::ops::RangeInclusive;

use hashbrown::HashMap;

use super::registry::Seed;
use super::stream::{Prev, Stream};
use super::traffic::{Kind, Traffic};
use crate::base::feed::{Feed, Offset};
use crate::base::id::StreamId;
use crate::base::limits::{NEXT_RUNS, PEER_OUT_BYTES, PREV_MAX};
use crate::base::spans::{Range, Spans};
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::encode;
use crate::wire::frame::{self};
use crate::wire::peer::{Fetch, PeerMessage};

/// All streams. The first is this boot's own.
#[derive(Debug)]
pub(super) struct Relay {
    pub streams: Vec<Stream>,
    pub by_id: BTreeMap<StreamId, usize>,
    /// When own messages were accepted that are not exposed: the last number of each turn.
    pub accepted: VecDeque<(u64, Time)>,
    /// Some other server holds own messages up to here.
    pub copied: u64,
    /// Streams whose next frame waits for another.
    pub blocked: Vec<usize>,
    /// The last number of each name in each stream, for those in the feed.
    pub last: HashMap<(u64, u32), u64, Seed>,
    pub seed: Seed,
    /// So many own messages wait that clients are not read.
    pub full: bool,
    /// More is to be applied in the next turn.
    pub more: bool,
    pub fetch_set: bool,
    pub second_copy_set: bool,
}

/// The stream of this boot.
pub(super) const OWN: usize = 0;

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
            more: false,
            fetch_set: false,
            second_copy_set: false,
        }
    }

    /// True while so much waits that clients are not read: for a second copy, or for this turn's end.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// The last own message that was accepted, if it is not exposed yet.
    pub fn unexposed(&self) -> Option<u64> {
        let own = &self.streams[OWN];
        (own.applied() < own.held()).then(|| own.held())
    }

    /// The last own message that was exposed.
    pub fn exposed(&self) -> u64 {
        self.streams[OWN].applied()
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

    /// Frames of the stream that somebody is known to hold and this server does not.
    pub fn missing_of(&self, stream: StreamId) -> u64 {
        self.find(stream).map_or(0, |stream| {
            let told = stream.told.map_or(0, |(seq, _)| seq);
            told.max(stream.wanted).saturating_sub(stream.held())
        })
    }

    /// True for a linked stream whose link brings nothing though others have more.
    pub fn is_overdue(&self, stream: StreamId) -> bool {
        self.find(stream).is_some_and(|stream| stream.is_overdue)
    }

    /// A peer holds a linked stream up to `seq`. True if that is news: the stream's own link should bring it
    /// soon, unless it is cut and not yet known to be.
    pub fn is_told(&mut self, now: Time, stream: StreamId, seq: u64) -> bool {
        let i = self.index(stream);
        let stream = &mut self.streams[i];
        let held = stream.held();
        if i == OWN || held >= seq || stream.told.is_some_and(|(told, _)| told > held) {
            return false;
        }
        stream.told = Some((seq, now));
        true
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
            from = self.frame_end(feed, at);
        }
        ranges.push(Range { from, to: feed.tail() });
        Spans::from_ranges(ranges)
    }

    /// A position that has nothing of what is owed.
    pub fn not_above(&self, feed: &Feed, vector: Vector, owed: &Spans) -> Vector {
        let lacks = self.owed(feed, &vector);
        match owed.below(feed.tail()).current() {
            Some(first) if lacks.union(&owed.below(feed.tail())) != lacks => {
                vector.min(&self.position(first.from))
            }
            _ => vector,
        }
    }

    /// The frames between two positions, as far as the feed has them.
    pub fn between(&self, feed: &Feed, low: &Vector, high: &Vector) -> Spans {
        let frames = self.streams.iter().flat_map(|s| {
            let from = s.offset_after(low.get(s.id)).unwrap_or(Offset::MAX);
            s.covered(from, high.get(s.id)).map(|at| Range { from: at, to: self.frame_end(feed, at) })
        });
        let frames: Vec<Range> = frames.filter(|r| r.from >= feed.first_border()).collect();
        Spans::from_ranges(frames)
    }

    /// The begin of the frame that holds `at`, or the first that can be had.
    pub fn frame_start(&self, feed: &Feed, at: Offset) -> Offset {
        if at == feed.tail() {
            return at;
        }
        let starts = self.streams.iter().filter_map(|stream| stream.around(at).0);
        starts.max().unwrap_or_else(|| feed.first_border()).max(feed.first_border())
    }

    /// The end of the frame that holds `at`, which can be had.
    pub fn frame_end(&self, feed: &Feed, at: Offset) -> Offset {
        if at >= feed.head() {
            return feed.frame_end(at);
        }
        self.streams.iter().filter_map(|stream| stream.around(at).1).min().unwrap_or_else(|| feed.tail())
    }

    /// Which frames begin in a range that itself begins with one: as runs, and where the last of them ends. At
    /// most [`NEXT_RUNS`].
    pub fn runs(&self, feed: &Feed, range: Range) -> (Vec<(StreamId, u64, u32)>, Offset) {
        let frames = |s: &Stream| s.frames(range).map(|(at, seq)| (at, s.id, seq)).collect::<Vec<_>>();
        let mut frames: Vec<(Offset, StreamId, u64)> = self.streams.iter().flat_map(frames).collect();
        frames.sort_unstable();
        let mut runs: Vec<(StreamId, u64, u32)> = Vec::new();
        for (at, stream, seq) in &frames {
            let is_full = runs.len() == NEXT_RUNS;
            match runs.last_mut() {
                Some(run) if run.0 == *stream && run.1 + u64::from(run.2) == *seq => run.2 += 1,
                _ if is_full => return (runs, *at),
                _ => runs.push((*stream, *seq, 1)),
            }
        }
        let end = frames.last().map_or(range.to, |(at, ..)| self.frame_end(feed, *at));
        (runs, end)
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

    pub fn index(&mut self, stream: StreamId) -> usize {
        *self.by_id.entry(stream).or_insert_with(|| {
            self.streams.push(Stream::new(stream));
            self.streams.len() - 1
        })
    }

    /// Notes who said a frame.
    pub fn note(&mut self, stream: usize, seq: u64, line: &[u8]) {
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
    /// what it asked for. Names the first byte of what must be asked of the disk before it goes on.
    pub fn write(
        &self,
        feed: &Feed,
        out: &mut Vec<u8>,
        next: &mut u64,
        asked: &mut Vec<Fetch>,
        sent: &mut Traffic,
    ) -> Option<Offset> {
        let own = &self.streams[OWN];
        let mut missing = None;
        *next = self.put(own, feed, out, *next..=own.held(), &mut missing, sent);
        // In the order of the feed, which is every sender's: what was found on disk does not say what came before it.
        while missing.is_none()
            && out.len() < PEER_OUT_BYTES
            && let Some((i, stream, upto)) = self.earliest(feed, asked)
        {
            let fetch = &mut asked[i];
            fetch.from = self.put(stream, feed, out, fetch.from..=upto, &mut missing, sent);
            if fetch.from > fetch.upto.min(stream.held()) {
                asked.swap_remove(i);
            }
        }
        missing
    }

    /// Which of these parts begins first in the feed, and how far it goes before another's begin comes. What waits
    /// is behind the feed; that something is gone comes before it.
    fn earliest(&self, feed: &Feed, asked: &[Fetch]) -> Option<(usize, &Stream, u64)> {
        let place = |fetch: &Fetch| match self.find(fetch.stream) {
            Some(stream) if stream.first_from(fetch.from, feed) > fetch.from => 0,
            Some(stream) => stream.offset(fetch.from).unwrap_or(Offset::MAX),
            None => Offset::MAX,
        };
        let places = asked.iter().map(place).zip(0..);
        let (_, i) = places.clone().min()?;
        let next = places.filter(|(_, other)| *other != i).map(|(at, _)| at).min().unwrap_or(Offset::MAX);
        let (fetch, stream) = (&asked[i], self.find(asked[i].stream)?);
        Some((i, stream, stream.position(next).max(fetch.from).min(fetch.upto)))
    }

    /// Appends the frames of `wanted` that fit. Returns the next to send. Those that are gone are named.
    fn put(
        &self,
        stream: &Stream,
        feed: &Feed,
        out: &mut Vec<u8>,
        wanted: RangeInclusive<u64>,
        missing: &mut Option<Offset>,
        sent: &mut Traffic,
    ) -> u64 {
        let (mut seq, upto) = wanted.into_inner();
        let first = stream.first_from(seq, feed);
        if seq <= upto && seq < first {
            seq = first;
            let before = out.len();
            frame::control(out, &PeerMessage::FetchGone { stream: stream.id, first: seq });
            sent.count(Kind::Fetch, out.len() - before);
        }
        let mut scratch = Vec::new();
        while seq <= upto && out.len() < PEER_OUT_BYTES {
            let line = match (stream.offset(seq), stream.waiting(seq)) {
                (Some(at), _) if at >= feed.head() => feed.read(at, feed.frame_end(at)),
                (Some(at), _) => {
                    scratch.clear();
                    if let Err(at) = feed.copy(at, self.frame_end(feed, at), &mut scratch) {
                        *missing = Some(at);
                        break;
                    }
                    (&scratch[..], &[][..])
                }
                (None, Some(line)) => (line, &[][..]),
                (None, None) => break,
            };
            let before = out.len();
            frame::data(out, stream.id, seq, stream.prev(seq), line);
            sent.count(Kind::Data, out.len() - before);
            seq += 1;
        }
        seq
    }
}

/// The same with one more, which is not left out where there are too many.
pub(super) fn with_before(prev: &Prev, before: (StreamId, u64)) -> Prev {
    let others = prev.iter().filter(|(stream, _)| *stream != before.0).copied();
    let same = prev.iter().find(|(stream, _)| *stream == before.0).map_or(0, |(_, seq)| *seq);
    [(before.0, before.1.max(same))].into_iter().chain(others).take(PREV_MAX).collect()
}

/// What a session's first message must not come before: where its name spoke last on other servers, as
/// far as that stands in the feed here.
pub(super) fn prev_of(last: &Vector, relay: &Relay) -> Prev {
    let known = |(stream, seq): &(StreamId, u64)| *stream != relay.own() && relay.applied_of(*stream) >= *seq;
    let mut prev: Vec<(StreamId, u64)> = last.iter().filter(known).collect();
    prev.truncate(PREV_MAX);
    prev.into()
}
