//! Who is to be written to, what, and how far it got.
//!
//! A link that has everything is a *follower*: when the feed grows, all followers are owed, so one walk
//! over them is a flush and costs nothing per message. Any other link with something to get stands in the
//! queue. A blocked link stands nowhere until the shell says that it takes bytes again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::counters::CloseReason;
use super::lag::Lags;
use super::link::{Link, Phase, Who, id};
use super::mesh::PeerId;
use super::registry::NO_SLOT;
use super::sweep::Followers;
use super::{Action, Node, Timer};
use crate::base::feed::{Feed, Offset};
use crate::base::id::LinkId;
use crate::base::limits::{CLOSING, CONFIRM, DRAIN, REDIRECTED, WRITE_BYTES};
use crate::base::spans::Range;

/// What is said, and the links it goes to.
///
/// Invariant: a follower is `Online`, not blocked, and stands at its `place` of `followers`.
#[derive(Debug)]
pub(super) struct Delivery {
    pub feed: Feed,
    pub(super) lags: Lags,
    followers: Followers,
    queue: VecDeque<LinkId>,
    /// Blocked readers by the offset they stood at when they came in here; each is in once at most.
    pub(super) trailing: BinaryHeap<Reverse<(Offset, LinkId)>>,
    /// Pieces of the feed that the disk was asked for, and the readers that wait for them.
    pub(super) asked: BTreeMap<Offset, Vec<LinkId>>,
    /// Links that took a full write and are owed more: their next comes after everybody else's.
    later: Vec<LinkId>,
    /// Frames that readers pass over, in order.
    pub(super) hidden: VecDeque<Range>,
    /// The feed's end when all links had last been written to.
    pub(super) turn_from: Offset,
}

impl Delivery {
    pub fn new(feed_bytes: usize) -> Delivery {
        Delivery {
            feed: Feed::new(feed_bytes),
            lags: Lags::default(),
            followers: Followers::default(),
            queue: VecDeque::new(),
            trailing: BinaryHeap::new(),
            asked: BTreeMap::new(),
            later: Vec::new(),
            hidden: VecDeque::new(),
            turn_from: 0,
        }
    }

    /// Bytes that this turn may still append. More than half a ring between two flushes would be gone from it
    /// before the journal, and readers that keep up, had it.
    pub fn room(&self) -> usize {
        (self.feed.capacity() / 2).saturating_sub((self.feed.tail() - self.turn_from) as usize)
    }

    /// True when clients have filled their half of that.
    pub fn is_turn_full(&self) -> bool {
        self.room() < self.feed.capacity() / 4
    }

    /// A turn begins: those put off have their turn again.
    pub fn start_turn(&mut self) {
        self.queue.extend(self.later.drain(..));
    }

    /// True when there is something to write without waiting for anything.
    pub fn is_pending(&self) -> bool {
        !self.later.is_empty() || !self.queue.is_empty() || self.followers.is_pending(self.feed.tail())
    }
}

/// The bytes to write to one link now: the pieces in order, empty ones last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transmit<'a> {
    /// Each is contiguous.
    pub parts: [&'a [u8]; 4],
}

impl<'a> Transmit<'a> {
    fn of(parts: [&'a [u8]; 4]) -> Transmit<'a> {
        let mut transmit = Transmit::default();
        parts.into_iter().filter(|p| !p.is_empty()).zip(&mut transmit.parts).for_each(|(p, at)| *at = p);
        transmit
    }

    /// Bytes in all parts.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|p| p.len()).sum()
    }
}

/// What a link's next write consists of: answers, feed, answers.
#[derive(Clone, Copy)]
struct Plan {
    first: bool,
    feed: Range,
    last: bool,
}

pub(super) const NO_FEED: Range = Range { from: 0, to: 0 };

impl Node {
    /// A link that is owed bytes and takes them. Ask until there is none; for each, call
    /// [`Node::transmit`], write, and report by [`Node::sent`], then [`Node::blocked`] if the socket took
    /// less than all.
    pub fn writable(&mut self) -> Option<LinkId> {
        if let Some(link_id) = self.writable_peer() {
            return Some(link_id);
        }
        self.close_fallen();
        self.give_acks();
        loop {
            if let Some(link_id) = self.writable_queued().or_else(|| self.writable_follower()) {
                return Some(link_id);
            }
            if self.delivery.queue.is_empty() {
                self.delivery.turn_from = self.delivery.feed.tail();
                return None;
            }
        }
    }

    fn writable_queued(&mut self) -> Option<LinkId> {
        while let Some(link_id) = self.delivery.queue.pop_front() {
            let Some(link) = self.link_mut(link_id) else { continue };
            link.queued = false;
            if link.blocked || self.fell_off(link_id) {
                continue;
            }
            self.prepare(link_id);
            let plan = self.plan(self.at(link_id));
            if plan.first || plan.last || !plan.feed.is_empty() {
                return Some(link_id);
            }
            if let Some(at) = self.lacks(self.at(link_id)) {
                self.ask_disk(at, Some(link_id));
                continue;
            }
            self.served(link_id);
        }
        None
    }

    fn writable_follower(&mut self) -> Option<LinkId> {
        let tail = self.delivery.feed.tail();
        while let Some(slot) = self.delivery.followers.next(tail) {
            let slot = slot as usize;
            let link_id = id(slot, &self.links[slot]);
            self.prepare(link_id);
            let link = &self.links[slot];
            if link.spans.current().is_none_or(|r| r.from == tail) {
                self.delivery.followers.pass();
            } else if self.lacks(link).is_some() {
                self.unfollow(link_id);
                self.enqueue(link_id);
            } else if !self.fell_off(link_id) {
                return Some(link_id);
            }
        }
        None
    }

    /// The bytes to write to this link now.
    pub fn transmit(&self, link_id: LinkId) -> Transmit<'_> {
        let Some(link) = self.link(link_id) else { return Transmit::default() };
        if let Who::Server(slot) = link.who {
            return Transmit { parts: [self.peer_bytes(PeerId(slot)), &[], &[], &[]] };
        }
        let plan = self.plan(link);
        let (a, b) = self.delivery.feed.read(plan.feed.from, plan.feed.to);
        if !plan.first && !plan.last {
            return Transmit { parts: [a, b, &[], &[]] };
        }
        let part = |wanted: bool, range: (usize, usize)| match link.answers.as_ref() {
            Some(answers) if wanted => &answers.bytes[range.0..range.1],
            _ => &[],
        };
        let (first, last) = link.answers.as_ref().map_or(((0, 0), (0, 0)), |answers| answers.parts());
        Transmit::of([part(plan.first, first), a, b, part(plan.last, last)])
    }

    /// The socket took the first `n` bytes of what [`Node::transmit`] gave.
    pub fn sent(&mut self, link_id: LinkId, n: usize) {
        let Some(link) = self.link(link_id) else { return };
        if let Who::Server(slot) = link.who {
            return self.peer_sent(PeerId(slot), n);
        }
        let plan = self.plan(link);
        let tail = self.delivery.feed.tail();
        let link = &mut self.links[link_id.slot as usize];
        link.progressed |= n > 0;
        let mut left = n;
        if plan.first {
            left -= take_answers(link, left);
        }
        let fed = (left as u64).min(plan.feed.to - plan.feed.from);
        if fed > 0 {
            let cursor = plan.feed.from + fed;
            link.mid_frame = cursor != tail && !self.delivery.feed.is_border(cursor);
            if link.spans.advance(fed)
                && let Some(next) = link.spans.current()
            {
                link.sent.jump(cursor, next.from);
            }
            let Delivery { feed, lags, .. } = &mut self.delivery;
            self.counters.deliveries += lags.wrote(feed, plan.feed.from, cursor, link.sent.live_from());
            link.sent.trim(cursor);
            self.counters.sent_bytes += fed;
        }
        if plan.last {
            take_answers(link, left - fed as usize);
        }
        if !self.sessions.late.is_empty() {
            self.join_late(link_id);
        }
        let link = &self.links[link_id.slot as usize];
        if fed == tail - plan.feed.from && link.place != NO_SLOT && link.answers.is_none() {
            return; // A follower that has everything: the usual case.
        }
        if fed == WRITE_BYTES {
            self.unfollow(link_id);
            self.delivery.later.push(link_id);
        } else {
            self.enqueue(link_id);
        }
    }

    /// The socket took less than it was offered; it will be [`Node::unblocked`].
    pub fn blocked(&mut self, link_id: LinkId) {
        let Some(link) = self.link_mut(link_id) else { return };
        link.blocked = true;
        if let Some(range) = link.spans.current()
            && !std::mem::replace(&mut link.trailing, true)
        {
            self.delivery.trailing.push(Reverse((range.from, link_id)));
        }
        self.unfollow(link_id);
    }

    /// The socket takes bytes again.
    pub fn unblocked(&mut self, link_id: LinkId) {
        if let Some(link) = self.link_mut(link_id)
            && std::mem::take(&mut link.blocked)
        {
            if link.phase == Phase::Peer {
                return self.mesh.wake();
            }
            self.enqueue(link_id);
        }
    }

    /// Puts the link in the queue to be written to.
    pub(super) fn enqueue(&mut self, link_id: LinkId) {
        let Some(link) = self.link_mut(link_id) else { return };
        if !link.queued && !link.blocked {
            link.queued = true;
            self.delivery.queue.push_back(link_id);
        }
    }

    /// Takes the link out of the followers.
    pub(super) fn unfollow(&mut self, link_id: LinkId) {
        let Some(link) = self.link_mut(link_id) else { return };
        let place = std::mem::replace(&mut link.place, NO_SLOT) as usize;
        if place == NO_SLOT as usize {
            return;
        }
        if let Some(moved) = self.delivery.followers.remove(place) {
            self.links[moved as usize].place = place as u32;
        }
    }

    /// What the link's next write consists of.
    #[inline]
    fn plan(&self, link: &Link) -> Plan {
        let stop = link.stop();
        let announced = link.ids().map_or(Offset::MAX, |ids| ids.announced);
        let feed_to = |stop: Offset| self.feed_part(link, stop.min(announced));
        let Some(answers) = link.answers.as_ref() else {
            return Plan { first: false, feed: feed_to(stop), last: false };
        };
        if matches!(link.phase, Phase::Draining | Phase::Gone) {
            return Plan { first: false, feed: NO_FEED, last: false };
        }
        let (first, last) = answers.parts();
        if link.mid_frame {
            let at = link.spans.current().map_or(0, |r| r.from);
            return Plan {
                first: false,
                feed: feed_to(stop.min(self.delivery.feed.frame_end(at))),
                last: false,
            };
        }
        let feed = feed_to(stop);
        let is_end = || link.spans.owed(stop.min(self.delivery.feed.tail())) == feed.to - feed.from;
        let last = link.phase == Phase::Closing && last.0 < last.1 && is_end() && !link.awaits_own();
        Plan { first: first.0 < first.1, feed, last }
    }

    /// A link of the queue has nothing more to get: what comes next for it?
    fn served(&mut self, link_id: LinkId) {
        let now = self.now;
        let Some(phase) = self.link(link_id).map(|link| link.phase) else { return };
        if phase == Phase::Online && self.at(link_id).place == NO_SLOT {
            self.links[link_id.slot as usize].place = self.delivery.followers.push(link_id.slot);
        }
        let Some(link) = self.link_mut(link_id) else { return };
        match phase {
            Phase::Closing if link.awaits_own() => {}
            Phase::Closing if link.eof && !matches!(link.who, Who::User(_)) => self.abandon(link_id),
            Phase::Closing => {
                link.phase = Phase::Draining;
                let drain = match link.is_leaving() {
                    true => REDIRECTED,
                    // It has said all; a moment later it is known what it has got.
                    false if link.eof => CONFIRM,
                    false => DRAIN,
                };
                let has_ended = link.eof;
                self.timers.set(now + drain, Timer::Drain(link_id));
                self.actions.push_back(Action::Shutdown(link_id));
                if has_ended {
                    self.actions.push_back(Action::Measure(link_id));
                }
            }
            _ => {}
        }
    }

    /// The closing link's deadline: goes on while bytes are taken.
    pub(super) fn on_closing(&mut self, link_id: LinkId) {
        let deadline = self.now + CLOSING;
        let Some(link) = self.link_mut(link_id).filter(|l| l.phase == Phase::Closing) else { return };
        if std::mem::take(&mut link.progressed) {
            self.timers.set(deadline, Timer::Closing(link_id));
        } else {
            self.abort(link_id, CloseReason::CloseTimedOut);
        }
    }
}

/// Up to `n` bytes of the next part of the answers went out. Returns how many that is.
fn take_answers(link: &mut Link, n: usize) -> usize {
    let Some(answers) = link.answers.as_mut() else { return 0 };
    let (first, last) = answers.parts();
    let part = if first.0 < first.1 { first } else { last };
    let taken = n.min(part.1 - part.0);
    answers.at += taken;
    if answers.at == answers.bytes.len() {
        link.answers = None;
    }
    let cursor = link.spans.current().map_or(0, |r| r.from);
    link.sent.answer(cursor, taken as u64);
    taken
}
