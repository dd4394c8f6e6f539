use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use activitystreamer::base::id::StreamId;
use activitystreamer::base::limits::{SEGMENT_BYTES, STORE_REQUESTS};
use activitystreamer::store::{
    Answer, Chunk, Contents, Disk, Found, Fsync, Request, Retention, Row, Run, Store, Table,
};

use crate::disk::{Faults, FaultyDisk};
use crate::stage::{Folder, KEEP_ALL, line};

struct Stage<D: Disk> {
    store: Store<D>,
    woken: Receiver<()>,
    contents: Contents,
    lines: usize,
    rows: usize,
}

fn open<D: Disk>(disk: D, folder: &Folder, retention: Retention) -> Stage<D> {
    let (wake, woken) = channel();
    let (mut lines, mut rows) = (0, 0);
    let mut count = |found: Found<'_>| match found {
        Found::Line(_) => lines += 1,
        Found::ForgetLines => lines = 0,
        Found::Row { .. } => rows += 1,
        Found::ForgetRows => rows = 0,
    };
    let wake = move || {
        let _ = wake.send(());
    };
    let (store, contents) =
        Store::open_on(disk, &folder.path().join("a/b"), retention, 5000, wake, &mut count).unwrap();
    Stage { store, woken, contents, lines, rows }
}

impl<D: Disk> Stage<D> {
    fn append(&mut self, text: &str) {
        let from = self.store.journal().tail();
        let run = Run { stream: StreamId(1), first: from, count: text.matches('\n').count() as u32 };
        self.store.append(from, 5000, &[run], [text.as_bytes(), b""]).unwrap();
    }

    fn answer(&mut self) -> Answer {
        loop {
            match self.store.answer() {
                Some(answer) => return answer,
                None => {
                    self.woken.recv_timeout(Duration::from_secs(20)).expect("the thread wakes for an answer")
                }
            }
        }
    }

    fn sync(&mut self) -> std::io::Result<u64> {
        self.store.ask(Request::Sync).unwrap();
        match self.answer() {
            Answer::Synced { upto, result } => result.map(|()| upto),
            other => panic!("{other:?}"),
        }
    }
}

fn put(key: u8) -> Vec<Row> {
    vec![(Table::Names, [key].into(), Some([key].into()))]
}

#[test]
fn all_that_was_asked_is_answered_in_order_and_is_there_again() {
    let folder = Folder::new();
    let mut stage = open(FaultyDisk::default(), &folder, KEEP_ALL);
    stage.append("one\ntwo\n");
    assert_eq!(stage.sync().unwrap(), 8);
    stage.store.ask(Request::Read { ticket: 1, offset: 2, length: 100 }).unwrap();
    stage.store.ask(Request::Read { ticket: 2, offset: 8, length: 100 }).unwrap();
    for key in 0..3 {
        stage.store.ask(Request::Commit { ticket: 10 + u64::from(key), rows: put(key) }).unwrap();
    }
    let Answer::Chunk { ticket: 1, offset: 2, result: Ok(Chunk::Bytes(bytes)) } = stage.answer() else {
        panic!()
    };
    assert_eq!(bytes, b"e\ntwo\n");
    let Answer::Chunk { ticket: 2, offset: 8, result: Ok(Chunk::Gone) } = stage.answer() else { panic!() };
    for want in 10..13 {
        let Answer::Committed { ticket, result: Ok(()) } = stage.answer() else { panic!() };
        assert_eq!(ticket, want);
    }
    assert!(stage.store.answer().is_none());
    stage.append("three\n");
    stage.store.ask(Request::Commit { ticket: 20, rows: put(9) }).unwrap();
    drop(stage);
    let stage = open(FaultyDisk::default(), &folder, KEEP_ALL);
    assert_eq!((stage.lines, stage.rows), (3, 4), "what was asked before the end is done");
    assert_eq!((stage.contents.journal.head, stage.contents.journal.tail), (0, 14));
    let mode = fs::metadata(folder.path().join("a/b")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_folder_has_one_server() {
    let folder = Folder::new();
    let stage = open(FaultyDisk::default(), &folder, KEEP_ALL);
    let path = folder.path().join("a/b");
    let again = || Store::open(&path, KEEP_ALL, 0, || {}, &mut |_| {});
    let error = again().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceBusy);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    drop(stage);
    again().unwrap();
}

#[test]
fn requests_above_the_bound_come_back() {
    let folder = Folder::new();
    let mut stage = open(FaultyDisk::default(), &folder, KEEP_ALL);
    stage.append("one\n");
    for ticket in 0..STORE_REQUESTS as u64 {
        stage.store.ask(Request::Read { ticket, offset: 0, length: 4 }).unwrap();
    }
    let back = stage.store.ask(Request::Read { ticket: 999, offset: 0, length: 4 }).unwrap_err();
    assert!(matches!(back, Request::Read { ticket: 999, .. }));
    assert!(matches!(stage.store.ask(Request::Sync), Err(Request::Sync)));
    for want in 0..STORE_REQUESTS as u64 {
        assert!(matches!(stage.answer(), Answer::Chunk { ticket, .. } if ticket == want));
    }
    stage.store.ask(back).unwrap();
    assert!(matches!(stage.answer(), Answer::Chunk { ticket: 999, .. }));
}

#[test]
fn a_sync_that_fails_is_told_once_and_the_next_tries_again() {
    let folder = Folder::new();
    let disk = FaultyDisk::default();
    let mut stage = open(disk.clone(), &folder, KEEP_ALL);
    stage.append("one\n");
    disk.set(Faults { sync: Some(ErrorKind::Other), ..Faults::default() });
    assert!(stage.sync().is_err());
    disk.set(Faults::default());
    assert_eq!(stage.sync().unwrap(), 4);
}

#[test]
fn files_that_are_too_old_are_removed_by_the_thread() {
    let folder = Folder::new();
    let retention = Retention { bytes: SEGMENT_BYTES, age: Duration::from_secs(60) };
    let mut stage = open(FaultyDisk::default(), &folder, retention);
    let big = line(SEGMENT_BYTES as usize - 100);
    for _ in 0..3 {
        stage.append(&big);
    }
    stage.sync().unwrap();
    let files = || fs::read_dir(folder.path().join("a/b/feed")).unwrap().count();
    assert_eq!(files(), 1);
    stage.append("x\n");
    stage.store.ask(Request::Read { ticket: 1, offset: 0, length: 4 }).unwrap();
    assert!(matches!(stage.answer(), Answer::Chunk { result: Ok(Chunk::Gone), .. }));
}

#[test]
fn damaged_records_cost_no_start_and_are_told() {
    let folder = Folder::new();
    let mut stage = open(FaultyDisk::default(), &folder, KEEP_ALL);
    stage.append("one\n");
    stage.store.ask(Request::Commit { ticket: 1, rows: put(1) }).unwrap();
    drop(stage);
    fs::write(folder.path().join("a/b/records.redb"), "gone bad").unwrap();
    let stage = open(FaultyDisk::default(), &folder, KEEP_ALL);
    assert_eq!((stage.lines, stage.rows), (1, 0));
    assert!(stage.contents.damaged_records.as_ref().is_some_and(|path| path.exists()));
}

#[test]
fn a_policy_is_read_as_it_is_written() {
    for policy in [Fsync::Always, Fsync::Interval, Fsync::Never] {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    assert!("sometimes".parse::<Fsync>().is_err());
}
