//! Threads that hash passwords, so that the loop never waits for one.
//!
//! Jobs go to a thread and results come back through lock-free rings; the thread that has nothing to do
//! is parked, the loop is woken through mio's `Waker`.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use argon2::{Algorithm, Argon2, Params, Version};
use mio::Waker;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::base::id::LinkId;
use crate::node::{HashJob, HashTask, Hashed, Record};

struct Worker {
    jobs: Producer<HashJob>,
    results: Consumer<(LinkId, Hashed)>,
    thread: Thread,
    in_work: usize,
    _handle: JoinHandle<()>,
}

/// The threads. Dropping the pool ends them when they are done with their jobs.
pub struct Pool {
    workers: Vec<Worker>,
}

impl Pool {
    /// `threads` threads (at least one) that wake the loop through `waker`.
    pub fn new(threads: usize, waker: &Arc<Waker>) -> io::Result<Pool> {
        let threads = threads.max(1);
        // The node has at most two jobs a thread out, all of which one thread might get.
        let places = 2 * threads;
        let start = |i: usize| {
            let (jobs, job_end) = RingBuffer::new(places);
            let (result_end, results) = RingBuffer::new(places);
            let waker = Arc::clone(waker);
            let work = move || work(job_end, result_end, &waker);
            let handle = thread::Builder::new().name(format!("hash-{i}")).spawn(work)?;
            Ok(Worker { jobs, results, thread: handle.thread().clone(), in_work: 0, _handle: handle })
        };
        Ok(Pool { workers: (0..threads).map(start).collect::<io::Result<_>>()? })
    }

    /// Gives the job to the thread with the fewest.
    pub fn give(&mut self, job: HashJob) {
        let Some(worker) = self.workers.iter_mut().min_by_key(|w| w.in_work) else { return };
        worker.in_work += 1;
        worker.jobs.push(job).expect("a ring has places for all jobs the node gives out");
        worker.thread.unpark();
    }

    /// The next result, if one is there.
    pub fn take(&mut self) -> Option<(LinkId, Hashed)> {
        self.workers.iter_mut().find_map(|worker| {
            let result = worker.results.pop().ok()?;
            worker.in_work -= 1;
            Some(result)
        })
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for worker in self.workers.drain(..) {
            let thread = worker.thread.clone();
            drop(worker);
            thread.unpark();
        }
    }
}

fn work(mut jobs: Consumer<HashJob>, mut results: Producer<(LinkId, Hashed)>, waker: &Waker) {
    loop {
        while let Ok(job) = jobs.pop() {
            let hashed = hash(&job);
            results.push((job.link, hashed)).expect("a ring has places for all results");
            if let Err(e) = waker.wake() {
                log::error!("waking the loop failed: {e}");
            }
        }
        if jobs.is_abandoned() {
            return;
        }
        thread::park();
    }
}

fn hash(job: &HashJob) -> Hashed {
    match &job.task {
        HashTask::Make { kib, passes } => {
            let mut salt = [0; 16];
            while let Err(e) = getrandom::fill(&mut salt) {
                wait_for("random bytes", &e);
            }
            let digest = digest(&job.secret, &salt, *kib, *passes);
            Hashed::Made(Record { salt, digest, kib: *kib, passes: *passes })
        }
        HashTask::Verify(record) => {
            let digest = digest(&job.secret, &record.salt, record.kib, record.passes);
            let different = digest.iter().zip(&record.digest).fold(0, |d, (a, b)| d | (a ^ b));
            Hashed::Verified(std::hint::black_box(different) == 0)
        }
    }
}

fn digest(secret: &[u8], salt: &[u8], kib: u32, passes: u32) -> [u8; 32] {
    let params = Params::new(kib, passes, 1, Some(32)).expect("the command line checks the cost");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut digest = [0; 32];
    while let Err(e) = argon2.hash_password_into(secret, salt, &mut digest) {
        wait_for("memory", &e);
    }
    digest
}

/// A login must not fail because the machine is short of something: it waits.
fn wait_for(what: &str, error: &dyn std::fmt::Display) {
    log::warn!("hashing a password: no {what} ({error}); trying again");
    thread::sleep(Duration::from_millis(100));
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn job(secret: &str, task: HashTask) -> HashJob {
        let link = LinkId { slot: 3, generation: 4 };
        HashJob { link, secret: Zeroizing::new(secret.as_bytes().to_vec()), task }
    }

    #[test]
    fn a_record_verifies_the_secret_it_was_made_of_and_no_other() {
        let Hashed::Made(record) = hash(&job("sek", HashTask::Make { kib: 8, passes: 1 })) else { panic!() };
        assert!(matches!(hash(&job("sek", HashTask::Verify(record.clone()))), Hashed::Verified(true)));
        assert!(matches!(hash(&job("sek2", HashTask::Verify(record))), Hashed::Verified(false)));
    }
}
