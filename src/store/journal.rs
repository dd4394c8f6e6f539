//! The journal: the feed on disk. The same bytes in the same order, at the same offsets.
//!
//! One block a turn, one `writev`. Blocks stand in segments, files of some 16 MiB; old ones go as a whole.
//! Invariant: segments are in order and each begins where the one before ends, so `head..tail` is readable.
//!
//! A write that fails takes nothing away: the file is cut back to its last good block, or given up for a
//! new one. The server goes on from memory. When writing works again it may do so at a later offset; then
//! there is a gap, and what was before it is dropped, because offsets in the journal have no holes.
//!
//! What is written has reached the kernel, so it outlives the process. It outlives the machine once it is
//! synced, see [`Fsync`](super::Fsync). After a start the journal ends with the last good block; offsets
//! above that may be used again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::block::{self, Damage};
use super::disk::{Disk, RealDisk};
use super::reading::Place;
use super::recovery::{Loss, Recovery, recover};
use super::segment::{self, Segment};
use super::{Cut, Found};
use crate::base::feed::{Offset, Run};
use crate::base::limits::{BLOCK_BYTES, SEGMENT_BYTES};

/// How much of the feed is kept, whichever is less. The segment in work always stays.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Bytes of all segments together.
    pub bytes: u64,
    /// How long a line is kept, by the wall clock. The time is in the blocks, so it survives a restart and
    /// a copy. Where that clock was set back, lines stay as much longer.
    pub age: Duration,
}

/// What [`Journal::open`] found.
#[derive(Debug, Default)]
pub struct Recovered {
    /// The oldest offset that can be read.
    pub head: Offset,
    /// The offset behind the last line.
    pub tail: Offset,
    /// What could not be kept, and why.
    pub cuts: Vec<Cut>,
}

/// The feed's files, and the one that grows.
#[derive(Debug)]
pub struct Journal<D = RealDisk> {
    disk: D,
    folder: PathBuf,
    retention: Retention,
    segments: VecDeque<Segment>,
    /// The last segment's file; none before the first append, or when it was given up.
    file: Option<Arc<File>>,
    tail: Offset,
    /// Bytes of all segments.
    disk_bytes: u64,
    /// Segments that are no longer part of it, whose files are still there.
    retired: VecDeque<Offset>,
    /// Files that grow no more and were not handed out for a sync.
    sealed: VecDeque<Arc<File>>,
    /// Feed bytes that were on disk or should have been, and are lost to gaps.
    gap_bytes: u64,
    failing: bool,
    /// Head and runs of the block in work.
    scratch: Vec<u8>,
}

impl Journal {
    /// Opens the journal in `folder` and makes the folder if it is not there. Every line that is readable
    /// goes to `found`, oldest first. Damage is cut off and said once in the log; it is no error. What is
    /// older than `retention` allows at `wall_ms` is retired. An error says that the folder cannot be used.
    pub fn open(
        folder: &Path,
        retention: Retention,
        wall_ms: u64,
        found: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<(Journal, Recovered)> {
        Journal::open_on(RealDisk, folder, retention, wall_ms, found)
    }
}

impl<D: Disk> Journal<D> {
    /// The same on another disk.
    pub fn open_on(
        disk: D,
        folder: &Path,
        retention: Retention,
        wall_ms: u64,
        found: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<(Journal<D>, Recovered)> {
        super::make_folder(folder)?;
        let names = names(folder)?;
        let open = |first| {
            let file = File::open(segment::path(folder, first));
            file.map(|file| io::BufReader::with_capacity(256 << 10, file))
                .map_err(|e| Damage::Unreadable(e.kind()))
        };
        let recovery = recover(&names, open, found);
        let cuts = cuts(folder, &recovery);
        let Recovery { segments, useless, losses } = recovery;
        remove(folder, &useless, &losses);
        let mut journal = Journal {
            disk,
            folder: folder.to_owned(),
            retention,
            tail: segments.last().map_or(0, |last| last.end),
            disk_bytes: segments.iter().map(|s| s.length).sum(),
            segments: segments.into(),
            file: None,
            retired: VecDeque::new(),
            sealed: VecDeque::new(),
            gap_bytes: 0,
            failing: false,
            scratch: Vec::new(),
        };
        // What the system did not give is not cut off.
        let unreadable = losses.last().is_some_and(|loss| matches!(loss.damage, Damage::Unreadable(_)));
        if let Some(last) = journal.segments.back().filter(|_| !unreadable) {
            match journal.disk.open(&segment::path(folder, last.first), last.length) {
                Ok(file) => journal.file = Some(Arc::new(file)),
                Err(e) => log::warn!("journal: a new file is begun: the last cannot be written to: {e}"),
            }
        }
        journal.expire(wall_ms);
        let recovered = Recovered { head: journal.head(), tail: journal.tail, cuts };
        Ok((journal, recovered))
    }

    /// The oldest offset that can be read.
    pub fn head(&self) -> Offset {
        self.segments.front().map_or(self.tail, |first| first.first)
    }

    /// The offset behind the last line.
    pub fn tail(&self) -> Offset {
        self.tail
    }

    /// Feed bytes that are lost because writing failed for a while: those never written, and those before.
    pub fn gap_bytes(&self) -> u64 {
        self.gap_bytes
    }

    /// Appends lines as one block. They stand in the feed at `from`; `bytes` are the two pieces the feed
    /// may hold them in. `from` is the tail, or above it after an append that failed. Nothing is allocated
    /// but where a new file begins.
    ///
    /// On an error nothing changed: the journal ends where it ended.
    pub fn append(&mut self, from: Offset, wall_ms: u64, runs: &[Run], bytes: [&[u8]; 2]) -> io::Result<()> {
        let length = bytes[0].len() + bytes[1].len();
        if length == 0 {
            return Ok(());
        }
        if length > BLOCK_BYTES || from < self.tail {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "lines that are no next block"));
        }
        block::encode(&mut self.scratch, from, wall_ms, runs, bytes);
        let disk_bytes = (self.scratch.len() + length) as u64;
        let result = match self.room(from, disk_bytes) {
            Some((file, good)) => self.go_on(&file, good, bytes),
            None => self.begin(from, bytes),
        };
        if let Err(e) = result {
            if !self.failing {
                log::warn!("journal: it cannot be written, talk goes on without: {e}");
            }
            self.failing = true;
            return Err(e);
        }
        if self.failing {
            log::warn!("journal: it is written again, from {from}; {} bytes are lost so far", self.gap_bytes);
            self.failing = false;
        }
        let last = self.segments.back_mut().expect("a segment was written to");
        last.push(length as u64, disk_bytes, wall_ms);
        self.disk_bytes += disk_bytes;
        self.tail = from + length as u64;
        self.expire(wall_ms);
        Ok(())
    }

    /// The last file, and its good bytes, if the next block belongs there.
    fn room(&self, from: Offset, disk_bytes: u64) -> Option<(Arc<File>, u64)> {
        let good = self.segments.back()?.length;
        let file = self.file.as_ref()?;
        (from == self.tail && good + disk_bytes <= SEGMENT_BYTES).then(|| (Arc::clone(file), good))
    }

    /// Writes the block to the last file. If that fails, what was written of it is taken back; if that fails
    /// too, the file is given up: a new one goes on where its good part ends.
    fn go_on(&mut self, file: &File, good: u64, bytes: [&[u8]; 2]) -> io::Result<()> {
        let result = self.write(file, bytes);
        if result.is_err()
            && let Err(e) = self.disk.cut(file, good)
        {
            log::warn!("journal: a new file is begun: the last cannot be cut back: {e}");
            self.sealed.extend(self.file.take());
        }
        result
    }

    /// Begins a segment with the block.
    fn begin(&mut self, from: Offset, bytes: [&[u8]; 2]) -> io::Result<()> {
        let path = segment::path(&self.folder, from);
        let file = Arc::new(self.disk.open(&path, 0)?);
        if let Err(e) = self.write(&file, bytes) {
            // If it stays, it holds no good block, and is overwritten or removed later.
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        if from > self.tail {
            self.jump(from);
        }
        self.sealed.extend(self.file.replace(file));
        self.segments.push_back(Segment::new(from));
        Ok(())
    }

    /// The feed goes on above what is on disk: what is there is dropped.
    fn jump(&mut self, from: Offset) {
        if !self.segments.is_empty() {
            self.gap_bytes += from - self.head();
        }
        self.retired.extend(self.segments.drain(..).map(|segment| segment.first));
        self.file = None;
        self.sealed.clear();
        self.disk_bytes = 0;
        self.tail = from;
    }

    /// Writes the block in work. Where the system takes a part only, the rest is tried again, so that its
    /// reason comes to light.
    fn write(&mut self, file: &File, bytes: [&[u8]; 2]) -> io::Result<()> {
        let mut parts = [IoSlice::new(&self.scratch), IoSlice::new(bytes[0]), IoSlice::new(bytes[1])];
        let mut rest = &mut parts[..];
        while !rest.is_empty() {
            match self.disk.write(file, rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut rest, n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Retires segments that are too old, or too many, at this time.
    pub fn expire(&mut self, wall_ms: u64) {
        let age = self.retention.age.as_millis() as u64;
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.front()
            && (self.disk_bytes > self.retention.bytes || wall_ms.saturating_sub(oldest.wall_ms) > age)
        {
            self.disk_bytes -= oldest.length;
            self.retired.push_back(oldest.first);
            self.segments.pop_front();
        }
    }

    /// The next segment whose file is to be removed, if there is one.
    pub fn take_retired(&mut self) -> Option<Offset> {
        self.retired.pop_front()
    }

    /// The next file that grows no more and has to be synced, if there is one.
    pub fn take_sealed(&mut self) -> Option<Arc<File>> {
        self.sealed.pop_front()
    }

    /// The file that grows; none while there is none.
    pub fn file(&self) -> Option<Arc<File>> {
        self.file.clone()
    }

    /// Where `offset` is to be read; none if it is no longer or not yet on disk.
    pub fn place(&self, offset: Offset) -> Option<Place> {
        let i = self.segments.partition_point(|segment| segment.end <= offset);
        let segment = self.segments.get(i).filter(|segment| segment.first <= offset)?;
        let (from, at) = segment.mark(offset);
        Some(Place { offset, segment: segment.first, end: segment.end, from, at })
    }
}

/// The first offsets of all segments in the folder, in order. What else is there is left alone.
fn names(folder: &Path) -> io::Result<Vec<Offset>> {
    let (mut names, mut strange, mut example) = (Vec::new(), 0, None);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let first = entry.file_name().to_str().and_then(segment::first_of);
        match first {
            Some(first) if entry.file_type()?.is_file() => names.push(first),
            _ => {
                strange += 1;
                example.get_or_insert(entry.path());
            }
        }
    }
    if let Some(example) = example {
        log::warn!(
            "journal: {strange} files are not the journal's and are left alone: {}",
            example.display()
        );
    }
    names.sort_unstable();
    Ok(names)
}

/// Removes files of which nothing is kept, at once, since a new one may get the same name. What the system
/// does not give today it may give tomorrow: that stays.
fn remove(folder: &Path, useless: &[Offset], losses: &[Loss]) {
    for first in useless {
        let unreadable = |loss: &Loss| loss.first == *first && matches!(loss.damage, Damage::Unreadable(_));
        let path = segment::path(folder, *first);
        if !losses.iter().any(unreadable)
            && let Err(e) = fs::remove_file(&path)
        {
            log::warn!("journal: {} cannot be removed: {e}", path.display());
        }
    }
}

/// What is lost, for the log and the caller.
fn cuts(folder: &Path, recovery: &Recovery) -> Vec<Cut> {
    let cut = |loss: &Loss| {
        let file = segment::path(folder, loss.first);
        let bytes = fs::metadata(&file).map_or(0, |meta| meta.len()).saturating_sub(loss.at);
        Cut { file, bytes, damage: loss.damage }
    };
    let cuts: Vec<Cut> = recovery.losses.iter().map(cut).collect();
    if let Some(Cut { file, damage, .. }) = cuts.first() {
        let bytes: u64 = cuts.iter().map(|cut| cut.bytes).sum();
        let more = cuts.len() - 1;
        log::warn!("journal: {bytes} bytes are cut off: {}: {damage}; and {more} more files", file.display());
    }
    cuts
}
