//! Reading the journal from a thread of its own: a [`Place`] is looked up where the journal is owned, the
//! bytes are read here. The two share nothing but files.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::block::{Blocks, Damage};
use super::segment;
use crate::base::feed::Offset;
use crate::base::limits::CHUNK_BYTES;

/// Where an offset of the feed is found on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is looked for.
    pub offset: Offset,
    /// The segment it is in, and where that ends.
    pub(super) segment: Offset,
    pub(super) end: Offset,
    /// A block at or before it: where that begins in the feed and in the file.
    pub(super) from: Offset,
    pub(super) at: u64,
}

/// What a reader gets.
#[derive(Debug)]
pub enum Chunk {
    /// Bytes of the feed from the offset on; at least one.
    Bytes(Vec<u8>),
    /// The offset is no longer on disk, or not yet.
    Gone,
}

/// Reads chunks of the feed. It remembers where it was, so one reader's next chunk costs no search.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    segment: Offset,
    blocks: Blocks<BufReader<File>>,
    /// The part of the feed the current block holds.
    held: (Offset, Offset),
}

impl Reader {
    /// One for the journal in `folder`.
    pub fn new(folder: &Path) -> Reader {
        Reader { folder: folder.to_owned(), open: None }
    }

    /// Up to `length` bytes (at most [`CHUNK_BYTES`]) that begin exactly at `place`. A chunk ends with its
    /// segment, and before damage. Every block of it was checked; an error says that the first could not
    /// be read.
    pub fn read(&mut self, place: Option<Place>, length: usize) -> io::Result<Chunk> {
        let Some(place) = place else { return Ok(Chunk::Gone) };
        let length = length.min(CHUNK_BYTES);
        // Where it was may have been read while a write failed that was done again: then once more, anew.
        let was_here = self.is_near(&place);
        let mut result = self.attempt(place, length);
        if was_here && result.is_err() {
            self.open = None;
            result = self.attempt(place, length);
        }
        match result {
            Ok(bytes) => Ok(Chunk::Bytes(bytes)),
            Err(e) => {
                self.open = None;
                if e.kind() == io::ErrorKind::NotFound { Ok(Chunk::Gone) } else { Err(e) }
            }
        }
    }

    /// True if the place is in the block that is held, or right behind it.
    fn is_near(&self, place: &Place) -> bool {
        let near = |open: &Open| {
            open.segment == place.segment && (open.held.0..=open.held.1).contains(&place.offset)
        };
        self.open.as_ref().is_some_and(near)
    }

    fn attempt(&mut self, place: Place, length: usize) -> io::Result<Vec<u8>> {
        if !self.is_near(&place) {
            self.seek(&place)?;
        }
        let open = self.open.as_mut().expect("it was opened");
        let mut out = Vec::with_capacity(length);
        while out.len() < length {
            let next = place.offset + out.len() as u64;
            if next >= place.end {
                break;
            }
            if next >= open.held.1 {
                match open.advance() {
                    Ok(()) => continue,
                    Err(_) if !out.is_empty() => break,
                    Err(e) => return Err(e),
                }
            }
            let bytes = open.blocks.held();
            let from = (next - open.held.0) as usize;
            let to = bytes.len().min(from + length - out.len());
            out.extend_from_slice(&bytes[from..to]);
        }
        Ok(out)
    }

    /// Goes to the marked block before the place.
    fn seek(&mut self, place: &Place) -> io::Result<()> {
        let same = self.open.take().filter(|open| open.segment == place.segment);
        let mut source = match same {
            Some(open) => open.blocks.into_source(),
            None => {
                let file = File::open(segment::path(&self.folder, place.segment))?;
                BufReader::with_capacity(CHUNK_BYTES, file)
            }
        };
        source.seek(SeekFrom::Start(place.at))?;
        let held = (place.from, place.from);
        self.open = Some(Open { segment: place.segment, blocks: Blocks::new(source, place.from), held });
        Ok(())
    }
}

impl Open {
    /// Holds the next block.
    fn advance(&mut self) -> io::Result<()> {
        match self.blocks.read() {
            Ok(Some(block)) => {
                self.held = (block.offset, block.end());
                Ok(())
            }
            Ok(None) => Err(unreadable(Damage::Torn)),
            Err(damage) => Err(unreadable(damage)),
        }
    }
}

fn unreadable(damage: Damage) -> io::Error {
    let kind = match damage {
        Damage::Unreadable(kind) => kind,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, format!("the journal cannot be read: {damage}"))
}
