//! What is known of the sessions of one name, on all servers: who was in, and what each is still owed.
//!
//! A session is known by its generation. It lives on its home, a boot of some server; every other server
//! keeps a record of it, so that any of them can go on where it broke. Inside its home a session is exact
//! ranges of the feed, elsewhere a vector.

use std::time::Duration;

use super::relay::Relay;
use crate::base::feed::Offset;
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, StreamId};
use crate::base::limits::MAILBOX_ENTRIES;
use crate::base::spans::Spans;
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::peer::{Entry, State};

/// One session, living or broken.
#[derive(Clone, Debug)]
pub(super) struct Rec {
    pub generation: Generation,
    pub home: StreamId,
    pub state: State,
    /// What its client confirmed, as far as its home named it.
    pub vector: Option<Vector>,
    /// The home's FRONTIER that named it last.
    pub named: u64,
    /// Counts what its home said of it.
    pub version: u64,
    /// When it was heard to be what it is.
    pub since: Time,
    /// Its claim is not over.
    pub pending: bool,
    /// What it is owed besides, because a login took another entry that was furthest behind.
    pub low: Option<Box<Low>>,
    /// What only its home knows.
    pub here: Option<Box<Here>>,
}

/// See [`Rec::low`].
#[derive(Clone, Debug)]
pub(super) struct Low {
    /// When what it was lowered for is too old.
    pub until: Time,
    vector: Option<Vector>,
    /// The same exactly, if all of it was owed here.
    spans: Option<Spans>,
    /// Of a living session: it holds should that break without having confirmed anything above this. Then it
    /// may be the same client's that logged in before its end was heard of, and took another's entry.
    unless: Option<Vector>,
}

/// See [`Rec::here`].
#[derive(Clone, Debug, Default)]
pub(super) struct Here {
    /// Its connection, while it lives.
    pub link: Option<LinkId>,
    /// All that lies below was confirmed.
    pub confirmed: Offset,
    /// The same when peers were told of it by name.
    pub named: Option<Offset>,
    /// What was not confirmed when it was last looked at; of a broken one what it is owed.
    pub spans: Option<Spans>,
    /// It began with what this position has not.
    pub start: Vector,
    /// Older sessions that its claim was told of.
    pub known: Vec<Generation>,
}

/// All that is known of one name's sessions.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub recs: Vec<Rec>,
    /// Generations that were taken over, by which, and when that was heard.
    pub taken: Vec<(Generation, Generation, Time)>,
    /// Two sessions were healthy at once, so an entry may be another device's.
    pub multi: bool,
}

/// What a home last said of all its sessions that it did not name.
#[derive(Clone, Debug, Default)]
pub(super) struct Home {
    pub confirmed: Vector,
    pub version: u64,
}

impl Rec {
    /// True for a living session of this boot that is attached to a connection.
    pub fn is_session(&self) -> bool {
        self.state == State::Live && !self.pending && self.here.as_ref().is_some_and(|h| h.link.is_some())
    }

    /// What its client has confirmed, as far as is known here, or less if it was lowered; and whether it was.
    /// `lives` means that its home is there.
    pub fn confirmed(&self, relay: &Relay, home: Option<&Home>, lives: bool) -> (Option<Vector>, bool) {
        let own = self.own_confirmed(relay, home);
        let hangs = self.here.as_ref().is_some_and(|here| here.spans.is_some());
        let low = self.low(own.as_ref(), lives && !hangs);
        match low.and_then(|low| low.vector.as_ref()) {
            Some(low) => (Some(own.map_or_else(|| low.clone(), |own| own.min(low))), true),
            None => (own, low.is_some()),
        }
    }

    fn low(&self, confirmed: Option<&Vector>, is_healthy: bool) -> Option<&Low> {
        let holds = |low: &&Low| match &low.unless {
            None => true,
            Some(after) => !is_healthy && !has_shown(confirmed, after),
        };
        self.low.as_deref().filter(holds).filter(|_| self.state != State::Ended)
    }

    /// Its connection broke: it was lowered, or it was not.
    pub fn settle_low(&mut self) {
        let own = self.vector.as_ref();
        let shown = |low: &mut Box<Low>| low.unless.take().is_some_and(|after| has_shown(own, &after));
        self.low.take_if(shown);
    }

    /// What it is owed of the feed, if that is known exactly.
    pub fn spans(&self, relay: &Relay) -> Option<Spans> {
        self.exact(self.low(self.own_confirmed(relay, None).as_ref(), false))
    }

    fn exact(&self, low: Option<&Low>) -> Option<Spans> {
        let own = self.here.as_ref()?.spans.clone()?;
        match low {
            None => Some(own),
            Some(low) => Some(own.union(low.spans.as_ref()?)),
        }
    }

    fn own_confirmed(&self, relay: &Relay, home: Option<&Home>) -> Option<Vector> {
        if let Some(here) = self.here.as_deref() {
            let lowest = here.spans.as_ref().and_then(|s| s.current()).map(|r| r.from);
            return match (self.state, lowest) {
                (State::Ended, _) => None,
                // From where it broke. What has left the feed here since then others may have.
                (State::Broken, _) if self.vector.is_some() => self.vector.clone(),
                (_, Some(at)) => Some(here.position(relay, at)),
                (State::Live, None) if !self.pending => Some(here.position(relay, here.confirmed)),
                _ => self.vector.clone(),
            };
        }
        match home {
            Some(home) if self.state == State::Live && self.named != home.version => {
                let named = self.vector.clone().unwrap_or_default();
                Some(if self.pending { named } else { named.max(&home.confirmed) })
            }
            _ => self.vector.clone(),
        }
    }
}

impl Here {
    /// A place in the feed as others are told it. What stands behind it may be older than the session, as
    /// each server has its own order, and is not owed to it.
    pub fn position(&self, relay: &Relay, at: Offset) -> Vector {
        relay.position(at).max(&self.start)
    }
}

impl Names {
    pub fn find(&self, generation: Generation) -> Option<&Rec> {
        self.recs.iter().find(|rec| rec.generation == generation)
    }

    pub fn find_mut(&mut self, generation: Generation) -> Option<&mut Rec> {
        self.recs.iter_mut().find(|rec| rec.generation == generation)
    }

    /// The session on this connection.
    pub fn on_link(&mut self, link: LinkId) -> Option<&mut Rec> {
        self.recs.iter_mut().find(|rec| rec.here.as_ref().is_some_and(|here| here.link == Some(link)))
    }

    /// The generation that took this one.
    pub fn taker(&self, generation: Generation) -> Option<Generation> {
        self.taken.iter().find(|(g, _, _)| *g == generation).map(|(_, by, _)| *by)
    }

    /// A login of this generation asked here, or was heard of.
    pub fn has_heard_of(&self, generation: Generation) -> bool {
        self.find(generation).is_some()
            || self.taken.iter().any(|(g, by, _)| *g == generation || *by == generation)
    }

    pub fn drop_rec(&mut self, generation: Generation) {
        self.recs.retain(|rec| rec.generation != generation);
    }

    /// Puts a record in the place of what was known of that session.
    pub fn put(&mut self, rec: Rec) {
        match self.find_mut(rec.generation) {
            Some(old) => *old = rec,
            None => {
                // Nearly all have one, and room for four is half a kilobyte.
                if self.recs.is_empty() {
                    self.recs.reserve_exact(1);
                }
                self.recs.push(rec);
            }
        }
        self.bound();
    }

    /// Keeps as many broken sessions apart as the bound allows: the oldest become one (repeats, no loss).
    fn bound(&mut self) {
        let broken = |rec: &&mut Rec| rec.state == State::Broken;
        if self.recs.iter_mut().filter(broken).count() <= MAILBOX_ENTRIES {
            return;
        }
        let mut oldest: Vec<&mut Rec> = self.recs.iter_mut().filter(broken).collect();
        oldest.sort_by_key(|rec| rec.generation);
        let (gone, heir) = (oldest[0].clone(), oldest.remove(1));
        let until = Time::from_start(Duration::MAX);
        lower(heir, until, gone.vector.as_ref(), gone.exact(gone.low.as_deref()).as_ref(), None);
        self.drop_rec(gone.generation);
    }

    /// Forgets what is `away` old, also living sessions whose home is `gone` for so long. Returns how many
    /// broken sessions of this server's that were.
    pub fn expire(&mut self, now: Time, away: Duration, gone: impl Fn(StreamId) -> bool) -> u64 {
        let ends = |rec: &Rec| rec.state != State::Live || gone(rec.home);
        let is_old = |rec: &Rec| ends(rec) && rec.since + away <= now;
        let is_owed = |rec: &&Rec| is_old(rec) && rec.state == State::Broken && rec.here.is_some();
        let dropped = self.recs.iter().filter(is_owed).count();
        self.recs.retain(|rec| !is_old(rec));
        self.recs.iter_mut().for_each(|rec| drop(rec.low.take_if(|low| low.until <= now)));
        self.taken.retain(|(_, _, at)| *at + away * 2 > now);
        dropped as u64
    }

    /// When the next of it is too old.
    pub fn next_expiry(&self, away: Duration, gone: impl Fn(StreamId) -> bool) -> Option<Time> {
        let ends = |rec: &&Rec| rec.state != State::Live || gone(rec.home);
        let recs = self.recs.iter().filter(ends).map(|rec| rec.since + away);
        recs.chain(self.taken.iter().map(|(_, _, at)| *at + away * 2)).min()
    }

    pub fn is_empty(&self) -> bool {
        self.recs.is_empty() && self.taken.is_empty()
    }
}

/// A session that confirmed something above this was not dead by then.
fn has_shown(confirmed: Option<&Vector>, after: &Vector) -> bool {
    confirmed.is_some_and(|own| own.covers(after) && own != after)
}

/// Lowers what a session is owed to what another is owed too, until that is too old; for `unless` see [`Low`].
pub(super) fn lower(
    rec: &mut Rec,
    until: Time,
    vector: Option<&Vector>,
    spans: Option<&Spans>,
    unless: Option<&Vector>,
) {
    let Some(low) = rec.low.as_mut() else {
        let (vector, spans, unless) = (vector.cloned(), spans.cloned(), unless.cloned());
        rec.low = Some(Box::new(Low { until, vector, spans, unless }));
        return;
    };
    low.until = low.until.max(until);
    low.unless = low.unless.take().and_then(|own| Some(own.max(unless?)));
    low.spans = match (low.spans.take(), spans) {
        (Some(own), Some(other)) => Some(own.union(other)),
        _ => None,
    };
    if let Some(vector) = vector {
        low.vector = Some(low.vector.take().map_or_else(|| vector.clone(), |own| own.min(vector)));
    }
}

/// What two servers say of one session: the home's word, else the later one, and lowered if either was.
pub(super) fn merge(old: Entry, new: Entry) -> Entry {
    let new_wins = new.authentic || (!old.authentic && new.version > old.version);
    let (mut kept, other) = if new_wins { (new, old) } else { (old, new) };
    if let Some(low) = other.vector.filter(|_| other.lowered && kept.state != State::Ended) {
        kept.vector = Some(kept.vector.map_or_else(|| low.clone(), |own| own.min(&low)));
        kept.lowered = true;
    }
    kept.multi |= other.multi;
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hlc::Hlc;
    use crate::base::id::ServerId;

    fn entry(vector: Option<u64>, lowered: bool, version: u64) -> Entry {
        let generation = Generation { at: Hlc(1), by: ServerId([1; 16]) };
        let bob = Entry::new("bob".into(), generation, StreamId(1), State::Broken);
        let vector = vector.map(|seq| [(StreamId(1), seq)].into_iter().collect());
        Entry { vector, version, lowered, ..bob }
    }

    #[test]
    fn what_is_known_of_a_session_is_never_lost_to_one_who_knows_less() {
        let merged = |a, b| merge(a, b).vector.map(|v: Vector| v.get(StreamId(1)));
        assert_eq!(merged(entry(None, true, 1), entry(Some(5), false, 2)), Some(5));
        assert_eq!(merged(entry(Some(3), true, 1), entry(Some(5), false, 2)), Some(3));
        assert_eq!(merged(entry(Some(3), false, 1), entry(Some(5), false, 2)), Some(5));
        assert_eq!(merged(entry(Some(3), true, 1), entry(None, false, 2)), Some(3));
    }
}
