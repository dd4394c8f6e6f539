//! The program as a person or a script meets it: how it starts and stops, and what it prints.

use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::stage::{BINARY, CHEAP, Process, Server};

#[test]
fn a_server_stops_cleanly_at_sigterm_and_at_sigint() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        let (mut ann, mut stranger) = (server.register("ann"), server.connect());
        ann.say(json!({ "n": 1 }));
        ann.hear_numbers([1]);
        server.process.signal(signal);
        for talker in [&mut ann, &mut stranger] {
            talker.hear_end();
        }
        server.process.end_with(0);
    }
}

#[test]
fn a_server_that_stops_gives_readers_what_they_are_owed() {
    let mut server = Server::start(&[]);
    let mut slow = server.connect_slow();
    slow.login("anonymous");
    let mut ann = server.login("anonymous");
    let pad = "x".repeat(4000);
    for n in 0..500 {
        ann.say(json!({ "n": n, "pad": pad }));
        ann.hear_numbers([n]);
    }
    server.process.signal("TERM");
    ann.hear_end();
    slow.hear_numbers(0..500);
    slow.hear_end();
    drop((ann, slow));
    server.process.end_with(0);
}

#[test]
fn a_second_signal_stops_a_server_at_once() {
    let mut server = Server::start(&[]);
    let mut slow = server.connect_slow();
    slow.login("anonymous");
    let mut ann = server.login("anonymous");
    let pad = "x".repeat(4000);
    for n in 0..500 {
        ann.say(json!({ "n": n, "pad": pad }));
        ann.hear_numbers([n]);
    }
    server.process.signal("TERM");
    ann.hear_end();
    server.process.hurry();
    server.process.end_with(0);
}

#[test]
fn a_wrong_command_line_is_refused_with_what_to_do() {
    for (flags, hint) in [
        (&["-rp", "3781"][..], "--remote-host"),
        (&["-s", "sek", "--secret-file", "x"], "--secret-file"),
        (&["-a", "1"], "100"),
        (&["--feed-bytes", "1M"], "--feed-bytes"),
        (&["--no-such-flag"], "--no-such-flag"),
    ] {
        let mut server = Process::start(Command::new(BINARY).arg("server").args(CHEAP).args(flags));
        let errors = server.errors.rest();
        assert!(errors.contains(hint), "{flags:?} is refused with a hint, not {errors:?}");
        server.end_with(2);
    }
}

#[test]
fn a_port_in_use_is_refused_with_what_to_do() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let mut server = Process::start(Command::new(BINARY).args(["server", "-lp", &port]));
    let errors = server.errors.rest();
    assert!(errors.contains(&port) && errors.contains("-lp 0"), "a hint, not {errors:?}");
    server.end_with(1);
}

#[test]
fn an_address_of_another_machine_is_refused_with_what_to_do() {
    // An address for documents: nobody's.
    let mut server =
        Process::start(Command::new(BINARY).args(["server", "--bind", "192.0.2.1", "--ephemeral"]));
    let errors = server.errors.rest();
    assert!(errors.contains("192.0.2.1") && errors.contains("--bind chooses another"), "{errors}");
    server.end_with(1);
}

#[test]
fn memory_that_the_machine_does_not_give_is_refused_with_what_to_do() {
    let run = r#"ulimit -v 4000000; exec "$@" server --feed-bytes 64G --ephemeral -lp 0"#;
    let mut server = Process::start(Command::new("sh").args(["-c", run, "sh", BINARY]));
    let errors = server.errors.rest();
    assert!(errors.contains("--feed-bytes 68719476736") && errors.contains("choose less"), "{errors}");
    server.end_with(1);
}

#[test]
fn what_was_asked_for_and_cannot_be_printed_is_an_error() {
    for words in [&["server", "--print-config"][..], &["server", "--check-config"], &["completions", "bash"]]
    {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let ended = Command::new(BINARY).args(words).stdout(full).output().expect("it starts");
        let errors = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{words:?}: {errors}");
        assert!(errors.contains("standard output cannot be written"), "{errors}");
    }
}

#[test]
fn no_secret_is_ever_logged() {
    const SECRETS: [&str; 4] = ["s3cr3t-right", "s3cr3t-wrong", "s3cr3t-broken", "s3cr3t-unread"];
    let [right, wrong, broken, unread] = SECRETS;
    let mut command = Command::new(BINARY);
    let mut server = Server::run(command.arg("server").args(CHEAP).env("RUST_LOG", "trace"));
    let mut heard = Vec::new();
    let mut meet = |lines: &[String]| {
        let mut eve = server.connect();
        lines.iter().for_each(|line| eve.tell(line));
        eve.half_close();
        heard.extend(eve.hear_any_end());
    };
    let of = |command: &str, secret: &str| {
        format!(r#"{{"command":"{command}","username":"bob","secret":"{secret}","activity":{{}}}}"#)
    };
    meet(&[of("REGISTER", right), of("LOGIN", right), of("ACTIVITY_MESSAGE", right)]);
    meet(&[of("REGISTER", wrong)]);
    meet(&[of("LOGIN", wrong)]);
    meet(&[of("ACTIVITY_MESSAGE", wrong)]);
    meet(&[of("LOGIN", right), of("ACTIVITY_MESSAGE", wrong)]);
    meet(&[of("LOGIN", right), of("LOGIN", wrong)]);
    meet(&[of("JUMP", broken)]);
    meet(&[of("LOGIN", broken).replace('}', "")]);
    meet(&[of("LOGIN", &broken.repeat(20))]);
    meet(&[of("LOGIN", right), "{\"command\":\"LOGOUT\"}".to_owned(), of("LOGIN", unread)]);
    server.process.signal("USR1");
    server.process.errors.line_with("counted:");
    server.process.signal("TERM");
    let log = server.process.errors.rest();
    assert!(log.contains("stopping"), "the log was read to its end: {log}");
    let heard = String::from_utf8_lossy(&heard);
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} in the log:\n{log}");
        assert!(!heard.contains(secret), "{secret} is told:\n{heard}");
    }
    server.process.end_with(0);
}

#[test]
fn help_says_how_to_begin() {
    for words in [&["--help"][..], &["server", "--help"], &["client", "--help"]] {
        let mut program = Process::start(Command::new(BINARY).args(words));
        let help = program.output.rest();
        assert!(help.contains("activitystreamer"), "{help}");
        program.end_with(0);
    }
}
