//! How a server stands, and what it knows of the others: what its status pages say.

use std::fmt;

use serde::Serialize;

use super::Node;
use super::relay::OWN;
use crate::base::id::{ServerId, UserId};

/// What a server is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It waits for what its network knows; logins wait with it.
    Joining,
    /// It serves.
    Serving,
    /// It stops: its clients are sent to other servers.
    Draining,
    /// It stops: its clients get what they are owed, and are closed.
    Stopping,
}

/// How what is to be kept is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// Nothing is to be kept.
    None,
    /// All is.
    Good,
    /// The disk does not take what it should.
    Degraded,
}

/// What another server is to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherState {
    /// Linked and heard.
    Linked,
    /// Linked, and silent for seconds.
    Silent,
    /// It said that it stops, and has.
    Stopped,
    /// Dialled, in vain so far.
    Lost,
}

/// What is known of another server.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    /// Who it is; none if it was never met.
    pub id: Option<ServerId>,
    /// Where it is reached.
    pub hostname: String,
    /// Its port; 0 while it has not said.
    pub port: u16,
    /// Whether it is there.
    pub state: OtherState,
    /// It sends its clients away.
    pub draining: bool,
    /// Sessions it has, as it said last.
    pub sessions: u64,
    /// Milliseconds since it was heard.
    pub silent_ms: u64,
    /// Messages of this server that it has not confirmed.
    pub unconfirmed: u64,
    /// Messages of it that others have and this server has not.
    pub missing: u64,
    /// It is as far as this server, but for what is on its way.
    pub in_step: bool,
    /// It has the names that this server has; none while it has not said.
    pub same_names: Option<bool>,
}

/// A server and its network, as it sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Who it is.
    pub id: ServerId,
    /// Where clients and servers reach it.
    pub hostname: String,
    /// On which port.
    pub port: u16,
    /// What it is at.
    pub state: State,
    /// Sessions it has.
    pub sessions: u64,
    /// Names that are registered.
    pub names: u64,
    /// Broken sessions that are owed something, of all servers.
    pub mailboxes: u64,
    /// Bytes owed to those of this server.
    pub mailbox_bytes: u64,
    /// Bytes of the feed in memory.
    pub memory_bytes: u64,
    /// Bytes of the feed that readers can have, from memory or disk.
    pub readable_bytes: u64,
    /// Bytes of own messages that wait for a second copy.
    pub unexposed_bytes: u64,
    /// Names and names' sessions that are not on disk as they are.
    pub unkept_rows: u64,
    /// How what is to be kept is kept.
    pub storage: Storage,
    /// All other servers it knows of, by address.
    pub servers: Vec<Other>,
    /// Every server is linked, as far as this one, and has the same names.
    pub in_sync: bool,
    /// What is not as it should be.
    pub troubles: Vec<String>,
}

/// A count of mailboxes that goes on a piece at a time: nobody waits for it, however many names there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Census {
    next: UserId,
    mailboxes: u64,
    bytes: u64,
}

/// A state as its label in status pages.
pub fn word(state: impl fmt::Debug) -> String {
    format!("{state:?}").to_lowercase()
}

impl Node {
    /// What this server is at.
    pub fn state(&self) -> State {
        match self.draining.is_leaving() {
            true if self.is_draining() => State::Draining,
            true => State::Stopping,
            false if self.membership.unsynced_until.is_some() => State::Joining,
            false => State::Serving,
        }
    }

    /// Counts the mailboxes of so many more names. True when it has all.
    pub fn count_mailboxes(&self, census: &mut Census, names: usize) -> bool {
        let tail = self.delivery.feed.tail();
        let mut walk = self.registry.names.range(census.next..);
        for (_, names) in walk.by_ref().take(names) {
            for rec in names.recs.iter().filter(|rec| !rec.is_session() && rec.vector.is_some()) {
                let spans = rec.here.as_ref().and_then(|here| here.spans.as_ref());
                census.mailboxes += 1;
                census.bytes += spans.map_or(0, |spans| spans.owed(tail));
            }
        }
        let next = walk.next().map(|(user, _)| *user);
        census.next = next.unwrap_or_default();
        next.is_none()
    }

    /// How this server and its network stand, with the mailboxes that were counted.
    pub fn status(&self, census: &Census) -> Status {
        let feed = &self.delivery.feed;
        let servers = self.others();
        let (hostname, port) = self.membership.home.clone().unwrap_or_default();
        let storage = match (self.keeping.on, self.is_degraded()) {
            (false, _) => Storage::None,
            (true, false) => Storage::Good,
            (true, true) => Storage::Degraded,
        };
        let is_in_sync = |other: &Other| match other.state {
            OtherState::Linked => other.in_step && other.same_names != Some(false),
            OtherState::Stopped => true,
            OtherState::Silent | OtherState::Lost => false,
        };
        let state = self.state();
        let mut troubles = Vec::new();
        if state != State::Serving {
            troubles.push(format!("this server is {}", word(state)));
        }
        if storage == Storage::Degraded {
            troubles.push("the disk does not take what it should".to_owned());
        }
        for other in servers.iter().filter(|o| matches!(o.state, OtherState::Silent | OtherState::Lost)) {
            troubles.push(format!(
                "the server at {}:{} is {}",
                other.hostname,
                other.port,
                word(other.state)
            ));
        }
        Status {
            id: self.mesh.identity.server,
            hostname,
            port,
            state,
            sessions: self.load(),
            names: self.registry.len() as u64,
            mailboxes: census.mailboxes,
            mailbox_bytes: census.bytes,
            memory_bytes: feed.tail() - feed.head(),
            readable_bytes: feed.tail() - feed.floor(),
            unexposed_bytes: self.relay.streams[OWN].pending_bytes() as u64,
            unkept_rows: self.unkept(),
            storage,
            in_sync: state != State::Joining && servers.iter().all(is_in_sync),
            servers,
            troubles,
        }
    }

    /// Names and names' sessions that are not on disk as they are.
    fn unkept(&self) -> u64 {
        let keeping = &self.keeping;
        let in_work = keeping.in_work.as_ref().map_or(0, |work| work.names.len() + work.sessions.len());
        let changed = self.registry.changed.as_ref().map_or(0, Vec::len);
        (keeping.names.len() + keeping.sessions.len() + in_work + changed) as u64
    }

    fn others(&self) -> Vec<Other> {
        let linked = self.mesh.linked().map(|(_, peer)| {
            let place = self.membership.place_of(peer.server);
            let held = self.relay.streams[OWN].held();
            let stream = peer.stream.unwrap_or(self.relay.own());
            let (hostname, port) = place.unwrap_or_default();
            Other {
                id: Some(peer.server),
                hostname,
                port,
                state: if peer.suspect { OtherState::Silent } else { OtherState::Linked },
                draining: peer.draining,
                sessions: peer.load,
                silent_ms: self.now.since(peer.heard_at).as_millis() as u64,
                unconfirmed: held.saturating_sub(peer.acked),
                missing: self.relay.missing_of(stream),
                in_step: peer.synced && !peer.is_stalled() && !self.relay.is_overdue(stream),
                same_names: peer.root.map(|root| root == self.registry.root()),
            }
        });
        let mut others: Vec<Other> = linked.collect();
        others.extend(self.unlinked());
        others.sort_by(|a, b| (&a.hostname, a.port).cmp(&(&b.hostname, b.port)));
        others
    }
}
