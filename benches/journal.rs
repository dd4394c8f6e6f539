//! What one turn's append to the journal costs the loop: written at once, as it is built; handed to a thread;
//! copied to a mapped file. The next group does the first two where each write waits for the disk, the last
//! the first where the disk is full.

mod common;

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use activitystreamer::base::id::StreamId;
use activitystreamer::store::{Disk, Journal, RealDisk, Retention, Run, encode};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rtrb::{Consumer, RingBuffer};

const TURNS: [usize; 3] = [1, 16, 64];
const FRAME_BYTES: usize = 100;
/// The mapped file's, the same as a segment's.
const MAPPED_BYTES: usize = 16 << 20;
/// What a loop does for its clients in a turn.
const PAUSE: Duration = Duration::from_micros(20);
/// More than a write takes on the slow disk.
const SLOW_PAUSE: Duration = Duration::from_millis(4);
const RETENTION: Retention = Retention { bytes: 64 << 20, age: Duration::from_secs(3600) };

/// A folder on the disk the build is on, not one in memory.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn turn(frames: usize) -> (Vec<u8>, [Run; 1]) {
    let bytes = format!("{}\n", "x".repeat(FRAME_BYTES - 1)).repeat(frames).into_bytes();
    (bytes, [Run { stream: StreamId(7), first: 1, count: frames as u32 }])
}

/// A disk on which a write returns when the bytes are there.
#[derive(Clone)]
struct SlowDisk;

impl Disk for SlowDisk {
    fn open(&mut self, path: &Path, _: u64) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).custom_flags(libc::O_DSYNC).open(path)
    }
    fn write(&mut self, file: &File, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        RealDisk.write(file, parts)
    }
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        RealDisk.cut(file, length)
    }
    fn sync(&mut self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }
}

/// A disk without room: the system says so at each write.
#[derive(Clone)]
struct FullDisk(Arc<File>);

impl Disk for FullDisk {
    fn open(&mut self, path: &Path, room: u64) -> io::Result<File> {
        RealDisk.open(path, room)
    }
    fn write(&mut self, _: &File, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self.0).write_vectored(parts)
    }
    fn cut(&mut self, file: &File, length: u64) -> io::Result<()> {
        RealDisk.cut(file, length)
    }
    fn sync(&mut self, file: &File) -> io::Result<()> {
        RealDisk.sync(file)
    }
}

struct Inline<D> {
    journal: Journal<D>,
    folder: PathBuf,
}

impl<D: Disk> Inline<D> {
    fn new(disk: D, name: &str) -> Inline<D> {
        let folder = folder(name);
        let journal = Journal::open_on(disk, &folder, RETENTION, 1, &mut |_| {}).unwrap().0;
        Inline { journal, folder }
    }

    fn append(&mut self, (bytes, runs): &(Vec<u8>, [Run; 1])) {
        let (a, b) = bytes.split_at(bytes.len() / 3);
        self.journal.append(self.journal.tail(), 1, runs, [a, b]).unwrap();
        while let Some(first) = self.journal.take_retired() {
            fs::remove_file(self.folder.join(format!("{first:020}.log"))).unwrap();
        }
        while self.journal.take_sealed().is_some() {}
    }
}

/// The same journal on a thread. The loop hands over a copy of the lines, because the feed goes on.
struct Handed {
    jobs: rtrb::Producer<(Vec<u8>, [Run; 1])>,
    back: Consumer<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    /// Handed over and not back.
    out: usize,
    thread: Option<thread::JoinHandle<()>>,
}

impl Handed {
    fn new<D: Disk>(disk: D, name: &'static str) -> Handed {
        let (jobs, mut job_end) = RingBuffer::<(Vec<u8>, [Run; 1])>::new(256);
        let (mut back_end, back) = RingBuffer::new(512);
        let work = move || {
            let mut inline = Inline::new(disk, name);
            loop {
                while let Ok(job) = job_end.pop() {
                    inline.append(&job);
                    // The bench always has room for what it lent.
                    let _ = back_end.push(job.0);
                }
                if job_end.is_abandoned() {
                    return;
                }
                thread::park();
            }
        };
        Handed { jobs, back, spare: Vec::new(), out: 0, thread: Some(thread::spawn(work)) }
    }

    /// Hands over, and waits for nothing.
    fn hand(&mut self, (bytes, runs): &(Vec<u8>, [Run; 1])) {
        while let Ok(bytes) = self.back.pop() {
            self.spare.push(bytes);
            self.out -= 1;
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        while self.jobs.is_full() {
            thread::yield_now();
        }
        self.out += 1;
        self.jobs.push((copy, *runs)).expect("there is room");
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Hands over, and waits until it is written, as a loop must that shows only what is written.
    fn complete(&mut self, turn: &(Vec<u8>, [Run; 1])) {
        self.hand(turn);
        self.settle();
    }

    fn settle(&mut self) {
        while self.out > 0 {
            match self.back.pop() {
                Ok(bytes) => {
                    self.spare.push(bytes);
                    self.out -= 1;
                }
                Err(_) => std::hint::spin_loop(),
            }
        }
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let (empty, _) = RingBuffer::new(1);
        self.jobs = empty;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}

/// The same blocks, copied to a mapped file; a new one when it is full.
struct Mapped {
    folder: PathBuf,
    map: memmap2::MmapMut,
    at: usize,
    tail: u64,
    scratch: Vec<u8>,
    files: u32,
}

impl Mapped {
    fn new() -> Mapped {
        let folder = folder("mapped");
        let map = Mapped::file(&folder, 0);
        Mapped { folder, map, at: 0, tail: 0, scratch: Vec::new(), files: 1 }
    }

    /// A file with its blocks reserved.
    fn file(folder: &Path, i: u32) -> memmap2::MmapMut {
        let path = folder.join((i % 4).to_string());
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap();
        file.write_all(&vec![0; MAPPED_BYTES]).unwrap();
        // SAFETY: nobody else has the file.
        unsafe { memmap2::MmapMut::map_mut(&file).unwrap() }
    }

    fn append(&mut self, (bytes, runs): &(Vec<u8>, [Run; 1])) {
        encode(&mut self.scratch, self.tail, 1, runs, [bytes, b""]);
        if self.at + self.scratch.len() + bytes.len() > MAPPED_BYTES {
            self.map = Mapped::file(&self.folder, self.files);
            self.files += 1;
            self.at = 0;
        }
        for part in [&self.scratch, bytes] {
            self.map[self.at..self.at + part.len()].copy_from_slice(part);
            self.at += part.len();
        }
        self.tail += bytes.len() as u64;
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal");
    for frames in TURNS {
        let turn = turn(frames);
        let mut inline = Inline::new(RealDisk, "inline");
        group.bench_function(BenchmarkId::new("inline", frames), |b| {
            b.iter_custom(|n| paced(n, PAUSE, || inline.append(black_box(&turn))));
        });
        let mut handed = Handed::new(RealDisk, "handed");
        group.bench_function(BenchmarkId::new("handed_over", frames), |b| {
            b.iter_custom(|n| paced(n, PAUSE, || handed.hand(black_box(&turn))));
        });
        group.bench_function(BenchmarkId::new("handed_and_waited_for", frames), |b| {
            handed.settle();
            b.iter_custom(|n| paced(n, PAUSE, || handed.complete(black_box(&turn))));
        });
        drop(handed);
        let mut mapped = Mapped::new();
        group.bench_function(BenchmarkId::new("mapped", frames), |b| {
            b.iter_custom(|n| paced(n, PAUSE, || mapped.append(black_box(&turn))));
        });
    }
}

/// The time of `n` calls alone. Between them something else is done for so long, so that a thread keeps pace.
fn paced(n: u64, between: Duration, mut call: impl FnMut()) -> Duration {
    let mut sum = Duration::ZERO;
    for _ in 0..n {
        let start = Instant::now();
        call();
        sum += start.elapsed();
        let pause = Instant::now();
        while pause.elapsed() < between {
            std::hint::spin_loop();
        }
    }
    sum
}

fn slow(c: &mut Criterion) {
    let mut group = c.benchmark_group("journal_synced");
    group.sample_size(10);
    let turn = turn(16);
    let mut inline = Inline::new(SlowDisk, "slow_inline");
    group.bench_function("inline", |b| {
        b.iter_custom(|n| paced(n, SLOW_PAUSE, || inline.append(black_box(&turn))));
    });
    let mut handed = Handed::new(SlowDisk, "slow_handed");
    group.bench_function("handed_over", |b| {
        b.iter_custom(|n| paced(n, SLOW_PAUSE, || handed.hand(black_box(&turn))));
    });
}

/// What a turn loses to a disk that takes nothing; the server tries no more than once a second.
fn full(c: &mut Criterion) {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let folder = folder("full");
    let disk = FullDisk(Arc::new(full));
    let mut journal = Journal::open_on(disk, &folder, RETENTION, 1, &mut |_| {}).unwrap().0;
    let (bytes, runs) = turn(16);
    c.bench_function("journal_full/inline", |b| {
        let mut call = || journal.append(0, 1, &runs, [black_box(&bytes), b""]).unwrap_err();
        b.iter_custom(|n| paced(n, PAUSE, || drop(call())));
    });
}

criterion_group! { name = benches; config = common::criterion(); targets = append, slow, full }
criterion_main!(benches);
