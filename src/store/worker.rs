//! The store's thread: everything that waits for the disk, in the order it was asked for.
//!
//! It gets what it needs by value: files, places, rows. So it shares no state with the loop.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use rtrb::{Consumer, Producer};

use super::disk::Disk;
use super::reading::{Chunk, Place, Reader};
use super::records::{Records, Row};
use super::segment;
use crate::base::feed::Offset;

/// What the loop asks for.
#[derive(Debug)]
pub(super) enum Job {
    /// Sync this file; and, with `upto`, say so.
    Sync { file: Option<Arc<File>>, upto: Option<Offset> },
    /// Read there.
    Read { ticket: u64, offset: Offset, place: Option<Place>, length: usize },
    /// Commit these rows.
    Commit { ticket: u64, rows: Vec<Row> },
    /// Remove the segment that begins there.
    Remove(Offset),
}

/// What came of a [`Request`](super::Request).
#[derive(Debug)]
pub enum Answer {
    /// The journal up to `upto` is on disk; or not, for this reason.
    Synced {
        /// The journal's tail when it was asked for.
        upto: Offset,
        /// The first of the errors since the last such answer. The lines it concerns may be lost with the
        /// machine, whatever later syncs say.
        result: io::Result<()>,
    },
    /// Bytes of the feed.
    Chunk {
        /// The request's.
        ticket: u64,
        /// Where they begin.
        offset: Offset,
        /// The bytes, or that they are gone.
        result: io::Result<Chunk>,
    },
    /// Rows were committed, or may not be.
    Committed {
        /// The request's.
        ticket: u64,
        /// An error says that it is not certain whether any of them was kept.
        result: io::Result<()>,
    },
}

/// The thread's own.
pub(super) struct Worker<D> {
    pub disk: D,
    /// Where the segments lie.
    pub folder: PathBuf,
    pub reader: Reader,
    pub records: Records,
    /// The first error of a sync that no answer has told.
    pub failed: Option<io::Error>,
    pub jobs: Consumer<Job>,
    pub answers: Producer<Answer>,
    pub wake: Box<dyn Fn() + Send>,
}

impl<D: Disk> Worker<D> {
    /// Works until the other end of its ring is gone and all is done.
    pub fn run(mut self) {
        loop {
            // Looked at first: what was asked before the end was given up is still done.
            let is_last = self.jobs.is_abandoned();
            while let Ok(job) = self.jobs.pop() {
                self.work(job);
            }
            if is_last {
                return;
            }
            thread::park();
        }
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Sync { file, upto } => self.sync(file.as_deref(), upto),
            Job::Read { ticket, offset, place, length } => {
                let result = self.reader.read(place, length);
                self.answer(Answer::Chunk { ticket, offset, result });
            }
            Job::Commit { ticket, rows } => self.commit(ticket, rows),
            Job::Remove(first) => {
                let path = segment::path(&self.folder, first);
                if let Err(e) = fs::remove_file(&path)
                    && e.kind() != io::ErrorKind::NotFound
                {
                    log::warn!("journal: {} cannot be removed: {e}", path.display());
                }
            }
        }
    }

    fn sync(&mut self, file: Option<&File>, upto: Option<Offset>) {
        let result = file.map_or(Ok(()), |file| self.disk.sync(file));
        self.failed = self.failed.take().or(result.err());
        let Some(upto) = upto else { return };
        // The names of the files are in the folder.
        let folder = File::open(&self.folder).and_then(|folder| self.disk.sync(&folder));
        let result = self.failed.take().map_or(Ok(()), Err).and(folder);
        self.answer(Answer::Synced { upto, result });
    }

    /// Commits these rows, and with them all that stand right behind it in the ring: many registrations at once
    /// cost one wait for the disk.
    fn commit(&mut self, ticket: u64, rows: Vec<Row>) {
        let mut all = vec![(ticket, rows)];
        while let Ok(Job::Commit { .. }) = self.jobs.peek()
            && let Ok(Job::Commit { ticket, rows }) = self.jobs.pop()
        {
            all.push((ticket, rows));
        }
        let result = self.records.commit(all.iter().flat_map(|(_, rows)| rows));
        for (ticket, _) in all {
            let result = match &result {
                Ok(()) => Ok(()),
                Err(e) => Err(io::Error::new(e.kind(), e.to_string())),
            };
            self.answer(Answer::Committed { ticket, result });
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.answers.push(answer).expect("a ring has places for the answers to all requests in work");
        (self.wake)();
    }
}
