//! A journal's files with any bytes in them, read as after a crash.

use crate::base::feed::Offset;
use crate::base::id::StreamId;
use crate::store::{Blocks, Found, Run, encode, recover};

/// The first byte of `input` says how many files there are. Each begins with two bytes, its length, and one:
/// where it begins, counted from where the one before should end. The rest of `input` is written, not
/// read: it is lines for a good journal, of which the first bytes say what is damaged.
pub fn journal(input: &[u8]) {
    let Some((count, mut rest)) = input.split_first() else { return };
    let (mut files, mut first) = (Vec::new(), 0);
    for _ in 0..count % 4 {
        let Some((head, after)) = rest.split_first_chunk::<3>() else { return };
        let length = usize::from(u16::from_le_bytes([head[0], head[1]])).min(after.len());
        let (bytes, after) = after.split_at(length);
        files.push((first + Offset::from(head[2]), bytes));
        first = files[files.len() - 1].0 + bytes.iter().filter(|b| **b >= b' ').count() as Offset + 1;
        rest = after;
    }
    recovered(&files);
    damaged(rest);
}

/// What is found in the files: lines that follow each other without a gap.
fn recovered(files: &[(Offset, &[u8])]) -> Vec<(Offset, Vec<u8>)> {
    let names: Vec<Offset> = files.iter().map(|(first, _)| *first).collect();
    let open = |first| Ok(files[names.iter().position(|name| *name == first).expect("a name")].1);
    let mut lines: Vec<(Offset, Vec<u8>)> = Vec::new();
    let recovery = recover(&names, open, &mut |found| match found {
        Found::Line(line) => lines.push((line.offset, line.bytes.to_vec())),
        Found::ForgetLines => lines.clear(),
        Found::Row { .. } | Found::ForgetRows => panic!("a journal has no rows"),
    });
    let head = recovery.segments.first().map_or(0, |segment| segment.first);
    let tail = recovery.segments.last().map_or(0, |segment| segment.end);
    let mut at = head;
    for (offset, bytes) in &lines {
        assert_eq!(*offset, at);
        assert!(bytes.ends_with(b"\n") && bytes.iter().filter(|b| **b == b'\n').count() == 1);
        at += bytes.len() as Offset;
    }
    assert_eq!(at, tail);
    for (before, after) in recovery.segments.iter().zip(&recovery.segments[1.min(recovery.segments.len())..])
    {
        assert_eq!(before.end, after.first);
    }
    for segment in &recovery.segments {
        let bytes = open(segment.first).expect("a file that was there");
        // What is kept of a file is good to its last byte: read again alone, it is whole.
        let mut blocks = Blocks::new(&bytes[..segment.length as usize], segment.first);
        while blocks.read().expect("it was read before").is_some() {}
        let (from, place) = segment.mark(segment.end);
        assert!(from <= segment.end && place <= segment.length);
    }
    assert_eq!(recovery.segments.len() + recovery.useless.len(), files.len());
    lines
}

/// A good journal of one file, cut or with up to 32 bits in a row changed: what is found was written.
fn damaged(script: &[u8]) {
    let Some((&[kind, a, b, mask], text)) = script.split_first_chunk::<4>() else { return };
    let (mut file, mut want, mut ends, mut head) = (Vec::new(), Vec::new(), vec![0], Vec::new());
    for (seq, block) in text.split(|byte| *byte == 0).filter(|block| !block.is_empty()).enumerate() {
        let offset = want.iter().map(|(_, line): &(Offset, Vec<u8>)| line.len() as Offset).sum();
        let text: Vec<u8> = block.iter().chain(b"\n").copied().collect();
        let mut at: Offset = offset;
        let before = want.len();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            want.push((at, line.to_vec()));
            at += line.len() as Offset;
        }
        let run = Run { stream: StreamId(1), first: seq as u64, count: (want.len() - before) as u32 };
        encode(&mut head, offset, 1, &[run], [&text, b""]);
        file.extend_from_slice(&head);
        file.extend_from_slice(&text);
        ends.push(file.len());
    }
    let place = usize::from(u16::from_le_bytes([a, b])) % (file.len() + 1);
    let (mut at, whole) = (file.len(), file.len());
    if kind % 2 == 0 {
        file.truncate(place);
        at = place;
    } else if mask != 0 && place < whole {
        file[place] ^= mask;
        at = place;
    }
    let good = ends.iter().filter(|end| **end <= at).count() - 1;
    let mut lines = recovered(&[(0, &file)]);
    let mut bytes = 0;
    let kept = want.iter().take_while(|(_, line)| {
        bytes += line.len();
        bytes <= lines.iter().map(|(_, line)| line.len()).sum()
    });
    assert_eq!(kept.cloned().collect::<Vec<_>>(), lines);
    if at == whole {
        assert_eq!(good + 1, ends.len());
    }
    // As many blocks as stand before the damage, and no more.
    let mut blocks = Blocks::new(&file[..], 0);
    for _ in 0..good {
        let block = blocks.read().expect("it stands before the damage").expect("there are so many");
        lines.drain(..block.lines().count());
    }
    assert!(lines.is_empty());
}
