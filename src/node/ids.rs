//! Clients that number what they say, so that it is shown once and in order, whatever server they say it on.
//!
//! The number stands at the begin of the broadcast line. So whoever applies a line, of whatever stream, knows
//! whose it is: what was shown before keeps its place in the feed, and readers pass over it.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::registry::Seed;
use super::relay::{OWN, Relay};
use super::{Mutation, Node};
use crate::base::id::{ClientId, LinkId, StreamId};
use crate::base::limits::{AT_MAX, CLIENTS_MAX};
use crate::base::seen::Seen;
use crate::base::spans::Spans;
use crate::base::vector::Vector;
use crate::wire::ids::{self, Welcome};
use crate::wire::message::{Ext, Refusal};

/// What is known of all such clients.
#[derive(Debug)]
pub(super) struct Clients {
    known: HashMap<ClientId, Client, Seed>,
    /// Rises with each message; tells who spoke longest ago.
    clock: u64,
    /// Links that are to be told that an own message is safe, by its number in the own stream.
    awaiting: VecDeque<(u64, LinkId)>,
    /// More may be safe than when that was looked at.
    pub is_stale: bool,
}

/// One of them.
#[derive(Clone, Debug, Default)]
struct Client {
    /// Its messages that were shown here, and those that are here, shown or not.
    seen: Seen,
    held: Seen,
    /// The last that it said here, and its number in the own stream.
    said: u64,
    own: u64,
    /// Where the highest that was shown stands: a stream's index, and the number there.
    last: (usize, u64),
    spoke: u64,
}

/// What a link of such a client has.
#[derive(Debug)]
pub(super) struct Ids {
    pub client: ClientId,
    /// The first message it can say again.
    from: u64,
    /// What it had when it came, and what of its own.
    pub at: Option<Vector>,
    own: Vec<(u64, StreamId, u64)>,
    /// Up to where it was told what the feed's lines are.
    pub announced: u64,
    /// What it is to be told when an own message is safe, and what it was told.
    acks: VecDeque<(u64, u64)>,
    acked: u64,
}

/// What a message is to this server.
pub(super) enum Said {
    /// Its client does not number.
    Plain,
    New(ClientId, u64),
    /// It is known already.
    Again,
}

impl Client {
    /// All up to this one are known here.
    fn upto(&self) -> u64 {
        let known = self.seen.whole().max(self.said);
        self.seen.ranges().fold(known, |known, r| if r.0 <= known + 1 { known.max(r.1) } else { known })
    }
}

impl Clients {
    pub fn new(seed: Seed) -> Clients {
        Clients { known: HashMap::with_hasher(seed), clock: 0, awaiting: VecDeque::new(), is_stale: false }
    }

    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// A line is applied. False if readers have to pass over it: it was shown before, or is none. `forgotten`
    /// counts clients that had to give way.
    pub fn shows(&mut self, stream: usize, seq: u64, line: &[u8], counts: &mut Counts) -> bool {
        let Some((id, n)) = ids::said_with(line) else { return line.len() > 1 };
        let client = self.entry(id, counts);
        let is_known = client.seen.whole() > 0;
        if !client.seen.add(n) {
            counts.repeated += 1;
            return false;
        }
        if n == client.seen.top() {
            client.last = (stream, seq);
        }
        if is_known && (n < client.seen.top() || client.seen.whole() < n) {
            counts.unordered += 1;
        }
        true
    }

    /// A line is here, and waits to be applied.
    pub fn holds(&mut self, line: &[u8], counts: &mut Counts) {
        if let Some((id, n)) = ids::said_with(line) {
            self.entry(id, counts).held.add(n);
        }
    }

    /// True if a line must wait for the one before it, which is here, or may be among what is `missing` here.
    pub fn is_early(&self, line: &[u8], is_missing: bool) -> bool {
        let Some((id, n)) = ids::said_with(line) else { return false };
        let Some(client) = self.known.get(&id) else { return is_missing && n > 1 };
        n > 1 && !client.seen.has(n) && !client.seen.has(n - 1) && (is_missing || client.held.has(n - 1))
    }

    fn entry(&mut self, id: ClientId, counts: &mut Counts) -> &mut Client {
        if self.known.len() >= CLIENTS_MAX && !self.known.contains_key(&id) {
            let mut spoke: Vec<u64> = self.known.values().map(|client| client.spoke).collect();
            let (_, last, _) = spoke.select_nth_unstable(CLIENTS_MAX / 8);
            let last = *last;
            self.known.retain(|_, client| client.spoke > last);
            counts.forgotten += spoke.len() as u64 - self.known.len() as u64;
        }
        self.clock += 1;
        let client = self.known.entry(id).or_default();
        client.spoke = self.clock;
        client
    }

    /// All up to `n` were shown, and that one stands at `last`.
    fn shown(&mut self, id: ClientId, n: u64, last: (usize, u64), counts: &mut Counts) {
        let client = self.entry(id, counts);
        client.seen = Seen::from_ranges(client.seen.ranges().chain([(1, n)]));
        if client.seen.top() == n {
            client.last = last;
        }
    }

    /// What must not come after a client's message, if it was not said here: where the one before it stands.
    fn before(&self, id: ClientId, n: u64, relay: &Relay) -> Option<(StreamId, u64)> {
        let client = self.known.get(&id)?;
        let (stream, seq) = client.last;
        (client.said + 1 != n && stream != OWN && seq > 0).then(|| (relay.streams[stream].id, seq))
    }
}

/// What is counted meanwhile.
#[derive(Debug, Default)]
pub(super) struct Counts {
    repeated: u64,
    unordered: u64,
    forgotten: u64,
}

impl Node {
    pub(super) fn ids(&self, link_id: LinkId) -> Option<&Ids> {
        self.link(link_id)?.ids()
    }

    /// The client of a link numbers what it says, from now on.
    pub(super) fn number_from_now(&mut self, link_id: LinkId, name: &str, ext: Option<&Ext>) {
        let Some(ext) = ext.filter(|_| self.ids(link_id).is_none()) else { return };
        let client = ids::client_id(name, ext.client);
        let (at, own) = (ext.at.clone(), ext.own.clone());
        let ids = Ids { client, from: ext.from, at, own, announced: 0, acks: VecDeque::new(), acked: 0 };
        let is_session = self.at(link_id).is_session();
        self.at_mut(link_id).aside_mut().ids = Some(Box::new(ids));
        self.unfollow(link_id);
        if is_session && let Some(at) = &ext.at {
            let late = self.relay.owed(&self.delivery.feed, at);
            self.sessions.late.insert(link_id, late);
            self.join_late(link_id);
        }
    }

    /// What a message is. One whose predecessor is unknown is refused, unless its client has no more.
    pub(super) fn number(&mut self, link_id: LinkId, cseq: Option<u64>) -> Result<Said, Refusal> {
        let Some(ids) = self.ids(link_id) else { return Ok(Said::Plain) };
        let (id, from, n) = (ids.client, ids.from, cseq.ok_or(Refusal::NeedsNumber)?);
        let nobody = Client::default();
        let client = self.clients.known.get(&id).unwrap_or(&nobody);
        let upto = client.upto();
        if n <= client.said || client.seen.has(n) {
            let own = client.own;
            self.counters.messages_known += 1;
            self.await_ack(link_id, own, n);
            return Ok(Said::Again);
        }
        match n == upto + 1 || n == from || client.seen.has(n - 1) {
            true => Ok(Said::New(id, n)),
            false if self.is_mutated(Mutation::GapsIgnored) => Ok(Said::New(id, n)),
            false => Err(Refusal::Jump(upto + 1)),
        }
    }

    /// Where the message before this one stands, if another server's stream has it.
    pub(super) fn said_before(&self, id: ClientId, n: u64) -> Option<(StreamId, u64)> {
        if self.is_mutated(Mutation::NoPrev) { None } else { self.clients.before(id, n, &self.relay) }
    }

    /// A message got its number in the own stream.
    pub(super) fn numbered(&mut self, link_id: LinkId, id: ClientId, n: u64) {
        let own = self.relay.streams[OWN].held();
        let mut counts = Counts::default();
        let client = self.clients.entry(id, &mut counts);
        (client.said, client.own) = (n, own);
        client.held.add(n);
        self.count_ids(&counts);
        self.await_ack(link_id, own, n);
    }

    pub(super) fn count_ids(&mut self, counts: &Counts) {
        self.counters.messages_repeated += counts.repeated;
        self.counters.messages_unordered += counts.unordered;
        self.counters.clients_forgotten += counts.forgotten;
    }

    /// The client is to be told that all up to `n` are safe when own message `own` is.
    fn await_ack(&mut self, link_id: LinkId, own: u64, n: u64) {
        let Some(ids) = self.link_mut(link_id).and_then(|link| link.ids_mut()) else { return };
        let own = ids.acks.back().map_or(own, |last| last.0.max(own));
        match ids.acks.back_mut() {
            Some(last) if last.0 == own => last.1 = last.1.max(n),
            _ => ids.acks.push_back((own, n)),
        }
        let own = self.clients.awaiting.back().map_or(own, |last| last.0.max(own));
        if self.clients.awaiting.back() != Some(&(own, link_id)) {
            self.clients.awaiting.push_back((own, link_id));
        }
        self.clients.is_stale = true;
    }

    /// Own messages up to here are safe: another server has them, or there is none and the disk has them, if
    /// there is one.
    fn safe(&self) -> u64 {
        if self.is_mutated(Mutation::AckedAtOnce) {
            return u64::MAX;
        }
        let is_alone = self.mesh.linked().next().is_none() && !self.is_journal_behind();
        if is_alone { self.relay.exposed() } else { self.relay.copied }
    }

    /// Has those written to whose messages are safe now.
    pub(super) fn give_acks(&mut self) {
        if !std::mem::take(&mut self.clients.is_stale) {
            return;
        }
        let safe = self.safe();
        while let Some((own, link_id)) = self.clients.awaiting.front().copied()
            && own <= safe
        {
            self.clients.awaiting.pop_front();
            self.enqueue(link_id);
        }
    }

    /// What the client of a link is to be told of its own messages now.
    pub(super) fn tell_ack(&mut self, link_id: LinkId) {
        let safe = self.safe();
        let Some(ids) = self.link_mut(link_id).and_then(|link| link.ids_mut()) else { return };
        let before = ids.acked;
        while let Some((own, n)) = ids.acks.front().copied()
            && own <= safe
        {
            ids.acks.pop_front();
            ids.acked = ids.acked.max(n);
        }
        let acked = ids.acked;
        if acked > before {
            self.counters.acks += 1;
            let mut line = Vec::new();
            ids::ack(&mut line, acked);
            self.at_mut(link_id).put_first(&line);
        }
    }

    /// Tells the client of a link which broadcasts come next, unless it knows.
    pub(super) fn tell_next(&mut self, link_id: LinkId) {
        let link = self.at(link_id);
        let Some(ids) = link.ids() else { return };
        let range = self.feed_part(link, link.stop());
        if link.mid_frame || range.is_empty() || range.from < ids.announced {
            return;
        }
        let (runs, upto) = self.relay.runs(&self.delivery.feed, range);
        let mut line = Vec::new();
        ids::next(&mut line, &runs);
        let link = self.at_mut(link_id);
        link.put_first(&line);
        if let Some(ids) = link.ids_mut() {
            ids.announced = upto;
        }
    }

    /// What is owed of the feed to a client that comes with its position, and what is said from now on.
    pub(super) fn owed_at(&self, link_id: LinkId) -> Spans {
        let feed = &self.delivery.feed;
        let open = Spans::open(feed.tail());
        match self.ids(link_id).and_then(|ids| ids.at.as_ref()) {
            Some(at) => self.relay.owed(feed, at).union(&open),
            None => open,
        }
    }

    /// What a client with an id is told beside its success. `begin` is where a session begins that brings no
    /// position.
    pub(super) fn welcome(&mut self, link_id: LinkId, begin: &Vector) -> Option<Welcome> {
        let Ids { client, at, .. } = self.ids(link_id)?;
        let (client, at) = (*client, at.clone());
        self.believe(link_id, client);
        let known = self.clients.known.get(&client);
        let (cseq, own) = known.map_or((0, 0), |client| (client.upto(), client.own));
        let cseq = if self.is_mutated(Mutation::GapsIgnored) { u64::MAX >> 1 } else { cseq };
        let feed = &self.delivery.feed;
        let mut lost = 0;
        let mut begins: Vec<(StreamId, u64)> = Vec::new();
        for stream in self.relay.streams.iter().rev() {
            let begin = match &at {
                None => begin.get(stream.id),
                Some(at) => {
                    let had = at.get(stream.id);
                    let first = stream.first_from(had.saturating_add(1), feed);
                    lost += first.saturating_sub(had.saturating_add(1));
                    first - 1
                }
            };
            if begin > 0 && begins.len() < AT_MAX {
                begins.push((stream.id, begin));
            }
        }
        self.counters.resumed_lost += lost;
        if lost > 0 {
            log::warn!(
                "link {link_id}: its client came back to {lost} broadcasts that are not there any more"
            );
        }
        if cseq > 0 {
            self.await_ack(link_id, own, cseq);
        }
        let servers = self.other_servers();
        Some(Welcome { id: Some(client), cseq, at: begins, lost, servers })
    }

    /// What a client has heard of its own messages and is applied here was shown here, though nothing else may
    /// remember it: it was in a part of the journal that is gone, or before this server was there.
    fn believe(&mut self, link_id: LinkId, client: ClientId) {
        let Some(ids) = self.link_mut(link_id).and_then(|link| link.ids_mut()) else { return };
        let own = std::mem::take(&mut ids.own);
        let Some((n, stream, seq)) = own.iter().copied().max() else { return };
        let is_here = |of: &(u64, StreamId, u64)| of.2 > 0 && self.relay.applied_of(of.1) >= of.2;
        if n > 0 && own.iter().all(is_here) {
            let (last, mut counts) = ((self.relay.index(stream), seq), Counts::default());
            self.clients.shown(client, n, last, &mut counts);
            self.count_ids(&counts);
        }
    }

    /// Where the linked servers are.
    fn other_servers(&self) -> Vec<(String, u16)> {
        self.mesh.linked().filter_map(|(_, peer)| self.membership.place_of(peer.server)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_are_too_many_those_who_spoke_longest_ago_go() {
        let (mut clients, mut counts) = (Clients::new(Seed::new(1, 2)), Counts::default());
        let id = |n: usize| ClientId((n as u128).to_be_bytes());
        (0..CLIENTS_MAX).for_each(|n| assert!(clients.entry(id(n), &mut counts).seen.add(1)));
        clients.entry(id(0), &mut counts).seen.add(2);
        assert_eq!(counts.forgotten, 0);
        clients.entry(id(CLIENTS_MAX), &mut counts).seen.add(1);
        assert!(counts.forgotten > 0 && clients.known.len() <= CLIENTS_MAX);
        assert!(clients.known.contains_key(&id(0)) && !clients.known.contains_key(&id(1)));
        assert!(clients.known.contains_key(&id(CLIENTS_MAX)));
    }
}
