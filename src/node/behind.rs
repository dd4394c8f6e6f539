//! Readers that are further behind than the ring in memory reaches: they read on from disk, a piece at a
//! time, and those that are as far behind share it. Nobody else waits for them.

use std::cmp::Reverse;

use super::counters::CloseReason;
use super::link::Link;
use super::{Action, Node};
use crate::base::feed::Offset;
use crate::base::id::LinkId;
use crate::base::limits::CHUNK_BYTES;

impl Node {
    /// The next byte the link is to get, if that must be asked of the disk.
    pub(super) fn lacks(&self, link: &Link) -> Option<Offset> {
        let feed = &self.delivery.feed;
        let at = link.spans.current()?.from;
        (at < feed.head().min(link.stop()) && feed.readable(at) == at).then_some(at)
    }

    /// Asks the disk for the piece with the byte at `at`, for a link, or for a peer.
    pub(super) fn ask_disk(&mut self, at: Offset, link: Option<LinkId>) {
        let feed = &self.delivery.feed;
        let mut from = (at - at % CHUNK_BYTES as u64).max(feed.floor());
        // A piece may be shorter than was asked for: then the next one begins behind it.
        while feed.readable(from) > from {
            from = feed.readable(from);
        }
        let waiting = self.delivery.asked.entry(from).or_insert_with(|| {
            self.counters.disk_reads += 1;
            self.actions.push_back(Action::Read { offset: from, length: CHUNK_BYTES });
            Vec::new()
        });
        waiting.extend(link);
    }

    /// The disk's answer. Without bytes they are gone, or cannot be read.
    pub(super) fn on_chunk(&mut self, from: Offset, bytes: Option<Box<[u8]>>) {
        let waiting = self.delivery.asked.remove(&from).unwrap_or_default();
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        if bytes.is_none() && from < self.delivery.feed.floor() {
            // It went while it was asked for. What is there still is asked for anew.
            waiting.into_iter().for_each(|link_id| self.enqueue(link_id));
            return self.mesh.wake();
        }
        let Some(bytes) = bytes else {
            self.counters.disk_reads_failed += 1;
            log::warn!("{} readers are behind what can be read of the journal", waiting.len());
            for link_id in waiting {
                if self.link(link_id).is_some_and(|link| self.lacks(link).is_some()) {
                    self.abort(link_id, CloseReason::SlowReader);
                }
            }
            // Nobody asks for it again before the journal has said anew where it begins.
            return self.dropped(from + CHUNK_BYTES as u64);
        };
        self.delivery.feed.put_back(from, bytes);
        waiting.into_iter().for_each(|link_id| self.enqueue(link_id));
        self.mesh.wake();
    }

    /// Closes the blocked readers whose next byte has left the feed: they may never take bytes again and be
    /// noticed then. What they said in this turn was taken before.
    pub(super) fn close_fallen(&mut self) {
        let head = self.delivery.feed.floor();
        while let Some(Reverse((at, link_id))) = self.delivery.trailing.peek().copied()
            && at < head
        {
            self.delivery.trailing.pop();
            let Some(link) = self.link_mut(link_id) else { continue };
            link.trailing = false;
            let is_behind = link.spans.current().is_some_and(|r| r.from < head);
            if !link.blocked {
                continue;
            } else if is_behind {
                self.fell_off(link_id);
            } else {
                self.blocked(link_id);
            }
        }
    }

    /// Closes a reader whose next byte has left the feed. True if so.
    pub(super) fn fell_off(&mut self, link_id: LinkId) -> bool {
        let head = self.delivery.feed.floor();
        let Some(link) = self.link(link_id) else { return false };
        let Some(range) = link.spans.current().filter(|r| r.from < head.min(link.stop())) else {
            return false;
        };
        log::warn!("link {link_id}: {} bytes behind the feed's oldest", head - range.from);
        self.abort(link_id, CloseReason::SlowReader);
        true
    }
}
