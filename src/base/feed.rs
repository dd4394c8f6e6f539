//! The feed: every broadcast, once, in the order this server applied it.
//!
//! One bounded ring of bytes with absolute offsets. A frame is a finished line: its last byte is LF and
//! no other byte of it is. So a frame's borders can be seen in the bytes and need no index.
//! Invariant: `head ≤ tail ≤ head + capacity`; the bytes of `head..tail` are readable.

use memchr::{memchr, memrchr};

/// A place in the feed: how many bytes were ever written before it.
pub type Offset = u64;

/// The ring of broadcasts. Memory is reserved at once and touched only as it is written.
#[derive(Debug)]
pub struct Feed {
    bytes: Box<[u8]>,
    tail: Offset,
}

impl Feed {
    /// A feed that keeps the last `capacity` bytes, rounded up to a power of two.
    pub fn new(capacity: usize) -> Feed {
        Feed { bytes: vec![0; capacity.next_power_of_two()].into_boxed_slice(), tail: 0 }
    }

    /// The offset behind the last frame: what is appended next starts here.
    pub fn tail(&self) -> Offset {
        self.tail
    }

    /// The oldest offset whose byte is still here; it may lie inside a frame.
    pub fn head(&self) -> Offset {
        self.tail.saturating_sub(self.bytes.len() as u64)
    }

    /// Appends one frame and forgets as many of the oldest bytes.
    ///
    /// The frame must end in LF, have no other LF, and be no longer than the capacity.
    pub fn append(&mut self, frame: &[u8]) {
        debug_assert_eq!(memchr(b'\n', frame), Some(frame.len() - 1));
        assert!(frame.len() <= self.bytes.len(), "limits tie the longest frame to the feed");
        let at = self.place(self.tail);
        let first = frame.len().min(self.bytes.len() - at);
        self.bytes[at..at + first].copy_from_slice(&frame[..first]);
        self.bytes[..frame.len() - first].copy_from_slice(&frame[first..]);
        self.tail += frame.len() as u64;
    }

    /// The bytes `from..to`, in the two pieces the ring may hold them in. Of an empty range there are none,
    /// wherever it lies.
    pub fn read(&self, from: Offset, to: Offset) -> (&[u8], &[u8]) {
        let is_here = self.head() <= from && from <= to && to <= self.tail;
        assert!(is_here || from == to, "a reader checks the head first");
        let (at, n) = (self.place(from), (to - from) as usize);
        let first = n.min(self.bytes.len() - at);
        (&self.bytes[at..at + first], &self.bytes[..n - first])
    }

    /// True when a frame begins at `at`. `at` must lie above the head, or be 0.
    pub fn is_border(&self, at: Offset) -> bool {
        at == 0 || self.bytes[self.place(at - 1)] == b'\n'
    }

    /// The start of the frame that holds `at`, or the first border still here if that one is cut off.
    pub fn frame_start(&self, at: Offset) -> Offset {
        if at <= self.head() {
            return self.first_border();
        }
        let (a, b) = self.read(self.head(), at);
        let found = memrchr(b'\n', b).map(|i| a.len() + i).or_else(|| memrchr(b'\n', a));
        match found {
            Some(i) => self.head() + i as u64 + 1,
            None => self.first_border(),
        }
    }

    /// The end of the frame that holds `at`: the next border above it, at most the tail.
    pub fn frame_end(&self, at: Offset) -> Offset {
        let (a, b) = self.read(at, self.tail);
        let found = memchr(b'\n', a).or_else(|| memchr(b'\n', b).map(|i| a.len() + i));
        found.map_or(self.tail, |i| at + i as u64 + 1)
    }

    /// The first offset that is readable and certainly begins a frame.
    pub fn first_border(&self) -> Offset {
        match self.head() {
            0 => 0,
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
        feed.append(b"0123456789\n");
        feed.append(b"abcdefg\n");
        assert_eq!((feed.head(), feed.tail()), (3, 19));
        assert_eq!(text(&feed, 11), b"abcdefg\n");
        assert_eq!(feed.first_border(), 11);
        assert_eq!(feed.frame_start(14), 11);
        assert_eq!(feed.frame_end(14), 19);
        assert_eq!(feed.frame_start(2), 11, "a frame that is cut off gives way to the next");
    }

    proptest! {
        #[test]
        fn borders_agree_with_a_plain_copy(lens in prop::collection::vec(1usize..40, 1..60), probe in 0u64..2000) {
            let (mut feed, mut all) = (Feed::new(64), Vec::new());
            for n in lens {
                let mut frame = vec![b'x'; n];
                frame[n - 1] = b'\n';
                feed.append(&frame);
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
            let start = *borders.iter().rfind(|b| **b <= at).unwrap();
            prop_assert_eq!(feed.frame_start(at), if start > head || head == 0 { start } else { first });
            prop_assert_eq!(feed.frame_end(at), *borders.iter().find(|b| **b > at).unwrap());
            if at > head { prop_assert_eq!(feed.is_border(at), borders.contains(&at)); }
        }
    }
}
