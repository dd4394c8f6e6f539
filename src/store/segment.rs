//! A segment: one file of the journal, named for the offset of its first byte.
//!
//! What is kept of it in memory is where it begins and ends, and a sparse list of its blocks, so that a
//! reader finds its place without reading the file from the start.

use std::path::{Path, PathBuf};

use crate::base::feed::Offset;
use crate::base::limits::{MARK_BYTES, SEGMENT_BYTES};

/// One file of the journal, as memory knows it.
#[derive(Clone, Debug)]
pub struct Segment {
    /// The feed's offset of its first byte; its name.
    pub first: Offset,
    /// The feed's offset behind its last good byte.
    pub end: Offset,
    /// Bytes of the file that hold good blocks.
    pub length: u64,
    /// When its last block was written, in ms since 1970.
    pub wall_ms: u64,
    /// Some of its blocks: where each begins in the feed and in the file, in rising order.
    marks: Vec<(Offset, u64)>,
}

impl Segment {
    /// One without a block yet.
    pub fn new(first: Offset) -> Segment {
        let marks = Vec::with_capacity((SEGMENT_BYTES / MARK_BYTES) as usize + 2);
        Segment { first, end: first, length: 0, wall_ms: 0, marks }
    }

    /// True while there is no good block in it.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Notes a block of `bytes` feed bytes that takes `disk_bytes`, at the end.
    pub fn push(&mut self, bytes: u64, disk_bytes: u64, wall_ms: u64) {
        if self.marks.last().is_none_or(|(_, at)| self.length - at >= MARK_BYTES) {
            self.marks.push((self.end, self.length));
        }
        self.end += bytes;
        self.length += disk_bytes;
        self.wall_ms = self.wall_ms.max(wall_ms);
    }

    /// The last marked block at or below `offset`: where it begins in the feed and in the file.
    pub fn mark(&self, offset: Offset) -> (Offset, u64) {
        match self.marks.partition_point(|(from, _)| *from <= offset) {
            0 => (self.first, 0),
            n => self.marks[n - 1],
        }
    }
}

/// Where the segment that begins at `first` lies.
pub fn path(folder: &Path, first: Offset) -> PathBuf {
    folder.join(format!("{first:020}.log"))
}

/// The first offset of the segment with this name, if it is the name of one.
pub fn first_of(name: &str) -> Option<Offset> {
    let digits = name.strip_suffix(".log")?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_its_segment_begins() {
        let name = path(Path::new(""), 1 << 40);
        assert_eq!(first_of(name.to_str().unwrap()), Some(1 << 40));
        for wrong in ["1.log", "+0000000000000000001.log", "99999999999999999999.log", "notes.txt"] {
            assert_eq!(first_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_place_is_found_through_the_last_mark_below_it() {
        let mut segment = Segment::new(100);
        for _ in 0..4 {
            segment.push(MARK_BYTES / 2, MARK_BYTES / 2 + 52, 7);
        }
        assert_eq!(segment.mark(100), (100, 0));
        assert_eq!(segment.mark(100 + MARK_BYTES - 1), (100, 0));
        assert_eq!(segment.mark(100 + MARK_BYTES), (100 + MARK_BYTES, MARK_BYTES + 104));
    }
}
