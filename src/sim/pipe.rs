//! One TCP connection as two kernels have it: what was written, arrived, was read and acknowledged.
//!
//! Invariant of a flow: `read ≤ delivered ≤ written`, `acked ≤ delivered`.

use std::collections::VecDeque;

use crate::base::id::LinkId;
use crate::base::limits::STALLED;
use crate::base::time::Time;

pub(super) type PipeId = usize;

/// Whose program has this end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// A boot of a server: the server, and which boot of all.
    Host(usize, usize),
    /// A client.
    User(usize),
    /// The simulator itself, which hears what the server at the other end applies.
    Tap,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// From the position `base` on.
    bytes: Vec<u8>,
    base: u64,
    pub delivered: u64,
    read: u64,
    acked: u64,
    /// Acknowledgements on their way: when they are there, and up to where.
    acks: VecDeque<(Time, u64)>,
    /// Bytes the sender's kernel holds at most, and the receiver's.
    pub room: u64,
    pub window: u64,
    /// The sender wrote its end; it arrived.
    pub ended: bool,
    pub end_arrived: bool,
    /// Bytes are on their way, with an acknowledgement of the other direction up to there.
    pub moving: bool,
    pub carried: u64,
    /// Nothing gets through while this is not 0.
    pub frozen: u32,
    /// Since when the oldest unacknowledged byte is unanswered.
    since: Time,
    /// The sender's program waits for room.
    pub waiting: bool,
    /// Nothing more gets anywhere.
    is_dead: bool,
    /// When how much had arrived.
    pub log: Vec<(Time, u64)>,
}

impl Flow {
    pub fn written(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    /// Takes what fits. Returns how much that is.
    pub fn write(&mut self, now: Time, parts: &[&[u8]]) -> usize {
        self.settle(now);
        let mut room = self.room.saturating_sub(self.written() - self.acked) as usize;
        let mut taken = 0;
        for part in parts {
            let n = part.len().min(room);
            self.bytes.extend_from_slice(&part[..n]);
            (room, taken) = (room - n, taken + n);
        }
        if taken > 0 && self.written() - taken as u64 == self.acked {
            self.since = now;
        }
        taken
    }

    /// Notes the acknowledgements that are there.
    fn settle(&mut self, now: Time) {
        while self.acks.front().is_some_and(|(at, _)| *at <= now) {
            let upto = self.acks.pop_front().map_or(0, |(_, upto)| upto);
            self.acknowledge(now, upto);
        }
    }

    pub fn acknowledge(&mut self, now: Time, upto: u64) {
        if upto > self.acked {
            (self.acked, self.since) = (upto, now);
        }
    }

    /// How far the sender knows that it arrived.
    pub fn acked(&mut self, now: Time) -> u64 {
        self.settle(now);
        self.acked
    }

    pub fn unacknowledged(&mut self, now: Time) -> u64 {
        self.written() - self.acked(now)
    }

    /// Unanswered for long, and not because the reader is slow.
    pub fn stalled(&mut self, now: Time, reachable: bool) -> bool {
        self.unacknowledged(now) > 0 && !reachable && now.since(self.since) >= STALLED
    }

    /// Room for more bytes of the sender.
    pub fn has_room(&mut self, now: Time) -> bool {
        self.unacknowledged(now) < self.room
    }

    /// An acknowledgement of what arrived sets out.
    pub fn ack_at(&mut self, at: Time) {
        let at = self.acks.back().map_or(at, |(last, _)| at.max(*last));
        self.acks.push_back((at, self.delivered));
    }

    /// When the last acknowledgement that is on its way is there.
    pub fn last_ack(&self) -> Option<Time> {
        self.acks.back().map(|(at, _)| *at)
    }

    /// Acknowledgements on their way get lost.
    pub fn lose_acks(&mut self, now: Time) {
        self.settle(now);
        self.acks.clear();
    }

    /// Bytes that could arrive now.
    pub fn deliverable(&self) -> u64 {
        if self.is_dead {
            return 0;
        }
        (self.written() - self.delivered).min(self.window.saturating_sub(self.delivered - self.read))
    }

    /// There is something to move.
    pub fn is_pending(&self) -> bool {
        self.deliverable() > 0
            || (self.ended && !self.is_dead && !self.end_arrived && self.delivered == self.written())
    }

    pub fn deliver(&mut self, n: u64) {
        self.delivered += n;
        self.end_arrived = self.ended && !self.is_dead && self.delivered == self.written();
    }

    /// What arrived and was not read.
    pub fn unread(&self) -> &[u8] {
        &self.bytes[(self.read - self.base) as usize..(self.delivered - self.base) as usize]
    }

    /// The program has read `n` more bytes.
    pub fn consume(&mut self, n: usize) {
        self.read += n as u64;
        if self.read - self.base > 1 << 15 {
            self.bytes.drain(..(self.read - self.base) as usize);
            self.base = self.read;
        }
    }

    /// How far the receiver's program has read.
    pub fn read_upto(&self) -> u64 {
        self.read
    }

    /// All was read, up to the end.
    pub fn is_over(&self) -> bool {
        self.end_arrived && self.read == self.delivered
    }

    /// What did not arrive never will, and stays unacknowledged.
    pub fn drop_rest(&mut self) {
        self.is_dead = true;
    }

    /// The last `n` bytes that were written, as far as they are there.
    pub fn last(&self, n: usize) -> &[u8] {
        &self.bytes[self.bytes.len().saturating_sub(n)..]
    }

    /// When the byte before `position` had arrived.
    pub fn arrived_at(&self, position: u64) -> Option<Time> {
        let i = self.log.partition_point(|(_, upto)| *upto < position);
        self.log.get(i).map(|(at, _)| *at)
    }
}

/// A connection. Side 0 made it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub owners: [Owner; 2],
    /// What the node at a server's side calls it.
    pub links: [Option<LinkId>; 2],
    /// What each side writes.
    pub flows: [Flow; 2],
    /// The socket is there.
    pub open: [bool; 2],
    /// The kernel knows that the other side is gone.
    pub reset: [bool; 2],
    /// How far the other side had acknowledged when this side closed.
    pub confirmed: [Option<u64>; 2],
    pub closed_at: [Option<Time>; 2],
    /// How long the way is.
    pub way_us: u64,
    pub born: Time,
}

impl Pipe {
    pub fn new(now: Time, owners: [Owner; 2], way_us: u64, buffers: (u64, u64)) -> Pipe {
        let flow = || Flow { room: buffers.0, window: buffers.1, ..Flow::default() };
        Pipe {
            owners,
            links: [None; 2],
            flows: [flow(), flow()],
            open: [true, false],
            reset: [false; 2],
            confirmed: [None; 2],
            closed_at: [None; 2],
            way_us,
            born: now,
        }
    }

    /// How far what `side` wrote is known to have arrived: when it closed, or now.
    pub fn confirmed(&mut self, side: usize, now: Time) -> u64 {
        self.confirmed[side].unwrap_or_else(|| self.flows[side].acked(now))
    }
}
