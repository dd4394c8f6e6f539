//! Any schedule of what a few clients and their kernels do, against a whole node without sockets.
//!
//! One observer logs in first and takes everything at once: what it hears is what was said. Every other
//! connection is held against it and against the protocol.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::base::id::LinkId;
use crate::base::limits::{Limits, SILENT};
use crate::base::time::Time;
use crate::node::Input;
use crate::sim::World;

/// Steps and connections of one run: more of either only makes it slow.
const STEPS: usize = 400;
const LINKS: usize = 40;
/// One step's longest wait; long enough for every deadline there is.
const WAIT_MS: u64 = 4_000_000;

/// Answers after which nothing may come.
const LAST_WORDS: [&str; 4] = ["INVALID_MESSAGE", "LOGIN_FAILED", "REGISTER_FAILED", "AUTHENTICATION_FAIL"];

/// Each line of `input` is a step: a letter, which client (`0` to `7`), and what [`Stage::step`] says. Others
/// are passed over.
pub fn session(input: &[u8]) {
    let mut stage = Stage::new();
    for step in input.split(|b| *b == b'\n').take(STEPS) {
        let (verb, seat, rest) = match step {
            [verb, seat @ b'0'..=b'7', rest @ ..] => (*verb, usize::from(seat - b'0'), rest),
            [verb, rest @ ..] => (*verb, 0, rest),
            [] => continue,
        };
        stage.step(verb, seat, rest);
        stage.look();
    }
    stage.finish();
}

/// One connection as its client sees it.
struct Client {
    connected: Time,
    /// How much of what was written was looked at.
    seen: usize,
    registered: bool,
    logged_in: bool,
    /// It said something, so it may be a session without having logged in.
    spoke: bool,
    /// Nothing may come any more.
    over: bool,
    /// Everybody's messages when this client had been seen to be logged in.
    owed_from: Option<usize>,
    /// What it heard, and behind which of everybody's messages the last of that stands.
    heard: Vec<String>,
    place: usize,
}

struct Stage {
    world: World,
    observer: LinkId,
    clients: BTreeMap<LinkId, Client>,
    seats: [Option<LinkId>; 8],
    /// What was said, in order.
    said: Vec<String>,
    /// Makes what a step says different from what any other says.
    count: u32,
}

impl Stage {
    fn new() -> Stage {
        // Small enough to be reached: a feed of a few lines, a registry of three names.
        let limits = Limits {
            line_bytes: 512,
            feed_bytes: 4096,
            names: 3,
            failed_logins: 3,
            away: Duration::from_secs(8),
            ..Limits::default()
        };
        let mut world = World::new(limits);
        let observer = world.connect();
        world.send(observer, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
        world.heard(observer);
        Stage { world, observer, clients: BTreeMap::new(), seats: [None; 8], said: Vec::new(), count: 0 }
    }

    fn step(&mut self, verb: u8, seat: usize, rest: &[u8]) {
        let text = String::from_utf8_lossy(rest);
        let text = text.trim();
        let number: Option<u64> = text.parse().ok();
        let world = &mut self.world;
        match verb {
            b't' => {
                let ms = number.unwrap_or(1).min(WAIT_MS);
                return world.advance(Duration::from_millis(ms));
            }
            b'h' => return world.hold_hashes = !world.hold_hashes,
            b'H' => return world.hash(),
            b'+' if self.clients.len() < LINKS => {
                let link = world.connect();
                self.seats[seat] = Some(link);
                self.clients.insert(link, Client::new(world.now));
                return;
            }
            _ => {}
        }
        let Some(link) = self.seats[seat].filter(|link| !world.sockets[link].closed) else { return };
        let (name, secret) = text.split_once(' ').unwrap_or((text, text));
        match verb {
            // What the client sends: a line, part of one, or a line that waits for the next turn.
            b'>' => world.send(link, &[rest, b"\n"].concat()),
            b'.' => world.send(link, rest),
            b',' => world.arrive(link, &[rest, b"\n"].concat()),
            b'R' => world.send(link, &command("REGISTER", name, secret, "")),
            b'L' => world.send(link, &command("LOGIN", name, secret, "")),
            b'Q' => world.send(link, b"{\"command\":\"LOGOUT\"}\n"),
            b'S' => {
                self.count += 1;
                let activity = format!(",\"activity\":{{\"n\":{}}}", self.count);
                world.send(link, &command("ACTIVITY_MESSAGE", name, secret, &activity));
            }
            // How its kernel and the network do.
            b'r' => world.make_room(link, number.map(|n| n as usize)),
            b'a' => {
                let written = world.socket(link).written.len();
                world.socket(link).acknowledged = number.map(|n| written.saturating_sub(n as usize));
            }
            b'!' => world.socket(link).stalled ^= true,
            b'e' => world.end(link),
            b'x' => world.cut(link),
            _ => {}
        }
        if matches!(verb, b'>' | b'.' | b',' | b'S')
            && let Some(client) = self.clients.get_mut(&link)
        {
            client.spoke = true;
        }
    }

    /// Looks at what everybody was written since the last time.
    fn look(&mut self) {
        for line in self.world.heard(self.observer).lines() {
            assert_eq!(command_of(line), "ACTIVITY_BROADCAST");
            self.said.push(line.to_owned());
        }
        assert_eq!(self.world.node.counters().activities, self.said.len() as u64);
        for (link, client) in &mut self.clients {
            let socket = &self.world.sockets[link];
            let new = &socket.written[client.seen..];
            let whole = new.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            assert!(whole == new.len() || socket.room.is_some() || socket.closed, "part of a line");
            for line in new[..whole].split_inclusive(|b| *b == b'\n') {
                let line = std::str::from_utf8(line).expect("ASCII").trim_end_matches('\n');
                client.hears(line, self.world.now, &self.said);
            }
            client.seen += whole;
            if client.logged_in && client.owed_from.is_none() {
                client.owed_from = Some(self.said.len());
            }
        }
    }

    /// Everything heals; whoever is a session then must have all; then all must end.
    fn finish(&mut self) {
        self.world.hold_hashes = false;
        self.world.hash();
        for link in self.clients.keys() {
            let socket = self.world.socket(*link);
            (socket.acknowledged, socket.stalled) = (None, false);
            self.world.make_room(*link, None);
        }
        // Long enough for a refused login to be answered: a session that fails to log in again is none.
        self.world.advance(SILENT);
        self.look();
        for (link, client) in &self.clients {
            let socket = &self.world.sockets[link];
            if let Some(from) = client.owed_from.filter(|_| !socket.shut && !socket.closed) {
                assert!(client.heard.ends_with(&self.said[from..]), "link {link} missed something");
            }
        }
        self.world.node.handle(self.world.now, Input::Stop);
        self.world.advance(Duration::from_secs(30));
        self.look();
        assert_eq!(self.world.node.links(), 0, "a stopped node has no links");
    }
}

impl Client {
    fn new(connected: Time) -> Client {
        Client {
            connected,
            seen: 0,
            registered: false,
            logged_in: false,
            spoke: false,
            over: false,
            owed_from: None,
            heard: Vec::new(),
            place: 0,
        }
    }

    fn hears(&mut self, line: &str, now: Time, said: &[String]) {
        assert!(line.bytes().all(|b| (0x20..0x80).contains(&b)), "{line:?}");
        assert!(!self.over, "after its last words: {line}");
        match &*command_of(line) {
            "ACTIVITY_BROADCAST" => {
                let silent = (self.registered || self.spoke) && now >= self.connected + SILENT;
                assert!(self.logged_in || silent, "before its login was answered: {line}");
                let next = said[self.place..].iter().position(|l| l == line);
                self.place += next.expect("what was said, in order, nothing twice") + 1;
                self.heard.push(line.to_owned());
            }
            "REGISTER_SUCCESS" => self.registered = true,
            "LOGIN_SUCCESS" => self.logged_in = true,
            last => self.over = LAST_WORDS.contains(&last),
        }
    }
}

/// Which of the commands a client knows this line is; it must have what belongs to that.
fn command_of(line: &str) -> String {
    let line: Value = serde_json::from_str(line).expect("JSON");
    let command = line["command"].as_str().expect("a command").to_owned();
    match &*command {
        "ACTIVITY_BROADCAST" => assert!(line["activity"]["authenticated_user"].is_string(), "{line}"),
        "REDIRECT" => assert!(line["hostname"].is_string() && line["port"].is_u64(), "{line}"),
        "LOGIN_SUCCESS" | "REGISTER_SUCCESS" => assert!(line["info"].as_str().is_some_and(|i| !i.is_empty())),
        last => {
            assert!(LAST_WORDS.contains(&last), "no command of clients: {line}");
            assert!(line["info"].as_str().is_some_and(|i| !i.is_empty()), "{line}");
        }
    }
    command
}

fn command(command: &str, name: &str, secret: &str, more: &str) -> Vec<u8> {
    let text = |text: &str| Value::from(text).to_string();
    let (name, secret) = (text(name), text(secret));
    format!("{{\"command\":\"{command}\",\"username\":{name},\"secret\":{secret}{more}}}\n").into_bytes()
}
