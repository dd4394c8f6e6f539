//! The feed: every broadcast, once, in the order this server applied it.
//!
//! One bounded ring of bytes with absolute offsets. A frame is a finished line: its last byte is LF and
//! no other byte of it is. So a frame's borders can be seen in the bytes and need no index.
//! Invariant: `head ≤ tail ≤ head + capacity`; the bytes of `head..tail` are readable.

use std::collections::VecDeque;

use memchr::memchr;

use super::id::StreamId;
use super::limits::CHUNKS;

/// A place in the feed: how many bytes were ever written before it.
pub type Offset = u64;

/// Lines in a row of one stream, as they follow each other in the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose they are.
    pub stream: StreamId,
    /// The number of the first.
    pub first: u64,
    /// How many.
    pub count: u32,
}

/// What is to be put on disk: where it begins, whose lines it is, and its bytes.
pub type Unwritten<'a> = (Offset, &'a [Run], [&'a [u8]; 2]);

/// The ring of broadcasts. Memory is reserved at once and touched only as it is written.
///
/// What has left it may be on disk still. Pieces of that are put back for a while as they are asked for.
#[derive(Debug)]
pub struct Feed {
    bytes: Box<[u8]>,
    tail: Offset,
    /// Nothing below was ever in the ring.
    start: Offset,
    /// The oldest offset on disk, which begins a frame.
    kept: Option<Offset>,
    /// What lies between this and the tail is not on disk yet, and whose it is; unless nothing is to be kept.
    written: Option<Offset>,
    runs: Vec<Run>,
    /// From disk, oldest request first.
    chunks: VecDeque<(Offset, Box<[u8]>)>,
}

impl Feed {
    /// A feed that keeps the last `capacity` bytes, rounded up to a power of two.
    pub fn new(capacity: usize) -> Feed {
        Feed {
            bytes: vec![0; capacity.next_power_of_two()].into_boxed_slice(),
            tail: 0,
            start: 0,
            kept: None,
            written: None,
            runs: Vec::new(),
            chunks: VecDeque::new(),
        }
    }

    /// Goes on at `tail`, with nothing: what was there is gone, or on disk.
    pub fn restart(&mut self, tail: Offset) {
        (self.tail, self.start) = (tail, tail);
        self.runs.clear();
    }

    /// From now on what is appended is to be kept on disk. What is there begins at `kept`, and ends here.
    pub fn keep(&mut self, kept: Offset) {
        (self.kept, self.written) = (Some(kept), Some(self.tail));
        self.runs.clear();
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The offset behind the last frame: what is appended next starts here.
    pub fn tail(&self) -> Offset {
        self.tail
    }

    /// The oldest offset whose byte is in the ring; it may lie inside a frame.
    pub fn head(&self) -> Offset {
        self.tail.saturating_sub(self.bytes.len() as u64).max(self.start)
    }

    /// The oldest offset that can be had at all.
    pub fn floor(&self) -> Offset {
        self.kept.map_or(self.head(), |kept| kept.min(self.head()))
    }

    /// Appends one frame and forgets as many of the oldest bytes.
    ///
    /// The frame must end in LF, have no other LF, and be no longer than the capacity.
    pub fn append(&mut self, stream: StreamId, seq: u64, frame: &[u8]) {
        debug_assert_eq!(memchr(b'\n', frame), Some(frame.len() - 1));
        assert!(frame.len() <= self.bytes.len(), "limits tie the longest frame to the feed");
        self.note(stream, seq, frame.len());
        let at = self.place(self.tail);
        let first = frame.len().min(self.bytes.len() - at);
        self.bytes[at..at + first].copy_from_slice(&frame[..first]);
        self.bytes[..frame.len() - first].copy_from_slice(&frame[first..]);
        self.tail += frame.len() as u64;
    }

    /// Counts a frame that is longer than the ring, and is on disk only.
    pub fn skip(&mut self, bytes: usize) {
        self.tail += bytes as u64;
        self.start = self.tail;
    }

    fn note(&mut self, stream: StreamId, seq: u64, bytes: usize) {
        let Some(written) = self.written else { return };
        if self.tail + bytes as u64 - written > self.bytes.len() as u64 {
            // The disk takes nothing: what it lacks must not hold more memory. There will be a gap on it.
            self.written = Some(self.tail);
            self.runs.clear();
        }
        match self.runs.last_mut() {
            Some(run) if run.stream == stream && run.first + u64::from(run.count) == seq => run.count += 1,
            _ => self.runs.push(Run { stream, first: seq, count: 1 }),
        }
    }

    /// What is to be put on disk.
    pub fn unwritten(&self) -> Option<Unwritten<'_>> {
        let from = self.written.filter(|written| *written < self.tail)?;
        let (a, b) = self.read(from, self.tail);
        Some((from, &self.runs, [a, b]))
    }

    /// All of that is on disk; what is there begins at `kept`.
    pub fn wrote(&mut self, kept: Offset) {
        (self.kept, self.written) = (Some(kept), Some(self.tail));
        self.runs.clear();
    }

    /// What is on disk begins at `kept` now.
    pub fn dropped(&mut self, kept: Offset) {
        if self.kept.is_some() {
            self.kept = Some(kept);
        }
    }

    /// Puts back a piece from disk. The piece that was put back first goes when there are many.
    pub fn put_back(&mut self, from: Offset, bytes: Box<[u8]>) {
        if self.chunks.len() >= CHUNKS {
            self.chunks.pop_front();
        }
        self.chunks.push_back((from, bytes));
    }

    /// The bytes at `at` and behind, if that was put back.
    fn chunk(&self, at: Offset) -> Option<&[u8]> {
        let holds = |(from, bytes): &&(Offset, Box<[u8]>)| *from <= at && at - from < bytes.len() as u64;
        let (from, bytes) = self.chunks.iter().rev().find(holds)?;
        Some(&bytes[(at - from) as usize..])
    }

    /// Up to where [`read`](Feed::read) can read from `at` on; `at` itself if it must be asked of the disk.
    pub fn readable(&self, at: Offset) -> Offset {
        match at >= self.head() {
            true => self.tail,
            false => at + self.chunk(at).map_or(0, |bytes| bytes.len() as u64).min(self.tail - at),
        }
    }

    /// The bytes `from..to`, in the two pieces the ring may hold them in. An empty range may be anywhere.
    pub fn read(&self, from: Offset, to: Offset) -> (&[u8], &[u8]) {
        if from == to {
            return (&[], &[]);
        }
        let n = (to - from) as usize;
        if from < self.head() {
            let bytes = self.chunk(from).filter(|bytes| n <= bytes.len());
            return (&bytes.expect("a reader asks what is readable first")[..n], &[]);
        }
        assert!(from <= to && to <= self.tail, "a reader stays below the tail");
        let at = self.place(from);
        let first = n.min(self.bytes.len() - at);
        (&self.bytes[at..at + first], &self.bytes[..n - first])
    }

    /// Copies `from..to` behind `out`, or names the first byte that must be asked of the disk.
    pub fn copy(&self, mut from: Offset, to: Offset, out: &mut Vec<u8>) -> Result<(), Offset> {
        while from < to {
            let end = self.readable(from).min(to);
            if end == from {
                return Err(from);
            }
            let (a, b) = self.read(from, end);
            out.extend_from_slice(a);
            out.extend_from_slice(b);
            from = end;
        }
        Ok(())
    }

    /// True when a frame begins at `at`, as far as the byte before can be read.
    pub fn is_border(&self, at: Offset) -> bool {
        at == 0 || at == self.start || (self.readable(at - 1) >= at && self.read(at - 1, at).0 == b"\n")
    }

    /// The end of the frame that holds `at`: the next border above it, at most the tail. Where `at` has left
    /// the ring, the first border that is certain; in a piece from disk at most its end.
    pub fn frame_end(&self, at: Offset) -> Offset {
        let end = self.readable(at);
        let (at, end) = if end == at { (at.max(self.head()), self.tail) } else { (at, end) };
        let (a, b) = self.read(at, end);
        let found = memchr(b'\n', a).or_else(|| memchr(b'\n', b).map(|i| a.len() + i));
        found.map_or(end, |i| at + i as u64 + 1)
    }

    /// The first offset that can be had and certainly begins a frame.
    pub fn first_border(&self) -> Offset {
        match self.floor() {
            floor if floor < self.head() || floor == self.start => floor,
            head => self.frame_end(head),
        }
    }

    fn place(&self, at: Offset) -> usize {
        at as usize & (self.bytes.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(feed: &Feed, from: Offset) -> Vec<u8> {
        let (a, b) = feed.read(from, feed.tail());
        [a, b].concat()
    }

    #[test]
    fn what_is_appended_is_read_back_over_the_rings_end() {
        let mut feed = Feed::new(16);
        feed.append(StreamId(1), 1, b"0123456789\n");
        feed.append(StreamId(1), 1, b"abcdefg\n");
        assert_eq!((feed.head(), feed.tail()), (3, 19));
        assert_eq!(text(&feed, 11), b"abcdefg\n");
        assert_eq!(feed.first_border(), 11);
        assert_eq!(feed.frame_end(14), 19);
    }

    proptest! {
        #[test]
        fn borders_agree_with_a_plain_copy(lens in prop::collection::vec(1usize..40, 1..60), probe in 0u64..2000) {
            let (mut feed, mut all) = (Feed::new(64), Vec::new());
            for n in lens {
                let mut frame = vec![b'x'; n];
                frame[n - 1] = b'\n';
                feed.append(StreamId(1), 1, &frame);
                all.extend(frame);
            }
            let head = feed.head();
            prop_assert_eq!(&text(&feed, head), &all[head as usize..]);
            let at = head + probe % (feed.tail() - head);
            let borders: Vec<u64> = std::iter::once(0)
                .chain(all.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i as u64 + 1))
                .collect();
            let first = *borders.iter().find(|b| **b > head || head == 0).unwrap();
            prop_assert_eq!(feed.first_border(), first);
            prop_assert_eq!(feed.frame_end(at), *borders.iter().find(|b| **b > at).unwrap());
            if at > head { prop_assert_eq!(feed.is_border(at), borders.contains(&at)); }
        }
    }
}
