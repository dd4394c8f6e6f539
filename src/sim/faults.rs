//! What befalls servers and the ways between them, and how it is mended. One at a time: the guarantees are
//! about one fault, and two at once excuse nearly everything.

use std::time::Duration;

use super::cluster::Cluster;
use super::disk::Fate;
use super::schedule::{Event, ms};
use super::swarm::Class;

/// How a fault is mended.
#[derive(Clone, Debug)]
enum Remedy {
    Boot {
        host: usize,
        loses_key: bool,
    },
    Resume(usize),
    Restart(usize),
    /// The disk takes something again.
    Room(usize),
    /// Walls, each from one to another.
    Open(Vec<(usize, usize)>),
}

/// How long all are linked before a server goes.
pub(super) const MESHED: Duration = Duration::from_millis(1_200);

#[derive(Debug)]
pub(super) struct Fault {
    remedy: Option<Remedy>,
}

impl Cluster {
    /// Something goes wrong, and later the next thing.
    pub(super) fn on_fault(&mut self) {
        if self.healed.is_some() {
            return;
        }
        if self.is_any_stopping() {
            return self.schedule.after(ms(200), Event::Fault);
        }
        let classes: Vec<Class> = self.swarm.classes.iter().filter(|class| self.can_befall(*class)).collect();
        // Who logs in for the first time takes what another device of its name is owed.
        let all_came = self.users.iter().all(|user| !user.is_shared || user.joined.is_some());
        if classes.is_empty() || !all_came {
            return self.schedule.after(ms(200), Event::Fault);
        }
        let class = *self.rng.choose(&classes);
        let lasts =
            if self.rng.chance(50) { self.rng.between(60, 900) } else { self.rng.between(900, 8_000) };
        self.tell(|| format!("fault: {} for {lasts} ms", class.label()));
        self.judge.mark(class.label());
        let remedy = self.befall(class);
        self.links.is_stale = true;
        self.lose_acks();
        self.survey();
        let n = self.faults.len();
        self.faults.push(Fault { remedy: Some(remedy) });
        self.schedule.after(ms(lasts), Event::Mend(n));
        let (low, high) = self.swarm.pause_ms;
        let pause = self.rng.between(low, high);
        self.schedule.after(ms(lasts + pause), Event::Fault);
    }

    /// A second copy of everything is kept on one other server only, so two must not go one after the other.
    fn can_befall(&self, class: Class) -> bool {
        let n = self.hosts.len();
        match class {
            Class::Drain => n > 1 && self.is_meshed() && self.meshed_for(MESHED),
            Class::Kill | Class::Vanish | Class::Power => {
                n > 1 && self.is_meshed() && self.meshed_for(MESHED) && self.is_kept()
            }
            Class::All => self.is_meshed() && (n == 1 || self.meshed_for(MESHED)) && self.is_kept(),
            Class::Full => true,
            Class::Pause => true,
            Class::Newcomer => n < 7,
            Class::Cut | Class::OneWay | Class::Part | Class::Flaky => n > 1,
            _ => false,
        }
    }

    fn befall(&mut self, class: Class) -> Remedy {
        let n = self.hosts.len();
        let any = self.rng.below(n as u64) as usize;
        let other = (any + 1 + self.rng.below(n.max(2) as u64 - 1) as usize) % n;
        match class {
            Class::Kill if self.rng.chance(50) => {
                self.ambush = true;
                Remedy::Open(Vec::new())
            }
            Class::Kill | Class::Vanish | Class::Power => {
                let loses_key = self.has(Class::Newcomer) && self.rng.chance(50);
                let fate = match class {
                    Class::Power => Fate::Synced,
                    Class::Kill if self.rng.chance(65) => Fate::Written,
                    _ => Fate::Empty,
                };
                self.crash(any, class != Class::Kill, fate);
                Remedy::Boot { host: any, loses_key }
            }
            Class::Drain => {
                self.drain(any);
                Remedy::Restart(any)
            }
            Class::All => self.kill_all(any),
            Class::Full => {
                self.hosts[any].disk.is_full = true;
                Remedy::Room(any)
            }
            Class::Pause => {
                self.pause(any);
                Remedy::Resume(any)
            }
            Class::Newcomer => {
                self.add_host(None);
                Remedy::Open(Vec::new())
            }
            Class::Flaky => {
                self.reset_between(&[(any, other), (other, any)]);
                Remedy::Open(Vec::new())
            }
            Class::Cut => self.wall(vec![(any, other), (other, any)]),
            Class::OneWay => self.wall(vec![(any, other)]),
            _ => {
                let side: Vec<bool> =
                    (0..n).map(|i| i != other && (i == any || self.rng.chance(50))).collect();
                let pairs = (0..n).flat_map(|a| (0..n).map(move |b| (a, b)));
                self.wall(pairs.filter(|(a, b)| side[*a] != side[*b]).collect())
            }
        }
    }

    /// All servers end at once. One of them may lose its disk.
    fn kill_all(&mut self, last: usize) -> Remedy {
        let n = self.hosts.len();
        let is_power = self.has(Class::Power) && self.rng.chance(50);
        let lost = if n > 1 && self.rng.chance(25) { self.rng.below(n as u64) as usize } else { n };
        for host in 0..n {
            let fate = match is_power {
                _ if host == lost => Fate::Empty,
                true => Fate::Synced,
                false => Fate::Written,
            };
            self.crash(host, is_power, fate);
            if host != last {
                self.faults.push(Fault { remedy: Some(Remedy::Boot { host, loses_key: false }) });
                let lasts = self.rng.between(60, 4_000);
                self.schedule.after(ms(lasts), Event::Mend(self.faults.len() - 1));
            }
        }
        Remedy::Boot { host: last, loses_key: false }
    }

    /// All disks have what they should.
    fn is_kept(&self) -> bool {
        let nodes = || self.hosts.iter().filter_map(|host| host.node.as_ref());
        self.hosts.iter().all(|host| !host.disk.is_full) && !nodes().any(|node| node.is_degraded())
    }

    /// A server took a login while one was waited for.
    pub(super) fn on_strike(&mut self, host: usize) {
        let is_fit = self.healed.is_none()
            && !self.is_any_stopping()
            && self.hosts.len() > 1
            && self.hosts[host].is_running()
            && self.is_meshed()
            && self.is_kept();
        if is_fit && self.meshed_for(MESHED) {
            self.judge.mark("a server was killed in the middle of a login");
            let fate = if self.rng.chance(65) { Fate::Written } else { Fate::Empty };
            self.crash(host, false, fate);
            let n = self.faults.len();
            self.faults.push(Fault { remedy: Some(Remedy::Boot { host, loses_key: false }) });
            let lasts = self.rng.between(100, 3_000);
            self.schedule.after(ms(lasts), Event::Mend(n));
        }
    }

    /// Closes ways, with or without a word to the programs.
    fn wall(&mut self, ways: Vec<(usize, usize)>) -> Remedy {
        if self.rng.chance(40) {
            self.reset_between(&ways);
        }
        ways.iter().for_each(|(from, to)| self.walls[*from][*to] += 1);
        self.tell(|| format!("nothing gets through {ways:?}"));
        Remedy::Open(ways)
    }

    /// Breaks the connections between these.
    fn reset_between(&mut self, ways: &[(usize, usize)]) {
        for h in 0..self.hosts.len() {
            let socks = self.hosts[h].socks.values();
            let hit: Vec<(usize, usize)> = socks
                .filter(|sock| sock.peer.is_some_and(|peer| ways.contains(&(h, peer))))
                .map(|sock| (sock.pipe, sock.side))
                .collect();
            for (pipe, side) in hit {
                self.pipes[pipe].flows[side].drop_rest();
                self.pipes[pipe].flows[1 - side].drop_rest();
                self.schedule.after(ms(0), Event::Reset(pipe, side));
                self.schedule.after(ms(0), Event::Reset(pipe, 1 - side));
            }
        }
    }

    pub(super) fn on_mend(&mut self, n: usize) {
        let Some(remedy) = self.faults[n].remedy.take() else { return };
        self.tell(|| format!("mended: {remedy:?}"));
        match remedy {
            Remedy::Boot { host, loses_key } => {
                if !self.hosts[host].is_up() {
                    self.boot(host, loses_key);
                }
            }
            Remedy::Resume(host) => self.resume(host),
            Remedy::Restart(host) => self.restart(host, n),
            Remedy::Room(host) => self.hosts[host].disk.is_full = false,
            Remedy::Open(ways) => ways.iter().for_each(|(from, to)| self.walls[*from][*to] -= 1),
        }
        self.retransmit();
        self.survey();
    }

    /// It cannot be mended yet.
    pub(super) fn mend_later(&mut self, n: usize, host: usize) {
        self.faults[n].remedy = Some(Remedy::Restart(host));
        self.schedule.after(ms(100), Event::Mend(n));
    }

    /// All that is wrong goes right.
    pub fn mend_everything(&mut self) {
        for n in 0..self.faults.len() {
            self.on_mend(n);
        }
    }

    /// Wall clocks jump.
    pub fn jump_clock(&mut self) {
        let h = self.rng.below(self.hosts.len() as u64) as usize;
        let by = match self.rng.below(4) {
            0 => self.rng.between(0, 200_000) as i64 - 100_000,
            _ => self.rng.between(0, 6_000) as i64 - 3_000,
        };
        self.judge.mark("a wall clock jumped");
        self.tell(|| format!("the clock of server {h} jumps by {by} ms"));
        self.hosts[h].skew_ms += by;
    }
}
