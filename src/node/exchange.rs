//! Messages come and go: accepted here, exposed, received from others, applied.

use super::ids::Counts;
use super::mesh::PeerId;
use super::relay::OWN;
use super::stream::{Prev, Stream};
use super::{Action, Mutation, Node, Timer};
use crate::base::id::StreamId;
use crate::base::limits::{PENDING_BYTES, PREV_WAIT, PREV_WAIT_MAX, SECOND_COPY, UNEXPOSED_BYTES};
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::frame::{self, Data};

impl Node {
    /// The line that was just encoded is accepted: it gets the next number of our stream, goes to all peers
    /// in this turn, and is exposed as soon as may be.
    pub(super) fn accept(&mut self, prev: Prev) {
        let line = std::mem::take(&mut self.line);
        let relay = &mut self.relay;
        let seq = relay.streams[OWN].held() + 1;
        relay.note(OWN, seq, &line);
        self.counters.feed_bytes += line.len() as u64;
        self.mesh.wake();
        let waits = seq > relay.streams[OWN].applied() + 1 || !self.mesh.peers.is_empty();
        let stream = &mut relay.streams[OWN];
        if !waits && prev.is_empty() {
            // Nobody is there to hold a second copy.
            let at = self.delivery.feed.tail();
            self.delivery.lags.mark(at, self.now);
            self.delivery.feed.append(stream.id, seq, &line);
            stream.applied_at_once(at, self.delivery.feed.floor());
            let mut counts = Counts::default();
            self.clients.shows(OWN, seq, &line, &mut counts);
            self.count_ids(&counts);
        } else {
            stream.hold(&line, prev);
            match relay.accepted.back_mut() {
                Some((last, at)) if *at == self.now => *last = seq,
                _ => relay.accepted.push_back((seq, self.now)),
            }
            relay.full |= stream.pending_bytes() >= UNEXPOSED_BYTES;
            self.expose();
            self.await_second_copy();
        }
        if self.delivery.is_turn_full() {
            (self.relay.full, self.relay.more) = (true, true);
        }
        self.line = line;
    }

    /// A turn begins: what the last one had no room for is applied, and clients are read again.
    pub(super) fn take_more(&mut self) {
        if std::mem::take(&mut self.relay.more) {
            self.expose();
            self.progress();
            self.read_again();
            self.await_second_copy();
            self.await_prev();
            self.relay.more |= self.relay.full && self.delivery.is_turn_full();
        }
    }

    fn read_again(&mut self) {
        let waiting = self.relay.streams[OWN].pending_bytes();
        if self.relay.full && waiting < UNEXPOSED_BYTES / 2 && !self.delivery.is_turn_full() {
            self.relay.full = false;
            self.actions.push_back(Action::ResumeAll);
        }
    }

    /// Own messages may have waited long enough for a second copy.
    pub(super) fn on_second_copy(&mut self) {
        self.relay.second_copy_set = false;
        self.expose();
        self.await_second_copy();
    }

    fn await_second_copy(&mut self) {
        // What there is no room for is looked at in the next turn.
        if let Some((_, at)) = self.relay.accepted.front()
            && !self.relay.more
            && !std::mem::replace(&mut self.relay.second_copy_set, true)
        {
            self.timers.set(*at + SECOND_COPY, Timer::SecondCopy);
        }
    }

    /// Exposes own messages that another server holds, or that waited long enough.
    pub(super) fn expose(&mut self) {
        self.clients.is_stale = true;
        let lively = self.mesh.lively().filter(|(_, peer)| !peer.is_stalled()).count();
        let mut upto = self.relay.copied;
        if lively == 0 || self.is_mutated(Mutation::NoSecondCopy) {
            upto = u64::MAX;
        }
        let late = |(_, at): &&(u64, Time)| *at + SECOND_COPY <= self.now;
        if let Some((seq, _)) = self.relay.accepted.iter().take_while(late).last().copied()
            && seq > upto
        {
            upto = seq;
            let held = self.relay.streams[OWN].held();
            for (_, peer) in &mut self.mesh.peers {
                if peer.acked < seq && !peer.is_stalled() {
                    peer.caught_up_at = held;
                }
            }
        }
        let own = &mut self.relay.streams[OWN];
        if own.applied() == own.held() || upto <= own.applied() {
            return;
        }
        let before = own.applied();
        let waited = self.relay.accepted.front().is_some_and(|(_, at)| *at < self.now);
        let since = self.relay.accepted.front().map_or(self.now, |(_, at)| *at);
        self.delivery.lags.mark(self.delivery.feed.tail(), since);
        loop {
            let own = &self.relay.streams[OWN];
            if own.applied() >= upto || own.next().is_none() {
                break;
            }
            if own.next_bytes() > self.delivery.room() {
                self.relay.more = true;
                break;
            }
            self.apply_next(OWN);
        }
        let applied = self.relay.streams[OWN].applied();
        if waited || self.mesh.linked().next().is_some() {
            self.counters.exposed_single_copy += applied.saturating_sub(before.max(self.relay.copied));
        }
        let mut counted = before;
        while let Some((seq, at)) = self.relay.accepted.front().copied() {
            let upto = seq.min(applied);
            self.delivery.lags.copied(self.now.since(at), upto.saturating_sub(counted));
            counted = counted.max(upto);
            if seq > applied {
                break;
            }
            self.relay.accepted.pop_front();
        }
        self.read_again();
        self.draw_lines();
        self.progress();
    }

    /// A peer holds our stream up to here.
    pub(super) fn on_ack(&mut self, from: PeerId, seq: u64) {
        let held = self.relay.streams[OWN].held();
        let Some(peer) = self.mesh.get_mut(from) else { return };
        peer.acked = peer.acked.max(seq.min(held));
        self.relay.copied = self.relay.copied.max(peer.acked);
        self.expose();
    }

    /// A frame of some stream came.
    pub(super) fn on_data(&mut self, from: PeerId, data: &Data) {
        let Some(peer) = self.mesh.get_mut(from) else { return };
        let is_own = peer.stream == Some(data.stream);
        peer.ack_owed |= is_own;
        let Some(origin) = peer.stream else { return };
        let i = self.relay.index(data.stream);
        let ack_first = self.is_mutated(Mutation::AckBeforeHold) && self.rng.chance(5);
        let stream = &mut self.relay.streams[i];
        stream.is_overdue &= !is_own;
        if i == OWN || data.seq <= stream.held() {
            return;
        }
        if data.seq > stream.held() + 1 {
            if is_own {
                self.want(data.stream, data.seq - 1, Some(origin));
            }
            return;
        }
        if ack_first {
            let seq = data.seq;
            let mut bytes = Vec::new();
            frame::ack(&mut bytes, seq);
            self.mesh.send_bytes(from, &bytes);
            return;
        }
        if data.line.len() > self.limits.feed_bytes / 4 {
            // A server with other limits. It cannot be kept, but its number must not stop the stream.
            self.counters.frames_too_long += 1;
            log::warn!("a message of {} bytes is too long for this server's feed", data.line.len());
            stream.hold(b"\n", Prev::default());
        } else {
            stream.hold(data.line, data.prev().collect());
        }
        stream.forget_gone();
        let held = stream.held();
        if stream.wanted <= held {
            stream.request = None;
        } else if let Some(request) = stream.request.as_mut() {
            request.at = self.now;
        }
        self.counters.relayed += 1;
        self.relay.note(i, data.seq, data.line);
        let mut counts = Counts::default();
        self.clients.holds(data.line, &mut counts);
        self.count_ids(&counts);
        if !self.relay.blocked.contains(&i) && self.apply(i) {
            self.progress();
        } else if held >= self.relay.streams[i].wanted && !self.relay.blocked.is_empty() {
            // What was missing is here: who waits for that need not wait for more.
            self.progress();
        }
        if self.membership.unsynced_until.is_some() {
            self.in_step();
        }
    }

    /// The next frame of a stream comes before one that its client said earlier.
    fn is_early(&self, i: usize) -> bool {
        let stream = &self.relay.streams[i];
        let line = stream.waiting(stream.applied() + 1).unwrap_or_default();
        self.clients.is_early(line, false)
            || (self.clients.is_early(line, true)
                && self.relay.streams.iter().any(|other| self.relay.missing_of(other.id) > 0))
    }

    /// Appends the next frame of a stream that waits to the feed. Readers pass over what was shown before.
    fn apply_next(&mut self, i: usize) {
        let seq = self.relay.streams[i].applied() + 1;
        let at = self.delivery.feed.tail();
        let shows_all = self.is_mutated(Mutation::RepeatsShown);
        let line = self.relay.streams[i].waiting(seq).unwrap_or_default();
        let mut counts = Counts::default();
        let is_shown = self.clients.shows(i, seq, line, &mut counts) || shows_all;
        self.count_ids(&counts);
        self.relay.streams[i].apply(&mut self.delivery.feed, self.now);
        if !is_shown {
            self.delivery.hide(at);
        }
    }

    /// Applies what waits of one stream, as far as may be. True if anything was.
    fn apply(&mut self, i: usize) -> bool {
        let mut any = false;
        while let Some(prev) = self.relay.streams[i].next() {
            if self.relay.streams[i].next_bytes() > self.delivery.room() {
                self.relay.more = true;
                if !self.relay.blocked.contains(&i) {
                    self.relay.blocked.push(i);
                }
                return any;
            }
            let missing = |(stream, seq): &&(StreamId, u64)| self.relay.applied_of(*stream) < *seq;
            let missing: Vec<(StreamId, u64)> = prev.iter().filter(missing).copied().collect();
            if i != OWN && (!missing.is_empty() || self.is_early(i)) {
                let until = self.wait_for(i, &missing);
                let is_short = self.relay.streams[i].pending_bytes() < PENDING_BYTES;
                if self.now < until && is_short {
                    if !self.relay.blocked.contains(&i) {
                        self.relay.blocked.push(i);
                        self.timers.set(until, Timer::Prev);
                    }
                    let origin = self.relay.streams[i].id;
                    missing.into_iter().for_each(|(stream, seq)| self.want(stream, seq, Some(origin)));
                    return any;
                }
                self.counters.prev_unmet += 1;
            }
            let since = self.relay.streams[i].waits.map_or(self.now, |waits| waits.0);
            self.delivery.lags.mark(self.delivery.feed.tail(), since);
            self.apply_next(i);
            any = true;
        }
        self.relay.blocked.retain(|other| *other != i);
        any
    }

    /// Something was applied: what waited for it may be next.
    pub(super) fn progress(&mut self) {
        let mut again = true;
        while std::mem::take(&mut again) {
            for i in self.relay.blocked.clone() {
                again |= self.apply(i);
            }
        }
        self.claims_progress();
    }

    pub(super) fn on_prev_timer(&mut self) {
        for i in self.relay.blocked.clone() {
            if self.apply(i) {
                self.progress();
            }
        }
        self.await_prev();
    }

    fn await_prev(&mut self) {
        if self.relay.more {
            return;
        }
        let until =
            self.relay.blocked.iter().filter_map(|i| self.relay.streams[*i].waits).map(|waits| waits.1);
        if let Some(until) = until.min() {
            self.timers.set(until, Timer::Prev);
        }
    }

    /// Until when the next frame of a stream waits for what is `missing`, or for whatever is if that is not known:
    /// longer while that is on its way.
    fn wait_for(&mut self, i: usize, missing: &[(StreamId, u64)]) -> Time {
        let is_awaited = |stream: &&Stream| match missing {
            [] => self.relay.missing_of(stream.id) > 0,
            _ => missing.iter().any(|(id, _)| *id == stream.id),
        };
        // What is asked for may come any moment, and what waits itself may go on.
        let is_coming = |stream: &Stream| {
            stream.request.is_some() || stream.waits.is_some_and(|(_, until)| self.now < until)
        };
        let moved = |stream: &Stream| if is_coming(stream) { self.now } else { stream.moved };
        let moved = self.relay.streams.iter().filter(is_awaited).map(moved).max();
        let since = self.relay.streams[i].waits.map_or(self.now, |waits| waits.0);
        let until = moved.map_or(since, |moved| moved.max(since)) + PREV_WAIT;
        let until = until.min(since + PREV_WAIT_MAX);
        self.relay.streams[i].waits = Some((since, until));
        until
    }

    /// A peer says what it holds.
    pub(super) fn on_held(&mut self, from: PeerId, held: &Vector) {
        let hint = self.mesh.get(from).and_then(|peer| peer.stream);
        for (stream, seq) in held.iter() {
            let i = self.relay.index(stream);
            self.relay.streams[i].is_held_by(from, seq);
            if self.mesh.by_stream(stream).is_none() || self.relay.is_overdue(stream) {
                self.want(stream, seq, hint);
            } else if self.relay.is_told(self.now, stream, seq) {
                self.await_fetches();
            }
        }
    }

    /// A link is up: the peer holds our stream up to `held`, and other streams as far as it says.
    pub(super) fn relay_up(&mut self, from: PeerId, held: u64, all: &Vector) {
        let own = self.relay.streams[OWN].held();
        if let Some(peer) = self.mesh.get_mut(from) {
            peer.acked = held.min(own);
            peer.next = peer.acked + 1;
            self.relay.copied = self.relay.copied.max(peer.acked);
        }
        // Perhaps it has what all others lack.
        self.relay.streams.iter_mut().for_each(|stream| stream.gone_since = None);
        self.on_held(from, all);
        self.expose();
    }

    /// A link is down: what was asked of that peer is asked of others.
    pub(super) fn relay_down(&mut self, peer: PeerId) {
        for stream in &mut self.relay.streams {
            stream.request.take_if(|r| r.from == peer);
            stream.gone.retain(|(p, _)| *p != peer);
        }
        self.on_fetch_timer();
        self.expose();
    }
}
