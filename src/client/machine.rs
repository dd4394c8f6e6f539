//! The client's mind: server lines in, events out; what is said in, bytes to send out.
//!
//! Touches no socket, clock, thread, file or random source; time is an argument, counted from
//! whatever start the shell likes.
//!
//! Invariant: bytes given out by [`Client::transmit`] stay the first to send until [`Client::sent`]
//! counts them or [`Client::connected`] begins anew. So each line said is written wholly to one server,
//! in the order of saying.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::ids::Ids;
use super::named::Named;
use super::outbox::Outbox;
use super::reply::Reply;

/// How long a server that sent REDIRECT is still read if it does not close by itself.
pub const DRAIN: Duration = Duration::from_secs(5);
/// Redirects followed in a row. Between two of them the client must have stayed, which is to have
/// logged in and then heard a broadcast or been there for [`STAY`]; servers that send it round in
/// circles must not be hammered with logins.
pub const REDIRECTS_MAX: u32 = 16;
/// See [`REDIRECTS_MAX`].
pub const STAY: Duration = Duration::from_secs(1);

pub use crate::wire::message::ANONYMOUS;

/// Who the client is.
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub enum Mode {
    /// Nobody in particular.
    Anonymous,
    /// A new name. After REGISTER_SUCCESS this is the same as `Login`.
    Register { name: String, secret: Zeroizing<String> },
    /// A name registered before.
    Login { name: String, secret: Zeroizing<String> },
}

/// What a line from the server means to the shell. `info` is the server's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub enum Event<'a> {
    /// The name and secret are registered now; LOGIN follows by itself.
    Registered { info: String },
    /// What was said goes out from now on.
    LoggedIn { info: String },
    /// Somebody said `activity`: a JSON object without a line end, spelled as the server spelled it.
    Broadcast { activity: &'a str },
    /// Read on here until [`Client::timeout`] at most, then connect there.
    Redirect { host: String, port: u16 },
    /// Name or secret were not taken (`command` says when). Nothing more is sent.
    Refused { command: String, info: String },
    /// Something that was sent is no valid message. Nothing more is sent.
    Invalid { info: String },
    /// All messages up to this number are safe; only with [`Client::with_ids`].
    Acknowledged { cseq: u64 },
    /// What comes next is known now; only with [`Client::with_ids`].
    Announced,
    /// A broadcast that was heard before; only with [`Client::with_ids`].
    Repeated,
    /// The servers redirect in circles: one more than [`REDIRECTS_MAX`]. Nothing more is sent.
    Circling,
    /// No line of the protocol, or not now. It was ignored and changed nothing.
    Malformed { why: &'static str },
}

/// What the end of a connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The server said where to go on.
    Moved,
    /// All that was said was written, LOGOUT too.
    LoggedOut,
    /// Neither: the session is lost, and lines may be waiting that were never sent.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No connection.
    Away,
    /// REGISTER was sent.
    Registering,
    /// LOGIN was sent.
    LoggingIn,
    /// Logged in since then; `heard` a broadcast or not.
    Online { since: Duration, heard: bool },
    /// A REDIRECT came; the connection is read until then at most.
    Moving { until: Duration },
    /// Refused.
    Over,
}

/// The state machine of one client.
///
/// 1. Connect, call [`Client::connected`].
/// 2. Write what [`Client::transmit`] gives, count it with [`Client::sent`]. Meanwhile give each line
///    read to [`Client::handle`] and act on its event, and each line said to [`Client::say`].
/// 3. When nobody has more to say, call [`Client::end`].
/// 4. At the end of the connection, or at [`Client::timeout`], write what is left to transmit if
///    [`Client::moving`], then let [`Client::closed`] say whether 1 follows.
pub struct Client {
    mode: Mode,
    state: State,
    /// REGISTER and LOGIN of this connection.
    hello: Outbox,
    /// Activities, then LOGOUT; held back until LOGIN_SUCCESS.
    said: Outbox,
    /// An ACTIVITY_MESSAGE up to its activity or its number; the same for all of them.
    opening: Zeroizing<Vec<u8>>,
    /// No more is said: LOGOUT is in `said` or was written.
    ended: bool,
    /// Redirects since the client last stayed.
    redirects: u32,
    /// It numbers what it says: then nothing is lost, repeated or swapped, whatever breaks.
    ids: Option<Box<Ids>>,
    /// Then it said LOGOUT on this connection, and this was named.
    logs_out: bool,
    named: Named,
}

impl Client {
    /// A client that is not connected yet.
    pub fn new(mode: Mode) -> Client {
        let mut opening = Zeroizing::new(Vec::new());
        opening.extend_from_slice(br#"{"command":"ACTIVITY_MESSAGE","#);
        opening.extend_from_slice(identity(&mode).as_bytes());
        opening.push(b',');
        let (hello, said) = (Outbox::default(), Outbox::default());
        Client {
            mode,
            state: State::Away,
            hello,
            said,
            opening,
            ended: false,
            redirects: 0,
            ids: None,
            logs_out: false,
            named: Named::default(),
        }
    }

    /// A new connection stands. It begins with REGISTER or LOGIN; a line that was only partly written
    /// to the one before is said again, from its beginning.
    pub fn connected(&mut self) {
        self.hello = Outbox::default();
        self.said.rewind();
        if self.ids.is_some() {
            // What is said again hangs on what the server says that it knows.
            self.named = Named::default();
            self.logs_out = false;
            self.said = Outbox::default();
        } else if self.ended && self.said.unsent().is_empty() {
            // LOGOUT went to a server that had already sent us on, where it means no more than EOF.
            self.push_logout();
        }
        if let Mode::Register { .. } = self.mode {
            self.push_hello("REGISTER");
            self.state = State::Registering;
        } else {
            self.push_hello("LOGIN");
            self.state = State::LoggingIn;
        }
    }

    /// Says one line: a JSON object goes out byte for byte, other text as `{"message":text}`. Blank
    /// lines say nothing, and nothing is said after [`Client::end`].
    pub fn say(&mut self, line: &str) {
        if self.ended || line.trim().is_empty() {
            return;
        }
        if let Some(object) = object(line) {
            // Between the tokens of an object a line end is a blank; inside a string there is none.
            let object =
                if object.contains('\n') { object.replace('\n', " ").into() } else { Cow::from(object) };
            self.push_said(&object);
        } else {
            let text = quoted(line.trim_end_matches(['\r', '\n']));
            self.push_said(&format!(r#"{{"message":{text}}}"#));
        }
    }

    fn push_said(&mut self, activity: &str) {
        match self.ids.as_mut() {
            None => self.said.push(&[&self.opening, br#""activity":"#, activity.as_bytes(), b"}"]),
            Some(ids) => {
                let cseq = ids.say(activity);
                if let State::Online { .. } = self.state {
                    self.push_numbered(cseq, activity);
                }
            }
        }
    }

    /// Nobody has more to say: LOGOUT follows what was said, with an id when all of it is safe.
    pub fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            if self.ids.is_none() {
                self.push_logout();
            }
            self.end_when_safe();
        }
    }

    /// Takes one line from the server, without its line end.
    pub fn handle<'a>(&mut self, now: Duration, line: &'a [u8]) -> Event<'a> {
        let Some(reply) = Reply::parse(line) else { return Event::Malformed { why: "not one JSON object" } };
        match &*reply.command {
            "ACTIVITY_BROADCAST" => self.on_broadcast(&reply),
            "REGISTER_SUCCESS" => self.on_registered(&reply),
            "LOGIN_SUCCESS" => self.on_logged_in(now, &reply),
            "REDIRECT" => self.on_redirect(now, &reply),
            "MESSAGE_ACK" if self.ids.is_some() => self.on_ack(&reply),
            "NEXT" if self.ids.is_some() => self.on_next(&reply),
            "REGISTER_FAILED" | "LOGIN_FAILED" | "AUTHENTICATION_FAIL" => self.on_refused(&reply),
            "INVALID_MESSAGE" => self.on_invalid(&reply),
            _ => Event::Malformed { why: "not a command for a client" },
        }
    }

    /// The bytes to send now; empty when there is nothing to send, or not yet.
    pub fn transmit(&self) -> &[u8] {
        match self.state {
            State::Away | State::Over => &[],
            State::Registering | State::LoggingIn => self.hello.unsent(),
            State::Online { .. } if self.hello.unsent().is_empty() => self.said.unsent(),
            State::Online { .. } => self.hello.unsent(),
            // A line without its end is no line: finished, it counts here; unfinished, it goes there.
            State::Moving { .. } => self.said.torn(),
        }
    }

    /// The first `count` bytes that [`Client::transmit`] gave were written.
    pub fn sent(&mut self, count: usize) {
        let foreign = self.said.sent(self.hello.sent(count));
        debug_assert!(foreign == 0, "no more is sent than was given out");
    }

    /// When the connection is to be given up although the server has not closed it.
    pub fn timeout(&self) -> Option<Duration> {
        if let State::Moving { until } = self.state { Some(until) } else { None }
    }

    /// A REDIRECT came: once nothing is left to transmit, nothing more will be.
    pub fn moving(&self) -> bool {
        matches!(self.state, State::Moving { .. })
    }

    /// [`Client::end`] was called.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// REGISTER was sent on this connection and not answered.
    pub fn registering(&self) -> bool {
        self.state == State::Registering
    }

    /// A REGISTER whose answer was lost may have been heard: from now on it logs in.
    pub fn assume_registered(&mut self) {
        self.mode = match std::mem::replace(&mut self.mode, Mode::Anonymous) {
            Mode::Register { name, secret } => Mode::Login { name, secret },
            other => other,
        };
    }

    /// Bytes of lines said and not written, for whoever must not let them pile up.
    pub fn waiting_bytes(&self) -> usize {
        self.ids.as_ref().map_or(self.said.unsent().len(), |ids| ids.unsafe_bytes())
    }

    /// The connection is at its end; nothing more comes from it.
    pub fn closed(&mut self) -> Closed {
        let is_safe = self.ids.as_ref().is_none_or(|ids| ids.acked() == ids.said());
        let logged_out = self.ended && self.said.unsent().is_empty() && is_safe;
        match std::mem::replace(&mut self.state, State::Away) {
            State::Moving { .. } => Closed::Moved,
            State::Online { .. } if logged_out => Closed::LoggedOut,
            _ => Closed::Lost,
        }
    }

    fn on_broadcast<'a>(&mut self, reply: &Reply<'a>) -> Event<'a> {
        let Some(activity) = reply.activity.map(RawValue::get).filter(|activity| activity.starts_with('{'))
        else {
            return Event::Malformed { why: "a broadcast without an activity" };
        };
        if let State::Online { heard, .. } = &mut self.state {
            *heard = true;
        }
        let Some(ids) = self.ids.as_mut() else { return Event::Broadcast { activity } };
        let Some((stream, seq)) = self.named.take() else {
            return Event::Malformed { why: "a broadcast without a NEXT" };
        };
        if ids.hear(stream, seq, reply.id()) { Event::Broadcast { activity } } else { Event::Repeated }
    }

    fn on_registered<'a>(&mut self, reply: &Reply<'a>) -> Event<'a> {
        if self.state != State::Registering {
            return Event::Malformed { why: "REGISTER_SUCCESS without REGISTER" };
        }
        self.assume_registered();
        self.push_hello("LOGIN");
        self.state = State::LoggingIn;
        Event::Registered { info: reply.info() }
    }

    fn on_logged_in<'a>(&mut self, now: Duration, reply: &Reply<'a>) -> Event<'a> {
        if self.state != State::LoggingIn {
            return Event::Malformed { why: "LOGIN_SUCCESS without LOGIN" };
        }
        if !self.say_again(reply.ext.map_or("", RawValue::get)) {
            self.state = State::Over;
            return Event::Invalid { info: "this server knows no clients with ids".to_owned() };
        }
        self.state = State::Online { since: now, heard: false };
        self.end_when_safe();
        Event::LoggedIn { info: reply.info() }
    }

    fn on_redirect<'a>(&mut self, now: Duration, reply: &Reply<'a>) -> Event<'a> {
        let stayed = match self.state {
            State::Online { since, heard } => heard || now.saturating_sub(since) >= STAY,
            State::Registering | State::LoggingIn => false,
            _ => return Event::Malformed { why: "REDIRECT after the end of the session" },
        };
        let Some((host, port)) = reply.address() else {
            return Event::Malformed { why: "REDIRECT without a host name and a port" };
        };
        self.redirects = if stayed { 1 } else { self.redirects + 1 };
        if self.redirects > REDIRECTS_MAX {
            self.state = State::Over;
            return Event::Circling;
        }
        self.state = State::Moving { until: now + DRAIN };
        Event::Redirect { host, port }
    }

    fn on_refused<'a>(&mut self, reply: &Reply<'a>) -> Event<'a> {
        self.state = State::Over;
        Event::Refused { command: reply.command.to_string(), info: reply.info() }
    }

    fn on_invalid<'a>(&mut self, reply: &Reply<'a>) -> Event<'a> {
        self.state = State::Over;
        Event::Invalid { info: reply.info() }
    }

    fn push_hello(&mut self, command: &str) {
        let identity = identity(&self.mode);
        let ext = self.ids.as_ref().map_or(String::new(), |ids| ids.ext());
        let parts =
            [br#"{"command":""#, command.as_bytes(), br#"","#, identity.as_bytes(), ext.as_bytes(), b"}"];
        self.hello.push(&parts);
    }

    fn push_logout(&mut self) {
        self.said.push(&[br#"{"command":"LOGOUT"}"#]);
    }
}

/// The fields that say who speaks.
fn identity(mode: &Mode) -> Zeroizing<String> {
    Zeroizing::new(match mode {
        Mode::Anonymous => format!(r#""username":"{ANONYMOUS}""#),
        Mode::Register { name, secret } | Mode::Login { name, secret } => {
            let secret = Zeroizing::new(quoted(secret));
            format!(r#""username":{},"secret":{}"#, quoted(name), secret.as_str())
        }
    })
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("any string can be spelled as JSON")
}

/// The object that `line` is, without the blanks around it.
fn object(line: &str) -> Option<&str> {
    // The first byte decides for nearly all text, long before a parser would.
    if !line.trim_start().starts_with('{') {
        return None;
    }
    serde_json::from_str::<&RawValue>(line).ok().map(RawValue::get)
}

mod numbered;
#[cfg(test)]
mod tests;
