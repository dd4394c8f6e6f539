//! FRONTIER: what each server holds, and how far its sessions are, every quarter of a second in which
//! something changed.
//!
//! Most sessions have confirmed all that stood in the feed a moment ago. One vector says that for all of
//! them; only those that are behind are named. Peers are told what changed since the last one on their link, so
//! that streams in which nobody speaks, and sessions that stand still, cost nothing or little.

use super::link::{Phase, Who};
use super::mesh::PeerId;
use super::names::{Home, Rec};
use super::peer::Peer;
use super::{Action, Node, Timer};
use crate::base::feed::Offset;
use crate::base::id::{LinkId, UserId};
use crate::base::limits::{BEHIND_MAX, FRONTIER, FRONTIER_LAG};
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
    told_confirmed: Vector,
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
        if is_quiet && !std::mem::take(&mut self.frontier.is_stale) && self.relay.held() == self.mesh.told {
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
        let (upto, behind) = self.behind();
        let held = self.relay.held();
        let changed = held != self.mesh.told
            || self.mesh.linked().any(|(_, peer)| !peer.frontier_told)
            || upto != self.frontier.told_upto
            || behind.len() != self.frontier.told_behind
            || behind.iter().any(|(_, moved)| *moved);
        if changed {
            self.frontier.told_upto = upto;
            self.frontier.told_behind = behind.len();
            self.send_frontier(held, self.relay.position(upto), &behind);
        }
        self.again();
    }

    /// The position that all sessions have confirmed which are not to be named, and the places of those that are: each
    /// with whether it moved since it was named before.
    fn behind(&mut self) -> (Offset, Vec<(usize, bool)>) {
        let mut upto = self.frontier.upto;
        let mut behind = Vec::new();
        for slot in 0..self.links.capacity() {
            let here = self.rec_at(slot).and_then(|(_, rec)| rec.here.as_deref());
            if let Some(here) = here.filter(|here| here.confirmed < upto) {
                behind.push((here.confirmed, slot, here.named != Some(here.confirmed)));
            }
        }
        let mut moved: Vec<_> = behind.iter().filter(|(.., moved)| *moved).copied().collect();
        if moved.len() > BEHIND_MAX {
            // Those that are furthest behind are named, and all others count as no further than the first of them:
            // but for sessions that began below what was told.
            let (_, next, _) = moved.select_nth_unstable(BEHIND_MAX);
            upto = self.frontier.told_upto.max(next.0);
            behind.retain(|one| one.0 < upto || (one.2 && *one < *next));
        }
        (upto, behind.into_iter().map(|(_, slot, moved)| (slot, moved)).collect())
    }

    /// What is known of the session on this link, if it is a registered user's.
    fn rec_at(&mut self, slot: usize) -> Option<(UserId, &mut Rec)> {
        let link = self.links.get(slot)?;
        let Who::User(user) = link.who else { return None };
        let link_id = super::link::id(slot, link);
        let rec = self.registry.names.get_mut(&user)?.on_link(link_id)?;
        Some((user, rec))
    }

    /// Tells peers what changed, and those that were told nothing yet all of it.
    fn send_frontier(&mut self, held: Vector, confirmed: Vector, behind: &[(usize, bool)]) {
        self.sessions.version += 1;
        let version = self.sessions.version;
        let (mut all, mut news) = (Vec::new(), Vec::new());
        for (slot, moved) in behind {
            let Some((user, rec)) = self.rec_at(*slot) else { continue };
            let Some(here) = rec.here.as_mut() else { continue };
            rec.named = version;
            here.named = Some(here.confirmed);
            let (generation, at, start) = (rec.generation, here.confirmed, here.start.clone());
            let position = self.relay.position(at).max(&start).changes_from(&confirmed);
            let name: Box<str> = self.registry.user(user).name.as_str().into();
            news.push((name.clone(), generation, moved.then(|| position.clone())));
            all.push((name, generation, Some(position)));
            self.touch(user);
        }
        let home = Home { confirmed: confirmed.clone(), version };
        self.sessions.homes.insert(self.relay.own(), home);
        self.touch_homes();
        let since = |now: &Vector, before: &Vector| now.changes_from(before).into_iter().collect();
        let news = peer::Frontier {
            held: since(&held, &self.mesh.told),
            confirmed: since(&confirmed, &self.frontier.told_confirmed),
            behind: news,
            version,
        };
        (self.mesh.told, self.frontier.told_confirmed) = (held.clone(), confirmed.clone());
        self.mesh.send_where(&PeerMessage::Frontier(news), |peer| peer.frontier_told);
        let all = peer::Frontier { held, confirmed, behind: all, version };
        let is_new = |peer: &mut Peer| !std::mem::replace(&mut peer.frontier_told, true);
        self.mesh.send_where(&PeerMessage::Frontier(all), is_new);
    }

    fn again(&mut self) {
        self.frontier.is_set = true;
        self.timers.set(self.now + (FRONTIER - 2 * FRONTIER_LAG), Timer::Frontier);
    }

    /// A peer says what it holds and how far its sessions are.
    pub(super) fn on_frontier(&mut self, from: PeerId, frontier: peer::Frontier) {
        let Some(peer) = self.mesh.get_mut(from) else { return };
        let Some(boot) = peer.stream else { return };
        let holds = std::mem::take(&mut peer.holds).max(&frontier.held);
        peer.holds = holds.clone();
        self.on_held(from, &holds);
        let home = self.sessions.homes.entry(boot).or_default();
        home.confirmed = std::mem::take(&mut home.confirmed).max(&frontier.confirmed);
        home.version = frontier.version;
        let confirmed = home.confirmed.clone();
        self.touch_homes();
        for (name, generation, changes) in frontier.behind {
            let Some(user) = self.registry.find(&name) else { continue };
            if let Some(rec) = self.known_mut(user).find_mut(generation) {
                rec.named = frontier.version;
                if let Some(changes) = changes {
                    rec.vector = Some(confirmed.changed(&changes));
                }
            }
        }
    }
}
