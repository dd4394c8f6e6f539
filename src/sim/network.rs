//! The ways between machines: bytes arrive late, in pieces, or not; connections are made, end and break.

use super::cluster::Cluster;
use super::host::Notice;
use super::pipe::{Owner, Pipe, PipeId};
use super::schedule::{Event, us};
use super::swarm::Class;

impl Cluster {
    /// A way's length for a new connection.
    pub fn draw_way(&mut self) -> u64 {
        let (low, high) = self.swarm.way_us;
        self.rng.between(low, high)
    }

    /// Makes a connection; whether there is anybody shows when it arrives.
    pub fn open_pipe(&mut self, from: Owner, to: Owner) -> PipeId {
        let way = self.draw_way();
        let pipe = Pipe::new(self.now(), [from, to], way, self.swarm.buffers);
        self.pipes.push(pipe);
        let id = self.pipes.len() - 1;
        self.schedule.after(us(way), Event::Knock(id));
        id
    }

    /// The machine of this end; none for a client's.
    fn machine(&self, pipe: PipeId, side: usize) -> Option<usize> {
        match self.pipes[pipe].owners[side] {
            Owner::Host(host, _) => Some(host),
            _ => None,
        }
    }

    /// Bytes get from this side to the other.
    pub fn is_way_free(&self, pipe: PipeId, side: usize) -> bool {
        let p = &self.pipes[pipe];
        let dark = |side: usize| self.machine(pipe, side).is_some_and(|host| self.hosts[host].dark);
        let wall = match (self.machine(pipe, side), self.machine(pipe, 1 - side)) {
            (Some(from), Some(to)) => self.walls[from][to] > 0,
            _ => false,
        };
        p.flows[side].frozen == 0 && !wall && !dark(side) && !dark(1 - side)
    }

    /// Both ways are free.
    pub fn is_reachable(&self, pipe: PipeId) -> bool {
        self.is_way_free(pipe, 0) && self.is_way_free(pipe, 1)
    }

    /// How long the next bytes are on their way.
    fn trip(&mut self, pipe: PipeId) -> u64 {
        let way = self.pipes[pipe].way_us;
        way + self.rng.below(way / 2 + 50)
    }

    /// Sees to it that what this side wrote gets moving.
    pub fn kick(&mut self, pipe: PipeId, side: usize) {
        let p = &self.pipes[pipe];
        if !p.flows[side].moving && p.flows[side].is_pending() && self.is_way_free(pipe, side) {
            let trip = self.trip(pipe);
            let carried = self.pipes[pipe].flows[1 - side].delivered;
            let flow = &mut self.pipes[pipe].flows[side];
            (flow.moving, flow.carried) = (true, carried);
            self.schedule.after(us(trip), Event::Arrive(pipe, side));
        }
    }

    pub(super) fn on_arrive(&mut self, pipe: PipeId, side: usize) {
        let now = self.now();
        self.pipes[pipe].flows[side].moving = false;
        if !self.is_way_free(pipe, side) {
            return self.judge.mark("bytes lost on the way");
        }
        let carried = self.pipes[pipe].flows[side].carried;
        self.pipes[pipe].flows[1 - side].acknowledge(now, carried);
        if !self.pipes[pipe].open[1 - side] {
            // The program there is gone, so its kernel says.
            self.pipes[pipe].flows[side].drop_rest();
            return self.send_reset(pipe, side);
        }
        let all = self.pipes[pipe].flows[side].deliverable();
        let n = if self.has(Class::Chunks) && all > 1 && self.rng.chance(30) {
            self.judge.mark("bytes arrived in pieces");
            self.rng.between(1, all)
        } else {
            all
        };
        let trip = self.trip(pipe);
        let is_back_free = self.is_way_free(pipe, 1 - side);
        let flow = &mut self.pipes[pipe].flows[side];
        flow.deliver(n);
        if is_back_free {
            flow.ack_at(now + us(trip));
            if flow.waiting {
                self.schedule.after(us(trip), Event::Acked(pipe, side));
            }
        }
        self.schedule.note((pipe as u64) << 32 | n << 1 | side as u64);
        match self.pipes[pipe].owners[1 - side] {
            Owner::Host(host, _) => {
                let flow = &mut self.pipes[pipe].flows[side];
                flow.log.push((now, flow.delivered));
                if let Some(link) = self.pipes[pipe].links[1 - side] {
                    self.hosts[host].inbox.push(Notice::Readable(link));
                }
                self.wake(host);
            }
            Owner::User(_) => self.user_reads(pipe, false),
            Owner::Tap => {}
        }
        self.kick(pipe, side);
    }

    /// A reset sets out to this side.
    pub fn send_reset(&mut self, pipe: PipeId, side: usize) {
        if self.is_way_free(pipe, 1 - side) {
            let trip = self.trip(pipe);
            self.schedule.after(us(trip), Event::Reset(pipe, side));
        }
    }

    pub(super) fn on_reset(&mut self, pipe: PipeId, side: usize) {
        let p = &mut self.pipes[pipe];
        if !p.open[side] || std::mem::replace(&mut p.reset[side], true) {
            return;
        }
        match p.owners[side] {
            Owner::Host(host, _) => {
                if let Some(link) = self.pipes[pipe].links[side] {
                    self.hosts[host].inbox.push(Notice::Readable(link));
                    self.wake(host);
                }
            }
            Owner::User(_) => self.user_lost(pipe),
            Owner::Tap => {}
        }
    }

    pub(super) fn on_acked(&mut self, pipe: PipeId, side: usize) {
        let now = self.now();
        let flow = &mut self.pipes[pipe].flows[side];
        if !flow.waiting || !flow.has_room(now) {
            return;
        }
        flow.waiting = false;
        if let Owner::Host(host, _) = self.pipes[pipe].owners[side]
            && let Some(link) = self.pipes[pipe].links[side]
        {
            self.judge.mark("a blocked link took bytes again");
            self.hosts[host].inbox.push(Notice::Unblocked(link));
            self.wake(host);
        }
    }

    /// Tells a program that waits when there is room again, if acknowledgements are on their way.
    pub fn await_room(&mut self, pipe: PipeId, side: usize) {
        let flow = &mut self.pipes[pipe].flows[side];
        flow.waiting = true;
        if let Some(at) = flow.last_ack() {
            self.schedule.set(at, Event::Acked(pipe, side));
        }
    }

    /// The program shuts its side: the end follows what it wrote.
    pub fn shut(&mut self, pipe: PipeId, side: usize) {
        self.pipes[pipe].flows[side].ended = true;
        self.kick(pipe, side);
    }

    /// The program closes its socket, or ends. Bytes it has not read make that a reset, which overtakes what
    /// it wrote.
    pub fn close(&mut self, pipe: PipeId, side: usize) {
        let now = self.now();
        let p = &mut self.pipes[pipe];
        if !std::mem::replace(&mut p.open[side], false) {
            return;
        }
        p.confirmed[side] = Some(p.flows[side].acked(now));
        p.closed_at[side] = Some(now);
        if p.reset[side] {
            return;
        }
        if p.flows[1 - side].unread().is_empty() {
            return self.shut(pipe, side);
        }
        p.flows[side].drop_rest();
        self.send_reset(pipe, 1 - side);
    }

    /// The way between the two is gone for good, and neither is told.
    pub fn vanish(&mut self, pipe: PipeId) {
        let now = self.now();
        for side in 0..2 {
            let flow = &mut self.pipes[pipe].flows[side];
            flow.frozen += 1;
            flow.lose_acks(now);
        }
    }

    /// Acknowledgements that are on a way that is closed now do not arrive.
    pub fn lose_acks(&mut self) {
        let now = self.now();
        for pipe in 0..self.pipes.len() {
            for side in 0..2 {
                if self.pipes[pipe].open[side] && !self.is_way_free(pipe, 1 - side) {
                    self.pipes[pipe].flows[side].lose_acks(now);
                }
            }
        }
    }

    /// Ways may be free again: what was held up is sent again after a while, and confirmed.
    pub fn retransmit(&mut self) {
        for pipe in 0..self.pipes.len() {
            for side in 0..2 {
                if !self.pipes[pipe].open[side] && !self.pipes[pipe].flows[side].is_pending() {
                    continue;
                }
                let wait = self.rng.between(1_000, 250_000);
                let now = self.now();
                if self.is_way_free(pipe, 1 - side) {
                    let flow = &mut self.pipes[pipe].flows[side];
                    flow.ack_at(now + us(wait));
                    if flow.waiting {
                        self.schedule.after(us(wait), Event::Acked(pipe, side));
                    }
                }
                let carried = self.pipes[pipe].flows[1 - side].delivered;
                let is_free = self.is_way_free(pipe, side);
                let flow = &mut self.pipes[pipe].flows[side];
                if is_free && !flow.moving && flow.is_pending() {
                    (flow.moving, flow.carried) = (true, carried);
                    self.schedule.after(us(wait), Event::Arrive(pipe, side));
                }
            }
        }
    }
}
