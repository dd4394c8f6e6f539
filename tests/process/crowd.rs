//! More clients than there are descriptors.

use std::io::{ErrorKind, Read};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::stage::{BINARY, CHEAP, Server, Talker};

/// What the server may open, and how many of those are clients: 128 are kept back.
const DESCRIPTORS: usize = 200;
const ROOM: usize = DESCRIPTORS - 128;

#[test]
fn at_the_descriptor_limit_those_who_are_in_go_on_and_the_others_wait_their_turn() {
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" server \"$@\"");
    let mut command = Command::new("sh");
    let server = Server::run(command.args(["-c", &script, BINARY]).args(CHEAP).env("RUST_LOG", "info"));
    server.process.errors.line_with(&format!("up to {ROOM} connections"));

    let mut inside: Vec<Talker> = (0..ROOM).map(|_| server.login("anonymous")).collect();
    let mut waiting: Vec<Talker> = (0..40).map(|_| server.connect()).collect();
    for talker in &mut waiting {
        talker.tell(r#"{"command":"LOGIN","username":"anonymous"}"#);
    }
    all_hear(&mut inside, 1);

    // Nobody is let in, and the server does not ask over and over whether it could.
    let (cpu, start) = (server.cpu(), Instant::now());
    waiting[0].socket().set_read_timeout(Some(Duration::from_millis(500))).expect("a socket has a timeout");
    let nothing = waiting[0].socket().read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(nothing, Err(ErrorKind::WouldBlock), "no more than {ROOM} are in");
    let (spent, passed) = (server.cpu() - cpu, start.elapsed());
    assert!(spent * 5 < passed, "{spent:?} of processor time in {passed:?} of silence");
    waiting[0].socket().set_read_timeout(Some(crate::stage::PATIENCE)).expect("a socket has a timeout");
    all_hear(&mut inside, 2);

    // Whoever leaves makes room for the one who waited longest.
    for mut talker in inside.drain(..waiting.len()) {
        talker.tell(r#"{"command":"LOGOUT"}"#);
        talker.hear_end();
    }
    for talker in &mut waiting {
        talker.hear_command("LOGIN_SUCCESS");
    }
    inside.append(&mut waiting);
    assert_eq!(inside.len(), ROOM);
    all_hear(&mut inside, 3);
}

fn all_hear(talkers: &mut [Talker], n: u64) {
    talkers[0].say(json!({ "n": n }));
    talkers.iter_mut().for_each(|talker| talker.hear_numbers([n]));
}
