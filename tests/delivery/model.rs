//! What each session must hear, as sets of messages: the promise, without spans, cursors or byte counts.

use std::collections::BTreeSet;
use std::time::Duration;

use activitystreamer::base::id::LinkId;
use activitystreamer::base::time::Time;

use crate::schedule::Device;

/// A message's place in the order in which the server took them.
pub type Message = usize;

/// How far a session got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Spoke without LOGIN; hears nothing until then.
    Silent(Time),
    Online,
    /// Said its last word, or had it said; hears what was said up to then.
    Leaving,
    /// The server closed the connection, or it broke.
    Over,
}

/// One session and what it was promised.
#[derive(Debug)]
pub struct Session {
    pub device: Device,
    pub link: LinkId,
    pub state: State,
    /// Messages that earlier sessions of the name left to it.
    pub owed: BTreeSet<Message>,
    /// Messages that may come although they are not owed.
    pub perhaps: BTreeSet<Message>,
    /// The first message said while it was in X, and the first behind its end.
    pub from: Message,
    pub to: Message,
    /// Answers it must hear.
    pub logins: usize,
    pub babbled: bool,
    /// It sent LOGIN before it was to hear anything else.
    pub login_first: bool,
    pub logged_out: bool,
    /// It left in its silence, and so heard nothing.
    pub mute: bool,
    pub ended_side: bool,
    /// The rest of a line that was begun.
    pub half: Option<(u32, Vec<u8>)>,
    pub stalled: bool,
    /// Its connection broke.
    pub cut: bool,
    /// What it was still owed is its name's affair already.
    pub passed_on: bool,
    /// Bytes the server wrote when it was last looked at, and since when there are so many.
    pub written: usize,
    pub moved: Time,
}

impl Session {
    /// In order, what it must hear of the first `said` messages.
    pub fn expected(&self, said: Message) -> Vec<Message> {
        let live = self.from..self.to.min(said).max(self.from);
        self.owed.iter().copied().chain(live).collect()
    }

    /// A session that speaks and is spoken to.
    pub fn is_live(&self) -> bool {
        matches!(self.state, State::Silent(_) | State::Online)
    }
}

/// What a broken session left.
#[derive(Clone, Debug)]
pub struct Entry {
    pub since: Time,
    pub owed: BTreeSet<Message>,
    pub perhaps: BTreeSet<Message>,
    /// Everything said from now on, too.
    pub open: bool,
    /// What it is owed besides, because a login took or copied another entry; until then.
    pub low: Option<(Time, Box<Entry>)>,
}

/// What a name is owed: one entry for each session that broke, oldest first.
#[derive(Debug, Default)]
pub struct Mailbox {
    pub entries: Vec<Entry>,
    /// There may be an entry more, of a session whose stream was too broken to know: any message may come.
    pub blurred: bool,
}

impl Mailbox {
    pub fn said(&mut self, message: Message) {
        for entry in &mut self.entries {
            let low = entry.low.as_mut().map(|(_, low)| &mut **low).filter(|low| low.open);
            low.into_iter().for_each(|low| low.owed.extend([message]));
            if entry.open {
                entry.owed.insert(message);
            }
        }
    }

    /// Drops what is too old. Returns how much.
    pub fn expire(&mut self, now: Time, away: Duration) -> usize {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.since + away > now);
        before - self.entries.len()
    }

    /// A login takes the oldest entry and is owed what any of them is; those left are owed that, too, for as
    /// long as the oldest of it would have been. Which of those that broke at the same time is the oldest, is
    /// the server's to say.
    pub fn take(&mut self, now: Time, away: Duration) -> Option<Entry> {
        let until =
            |e: &Entry| e.low.as_ref().map_or(e.since + away, |(until, _)| (*until).min(e.since + away));
        let deadline = self.entries.iter().map(until).min()?;
        // An entry more may be the oldest, and what the others are lowered to ends with it.
        let deadline = if self.blurred { now } else { deadline };
        let (owed, perhaps) = (BTreeSet::new(), BTreeSet::new());
        let mut all = Entry { since: now, owed, perhaps, open: false, low: None };
        for entry in &self.entries {
            all.owed.extend(&entry.owed);
            all.perhaps.extend(&entry.perhaps);
            all.open |= entry.open;
            if let Some((until, low)) = &entry.low {
                let sure = if *until > now { &mut all.owed } else { &mut all.perhaps };
                sure.extend(&low.owed);
                all.perhaps.extend(&low.perhaps);
                all.open |= low.open;
            }
        }
        let oldest = self.entries.remove(0);
        for entry in &mut self.entries {
            if entry.since == oldest.since {
                entry.perhaps.extend(entry.owed.union(&oldest.owed).copied().collect::<Vec<_>>());
                entry.owed.retain(|message| oldest.owed.contains(message));
            }
            entry.low = Some((deadline, Box::new(all.clone())));
        }
        Some(all)
    }
}
