//! FRONTIER: what each server holds, and how far its sessions are, every quarter of a second in which
//! something changed.
//!
//! Most sessions have confirmed all that stood in the feed a moment ago. One vector says that for all of
//! them; only those that are behind are named.

use super::link::{Phase, Who};
use super::mesh::PeerId;
use super::names::Home;
use super::{Action, Node, Timer};
use crate::base::feed::Offset;
use crate::base::id::LinkId;
use crate::base::limits::{FRONTIER, FRONTIER_LAG};
use crate::base::vector::Vector;
use crate::wire::peer::{self, PeerMessage};

/// What was told last, and what is being found out.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    is_set: bool,
    /// A session began below what is confirmed, so it has to be looked at though nothing is said.
    pub is_stale: bool,
    /// The feed's end a moment before; none until it is noted.
    noted: Option<Offset>,
    upto: Offset,
    /// Sessions whose count of unconfirmed bytes was asked for.
    outstanding: usize,
    told: Vector,
    told_upto: Offset,
    told_behind: usize,
}

impl Node {
    /// A peer is there to be told.
    pub(super) fn begin_frontier(&mut self) {
        if !std::mem::replace(&mut self.frontier.is_set, true) {
            self.timers.set(self.now + (FRONTIER - 2 * FRONTIER_LAG), Timer::Frontier);
        }
    }

    /// Notes where the feed ends; a moment later looks at the sessions that have not confirmed that.
    pub(super) fn on_frontier_timer(&mut self) {
        self.frontier.is_set = false;
        if self.mesh.peers.is_empty() && !self.keeping.on {
            return;
        }
        let Some(upto) = self.frontier.noted.take() else {
            self.frontier.noted = Some(self.delivery.feed.tail());
            self.frontier.is_set = true;
            return self.timers.set(self.now + FRONTIER_LAG, Timer::Frontier);
        };
        self.frontier.upto = upto;
        self.frontier.outstanding = 0;
        let is_quiet = upto == self.frontier.told_upto && self.frontier.told_behind == 0;
        if is_quiet && !std::mem::take(&mut self.frontier.is_stale) && self.relay.held() == self.frontier.told
        {
            return self.again();
        }
        for slot in 0..self.links.capacity() {
            let Some(link) = self.links.get(slot).filter(|link| link.is_session()) else { continue };
            let Who::User(user) = link.who else { continue };
            let link_id = super::link::id(slot, link);
            let known = self.registry.names.get_mut(&user);
            let rec = known.and_then(|names| names.on_link(link_id));
            let Some(here) = rec.and_then(|rec| rec.here.as_ref()) else { continue };
            if here.confirmed < upto || here.spans.is_some() {
                self.frontier.outstanding += 1;
                self.actions.push_back(Action::Measure(link_id));
            }
        }
        if self.frontier.outstanding == 0 {
            self.tell_frontier();
        }
    }

    /// So many bytes of the session's stream were not confirmed.
    pub(super) fn on_confirmed(&mut self, session: LinkId, unacknowledged: u64) {
        if self.link(session).is_some_and(|link| link.phase == Phase::Draining) {
            // It has said all. Nothing is on its way to it any more, so nothing has to be waited for.
            if unacknowledged == 0 {
                self.abandon(session);
            }
            return;
        }
        if self.link(session).is_some_and(|link| link.is_session()) {
            self.look_at(session, unacknowledged);
        }
        self.frontier.outstanding = self.frontier.outstanding.saturating_sub(1);
        if self.frontier.outstanding == 0 {
            self.tell_frontier();
        }
    }

    fn tell_frontier(&mut self) {
        if self.frontier.is_set {
            return;
        }
        let upto = self.frontier.upto;
        let held = self.relay.held();
        let mut behind = Vec::new();
        let version = self.sessions.version + 1;
        for slot in 0..self.links.capacity() {
            let Some(link) = self.links.get(slot) else { continue };
            let Who::User(user) = link.who else { continue };
            let link_id = super::link::id(slot, link);
            let known = self.registry.names.get_mut(&user);
            let Some(rec) = known.and_then(|names| names.on_link(link_id)) else { continue };
            let Some(here) = rec.here.as_ref().filter(|here| here.confirmed < upto) else { continue };
            rec.named = version;
            let (generation, position) = (rec.generation, here.position(&self.relay, here.confirmed));
            let name = self.registry.user(user).name.as_str().into();
            behind.push((name, generation, Some(position)));
            self.touch(user);
        }
        let changed = held != self.frontier.told
            || upto != self.frontier.told_upto
            || !behind.is_empty()
            || behind.len() != self.frontier.told_behind;
        if changed {
            self.sessions.version += 1;
            self.frontier.told_upto = upto;
            self.frontier.told_behind = behind.len();
            let confirmed = self.relay.position(upto);
            self.touch_homes();
            let home = Home { confirmed: confirmed.clone(), version };
            self.sessions.homes.insert(self.relay.own(), home);
            let message =
                PeerMessage::Frontier(peer::Frontier { held: held.clone(), confirmed, behind, version });
            self.mesh.send_all(&message);
            self.frontier.told = held;
        }
        self.again();
    }

    fn again(&mut self) {
        self.frontier.is_set = true;
        self.timers.set(self.now + (FRONTIER - 2 * FRONTIER_LAG), Timer::Frontier);
    }

    /// A peer says what it holds and how far its sessions are.
    pub(super) fn on_frontier(&mut self, from: PeerId, frontier: peer::Frontier) {
        self.on_held(from, &frontier.held);
        let Some(boot) = self.mesh.get(from).and_then(|peer| peer.stream) else { return };
        let home = self.sessions.homes.entry(boot).or_default();
        home.confirmed = frontier.confirmed;
        home.version = frontier.version;
        self.touch_homes();
        for (name, generation, vector) in frontier.behind {
            let Some(user) = self.registry.find(&name) else { continue };
            if let Some(rec) = self.known_mut(user).find_mut(generation) {
                rec.named = frontier.version;
                if vector.is_some() {
                    rec.vector = vector;
                }
            }
        }
    }
}
