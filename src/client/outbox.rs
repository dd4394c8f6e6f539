//! Lines on their way out, in one buffer.
//!
//! Invariant: `line ≤ head ≤ bytes.len()`, where `line` is the beginning of the line `head` is in. So
//! what was not wholly written can be written again, from its beginning, on another connection.

use memchr::{memchr, memrchr};
use zeroize::Zeroizing;

/// Written bytes that are kept before the buffer is moved together.
const WRITTEN_BYTES_MAX: usize = 64 << 10;

/// A queue of lines that remembers how far it was written. It holds secrets, so it is wiped at the end.
#[derive(Default)]
pub(super) struct Outbox {
    bytes: Zeroizing<Vec<u8>>,
    line: usize,
    head: usize,
}

impl Outbox {
    /// Adds one line, given in parts; the line end is added here.
    pub(super) fn push(&mut self, parts: &[&[u8]]) {
        self.compact();
        for part in parts {
            debug_assert!(memchr(b'\n', part).is_none(), "a line has no line end inside");
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(b'\n');
    }

    /// All bytes that are not written yet.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    /// The rest of the line that is partly written; empty if none is.
    pub(super) fn torn(&self) -> &[u8] {
        let unsent = self.unsent();
        match memchr(b'\n', unsent) {
            Some(end) if self.line < self.head => &unsent[..=end],
            _ => &[],
        }
    }

    /// `count` more bytes were written; returns how many of them were not from here.
    pub(super) fn sent(&mut self, count: usize) -> usize {
        let mine = count.min(self.unsent().len());
        let written = &self.bytes[self.head..self.head + mine];
        if let Some(end) = memrchr(b'\n', written) {
            self.line = self.head + end + 1;
        }
        self.head += mine;
        self.check();
        count - mine
    }

    /// A partly written line is to be written again from its beginning.
    pub(super) fn rewind(&mut self) {
        self.head = self.line;
    }

    /// Forgets written lines once they are the greater part, so that each byte is moved at most once
    /// on average.
    fn compact(&mut self) {
        if self.line == self.bytes.len()
            || (self.line > WRITTEN_BYTES_MAX && self.line > self.bytes.len() / 2)
        {
            self.bytes.drain(..self.line);
            self.head -= self.line;
            self.line = 0;
            self.check();
        }
    }

    fn check(&self) {
        debug_assert!(self.line <= self.head);
        debug_assert!(self.head <= self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partly_written_line_is_finished_or_written_again() {
        let mut outbox = Outbox::default();
        outbox.push(&[b"one"]);
        outbox.push(&[b"two", b"!"]);
        assert_eq!(outbox.torn(), b"");
        assert_eq!(outbox.sent(6), 0);
        assert_eq!(outbox.torn(), b"o!\n");
        outbox.rewind();
        assert_eq!(outbox.unsent(), b"two!\n");
        assert_eq!(outbox.torn(), b"");
        assert_eq!(outbox.sent(7), 2);
        assert_eq!(outbox.unsent(), b"");
    }

    #[test]
    fn what_was_written_does_not_pile_up() {
        let mut outbox = Outbox::default();
        for turn in 0..10_000_usize {
            outbox.push(&[&[b'x'; 99]]);
            assert_eq!(outbox.sent(if turn == 0 { 50 } else { 100 }), 0);
            assert_eq!(outbox.torn().len(), 50);
        }
        assert!(outbox.bytes.len() < 4 * WRITTEN_BYTES_MAX);
    }
}
