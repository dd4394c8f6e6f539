//! Servers that are stopped while their clients talk: SIGTERM sends the clients to the other servers.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::common::command;
use crate::crew::{Listener, Message, login_at, mesh, rounds};
use crate::stage::{BINARY, CHEAP, PATIENCE, Server, Talker};

const CLIENTS: usize = 18;

fn place(line: &Value) -> SocketAddr {
    assert_eq!((command(line), &line["hostname"]), ("REDIRECT", &json!("localhost")), "{line}");
    let port = line["port"].as_u64().and_then(|port| port.try_into().ok());
    (Ipv4Addr::LOCALHOST, port.expect("a port")).into()
}

/// How far the clients of a test are.
#[derive(Default)]
struct Talk {
    said: AtomicUsize,
    moved: AtomicUsize,
    /// They may say their last.
    is_over: AtomicBool,
}

/// A client that goes where it is sent, and says the next thing when it has heard its last.
struct Follower {
    listener: Listener,
    me: usize,
    said: u64,
}

impl Follower {
    fn say(&mut self, last: bool) {
        let message = Message { by: self.me as u64, n: self.said, at: 0, last };
        self.listener.talker.say(message.activity());
        self.said += 1;
    }

    /// Hears until its last message comes.
    fn hear_own(&mut self, talk: &Talk) {
        let own = self.said - 1;
        loop {
            let line = self.listener.talker.hear();
            if command(&line) == "REDIRECT" {
                self.follow(&line, talk);
                continue;
            }
            let message = self.listener.take(&line);
            if (message.by, message.n) == (self.me as u64, own) {
                return;
            }
        }
    }

    /// Existing clients do different things before they go: half log out, some just close, some talk on.
    fn follow(&mut self, line: &Value, talk: &Talk) {
        match self.me % 4 {
            0 | 1 => self.listener.talker.tell(r#"{"command":"LOGOUT"}"#),
            2 => {}
            _ => self.say(false),
        }
        self.listener.talker = login_at(place(line), &format!("user{}", self.me));
        talk.moved.fetch_add(1, Ordering::Relaxed);
    }

    fn talk(mut self, talk: &Talk) -> Follower {
        while !talk.is_over.load(Ordering::Relaxed) {
            self.say(false);
            self.hear_own(talk);
            talk.said.fetch_add(1, Ordering::Relaxed);
        }
        self.say(true);
        self.listener.hear_all(CLIENTS);
        self
    }
}

/// Clients on all servers talk while `happens` happens, and nobody loses anything or hears it twice. Returns
/// how often they were sent away.
fn nobody_notices(places: &[SocketAddr], happens: impl FnOnce(&Talk)) -> usize {
    let talk = Talk::default();
    let clients: Vec<Follower> = (0..CLIENTS)
        .map(|me| {
            let mut talker = Talker::at(places[me % places.len()]);
            talker.register(&format!("user{me}"));
            Follower { listener: Listener::new(talker), me, said: 0 }
        })
        .collect();
    thread::scope(|scope| {
        let talk = &talk;
        let threads: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(move || client.talk(talk))).collect();
        happens(talk);
        talk.is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            let client = thread.join().expect("it hears all");
            client.listener.has_heard_all_once(CLIENTS, &format!("client {}", client.me));
        }
    });
    talk.moved.into_inner()
}

/// Lets the clients talk for a while.
fn let_them_talk(talk: &Talk) {
    let upto = talk.said.load(Ordering::Relaxed) + 20 * CLIENTS;
    let until = Instant::now() + PATIENCE;
    while talk.said.load(Ordering::Relaxed) < upto {
        assert!(Instant::now() < until, "the clients talk on");
        thread::yield_now();
    }
}

#[test]
fn clients_of_a_server_that_stops_go_on_elsewhere_and_lose_nothing_and_hear_nothing_twice() {
    for _ in 0..rounds("DRAIN_ROUNDS", 2) {
        let mut servers = mesh(3);
        let places: Vec<_> = servers.iter().map(Server::address).collect();
        let mut quiet = servers[0].login("anonymous");
        let moved = nobody_notices(&places, |talk| {
            let_them_talk(talk);
            servers[0].process.signal("TERM");
            servers[0].process.end_with(0);
            let_them_talk(talk);
        });
        assert_eq!(moved, CLIENTS / 3, "each client of that server is sent away, once");
        let mut lines = std::iter::repeat_with(|| quiet.hear());
        let line = lines.find(|line| command(line) == "REDIRECT").expect("there is no end of them");
        assert!(places[1..].contains(&place(&line)), "an anonymous client is sent away, too");
        quiet.hear_end();
    }
}

#[test]
fn a_network_is_restarted_one_server_after_the_other_while_its_clients_talk() {
    let ports = [(); 3].map(|()| Port::new());
    let mut servers = vec![ports[0].start(None)];
    for port in &ports[1..] {
        servers.push(port.start(Some(&servers[0])));
    }
    servers.iter().for_each(|server| server.joined_by(2));
    let places: Vec<_> = servers.iter().map(Server::address).collect();
    let mut moved = nobody_notices(&places, |talk| {
        for i in 0..3 {
            let_them_talk(talk);
            servers[i].process.signal("TERM");
            servers[i].process.end_with(0);
            servers[i] = ports[i].start(Some(&servers[(i + 1) % 3]));
            servers[i].joined_by(2);
        }
        let_them_talk(talk);
    });
    moved -= CLIENTS;
    assert!(moved >= CLIENTS / 3, "all were sent away, and those of the first perhaps twice: {moved} more");
    for (i, server) in servers.iter().enumerate() {
        let mut user = server.login(&format!("user{i}"));
        user.say(json!({ "n": 0 }));
        while user.hear_activity().0["n"] != json!(0) {}
    }
}

/// A port that is a test's own from the begin to the end of it: bound all the time by a socket that does not
/// listen, which leaves it to a server, and to nobody else.
struct Port {
    _socket: Socket,
    port: u16,
}

impl Port {
    fn new() -> Port {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        let address = socket.local_addr().expect("bound").as_socket().expect("an address");
        Port { _socket: socket, port: address.port() }
    }

    fn start(&self, other: Option<&Server>) -> Server {
        let mut command = Command::new(BINARY);
        command.args(["server", "-lp", &self.port.to_string(), "-s", "sek"]).args(&CHEAP[2..]);
        if let Some(other) = other {
            command.args(["-rh", "localhost", "-rp", &other.port.to_string()]);
        }
        Server::run(command.env("RUST_LOG", "debug"))
    }
}

/// Two servers, and a client of the first that is told to go and stays.
fn with_one_who_stays(flags: &[&str]) -> (Server, Server, Talker) {
    let stays = Server::start(&["-s", "sek"]);
    let port = stays.port.to_string();
    let stops = Server::start(&[&["-s", "sek", "-rh", "localhost", "-rp", &port], flags].concat());
    [&stays, &stops].iter().for_each(|server| server.joined_by(1));
    let mut bob = stops.register("bob");
    bob.say(json!({ "n": 0 }));
    bob.hear_numbers([0]);
    stops.process.signal("TERM");
    assert_eq!(place(&bob.hear()), stays.address());
    (stays, stops, bob)
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let (stays, mut stops, mut bob) = with_one_who_stays(&[]);
    stops.process.hurry();
    stops.process.end_with(0);
    bob.hear_any_end();
    stays.login("bob");
}

#[test]
fn the_time_of_a_drain_is_bounded_and_who_did_not_go_loses_nothing() {
    let (stays, mut stops, mut bob) = with_one_who_stays(&["--drain", "1"]);
    // Who has been told to go may still speak.
    bob.say(json!({ "n": 1 }));
    stops.process.errors.line_with("1 are left");
    stops.process.end_with(0);
    bob.hear_any_end();
    let mut bob = stays.login("bob");
    bob.say(json!({ "n": 2 }));
    bob.hear_numbers([1, 2]);
}

#[test]
fn a_client_that_does_not_go_is_closed_and_then_the_server_ends() {
    let (stays, mut stops, mut bob) = with_one_who_stays(&[]);
    bob.say(json!({ "n": 1 }));
    bob.hear_any_end();
    stops.process.end_with(0);
    stays.login("bob").hear_numbers([1]);
}

#[test]
fn who_comes_to_a_server_that_drains_is_served_and_sent_on() {
    let (stays, mut stops, bob) = with_one_who_stays(&[]);
    let mut ann = stops.register("ann");
    ann.say(json!({ "n": 1 }));
    let mut heard = ann.hear();
    if command(&heard) != "REDIRECT" {
        heard = ann.hear();
    }
    assert_eq!(place(&heard), stays.address());
    drop((ann, bob));
    stops.process.end_with(0);
    stays.login("ann");
}

#[test]
fn without_another_server_and_with_no_time_a_server_stops_as_it_is() {
    for flags in [&[][..], &["--drain", "0"]] {
        let stays = Server::start(&["-s", "sek"]);
        let (other, port) = (stays.port.to_string(), ["-rh", "localhost", "-rp"]);
        let network = [&["-s", "sek"], flags, &port, &[&*other]].concat();
        let mut stops = Server::start(if flags.is_empty() { &[] } else { &network });
        let mut ann = stops.register("ann");
        stops.process.signal("TERM");
        ann.hear_end();
        drop(ann);
        stops.process.end_with(0);
    }
}
