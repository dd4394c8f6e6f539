//! What the kernel took is not what the client got: from a count of unacknowledged bytes back to ranges
//! of the feed.
//!
//! A link's stream is runs of feed bytes with private answers between them. While a run lasts, a byte of
//! the stream is a byte of the feed and the count alone tells. Only a break (an answer in between, a jump
//! to the next owed range) has to be remembered, and only while the kernel may still hold what is before.

use std::collections::VecDeque;

use crate::base::feed::Offset;
use crate::base::limits::{KERNEL_SEND_BYTES, RUNS_MAX};
use crate::base::ring::Ring;
use crate::base::spans::Range;

/// An earlier run. Invariant: `stream ≥ to − from`, with equality while `exact`.
#[derive(Clone, Debug)]
struct Run {
    from: Offset,
    to: Offset,
    /// Bytes of the stream it stands for.
    stream: u64,
    /// Bytes of answers behind it.
    gap: u64,
    /// False when it is several runs joined: then it is unacknowledged as a whole or not at all.
    exact: bool,
}

#[derive(Clone, Debug)]
struct Older {
    /// Oldest first, at most [`RUNS_MAX`].
    runs: Ring<Run>,
    live_from: Offset,
}

/// What went out on one link. The current run is `[run_from, cursor)`; the cursor is the reader's.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    run_from: Offset,
    older: Option<Box<Older>>,
}

impl Sent {
    /// Nothing sent yet; the first byte will be the one at `from`. `live_from` is where the session's own
    /// time begins: what lies below was owed to it by earlier sessions.
    pub fn new(from: Offset, live_from: Offset) -> Sent {
        let older = || Box::new(Older { runs: Ring::default(), live_from });
        Sent { run_from: from, older: (from != live_from).then(older) }
    }

    /// Where the session's own time begins, or a later offset if nothing below it can be unacknowledged.
    pub fn live_from(&self) -> Offset {
        self.older.as_ref().map_or(self.run_from, |older| older.live_from)
    }

    /// `n` bytes of private answers went out when the reader stood at `cursor`.
    pub fn answer(&mut self, cursor: Offset, n: u64) {
        if n == 0 {
            return;
        }
        if cursor > self.run_from {
            self.end_run(cursor);
            self.run_from = cursor;
        }
        if let Some(run) = self.older.as_mut().and_then(|older| older.runs.iter_mut().last()) {
            run.gap += n;
        }
    }

    /// The reader jumps from `cursor` to `to`.
    pub fn jump(&mut self, cursor: Offset, to: Offset) {
        if cursor > self.run_from {
            self.end_run(cursor);
        }
        self.run_from = to;
    }

    /// Forgets what the kernel can no longer hold.
    #[inline]
    pub fn trim(&mut self, cursor: Offset) {
        let old = |older: &mut Box<Older>| {
            cursor.saturating_sub(self.run_from.max(older.live_from)) >= KERNEL_SEND_BYTES
        };
        if self.older.is_some() && cursor >= self.live_from() {
            self.older.take_if(old);
        }
    }

    /// The ranges sent of which the last `unacknowledged` bytes of the stream hold a part. What is `hidden` was
    /// passed over in the middle of runs.
    pub fn unwind(&self, cursor: Offset, unacknowledged: u64, hidden: &VecDeque<Range>) -> Vec<Range> {
        let current =
            Run { from: self.run_from, to: cursor, stream: cursor - self.run_from, gap: 0, exact: true };
        let mut ranges = Vec::new();
        let mut left = unacknowledged;
        let older: Vec<&Run> = self.older.iter().flat_map(|older| older.runs.iter()).collect();
        for run in std::iter::once(&current).chain(older.into_iter().rev()) {
            if left <= run.gap {
                break;
            }
            left -= run.gap;
            let stream = if run.exact { run.stream - bytes_of(hidden, run) } else { run.stream };
            let from = if run.exact && left <= stream { back(run, left, hidden) } else { run.from };
            ranges.push(Range { from, to: run.to });
            if left <= stream {
                break;
            }
            left -= stream;
        }
        ranges
    }

    fn end_run(&mut self, cursor: Offset) {
        let run =
            Run { from: self.run_from, to: cursor, stream: cursor - self.run_from, gap: 0, exact: true };
        let live_from = self.live_from();
        let older = self.older.get_or_insert_with(|| Box::new(Older { runs: Ring::default(), live_from }));
        if older.runs.len() == RUNS_MAX
            && let Some(oldest) = older.runs.pop()
            && let Some(next) = older.runs.iter_mut().next()
        {
            *next = Run {
                from: oldest.from.min(next.from),
                to: next.to,
                stream: oldest.stream + oldest.gap + next.stream,
                gap: next.gap,
                exact: false,
            };
        }
        older.runs.push(run);
    }
}

/// What is hidden inside a run, the last first.
fn inside<'a>(hidden: &'a VecDeque<Range>, run: &Run) -> impl Iterator<Item = Range> + 'a {
    let from = hidden.partition_point(|h| h.from < run.from);
    let to = hidden.partition_point(|h| h.to <= run.to).max(from);
    hidden.range(from..to).rev().copied()
}

fn bytes_of(hidden: &VecDeque<Range>, run: &Run) -> u64 {
    inside(hidden, run).map(|h| h.to - h.from).sum()
}

/// Where the last `left` bytes of a run begin that were not hidden.
fn back(run: &Run, mut left: u64, hidden: &VecDeque<Range>) -> Offset {
    let mut to = run.to;
    for h in inside(hidden, run) {
        if left <= to - h.to {
            break;
        }
        left -= to - h.to;
        to = h.from;
    }
    to - left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::spans::Spans;
    use proptest::prelude::*;

    #[test]
    fn within_a_run_the_count_alone_tells() {
        let mut sent = Sent::new(100, 100);
        sent.answer(100, 60);
        assert_eq!(sent.unwind(150, 20, &VecDeque::new()), [Range { from: 130, to: 150 }]);
        assert_eq!(
            sent.unwind(150, 99, &VecDeque::new()),
            [Range { from: 100, to: 150 }],
            "the answer itself is unread"
        );
        assert_eq!(sent.unwind(150, 0, &VecDeque::new()), []);
        assert!(sent.older.is_none(), "a session that was owed nothing remembers no break");
    }

    #[test]
    fn an_answer_of_which_nothing_went_out_is_no_break() {
        let mut sent = Sent::new(100, 100);
        for cursor in 101..120 {
            sent.answer(cursor, 0);
        }
        assert_eq!(sent.unwind(120, 9, &VecDeque::new()), [Range { from: 111, to: 120 }]);
        assert!(sent.older.is_none());
    }

    #[test]
    fn what_the_kernel_cannot_hold_any_more_is_forgotten() {
        let mut sent = Sent::new(10, 50);
        sent.jump(30, 50);
        sent.trim(50 + KERNEL_SEND_BYTES - 1);
        assert_eq!(sent.live_from(), 50);
        sent.trim(50 + KERNEL_SEND_BYTES);
        assert!(sent.older.is_none());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Feed(u64),
        Hide(u64),
        Answer(u64),
        Jump(u64),
    }

    fn some_steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (1..50u64).prop_map(Step::Feed),
            (1..50u64).prop_map(Step::Hide),
            (1..30u64).prop_map(Step::Answer),
            (1..40u64).prop_map(Step::Jump)
        ];
        prop::collection::vec(step, 1..48)
    }

    proptest! {
        #[test]
        fn unwinding_agrees_with_a_stream_kept_byte_by_byte(steps in some_steps(), unacknowledged in 0usize..400) {
            let mut sent = Sent::new(1000, 1000);
            let mut cursor = 1000;
            let mut stream: Vec<Option<Offset>> = Vec::new();
            let (mut breaks, mut hidden) = (0, VecDeque::new());
            for step in steps {
                match step {
                    Step::Feed(n) => {
                        stream.extend((cursor..cursor + n).map(Some));
                        cursor += n;
                    }
                    Step::Hide(n) => {
                        hidden.push_back(Range { from: cursor, to: cursor + n });
                        cursor += n;
                    }
                    Step::Answer(n) => {
                        stream.extend((0..n).map(|_| None));
                        sent.answer(cursor, n);
                        breaks += 1;
                    }
                    Step::Jump(n) => {
                        sent.jump(cursor, cursor + n);
                        cursor += n;
                        breaks += 1;
                    }
                }
            }
            let cut = stream.len().saturating_sub(unacknowledged);
            let want = Spans::from_ranges(stream[cut..].iter().flatten().map(|at| Range { from: *at, to: at + 1 }));
            let got = Spans::from_ranges(sent.unwind(cursor, unacknowledged as u64, &hidden));
            let seen = |spans: &Spans| hidden.iter().fold(spans.clone(), |all, h| all.below(h.from).union(&all.above(h.to)));
            let (got, want) = (seen(&got), seen(&want));
            if breaks <= RUNS_MAX {
                prop_assert_eq!(got, want);
            } else {
                prop_assert_eq!(got.union(&want), got, "more is repeated, nothing is lost");
            }
        }
    }
}
