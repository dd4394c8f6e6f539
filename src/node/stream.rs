//! One stream: what one boot of one server said, as far as it is held here.
//!
//! Invariant: `base ≤ applied ≤ held`. Frames up to `base` are gone, those up to `applied` stand in the
//! feed, in the order of their numbers, and those up to `held` wait here.

use std::collections::VecDeque;

use super::mesh::PeerId;
use crate::base::feed::{Feed, Offset};
use crate::base::id::StreamId;
use crate::base::spans::Range;
use crate::base::time::Time;

/// What a sender said before on other servers.
pub(super) type Prev = Box<[(StreamId, u64)]>;

/// A request for a part of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub from: PeerId,
    pub at: Time,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Stream {
    pub id: StreamId,
    base: u64,
    /// Where the applied frames begin in the feed, the first being `base + 1`: 8 bytes a frame, and all the
    /// index there is.
    offsets: VecDeque<Offset>,
    /// Frames in the feed with lower numbers: behind them is a gap that was given up.
    early: VecDeque<(u64, Offset)>,
    pending: Pending,
    /// Frames that came with a `prev`, which are few.
    prevs: VecDeque<(u64, Prev)>,
    /// Others hold it up to here, so it is wanted.
    pub wanted: u64,
    pub request: Option<Request>,
    /// Another server holds it up to here, and since when that is known, though its own link is up.
    pub told: Option<(u64, Time)>,
    /// Its own link did not bring what others had, and has brought nothing since.
    pub is_overdue: bool,
    /// Who said to have no more than this server has, and the first frame that it has behind that, if any.
    pub gone: Vec<(PeerId, u64)>,
    /// Since when all that are linked say so.
    pub gone_since: Option<Time>,
    /// Since when its next frame waits for what came before elsewhere, and until when at most.
    pub waits: Option<(Time, Time)>,
    /// When a frame was applied last.
    pub moved: Time,
}

/// Frames in a row, their bytes in one buffer.
#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    /// Where the first begins in `bytes`, and where each ends.
    from: usize,
    ends: VecDeque<usize>,
}

impl Pending {
    fn push(&mut self, frame: &[u8]) {
        if self.ends.is_empty() {
            self.bytes.clear();
            self.from = 0;
        } else if self.from > self.bytes.len() / 2 {
            let from = std::mem::take(&mut self.from);
            self.bytes.drain(..from);
            self.ends.iter_mut().for_each(|end| *end -= from);
        }
        self.bytes.extend_from_slice(frame);
        self.ends.push_back(self.bytes.len());
    }

    fn get(&self, i: usize) -> Option<&[u8]> {
        let from = if i == 0 { self.from } else { *self.ends.get(i - 1)? };
        Some(&self.bytes[from..*self.ends.get(i)?])
    }

    fn pop(&mut self) {
        if let Some(end) = self.ends.pop_front() {
            self.from = end;
        }
        if self.ends.is_empty() && self.bytes.capacity() > 1 << 20 {
            *self = Pending::default();
        }
    }

    fn len_bytes(&self) -> usize {
        if self.ends.is_empty() { 0 } else { self.bytes.len() - self.from }
    }
}

impl Stream {
    pub fn new(id: StreamId) -> Stream {
        Stream {
            id,
            base: 0,
            offsets: VecDeque::new(),
            early: VecDeque::new(),
            pending: Pending::default(),
            prevs: VecDeque::new(),
            wanted: 0,
            request: None,
            told: None,
            is_overdue: false,
            gone: Vec::new(),
            gone_since: None,
            waits: None,
            moved: Time::START,
        }
    }

    /// The last frame that stands in the feed, or is gone.
    pub fn applied(&self) -> u64 {
        self.base + self.offsets.len() as u64
    }

    /// The last frame that is here without a gap.
    pub fn held(&self) -> u64 {
        self.applied() + self.pending.ends.len() as u64
    }

    /// Bytes that wait.
    pub fn pending_bytes(&self) -> usize {
        self.pending.len_bytes()
    }

    /// Takes the next frame in.
    pub fn hold(&mut self, frame: &[u8], prev: Prev) {
        self.note_prev(self.held() + 1, prev);
        self.pending.push(frame);
    }

    /// The next frame was appended to the feed at `at` without having waited.
    pub fn applied_at_once(&mut self, at: Offset, floor: Offset) {
        debug_assert!(self.pending.ends.is_empty());
        self.offsets.push_back(at);
        self.trim(floor);
    }

    /// What must be applied before the next frame that waits; none if none waits.
    pub fn next(&self) -> Option<&[(StreamId, u64)]> {
        (!self.pending.ends.is_empty()).then(|| self.prev(self.applied() + 1))
    }

    /// Bytes of the next frame that waits.
    pub fn next_bytes(&self) -> usize {
        self.pending.get(0).map_or(0, <[u8]>::len)
    }

    /// Appends the next frame that waits to the feed.
    pub fn apply(&mut self, feed: &mut Feed, now: Time) {
        if let Some(frame) = self.pending.get(0) {
            let seq = self.base + self.offsets.len() as u64 + 1;
            self.offsets.push_back(feed.tail());
            feed.append(self.id, seq, frame);
            self.pending.pop();
            self.trim(feed.floor());
        }
        (self.waits, self.moved) = (None, now);
    }

    /// Somebody may have what others lack.
    pub fn forget_gone(&mut self) {
        self.gone.clear();
        self.gone_since = None;
    }

    /// A peer holds it up to `seq`. It may have lacked that when it was asked.
    pub fn is_held_by(&mut self, peer: PeerId, seq: u64) {
        let is_back = |gone: &mut (PeerId, u64)| *gone == (peer, u64::MAX);
        if seq > self.held() && self.gone.extract_if(.., is_back).next().is_some() {
            self.gone_since = None;
        }
    }

    /// Gives up all frames below `first`, which nobody has.
    pub fn skip_to(&mut self, first: u64) {
        debug_assert!(self.pending.ends.is_empty() && first > self.applied());
        self.leap(first);
    }

    /// The next frame has this number.
    fn leap(&mut self, first: u64) {
        self.early.extend((self.base + 1..).zip(self.offsets.drain(..)));
        self.base = first - 1;
    }

    /// A frame that waits.
    pub fn waiting(&self, seq: u64) -> Option<&[u8]> {
        self.pending.get(seq.checked_sub(self.applied() + 1)? as usize)
    }

    /// Where a frame begins in the feed.
    pub fn offset(&self, seq: u64) -> Option<Offset> {
        match seq.checked_sub(self.base + 1) {
            Some(i) => self.offsets.get(i as usize).copied(),
            None => self.early.binary_search_by_key(&seq, |early| early.0).ok().map(|i| self.early[i].1),
        }
    }

    /// The first frame from this one on that can be had, or will be.
    pub fn first_from(&self, seq: u64, feed: &Feed) -> u64 {
        let floor = feed.floor();
        let early = self.early.iter().find(|early| early.0 >= seq && early.1 >= floor);
        let first = || self.base + 1 + self.offsets.partition_point(|at| *at < floor) as u64;
        early.map_or_else(|| seq.max(first()), |early| early.0)
    }

    /// Where its last frame at or below this offset begins, and where its next above it.
    pub fn around(&self, at: Offset) -> (Option<Offset>, Option<Offset>) {
        let next = self.offsets.partition_point(|offset| *offset <= at);
        let early = self.early.partition_point(|early| early.1 <= at);
        let offset = |i: usize| self.offsets.get(i).copied();
        let early_offset = |i: usize| self.early.get(i).map(|early| early.1);
        let last = next.checked_sub(1).and_then(offset);
        let last_early = early.checked_sub(1).and_then(early_offset);
        (last.or(last_early), early_offset(early).or(offset(next)))
    }

    /// A frame stands at the feed's tail, as it was found on disk. Those between the last and this one are gone.
    pub fn restore(&mut self, seq: u64, at: Offset) {
        if seq != self.applied() + 1 {
            self.leap(seq);
        }
        self.offsets.push_back(at);
    }

    /// Frames up to `seq` were found too old before this boot.
    pub fn restore_trimmed(&mut self, seq: u64) {
        if self.offsets.is_empty() {
            self.base = self.base.max(seq);
        }
    }

    /// Forgets all frames.
    pub fn clear(&mut self) {
        self.base = self.applied();
        self.offsets.clear();
        self.early.clear();
    }

    /// How many of its frames begin below `at`: the stream's part of a position in the feed.
    pub fn position(&self, at: Offset) -> u64 {
        match self.early.get(self.early.partition_point(|early| early.1 < at)) {
            Some(next) => next.0 - 1,
            None => self.base + self.offsets.partition_point(|offset| *offset < at) as u64,
        }
    }

    /// Where the frame after `seq` begins in the feed; none if it is not applied.
    pub fn offset_after(&self, seq: u64) -> Option<Offset> {
        let early = self.early.get(self.early.partition_point(|early| early.0 <= seq));
        let offset = || self.offsets.get(seq.saturating_sub(self.base) as usize).copied();
        early.map(|early| early.1).or_else(offset)
    }

    /// Where the frames up to `seq` begin that begin at or above `from`.
    pub fn covered(&self, from: Offset, seq: u64) -> impl Iterator<Item = Offset> {
        let upto = (seq.saturating_sub(self.base) as usize).min(self.offsets.len());
        let first = self.offsets.partition_point(|at| *at < from).min(upto);
        let upto_early = self.early.partition_point(|early| early.0 <= seq);
        let first_early = self.early.partition_point(|early| early.1 < from).min(upto_early);
        let early = self.early.range(first_early..upto_early).map(|early| early.1);
        early.chain(self.offsets.range(first..upto).copied())
    }

    /// The frames that begin in a range of the feed, each with its number.
    pub fn frames(&self, range: Range) -> impl Iterator<Item = (Offset, u64)> {
        let from = self.offsets.partition_point(|at| *at < range.from);
        let to = self.offsets.partition_point(|at| *at < range.to);
        let early_from = self.early.partition_point(|early| early.1 < range.from);
        let early_to = self.early.partition_point(|early| early.1 < range.to);
        let early = self.early.range(early_from..early_to).map(|early| (early.1, early.0));
        let first = self.base + 1 + from as u64;
        early.chain(self.offsets.range(from..to).copied().zip(first..))
    }

    /// What must be applied before this frame.
    pub fn prev(&self, seq: u64) -> &[(StreamId, u64)] {
        match self.prevs.binary_search_by_key(&seq, |(seq, _)| *seq) {
            Ok(i) => &self.prevs[i].1,
            Err(_) => &[],
        }
    }

    fn note_prev(&mut self, seq: u64, prev: Prev) {
        if !prev.is_empty() {
            self.prevs.push_back((seq, prev));
        }
    }

    /// Forgets frames that cannot be had any more.
    pub fn trim(&mut self, head: Offset) {
        while self.offsets.front().is_some_and(|at| *at < head) {
            self.offsets.pop_front();
            self.base += 1;
        }
        while self.early.front().is_some_and(|early| early.1 < head) {
            self.early.pop_front();
        }
        while self.prevs.front().is_some_and(|(seq, _)| *seq <= self.base) {
            self.prevs.pop_front();
        }
    }
}
