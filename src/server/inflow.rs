//! Memory for half-received lines: little in all, and nobody's long line keeps another's out for long.
//!
//! While [`INPUT_BYTES`] are held, links that hold more than [`INPUT_FREE_BYTES`] are read one at a time.
//! The one whose turn it is has [`INPUT_TURN`] to finish its line.

use std::collections::VecDeque;

use crate::base::id::LinkId;
use crate::base::limits::{INPUT_BYTES, INPUT_FREE_BYTES, INPUT_TURN, SPARE_BUFFERS, TURN_READ_BYTES};
use crate::base::time::Time;
use crate::wire::line::Lines;

/// The account of held bytes, and buffers that are free.
#[derive(Debug, Default)]
pub struct Inflow {
    held: usize,
    turn: Option<(LinkId, Time)>,
    parked: VecDeque<LinkId>,
    #[expect(clippy::vec_box, reason = "the boxes move into links and back")]
    spare: Vec<Box<Lines>>,
}

impl Inflow {
    /// A buffer to split lines with: the one the link holds, or an empty one.
    pub fn take(&mut self, held: &mut Option<Box<Lines>>) -> Box<Lines> {
        match held.take() {
            Some(lines) => {
                self.held -= lines.capacity();
                lines
            }
            None => self.spare.pop().unwrap_or_default(),
        }
    }

    /// Puts a buffer back: into the link if bytes are left in it, else among the free ones.
    pub fn put(&mut self, mut lines: Box<Lines>, held: &mut Option<Box<Lines>>) {
        if !lines.is_empty() {
            self.held += lines.capacity();
            *held = Some(lines);
        } else if self.spare.len() < SPARE_BUFFERS {
            lines.reset(TURN_READ_BYTES);
            self.spare.push(lines);
        }
    }

    /// The link's lines end here: the bytes it holds behind them, which are no longer counted.
    pub fn take_rest(&mut self, link: LinkId, held: &mut Option<Box<Lines>>) -> Vec<u8> {
        let rest = held.as_ref().map_or_else(Vec::new, |lines| lines.rest().to_vec());
        self.release(link, held);
        rest
    }

    /// The link is gone or will not be read again: its buffer is free.
    pub fn release(&mut self, link: LinkId, held: &mut Option<Box<Lines>>) {
        if held.is_some() {
            let mut lines = self.take(held);
            lines.reset(TURN_READ_BYTES);
            self.put(lines, held);
        }
        self.turn.take_if(|(id, _)| *id == link);
    }

    /// Lines of this link were taken and so many bytes are left: its turn is over if it needs none. Else a
    /// link that finished its line and has no more to say would be late with it.
    pub fn taken(&mut self, link: LinkId, len: usize) {
        self.turn.take_if(|(id, _)| *id == link && len <= INPUT_FREE_BYTES);
    }

    /// How many bytes this link, which holds `len`, may read now. If none, it is told when by
    /// [`Inflow::next`].
    pub fn may_read(&mut self, now: Time, link: LinkId, len: usize) -> usize {
        if self.turn.is_some_and(|(id, _)| id == link) {
            self.turn.take_if(|_| len <= INPUT_FREE_BYTES);
            return TURN_READ_BYTES;
        }
        if self.held < INPUT_BYTES {
            return TURN_READ_BYTES;
        }
        if len <= INPUT_FREE_BYTES {
            // One byte more than is free: with it the link has to wait for its turn.
            return INPUT_FREE_BYTES + 1 - len;
        }
        if self.turn.is_none() {
            self.turn = Some((link, now + INPUT_TURN));
            return TURN_READ_BYTES;
        }
        self.parked.push_back(link);
        0
    }

    /// Bytes held of half-received lines.
    pub fn held(&self) -> usize {
        self.held
    }

    /// A link whose turn it may be now.
    pub fn next(&mut self) -> Option<LinkId> {
        if self.turn.is_none() { self.parked.pop_front() } else { None }
    }

    /// True when [`Inflow::next`] has a link.
    pub fn is_free(&self) -> bool {
        self.turn.is_none() && !self.parked.is_empty()
    }

    /// The link whose turn is over without its line being complete.
    pub fn late(&mut self, now: Time) -> Option<LinkId> {
        self.turn.take_if(|(_, until)| *until <= now).map(|(link, _)| link)
    }

    /// When the turn that runs is over.
    pub fn deadline(&self) -> Option<Time> {
        self.turn.map(|(_, until)| until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::line::Flow;

    fn id(slot: u32) -> LinkId {
        LinkId { slot, generation: 1 }
    }

    #[test]
    fn long_lines_take_turns_once_memory_is_short_and_short_lines_never_wait() {
        let mut inflow = Inflow::default();
        let mut hoards: Vec<Option<Box<Lines>>> = Vec::new();
        while inflow.held < INPUT_BYTES {
            let mut held = None;
            let mut lines = inflow.take(&mut held);
            lines.feed(&vec![b'x'; 1 << 20], 2 << 20, |_| Flow::Next);
            inflow.put(lines, &mut held);
            hoards.push(held);
        }
        let now = Time::START;
        assert_eq!(inflow.may_read(now, id(1), INPUT_FREE_BYTES), 1);
        assert_eq!(inflow.may_read(now, id(1), 0), INPUT_FREE_BYTES + 1, "little at a time, but at once");
        assert_eq!(inflow.may_read(now, id(2), 1 << 20), TURN_READ_BYTES, "the first gets the turn");
        assert_eq!(inflow.may_read(now, id(3), 1 << 20), 0);
        assert_eq!((inflow.next(), inflow.late(now)), (None, None));
        assert_eq!(inflow.may_read(now, id(2), 0), TURN_READ_BYTES, "its line is complete: the turn ends");
        assert!(inflow.is_free());
        assert_eq!(inflow.next(), Some(id(3)));
        assert_eq!(inflow.may_read(now, id(3), 1 << 20), TURN_READ_BYTES);
        assert_eq!(inflow.deadline(), Some(now + INPUT_TURN));
        assert_eq!(inflow.late(now + INPUT_TURN), Some(id(3)));
        assert_eq!(inflow.may_read(now, id(5), 1 << 20), TURN_READ_BYTES);
        inflow.taken(id(5), 1 << 20);
        assert!(inflow.deadline().is_some(), "its line goes on");
        inflow.taken(id(5), 0);
        assert_eq!(inflow.late(now + INPUT_TURN), None, "its line is complete, though nothing more comes");
        for (i, held) in hoards.iter_mut().enumerate() {
            inflow.release(id(9 + i as u32), held);
        }
        assert_eq!(inflow.held, 0);
        assert_eq!(inflow.may_read(now, id(4), 1 << 20), TURN_READ_BYTES);
        assert!(inflow.spare.iter().all(|lines| lines.capacity() <= TURN_READ_BYTES));
    }
}
