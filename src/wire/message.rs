//! What a client can say, borrowed from the line it came in, and why a line is refused.

use std::fmt;

use crate::base::id::StreamId;
use crate::base::limits::{INPUT_TURN, JSON_DEPTH};
use crate::base::vector::Vector;

/// The user name that needs no registration and no secret.
pub const ANONYMOUS: &str = "anonymous";

/// One line from a client. Names and secrets are decoded; the activity is the client's own bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage<'a> {
    /// Make this name mine.
    Register {
        /// The name asked for.
        username: &'a str,
        /// The secret that later logins must show; empty when absent or null.
        secret: &'a str,
        /// It numbers what it says.
        ext: Option<Box<Ext>>,
    },
    /// Start a session.
    Login {
        /// A registered name or `anonymous`.
        username: &'a str,
        /// Empty when absent or null.
        secret: &'a str,
        /// It numbers what it says.
        ext: Option<Box<Ext>>,
    },
    /// End this session.
    Logout,
    /// Say something to everybody.
    Activity {
        /// Must be the session's name.
        username: &'a str,
        /// Must be the session's secret; empty when absent or null.
        secret: &'a str,
        /// What is said.
        activity: Activity<'a>,
        /// Its number, if there is one.
        cseq: Option<u64>,
    },
    /// The client complains about a line of ours.
    Invalid {
        /// Its complaint.
        info: &'a str,
    },
}

/// What a client that numbers its messages says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ext {
    /// Drawn at random once; nobody else knows it.
    pub client: [u8; 16],
    /// The first of its messages that it can say again, from 1 on.
    pub from: u64,
    /// The last broadcast it had of each stream; none if it begins now.
    pub at: Option<Vector>,
    /// Its own messages that it has heard, all up to the highest of these: the last number that came by each
    /// stream, the stream, and the number there.
    pub own: Vec<(u64, StreamId, u64)>,
}

/// The members of a JSON object as the client wrote them, between the braces, without any
/// `authenticated_user` of its own. They come in two pieces because one may be cut out in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Activity<'a> {
    /// The members before the cut; ends in a comma if `back` is not empty.
    pub front: &'a [u8],
    /// The members behind the cut.
    pub back: &'a [u8],
    /// True when there is no member at all.
    pub is_empty: bool,
}

/// Why a line is answered with INVALID_MESSAGE. The text is what the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not JSON at all.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// Nested deeper than [`JSON_DEPTH`].
    TooDeep,
    /// A number that no 64-bit integer or double can hold, or that is not JSON's.
    Number,
    /// A `\u` escape that is no character: half a surrogate pair, or not four hex digits.
    Escape,
    /// One key twice, at the top of the line or of the activity.
    RepeatedKey(String),
    /// No `command`.
    NoCommand,
    /// A command clients do not have.
    UnknownCommand(String),
    /// A field that must be there and a string.
    NeedsString(&'static str, &'static str),
    /// `activity` absent or not an object.
    NeedsActivity,
    /// Something is wrong with `ext`.
    Ext(&'static str),
    /// A client that numbers its messages sent one without.
    NeedsNumber,
    /// It left out a number; the next one is this.
    Jump(u64),
    /// The line is longer than so many bytes.
    LineTooLong(usize),
    /// The line took longer than its turn of scarce memory.
    LineTooSlow,
    /// What would be sent to everybody is longer than so many bytes.
    BroadcastTooLong(usize),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotJson => write!(f, "the line is not valid JSON; send one JSON object a line"),
            Refusal::NotAnObject => write!(f, "the line is not a JSON object; send one JSON object a line"),
            Refusal::TooDeep => write!(f, "the line is nested deeper than {JSON_DEPTH} levels"),
            Refusal::Number => write!(
                f,
                "the line has a number that is malformed or out of range: integers must fit 64 bits with a \
                 sign, others a double"
            ),
            Refusal::Escape => {
                write!(f, "the line has a \\u escape that is no character, such as half a surrogate pair")
            }
            Refusal::RepeatedKey(key) => write!(f, "the key \"{key}\" is there twice; send it once"),
            Refusal::NoCommand => write!(f, "the line has no \"command\", or it is not a string"),
            Refusal::UnknownCommand(name) => write!(
                f,
                "unknown command \"{name}\"; a client can send REGISTER, LOGIN, LOGOUT and ACTIVITY_MESSAGE"
            ),
            Refusal::NeedsString(command, field) => {
                write!(f, "{command} needs \"{field}\", and it must be a string")
            }
            Refusal::NeedsActivity => {
                write!(f, "ACTIVITY_MESSAGE needs \"activity\", and it must be an object")
            }
            Refusal::Ext(why) => write!(f, "{why}"),
            Refusal::NeedsNumber => write!(
                f,
                "ACTIVITY_MESSAGE needs \"cseq\" on a connection with \"ext\": a whole number, 1 for the first"
            ),
            Refusal::Jump(next) => write!(f, "a \"cseq\" was left out; the next one is {next}"),
            Refusal::LineTooLong(limit) => write!(f, "the line is longer than the limit of {limit} bytes"),
            Refusal::LineTooSlow => write!(
                f,
                "the line did not arrive within {} s while the server was short of memory for half-received \
                 lines; try again later",
                INPUT_TURN.as_secs()
            ),
            Refusal::BroadcastTooLong(limit) => {
                write!(f, "the broadcast made from this line is longer than the limit of {limit} bytes")
            }
        }
    }
}

/// What an answer or a log line quotes of the client's own words: their first 64 characters.
pub fn shorten(text: &str) -> String {
    let cut = text.char_indices().nth(64).map_or(text, |(i, _)| &text[..i]);
    if cut.len() < text.len() { format!("{cut}...") } else { cut.to_owned() }
}
