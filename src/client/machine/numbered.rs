//! What the machine does where its client has an id.

use serde_json::value::RawValue;

use super::{Client, Event, Mode, State};
use crate::client::ids::Ids;
use crate::client::reply::Reply;

impl Client {
    /// The same with an id: what is said is kept until it is safe, and said again where it is not known.
    pub fn with_ids(mode: Mode, ids: Ids) -> Client {
        let mut client = Client::new(mode);
        client.number(ids);
        client
    }

    /// From now on it has an id. To be called before anything else.
    pub fn number(&mut self, ids: Ids) {
        self.ids = Some(Box::new(ids));
    }

    /// What a client with an id knows.
    pub fn ids(&self) -> Option<&Ids> {
        self.ids.as_deref()
    }

    /// The same, to be kept.
    pub fn ids_mut(&mut self) -> Option<&mut Ids> {
        self.ids.as_deref_mut()
    }

    pub(super) fn push_numbered(&mut self, cseq: u64, activity: &str) {
        let number = format!(r#""cseq":{cseq},"activity":"#);
        self.said.push(&[&self.opening, number.as_bytes(), activity.as_bytes(), b"}"]);
    }

    pub(super) fn end_when_safe(&mut self) {
        let is_safe = self.ids.as_ref().is_some_and(|ids| ids.acked() == ids.said());
        if self.ended && is_safe && !self.logs_out && matches!(self.state, State::Online { .. }) {
            self.logs_out = true;
            self.push_logout();
        }
    }

    pub(super) fn on_ack<'a>(&mut self, reply: &Reply<'a>) -> Event<'a> {
        let (Some(cseq), Some(ids)) = (reply.cseq(), self.ids.as_mut()) else {
            return Event::Malformed { why: "MESSAGE_ACK without a number" };
        };
        ids.ack(cseq);
        let cseq = ids.acked();
        self.end_when_safe();
        Event::Acknowledged { cseq }
    }

    pub(super) fn on_next<'a>(&mut self, reply: &Reply<'a>) -> Event<'a> {
        match self.ids.is_some() && self.named.add(reply.ids.map_or("", RawValue::get)) {
            true => Event::Announced,
            false => Event::Malformed { why: "NEXT without ids" },
        }
    }

    /// The server knows so much of what was said: the rest is said again.
    pub(super) fn say_again(&mut self, ext: &str) -> bool {
        let Some(ids) = self.ids.take() else { return true };
        let mut ids = ids;
        let known = ids.welcome(ext);
        if let Some(known) = known {
            ids.behind(known).for_each(|(cseq, activity)| self.push_numbered(cseq, activity));
        }
        self.ids = Some(ids);
        known.is_some()
    }
}
