//! What does not come by itself is asked for: one request a stream, of one peer after the other.

use super::mesh::PeerId;
use super::relay::OWN;
use super::stream::Request;
use super::{Node, Timer};
use crate::base::id::StreamId;
use crate::base::limits::{FETCH_WAIT, LOST_WAIT};
use crate::wire::peer::{Fetch, PeerMessage};

impl Node {
    /// Makes sure that a stream comes up to `upto`: from its origin if that is linked, else it is asked for,
    /// from the peer whose boot is `hint` first.
    pub(super) fn want(&mut self, stream: StreamId, upto: u64, hint: Option<StreamId>) {
        let i = self.relay.index(stream);
        let s = &mut self.relay.streams[i];
        if i == OWN || s.held() >= upto {
            return;
        }
        s.wanted = s.wanted.max(upto);
        if s.request.is_none() && s.gone_since.is_none() {
            let hint = hint.and_then(|hint| self.mesh.by_stream(hint));
            self.request(i, hint);
        }
    }

    /// Asks a peer for what is wanted of a stream.
    pub(super) fn request(&mut self, i: usize, hint: Option<PeerId>) {
        let last = self.relay.streams[i].request.map(|r| r.from);
        let lacks = |id: &PeerId| self.relay.streams[i].gone.iter().any(|(peer, _)| peer == id);
        let able: Vec<PeerId> = self.mesh.lively().map(|(id, _)| id).filter(|id| !lacks(id)).collect();
        let fresh: Vec<PeerId> = able.iter().copied().filter(|id| Some(*id) != last).collect();
        let draw = self.draw();
        let pick = |from: &[PeerId]| from.get((draw % from.len().max(1) as u64) as usize).copied();
        let peer = hint.filter(|hint| able.contains(hint)).or_else(|| pick(&fresh)).or_else(|| pick(&able));
        let stream = &mut self.relay.streams[i];
        let fetch = Fetch { stream: stream.id, from: stream.held() + 1, upto: stream.wanted };
        if let Some(peer) = peer {
            stream.request = Some(Request { from: peer, at: self.now });
            self.counters.fetches += 1;
            self.mesh.send(peer, &PeerMessage::Fetch(fetch));
        } else {
            stream.request = None;
        }
        self.await_fetches();
    }

    /// Sets the deadline after which what does not come is asked for, or asked for again.
    pub(super) fn await_fetches(&mut self) {
        if !std::mem::replace(&mut self.relay.fetch_set, true) {
            self.timers.set(self.now + FETCH_WAIT, Timer::Fetch);
        }
    }

    /// Asks again for what was asked for and does not come.
    pub(super) fn on_fetch_timer(&mut self) {
        self.relay.fetch_set = false;
        let mut any = false;
        for i in 1..self.relay.streams.len() {
            let stream = &mut self.relay.streams[i];
            let held = stream.held();
            if let Some((seq, since)) = stream.told.take_if(|(seq, _)| *seq > held) {
                any = true;
                if since + FETCH_WAIT <= self.now {
                    // Others have had it for long: its own link does not bring it.
                    stream.wanted = stream.wanted.max(seq);
                    stream.is_overdue = true;
                } else {
                    stream.told = Some((seq, since));
                }
            }
            if held >= stream.wanted {
                continue;
            }
            any = true;
            if !stream.gone.is_empty() && stream.request.is_none() {
                self.ask_the_rest(i);
            } else if stream.request.is_none_or(|r| r.at + FETCH_WAIT <= self.now) {
                self.request(i, None);
            }
        }
        if any {
            self.await_fetches();
        }
    }

    /// A peer asks for a part of a stream.
    pub(super) fn on_fetch(&mut self, from: PeerId, fetch: Fetch) {
        let held = self.relay.held_of(fetch.stream);
        let Some(peer) = self.mesh.get_mut(from) else { return };
        // Who lacks it itself says so: else two that lack the same would ask each other for ever.
        if fetch.from == 0 || fetch.from > fetch.upto || fetch.from > held {
            let gone = PeerMessage::FetchGone { stream: fetch.stream, first: u64::MAX };
            return self.mesh.send(from, &gone);
        }
        peer.asked.retain(|other| other.stream != fetch.stream);
        peer.asked.push(fetch);
    }

    /// A peer has less of a stream than was asked for, or of its own than we are to get.
    pub(super) fn on_fetch_gone(&mut self, from: PeerId, stream: StreamId, first: u64) {
        let Some(i) = self.relay.by_id.get(&stream).copied().filter(|i| *i != OWN) else { return };
        let s = &mut self.relay.streams[i];
        if first <= s.held() + 1 {
            return;
        }
        s.gone.retain(|(peer, _)| *peer != from);
        s.gone.push((from, first));
        if first != u64::MAX {
            s.wanted = s.wanted.max(first - 1);
        }
        self.ask_the_rest(i);
    }

    /// Some peers lack what is wanted of a stream. When all say so the frames are lost; for servers that may be
    /// back soon it waits a while.
    fn ask_the_rest(&mut self, i: usize) {
        let gone = &self.relay.streams[i].gone;
        if self.mesh.linked().any(|(id, _)| !gone.iter().any(|(peer, _)| *peer == id)) {
            return self.request(i, None);
        }
        let is_missed = self.is_anybody_missed();
        let s = &mut self.relay.streams[i];
        s.request = None;
        let since = *s.gone_since.get_or_insert(self.now);
        if is_missed && self.now < since + LOST_WAIT {
            return self.await_fetches();
        }
        self.give_up_frames(i);
    }

    fn give_up_frames(&mut self, i: usize) {
        let s = &mut self.relay.streams[i];
        let Some((first, from)) = s.gone.iter().map(|(peer, first)| (*first, *peer)).min() else { return };
        s.forget_gone();
        if first == u64::MAX {
            s.wanted = s.held();
        } else if s.held() == s.applied() && first > s.applied() + 1 {
            let lost = first - 1 - s.applied();
            // A server that was not there has lost nothing.
            if s.applied() > 0 {
                self.counters.frames_lost += lost;
                log::warn!("{lost} messages of stream {:?} are on no server any more", s.id);
            }
            s.skip_to(first);
            if s.wanted > s.held() {
                self.request(i, Some(from));
            }
            self.progress();
        }
    }
}
