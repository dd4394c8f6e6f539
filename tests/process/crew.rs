//! Networks of servers, and clients that number what they say and keep all that they hear.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::common::command;
use crate::stage::{Server, Talker};

/// A server of the network that the other one is in.
pub fn join(other: &Server) -> Server {
    let port = other.port.to_string();
    Server::start(&["-s", "sek", "-rh", "localhost", "-rp", &port])
}

/// So many servers, each linked to each.
pub fn mesh(servers: usize) -> Vec<Server> {
    let mut all = vec![Server::start(&["-s", "sek"])];
    all.extend((1..servers).map(|_| join(&all[0])).collect::<Vec<_>>());
    all.iter().for_each(|server| server.joined_by(servers - 1));
    all
}

/// A client that has logged in at the server there.
pub fn login_at(address: SocketAddr, name: &str) -> Talker {
    let mut talker = Talker::at(address);
    talker.login(name);
    talker
}

/// How many rounds a test goes: few, unless the environment asks for more.
pub fn rounds(variable: &str, few: usize) -> usize {
    std::env::var(variable).map_or(few, |more| more.parse().expect("a number of rounds"))
}

/// The `n`th message of a sender, said at `at` ms of the test; `last` if it says no more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Message {
    pub by: u64,
    pub n: u64,
    pub at: u64,
    pub last: bool,
}

impl Message {
    pub fn activity(&self) -> Value {
        json!({ "by": self.by, "n": self.n, "at": self.at, "last": self.last })
    }

    fn of(line: &Value) -> Message {
        assert_eq!(command(line), "ACTIVITY_BROADCAST", "{line}");
        let number = |field: &str| line["activity"][field].as_u64().expect("it was said with a number");
        Message { by: number("by"), n: number("n"), at: number("at"), last: line["activity"]["last"] == true }
    }
}

/// A client, and all that it has heard.
pub struct Listener {
    pub talker: Talker,
    pub heard: Vec<Message>,
    ended: BTreeSet<u64>,
}

impl Listener {
    pub fn new(talker: Talker) -> Listener {
        Listener { talker, heard: Vec::new(), ended: BTreeSet::new() }
    }

    /// The next message, or none if the connection has ended.
    pub fn hear(&mut self) -> Option<Message> {
        let line = self.talker.hear_or_end()?;
        Some(self.take(&line))
    }

    /// Keeps a line that it heard.
    pub fn take(&mut self, line: &Value) -> Message {
        let message = Message::of(line);
        if message.last {
            self.ended.insert(message.by);
        }
        self.heard.push(message);
        message
    }

    /// Hears one after the other until that message comes; false if the connection ends before.
    pub fn hear_until(&mut self, by: u64, n: u64) -> bool {
        while let Some(message) = self.hear() {
            if (message.by, message.n) == (by, n) {
                return true;
            }
        }
        false
    }

    /// How many senders' last messages it has heard.
    pub fn ended(&self) -> usize {
        self.ended.len()
    }

    /// Hears until so many senders have said their last.
    pub fn hear_all(&mut self, senders: usize) {
        while self.ended.len() < senders {
            self.hear().expect("the server sends a line and does not close");
        }
    }

    /// The numbers that it heard of each sender, as they came.
    pub fn numbers(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut numbers: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        self.heard.iter().for_each(|message| numbers.entry(message.by).or_default().push(message.n));
        numbers
    }

    /// It has heard each of so many senders from its first message to its last, each once and in order.
    pub fn has_heard_all_once(&self, senders: usize, who: &str) {
        let numbers = self.numbers();
        assert_eq!(numbers.len(), senders, "{who} hears each sender");
        for (by, numbers) in numbers {
            let wrong = (0..).zip(&numbers).find(|(n, number)| n != *number);
            if let Some((n, number)) = wrong {
                let kind = if *number < n { "twice" } else { "too early" };
                panic!("{who} hears {number} of sender {by} {kind}, where {n} is next");
            }
        }
    }
}
