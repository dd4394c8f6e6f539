//! What a reader is still owed: ranges of the feed, in order, the last of them often without an end.
//!
//! Invariant: ranges are not empty, rise, and neither touch nor overlap; only the last may be open.

use super::feed::Offset;
use super::limits::SPANS_MAX;
use super::ring::Ring;

/// The end of a range that goes on for ever.
const OPEN: Offset = Offset::MAX;

/// The feed's bytes from `from` up to, not including, `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte owed.
    pub from: Offset,
    /// First byte no longer owed; `Offset::MAX` when the range has no end.
    pub to: Offset,
}

impl Range {
    /// Everything from `from` on, also what is not yet said.
    pub fn open(from: Offset) -> Range {
        Range { from, to: OPEN }
    }

    /// True when it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.from >= self.to
    }
}

/// The ranges a reader is owed. Online and caught up it is one open range and owns no memory: two words
/// in all, because every link has one.
#[derive(Clone, Debug)]
pub struct Spans {
    /// The first byte owed.
    from: Offset,
    /// What else there is to know where the first range has an end.
    more: Option<Box<More>>,
}

#[derive(Clone, Debug)]
struct More {
    /// The end of the first range.
    to: Offset,
    /// The ranges behind it.
    rest: Ring<Range>,
}

impl Spans {
    /// Nothing owed: the open range behind the last offset there is.
    pub const NOTHING: Spans = Spans { from: OPEN, more: None };

    /// The one open range `[from, ∞)`.
    pub fn open(from: Offset) -> Spans {
        Spans { from, more: None }
    }

    /// The ranges given, in any order, put in order and joined where they touch. Where more than
    /// [`SPANS_MAX`] remain, the closest two are joined until they fit: the reader gets a little more
    /// than it is owed, never less.
    pub fn from_ranges(ranges: impl IntoIterator<Item = Range>) -> Spans {
        let mut all: Vec<Range> = ranges.into_iter().filter(|r| !r.is_empty()).collect();
        all.sort_unstable_by_key(|r| r.from);
        all.dedup_by(|next, kept| {
            let joins = next.from <= kept.to;
            if joins {
                kept.to = kept.to.max(next.to);
            }
            joins
        });
        while all.len() > SPANS_MAX {
            let gap = |i: &usize| all[i + 1].from - all[*i].to;
            let closest = (0..all.len() - 1).min_by_key(gap).expect("more than one range");
            all[closest].to = all[closest + 1].to;
            all.remove(closest + 1);
        }
        let mut all = all.into_iter();
        let first = all.next().unwrap_or(Range::open(OPEN));
        let more = || Box::new(More { to: first.to, rest: all.collect() });
        let spans = Spans { from: first.from, more: (first.to != OPEN).then(more) };
        spans.check();
        spans
    }

    /// What either of the two is owed.
    pub fn union(&self, other: &Spans) -> Spans {
        Spans::from_ranges(self.ranges().chain(other.ranges()))
    }

    /// The part that lies below `limit`.
    pub fn below(&self, limit: Offset) -> Spans {
        Spans::from_ranges(self.ranges().map(|r| Range { from: r.from, to: r.to.min(limit) }))
    }

    /// The part that lies at or above `limit`.
    pub fn above(&self, limit: Offset) -> Spans {
        Spans::from_ranges(self.ranges().map(|r| Range { from: r.from.max(limit), to: r.to }))
    }

    /// True when nothing is owed, now or later.
    pub fn is_empty(&self) -> bool {
        self.from == OPEN
    }

    /// The range to serve now.
    #[inline]
    pub fn current(&self) -> Option<Range> {
        let to = self.more.as_ref().map_or(OPEN, |more| more.to);
        (self.from < to).then_some(Range { from: self.from, to })
    }

    /// All ranges, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range> {
        self.current().into_iter().chain(self.more.iter().flat_map(|more| more.rest.iter().copied()))
    }

    /// `n` bytes of the current range were served. True when that ended it.
    pub fn advance(&mut self, n: u64) -> bool {
        let Some(more) = self.more.as_mut() else {
            self.from += n;
            return false;
        };
        assert!(n <= more.to - self.from, "a reader is served from its current range only");
        self.from += n;
        if n == 0 || self.from < more.to {
            return false;
        }
        match more.rest.pop() {
            None => *self = Spans::NOTHING,
            Some(next) if next.to == OPEN => *self = Spans::open(next.from),
            Some(next) => (self.from, more.to) = (next.from, next.to),
        }
        self.check();
        true
    }

    /// How many bytes are owed of a feed that ends at `tail`.
    pub fn owed(&self, tail: Offset) -> u64 {
        self.ranges().map(|r| r.to.min(tail).saturating_sub(r.from)).sum()
    }

    fn check(&self) {
        debug_assert!(self.ranges().all(|r| !r.is_empty()));
        debug_assert!(self.ranges().zip(self.ranges().skip(1)).all(|(a, b)| a.to < b.from));
        debug_assert!(self.more.is_none() || !self.is_empty());
    }
}

impl PartialEq for Spans {
    fn eq(&self, other: &Spans) -> bool {
        self.ranges().eq(other.ranges())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The model: one flag a byte.
    fn flags(spans: &Spans) -> Vec<bool> {
        (0..WORLD).map(|at| spans.ranges().any(|r| r.from <= at && at < r.to)).collect()
    }

    const WORLD: Offset = 300;

    fn some_spans() -> impl Strategy<Value = Spans> {
        let range = (0..WORLD, 0..40u64).prop_map(|(from, n)| Range { from, to: from + n });
        (prop::collection::vec(range, 0..8), prop::option::of(0..WORLD))
            .prop_map(|(closed, open)| Spans::from_ranges(closed.into_iter().chain(open.map(Range::open))))
    }

    proptest! {
        #[test]
        fn union_and_cuts_agree_with_a_byte_by_byte_model(a in some_spans(), b in some_spans(), limit in 0..WORLD) {
            let (fa, fb) = (flags(&a), flags(&b));
            let either: Vec<bool> = fa.iter().zip(&fb).map(|(x, y)| *x || *y).collect();
            prop_assert_eq!(flags(&a.union(&b)), either);
            let below: Vec<bool> = fa.iter().enumerate().map(|(i, x)| *x && (i as u64) < limit).collect();
            prop_assert_eq!(flags(&a.below(limit)), below);
            prop_assert_eq!(a.below(limit).union(&a.above(limit)), a.clone());
            prop_assert_eq!(a.owed(WORLD), fa.iter().filter(|x| **x).count() as u64);
        }

        #[test]
        fn serving_in_any_steps_serves_each_owed_byte_once(mut a in some_spans(), steps in prop::collection::vec(1..30u64, 1..80)) {
            let owed = flags(&a);
            let mut served = vec![false; WORLD as usize];
            let mut steps = steps.into_iter().cycle();
            while let Some(range) = a.current().filter(|r| r.from < WORLD) {
                let n = steps.next().unwrap().min(range.to.min(WORLD) - range.from);
                for at in range.from..range.from + n {
                    prop_assert!(!std::mem::replace(&mut served[at as usize], true));
                }
                prop_assert_eq!(a.advance(n), range.from + n == range.to);
            }
            prop_assert_eq!(served, owed);
        }
    }

    #[test]
    fn too_many_ranges_lose_the_smallest_gaps_and_no_byte() {
        let range = |i: u64| Range { from: i * 100, to: i * 100 + if i == 7 { 99 } else { 10 } };
        let spans = Spans::from_ranges((0..SPANS_MAX as u64 + 1).map(range));
        assert_eq!(spans.ranges().count(), SPANS_MAX);
        assert!(spans.ranges().any(|r| r == Range { from: 700, to: 810 }));
    }
}
