//! Any schedule of what a few clients and their kernels do, against a whole node without sockets.
//!
//! One observer logs in first and takes everything at once: what it hears is what was said. Every other
//! connection is held against it and against the protocol; at the end, whoever registered must have heard
//! all that was said since, on one of its connections or when it logs in once more.

mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;

use client::{Client, command_of};

use crate::base::id::LinkId;
use crate::base::limits::{Limits, SILENT};
use crate::node::{CloseReason, Input};
use crate::sim::World;
use crate::wire::message::ANONYMOUS;

/// Steps and connections of one run: more of either only makes it slow.
const STEPS: usize = 400;
const LINKS: usize = 40;
/// One step's longest wait; long enough for every deadline there is.
const WAIT_MS: u64 = 4_000_000;

/// Each line of `input` is a step: a letter, which client (`0` to `7`), and more. Others are passed over.
///
/// | letter | the client | letter | its kernel, the network, the world |
/// |---|---|---|---|
/// | `+` | connects | `r` | takes so many more bytes (none: any number) |
/// | `>` | sends a line | `a` | has not acknowledged the last so many bytes (none: acknowledges all) |
/// | `,` | sends one, and no turn comes yet | `!` | stops answering, or answers again |
/// | `.` | sends a part of one | `x` | breaks the connection |
/// | `R` `L` `S` | registers, logs in, says: name, secret | `t` | so many ms pass |
/// | `Q` | logs out | `h` | hashes wait from now on, or no more |
/// | `e` | ends its side | `H` | those that wait are done |
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

/// Somebody who registered.
#[derive(Default)]
struct Name {
    /// Everybody's messages when it was seen to be a session.
    since: usize,
    links: Vec<LinkId>,
}

struct Stage {
    world: World,
    observer: LinkId,
    clients: BTreeMap<LinkId, Client>,
    seats: [Option<LinkId>; 8],
    /// What was said, in order.
    said: Vec<String>,
    names: BTreeMap<String, Name>,
    /// Names and secrets somebody tried to register.
    pairs: BTreeSet<(String, String)>,
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
        Stage {
            world,
            observer,
            clients: BTreeMap::new(),
            seats: [None; 8],
            said: Vec::new(),
            names: BTreeMap::new(),
            pairs: BTreeSet::new(),
            count: 0,
        }
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
        match verb {
            b'r' => world.make_room(link, number.map(|n| n as usize)),
            b'a' => {
                let written = world.socket(link).written.len();
                world.socket(link).acknowledged = number.map(|n| written.saturating_sub(n as usize));
            }
            b'!' => world.socket(link).stalled ^= true,
            b'e' => world.end(link),
            b'x' => world.cut(link),
            _ => {
                let bytes = self.bytes(verb, text, rest);
                self.clients.get_mut(&link).expect("in a seat").typed.extend_from_slice(&bytes);
                self.world.arrive(link, &bytes);
                if verb != b',' {
                    self.world.turn();
                }
            }
        }
    }

    /// What a client sends. A secret that is not given is the name.
    fn bytes(&mut self, verb: u8, text: &str, rest: &[u8]) -> Vec<u8> {
        let (name, secret) = text.split_once(' ').unwrap_or((text, text));
        match verb {
            b'>' | b',' => [rest, b"\n"].concat(),
            b'.' => rest.to_vec(),
            b'R' => {
                self.pairs.insert((name.to_owned(), secret.to_owned()));
                command("REGISTER", name, secret, "")
            }
            b'L' => command("LOGIN", name, secret, ""),
            b'S' => {
                self.count += 1;
                let activity = format!(",\"activity\":{{\"n\":{}}}", self.count);
                command("ACTIVITY_MESSAGE", name, secret, &activity)
            }
            b'Q' => b"{\"command\":\"LOGOUT\"}\n".to_vec(),
            _ => Vec::new(),
        }
    }

    /// Looks at what everybody was written since the last time.
    fn look(&mut self) {
        for line in self.world.heard(self.observer).lines() {
            assert_eq!(command_of(line).0, "ACTIVITY_BROADCAST");
            self.said.push(line.to_owned());
        }
        assert_eq!(self.world.node.counters().activities, self.said.len() as u64);
        for (link, client) in &mut self.clients {
            let socket = &self.world.sockets[link];
            let new = &socket.written[client.seen..];
            let whole = new.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            assert!(whole == new.len() || socket.room.is_some() || socket.closed, "part of a line");
            for line in new[..whole].split_inclusive(|b| *b == b'\n') {
                client.seen += line.len();
                let line = std::str::from_utf8(line).expect("ASCII").trim_end_matches('\n');
                if let Some(name) = client.hears(line, self.world.now, &self.said) {
                    let new = || Name { since: self.said.len(), ..Name::default() };
                    self.names.entry(name).or_insert_with(new).links.push(*link);
                }
            }
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
            if !socket.closed {
                (socket.acknowledged, socket.stalled) = (None, false);
                self.world.make_room(*link, None);
            }
        }
        // Long enough for a refused login to be answered: a session that fails to log in again is none.
        self.world.advance(SILENT);
        self.look();
        for (link, client) in &self.clients {
            let socket = &self.world.sockets[link];
            if let Some(from) = client.owed_from.filter(|_| !socket.shut && !socket.closed) {
                let heard: Vec<&String> = client.heard.iter().map(|(line, _)| line).collect();
                assert!(
                    heard.ends_with(&self.said[from..].iter().collect::<Vec<_>>()),
                    "{link} missed something"
                );
            }
        }
        self.all_come_back();
        self.world.node.handle(self.world.now, Input::Stop);
        self.world.advance(Duration::from_secs(30));
        self.look();
        assert_eq!(self.world.node.links(), 0, "a stopped node has no links");
    }

    /// Everybody who registered logs in again, and has heard everything then, except where the node says
    /// why not: it was logged out, stayed away too long or fell behind the feed.
    fn all_come_back(&mut self) {
        let mut back = Vec::new();
        for (i, (name, secret)) in self.pairs.iter().enumerate() {
            // An address of its own, or the guard against guessing refuses it.
            let link = self.world.connect_from(Ipv4Addr::from_bits(0x0a00_0000 + i as u32).into());
            self.clients.insert(link, Client::new(self.world.now));
            self.world.send(link, &command("LOGIN", name, secret, ""));
            back.push((name.clone(), link));
        }
        self.world.advance(SILENT);
        self.look();
        // Those that raw bytes registered, or with another secret, cannot.
        back.retain(|(_, link)| self.clients[link].logged_in);
        let counters = self.world.node.counters();
        let closed = |reason: CloseReason| counters.closed[reason as usize];
        let given_up = counters.lost_bytes + counters.mailboxes_expired;
        if given_up + closed(CloseReason::Logout) + closed(CloseReason::SlowReader) > 0 {
            return;
        }
        for (link, client) in &self.clients {
            for name in client.spoke_as() {
                self.names.entry(name).and_modify(|name| name.links.push(*link));
            }
        }
        for (name, _) in back.iter().filter(|(name, _)| *name != ANONYMOUS) {
            let Name { since, links } = &self.names[name];
            let sure = links.iter().flat_map(|link| {
                let arrived = self.world.sockets[link].acknowledged.unwrap_or(usize::MAX);
                self.clients[link].heard.iter().filter(move |(_, end)| *end <= arrived)
            });
            let sure: BTreeSet<&String> = sure.map(|(line, _)| line).collect();
            for line in &self.said[*since..] {
                assert!(sure.contains(line), "{name} missed {line}");
            }
        }
    }
}

fn command(command: &str, name: &str, secret: &str, more: &str) -> Vec<u8> {
    let text = |text: &str| Value::from(text).to_string();
    let (name, secret) = (text(name), text(secret));
    format!("{{\"command\":\"{command}\",\"username\":{name},\"secret\":{secret}{more}}}\n").into_bytes()
}
