//! Which servers there are: where to dial, when again, and what is known of each.
//!
//! A server is told one address at most. The rest it hears from those it is linked to, and dials them
//! until there is a link to each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::link::{Link, Phase};
use super::mesh::PeerId;
use super::status::{Other, OtherState};
use super::{Action, Node, Timer};
use crate::base::id::{LinkId, ServerId};
use crate::base::limits::{FIRST_SYNC, HANDSHAKE, REDIAL_FORGET, REDIAL_MAX, REDIAL_MIN, SERVERS_MAX};
use crate::base::time::Time;
use crate::wire::peer::{Announce, Known, PeerMessage};

/// An address to dial.
#[derive(Debug)]
struct Target {
    /// Who was found there last.
    id: Option<ServerId>,
    /// It is this server itself.
    is_self: bool,
    /// It was given when the server started, so it is never forgotten.
    given: bool,
    failures: u32,
    /// The server there said that it stops, and was not met since.
    stopped: bool,
    /// The link that is being dialled.
    link: Option<LinkId>,
    next: Time,
    good_at: Time,
}

/// All addresses, and the authentication log.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Where this server can be reached.
    pub home: Option<(String, u16)>,
    targets: BTreeMap<(String, u16), Target>,
    /// The authentication log: each server that was ever proven or announced, with its key.
    log: BTreeMap<ServerId, Known>,
    /// Until then logins wait for the first peer's knowledge.
    pub unsynced_until: Option<Time>,
}

/// Targets kept: every server of the largest network at four addresses.
const TARGETS_MAX: usize = 4 * SERVERS_MAX;

impl Membership {
    /// True if it has said where clients and servers reach it.
    pub fn has_place(&self, server: ServerId) -> bool {
        self.log.get(&server).is_some_and(|known| known.port > 0)
    }

    /// Where clients and servers reach this server, if it has said so.
    pub fn place_of(&self, server: ServerId) -> Option<(String, u16)> {
        let known = self.log.get(&server).filter(|known| known.port > 0)?;
        Some((known.hostname.clone(), known.port))
    }
}

impl Node {
    /// Servers that are dialled and not linked, one entry each.
    pub(super) fn unlinked(&self) -> Vec<Other> {
        let is_linked = |t: &Target| t.id.is_some_and(|id| self.mesh.by_server(id).is_some());
        let mut met = BTreeSet::new();
        let mut is_new = |t: &Target| t.id.is_none_or(|id| met.insert(id));
        let away = self.membership.targets.iter().filter(|(_, t)| !t.is_self && !is_linked(t));
        let other = |(key, t): (&(String, u16), &Target)| Other {
            id: t.id,
            hostname: key.0.clone(),
            port: key.1,
            state: if t.stopped { OtherState::Stopped } else { OtherState::Lost },
            draining: false,
            sessions: 0,
            silent_ms: self.now.since(t.good_at).as_millis() as u64,
            unconfirmed: 0,
            missing: 0,
            in_step: false,
            same_names: None,
        };
        away.filter(|(_, t)| is_new(t)).map(other).collect()
    }

    /// Tells the node under which address other servers and clients reach it.
    pub fn introduce(&mut self, hostname: &str, port: u16) {
        self.membership.home = Some((hostname.to_owned(), port));
        let id = self.mesh.identity;
        let known = Known { id: id.server, key: id.key, hostname: hostname.to_owned(), port };
        self.membership.log.insert(id.server, known);
    }

    /// Has the node join the network of the server at this address, and keep trying for ever.
    pub fn join(&mut self, now: Time, hostname: &str, port: u16) {
        self.now = now;
        self.add_target(hostname.to_owned(), port, None, true);
        self.await_first_sync(FIRST_SYNC);
        self.expect_company();
    }

    /// A server that was met is not linked.
    pub(super) fn is_anybody_missed(&self) -> bool {
        let is_missed = |t: &Target| t.id.is_some_and(|id| self.mesh.by_server(id).is_none());
        self.membership.targets.values().any(|t| !t.is_self && is_missed(t))
    }

    /// The addresses of servers that were met.
    pub(super) fn addresses(&self) -> Vec<(String, u16)> {
        let met = |t: &Target| t.id.is_some() && !t.is_self;
        self.membership.targets.iter().filter(|(_, t)| met(t)).map(|(key, _)| key.clone()).collect()
    }

    /// Dials an address that was met before this boot.
    pub(super) fn remember(&mut self, hostname: &str, port: u16) {
        self.add_target(hostname.to_owned(), port, None, false);
        self.await_first_sync(FIRST_SYNC);
    }

    pub(super) fn await_first_sync(&mut self, wait: Duration) {
        let until = self.now + wait;
        self.membership.unsynced_until = Some(until);
        self.timers.set(until, Timer::FirstSync);
    }

    fn add_target(&mut self, hostname: String, port: u16, id: Option<ServerId>, given: bool) {
        let now = self.now;
        let key = (hostname, port);
        if self.membership.home.as_ref() == Some(&key) && !given {
            return;
        }
        self.keeping.peers |= self.keeping.on && id.is_some();
        if let Some(target) = self.membership.targets.get_mut(&key) {
            target.given |= given;
            target.is_self &= id.is_none();
            target.id = id.or(target.id);
        } else if self.membership.targets.len() < TARGETS_MAX {
            let target = Target {
                id,
                is_self: false,
                given,
                failures: 0,
                stopped: false,
                link: None,
                next: now,
                good_at: now,
            };
            self.membership.targets.insert(key, target);
        } else {
            log::warn!("the address {}:{} is one too many: {TARGETS_MAX} are kept", key.0, key.1);
            return;
        }
        self.timers.set(now, Timer::Dial);
    }

    /// Dials what is due.
    pub(super) fn on_dial(&mut self) {
        if self.draining.is_closing() {
            return;
        }
        let now = self.now;
        let old = |t: &Target| !t.given && t.link.is_none() && now.since(t.good_at) >= REDIAL_FORGET;
        let mesh = &self.mesh;
        let is_linked = |t: &Target| t.id.is_some_and(|id| mesh.by_server(id).is_some());
        self.membership.targets.retain(|_, t| is_linked(t) || !old(t));
        let due = |t: &Target| t.link.is_none() && !t.is_self && t.next <= now && !is_linked(t);
        let due: Vec<(String, u16)> =
            self.membership.targets.iter().filter(|(_, t)| due(t)).map(|(key, _)| key.clone()).collect();
        for (hostname, port) in due {
            let link_id = self.new_link(Link::outgoing);
            self.timers.set(now + HANDSHAKE, Timer::Handshake(link_id));
            if let Some(target) = self.membership.targets.get_mut(&(hostname.clone(), port)) {
                target.link = Some(link_id);
            }
            let hello = crate::wire::encode::hello(self.mesh.identity.server);
            self.actions.push_back(Action::Dial { link: link_id, hostname, port, hello });
        }
    }

    /// A dialled link found a server, or nothing.
    pub(super) fn dial_over(&mut self, link_id: LinkId, found: Option<ServerId>) {
        let now = self.now;
        let draw = self.draw();
        let Some(target) = self.membership.targets.values_mut().find(|t| t.link == Some(link_id)) else {
            return;
        };
        target.link = None;
        match found {
            Some(server) => {
                (target.id, target.failures, target.good_at) = (Some(server), 0, now);
                target.stopped = false;
                self.keeping.peers = self.keeping.on;
                target.next = now;
            }
            None => {
                let wait = (REDIAL_MIN * 2u32.saturating_pow(target.failures.min(16))).min(REDIAL_MAX);
                target.failures += 1;
                // Half more or less by chance, so that a network that was cut does not dial in step.
                target.next = now + wait / 2 + wait.mul_f64((draw % 1024) as f64 / 1024.0);
                let at = target.next;
                self.timers.set(at, Timer::Dial);
            }
        }
    }

    /// What was dialled is this server itself.
    pub(super) fn dialled_self(&mut self, link_id: LinkId) {
        if let Some(target) = self.membership.targets.values_mut().find(|t| t.link == Some(link_id)) {
            target.link = None;
            target.is_self = true;
        }
    }

    /// The link to a server is gone: dial it. One that said that it stops is not there for a while.
    pub(super) fn dial_again(&mut self, server: ServerId, has_stopped: bool) {
        let (now, draw) = (self.now, self.draw());
        let (wait, failures) = if has_stopped { (REDIAL_MAX, 16) } else { (REDIAL_MIN, 0) };
        let mut any = false;
        for target in self.membership.targets.values_mut().filter(|t| t.id == Some(server)) {
            target.good_at = now;
            target.failures = target.failures.max(failures);
            target.stopped = has_stopped;
            target.next = now + wait.mul_f64(0.5 + (draw % 1024) as f64 / 1024.0);
            any = true;
        }
        if any {
            self.timers.set(now + wait * 2, Timer::Dial);
        }
    }

    /// A peer is linked to this server, so it is there again.
    fn dial_soon(&mut self, server: ServerId) {
        let (now, draw) = (self.now, self.draw());
        let is_it = |t: &&mut Target| t.id == Some(server) && t.failures > 0;
        for target in self.membership.targets.values_mut().filter(is_it) {
            target.failures = 0;
            target.next = target.next.min(now + REDIAL_MIN.mul_f64((draw % 1024) as f64 / 1024.0));
            self.timers.set(target.next, Timer::Dial);
        }
    }

    /// A server was proven: it goes into the authentication log.
    pub(super) fn learn_key(&mut self, server: ServerId, key: [u8; 32], address: IpAddr) {
        let log = &mut self.membership.log;
        log.entry(server).or_insert_with(|| Known {
            id: server,
            key,
            hostname: address.to_string(),
            port: 0,
        });
    }

    /// Tells a new peer who and where we are, and whom we know.
    pub(super) fn announce_to(&mut self, peer: PeerId) {
        self.tell_load(peer, true);
        self.begin_announces();
        let linked = |id: ServerId| id == self.mesh.identity.server || self.mesh.by_server(id).is_some();
        let known: Vec<Known> =
            self.membership.log.values().filter(|k| k.port > 0 && linked(k.id)).cloned().collect();
        self.mesh.send(peer, &PeerMessage::ServerAuthKeyAnnouncement(known));
    }

    /// A peer says where it is and how it stands.
    pub(super) fn on_announce(&mut self, from: PeerId, announce: Announce) {
        let Some(peer) = self.mesh.get_mut(from) else { return };
        let server = peer.server;
        let now = self.now;
        (peer.spawned, peer.load) = (announce.spawned, announce.load);
        let since = peer.spawning.filter(|(said, _)| Some(*said) == announce.spawning).map_or(now, |s| s.1);
        peer.spawning = announce.spawning.map(|said| (said, since));
        if !std::mem::replace(&mut peer.draining, announce.draining) && announce.draining {
            log::info!("link {}: server {server:?} drains", peer.link);
        }
        self.learn_place(server, &announce);
        self.hear_load(server, &announce);
    }

    fn learn_place(&mut self, server: ServerId, announce: &Announce) {
        let Some(known) = self.membership.log.get_mut(&server) else { return };
        if (&known.hostname, known.port) == (&announce.hostname, announce.port) || announce.port == 0 {
            return;
        }
        (known.hostname, known.port) = (announce.hostname.clone(), announce.port);
        let known = known.clone();
        self.add_target(announce.hostname.clone(), announce.port, Some(server), false);
        self.mesh.send_all(&PeerMessage::ServerAuthKeyAnnouncement(vec![known]));
    }

    /// A peer says who else there is.
    pub(super) fn on_servers(&mut self, servers: Vec<Known>) {
        for known in servers.into_iter().take(TARGETS_MAX) {
            if known.id == self.mesh.identity.server || known.port == 0 {
                continue;
            }
            if self.mesh.by_server(known.id).is_none() {
                self.add_target(known.hostname.clone(), known.port, Some(known.id), false);
                self.dial_soon(known.id);
            }
            if self.membership.log.len() < 4 * TARGETS_MAX {
                self.membership.log.entry(known.id).or_insert(known);
            }
        }
    }

    /// A link that is being dialled, or was, is closed.
    pub(super) fn dialled_closed(&mut self, link_id: LinkId, phase: Phase) {
        if phase == Phase::Dialing || phase == Phase::Gone {
            self.dial_over(link_id, None);
        }
    }
}

impl Node {
    /// This server may know all that its first peer knew, or has waited long enough: logins go on.
    pub(super) fn in_step(&mut self) {
        let Some(until) = self.membership.unsynced_until else { return };
        let is_told = self.mesh.linked().any(|(_, peer)| peer.synced);
        let has_all = self.sessions.goal.as_ref().is_some_and(|goal| self.relay.has_held(goal));
        if self.now < until && !(is_told && has_all) {
            return;
        }
        self.membership.unsynced_until = None;
        self.sessions.goal = None;
        self.rest_before_growing();
        // Now it may grant others what it has room for.
        self.load_changed();
        for link_id in std::mem::take(&mut self.sessions.waiting) {
            if let Some(link) = self.link_mut(link_id).filter(|link| link.phase == Phase::Claiming) {
                link.phase = Phase::New;
                self.actions.push_back(Action::Resume(link_id));
            }
        }
    }
}
