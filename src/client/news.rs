//! What a client tells of its journey: news on the way, and how it ended.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::machine::REDIRECTS_MAX;

/// What happened, for whoever shows it. `info` is a server's own words.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub enum News<'a> {
    /// A connection stands. REGISTER or LOGIN follow by themselves.
    Connected { host: String, port: u16 },
    /// The name and secret are registered now.
    Registered { info: String },
    /// What was said goes out from now on.
    LoggedIn { info: String },
    /// Somebody said `activity`: a JSON object without a line end, spelled as the server spelled it.
    Broadcast { activity: Cow<'a, str> },
    /// The server sends the client on to that one, where it goes by itself.
    Redirected { host: String, port: u16 },
    /// Name or secret were not taken; `command` says when.
    Refused { command: String, info: String },
    /// Something that was sent is no valid message. The server closes; lines behind it may be lost.
    Invalid { info: String },
    /// All messages up to this one are safe; only with an id.
    Acknowledged { cseq: u64 },
    /// Nothing that anybody has to know.
    Quiet,
    /// A line that is none of the protocol, or not now. It was ignored and changed nothing.
    Ignored { why: &'static str },
    /// No connection, or not any more.
    Lost { why: String },
    /// The next connection is made to that one, so much later.
    Waiting { pause: Duration, host: String, port: u16 },
}

impl News<'_> {
    /// The same, on its own.
    pub fn into_owned(self) -> News<'static> {
        match self {
            News::Broadcast { activity } => News::Broadcast { activity: Cow::Owned(activity.into_owned()) },
            News::Connected { host, port } => News::Connected { host, port },
            News::Registered { info } => News::Registered { info },
            News::LoggedIn { info } => News::LoggedIn { info },
            News::Redirected { host, port } => News::Redirected { host, port },
            News::Refused { command, info } => News::Refused { command, info },
            News::Invalid { info } => News::Invalid { info },
            News::Ignored { why } => News::Ignored { why },
            News::Acknowledged { cseq } => News::Acknowledged { cseq },
            News::Quiet => News::Quiet,
            News::Lost { why } => News::Lost { why },
            News::Waiting { pause, host, port } => News::Waiting { pause, host, port },
        }
    }
}

/// How a journey ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub enum Over {
    /// All that was said was written, LOGOUT too, and the server closed in good order.
    LoggedOut,
    /// Name or secret were not taken; `command` says when.
    Refused { command: String, info: String },
    /// The server refused a message.
    Invalid { info: String },
    /// Servers redirect in circles, more than [`REDIRECTS_MAX`] times.
    Circling,
    /// The last of the connections allowed ended without a logout. What was not written is lost.
    Lost { why: String, logged_in: bool },
    /// The last of the connections allowed could not be made; `redirected` if a server had named it.
    Unreached { why: String, redirected: bool },
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::LoggedOut => write!(f, "logged out; open another connection to go on"),
            Over::Refused { command, info } if command == "REGISTER_FAILED" => {
                write!(f, "registration refused: {info}; take another name, or give this one's secret")
            }
            Over::Refused { info, .. } => write!(f, "login refused: {info}; check the name and the secret"),
            Over::Invalid { info } => write!(f, "the server refused a message: {info}"),
            Over::Circling => {
                write!(f, "redirected more than {REDIRECTS_MAX} times in a row; try again later")
            }
            Over::Lost { why, logged_in: true } => {
                write!(f, "{why} before the logout; what was not sent is lost, connect again")
            }
            Over::Lost { why, .. } => write!(f, "{why} before it answered; is that a server's port?"),
            Over::Unreached { why, redirected: true } => {
                write!(f, "{why}; a server redirected here; is that one's -lh a name this machine can reach?")
            }
            Over::Unreached { why, .. } => write!(f, "{why}; is a server running there?"),
        }
    }
}
