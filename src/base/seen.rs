//! Which numbers of one row were had. They come in order nearly always, so nearly always that is one range.
//!
//! Invariant: ranges rise and neither touch nor overlap; there are at most [`RANGES_MAX`].

/// Ranges that are told apart; above that the two lowest become one, as if all between had been had.
pub const RANGES_MAX: usize = 8;

/// The numbers that were had. Numbers begin at 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The lowest range, its end included; nothing was had while its end is 0.
    low: (u64, u64),
    more: Vec<(u64, u64)>,
}

impl Seen {
    /// This one, and none below it is known of.
    pub fn at(n: u64) -> Seen {
        Seen { low: (n, n), more: Vec::new() }
    }

    /// Takes ranges in any order, ends included.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Seen {
        let mut all: Vec<(u64, u64)> = ranges.into_iter().filter(|r| r.0 <= r.1 && r.1 > 0).collect();
        all.sort_unstable();
        all.dedup_by(|next, kept| {
            let joins = next.0 <= kept.1.saturating_add(1);
            if joins {
                kept.1 = kept.1.max(next.1);
            }
            joins
        });
        while all.len() > RANGES_MAX {
            let low = all.remove(0);
            all[0].0 = low.0;
        }
        let mut all = all.into_iter();
        Seen { low: all.next().unwrap_or_default(), more: all.collect() }
    }

    /// The ranges, in order, ends included.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        let low = (self.low.1 > 0).then_some(self.low);
        low.into_iter().chain(self.more.iter().copied())
    }

    /// True if it was had.
    pub fn has(&self, n: u64) -> bool {
        self.ranges().any(|(from, to)| from <= n && n <= to)
    }

    /// Notes one. False if it was had.
    pub fn add(&mut self, n: u64) -> bool {
        if self.more.is_empty() && self.low.1 > 0 && n == self.low.1 + 1 {
            self.low.1 = n;
            return true;
        }
        if self.has(n) {
            return false;
        }
        *self = Seen::from_ranges(self.ranges().chain([(n, n)]));
        true
    }

    /// The same, where nothing counts that is below the first that was had.
    pub fn add_above(&mut self, n: u64) -> bool {
        n >= self.low.0 && self.add(n)
    }

    /// The end of the lowest range: nothing is missing below it. 0 if nothing was had.
    pub fn whole(&self) -> u64 {
        self.low.1
    }

    /// The highest. 0 if nothing was had.
    pub fn top(&self) -> u64 {
        self.more.last().map_or(self.low.1, |last| last.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_knows_what_a_set_knows(all in prop::collection::vec(1u64..24, 1..60)) {
            let (mut seen, mut set) = (Seen::default(), BTreeSet::new());
            for n in all {
                prop_assert_eq!(seen.add(n), set.insert(n));
                prop_assert_eq!(seen.top(), *set.last().unwrap());
                let first = *set.first().unwrap();
                let whole = (first..).take_while(|n| set.contains(n)).last().unwrap();
                // More ranges than are told apart leave no number out.
                prop_assert!(seen.whole() >= whole && set.iter().all(|n| seen.has(*n)));
                if seen.ranges().count() < RANGES_MAX {
                    prop_assert_eq!((seen.whole(), seen.has(24)), (whole, false));
                }
                set.extend((1..24).filter(|n| seen.has(*n)));
            }
        }
    }

    #[test]
    fn what_comes_late_is_told_from_what_was_had() {
        let mut seen = Seen::at(5);
        assert!(!seen.add(5) && seen.add(6) && seen.add(3) && seen.add(8));
        assert_eq!(seen.ranges().collect::<Vec<_>>(), [(3, 3), (5, 6), (8, 8)]);
        assert_eq!((seen.whole(), seen.top()), (3, 8));
        assert!(seen.add(4) && seen.add(7) && !seen.add_above(2));
        assert_eq!(seen, Seen::from_ranges([(3, 8)]));
    }
}
