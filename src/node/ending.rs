//! How links end, and what their users stay owed.
//!
//! Every close is the same walk: what is owed up to now, the last answer, our side shut, the other's EOF.
//! LOGOUT ends what the session was owed from its start on; anything else leaves it in the mailbox.

use super::counters::CloseReason;
use super::link::{Answers, Phase, Who};
use super::mesh::PeerId;
use super::registry::NO_SLOT;
use super::{Action, Mutation, Node, Timer};
use crate::base::feed::Offset;
use crate::base::id::{LinkId, UserId};
use crate::base::limits::{CLOSING, REFUSAL, VERIFIER};
use crate::base::spans::{Range, Spans};
use crate::base::time::Time;
use crate::base::vector::Vector;
use crate::wire::encode;
use crate::wire::line::Flow;
use crate::wire::peer::State;

impl Node {
    /// Answers and closes.
    pub(super) fn reply_and_close(
        &mut self,
        link_id: LinkId,
        command: &str,
        info: &str,
        reason: CloseReason,
    ) -> Flow {
        self.close(link_id, reason);
        self.answer(link_id, command, info);
        Flow::Pause
    }

    /// Answers and closes [`REFUSAL`] after the line came, so that the time it took tells nothing.
    pub(super) fn refuse(&mut self, link_id: LinkId, command: &str, info: &str, reason: CloseReason) -> Flow {
        self.draw_line(link_id);
        self.count_out(link_id);
        let link = self.at_mut(link_id);
        link.phase = Phase::Refusing;
        let asked_at = link.aside.as_ref().and_then(|aside| aside.asked_at);
        self.answer(link_id, command, info);
        self.timers.set(asked_at.unwrap_or(self.now) + REFUSAL, Timer::Refusal(link_id));
        self.count_close(link_id, reason);
        Flow::Pause
    }

    /// Begins the close: what is owed up to now still goes out, nothing is taken in any more.
    pub(super) fn close(&mut self, link_id: LinkId, reason: CloseReason) {
        self.count_close(link_id, reason);
        self.begin_close(link_id);
    }

    pub(super) fn begin_close(&mut self, link_id: LinkId) {
        if self.link(link_id).is_some_and(|link| link.phase != Phase::Refusing) {
            self.draw_line(link_id);
        }
        if self.is_mutated(Mutation::CloseNotDrain) {
            return self.abandon(link_id);
        }
        self.count_out(link_id);
        let deadline = self.now + CLOSING;
        let Some(link) = self.link_mut(link_id) else { return };
        link.phase = Phase::Closing;
        link.progressed = false;
        self.timers.set(deadline, Timer::Closing(link_id));
        self.enqueue(link_id);
    }

    /// Draws the line under what the link gets: the feed up to here, answers given so far; what is answered
    /// from now on comes last.
    fn draw_line(&mut self, link_id: LinkId) {
        self.unfollow(link_id);
        let Some(link) = self.link(link_id) else { return };
        // A silent session was not told of its login, so it must not hear broadcasts.
        let is_online = link.phase == Phase::Online;
        // What was said here and waits for its second copy was said before the end, so it is heard before it.
        let unexposed = if is_online { self.relay.unexposed() } else { None };
        let stop_at = match unexposed {
            Some(_) => Offset::MAX,
            None if is_online => self.delivery.feed.tail(),
            None => 0,
        };
        if unexposed.is_some() {
            self.sessions.closing.push(link_id);
        }
        let Some(link) = self.link_mut(link_id) else { return };
        let aside = link.aside_mut();
        aside.stop_at = stop_at;
        aside.after = unexposed;
        if let Some(answers) = link.answers.as_mut() {
            answers.last_from = answers.bytes.len();
        }
    }

    /// Own messages were exposed: closing links that waited for them know now where their feed ends.
    pub(super) fn draw_lines(&mut self) {
        let (applied, tail) = (self.relay.exposed(), self.delivery.feed.tail());
        for link_id in std::mem::take(&mut self.sessions.closing) {
            let Some(aside) = self.link_mut(link_id).and_then(|link| link.aside.as_mut()) else { continue };
            let Some(after) = aside.after else { continue };
            if after > applied {
                self.sessions.closing.push(link_id);
                continue;
            }
            aside.after = None;
            aside.stop_at = tail;
            self.enqueue(link_id);
        }
    }

    /// Closes at once, writing nothing more.
    pub(super) fn abort(&mut self, link_id: LinkId, reason: CloseReason) {
        self.count_close(link_id, reason);
        self.abandon(link_id);
    }

    /// Has the shell close the socket; what its user is owed is known when it did.
    pub(super) fn abandon(&mut self, link_id: LinkId) {
        self.unfollow(link_id);
        self.count_out(link_id);
        if let Some(link) = self.link_mut(link_id)
            && link.phase != Phase::Gone
        {
            link.phase = Phase::Gone;
            self.actions.push_back(Action::Close(link_id));
        }
    }

    fn count_close(&mut self, link_id: LinkId, reason: CloseReason) {
        let Some(link) = self.link(link_id) else { return };
        if !matches!(link.phase, Phase::Draining | Phase::Gone) {
            log::debug!("link {link_id}: closing, {}", reason.label());
            self.counters.close(reason);
        }
    }

    /// The client ended its side of the connection. It may still read.
    pub(super) fn on_eof(&mut self, link_id: LinkId) {
        let Some(link) = self.link_mut(link_id) else { return };
        if std::mem::replace(&mut link.eof, true) {
            return;
        }
        match link.phase {
            Phase::Draining => self.abandon(link_id),
            Phase::Closing | Phase::Refusing | Phase::Gone => {}
            _ => self.close(link_id, CloseReason::Eof),
        }
    }

    /// The socket is closed; of its stream the last `unacknowledged` bytes did not arrive.
    pub(super) fn on_closed(&mut self, link_id: LinkId, unacknowledged: u64) {
        let Some(link) = self.link(link_id) else { return };
        let phase = link.phase;
        if !matches!(phase, Phase::Refusing | Phase::Closing | Phase::Draining | Phase::Gone) {
            let is_there = phase != Phase::Dialing;
            self.count_close(
                link_id,
                if is_there { CloseReason::Broken } else { CloseReason::PeerUnreached },
            );
        }
        self.unfollow(link_id);
        self.count_out(link_id);
        match self.at(link_id).who {
            Who::Server(slot) => self.peer_down(PeerId(slot)),
            _ => self.end_session(link_id, unacknowledged, true),
        }
        self.dialled_closed(link_id, phase);
        self.links.remove(link_id.slot as usize);
        if phase == Phase::Hashing {
            let links = &self.links;
            let alive =
                |id: LinkId| links.get(id.slot as usize).is_some_and(|l| l.generation == id.generation);
            self.hashes.abandoned(alive);
        }
    }

    /// Takes the session from the link, and keeps what it is still owed for the next login. One that was
    /// sent to another server may speak on until its connection is over.
    pub(super) fn end_session(&mut self, link_id: LinkId, unacknowledged: u64, is_over: bool) {
        let Some(link) = self.link(link_id) else { return };
        let (who, logged_out) = (link.who, link.logged_out);
        let stays = link.is_leaving() && !is_over;
        let is_redirected = link.aside.as_ref().is_some_and(|aside| aside.redirected);
        let Who::User(user) = who else { return };
        let mut owed = self.unconfirmed(link_id, unacknowledged);
        if let Some(late) = self.sessions.late.remove(&link_id) {
            owed = owed.union(&late);
        }
        if logged_out {
            owed = owed.below(self.at(link_id).sent.live_from());
        }
        if !is_over && is_redirected {
            self.stop_feed(link_id);
        }
        if !stays {
            self.detach(link_id, user);
            self.sessions.firsts.remove(&link_id);
        }
        let (now, away) = (self.now, self.limits.away);
        let entry = self.registry.user_mut(user);
        entry.idle_since = now;
        if entry.newest == NO_SLOT && !std::mem::replace(&mut entry.verifier_set, true) {
            self.timers.set(now + VERIFIER, Timer::Verifier(user));
        }
        log::debug!("link {link_id}: a session of {:?} ends", self.registry.user(user).name);
        self.touch(user);
        let known = self.registry.names.get_mut(&user);
        let Some(rec) = known.and_then(|names| names.on_link(link_id)) else { return };
        rec.since = now;
        let generation = rec.generation;
        let here = rec.here.as_mut().expect("a session on a link is of this boot");
        let position = owed.current().map(|r| here.position(&self.relay, r.from));
        here.link = None;
        here.known = Vec::new();
        if owed.is_empty() || away.is_zero() {
            rec.state = State::Ended;
            rec.vector = None;
            here.spans = None;
            here.start = Vector::NOTHING;
        } else {
            rec.state = State::Broken;
            rec.vector = position;
            here.spans = Some(owed);
            rec.settle_low();
        }
        self.tell_session(user, generation, Vec::new());
        if self.mesh.peers.is_empty() {
            // Nobody else knows of it, so nothing has to be remembered of one that is owed nothing.
            let names = self.known_mut(user);
            names.recs.retain(|rec| rec.generation != generation || rec.state != State::Ended);
            if names.is_empty() {
                self.registry.names.remove(&user);
                return;
            }
        }
        self.arm_away(user);
    }

    /// The client was told to go, and its next session has begun: what was not sent here yet is sent there.
    /// This link gets no more but the end of a line.
    fn stop_feed(&mut self, link_id: LinkId) {
        let link = self.at(link_id);
        let Some(cursor) = link.spans.current().map(|r| r.from) else { return };
        let stop = if link.mid_frame { self.relay.frame_end(&self.delivery.feed, cursor) } else { cursor };
        if let Some(aside) = self.at_mut(link_id).aside.as_mut() {
            aside.stop_at = aside.stop_at.min(stop);
            aside.after = None;
        }
        self.enqueue(link_id);
    }

    /// Sends a session to another server, where its user goes on.
    pub fn redirect(&mut self, now: Time, link_id: LinkId, hostname: &str, port: u16) {
        self.now = now;
        if self.link(link_id).is_none_or(|link| link.phase != Phase::Online) {
            return;
        }
        self.spare(link_id);
        self.counters.redirects += 1;
        self.close(link_id, CloseReason::Redirected);
        let link = self.at_mut(link_id);
        let aside = link.aside.as_mut().expect("a closing link has one");
        aside.redirected = true;
        let answers =
            link.answers.get_or_insert_with(|| Box::new(Answers { last_from: 0, ..Answers::default() }));
        encode::redirect(&mut answers.bytes, hostname, port);
        self.enqueue(link_id);
    }

    /// What the session is owed if the last `unacknowledged` bytes of its stream do not arrive.
    pub(super) fn unconfirmed(&self, link_id: LinkId, unacknowledged: u64) -> Spans {
        let link = self.at(link_id);
        let feed = &self.delivery.feed;
        let cursor = link.spans.current().map_or(feed.tail(), |r| r.from);
        // A frame that did not arrive whole comes again whole, or not at all where its beginning has left
        // the feed: the rest alone is no line.
        let whole = |r: Range| Range {
            from: if r.from >= feed.floor() { self.relay.frame_start(feed, r.from) } else { r.from },
            ..r
        };
        let begun = |r: Range| if link.mid_frame && r.from == cursor { whole(r) } else { r };
        let sent = link.sent.unwind(cursor, unacknowledged, &self.delivery.hidden);
        Spans::from_ranges(link.spans.ranges().map(begun).chain(sent.into_iter().map(whole)))
    }

    pub(super) fn detach(&mut self, link_id: LinkId, user: UserId) {
        let link = self.at_mut(link_id);
        let (older, newer) = (link.older, link.newer);
        (link.older, link.newer, link.who) = (NO_SLOT, NO_SLOT, Who::Nobody);
        if older != NO_SLOT {
            self.links[older as usize].newer = newer;
        }
        if newer != NO_SLOT {
            self.links[newer as usize].older = older;
        } else {
            self.registry.user_mut(user).newest = older;
        }
    }

    /// The fast check of a name that was not used for long is forgotten.
    pub(super) fn on_verifier(&mut self, user: UserId) {
        let now = self.now;
        let entry = self.registry.user_mut(user);
        entry.verifier_set = entry.newest == NO_SLOT && entry.idle_since + VERIFIER > now;
        if entry.verifier_set {
            self.timers.set(now + VERIFIER, Timer::Verifier(user));
        } else if entry.newest == NO_SLOT {
            entry.verifier = None;
        }
    }
}
