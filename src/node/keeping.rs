//! What outlives this boot: the feed as it is, and rows of names, sessions and servers.
//!
//! What of the rows is stale is collected while one commit is in work, and is the next commit. So a storm of
//! logins costs few, and a quiet server none. After a restart this boot is to the one before what a peer is:
//! it knows of its sessions what that one would have told, and goes on from there.
//!
//! Before REGISTER_SUCCESS the name's row is on disk; before a commit of a peer is confirmed, too. Messages
//! are in the journal before anybody is shown them: the shell appends what [`Node::unwritten`] names before
//! it writes to any link.

use serde::{Deserialize, Serialize};

use super::mesh::PeerId;
use super::names::{Home, Rec};
use super::{Action, Node, Timer};
use crate::base::feed::{Offset, Unwritten};
use crate::base::hlc::Generation;
use crate::base::id::{StreamId, UserId};
use crate::base::limits::{COMMIT_RETRY, COMMIT_ROWS};
use crate::base::row::{Row, Table};
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::peer::Entry;
use crate::wire::registration::{Registration, Verdict};

/// What is stale on disk, and what is on its way there.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// There is a disk.
    pub on: bool,
    /// The last are the next to be written, so that nobody waits for what a newcomer has to learn.
    pub names: Vec<UserId>,
    pub sessions: Vec<UserId>,
    homes: bool,
    pub peers: bool,
    /// Names that are not registered after all.
    gone: Vec<Box<str>>,
    /// Own claims whose rows are to be written.
    claims: Vec<Registration>,
    /// Each with how many stale names must be left at most for it to be on its way.
    awaited: Vec<(usize, Awaited)>,
    pub in_work: Option<InWork>,
    tickets: u64,
    /// The last commit failed: not before then the next.
    retry_at: Option<Time>,
    /// The journal takes nothing.
    unwritten: bool,
}

/// Who waits for a commit.
#[derive(Clone, Debug)]
pub(super) enum Awaited {
    /// The client of our own claim.
    Claim(Box<str>, Generation),
    /// The peer whose commit it is.
    Peer(PeerId, UserId, Generation),
}

#[derive(Debug)]
pub(super) struct InWork {
    ticket: u64,
    pub names: Vec<UserId>,
    gone: Vec<Box<str>>,
    pub sessions: Vec<UserId>,
    awaited: Vec<Awaited>,
}

/// A name, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct KeptName {
    #[serde(flatten)]
    registration: Registration,
    /// It is a claim that was not committed yet. Perhaps it was refused, and another has the name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_claim: bool,
}

/// A name's sessions, as they are kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// Each with the FRONTIER that named it last.
    entries: Vec<(Entry, u64)>,
    taken: Vec<(Generation, Generation)>,
    multi: bool,
}

const HOMES: &[u8] = b"homes";
const ADDRESSES: &[u8] = b"addresses";
const TRIMMED: &[u8] = b"trimmed";

fn json(value: &impl Serialize) -> Option<Box<[u8]>> {
    let text = serde_json::to_vec(value).expect("it has no map whose keys are no text");
    Some(text.into())
}

impl Node {
    /// From now on all is kept. The disk has the feed from `kept` on up to what was restored.
    pub fn keep(&mut self, now: Time, kept: Offset) {
        self.now = now;
        self.delivery.feed.keep(kept);
        self.delivery.turn_from = self.delivery.feed.tail();
        self.keeping.on = true;
        self.registry.changed = Some(Vec::new());
        self.begin_frontier();
    }

    /// A row of [`Table::Names`] on disk. They come one by one, for there may be millions. False if it is not
    /// understood.
    pub fn restore_name(&mut self, now: Time, value: &[u8]) -> bool {
        self.now = now;
        match serde_json::from_slice::<KeptName>(value) {
            Ok(kept) if kept.is_claim => self.restore_claim(kept.registration),
            Ok(kept) => drop(self.merge_registration(&kept.registration)),
            Err(_) => return false,
        }
        true
    }

    /// All names that were restored are not to be believed: the rows turned out to be damaged.
    pub fn forget_names(&mut self) {
        self.registry.clear();
        self.keeping.names.clear();
        self.counters.registrations_learnt = 0;
    }

    /// The other rows on disk, when all names are restored. Returns how many are not understood.
    pub fn restore_rows(&mut self, now: Time, rows: &[Row]) -> usize {
        self.now = now;
        let of = |table: Table| rows.iter().filter(move |row| row.0 == table);
        let mut bad = 0;
        for (_, key, value) in of(Table::Meta) {
            let value = value.as_deref().unwrap_or_default();
            bad += usize::from(!match &**key {
                HOMES => self.restore_homes(value),
                ADDRESSES => self.restore_addresses(value),
                TRIMMED => self.restore_trimmed(value),
                _ => true,
            });
        }
        for (_, key, value) in of(Table::Sessions) {
            let user = std::str::from_utf8(key).ok().and_then(|name| self.registry.find(name));
            let kept = serde_json::from_slice::<Kept>(value.as_deref().unwrap_or_default());
            match (user, kept) {
                (Some(user), Ok(kept)) => self.restore_sessions(user, kept),
                _ => bad += 1,
            }
        }
        bad
    }

    /// Should its client have been told of success, it has the name. Should it not, and another have been told so,
    /// that one has, whatever the clocks said: so it is later than any.
    fn restore_claim(&mut self, claim: Registration) {
        self.mesh.clock.hear(claim.stamp.at);
        let stamp = Generation { at: claim.stamp.at.doubted(), ..claim.stamp };
        let user = self.merge_registration(&Registration { stamp, ..claim });
        self.keeping.names.push(user);
    }

    fn restore_homes(&mut self, value: &[u8]) -> bool {
        let Ok(homes) = serde_json::from_slice::<Vec<(StreamId, Vector, u64)>>(value) else { return false };
        for (stream, confirmed, version) in homes {
            self.sessions.homes.insert(stream, Home { confirmed, version });
        }
        true
    }

    /// What was below the journal's begin: of streams that are not in it any more nothing is wanted again.
    fn restore_trimmed(&mut self, value: &[u8]) -> bool {
        let Ok(trimmed) = serde_json::from_slice::<Vector>(value) else { return false };
        for (stream, seq) in trimmed.iter() {
            let i = self.relay.index(stream);
            self.relay.streams[i].restore_trimmed(seq);
        }
        true
    }

    fn restore_addresses(&mut self, value: &[u8]) -> bool {
        let Ok(addresses) = serde_json::from_slice::<Vec<(String, u16)>>(value) else { return false };
        for (hostname, port) in addresses {
            self.remember(&hostname, port);
        }
        true
    }

    fn restore_sessions(&mut self, user: UserId, kept: Kept) {
        let now = self.now;
        let stamp = self.registry.user(user).stamp;
        let names = self.registry.names.entry(user).or_default();
        names.multi |= kept.multi;
        for (entry, named) in kept.entries.into_iter().filter(|(entry, _)| entry.is_of(stamp)) {
            self.mesh.clock.hear(entry.generation.at);
            names.put(Rec { named, ..Rec::from_entry(&entry, now) });
        }
        names.taken = kept.taken.into_iter().map(|(g, by)| (g, by, now)).collect();
        self.arm_away(user);
    }

    /// What is to be appended to the journal before anything is written to a link.
    pub fn unwritten(&self) -> Option<Unwritten<'_>> {
        self.delivery.feed.unwritten()
    }

    /// The journal has all of that, and begins at `kept` now; or with none it could not take it, and is asked
    /// again when there is more.
    pub fn written(&mut self, kept: Option<Offset>) {
        let failed = kept.is_none();
        match kept {
            Some(kept) => {
                self.clients.is_stale = true;
                self.delivery.feed.wrote(kept);
            }
            None => self.counters.journal_failed += 1,
        }
        if std::mem::replace(&mut self.keeping.unwritten, failed) != failed {
            let how = if failed {
                "degraded: the journal takes nothing; messages go on from memory"
            } else {
                "the journal goes on"
            };
            log::warn!("{how}");
        }
    }

    /// The journal begins at `kept` now: what was older is gone.
    pub fn dropped(&mut self, kept: Offset) {
        self.delivery.feed.dropped(kept);
        let floor = self.delivery.feed.floor();
        self.relay.streams.iter_mut().for_each(|stream| stream.trim(floor));
        self.delivery.forget_hidden();
    }

    /// There is a journal, and it does not take what is said.
    pub(super) fn is_journal_behind(&self) -> bool {
        self.keeping.on && self.keeping.unwritten
    }

    /// True when nothing is stale on disk, or the disk takes nothing.
    pub fn is_kept(&self) -> bool {
        let Keeping { names, sessions, homes, peers, in_work, retry_at, .. } = &self.keeping;
        let stale = !names.is_empty() || !sessions.is_empty() || *homes || *peers;
        retry_at.is_some() || !(stale || in_work.is_some())
    }

    /// True while the disk does not take what it should.
    pub fn is_degraded(&self) -> bool {
        self.keeping.unwritten || self.keeping.retry_at.is_some()
    }

    /// True while rows cannot be committed, so that no name can be registered.
    pub(super) fn cannot_keep(&self) -> bool {
        self.keeping.retry_at.is_some()
    }

    /// A name's sessions changed.
    pub(super) fn touch(&mut self, user: UserId) {
        if self.keeping.on && !std::mem::replace(&mut self.registry.user_mut(user).sessions_stale, true) {
            self.keeping.sessions.push(user);
        }
    }

    /// What homes last said of all their sessions changed.
    pub(super) fn touch_homes(&mut self) {
        self.keeping.homes = self.keeping.on;
    }

    /// Has our claim's row written before it is committed.
    pub(super) fn keep_claim(&mut self, claim: &Registration) {
        self.keeping.claims.push(Registration { verifier: None, ..claim.clone() });
        self.keeping.awaited.push((usize::MAX, Awaited::Claim(claim.name.clone(), claim.stamp)));
    }

    /// The claim came to nothing: what was written is not to be believed.
    pub(super) fn unkeep_claim(&mut self, name: &str) {
        match self.registry.find(name) {
            Some(user) => self.registry.changed.iter_mut().for_each(|changed| changed.push(user)),
            None => self.keeping.gone.push(name.into()),
        }
    }

    /// Tells a peer that its commit is kept, when it is.
    pub(super) fn stored_when_kept(&mut self, from: PeerId, user: UserId, stamp: Generation) {
        if !self.keeping.on {
            return self.stored(from, user, stamp);
        }
        self.take_changed();
        let names = &mut self.keeping.names;
        if names.last() != Some(&user) {
            names.push(user);
        }
        self.keeping.awaited.push((names.len() - 1, Awaited::Peer(from, user, stamp)));
    }

    fn stored(&mut self, to: PeerId, user: UserId, stamp: Generation) {
        let name = self.registry.user(user).name.clone();
        self.reply(&[to], &name, stamp, Verdict::Stored, None);
    }

    fn take_changed(&mut self) {
        if let Some(changed) = self.registry.changed.as_mut() {
            self.keeping.names.append(changed);
        }
    }

    /// The next commit, if something is stale and none is in work.
    pub(super) fn commit_rows(&mut self) -> Option<Action> {
        if !self.keeping.on || self.keeping.in_work.is_some() {
            return None;
        }
        if self.keeping.retry_at.is_some_and(|at| self.now < at) {
            return None;
        }
        self.take_changed();
        let mut rows: Vec<Row> = Vec::new();
        let gone = std::mem::take(&mut self.keeping.gone);
        for name in &gone {
            rows.push((Table::Names, name.as_bytes().into(), None));
        }
        for claim in std::mem::take(&mut self.keeping.claims) {
            let name = claim.name.as_bytes().into();
            rows.push((Table::Names, name, json(&KeptName { registration: claim, is_claim: true })));
        }
        let room = |n: usize| n.saturating_sub(COMMIT_ROWS);
        let names = self.keeping.names.split_off(room(self.keeping.names.len()));
        for user in &names {
            let kept = Registration { verifier: None, ..self.registration_of(*user) };
            let name = kept.name.as_bytes().into();
            rows.push((Table::Names, name, json(&KeptName { registration: kept, is_claim: false })));
        }
        let sessions = self.keeping.sessions.split_off(room(self.keeping.sessions.len()));
        for user in &sessions {
            rows.push(self.sessions_row(*user));
        }
        // A session that is behind is named in its row: one that did not fit would count as one that is not.
        if self.keeping.sessions.is_empty() && std::mem::take(&mut self.keeping.homes) {
            let homes = self.sessions.homes.iter();
            let homes: Vec<_> = homes.map(|(stream, h)| (*stream, h.confirmed.clone(), h.version)).collect();
            rows.push((Table::Meta, HOMES.into(), json(&homes)));
            let trimmed = self.relay.position(self.delivery.feed.floor());
            rows.push((Table::Meta, TRIMMED.into(), json(&trimmed)));
        }
        if std::mem::take(&mut self.keeping.peers) {
            rows.push((Table::Meta, ADDRESSES.into(), json(&self.addresses())));
        }
        // Who waits for a row that did not fit waits for the next commit.
        let left = self.keeping.names.len();
        let awaited = self.keeping.awaited.extract_if(.., |(most, _)| *most >= left);
        let awaited: Vec<Awaited> = awaited.map(|(_, awaited)| awaited).collect();
        if rows.is_empty() && awaited.is_empty() {
            return None;
        }
        self.keeping.tickets += 1;
        let ticket = self.keeping.tickets;
        self.keeping.in_work = Some(InWork { ticket, names, gone, sessions, awaited });
        Some(Action::Commit { ticket, rows })
    }

    fn sessions_row(&mut self, user: UserId) -> Row {
        self.registry.user_mut(user).sessions_stale = false;
        let key = self.registry.user(user).name.as_bytes().into();
        let Some(names) = self.known(user).filter(|names| !names.is_empty()) else {
            return (Table::Sessions, key, None);
        };
        let entries = names.recs.iter().map(|rec| (self.entry(user, names.multi, rec), rec.named)).collect();
        let taken = names.taken.iter().map(|(g, by, _)| (*g, *by)).collect();
        (Table::Sessions, key, json(&Kept { entries, taken, multi: names.multi }))
    }

    /// The disk's answer to a commit.
    pub(super) fn on_committed(&mut self, ticket: u64, good: bool) {
        let Some(done) = self.keeping.in_work.take_if(|work| work.ticket == ticket) else { return };
        if good {
            self.counters.commits += 1;
            if self.keeping.retry_at.take().is_some() {
                log::warn!("the disk takes registrations again");
            }
        } else {
            self.counters.commits_failed += 1;
            if self.keeping.retry_at.is_none() {
                log::error!("degraded: the disk takes no rows; names are not registered until it does");
            }
            self.keeping.retry_at = Some(self.now + COMMIT_RETRY);
            self.keeping.names.extend(done.names);
            done.gone.iter().for_each(|name| self.unkeep_claim(name));
            done.sessions.into_iter().for_each(|user| self.touch(user));
            (self.keeping.homes, self.keeping.peers) = (true, true);
            self.timers.set(self.now + COMMIT_RETRY, Timer::Rows);
        }
        for awaited in done.awaited {
            match awaited {
                Awaited::Claim(name, stamp) => self.claim_kept(&name, stamp, good),
                Awaited::Peer(from, user, stamp) if good => self.stored(from, user, stamp),
                Awaited::Peer(..) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
