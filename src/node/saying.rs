//! ACTIVITY_MESSAGE: who may say something, and how it becomes a broadcast.

use super::Node;
use super::counters::CloseReason;
use super::ids::Said;
use super::link::{Phase, Who};
use super::registry::Verifier;
use super::relay::with_before;
use super::session::Admission;
use crate::base::id::LinkId;
use crate::base::spans::Spans;
use crate::wire::encode;
use crate::wire::line::Flow;
use crate::wire::message::{ANONYMOUS, Activity, Refusal};

impl Node {
    pub(super) fn on_activity(
        &mut self,
        link_id: LinkId,
        name: &str,
        secret: &str,
        (activity, cseq): (&Activity, Option<u64>),
    ) -> Flow {
        let link = self.at(link_id);
        if !link.is_session() && !link.is_leaving() {
            match self.admit(link_id, name, secret) {
                Admission::Later => return Flow::Again,
                Admission::Refused(why) => {
                    return self.refuse(
                        link_id,
                        "AUTHENTICATION_FAIL",
                        &why,
                        CloseReason::AuthenticationFail,
                    );
                }
                Admission::User(user) => {
                    self.claim(link_id, user, false);
                    return Flow::Again;
                }
                Admission::Anonymous => {
                    let owed = Spans::open(self.delivery.feed.tail());
                    self.start(link_id, Who::Anonymous, Phase::Silent, owed);
                }
            }
        } else if !self.is_own(link_id, name, secret) {
            let info = "the name or the secret is not the one this connection is logged in with";
            return self.reply_and_close(
                link_id,
                "AUTHENTICATION_FAIL",
                info,
                CloseReason::AuthenticationFail,
            );
        }
        match self.say(link_id, name, activity, cseq) {
            Ok(()) => Flow::Next,
            Err(refusal) => {
                let info = refusal.to_string();
                self.reply_and_close(link_id, "INVALID_MESSAGE", &info, CloseReason::Invalid)
            }
        }
    }

    /// The name the session is logged in with.
    pub(super) fn own_name(&self, link_id: LinkId) -> &str {
        match self.at(link_id).who {
            Who::User(user) => &self.registry.user(user).name,
            _ => ANONYMOUS,
        }
    }

    /// True when this is the pair the session is logged in with. Nobody has a secret for `anonymous`, so
    /// none is looked at.
    pub(super) fn is_own(&self, link_id: LinkId, name: &str, secret: &str) -> bool {
        match self.at(link_id).who {
            Who::Nobody | Who::Server(_) => false,
            Who::Anonymous => name == ANONYMOUS,
            Who::User(user) => {
                let user = self.registry.user(user);
                let matches = |known: Verifier| known.matches(&self.registry.verifier(name, secret));
                *user.name == *name && user.verifier.is_some_and(matches)
            }
        }
    }

    /// Says something to everybody. `cseq` is its number, if its client numbers what it says.
    fn say(
        &mut self,
        link_id: LinkId,
        name: &str,
        activity: &Activity,
        cseq: Option<u64>,
    ) -> Result<(), Refusal> {
        let id = match self.number(link_id, cseq)? {
            Said::Again => return Ok(()),
            Said::Plain => None,
            Said::New(client, n) => Some((client, n)),
        };
        self.line.clear();
        encode::broadcast_of(&mut self.line, activity, name, self.limits.line_bytes, id)?;
        self.counters.activities += 1;
        let mut prev = match self.sessions.firsts.is_empty() {
            true => Box::default(),
            false => self.first_prev(link_id),
        };
        if let Some(before) = id.and_then(|(client, n)| self.said_before(client, n)) {
            prev = with_before(&prev, before);
        }
        self.accept(prev);
        if let Some((client, n)) = id {
            self.numbered(link_id, client, n);
        }
        Ok(())
    }
}
