use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use activitystreamer::base::id::StreamId;
use activitystreamer::base::limits::SEGMENT_BYTES;
use activitystreamer::store::{Chunk, Damage, Journal, Reader, Retention, Run};
use proptest::prelude::*;

use crate::disk::{Faults, FaultyDisk};
use crate::stage::{Folder, KEEP_ALL, Lines, append, keep, line, open};

fn read(journal: &Journal<impl activitystreamer::store::Disk>, reader: &mut Reader, at: u64) -> Vec<u8> {
    match reader.read(journal.place(at), 256 << 10).unwrap() {
        Chunk::Bytes(bytes) => bytes,
        Chunk::Gone => panic!("{at} is gone"),
    }
}

#[test]
fn a_new_journal_is_empty_and_begins_anywhere() {
    let folder = Folder::new();
    let (mut journal, recovered, _) = open(folder.path());
    assert_eq!((recovered.head, recovered.tail), (0, 0));
    assert!(journal.place(0).is_none());
    append(&mut journal, 500, 1, "one\n").unwrap();
    assert_eq!((journal.head(), journal.tail(), journal.gap_bytes()), (500, 504, 0));
    let (_, recovered, lines) = open(folder.path());
    assert_eq!((recovered.head, recovered.tail), (500, 504));
    assert_eq!(lines, [(500, 7, 1, b"one\n".to_vec())]);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_at_the_last_good_block_and_written_on() {
    let folder = Folder::new();
    let (mut journal, _, _) = open(folder.path());
    let first = append(&mut journal, 0, 1, "first\nsecond\n").unwrap();
    let file = folder.segments().remove(0);
    let good = fs::read(&file).unwrap().len();
    append(&mut journal, 13, 3, "third\nfourth\n").unwrap();
    let whole = fs::read(&file).unwrap();
    drop(journal);
    for n in good..whole.len() {
        fs::write(&file, &whole[..n]).unwrap();
        let (mut journal, recovered, lines) = open(folder.path());
        assert_eq!(lines, first);
        assert_eq!(fs::read(&file).unwrap(), &whole[..good]);
        let cut: Vec<_> = recovered.cuts.iter().map(|cut| (cut.bytes, cut.damage)).collect();
        assert_eq!(cut, if n == good { vec![] } else { vec![((n - good) as u64, Damage::Torn)] });
        let more = append(&mut journal, 13, 9, "again\n").unwrap();
        assert_eq!(open(folder.path()).2, [first.clone(), more].concat());
    }
}

#[test]
fn a_flipped_bit_anywhere_cuts_there_and_never_gives_other_bytes() {
    let folder = Folder::new();
    let (mut journal, _, _) = open(folder.path());
    let blocks = [
        append(&mut journal, 0, 1, "a\n").unwrap(),
        append(&mut journal, 2, 2, "bb\ncc\n").unwrap(),
        append(&mut journal, 8, 4, "d\n").unwrap(),
    ];
    let file = folder.segments().remove(0);
    let whole = fs::read(&file).unwrap();
    let ends = [54, 54 + 58, whole.len()];
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &bytes).unwrap();
        let mut reader = Reader::new(folder.path());
        let chunk = reader.read(journal.place(0), 100);
        let kept = ends.iter().filter(|end| **end <= bit / 8).count();
        let want: Lines = blocks[..kept].concat();
        match chunk {
            Ok(Chunk::Bytes(bytes)) => {
                assert_eq!(bytes, want.iter().flat_map(|l| l.3.clone()).collect::<Vec<_>>())
            }
            Ok(Chunk::Gone) => panic!("it is there"),
            Err(e) => assert_eq!((kept, e.kind()), (0, ErrorKind::InvalidData)),
        }
        let (_, recovered, lines) = open(folder.path());
        assert_eq!(lines, want, "bit {bit}");
        assert_eq!(recovered.cuts.len(), 1);
    }
}

#[test]
fn behind_damage_in_an_older_file_only_the_newer_files_are_kept() {
    let folder = Folder::new();
    let (mut journal, _, _) = open(folder.path());
    let big = line(SEGMENT_BYTES as usize - 200);
    let n = big.len() as u64;
    append(&mut journal, 0, 1, &big).unwrap();
    append(&mut journal, n, 2, &big).unwrap();
    let last = append(&mut journal, 2 * n, 3, "last\n").unwrap();
    drop(journal);
    let files = folder.segments();
    assert_eq!(files.len(), 2, "the last line has room in the second file");
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[1 << 20] ^= 1;
    fs::write(&files[0], bytes).unwrap();
    let (_, recovered, lines) = open(folder.path());
    assert_eq!((recovered.head, recovered.tail), (n, 2 * n + 5));
    assert_eq!(lines[1..], last[..]);
    assert_eq!(recovered.cuts[0].damage, Damage::Checksum);
    assert_eq!(folder.segments(), files[1..]);
    fs::write(&files[0], b"").unwrap();
    fs::write(folder.path().join("notes.log"), b"").unwrap();
    assert!(open(folder.path()).1.cuts.is_empty(), "an empty file and a strange one are no loss");
}

#[test]
fn a_gap_between_files_drops_what_is_before_it() {
    let folder = Folder::new();
    let (mut journal, _, _) = open(folder.path());
    append(&mut journal, 0, 1, "one\n").unwrap();
    let disk = FaultyDisk::default();
    drop(journal);
    let mut lines = Vec::new();
    let opened = Journal::open_on(disk.clone(), folder.path(), KEEP_ALL, 0, &mut keep(&mut lines));
    let mut journal = opened.unwrap().0;
    disk.set(Faults { room: Some(50), ..Faults::default() });
    assert_eq!(append(&mut journal, 4, 2, "two\n").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!((journal.head(), journal.tail()), (0, 4));
    assert_eq!(append(&mut journal, 8, 3, "six\n").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(
        (journal.head(), journal.tail()),
        (0, 4),
        "nothing is dropped before something new is written"
    );
    disk.set(Faults::default());
    let later = append(&mut journal, 12, 4, "later\n").unwrap();
    assert_eq!((journal.head(), journal.tail(), journal.gap_bytes()), (12, 18, 12));
    assert!(journal.place(0).is_none() && journal.place(18).is_none());
    assert_eq!(folder.segments().len(), 2, "the old file waits to be removed");
    drop(journal);
    let (_, recovered, found) = open(folder.path());
    assert_eq!((recovered.head, recovered.tail, found), (12, 18, later));
    assert_eq!(recovered.cuts[0].damage, Damage::Gap);
    assert_eq!(folder.segments().len(), 1);
}

#[test]
fn a_write_that_failed_is_done_again_whatever_failed_with_it() {
    for cut in [None, Some(ErrorKind::Other)] {
        let folder = Folder::new();
        let disk = FaultyDisk::default();
        let mut journal = Journal::open_on(disk.clone(), folder.path(), KEEP_ALL, 0, &mut |_| {}).unwrap().0;
        let mut all = append(&mut journal, 0, 1, "one\n").unwrap();
        disk.set(Faults { room: Some(30), cut, ..Faults::default() });
        append(&mut journal, 4, 2, "two\n").unwrap_err();
        disk.set(Faults {
            open: Some(ErrorKind::ReadOnlyFilesystem),
            write: Some(ErrorKind::Other),
            ..Faults::default()
        });
        append(&mut journal, 4, 2, "two\n").unwrap_err();
        disk.set(Faults { piece: Some(11), ..Faults::default() });
        all.extend(append(&mut journal, 4, 2, "two\nthree\n").unwrap());
        assert_eq!((journal.head(), journal.tail(), journal.gap_bytes()), (0, 14, 0));
        assert_eq!(folder.segments().len(), if cut.is_some() { 2 } else { 1 });
        let mut reader = Reader::new(folder.path());
        assert_eq!(read(&journal, &mut reader, 4), b"two\nthree\n");
        let (_, recovered, lines) = open(folder.path());
        assert_eq!(lines, all);
        assert!(recovered.cuts.is_empty(), "nothing is lost: {:?}", recovered.cuts);
    }
}

#[test]
fn old_files_are_retired_by_age_and_by_bytes_but_not_the_last() {
    let folder = Folder::new();
    let big = line(SEGMENT_BYTES as usize - 100);
    let n = big.len() as u64;
    let run = |seq| [Run { stream: StreamId(7), first: seq, count: 1 }];
    let retention = Retention { bytes: 3 * SEGMENT_BYTES, age: Duration::from_secs(60) };
    let mut journal = Journal::open(folder.path(), retention, 0, &mut |_| {}).unwrap().0;
    for i in 0..5 {
        journal.append(i * n, 1000 * (i + 1), &run(i), [big.as_bytes(), b""]).unwrap();
    }
    assert_eq!(journal.head(), 2 * n);
    assert_eq!(
        (journal.take_retired(), journal.take_retired(), journal.take_retired()),
        (Some(0), Some(n), None)
    );
    let file = std::iter::from_fn(|| journal.take_sealed()).count();
    assert_eq!(file, 4, "those that grow no more have to be synced");
    journal.expire(63_999);
    assert_eq!(journal.head(), 3 * n);
    drop(journal);
    let mut lines = Vec::new();
    let (journal, recovered) =
        Journal::open(folder.path(), retention, 1 << 40, &mut keep(&mut lines)).unwrap();
    assert_eq!((recovered.head, journal.tail()), (4 * n, 5 * n), "age survives a restart; the last stays");
}

#[test]
fn lines_that_are_no_next_block_are_refused() {
    let folder = Folder::new();
    let mut journal = open(folder.path()).0;
    append(&mut journal, 10, 1, "one\n").unwrap();
    for from in [0, 10, 13] {
        assert_eq!(append(&mut journal, from, 1, "x\n").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    append(&mut journal, 14, 2, "").unwrap();
    assert_eq!(journal.tail(), 14);
}

#[test]
fn a_full_filesystem_is_survived() {
    let folder = Folder::new();
    let mount = |args: &[&str]| {
        let status = std::process::Command::new(args[0]).args(&args[1..]).arg(folder.path()).output();
        status.is_ok_and(|output| output.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs"]) {
        eprintln!("skipped: no filesystem can be mounted here");
        return;
    }
    let mut journal = open(folder.path()).0;
    let text = line(10_000);
    let (mut from, mut seq, mut all) = (0, 0, Lines::new());
    let error = loop {
        match append(&mut journal, from, seq, &text) {
            Ok(lines) => all.extend(lines),
            Err(e) => break e,
        }
        from += 10_000;
        seq += 1;
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(seq > 10 && open(folder.path()).2 == all);
    let later = append(&mut journal, from + 5, seq, "short\n");
    drop(journal);
    let found = open(folder.path()).2;
    assert!(mount(&["umount"]));
    assert_eq!(found, later.unwrap_or(all));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_appended_is_read_back_from_any_place(
        turns in prop::collection::vec(prop::collection::vec((0u64..3, 1usize..30_000), 1..6), 1..40),
        reopen in 0usize..40,
        from in 0u64..1000,
        probes in prop::collection::vec((0f64..1.0, 1usize..300_000), 1..12),
    ) {
        let folder = Folder::new();
        let mut journal = open(folder.path()).0;
        let (mut bytes, mut want, mut seqs) = (Vec::<u8>::new(), Lines::new(), [0u64; 3]);
        for (i, turn) in turns.iter().enumerate() {
            let (mut runs, start) = (Vec::<Run>::new(), bytes.len());
            for (stream, length) in turn {
                let text = line(*length);
                let seq = seqs[*stream as usize];
                seqs[*stream as usize] += 1;
                want.push((from + bytes.len() as u64, *stream, seq, text.as_bytes().to_vec()));
                bytes.extend(text.as_bytes());
                match runs.last_mut() {
                    Some(run) if run.stream.0 == *stream => run.count += 1,
                    _ => runs.push(Run { stream: StreamId(*stream), first: seq, count: 1 }),
                }
            }
            let (a, b) = bytes[start..].split_at((bytes.len() - start) / 2);
            journal.append(from + start as u64, 5, &runs, [a, b]).unwrap();
            if i == reopen {
                let (opened, _, lines) = open(folder.path());
                prop_assert_eq!(&lines, &want);
                journal = opened;
            }
        }
        let mut reader = Reader::new(folder.path());
        for (place, length) in probes {
            let at = (bytes.len() as f64 * place) as usize;
            let Chunk::Bytes(chunk) = reader.read(journal.place(from + at as u64), length).unwrap() else { panic!() };
            let end = bytes.len().min(at + length.min(256 << 10));
            prop_assert_eq!(&chunk[..], &bytes[at..end]);
        }
        let mut at = journal.head();
        while at < journal.tail() {
            let chunk = read(&journal, &mut reader, at);
            prop_assert_eq!(&chunk[..], &bytes[(at - from) as usize..][..chunk.len()]);
            at += chunk.len() as u64;
        }
        prop_assert_eq!(open(folder.path()).2, want);
    }

    #[test]
    fn the_fuzzers_rules_hold_for_damage_at_random(
        head in prop::array::uniform4(any::<u8>()),
        text in prop::collection::vec(prop_oneof![Just(0u8), Just(b'\n'), any::<u8>()], 0..400),
    ) {
        let input: Vec<u8> = [0].into_iter().chain(head).chain(text).collect();
        activitystreamer::fuzz::journal(&input);
    }

    #[test]
    fn any_damage_leaves_lines_that_were_written(
        lengths in prop::collection::vec(1usize..3000, 1..30),
        hits in prop::collection::vec((0f64..1.0, any::<u8>()), 1..6),
        cut in 0f64..1.2,
    ) {
        let folder = Folder::new();
        let mut journal = open(folder.path()).0;
        let mut want = Lines::new();
        for (seq, length) in lengths.iter().enumerate() {
            // A gap that begins a new file here and there.
            let from = journal.tail() + u64::from(length % 7 == 0);
            want.extend(append(&mut journal, from, seq as u64, &line(*length)).unwrap());
        }
        drop(journal);
        let files = folder.segments();
        for (place, byte) in hits {
            let file = &files[(place * files.len() as f64) as usize];
            let mut bytes = fs::read(file).unwrap();
            let at = (place * 7919.0 * bytes.len() as f64) as usize % bytes.len();
            bytes[at] ^= byte;
            fs::write(file, bytes).unwrap();
        }
        let last = files.last().unwrap();
        let mut bytes = fs::read(last).unwrap();
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        fs::write(last, bytes).unwrap();
        let (mut journal, _, lines) = open(folder.path());
        let begin = want.iter().position(|line| Some(line) == lines.first()).unwrap_or(0);
        prop_assert!(want[begin..].starts_with(&lines), "all that is found was written, in order");
        let more = append(&mut journal, lines.last().map_or(0, |l| l.0 + l.3.len() as u64), 99, "more\n").unwrap();
        drop(journal);
        prop_assert_eq!(open(folder.path()).2, [lines, more].concat());
    }
}
