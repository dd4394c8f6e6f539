//! What was said, where it was accepted, who holds it and who heard it: the truth that the promises are
//! held against. Nothing here is asked of a node; it is seen from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::pipe::PipeId;
use crate::base::id::StreamId;
use crate::base::time::Time;

/// A message: who said it (the device) and its number there, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MessageId {
    pub device: usize,
    pub k: usize,
}

#[derive(Debug)]
pub(super) struct Message {
    /// The activity as it was said.
    pub activity: String,
    pub name: String,
    /// The connection it was said on, and where it ends there.
    pub pipe: PipeId,
    pub end: u64,
    pub accepted: Option<Accepted>,
    /// Other servers took it, too: its client has an id and said it again.
    pub again: Vec<Accepted>,
    /// The line it became, once somebody heard it and it was right.
    pub line: Option<Box<[u8]>>,
    /// When any client was shown it.
    pub exposed: Option<Time>,
    /// It was shown when only one server held it, as it may be.
    pub single: bool,
}

/// A server took a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    pub id: MessageId,
    pub at: Time,
    pub boot: usize,
    pub seq: u64,
}

/// One boot of a server.
#[derive(Debug)]
pub(super) struct Boot {
    pub host: usize,
    pub born: Time,
    pub died: Option<Time>,
    /// When it was told to stop: that, and its end, excuses nothing.
    pub drained: Option<Time>,
    /// When it died, what of the rows was on disk had been handed over then.
    pub stored: Time,
    /// What it had shown since then, it may have lost when it died.
    pub lost_since: Option<Time>,
    /// The names it began with.
    pub names: BTreeSet<String>,
    /// What it accepted, in its order.
    pub accepted: Vec<MessageId>,
    /// How far it holds the streams of other boots.
    pub holds: BTreeMap<usize, u64>,
    /// The simulator's own connection to it, since when that hears, and what it heard when.
    pub tap: Option<PipeId>,
    pub hears_since: Option<Time>,
    pub heard: BTreeMap<MessageId, Time>,
    /// The highest number it heard of each device.
    pub highest: BTreeMap<usize, usize>,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub boots: Vec<Boot>,
    streams: BTreeMap<StreamId, usize>,
    /// By device, from number 1 on.
    pub messages: Vec<Vec<Message>>,
}

impl Ledger {
    pub fn boot(&mut self, now: Time, host: usize, stream: StreamId) -> usize {
        self.boots.push(Boot {
            host,
            born: now,
            died: None,
            drained: None,
            stored: Time::START,
            lost_since: None,
            names: BTreeSet::new(),
            accepted: Vec::new(),
            holds: BTreeMap::new(),
            tap: None,
            hears_since: None,
            heard: BTreeMap::new(),
            highest: BTreeMap::new(),
        });
        self.streams.insert(stream, self.boots.len() - 1);
        self.boots.len() - 1
    }

    pub fn get(&self, id: MessageId) -> Option<&Message> {
        self.messages.get(id.device)?.get(id.k.checked_sub(1)?)
    }

    pub fn get_mut(&mut self, id: MessageId) -> Option<&mut Message> {
        self.messages.get_mut(id.device)?.get_mut(id.k.checked_sub(1)?)
    }

    /// A server accepted a message.
    pub fn accept(&mut self, at: Time, boot: usize, id: MessageId) {
        self.boots[boot].accepted.push(id);
        let seq = self.boots[boot].accepted.len() as u64;
        let accepted = Accepted { id, at, boot, seq };
        match self.get_mut(id) {
            Some(message) if message.accepted.is_some() => message.again.push(accepted),
            Some(message) => message.accepted = Some(accepted),
            None => {}
        }
    }

    /// A server holds one more message of a stream.
    pub fn hold(&mut self, boot: usize, stream: StreamId, seq: u64) {
        if let Some(origin) = self.streams.get(&stream) {
            let held = self.boots[boot].holds.entry(*origin).or_default();
            *held = (*held).max(seq);
        }
    }

    /// A boot begins with what was in the journal.
    pub fn heard_before(&mut self, now: Time, boot: usize, ids: &BTreeSet<MessageId>) {
        let boot = &mut self.boots[boot];
        for id in ids {
            boot.heard.insert(*id, now);
            let highest = boot.highest.entry(id.device).or_default();
            *highest = (*highest).max(id.k);
        }
    }

    pub fn holds(&self, boot: usize, accepted: &Accepted) -> bool {
        let message = self.get(accepted.id);
        let copies = message.into_iter().flat_map(|message| message.accepted.iter().chain(&message.again));
        [accepted].into_iter().chain(copies).any(|copy| {
            boot == copy.boot || self.boots[boot].holds.get(&copy.boot).is_some_and(|upto| *upto >= copy.seq)
        })
    }

    /// The message with this number of a stream.
    pub fn named(&self, stream: StreamId, seq: u64) -> Option<MessageId> {
        let boot = &self.boots[*self.streams.get(&stream)?];
        boot.accepted.get(seq.checked_sub(1)? as usize).copied()
    }

    /// How long one boot has been lacking what another has accepted.
    pub fn lag(&self, now: Time, from: usize, to: usize) -> Duration {
        let held = self.boots[to].holds.get(&from).copied().unwrap_or_default();
        let next = self.boots[from].accepted.get(held as usize).and_then(|id| self.get(*id));
        next.and_then(|message| message.accepted).map_or(Duration::ZERO, |accepted| now.since(accepted.at))
    }

    /// All boots that ever held it.
    pub fn holders(&self, accepted: &Accepted) -> impl Iterator<Item = usize> {
        let accepted = *accepted;
        (0..self.boots.len()).filter(move |boot| self.holds(*boot, &accepted))
    }

    /// Some server that lives holds it.
    pub fn is_held(&self, accepted: &Accepted) -> bool {
        self.holders(accepted).any(|boot| self.boots[boot].died.is_none())
    }

    /// A boot had shown it, and its disk outlived its end, and is not lost since.
    pub fn is_kept(&self, boot: usize, id: MessageId) -> bool {
        let later = &self.boots[boot + 1..];
        let boot = &self.boots[boot];
        let shown = boot.heard.get(&id);
        let is_lost = |later: &Boot| later.host == boot.host && later.lost_since == Some(Time::START);
        boot.died.is_some()
            && shown.is_some_and(|at| boot.lost_since.is_none_or(|lost| *at < lost))
            && !later.iter().any(is_lost)
    }

    /// All messages that were accepted.
    pub fn accepted(&self) -> impl Iterator<Item = (MessageId, &Message, Accepted)> {
        self.messages.iter().enumerate().flat_map(|(device, all)| {
            all.iter().enumerate().filter_map(move |(i, message)| {
                message.accepted.map(|accepted| (MessageId { device, k: i + 1 }, message, accepted))
            })
        })
    }
}

/// The device and number in an activity or in a broadcast of one.
pub(super) fn stamp(line: &[u8]) -> Option<MessageId> {
    let number = |key: &[u8]| -> Option<usize> {
        let at = memchr::memmem::find(line, key)? + key.len();
        let digits = line[at..].iter().take_while(|b| b.is_ascii_digit());
        Some(digits.fold(0, |n, b| n * 10 + usize::from(b - b'0')))
    };
    Some(MessageId { device: number(b"\"d\":")?, k: number(b"\"k\":")? })
}
