//! Steady traffic allocates nothing: not for a message, not for a recipient, decoding included. And a name that is
//! registered takes no more memory than is said.
//!
//! A counting allocator counts what the thread under test allocates, after a warm-up, first of a bare
//! node, then of a whole server with real sockets.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use activitystreamer::base::id::{LinkId, StreamId};
use activitystreamer::base::limits::Limits;
use activitystreamer::base::time::Time;
use activitystreamer::node::{Action, Hashed, Input, Node, Record, Seeds};
use activitystreamer::server::{Options, Server};
use activitystreamer::store::{Journal, Retention, Run};

struct Counting;

thread_local! {
    /// Where this thread's allocations are counted, if they are.
    static COUNTED: Cell<Option<&'static AtomicU64>> = const { Cell::new(None) };
}

/// Bytes that whoever counts has in use, with what the system's allocator adds to each piece.
static HELD: AtomicI64 = AtomicI64::new(0);

fn count() {
    if let Ok(Some(counter)) = COUNTED.try_with(Cell::get) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

thread_local! {
    /// What this thread holds is counted.
    static HOLDS: Cell<bool> = const { Cell::new(false) };
}

/// A piece of so many bytes is there, or gone.
fn hold(size: usize, sign: i64) {
    if HOLDS.try_with(Cell::get) == Ok(true) {
        // A word before each, in steps of two.
        HELD.fetch_add(sign * (size + 8).next_multiple_of(16).max(32) as i64, Ordering::Relaxed);
    }
}

// SAFETY: everything is handed on to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size(), 1);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(layout.size(), -1);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(layout.size(), -1);
        hold(size, 1);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MESSAGES: u64 = 10_000;
/// Messages before that, more than the feed holds.
const WARM_UP: u64 = 12_000;

/// Three kinds of message take turns: forwarded as it is, re-encoded, and with a field cut out.
fn message(i: u64) -> String {
    let activity = match i % 3 {
        0 => format!(r#"{{"type":"Note","n":{i},"content":"the quick brown fox","to":["a","b"]}}"#),
        1 => format!(r#"{{"type":"Note","n":{i},"content":"schöne Grüße 😀"}}"#),
        _ => format!(r#"{{"authenticated_user":"eve","n":{i},"content":"\u0041\/"}}"#),
    };
    format!("{{\"command\":\"ACTIVITY_MESSAGE\",\"username\":\"anonymous\",\"activity\":{activity}}}\n")
}

#[test]
fn a_node_allocates_nothing_for_a_message_or_a_recipient() {
    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
    let seeds = Seeds::fixed(1);
    let mut node =
        Node::new(Limits { feed_bytes: 1 << 20, line_bytes: 1 << 16, ..Limits::default() }, &seeds);
    let links: Vec<LinkId> =
        (0..100).map(|_| node.connect(Time::START, Ipv4Addr::LOCALHOST.into())).collect();
    for link in &links {
        node.line(Time::START, *link, br#"{"command":"LOGIN","username":"anonymous"}"#);
    }
    // Warm is when the feed has wrapped: its index grows until then.
    let lines: Vec<String> = (0..MESSAGES + WARM_UP).map(message).collect();
    let mut now = Time::START;
    let slow = links[99];
    for (i, line) in lines.iter().enumerate() {
        COUNTED.set((i >= WARM_UP as usize).then_some(&ALLOCATIONS));
        now = now + Duration::from_millis(1);
        node.handle(now, Input::Time);
        node.line(now, links[i % 99], line.trim_end().as_bytes());
        if i % 7 == 0 {
            node.unblocked(slow);
        }
        while let Some(link) = node.writable() {
            let offered = node.transmit(link).bytes();
            let taken = if link == slow { offered.min(700) } else { offered };
            node.sent(link, taken);
            if taken < offered {
                node.blocked(link);
            }
        }
        assert!(node.action().is_none());
    }
    COUNTED.set(None);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), 0);
    let sent = node.counters().sent_bytes;
    assert!(sent > 98 * node.counters().feed_bytes, "all but the slow one have all: {sent}");
}

/// Its client is gone, and so is the hour in which its secret is checked fast.
#[test]
fn a_registered_name_takes_at_most_160_bytes_whatever_their_number() {
    let mut node = Node::new(Limits { feed_bytes: 1 << 12, ..Limits::default() }, &Seeds::fixed(1));
    let mut now = Time::START;
    HOLDS.set(true);
    let mut first = None;
    // Tables are largest for what is in them just after they grew: somewhere between these.
    for names in [1 << 12, 20_000, 40_000, 60_000, 80_000, 100_000, 120_000, 140_000, 160_000] {
        for i in node.names()..names {
            let link = node.connect(now, Ipv4Addr::LOCALHOST.into());
            let line = format!(r#"{{"command":"REGISTER","username":"user{i:06}","secret":"s"}}"#);
            node.line(now, link, line.as_bytes());
            while let Some(action) = node.action() {
                match action {
                    Action::Hash(job) => {
                        let record = Record { salt: [0; 16], digest: [0; 32], kib: 8, passes: 1 };
                        node.handle(now, Input::Hashed(job.link, Hashed::Made(record)));
                    }
                    Action::Resume(link) => drop(node.line(now, link, line.as_bytes())),
                    _ => {}
                }
            }
            while let Some(link) = node.writable() {
                let offered = node.transmit(link).bytes();
                node.sent(link, offered);
            }
            node.handle(now, Input::Closed { link, unacknowledged: 0 });
        }
        for _ in 0..3 {
            now = now + Duration::from_secs(3600);
            node.handle(now, Input::Time);
        }
        let held = HELD.load(Ordering::Relaxed);
        assert_eq!(node.names(), names);
        // The first are as many as are made room for at once. What does not grow with names was there by then.
        let names = names as i64;
        let Some((few, before)) = first else {
            first = Some((names, held));
            continue;
        };
        let each = (held - before) / (names - few);
        println!("{names} names: {held} bytes, {each} for each but the first");
        assert!((140..=160).contains(&each), "{names} names take {held} bytes, {each} each");
    }
    HOLDS.set(false);
}

#[test]
fn a_server_with_sockets_allocates_nothing_for_a_message_or_a_recipient() {
    static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
    let (tell, told) = mpsc::channel::<SocketAddr>();
    std::thread::spawn(move || {
        let limits = Limits { feed_bytes: 1 << 20, line_bytes: 1 << 16, ..Limits::default() };
        let options = Options { limits, ..Options::default() };
        let server = Server::new(&options).expect("a port on loopback");
        tell.send(server.addresses().next().expect("an address")).expect("the test waits");
        COUNTED.set(Some(&ALLOCATIONS));
        server.run().expect("the loop runs");
    });
    let address = told.recv_timeout(Duration::from_secs(10)).expect("the server starts");
    let connect = || {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has a timeout");
        stream.write_all(b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n").expect("it takes a line");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("an answer");
        assert!(line.contains("LOGIN_SUCCESS"), "{line}");
        reader
    };
    let mut clients: Vec<BufReader<TcpStream>> = (0..20).map(|_| connect()).collect();
    // In each round one client says a burst, cut in the middle of a line, and all hear all of it.
    let mut round = |from: u64, n: u64| {
        let burst: String = (from..from + n).map(message).collect();
        let talker = (from / n) as usize % clients.len();
        let (front, back) = burst.as_bytes().split_at(burst.len() / 2 + 7);
        clients[talker].get_mut().write_all(front).expect("it takes half a burst");
        clients[talker].get_mut().write_all(back).expect("it takes the rest");
        let mut total = 0;
        for client in &mut clients {
            let mut heard = 0;
            while heard < n {
                let available = client.fill_buf().expect("broadcasts come");
                assert!(!available.is_empty(), "the server closed");
                let len = available.len();
                heard += available.iter().filter(|b| **b == b'\n').count() as u64;
                client.consume(len);
            }
            total += heard;
        }
        assert_eq!(total, n * 20);
    };
    const BURST: u64 = 50;
    let warm = WARM_UP / BURST;
    (0..warm).for_each(|i| round(i * BURST, BURST));
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (warm..warm + MESSAGES / BURST).for_each(|i| round(i * BURST, BURST));
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    assert!(before > 0, "the counter counts: starting a server allocates");
}

#[test]
fn appending_to_the_journal_allocates_nothing_but_where_a_file_begins() {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let folder = std::env::temp_dir().join(format!("as-allocation-{}", std::process::id()));
    let retention = Retention { bytes: 1 << 30, age: Duration::from_secs(3600) };
    let (mut journal, _) = Journal::open(&folder, retention, 0, &mut |_| {}).unwrap();
    let text = format!("{}\n", "x".repeat(99)).repeat(4);
    let mut append = |turn: u64| {
        let run = Run { stream: StreamId(1), first: 4 * turn, count: 4 };
        journal.append(400 * turn, 0, &[run], [text.as_bytes(), b""]).unwrap();
    };
    append(0);
    COUNTED.set(Some(&COUNTER));
    (1..MESSAGES).for_each(&mut append);
    COUNTED.set(None);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(COUNTER.load(Ordering::Relaxed), 0);
}
