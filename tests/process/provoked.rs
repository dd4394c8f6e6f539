//! Things that are counted and that a test of the program could only bring about slowly, or not at all: told to
//! a node that has no sockets, by a test that plays its clients, its kernels and other servers.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use activitystreamer::base::hlc::{Generation, Hlc};
use activitystreamer::base::id::{LinkId, ServerId, StreamId};
use activitystreamer::base::limits::{Limits, SERVERS_MAX};
use activitystreamer::base::time::Time;
use activitystreamer::base::vector::Vector;
use activitystreamer::node::{Action, Census, Input, Node, Seeds, Status};
use activitystreamer::server::metrics::{self, Shell};
use activitystreamer::sim::World;
use activitystreamer::wire::encode;
use activitystreamer::wire::frame;
use activitystreamer::wire::peer::{Announce, Frontier, Hello, Known, PeerMessage};
use activitystreamer::wire::registration::{Registration, Sync};

use crate::series::Seen;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn limits() -> Limits {
    Limits {
        feed_bytes: 1 << 16,
        line_bytes: 1 << 14,
        failed_logins: 3,
        away: Duration::from_secs(60),
        ..Limits::default()
    }
}

/// Does something to a node, and notes what moved.
fn watch(seen: &mut Seen, world: &mut World, happens: impl FnOnce(&mut World)) {
    seen.look(&page(&world.node));
    happens(world);
    world.turn();
    seen.look(&page(&world.node));
    seen.forget();
}

fn page(node: &Node) -> String {
    metrics::text(node, &status(node), &Shell::default())
}

fn status(node: &Node) -> Status {
    let mut census = Census::default();
    while !node.count_mailboxes(&mut census, 1) {}
    node.status(&census)
}

fn tell(w: &mut World, link: LinkId, command: &str, rest: &str) {
    w.send(link, format!("{{\"command\":\"{command}\",{rest}}}\n").as_bytes());
}

const ANN: &str = r#""username":"anonymous""#;
const BOB: &str = r#""username":"bob","secret":"sek""#;

fn login(w: &mut World, who: &str) -> LinkId {
    let link = w.connect();
    tell(w, link, "LOGIN", who);
    link
}

fn say_much(w: &mut World, link: LinkId) {
    let activity = format!(r#"{ANN},"activity":{{"x":"{}"}}"#, "y".repeat(9000));
    (0..20).for_each(|_| tell(w, link, "ACTIVITY_MESSAGE", &activity));
}

/// What clients do, and their kernels.
pub fn clients(seen: &mut Seen) {
    let mut w = World::new(limits());
    let w = &mut w;
    let ann = login(w, ANN);
    watch(seen, w, |w| tell(w, ann, "INVALID_MESSAGE", r#""info":"no""#));
    watch(seen, w, |w| {
        let link = w.connect();
        w.send(link, b"garbage\n");
    });
    watch(seen, w, |w| {
        w.connect();
        w.advance(Duration::from_secs(11));
    });
    let bob = w.connect();
    tell(w, bob, "REGISTER", BOB);
    tell(w, bob, "LOGIN", BOB);
    watch(seen, w, |w| {
        for _ in 0..4 {
            login(w, r#""username":"bob","secret":"wrong""#);
            w.advance(Duration::from_millis(300));
        }
    });
    // So that bob may try again.
    w.advance(Duration::from_secs(61));
    watch(seen, w, |w| {
        let link = login(w, BOB);
        tell(w, link, "ACTIVITY_MESSAGE", r#""username":"bob","secret":"wrong","activity":{}"#);
    });
    watch(seen, w, |w| {
        let unread = login(w, ANN);
        w.make_room(unread, Some(0));
        (0..2000).for_each(|_| tell(w, unread, "LOGIN", ANN));
    });
    watch(seen, w, |w| {
        let stuck = login(w, ANN);
        w.make_room(stuck, Some(0));
        tell(w, ann, "ACTIVITY_MESSAGE", &format!(r#"{ANN},"activity":{{}}"#));
        tell(w, stuck, "LOGOUT", r#""x":1"#);
        w.advance(Duration::from_secs(12));
    });
    watch(seen, w, |w| {
        let slow = login(w, ANN);
        w.make_room(slow, Some(10));
        say_much(w, ann);
    });
    watch(seen, w, |w| {
        w.cut(bob);
        say_much(w, ann);
        login(w, BOB);
    });
    watch(seen, w, |w| {
        let bob = login(w, BOB);
        w.cut(bob);
        tell(w, ann, "ACTIVITY_MESSAGE", &format!(r#"{ANN},"activity":{{}}"#));
        seen_mailbox(&w.node);
        w.advance(Duration::from_secs(130));
    });
    watch(seen, w, |w| {
        (0..70).for_each(|_| {
            login(w, BOB);
        });
    });
}

/// Clients that number what they say leave numbers out, and come back late.
pub fn ids(seen: &mut Seen) {
    let mut w = World::new(limits());
    let w = &mut w;
    let numbered = |w: &mut World, rest: &str, n: u64| {
        let link = login(w, &format!(r#"{ANN},"ext":{{"client":"{:032x}"{rest}}}"#, 7));
        tell(w, link, "ACTIVITY_MESSAGE", &format!(r#"{ANN},"cseq":{n},"activity":{{}}"#));
        w.cut(link);
    };
    watch(seen, w, |w| {
        numbered(w, "", 1);
        numbered(w, r#","from":5"#, 5);
        // What was left out is waited for.
        w.advance(Duration::from_secs(10));
    });
    watch(seen, w, |w| {
        let ann = login(w, ANN);
        (0..20).for_each(|_| say_much(w, ann));
        w.cut(ann);
        numbered(w, r#","at":{}"#, 6);
    });
}

fn seen_mailbox(node: &Node) {
    let status = status(node);
    assert!(status.mailboxes > 0 && status.mailbox_bytes > 0, "{status:?}");
}

/// A mailbox fills, and a disk takes nothing.
pub fn gauges(seen: &mut Seen) {
    let mut w = World::new(limits());
    let w = &mut w;
    let (ann, bob) = (login(w, ANN), w.connect());
    tell(w, bob, "REGISTER", BOB);
    tell(w, bob, "LOGIN", BOB);
    watch(seen, w, |w| {
        w.cut(bob);
        say_much(w, ann);
    });
    watch(seen, w, |w| w.node.keep(w.now, 0));
    watch(seen, w, |w| w.node.written(None));
    // A reader that is behind what can be read.
    watch(seen, w, |w| {
        w.node.written(Some(0));
        let slow = login(w, ANN);
        w.make_room(slow, Some(10));
        for _ in 0..20 {
            say_much(w, ann);
            w.node.written(Some(0));
        }
        w.node.unblocked(slow);
        assert!(w.node.writable().is_none(), "it waits for the disk");
        let read = std::iter::from_fn(|| w.node.action()).find_map(|action| match action {
            Action::Read { offset, .. } => Some(offset),
            _ => None,
        });
        let offset = read.expect("the disk is asked");
        w.node.handle(w.now, Input::Chunk { offset, bytes: None });
    });
    // A session is to be kept.
    watch(seen, w, |w| {
        let bob = w.connect();
        tell(w, bob, "LOGIN", BOB);
    });
}

/// A node and other servers that are nothing but what they say.
struct Meeting {
    node: Node,
    now: Time,
}

impl Meeting {
    fn new() -> Meeting {
        let mut node = Node::new(limits(), &Seeds::fixed(1));
        node.set_wall(1_700_000_000_000);
        node.introduce("localhost", 1);
        Meeting { node, now: Time::START }
    }

    fn turn(&mut self) {
        self.node.handle(self.now, Input::Time);
        loop {
            let mut any = false;
            while let Some(action) = self.node.action() {
                any = true;
                if let Action::Close(link) = action {
                    self.node.handle(self.now, Input::Closed { link, unacknowledged: 0 });
                } else if let Action::Dial { link, .. } = action {
                    self.node.handle(self.now, Input::Closed { link, unacknowledged: 0 });
                }
            }
            while let Some(link) = self.node.writable() {
                any = true;
                let n = self.node.transmit(link).bytes();
                self.node.sent(link, n);
            }
            if !any {
                return;
            }
        }
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..10 * seconds {
            self.now = self.now + Duration::from_millis(100);
            self.turn();
        }
    }

    /// A link whose other end is proven to be server `n`.
    fn join(&mut self, n: u8) -> LinkId {
        self.join_as(ServerId([n; 16]), Vector::NOTHING, u64::from(n))
    }

    fn join_as(&mut self, server: ServerId, held: Vector, stream: u64) -> LinkId {
        let link = self.hello(server);
        let joined = Input::Joined { link, server, key: [7; 32], address: HERE };
        self.node.handle(self.now, joined);
        let hello = Hello { stream: StreamId(stream), clock: Hlc(1), held };
        self.control(link, &PeerMessage::ServerHello(hello));
        link
    }

    fn hello(&mut self, server: ServerId) -> LinkId {
        let link = self.node.connect(self.now, HERE);
        let hello = encode::hello(server);
        self.node.line(self.now, link, &hello[..hello.len() - 1]);
        self.turn();
        link
    }

    fn control(&mut self, link: LinkId, message: &PeerMessage) {
        let mut bytes = Vec::new();
        frame::control(&mut bytes, message);
        self.node.frame(self.now, link, &bytes[4..]);
        self.turn();
    }

    fn data(&mut self, link: LinkId, stream: u64, seq: u64, prev: &[(StreamId, u64)], bytes: usize) {
        let line =
            format!(r#"{{"command":"ACTIVITY_BROADCAST","activity":{{"x":"{}"}}}}"#, "y".repeat(bytes));
        let mut out = Vec::new();
        frame::data(&mut out, StreamId(stream), seq, prev, (line.as_bytes(), b"\n"));
        self.node.frame(self.now, link, &out[4..]);
        self.turn();
    }

    /// Does something, and notes what moved.
    fn watch(&mut self, seen: &mut Seen, happens: impl FnOnce(&mut Meeting)) {
        seen.look(&page(&self.node));
        happens(self);
        self.turn();
        seen.look(&page(&self.node));
        seen.forget();
    }
}

fn registration(at: u64) -> PeerMessage {
    let stamp = Generation { at: Hlc(at), by: ServerId([at as u8; 16]) };
    let record = Registration {
        name: "eve".into(),
        stamp,
        salt: [0; 16],
        digest: [at as u8; 32],
        kib: 8,
        passes: 1,
        lost: Vec::new(),
        verifier: Some(eve()),
    };
    PeerMessage::RegistrySync(Sync { records: vec![record], last: true })
}

/// The fast check of eve's secret, as all servers of these seeds have it.
fn eve() -> [u8; 16] {
    use hmac::{Hmac, KeyInit, Mac};
    let mac = Hmac::<sha2::Sha256>::new_from_slice(&[7; 32]).expect("any key is good");
    let digest = mac.chain_update(b"eve\0sek").finalize().into_bytes();
    std::array::from_fn(|i| digest[i])
}

/// What other servers do.
pub fn servers(seen: &mut Seen) {
    let mut m = Meeting::new();
    m.watch(seen, |m| {
        m.join(2);
    });
    m.watch(seen, |m| {
        m.join_as(Seeds::fixed(1).identity.server, Vector::NOTHING, 9);
    });
    m.watch(seen, |m| {
        let link = m.hello(ServerId([3; 16]));
        m.node.handle(m.now, Input::Unproven(link));
    });
    m.watch(seen, |m| {
        let link = m.join(4);
        m.node.frame(m.now, link, b"\0no json");
    });
    m.watch(seen, |m| {
        for n in 10..11 + SERVERS_MAX as u8 {
            m.join(n);
        }
    });

    let mut m = Meeting::new();
    let two = m.join(2);
    m.watch(seen, |m| m.data(two, 2, 1, &[(StreamId(77), 5)], 1));
    m.watch(seen, |m| m.pass(3));
    m.watch(seen, |m| m.data(two, 2, 2, &[], (1 << 14) + 1));
    m.watch(seen, |m| m.control(two, &PeerMessage::FetchGone { stream: StreamId(2), first: 6 }));
    m.watch(seen, |m| m.pass(3));

    let mut m = Meeting::new();
    let (two, _three) = (m.join(2), m.join(3));
    let behind = Frontier {
        held: [(StreamId(3), 5)].into_iter().collect(),
        confirmed: Vector::NOTHING,
        behind: Vec::new(),
        version: 1,
    };
    m.watch(seen, |m| m.control(two, &PeerMessage::Frontier(behind)));
    m.watch(seen, |m| {
        let ann = m.node.connect(m.now, HERE);
        for line in [
            format!(r#"{{"command":"LOGIN",{ANN}}}"#),
            format!(r#"{{"command":"ACTIVITY_MESSAGE",{ANN},"activity":{{}}}}"#),
        ] {
            m.node.line(m.now, ann, line.as_bytes());
            m.turn();
        }
    });

    m.now = m.now + Duration::from_millis(20);
    m.watch(seen, |m| {
        let mut out = Vec::new();
        frame::ack(&mut out, 1);
        m.node.frame(m.now, two, &out[4..]);
    });

    // A name is registered twice, and the earlier one is heard of when the later one's user is in.
    let mut m = Meeting::new();
    let two = m.join(2);
    m.control(two, &PeerMessage::Synced);
    m.control(two, &registration(9));
    let eve = m.node.connect(m.now, HERE);
    m.node.line(m.now, eve, br#"{"command":"LOGIN","username":"eve","secret":"sek"}"#);
    m.pass(1);
    m.node.line(m.now, eve, br#"{"command":"LOGIN","username":"eve","secret":"sek"}"#);
    m.pass(1);
    m.watch(seen, |m| m.control(two, &registration(5)));

    // Nobody here knows a name, but another server may.
    let mut m = Meeting::new();
    let two = m.join(2);
    m.control(two, &PeerMessage::Synced);
    let dan = m.node.connect(m.now, HERE);
    m.watch(seen, |m| {
        m.node.line(m.now, dan, br#"{"command":"LOGIN","username":"dan","secret":"sek"}"#);
    });

    // A server says that it stops, and does; another just goes; one that was only heard of is not there.
    let mut m = Meeting::new();
    for (n, draining) in [(2, true), (3, false)] {
        let link = m.join(n);
        let announce = Announce {
            hostname: format!("host{n}"),
            port: 1,
            load: 4,
            draining,
            offer: None,
            spawning: None,
            spawned: None,
        };
        m.control(link, &PeerMessage::ServerAnnounce(announce));
        m.watch(seen, |m| m.node.handle(m.now, Input::Closed { link, unacknowledged: 0 }));
    }
    let two = m.join(2);
    let known = Known { id: ServerId([5; 16]), key: [5; 32], hostname: "host5".into(), port: 5 };
    m.watch(seen, |m| m.control(two, &PeerMessage::ServerAuthKeyAnnouncement(vec![known])));
}
