//! Connections that break.

use serde_json::json;

use crate::stage::{SLOW_BYTES, Server};

#[test]
fn a_killed_client_is_owed_what_comes_while_it_is_away_and_nothing_twice() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = (server.register("ann"), server.register("bob"));
    for n in 0..50 {
        ann.say(json!({ "n": n }));
    }
    ann.hear_numbers(0..50);
    bob.hear_numbers(0..50);
    // What the client sends acknowledges what it read; the answer to it is no broadcast.
    bob.tell(&bob.with_pair("LOGIN"));
    bob.hear_command("LOGIN_SUCCESS");
    bob.kill();
    for n in 50..60 {
        ann.say(json!({ "n": n }));
        ann.hear_numbers([n]);
    }
    let mut bob = server.login("bob");
    bob.hear_numbers(50..60);
    ann.say(json!({ "n": 60 }));
    bob.hear_numbers([60]);
}

#[test]
fn a_client_killed_with_bytes_on_the_way_loses_no_more_than_its_kernel_had() {
    const LINE_BYTES: u64 = 2000;
    let server = Server::start(&[]);
    let mut ann = server.register("ann");
    server.register("bob").tell(r#"{"command":"LOGOUT"}"#);
    let mut bob = server.connect_slow();
    bob.login("bob");
    let pad = "x".repeat(LINE_BYTES as usize);
    for n in 0..1000 {
        ann.say(json!({ "n": n, "pad": pad }));
        ann.hear_numbers([n]);
    }
    bob.hear_numbers(0..3);
    bob.kill();
    ann.say(json!({ "n": 1000 }));
    ann.hear_numbers([1000]);
    let mut bob = server.login("bob");
    let first = bob.hear_activity().0["n"].as_u64().expect("a number");
    bob.hear_numbers(first + 1..=1000);
    // The test's own buffer of 8 KiB is read, too.
    let kernel = 3 + (2 * SLOW_BYTES as u64 + 8192) / LINE_BYTES + 1;
    assert!(first >= 3, "message {first} was read before");
    assert!(first <= kernel, "the client's kernel had no more than {kernel} messages, and {first} were lost");
}

#[test]
fn a_client_that_logs_out_is_owed_nothing() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = (server.register("ann"), server.register("bob"));
    bob.tell(r#"{"command":"LOGOUT"}"#);
    bob.hear_end();
    drop(bob);
    ann.say(json!({ "n": 1 }));
    ann.hear_numbers([1]);
    let mut bob = server.login("bob");
    ann.say(json!({ "n": 2 }));
    bob.hear_numbers([2]);
}

#[test]
fn a_client_that_logs_in_again_at_once_misses_nothing_and_is_heard_in_order() {
    let server = Server::start(&[]);
    let (mut ann, mut bob) = (server.register("ann"), server.register("bob"));
    let mut n = 0;
    // Each time bob's words and end may still be unread when his next connection logs in.
    for _ in 0..30 {
        for _ in 0..3 {
            bob.say(json!({ "n": n }));
            n += 1;
        }
        drop(bob);
        bob = server.login("bob");
    }
    ann.hear_numbers(0..n);
}

#[test]
fn a_client_that_ends_its_side_and_reads_to_the_end_is_owed_nothing_of_what_it_read() {
    let server = Server::start(&[]);
    let mut bob = server.register("bob");
    for n in 0..5 {
        bob.say(json!({ "n": n }));
    }
    bob.half_close();
    bob.hear_numbers(0..5);
    bob.hear_end();
    drop(bob);
    let mut bob = server.login("bob");
    bob.say(json!({ "n": 5 }));
    bob.hear_numbers([5]);
}
