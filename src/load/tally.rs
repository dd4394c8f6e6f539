//! Which message each client is to hear next of each talker.
//!
//! Invariant: of a client and a talker every number below `next` was heard, or lies in a hole, or was missing when
//! there was no room for more holes.

use std::collections::BTreeMap;
use std::ops::Range;

use super::limits::HOLES_MAX;

/// A session that began anew: the first number it hears is the first it is to hear.
const ANEW: u32 = u32::MAX;

/// What a delivery was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The next one of its sender, or one after it.
    New,
    /// One that should have come before another: late, but not lost.
    Late,
    /// One that was heard before.
    Again,
}

/// The counters of many clients, 4 bytes for each and each talker.
pub struct Tally {
    talkers: usize,
    next: Vec<u32>,
    /// Of (client, talker): what is missing below `next`, in rising order.
    holes: BTreeMap<(usize, usize), Vec<Range<u32>>>,
    open: usize,
    /// Missing without a hole, of each client.
    unkept: BTreeMap<usize, u64>,
}

impl Tally {
    /// For so many clients that have heard nothing.
    pub fn new(clients: usize, talkers: usize) -> Tally {
        let next = vec![0; clients * talkers];
        Tally { talkers, next, holes: BTreeMap::new(), open: 0, unkept: BTreeMap::new() }
    }

    /// A client heard a message. `None` if there is no such talker.
    pub fn hear(&mut self, client: usize, talker: usize, n: u32) -> Option<Heard> {
        if talker >= self.talkers || n == ANEW {
            return None;
        }
        let next = &mut self.next[client * self.talkers + talker];
        if n == *next || *next == ANEW {
            *next = n + 1;
            return Some(Heard::New);
        }
        if n < *next {
            return Some(self.fill(client, talker, n));
        }
        let gap = *next..n;
        *next = n + 1;
        if self.open < HOLES_MAX {
            self.open += 1;
            self.holes.entry((client, talker)).or_default().push(gap);
        } else {
            *self.unkept.entry(client).or_default() += gap.len() as u64;
        }
        Some(Heard::New)
    }

    fn fill(&mut self, client: usize, talker: usize, n: u32) -> Heard {
        let Some(holes) = self.holes.get_mut(&(client, talker)) else { return Heard::Again };
        let Some(at) = holes.iter().position(|hole| hole.contains(&n)) else { return Heard::Again };
        let hole = holes.remove(at);
        let rest = [hole.start..n, n + 1..hole.end].into_iter().filter(|part| !part.is_empty());
        let before = holes.len();
        holes.splice(at..at, rest);
        self.open = self.open + holes.len() - before - 1;
        if holes.is_empty() {
            self.holes.remove(&(client, talker));
        }
        Heard::Late
    }

    /// The client's session ended and another began, which is owed nothing of the time between.
    pub fn begin_anew(&mut self, client: usize) {
        self.next[client * self.talkers..][..self.talkers].fill(ANEW);
        self.unkept.remove(&client);
        let old: Vec<_> = self.holes.range((client, 0)..(client + 1, 0)).map(|(key, _)| *key).collect();
        for key in old {
            self.open -= self.holes.remove(&key).map_or(0, |holes| holes.len());
        }
    }

    /// How much of all that was said the client has not heard: `said` is how many messages each talker said.
    pub fn missing(&self, client: usize, said: &[u32]) -> u64 {
        let next = &self.next[client * self.talkers..][..self.talkers];
        let tail: u64 = next.iter().zip(said).map(|(next, said)| u64::from(said.saturating_sub(*next))).sum();
        let holes = self.holes.range((client, 0)..(client + 1, 0)).flat_map(|(_, holes)| holes);
        tail + holes.map(|hole| hole.len() as u64).sum::<u64>() + self.unkept.get(&client).unwrap_or(&0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Heard::{Again, Late, New};

    fn heard(tally: &mut Tally, numbers: &[u32]) -> Vec<Heard> {
        numbers.iter().map(|n| tally.hear(1, 0, *n).expect("there is that talker")).collect()
    }

    #[test]
    fn what_is_lost_repeated_or_swapped_is_told_apart() {
        let mut tally = Tally::new(3, 2);
        assert_eq!(heard(&mut tally, &[0, 1, 2]), [New, New, New]);
        assert_eq!((tally.missing(1, &[3, 0]), tally.missing(1, &[5, 4])), (0, 6));
        assert_eq!(heard(&mut tally, &[2, 4, 3, 3]), [Again, New, Late, Again]);
        assert_eq!((tally.missing(1, &[5, 0]), tally.open), (0, 0));
        assert_eq!(heard(&mut tally, &[9, 7, 7, 5]), [New, Late, Again, Late]);
        assert_eq!((tally.missing(1, &[10, 0]), tally.open), (2, 2));
        assert_eq!((tally.missing(0, &[10, 0]), tally.missing(2, &[0, 0])), (10, 0));
        assert_eq!((tally.hear(0, 2, 0), tally.hear(0, 0, u32::MAX)), (None, None));
    }

    #[test]
    fn a_session_that_begins_anew_is_owed_nothing_of_before() {
        let mut tally = Tally::new(2, 1);
        heard(&mut tally, &[0, 5]);
        tally.begin_anew(1);
        assert_eq!((tally.missing(1, &[9]), tally.open), (0, 0));
        assert_eq!(heard(&mut tally, &[7, 8, 8]), [New, New, Again]);
        assert_eq!(tally.missing(1, &[10]), 1);
    }

    #[test]
    fn more_holes_than_are_kept_are_counted_all_the_same() {
        let mut tally = Tally::new(2, 1);
        let last = 2 * (HOLES_MAX as u32 + 10);
        (0..=last).step_by(2).for_each(|n| assert_eq!(tally.hear(1, 0, n), Some(New)));
        assert_eq!(tally.missing(1, &[last + 1]), u64::from(last / 2));
        assert_eq!(tally.open, HOLES_MAX);
    }
}
