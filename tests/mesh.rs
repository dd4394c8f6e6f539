//! Nodes that are linked without sockets: what the rules between servers come to when nothing fails, and
//! when one thing does. Faults by the thousand are the simulator's business.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use activitystreamer::base::hlc::{Generation, Hlc};
use activitystreamer::base::id::{LinkId, ServerId, StreamId};
use activitystreamer::base::limits::Limits;
use activitystreamer::base::time::Time;
use activitystreamer::node::{Action, Input, Node, Reading, Seeds};
use activitystreamer::sim::hash;
use activitystreamer::wire::frame::Frames;
use activitystreamer::wire::line::{Lines, Split};
use activitystreamer::wire::registration::Registration;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One end of a connection between servers, or a client's.
#[derive(Default)]
struct End {
    /// The server and link at the other end; none for a client.
    other: Option<(usize, LinkId)>,
    frames: Frames,
    lines: Lines,
    arrived: Vec<u8>,
    /// Bytes on their way to a peer.
    sent: Vec<u8>,
    heard: String,
    closed: bool,
    /// The client has no more to say.
    ended: bool,
    unacknowledged: u64,
}

/// Linked nodes. Bytes arrive in the next round, a millisecond later.
struct Net {
    nodes: Vec<Option<Node>>,
    ids: Vec<activitystreamer::node::Identity>,
    ends: BTreeMap<(usize, LinkId), End>,
    now: Time,
    /// Links between these two are silent.
    cut: Option<(usize, usize)>,
    /// The first server was told to stop.
    stopped: bool,
    /// Of servers that are started.
    feed_bytes: usize,
}

impl Net {
    /// `n` servers, of which each but the first is told of the first.
    fn new(n: usize) -> Net {
        let mut net = Net {
            nodes: Vec::new(),
            ids: Vec::new(),
            ends: BTreeMap::new(),
            now: Time::START,
            cut: None,
            stopped: false,
            feed_bytes: 1 << 20,
        };
        (0..n).for_each(|_| net.start());
        net.run(1000);
        net
    }

    fn start(&mut self) {
        let i = self.nodes.len();
        let seeds = Seeds::fixed(i as u64 + 1);
        let feed_bytes = self.feed_bytes;
        let limits = Limits { feed_bytes, line_bytes: 1 << 14, balance: false, ..Limits::default() };
        let mut node = Node::new(limits, &seeds);
        node.set_wall(1_700_000_000_000);
        node.introduce("localhost", i as u16 + 1);
        if i > 0 {
            node.join(self.now, "localhost", 1);
        }
        self.nodes.push(Some(node));
        self.ids.push(seeds.identity);
    }

    fn node(&mut self, i: usize) -> &mut Node {
        self.nodes[i].as_mut().unwrap()
    }

    fn kill(&mut self, i: usize) {
        self.nodes[i] = None;
        let mine: Vec<_> =
            self.ends.iter().filter(|((s, _), _)| *s == i).map(|(k, e)| (*k, e.other)).collect();
        for (key, other) in mine {
            self.ends.remove(&key);
            if let Some((j, link)) = other
                && let Some(node) = self.nodes[j].as_mut()
            {
                self.ends.remove(&(j, link));
                node.handle(self.now, Input::Closed { link, unacknowledged: 0 });
            }
        }
    }

    fn connect(&mut self, i: usize) -> (usize, LinkId) {
        let link = self.nodes[i].as_mut().unwrap().connect(self.now, LOCAL);
        self.ends.insert((i, link), End::default());
        (i, link)
    }

    fn tell(&mut self, client: (usize, LinkId), line: &str) {
        self.ends.get_mut(&client).unwrap().arrived.extend(format!("{line}\n").bytes());
    }

    fn login(&mut self, i: usize, name: &str) -> (usize, LinkId) {
        let client = self.connect(i);
        self.tell(client, &format!(r#"{{"command":"LOGIN",{}}}"#, pair(name)));
        client
    }

    fn register(&mut self, i: usize, name: &str) -> (usize, LinkId) {
        let client = self.connect(i);
        self.tell(client, &format!(r#"{{"command":"REGISTER",{}}}"#, pair(name)));
        self.tell(client, &format!(r#"{{"command":"LOGIN",{}}}"#, pair(name)));
        client
    }

    /// Registers a name.
    fn name(&mut self, name: &str) {
        let client = self.register(0, name);
        self.run(20);
        assert!(self.heard(client).contains("LOGIN_SUCCESS"));
        self.tell(client, r#"{"command":"LOGOUT"}"#);
        self.run(20);
    }

    fn say(&mut self, client: (usize, LinkId), name: &str, n: u64) {
        let line = format!(r#"{{"command":"ACTIVITY_MESSAGE",{},"activity":{{"n":{n}}}}}"#, pair(name));
        self.tell(client, &line);
    }

    /// The connection breaks; so many bytes were not acknowledged.
    fn break_off(&mut self, client: (usize, LinkId), unacknowledged: u64) {
        self.ends.remove(&client);
        let input = Input::Closed { link: client.1, unacknowledged };
        self.nodes[client.0].as_mut().unwrap().handle(self.now, input);
    }

    /// The client ends its side and reads on.
    fn end(&mut self, client: (usize, LinkId)) {
        self.ends.get_mut(&client).unwrap().ended = true;
    }

    fn heard(&mut self, client: (usize, LinkId)) -> String {
        std::mem::take(&mut self.ends.get_mut(&client).unwrap().heard)
    }

    /// The numbers a client heard.
    fn numbers(&mut self, client: (usize, LinkId)) -> Vec<u64> {
        let heard = self.heard(client);
        heard
            .lines()
            .filter_map(|line| line.split_once("\"n\":")?.1.split_once(',')?.0.parse().ok())
            .collect()
    }

    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            (0..self.nodes.len()).for_each(|i| self.turn(i));
            self.now = self.now + Duration::from_millis(1);
            // What was sent arrives.
            let keys: Vec<_> = self.ends.keys().copied().collect();
            for key in keys {
                let end = self.ends.get_mut(&key).unwrap();
                let Some(other) = end.other else { continue };
                if self.cut.is_some_and(|(a, b)| [(a, b), (b, a)].contains(&(key.0, other.0))) {
                    continue;
                }
                let bytes = std::mem::take(&mut end.sent);
                if let Some(end) = self.ends.get_mut(&other) {
                    end.arrived.extend(bytes);
                }
            }
        }
    }

    fn turn(&mut self, i: usize) {
        let Some(node) = self.nodes[i].as_mut() else { return };
        node.handle(self.now, Input::Time);
        let links: Vec<LinkId> = self.ends.keys().filter(|(s, _)| *s == i).map(|(_, link)| *link).collect();
        links.into_iter().for_each(|link| self.read(i, link));
        self.actions(i);
        loop {
            let Some(node) = self.nodes[i].as_mut() else { return };
            let mut any = false;
            while let Some(link) = node.writable() {
                any = true;
                let parts = node.transmit(link).parts.concat();
                if let Some(end) = self.ends.get_mut(&(i, link)) {
                    match end.other {
                        Some(_) => end.sent.extend(&parts),
                        None => end.heard += std::str::from_utf8(&parts).unwrap(),
                    }
                }
                node.sent(link, parts.len());
            }
            if !self.actions(i) && !any {
                break;
            }
        }
    }

    fn read(&mut self, i: usize, link: LinkId) {
        let (Some(node), Some(end)) = (self.nodes[i].as_mut(), self.ends.get_mut(&(i, link))) else { return };
        let now = self.now;
        let bytes = std::mem::take(&mut end.arrived);
        match node.reading(link) {
            Reading::Take(limit) => {
                if end.lines.feed(&bytes, limit, |line| node.line(now, link, line)) == Split::Stopped
                    && node.reading(link) != Reading::Hold
                {
                    end.lines.feed(&[], limit, |line| node.line(now, link, line));
                }
            }
            Reading::Frames(_) => {
                end.frames.feed(&bytes, |frame| node.frame(now, link, frame)).unwrap();
            }
            Reading::Hold | Reading::Prove => end.arrived = bytes,
            Reading::Discard => {}
        }
        let is_over = end.ended && end.arrived.is_empty() && end.lines.is_empty();
        if is_over && !matches!(node.reading(link), Reading::Hold | Reading::Prove) {
            end.ended = false;
            node.handle(now, Input::Eof(link));
        }
    }

    fn actions(&mut self, i: usize) -> bool {
        let mut any = false;
        while let Some(action) = self.nodes[i].as_mut().and_then(Node::action) {
            any = true;
            let now = self.now;
            match action {
                Action::Hash(job) => {
                    self.nodes[i].as_mut().unwrap().handle(now, Input::Hashed(job.link, hash(&job)));
                }
                Action::Settle { session, errand } => {
                    self.read(i, session);
                    let unacknowledged = self.ends.get(&(i, session)).map_or(0, |end| end.unacknowledged);
                    let input = Input::Settled { session, errand, unacknowledged, stalled: false };
                    self.nodes[i].as_mut().unwrap().handle(now, input);
                }
                Action::Read { .. } | Action::Commit { .. } => unreachable!("there is no disk"),
                Action::Spawn { .. } | Action::Retire => unreachable!("no server is started"),
                Action::Measure(session) => {
                    let unacknowledged = self.ends.get(&(i, session)).map_or(0, |end| end.unacknowledged);
                    let input = Input::Confirmed { session, unacknowledged };
                    self.nodes[i].as_mut().unwrap().handle(now, input);
                }
                Action::Resume(link) => self.read(i, link),
                Action::ResumeAll => {
                    let links: Vec<_> = self.ends.keys().filter(|(s, _)| *s == i).map(|k| k.1).collect();
                    links.into_iter().for_each(|link| self.read(i, link));
                }
                // These clients end their side only when their test says so.
                Action::Shutdown(_) => {}
                Action::Close(link) => {
                    let other = self.ends.get_mut(&(i, link)).and_then(|end| {
                        end.closed = true;
                        end.other.take()
                    });
                    let input = Input::Closed { link, unacknowledged: 0 };
                    self.nodes[i].as_mut().unwrap().handle(now, input);
                    if let Some((j, link)) = other
                        && let Some(node) = self.nodes[j].as_mut()
                    {
                        self.ends.remove(&(j, link));
                        node.handle(now, Input::Closed { link, unacknowledged: 0 });
                    }
                }
                Action::Dial { link, port, hello, .. } => {
                    let j = usize::from(port) - 1;
                    let is_over = self.stopped && j == 0 && !self.node(0).is_draining();
                    let node = self.nodes.get_mut(j).and_then(Option::as_mut).filter(|_| !is_over);
                    let Some(there) = node.map(|node| node.connect(now, LOCAL)) else {
                        let input = Input::Closed { link, unacknowledged: 0 };
                        self.nodes[i].as_mut().unwrap().handle(now, input);
                        continue;
                    };
                    self.ends.insert((i, link), End { other: Some((j, there)), ..End::default() });
                    let end = End { other: Some((i, link)), arrived: hello, ..End::default() };
                    self.ends.insert((j, there), end);
                }
                Action::Upgrade { link, .. } => {
                    let (j, there) = self.ends[&(i, link)].other.expect("only servers say hello");
                    for (at, at_link, who) in [(i, link, j), (j, there, i)] {
                        let id = self.ids[who];
                        let input =
                            Input::Joined { link: at_link, server: id.server, key: id.key, address: LOCAL };
                        self.nodes[at].as_mut().unwrap().handle(now, input);
                    }
                }
            }
        }
        any
    }

    fn counters(&self, i: usize) -> &activitystreamer::node::Counters {
        self.nodes[i].as_ref().unwrap().counters()
    }
}

fn pair(name: &str) -> String {
    match name {
        "anonymous" => r#""username":"anonymous""#.into(),
        _ => format!(r#""username":"{name}","secret":"sek""#),
    }
}

#[test]
fn a_server_is_told_of_one_other_and_finds_all() {
    let mut net = Net::new(4);
    let clients: Vec<_> = (0..4).map(|i| net.login(i, "anonymous")).collect();
    net.run(10);
    for n in 0..20 {
        net.say(clients[n % 4], "anonymous", n as u64);
    }
    net.run(20);
    for client in &clients {
        let mut heard = net.numbers(*client);
        heard.sort_unstable();
        assert_eq!(heard, (0..20).collect::<Vec<_>>());
    }
    assert!((0..4).all(|i| net.counters(i).exposed_single_copy == 0 && net.counters(i).fetches == 0));
    net.start();
    net.run(1000);
    let late = net.login(4, "anonymous");
    net.run(10);
    net.say(clients[2], "anonymous", 99);
    net.run(10);
    assert_eq!(net.numbers(late), [99]);
}

#[test]
fn what_one_link_does_not_bring_comes_over_another() {
    let mut net = Net::new(3);
    let (a, c) = (net.login(0, "anonymous"), net.login(2, "anonymous"));
    net.cut = Some((0, 2));
    net.run(10_000);
    (0..10).for_each(|n| net.say(a, "anonymous", n));
    net.run(1000);
    assert_eq!(net.numbers(c), (0..10).collect::<Vec<_>>());
    net.cut = None;
    net.run(10_000);
    net.say(a, "anonymous", 10);
    net.run(10);
    assert_eq!(net.numbers(c), [10]);
}

#[test]
fn what_a_server_found_on_disk_comes_to_another_in_the_order_of_the_feed() {
    let mut net = Net::new(1);
    let client = net.login(0, "anonymous");
    net.run(10);
    net.start();
    let node = net.node(1);
    node.restore_feed(0);
    // One name that went to and fro between two servers: nothing on disk says what it said before elsewhere.
    for n in 0..40 {
        let line = format!(
            r#"{{"command":"ACTIVITY_BROADCAST","activity":{{"n":{n},"authenticated_user":"bob"}}}}"#
        );
        node.restore_line(StreamId(1 + n % 2), 1 + n / 2, format!("{line}\n").as_bytes());
    }
    net.run(1000);
    assert_eq!(net.numbers(client), (0..40).collect::<Vec<_>>());
}

#[test]
fn what_has_left_the_feed_where_a_user_was_is_had_where_it_has_not() {
    let mut net = Net::new(1);
    net.feed_bytes = 1 << 22;
    net.start();
    net.run(1000);
    net.name("bob");
    let bob = net.login(0, "bob");
    let talker = net.login(1, "anonymous");
    net.run(10);
    net.break_off(bob, 0);
    // More than the first server's feed holds.
    let padding = "x".repeat(15_000);
    for n in 0..100 {
        let activity = format!(r#"{{"n":{n},"padding":"{padding}"}}"#);
        let pair = pair("anonymous");
        net.tell(talker, &format!(r#"{{"command":"ACTIVITY_MESSAGE",{pair},"activity":{activity}}}"#));
        net.run(5);
    }
    let bob = net.login(1, "bob");
    net.run(500);
    assert_eq!(net.numbers(bob), (0..100).collect::<Vec<_>>());
}

#[test]
fn a_claim_that_was_found_on_disk_and_is_used_does_not_yield_to_another_that_is_found_later() {
    let mut net = Net::new(1);
    let claim = |n: u8, secret: &[u8; 3]| {
        let mut digest = [0; 32];
        digest[..3].copy_from_slice(secret);
        let stamp = Generation { at: Hlc(n.into()), by: ServerId([n; 16]) };
        let (salt, lost, verifier) = ([0; 16], Vec::new(), None);
        let claim =
            Registration { name: "bob".into(), stamp, salt, digest, kib: 8, passes: 1, lost, verifier };
        let mut kept = serde_json::to_value(claim).unwrap();
        kept["is_claim"] = true.into();
        kept.to_string()
    };
    let now = net.now;
    assert!(net.node(0).restore_name(now, claim(9, b"sek").as_bytes()));
    let bob = net.login(0, "bob");
    net.run(100);
    assert!(net.heard(bob).contains("LOGIN_SUCCESS"));
    net.start();
    let now = net.now;
    assert!(net.node(1).restore_name(now, claim(5, b"abc").as_bytes()));
    net.run(1000);
    let again = net.login(1, "bob");
    net.run(500);
    assert!(net.heard(again).contains("LOGIN_SUCCESS"));
    assert_eq!(net.heard(bob), "");
}

#[test]
fn a_link_that_is_silent_is_gone_round_before_it_is_given_up() {
    let mut net = Net::new(3);
    let (a, c) = (net.login(0, "anonymous"), net.login(2, "anonymous"));
    net.run(10);
    net.cut = Some((0, 2));
    net.say(a, "anonymous", 1);
    net.run(900);
    assert_eq!(net.numbers(c), [1]);
}

#[test]
fn a_peer_that_was_late_once_is_waited_for_again_though_there_is_always_more() {
    let mut net = Net::new(2);
    let a = net.login(0, "anonymous");
    net.run(10);
    net.cut = Some((0, 1));
    net.say(a, "anonymous", 0);
    net.run(60);
    assert_eq!(net.counters(0).exposed_single_copy, 1, "shown when the bound was over");
    net.cut = None;
    net.run(1);
    // Something is on its way all the time, and the peer confirms each a moment later.
    for n in 1..100 {
        net.say(a, "anonymous", n);
        net.run(1);
    }
    net.run(10);
    assert_eq!(net.numbers(a), (0..100).collect::<Vec<_>>());
    let single = net.counters(0).exposed_single_copy;
    assert!(single < 10, "{single} were shown before the peer had them");
}

#[test]
fn a_user_that_moves_keeps_its_order_and_misses_nothing() {
    let mut net = Net::new(3);
    net.name("bob");
    let listener = net.login(2, "anonymous");
    let talker = net.login(0, "anonymous");
    let mut bob = net.login(0, "bob");
    net.run(10);
    let mut heard = Vec::new();
    let mut said = 0;
    for round in 0..6 {
        for _ in 0..3 {
            net.say(bob, "bob", said);
            said += 1;
        }
        net.say(talker, "anonymous", 1000 + round);
        net.run(1);
        heard.extend(net.numbers(bob));
        net.break_off(bob, 0);
        net.say(talker, "anonymous", 2000 + round);
        net.run(1);
        bob = net.login((round as usize + 1) % 3, "bob");
        net.say(bob, "bob", said);
        said += 1;
        net.run(30);
    }
    heard.extend(net.numbers(bob));
    let own: Vec<u64> = net.numbers(listener).into_iter().filter(|n| *n < 1000).collect();
    assert_eq!(own, (0..said).collect::<Vec<_>>());
    let mut all = heard.clone();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), heard.len(), "nothing comes twice: {heard:?}");
    assert_eq!(all.len() as u64, said + 12, "nothing is missed: {heard:?}");
    assert!((0..3).all(|i| net.counters(i).claims_unanswered == 0 && net.counters(i).claims_unapplied == 0));
}

#[test]
fn a_user_of_a_killed_server_goes_on_elsewhere() {
    let mut net = Net::new(3);
    net.name("bob");
    let talker = net.login(1, "anonymous");
    let bob = net.login(0, "bob");
    net.run(10);
    (0..5).for_each(|n| net.say(talker, "anonymous", n));
    net.run(1000);
    assert_eq!(net.numbers(bob), [0, 1, 2, 3, 4]);
    net.kill(0);
    (5..10).for_each(|n| net.say(talker, "anonymous", n));
    net.run(100);
    let bob = net.login(2, "bob");
    net.run(100);
    assert_eq!(net.numbers(bob), [5, 6, 7, 8, 9]);
}

#[test]
fn servers_are_told_how_far_sessions_are_though_another_ends_slowly() {
    let mut net = Net::new(2);
    net.name("bob");
    net.name("eve");
    let talker = net.login(1, "anonymous");
    let (bob, eve) = (net.login(0, "bob"), net.login(0, "eve"));
    net.run(10);
    net.say(talker, "anonymous", 1);
    net.run(5);
    // Eve's kernel confirms nothing, so her connection is held for a while after she has ended.
    net.ends.get_mut(&eve).unwrap().unacknowledged = 1;
    for n in 2..20 {
        net.end(eve);
        net.say(talker, "anonymous", n);
        net.run(30);
    }
    net.run(1000);
    (20..25).for_each(|n| net.say(talker, "anonymous", n));
    net.run(1000);
    assert_eq!(net.numbers(bob), (1..25).collect::<Vec<_>>());
    net.kill(0);
    net.say(talker, "anonymous", 25);
    net.run(10);
    let bob = net.login(1, "bob");
    net.run(100);
    assert_eq!(net.numbers(bob), [25]);
}

#[test]
fn a_session_that_is_sent_elsewhere_moves_whatever_it_says_then() {
    for goodbye in ["LOGOUT", "EOF"] {
        let mut net = Net::new(2);
        net.name("bob");
        let (listener, talker) = (net.login(1, "anonymous"), net.login(0, "anonymous"));
        let bob = net.login(0, "bob");
        net.run(10);
        net.say(bob, "bob", 1);
        net.run(5);
        let now = net.now;
        net.node(0).redirect(now, bob.1, "localhost", 2);
        net.run(2);
        assert!(
            net.ends[&bob]
                .heard
                .ends_with("{\"command\":\"REDIRECT\",\"hostname\":\"localhost\",\"port\":2}\n")
        );
        assert_eq!(net.numbers(bob), [1]);
        // What it still says on the old connection counts, and comes before what it says on the new one.
        let moved = net.login(1, "bob");
        net.say(moved, "bob", 3);
        net.run(20);
        net.say(bob, "bob", 2);
        net.say(talker, "anonymous", 50);
        net.run(1);
        match goodbye {
            "LOGOUT" => net.tell(bob, r#"{"command":"LOGOUT"}"#),
            _ => net.break_off(bob, 0),
        }
        net.run(200);
        assert_eq!(net.numbers(listener), [1, 50, 2, 3], "{goodbye}");
        assert_eq!(net.numbers(moved), [50, 2, 3], "{goodbye}");
    }
}

#[test]
fn each_of_two_devices_hears_all_that_it_missed() {
    let mut net = Net::new(3);
    net.name("bob");
    let talker = net.login(2, "anonymous");
    let (one, two) = (net.login(0, "bob"), net.login(1, "bob"));
    net.run(300);
    net.say(talker, "anonymous", 1);
    net.run(10);
    assert_eq!((net.numbers(one), net.numbers(two)), (vec![1], vec![1]));
    net.break_off(one, 0);
    net.run(5);
    net.say(talker, "anonymous", 2);
    net.run(5);
    net.break_off(two, 0);
    net.run(5);
    net.say(talker, "anonymous", 3);
    net.run(5);
    let one = net.login(2, "bob");
    net.run(500);
    let two = net.login(2, "bob");
    net.run(500);
    assert_eq!(
        (net.numbers(one), net.numbers(two)),
        (vec![2, 3], vec![2, 3]),
        "the second repeats for one of them"
    );
    let third = net.login(0, "bob");
    net.run(500);
    assert_eq!(net.numbers(third), [0; 0]);
}

#[test]
fn what_a_kernel_did_not_confirm_comes_again_on_another_server() {
    let mut net = Net::new(2);
    net.name("bob");
    let talker = net.login(1, "anonymous");
    let bob = net.login(0, "bob");
    net.run(10);
    (1..=4).for_each(|n| net.say(talker, "anonymous", n));
    net.run(10);
    let heard = net.heard(bob);
    let last: usize = heard.lines().rev().take(2).map(|line| line.len() + 1).sum();
    net.break_off(bob, last as u64);
    net.run(5);
    let bob = net.login(1, "bob");
    net.run(50);
    assert_eq!(net.numbers(bob), [3, 4]);
}

#[test]
fn a_partition_ends_and_nothing_is_missed() {
    let mut net = Net::new(2);
    net.name("bob");
    let (here, there) = (net.login(0, "anonymous"), net.login(1, "anonymous"));
    let bob = net.login(0, "bob");
    net.run(10);
    net.cut = Some((0, 1));
    net.run(10_000);
    net.break_off(bob, 0);
    net.say(here, "anonymous", 1);
    net.say(there, "anonymous", 2);
    net.run(100);
    // The other side does not know that it broke; bob goes on from what it knows.
    let bob = net.login(1, "bob");
    net.run(1000);
    assert_eq!(net.numbers(bob), [2]);
    net.cut = None;
    net.run(10_000);
    assert_eq!(net.numbers(bob), [1]);
    assert_eq!((net.numbers(here), net.numbers(there)), (vec![1, 2], vec![2, 1]));
}

/// A user of the random walk below: where it is, what it said, what it heard.
#[derive(Default)]
struct Walker {
    at: Option<(usize, LinkId)>,
    said: u64,
    /// Where it was before.
    left: Vec<(usize, LinkId)>,
}

/// Users walk over servers at random, break off, come back, are sent elsewhere. Links stay up. Each hears
/// everything once, in its sender's order, but for what it said before its first login.
fn random_walk(seed: u64) {
    let mut rng = activitystreamer::base::rng::Rng::new(seed);
    let mut net = Net::new(3);
    let names: Vec<String> = (0..5).map(|i| format!("u{i}")).collect();
    names.iter().for_each(|name| net.name(name));
    let listeners: Vec<_> = (0..3).map(|i| net.login(i, "anonymous")).collect();
    let mut walkers: Vec<Walker> = names.iter().map(|_| Walker::default()).collect();
    for (walker, name) in walkers.iter_mut().zip(&names) {
        walker.at = Some(net.login(rng.below(3) as usize, name));
    }
    net.run(300);
    for _ in 0..600 {
        let i = rng.below(5) as usize;
        let (walker, name) = (&mut walkers[i], &names[i]);
        // A session that is left before it began would be another device's for the servers.
        let is_in = |at| net.ends[&at].heard.contains("LOGIN_SUCCESS") && net.ends[&at].arrived.is_empty();
        let dice = if walker.at.is_none_or(is_in) { rng.below(10) } else { 9 };
        match (walker.at, dice) {
            (Some(at), 0) => {
                net.end(at);
                walker.left.push(at);
                walker.at = None;
            }
            (Some(at), 1) => {
                let to = rng.below(3);
                let now = net.now;
                net.node(at.0).redirect(now, at.1, "localhost", to as u16 + 1);
                net.run(1);
                if rng.chance(50) && net.ends[&at].heard.contains("REDIRECT") {
                    net.tell(at, r#"{"command":"LOGOUT"}"#);
                }
                net.end(at);
                walker.left.push(at);
                walker.at = Some(net.login(to as usize, name));
            }
            (Some(at), 2..) => {
                net.say(at, name, i as u64 * 10_000 + walker.said);
                walker.said += 1;
            }
            // Its old connection may still get the last lines.
            (None, _) if walker.left.last().is_some_and(|at| !net.ends[at].closed) => {}
            (None, _) => walker.at = Some(net.login(rng.below(3) as usize, name)),
        }
        net.run(rng.below(3));
    }
    for (walker, name) in walkers.iter_mut().zip(&names) {
        walker.at = Some(walker.at.unwrap_or_else(|| net.login(0, name)));
    }
    net.run(1500);
    let all: Vec<u64> = walkers
        .iter()
        .enumerate()
        .flat_map(|(i, w)| (0..w.said).map(move |n| i as u64 * 10_000 + n))
        .collect();
    let check = |who: &str, heard: &[u64]| {
        let mut sorted = heard.to_vec();
        sorted.sort_unstable();
        let missing: Vec<_> = all.iter().filter(|n| !sorted.contains(n)).collect();
        let twice: Vec<_> = sorted.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
        assert!(sorted == all, "seed {seed}: {who} hears all, once; missing {missing:?}, twice {twice:?}");
        for i in 0..5 {
            let own = heard.iter().filter(|n| **n / 10_000 == i);
            assert!(own.is_sorted(), "seed {seed}: {who} hears {i} in order: {heard:?}");
        }
    };
    for (i, listener) in listeners.iter().enumerate() {
        check(&format!("listener {i}"), &net.numbers(*listener));
    }
    for (walker, name) in walkers.iter_mut().zip(&names) {
        walker.left.extend(walker.at);
        let heard: Vec<u64> = walker.left.iter().flat_map(|at| net.numbers(*at)).collect();
        check(name, &heard);
    }
}

#[test]
fn users_that_walk_at_random_hear_all_once_and_in_order() {
    (0..10).for_each(random_walk);
}

impl Net {
    /// The first server stops, as at SIGTERM.
    fn stop(&mut self) {
        let now = self.now;
        self.stopped = true;
        self.node(0).handle(now, Input::Stop);
    }

    /// Where a client was sent, if it was: the server.
    fn sent_to(&self, client: (usize, LinkId)) -> Option<usize> {
        let heard = &self.ends[&client].heard;
        let port = heard.lines().last()?.split_once(r#""REDIRECT","hostname":"localhost","port":"#)?.1;
        Some(port.trim_end_matches('}').parse::<usize>().unwrap() - 1)
    }
}

#[test]
fn a_server_that_stops_sends_all_to_the_others_and_nobody_loses_or_repeats_anything() {
    let mut net = Net::new(3);
    let names: Vec<String> = (0..8).map(|i| format!("u{i}")).collect();
    names.iter().for_each(|name| net.name(name));
    let talker = net.login(1, "anonymous");
    let stranger = net.connect(0);
    let mut clients: Vec<_> = names.iter().map(|name| net.login(0, name)).collect();
    clients.push(net.login(0, "anonymous"));
    net.run(300);
    let mut heard: Vec<Vec<u64>> = vec![Vec::new(); clients.len()];
    let (mut n, mut others) = (0, [0usize; 3]);
    net.stop();
    for _ in 0..60 {
        net.say(talker, "anonymous", n);
        n += 1;
        net.run(1);
        for (i, client) in clients.iter_mut().enumerate() {
            let Some(to) = net.sent_to(*client).filter(|_| client.0 == 0) else { continue };
            others[to] += 1;
            heard[i].extend(net.numbers(*client));
            if i % 2 == 0 {
                net.tell(*client, r#"{"command":"LOGOUT"}"#);
            }
            net.end(*client);
            let name = names.get(i).map_or("anonymous", |name| name);
            *client = net.login(to, name);
        }
    }
    assert_eq!(others[0], 0);
    assert!(others[1].abs_diff(others[2]) == 1 && others[1] + others[2] == 9, "in turn: {others:?}");
    assert!(!net.ends[&stranger].closed, "it may be about to log in");
    // Who comes now is sent on, too.
    let late = net.register(0, "late");
    net.run(30);
    assert!(net.sent_to(late).is_some() && net.heard(late).contains("LOGIN_SUCCESS"));
    net.end(late);
    net.run(4000);
    assert!(net.ends[&stranger].closed);
    assert_eq!(net.node(0).links(), 0, "it is over");
    (0..5).for_each(|i| net.say(talker, "anonymous", n + i));
    net.run(100);
    for (i, (client, heard)) in clients.into_iter().zip(&mut heard).enumerate().take(8) {
        heard.extend(net.numbers(client));
        assert_eq!(*heard, (0..n + 5).collect::<Vec<_>>(), "u{i}");
    }
    let late = net.login(2, "late");
    net.run(20);
    assert!(net.heard(late).contains("LOGIN_SUCCESS"));
}

#[test]
fn a_server_that_stops_serves_its_peers_until_they_have_all_that_was_said_on_it() {
    let mut net = Net::new(3);
    net.name("bob");
    let (listener, bob) = (net.login(2, "anonymous"), net.login(0, "bob"));
    net.run(10);
    // One peer is not heard; the other may ask for what comes from it, and has what is said here.
    net.cut = Some((0, 1));
    net.stop();
    net.run(5);
    assert_eq!(net.sent_to(bob), Some(1), "it is not known yet to be cut off");
    // Who was sent away talks on for a while.
    (0..5).for_each(|n| net.say(bob, "bob", n));
    net.run(2500);
    assert!(net.node(0).is_draining() && net.node(0).links() > 0);
    assert_eq!(net.numbers(listener), [0, 1, 2, 3, 4]);
    net.run(7000);
    assert_eq!(net.node(0).links(), 0, "a peer that is silent is not waited for");
    let moved = net.login(1, "bob");
    net.run(300);
    assert_eq!(net.numbers(moved), [0, 1, 2, 3, 4]);
}

#[test]
fn the_time_to_send_clients_away_ends_and_a_second_stop_ends_it_at_once() {
    for is_told_again in [false, true] {
        let mut net = Net::new(2);
        net.name("bob");
        let talker = net.login(1, "anonymous");
        let bob = net.login(0, "bob");
        net.run(10);
        net.stop();
        net.run(100);
        assert!(net.sent_to(bob).is_some() && net.node(0).is_draining());
        if is_told_again {
            net.stop();
            assert!(!net.node(0).is_draining());
        }
        net.say(talker, "anonymous", 1);
        // A client that does not go is closed after the usual time.
        net.run(8000);
        assert!(net.ends[&bob].closed && net.node(0).links() == 0);
        let bob = net.login(1, "bob");
        net.run(50);
        assert_eq!(net.numbers(bob), [1]);
    }
}

#[test]
fn servers_that_stop_together_or_alone_send_nobody_away() {
    let mut net = Net::new(3);
    net.kill(2);
    net.run(10);
    let clients = [net.login(0, "anonymous"), net.login(1, "anonymous")];
    net.run(10);
    net.stop();
    net.run(3);
    let now = net.now;
    net.node(1).handle(now, Input::Stop);
    net.run(4000);
    assert!(net.sent_to(clients[1]).is_none());
    assert!(clients.iter().all(|client| net.ends[client].closed));
    assert_eq!((net.node(0).links(), net.node(1).links()), (0, 0));
}

#[test]
fn a_server_with_nobody_on_it_does_not_wait_for_one_that_is_gone() {
    for spoke in [false, true] {
        let mut net = Net::new(2);
        net.run(10);
        if spoke {
            let ann = net.login(0, "anonymous");
            net.say(ann, "anonymous", 1);
            net.run(100);
            net.break_off(ann, 0);
            net.run(10);
        }
        net.stop();
        net.kill(1);
        net.run(1000);
        assert!(!net.node(0).is_draining() && net.node(0).links() == 0);
    }
}
