//! From a name and a secret to a session, and what a session may say.

use zeroize::Zeroizing;

use super::asking::Verdict;
use super::counters::CloseReason;
use super::hashing::{HashJob, HashTask, Hashed};
use super::link::{Phase, Who};
use super::names::{Here, Rec};
use super::registry::NO_SLOT;
use super::relay::prev_of;
use super::stream::Prev;
use super::{Action, Mutation, Node, Timer};
use crate::base::id::{LinkId, UserId};
use crate::base::limits::{NAME_CHARS, SECRET_BYTES, SILENT};
use crate::base::spans::Spans;
use crate::base::vector::Vector;
use crate::wire::line::Flow;
use crate::wire::message::{ANONYMOUS, Ext, shorten};

/// Whether a link may become a session.
pub(super) enum Admission {
    Anonymous,
    User(UserId),
    /// Something has to be found out first; the line comes again.
    Later,
    Refused(String),
}

impl Node {
    pub(super) fn on_register(
        &mut self,
        link_id: LinkId,
        name: &str,
        secret: &str,
        ext: Option<&Ext>,
    ) -> Flow {
        if self.at(link_id).is_session() {
            let info = "this connection is logged in; LOGOUT, then register on a new one";
            return self.reply_and_close(link_id, "INVALID_MESSAGE", info, CloseReason::Invalid);
        }
        self.number_from_now(link_id, name, ext);
        let verdict = self.at_mut(link_id).aside.as_mut().and_then(|aside| aside.verdict.take());
        if let Some(Verdict::Registered(user, stamp)) = verdict
            && self.registry.user(user).stamp == stamp
        {
            return self.register_success(link_id, user);
        }
        let refusal = match refuse_name(name).or_else(|| refuse_secret(secret)) {
            Some(why) => Some(why),
            None if verdict == Some(Verdict::Unkept) || self.cannot_keep() => {
                self.counters.registrations_unkept += 1;
                Some(format!(
                    "{name} cannot be registered now: this server's disk takes nothing; try again later"
                ))
            }
            None if self.registry.find(name).is_some() => {
                Some(format!("{name} is already registered with the system"))
            }
            None if verdict.is_some() => {
                Some(format!("{name} is being registered by another client; try again later"))
            }
            None if self.registry.is_full() => {
                Some(format!("the server's registry is full at {} names", self.limits.names))
            }
            None => None,
        };
        if let Some(why) = refusal {
            self.counters.registrations_refused += 1;
            return self.reply_and_close(link_id, "REGISTER_FAILED", &why, CloseReason::RegisterFailed);
        }
        if self.is_contested(name) {
            return self.await_contest(link_id, name);
        }
        let Some(record) = self.at_mut(link_id).made() else {
            let task = HashTask::Make { kib: self.limits.hash_kib, passes: self.limits.hash_passes };
            return self.hash(link_id, secret, task);
        };
        match self.claim_name(link_id, name, secret, record) {
            Some(user) => self.register_success(link_id, user),
            None => Flow::Again,
        }
    }

    fn register_success(&mut self, link_id: LinkId, user: UserId) -> Flow {
        let name = self.registry.user(user).name.clone();
        self.counters.registrations += 1;
        log::debug!("link {link_id}: registered {name:?}");
        self.start_registered(link_id, user);
        let begin = self.relay.applied();
        self.answer_in(link_id, "REGISTER_SUCCESS", &format!("register success for {name}"), &begin);
        Flow::Next
    }

    pub(super) fn on_login(&mut self, link_id: LinkId, name: &str, secret: &str, ext: Option<&Ext>) -> Flow {
        if self.at(link_id).is_session() {
            return self.on_login_again(link_id, name, secret, ext);
        }
        self.number_from_now(link_id, name, ext);
        match self.admit(link_id, name, secret) {
            Admission::Later => Flow::Again,
            Admission::Refused(why) => self.refuse(link_id, "LOGIN_FAILED", &why, CloseReason::LoginFailed),
            Admission::User(user) => {
                self.claim(link_id, user, true);
                Flow::Again
            }
            Admission::Anonymous => {
                let owed = self.owed_at(link_id);
                self.start(link_id, Who::Anonymous, Phase::Online, owed);
                let begin = self.relay.applied();
                self.login_success(link_id, name, &begin);
                self.place(link_id);
                Flow::Next
            }
        }
    }

    /// LOGIN on a connection that is a session already: the end of a silent one's silence, or a client
    /// that asks twice.
    fn on_login_again(&mut self, link_id: LinkId, name: &str, secret: &str, ext: Option<&Ext>) -> Flow {
        let own = self.own_name(link_id);
        if own != name {
            let name = shorten(name);
            let info = format!("this connection is logged in as {own}; log in as {name} on a new one");
            return self.reply_and_close(link_id, "LOGIN_FAILED", &info, CloseReason::LoginFailed);
        }
        if !self.is_own(link_id, name, secret) {
            self.counters.logins_refused += 1;
            return self.refuse(link_id, "LOGIN_FAILED", WRONG, CloseReason::LoginFailed);
        }
        self.number_from_now(link_id, name, ext);
        let link = self.at_mut(link_id);
        link.phase = Phase::Online;
        let answered = link.aside.as_mut().is_some_and(|aside| std::mem::take(&mut aside.answered));
        link.aside.take_if(|aside| aside.ids.is_none());
        if !answered {
            let cursor = self.at(link_id).spans.current().map_or(self.delivery.feed.tail(), |r| r.from);
            let begin = self.relay.position(cursor);
            self.login_success(link_id, name, &begin);
        }
        self.place(link_id);
        Flow::Next
    }

    pub(super) fn login_success(&mut self, link_id: LinkId, name: &str, begin: &Vector) {
        self.counters.logins += 1;
        log::debug!("link {link_id}: logged in as {name:?}");
        self.answer_in(link_id, "LOGIN_SUCCESS", &format!("logged in as user {name}"), begin);
    }

    pub(super) fn on_logout(&mut self, link_id: LinkId) -> Flow {
        if self.at(link_id).is_leaving() && !self.is_mutated(Mutation::MovedIsLogout) {
            // It was sent elsewhere: its user goes on there.
            self.abandon(link_id);
            return Flow::Pause;
        }
        self.at_mut(link_id).logged_out = true;
        self.close(link_id, CloseReason::Logout);
        Flow::Pause
    }

    /// May this link become a session of `name`? Asks for a hash or for the name's older sessions to be
    /// settled where that has to be known first.
    pub(super) fn admit(&mut self, link_id: LinkId, name: &str, secret: &str) -> Admission {
        if name == ANONYMOUS {
            return Admission::Anonymous;
        }
        let link = self.at_mut(link_id);
        let hashed = link.aside.as_mut().and_then(|aside| aside.hashed.take());
        let verifying = link.aside.as_mut().and_then(|aside| aside.verifying.take());
        let address = link.aside.as_ref().expect("a link that is no session has one").address;
        if let Some(wait) = self.guesses.wait(self.now, address, name) {
            self.counters.logins_limited += 1;
            let (name, seconds) = (shorten(name), wait.as_secs() + 1);
            return Admission::Refused(format!(
                "too many failed logins as {name} from this address; try again in {seconds} s"
            ));
        }
        let user = self.registry.find(name);
        if user.is_none() && self.ask_around(link_id, name) {
            return Admission::Later;
        }
        let verifier = self.registry.verifier(name, secret);
        // What a thread found of a record that lost against another meanwhile says nothing.
        let hashed = hashed.filter(|_| verifying == user.map(|user| self.registry.user(user).stamp));
        if let (Some(user), Some(Hashed::Verified(true))) = (user, &hashed) {
            self.registry.user_mut(user).verifier = Some(verifier);
        }
        let right =
            user.map(|user| (user, self.registry.user(user).verifier.map(|known| known.matches(&verifier))));
        match right {
            Some((user, Some(true))) => Admission::User(user),
            Some((user, None)) if hashed.is_none() && secret.len() <= SECRET_BYTES => {
                let user = self.registry.user(user);
                let (stamp, task) = (user.stamp, HashTask::Verify(user.record.clone()));
                self.hash(link_id, secret, task);
                if let Some(aside) = self.at_mut(link_id).aside.as_mut() {
                    aside.verifying = Some(stamp);
                }
                Admission::Later
            }
            _ => {
                self.guesses.failed(self.now, address, name);
                self.counters.logins_refused += 1;
                Admission::Refused(WRONG.to_owned())
            }
        }
    }

    /// Asks for a hash on the link's behalf; its line comes again with the result.
    fn hash(&mut self, link_id: LinkId, secret: &str, task: HashTask) -> Flow {
        let now = self.now;
        let link = self.at_mut(link_id);
        link.phase = Phase::Hashing;
        let aside = link.aside.as_mut().expect("a link that is no session has one");
        aside.asked_at.get_or_insert(now);
        let address = aside.address;
        let secret = Zeroizing::new(secret.as_bytes().to_vec());
        self.hashes.push(address, HashJob { link: link_id, secret, task });
        self.give_hashes();
        Flow::Again
    }

    pub(super) fn on_hashed(&mut self, link_id: LinkId, hashed: Hashed) {
        self.hashes.done();
        self.counters.hashes += 1;
        if let Some(link) = self.link_mut(link_id).filter(|link| link.phase == Phase::Hashing)
            && let Some(aside) = link.aside.as_mut()
        {
            aside.hashed = Some(hashed);
            link.phase = Phase::New;
            self.actions.push_back(Action::Resume(link_id));
        }
        self.give_hashes();
    }

    fn give_hashes(&mut self) {
        while let Some(job) = self.hashes.next() {
            if self.link(job.link).is_some_and(|link| link.phase == Phase::Hashing) {
                self.actions.push_back(Action::Hash(job));
            } else {
                self.hashes.done();
            }
        }
    }

    /// Makes the link a session that is owed these ranges.
    pub(super) fn start(&mut self, link_id: LinkId, who: Who, phase: Phase, owed: Spans) {
        let tail = self.delivery.feed.tail();
        let link = self.at_mut(link_id);
        link.sent = super::sent::Sent::new(owed.current().map_or(tail, |r| r.from), tail);
        link.spans = owed;
        link.who = who;
        link.phase = phase;
        link.aside.take_if(|aside| !aside.answered && aside.ids.is_none());
        if phase == Phase::Silent {
            self.timers.set(self.now + SILENT, Timer::Silent(link_id));
        } else {
            self.enqueue(link_id);
        }
        if let Who::User(user) = who {
            self.attach(link_id, user);
        }
        self.count_in(link_id);
        let links = &self.links;
        self.timers.forget_logins(|id| {
            links.get(id.slot as usize).is_none_or(|l| l.generation != id.generation || l.aside.is_none())
        });
    }

    /// Makes the link the first session of a name that was just registered.
    pub(super) fn start_registered(&mut self, link_id: LinkId, user: UserId) {
        let generation = self.mesh.clock.draw();
        let tail = self.delivery.feed.tail();
        let start = self.relay.applied();
        let owed = self.owed_at(link_id);
        let start = match self.ids(link_id).and_then(|ids| ids.at.clone()) {
            Some(at) => at.min(&start),
            None => start,
        };
        let confirmed = owed.current().map_or(tail, |r| r.from);
        let here = Here { link: Some(link_id), confirmed, start: start.clone(), ..Here::default() };
        let rec = Rec { vector: Some(start), here: Some(Box::new(here)), ..self.new_rec(generation) };
        self.known_mut(user).put(rec);
        self.start(link_id, Who::User(user), Phase::Silent, owed);
        self.tell_session(user, generation, Vec::new());
    }

    /// What a session's first message must not come before.
    pub(super) fn first_prev(&mut self, link_id: LinkId) -> Prev {
        match self.sessions.firsts.remove(&link_id) {
            Some(last) if !self.is_mutated(Mutation::NoPrev) => prev_of(&last, &self.relay),
            _ => Prev::default(),
        }
    }

    fn attach(&mut self, link_id: LinkId, user: UserId) {
        let older = std::mem::replace(&mut self.registry.user_mut(user).newest, link_id.slot);
        self.at_mut(link_id).older = older;
        if older != NO_SLOT {
            self.links[older as usize].newer = link_id.slot;
        }
    }
}

/// The same text for a wrong secret and an unknown name.
const WRONG: &str = "wrong username or secret";

fn refuse_name(name: &str) -> Option<String> {
    match name {
        ANONYMOUS => {
            Some(format!("the name {ANONYMOUS} needs no registration; log in with it, or choose another"))
        }
        "" => Some("the name is empty; choose one".to_owned()),
        _ if name.chars().count() > NAME_CHARS => {
            Some(format!("the name is longer than {NAME_CHARS} characters; choose a shorter one"))
        }
        _ if name.chars().any(char::is_control) => {
            Some("the name has a control character; choose another".to_owned())
        }
        _ => None,
    }
}

fn refuse_secret(secret: &str) -> Option<String> {
    match secret.len() {
        0 => Some("the secret is empty; send one".to_owned()),
        1..=SECRET_BYTES => None,
        _ => Some(format!("the secret is longer than {SECRET_BYTES} bytes; choose a shorter one")),
    }
}
