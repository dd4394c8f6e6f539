//! Networks whose servers are all killed, and started again where they were: with what their disks still have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::crew::{Listener, Message};
use crate::kept::{Folder, Place};
use crate::stage::{PATIENCE, Server};

/// The number of the message that each talker says when all are back.
const LAST: u64 = 1_000_000;
const SECRET: [&str; 2] = ["-s", "sek"];

/// Three places, and on each server a user who talks, one who listens, one who does not read, and one who is
/// away.
struct Network {
    _folder: Folder,
    places: [Place; 3],
    talkers: Vec<Listener>,
    listeners: Vec<Listener>,
    stuck: Vec<Listener>,
}

/// What the users that are away have heard of each talker.
const BEFORE: u64 = 10;

impl Network {
    fn new(test: &str) -> (Network, Vec<Server>) {
        let folder = Folder::new(test);
        let places = ["one", "two", "three"].map(|name| Place::new(folder.path(name)));
        let first = places[0].port.to_string();
        let join = [&SECRET[..], &["-rh", "localhost", "-rp", &first]].concat();
        let servers: Vec<Server> =
            (0..3).map(|i| places[i].start(if i == 0 { &SECRET } else { &join })).collect();
        servers.iter().for_each(|server| server.joined_by(2));
        let each = |name: &str| -> Vec<Listener> {
            let user = |i: usize| Listener::new(servers[i].register(&format!("{name}{i}")));
            (0..3).map(user).collect()
        };
        let (mut talkers, listeners, away) = (each("talker"), each("listener"), each("away"));
        let register_slow = |i: usize| {
            let mut talker = servers[i].connect_slow();
            talker.register(&format!("stuck{i}"));
            Listener::new(talker)
        };
        let stuck: Vec<Listener> = (0..3).map(register_slow).collect();
        for (by, talker) in talkers.iter_mut().enumerate() {
            (0..BEFORE).for_each(|n| talker.talker.say(say(by, n)));
        }
        let mut network = Network { _folder: folder, places, talkers, listeners, stuck };
        for mut gone in away {
            hear_each(&mut gone, BEFORE - 1);
            gone.talker.vanish();
        }
        network.talkers.iter_mut().chain(&mut network.listeners).for_each(|l| hear_each(l, BEFORE - 1));
        (network, servers)
    }

    /// Everybody talks until all servers are killed in the middle of it.
    fn talk_until_all_are_killed(&mut self, servers: Vec<Server>) {
        let (start, heard, over) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            for listener in &mut self.listeners {
                scope.spawn(|| {
                    while listener.hear().is_some() {
                        heard.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            for (by, talker) in self.talkers.iter_mut().enumerate() {
                let over = &over;
                scope.spawn(move || {
                    for n in BEFORE..LAST {
                        let said = talker.talker.said(&say(by, n));
                        if !said || over.load(Ordering::SeqCst) || !talker.hear_until(by as u64, n) {
                            break;
                        }
                    }
                    while talker.hear().is_some() {}
                });
            }
            while heard.load(Ordering::SeqCst) < 3000 {
                assert!(start.elapsed() < PATIENCE, "they talk");
                thread::yield_now();
            }
            let mut servers = servers;
            servers.iter_mut().for_each(|server| server.process.kill());
            over.store(true, Ordering::SeqCst);
            servers.into_iter().for_each(Server::crash);
        });
        // What their kernels have counts as heard.
        self.stuck.iter_mut().for_each(|listener| while listener.hear().is_some() {});
    }

    /// The servers start in the other order, and are told of nobody.
    fn start_again(&self) -> Vec<Server> {
        let mut servers: Vec<Server> = (0..3).rev().map(|i| self.places[i].start(&SECRET)).collect();
        servers.reverse();
        servers.iter().for_each(|server| server.joined_by(2));
        servers
    }

    /// All come back, none to the server it was on, and nothing is lost of what `witnesses` heard.
    fn come_back(&mut self, servers: &[Server], witnesses: &[usize]) {
        let mut heard: BTreeMap<u64, u64> = BTreeMap::new();
        for i in witnesses {
            for message in &self.listeners[*i].heard {
                let end = heard.entry(message.by).or_default();
                *end = message.n.max(*end);
            }
        }
        println!("the witnesses heard {heard:?}");
        let back = |name: &str, i: usize| servers[(i + 1) % 3].login(&format!("{name}{i}"));
        let mut comers: Vec<(String, Listener, BTreeMap<u64, u64>)> = Vec::new();
        for i in 0..3 {
            self.listeners[i].talker = back("listener", i);
            let had = [0, 1, 2].map(|by| (by, BEFORE)).into();
            comers.push((format!("away{i}"), Listener::new(back("away", i)), had));
            let had = self.stuck[i].numbers().into_iter().map(|(by, numbers)| (by, numbers.len() as u64));
            comers.push((format!("stuck{i}"), Listener::new(back("stuck", i)), had.collect()));
        }
        for by in 0..3 {
            self.talkers[by].talker = back("talker", by);
            let last = Message { by: by as u64, n: LAST, at: 0, last: true };
            self.talkers[by].talker.say(last.activity());
        }
        for (who, comer, had) in &mut comers {
            comer.hear_all(3);
            for (by, numbers) in comer.numbers() {
                let numbers = &numbers[..numbers.len() - 1];
                let first = numbers.first().copied().unwrap_or(LAST);
                assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{who} hears {by} in order: {numbers:?}");
                let from = had.get(&by).copied().unwrap_or_default();
                assert!(first <= from, "{who} hears {by} from {from} on, not {first}");
                let last = numbers.last().copied().unwrap_or_default();
                assert!(last >= heard[&by], "{who} hears {by} up to {last}, and another to {}", heard[&by]);
            }
        }
        for (i, listener) in self.listeners.iter_mut().enumerate() {
            listener.hear_all(3);
            for (by, numbers) in listener.numbers() {
                let all: BTreeSet<u64> = numbers.into_iter().collect();
                let missed: Vec<u64> = (0..=heard[&by]).filter(|n| !all.contains(n)).collect();
                assert_eq!(missed, [0; 0], "listener {i} misses what another heard of {by}");
            }
        }
        for server in servers {
            for name in ["talker", "listener", "stuck", "away"] {
                (0..3).for_each(|i| drop(server.login(&format!("{name}{i}"))));
            }
        }
    }
}

fn say(by: usize, n: u64) -> serde_json::Value {
    Message { by: by as u64, n, at: 0, last: false }.activity()
}

/// Hears all talkers up to their message of this number.
fn hear_each(listener: &mut Listener, n: u64) {
    while listener.numbers().values().filter(|numbers| numbers.contains(&n)).count() < 3 {
        listener.hear().expect("the server goes on");
    }
}

/// A byte in the middle of the file is another one.
fn flip(file: &Path) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("the file is there");
    let at = file.metadata().expect("a file").len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is long enough");
    byte[0] ^= 0x10;
    file.write_all_at(&byte, at).expect("it can be written");
}

/// The file ends in the middle of its last block.
fn tear(file: &Path) {
    let length = fs::metadata(file).expect("the file is there").len();
    File::options().write(true).open(file).and_then(|file| file.set_len(length - 20)).expect("it is cut");
}

#[test]
fn three_killed_servers_with_damaged_journals_have_lost_nothing_together() {
    let (mut network, servers) = Network::new("damaged");
    network.talk_until_all_are_killed(servers);
    flip(network.places[0].journal().last().expect("a journal"));
    tear(network.places[1].journal().last().expect("a journal"));
    let servers = network.start_again();
    network.come_back(&servers, &[2]);
}

#[test]
fn a_server_that_lost_its_folder_learns_all_again() {
    let (mut network, servers) = Network::new("emptied");
    network.talk_until_all_are_killed(servers);
    fs::remove_dir_all(network.places[2].folder()).expect("the folder is there");
    tear(network.places[1].journal().last().expect("a journal"));
    let servers = network.start_again();
    network.come_back(&servers, &[0]);
}

#[test]
fn servers_started_from_copies_of_one_folder_are_two_of_one_network() {
    let folder = Folder::new("copied");
    let [one, other] = ["one", "other"].map(|name| Place::new(folder.path(name)));
    let server = one.start(&SECRET);
    let mut ann = Listener::new(server.register("ann"));
    let mut bob = Listener::new(server.register("bob"));
    (0..10).for_each(|n| ann.talker.say(say(0, n)));
    assert!(ann.hear_until(0, 9) && bob.hear_until(0, 9));
    bob.talker.vanish();
    (10..20).for_each(|n| ann.talker.say(say(0, n)));
    assert!(ann.hear_until(0, 19));
    ann.talker.vanish();
    server.stop();
    copy(&one.folder(), &other.folder());
    let first = one.start(&SECRET);
    let second = other.start(&[&SECRET[..], &["-rh", "localhost", "-rp", &one.port.to_string()]].concat());
    [&first, &second].iter().for_each(|server| server.joined_by(1));
    let mut bob = Listener::new(second.login("bob"));
    assert!(bob.hear_until(0, 19), "the server goes on");
    let numbers = |listener: &Listener| listener.numbers().remove(&0).unwrap_or_default();
    assert_eq!(numbers(&bob), Vec::from_iter(10..20), "what he missed, once");
    bob.talker.vanish();
    let mut ann = Listener::new(first.login("ann"));
    let mut bob_again = Listener::new(first.login("bob"));
    ann.talker.say(say(0, 20));
    assert!(ann.hear_until(0, 20), "the server goes on");
    second.register("cy");
    drop(first.login("cy"));
    let mut cy = second.login("anonymous");
    ann.talker.say(say(0, 21));
    for listener in [&mut ann, &mut bob_again] {
        assert!(listener.hear_until(0, 21), "the server goes on");
    }
    cy.hear_numbers([21]);
    assert_eq!(numbers(&bob_again), [20, 21], "and not again");
    assert_eq!(numbers(&ann), [20, 21]);
    let log = first.stop();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "all went well:\n{log}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the folder is there") {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("a file");
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).expect("it can be copied")),
        }
    }
}
