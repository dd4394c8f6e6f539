//! Servers that start others when all are full, and end when they are not needed.

use std::fs;
use std::process::Command;

use crate::balance::{Crowd, place};
use crate::common::command;
use crate::kept::Folder;
use crate::stage::{BINARY, CHEAP, Server, Talker};

const SECRET: &str = "a-secret-of-this-test";

/// A folder that all servers of a test have on their command lines, whoever started them. They outlive who started
/// them, and end with this at the latest.
struct Home(Folder);

impl Home {
    fn new(test: &str) -> Home {
        Home(Folder::new(test))
    }

    fn data(&self) -> String {
        self.0.path("data")
    }

    fn start(&self, flags: &[&str]) -> Server {
        let cheap = &CHEAP[..6];
        let data = self.data();
        let more = ["-s", SECRET, "--data-dir", &data, "--retire", "1s"];
        Server::run(Command::new(BINARY).arg("server").args(cheap).args(more).args(flags).env("AS", BINARY))
    }

    /// The servers there are, with their command lines.
    fn servers(&self) -> Vec<(u32, String)> {
        let all = fs::read_dir("/proc").expect("Linux has it").filter_map(|entry| {
            let id = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let line = fs::read(format!("/proc/{id}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(&self.data()) && line.contains(" server ")).then_some((id, line))
        });
        all.collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for (id, _) in self.servers() {
            let _ = Command::new("kill").args(["-s", "KILL", &id.to_string()]).status();
        }
    }
}

#[test]
fn twenty_three_clients_of_servers_for_five_get_five_servers_which_end_when_all_have_left() {
    let home = Home::new("growth");
    let first = home.start(&["--max-clients", "5"]);
    let mut crowd = Crowd::knock(first.address(), 0);
    for n in 1..=23 {
        crowd.one_more();
        crowd.wait_until("one more comes", |seats| {
            let places = Crowd::places(seats);
            places.values().sum::<usize>() == n && places.values().all(|here| *here <= 5)
        });
    }
    crowd.wait_until("all are in", |seats| Crowd::places(seats).len() == 5);
    let servers = home.servers();
    assert_eq!(servers.len(), 5, "{servers:?}");
    // This test gave the first one its secret so.
    let others = servers.iter().filter(|(id, _)| *id != first.process.id());
    assert!(
        others.clone().all(|(_, line)| !line.contains(SECRET) && line.contains("--spawned")),
        "{servers:?}"
    );
    for who in 0..23 {
        crowd.say(who, who as u64);
        crowd.wait_until("all hear it", |seats| {
            seats.iter().all(|seat| seat.heard.last() == Some(&(who as u64)))
        });
    }
    crowd.wait_until("nobody hears anything else", |seats| {
        seats.iter().all(|seat| seat.heard.iter().copied().eq(0..23))
    });
    crowd.end();
    for _ in 1..5 {
        first.process.errors.line_with("is removed");
    }
    let left =
        fs::read_dir(home.data()).expect("it is there").map(|entry| entry.expect("a name").file_name());
    assert_eq!(
        left.collect::<Vec<_>>(),
        [first.port.to_string().as_str()],
        "what has retired leaves nothing"
    );
    // Who has removed its folder is about to end.
    while home.servers().len() > 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_started_server_outlives_the_one_that_started_it() {
    let home = Home::new("outlives");
    let mut first = home.start(&["--max-clients", "1"]);
    let mut ann = first.register("ann");
    let mut bob = first.register("bob");
    let to = place(&bob.hear());
    let mut bob_there = Talker::at(to);
    bob_there.login("bob");
    ann.say(serde_json::json!({ "n": 1 }));
    bob_there.hear_numbers([1]);
    first.process.kill();
    ann.hear_any_end();
    let mut ann = Talker::at(to);
    ann.login("ann");
    ann.say(serde_json::json!({ "n": 2 }));
    bob_there.hear_numbers([2]);
}

#[test]
fn who_comes_while_no_server_can_be_started_is_served_and_the_log_says_why() {
    let home = Home::new("no-start");
    let server = home.start(&["--max-clients", "1", "--spawn", "exit 3"]);
    let mut ann = server.register("ann");
    let mut bob = server.register("bob");
    let line = server.process.errors.line_with("no server could be started");
    assert!(line.contains("exit status: 3") && line.contains("tried again in 1 s"), "{line}");
    let line = server.process.errors.line_with("no server could be started");
    assert!(line.contains("tried again in 2 s"), "{line}");
    ann.say(serde_json::json!({ "n": 1 }));
    bob.hear_numbers([1]);
    ann.hear_numbers([1]);
}

#[test]
fn a_command_starts_a_server_where_it_likes_and_who_waits_goes_there_without_a_name_too() {
    let home = Home::new("command");
    let how = format!("exec \"$AS\" server -lp 0 --data-dir {} {{args}}", home.0.path("data/elsewhere"));
    let server = home.start(&["--max-clients", "2", "--spawn", &how]);
    let _two = [server.login("anonymous"), server.login("anonymous")];
    let mut third = server.login("anonymous");
    let line = third.hear();
    assert_eq!(command(&line), "REDIRECT", "{line}");
    Talker::at(place(&line)).login("anonymous");
}
