//! Readers that are slow, and the others who do not wait for them.

use serde_json::json;

use crate::stage::Server;

/// Far more than the kernels between a server and a client hold, with messages of 4 kB.
const MESSAGES: u64 = 2000;

#[test]
fn a_reader_that_stalls_holds_up_nobody_and_then_gets_everything_in_order() {
    let server = Server::start(&[]);
    let mut slow = server.connect_slow();
    slow.login("anonymous");
    let (mut ann, mut bob) = (server.register("ann"), server.login("anonymous"));
    let pad = "x".repeat(4000);
    for n in 0..MESSAGES {
        ann.say(json!({ "n": n, "pad": pad }));
        bob.hear_numbers([n]);
        ann.hear_numbers([n]);
    }
    slow.hear_numbers(0..MESSAGES);
    // And it is a session as good as any other.
    slow.say(json!({ "n": MESSAGES }));
    for talker in [&mut slow, &mut ann, &mut bob] {
        talker.hear_numbers([MESSAGES]);
    }
}

#[test]
fn a_reader_that_falls_off_the_feed_is_closed_and_the_log_says_so() {
    let server = Server::start(&["--line-bytes", "8K", "--feed-bytes", "64K"]);
    server.register("bob").tell(r#"{"command":"LOGOUT"}"#);
    let mut slow = server.connect_slow();
    slow.login("bob");
    let mut ann = server.register("ann");
    let pad = "x".repeat(4000);
    for n in 0..MESSAGES {
        ann.say(json!({ "n": n, "pad": pad }));
        ann.hear_numbers([n]);
    }
    server.process.errors.line_with("behind the feed's oldest");
    let got = slow.hear_any_end();
    let whole =
        got.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).count() as u64;
    assert!(whole < MESSAGES, "it did not get everything");
    // What the feed still has is owed, up to its last word.
    let mut bob = server.login("bob");
    let first = bob.hear_activity().0["n"].as_u64().expect("a number");
    assert!(
        (MESSAGES - 17..MESSAGES).contains(&first),
        "64 KiB hold 15 or 16 messages, not those from {first}"
    );
    bob.hear_numbers(first + 1..MESSAGES);
    server.process.errors.line_with("that had left the feed");
    server.process.signal("TERM");
    let log = server.process.errors.line_with("counted:");
    assert!(log.contains("closed_slow_reader=1"), "{log}");
}
