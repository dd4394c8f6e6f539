//! Floor 3: what is on disk. It knows bytes, streams and numbers, but no message and no client.
//!
//! The [`Journal`] is the feed, as it is, and a server adds to it once a turn. [`Records`] are all else:
//! rows of bytes in a small database. The [`Store`] owns both, with the one thread that waits for the disk:
//! it syncs, reads, commits and removes, so that the loop never does.
//!
//! ```text
//!   loop ── append ──▶ journal ── writev ──▶ feed/00000000000000000000.log
//!     │                                              ▲ read, sync, remove
//!     └─ Request ──▶ ring ──▶ worker ────────────────┤
//!     ◀── Answer ─── ring ◀────┘  wake               ▼ commit
//!                                               records.redb
//! ```
//!
//! Whatever fails is an answer. Damage found at the start is cut off or set aside, and said; it is never a
//! reason not to start.

mod block;
mod disk;
mod journal;
mod reading;
mod recovery;
mod segment;

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use block::{Block, Blocks, Damage, Run, encode};
pub use disk::{Disk, RealDisk};
pub use journal::{Journal, Recovered, Retention};
pub use reading::{Chunk, Place, Reader};
pub use recovery::{Loss, Recovery, recover};

use crate::base::feed::Offset;
use crate::base::id::StreamId;

/// What is on disk when a store is opened, a piece at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A line of the journal. They come in order.
    Line(Line<'a>),
    /// There is a gap behind all lines so far: they are no part of the journal any more.
    ForgetLines,
}

/// One line of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Where it stands in the feed.
    pub offset: Offset,
    /// Whose it is.
    pub stream: StreamId,
    /// Its number in that stream.
    pub seq: u64,
    /// When it was appended, in ms since 1970.
    pub wall_ms: u64,
    /// The line, LF included.
    pub bytes: &'a [u8],
}

/// A part of a journal's file that could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: PathBuf,
    /// Bytes of it that are not kept.
    pub bytes: u64,
    /// Why.
    pub damage: Damage,
}

/// Makes a folder that only its owner may look into, and those above it.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
