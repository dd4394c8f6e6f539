//! Transcripts of the machine. A line is `! connected`, `! end`, `! closed EXPECTED`, `say TEXT`,
//! `> LINE` (what it sends), `< LINE` (what the server sends), `= EVENT` (what that last line meant),
//! or `@ MS` (the time from here on). Sent lines are taken one at a time; at the end none may be left.

use proptest::prelude::*;

use super::*;

mod numbered;
mod say;

fn login(name: &str) -> Mode {
    Mode::Login { name: name.to_owned(), secret: Zeroizing::new("sek".to_owned()) }
}

fn register(name: &str) -> Mode {
    Mode::Register { name: name.to_owned(), secret: Zeroizing::new("sek".to_owned()) }
}

fn play(mode: Mode, transcript: &str) -> Client {
    play_on(Client::new(mode), transcript)
}

fn play_on(mut client: Client, transcript: &str) -> Client {
    let (mut now, mut event) = (Duration::ZERO, String::new());
    for line in transcript.lines().map(str::trim_start).filter(|line| !line.is_empty()) {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            ">" => assert_eq!(send_line(&mut client), rest),
            "<" => event = format!("{:?}", client.handle(now, rest.as_bytes())),
            "=" => assert_eq!(event, rest, "event of the line before"),
            "@" => now = Duration::from_millis(rest.parse().expect("a time")),
            "say" => client.say(rest),
            "!" if rest == "connected" => client.connected(),
            "!" if rest == "end" => client.end(),
            "!" => assert_eq!(format!("closed {:?}", client.closed()), rest),
            _ => panic!("no verb of a transcript: {line}"),
        }
    }
    assert_eq!(std::str::from_utf8(client.transmit()), Ok(""), "all that is sent is in the transcript");
    client
}

fn send_line(client: &mut Client) -> String {
    let bytes = client.transmit();
    let end = bytes.iter().position(|byte| *byte == b'\n').expect("a whole line to send");
    let line = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
    client.sent(end + 1);
    line
}

#[test]
fn a_login_lets_out_what_was_said_before_it_and_a_logout_ends_it() {
    play(
        login("bob"),
        r#"
        say {"note":"hi"}
        ! connected
        say and this
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        < {"command":"LOGIN_SUCCESS","info":"logged in as user bob"}
        = LoggedIn { info: "logged in as user bob" }
        > {"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":{"note":"hi"}}
        > {"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":{"message":"and this"}}
        < {"command":"ACTIVITY_BROADCAST","activity":{"note":"hi","authenticated_user":"bob"}}
        = Broadcast { activity: "{\"note\":\"hi\",\"authenticated_user\":\"bob\"}" }
        ! end
        say too late
        > {"command":"LOGOUT"}
        ! closed LoggedOut
        "#,
    );
}

#[test]
fn a_registration_is_followed_by_a_login_on_the_same_connection() {
    play(
        register("bob"),
        r#"
        ! connected
        say hi
        ! end
        > {"command":"REGISTER","username":"bob","secret":"sek"}
        < {"command":"REGISTER_SUCCESS","info":"register success for bob"}
        = Registered { info: "register success for bob" }
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        < {"command":"LOGIN_SUCCESS","info":"logged in as user bob"}
        > {"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":{"message":"hi"}}
        > {"command":"LOGOUT"}
        ! closed LoggedOut
        "#,
    );
}

#[test]
fn the_answer_may_come_before_its_question_is_counted_as_sent() {
    let mut client = Client::new(register("bob"));
    client.connected();
    let question = client.transmit().len();
    client.handle(Duration::ZERO, br#"{"command":"REGISTER_SUCCESS","info":"x"}"#);
    client.sent(question);
    assert_eq!(send_line(&mut client), r#"{"command":"LOGIN","username":"bob","secret":"sek"}"#);
}

#[test]
fn an_anonymous_client_gives_no_secret() {
    play(
        Mode::Anonymous,
        r#"
        ! connected
        > {"command":"LOGIN","username":"anonymous"}
        < {"command":"LOGIN_SUCCESS","info":"logged in as user anonymous"}
        say hi
        > {"command":"ACTIVITY_MESSAGE","username":"anonymous","activity":{"message":"hi"}}
        "#,
    );
}

#[test]
fn names_are_quoted_as_json() {
    play(
        login("a\"b\\é\u{1}"),
        r#"
        ! connected
        > {"command":"LOGIN","username":"a\"b\\é\u0001","secret":"sek"}
        "#,
    );
}

#[test]
fn refusals_end_the_sending() {
    for (command, event) in [
        ("LOGIN_FAILED", r#"Refused { command: "LOGIN_FAILED", info: "no" }"#),
        ("AUTHENTICATION_FAIL", r#"Refused { command: "AUTHENTICATION_FAIL", info: "no" }"#),
        ("REGISTER_FAILED", r#"Refused { command: "REGISTER_FAILED", info: "no" }"#),
        ("INVALID_MESSAGE", r#"Invalid { info: "no" }"#),
    ] {
        let transcript = format!(
            r#"
            ! connected
            say hi
            < {{"command":"{command}","info":"no"}}
            = {event}
            ! closed Lost
            "#
        );
        play(login("bob"), &transcript);
    }
}

#[test]
fn a_redirect_takes_along_what_was_not_written() {
    let mut client = play(
        login("bob"),
        r#"
        ! connected
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        < {"command":"LOGIN_SUCCESS","info":"x"}
        say one
        say two
        say three
        > {"command":"ACTIVITY_MESSAGE","username":"bob","secret":"sek","activity":{"message":"one"}}
        < {"command":"REDIRECT","hostname":"b.example","port":4000}
        = Redirect { host: "b.example", port: 4000 }
        < {"command":"ACTIVITY_BROADCAST","activity":{}}
        = Broadcast { activity: "{}" }
        < {"command":"REDIRECT","hostname":"c.example","port":4000}
        = Malformed { why: "REDIRECT after the end of the session" }
        "#,
    );
    assert_eq!(client.timeout(), Some(DRAIN));
    assert_eq!(client.closed(), Closed::Moved);
    client.connected();
    assert_eq!(send_line(&mut client), r#"{"command":"LOGIN","username":"bob","secret":"sek"}"#);
    assert_eq!(client.transmit(), b"", "nothing is said before the login");
    client.handle(DRAIN, br#"{"command":"LOGIN_SUCCESS","info":"x"}"#);
    assert!(send_line(&mut client).ends_with(r#"{"message":"two"}}"#));
    assert!(send_line(&mut client).ends_with(r#"{"message":"three"}}"#));
    assert_eq!(client.timeout(), None);
}

#[test]
fn a_half_written_line_is_finished_before_the_move_or_said_again_after_it() {
    for finished in [true, false] {
        let mut client = Client::new(login("bob"));
        client.connected();
        send_line(&mut client);
        client.handle(Duration::ZERO, br#"{"command":"LOGIN_SUCCESS","info":"x"}"#);
        client.say("one");
        client.say("two");
        client.sent(10);
        client.handle(Duration::ZERO, br#"{"command":"REDIRECT","hostname":"b","port":1}"#);
        assert!(client.moving());
        assert!(client.transmit().ends_with(b"{\"message\":\"one\"}}\n"));
        client.sent(if finished { client.transmit().len() } else { 3 });
        assert_eq!(client.transmit().is_empty(), finished);
        assert_eq!(client.closed(), Closed::Moved);
        client.connected();
        send_line(&mut client);
        client.handle(Duration::ZERO, br#"{"command":"LOGIN_SUCCESS","info":"x"}"#);
        let first = send_line(&mut client);
        assert_eq!(first.ends_with(r#""activity":{"message":"two"}}"#), finished, "{first}");
        assert!(first.starts_with(r#"{"command":"ACTIVITY_MESSAGE","#), "{first}");
    }
}

#[test]
fn a_logout_that_crossed_a_redirect_is_said_again_where_it_counts() {
    play(
        login("bob"),
        r#"
        ! connected
        ! end
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        < {"command":"LOGIN_SUCCESS","info":"x"}
        > {"command":"LOGOUT"}
        < {"command":"REDIRECT","hostname":"b","port":1}
        ! closed Moved
        ! connected
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        < {"command":"LOGIN_SUCCESS","info":"x"}
        > {"command":"LOGOUT"}
        ! closed LoggedOut
        "#,
    );
}

#[test]
fn a_redirect_in_place_of_an_answer_takes_the_question_along() {
    play(
        register("bob"),
        r#"
        ! connected
        > {"command":"REGISTER","username":"bob","secret":"sek"}
        < {"command":"REDIRECT","hostname":"b","port":1}
        ! closed Moved
        ! connected
        > {"command":"REGISTER","username":"bob","secret":"sek"}
        < {"command":"REGISTER_SUCCESS","info":"x"}
        < {"command":"REDIRECT","hostname":"b","port":1}
        ! closed Moved
        ! connected
        > {"command":"LOGIN","username":"bob","secret":"sek"}
        "#,
    );
}

/// Redirects after a login that lasts for `stay` and hears something or not, until the machine stops.
fn redirects_followed(stay: Duration, hears: bool) -> u32 {
    let (mut client, mut now) = (Client::new(login("bob")), Duration::ZERO);
    for followed in 0..100 {
        client.connected();
        send_line(&mut client);
        client.handle(now, br#"{"command":"LOGIN_SUCCESS","info":"x"}"#);
        if hears {
            client.handle(now, br#"{"command":"ACTIVITY_BROADCAST","activity":{}}"#);
        }
        now += stay;
        if client.handle(now, br#"{"command":"REDIRECT","hostname":"b","port":1}"#) == Event::Circling {
            assert_eq!(client.transmit(), b"");
            return followed;
        }
        assert_eq!(client.closed(), Closed::Moved);
    }
    100
}

#[test]
fn redirects_in_circles_are_followed_only_so_often() {
    assert_eq!(redirects_followed(STAY / 2, false), REDIRECTS_MAX);
    assert_eq!(redirects_followed(STAY, false), 100);
    assert_eq!(redirects_followed(Duration::ZERO, true), 100);
}

#[test]
fn a_connection_that_ends_before_the_logout_is_lost() {
    let mut client = Client::new(login("bob"));
    client.connected();
    assert_eq!(client.closed(), Closed::Lost);
    client.connected();
    send_line(&mut client);
    client.handle(Duration::ZERO, br#"{"command":"LOGIN_SUCCESS","info":"x"}"#);
    client.end();
    client.sent(client.transmit().len() - 1);
    assert_eq!(client.closed(), Closed::Lost);
}

#[test]
fn lines_that_are_no_commands_change_nothing() {
    let mut client = Client::new(login("bob"));
    client.connected();
    for line in [
        &b""[..],
        b"\r",
        b"garbage",
        b"null",
        b"{}",
        b"[\"LOGIN_SUCCESS\",\"x\",\"x\",1,{}]",
        b"{\"command\":1}",
        b"{\"command\":\"SERVER_HELLO\"}",
        b"{\"command\":\"LOGIN_SUCCESS\",\"command\":\"LOGIN_SUCCESS\"}",
        b"{\"command\":\"LOGIN_SUCCESS\",\"info\":\"\xe9\"}",
        b"{\"command\":\"LOGIN_SUCCESS\"",
        b"{\"command\":\"REGISTER_SUCCESS\",\"info\":\"x\"}",
        b"{\"command\":\"ACTIVITY_BROADCAST\"}",
        b"{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":null}",
        b"{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":\"{}\"}",
        b"{\"command\":\"REDIRECT\"}",
        b"{\"command\":\"REDIRECT\",\"hostname\":\"\",\"port\":1}",
        b"{\"command\":\"REDIRECT\",\"hostname\":\"b\",\"port\":0}",
        b"{\"command\":\"REDIRECT\",\"hostname\":\"b\",\"port\":65536}",
        b"{\"command\":\"REDIRECT\",\"hostname\":\"b\",\"port\":\"1\"}",
    ] {
        let event = client.handle(Duration::ZERO, line);
        assert!(matches!(event, Event::Malformed { .. }), "{event:?}");
    }
    send_line(&mut client);
    let event = client.handle(Duration::ZERO, b" {\"comm\\u0061nd\" :\"LOGIN_SUCCESS\",\"x\":[1]}\r");
    assert_eq!(event, Event::LoggedIn { info: "no reason given".to_owned() });
}

#[test]
fn the_servers_words_are_shown_whatever_their_type() {
    let mut client = Client::new(login("bob"));
    client.connected();
    let event = client.handle(Duration::ZERO, br#"{"command":"INVALID_MESSAGE","info":{"a": 1}}"#);
    assert_eq!(event, Event::Invalid { info: r#"{"a": 1}"#.to_owned() });
}

#[test]
fn a_broadcast_is_given_as_it_is_spelled() {
    let mut client = Client::new(login("bob"));
    client.connected();
    let line = br#"{"activity": {"n" : 1.0e+400, "s":"\u00e9\/"} ,"id":7,"command":"ACTIVITY_BROADCAST"}"#;
    let event = client.handle(Duration::ZERO, line);
    assert_eq!(event, Event::Broadcast { activity: r#"{"n" : 1.0e+400, "s":"\u00e9\/"}"# });
}

proptest! {
    #[test]
    fn no_line_of_a_server_makes_the_machine_panic(lines in prop::collection::vec(any::<Vec<u8>>(), 0..20)) {
        let mut client = Client::new(Mode::Anonymous);
        client.connected();
        for line in &lines {
            client.handle(Duration::ZERO, line);
        }
    }
}
