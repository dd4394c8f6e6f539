//! What happens when: events in virtual time, and the hash of all that happened.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::pipe::PipeId;
use crate::base::id::LinkId;
use crate::base::time::Time;
use crate::node::Hashed;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    /// A server has a turn.
    Turn(usize),
    /// A connection reaches the machine it was made to.
    Knock(PipeId),
    /// What this side wrote arrives at the other.
    Arrive(PipeId, usize),
    /// A kernel hears that bytes were acknowledged, while its program waits to write.
    Acked(PipeId, usize),
    /// This side hears that its connection is no more.
    Reset(PipeId, usize),
    /// A password thread is done.
    Hashed { host: usize, boot: usize, link: LinkId, hashed: Hashed },
    /// A server's disk is done with something.
    Disk { host: usize, boot: usize },
    /// A client that reads slowly reads.
    Read(PipeId),
    /// A client does what it does.
    Act(usize),
    /// A client comes, if it still has this plan.
    Come { user: usize, plan: u32, to: Option<usize> },
    /// A client leaves this connection.
    Leave(PipeId),
    /// A client has waited for its login.
    Impatient(PipeId),
    /// A server that was to be started starts, or does not.
    Spawn { by: usize, boot: usize, ticket: u64, good: bool },
    /// Something goes wrong.
    Fault,
    /// A server is killed in the middle of a login.
    Strike(usize),
    /// What went wrong goes right again.
    Mend(usize),
    /// It is looked at whether all is well.
    Look,
}

struct Entry {
    at: Time,
    n: u64,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The earliest is the greatest, as the heap gives that first.
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.n).cmp(&(self.at, self.n))
    }
}

/// The events to come. Invariant: time never goes back, and what is set for the same instant happens in
/// the order in which it was set.
pub(super) struct Schedule {
    heap: BinaryHeap<Entry>,
    n: u64,
    /// What time it is.
    pub now: Time,
    hash: u64,
}

impl Schedule {
    pub fn new() -> Schedule {
        Schedule { heap: BinaryHeap::new(), n: 0, now: Time::START, hash: 0x5eed }
    }

    pub fn set(&mut self, at: Time, event: Event) {
        self.n += 1;
        self.heap.push(Entry { at: at.max(self.now), n: self.n, event });
    }

    pub fn after(&mut self, wait: Duration, event: Event) {
        self.set(self.now + wait, event);
    }

    /// Goes to the next event.
    pub fn next(&mut self) -> Option<Event> {
        let Entry { at, n, event } = self.heap.pop()?;
        self.now = at;
        self.note(at.since(Time::START).as_nanos() as u64);
        self.note(n);
        Some(event)
    }

    /// Adds something that happened to the hash of the run.
    pub fn note(&mut self, word: u64) {
        self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// The same for bytes.
    pub fn note_bytes(&mut self, bytes: &[u8]) {
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            self.note(u64::from_le_bytes(std::array::from_fn(|i| chunk[i])));
        }
        self.note(chunks.remainder().iter().fold(bytes.len() as u64, |word, b| word << 8 | u64::from(*b)));
    }

    /// How many events were set.
    pub fn count(&self) -> u64 {
        self.n
    }

    /// The hash of all that happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

/// So many microseconds.
pub(super) fn us(n: u64) -> Duration {
    Duration::from_micros(n)
}

/// So many milliseconds.
pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
