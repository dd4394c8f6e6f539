//! Frames that keep their place in the feed and are shown to nobody: readers pass over them.
//!
//! Invariant: they stand in the order of the feed, each is a whole frame, and none was sent before it was hidden.

use super::Node;
use super::delivery::{Delivery, NO_FEED};
use super::link::Link;
use crate::base::feed::Offset;
use crate::base::id::LinkId;
use crate::base::limits::WRITE_BYTES;
use crate::base::spans::Range;

impl Delivery {
    /// Readers pass over the frame that begins at `at`, the last.
    pub fn hide(&mut self, at: Offset) {
        self.forget_hidden();
        self.hidden.push_back(Range { from: at, to: self.feed.tail() });
    }

    /// Forgets those that have left the feed.
    pub fn forget_hidden(&mut self) {
        while self.hidden.front().is_some_and(|hidden| hidden.to <= self.feed.floor()) {
            self.hidden.pop_front();
        }
    }

    /// The first frame from `at` on that readers pass over.
    fn next_hidden(&self, at: Offset) -> Option<Range> {
        self.hidden.get(self.hidden.partition_point(|hidden| hidden.from < at)).copied()
    }
}

impl Node {
    /// Before a link's next write is planned: it passes over what it is not to get, and a client with an id is
    /// told what comes.
    #[inline]
    pub(super) fn prepare(&mut self, link_id: LinkId) {
        if !self.delivery.hidden.is_empty() {
            self.pass_over(link_id);
        }
        let link = &self.links[link_id.slot as usize];
        if link.ids().is_some() && !link.is_saying_last() {
            self.tell_ack(link_id);
            self.tell_next(link_id);
        }
    }

    fn pass_over(&mut self, link_id: LinkId) {
        let link = &mut self.links[link_id.slot as usize];
        while let Some(at) = link.spans.current().map(|r| r.from)
            && !link.mid_frame
            && let Some(hidden) = self.delivery.next_hidden(at).filter(|hidden| hidden.from == at)
        {
            if link.spans.advance(hidden.to - at)
                && let Some(next) = link.spans.current()
            {
                link.sent.jump(hidden.to, next.from);
            }
        }
    }

    /// What of the feed may be written to the link next, up to `stop`.
    #[inline]
    pub(super) fn feed_part(&self, link: &Link, stop: Offset) -> Range {
        let Delivery { feed, hidden, .. } = &self.delivery;
        let Some(r) = link.spans.current().filter(|r| r.from < stop.min(feed.tail())) else { return NO_FEED };
        let to = r.to.min(stop).min(feed.readable(r.from)).min(r.from + WRITE_BYTES);
        match hidden.is_empty() {
            true => Range { from: r.from, to },
            false => {
                Range { from: r.from, to: self.delivery.next_hidden(r.from).map_or(to, |h| to.min(h.from)) }
            }
        }
    }
}
