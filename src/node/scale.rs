//! A network that is full starts another server; one that was started so ends when it is not needed.
//!
//! ```text
//!   at rest ──full──▶ asking ──lowest for SPAWN_ASK──▶ waiting ──a newcomer says how it stands──▶ at rest
//!      ▲                │ another goes first              │
//!      └────────────────┘◀── did not start, SPAWN_WAIT ───┘
//! ```
//!
//! What a server is about to do about this is in its announces, so that in the whole network one is started at
//! a time: of several that ask the lowest stamp goes on, and one that waits goes before all that ask. Clients
//! are served meanwhile, by whom they came to.

use super::balance::{Standing, have_to_spare, is_full};
use super::peer::Peer;
use super::{Action, Node, Timer};
use crate::base::limits::{FIRST_SYNC, SPAWN_ASK, SPAWN_REST, SPAWN_RETRY, SPAWN_RETRY_MAX, SPAWN_WAIT};
use crate::base::time::Time;
use crate::wire::peer::Spawning;

/// Another server is wanted.
#[derive(Debug)]
struct Attempt {
    said: Spawning,
    /// Until then it is asked about, or waited for.
    until: Time,
}

/// How far a network is with its growing, as this server sees it.
#[derive(Debug, Default)]
pub(super) struct Scale {
    attempt: Option<Attempt>,
    /// The last one that was started, and when.
    last: Option<(u64, Time)>,
    failures: u32,
    /// Nothing is begun before.
    rest_until: Time,
    /// Somebody waited for a server then.
    pub awaited_at: Option<Time>,
    look_at: Option<Time>,
    /// When a spawned server that has found nobody ends.
    alone_until: Option<Time>,
    /// It was said that there are too many already.
    is_told: bool,
    /// Since when this server has no client.
    empty_since: Option<Time>,
}

/// Growing.
impl Node {
    /// What peers are told.
    pub(super) fn spawning(&self) -> Option<Spawning> {
        // What was started comes, also if this server ends meanwhile.
        let stands = |said: &Spawning| said.started || self.shares_clients();
        self.scale.attempt.as_ref().map(|attempt| attempt.said).filter(stands)
    }

    /// Whether all servers that are reached have as many clients as they should, and one has more.
    fn network_is_full(&self) -> bool {
        let own = self.spread.books.standing();
        // One without a bound is never full.
        own.most.is_some() && self.standings().is_some_and(|others| is_full(&[&[own], &*others].concat()))
    }

    /// How full the others are that may take clients; none if one has not said so yet.
    fn standings(&self) -> Option<Vec<Standing>> {
        let others = self.mesh.lively().filter(|(_, peer)| !peer.draining).map(|(_, peer)| peer.server);
        self.spread.books.standings(self.now, others)
    }

    /// Looks how far it is with another server, if one is wanted.
    pub(super) fn look_for_room(&mut self) {
        if self.limits.spawn_max == 0 || !self.shares_clients() || self.membership.unsynced_until.is_some() {
            return;
        }
        let (now, wanted) = (self.now, self.network_is_full());
        let other = self.attempt_of_another();
        if other.is_some() {
            self.scale.rest_until = self.scale.rest_until.max(now + SPAWN_REST);
        }
        self.scale.is_told &= wanted;
        match self.scale.attempt.take() {
            None if wanted && other.is_none() && now >= self.scale.rest_until => self.ask_for_server(),
            None => {}
            Some(attempt) if attempt.said.started => self.await_server(attempt),
            Some(attempt) => {
                let is_first = other.is_none_or(|other| !other.started && attempt.said.stamp < other.stamp);
                if !wanted || !is_first {
                    self.announce_all();
                } else if now >= attempt.until {
                    self.start_server(attempt);
                } else {
                    self.scale.attempt = Some(attempt);
                }
            }
        }
        let is_awaited = other.is_some() || self.scale.attempt.is_some();
        if is_awaited {
            self.scale.awaited_at = Some(now);
        }
        if (is_awaited || wanted) && self.scale.look_at.is_none() {
            self.scale.look_at = Some(now + SPAWN_ASK);
            self.timers.set(now + SPAWN_ASK, Timer::Scale);
        }
    }

    /// This server has just come, and may not have heard yet what others are about to do.
    pub(super) fn rest_before_growing(&mut self) {
        self.scale.rest_until = self.now + SPAWN_REST;
    }

    pub(super) fn on_scale_timer(&mut self) {
        if self.scale.look_at.is_some_and(|at| at <= self.now) {
            self.scale.look_at = None;
            self.look_for_room();
        }
        self.end_if_alone();
    }

    /// What a peer is about to do that goes before what others would.
    fn attempt_of_another(&self) -> Option<Spawning> {
        let believed = |at: Time| self.now.since(at) < SPAWN_WAIT + SPAWN_ASK;
        let all = self.mesh.lively().filter_map(|(_, peer)| peer.spawning.filter(|(_, at)| believed(*at)));
        all.map(|(said, _)| said).min_by_key(|said| (!said.started, said.stamp))
    }

    /// Servers that were started as this file says, and are not about to end.
    fn spawned(&self) -> impl Iterator<Item = &Peer> {
        self.mesh.linked().map(|(_, peer)| peer).filter(|peer| peer.spawned.is_some() && !peer.draining)
    }

    fn ask_for_server(&mut self) {
        let spawned = self.spawned().count() + usize::from(self.limits.spawned.is_some());
        if spawned >= self.limits.spawn_max {
            if !std::mem::replace(&mut self.scale.is_told, true) {
                log::warn!(
                    "all servers are full, and {spawned} were started already: clients are served above \
                     --max-clients; --spawn-max allows more"
                );
            }
            return;
        }
        let said = Spawning { stamp: self.mesh.clock.draw(), started: false };
        self.scale.attempt = Some(Attempt { said, until: self.now + SPAWN_ASK });
        self.announce_all();
    }

    fn start_server(&mut self, mut attempt: Attempt) {
        let stamp = attempt.said.stamp;
        log::info!("all servers are full: another is started");
        if self.now.since(self.scale.rest_until) >= SPAWN_RETRY_MAX {
            self.scale.failures = 0;
        }
        self.scale.last = Some((stamp.at.0, self.now));
        attempt.said.started = true;
        attempt.until = self.now + SPAWN_WAIT;
        self.scale.attempt = Some(attempt);
        self.actions.push_back(Action::Spawn { ticket: stamp.at.0 });
        self.announce_all();
    }

    /// The newcomer is in when it has said how it stands.
    fn await_server(&mut self, attempt: Attempt) {
        let ticket = attempt.said.stamp.at.0;
        let newcomer = self.spawned().find(|peer| peer.spawned == Some(ticket)).map(|peer| peer.server);
        if let Some(server) = newcomer {
            log::info!("server {server:?} is the one that was started");
            self.counters.spawned += 1;
            self.scale.rest_until = self.now + SPAWN_REST;
            self.announce_all();
        } else if self.now >= attempt.until {
            self.spawn_failed(&format!("it did not join within {} s", SPAWN_WAIT.as_secs()));
        } else {
            self.scale.attempt = Some(attempt);
        }
    }

    /// The shell could not start a server, or it ended with an error: soon, or that is its own business.
    pub(super) fn on_spawn_failed(&mut self, ticket: u64, why: &str) {
        let is_new = |at: Time| self.now.since(at) < SPAWN_WAIT;
        if self.scale.last.is_some_and(|(last, at)| last == ticket && is_new(at)) {
            self.spawn_failed(why);
        }
    }

    fn spawn_failed(&mut self, why: &str) {
        let wait = (SPAWN_RETRY * 2_u32.saturating_pow(self.scale.failures.min(16))).min(SPAWN_RETRY_MAX);
        log::warn!(
            "no server could be started: {why}; clients are served above --max-clients, and it is tried again in \
             {} s if that is needed then",
            wait.as_secs()
        );
        self.counters.spawns_failed += 1;
        self.scale.failures += 1;
        self.scale.last = None;
        self.scale.rest_until = self.now + wait;
        self.scale.attempt = None;
        self.announce_all();
    }
}

/// Shrinking.
impl Node {
    /// A server that was started so ends when it had no client for a while and is not needed. One at a time, the
    /// highest id first, so that those who are left have room for all.
    pub(super) fn look_whether_to_retire(&mut self) {
        let now = self.now;
        let is_free = self.limits.spawned.is_some() && self.shares_clients() && self.spread.books.is_empty();
        if !is_free || self.scale.attempt.is_some() || self.attempt_of_another().is_some() {
            self.scale.empty_since = None;
            return;
        }
        let since = *self.scale.empty_since.get_or_insert(now);
        let own = self.mesh.identity.server;
        let goes_before =
            |peer: &Peer| peer.spawned.is_some() && !peer.draining && peer.load == 0 && peer.server > own;
        if now.since(since) >= self.limits.retire
            && !self.mesh.linked().any(|(_, peer)| goes_before(peer))
            && self.standings().is_some_and(|others| have_to_spare(&others))
        {
            log::info!(
                "nobody was here for {} s, and the others have room: this server ends",
                self.limits.retire.as_secs_f32()
            );
            self.scale.empty_since = None;
            self.actions.push_back(Action::Retire);
        }
    }

    /// A server that was started so and finds nobody to join is of no use.
    pub(super) fn expect_company(&mut self) {
        if self.limits.spawned.is_some() {
            self.scale.alone_until = Some(self.now + SPAWN_WAIT);
            self.timers.set(self.now + SPAWN_WAIT, Timer::Scale);
            self.await_first_sync(SPAWN_WAIT);
        }
    }

    /// Another server is there. So long nobody was let in: no client can have heard of this server.
    pub(super) fn has_company(&mut self) {
        if self.scale.alone_until.take().is_some() && self.membership.unsynced_until.is_some() {
            self.await_first_sync(FIRST_SYNC);
        }
    }

    fn end_if_alone(&mut self) {
        if self.scale.alone_until.take_if(|until| *until <= self.now).is_none() {
            return;
        }
        if self.load() == 0 {
            log::warn!(
                "no server could be joined within {} s, and nobody is here: this server ends",
                SPAWN_WAIT.as_secs()
            );
            self.actions.push_back(Action::Retire);
        }
    }
}
