//! Links that wait for what other servers say of a name.
//!
//! A name that is not known here may be registered elsewhere an instant ago, so its login asks all servers
//! before it is refused. While a link waits, nothing is read from it; its line comes again with the
//! verdict. Invariant: each wait has a deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use super::link::Phase;
use super::mesh::PeerId;
use super::{Action, Node, Timer};
use crate::base::hlc::Generation;
use crate::base::id::{LinkId, UserId};
use crate::base::limits::{LOOKUP, NAME_CHARS};
use crate::wire::peer::PeerMessage;
use crate::wire::registration::{Answer, Question};

/// What came of waiting, if it was not that things changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The name is registered for this link, if its registration still has this stamp.
    Registered(UserId, Generation),
    /// The name is not to be had.
    Refused,
    /// The disk does not take it.
    Unkept,
    /// Nobody knows the name.
    Unknown,
}

/// A link that waits.
#[derive(Debug)]
struct Ask {
    link: LinkId,
    /// Peers that were asked and have not answered.
    wait: Vec<PeerId>,
    /// The verdict if the time runs out.
    late: Verdict,
}

/// All links that wait.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: BTreeMap<u64, Ask>,
    last: u64,
}

/// The id of a question nobody waits for: an answer that knows the name is welcome all the same.
const NOBODY: u64 = 0;

impl Node {
    /// Asks all servers for a name that is not known here. False: nobody is there to ask, or all were.
    pub(super) fn ask_around(&mut self, link_id: LinkId, name: &str) -> bool {
        let verdict = self.at_mut(link_id).aside.as_mut().and_then(|aside| aside.verdict.take());
        if verdict == Some(Verdict::Unknown) || name.is_empty() || name.chars().count() > NAME_CHARS {
            return false;
        }
        let wait: Vec<PeerId> = self.mesh.lively().map(|(id, _)| id).collect();
        if wait.is_empty() {
            return false;
        }
        self.counters.names_asked += 1;
        let id = self.hold(link_id, wait.clone(), LOOKUP, Verdict::Unknown);
        for peer in wait {
            self.mesh.send(peer, &PeerMessage::NameQuestion(Question { id, name: name.into() }));
        }
        true
    }

    /// Asks all servers for a name for whose answer nobody waits.
    pub(super) fn ask_idly(&mut self, name: &str) {
        self.mesh.send_all(&PeerMessage::NameQuestion(Question { id: NOBODY, name: name.into() }));
    }

    /// Has a link wait for these peers, or with none for [`Node::wake`].
    pub(super) fn hold(&mut self, link_id: LinkId, wait: Vec<PeerId>, bound: Duration, late: Verdict) -> u64 {
        let now = self.now;
        let link = self.at_mut(link_id);
        link.phase = Phase::Asking;
        let aside = link.aside.as_mut().expect("a link that is no session has one");
        aside.asked_at.get_or_insert(now);
        self.contests.asks.last += 1;
        let id = self.contests.asks.last;
        self.contests.asks.open.insert(id, Ask { link: link_id, wait, late });
        self.timers.set(now + bound, Timer::Ask(id));
        id
    }

    /// Ends a wait: the link's line comes again.
    pub(super) fn wake(&mut self, id: u64, verdict: Option<Verdict>) {
        let Some(ask) = self.contests.asks.open.remove(&id) else { return };
        let Some(link) = self.link_mut(ask.link).filter(|link| link.phase == Phase::Asking) else { return };
        link.phase = Phase::New;
        if let Some(aside) = link.aside.as_mut() {
            aside.verdict = verdict;
        }
        self.actions.push_back(Action::Resume(ask.link));
    }

    pub(super) fn on_ask_timer(&mut self, id: u64) {
        let late = self.contests.asks.open.get(&id).map(|ask| ask.late);
        self.wake(id, late);
    }

    /// True while the link of this wait is there.
    pub(super) fn is_waiting(&self, id: u64) -> bool {
        let link = self.contests.asks.open.get(&id).and_then(|ask| self.link(ask.link));
        link.is_some_and(|link| link.phase == Phase::Asking)
    }

    pub(super) fn on_question(&mut self, from: PeerId, question: &Question) {
        let record = self.registry.find(&question.name).map(|user| self.registration_of(user));
        self.mesh.send(from, &PeerMessage::NameAnswer(Answer { id: question.id, record }));
    }

    pub(super) fn on_answer(&mut self, from: PeerId, answer: &Answer) {
        if let Some(record) = &answer.record {
            self.merge_registration(record);
            return self.wake(answer.id, None);
        }
        if let Some(ask) = self.contests.asks.open.get_mut(&answer.id) {
            ask.wait.retain(|peer| *peer != from);
            if ask.wait.is_empty() {
                self.wake(answer.id, Some(Verdict::Unknown));
            }
        }
    }

    /// A peer is gone, or silent: nobody waits for it.
    pub(super) fn asks_peer_down(&mut self, peer: PeerId) {
        let waits = |ask: &Ask| ask.wait.contains(&peer);
        let all: Vec<u64> =
            self.contests.asks.open.iter().filter(|(_, ask)| waits(ask)).map(|(id, _)| *id).collect();
        for id in all {
            let Some(ask) = self.contests.asks.open.get_mut(&id) else { continue };
            ask.wait.retain(|p| *p != peer);
            if ask.wait.is_empty() {
                self.wake(id, Some(Verdict::Unknown));
            }
        }
    }
}
