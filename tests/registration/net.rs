//! Linked nodes without sockets, for what they say of names: bytes take a random while over each link, in
//! order; servers can be killed, silent, or cut off from each other.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use activitystreamer::base::id::LinkId;
use activitystreamer::base::limits::Limits;
use activitystreamer::base::rng::Rng;
use activitystreamer::base::time::Time;
use activitystreamer::node::{Action, Identity, Input, Node, Reading, Seeds};
use activitystreamer::sim::hash;
use activitystreamer::wire::frame::Frames;
use activitystreamer::wire::line::{Lines, Split};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub type Client = (usize, LinkId);

#[derive(Default)]
struct End {
    /// The server and link at the other end; none for a client.
    other: Option<(usize, LinkId)>,
    frames: Frames,
    lines: Lines,
    arrived: Vec<u8>,
    /// On their way to the other server, each with when it arrives.
    sent: VecDeque<(Time, Vec<u8>)>,
    heard: String,
    closed: bool,
}

pub struct Net {
    pub nodes: Vec<Option<Node>>,
    ids: Vec<Identity>,
    ends: BTreeMap<Client, End>,
    pub now: Time,
    /// Between these, nothing goes over.
    pub cut: Vec<(usize, usize)>,
    /// These do nothing at all, and their kernels go on.
    pub silent: Vec<usize>,
    /// Bytes take up to so many milliseconds.
    pub delay: u64,
    pub rng: Rng,
    wall: u64,
}

impl Net {
    /// `n` servers, of which each but the first is told of the first.
    pub fn new(n: usize, seed: u64) -> Net {
        let mut net = Net::unlinked(0, seed);
        (0..n).for_each(|_| {
            net.start(true);
        });
        net.run(1500);
        net
    }

    /// `n` servers of which none knows another.
    pub fn unlinked(n: usize, seed: u64) -> Net {
        let mut net = Net {
            nodes: Vec::new(),
            ids: Vec::new(),
            ends: BTreeMap::new(),
            now: Time::START,
            cut: Vec::new(),
            silent: Vec::new(),
            delay: 1,
            rng: Rng::new(seed),
            wall: 1_700_000_000_000,
        };
        (0..n).for_each(|_| {
            net.start(false);
        });
        net
    }

    pub fn start(&mut self, joins: bool) -> usize {
        let i = self.nodes.len();
        let seeds = Seeds::fixed(self.rng.draw());
        let limits = Limits { feed_bytes: 1 << 16, line_bytes: 1 << 12, balance: false, ..Limits::default() };
        let mut node = Node::new(limits, &seeds);
        node.introduce("localhost", i as u16 + 1);
        if i > 0 && joins {
            node.join(self.now, "localhost", 1);
        }
        self.nodes.push(Some(node));
        self.ids.push(seeds.identity);
        i
    }

    pub fn node(&mut self, i: usize) -> &mut Node {
        self.nodes[i].as_mut().unwrap()
    }

    /// The server is gone; the kernels of the others are told.
    pub fn kill(&mut self, i: usize) {
        self.nodes[i] = None;
        self.ends.retain(|(server, _), _| *server != i);
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.iter().any(|pair| [(a, b), (b, a)].contains(pair))
    }

    pub fn connect(&mut self, i: usize) -> Client {
        let now = self.now;
        let link = self.node(i).connect(now, LOCAL);
        self.ends.insert((i, link), End::default());
        (i, link)
    }

    pub fn say(&mut self, client: Client, command: &str, name: &str, secret: &str) {
        let line = format!(
            "{{\"command\":\"{command}\",\"username\":\"{name}\",\"secret\":\"{secret}\",\"activity\":{{}}}}\n"
        );
        self.ends.get_mut(&client).unwrap().arrived.extend(line.bytes());
    }

    pub fn register(&mut self, i: usize, name: &str, secret: &str) -> Client {
        let client = self.connect(i);
        self.say(client, "REGISTER", name, secret);
        client
    }

    pub fn login(&mut self, i: usize, name: &str, secret: &str) -> Client {
        let client = self.connect(i);
        self.say(client, "LOGIN", name, secret);
        client
    }

    /// Registers a name at a server that has no peer, whose client leaves at once.
    pub fn register_alone(&mut self, i: usize, name: &str) {
        let now = self.now;
        let link = self.node(i).connect(now, LOCAL);
        let line = format!("{{\"command\":\"REGISTER\",\"username\":\"{name}\",\"secret\":\"s\"}}");
        self.node(i).line(now, link, line.as_bytes());
        self.actions(i);
        self.node(i).line(now, link, line.as_bytes());
        self.node(i).handle(now, Input::Closed { link, unacknowledged: 0 });
    }

    /// Has a server join another.
    pub fn tell_of(&mut self, i: usize, other: usize) {
        let now = self.now;
        self.node(i).join(now, "localhost", other as u16 + 1);
    }

    /// The client is gone.
    pub fn leave(&mut self, client: Client) {
        if !self.ends.remove(&client).unwrap().closed {
            let now = self.now;
            self.node(client.0).handle(now, Input::Closed { link: client.1, unacknowledged: 0 });
        }
    }

    pub fn heard(&self, client: Client) -> &str {
        &self.ends[&client].heard
    }

    pub fn is_closed(&self, client: Client) -> bool {
        self.ends[&client].closed
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            for i in 0..self.nodes.len() {
                if !self.silent.contains(&i) {
                    self.turn(i);
                }
            }
            self.now = self.now + Duration::from_millis(1);
            self.wall += 1;
            self.carry();
        }
    }

    /// What was sent and has been on its way for long enough arrives.
    fn carry(&mut self) {
        for key in self.ends.keys().copied().collect::<Vec<_>>() {
            let Some(other) = self.ends[&key].other else { continue };
            if self.is_cut(key.0, other.0) {
                continue;
            }
            if self.ends.get(&other).is_none_or(|end| end.other != Some(key)) {
                self.ends.remove(&key);
                let now = self.now;
                if let Some(node) = self.nodes[key.0].as_mut() {
                    node.handle(now, Input::Closed { link: key.1, unacknowledged: 0 });
                }
                continue;
            }
            while let Some(end) = self.ends.get_mut(&key)
                && end.sent.front().is_some_and(|(at, _)| *at <= self.now)
                && let Some((_, bytes)) = end.sent.pop_front()
            {
                self.ends.get_mut(&other).unwrap().arrived.extend(bytes);
            }
        }
    }

    fn turn(&mut self, i: usize) {
        let (now, wall) = (self.now, self.wall);
        let Some(node) = self.nodes[i].as_mut() else { return };
        node.set_wall(wall);
        node.handle(now, Input::Time);
        let links: Vec<LinkId> = self.ends.keys().filter(|(s, _)| *s == i).map(|(_, link)| *link).collect();
        links.into_iter().for_each(|link| self.read(i, link));
        self.actions(i);
        loop {
            let mut any = false;
            while let Some(link) = self.node(i).writable() {
                any = true;
                let bytes = self.node(i).transmit(link).parts.concat();
                self.node(i).sent(link, bytes.len());
                let delay = Duration::from_millis(self.rng.below(self.delay));
                let Some(end) = self.ends.get_mut(&(i, link)) else { continue };
                if end.other.is_some() {
                    let at = end.sent.back().map_or(now, |(at, _)| *at).max(now + delay);
                    end.sent.push_back((at, bytes));
                } else {
                    end.heard += std::str::from_utf8(&bytes).unwrap();
                }
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
                let mut chunk = &bytes[..];
                while end.lines.feed(chunk, limit, |line| node.line(now, link, line)) == Split::Stopped
                    && matches!(node.reading(link), Reading::Take(_))
                {
                    chunk = &[];
                }
            }
            Reading::Frames(_) => {
                end.frames.feed(&bytes, |frame| node.frame(now, link, frame)).unwrap();
            }
            Reading::Hold | Reading::Prove => end.arrived = bytes,
            Reading::Discard => {}
        }
    }

    fn actions(&mut self, i: usize) -> bool {
        let mut any = false;
        let now = self.now;
        while let Some(action) = self.node(i).action() {
            any = true;
            match action {
                Action::Hash(job) => {
                    self.node(i).handle(now, Input::Hashed(job.link, hash(&job)));
                }
                Action::Settle { session, errand } => {
                    self.read(i, session);
                    let input = Input::Settled { session, errand, unacknowledged: 0, stalled: false };
                    self.node(i).handle(now, input);
                }
                Action::Read { .. } | Action::Commit { .. } => unreachable!("there is no disk"),
                Action::Spawn { .. } | Action::Retire => unreachable!("no server is started"),
                Action::Measure(session) => {
                    self.node(i).handle(now, Input::Confirmed { session, unacknowledged: 0 });
                }
                Action::Resume(link) => self.read(i, link),
                Action::ResumeAll => {
                    let links: Vec<_> = self.ends.keys().filter(|(s, _)| *s == i).map(|k| k.1).collect();
                    links.into_iter().for_each(|link| self.read(i, link));
                }
                Action::Shutdown(link) => self.node(i).handle(now, Input::Eof(link)),
                Action::Close(link) => {
                    if let Some(end) = self.ends.get_mut(&(i, link)) {
                        end.closed = true;
                        if end.other.is_some() {
                            self.ends.remove(&(i, link));
                        }
                    }
                    self.node(i).handle(now, Input::Closed { link, unacknowledged: 0 });
                }
                Action::Dial { link, port, hello, .. } => {
                    let j = usize::from(port) - 1;
                    let node = self.nodes.get_mut(j).and_then(Option::as_mut);
                    let is_there = node.is_some() && !self.is_cut(i, j);
                    if !is_there {
                        self.node(i).handle(now, Input::Closed { link, unacknowledged: 0 });
                        continue;
                    }
                    let there = self.node(j).connect(now, LOCAL);
                    self.ends.insert((i, link), End { other: Some((j, there)), ..End::default() });
                    let end = End { other: Some((i, link)), arrived: hello, ..End::default() };
                    self.ends.insert((j, there), end);
                }
                Action::Upgrade { link, .. } => {
                    let (j, there) = self.ends[&(i, link)].other.expect("only servers say hello");
                    for (at, at_link, who) in [(i, link, j), (j, there, i)] {
                        let Identity { server, key, .. } = self.ids[who];
                        let input = Input::Joined { link: at_link, server, key, address: LOCAL };
                        self.node(at).handle(now, input);
                    }
                }
            }
        }
        any
    }
}
