//! What is left of a journal when its server starts again.
//!
//! The rule: offsets have no holes, so what is kept is the longest run of good blocks, without a gap, that
//! ends with the last good block there is.
//!
//! - Behind damage nothing of that file is read. If it is the last file with a good block, the journal ends
//!   there: that is the torn tail of a crash.
//! - If the next file begins where the good part ends, nothing was lost and reading goes on: that is what a
//!   write leaves which failed and could not be taken back.
//! - If it begins elsewhere, all before it is dropped.
//!
//! This part is pure: it takes anything that can be read, and never panics.

use std::io::Read;

use super::block::{Blocks, Damage};
use super::segment::Segment;
use super::{Found, Line};
use crate::base::feed::Offset;

/// A part of a file that is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The file: the offset it is named for.
    pub first: Offset,
    /// Where in the file it begins; it goes to the end.
    pub at: u64,
    /// Why.
    pub damage: Damage,
}

/// What [`recover`] found.
#[derive(Debug, Default)]
pub struct Recovery {
    /// What is kept, in order, each beginning where the one before ends.
    pub segments: Vec<Segment>,
    /// Files of which nothing is kept, by the offset they are named for.
    pub useless: Vec<Offset>,
    /// What is not kept. Empty files are not named.
    pub losses: Vec<Loss>,
}

/// Reads segments in the order of their first offsets, `names`; `open` gives the bytes of one. Every line
/// that is kept goes to `found`; [`Found::ForgetLines`] takes back all before it.
pub fn recover<R: Read>(
    names: &[Offset],
    mut open: impl FnMut(Offset) -> Result<R, Damage>,
    found: &mut dyn FnMut(Found<'_>),
) -> Recovery {
    let mut all = Recovery::default();
    // Damage behind the good part of the last kept segment.
    let mut behind = None;
    for (i, &first) in names.iter().enumerate() {
        let limit = names.get(i + 1).copied().unwrap_or(Offset::MAX);
        let mut segment = Segment::new(first);
        let damage = match open(first) {
            Ok(source) => {
                read(&mut Blocks::new(source, first), &mut segment, limit, &mut |line, is_first| {
                    if is_first && all.segments.last().is_some_and(|last| last.end != first) {
                        drop_all(&mut all, behind.take());
                        found(Found::ForgetLines);
                    }
                    found(Found::Line(line));
                })
            }
            Err(damage) => Some(damage),
        };
        if segment.is_empty() {
            all.useless.push(first);
            all.losses.extend(damage.map(|damage| Loss { first, at: 0, damage }));
        } else {
            all.segments.push(segment);
            behind = damage;
        }
    }
    if let (Some(last), Some(damage)) = (all.segments.last(), behind) {
        all.losses.push(Loss { first: last.first, at: last.length, damage });
    }
    all
}

/// Reads one segment's good blocks, and says what ended them if it was not the file's end. `line` is told
/// whether it is the segment's first.
fn read<R: Read>(
    blocks: &mut Blocks<R>,
    segment: &mut Segment,
    limit: Offset,
    line: &mut dyn FnMut(Line<'_>, bool),
) -> Option<Damage> {
    loop {
        let block = match blocks.read() {
            Ok(Some(block)) => block,
            Ok(None) => return None,
            Err(damage) => return Some(damage),
        };
        if block.end() > limit {
            return Some(Damage::Overlap);
        }
        let mut is_first = segment.is_empty();
        for (offset, stream, seq, bytes) in block.lines() {
            line(Line { offset, stream, seq, wall_ms: block.wall_ms, bytes }, is_first);
            is_first = false;
        }
        segment.push(block.bytes.len() as u64, block.disk_bytes(), block.wall_ms);
    }
}

/// There is a gap: what was kept so far is not. `behind` is what ended its last segment.
fn drop_all(all: &mut Recovery, mut behind: Option<Damage>) {
    for segment in all.segments.drain(..).rev() {
        let damage = behind.take().unwrap_or(Damage::Gap);
        all.losses.push(Loss { first: segment.first, at: 0, damage });
        all.useless.push(segment.first);
    }
}
