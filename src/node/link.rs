//! One connection: where it is in its life, what it is owed, what is on its way to it.

use std::net::{IpAddr, Ipv6Addr};

use super::asking::Verdict;
use super::hashing::Hashed;
use super::ids::Ids;
use super::registry::{NO_SLOT, Record};
use super::sent::Sent;
use crate::base::feed::Offset;
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, UserId};
use crate::base::spans::Spans;
use crate::base::time::Time;

/// Where a link is in its life. Later ones are never followed by earlier ones, but for the three that
/// wait (`Hashing`, `Asking`, `Claiming`), which go back and forth before a session starts.
///
/// ```text
///  New ⇄ Hashing, Asking ⇄ Claiming → Silent → Online → Closing → Draining → Gone
///   └────── Refusing ───────────────────────────────┘
///  Dialing, or New → Upgrading ──→ Peer → Gone
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nothing is known; may log in, register or speak.
    New,
    /// A thread hashes its secret; its line comes again.
    Hashing,
    /// Its name is claimed, or it waits for this server to be in step; its line comes again.
    Claiming,
    /// Other servers are asked about its name; its line comes again.
    Asking,
    /// Its refusal waits for its time.
    Refusing,
    /// A session that has not said LOGIN: gets answers, and broadcasts after a while.
    Silent,
    /// A session.
    Online,
    /// Gets what it is owed up to a point, then its last answer; what it says is ignored.
    Closing,
    /// Our side is shut; waits for the other.
    Draining,
    /// The shell was told to close it.
    Gone,
    /// Dials another server.
    Dialing,
    /// Said that it is another server's; the shell has that proven.
    Upgrading,
    /// Is another server's.
    Peer,
}

/// Whose session a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    Anonymous,
    User(UserId),
    /// Its place among the peers.
    Server(u32),
}

/// What only a link that comes or goes needs; a session in between has none, unless its client has an id.
#[derive(Debug)]
pub(super) struct Aside {
    /// The client's address, as far as it tells clients apart.
    pub address: IpAddr,
    /// When the line came that a thread hashes the secret of.
    pub asked_at: Option<Time>,
    /// What the threads found for it.
    pub hashed: Option<Hashed>,
    /// The registration whose record they look at.
    pub verifying: Option<Generation>,
    /// What the other servers said to what it wants.
    pub verdict: Option<Verdict>,
    /// LOGIN_SUCCESS was written before the login was over: its line, which comes again, was answered.
    pub answered: bool,
    /// It was sent to another server: however it ends, its user moved.
    pub redirected: bool,
    /// Where the feed of a link that is refused or closes ends.
    pub stop_at: Offset,
    /// That is not known before this own message is exposed.
    pub after: Option<u64>,
    /// Its client numbers what it says.
    pub ids: Option<Box<Ids>>,
}

/// Private answers on their way.
#[derive(Debug)]
pub(super) struct Answers {
    pub bytes: Vec<u8>,
    /// How many of the bytes went out.
    pub at: usize,
    /// From here on they wait for what is owed of the feed; those before go first.
    pub last_from: usize,
}

impl Default for Answers {
    fn default() -> Answers {
        Answers { bytes: Vec::new(), at: 0, last_from: usize::MAX }
    }
}

impl Answers {
    /// The bytes that go before the feed, and those that go behind.
    pub fn parts(&self) -> ((usize, usize), (usize, usize)) {
        let len = self.bytes.len();
        ((self.at, self.last_from.min(len)), (self.at.max(self.last_from).min(len), len))
    }
}

/// One connection. A hundred bytes or so: this, times very many, is the server's memory.
#[derive(Debug)]
pub(super) struct Link {
    pub generation: u32,
    pub phase: Phase,
    /// The kernel took less than offered; the shell says when it takes more.
    pub blocked: bool,
    /// It stands in the queue of links to be flushed.
    pub queued: bool,
    /// It stands in the heap of readers that may fall off the feed.
    pub trailing: bool,
    /// The last byte sent of the feed did not end a frame.
    pub mid_frame: bool,
    /// The client ended its side.
    pub eof: bool,
    /// It ended its session on purpose.
    pub logged_out: bool,
    /// It took bytes since its closing deadline was set.
    pub progressed: bool,
    pub who: Who,
    /// Its index among the followers, or `NO_SLOT`.
    pub place: u32,
    /// The next older and newer session of the name.
    pub older: u32,
    pub newer: u32,
    pub spans: Spans,
    pub sent: Sent,
    pub answers: Option<Box<Answers>>,
    pub aside: Option<Box<Aside>>,
}

const _: () = assert!(size_of::<Link>() <= 80, "docs/design.md says what a client costs");

impl Link {
    pub fn new(generation: u32, address: IpAddr) -> Link {
        Link {
            generation,
            phase: Phase::New,
            blocked: false,
            queued: false,
            trailing: false,
            mid_frame: false,
            eof: false,
            logged_out: false,
            progressed: false,
            who: Who::Nobody,
            place: NO_SLOT,
            older: NO_SLOT,
            newer: NO_SLOT,
            spans: Spans::NOTHING,
            sent: Sent::new(0, 0),
            answers: None,
            aside: Some(Box::new(Aside::new(origin(address)))),
        }
    }

    /// A link that dials another server.
    pub fn outgoing(generation: u32) -> Link {
        Link {
            phase: Phase::Dialing,
            aside: None,
            ..Link::new(generation, IpAddr::V6(Ipv6Addr::UNSPECIFIED))
        }
    }

    /// What a link has whose client numbers what it says.
    #[inline]
    pub fn ids(&self) -> Option<&Ids> {
        self.aside.as_ref()?.ids.as_deref()
    }

    pub fn ids_mut(&mut self) -> Option<&mut Ids> {
        self.aside.as_mut()?.ids.as_deref_mut()
    }

    pub fn aside_mut(&mut self) -> &mut Aside {
        self.aside.get_or_insert_with(|| Box::new(Aside::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED))))
    }

    /// True if a part of the last answer went out, or all of a REDIRECT: nothing comes before it any more, and
    /// nothing behind it.
    pub fn is_saying_last(&self) -> bool {
        match &self.answers {
            Some(answers) => answers.at > answers.last_from,
            None => self.aside.as_ref().is_some_and(|aside| aside.redirected),
        }
    }

    /// Puts a line before what is owed of the feed, behind other answers that go there.
    pub fn put_first(&mut self, line: &[u8]) {
        debug_assert!(!self.is_saying_last());
        let last_from = if matches!(self.phase, Phase::Refusing | Phase::Closing) { 0 } else { usize::MAX };
        let answers =
            self.answers.get_or_insert_with(|| Box::new(Answers { last_from, ..Answers::default() }));
        let at = answers.last_from.min(answers.bytes.len());
        answers.bytes.splice(at..at, line.iter().copied());
        if answers.last_from != usize::MAX {
            answers.last_from += line.len();
        }
    }

    /// True while it is not known where the feed of a closing link ends.
    pub fn awaits_own(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.after.is_some())
    }

    /// True for a link whose client is in: it hears what is said and may speak.
    pub fn is_session(&self) -> bool {
        matches!(self.phase, Phase::Silent | Phase::Online)
    }

    /// True for a session that was sent to another server and has not ended: its client may still speak.
    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Closing | Phase::Draining)
            && !self.eof
            && self.aside.as_ref().is_some_and(|aside| aside.redirected)
    }

    /// Where the link's feed ends: nowhere for a session, at once for one that must not hear it.
    #[inline]
    pub fn stop(&self) -> Offset {
        match self.phase {
            Phase::Online => Offset::MAX,
            Phase::Refusing | Phase::Closing => self.aside.as_ref().map_or(0, |aside| aside.stop_at),
            _ => 0,
        }
    }

    /// The record a thread made for it, if it did.
    pub fn made(&mut self) -> Option<Record> {
        match self.aside.as_mut()?.hashed.take()? {
            Hashed::Made(record) => Some(record),
            _ => None,
        }
    }
}

impl Aside {
    pub fn new(address: IpAddr) -> Aside {
        Aside {
            address,
            asked_at: None,
            hashed: None,
            verifying: None,
            verdict: None,
            answered: false,
            redirected: false,
            stop_at: Offset::MAX,
            after: None,
            ids: None,
        }
    }
}

/// What of an address tells clients apart: of IPv6 the first 64 bits, which one client has for itself.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// The id of the link at `slot`.
pub(super) fn id(slot: usize, link: &Link) -> LinkId {
    LinkId { slot: slot as u32, generation: link.generation }
}
