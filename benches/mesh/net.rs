//! Many linked nodes without sockets, in virtual time, fast: only who has something to do has a turn.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use activitystreamer::base::id::LinkId;
use activitystreamer::base::limits::Limits;
use activitystreamer::base::time::Time;
use activitystreamer::node::{Action, Identity, Input, Node, Reading, Seeds, Traffic};
use activitystreamer::sim::hash;
use activitystreamer::wire::frame::Frames;
use activitystreamer::wire::line::{Flow, Lines};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// How long bytes take.
const WAY: Duration = Duration::from_millis(1);

/// A client: its server and its link there.
pub type Client = (usize, LinkId);

/// One end of a connection.
struct End {
    link: LinkId,
    /// The server and link at the other end; none for a client.
    other: Option<Client>,
    frames: Frames,
    lines: Lines,
    /// What waits to be read.
    arrived: Vec<u8>,
    /// Lines it was sent.
    heard: usize,
    /// Bytes that its kernel did not confirm.
    unacknowledged: u64,
}

struct Host {
    node: Node,
    id: Identity,
    /// By slot.
    ends: Vec<Option<End>>,
    /// What is on its way here; no bytes are the end.
    inbox: VecDeque<(Time, LinkId, Vec<u8>)>,
    wake: Option<Time>,
    is_up: bool,
}

/// Linked nodes and their clients.
pub struct Net {
    hosts: Vec<Host>,
    pub now: Time,
    limits: Limits,
}

impl Net {
    /// Servers of which each but the first is told of the first, linked and at rest.
    pub fn new(servers: usize, limits: &Limits) -> Net {
        let mut net = Net { hosts: Vec::new(), now: Time::START, limits: limits.clone() };
        (0..servers).for_each(|i| net.start(i));
        net.run(Duration::from_secs(12));
        net
    }

    fn start(&mut self, i: usize) {
        let seeds = Seeds::fixed(i as u64 + 1);
        let mut node = Node::new(self.limits.clone(), &seeds);
        node.set_wall(1_700_000_000_000);
        node.introduce("server-00.example.org", i as u16 + 1);
        if i > 0 {
            node.join(self.now, "server-00.example.org", 1);
        }
        let (id, wake) = (seeds.identity, Some(self.now));
        self.hosts.push(Host { node, id, ends: Vec::new(), inbox: VecDeque::new(), wake, is_up: true });
    }

    /// What all servers have sent each other so far.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for sent in self.hosts.iter().map(|host| host.node.traffic()) {
            sum.frames.iter_mut().zip(sent.frames).for_each(|(sum, n)| *sum += n);
            sum.bytes.iter_mut().zip(sent.bytes).for_each(|(sum, n)| *sum += n);
        }
        sum
    }

    /// Times that a server handed frames to the link of a peer, of all servers.
    pub fn sends(&self) -> u64 {
        self.hosts.iter().map(|host| host.node.counters().peer_sends).sum()
    }

    /// A client connects and says these lines.
    pub fn connect(&mut self, i: usize, lines: &str) -> Client {
        let link = self.hosts[i].node.connect(self.now, LOCAL);
        self.put(i, link, None);
        self.tell((i, link), lines);
        (i, link)
    }

    /// A client says lines.
    pub fn tell(&mut self, (i, link): Client, lines: &str) {
        self.hosts[i].inbox.push_back((self.now + WAY, link, lines.as_bytes().to_vec()));
    }

    /// A server is gone.
    pub fn kill(&mut self, i: usize) {
        self.hosts[i].is_up = false;
        let ends = std::mem::take(&mut self.hosts[i].ends);
        for (j, there) in ends.into_iter().flatten().filter_map(|end| end.other) {
            self.close(j, there);
            self.hosts[j].wake = Some(self.now);
        }
    }

    /// So many bytes are not confirmed by the client's kernel.
    pub fn hold(&mut self, client: Client, unacknowledged: u64) {
        if let Some(end) = self.end(client.0, client.1) {
            end.unacknowledged = unacknowledged;
        }
    }

    /// Lines the client was sent.
    pub fn heard(&mut self, client: Client) -> usize {
        self.end(client.0, client.1).map_or(0, |end| end.heard)
    }

    /// Time passes.
    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let due = |host: &Host| {
                let first = host.inbox.front().map(|first| first.0);
                first.into_iter().chain(host.wake).min().filter(|_| host.is_up)
            };
            let next = self.hosts.iter().filter_map(due).min().filter(|at| *at <= until);
            self.now = next.unwrap_or(until).max(self.now);
            if next.is_none() {
                return;
            }
            for i in 0..self.hosts.len() {
                if due(&self.hosts[i]).is_some_and(|at| at <= self.now) {
                    self.turn(i);
                }
            }
        }
    }

    fn put(&mut self, i: usize, link: LinkId, other: Option<Client>) {
        let ends = &mut self.hosts[i].ends;
        if ends.len() <= link.slot as usize {
            ends.resize_with(link.slot as usize + 1, || None);
        }
        let (frames, lines) = (Frames::default(), Lines::default());
        let end = End { link, other, frames, lines, arrived: Vec::new(), heard: 0, unacknowledged: 0 };
        ends[link.slot as usize] = Some(end);
    }

    fn end(&mut self, i: usize, link: LinkId) -> Option<&mut End> {
        self.hosts[i].ends.get_mut(link.slot as usize)?.as_mut().filter(|end| end.link == link)
    }

    fn turn(&mut self, i: usize) {
        let now = self.now;
        self.hosts[i].node.set_wall(1_700_000_000_000 + now.since(Time::START).as_millis() as u64);
        self.hosts[i].node.handle(now, Input::Time);
        while self.hosts[i].inbox.front().is_some_and(|first| first.0 <= now) {
            let Some((_, link, bytes)) = self.hosts[i].inbox.pop_front() else { break };
            let Some(end) = self.end(i, link) else { continue };
            if bytes.is_empty() {
                self.hosts[i].node.handle(now, Input::Eof(link));
                continue;
            }
            end.arrived.extend(bytes);
            self.read(i, link);
        }
        self.actions(i);
        loop {
            while let Some(link) = self.hosts[i].node.writable() {
                self.write(i, link);
            }
            if !self.actions(i) {
                break;
            }
        }
        let host = &mut self.hosts[i];
        host.wake = host.node.timeout(now).map(|wait| now + wait);
    }

    fn write(&mut self, i: usize, link: LinkId) {
        let Host { node, ends, .. } = &mut self.hosts[i];
        let parts = node.transmit(link).parts;
        let n = parts.iter().map(|part| part.len()).sum();
        let end = ends[link.slot as usize].as_mut().expect("it was put there");
        match end.other {
            None => {
                end.heard += parts.iter().flat_map(|part| part.iter()).filter(|b| **b == b'\n').count();
                node.sent(link, n);
            }
            Some((j, there)) => {
                let bytes = parts.concat();
                node.sent(link, n);
                self.hosts[j].inbox.push_back((self.now + WAY, there, bytes));
            }
        }
    }

    fn read(&mut self, i: usize, link: LinkId) {
        let now = self.now;
        let Host { node, ends, .. } = &mut self.hosts[i];
        let Some(end) = ends[link.slot as usize].as_mut() else { return };
        let mut bytes = std::mem::take(&mut end.arrived);
        loop {
            match node.reading(link) {
                Reading::Take(limit) => {
                    let mut last = Flow::Next;
                    end.lines.feed(&bytes, limit, |line| {
                        last = node.line(now, link, line);
                        last
                    });
                    bytes.clear();
                    if last == Flow::Next || node.reading(link) == Reading::Hold {
                        return;
                    }
                }
                Reading::Frames(_) => {
                    end.frames
                        .feed(&bytes, |frame| node.frame(now, link, frame))
                        .expect("servers send frames");
                    return;
                }
                Reading::Hold | Reading::Prove => {
                    end.arrived = bytes;
                    return;
                }
                Reading::Discard => return,
            }
        }
    }

    fn actions(&mut self, i: usize) -> bool {
        let mut any = false;
        while let Some(action) = self.hosts[i].node.action() {
            any = true;
            let now = self.now;
            match action {
                Action::Hash(job) => {
                    self.hosts[i].node.handle(now, Input::Hashed(job.link, hash(&job)));
                }
                Action::Settle { session, errand } => {
                    let unacknowledged = self.end(i, session).map_or(0, |end| end.unacknowledged);
                    let input = Input::Settled { session, errand, unacknowledged, stalled: false };
                    self.hosts[i].node.handle(now, input);
                }
                Action::Measure(session) => {
                    let unacknowledged = self.end(i, session).map_or(0, |end| end.unacknowledged);
                    self.hosts[i].node.handle(now, Input::Confirmed { session, unacknowledged });
                }
                Action::Resume(link) => self.read(i, link),
                Action::ResumeAll => {
                    let links: Vec<LinkId> =
                        self.hosts[i].ends.iter().flatten().map(|end| end.link).collect();
                    links.into_iter().for_each(|link| self.read(i, link));
                }
                // The client reads that, and closes.
                Action::Shutdown(link) => self.hosts[i].inbox.push_back((now + WAY, link, Vec::new())),
                Action::Close(link) => self.close(i, link),
                Action::Dial { link, port, hello, .. } => {
                    let j = usize::from(port) - 1;
                    if !self.hosts[j].is_up {
                        self.hosts[i].node.handle(now, Input::Closed { link, unacknowledged: 0 });
                        continue;
                    }
                    let there = self.hosts[j].node.connect(now, LOCAL);
                    self.put(i, link, Some((j, there)));
                    self.put(j, there, Some((i, link)));
                    self.hosts[j].inbox.push_back((now + WAY, there, hello));
                }
                Action::Upgrade { link, .. } => {
                    let (j, there) =
                        self.end(i, link).and_then(|end| end.other).expect("only servers say hello");
                    for (at, link, who) in [(i, link, j), (j, there, i)] {
                        let Identity { server, key, .. } = self.hosts[who].id;
                        self.hosts[at].node.handle(now, Input::Joined { link, server, key, address: LOCAL });
                        self.hosts[at].wake = Some(now);
                    }
                }
                Action::Read { .. } | Action::Commit { .. } => unreachable!("there is no disk"),
                Action::Spawn { .. } | Action::Retire => unreachable!("no server is started"),
            }
        }
        any
    }

    fn close(&mut self, i: usize, link: LinkId) {
        let Some(end) = self.end(i, link) else { return };
        let (other, unacknowledged) = (end.other, end.unacknowledged);
        self.hosts[i].ends[link.slot as usize] = None;
        self.hosts[i].node.handle(self.now, Input::Closed { link, unacknowledged });
        if let Some((j, there)) = other {
            self.close(j, there);
            self.hosts[j].wake = Some(self.now);
        }
    }
}
