//! Clients that mean harm, or might as well.

use std::io::{ErrorKind, Write};

use serde_json::json;

use crate::stage::{Server, Talker};

/// Bystanders who talk as if nothing happened.
pub struct Bystanders(Talker, Talker, u64);

impl Bystanders {
    pub fn of(server: &Server) -> Bystanders {
        Bystanders(server.register("ann"), server.login("anonymous"), 0)
    }

    pub fn talk(&mut self) {
        let Bystanders(ann, other, n) = self;
        ann.say(json!({ "n": n }));
        other.hear_numbers([*n]);
        ann.hear_numbers([*n]);
        *n += 1;
    }
}

#[test]
fn lines_that_would_hurt_are_refused_with_their_reason() {
    let server = Server::start(&[]);
    let mut bystanders = Bystanders::of(&server);
    let activity = |text: &str| {
        format!("{{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{text}}}\n")
    };
    let lines = [
        ("longer than the limit of 1048576 bytes", "x".repeat(10 << 20)),
        ("deeper than 32", format!("{}\n", "[".repeat(30_000))),
        ("out of range", activity("{\"n\":9223372036854775808}")),
        ("surrogate", activity("{\"x\":\"\\ud800\"}")),
        ("\"command\" is there twice", "{\"command\":\"LOGOUT\",\"c\\u006fmmand\":\"LOGOUT\"}\n".to_owned()),
        ("not valid JSON", activity("{\"x\":\"\r{\\\"command\\\":\\\"REDIRECT\\\"}\"}")),
        ("not valid JSON", "\0\n".to_owned()),
    ];
    for (reason, line) in lines {
        let mut eve = server.login("anonymous");
        // Once the server has closed it may refuse the rest.
        let _ = eve.socket().write_all(line.as_bytes());
        let info = eve.hear_command("INVALID_MESSAGE");
        assert!(info.contains(reason), "{info}");
        eve.hear_any_end();
        bystanders.talk();
    }
}

#[test]
fn a_raw_carriage_return_between_tokens_makes_no_second_line() {
    let server = Server::start(&[]);
    let (mut ann, mut eve) = (server.login("anonymous"), server.login("anonymous"));
    eve.tell(concat!(
        "{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{\"x\":\r",
        "{\"command\":\"REDIRECT\",\"hostname\":\"evil\",\"port\":1}\r}}"
    ));
    eve.say(json!({ "n": 1 }));
    for talker in [&mut ann, &mut eve] {
        let (activity, _) = talker.hear_activity();
        assert_eq!(activity["x"]["command"], "REDIRECT");
        talker.hear_numbers([1]);
    }
}

#[test]
fn a_thousand_half_sent_lines_take_bounded_memory_and_disturb_nobody() {
    const LINE: usize = 1 << 20;
    raise_descriptors();
    let server = Server::start(&[]);
    let mut bystanders = Bystanders::of(&server);
    let before = server.peak_kib();
    let half = vec![b'x'; LINE - 1000];
    let mut eves = Vec::new();
    for i in 0..1000 {
        let eve = server.login("anonymous");
        eve.socket().set_nonblocking(true).expect("a socket");
        // As much as the server and the kernels take now; it never ends its line.
        let mut rest = &half[..];
        while !rest.is_empty() {
            match eve.socket().write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("connection {i} takes half a line: {error}"),
            }
        }
        eve.socket().set_nonblocking(false).expect("a socket");
        eves.push(eve);
        if i % 50 == 0 {
            bystanders.talk();
        }
    }
    bystanders.talk();
    let most = server.peak_kib();
    // 64 MiB of half lines, 4 KiB that each may have besides, and what the connections take themselves.
    let bound = before + (64 << 10) + 4 * 1000 + (16 << 10);
    assert!(most < bound, "{most} KiB, more than {bound}");
    assert!(most > before + (32 << 10), "{most} KiB after {before}: nobody's half line was taken in");
}

/// The test has as many connections as the server.
fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a local of the right type.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    assert!(
        raised == 0 && limit.rlim_cur > 2500,
        "this test needs 2,500 descriptors, not {}",
        limit.rlim_cur
    );
}
