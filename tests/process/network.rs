//! Several servers, and clients on each of them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::hostile::Bystanders;
use crate::kept::{Folder, Place, names_in};
use crate::proxy::Proxy;
use crate::stage::{BINARY, CHEAP, Process, Server};

fn joining(other: &Server, flags: &[&str]) -> Server {
    let port = other.port.to_string();
    Server::start(&[&["-rh", "localhost", "-rp", &port], flags].concat())
}

#[test]
fn three_servers_in_a_chain_become_a_mesh_and_everybody_hears_everything_once_in_order() {
    let a = Server::start(&["-s", "sek"]);
    let b = joining(&a, &["-s", "sek"]);
    let c = joining(&b, &["-s", "sek"]);
    let servers = [&a, &b, &c];
    servers.iter().for_each(|server| server.joined_by(2));
    let mut talkers: Vec<_> = servers.iter().map(|server| server.login("anonymous")).collect();
    for round in 0..50 {
        // All speak at once; each is heard in its own order, and what it hears is what the others hear.
        for (who, talker) in talkers.iter_mut().enumerate() {
            talker.say(json!({ "who": who, "n": 2 * round }));
            talker.say(json!({ "who": who, "n": 2 * round + 1 }));
        }
        if round % 10 == 9 {
            for talker in &mut talkers {
                let mut next = [2 * (round - 9); 3];
                for _ in 0..60 {
                    let (activity, name) = talker.hear_activity();
                    let who = activity["who"].as_u64().expect("a number") as usize;
                    assert_eq!((activity["n"].as_u64(), &*name), (Some(next[who]), "anonymous"));
                    next[who] += 1;
                }
                assert_eq!(next, [2 * (round + 1); 3]);
            }
        }
    }
    drop(talkers);
    for server in servers {
        let log = server.process.errors.so_far().join("\n");
        assert!(!log.contains("WARN"), "all went well:\n{log}");
    }
    for mut server in [a, b, c] {
        server.process.signal("TERM");
        server.process.end_with(0);
    }
}

#[test]
fn long_lines_cross_faster_than_a_socket_takes_them() {
    let a = Server::start(&["-s", "sek"]);
    let b = joining(&a, &["-s", "sek"]);
    [&a, &b].iter().for_each(|server| server.joined_by(1));
    let (mut ann, mut bob) = (a.register("ann"), b.register("bob"));
    let pad = "x".repeat(150_000);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..60).for_each(|n| ann.say(json!({ "n": n, "pad": pad }))));
        bob.hear_numbers(0..60);
    });
    ann.hear_numbers(0..60);
    bob.say(json!({ "n": 60 }));
    for talker in [&mut ann, &mut bob] {
        talker.hear_numbers([60]);
    }
}

#[test]
fn a_server_that_is_killed_is_joined_again_by_another_of_its_port_and_the_rest_talk_on() {
    let a = Server::start(&["-s", "sek"]);
    let proxy = Proxy::new();
    let b = Server::start(&["-s", "sek", "-rh", "127.0.0.1", "-rp", &proxy.port()]);
    proxy.lead_to(a.address());
    b.joined_by(1);
    let mut bystanders = Bystanders::of(&b);
    bystanders.talk();
    a.process.signal("KILL");
    b.process.errors.line_with("is gone");
    bystanders.talk();
    let c = joining(&b, &["-s", "sek"]);
    b.joined_by(1);
    let mut cy = c.login("anonymous");
    bystanders.talk();
    cy.hear_numbers([2]);
}

#[test]
fn another_secret_is_told_once_on_both_sides_and_nothing_crosses() {
    let a = Server::start(&["-s", "s3cr3t-of-a"]);
    let b = joining(&a, &["-s", "s3cr3t-of-b"]);
    let (mut at_a, mut at_b) = (Bystanders::of(&a), Bystanders::of(&b));
    for server in [&a, &b] {
        let line = server.process.errors.line_with("another secret");
        assert!(line.contains("WARN") && line.contains("--secret-file"), "what to do: {line}");
        // It is tried again, and not told again to those who want no details.
        for _ in 0..2 {
            let line = server.process.errors.line_with("another secret");
            assert!(line.contains("DEBUG"), "{line}");
        }
    }
    (0..3).for_each(|_| at_a.talk());
    (0..2).for_each(|_| at_b.talk());
    for mut server in [a, b] {
        server.process.signal("TERM");
        let log = server.process.errors.rest();
        assert!(!log.contains("s3cr3t") && !log.contains(" joined from "), "{log}");
        server.process.end_with(0);
    }
}

#[test]
fn a_server_told_of_nobody_of_a_silent_one_or_of_itself_serves() {
    // Taken by a socket that does not listen, so that nobody else gets it.
    let dead_socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    dead_socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let dead_address = dead_socket.local_addr().expect("bound").as_socket().expect("an address");
    let dead = dead_address.port().to_string();
    let silent_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let silent = silent_listener.local_addr().expect("bound").port().to_string();
    let proxy = Proxy::new();
    let told = |host: &str, port: &str| Server::start(&["-s", "sek", "-rh", host, "-rp", port]);
    let to_dead = told("127.0.0.1", &dead);
    let to_silent = told("127.0.0.1", &silent);
    let to_itself = told("localhost", &proxy.port());
    proxy.lead_to(to_itself.address());
    let to_nowhere = told("no..host", "1");
    for (server, words) in [
        (&to_dead, "no server at 127.0.0.1:"),
        (&to_silent, "does not answer as a server does"),
        (&to_itself, "peer_self"),
        (&to_nowhere, "no server at no..host:1:"),
    ] {
        let mut bystanders = Bystanders::of(server);
        bystanders.talk();
        server.process.errors.line_with(words);
        bystanders.talk();
    }
    for mut server in [to_dead, to_silent, to_itself, to_nowhere] {
        server.process.signal("TERM");
        server.process.end_with(0);
    }
}

#[test]
fn a_server_that_all_are_told_of_does_not_complain_that_it_met_itself() {
    let folder = Folder::new("itself");
    let place = Place::new(folder.path("data"));
    let server = place.start(&["-s", "sek", "-rh", "localhost", "-rp", &place.port.to_string()]);
    let mut log = String::new();
    while !log.contains("peer_self") {
        log += &(server.process.errors.line() + "\n");
    }
    // The other end is closed in the next turn.
    server.register("bob");
    log += &server.stop();
    assert!(!log.contains("WARN"), "{log}");
}

#[test]
fn servers_started_at_once_in_one_folder_share_the_secret_that_is_made() {
    let folder = Folder::new("folder");
    let data = folder.path("data");
    let flags = ["--data-dir", &data];
    let start = || {
        let mut command = Command::new(BINARY);
        Process::start(command.arg("server").args(CHEAP).args(flags).env("RUST_LOG", "debug"))
    };
    let [a, b] = [start(), start()].map(Server::of);
    for server in [&a, &b] {
        let other = joining(server, &flags);
        other.joined_by(1);
        server.joined_by(1);
    }
    let files = names_in(&data);
    let ports = files.iter().filter(|name| name.parse::<u16>().is_ok()).count();
    assert!(files.len() == 5 && ports == 4, "the secret, and a folder for each: {files:?}");
    let secret = std::fs::read_to_string(folder.path("data/cluster.secret")).expect("the secret");
    // Told by file it is the same.
    let c = joining(&a, &["--secret-file", &folder.path("data/cluster.secret")]);
    c.joined_by(1);
    for server in [a, b, c] {
        server.process.signal("TERM");
        let log = server.process.errors.rest();
        assert!(log.contains("stopping") && !log.contains(secret.trim()), "{log}");
    }
}

#[test]
fn a_server_without_a_folder_leaves_none_behind() {
    let folder = Folder::new("nothing");
    let start = |flags: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("server").args(CHEAP).args(flags).current_dir(folder.here());
        Server::run(command.env("RUST_LOG", "debug"))
    };
    let a = start(&[]);
    let port = a.port.to_string();
    let b = start(&["-rh", "localhost", "-rp", &port]);
    b.process.errors.line_with("--secret-file");
    assert_eq!(names_in(folder.here()), [""; 0]);
}

#[test]
fn a_secret_that_cannot_be_had_is_no_start_and_says_what_to_do() {
    let folder = Folder::new("unreadable");
    let file = folder.path("file");
    std::fs::write(&file, "\n").expect("a file");
    for (flags, hint, code) in [
        (["--secret-file", &*folder.path("none")], "No such file", 1),
        (["--secret-file", &file], "empty", 1),
        (["--data-dir", &file], "--secret-file", 1),
        (["-s", ""], "not empty", 2),
    ] {
        let mut server = Process::start(Command::new(BINARY).arg("server").args(CHEAP).args(flags));
        let errors = server.errors.rest();
        assert!(errors.contains(hint), "{flags:?} is refused with a hint, not {errors:?}");
        server.end_with(code);
    }
}
