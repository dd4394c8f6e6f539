//! Three servers in three network namespaces, a cable between each two of them that can be cut. Where the
//! machine makes no namespaces the tests say so and pass.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::crew::{Listener, Message};
use crate::stage::{BINARY, CHEAP, Server, Talker};

/// Namespaces `as-ID-0` to `as-ID-2`. Each has an address of its own, 10.97.0.1 to 10.97.0.3, and a cable
/// `to1` to namespace 1, and so on.
struct Net(String);

const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (1, 2)];

impl Net {
    fn new() -> Result<Net, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let net = Net(format!("as-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)));
        for i in 0..3 {
            let space = net.space(i);
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
            ip(&format!("-n {space} addr add {}/32 dev lo", address(i)))?;
        }
        for (a, b) in PAIRS {
            let (one, other) = (net.space(a), net.space(b));
            ip(&format!("-n {one} link add to{b} type veth peer name to{a} netns {other}"))?;
            net.mend(a, b)?;
        }
        Ok(net)
    }

    fn space(&self, i: usize) -> String {
        format!("{}-{i}", self.0)
    }

    fn mend(&self, a: usize, b: usize) -> Result<(), String> {
        for (a, b) in [(a, b), (b, a)] {
            ip(&format!("-n {} link set to{b} up", self.space(a)))?;
            ip(&format!("-n {} route replace {} dev to{b} src {}", self.space(a), address(b), address(a)))?;
        }
        Ok(())
    }

    /// The first knows no way to the second any more; the second hears nothing.
    fn cut(&self, a: usize, b: usize) {
        ip(&format!("-n {} link set to{b} down", self.space(a))).expect("the cable is cut");
    }

    /// Does something in a namespace; a socket that is made there stays there.
    fn inside<T: Send>(&self, i: usize, work: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.space(i))).expect("the namespace is there");
        let inside = || {
            // SAFETY: setns takes two integers, one of them an open descriptor; it changes this thread only.
            let entered = unsafe { libc::setns(space.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "a thread can go to a namespace");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("it works there"))
    }

    /// A server in each namespace, each linked to each.
    fn servers(&self) -> Vec<Server> {
        let mut all: Vec<Server> = Vec::new();
        for i in 0..3 {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &self.space(i), BINARY, "server", "-s", "sek"]);
            command.args(CHEAP).args(["-lh", &address(i)]);
            if let Some(first) = all.first() {
                command.args(["-rh", &address(0), "-rp", &first.port.to_string()]);
            }
            all.push(Server::run(command.env("RUST_LOG", "info")));
        }
        all.iter().for_each(|server| server.joined_by(2));
        all
    }

    /// A client in a server's own namespace.
    fn client(&self, i: usize, servers: &[Server], name: &str) -> Talker {
        let place = servers[i].address();
        self.inside(i, || {
            let mut talker = Talker::at(place);
            if name == "anonymous" {
                talker.login(name)
            } else {
                talker.register(name)
            }
            talker
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        (0..3).for_each(|i| drop(ip(&format!("netns del {}", self.space(i)))));
    }
}

fn address(i: usize) -> String {
    format!("10.97.0.{}", i + 1)
}

fn ip(words: &str) -> Result<(), String> {
    let run = Command::new("ip").args(words.split(' ')).output().map_err(|error| format!("ip: {error}"))?;
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

/// When a talker said each message, and when a listener heard each.
type Times = Vec<Duration>;

/// Says a message about every 10 ms until it is enough, then its last.
fn talk(me: usize, talker: &mut Talker, start: Instant, enough: &AtomicBool) -> Times {
    let mut times = Vec::new();
    loop {
        let last = enough.load(Ordering::SeqCst);
        times.push(start.elapsed());
        let message = Message { by: me as u64, n: times.len() as u64 - 1, at: 0, last };
        talker.say(message.activity());
        if last {
            return times;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Hears all talkers to their last message, and tells when it heard what.
fn listen(talker: Talker, start: Instant, talkers: usize) -> (Listener, Times) {
    let (mut listener, mut times) = (Listener::new(talker), Vec::new());
    while listener.ended() < talkers {
        listener.hear().expect("the server goes on");
        times.push(start.elapsed());
    }
    (listener, times)
}

/// What three talkers, one a server, said in which time, and what six listeners, two a server, heard of it.
struct Talk {
    said: Vec<Times>,
    heard: Vec<(Listener, Times)>,
}

/// Lets all talk while `faults` happen.
fn everybody_talks(net: &Net, servers: &[Server], faults: impl FnOnce(Instant)) -> Talk {
    let start = Instant::now();
    let enough = AtomicBool::new(false);
    let talkers: Vec<_> = (0..3).map(|i| net.client(i, servers, "anonymous")).collect();
    let listeners: Vec<_> = (0..6)
        .map(|i| net.client(i % 3, servers, if i < 3 { "anonymous" } else { ["ann", "bob", "cy"][i - 3] }))
        .collect();
    thread::scope(|scope| {
        let enough = &enough;
        let listening: Vec<_> =
            listeners.into_iter().map(|talker| scope.spawn(move || listen(talker, start, 3))).collect();
        let talking: Vec<_> = talkers
            .into_iter()
            .enumerate()
            .map(|(i, mut talker)| scope.spawn(move || (talk(i, &mut talker, start, enough), talker)))
            .collect();
        faults(start);
        enough.store(true, Ordering::SeqCst);
        let said: Vec<_> = talking.into_iter().map(|thread| thread.join().expect("it talks")).collect();
        let heard = listening.into_iter().map(|thread| thread.join().expect("it hears")).collect();
        Talk { said: said.into_iter().map(|(times, _)| times).collect(), heard }
    })
}

impl Talk {
    /// Everybody heard everything, once and in order.
    fn is_whole(&self) {
        for (i, (listener, _)) in self.heard.iter().enumerate() {
            listener.has_heard_all_once(3, &format!("client {i}"));
            assert_eq!(listener.heard.len(), self.said.iter().map(Vec::len).sum::<usize>());
        }
    }

    /// For each message of each listener: who heard it, when it was said, and when heard.
    fn ways(&self) -> impl Iterator<Item = (usize, Message, Duration, Duration)> {
        self.heard.iter().enumerate().flat_map(|(i, (listener, times))| {
            let said = |m: &Message| self.said[m.by as usize][m.n as usize];
            listener.heard.iter().zip(times).map(move |(m, heard)| (i, *m, said(m), *heard))
        })
    }
}

/// Lets time pass: faults last as long as the test says.
fn last(time: Duration) {
    thread::sleep(time);
}

fn net() -> Option<Net> {
    let why = match Net::new() {
        Ok(net) => return Some(net),
        Err(why) => why,
    };
    println!("skipped: this machine makes no network namespaces: {}", why.trim());
    None
}

#[test]
fn what_is_said_on_one_side_of_a_cut_cable_goes_round_it_within_a_second() {
    // The silence after which a link is closed, and a second.
    const GIVEN_UP: Duration = Duration::from_secs(7);
    let Some(net) = net() else { return };
    let servers = net.servers();
    let mut cut = Duration::ZERO;
    let talk = everybody_talks(&net, &servers, |start| {
        last(Duration::from_millis(300));
        net.cut(0, 2);
        cut = start.elapsed();
        last(GIVEN_UP + Duration::from_secs(2));
        net.mend(0, 2).expect("the cable is mended");
        last(Duration::from_millis(700));
    });
    talk.is_whole();
    let slowest = |until: Duration| {
        let ways = talk.ways().filter(|(_, _, said, _)| *said >= cut + until);
        ways.map(|(_, _, said, heard)| heard - said).max().expect("they talked")
    };
    let (at_all, given_up) = (slowest(Duration::ZERO), slowest(GIVEN_UP));
    println!("heard {at_all:?} after it was said, {given_up:?} when the link was given up");
    assert!(at_all < Duration::from_secs(1), "the way round takes {at_all:?}");
    assert!(given_up < Duration::from_secs(1), "the way round takes {given_up:?}");
}

#[test]
fn a_server_that_was_cut_off_for_ten_seconds_has_everything_five_seconds_after() {
    let Some(net) = net() else { return };
    let servers = net.servers();
    let mut healed = Duration::ZERO;
    let talk = everybody_talks(&net, &servers, |start| {
        last(Duration::from_millis(300));
        // One neighbour knows no way any more, the other hears nothing.
        net.cut(0, 2);
        net.cut(2, 1);
        last(Duration::from_secs(10));
        net.mend(0, 2).expect("the cable is mended");
        net.mend(1, 2).expect("the cable is mended");
        healed = start.elapsed();
        last(Duration::from_secs(5));
    });
    talk.is_whole();
    let mut apart = Duration::ZERO;
    let mut whole = Duration::ZERO;
    for (i, message, said, heard) in talk.ways() {
        if said < healed {
            whole = whole.max(heard.saturating_sub(healed));
            if (i % 3 == 2) == (message.by == 2) {
                apart = apart.max(heard - said);
            }
        }
    }
    println!(
        "all was there {whole:?} after the healing; on its own side at most {apart:?} after it was said"
    );
    assert!(whole < Duration::from_secs(5), "all is there {whole:?} after the healing");
    assert!(apart < Duration::from_secs(1), "each side hears itself, not {apart:?} later");
}
