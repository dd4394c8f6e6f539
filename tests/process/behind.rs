//! Readers that are further behind than the memory reaches: they read on from disk.

use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::kept::{Folder, Place};
use crate::stage::{PATIENCE, Server, Talker};

/// The smallest feed there is.
const SMALL: [&str; 4] = ["--line-bytes", "4K", "--feed-bytes", "16K"];
/// Bytes of a message, about.
const MESSAGE_BYTES: u64 = 3500;
/// Far more than the kernels between a server and a client hold.
const MESSAGES: u64 = 2000;
/// What pieces from disk may take: 64 of 256 KiB, and what the system has not taken back yet.
const MEMORY_KIB: u64 = 32 << 10;

fn message(n: u64) -> Value {
    json!({ "n": n, "pad": "x".repeat(MESSAGE_BYTES as usize) })
}

/// Ann says these, and hears each before the next.
fn say(ann: &mut Talker, numbers: std::ops::Range<u64>) {
    for n in numbers {
        ann.say(message(n));
        ann.hear_numbers([n]);
    }
}

/// A registered user that reads nothing.
fn stalled(server: &Server, name: &str) -> Talker {
    let mut talker = server.connect_slow();
    talker.register(name);
    talker
}

#[test]
fn ten_stalled_readers_and_one_that_was_away_get_from_disk_what_memory_has_lost() {
    let folder = Folder::new("behind");
    let place = Place::new(folder.path("data"));
    let server = place.start(&SMALL);
    let mut ann = server.register("ann");
    server.register("bob").vanish();
    let before = server.rss_kib();
    // They stall one after the other, so that each is elsewhere.
    let mut readers = Vec::new();
    for i in 0..10 {
        let from = i * MESSAGES / 20;
        readers.push((stalled(&server, &format!("user{i}")), from));
        say(&mut ann, from..from + MESSAGES / 20);
    }
    say(&mut ann, MESSAGES / 2..MESSAGES);
    thread::scope(|scope| {
        for (reader, from) in &mut readers {
            scope.spawn(|| reader.hear_numbers(*from..MESSAGES + 200));
        }
        // Meanwhile the talk goes on, and one comes back.
        say(&mut ann, MESSAGES..MESSAGES + 100);
        let mut bob = server.login("bob");
        bob.hear_numbers(0..MESSAGES + 100);
        say(&mut ann, MESSAGES + 100..MESSAGES + 200);
        bob.hear_numbers(MESSAGES + 100..MESSAGES + 200);
    });
    // They are sessions as good as any other.
    let (reader, _) = &mut readers[0];
    reader.say(message(MESSAGES + 200));
    ann.hear_numbers([MESSAGES + 200]);
    readers.iter_mut().for_each(|(reader, _)| reader.hear_numbers([MESSAGES + 200]));
    let grown = server.peak_kib() - before;
    println!("{grown} KiB more than before");
    assert!(grown < MEMORY_KIB, "readers that are behind took {grown} KiB");
    server.process.signal("USR1");
    let counted = server.process.errors.line_with("counted:");
    assert!(counted.contains(" disk_reads=") && !counted.contains("disk_reads_failed"), "{counted}");
    assert!(!counted.contains("closed_slow_reader") && !counted.contains("lost_bytes"), "{counted}");
}

#[test]
fn one_that_stalls_at_a_killed_server_gets_the_rest_from_the_next_one_there() {
    let folder = Folder::new("stalled");
    let place = Place::new(folder.path("data"));
    let server = place.start(&SMALL);
    let mut ann = server.register("ann");
    let mut bob = stalled(&server, "bob");
    say(&mut ann, 0..MESSAGES);
    bob.hear_numbers(0..100);
    server.crash();
    let mut heard = 100;
    while let Some(line) = bob.hear_or_end() {
        assert_eq!(line["activity"]["n"], json!(heard), "in order");
        heard += 1;
    }
    assert!(heard < MESSAGES, "the kernels hold less");
    let server = place.start(&SMALL);
    let mut bob = server.login("bob");
    let first = bob.hear_activity().0["n"].as_u64().expect("a number");
    println!("bob heard {heard} before, and then from {first} on");
    assert!(first <= heard, "nothing is missed between {heard} and {first}");
    bob.hear_numbers(first + 1..MESSAGES);
    let mut ann = server.login("ann");
    ann.say(message(MESSAGES));
    bob.hear_numbers([MESSAGES]);
}

#[test]
fn one_that_falls_behind_the_disk_too_is_closed_and_the_log_says_so() {
    // Retention goes by files of 16 MiB.
    const TALK: u64 = (20 << 20) / MESSAGE_BYTES;
    let folder = Folder::new("retention");
    let place = Place::new(folder.path("data"));
    let server = place.start(&[&SMALL[..], &["--retention-bytes", "1M"]].concat());
    let mut ann = server.register("ann");
    let mut bob = stalled(&server, "bob");
    server.register("cy").vanish();
    say(&mut ann, 0..TALK);
    server.process.errors.line_with("behind the feed's oldest");
    bob.hear_any_end();
    // The store's thread removes it.
    let until = Instant::now() + PATIENCE;
    while place.journal().len() > 1 {
        assert!(Instant::now() < until, "what is too old is gone");
        thread::yield_now();
    }
    for name in ["bob", "cy"] {
        let mut back = server.login(name);
        let first = back.hear_activity().0["n"].as_u64().expect("a number");
        assert!(first > 0 && first < TALK, "what is still there is owed, from {first} on");
        back.hear_numbers(first + 1..TALK);
        server.process.errors.line_with("that had left the feed");
    }
    server.process.signal("USR1");
    let counted = server.process.errors.line_with("counted:");
    assert!(counted.contains("closed_slow_reader=1") && counted.contains(" lost_bytes="), "{counted}");
}
