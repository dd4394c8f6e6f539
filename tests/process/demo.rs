//! The demonstration shows what it should, and leaves nothing behind however it ends.

use std::process::Command;

use crate::kept::{Folder, names_in};
use crate::stage::{BINARY, Process};

fn start(folder: &Folder) -> Process {
    Process::start(Command::new(BINARY).arg("demo").env("TMPDIR", folder.here()))
}

/// Processes that name this folder.
fn left_in(folder: &Folder) -> Vec<String> {
    let folder = folder.here().to_str().expect("a path in text").to_owned();
    let all = names_in("/proc").into_iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit()));
    let commands = all.filter_map(|id| std::fs::read(format!("/proc/{id}/cmdline")).ok());
    let commands = commands.map(|command| String::from_utf8_lossy(&command).replace('\0', " "));
    commands.filter(|command| command.contains(&folder)).collect()
}

#[test]
fn a_server_is_killed_and_comes_back_clients_move_and_nothing_is_lost() {
    let folder = Folder::new("demo");
    let mut demo = start(&folder);
    for words in [
        "are one network",
        "is killed",
        "logged in at the other servers",
        "comes back",
        "in the network again",
        "clients moved",
        "delivered ",
        "Nothing was lost",
    ] {
        demo.output.line_with(words);
    }
    demo.end_with(0);
    assert_eq!((names_in(folder.here()), left_in(&folder)), (vec![], vec![]));
}

#[test]
fn a_demonstration_that_is_stopped_leaves_nothing_behind() {
    for (signal, words) in [("INT", "Three servers start"), ("TERM", "one network"), ("HUP", "is killed")] {
        let folder = Folder::new("demo-stopped");
        let mut demo = start(&folder);
        demo.output.line_with(words);
        demo.signal(signal);
        demo.end_with(3);
        assert_eq!((names_in(folder.here()), left_in(&folder)), (vec![], vec![]), "{signal}");
    }
}

#[test]
fn a_demonstration_without_a_place_for_its_files_says_so() {
    let mut demo = Process::start(Command::new(BINARY).arg("demo").env("TMPDIR", "/nowhere/at-all"));
    let why = demo.errors.line();
    assert!(why.contains("/nowhere/at-all"), "{why}");
    demo.end_with(3);
}
