//! A network whose servers end one after the other and are started again where they were, while everybody talks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::crew::{Listener, Message, login_at, rounds};
use crate::kept::{Folder, Place};
use crate::stage::{PATIENCE, Server};

const SECRET: [&str; 2] = ["-s", "sek"];
/// The first three talk, the others listen.
const TALKERS: usize = 3;
const CLIENTS: usize = 6;

/// What clients and the test tell each other.
struct Stage {
    start: Instant,
    enough: AtomicBool,
    /// Of each client, when the newest message was said that it heard.
    newest: Vec<AtomicU64>,
    places: Vec<Place>,
}

impl Stage {
    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    /// Waits until each client has heard what was said after now.
    fn wait_for_all(&self) {
        let (now, start) = (self.now(), Instant::now());
        while self.newest.iter().any(|at| at.load(Ordering::SeqCst) <= now) {
            assert!(start.elapsed() < PATIENCE, "everybody hears on: {:?} at {now}", self.newest);
            thread::yield_now();
        }
    }

    /// The client hears a message, on the next server if its connection has ended.
    fn hear(&self, me: usize, at: &mut usize, client: &mut Listener) -> Option<Message> {
        if let Some(message) = client.hear() {
            self.newest[me].fetch_max(message.at, Ordering::SeqCst);
            return Some(message);
        }
        *at = (*at + 1) % 3;
        let address = ([127, 0, 0, 1], self.places[*at].port).into();
        client.talker = login_at(address, &format!("user{me}"));
        None
    }

    fn run(&self, me: usize, client: &mut Listener) {
        let mut at = me % 3;
        if me < TALKERS {
            for n in 0..100_000 {
                let last = self.enough.load(Ordering::SeqCst);
                let message = Message { by: me as u64, n, at: self.now(), last };
                client.talker.said(&message.activity());
                // What is said on a connection that ends may be lost; then the next is said.
                while self.hear(me, &mut at, client).is_some_and(|heard| heard != message) {}
                if last {
                    break;
                }
            }
        }
        while client.ended() < TALKERS {
            self.hear(me, &mut at, client);
        }
    }
}

fn end_in_turn(test: &str, end: impl Fn(Server)) {
    let folder = Folder::new(test);
    let places: Vec<Place> = ["one", "two", "three"].map(|name| Place::new(folder.path(name))).into();
    let first = places[0].port.to_string();
    let join = [&SECRET[..], &["-rh", "localhost", "-rp", &first]].concat();
    let mut servers: Vec<Server> =
        (0..3).map(|i| places[i].start(if i == 0 { &SECRET } else { &join })).collect();
    servers.iter().for_each(|server| server.joined_by(2));
    let newest = (0..CLIENTS).map(|_| AtomicU64::new(0)).collect();
    let stage = Stage { start: Instant::now(), enough: AtomicBool::new(false), newest, places };
    let mut clients: Vec<Listener> =
        (0..CLIENTS).map(|i| Listener::new(servers[i % 3].register(&format!("user{i}")))).collect();
    thread::scope(|scope| {
        let stage = &stage;
        for (me, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || stage.run(me, client));
        }
        for round in 0..rounds("ROLLING_ROUNDS", 4) {
            stage.wait_for_all();
            end(servers.remove(0));
            stage.wait_for_all();
            servers.push(stage.places[round % 3].start(&SECRET));
            servers[2].joined_by(2);
        }
        stage.wait_for_all();
        stage.enough.store(true, Ordering::SeqCst);
    });
    let set = |client: &Listener| client.heard.iter().map(|m| (m.by, m.n)).collect::<BTreeSet<_>>();
    let all: BTreeSet<_> = clients.iter().flat_map(set).collect();
    for (i, client) in clients.iter().enumerate() {
        let missed: Vec<_> = all.difference(&set(client)).copied().collect();
        assert!(missed.is_empty(), "client {i} misses what another heard: {missed:?}");
    }
    let repeats = |client: &Listener| client.heard.len() - set(client).len();
    println!("{} messages, repeated {:?}", all.len(), clients.iter().map(repeats).collect::<Vec<_>>());
}

#[test]
fn servers_that_are_killed_in_turn_and_come_back_lose_nothing() {
    end_in_turn("rolling", Server::crash);
}
