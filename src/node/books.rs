//! What a server knows of the others' loads, what it grants them and what they granted it: the two sides of
//! [`balance`](super::balance), for registered users and for anonymous clients.
//!
//! A server that was not heard for two announces and a second, is suspected, stops, or does not share, gives
//! nobody and gets nobody; nor does it count for the mean.

use std::collections::BTreeMap;
use std::time::Duration;

use super::balance::{Inflow, Outflow, Standing, Vessel, grants};
use crate::base::id::ServerId;
use crate::base::limits::{ANNOUNCE_LEAST, FORESEEN, GAIN, LOAD_BELIEVED};
use crate::base::time::Time;
use crate::wire::peer::Offer;

/// Registered users: they may be moved.
pub(super) const USERS: usize = 0;
/// Anonymous clients: they are placed when they log in.
pub(super) const GUESTS: usize = 1;

/// Another server.
#[derive(Debug, Default)]
struct Other {
    /// What it said last, and when.
    said: Option<(Time, Offer)>,
    rush: Rush,
    inflow: [Inflow; 2],
    outflow: [Outflow; 2],
}

impl Other {
    /// What it said, while that is believed.
    fn offer(&self, now: Time) -> Option<&Offer> {
        let (at, offer) = self.said.as_ref()?;
        let every = Duration::from_millis(offer.every_ms);
        let believed = every.saturating_mul(2).saturating_add(LOAD_BELIEVED);
        (now.since(*at) <= believed).then_some(offer)
    }
}

/// How fast users come to one server that nobody sent there. Where many do, room is granted before they are there:
/// at the end of a storm of logins all but a few are where they belong. Not for anonymous clients: where too many
/// of them were sent they stay.
#[derive(Clone, Copy, Debug, Default)]
struct Rush {
    /// When the number that came in all was taken.
    at: Time,
    came: u64,
    /// How many come in [`FORESEEN`] if it goes on like that.
    soon: u64,
}

impl Rush {
    fn hear(&mut self, now: Time, came: u64) {
        let gap = now.since(self.at).max(ANNOUNCE_LEAST);
        let more = came.saturating_sub(self.came);
        let soon = u128::from(more) * FORESEEN.as_millis() / gap.as_millis();
        *self = Rush { at: now, came, soon: soon.try_into().unwrap_or(u64::MAX) };
    }

    fn soon(&self, now: Time, kind: usize) -> u64 {
        if kind == USERS && now.since(self.at) <= FORESEEN { self.soon } else { 0 }
    }
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Sessions here.
    pub here: [u64; 2],
    /// Users whose sessions began here, and those of them that were sent here.
    began: u64,
    sent_here: u64,
    rush: Rush,
    /// How many there should be at most.
    pub most: Option<u64>,
    others: BTreeMap<ServerId, Other>,
}

impl Books {
    pub fn new(most: Option<u64>) -> Books {
        Books { most, ..Books::default() }
    }

    pub fn sessions(&self) -> u64 {
        self.here.iter().sum()
    }

    /// A session begins here.
    pub fn begin(&mut self, kind: usize) {
        self.here[kind] += 1;
        self.began += u64::from(kind == USERS);
    }

    /// Users that came and that nobody sent here, in all.
    fn came(&self) -> u64 {
        self.began.saturating_sub(self.sent_here)
    }

    /// The link to a server ended: what was granted on it is void.
    pub fn forget(&mut self, server: ServerId) {
        self.others.remove(&server);
    }

    /// A server says how it stands, or that it does not share.
    pub fn hear(&mut self, now: Time, server: ServerId, offer: Option<Offer>) {
        let other = self.others.entry(server).or_default();
        other.said = offer.map(|offer| (now, offer));
        let Some(offer) = offer else { return };
        other.rush.hear(now, offer.came);
        for kind in [USERS, GUESTS] {
            other.inflow[kind].hear(now, offer.sent[kind]);
            other.outflow[kind].credit = offer.credit[kind];
            other.outflow[kind].landed = offer.arrived[kind];
        }
    }

    /// Here, and about to be.
    fn expected(&self, kind: usize) -> u64 {
        let expected = self.others.values().map(|other| other.inflow[kind].expected());
        expected.fold(self.here[kind], u64::saturating_add)
    }

    /// Nothing is waited for any more that was long enough.
    pub fn expire(&mut self, now: Time) {
        let all = self.others.values_mut().flat_map(|other| &mut other.inflow);
        all.for_each(|inflow| inflow.expire(now));
    }

    /// When that is the case next.
    pub fn expires(&self) -> Option<Time> {
        self.others.values().flat_map(|other| &other.inflow).filter_map(Inflow::expires).min()
    }

    /// Grants others what there is room for.
    pub fn issue(&mut self, now: Time, own: ServerId, is_lively: impl Fn(ServerId) -> bool) {
        self.rush.hear(now, self.came());
        for kind in [USERS, GUESTS] {
            let most =
                |most: Option<u64>, taken: u64| most.map_or(u64::MAX, |most| most.saturating_sub(taken));
            let taken = self.expected(1 - kind);
            let load = self.expected(kind).saturating_add(self.rush.soon(now, kind));
            let own = Vessel { id: own, load, most: most(self.most, taken) };
            let known = self.others.iter().filter(|(id, _)| is_lively(**id));
            let vessels: Vec<Vessel> = known
                .filter_map(|(id, other)| {
                    let offer = other.offer(now)?;
                    // Who may come here counts here.
                    let there = offer.here[kind].saturating_add(other.rush.soon(now, kind));
                    let load = there.saturating_sub(other.inflow[kind].open());
                    Some(Vessel { id: *id, load, most: most(offer.most, offer.here[1 - kind]) })
                })
                .collect();
            for (vessel, more) in vessels.iter().zip(grants(own, &vessels)) {
                if let Some(other) = self.others.get_mut(&vessel.id) {
                    other.inflow[kind].grant(now, more);
                }
            }
        }
    }

    /// Nobody is here, or expected.
    pub fn is_empty(&self) -> bool {
        self.expected(USERS) == 0 && self.expected(GUESTS) == 0
    }

    /// How full this server is.
    pub fn standing(&self) -> Standing {
        // What was granted and is not sent yet counts where it is.
        let coming = self.others.values().flat_map(|other| &other.inflow).map(Inflow::coming);
        let expected = coming.fold(0, u64::saturating_add);
        Standing { load: self.sessions(), expected, most: self.most }
    }

    /// How full those of the servers are that share their clients. None if one of them has not said yet whether
    /// it does.
    pub fn standings(&self, now: Time, mut servers: impl Iterator<Item = ServerId>) -> Option<Vec<Standing>> {
        servers.try_fold(Vec::new(), |mut all, server| {
            let other = self.others.get(&server)?;
            let on_way = other.outflow.iter().map(Outflow::on_way).fold(0, u64::saturating_add);
            all.extend(other.offer(now).map(|offer| Standing {
                load: offer.here[USERS].saturating_add(offer.here[GUESTS]),
                expected: on_way,
                most: offer.most,
            }));
            Some(all)
        })
    }

    /// What this server is told.
    pub fn offer_to(&self, server: ServerId, every: Duration) -> Offer {
        let nothing = Other::default();
        let other = self.others.get(&server).unwrap_or(&nothing);
        Offer {
            here: self.here,
            came: self.came(),
            most: self.most,
            every_ms: every.as_millis() as u64,
            credit: [USERS, GUESTS].map(|kind| other.inflow[kind].granted()),
            sent: [USERS, GUESTS].map(|kind| other.outflow[kind].sent),
            arrived: [USERS, GUESTS].map(|kind| other.inflow[kind].arrived()),
        }
    }

    /// The server that one more client should be on instead: it granted that, and it has two fewer; or it has
    /// room and this one has more than it should.
    pub fn best(&self, now: Time, kind: usize, may: impl Fn(ServerId) -> bool) -> Option<ServerId> {
        let is_over = self.most.is_some_and(|most| self.sessions() > most);
        let places = self.others.iter().filter_map(|(id, other)| {
            let offer = other.offer(now).filter(|_| other.outflow[kind].left() > 0)?;
            let [there, beside] =
                [kind, 1 - kind].map(|k| offer.here[k].saturating_add(other.outflow[k].on_way()));
            let has_room = offer.most.is_none_or(|most| there.saturating_add(beside) < most);
            let gains = has_room && (is_over || self.here[kind] >= there.saturating_add(GAIN));
            gains.then_some((there, *id))
        });
        places.filter(|(_, id)| may(*id)).min().map(|(_, id)| id)
    }

    /// A client was sent there.
    pub fn sent(&mut self, server: ServerId, kind: usize) {
        if let Some(other) = self.others.get_mut(&server) {
            other.outflow[kind].sent += 1;
        }
    }

    /// A client came that this server had sent.
    pub fn arrived(&mut self, server: ServerId, kind: usize) {
        self.sent_here += u64::from(kind == USERS);
        if let Some(other) = self.others.get_mut(&server) {
            other.inflow[kind].arrive();
        }
    }

    /// An anonymous client came. Nobody knows from where: if some are waited for it is one of them, from where most
    /// are.
    pub fn guest_arrived(&mut self) -> bool {
        let all = self.others.values_mut().map(|other| &mut other.inflow[GUESTS]);
        let most = all.max_by_key(|inflow| inflow.expected()).filter(|inflow| inflow.expected() > 0);
        most.map(Inflow::arrive).is_some()
    }
}

#[cfg(test)]
mod tests;
