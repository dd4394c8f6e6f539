//! Bytes from a reader, cut into lines.
//!
//! Invariant: `start ≤ scanned ≤ end ≤ bytes.len()`, and `start..scanned` holds no line end. No byte
//! is searched twice, and none is moved more than about once, however long the line.

use std::io::{self, ErrorKind, Read};

use memchr::memchr;

/// The longest line taken, from the server or from standard input: the longest a server can be set to
/// (64 MiB) and room for what a broadcast puts around it.
pub(super) const LINE_BYTES_MAX: usize = 65 << 20;
/// What one read asks for at first; longer lines double it.
const READ_BYTES: usize = 64 << 10;

/// The bytes read and not yet taken as lines.
pub(super) struct Lines {
    bytes: Vec<u8>,
    start: usize,
    scanned: usize,
    end: usize,
    line_bytes_max: usize,
}

impl Lines {
    pub(super) fn new(line_bytes_max: usize) -> Lines {
        Lines { bytes: vec![0; READ_BYTES.min(line_bytes_max)], start: 0, scanned: 0, end: 0, line_bytes_max }
    }

    /// The next whole line that is here already, without its `\n`.
    pub(super) fn take(&mut self) -> Option<&[u8]> {
        let Some(length) = memchr(b'\n', &self.bytes[self.scanned..self.end]) else {
            self.scanned = self.end;
            return None;
        };
        let line = self.start..self.scanned + length;
        self.start = line.end + 1;
        self.scanned = self.start;
        self.check();
        Some(&self.bytes[line])
    }

    /// What is here after the last line end.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Reads once; returns the number of bytes, 0 at the end. To be called when `take` has no more.
    ///
    /// # Errors
    /// Those of the reader, and `InvalidData` when a line is longer than allowed.
    pub(super) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        self.make_room()?;
        loop {
            match source.read(&mut self.bytes[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    self.check();
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn make_room(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.scanned, self.end) = (0, 0, 0);
        }
        if self.end < self.bytes.len() {
            return Ok(());
        }
        let (size, limit) = (self.bytes.len(), self.line_bytes_max);
        // Moving at most half the buffer pays for itself with the half that was taken since.
        if self.start >= size / 2 || (self.start > 0 && size >= limit) {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.scanned, self.end) = (0, self.scanned - self.start, self.end - self.start);
        } else if size < limit {
            self.bytes.resize(limit.min(size * 2), 0);
        } else {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("a line is longer than {limit} bytes"),
            ));
        }
        Ok(())
    }

    fn check(&self) {
        debug_assert!(self.start <= self.scanned);
        debug_assert!(self.scanned <= self.end);
        debug_assert!(self.end <= self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that gives at most `step` bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(into.len());
            self.0.read(&mut into[..count])
        }
    }

    fn cut(bytes: &[u8], step: usize, line_bytes_max: usize) -> io::Result<Vec<Vec<u8>>> {
        let (mut lines, mut source, mut found) = (Lines::new(line_bytes_max), Drops(bytes, step), Vec::new());
        loop {
            while let Some(line) = lines.take() {
                found.push(line.to_vec());
            }
            if lines.fill(&mut source)? == 0 {
                found.push(lines.rest().to_vec());
                return Ok(found);
            }
        }
    }

    #[test]
    fn any_chunking_gives_the_same_lines() {
        let mut text = b"\n\none\r\ntwo\n".to_vec();
        text.extend_from_slice(&vec![b'x'; 300_000]);
        text.extend_from_slice(b"\nend\n\nunfinished");
        let expected: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for step in [1, 2, 3, 7, 4096, 65_535, usize::MAX] {
            assert_eq!(
                cut(&text, step, LINE_BYTES_MAX).expect("no line is too long"),
                expected,
                "step {step}"
            );
        }
    }

    #[test]
    fn a_line_over_the_limit_is_an_error_that_names_it() {
        let error = cut(&[b'x'; 5000], 100, 1000).expect_err("five times the limit");
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(error.to_string().contains("1000 bytes"));
    }
}
