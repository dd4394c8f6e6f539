//! The client on a pipe, against scripted servers on free ports of this machine. No sleeps: every wait
//! of a script has a deadline.

mod scripted;

use std::io::{self, Cursor, ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;

use activitystreamer::client::{Exit, Options, pipe, run};
use scripted::{LOGGED_IN, PATIENCE, Run, Server, open_pipe, unused_port};
use serde_json::{Value, json};

#[test]
fn a_login_hears_its_own_echo_and_leaves_with_a_logout() {
    let server = Server::start();
    let client = Run::start(server.bob(), Cursor::new("{\"note\": \"hi\"}\nbye"));
    let mut peer = server.accept();
    assert_eq!(peer.hear_line(), "{\"command\":\"LOGIN\",\"username\":\"bob\",\"secret\":\"sek\"}\n");
    peer.tell(LOGGED_IN);
    let opening = r#"{"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":"#;
    assert_eq!(peer.hear_line(), format!("{opening}{{\"note\": \"hi\"}}}}\n"));
    assert_eq!(peer.hear_line(), format!("{opening}{{\"message\":\"bye\"}}}}\n"));
    assert_eq!(peer.hear()["command"], "LOGOUT");
    // What is owed comes after the LOGOUT, and is still printed.
    peer.tell(r#"{"command":"ACTIVITY_BROADCAST","activity":{"note": "hi","authenticated_user":"bob"}}"#);
    peer.tell(r#"{"command":"ACTIVITY_BROADCAST","activity":{"n":1.0e+4}}"#);
    peer.half_close();
    peer.hear_eof();
    let (exit, output) = client.end();
    assert_eq!(exit, Exit::Done);
    assert_eq!(output, "{\"note\": \"hi\",\"authenticated_user\":\"bob\"}\n{\"n\":1.0e+4}\n");
}

#[test]
fn a_name_alone_is_registered_with_a_secret_made_here() {
    let server = Server::start();
    let options = Options { name: Some("bob".to_owned()), ..server.options() };
    let client = Run::start(options, Cursor::new("hi\n"));
    let mut peer = server.accept();
    let register = peer.hear();
    assert_eq!((&register["command"], &register["username"]), (&json!("REGISTER"), &json!("bob")));
    let secret = register["secret"].as_str().expect("a secret");
    assert_eq!(secret.len(), 26);
    assert!(
        secret.bytes().all(|byte| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte)),
        "{secret}"
    );
    peer.tell(r#"{"command":"REGISTER_SUCCESS","info":"register success for bob"}"#);
    let login = peer.hear();
    assert_eq!((&login["command"], &login["secret"]), (&json!("LOGIN"), &register["secret"]));
    peer.tell(LOGGED_IN);
    let message = peer.hear();
    assert_eq!((&message["username"], &message["secret"]), (&json!("bob"), &register["secret"]));
    assert_eq!(message["activity"], json!({ "message": "hi" }));
    peer.log_out();
    assert_eq!(client.end(), (Exit::Done, String::new()));
}

#[test]
fn an_anonymous_client_talks_without_a_secret() {
    for name in [None, Some("anonymous".to_owned())] {
        let server = Server::start();
        let client = Run::start(Options { name, ..server.options() }, Cursor::new("\r\n  \nhi\r\n\n"));
        let mut peer = server.accept();
        assert_eq!(peer.hear(), json!({ "command": "LOGIN", "username": "anonymous" }));
        peer.tell(LOGGED_IN);
        assert_eq!(peer.hear_activity(), json!({ "message": "hi" }), "blank lines and the CR are nothing");
        peer.log_out();
        assert_eq!(client.end(), (Exit::Done, String::new()));
    }
}

#[test]
fn a_redirect_in_mid_stream_keeps_the_order_both_ways() {
    // More than the kernel holds for a server that does not read.
    const SAID: u64 = 10_000;
    let (first, second) = (Server::start(), Server::start());
    let pad = "x".repeat(2000);
    let input: String = (0..SAID).map(|n| format!("{}\n", json!({ "n": n, "pad": pad }))).collect();
    let client = Run::start(first.bob(), Cursor::new(input));
    let mut peer = first.accept_login();
    for n in 0..1000 {
        assert_eq!(peer.hear_activity(), json!({ "n": n, "pad": pad }));
    }
    peer.broadcast(&json!("not an object, ignored"));
    peer.broadcast(&json!({ "from": "first" }));
    peer.redirect(&second);
    peer.broadcast(&json!({ "from": "first, late" }));
    // The first server is still heard to its end, and hears whole lines to the end.
    let mut next = 1000;
    loop {
        let line = peer.hear_line();
        if line.is_empty() {
            break;
        }
        let message: Value = serde_json::from_str(&line).expect("no line is torn");
        assert_eq!(message["activity"], json!({ "n": next, "pad": pad }));
        next += 1;
    }
    assert!(next < SAID, "the second server has something to hear");
    peer.broadcast(&json!({ "from": "first, last" }));
    peer.half_close();

    let mut peer = second.accept_login();
    for n in next..SAID {
        assert_eq!(peer.hear_activity(), json!({ "n": n, "pad": pad }));
    }
    assert_eq!(peer.hear()["command"], "LOGOUT");
    peer.broadcast(&json!({ "from": "second" }));
    peer.half_close();
    let (exit, output) = client.end();
    assert_eq!(exit, Exit::Done);
    let from: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let expected = ["first", "first, late", "first, last", "second"];
    assert_eq!(from, expected.map(|from| json!({ "from": from })));
}

#[test]
fn a_server_that_redirects_and_then_hangs_is_left() {
    const SAID: u64 = 10_000;
    let (first, second) = (Server::start(), Server::start());
    let pad = "x".repeat(2000);
    let input: String = (0..SAID).map(|n| format!("{}\n", json!({ "n": n, "pad": pad }))).collect();
    let client = Run::start(first.bob(), Cursor::new(input));
    let mut hung = first.accept_login();
    assert_eq!(hung.hear_activity()["n"], json!(0));
    hung.redirect(&second);
    // Neither read nor closed. The client gives it up in the middle of a line.
    let mut peer = second.accept_login();
    let next = peer.hear_activity()["n"].as_u64().expect("a number");
    for n in next + 1..SAID {
        assert_eq!(peer.hear_activity()["n"], json!(n));
    }
    peer.log_out();
    assert_eq!(client.end(), (Exit::Done, String::new()));
    // Each message was written wholly to one of them, so the line torn off here is the next one there.
    for n in 1..next {
        assert_eq!(hung.hear_activity()["n"], json!(n));
    }
    assert!(!hung.hear_line().ends_with('\n'));
}

#[test]
fn a_redirected_registration_logs_in_with_its_secret() {
    let (first, second) = (Server::start(), Server::start());
    let client = Run::start(Options { name: Some("bob".to_owned()), ..first.options() }, Cursor::new(""));
    let mut peer = first.accept();
    let register = peer.hear();
    peer.tell(r#"{"command":"REGISTER_SUCCESS","info":"register success for bob"}"#);
    assert_eq!(peer.hear()["command"], "LOGIN");
    peer.tell(LOGGED_IN);
    peer.redirect(&second);
    peer.half_close();
    let mut peer = second.accept();
    let login = peer.hear();
    assert_eq!((&login["command"], &login["secret"]), (&json!("LOGIN"), &register["secret"]));
    peer.tell(LOGGED_IN);
    peer.log_out();
    assert_eq!(client.end().0, Exit::Done);
}

#[test]
fn redirects_in_circles_end_with_a_failed_connection() {
    let server = Server::start();
    let client = Run::start(server.bob(), Cursor::new(""));
    for _ in 0..=16 {
        let mut peer = server.accept_login();
        peer.redirect(&server);
    }
    assert_eq!(client.end().0, Exit::ConnectionFailed);
}

#[test]
fn refusals_have_their_own_exit_codes() {
    for (command, name, expected) in [
        ("LOGIN_FAILED", Some("sek"), Exit::Refused),
        ("AUTHENTICATION_FAIL", Some("sek"), Exit::Refused),
        ("REGISTER_FAILED", None, Exit::Refused),
        ("INVALID_MESSAGE", Some("sek"), Exit::Invalid),
    ] {
        let server = Server::start();
        let options = Options { secret: name.map(str::to_owned), ..server.bob() };
        let (input, _writer) = open_pipe();
        let client = Run::start(options, input);
        let mut peer = server.accept();
        peer.hear();
        peer.tell(&json!({ "command": command, "info": "because" }).to_string());
        assert_eq!(client.end(), (expected, String::new()), "{command}");
        peer.hear_eof();
    }
}

#[test]
fn a_lost_connection_is_told_by_the_exit_code() {
    for (logged_in, reset) in [(false, false), (true, false), (false, true), (true, true)] {
        let server = Server::start();
        let (input, _writer) = open_pipe();
        let client = Run::start(server.bob(), input);
        let mut peer = server.accept();
        peer.hear();
        if logged_in {
            peer.tell(LOGGED_IN);
            peer.broadcast(&json!({}));
        }
        if reset {
            peer.break_off()
        } else {
            drop(peer)
        }
        assert_eq!(client.end().0, Exit::ConnectionFailed, "logged in {logged_in}, reset {reset}");
    }
}

#[test]
fn a_server_that_is_not_there_is_told_by_the_exit_code() {
    let options = Options { host: "127.0.0.1".to_owned(), port: unused_port().1, ..Options::default() };
    assert_eq!(Run::start(options.clone(), Cursor::new("")).end().0, Exit::ConnectionFailed);
    let nowhere = Options { host: "no such host".to_owned(), ..options };
    assert_eq!(Run::start(nowhere, Cursor::new("")).end().0, Exit::ConnectionFailed);
}

#[test]
fn a_secret_without_a_name_is_refused_before_anything_is_sent() {
    let server = Server::start();
    let client = Run::start(Options { name: None, ..server.bob() }, Cursor::new(""));
    assert_eq!(client.end().0, Exit::Refused);
}

#[test]
fn a_server_that_floods_and_does_not_read_blocks_nobody() {
    const LINES: usize = 100_000;
    let server = Server::start();
    let text = "x".repeat(100);
    let input = format!("{text}\n").repeat(LINES);
    let client = Run::start(server.bob(), Cursor::new(input));
    let mut peer = server.accept_login();
    let flood = format!(r#"{{"command":"ACTIVITY_BROADCAST","activity":{{"flood":"{text}"}}}}"#);
    let flood = format!("{flood}\n").repeat(LINES);
    peer.tell_bytes(flood.as_bytes());
    for _ in 0..LINES {
        assert!(peer.hear_line().contains(&text));
    }
    peer.log_out();
    let (exit, output) = client.end();
    assert_eq!(exit, Exit::Done);
    assert_eq!(output.lines().filter(|line| *line == format!(r#"{{"flood":"{text}"}}"#)).count(), LINES);
}

#[test]
fn input_is_not_read_far_ahead_of_the_server() {
    /// An input without end that tells how much of it was read.
    struct Endless(mpsc::Sender<usize>);
    impl Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            into.fill(b'x');
            into[into.len() - 1] = b'\n';
            self.0.send(into.len()).map_err(|_| ErrorKind::Other)?;
            Ok(into.len())
        }
    }
    let server = Server::start();
    let (sender, receiver) = mpsc::channel();
    let client = Run::start(server.bob(), Endless(sender));
    let mut peer = server.accept();
    peer.hear();
    // Before the login nothing goes out; what is read until then is all that may wait.
    let mut read = 0;
    while read < pipe::WAITING_BYTES_MAX {
        read += receiver.recv_timeout(PATIENCE).expect("the client reads its input");
    }
    // While the client is busy with this it has all the time to read too much.
    for _ in 0..20_000 {
        peer.broadcast(&json!({}));
    }
    drop(peer);
    assert_eq!(client.end().0, Exit::ConnectionFailed);
    read += receiver.iter().sum::<usize>();
    assert!(read <= 2 * pipe::WAITING_BYTES_MAX, "{read} bytes were read");
}

#[test]
fn lines_of_a_megabyte_pass_both_ways() {
    let server = Server::start();
    let long = "é".repeat(1 << 19);
    let client = Run::start(server.bob(), Cursor::new(format!("{{\"long\":\"{long}\"}}\r\n{long}\r\nend")));
    let mut peer = server.accept_login();
    assert_eq!(peer.hear_activity(), json!({ "long": long }));
    assert_eq!(peer.hear_activity(), json!({ "message": long }));
    assert_eq!(peer.hear_activity(), json!({ "message": "end" }));
    let activity = format!(r#"{{"long":"{}"}}"#, "\\u00e9".repeat(200_000));
    peer.tell(&format!(r#"{{"command":"ACTIVITY_BROADCAST","activity":{activity}}}"#));
    peer.log_out();
    assert_eq!(client.end(), (Exit::Done, format!("{activity}\n")));
}

#[test]
fn a_server_may_write_a_byte_at_a_time_with_any_line_end() {
    let server = Server::start();
    let client = Run::start(server.bob(), Cursor::new(""));
    let mut peer = server.accept();
    peer.hear();
    let text =
        format!("{LOGGED_IN}\r\n\n {{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":{{\"a\":1}}}}\r\n");
    for byte in text.bytes() {
        peer.tell_bytes(&[byte]);
    }
    peer.log_out();
    assert_eq!(client.end(), (Exit::Done, "{\"a\":1}\n".to_owned()));
}

#[test]
fn a_listener_ignores_its_input_and_leaves_after_its_count() {
    let server = Server::start();
    let options = Options { listen: true, count: Some(2), ..server.options() };
    let client = Run::start(options, Cursor::new("ignored\n"));
    let mut peer = server.accept_login();
    for n in 0..3 {
        peer.broadcast(&json!({ "n": n }));
    }
    peer.log_out();
    assert_eq!(client.end(), (Exit::Done, "{\"n\":0}\n{\"n\":1}\n".to_owned()));
}

#[test]
fn a_count_ends_a_client_whose_input_is_still_open() {
    let server = Server::start();
    let (input, mut writer) = open_pipe();
    let client = Run::start(Options { count: Some(1), ..server.bob() }, input);
    let mut peer = server.accept_login();
    writer.write_all(b"hi\n").expect("the client reads");
    let activity = peer.hear_activity();
    peer.broadcast(&activity);
    peer.log_out();
    assert_eq!(client.end(), (Exit::Done, "{\"message\":\"hi\"}\n".to_owned()));
}

#[test]
fn a_listener_without_a_count_lives_until_the_server_closes() {
    let server = Server::start();
    let client = Run::start(Options { listen: true, ..server.options() }, Cursor::new("ignored\n"));
    let mut peer = server.accept_login();
    peer.broadcast(&json!({ "n": 1 }));
    peer.half_close();
    peer.hear_eof();
    assert_eq!(client.end(), (Exit::ConnectionFailed, "{\"n\":1}\n".to_owned()));
}

#[test]
fn the_local_port_is_kept_over_a_redirect() {
    let (first, second) = (Server::start(), Server::start());
    let (_reserved, port) = unused_port();
    let client = Run::start(Options { local_port: Some(port), ..first.bob() }, Cursor::new(""));
    let mut peer = first.accept_login();
    assert_eq!(peer.client_port(), port);
    peer.redirect(&second);
    peer.half_close();
    let peer = second.accept_login();
    assert_eq!(peer.client_port(), port);
    peer.log_out();
    assert_eq!(client.end().0, Exit::Done);
}

#[test]
fn output_that_nobody_takes_ends_the_client() {
    let server = Server::start();
    let (input, _writer) = open_pipe();
    let (reader, output) = open_pipe();
    drop(reader);
    let options = server.bob();
    let client = thread::spawn(move || run(&options, input, output));
    let mut peer = server.accept_login();
    peer.broadcast(&json!({}));
    peer.hear_eof();
    assert_eq!(client.join().expect("no panic"), Exit::Output);
}

#[test]
fn input_that_cannot_be_read_ends_the_session_in_good_order() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let server = Server::start();
    let client = Run::start(server.bob(), Cursor::new("hi\n").chain(Broken));
    let mut peer = server.accept_login();
    assert_eq!(peer.hear_activity(), json!({ "message": "hi" }));
    peer.log_out();
    assert_eq!(client.end().0, Exit::Invalid);
}
