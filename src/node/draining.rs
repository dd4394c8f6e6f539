//! How a server stops: its clients go to other servers, its peers are told the last of it, all closes.
//!
//! ```text
//!  Serving ──▶ Draining ──▶ Over
//!     └──▶ Closing ┘┄┄┄┄┄┄┄┄▲      no server to send them to, or no time left
//! ```
//!
//! Whoever is sent away is owed what it was not sent, as after any REDIRECT. So a drain loses and repeats
//! nothing, if it has the time to come to its end.

use super::counters::CloseReason;
use super::link::{self, Link, Phase, Who};
use super::mesh::{Mesh, PeerId};
use super::peer::Peer;
use super::relay::OWN;
use super::{Node, Timer};
use crate::base::id::LinkId;
use crate::base::limits::{DRAINED, SEND_AWAY_RATE, SEND_AWAY_TICK, SILENT, STOP, SUSPECT};
use crate::base::time::Time;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Serving,
    /// Clients are sent to other servers.
    Draining,
    /// Clients get what they are owed, and are closed.
    Closing,
    /// Nobody is there but peers, and those are closed.
    Over,
}

/// How far a stop has come.
#[derive(Debug, Default)]
pub(super) struct Draining {
    stage: Stage,
    /// When the stage is over at the latest.
    until: Time,
    /// Sessions that are sent away in a second.
    rate: u64,
    looked_at: Time,
    /// Counts who was sent away: each server has its turn.
    sent: usize,
    /// Connections up to this generation had time to log in when this is over.
    strangers: (u32, Time),
    /// Since when there is no client, and no other server.
    empty_since: Option<Time>,
    alone_since: Option<Time>,
}

impl Draining {
    /// Peers must not send anybody here.
    pub fn is_leaving(&self) -> bool {
        self.stage != Stage::Serving
    }

    /// No link is made any more.
    pub fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Over)
    }
}

impl Node {
    /// True while a stopping server sends its clients to others: it still takes connections.
    pub fn is_draining(&self) -> bool {
        self.draining.stage == Stage::Draining
    }

    /// The server is to stop; the second time without sending anybody away.
    pub(super) fn on_stop(&mut self) {
        match self.draining.stage {
            Stage::Serving if !self.limits.drain.is_zero() && stay(&self.mesh).next().is_some() => {
                self.begin_drain();
            }
            Stage::Serving | Stage::Draining => self.close_clients(),
            Stage::Closing | Stage::Over => {}
        }
    }

    fn begin_drain(&mut self) {
        let (now, drain, load) = (self.now, self.limits.drain, self.load());
        log::info!("{load} sessions are sent to {} other servers", stay(&self.mesh).count());
        let half_ms = (drain.as_millis() as u64 / 2).max(1);
        self.draining = Draining {
            stage: Stage::Draining,
            until: now + drain,
            rate: SEND_AWAY_RATE.max((load * 1000).div_ceil(half_ms)),
            looked_at: now,
            strangers: (self.generation, now + SILENT),
            ..Draining::default()
        };
        self.announce_all();
        self.timers.set(now, Timer::Leave);
    }

    /// A stopping server looks how far it is.
    pub(super) fn on_leave_timer(&mut self) {
        let is_late = self.now >= self.draining.until;
        let stage = self.draining.stage;
        match stage {
            Stage::Serving | Stage::Over => return,
            Stage::Draining if is_late => {
                let left = self.clients().count();
                log::warn!("the time to send clients away is over: {left} are left and closed");
                self.close_clients();
            }
            Stage::Draining if self.is_alone() => {
                let left = self.clients().count();
                if left > 0 {
                    log::warn!("no server is left to send clients to: {left} are closed");
                }
                self.close_clients();
            }
            Stage::Draining => {
                self.send_away();
                self.close_strangers();
            }
            Stage::Closing if is_late => {
                let left: Vec<LinkId> = self.clients().collect();
                left.into_iter().for_each(|link_id| self.abandon(link_id));
            }
            Stage::Closing => {}
        }
        if self.draining.stage != Stage::Over {
            self.end_if_told();
            self.timers.set(self.now + SEND_AWAY_TICK, Timer::Leave);
        }
    }

    /// Nobody takes its clients: all others drain, too, or none was linked for so long that none may come, or there is
    /// nothing to be taken.
    fn is_alone(&mut self) -> bool {
        if stay(&self.mesh).next().is_some() {
            self.draining.alone_since = None;
            return false;
        }
        let since = *self.draining.alone_since.get_or_insert(self.now);
        let is_empty = self.clients().next().is_none() && self.relay.copied >= self.relay.streams[OWN].held();
        self.mesh.linked().next().is_some() || self.now.since(since) >= SUSPECT || is_empty
    }

    /// Sends as many sessions away as it is time for, the newest first, to each server in turn.
    fn send_away(&mut self) {
        let now = self.now;
        let elapsed = now.since(self.draining.looked_at).max(SEND_AWAY_TICK);
        self.draining.looked_at = now;
        let log = &self.membership;
        let places: Vec<(String, u16)> = stay(&self.mesh)
            .filter(|(_, peer)| !peer.suspect && peer.names_told)
            .filter_map(|(_, peer)| log.place_of(peer.server))
            .collect();
        if places.is_empty() {
            return;
        }
        let n = (self.draining.rate * elapsed.as_millis() as u64).div_ceil(1000) as usize;
        let online = self.links.iter().rev().filter(|(_, link)| link.phase == Phase::Online);
        let some: Vec<LinkId> = online.map(|(slot, link)| link::id(slot, link)).take(n).collect();
        for link_id in some {
            let (hostname, port) = &places[self.draining.sent % places.len()];
            self.draining.sent += 1;
            self.redirect(now, link_id, hostname, *port);
        }
    }

    /// Connections that do not log in are not waited for.
    fn close_strangers(&mut self) {
        let (mark, at) = self.draining.strangers;
        if self.now < at {
            return;
        }
        self.draining.strangers = (self.generation, self.now + SILENT);
        let is_old = |link: &Link| link.phase == Phase::New && link.generation <= mark;
        let old = self.links.iter().filter(|(_, link)| is_old(link));
        for link_id in old.map(|(slot, link)| link::id(slot, link)).collect::<Vec<_>>() {
            self.close(link_id, CloseReason::Stopping);
        }
    }

    /// All get what they are owed up to now; nobody is waited for longer than [`STOP`]. Peers stay until they
    /// were told all.
    fn close_clients(&mut self) {
        self.draining.stage = Stage::Closing;
        self.draining.until = self.now + STOP;
        self.announce_all();
        let stays = |link: &Link| matches!(link.phase, Phase::Peer | Phase::Closing | Phase::Draining);
        self.close_all(stays);
        let is_alone = self.mesh.peers.is_empty();
        self.timers.set(if is_alone { self.draining.until } else { self.now }, Timer::Leave);
    }

    /// Closes the links to other servers when no client is left and they have all there is.
    fn end_if_told(&mut self) {
        let now = self.now;
        if self.clients().next().is_some() {
            self.draining.empty_since = None;
            return;
        }
        let since = *self.draining.empty_since.get_or_insert(now);
        let closing = self.draining.stage == Stage::Closing;
        if (closing || now.since(since) >= DRAINED) && self.is_told() {
            log::info!("nobody is left here, and {} other servers know it", self.mesh.peers.len());
            self.draining.stage = Stage::Over;
            self.close_all(|link| matches!(link.phase, Phase::Closing | Phase::Draining));
        }
    }

    /// Every peer that is heard has all that was said here, and was written all it is to be told.
    fn is_told(&self) -> bool {
        let held = self.relay.streams[OWN].held();
        let has_all = |peer: &Peer| peer.acked >= held;
        let is_told = |peer: &Peer| {
            let is_written = peer.at == peer.out.len() && peer.next > held && !peer.ack_owed;
            is_written && has_all(peer) && peer.asked.is_empty() && peer.sync.is_none()
        };
        let sessions = &self.sessions;
        let is_asked = !sessions.claims.is_empty() || !sessions.answers.is_empty();
        let mut heard = self.mesh.lively().filter(|(_, peer)| !peer.is_stalled());
        let is_copied = held == 0 || self.mesh.linked().any(|(_, peer)| has_all(peer));
        if self.mesh.peers.is_empty() {
            return !self.is_draining();
        }
        !is_asked && is_copied && heard.all(|(_, peer)| is_told(peer))
    }

    fn close_all(&mut self, but: impl Fn(&Link) -> bool) {
        let others = self.links.iter().filter(|(_, link)| link.phase != Phase::Gone && !but(link));
        for link_id in others.map(|(slot, link)| link::id(slot, link)).collect::<Vec<_>>() {
            self.close(link_id, CloseReason::Stopping);
        }
    }

    /// Links that are no server's, as far as is known; those the shell was told to close may be owed something.
    fn clients(&self) -> impl Iterator<Item = LinkId> {
        let is_client = |link: &Link| {
            !matches!(link.who, Who::Server(_)) && !matches!(link.phase, Phase::Dialing | Phase::Upgrading)
        };
        let all = self.links.iter().filter(move |(_, link)| is_client(link));
        all.map(|(slot, link)| link::id(slot, link))
    }
}

/// Linked servers that do not drain themselves.
fn stay(mesh: &Mesh) -> impl Iterator<Item = (PeerId, &Peer)> {
    mesh.linked().filter(|(_, peer)| !peer.draining)
}
