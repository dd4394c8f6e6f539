//! Splits a client's bytes into lines, under any chunking, copying only what is left over.
//!
//! Invariant: `buffer[at..]` is what came and was not taken; below `at + clean` it has no LF.

use memchr::memchr;

/// What the taker of a line wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// This line is done, give the next.
    Next,
    /// This line is done, but stop here for now.
    Pause,
    /// Not now: keep this line, it will be asked for again.
    Again,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Everything complete was taken; more bytes are needed.
    Dry,
    /// The taker stopped; complete lines may be waiting.
    Stopped,
    /// The line at the front is longer than the limit; nothing behind it can be trusted.
    Overlong,
}

/// The bytes of one connection that are not yet a taken line. Most of the time there are none.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    at: usize,
    clean: usize,
}

impl Lines {
    /// Bytes held.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// True when no byte is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes held: what is left for whoever takes over where the lines end.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.at..]
    }

    /// Bytes of memory owned.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Forgets everything, keeping at most `keep` bytes of memory.
    pub fn reset(&mut self, keep: usize) {
        self.buffer.clear();
        self.buffer.shrink_to(keep);
        (self.at, self.clean) = (0, 0);
    }

    /// Gives the held complete lines and those `chunk` completes to `take`, without their LF or CRLF;
    /// blank ones are passed over. `limit` is the longest line, in bytes without the line end. What is
    /// not taken is held for the next call.
    pub fn feed(&mut self, chunk: &[u8], limit: usize, mut take: impl FnMut(&[u8]) -> Flow) -> Split {
        let mut rest = chunk;
        while !self.is_empty() {
            let (used, clean, split) = give(&self.buffer[self.at..], self.clean, limit, &mut take);
            self.at += used;
            self.clean = clean;
            if split != Split::Dry {
                self.hold(rest);
                return split;
            }
            if self.is_empty() {
                break;
            }
            if rest.is_empty() {
                return Split::Dry;
            }
            let n = memchr(b'\n', rest).map_or(rest.len(), |i| i + 1);
            self.hold(&rest[..n]);
            rest = &rest[n..];
        }
        self.buffer.clear();
        self.at = 0;
        let (used, clean, split) = give(rest, 0, limit, &mut take);
        self.hold(&rest[used..]);
        self.clean = clean;
        split
    }

    fn hold(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.at > 0 {
            self.buffer.copy_within(self.at.., 0);
            self.buffer.truncate(self.buffer.len() - self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }
}

/// Gives the complete lines of `bytes` to `take`; the first `clean` bytes are known to have no LF.
/// Returns how many bytes are used up, and how many behind those are known to have no LF.
fn give(
    bytes: &[u8],
    mut clean: usize,
    limit: usize,
    take: &mut impl FnMut(&[u8]) -> Flow,
) -> (usize, usize, Split) {
    let mut at = 0;
    loop {
        let open = &bytes[at..];
        let Some(end) = memchr(b'\n', &open[clean..]).map(|i| i + clean) else {
            // One byte above the limit may still be the CR of a CRLF.
            let split = if open.len() > limit + 1 { Split::Overlong } else { Split::Dry };
            return (at, open.len(), split);
        };
        clean = 0;
        let line = open[..end].strip_suffix(b"\r").unwrap_or(&open[..end]);
        if line.len() > limit {
            return (at, 0, Split::Overlong);
        }
        let flow = if line.iter().all(u8::is_ascii_whitespace) { Flow::Next } else { take(line) };
        if flow != Flow::Again {
            at += end + 1;
        }
        if flow != Flow::Next {
            return (at, 0, Split::Stopped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(lines: &mut Lines, chunk: &[u8], limit: usize) -> (Vec<String>, Split) {
        let mut out = Vec::new();
        let split = lines.feed(chunk, limit, |line| {
            out.push(String::from_utf8_lossy(line).into_owned());
            Flow::Next
        });
        (out, split)
    }

    #[test]
    fn lines_end_in_lf_or_crlf_and_blank_ones_are_passed_over() {
        let mut lines = Lines::default();
        assert_eq!(
            all(&mut lines, b"a\r\n\n \t\r\n b \nc", 99),
            (vec!["a".into(), " b ".into()], Split::Dry)
        );
        assert_eq!(lines.len(), 1);
        assert_eq!(all(&mut lines, b"\r\n", 99), (vec!["c".into()], Split::Dry));
        assert!(lines.is_empty());
    }

    #[test]
    fn a_line_of_the_limit_passes_and_one_byte_more_does_not() {
        for end in ["\n", "\r\n"] {
            let mut lines = Lines::default();
            assert_eq!(all(&mut lines, format!("12345{end}").as_bytes(), 5).1, Split::Dry);
            assert_eq!(all(&mut lines, format!("123456{end}").as_bytes(), 5).1, Split::Overlong);
        }
        let mut lines = Lines::default();
        assert_eq!(all(&mut lines, b"12345", 5).1, Split::Dry);
        assert_eq!(all(&mut lines, b"\r", 5).1, Split::Dry);
        assert_eq!(all(&mut lines, b"\n", 5), (vec!["12345".into()], Split::Dry));
        let mut lines = Lines::default();
        assert_eq!(all(&mut lines, b"1234567", 5).1, Split::Overlong, "seen before the line ends");
    }

    #[test]
    fn what_follows_the_last_line_is_there_for_another_reader() {
        for chunks in [&[&b"one\ntwo\n\xff\n"[..]][..], &[b"on", b"e\ntwo\n\xff\n"]] {
            let mut lines = Lines::default();
            for chunk in chunks {
                lines.feed(chunk, 99, |_| Flow::Pause);
            }
            assert_eq!(lines.rest(), b"two\n\xff\n");
        }
    }

    #[test]
    fn a_line_not_taken_now_is_given_again() {
        let mut lines = Lines::default();
        let mut given = Vec::new();
        let mut flows = [Flow::Again, Flow::Again, Flow::Pause, Flow::Next].into_iter();
        for chunk in [&b"one\ntwo\nth"[..], b"", b"", b"ree\n"] {
            lines.feed(chunk, 99, |line| {
                given.push(String::from_utf8_lossy(line).into_owned());
                flows.next().unwrap_or(Flow::Next)
            });
        }
        assert_eq!(given, ["one", "one", "one", "two", "three"]);
        assert!(lines.is_empty());
    }

    proptest! {
        #[test]
        fn chunks_and_pauses_change_nothing(
            text in "[ab\r\n]{0,60}",
            cuts in prop::collection::vec(1usize..7, 1..40),
            flows in prop::collection::vec(0u8..3, 1..40),
        ) {
            let whole = all(&mut Lines::default(), text.as_bytes(), 999).0;
            let (mut lines, mut out) = (Lines::default(), Vec::new());
            let mut flows = flows.into_iter().chain(std::iter::repeat(0));
            let mut take = |line: &[u8]| match flows.next() {
                Some(1) => Flow::Again,
                n => {
                    out.push(String::from_utf8_lossy(line).into_owned());
                    if n == Some(2) { Flow::Pause } else { Flow::Next }
                }
            };
            let (mut rest, mut cuts) = (text.as_bytes(), cuts.into_iter().cycle());
            while !rest.is_empty() {
                let n = cuts.next().unwrap().min(rest.len());
                lines.feed(&rest[..n], 999, &mut take);
                rest = &rest[n..];
            }
            while lines.feed(b"", 999, &mut take) == Split::Stopped && lines.buffer[lines.at..].contains(&b'\n') {}
            prop_assert_eq!(out, whole);
        }
    }
}
