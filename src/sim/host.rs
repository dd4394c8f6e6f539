//! One server of a cluster: its node, its sockets, and what may befall it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::cluster::Cluster;
use super::disk::{Disk, Fate};
use super::drain::DRAIN;
use super::pipe::{Owner, Pipe, PipeId};
use super::schedule::{Event, ms, us};
use super::spawn::{RETIRE, SPAWN_MAX};
use super::swarm::Class;
use crate::base::id::LinkId;
use crate::base::limits::Limits;
use crate::base::time::Time;
use crate::node::{Hashed, Identity, Input, Mutation, Node, Seeds};
use crate::wire::frame::Frames;
use crate::wire::line::Lines;

/// Something a server's loop is woken for.
#[derive(Debug)]
pub(super) enum Notice {
    Accept(PipeId),
    /// Bytes, the end, or an error.
    Readable(LinkId),
    Unblocked(LinkId),
    /// A dialled address has nobody.
    Refused(LinkId),
    /// A dialled connection stands.
    Dialled(LinkId, PipeId),
    Hashed(LinkId, Hashed),
    /// What the disk's worker answers, SIGTERM, or a start that failed.
    Input(Input),
    /// The workload sends a client to another server.
    Redirect(LinkId, usize),
}

/// The shell's part of a link.
#[derive(Debug)]
pub(super) struct Sock {
    pub pipe: PipeId,
    pub side: usize,
    pub lines: Lines,
    pub frames: Frames,
    /// The server at the other end, once it is proven, and whether it has said anything.
    pub peer: Option<usize>,
    pub greeted: Option<Time>,
    pub heard_at: Time,
    /// The node was told of the end.
    pub end_told: bool,
}

pub(super) struct Host {
    pub node: Option<Box<Node>>,
    /// Which of all boots it is in, or was.
    pub boot: usize,
    pub identity: Option<Identity>,
    pub disk: Disk,
    pub socks: BTreeMap<LinkId, Sock>,
    /// Dialled, without an answer so far: what is to be written when there is one.
    pub dialling: BTreeMap<LinkId, Vec<u8>>,
    pub inbox: Vec<Notice>,
    pub turn_at: Option<Time>,
    pub paused: bool,
    /// Its machine is gone: it says nothing, and nothing reaches it.
    pub dark: bool,
    pub skew_ms: i64,
    /// Turns in a row at the same instant.
    pub spins: u32,
    /// When it last showed a message that nobody had confirmed in time.
    pub admitted: Option<Time>,
    /// It was told to stop, and its process ends then.
    pub stop_by: Option<Time>,
    /// The server that started it, if one did, and as what; and whether it ever was in touch with another.
    pub parent: Option<(usize, u64)>,
    pub has_joined: bool,
    /// It ends because it is not needed, and has.
    pub retires: bool,
    pub is_gone: bool,
}

/// What the wall clocks say at the start of time.
const WALL_MS: i64 = 1_700_000_000_000;
/// The one port of all servers; their hostnames are `s0`, `s1`, …
pub(super) const PORT: u16 = 3780;

pub(super) fn hostname(host: usize) -> String {
    format!("s{host}")
}

/// The server of this hostname.
pub(super) fn host_named(hostname: &str) -> Option<usize> {
    hostname.strip_prefix('s')?.parse().ok()
}

pub(super) fn address(machine: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, (machine >> 8) as u8, machine as u8).into()
}

impl Host {
    pub fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// It has turns.
    pub fn is_running(&self) -> bool {
        self.is_up() && !self.paused
    }

    pub fn wall_ms(&self, now: Time) -> u64 {
        (WALL_MS + self.skew_ms + now.since(Time::START).as_millis() as i64) as u64
    }

    fn forget(&mut self) {
        self.socks.clear();
        self.dialling.clear();
        self.inbox.clear();
        self.turn_at = None;
        self.paused = false;
        self.spins = 0;
        self.admitted = None;
        self.stop_by = None;
    }
}

impl Cluster {
    /// Adds a server, which perhaps another one started, and starts it. Returns which it is.
    pub fn add_host(&mut self, parent: Option<(usize, u64)>) -> usize {
        let skew_ms = if self.has(Class::Skew) { self.rng.between(0, 10_000) as i64 - 5_000 } else { 0 };
        let disk = self.new_disk();
        self.hosts.push(Host {
            node: None,
            boot: 0,
            identity: None,
            disk,
            socks: BTreeMap::new(),
            dialling: BTreeMap::new(),
            inbox: Vec::new(),
            turn_at: None,
            paused: false,
            dark: false,
            skew_ms,
            spins: 0,
            admitted: None,
            stop_by: None,
            parent,
            has_joined: parent.is_none(),
            retires: false,
            is_gone: false,
        });
        let n = self.hosts.len();
        self.walls.iter_mut().for_each(|row| row.push(0));
        self.walls.push(vec![0; n]);
        self.boot(n - 1, false);
        n - 1
    }

    fn limits(&self, h: usize) -> Limits {
        let (feed_bytes, line_bytes) = (self.swarm.feed_bytes, self.swarm.feed_bytes.min(1 << 16) / 4);
        let balance = self.has(Class::Balance);
        Limits {
            feed_bytes,
            line_bytes,
            failed_logins: 255,
            drain: DRAIN,
            balance,
            announce: if balance { ms(1_000) } else { Duration::ZERO },
            max_clients: self.swarm.max_clients.map(|most| most as u64),
            spawn_max: if self.has(Class::Spawn) { SPAWN_MAX } else { 0 },
            spawned: self.hosts[h].parent.map(|(_, ticket)| ticket),
            retire: RETIRE,
            ..Limits::default()
        }
    }

    /// Starts a server that is down, with what is on its disk. Its key may be lost.
    pub fn boot(&mut self, h: usize, loses_key: bool) {
        let now = self.now();
        let is_first = self.hosts[h].identity.is_none();
        let mut seeds = Seeds::fixed(self.rng.draw());
        if let Some(old) = self.hosts[h].identity {
            if !loses_key {
                seeds.identity = Identity { stream: seeds.identity.stream, ..old };
            }
            if self.options.mutation == Some(Mutation::StreamContinued) {
                seeds.identity.stream = old.stream;
            }
        }
        let mut node = Box::new(Node::new(self.limits(h), &seeds));
        #[cfg(feature = "mutations")]
        if let Some(mutation) = self.options.mutation {
            node.mutate(mutation);
        }
        let generations_alone = self.options.mutation == Some(Mutation::LocalGenerations);
        let others: Vec<usize> = (0..self.hosts.len()).filter(|i| *i != h).collect();
        let up: Vec<usize> = others.iter().copied().filter(|i| self.hosts[*i].is_up()).collect();
        let host = &mut self.hosts[h];
        if generations_alone {
            // So far apart that no server's stamps move another's clock.
            host.skew_ms = 100_000 * (h as i64 * 5 % 7);
        }
        node.set_wall(host.wall_ms(now));
        node.introduce(&hostname(h), PORT);
        host.forget();
        host.dark = false;
        host.identity = Some(seeds.identity);
        let boot = self.ledger.boot(now, h, seeds.identity.stream);
        self.hosts[h].boot = boot;
        self.tell(|| format!("server {h} starts, boot {boot}, stream {:?}", seeds.identity.stream));
        self.restore(h, &mut node, boot);
        let parent = self.hosts[h].parent.filter(|_| is_first).map(|(parent, _)| parent);
        let any = if up.is_empty() { others.first() } else { Some(self.rng.choose(&up)) };
        if let Some(first) = parent.as_ref().or(any) {
            node.join(now, &hostname(*first), PORT);
        }
        self.hosts[h].node = Some(node);
        self.tap_anew(h);
        self.wake(h);
        self.survey();
    }

    /// What the server shows is heard from now on.
    pub fn tap_anew(&mut self, h: usize) {
        let tap = self.tap(h, b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n");
        let boot = &mut self.ledger.boots[self.hosts[h].boot];
        (boot.tap, boot.hears_since) = (Some(tap), None);
    }

    /// The simulator's own connection was closed, as the server's journal had a gap where it was.
    pub fn tap_again(&mut self, h: usize, pipe: PipeId) {
        if self.ledger.boots[self.hosts[h].boot].tap == Some(pipe) && self.has(Class::Small) {
            self.judge.mark("excused: an anonymous client in a gap of a journal");
            self.tap_anew(h);
        }
    }

    /// A connection of the simulator's own to a server: it takes no time, and nothing happens to it.
    pub fn tap(&mut self, h: usize, says: &[u8]) -> PipeId {
        let owners = [Owner::Tap, Owner::Host(h, self.hosts[h].boot)];
        let mut pipe = Pipe::new(self.now(), owners, 0, (1 << 30, 1 << 30));
        pipe.open = [true; 2];
        pipe.flows[0].write(self.schedule.now, &[says]);
        let n = pipe.flows[0].deliverable();
        pipe.flows[0].deliver(n);
        self.pipes.push(pipe);
        let id = self.pipes.len() - 1;
        self.hosts[h].inbox.push(Notice::Accept(id));
        id
    }

    /// A server stops to be. `silently`: with its whole machine, so that nobody is told.
    pub fn crash(&mut self, h: usize, silently: bool, fate: Fate) {
        let boot = self.hosts[h].boot;
        let how = if silently { "vanishes" } else { "is killed" };
        self.tell(|| format!("server {h} {how}; left is {fate:?}"));
        let (now, stored) = (self.now(), self.hosts[h].disk.stored);
        self.ledger.boots[boot].died = Some(now);
        self.ledger.boots[boot].stored = stored;
        self.ledger.boots[boot].lost_since = self.disk_ends(h, fate);
        let mine = |pipe: &Pipe, side: usize| pipe.owners[side] == Owner::Host(h, boot) && pipe.open[side];
        for pipe in 0..self.pipes.len() {
            for side in 0..2 {
                if !mine(&self.pipes[pipe], side) {
                    continue;
                }
                if silently {
                    let now = self.now();
                    self.pipes[pipe].open[side] = false;
                    // What its kernel had is gone, too, and is not sent again when the machine is back.
                    self.pipes[pipe].flows[side].drop_rest();
                    self.pipes[pipe].flows[1 - side].lose_acks(now);
                } else {
                    self.close(pipe, side);
                }
            }
        }
        let host = &mut self.hosts[h];
        host.dark = silently;
        host.node.take().iter().for_each(|node| self.judge.count(node));
        host.forget();
        self.survey();
    }

    /// Has the server's loop wake up soon.
    pub fn wake(&mut self, h: usize) {
        let late = us(self.rng.below(self.swarm.late_us));
        self.wake_at(h, self.now() + late);
    }

    pub fn wake_at(&mut self, h: usize, at: Time) {
        let host = &mut self.hosts[h];
        if host.is_running() && host.turn_at.is_none_or(|t| t > at) {
            host.turn_at = Some(at);
            self.schedule.set(at, Event::Turn(h));
        }
    }

    /// A connection arrives where it was made to.
    pub(super) fn on_knock(&mut self, pipe: PipeId) {
        let Owner::Host(h, _) = self.pipes[pipe].owners[1] else { return };
        let is_free = self.is_reachable(pipe);
        let way = us(self.pipes[pipe].way_us);
        if !is_free {
            self.judge.mark("a connect that nobody heard");
            return;
        }
        let is_up = self.hosts[h].is_listening();
        if is_up {
            self.pipes[pipe].owners[1] = Owner::Host(h, self.hosts[h].boot);
            self.pipes[pipe].open[1] = true;
            self.hosts[h].inbox.push(Notice::Accept(pipe));
            self.wake(h);
        }
        match self.pipes[pipe].owners[0] {
            Owner::Host(from, boot) => {
                let host = &mut self.hosts[from];
                let Some(link) = self.pipes[pipe].links[0].filter(|_| host.is_up() && host.boot == boot)
                else {
                    return self.close(pipe, 0);
                };
                let notice = if is_up { Notice::Dialled(link, pipe) } else { Notice::Refused(link) };
                host.inbox.push(notice);
                let at = self.now() + way;
                self.wake_at(from, at);
            }
            _ if !is_up => self.schedule.after(way, Event::Reset(pipe, 0)),
            _ => {}
        }
    }

    pub(super) fn on_hashed(&mut self, h: usize, boot: usize, link: LinkId, hashed: Hashed) {
        if self.hosts[h].is_up() && self.hosts[h].boot == boot {
            self.hosts[h].inbox.push(Notice::Hashed(link, hashed));
            self.wake(h);
        }
    }

    /// SIGSTOP.
    pub fn pause(&mut self, h: usize) {
        self.tell(|| format!("server {h} stops"));
        self.hosts[h].paused = true;
        self.hosts[h].turn_at = None;
        self.survey();
    }

    /// SIGCONT.
    pub fn resume(&mut self, h: usize) {
        if std::mem::replace(&mut self.hosts[h].paused, false) {
            self.tell(|| format!("server {h} goes on"));
            self.wake(h);
            self.survey();
        }
    }

    /// How long a password thread takes.
    pub fn draw_hash_time(&mut self) -> Duration {
        ms(self.rng.between(1, 40))
    }
}
