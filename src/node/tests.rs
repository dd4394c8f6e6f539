use std::time::Duration;

use crate::base::id::LinkId;
use crate::base::limits::Limits;
use crate::base::time::Time;
use crate::node::{CloseReason, Node, Seeds};
use crate::sim::World;

fn world() -> World {
    World::new(Limits { feed_bytes: 1 << 16, line_bytes: 1 << 14, ..Limits::default() })
}

const LOGIN_BOB: &[u8] = b"{\"command\":\"LOGIN\",\"username\":\"bob\",\"secret\":\"s\"}\n";

#[test]
fn a_login_long_after_the_feed_wrapped_is_answered() {
    let mut w = world();
    let a = w.connect();
    w.send(a, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    let line = format!(
        "{{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{{\"x\":\"{}\"}}}}\n",
        "y".repeat(9000)
    );
    for _ in 0..20 {
        w.send(a, line.as_bytes());
    }
    let b = w.connect();
    w.send(b, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    assert!(w.heard(b).contains("LOGIN_SUCCESS"));
}

#[test]
fn what_is_said_while_the_last_answer_goes_out_is_acknowledged_elsewhere() {
    let mut w = world();
    let a = w.connect();
    let ext = "\"ext\":{\"client\":\"00112233445566778899aabbccddeeff\"}";
    w.send(a, format!("{{\"command\":\"LOGIN\",\"username\":\"anonymous\",{ext}}}\n").as_bytes());
    w.heard(a);
    w.make_room(a, Some(20));
    w.node.redirect(w.now, a, "elsewhere", 3780);
    w.turn();
    w.send(a, b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"cseq\":1,\"activity\":{}}\n");
    w.make_room(a, None);
    let redirect = "{\"command\":\"REDIRECT\",\"hostname\":\"elsewhere\",\"port\":3780}\n";
    assert_eq!((w.heard(a).as_str(), w.node.counters().activities), (redirect, 1));
}

#[test]
fn a_reader_that_fell_off_in_mid_frame_can_still_be_refused() {
    let mut w = world();
    let a = w.connect();
    w.send(a, b"{\"command\":\"REGISTER\",\"username\":\"bob\",\"secret\":\"s\"}\n");
    w.send(a, LOGIN_BOB);
    w.make_room(a, Some(10));
    let line = format!(
        "{{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"bob\",\"secret\":\"s\",\"activity\":{{\"x\":\"{}\"}}}}\n",
        "y".repeat(9000)
    );
    for _ in 0..20 {
        w.send(a, line.as_bytes());
    }
    w.send(a, b"{\"command\":\"LOGIN\",\"username\":\"bob\",\"secret\":\"wrong\"}\n");
    w.advance(Duration::from_millis(300));
    w.make_room(a, None);
    assert!(w.socket(a).closed);
    assert_eq!(w.node.counters().closed[CloseReason::SlowReader as usize], 1);
}

#[test]
fn a_blocked_reader_that_fell_off_is_closed_though_it_never_takes_bytes_again() {
    let mut w = world();
    let (a, b) = (w.connect(), w.connect());
    for link in [a, b] {
        w.send(link, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    }
    w.make_room(b, Some(10));
    let line = format!(
        "{{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{{\"x\":\"{}\"}}}}\n",
        "y".repeat(9000)
    );
    for _ in 0..7 {
        w.send(a, line.as_bytes());
        assert!(!w.socket(b).closed);
    }
    w.send(a, line.as_bytes());
    assert!(w.socket(b).closed, "the feed of 64 KiB holds seven of these");
}

#[test]
fn a_refusal_comes_250_ms_after_its_line_however_long_the_hash_took() {
    let mut w = world();
    let a = w.connect();
    w.send(
        a,
        b"{\"command\":\"REGISTER\",\"username\":\"bob\",\"secret\":\"s\"}\n{\"command\":\"LOGOUT\"}\n",
    );
    w.advance(Duration::from_secs(3 * 3600));
    w.hold_hashes = true;
    let (b, c) = (w.connect(), w.connect());
    w.send(b, b"{\"command\":\"LOGIN\",\"username\":\"bob\",\"secret\":\"wrong\"}\n");
    w.advance(Duration::from_millis(100));
    w.send(c, b"{\"command\":\"LOGIN\",\"username\":\"eve\",\"secret\":\"wrong\"}\n");
    w.hash();
    w.advance(Duration::from_millis(149));
    assert_eq!(w.heard(b), "");
    w.advance(Duration::from_millis(1));
    let refused = "{\"command\":\"LOGIN_FAILED\",\"info\":\"wrong username or secret\"}\n";
    assert_eq!((&*w.heard(b), &*w.heard(c)), (refused, ""));
    w.advance(Duration::from_millis(100));
    assert_eq!(w.heard(c), refused);
}

#[test]
fn an_answer_quotes_no_more_than_the_beginning_of_a_name() {
    let mut w = world();
    let a = w.connect();
    w.send(a, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    w.heard(a);
    w.send(a, format!("{{\"command\":\"LOGIN\",\"username\":\"{}\"}}\n", "\u{e9}".repeat(6000)).as_bytes());
    let heard = w.heard(a);
    assert!(heard.contains("LOGIN_FAILED") && heard.len() < 1000, "{heard}");
}

#[test]
fn what_was_begun_before_a_refusal_does_not_wait_for_it() {
    let mut w = world();
    let a = w.connect();
    w.send(a, b"{\"command\":\"REGISTER\",\"username\":\"bob\",\"secret\":\"s\"}\n");
    let success = "{\"command\":\"LOGIN_SUCCESS\",\"info\":\"logged in as user bob\"}\n";
    let said = "{\"command\":\"ACTIVITY_BROADCAST\",\"activity\":{\"n\":1,\"authenticated_user\":\"bob\"}}\n";
    for (room, heard) in [(20, success), (success.len() + 20, &format!("{success}{said}"))] {
        let b = w.connect();
        w.make_room(b, Some(room));
        w.send(b, LOGIN_BOB);
        w.send(b, b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"bob\",\"secret\":\"s\",\"activity\":{\"n\":1}}\n");
        w.send(b, b"{\"command\":\"LOGIN\",\"username\":\"bob\",\"secret\":\"t\"}\n");
        w.make_room(b, None);
        assert!(w.heard(b).starts_with(heard));
        w.advance(Duration::from_millis(250));
        let refused = "{\"command\":\"LOGIN_FAILED\",\"info\":\"wrong username or secret\"}\n";
        assert_eq!((&*w.heard(b), w.socket(b).shut), (refused, true));
    }
}

#[test]
fn a_registered_user_talks_and_is_owed_what_broke() {
    let mut w = world();
    let a = w.connect();
    w.send(a, b"{\"command\":\"REGISTER\",\"username\":\"bob\",\"secret\":\"s\"}\n");
    assert_eq!(w.heard(a), "{\"command\":\"REGISTER_SUCCESS\",\"info\":\"register success for bob\"}\n");
    w.send(a, LOGIN_BOB);
    assert_eq!(w.heard(a), "{\"command\":\"LOGIN_SUCCESS\",\"info\":\"logged in as user bob\"}\n");
    let b = w.connect();
    w.send(b, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    w.heard(b);
    w.socket(a).acknowledged = Some(0);
    w.send(b, b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{\"n\":1}}\n");
    w.cut(a);
    w.send(b, b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{\"n\":2}}\n");
    let c = w.connect();
    w.send(c, LOGIN_BOB);
    let heard = w.heard(c);
    assert_eq!(heard.lines().count(), 3, "{heard}");
    assert!(heard.starts_with("{\"command\":\"LOGIN_SUCCESS\""));
    w.advance(Duration::from_secs(5));
    assert_eq!(w.heard(c), "");
}

#[test]
fn a_login_is_answered_also_when_the_feed_has_forgotten_its_beginning() {
    let mut w = world();
    let a = w.connect();
    w.send(a, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    let n = 2 * (1 << 16) / 100;
    for _ in 0..n {
        w.send(a, b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{\"n\":1}}\n");
    }
    assert_eq!(w.heard(a).lines().count(), 1 + n);
    let b = w.connect();
    w.send(b, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    assert_eq!(w.heard(b), "{\"command\":\"LOGIN_SUCCESS\",\"info\":\"logged in as user anonymous\"}\n");
}

#[test]
fn what_many_say_in_one_turn_is_more_than_the_ring_holds_and_is_heard_by_all() {
    let mut w = world();
    let clients: Vec<_> = (0..12).map(|_| w.connect()).collect();
    for client in &clients {
        w.send(*client, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
        w.heard(*client);
    }
    let line = format!(
        "{{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{{\"x\":\"{}\"}}}}\n",
        "y".repeat(9000)
    );
    for client in &clients {
        w.arrive(*client, line.repeat(2).as_bytes());
    }
    (0..40).for_each(|_| w.turn());
    for client in clients {
        assert_eq!(w.heard(client).lines().count(), 24);
    }
}

#[test]
fn who_comes_when_a_server_has_stopped_is_closed() {
    let mut w = world();
    w.stop();
    let a = w.connect();
    w.send(a, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
    assert_eq!((&*w.heard(a), w.socket(a).shut), ("", true));
}

#[test]
fn what_is_said_in_the_middle_of_a_flush_reaches_those_already_written_to() {
    let (mut node, now) = (Node::new(Limits::default(), &Seeds::fixed(1)), Time::START);
    let flush = |node: &mut Node, n: usize| -> Vec<LinkId> {
        let write = |node: &mut Node| {
            let link = node.writable()?;
            let n = node.transmit(link).bytes();
            node.sent(link, n);
            Some(link)
        };
        (0..n).map_while(|_| write(node)).collect()
    };
    let links: Vec<LinkId> = (0..3).map(|_| node.connect(now, [127, 0, 0, 1].into())).collect();
    for link in &links {
        node.line(now, *link, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}");
    }
    flush(&mut node, 100);
    let said = b"{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{}}";
    node.line(now, links[0], said);
    let first = flush(&mut node, 1);
    node.line(now, links[1], said);
    let rest = flush(&mut node, 100);
    assert!(rest.contains(&first[0]), "{first:?}, then {rest:?}");
}
