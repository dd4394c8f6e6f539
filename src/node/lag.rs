//! How long messages take, from where they are accepted to the kernels of those who hear them.
//!
//! Nothing is timed for each recipient. What is appended to the feed in one turn has one *mark*: from where,
//! and since when its oldest line was waiting. What is written in one turn is noted as lines by mark, which
//! for all followers together is one entry, and the clock is read once, when all of it is written. So a lag
//! is never too small; it is too large by no more than a turn.

use std::collections::VecDeque;
use std::time::Duration;

use memchr::memchr_iter;

use super::Node;
use crate::base::feed::{Feed, Offset};
use crate::base::limits::LAG_MARKS;
use crate::base::time::Time;

/// The upper bounds of a histogram's buckets, in microseconds; above the last there is one more bucket.
pub const LAG_BOUNDS_US: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    20_000_000, 60_000_000,
];

/// Times, by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were in each bucket, and at the end how many above all.
    pub counts: [u64; LAG_BOUNDS_US.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
}

impl Histogram {
    /// A time that was taken so often.
    pub fn add(&mut self, time: Duration, times: u64) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.max_us = self.max_us.max(us);
        self.counts[LAG_BOUNDS_US.partition_point(|bound| *bound < us)] += times;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(times));
    }
}

/// Invariant: the offsets of `marks` rise.
#[derive(Debug, Default)]
pub(super) struct Lags {
    marks: VecDeque<(Offset, Time)>,
    /// The range of the last write, its lines, and since when they waited: the next has mostly the same.
    last: (Offset, Offset, u64, Time),
    /// What this turn wrote to sessions that were there when it was said: since when, how many lines.
    written: Vec<(Time, u64)>,
    /// From accept, or from the receipt from another server, to a client's kernel.
    delivery: Histogram,
    /// From accept until shown: until another server has a copy.
    second_copy: Histogram,
}

impl Lags {
    /// What is appended at `from` next has been waiting since then.
    pub fn mark(&mut self, from: Offset, since: Time) {
        if self.marks.back().is_some_and(|(_, last)| *last == since) {
            return;
        }
        if self.marks.len() == LAG_MARKS {
            // What is old is told less finely: too old rather than too young.
            let mut i = 0;
            self.marks.retain(|_| {
                i += 1;
                i % 2 == 1 || i > LAG_MARKS / 2
            });
        }
        self.marks.push_back((from, since));
    }

    /// The kernel took `from..to` of the feed for a session whose own time begins at `live_from`. Returns how
    /// many lines have their end there.
    #[inline]
    pub fn wrote(&mut self, feed: &Feed, from: Offset, to: Offset, live_from: Offset) -> u64 {
        if (from, to) != (self.last.0, self.last.1) {
            self.look(feed, from, to);
        }
        let (_, _, lines, since) = self.last;
        // What it was owed by earlier sessions waited for its client.
        if from >= live_from {
            match self.written.last_mut() {
                Some((at, n)) if *at == since => *n += lines,
                _ => self.written.push((since, lines)),
            }
        }
        lines
    }

    fn look(&mut self, feed: &Feed, from: Offset, to: Offset) {
        let (a, b) = feed.read(from, to);
        let lines = memchr_iter(b'\n', a).count() + memchr_iter(b'\n', b).count();
        while self.marks.get(1).is_some_and(|(next, _)| *next <= feed.floor()) {
            self.marks.pop_front();
        }
        let behind = self.marks.partition_point(|(at, _)| *at <= from);
        let mark = self.marks.get(behind.saturating_sub(1));
        self.last = (from, to, lines as u64, mark.map_or(Time::START, |(_, since)| *since));
    }

    /// An own message was shown.
    pub fn copied(&mut self, waited: Duration, messages: u64) {
        self.second_copy.add(waited, messages);
    }

    /// All that was written is written now.
    pub fn flushed(&mut self, now: Time) {
        for (since, lines) in self.written.drain(..) {
            self.delivery.add(now.since(since), lines);
        }
    }
}

impl Node {
    /// What [`Node::sent`] reported was written by now. A shell says so once a turn, with a clock read after
    /// the last write; if it does not, the next turn's begin counts.
    pub fn flushed(&mut self, now: Time) {
        self.delivery.lags.flushed(now);
    }

    /// How long messages took: each line for each client, from its accept here, or its receipt from another
    /// server, to the client's kernel. What users missed while they were away is not among them.
    pub fn delivery_lag(&self) -> &Histogram {
        &self.delivery.lags.delivery
    }

    /// How long own messages waited for a second copy. Without another server none does.
    pub fn second_copy_lag(&self) -> &Histogram {
        &self.delivery.lags.second_copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::StreamId;

    fn at(ms: u64) -> Time {
        Time::START + Duration::from_millis(ms)
    }

    fn say(lags: &mut Lags, feed: &mut Feed, since: Time) {
        lags.mark(feed.tail(), since);
        feed.append(StreamId(1), 1, b"0123456\n");
    }

    #[test]
    fn each_line_counts_once_a_recipient_from_its_own_begin() {
        let (mut lags, mut feed) = (Lags::default(), Feed::new(1 << 10));
        say(&mut lags, &mut feed, at(10));
        say(&mut lags, &mut feed, at(10));
        (0..100).for_each(|_| assert_eq!(lags.wrote(&feed, 0, 16, 0), 2));
        lags.flushed(at(13));
        assert_eq!((lags.delivery.counts[4], lags.delivery.sum_us), (200, 600_000));
        say(&mut lags, &mut feed, at(500));
        assert_eq!(lags.wrote(&feed, 16, 24, 0), 1);
        assert_eq!(lags.wrote(&feed, 3, 20, 0), 2, "ends of lines count");
        assert_eq!(lags.wrote(&feed, 0, 24, 16), 3, "missed by an earlier session, which is no lag");
        lags.flushed(at(500));
        assert_eq!((lags.delivery.counts[0], lags.delivery.counts[10]), (1, 2));
        assert_eq!(lags.delivery.counts.iter().sum::<u64>(), 203);
    }

    #[test]
    fn marks_are_bounded_and_lags_never_too_small() {
        let (mut lags, mut feed) = (Lags::default(), Feed::new(1 << 20));
        for n in 1..3 * LAG_MARKS as u64 {
            say(&mut lags, &mut feed, at(n));
            assert!(lags.marks.len() <= LAG_MARKS);
        }
        for n in (1..3 * LAG_MARKS as u64).step_by(997) {
            lags.look(&feed, 8 * (n - 1), 8 * n);
            assert!(lags.last.3 <= at(n), "{n}");
        }
        let newest = 3 * LAG_MARKS as u64 - 1;
        lags.look(&feed, 8 * (newest - 1), 8 * newest);
        assert_eq!(lags.last.3, at(newest));
    }
}
