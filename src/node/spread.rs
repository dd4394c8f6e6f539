//! Clients are sent to servers that have fewer: at their login, and users also later.
//!
//! A server only sends where it may ([`Books::best`]), to a server that is linked and has the user's
//! registration, and what it sends is a session like any other: LOGIN_SUCCESS, what it is owed up to now,
//! REDIRECT. Nobody is sent twice in [`SPARED`].
//!
//! - *Placing*: who just logged in is sent on as soon as there is a better place, without a bound on the rate: a
//!   burst of logins at one server is told to the others, which answer with credits.
//! - *Moving*: what is uneven later, because servers came or went or clients left, becomes even again at a
//!   bounded rate, the newest first. Anonymous clients are not moved: they have no mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::books::{Books, GUESTS, USERS};
use super::link::{self, Phase, Who};
use super::mesh::PeerId;
use super::names::Rec;
use super::{Node, Timer};
use crate::base::id::{LinkId, ServerId, StreamId, UserId};
use crate::base::limits::{
    ANNOUNCE_LEAST, CLAIM, CLAIM_APPLIED, CREDIT, JUST_CAME, JUST_CAME_MAX, MOVED_LEAST, MOVED_PART,
    MOVED_TICK, SPARED, STORED_NAMES, TRIES_MAX,
};
use crate::base::time::Time;
use crate::wire::peer::{Announce, PeerMessage, Release};

/// What a server knows of loads, and whom it sends where.
#[derive(Debug, Default)]
pub(super) struct Spread {
    pub books: Books,
    /// When peers were told last, are told next, and are told in any case.
    told_at: Option<Time>,
    tell_at: Option<Time>,
    regular_at: Time,
    /// Sessions that began a moment ago, the newest last.
    just_came: VecDeque<(Time, LinkId)>,
    /// When users were moved, within the last second.
    moved: VecDeque<Time>,
    look_at: Option<Time>,
    /// Users who were sent away: from when on they may be again, and when they were from here.
    spared: BTreeMap<UserId, (Time, Option<Time>)>,
    /// Boots that have a name's registration, for names on which registries may not agree yet.
    stored: BTreeMap<UserId, Vec<StreamId>>,
}

impl Spread {
    pub fn new(most: Option<u64>) -> Spread {
        Spread { books: Books::new(most), ..Spread::default() }
    }
}

/// What kind of client this is.
fn kind(who: Who) -> Option<usize> {
    match who {
        Who::User(_) => Some(USERS),
        Who::Anonymous => Some(GUESTS),
        Who::Nobody | Who::Server(_) => None,
    }
}

/// Counting, and telling.
impl Node {
    /// Sessions this server has.
    pub(super) fn load(&self) -> u64 {
        let load = self.spread.books.sessions();
        debug_assert_eq!(load, self.links.iter().filter(|(_, link)| link.is_session()).count() as u64);
        load
    }

    /// The link became a session.
    pub(super) fn count_in(&mut self, link_id: LinkId) {
        let Some(kind) = kind(self.at(link_id).who) else { return };
        self.spread.books.begin(kind);
        self.load_changed();
        self.look_for_room();
    }

    /// The link is about to be no session any more, if it is one.
    pub(super) fn count_out(&mut self, link_id: LinkId) {
        let session = self.link(link_id).filter(|link| link.is_session());
        if let Some(kind) = session.and_then(|link| kind(link.who)) {
            self.spread.books.here[kind] -= 1;
            self.load_changed();
        }
    }

    /// Peers are to be told soon.
    pub(super) fn load_changed(&mut self) {
        if !self.limits.announce.is_zero() && !self.mesh.peers.is_empty() {
            let least = self.spread.told_at.map_or(self.now, |at| at + ANNOUNCE_LEAST);
            self.tell_loads_by(least.max(self.now));
        }
    }

    fn tell_loads_by(&mut self, at: Time) {
        if self.spread.tell_at.is_none_or(|other| other > at) {
            self.spread.tell_at = Some(at);
            self.timers.set(at, Timer::Announce);
        }
    }

    pub(super) fn on_announce_timer(&mut self) {
        let now = self.now;
        if self.spread.tell_at.is_none_or(|at| at > now) {
            return;
        }
        self.spread.tell_at = None;
        if self.mesh.linked().next().is_none() {
            return;
        }
        let is_regular = now >= self.spread.regular_at;
        self.tell_loads(is_regular);
        if is_regular {
            self.spread.regular_at = now + self.limits.announce;
            self.spread.spared.retain(|_, (until, _)| *until > now);
        }
        let expires = self.spread.books.expires().map(|at| at.max(now + ANNOUNCE_LEAST));
        self.tell_loads_by(expires.map_or(self.spread.regular_at, |at| at.min(self.spread.regular_at)));
    }

    /// Tells all peers, or those for whom something changed.
    fn tell_loads(&mut self, all: bool) {
        self.spread.told_at = Some(self.now);
        self.spread.books.expire(self.now);
        if self.shares_clients() && self.membership.unsynced_until.is_none() {
            let mesh = &self.mesh;
            let is_lively = |id| mesh.lively().any(|(_, peer)| peer.server == id && !peer.draining);
            self.spread.books.issue(self.now, mesh.identity.server, is_lively);
        }
        for peer in self.mesh.linked().map(|(id, _)| id).collect::<Vec<_>>() {
            self.tell_load(peer, all);
        }
    }

    /// Tells all peers at once.
    pub(super) fn announce_all(&mut self) {
        self.tell_loads(true);
    }

    /// Tells a peer where this server is, how it stands, and what it grants.
    pub(super) fn tell_load(&mut self, to: PeerId, in_any_case: bool) {
        let Some((hostname, port)) = self.membership.home.clone() else { return };
        let Some(server) = self.mesh.get(to).map(|peer| peer.server) else { return };
        let offer = self.shares_clients().then(|| self.spread.books.offer_to(server, self.limits.announce));
        let (load, draining) = (self.load(), self.draining.is_leaving());
        let (spawning, spawned) = (self.spawning(), self.limits.spawned);
        let announce = Announce { hostname, port, load, draining, offer, spawning, spawned };
        let Some(peer) = self.mesh.peers.get_mut(to.0 as usize) else { return };
        if in_any_case || peer.told.as_ref() != Some(&announce) {
            peer.told = Some(announce.clone());
            self.mesh.send(to, &PeerMessage::ServerAnnounce(announce));
        }
    }

    /// A server was linked: from now on it is told at regular times.
    pub(super) fn begin_announces(&mut self) {
        if !self.limits.announce.is_zero() {
            self.tell_loads_by(self.now + self.limits.announce);
        }
    }

    pub(super) fn shares_clients(&self) -> bool {
        self.limits.balance && !self.limits.announce.is_zero() && !self.draining.is_leaving()
    }

    /// A peer says how it stands.
    pub(super) fn hear_load(&mut self, server: ServerId, announce: &Announce) {
        let offer = announce.offer.filter(|_| !announce.draining);
        self.spread.books.hear(self.now, server, offer);
        self.load_changed();
        self.look_round();
        self.has_company();
        self.look_for_room();
    }
}

/// Placing and moving.
impl Node {
    /// The session has logged in: perhaps there is a better place for it, now or in a moment.
    pub(super) fn place(&mut self, link_id: LinkId) {
        // One that is alone may get company.
        if !self.shares_clients() || (self.mesh.peers.is_empty() && self.limits.spawn_max == 0) {
            return;
        }
        if self.at(link_id).who == Who::Anonymous && self.spread.books.guest_arrived() {
            // It was sent here, as far as can be known, so it stays.
            return;
        }
        if self.send_on(link_id) {
            self.counters.placed += 1;
            return;
        }
        while self.spread.just_came.len() >= JUST_CAME_MAX
            || self.spread.just_came.front().is_some_and(|(at, _)| !self.is_just_come(*at))
        {
            self.spread.just_came.pop_front();
        }
        self.spread.just_came.push_back((self.now, link_id));
    }

    /// One that came then may be sent on as soon as there is a place: also if that is on a server which was
    /// started for it.
    fn is_just_come(&self, at: Time) -> bool {
        self.now < at + JUST_CAME || self.scale.awaited_at.is_some_and(|at| self.now < at + CREDIT)
    }

    /// Sends the session to a server that has fewer, if there is one that may have it.
    fn send_on(&mut self, link_id: LinkId) -> bool {
        let now = self.now;
        let Some(link) = self.link(link_id).filter(|link| link.phase == Phase::Online) else { return false };
        let Some(kind) = kind(link.who) else { return false };
        let user = match link.who {
            Who::User(user) => Some(user),
            _ => None,
        };
        if user.is_some_and(|user| self.spread.spared.get(&user).is_some_and(|(until, _)| *until > now)) {
            return false;
        }
        // Another device that logs in meanwhile would take what this one is owed.
        let is_pending = |user| {
            let logs_in = |rec: &Rec| rec.pending && now.since(rec.since) < CLAIM + CLAIM_APPLIED;
            self.known(user).is_some_and(|names| names.recs.iter().any(logs_in))
        };
        if user.is_some_and(is_pending) {
            return false;
        }
        let may = |id| self.may_take(id, user);
        let Some(server) = self.spread.books.best(now, kind, may) else { return false };
        let Some((hostname, port)) = self.membership.place_of(server) else { return false };
        log::debug!("link {link_id}: server {server:?} has fewer clients");
        self.spread.books.sent(server, kind);
        self.redirect(now, link_id, &hostname, port);
        true
    }

    /// The server is there, and has the registration.
    fn may_take(&self, server: ServerId, user: Option<UserId>) -> bool {
        let peer = self.mesh.lively().map(|(_, peer)| peer).find(|peer| peer.server == server);
        let Some(peer) = peer.filter(|peer| !peer.draining) else { return false };
        let stored = |user: UserId| {
            let boots = self.spread.stored.get(&user);
            user.0 < peer.has_names
                || boots.is_some_and(|boots| boots.iter().any(|boot| peer.stream == Some(*boot)))
        };
        user.is_none_or(stored) && self.membership.has_place(server)
    }

    /// Sends on who just came, and moves as many as it is time for.
    fn look_round(&mut self) {
        let now = self.now;
        let is_wanted = |node: &Node, kind| {
            let books = &node.spread.books;
            books.here[kind] > 0 && books.best(now, kind, |id| node.may_take(id, None)).is_some()
        };
        if !self.shares_clients() || !(is_wanted(self, USERS) || is_wanted(self, GUESTS)) {
            return;
        }
        let mut rest = VecDeque::new();
        while rest.len() < TRIES_MAX
            && let Some((at, link_id)) = self.spread.just_came.pop_back()
        {
            if !self.is_just_come(at) {
                self.spread.just_came.clear();
                break;
            }
            if self.send_on(link_id) {
                self.counters.placed += 1;
            } else if self.link(link_id).is_some_and(|link| link.phase == Phase::Online) {
                rest.push_front((at, link_id));
            }
        }
        self.spread.just_came.append(&mut rest);
        if is_wanted(self, USERS) {
            self.move_some();
            let at = now + MOVED_TICK;
            if self.spread.look_at.is_none() {
                self.spread.look_at = Some(at);
                self.timers.set(at, Timer::Spread);
            }
        }
    }

    pub(super) fn on_spread_timer(&mut self) {
        self.spread.look_at = None;
        self.look_round();
    }

    /// Moves as many users as may be moved now, the newest first.
    fn move_some(&mut self) {
        let now = self.now;
        let moved = &mut self.spread.moved;
        while moved.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(1)) {
            moved.pop_front();
        }
        let rate = MOVED_LEAST.max(self.spread.books.here[USERS] / MOVED_PART);
        // Not all at once, where it is many.
        let ticks = 1000 / MOVED_TICK.as_millis() as u64;
        let mut left = rate.saturating_sub(moved.len() as u64).min(rate.div_ceil(ticks));
        if left == 0 {
            return;
        }
        let is_settled =
            |who| matches!(who, Who::User(user) if self.spread.spared.get(&user).is_none_or(|s| s.0 <= now));
        let online = self.links.iter().filter(|(_, l)| l.phase == Phase::Online && is_settled(l.who));
        let mut all: Vec<LinkId> = online.map(|(slot, link)| link::id(slot, link)).collect();
        all.sort_unstable_by_key(|link_id| std::cmp::Reverse(link_id.generation));
        let tries = left as usize + TRIES_MAX;
        for link_id in all.into_iter().take(tries) {
            if left == 0 {
                break;
            }
            if self.send_on(link_id) {
                self.counters.moved += 1;
                self.spread.moved.push_back(now);
                left -= 1;
            }
        }
    }
}

/// Who was sent away, and which servers have a name.
impl Node {
    /// The session is sent away: its user is not again for a while.
    pub(super) fn spare(&mut self, link_id: LinkId) {
        if let Who::User(user) = self.at(link_id).who
            && self.limits.balance
        {
            self.spread.spared.insert(user, (self.now + SPARED, Some(self.now)));
        }
    }

    /// For how many milliseconds the user is not sent away, if it was; and whether that was here a moment ago.
    pub(super) fn spared_ms(&self, user: UserId) -> (Option<u64>, bool) {
        match self.spread.spared.get(&user).filter(|(until, _)| *until > self.now) {
            Some((until, sent_at)) => {
                let is_near = sent_at.is_some_and(|at| self.now.since(at) < CREDIT);
                (Some(until.since(self.now).as_millis() as u64), is_near)
            }
            None => (None, false),
        }
    }

    /// A peer answers the claim of a login here: so it has the name, and perhaps it sent the user.
    pub(super) fn hear_release(&mut self, from: PeerId, release: &Release) {
        if !self.limits.balance {
            return;
        }
        let server = self.mesh.get(from).map(|peer| peer.server);
        let Some(claim) = self.sessions.claims.get_mut(&release.generation) else { return };
        if release.sent_away {
            claim.sent_by = server;
        }
        let user = claim.user;
        if !release.entries.is_empty() {
            self.note_stored(user, from);
        }
        let Some(left) = release.spared_ms.map(Duration::from_millis) else { return };
        let (until, _) = self.spread.spared.entry(user).or_default();
        *until = (*until).max(self.now + left.min(SPARED));
    }

    /// A peer has said that it keeps a name.
    pub(super) fn note_stored(&mut self, user: UserId, at: PeerId) {
        let Some(peer) = self.mesh.get(at) else { return };
        let is_known = user.0 < peer.has_names;
        if let Some(boot) = peer.stream.filter(|_| self.limits.balance && !is_known) {
            let stored = &mut self.spread.stored;
            if stored.len() < STORED_NAMES || stored.contains_key(&user) {
                let boots = stored.entry(user).or_default();
                boots.retain(|other| *other != boot);
                boots.push(boot);
            }
        }
    }

    /// A name's registration was replaced by another: that is not known of any peer.
    pub(super) fn unnote_stored(&mut self, user: UserId) {
        self.spread.stored.remove(&user);
        for (_, peer) in &mut self.mesh.peers {
            peer.has_names = peer.has_names.min(user.0);
        }
    }

    /// A peer has the same registrations.
    pub(super) fn note_agreement(&mut self, with: PeerId) {
        let names = self.registry.len() as u32;
        if let Some(peer) = self.mesh.peers.get_mut(with.0 as usize) {
            peer.has_names = names;
        }
        let least = self.mesh.linked().map(|(_, peer)| peer.has_names).min().unwrap_or_default();
        self.spread.stored = self.spread.stored.split_off(&UserId(least));
    }
}
