//! Password hashes that wait for a thread, fair by address: one that sends a thousand logins waits
//! behind itself, not before others.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use zeroize::Zeroizing;

use super::registry::Record;
use crate::base::id::LinkId;

/// One slow hash for the shell's threads. The secret is wiped when the job is dropped.
#[derive(Debug)]
pub struct HashJob {
    /// Who waits for it.
    pub link: LinkId,
    /// What to hash.
    pub secret: Zeroizing<Vec<u8>>,
    /// What for.
    pub task: HashTask,
}

/// What a [`HashJob`] is for.
#[derive(Clone, Debug)]
pub enum HashTask {
    /// Make a record with a fresh salt, at this cost.
    Make {
        /// KiB of memory.
        kib: u32,
        /// Passes over it.
        passes: u32,
    },
    /// See whether the secret is the one of this record.
    Verify(Record),
}

/// What came of a [`HashJob`].
#[derive(Clone, Debug)]
pub enum Hashed {
    /// The new record.
    Made(Record),
    /// Whether the secret was right.
    Verified(bool),
}

/// Jobs not yet given to the shell. Each waiting link has one, of a few hundred bytes, and its input is
/// not read meanwhile, so the bound is that of connections.
/// Invariant: `turns` names each address of `waiting` once, and no queue in it is empty.
#[derive(Debug)]
pub(super) struct HashQueue {
    waiting: BTreeMap<IpAddr, VecDeque<HashJob>>,
    turns: VecDeque<IpAddr>,
    /// Jobs in `waiting`, and how many of them at most have lost their link.
    len: usize,
    dead: usize,
    in_work: usize,
    in_work_max: usize,
}

impl HashQueue {
    /// A queue that gives out at most `in_work_max` jobs at a time.
    pub fn new(in_work_max: usize) -> HashQueue {
        HashQueue {
            waiting: BTreeMap::new(),
            turns: VecDeque::new(),
            len: 0,
            dead: 0,
            in_work: 0,
            in_work_max,
        }
    }

    pub fn push(&mut self, address: IpAddr, job: HashJob) {
        let queue = self.waiting.entry(address).or_default();
        if queue.is_empty() {
            self.turns.push_back(address);
        }
        queue.push_back(job);
        self.len += 1;
    }

    /// The next job to work on, if a thread is free: of each address in turn.
    pub fn next(&mut self) -> Option<HashJob> {
        if self.in_work == self.in_work_max {
            return None;
        }
        let address = self.turns.pop_front()?;
        let queue = self.waiting.get_mut(&address)?;
        let job = queue.pop_front()?;
        if queue.is_empty() {
            self.waiting.remove(&address);
        } else {
            self.turns.push_back(address);
        }
        self.len -= 1;
        self.in_work += 1;
        Some(job)
    }

    /// A waiting link is gone. Its job goes too, when half of all jobs have lost theirs: so those who come,
    /// ask and leave cannot pile up work.
    pub fn abandoned(&mut self, alive: impl Fn(LinkId) -> bool) {
        self.dead += 1;
        if self.dead * 2 <= self.len {
            return;
        }
        self.dead = 0;
        self.waiting.retain(|_, queue| {
            queue.retain(|job| alive(job.link));
            !queue.is_empty()
        });
        self.turns.retain(|address| self.waiting.contains_key(address));
        self.len = self.waiting.values().map(VecDeque::len).sum();
    }

    /// A job given out came back, or was not wanted any more.
    pub fn done(&mut self) {
        debug_assert!(self.in_work > 0);
        self.in_work = self.in_work.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_take_turns_and_no_more_than_the_bound_are_in_work() {
        let mut queue = HashQueue::new(2);
        let job = |slot| HashJob {
            link: LinkId { slot, generation: 1 },
            secret: Zeroizing::new(Vec::new()),
            task: HashTask::Make { kib: 8, passes: 1 },
        };
        let (a, b) = ([1, 1, 1, 1].into(), [2, 2, 2, 2].into());
        (0..3).for_each(|slot| queue.push(a, job(slot)));
        queue.push(b, job(9));
        let mut order = Vec::new();
        while let Some(job) = queue.next().or_else(|| {
            (order.len() < 4).then(|| {
                queue.done();
                queue.next()
            })?
        }) {
            order.push(job.link.slot);
        }
        assert_eq!(order, [0, 9, 1, 2]);
        assert!(queue.next().is_none());
    }
}
