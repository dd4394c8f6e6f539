//! How many clients each server should have, and who may send how many where. Nothing but sums; what hangs
//! on them is in `spread.rs`.
//!
//! The *target* decides. It fills all servers like vessels with one level ([`shares`]), and grants those that
//! stand above it what it has room for itself ([`grants`]). A grant is a total since the link began, so one
//! that is lost or comes twice changes nothing. What was granted counts as here until it came, or for
//! [`CREDIT`]: so two servers never fill the same room, and none sends back what it was sent.

use std::collections::VecDeque;

use crate::base::id::ServerId;
use crate::base::limits::{CREDIT, SPARE_PART};
use crate::base::time::Time;

/// Clients of one kind on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vessel {
    pub id: ServerId,
    pub load: u64,
    /// How many it should have at most.
    pub most: u64,
}

impl Vessel {
    /// What one server is to have more of than another, if there is one too many: who has more anyway.
    fn rank(&self) -> (std::cmp::Reverse<u64>, ServerId) {
        (std::cmp::Reverse(self.load), self.id)
    }
}

/// How many each should have: as even as it goes without going above what it should have at most. The same
/// on all servers that know the same. If all are full each gets its most.
pub(super) fn shares(all: &[Vessel]) -> Vec<u64> {
    let mut shares: Vec<u64> = all.iter().map(|vessel| vessel.most).collect();
    let mut left: u64 = all.iter().fold(0, |sum, vessel| sum.saturating_add(vessel.load));
    let mut open: Vec<usize> = (0..all.len()).collect();
    open.sort_by_key(|i| all[*i].rank());
    while !open.is_empty() {
        let level = left / open.len() as u64;
        let n = open.len();
        let taken: u64 = open.iter().map(|i| all[*i].most).filter(|most| *most <= level).sum();
        open.retain(|i| all[*i].most > level);
        left -= taken;
        if open.len() == n {
            let more = left % n as u64;
            for (place, i) in open.iter().enumerate() {
                shares[*i] = level + u64::from((place as u64) < more);
            }
            break;
        }
    }
    shares
}

/// How many more clients each of the `others` may send to `own`: together never more than its share is above
/// its load. Servers below their share are given to in the order of their ids, from those above theirs in the
/// order of their loads; all that know the same decide the same.
pub(super) fn grants(own: Vessel, others: &[Vessel]) -> Vec<u64> {
    let mut all = others.to_vec();
    all.push(own);
    let shares = shares(&all);
    let over = |i: usize| all[i].load.saturating_sub(shares[i]);
    let room = |i: usize| shares[i].saturating_sub(all[i].load);
    let before = (0..all.len()).filter(|i| all[*i].id < own.id).map(room);
    let mut skip = before.fold(0, u64::saturating_add);
    let mut mine = room(others.len());
    let mut sources: Vec<usize> = (0..others.len()).filter(|i| over(*i) > 0).collect();
    sources.sort_by_key(|i| all[*i].rank());
    let mut grants = vec![0; others.len()];
    for i in sources {
        let skipped = over(i).min(skip);
        skip -= skipped;
        grants[i] = mine.min(over(i) - skipped);
        mine -= grants[i];
    }
    grants
}

/// How full a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// Clients it has.
    pub load: u64,
    /// Those that are on their way there.
    pub expected: u64,
    /// How many it should have at most, if there is a bound.
    pub most: Option<u64>,
}

/// Some server has more clients than it should, and none has room.
pub(super) fn is_full(all: &[Standing]) -> bool {
    let has_room = |one: &Standing| one.most.is_none_or(|most| one.load.saturating_add(one.expected) < most);
    all.iter().any(|one| one.most.is_some_and(|most| one.load > most)) && !all.iter().any(has_room)
}

/// One in [`SPARE_PART`] places of these servers is free. No servers have none.
pub(super) fn have_to_spare(all: &[Standing]) -> bool {
    let sum = |of: fn(&Standing) -> u64| all.iter().map(of).fold(0, u64::saturating_add);
    let (load, most) =
        (sum(|one| one.load.saturating_add(one.expected)), sum(|one| one.most.unwrap_or(u64::MAX)));
    !all.is_empty() && load <= most - most.div_ceil(SPARE_PART)
}

/// What a server granted to another, and what came of it. Totals since the link began.
#[derive(Debug, Default)]
pub(super) struct Inflow {
    /// What the other may have sent in all.
    granted: u64,
    /// What it says that it has sent, and what came or is not waited for any more.
    sent: u64,
    arrived: u64,
    /// Since when what is open may be used.
    since: Time,
    /// When it said that it had sent so many.
    told: VecDeque<(Time, u64)>,
}

impl Inflow {
    fn used(&self) -> u64 {
        self.sent.max(self.arrived)
    }

    /// Granted, and not used as far as is known: these clients are still there.
    pub fn open(&self) -> u64 {
        self.granted.saturating_sub(self.used())
    }

    /// Sent as far as is known, and not here yet: these clients are on no server.
    pub fn coming(&self) -> u64 {
        self.used() - self.arrived
    }

    /// All that may still come.
    pub fn expected(&self) -> u64 {
        self.granted.max(self.used()) - self.arrived
    }

    pub fn granted(&self) -> u64 {
        self.granted
    }

    pub fn arrived(&self) -> u64 {
        self.arrived
    }

    pub fn grant(&mut self, now: Time, more: u64) {
        if more > 0 {
            self.granted = self.granted.max(self.used()).saturating_add(more);
            self.since = now;
        }
    }

    /// The other says that it has sent so many in all.
    pub fn hear(&mut self, now: Time, sent: u64) {
        if sent > self.sent {
            self.sent = sent;
            self.since = now;
            self.told.push_back((now, sent));
        }
    }

    /// One came that the other has sent.
    pub fn arrive(&mut self) {
        self.arrived += u64::from(self.expected() > 0);
        while self.told.front().is_some_and(|(_, sent)| *sent <= self.arrived) {
            self.told.pop_front();
        }
    }

    /// Nothing is waited for any more that was long enough.
    pub fn expire(&mut self, now: Time) {
        while let Some((at, sent)) = self.told.front().copied().filter(|(at, _)| *at + CREDIT <= now) {
            log::trace!("what was sent at {at:?}, {sent} in all, does not come");
            self.arrived = self.arrived.max(sent);
            self.told.pop_front();
        }
        if self.since + CREDIT <= now {
            self.granted = self.used();
        }
    }

    /// When something is not waited for any more.
    pub fn expires(&self) -> Option<Time> {
        let sent = self.told.front().map(|(at, _)| *at + CREDIT);
        let open = (self.open() > 0).then_some(self.since + CREDIT);
        sent.into_iter().chain(open).min()
    }
}

/// What another server granted to this one. Totals since the link began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outflow {
    pub credit: u64,
    pub sent: u64,
    /// Of those it says that they came.
    pub landed: u64,
}

impl Outflow {
    /// How many may still be sent.
    pub fn left(&self) -> u64 {
        self.credit.saturating_sub(self.sent)
    }

    /// How many are on their way.
    pub fn on_way(&self) -> u64 {
        self.sent.saturating_sub(self.landed)
    }
}

#[cfg(test)]
mod tests;
