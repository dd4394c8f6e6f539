//! Several servers as one: `--processes`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::balance::Crowd;
use crate::stage::{BINARY, CHEAP, PATIENCE, Process, Talker};

/// A group, and its servers' own ports.
struct Group {
    process: Process,
    own: Vec<SocketAddr>,
    /// Its servers' processes.
    ids: Vec<String>,
    pages: Vec<String>,
    door: SocketAddr,
}

impl Group {
    fn start(servers: usize, flags: &[&str]) -> Group {
        let mut command = Command::new(BINARY);
        command.arg("server").args(&CHEAP[..6]).args(["--processes", &servers.to_string(), "-a", "100"]);
        let process = Process::start(command.args(flags).env("RUST_LOG", "info"));
        let (mut own, mut pages) = (Vec::new(), Vec::new());
        let door = loop {
            let line = process.output.line();
            if let Some(port) = line.strip_prefix("sharing port ") {
                break (Ipv4Addr::LOCALHOST, port.parse().expect("a port")).into();
            }
            let address = line.strip_prefix("listening on ").and_then(|at| at.parse::<SocketAddr>().ok());
            own.extend(address.filter(SocketAddr::is_ipv4));
            pages.extend(line.strip_prefix("status on ").map(str::to_owned));
        };
        assert_eq!(own.len(), servers);
        let id = |k: usize| {
            let words = format!("server {k} of the group is process ");
            process.errors.line_with(&words).rsplit(' ').next().expect("a number").to_owned()
        };
        let ids = (1..=servers).map(id).collect();
        Group { process, own, ids, pages, door }
    }

    /// How its network stands, as one of its servers sees it.
    fn status(&self, server: usize) -> Value {
        let mut command = Command::new(BINARY);
        let process = Process::start(command.args(["status", "--json", &self.pages[server]]));
        serde_json::from_str(&process.output.rest()).expect("JSON")
    }

    /// Asks until all its servers are there and so many clients are spread evenly over them.
    fn is_even(&self, server: usize, clients: u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let page = self.status(server);
            let others = page["servers"].as_array().expect("the other servers").iter();
            let others = others.filter(|other| other["state"] == "linked");
            let loads: Vec<u64> = others.chain([&page]).filter_map(|one| one["sessions"].as_u64()).collect();
            let (low, high) = (loads.iter().min().expect("itself"), loads.iter().max().expect("itself"));
            if loads.len() == self.own.len() && loads.iter().sum::<u64>() == clients && high - low <= 1 {
                return;
            }
            assert!(Instant::now() < until, "{clients} clients, spread evenly: {page:#}");
        }
    }
}

#[test]
fn who_knocks_at_the_shared_port_is_spread_evenly_and_all_hear_all() {
    let mut group = Group::start(3, &["--http", "0"]);
    let crowd = Crowd::knock(group.door, 24);
    group.is_even(0, 24);
    crowd.wait_until("all are in", |seats| seats.iter().all(|seat| seat.at.is_some()));
    (0..24).for_each(|n| crowd.say(n as usize, n));
    crowd.wait_until("all hear all", |seats| seats.iter().all(|seat| seat.heard.len() == 24));
    crowd.end();
    group.process.signal("TERM");
    group.process.end_with(0);
}

#[test]
fn a_server_of_a_group_that_crashes_comes_back_at_its_port_and_joins_the_others() {
    let group = Group::start(3, &["--http", "0", "--balance", "off"]);
    for k in 0..3 {
        let kill = Command::new("kill").args(["-s", "KILL", &group.ids[k]]).status();
        assert!(kill.is_ok_and(|status| status.success()));
        group.process.errors.line_with("of the group ended: signal: 9");
        group.process.errors.line_with(&format!(" at localhost:{}", group.own[k].port()));
        // A message comes through only when it is linked again.
        let mut ear = Talker::at(group.own[(k + 1) % 3]);
        ear.login("anonymous");
        group.is_even((k + 1) % 3, 1);
        let mut mouth = Talker::at(group.own[k]);
        mouth.login("anonymous");
        mouth.say(json!({ "n": k }));
        ear.hear_numbers([k as u64]);
        for mut talker in [ear, mouth] {
            talker.tell(r#"{"command":"LOGOUT"}"#);
            talker.hear_any_end();
        }
        group.is_even((k + 1) % 3, 0);
    }
}

#[test]
fn a_stop_that_all_processes_of_a_group_are_told_at_once_is_one() {
    let mut group = Group::start(2, &[]);
    // They wait for the clients to go, too.
    let mut ears = group.own.iter().map(|at| Talker::at(*at)).collect::<Vec<_>>();
    ears.iter_mut().for_each(|ear| ear.login("anonymous"));
    // As systemd does, while who looks after them passes it on.
    let all = group.ids.iter().cloned().chain([group.process.id().to_string()]);
    let kill = Command::new("kill").args(["-s", "TERM"]).args(all).status();
    assert!(kill.is_ok_and(|status| status.success()));
    let rest = group.process.errors.rest();
    assert!(!rest.contains("stopping at once"), "{rest}");
    for own in &group.own {
        assert!(rest.contains(&format!("{}: stopping", own.port())), "it says whose line it is: {rest}");
    }
    group.process.end_with(0);
}

#[test]
fn servers_of_a_group_stop_when_who_looks_after_them_is_killed() {
    let mut group = Group::start(2, &[]);
    group.process.kill();
    // They have its standard error, which ends with the last of them.
    let rest = group.process.errors.rest();
    assert!(rest.contains("stopping"), "{rest}");
}

#[test]
fn a_group_that_cannot_have_its_ports_says_which() {
    // Somebody else has the last of three ports in a row.
    let (taken, door) = (0..100)
        .find_map(|_| {
            let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
            let port = taken.local_addr().ok()?.port();
            let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            (is_free(port - 1) && is_free(port - 2)).then_some((taken, port - 2))
        })
        .expect("some port has two free ones before it");
    let mut command = Command::new(BINARY);
    command.args(["server", "--processes", "2", "--ephemeral", "-lp", &door.to_string()]);
    let mut process = Process::start(&mut command);
    process.output.rest();
    let said = process.errors.rest();
    let port = taken.local_addr().expect("it listens").port();
    assert!(said.contains(&format!("cannot listen on port {port}")), "{said}");
    assert!(said.contains("server 2 of the group could not start"), "{said}");
    process.end_with(1);
}
