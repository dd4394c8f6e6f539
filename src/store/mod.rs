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
mod fsync;
mod journal;
mod reading;
mod records;
mod recovery;
mod segment;
mod worker;

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rtrb::{Consumer, Producer, RingBuffer};

pub use block::{Block, Blocks, Damage, encode};
pub use disk::{Disk, RealDisk};
pub use fsync::Fsync;
pub use journal::{Journal, Recovered, Retention};
pub use reading::{Chunk, Place, Reader};
pub use records::{Records, Row, Table};
pub use recovery::{Loss, Recovery, recover};
pub use worker::Answer;

use crate::base::feed::Offset;
pub use crate::base::feed::Run;
use crate::base::id::StreamId;
use crate::base::limits::{STORE_CHORES, STORE_REQUESTS};
use worker::{Job, Worker};

/// What is on disk when a store is opened, a piece at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A line of the journal. They come in order.
    Line(Line<'a>),
    /// There is a gap behind all lines so far: they are no part of the journal any more.
    ForgetLines,
    /// A row of the records.
    Row {
        /// Its table.
        table: Table,
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: &'a [u8],
    },
    /// The records are damaged: all rows so far are not to be believed.
    ForgetRows,
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

/// What takes long, and is asked of the store's thread.
#[derive(Debug)]
pub enum Request {
    /// Put all that was appended on disk. Answered by [`Answer::Synced`].
    Sync,
    /// Read the feed from `offset` on. Answered by [`Answer::Chunk`].
    Read {
        /// Comes back with the answer.
        ticket: u64,
        /// The first byte.
        offset: Offset,
        /// Bytes at most; no more than [`CHUNK_BYTES`](crate::base::limits::CHUNK_BYTES) come.
        length: usize,
    },
    /// Change rows, all or none. Answered by [`Answer::Committed`].
    Commit {
        /// Comes back with the answer.
        ticket: u64,
        /// The rows.
        rows: Vec<Row>,
    },
}

/// What a store found when it was opened, but for lines and rows.
#[derive(Debug, Default)]
pub struct Contents {
    /// The journal's state.
    pub journal: Recovered,
    /// Where the records were put, if they were damaged; they begin anew then.
    pub damaged_records: Option<PathBuf>,
}

/// All that is on disk, for one server.
///
/// The loop appends by itself; the rest it asks for with [`ask`](Store::ask) and gets with
/// [`answer`](Store::answer) after a wake. Dropping the store ends its thread when all is done that was
/// asked.
#[derive(Debug)]
pub struct Store<D: Disk = RealDisk> {
    journal: Journal<D>,
    jobs: Option<Producer<Job>>,
    answers: Consumer<Answer>,
    /// Requests whose answers were not taken.
    in_work: usize,
    thread: Option<JoinHandle<()>>,
    /// Held while the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store in `folder`, and makes it if it is not there. All that is in it goes to `found`: first
    /// the records' rows, then the journal's lines. `wall_ms` is the time since 1970; `wake` is called by
    /// the store's thread after each answer.
    ///
    /// An error says that the folder cannot be used, or is in use by another process. Damage is no error.
    pub fn open(
        folder: &Path,
        retention: Retention,
        wall_ms: u64,
        wake: impl Fn() + Send + 'static,
        found: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<(Store, Contents)> {
        Store::open_on(RealDisk, folder, retention, wall_ms, wake, found)
    }
}

impl<D: Disk> Store<D> {
    /// The same, with the journal on another disk.
    pub fn open_on(
        disk: D,
        folder: &Path,
        retention: Retention,
        wall_ms: u64,
        wake: impl Fn() + Send + 'static,
        found: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<(Store<D>, Contents)> {
        make_folder(folder)?;
        let lock = lock(folder)?;
        let (records, damaged_records) = Records::open(&folder.join("records.redb"), wall_ms / 1000, found)?;
        let feed = folder.join("feed");
        let (journal, recovered) = Journal::open_on(disk.clone(), &feed, retention, wall_ms, found)?;
        // The names of what was made just now.
        File::open(folder)?.sync_all()?;
        let (jobs, job_end) = RingBuffer::new(STORE_REQUESTS + STORE_CHORES);
        let (answer_end, answers) = RingBuffer::new(STORE_REQUESTS);
        let worker = Worker {
            disk,
            reader: Reader::new(&feed),
            folder: feed,
            records,
            failed: None,
            jobs: job_end,
            answers: answer_end,
            wake: Box::new(wake),
        };
        let thread = thread::Builder::new().name("store".into()).spawn(move || worker.run())?;
        let (jobs, thread) = (Some(jobs), Some(thread));
        let mut store = Store { journal, jobs, answers, in_work: 0, thread, _lock: lock };
        store.tidy();
        Ok((store, Contents { journal: recovered, damaged_records }))
    }

    /// The journal, to look at.
    pub fn journal(&self) -> &Journal<D> {
        &self.journal
    }

    /// Appends a turn's lines, see [`Journal::append`]. What is too old goes.
    pub fn append(&mut self, from: Offset, wall_ms: u64, runs: &[Run], bytes: [&[u8]; 2]) -> io::Result<()> {
        let result = self.journal.append(from, wall_ms, runs, bytes);
        self.tidy();
        result
    }

    /// Lets go of what is too old. Appending does so, too: this is for times when nobody speaks.
    pub fn expire(&mut self, wall_ms: u64) {
        self.journal.expire(wall_ms);
        self.tidy();
    }

    /// Hands a request to the thread. It comes back if [`STORE_REQUESTS`] are in work.
    pub fn ask(&mut self, request: Request) -> Result<(), Request> {
        if self.in_work == STORE_REQUESTS {
            return Err(request);
        }
        let job = match request {
            // Files that wait to be synced come before it.
            Request::Sync if !self.tidy() => return Err(Request::Sync),
            Request::Sync => Job::Sync { file: self.journal.file(), upto: Some(self.journal.tail()) },
            Request::Read { ticket, offset, length } => {
                Job::Read { ticket, offset, place: self.journal.place(offset), length }
            }
            Request::Commit { ticket, rows } => Job::Commit { ticket, rows },
        };
        self.in_work += 1;
        self.give(job);
        Ok(())
    }

    /// The next answer, if one is there.
    pub fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.pop().ok()?;
        self.in_work -= 1;
        self.tidy();
        Some(answer)
    }

    /// Has the thread sync the files that grow no more, and remove those that are not needed. Says whether
    /// there was room for all of that; the rest waits.
    fn tidy(&mut self) -> bool {
        while self.has_room()
            && let Some(file) = self.journal.take_sealed()
        {
            self.give(Job::Sync { file: Some(file), upto: None });
        }
        while self.has_room()
            && let Some(first) = self.journal.take_retired()
        {
            self.give(Job::Remove(first));
        }
        self.has_room()
    }

    /// True if there is room for one more that has no answer: there always is for all requests.
    fn has_room(&self) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.slots() > STORE_REQUESTS - self.in_work)
    }

    fn give(&mut self, job: Job) {
        let jobs = self.jobs.as_mut().expect("the ring is there until the store is dropped");
        jobs.push(job).expect("there is room for all requests, and chores look first");
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl<D: Disk> Drop for Store<D> {
    fn drop(&mut self) {
        self.tidy();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                log::error!("store: its thread panicked");
            }
        }
    }
}

/// Takes the lock that says whose folder this is. The system gives it back when the process ends.
fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join("lock");
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let lock = lock.map_err(|e| at(&path, &e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::Error(e)) => Err(at(&path, &e)),
        Err(TryLockError::WouldBlock) => {
            let text =
                format!("{} is in use by another server; each needs a folder of its own", folder.display());
            Err(io::Error::new(io::ErrorKind::ResourceBusy, text))
        }
    }
}

/// Makes a folder that only its owner may look into, and those above it.
fn make_folder(folder: &Path) -> io::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| at(folder, &e))
}

/// The error, and where it happened.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
