//! What servers keep of each other's sessions, so that any of them can go on where one broke.

use std::collections::BTreeMap;

use super::answering::{Answering, Errand};
use super::claims::Claiming;
use super::mesh::PeerId;
use super::names::{Home, Names, Rec};
use super::relay::NameKey;
use super::{Mutation, Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, StreamId, UserId};
use crate::base::limits::{AWAY_MIN, SYNC_BYTES};
use crate::base::spans::Spans;
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::encode;
use crate::wire::peer::{Entry, PeerMessage, Release, State, Table, Update};

/// Bytes of a session in a frame but for its name and its vector, about.
const ENTRY_BYTES: usize = 300;
/// Bytes of a vector's position in a frame, about.
const POSITION_BYTES: usize = 30;
/// Bytes of a generation that was taken over in a frame but for its name, about.
const TAKEN_BYTES: usize = 150;

/// Sessions across servers: what is under way, and what is known of homes.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub claims: BTreeMap<Generation, Claiming>,
    pub answers: Vec<Answering>,
    pub errands: BTreeMap<u64, Errand>,
    pub next_errand: u64,
    pub homes: BTreeMap<StreamId, Home>,
    /// Counts what this server says of its sessions.
    pub version: u64,
    /// What the name of a session had said elsewhere, until it says its first message here.
    pub firsts: BTreeMap<LinkId, Vector>,
    /// What sessions are owed in addition, until they stand at a frame's border.
    pub late: BTreeMap<LinkId, Spans>,
    /// Closing links that wait for own messages to be exposed.
    pub closing: Vec<LinkId>,
    /// Links whose login waits until this server is in step with its first peer, and for what.
    pub waiting: Vec<LinkId>,
    pub goal: Option<Vector>,
}

impl Rec {
    /// What a peer says of a session.
    pub fn from_entry(entry: &Entry, now: Time) -> Rec {
        Rec {
            generation: entry.generation,
            home: entry.home,
            state: entry.state,
            vector: entry.vector.clone(),
            named: 0,
            version: entry.version,
            since: now,
            pending: entry.pending,
            low: None,
            here: None,
        }
    }
}

impl Node {
    pub(super) fn known(&self, user: UserId) -> Option<&Names> {
        self.registry.names.get(&user)
    }

    pub(super) fn known_mut(&mut self, user: UserId) -> &mut Names {
        self.touch(user);
        self.registry.names.entry(user).or_default()
    }

    /// The name as it stands in broadcast lines, as a key.
    pub(super) fn name_key(&self, user: UserId) -> NameKey {
        let mut text = Vec::new();
        encode::text(&mut text, &self.registry.user(user).name);
        self.relay.name_key(&text)
    }

    /// What is known here of the name's sessions.
    pub(super) fn entries_of(&self, user: UserId) -> Vec<Entry> {
        let Some(names) = self.known(user) else { return Vec::new() };
        names.recs.iter().map(|rec| self.entry(user, names.multi, rec)).collect()
    }

    /// What is known here of one session.
    pub(super) fn entry_of(&self, user: UserId, generation: Generation) -> Entry {
        let names = self.known(user).expect("the caller has put it there");
        let rec = names.find(generation).expect("the caller has put it there");
        self.entry(user, names.multi, rec)
    }

    pub(super) fn entry(&self, user: UserId, multi: bool, rec: &Rec) -> Entry {
        let home = self.sessions.homes.get(&rec.home);
        let version = match (&rec.here, home) {
            (None, Some(home)) if rec.state == State::Live => rec.version.max(home.version),
            _ => rec.version,
        };
        let lives = rec.home == self.relay.own() || self.mesh.by_stream(rec.home).is_some();
        let (vector, lowered) = rec.confirmed(&self.relay, home, lives);
        let unconfirmed = rec.is_session() && rec.here.as_ref().is_some_and(|here| here.spans.is_some());
        Entry {
            name: self.registry.user(user).name.as_str().into(),
            generation: rec.generation,
            home: rec.home,
            state: rec.state,
            vector,
            changes: None,
            version,
            pending: rec.pending,
            lowered,
            multi,
            unconfirmed,
            authentic: rec.home == self.relay.own(),
            stamp: Some(self.registry.user(user).stamp),
        }
    }

    /// The user an entry is of. None if its name is not known here, or as another one's: then the peer does
    /// not know yet who has the name, or this server does not.
    fn user_of(&self, entry: &Entry) -> Option<UserId> {
        self.registry.find(&entry.name).filter(|user| entry.is_of(self.registry.user(*user).stamp))
    }

    /// Keeps what a peer says of a session.
    pub(super) fn store(&mut self, user: UserId, entry: Entry) {
        if entry.home == self.relay.own() {
            return self.correct(user, &entry);
        }
        let named = self.sessions.homes.get(&entry.home).map_or(0, |home| home.version);
        let now = self.now;
        let names = self.known_mut(user);
        names.multi |= entry.multi;
        if names.taker(entry.generation).is_some() {
            return;
        }
        names.put(Rec { named, ..Rec::from_entry(&entry, now) });
        if entry.state != State::Live {
            self.arm_away(user);
        }
    }

    /// A peer has kept a session of this very boot. If it ended when that peer was not there to hear it, it is
    /// told now.
    fn correct(&mut self, user: UserId, entry: &Entry) {
        let now = self.now;
        let names = self.known_mut(user);
        if names.find(entry.generation).is_some() || names.taker(entry.generation).is_some() {
            return;
        }
        let here = Some(Box::default());
        names.put(Rec { state: State::Ended, vector: None, here, ..Rec::from_entry(entry, now) });
        self.arm_away(user);
        self.tell_session(user, entry.generation, Vec::new());
    }

    /// Sessions were taken over: nobody else may take them. A healthy one among them is a new session
    /// from now on.
    pub(super) fn learn_taken(&mut self, user: UserId, taken: &[(Generation, Generation)]) {
        let now = self.now;
        for (generation, by) in taken {
            let names = self.known_mut(user);
            let is_heard = names.has_heard_of(*by);
            if names.taker(*generation).is_none() {
                names.taken.push((*generation, *by, now));
            }
            let is_session = names.find(*generation).map(Rec::is_session);
            let is_ours = |rec: &Rec| rec.here.is_some() && rec.state == State::Broken;
            let is_unheard = !is_heard && names.find(*generation).is_some_and(is_ours);
            if is_session == Some(true) || is_unheard {
                self.renew(user, *generation);
            } else if is_session.is_some() && !self.sessions.claims.contains_key(generation) {
                self.known_mut(user).drop_rec(*generation);
            }
        }
        if !taken.is_empty() {
            self.arm_away(user);
        }
    }

    /// Somebody took a session of this server without having heard of how it stands: it goes on as another.
    fn renew(&mut self, user: UserId, generation: Generation) {
        let fresh = self.mesh.clock.draw();
        let rec = self.known_mut(user).find_mut(generation);
        let Some(rec) = rec.filter(|rec| rec.here.is_some() && !rec.pending && rec.state != State::Ended)
        else {
            return;
        };
        rec.generation = fresh;
        self.counters.sessions_renewed += 1;
        self.tell_session(user, fresh, Vec::new());
    }

    /// Tells all peers how a session of this server stands now.
    pub(super) fn tell_session(
        &mut self,
        user: UserId,
        generation: Generation,
        taken: Vec<(Generation, Generation)>,
    ) {
        self.sessions.version += 1;
        let version = self.sessions.version;
        if let Some(rec) = self.known_mut(user).find_mut(generation) {
            rec.version = version;
        }
        if self.mesh.peers.is_empty() {
            return;
        }
        let entry = self.entry_of(user, generation);
        self.mesh.send_all(&PeerMessage::SessionUpdate(Update {
            entry,
            taken,
            lowered: Vec::new(),
            beside: None,
            unheard: Vec::new(),
        }));
    }

    /// A peer says how a session stands.
    pub(super) fn on_update(&mut self, update: Update) {
        let Update { entry, taken, lowered, unheard, beside } = update;
        self.mesh.clock.hear(entry.generation.at);
        let Some(user) = self.user_of(&entry) else { return };
        let generation = entry.generation;
        let until = taken.iter().map(|(g, _)| self.owed_until(user, *g)).max().unwrap_or(self.now);
        if !self.is_mutated(Mutation::ClaimsNotStored) || entry.state == State::Broken {
            self.store(user, entry);
        }
        for generation in unheard {
            self.renew(user, generation);
        }
        self.learn_taken(user, &taken);
        self.learn_late(user, &[generation], None);
        self.lower_entries(user, &lowered, until, None);
        self.lower_beside(user, beside.as_ref(), until, None);
    }

    /// An answer that came when its claim no longer waited.
    pub(super) fn late_release(&mut self, boot: StreamId, release: Release) {
        let Some(user) = release.entries.first().and_then(|entry| self.user_of(entry)) else { return };
        let told: Vec<Generation> = release.entries.iter().map(|entry| entry.generation).collect();
        for entry in release.entries {
            let is_known = self.known(user).is_some_and(|n| n.find(entry.generation).is_some());
            if !is_known && entry.vector.is_some() {
                self.store(user, entry);
            }
        }
        self.learn_taken(user, &release.taken);
        self.learn_late(user, &told, Some(boot));
    }

    /// All that a new peer knows of sessions.
    pub(super) fn on_table(&mut self, from: PeerId, table: Table) {
        let Some(boot) = self.mesh.get(from).and_then(|peer| peer.stream) else { return };
        let mut told: BTreeMap<UserId, Vec<Generation>> = BTreeMap::new();
        for (name, generation, by) in table.taken {
            if let Some(user) = self.registry.find(&name) {
                self.learn_taken(user, &[(generation, by)]);
            }
        }
        for entry in table.entries {
            self.mesh.clock.hear(entry.generation.at);
            let Some(user) = self.user_of(&entry) else { continue };
            told.entry(user).or_default().push(entry.generation);
            let home = self.sessions.homes.get(&entry.home).map_or(0, |home| home.version);
            let known = self.known(user).and_then(|names| names.find(entry.generation));
            let is_newer = known.is_none_or(|rec| {
                let version = if rec.state == State::Live { rec.version.max(home) } else { rec.version };
                rec.here.is_none() && version < entry.version
            });
            if is_newer {
                self.store(user, entry);
            }
        }
        for (user, generations) in told {
            self.learn_late(user, &generations, Some(boot));
        }
    }

    /// Makes the next frame of what is known of sessions ready for a new peer, from this name's on, and says where
    /// to go on. What changes meanwhile is told to all peers at once.
    pub(super) fn fill_sessions(&mut self, to: PeerId, next: &mut Option<UserId>) {
        let Some(from) = next.take() else { return };
        let mut table = Table::default();
        let mut bytes = 0;
        for (user, names) in self.registry.names.range(from..) {
            if bytes >= SYNC_BYTES || self.mesh.sync_left == 0 {
                *next = Some(*user);
                break;
            }
            let name = self.registry.user(*user).name.as_str();
            let mut more = names.taken.len() * (TAKEN_BYTES + name.len());
            table.taken.extend(names.taken.iter().map(|(g, by, _)| (name.into(), *g, *by)));
            for rec in &names.recs {
                let entry = self.entry(*user, names.multi, rec);
                let positions = entry.vector.as_ref().map_or(0, Vector::len);
                more += ENTRY_BYTES + name.len() + POSITION_BYTES * positions;
                table.entries.push(entry);
            }
            bytes += more;
            self.mesh.sync_left = self.mesh.sync_left.saturating_sub(more);
        }
        if bytes > 0 {
            self.mesh.send(to, &PeerMessage::SessionTable(table));
        }
        if next.is_none() {
            self.mesh.send(to, &PeerMessage::Synced);
        }
    }

    /// A server is gone: its sessions count as broken from now on.
    pub(super) fn home_down(&mut self, home: StreamId) {
        let now = self.now;
        let mut broken = Vec::new();
        for (user, names) in &mut self.registry.names {
            for rec in names.recs.iter_mut().filter(|rec| rec.home == home && rec.state == State::Live) {
                rec.since = now;
                broken.push(*user);
            }
        }
        for user in broken {
            self.touch(user);
            self.arm_away(user);
        }
    }

    /// Until when what this broken session was owed is kept.
    pub(super) fn owed_until(&self, user: UserId, generation: Generation) -> Time {
        let away = self.limits.away;
        match self.known(user).and_then(|names| names.find(generation)) {
            Some(rec) => rec.low.as_ref().map_or(rec.since + away, |low| low.until),
            None => self.now + away,
        }
    }

    /// Sets the name's deadline after which old things are forgotten.
    pub(super) fn arm_away(&mut self, user: UserId) {
        let at = self.now + self.limits.away;
        let entry = self.registry.user_mut(user);
        if !std::mem::replace(&mut entry.away_set, true) {
            self.timers.set(at, Timer::Away(user));
        }
    }

    /// What `user` was owed may have grown too old.
    pub(super) fn on_away(&mut self, user: UserId) {
        let (now, away) = (self.now, self.limits.away);
        self.registry.user_mut(user).away_set = false;
        let Some(names) = self.registry.names.get_mut(&user) else { return };
        let (mesh, own) = (&self.mesh, self.relay.own());
        let gone = |home: StreamId| home != own && mesh.by_stream(home).is_none();
        let expired = names.expire(now, away, gone);
        let next = names.next_expiry(away, gone);
        if names.is_empty() {
            self.registry.names.remove(&user);
        }
        self.counters.mailboxes_expired += expired;
        self.touch(user);
        if let Some(next) = next {
            self.registry.user_mut(user).away_set = true;
            // What is remembered only so that nothing comes twice is not worth a deadline of its own.
            self.timers.set(next.max(now + AWAY_MIN), Timer::Away(user));
        }
    }
}
