//! Deadlines. Every kind lasts equally long for all, so each kind is a queue that is nearly in order by
//! itself: setting one is a push, and an idle session has none at all.
//!
//! Nothing is cancelled. A deadline that no longer means anything is recognised when it is reached: by
//! the generation in its link's id, or by what it finds there.

use std::collections::VecDeque;

use super::Node;
use super::link::Phase;
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, UserId};
use crate::base::time::Time;

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// The connection must have logged in.
    Login(LinkId),
    /// The refusal may be sent.
    Refusal(LinkId),
    /// The silent session gets its broadcasts.
    Silent(LinkId),
    /// The closing link must have taken bytes.
    Closing(LinkId),
    /// The half-closed link must have said EOF.
    Drain(LinkId),
    /// The link to a server must have been proven.
    Handshake(LinkId),
    /// Peers are told that we live, and silent ones are found.
    Heartbeat,
    /// Some address may be due to be dialled.
    Dial,
    /// Own messages may have waited long enough for a second copy.
    SecondCopy,
    /// Messages may have waited long enough for what came before elsewhere.
    Prev,
    /// Something asked for may not have come.
    Fetch,
    /// Peers are told what is held and confirmed.
    Frontier,
    /// A claim, ours or another's, may have waited long enough.
    Claim(Generation),
    /// What is asked about a name may have been asked for long enough.
    Ask(u64),
    /// A registration of ours may have waited long enough.
    Registration(Generation),
    /// A peer's claim to a name may be forgotten.
    Kept(Generation),
    /// Logins wait no longer for the first peer's knowledge.
    FirstSync,
    /// What this name was owed may have grown too old.
    Away(UserId),
    /// The name's fast check may be forgotten.
    Verifier(UserId),
    /// Rows that the disk did not take may be tried again.
    Rows,
    /// A stopping server looks how far it is.
    Leave,
    /// Peers are to be told our load.
    Announce,
    /// Some clients may be sent to servers that have fewer.
    Spread,
    /// Another server may be wanted, or have come.
    Scale,
}

const KINDS: usize = 24;
const AWAY: usize = 5;
/// Places a queue keeps when it is empty.
const CAPACITY_KEPT: usize = 256;

impl Timer {
    fn kind(self) -> usize {
        match self {
            Timer::Login(_) => 0,
            Timer::Refusal(_) => 1,
            Timer::Silent(_) => 2,
            Timer::Closing(_) => 3,
            Timer::Drain(_) => 4,
            Timer::Away(_) => AWAY,
            Timer::Verifier(_) => 6,
            Timer::Rows => 19,
            Timer::Handshake(_) => 7,
            Timer::Heartbeat => 8,
            Timer::Dial => 9,
            Timer::FirstSync => 10,
            Timer::SecondCopy => 11,
            Timer::Prev => 12,
            Timer::Fetch => 13,
            Timer::Frontier => 14,
            Timer::Claim(_) => 15,
            Timer::Ask(_) => 16,
            Timer::Registration(_) => 17,
            Timer::Kept(_) => 18,
            Timer::Leave => 20,
            Timer::Announce => 21,
            Timer::Spread => 22,
            Timer::Scale => 23,
        }
    }
}

/// One queue a kind. Invariant: each rises.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queues: [VecDeque<(Time, Timer)>; KINDS],
}

impl Timers {
    /// Sets a deadline. It nearly always goes to the back; a refusal that took a while goes a little before.
    pub fn set(&mut self, at: Time, timer: Timer) {
        let queue = &mut self.queues[timer.kind()];
        if queue.back().is_none_or(|(last, _)| *last <= at) {
            queue.push_back((at, timer));
        } else {
            let place = queue.partition_point(|(other, _)| *other <= at);
            queue.insert(place, (at, timer));
        }
    }

    /// The earliest deadline, also one that no longer means anything.
    pub fn next(&self) -> Option<Time> {
        self.queues.iter().filter_map(|q| q.front().map(|(at, _)| *at)).min()
    }

    /// Takes the earliest deadline if it is reached. A server that was stopped for a while finds many at once,
    /// and what was to be first must be first then, too.
    pub fn expired(&mut self, now: Time) -> Option<Timer> {
        let fronts = self.queues.iter().enumerate().filter_map(|(i, q)| q.front().map(|(at, _)| (*at, i)));
        let (_, first) = fronts.min().filter(|(at, _)| *at <= now)?;
        let queue = &mut self.queues[first];
        let (_, timer) = queue.pop_front()?;
        // A storm of logins must not be remembered by the memory it took.
        if queue.capacity() > CAPACITY_KEPT && queue.len() < queue.capacity() / 4 {
            queue.shrink_to(queue.capacity() / 2);
        }
        Some(timer)
    }

    /// Takes login deadlines from the front while `done` says that they no longer mean anything, so
    /// that a storm of logins does not leave one behind for each.
    pub fn forget_logins(&mut self, done: impl Fn(LinkId) -> bool) {
        let queue = &mut self.queues[0];
        while let Some((_, Timer::Login(id))) = queue.front()
            && done(*id)
        {
            queue.pop_front();
        }
    }
}

impl Node {
    /// What was due happens.
    pub(super) fn on_time(&mut self) {
        self.delivery.lags.flushed(self.now);
        self.delivery.start_turn();
        self.take_more();
        self.sync_more();
        while let Some(timer) = self.timers.expired(self.now) {
            match timer {
                Timer::Login(link) => self.on_no_login(link),
                Timer::Refusal(link) => {
                    if self.link(link).is_some_and(|l| l.phase == Phase::Refusing) {
                        self.begin_close(link);
                    }
                }
                Timer::Silent(link) => {
                    if let Some(l) = self.link_mut(link).filter(|l| l.phase == Phase::Silent) {
                        l.phase = Phase::Online;
                        self.enqueue(link);
                        self.place(link);
                    }
                }
                Timer::Closing(link) => self.on_closing(link),
                Timer::Drain(link) => {
                    if self.link(link).is_some_and(|l| l.phase == Phase::Draining) {
                        self.abandon(link);
                    }
                }
                Timer::Handshake(link) => self.on_handshake(link),
                Timer::Heartbeat => self.on_heartbeat(),
                Timer::Dial => self.on_dial(),
                Timer::FirstSync => self.in_step(),
                Timer::SecondCopy => self.on_second_copy(),
                Timer::Prev => self.on_prev_timer(),
                Timer::Fetch => self.on_fetch_timer(),
                Timer::Frontier => self.on_frontier_timer(),
                Timer::Claim(claim) => self.on_claim_timer(claim),
                Timer::Ask(ask) => self.on_ask_timer(ask),
                Timer::Registration(stamp) => self.on_registration_timer(stamp),
                Timer::Kept(stamp) => self.on_kept_timer(stamp),
                Timer::Away(user) => self.on_away(user),
                Timer::Verifier(user) => self.on_verifier(user),
                Timer::Leave => self.on_leave_timer(),
                Timer::Announce => self.on_announce_timer(),
                Timer::Spread => self.on_spread_timer(),
                Timer::Scale => self.on_scale_timer(),
                // Its commit is the turn's next action.
                Timer::Rows => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_come_in_order_and_only_when_reached() {
        let id = |slot| LinkId { slot, generation: 1 };
        let at = |ms| Time::START + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(at(20), Timer::Login(id(1)));
        timers.set(at(30), Timer::Login(id(2)));
        timers.set(at(10), Timer::Drain(id(3)));
        timers.set(at(15), Timer::Login(id(4)));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.expired(at(9)), None);
        assert_eq!(timers.expired(at(10)), Some(Timer::Drain(id(3))));
        assert_eq!(timers.expired(at(20)), Some(Timer::Login(id(4))));
        assert_eq!(timers.expired(at(20)), Some(Timer::Login(id(1))));
        timers.set(at(22), Timer::Drain(id(5)));
        timers.set(at(21), Timer::Ask(1));
        assert_eq!(timers.expired(at(25)), Some(Timer::Ask(1)));
        assert_eq!(timers.expired(at(25)), Some(Timer::Drain(id(5))));
        timers.forget_logins(|link| link.slot == 2);
        assert_eq!(timers.next(), None);
    }
}
