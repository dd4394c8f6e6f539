//! A turn of a server in a cluster, as [`crate::node`] describes it.

use super::cluster::Cluster;
use super::host::{Host, Notice, PORT, Sock, address, host_named, hostname};
use super::pipe::{Owner, PipeId};
use super::schedule::{Event, us};
use crate::base::id::{LinkId, ServerId};
use crate::base::time::Time;
use crate::node::{Action, HashJob, HashTask, Hashed, Input, Node, Reading, Record};
use crate::wire::{frame::Frames, line::Lines, line::Split};

/// Turns at one instant without which a loop spins.
const SPINS_MAX: u32 = 1_000;
/// Writes in one turn above which it never ends.
const WRITES_MAX: u32 = 200_000;
/// Bytes of a public key, which is all the proof there is here.
const KEY: usize = 32;

impl Cluster {
    pub(super) fn on_turn(&mut self, h: usize) {
        let now = self.now();
        let host = &mut self.hosts[h];
        if host.turn_at != Some(now) || !host.is_running() {
            return;
        }
        host.turn_at = None;
        let Some(mut node) = host.node.take() else { return };
        let inbox = std::mem::take(&mut host.inbox);
        node.set_wall(host.wall_ms(now));
        node.handle(now, Input::Time);
        self.turn_of_disk(h);
        let mut readable: Vec<LinkId> =
            inbox.into_iter().filter_map(|notice| self.take_notice(&mut node, h, notice)).collect();
        // Peers are read before clients.
        readable.sort_by_key(|link| self.hosts[h].socks.get(link).is_none_or(|sock| sock.peer.is_none()));
        readable.into_iter().for_each(|link| self.read(&mut node, h, link, false));
        self.act(&mut node, h);
        loop {
            self.flush(&mut node, h);
            if !self.act(&mut node, h) {
                break;
            }
        }
        self.sleep(&node, h);
        self.hosts[h].node = Some(node);
        self.end_if_stopped(h);
        if self.links.is_stale {
            self.survey();
        }
    }

    fn sleep(&mut self, node: &Node, h: usize) {
        let now = self.now();
        let wait = node.timeout(now);
        let spins = if wait.is_some_and(|wait| wait.is_zero()) { self.hosts[h].spins + 1 } else { 0 };
        self.hosts[h].spins = spins;
        if spins == SPINS_MAX {
            self.violate("a node's deadlines move on", format!("server {h} is due at once, for ever"));
        }
        // The sooner of a deadline, met a little late, and what came in.
        if let Some(wait) = wait {
            let late = us(self.rng.below(self.swarm.late_us.min(1_000)));
            self.wake_later(h, now + wait + late);
        }
        if let Some(at) = self.disk_deadline(h) {
            self.wake_later(h, at);
        }
        if !self.hosts[h].inbox.is_empty() {
            let late = us(self.rng.below(self.swarm.late_us) + 1);
            self.wake_later(h, now + late);
        }
    }

    /// As [`Cluster::wake_at`], inside a turn.
    fn wake_later(&mut self, h: usize, at: Time) {
        let host = &mut self.hosts[h];
        if host.turn_at.is_none_or(|t| t > at) {
            host.turn_at = Some(at);
            self.schedule.set(at, Event::Turn(h));
        }
    }

    /// Gives the node what happened. Returns a link that is to be read.
    fn take_notice(&mut self, node: &mut Node, h: usize, notice: Notice) -> Option<LinkId> {
        let now = self.now();
        match notice {
            Notice::Readable(link) => return Some(link),
            Notice::Accept(pipe) => {
                let from = match self.pipes[pipe].owners[0] {
                    Owner::Host(other, _) => address(other),
                    Owner::User(user) => address(1000 + user),
                    Owner::Tap => address(9999),
                };
                let link = node.connect(now, from);
                self.hosts[h].add_sock(link, pipe, 1);
                self.pipes[pipe].links[1] = Some(link);
                return Some(link);
            }
            Notice::Unblocked(link) => node.unblocked(link),
            Notice::Refused(link) => {
                if self.hosts[h].dialling.remove(&link).is_some() {
                    node.handle(now, Input::Closed { link, unacknowledged: 0 });
                }
            }
            Notice::Dialled(link, pipe) => match self.hosts[h].dialling.remove(&link) {
                Some(hello) => {
                    self.hosts[h].add_sock(link, pipe, 0);
                    self.write(pipe, 0, &hello);
                }
                None => self.close(pipe, 0),
            },
            Notice::Input(input) => node.handle(now, input),
            Notice::Hashed(link, hashed) => node.handle(now, Input::Hashed(link, hashed)),
            Notice::Redirect(link, to) => {
                self.judge.mark("a user was sent to another server");
                node.redirect(now, link, &hostname(to), PORT);
            }
        }
        None
    }

    /// Bytes of the shell's own.
    fn write(&mut self, pipe: PipeId, side: usize, bytes: &[u8]) {
        let now = self.now();
        self.pipes[pipe].flows[side].write(now, &[bytes]);
        self.kick(pipe, side);
    }

    /// Gives the node what came on a link, as far as it wants it: all of it if `dry`, else what a turn allows.
    fn read(&mut self, node: &mut Node, h: usize, link: LinkId, dry: bool) {
        let now = self.now();
        let mut budget = if dry { usize::MAX } else { self.swarm.turn_bytes };
        let mut is_new = true;
        loop {
            let Some(sock) = self.hosts[h].socks.get_mut(&link) else { return };
            let (pipe, side) = (sock.pipe, sock.side);
            let flow = &mut self.pipes[pipe].flows[1 - side];
            let n = flow.unread().len().min(budget);
            let reading = node.reading(link);
            if reading == Reading::Hold {
                return;
            }
            let held = if matches!(reading, Reading::Take(_)) { sock.lines.len() } else { sock.frames.len() };
            if n == 0 && (held == 0 || !is_new) {
                break;
            }
            let chunk = flow.unread()[..n].to_vec();
            match reading {
                Reading::Hold => {}
                Reading::Discard => {
                    sock.lines.reset(0);
                    flow.consume(n);
                }
                Reading::Prove => {
                    if n < KEY {
                        break;
                    }
                    flow.consume(KEY);
                    self.joined(node, h, link, &chunk);
                    is_new = true;
                    continue;
                }
                Reading::Take(limit) => {
                    flow.consume(n);
                    let mut lines = std::mem::take(&mut sock.lines);
                    let from = self.pipes[pipe].owners[1 - side];
                    let split = lines.feed(&chunk, limit, |line| self.line(node, h, link, from, line));
                    if let Some(sock) = self.hosts[h].socks.get_mut(&link) {
                        sock.lines = lines;
                    }
                    match split {
                        Split::Overlong => node.handle(now, Input::Overlong(link)),
                        Split::Stopped => {
                            self.kick(pipe, 1 - side);
                            is_new = true;
                            if node.reading(link) == Reading::Hold {
                                self.judge.mark("a line was held");
                                return;
                            }
                            continue;
                        }
                        Split::Dry => {}
                    }
                }
                Reading::Frames(_) => {
                    flow.consume(n);
                    let mut frames = std::mem::take(&mut sock.frames);
                    let fed = frames.feed(&chunk, |frame| self.frame(node, h, link, frame));
                    if let Some(sock) = self.hosts[h].socks.get_mut(&link) {
                        sock.frames = frames;
                    }
                    if let Err(bad) = fed {
                        self.violate("servers send frames", format!("server {h}, link {link}: {bad:?}"));
                    }
                }
            }
            is_new = false;
            budget -= n;
            self.kick(pipe, 1 - side);
        }
        let Some(sock) = self.hosts[h].socks.get_mut(&link) else { return };
        let (pipe, side) = (sock.pipe, sock.side);
        let p = &self.pipes[pipe];
        if !p.flows[1 - side].unread().is_empty() && node.reading(link) != Reading::Prove {
            self.hosts[h].inbox.push(Notice::Readable(link));
        } else if p.flows[1 - side].is_over() && !std::mem::replace(&mut sock.end_told, true) {
            if node.reading(link) == Reading::Prove {
                return self.drop_sock(node, h, link);
            }
            node.handle(now, Input::Eof(link));
        } else if p.reset[side] {
            self.drop_sock(node, h, link);
        }
    }

    /// The other end of a link between servers has shown its key.
    fn joined(&mut self, node: &mut Node, h: usize, link: LinkId, key: &[u8]) {
        let now = self.now();
        let key: [u8; KEY] = std::array::from_fn(|i| key[i]);
        let Some(sock) = self.hosts[h].socks.get(&link) else { return };
        let (pipe, side) = (sock.pipe, sock.side);
        let Owner::Host(other, _) = self.pipes[pipe].owners[1 - side] else { return };
        if side == 0 {
            let own = self.key(h);
            self.write(pipe, 0, &own);
        }
        if let Some(sock) = self.hosts[h].socks.get_mut(&link) {
            sock.peer = Some(other);
        }
        let server = ServerId(std::array::from_fn(|i| key[i]));
        node.handle(now, Input::Joined { link, server, key, address: address(other) });
    }

    fn key(&self, h: usize) -> [u8; KEY] {
        self.hosts[h].identity.expect("it was started").key
    }

    /// Does what the node wants. False if there was nothing.
    fn act(&mut self, node: &mut Node, h: usize) -> bool {
        let now = self.now();
        let mut any = false;
        while let Some(action) = node.action() {
            any = true;
            match action {
                Action::Hash(job) => {
                    let wait = self.draw_hash_time();
                    let (boot, hashed) = (self.hosts[h].boot, hash(&job));
                    self.schedule.after(wait, Event::Hashed { host: h, boot, link: job.link, hashed });
                }
                Action::Settle { session, errand } => {
                    self.read(node, h, session, true);
                    let (unacknowledged, stalled) = self.unacknowledged(h, session);
                    node.handle(now, Input::Settled { session, errand, unacknowledged, stalled });
                }
                Action::Read { offset, length } => self.ask_read(h, offset, length),
                Action::Commit { ticket, rows, .. } => self.ask_commit(h, ticket, rows),
                Action::Measure(session) => {
                    let (unacknowledged, _) = self.unacknowledged(h, session);
                    node.handle(now, Input::Confirmed { session, unacknowledged });
                }
                Action::Resume(link) => self.read(node, h, link, false),
                Action::ResumeAll => {
                    let links: Vec<LinkId> = self.hosts[h].socks.keys().copied().collect();
                    links.into_iter().for_each(|link| self.read(node, h, link, false));
                }
                Action::Shutdown(link) => {
                    if let Some((pipe, side)) = self.hosts[h].pipe_of(link) {
                        self.shut(pipe, side);
                        self.read(node, h, link, false);
                    }
                }
                Action::Close(link) => self.drop_sock(node, h, link),
                Action::Dial { link, hostname, hello, .. } => self.dial(h, link, &hostname, hello),
                Action::Spawn { ticket } => self.spawn(h, ticket),
                Action::Retire => self.retire(h),
                Action::Upgrade { link, .. } => {
                    let own = self.key(h);
                    match self.hosts[h].pipe_of(link) {
                        Some((pipe, side)) if matches!(self.pipes[pipe].owners[0], Owner::Host(..)) => {
                            self.write(pipe, side, &own);
                            self.read(node, h, link, false);
                        }
                        _ => node.handle(now, Input::Unproven(link)),
                    }
                }
            }
        }
        any
    }

    fn dial(&mut self, h: usize, link: LinkId, hostname: &str, hello: Vec<u8>) {
        self.hosts[h].dialling.insert(link, hello);
        let Some(to) = host_named(hostname).filter(|to| *to < self.hosts.len()) else {
            return self.hosts[h].inbox.push(Notice::Refused(link));
        };
        let boot = self.hosts[h].boot;
        let pipe = self.open_pipe(Owner::Host(h, boot), Owner::Host(to, usize::MAX));
        self.pipes[pipe].links[0] = Some(link);
    }

    fn unacknowledged(&mut self, h: usize, link: LinkId) -> (u64, bool) {
        let now = self.now();
        let Some((pipe, side)) = self.hosts[h].pipe_of(link) else { return (0, false) };
        let reachable = self.is_reachable(pipe);
        let flow = &mut self.pipes[pipe].flows[side];
        (flow.unacknowledged(now), flow.stalled(now, reachable))
    }

    fn flush(&mut self, node: &mut Node, h: usize) {
        let now = self.now();
        let mut writes = 0;
        self.append(node, h);
        while let Some(link) = node.writable() {
            writes += 1;
            if writes > WRITES_MAX {
                self.violate("a turn ends", format!("server {h} writes to {link} for ever"));
                return;
            }
            let Some((pipe, side)) = self.hosts[h].pipe_of(link) else {
                node.handle(now, Input::Closed { link, unacknowledged: 0 });
                continue;
            };
            if self.pipes[pipe].reset[side] {
                self.drop_sock(node, h, link);
                continue;
            }
            let transmit = node.transmit(link);
            let offered = transmit.bytes();
            let mut n = self.pipes[pipe].flows[side].write(now, &transmit.parts);
            transmit.parts.iter().for_each(|part| self.schedule.note_bytes(part));
            match self.pipes[pipe].owners[1 - side] {
                Owner::User(_) => self.note_success(pipe, side, n),
                Owner::Tap => n = offered,
                Owner::Host(..) => {}
            }
            node.sent(link, n);
            if n < offered {
                self.judge.mark("a link was blocked");
                node.blocked(link);
                self.await_room(pipe, side);
            }
            if self.pipes[pipe].owners[1 - side] == Owner::Tap {
                self.tapped(h, pipe);
            } else {
                self.kick(pipe, side);
            }
        }
    }

    /// Closes the socket and says what did not arrive.
    pub(super) fn drop_sock(&mut self, node: &mut Node, h: usize, link: LinkId) {
        let now = self.now();
        let mut unacknowledged = 0;
        if let Some(sock) = self.hosts[h].socks.remove(&link) {
            unacknowledged = self.pipes[sock.pipe].flows[sock.side].unacknowledged(now);
            if self.pipes[sock.pipe].reset[sock.side] {
                self.judge.mark("a connection was reset");
            }
            self.links.is_stale |= sock.peer.is_some();
            self.close(sock.pipe, sock.side);
            self.tap_again(h, sock.pipe);
        } else if self.hosts[h].dialling.remove(&link).is_none() {
            return;
        }
        node.handle(now, Input::Closed { link, unacknowledged });
    }
}

impl Host {
    fn add_sock(&mut self, link: LinkId, pipe: PipeId, side: usize) {
        let sock = Sock {
            pipe,
            side,
            lines: Lines::default(),
            frames: Frames::default(),
            peer: None,
            greeted: None,
            heard_at: Time::START,
            end_told: false,
        };
        self.socks.insert(link, sock);
    }

    pub(super) fn pipe_of(&self, link: LinkId) -> Option<(PipeId, usize)> {
        self.socks.get(&link).map(|sock| (sock.pipe, sock.side))
    }
}

/// A stand-in for Argon2id: it is the shell's business what a digest is.
pub fn hash(job: &HashJob) -> Hashed {
    let mut digest = [0; 32];
    digest.iter_mut().zip(job.secret.iter()).for_each(|(to, from)| *to = *from);
    match &job.task {
        HashTask::Make { kib, passes } => {
            Hashed::Made(Record { salt: [0; 16], digest, kib: *kib, passes: *passes })
        }
        HashTask::Verify(record) => Hashed::Verified(record.digest == digest),
    }
}
