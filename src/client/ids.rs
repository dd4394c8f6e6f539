//! What a client with an id knows over all its connections: what it said and may have to say again, and what it
//! has heard.
//!
//! Invariant: `kept` are the messages from `first` on without a gap; all up to `acked` are safe, and of those no
//! more are kept than [`RING`] and [`RING_BYTES`].

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::own::{self, Own};
use crate::base::id::{ClientId, StreamId, digits, hex};
use crate::base::limits::AT_MAX;
use crate::base::seen::Seen;

/// Messages that are safe and are kept all the same: a server on the other side of a cut lacks them, and what
/// comes next must not come before them there.
pub const RING: usize = 1_024;
/// Bytes of such.
pub const RING_BYTES: usize = 1 << 20;
/// Other clients whose numbers are remembered; the one that spoke longest ago gives way.
pub const SENDERS_MAX: usize = 4_096;

/// Something that is to outlive the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// All there is; the first of a file.
    State(State),
    /// The next message.
    Said(String),
    /// All up to this one are safe.
    Acked(u64),
    /// What the client is called.
    Id(String),
    /// Where a stream begins for this client.
    Begin(u64, u64),
    /// A broadcast was heard: its stream and number, and whose it is.
    Heard(u64, u64, Option<(String, u64)>),
}

/// Numbers that were heard, ends included.
type Ranges = Vec<(u64, u64)>;

/// All there is, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    client: String,
    first: u64,
    acked: u64,
    kept: Vec<String>,
    /// Of each stream where it begins, and what of it was heard.
    position: Option<Vec<(u64, u64, Ranges)>>,
    /// Of each other client what of it was heard, the one that spoke last at the end.
    senders: Vec<(String, Ranges)>,
    #[serde(default)]
    own: own::State,
}

/// Where a stream begins for this client, and what of it was heard.
#[derive(Clone, Debug, Default)]
struct Place {
    begin: u64,
    heard: Seen,
}

#[derive(Clone, Debug, Default)]
struct Sender {
    heard: Seen,
    spoke: u64,
}

/// See the module's page.
#[derive(Debug, Default)]
pub struct Ids {
    client: [u8; 16],
    first: u64,
    acked: u64,
    kept: VecDeque<String>,
    kept_bytes: usize,
    /// Those of what is safe.
    safe_bytes: usize,
    position: Option<BTreeMap<StreamId, Place>>,
    senders: BTreeMap<ClientId, Sender>,
    clock: u64,
    own: Own,
    /// What was told when it came in: broadcasts that are lost, and other servers.
    lost: u64,
    servers: Vec<(String, u16)>,
    /// What changed, if that is to be kept.
    changes: Option<Vec<Change>>,
}

/// What `ext` of a success says.
#[derive(Debug, Deserialize)]
struct Welcome {
    #[serde(default)]
    id: Option<String>,
    cseq: u64,
    #[serde(default)]
    lost: u64,
    #[serde(default)]
    at: BTreeMap<String, u64>,
    #[serde(default)]
    servers: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Address {
    hostname: String,
    port: u16,
}

impl Ids {
    /// A client that never said or heard anything. `client` is 128 random bits, drawn for it alone.
    pub fn new(client: [u8; 16]) -> Ids {
        Ids { client, first: 1, ..Ids::default() }
    }

    /// The client that this was. None if what was kept makes no sense.
    pub fn restore(changes: impl IntoIterator<Item = Change>) -> Option<Ids> {
        let mut changes = changes.into_iter();
        let Change::State(state) = changes.next()? else { return None };
        let mut ids = Ids { first: state.first.max(1), acked: state.acked, ..Ids::new(hex(&state.client)?) };
        state.kept.into_iter().for_each(|activity| ids.keep(activity));
        ids.safe_bytes = ids.bytes(ids.first, ids.acked);
        let place =
            |(stream, begin, heard)| (StreamId(stream), Place { begin, heard: Seen::from_ranges(heard) });
        ids.position = state.position.map(|all| all.into_iter().map(place).collect());
        for (client, heard) in state.senders {
            let sender = ids.sender(ClientId(hex(&client)?));
            sender.heard = Seen::from_ranges(heard);
        }
        ids.own = Own::restore(state.own)?;
        for change in changes {
            match change {
                Change::State(_) => return None,
                Change::Id(id) => {
                    ids.own.is_called(ClientId(hex(&id)?));
                }
                Change::Said(activity) => ids.keep(activity),
                Change::Acked(n) => ids.ack(n),
                Change::Begin(stream, seq) => ids.begin(StreamId(stream), seq),
                Change::Heard(stream, seq, of) => {
                    ids.place(StreamId(stream)).heard.add(seq);
                    if let Some((client, n)) = of {
                        ids.hear_of(ClientId(hex(&client)?), n, StreamId(stream), seq);
                    }
                }
            }
        }
        Some(ids)
    }

    /// From now on what changes is to be kept: [`Ids::changes`] gives it.
    pub fn keep_changes(&mut self) {
        self.changes = Some(Vec::new());
    }

    /// What changed since this was last asked for.
    pub fn changes(&mut self) -> Vec<Change> {
        self.changes.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// All there is.
    pub fn state(&self) -> Change {
        let place = |(stream, place): (&StreamId, &Place)| {
            (stream.0, place.begin, place.heard.ranges().collect::<Vec<_>>())
        };
        let mut senders: Vec<_> = self.senders.iter().collect();
        senders.sort_by_key(|(_, sender)| sender.spoke);
        Change::State(State {
            client: digits(&self.client),
            first: self.first,
            acked: self.acked,
            kept: self.kept.iter().cloned().collect(),
            position: self.position.as_ref().map(|all| all.iter().map(place).collect()),
            senders: senders.iter().map(|(c, s)| (c.to_string(), s.heard.ranges().collect())).collect(),
            own: self.own.state(),
        })
    }

    /// The number of the last message.
    pub fn said(&self) -> u64 {
        self.first + self.kept.len() as u64 - 1
    }

    /// All messages up to this one are safe.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Broadcasts that were lost while the client was away: servers had them no more.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Other servers, as the last one told.
    pub fn servers(&self) -> &[(String, u16)] {
        &self.servers
    }

    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(changes) = self.changes.as_mut() {
            changes.push(change());
        }
    }

    fn keep(&mut self, activity: String) {
        self.kept_bytes += activity.len();
        self.kept.push_back(activity);
    }

    /// The next message. Returns its number.
    pub fn say(&mut self, activity: &str) -> u64 {
        self.note(|| Change::Said(activity.to_owned()));
        self.keep(activity.to_owned());
        self.said()
    }

    /// Bytes of messages that are not known to be safe.
    pub(super) fn unsafe_bytes(&self) -> usize {
        self.kept_bytes - self.safe_bytes
    }

    /// Bytes of the messages between two, both included.
    fn bytes(&self, from: u64, to: u64) -> usize {
        let index = |n: u64| (n.saturating_sub(self.first) as usize).min(self.kept.len());
        self.kept.range(index(from)..index(to + 1)).map(String::len).sum()
    }

    /// The messages behind this number that there are, each with its own.
    pub fn behind(&self, cseq: u64) -> impl Iterator<Item = (u64, &str)> {
        let skip = (cseq + 1).saturating_sub(self.first) as usize;
        (self.first..).zip(&self.kept).skip(skip).map(|(n, activity)| (n, activity.as_str()))
    }

    /// All up to this one are safe.
    pub fn ack(&mut self, cseq: u64) {
        let cseq = cseq.min(self.said());
        if cseq <= self.acked {
            return;
        }
        self.safe_bytes += self.bytes(self.acked + 1, cseq);
        self.acked = cseq;
        self.note(|| Change::Acked(cseq));
        let mut safe = (cseq + 1).saturating_sub(self.first) as usize;
        while safe > RING || self.safe_bytes > RING_BYTES {
            let gone = self.kept.pop_front().expect("what is safe and kept is there").len();
            (self.first, safe) = (self.first + 1, safe - 1);
            (self.kept_bytes, self.safe_bytes) = (self.kept_bytes - gone, self.safe_bytes - gone);
        }
    }

    /// The field that LOGIN and REGISTER have.
    pub fn ext(&self) -> String {
        let mut ext = format!(r#","ext":{{"client":"{}","from":{}"#, digits(&self.client), self.first);
        if let Some(position) = &self.position {
            // Those that were learnt of first may be over; servers name what still counts.
            let one = |(stream, place): (&StreamId, &Place)| {
                format!("\"{stream:?}\":{}", place.begin.max(place.heard.top()))
            };
            let all: Vec<String> = position.iter().take(AT_MAX).map(one).collect();
            ext += &format!(r#","at":{{{}}}"#, all.join(","));
        }
        ext + &self.own.ext() + "}"
    }

    /// The client is in. Returns which of its messages the server knows; none if it says nothing of that.
    pub fn welcome(&mut self, ext: &str) -> Option<u64> {
        let welcome: Welcome = serde_json::from_str(ext).ok()?;
        if let Some(id) = welcome.id.and_then(|id| hex(&id)).map(ClientId)
            && self.own.is_called(id)
        {
            self.note(|| Change::Id(id.to_string()));
        }
        self.lost += welcome.lost;
        self.servers = welcome.servers.into_iter().map(|a| (a.hostname, a.port)).collect();
        self.position.get_or_insert_default();
        for (stream, seq) in welcome.at {
            self.begin(StreamId(u64::from_be_bytes(hex(&stream)?)), seq);
        }
        Some(welcome.cseq)
    }

    fn begin(&mut self, stream: StreamId, seq: u64) {
        let place = self.place(stream);
        if place.begin < seq {
            place.begin = seq;
            self.note(|| Change::Begin(stream.0, seq));
        }
    }

    fn place(&mut self, stream: StreamId) -> &mut Place {
        self.position.get_or_insert_default().entry(stream).or_default()
    }

    fn sender(&mut self, client: ClientId) -> &mut Sender {
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(&client) {
            let oldest =
                self.senders.iter().min_by_key(|(_, sender)| sender.spoke).map(|(client, _)| *client);
            oldest.map(|oldest| self.senders.remove(&oldest));
        }
        self.clock += 1;
        let sender = self.senders.entry(client).or_default();
        sender.spoke = self.clock;
        sender
    }

    /// A client's message came. False if it was heard before.
    fn hear_of(&mut self, client: ClientId, n: u64, stream: StreamId, seq: u64) -> bool {
        match self.own.id == Some(client) {
            true => self.own.hear(n, stream, seq),
            false => self.sender(client).heard.add_above(n),
        }
    }

    /// A broadcast came: number `seq` of `stream`; `id` is the one in it. False if it was heard before.
    pub fn hear(&mut self, stream: StreamId, seq: u64, id: Option<&str>) -> bool {
        let place = self.place(stream);
        if seq <= place.begin || !place.heard.add(seq) {
            return false;
        }
        let of = id.and_then(|id| {
            let (client, n) = id.split_once('-')?;
            Some((client.to_owned(), ClientId(hex(client)?), n.parse::<u64>().ok()?))
        });
        let is_new = of.as_ref().is_none_or(|(_, client, n)| self.hear_of(*client, *n, stream, seq));
        self.note(|| Change::Heard(stream.0, seq, of.map(|(client, _, n)| (client, n))));
        is_new
    }
}

#[cfg(test)]
mod tests;
