//! One client of a [session](super) run, and what no client may ever be sent.

use serde_json::Value;

use crate::base::limits::SILENT;
use crate::base::time::Time;
use crate::wire::decode::Decoder;
use crate::wire::message::ClientMessage;

/// Answers after which nothing may come.
const LAST_WORDS: [&str; 4] = ["INVALID_MESSAGE", "LOGIN_FAILED", "REGISTER_FAILED", "AUTHENTICATION_FAIL"];

/// One connection as its client sees it.
pub struct Client {
    connected: Time,
    /// How much of what was written was looked at.
    pub seen: usize,
    registered: bool,
    pub logged_in: bool,
    /// All that it sent.
    pub typed: Vec<u8>,
    /// Nothing may come any more.
    over: bool,
    /// Everybody's messages when this client had been seen to be logged in.
    pub owed_from: Option<usize>,
    /// What it heard, and where in its stream each of that ends.
    pub heard: Vec<(String, usize)>,
    /// Behind which of everybody's messages the last it heard stands.
    place: usize,
}

impl Client {
    pub fn new(connected: Time) -> Client {
        Client {
            connected,
            seen: 0,
            registered: false,
            logged_in: false,
            typed: Vec::new(),
            over: false,
            owed_from: None,
            heard: Vec::new(),
            place: 0,
        }
    }

    /// The names it said something as: each is a session's without a login, if the secret was right.
    pub fn spoke_as(&self) -> Vec<String> {
        let mut decoder = Decoder::default();
        let name = |line: &[u8]| match decoder.decode(line.strip_suffix(b"\r").unwrap_or(line)) {
            Ok(ClientMessage::Activity { username, .. }) => Some(username.to_owned()),
            _ => None,
        };
        self.typed.split(|b| *b == b'\n').filter_map(name).collect()
    }

    /// The client reads a line. Returns its name if that tells it that it is a session.
    pub fn hears(&mut self, line: &str, now: Time, said: &[String]) -> Option<String> {
        assert!(line.bytes().all(|b| (0x20..0x80).contains(&b)), "{line:?}");
        assert!(!self.over, "after its last words: {line}");
        let (command, info) = command_of(line);
        match &*command {
            "ACTIVITY_BROADCAST" => {
                let silent =
                    (self.registered || !self.spoke_as().is_empty()) && now >= self.connected + SILENT;
                assert!(self.logged_in || silent, "before its login was answered: {line}");
                let next = said[self.place..].iter().position(|l| l == line);
                self.place += next.expect("what was said, in order, nothing twice") + 1;
                self.heard.push((line.to_owned(), self.seen));
                return None;
            }
            "REGISTER_SUCCESS" => self.registered = true,
            "LOGIN_SUCCESS" => self.logged_in = true,
            last => self.over = LAST_WORDS.contains(&last),
        }
        let name = info.strip_prefix("register success for ").or(info.strip_prefix("logged in as user "));
        name.filter(|_| !self.over).map(str::to_owned)
    }
}

/// Which of the commands a client knows this line is, and its `info`; it must have what belongs to that.
pub fn command_of(line: &str) -> (String, String) {
    let line: Value = serde_json::from_str(line).expect("JSON");
    let command = line["command"].as_str().expect("a command");
    let info = line["info"].as_str().unwrap_or_default();
    match command {
        "ACTIVITY_BROADCAST" => assert!(line["activity"]["authenticated_user"].is_string(), "{line}"),
        "REDIRECT" => assert!(line["hostname"].is_string() && line["port"].is_u64(), "{line}"),
        "NEXT" => assert!(line["ids"].is_array(), "{line}"),
        "MESSAGE_ACK" => assert!(line["cseq"].is_u64(), "{line}"),
        "LOGIN_SUCCESS" | "REGISTER_SUCCESS" => assert!(!info.is_empty(), "{line}"),
        last => assert!(LAST_WORDS.contains(&last) && !info.is_empty(), "no line for a client: {line}"),
    }
    (command.to_owned(), info.to_owned())
}
