//! Clients that talk, and lines in any segments.

use serde_json::json;

use crate::stage::Server;

#[test]
fn two_clients_register_log_in_and_hear_each_other_and_themselves() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = (server.register("ann"), server.register("bob"));
    ann.say(json!({ "note": "hi" }));
    for talker in [&mut ann, &mut bob] {
        assert_eq!(talker.hear_activity(), (json!({ "note": "hi" }), "ann".to_owned()));
    }
    bob.say(json!({ "note": "hello", "to": ["ann"] }));
    for talker in [&mut ann, &mut bob] {
        assert_eq!(talker.hear_activity(), (json!({ "note": "hello", "to": ["ann"] }), "bob".to_owned()));
    }
    ann.tell(r#"{"command":"LOGOUT"}"#);
    ann.hear_end();
    let mut ann = server.login("ann");
    bob.say(json!({}));
    assert_eq!(ann.hear_activity(), (json!({}), "bob".to_owned()));
}

#[test]
fn a_line_may_come_a_byte_at_a_time_and_many_in_one_segment() {
    let server = Server::start(&[]);
    let mut ann = server.connect();
    for byte in b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\r\n" {
        ann.tell_bytes(&[*byte]);
    }
    ann.hear_command("LOGIN_SUCCESS");
    let lines: String = (0..1000).map(|n| ann.message(&json!({ "n": n })) + "\n").collect();
    // Cut in the middle of a line, so that one comes in two segments.
    let (front, back) = lines.as_bytes().split_at(lines.len() / 2 + 11);
    ann.tell_bytes(front);
    ann.tell_bytes(back);
    ann.hear_numbers(0..1000);
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_replies() {
    let server = Server::start(&[]);
    let mut ann = server.connect();
    ann.tell_bytes(b"{\"command\":\"REGISTER\",\"username\":\"ann\",\"secret\":\"sek\"}\n");
    ann.tell_bytes(b"{\"command\":\"LOGIN\",\"username\":\"ann\",\"secret\":\"sek\"}\n");
    ann.tell_bytes(
        b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"ann\",\"secret\":\"sek\",\"activity\":{\"n\":1}}\n",
    );
    ann.half_close();
    ann.hear_command("REGISTER_SUCCESS");
    ann.hear_command("LOGIN_SUCCESS");
    ann.hear_numbers([1]);
    ann.hear_end();
    // A refusal takes its 250 ms, and is not lost either.
    let mut eve = server.connect();
    eve.tell(r#"{"command":"LOGIN","username":"ann","secret":"wrong"}"#);
    eve.half_close();
    eve.hear_command("LOGIN_FAILED");
    eve.hear_end();
}

#[test]
fn a_refused_client_reads_the_reason_and_then_the_end_whatever_it_went_on_sending() {
    let server = Server::start(&[]);
    let _ann = server.register("ann");
    let refusals = [
        ("LOGIN_FAILED", r#"{"command":"LOGIN","username":"ann","secret":"wrong"}"#),
        ("REGISTER_FAILED", r#"{"command":"REGISTER","username":"ann","secret":"sek"}"#),
        ("INVALID_MESSAGE", r#"{"command":"JUMP"}"#),
        (
            "AUTHENTICATION_FAIL",
            r#"{"command":"ACTIVITY_MESSAGE","username":"ann","secret":"wrong","activity":{}}"#,
        ),
    ];
    for (refusal, line) in refusals {
        let mut eve = server.connect();
        eve.tell(&format!("{line}\n{}", "{\"command\":\"LOGOUT\"}\n".repeat(2000)));
        eve.hear_command(refusal);
        eve.tell(&"more".repeat(5000));
        eve.hear_end();
    }
}

#[test]
fn a_client_that_waits_after_logout_is_closed_by_the_server() {
    let server = Server::start(&[]);
    let mut ann = server.login("anonymous");
    let message = ann.message(&json!({ "n": 7 }));
    ann.tell(&format!("{message}\n{{\"command\":\"LOGOUT\"}}"));
    ann.hear_numbers([7]);
    ann.hear_end();
}
