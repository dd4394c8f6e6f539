//! Servers that are asked at the same instant, stopped, killed and added while everybody talks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::crew::{Listener, Message, join, login_at, mesh, rounds};
use crate::stage::{Server, pair};

/// Asks two servers for one name: how far apart, how often it was given, and when both had answered.
fn contest(name: &str, servers: [&Server; 2]) -> (Duration, usize, Duration) {
    let mut both = servers.map(Server::connect);
    let lines = both.each_ref().map(|_| format!("{{\"command\":\"REGISTER\",{}}}\n", pair(name)));
    let start = Instant::now();
    both[0].tell_bytes(lines[0].as_bytes());
    both[1].tell_bytes(lines[1].as_bytes());
    let apart = start.elapsed();
    let answers = both.each_mut().map(|talker| talker.hear()["command"].as_str().map(str::to_owned));
    let count = |answer: &str| answers.iter().filter(|heard| heard.as_deref() == Some(answer)).count();
    assert_eq!(count("REGISTER_SUCCESS") + count("REGISTER_FAILED"), 2, "{answers:?}");
    (apart, count("REGISTER_SUCCESS"), start.elapsed())
}

#[test]
fn a_name_asked_for_at_two_servers_within_a_millisecond_is_given_once() {
    let servers = mesh(3);
    let (mut close, mut slowest) = (0, Duration::ZERO);
    let wanted = rounds("CONTEST_ROUNDS", 30);
    for round in 0.. {
        let [one, other] = [&servers[round % 3], &servers[(round + 1 + round / 3 % 2) % 3]];
        let name = format!("user{round}");
        let (apart, given, took) = contest(&name, [one, other]);
        assert_eq!(given, 1, "round {round}, {apart:?} apart");
        slowest = slowest.max(took);
        close += usize::from(apart < Duration::from_millis(1));
        if round % 10 == 0 {
            servers.iter().for_each(|server| drop(server.login(&name)));
        }
        if close == wanted {
            break;
        }
        assert!(round < 10 * wanted, "two lines are sent within a millisecond");
    }
    println!("{close} rounds, both answered within {slowest:?}");
}

#[test]
fn a_name_asked_for_at_two_servers_while_the_third_is_stopped_is_given_once_within_a_second() {
    let servers = mesh(3);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds("STOPPED_ROUNDS", 5) {
        let [one, other, third] = [0, 1, 2].map(|i| &servers[(round + i) % 3]);
        let name = format!("user{round}");
        third.process.signal("STOP");
        let (_, given, took) = contest(&name, [one, other]);
        third.process.signal("CONT");
        assert_eq!(given, 1, "round {round}");
        assert!(took < Duration::from_secs(1), "round {round} took {took:?}");
        slowest = slowest.max(took);
        // It goes on, and is waited for again.
        drop(third.login(&name));
        third.register(&format!("late{round}"));
    }
    println!("both answered within {slowest:?}");
}

#[test]
fn a_name_outlives_the_server_that_gave_it_and_was_killed_at_once() {
    let mut servers = mesh(3);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds("KILLED_ROUNDS", 5) {
        let name = format!("user{round}");
        let mut killed = servers.remove(round % 3);
        let mut talker = killed.connect();
        talker.tell(&format!(r#"{{"command":"REGISTER",{}}}"#, pair(&name)));
        let mut answer = [0; 4096];
        let n = talker.socket().peek(&mut answer).expect("an answer");
        let answered = Instant::now();
        killed.process.kill();
        slowest = slowest.max(answered.elapsed());
        assert!(answer[..n].starts_with(br#"{"command":"REGISTER_SUCCESS""#));
        drop(servers[round / 3 % 2].login(&name));
        drop(servers[1 - round / 3 % 2].login(&name));
        let fresh = join(&servers[round % 2]);
        fresh.joined_by(2);
        drop(fresh.login(&name));
        servers.push(fresh);
    }
    println!("killed within {slowest:?}");
}

/// What talkers share: when they began, and whether they may come to an end.
struct Stage {
    start: Instant,
    enough: AtomicBool,
    /// How many messages each began to say.
    begun: Vec<AtomicU64>,
}

impl Stage {
    fn of(talkers: usize) -> Stage {
        let begun = (0..talkers).map(|_| AtomicU64::new(0)).collect();
        Stage { start: Instant::now(), enough: AtomicBool::new(false), begun }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn begun(&self) -> Vec<u64> {
        self.begun.iter().map(|n| n.load(Ordering::SeqCst)).collect()
    }

    fn message(&self, by: usize, n: u64, last: bool) -> Message {
        self.begun[by].store(n + 1, Ordering::SeqCst);
        Message { by: by as u64, n, at: self.now(), last }
    }

    /// Waits until all talkers together have said so much.
    fn wait_for(&self, messages: u64) {
        while self.begun().iter().sum::<u64>() < messages {
            assert!(self.start.elapsed() < crate::stage::PATIENCE, "talkers talk: {:?}", self.begun());
            thread::yield_now();
        }
    }

    /// Talks on, ten messages at a time, until it is enough and 100 more; at least so much. Where the
    /// connection breaks, `again` makes the next one.
    fn talk(&self, me: usize, least: u64, listener: &mut Listener, mut again: impl FnMut(&mut Listener)) {
        let (mut n, mut end) = (0, None);
        while end.is_none_or(|end| n < end) {
            assert!(n < 50_000, "it is never enough");
            let said = (n..n + 10).all(|n| listener.talker.said(&self.message(me, n, false).activity()));
            n += 10;
            if !(said && listener.hear_until(me as u64, n - 1)) {
                // What still can be heard is heard.
                while listener.hear().is_some() {}
                again(listener);
            }
            if end.is_none() && self.enough.load(Ordering::SeqCst) {
                end = Some(least.max(n + 100));
            }
        }
        listener.talker.say(self.message(me, n, true).activity());
        listener.hear_all(self.begun.len());
    }
}

#[test]
fn a_sixth_server_joins_while_five_talk_and_everybody_hears_everything_once_in_order() {
    let servers = mesh(5);
    let stage = Stage::of(5);
    let clients: Vec<Listener> = (0..20)
        .map(|i| {
            let server = &servers[i % 5];
            let named = i / 5 % 2 == 0;
            Listener::new(if named {
                server.register(&format!("user{i}"))
            } else {
                server.login("anonymous")
            })
        })
        .collect();
    // One talker a server; two have a name and three have none, or the other way round.
    let is_talker = |i: usize| [0, 6, 2, 8, 4].contains(&i);
    thread::scope(|scope| {
        let stage = &stage;
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(i, mut client)| {
                scope.spawn(move || {
                    if is_talker(i) {
                        stage.talk(i % 5, 1000, &mut client, |_| panic!("the server goes on"));
                    } else {
                        client.hear_all(5);
                    }
                    client
                })
            })
            .collect();
        stage.wait_for(500);
        let sixth = join(&servers[0]);
        let mut client = Listener::new(sixth.login("anonymous"));
        let begun = stage.begun();
        stage.enough.store(true, Ordering::SeqCst);
        sixth.joined_by(5);
        client.hear_all(5);
        let all: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("it hears")).collect();
        for (i, client) in all.iter().enumerate() {
            client.has_heard_all_once(5, &format!("client {i}"));
        }
        let ends = all[0].numbers();
        println!("the sixth came after {begun:?} of {:?}", ends.values().map(Vec::len).collect::<Vec<_>>());
        for (by, numbers) in client.numbers() {
            let (first, last) = (numbers[0], numbers[numbers.len() - 1]);
            assert!(first <= begun[by as usize], "it hears what sender {by} says: {first} of {begun:?}");
            assert_eq!(numbers, Vec::from_iter(first..=last), "once, and in order");
            assert_eq!(Some(&last), ends[&by].last());
        }
    });
}

#[test]
fn users_of_a_killed_server_log_in_elsewhere_and_miss_nothing_that_anybody_heard() {
    let most = (0..rounds("TRAFFIC_ROUNDS", 1)).map(|_| kill_under_traffic()).max();
    println!("repeated was what was said at most {:?} ms before the kill", most.unwrap_or_default());
}

/// How many ms before the kill the oldest repeated message was said.
fn kill_under_traffic() -> u64 {
    const SLACK_MS: u64 = 250;
    let mut servers = mesh(3);
    let stage = Stage::of(3);
    // The first three talk, one on each server; of the others each server has two.
    let clients: Vec<Listener> =
        (0..9).map(|i| Listener::new(servers[i % 3].register(&format!("user{i}")))).collect();
    let mut killed = servers.remove(0);
    let places: Vec<_> = servers.iter().map(Server::address).collect();
    thread::scope(|scope| {
        let (stage, places) = (&stage, &places);
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(i, mut client)| {
                scope.spawn(move || {
                    let mut broke = None;
                    let again = |client: &mut Listener| {
                        assert!(i % 3 == 0 && broke.is_none(), "only the first server is killed, and once");
                        broke = Some(client.heard.len());
                        client.talker = login_at(places[i / 3 % 2], &format!("user{i}"));
                    };
                    listen_or_talk(stage, i, &mut client, again);
                    (client, broke)
                })
            })
            .collect();
        stage.wait_for(1500);
        killed.process.kill();
        let at = stage.now();
        stage.enough.store(true, Ordering::SeqCst);
        let all: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("it hears")).collect();
        judge(&all, at, SLACK_MS)
    })
}

fn listen_or_talk(stage: &Stage, i: usize, client: &mut Listener, mut again: impl FnMut(&mut Listener)) {
    let talkers = stage.begun.len();
    if i < talkers {
        return stage.talk(i, 0, client, again);
    }
    while client.ended() < talkers {
        if client.hear().is_none() {
            again(client);
        }
    }
}

/// Each client, and how much it had heard when its connection broke.
fn judge(all: &[(Listener, Option<usize>)], killed_at: u64, slack: u64) -> u64 {
    let set = |heard: &[Message]| heard.iter().map(|m| (m.by, m.n)).collect::<BTreeSet<_>>();
    let exposed: BTreeSet<_> = all.iter().flat_map(|(client, _)| set(&client.heard)).collect();
    let mut oldest = killed_at;
    for (i, (client, broke)) in all.iter().enumerate() {
        let (before, after) = client.heard.split_at(broke.unwrap_or(client.heard.len()));
        assert_eq!(broke.is_some(), i % 3 == 0);
        for session in [before, after] {
            for by in 0..3 {
                let numbers: Vec<_> = session.iter().filter(|m| m.by == by).map(|m| m.n).collect();
                assert!(numbers.is_sorted_by(|a, b| a < b), "client {i} hears {by} in order: {numbers:?}");
            }
        }
        let missed: Vec<_> = exposed.difference(&set(&client.heard)).copied().collect();
        assert_eq!(missed, [], "client {i}, which had heard {broke:?}, misses what another heard");
        let known = set(before);
        let repeated: Vec<_> = after.iter().filter(|m| known.contains(&(m.by, m.n))).collect();
        for message in repeated {
            oldest = oldest.min(message.at);
        }
    }
    // Who did not sit on the killed server is heard whole.
    for by in 1..3 {
        let numbers: Vec<_> = exposed.iter().filter(|(sender, _)| *sender == by).map(|(_, n)| *n).collect();
        assert_eq!(numbers, Vec::from_iter(0..numbers.len() as u64));
    }
    let repeats = killed_at - oldest;
    assert!(repeats <= 250 + slack, "what was said {repeats} ms before the kill comes again");
    repeats
}
