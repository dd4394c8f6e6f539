//! The feed as it was found on disk: the same lines at the same places, shown or hidden as they were.

use super::Node;
use super::ids::Counts;
use super::stream::Stream;
use crate::base::feed::Offset;
use crate::base::id::StreamId;

impl Node {
    /// The feed on disk begins at `at`, which is where lines that are restored begin.
    pub fn restore_feed(&mut self, at: Offset) {
        self.relay.streams.iter_mut().for_each(Stream::clear);
        self.clients.clear();
        self.delivery.hidden.clear();
        self.delivery.feed.restart(at);
    }

    /// A line of the feed on disk; they come in order.
    pub fn restore_line(&mut self, stream: StreamId, seq: u64, line: &[u8]) {
        let i = self.relay.index(stream);
        let at = self.delivery.feed.tail();
        self.relay.streams[i].restore(seq, at);
        let is_shown = self.clients.shows(i, seq, line, &mut Counts::default());
        if line.len() <= self.limits.feed_bytes {
            self.delivery.feed.append(stream, seq, line);
        } else {
            self.delivery.feed.skip(line.len());
        }
        if !is_shown {
            self.delivery.hide(at);
        }
        self.relay.note(i, seq, line);
    }
}
