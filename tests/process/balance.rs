//! Servers that share their clients: plain sockets that go where they are sent.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::command;
use crate::stage::{CHEAP, PATIENCE, Server, Talker};

/// How long loads may take to become even: a part of the users moves in each second.
const EVEN_WITHIN: Duration = Duration::from_secs(60);

fn start(flags: &[&str]) -> Server {
    // Given twice, a flag would be an error.
    let cheap = &CHEAP[..6];
    let mut command = std::process::Command::new(crate::stage::BINARY);
    Server::run(command.arg("server").args(cheap).args(["-s", "sek"]).args(flags).env("RUST_LOG", "debug"))
}

fn join(other: &Server, flags: &[&str]) -> Server {
    let port = other.port.to_string();
    start(&[&["-rh", "localhost", "-rp", &port], flags].concat())
}

/// So many servers that share their clients, each linked to each.
fn mesh(servers: usize, flags: &[&str]) -> Vec<Server> {
    let mut all = vec![start(flags)];
    all.extend((1..servers).map(|_| join(&all[0], flags)).collect::<Vec<_>>());
    all.iter().for_each(|server| server.joined_by(servers - 1));
    all
}

pub fn place(line: &Value) -> SocketAddr {
    assert_eq!((command(line), &line["hostname"]), ("REDIRECT", &json!("localhost")), "{line}");
    let port = line["port"].as_u64().and_then(|port| port.try_into().ok());
    (Ipv4Addr::LOCALHOST, port.expect("a port")).into()
}

/// A client as the test sees it.
#[derive(Default)]
pub struct Seat {
    /// Where it is logged in.
    pub at: Option<SocketAddr>,
    pub sent_on: Vec<Instant>,
    /// The numbers it heard.
    pub heard: Vec<u64>,
    /// It is to go, or has gone.
    leaves: bool,
    socket: Option<TcpStream>,
}

/// Where a client knocks whose server died.
struct Door(Mutex<SocketAddr>);

/// Registered clients, each in a thread of its own.
pub struct Crowd {
    seats: Arc<(Mutex<Vec<Seat>>, Condvar)>,
    door: Arc<Door>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// So many clients that register at the same server.
    pub fn knock(door: SocketAddr, clients: usize) -> Crowd {
        let seats = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let door = Arc::new(Door(Mutex::new(door)));
        let mut crowd = Crowd { seats, door, threads: Vec::new() };
        (0..clients).for_each(|_| crowd.one_more());
        crowd
    }

    pub fn one_more(&mut self) {
        let me = self.threads.len();
        self.lock().push(Seat::default());
        let (seats, door) = (Arc::clone(&self.seats), Arc::clone(&self.door));
        self.threads.push(thread::spawn(move || live(me, &seats, &door)));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.0.lock().expect("no client failed")
    }

    /// One of them says a number.
    pub fn say(&self, who: usize, n: u64) {
        let pair = crate::stage::pair(&format!("user{who}"));
        let line = format!("{{\"command\":\"ACTIVITY_MESSAGE\",{pair},\"activity\":{{\"n\":{n}}}}}\n");
        let all = self.lock();
        let mut socket = all[who].socket.as_ref().expect("it is in");
        socket.write_all(line.as_bytes()).expect("the server takes what a client says");
    }

    /// How many are in on each server.
    pub fn places(seats: &[Seat]) -> BTreeMap<SocketAddr, usize> {
        let mut places = BTreeMap::new();
        seats.iter().filter_map(|seat| seat.at).for_each(|at| *places.entry(at).or_default() += 1);
        places
    }

    /// Waits until they are as they should be.
    pub fn wait_until(&self, when: &str, is_so: impl Fn(&[Seat]) -> bool) {
        let until = Instant::now() + EVEN_WITHIN;
        let mut seats = self.lock();
        while !is_so(&seats) {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{when}: not within {EVEN_WITHIN:?}: {:?}", Crowd::places(&seats));
            seats = self.seats.1.wait_timeout(seats, left).expect("no client failed").0;
        }
    }

    /// Waits until `clients` are in, evenly on these servers.
    fn is_even(&self, servers: &[Server], clients: usize, when: &str) {
        let since = Instant::now();
        self.wait_until(when, |seats| {
            let mut loads = Crowd::places(seats);
            for server in servers {
                loads.entry(server.address()).or_default();
            }
            let (most, least) = (loads.values().max().copied(), loads.values().min().copied());
            let is_even = most.unwrap_or_default() - least.unwrap_or_default() <= 1;
            is_even && loads.len() == servers.len() && loads.values().sum::<usize>() == clients
        });
        println!("{when}: even after {:?}", since.elapsed());
    }

    /// So many go, all of one server first.
    fn leave(&self, mut n: usize) {
        let mut seats = self.lock();
        let mut order: Vec<usize> = (0..seats.len()).collect();
        order.sort_by_key(|i| seats[*i].at.map(|at| at.port()));
        for i in order {
            if n > 0 && !seats[i].leaves {
                seats[i].leaves = true;
                seats[i].at = None;
                n -= 1;
                if let Some(socket) = &seats[i].socket {
                    // One that is on its way sees it there.
                    let _ = socket.shutdown(Shutdown::Write);
                }
            }
        }
    }

    /// Nobody was sent on more than twice in ten seconds; returns how often all were, in all.
    fn sent_on(&self) -> usize {
        let seats = self.lock();
        for (i, seat) in seats.iter().enumerate() {
            for three in seat.sent_on.windows(3) {
                let within = three[2] - three[0];
                assert!(within >= Duration::from_secs(10), "client {i} is sent on three times in {within:?}");
            }
        }
        seats.iter().map(|seat| seat.sent_on.len()).sum()
    }

    pub fn end(self) {
        self.leave(usize::MAX);
        for thread in self.threads {
            thread.join().expect("the client was always served");
        }
    }
}

/// A client's life: it registers, goes where it is sent, and knocks at the door when its server is gone.
fn live(me: usize, seats: &(Mutex<Vec<Seat>>, Condvar), door: &Door) {
    let name = format!("user{me}");
    let knock = || *door.0.lock().expect("it is only read");
    let mut talker = Talker::at(knock());
    let mut at = talker.socket().peer_addr().expect("it is connected");
    talker.register(&name);
    talker.socket().set_read_timeout(None).expect("a socket has a timeout");
    loop {
        let mut all = seats.0.lock().expect("no client failed");
        let seat = &mut all[me];
        if seat.leaves {
            return;
        }
        seat.at = Some(at);
        seat.socket = Some(talker.socket().try_clone().expect("a descriptor"));
        drop(all);
        seats.1.notify_all();
        let mut heard = talker.hear_or_end();
        while let Some(line) = heard.as_ref().filter(|line| command(line) == "ACTIVITY_BROADCAST") {
            let n = line["activity"]["n"].as_u64().expect("a number");
            seats.0.lock().expect("no client failed")[me].heard.push(n);
            seats.1.notify_all();
            heard = talker.hear_or_end();
        }
        let mut all = seats.0.lock().expect("no client failed");
        all[me].at = None;
        if all[me].leaves {
            return;
        }
        at = match &heard {
            Some(line) => {
                all[me].sent_on.push(Instant::now());
                place(line)
            }
            None => knock(),
        };
        drop(all);
        if heard.is_some() && me.is_multiple_of(2) {
            // What the server does then must not matter.
            talker.tell(r#"{"command":"LOGOUT"}"#);
        }
        talker = Talker::at(at);
        talker.login(&name);
        talker.socket().set_read_timeout(None).expect("a socket has a timeout");
    }
}

#[test]
fn sixty_clients_at_one_door_become_even_and_stay_so_when_servers_and_clients_come_and_go() {
    let mut servers = mesh(4, &[]);
    let crowd = Crowd::knock(servers[0].address(), 60);
    crowd.is_even(&servers, 60, "after the storm");
    let storm = crowd.sent_on();
    assert!((45..=90).contains(&storm), "45 moves are needed, and at most twice as many made: {storm}");

    servers.push(join(&servers[1], &[]));
    crowd.is_even(&servers, 60, "after a fifth joined");
    let joined = crowd.sent_on() - storm;
    assert!((12..=24).contains(&joined), "12 moves are needed, and at most twice as many made: {joined}");

    let mut killed = servers.remove(0);
    *crowd.door.0.lock().expect("no client failed") = servers[0].address();
    killed.process.kill();
    crowd.is_even(&servers, 60, "after one was killed");
    crowd.sent_on();

    crowd.leave(40);
    crowd.is_even(&servers, 20, "after forty left");
    crowd.sent_on();
    crowd.end();
}

#[test]
fn a_server_takes_no_more_than_it_should_while_others_have_room() {
    let servers = mesh(3, &["--max-clients", "8"]);
    let crowd = Crowd::knock(servers[2].address(), 22);
    crowd.is_even(&servers, 22, "with room for 24");
    crowd.end();
}

#[test]
fn without_balance_everybody_stays() {
    let servers = mesh(2, &["--balance", "off", "-a", "100"]);
    let mut clients: Vec<Talker> = (0..6).map(|i| servers[0].register(&format!("user{i}"))).collect();
    for n in 0..20 {
        clients[0].say(json!({ "n": n }));
        clients.iter_mut().for_each(|client| client.hear_numbers([n]));
    }
}

#[test]
fn who_talks_on_at_the_old_server_and_then_at_the_new_one_is_heard_without_gap_repeat_or_swap() {
    let servers = mesh(2, &[]);
    let mut sam = servers[0].register("sam");
    sam.tell(r#"{"command":"LOGOUT"}"#);
    sam.hear_end();
    let mut ears = [servers[0].login("anonymous"), servers[1].login("anonymous"), servers[0].register("ann")];
    let mut sam = servers[0].login("sam");
    let (mut n, mut heard) = (0, 0);
    let until = Instant::now() + PATIENCE;
    let to = loop {
        assert!(Instant::now() < until, "sam is sent on: the other server has two users fewer");
        sam.say(json!({ "n": n }));
        n += 1;
        let line = sam.hear();
        if command(&line) == "REDIRECT" {
            break place(&line);
        }
        assert_eq!(line["activity"]["n"], json!(heard), "{line}");
        heard += 1;
    };
    assert_eq!(to, servers[1].address());
    // It has not looked yet where it is sent.
    ears.iter_mut().for_each(|ear| ear.hear_numbers(0..n));
    let told = Instant::now();
    while told.elapsed() < Duration::from_millis(200) {
        sam.say(json!({ "n": n }));
        ears.iter_mut().for_each(|ear| ear.hear_numbers([n]));
        n += 1;
    }
    let mut there = Talker::at(to);
    there.login("sam");
    for _ in 0..50 {
        there.say(json!({ "n": n }));
        n += 1;
    }
    ears.iter_mut().for_each(|ear| ear.hear_numbers(n - 50..n));
    there.hear_numbers(heard..n);
}
