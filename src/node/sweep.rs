//! The links that have everything, and the walk over them when there is more.
//!
//! A walk is a flush, and it begins elsewhere each time: who is last now is not always last. It goes from `begin`
//! to the end, then from the front to `begin`. It may be left at any place and gone on with later.

use crate::base::feed::Offset;

/// Followers, as slots of links.
///
/// Invariant: those that the walk under way has passed have everything up to `to`, and when none is under way all
/// have everything up to `done`.
#[derive(Debug, Default)]
pub(super) struct Followers {
    slots: Vec<u32>,
    /// Where the walk stands, where it began, and whether it has begun anew at the front.
    next: usize,
    begin: usize,
    wrapped: bool,
    under_way: bool,
    /// The feed's end when this walk began, and when the last finished one did.
    to: Offset,
    done: Offset,
}

impl Followers {
    /// Adds one that has everything. Returns its place.
    pub fn push(&mut self, slot: u32) -> u32 {
        self.slots.push(slot);
        self.slots.len() as u32 - 1
    }

    /// Takes one out. Returns the slot that is at its place now, if one is.
    pub fn remove(&mut self, place: usize) -> Option<u32> {
        self.slots.swap_remove(place);
        let moved = self.slots.get(place).copied();
        // It stood here; was it still to be passed, and would it not be any more?
        let stood = self.slots.len();
        let was_to_come = stood >= self.next && (!self.wrapped || stood < self.begin);
        let is_behind = place < self.next && (self.wrapped || place >= self.begin);
        if self.under_way && was_to_come && is_behind {
            self.next = place;
        }
        moved
    }

    /// The next that may lack something, while the feed ends at `tail`.
    pub fn next(&mut self, tail: Offset) -> Option<u32> {
        while self.done < tail {
            if !self.under_way {
                // A step of the golden section: over some walks every place is early, and late, as often.
                self.begin = (self.begin + self.slots.len() * 382 / 1000 + 1) % self.slots.len().max(1);
                (self.next, self.to) = (self.begin, tail);
                (self.wrapped, self.under_way) = (false, true);
            }
            let end = if self.wrapped { self.begin.min(self.slots.len()) } else { self.slots.len() };
            if self.next < end {
                return Some(self.slots[self.next]);
            }
            if self.wrapped {
                (self.under_way, self.done) = (false, self.to);
            }
            (self.wrapped, self.next) = (true, 0);
        }
        None
    }

    /// The one that [`Followers::next`] gave has everything.
    pub fn pass(&mut self) {
        self.next += 1;
    }

    /// Some may lack something.
    pub fn is_pending(&self, tail: Offset) -> bool {
        self.done < tail && !self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nobody_is_passed_over_whoever_comes_and_goes_meanwhile(
            steps in proptest::collection::vec((0..4_u8, 0..20_usize), 1..200),
        ) {
            let (mut all, mut has, mut tail) = (Followers::default(), BTreeMap::new(), 0);
            let mut slot = 0;
            for (what, n) in steps {
                match what {
                    0 => {
                        all.push(slot);
                        has.insert(slot, tail);
                        slot += 1;
                    }
                    1 if n < all.slots.len() => {
                        has.remove(&all.slots[n]);
                        all.remove(n);
                    }
                    2 => tail += 1,
                    _ => {
                        for _ in 0..n {
                            let Some(slot) = all.next(tail) else { break };
                            has.insert(slot, tail);
                            all.pass();
                        }
                    }
                }
            }
            while let Some(slot) = all.next(tail) {
                has.insert(slot, tail);
                all.pass();
            }
            prop_assert!(has.values().all(|has| *has == tail), "{has:?} of {tail}");
        }
    }

    #[test]
    fn who_is_last_once_is_first_another_time() {
        let mut all = Followers::default();
        (0..100).for_each(|slot| assert_eq!(all.push(slot), slot));
        let mut places = vec![0; 100];
        for tail in 1..=1000 {
            for place in 0..100 {
                places[all.next(tail).expect("one of a hundred") as usize] += place;
                all.pass();
            }
            assert_eq!(all.next(tail), None);
        }
        let fair = 1000 * 99 / 2;
        assert!(places.iter().all(|sum| (fair * 9 / 10..fair * 11 / 10).contains(sum)), "{places:?}");
    }
}
