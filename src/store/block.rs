//! A block: what one turn of the server adds to the journal. Made here, and read here from any bytes.
//!
//! ```text
//! magic 4 │ crc 4 │ offset 8 │ wall ms 8 │ bytes 4 │ runs 4 │ runs: stream 8, first 8, count 4 │ lines
//!                 └──────────────── what the checksum covers ──────────────────────────────────────┘
//! ```
//!
//! All numbers are little-endian. A line ends in LF and has no other, so the lines need no lengths: there
//! are as many as the runs count. Reading is pure: it takes a [`Read`] and never panics, whatever is in it.

use std::fmt;
use std::io::{self, Read};

use memchr::memchr_iter;

use crate::base::feed::{Offset, Run};
use crate::base::id::StreamId;
use crate::base::limits::{BLOCK_BYTES, BLOCK_KEPT_BYTES};

/// Bytes before the runs.
pub const HEAD_BYTES: usize = 32;
/// Bytes of one run.
pub const RUN_BYTES: usize = 20;
const MAGIC: [u8; 4] = *b"ASj1";

/// Why a journal cannot be read on. It is the text in the log, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The file ends inside a block, as after a crash.
    Torn,
    /// No block begins here.
    NoBlock,
    /// The bytes are not those that were written.
    Checksum,
    /// The block does not begin where the one before ended.
    Order,
    /// Its lines are not those it names.
    Lines,
    /// The file goes on beyond the start of the next.
    Overlap,
    /// The next file begins elsewhere.
    Gap,
    /// The system does not give the bytes.
    Unreadable(io::ErrorKind),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Damage::Torn => "it ends inside a block",
            Damage::NoBlock => "there is no block where one should begin",
            Damage::Checksum => "a checksum is wrong",
            Damage::Order => "a block does not begin where the one before ended",
            Damage::Lines => "a block's lines are not those it names",
            Damage::Overlap => "it goes on beyond the start of the next file",
            Damage::Gap => "the next file does not begin where this one ends",
            Damage::Unreadable(kind) => return write!(f, "it cannot be read: {kind}"),
        })
    }
}

/// Puts a block's head and runs into `out`; the bytes of the lines follow them. `out` keeps its memory.
pub fn encode(out: &mut Vec<u8>, offset: Offset, wall_ms: u64, runs: &[Run], bytes: [&[u8]; 2]) {
    let length = bytes[0].len() + bytes[1].len();
    debug_assert!(length <= BLOCK_BYTES, "the journal checks it");
    out.clear();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&wall_ms.to_le_bytes());
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&(runs.len() as u32).to_le_bytes());
    for run in runs {
        out.extend_from_slice(&run.stream.0.to_le_bytes());
        out.extend_from_slice(&run.first.to_le_bytes());
        out.extend_from_slice(&run.count.to_le_bytes());
    }
    let mut crc = crc32fast::Hasher::new();
    crc.update(&out[8..]);
    crc.update(bytes[0]);
    crc.update(bytes[1]);
    out[4..8].copy_from_slice(&crc.finalize().to_le_bytes());
}

/// A block that is as it was written.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Where its first line stands in the feed.
    pub offset: Offset,
    /// When it was written, in ms since 1970.
    pub wall_ms: u64,
    /// Its lines, each with its LF.
    pub bytes: &'a [u8],
    runs: &'a [u8],
}

impl<'a> Block<'a> {
    /// The place in the feed behind its last line.
    pub fn end(&self) -> Offset {
        self.offset + self.bytes.len() as u64
    }

    /// What it takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        (HEAD_BYTES + self.runs.len() + self.bytes.len()) as u64
    }

    /// Its runs, in order.
    pub fn runs(&self) -> impl Iterator<Item = Run> + use<'a> {
        self.runs.as_chunks::<RUN_BYTES>().0.iter().map(|run| Run {
            stream: StreamId(u64_at(run, 0)),
            first: u64_at(run, 8),
            count: u32_at(run, 16),
        })
    }

    /// Its lines, in order: place, stream, number and bytes of each.
    pub fn lines(&self) -> impl Iterator<Item = (Offset, StreamId, u64, &'a [u8])> + use<'a> {
        let (mut from, bytes, offset) = (0, self.bytes, self.offset);
        let names =
            self.runs().flat_map(|run| (run.first..).take(run.count as usize).map(move |seq| (run, seq)));
        memchr_iter(b'\n', bytes).zip(names).map(move |(lf, (run, seq))| {
            let line = &bytes[from..=lf];
            let at = offset + from as u64;
            from = lf + 1;
            (at, run.stream, seq, line)
        })
    }

    /// True if the runs name as many lines as there are, and numbers that exist.
    fn is_sound(&self) -> bool {
        let mut lines = 0;
        let good = self.runs().all(|run| {
            lines += u64::from(run.count);
            run.count > 0 && run.first.checked_add(u64::from(run.count)).is_some()
        });
        good && self.bytes.last() == Some(&b'\n') && lines == memchr_iter(b'\n', self.bytes).count() as u64
    }
}

/// Reads blocks one after the other, each where the one before ended. Holds one block at a time.
#[derive(Debug)]
pub struct Blocks<R> {
    source: R,
    /// The current block as on disk; for one that is cut off, what there is of it.
    held: Vec<u8>,
    /// Where the current block ends in the feed, and the next must begin.
    expected: Offset,
    /// Runs of the current block.
    runs: usize,
}

impl<R: Read> Blocks<R> {
    /// The blocks in `source`, the first of which must begin at `from`.
    pub fn new(source: R, from: Offset) -> Blocks<R> {
        Blocks { source, held: Vec::new(), expected: from, runs: 0 }
    }

    /// The next block; none at the end. After damage nothing can be read on.
    pub fn read(&mut self) -> Result<Option<Block<'_>>, Damage> {
        self.held.clear();
        self.held.shrink_to(BLOCK_KEPT_BYTES);
        match self.take(HEAD_BYTES)? {
            0 => return Ok(None),
            HEAD_BYTES => {}
            _ => return Err(Damage::Torn),
        }
        if self.held[..4] != MAGIC {
            return Err(Damage::NoBlock);
        }
        let offset = u64_at(&self.held, 8);
        let (length, runs) = (u32_at(&self.held, 24) as usize, u32_at(&self.held, 28) as usize);
        if length > BLOCK_BYTES || runs > length {
            return Err(Damage::NoBlock);
        }
        let end = offset.checked_add(length as u64).ok_or(Damage::NoBlock)?;
        if offset != self.expected {
            return Err(Damage::Order);
        }
        let rest = runs * RUN_BYTES + length;
        if self.take(rest)? < rest {
            return Err(Damage::Torn);
        }
        if crc32fast::hash(&self.held[8..]) != u32_at(&self.held, 4) {
            return Err(Damage::Checksum);
        }
        let block = self.current(offset, runs);
        if !block.is_sound() {
            return Err(Damage::Lines);
        }
        self.expected = end;
        self.runs = runs;
        Ok(Some(self.current(offset, runs)))
    }

    /// The lines of the current block; none where there is none.
    pub fn held(&self) -> &[u8] {
        let runs = self.runs * RUN_BYTES;
        self.held.get(HEAD_BYTES + runs..).unwrap_or_default()
    }

    /// What it reads from.
    pub fn into_source(self) -> R {
        self.source
    }

    /// The block in `held`.
    fn current(&self, offset: Offset, runs: usize) -> Block<'_> {
        let (runs, bytes) = self.held[HEAD_BYTES..].split_at(runs * RUN_BYTES);
        Block { offset, wall_ms: u64_at(&self.held, 16), bytes, runs }
    }

    /// Puts up to `n` bytes behind what is held, and says how many there were. A length that is a lie
    /// takes no more memory than the file has bytes.
    fn take(&mut self, n: usize) -> Result<usize, Damage> {
        let mut source = self.source.by_ref().take(n as u64);
        source.read_to_end(&mut self.held).map_err(|e| Damage::Unreadable(e.kind()))
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}
