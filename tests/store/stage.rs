//! Folders, lines and what was found: what all of these tests need.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use activitystreamer::base::id::StreamId;
use activitystreamer::store::{Disk, Found, Journal, Recovered, Retention, Run};

/// A folder of one test, which goes with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("as-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Its segments, in order.
    pub fn segments(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().path()).collect();
        all.retain(|path| path.extension().is_some_and(|e| e == "log"));
        all.sort();
        all
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub const KEEP_ALL: Retention = Retention { bytes: 1 << 40, age: Duration::from_secs(1 << 30) };

/// All lines that were found and not taken back: offset, stream, number, bytes.
pub type Lines = Vec<(u64, u64, u64, Vec<u8>)>;

pub fn keep(lines: &mut Lines) -> impl FnMut(Found<'_>) {
    |found| match found {
        Found::Line(line) => lines.push((line.offset, line.stream.0, line.seq, line.bytes.to_vec())),
        Found::ForgetLines => lines.clear(),
        _ => {}
    }
}

pub fn open(folder: &Path) -> (Journal, Recovered, Lines) {
    let mut lines = Vec::new();
    let (journal, recovered) = Journal::open(folder, KEEP_ALL, 0, &mut keep(&mut lines)).unwrap();
    assert_eq!((recovered.head, recovered.tail), (journal.head(), journal.tail()));
    let mut at = recovered.head;
    for (offset, _, _, bytes) in &lines {
        assert_eq!(*offset, at, "lines follow each other");
        at += bytes.len() as u64;
    }
    assert_eq!(at, recovered.tail, "and are all there is");
    (journal, recovered, lines)
}

/// Appends one block of lines of one stream, as many as there are LFs, and says what should be found of it.
pub fn append<D: Disk>(journal: &mut Journal<D>, from: u64, seq: u64, text: &str) -> std::io::Result<Lines> {
    let mut at = from;
    let lines: Lines = text
        .split_inclusive('\n')
        .zip(seq..)
        .map(|(line, seq)| {
            let offset = at;
            at += line.len() as u64;
            (offset, 7, seq, line.as_bytes().to_vec())
        })
        .collect();
    let run = Run { stream: StreamId(7), first: seq, count: lines.len() as u32 };
    let (a, b) = text.as_bytes().split_at(text.len() / 3);
    journal.append(from, 1000, &[run], [a, b]).map(|()| lines)
}

/// A line of `bytes` bytes, LF included.
pub fn line(bytes: usize) -> String {
    format!("{}\n", "x".repeat(bytes - 1))
}
