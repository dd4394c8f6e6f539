//! Disks that are full, that may not be written to, or that another server uses. Where the machine mounts no
//! disk of its own for a test, the test says so and passes.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use serde_json::json;

use crate::kept::{Folder, Place};
use crate::stage::{PATIENCE, Server, Talker, pair};

/// A small disk in memory: a filler takes what is left of it. The database must have room to grow when that is
/// gone, and the journal beside it.
struct SmallDisk(Folder);

impl SmallDisk {
    fn new(test: &str) -> Option<SmallDisk> {
        let disk = SmallDisk(Folder::new(test));
        match mount(&["-t", "tmpfs", "-o", "size=4m", "tmpfs", &disk.0.path("")]) {
            Ok(()) => Some(disk),
            Err(why) => {
                println!("skipped, as no disk can be mounted here: {why}");
                None
            }
        }
    }

    /// Takes all that is left of it.
    fn fill(&self) {
        let file = OpenOptions::new().append(true).create(true).open(self.0.path("filler"));
        let mut file = file.expect("the disk takes one more file");
        while file.write(&[0; 4096]).is_ok_and(|n| n > 0) {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.path("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0.path("")]).output();
    }
}

fn mount(words: &[&str]) -> Result<(), String> {
    let run = Command::new("mount").args(words).output().map_err(|error| error.to_string())?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

/// Asks for a name: the answer, and its words.
fn register(server: &Server, name: &str) -> (String, String) {
    let mut talker = server.connect();
    talker.tell(&format!(r#"{{"command":"REGISTER",{}}}"#, pair(name)));
    let line = talker.hear();
    let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
    (text("command"), text("info"))
}

/// Both hear what the first says.
fn talk(talkers: &mut [&mut Talker], n: u64) {
    talkers[0].say(json!({ "n": n, "pad": "x".repeat(200) }));
    talkers.iter_mut().for_each(|talker| talker.hear_numbers([n]));
}

#[test]
fn a_server_whose_disk_is_full_talks_on_and_keeps_again_when_there_is_room() {
    let Some(disk) = SmallDisk::new("full") else { return };
    let place = Place::new(disk.0.path("data"));
    let server = place.start(&["-s", "sek"]);
    let (mut ann, mut bob) = (server.register("ann"), server.register("bob"));
    talk(&mut [&mut ann, &mut bob], 0);
    disk.fill();
    let (mut log, mut n) = (Vec::new(), 1);
    // What is said meanwhile must fit on the disk later.
    for round in 0..20 {
        (0..20).for_each(|_| {
            talk(&mut [&mut ann, &mut bob], n);
            n += 1;
        });
        // The database may have room left in its file.
        let name = |i: usize| format!("user{i}-{round}");
        let mut answers = (0..5000).map(|i| register(&server, &name(i)));
        let refused = answers.find(|(answer, _)| answer != "REGISTER_SUCCESS");
        let (answer, why) = refused.expect("a full disk takes no more names");
        assert!(answer == "REGISTER_FAILED" && why.contains("disk takes nothing"), "it says why: {why}");
        // Who is registered logs in.
        drop(server.login("ann"));
        log.extend(server.process.errors.so_far());
    }
    disk.empty();
    let since = Instant::now();
    let name = (0..).map(|i| format!("late{i}")).find(|name| {
        assert!(since.elapsed() < PATIENCE, "it registers again");
        talk(&mut [&mut ann, &mut bob], n);
        n += 1;
        register(&server, name).0 == "REGISTER_SUCCESS"
    });
    let name = name.expect("there is no last name");
    log.extend(server.process.errors.so_far());
    // The database may have given up room meanwhile, so that the journal goes on already.
    if log
        .iter()
        .rfind(|line| line.contains("the journal "))
        .is_some_and(|line| line.contains("takes nothing"))
    {
        log.extend(until(&server, "the journal goes on"));
    }
    talk(&mut [&mut ann, &mut bob], n);
    bob.vanish();
    talk(&mut [&mut ann], n + 1);
    server.process.signal("USR1");
    log.extend(until(&server, "counted:"));
    let said = |words: &str| log.iter().filter(|line| line.contains(words)).count();
    let (messages, names) = (said("degraded: the journal"), said("degraded: the disk"));
    assert!((1..=2).contains(&messages) && names == 1, "once for messages, once for names: {log:#?}");
    let troubles = log.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).count();
    assert!(troubles <= 12, "that is not said again and again:\n{}", log.join("\n"));
    // What is said and registered now is kept.
    server.crash();
    let server = place.start(&["-s", "sek"]);
    drop((server.login("ann"), server.login(&name)));
    let mut bob = server.login("bob");
    // What he confirmed in the last moment may come again.
    let first = bob.hear_activity().0["n"].as_u64().expect("a number");
    assert!(first <= n + 1, "he misses nothing from {} on, where {first} is next", n + 1);
    bob.hear_numbers(first + 1..n + 2);
}

/// The log up to the line with these words.
fn until(server: &Server, words: &str) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &String| !line.contains(words)) {
        lines.push(server.process.errors.line());
    }
    lines
}

#[test]
fn what_was_said_last_on_a_full_disk_is_kept_when_there_is_room_though_nobody_speaks() {
    let Some(disk) = SmallDisk::new("quiet") else { return };
    let place = Place::new(disk.0.path("data"));
    let server = place.start(&["-s", "sek"]);
    let (mut ann, bob) = (server.register("ann"), server.register("bob"));
    bob.vanish();
    talk(&mut [&mut ann], 0);
    // That bob is in is on disk before this is answered.
    server.register("cy");
    disk.fill();
    let mut n = 1;
    // A file may have room left.
    while n < 20 {
        talk(&mut [&mut ann], n);
        n += 1;
    }
    server.process.errors.line_with("the journal takes nothing");
    disk.empty();
    server.process.errors.line_with("the journal goes on");
    server.crash();
    let server = place.start(&["-s", "sek"]);
    server.login("bob").hear_numbers(0..n);
}

#[test]
fn a_disk_that_may_not_be_written_to_is_no_start_and_the_reason_is_said() {
    let Some(disk) = SmallDisk::new("readonly") else { return };
    let place = Place::new(disk.0.path("data"));
    place.start(&["-s", "sek"]).stop();
    mount(&["-o", "remount,ro", &disk.0.path("")]).expect("what was mounted can be mounted again");
    let why = place.refusal(&["-s", "sek"]);
    assert!(why.contains("Read-only") && why.contains("--data-dir") && why.contains(&place.data), "{why}");
    // One that keeps nothing there runs.
    drop(place.start(&["-s", "sek", "--ephemeral"]).register("ann"));
}

#[test]
fn a_folder_that_another_server_uses_is_no_start_and_the_reason_is_said() {
    let folder = Folder::new("used");
    let place = Place::new(folder.path("data"));
    let server = place.start(&["-s", "sek"]);
    let why = place.refusal(&["-s", "sek", "--bind", "127.0.0.2"]);
    assert!(why.contains("in use by another server") && why.contains("--data-dir"), "{why}");
    server.register("ann");
    server.crash();
    // The lock ends with the process.
    drop(place.start(&["-s", "sek", "--bind", "127.0.0.1"]).login("ann"));
}
