//! What one name is owed while it is away: one entry for each session that broke.
//!
//! A login takes one entry and starts where the furthest behind stands; the entries left, those of the
//! name's other devices, are lowered to it. So each device gets all that any of them may have missed.

use std::time::Duration;

use crate::base::limits::MAILBOX_ENTRIES;
use crate::base::ring::Ring;
use crate::base::spans::Spans;
use crate::base::time::Time;

/// What one broken session is owed.
#[derive(Clone, Debug)]
struct Entry {
    spans: Spans,
    since: Time,
}

/// The entries of one name, oldest first. Invariant: at most [`MAILBOX_ENTRIES`], times rise.
#[derive(Clone, Debug, Default)]
pub(super) struct Mailbox {
    entries: Ring<Entry>,
}

impl Mailbox {
    /// Keeps what a session that ended at `now` was still owed.
    pub fn keep(&mut self, now: Time, spans: Spans) {
        if self.entries.len() == MAILBOX_ENTRIES
            && let Some(oldest) = self.entries.pop()
            && let Some(next) = self.entries.iter_mut().next()
        {
            next.spans = next.spans.union(&oldest.spans);
        }
        self.entries.push(Entry { spans, since: now });
    }

    /// What a login is owed of all that broke; takes one entry. None if there is none.
    pub fn take(&mut self) -> Option<Spans> {
        let taken = self.entries.pop()?;
        let all = self.entries.iter().fold(taken.spans, |all, entry| all.union(&entry.spans));
        self.entries.iter_mut().for_each(|entry| entry.spans = all.clone());
        Some(all)
    }

    /// Drops the entries that are `away` old at `now`. Returns how many.
    pub fn expire(&mut self, now: Time, away: Duration) -> u64 {
        let mut dropped = 0;
        while self.entries.first().is_some_and(|entry| entry.since + away <= now) {
            self.entries.pop();
            dropped += 1;
        }
        dropped
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::spans::Range;

    #[test]
    fn two_broken_devices_each_get_what_either_missed() {
        let mut mailbox = Mailbox::default();
        mailbox.keep(Time::START, Spans::open(200));
        mailbox.keep(Time::START, Spans::open(100));
        assert_eq!(mailbox.take(), Some(Spans::open(100)));
        assert_eq!(mailbox.take(), Some(Spans::open(100)));
        assert_eq!(mailbox.take(), None);
    }

    #[test]
    fn entries_grow_old_one_by_one_and_are_bounded() {
        let mut mailbox = Mailbox::default();
        let at = |s| Time::START + Duration::from_secs(s);
        for i in 0..MAILBOX_ENTRIES as u64 + 1 {
            mailbox.keep(at(i), Spans::from_ranges([Range { from: 10 * i, to: 10 * i + 1 }]));
        }
        assert_eq!(mailbox.entries.len(), MAILBOX_ENTRIES);
        assert_eq!(mailbox.expire(at(2), Duration::from_secs(1)), 1);
        assert!(mailbox.take().is_some_and(|spans| spans.current() == Some(Range { from: 20, to: 21 })));
    }
}
