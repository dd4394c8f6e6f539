//! What one seed is about: which faults there are and how often, how many servers and clients of which
//! kinds. All of it follows from the seed.
//!
//! Seeds that have everything at once find little: a fault hides the next. So each has a few classes only.

use std::fmt;
use std::time::Duration;

use super::ids;
use crate::base::rng::Rng;

/// A kind of trouble, or of behaviour that makes some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A server's process is killed, and started again without what it knew.
    Kill,
    /// A server's machine is gone without a word.
    Vanish,
    /// A server is stopped for a while; its kernel goes on.
    Pause,
    /// Two servers do not reach each other.
    Cut,
    /// One server does not hear another, which hears it.
    OneWay,
    /// Groups of servers do not reach each other.
    Part,
    /// The connection between two servers is reset and can be made again at once.
    Flaky,
    /// A server starts late, or under a new key after it was killed.
    Newcomer,
    /// Turns come late.
    Busy,
    /// Long ways between all.
    Wan,
    /// Bytes arrive in pieces, and are read in pieces.
    Chunks,
    /// Small kernel buffers.
    Tiny,
    /// Clients that are gone without a word.
    HalfOpen,
    /// Clients that break off and come back anywhere.
    Break,
    /// Clients that read slowly.
    Slow,
    /// Users are sent to other servers.
    Move,
    /// Users log out and come back.
    Logout,
    /// Wall clocks differ and jump.
    Skew,
    /// Two want the same name.
    Rivals,
    /// A server is stopped in good order, sends its clients away first, and starts again.
    Drain,
    /// A server's machine dies: what was not synced is lost.
    Power,
    /// All servers are killed at once, and started again in any order.
    All,
    /// A server's disk takes nothing for a while.
    Full,
    /// Disks are slow.
    SlowDisk,
    /// Little of the feed is in memory, or on disk.
    Small,
    /// Servers share their clients, which knock at one of them.
    Balance,
    /// They start others when they are full.
    Spawn,
    /// Some clients have ids, and hear and are heard without a fault.
    Ids,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 28] = [
        Class::Kill,
        Class::Vanish,
        Class::Pause,
        Class::Cut,
        Class::OneWay,
        Class::Part,
        Class::Flaky,
        Class::Newcomer,
        Class::Busy,
        Class::Wan,
        Class::Chunks,
        Class::Tiny,
        Class::HalfOpen,
        Class::Break,
        Class::Slow,
        Class::Move,
        Class::Logout,
        Class::Skew,
        Class::Rivals,
        Class::Drain,
        Class::Power,
        Class::All,
        Class::Full,
        Class::SlowDisk,
        Class::Small,
        Class::Balance,
        Class::Spawn,
        Class::Ids,
    ];

    /// Those that befall servers, one after the other.
    const OF_SERVERS: [Class; 11] = [
        Class::Kill,
        Class::Vanish,
        Class::Pause,
        Class::Cut,
        Class::OneWay,
        Class::Part,
        Class::Flaky,
        Class::Newcomer,
        Class::Power,
        Class::All,
        Class::Full,
    ];

    /// Its name on the command line and in summaries.
    pub fn label(self) -> &'static str {
        match self {
            Class::Kill => "kill",
            Class::Vanish => "vanish",
            Class::Pause => "pause",
            Class::Cut => "cut",
            Class::OneWay => "one-way",
            Class::Part => "part",
            Class::Flaky => "flaky",
            Class::Newcomer => "newcomer",
            Class::Busy => "busy",
            Class::Wan => "wan",
            Class::Chunks => "chunks",
            Class::Tiny => "tiny",
            Class::HalfOpen => "half-open",
            Class::Break => "break",
            Class::Slow => "slow",
            Class::Move => "move",
            Class::Logout => "logout",
            Class::Skew => "skew",
            Class::Rivals => "rivals",
            Class::Drain => "drain",
            Class::Power => "power",
            Class::All => "all",
            Class::Full => "full",
            Class::SlowDisk => "slow-disk",
            Class::Small => "small",
            Class::Balance => "balance",
            Class::Spawn => "spawn",
            Class::Ids => "ids",
        }
    }

    /// What is counted when it hits; nothing for those that cannot miss.
    pub fn mark(self) -> Option<&'static str> {
        match self {
            Class::Busy | Class::Wan => None,
            Class::Chunks => Some("bytes arrived in pieces"),
            Class::Tiny => Some("a blocked link took bytes again"),
            Class::Slow => Some("a client read slowly"),
            Class::Skew => Some("a wall clock jumped"),
            Class::Drain => Some("a server was drained"),
            Class::Small => Some("a piece of a journal was read"),
            Class::Balance => Some("a client was sent to a server with fewer"),
            Class::Spawn => Some("a server was started"),
            Class::Ids => Some("messages were said again"),
            other => Some(other.label()),
        }
    }

    /// The class of this name.
    pub fn from_label(label: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|class| class.label() == label)
    }
}

/// A set of classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classes(u32);

impl Classes {
    /// All.
    pub const ALL: Classes = Classes((1 << Class::ALL.len()) - 1);

    /// True if `class` is one of them.
    pub fn has(self, class: Class) -> bool {
        self.0 >> class as u32 & 1 == 1
    }

    /// With one more.
    #[must_use]
    pub fn with(self, class: Class) -> Classes {
        Classes(self.0 | 1 << class as u32)
    }

    /// Those in both.
    #[must_use]
    pub fn and(self, other: Classes) -> Classes {
        Classes(self.0 & other.0)
    }

    /// All that are in it.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |class| self.has(*class))
    }
}

impl FromIterator<Class> for Classes {
    fn from_iter<I: IntoIterator<Item = Class>>(all: I) -> Classes {
        all.into_iter().fold(Classes::default(), Classes::with)
    }
}

impl fmt::Display for Classes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels: Vec<&str> = self.iter().map(Class::label).collect();
        f.write_str(if labels.is_empty() { "none" } else { "" })?;
        f.write_str(&labels.join(","))
    }
}

const DRAIN_CHANCE: u64 = 0xd4a1_0000_0000_0000;

/// The choice of one seed.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// What goes wrong.
    pub classes: Classes,
    /// Servers, newcomers not counted.
    pub servers: usize,
    /// Registered names with one client each.
    pub users: usize,
    /// Registered names with two or three.
    pub shared: usize,
    /// Anonymous clients.
    pub anonymous: usize,
    /// How long there are faults.
    pub safety: Duration,
    /// The time between two things a client does, in milliseconds: at least, at most.
    pub gap_ms: (u64, u64),
    /// The time between the end of a fault and the next.
    pub pause_ms: (u64, u64),
    /// The way between two machines, in microseconds.
    pub way_us: (u64, u64),
    /// How late turns are, in microseconds.
    pub late_us: u64,
    /// Bytes of a kernel's send buffer, and of its receive buffer.
    pub buffers: (u64, u64),
    /// Bytes read from a link in a turn.
    pub turn_bytes: usize,
    /// Bytes of the feed in memory.
    pub feed_bytes: usize,
    /// Bytes of it on disk, and of one file there.
    pub retention: (u64, u64),
    /// Clients a server should have at most.
    pub max_clients: Option<usize>,
}

/// What makes the choice of [`Class::Balance`] one of its own, so that seeds without it play what they played
/// before there was any.
const BALANCE_CHANCE: u64 = 0xba1a_0000_0000_0000;

impl Swarm {
    /// What follows from `rng`, of `allowed` classes only.
    pub fn draw(rng: &mut Rng, allowed: Classes) -> Swarm {
        // By chances of their own, so that seeds without them play what they played before there were any.
        let drains = Rng::new(rng.clone().draw() ^ DRAIN_CHANCE).chance(15);
        let has_ids = ids::are_there(rng);
        let mut own_chance = Rng::new(rng.clone().draw() ^ BALANCE_CHANCE);
        let of_loads = |class: &Class| matches!(class, Class::Balance | Class::Spawn);
        let own = |class: &Class| Class::OF_SERVERS.contains(class) || of_loads(class);
        let faults: Vec<Class> = allowed.iter().filter(|class| own(class) && !of_loads(class)).collect();
        let mut classes = Classes::default();
        if !faults.is_empty() {
            for _ in 0..[0, 1, 1, 1, 1, 1, 2, 2, 3][rng.below(9) as usize] {
                classes = classes.with(*rng.choose(&faults));
            }
        }
        for (class, _) in [(Class::Drain, drains), (Class::Ids, has_ids)].into_iter().filter(|(_, has)| *has)
        {
            classes = classes.with(class).and(allowed);
        }
        let is_drawn = |class: &Class| matches!(class, Class::Drain | Class::Ids);
        for class in allowed.iter().filter(|class| !own(class) && !is_drawn(class)) {
            let percent = match class {
                Class::Move | Class::Break => 60,
                Class::Busy | Class::Wan | Class::Tiny | Class::SlowDisk => 15,
                _ => 25,
            };
            if rng.chance(percent) {
                classes = classes.with(class);
            }
        }
        let servers = [1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 6, 7][rng.below(12) as usize];
        let crowd = rng.chance(5);
        let users = rng.between(1, if crowd { 24 } else { 5 }) as usize;
        let shared = rng.below(if crowd { 5 } else { 3 }) as usize;
        let anonymous = rng.below(if crowd { 6 } else { 3 }) as usize;
        let clients = (users + 2 * shared + anonymous) as u64;
        let gap = 20 + clients * 5;
        let way_us = if classes.has(Class::Wan) { (2_000, rng.between(5_000, 20_000)) } else { (50, 900) };
        let tiny = classes.has(Class::Tiny);
        let buffers =
            if tiny { (rng.between(600, 4_000), rng.between(600, 4_000)) } else { (1 << 18, 1 << 18) };
        let turn_bytes = if classes.has(Class::Chunks) { rng.between(200, 4_000) as usize } else { 64 << 10 };
        let is_small = classes.has(Class::Small);
        let feed_bytes = if is_small { 1 << rng.between(14, 15) } else { 1 << 20 };
        let retention = match is_small && rng.chance(50) {
            true => rng.between(40_000, 120_000),
            false => 1 << 30,
        };
        let retention = (retention, rng.between(4_000, 30_000));
        let turn_bytes = if is_small { turn_bytes.min(feed_bytes / 32) } else { turn_bytes };
        let swarm = Swarm {
            classes,
            servers,
            users,
            shared,
            anonymous,
            safety: Duration::from_millis(rng.between(6_000, 12_000)),
            gap_ms: (gap, gap + rng.between(50, 250)),
            pause_ms: if rng.chance(25) { (50, 900) } else { (1_500, 3_500) },
            way_us,
            late_us: if classes.has(Class::Busy) { 15_000 } else { 2_000 },
            buffers,
            turn_bytes,
            feed_bytes,
            retention,
            max_clients: None,
        };
        // Asked for by name, most seeds have it.
        let share = if allowed == Classes::ALL { 8 } else { 60 };
        if !allowed.has(Class::Balance) || !own_chance.chance(share) {
            return swarm;
        }
        let swarm = swarm.balanced(&mut own_chance, allowed);
        match allowed.has(Class::Spawn) && own_chance.chance(35) {
            true => swarm.growing(&mut own_chance),
            false => swarm,
        }
    }

    /// The same with servers that share their clients, of which there are more then. Servers join and die
    /// meanwhile more often; what makes loads that only servers see, and whatever else sends clients on, is not
    /// in it.
    pub fn balanced(mut self, rng: &mut Rng, allowed: Classes) -> Swarm {
        let without = [Class::HalfOpen, Class::Move, Class::Balance];
        self.classes = self.classes.iter().filter(|class| !without.contains(class)).collect();
        for class in [Class::Kill, Class::Newcomer].into_iter().filter(|class| allowed.has(*class)) {
            if rng.chance(40) {
                self.classes = self.classes.with(class);
            }
        }
        self.classes = self.classes.with(Class::Balance);
        self.servers = self.servers.clamp(2, 5);
        // What many say is too much for servers with tiny sockets: no answer comes in time.
        let most = if self.classes.has(Class::Tiny) { 8 } else { 24 };
        self.users = rng.between(4, most) as usize;
        let gap = 20 + (self.users + 2 * self.shared + self.anonymous) as u64 * 5;
        self.gap_ms = (gap, gap + rng.between(50, 250));
        // Room for all, also if who cannot be moved is on one server, with the simulator's own client.
        let even = (self.users + 3 * self.shared + 6).div_ceil(self.servers);
        self.max_clients = rng.chance(50).then_some(even + self.anonymous + 2);
        self
    }

    /// The same with few servers, which should have fewer clients than come, and start others.
    pub fn growing(mut self, rng: &mut Rng) -> Swarm {
        self.classes = self.classes.iter().filter(|class| *class != Class::Tiny).collect();
        self.classes = self.classes.with(Class::Spawn);
        self.servers = rng.between(1, 3) as usize;
        self.anonymous = self.anonymous.min(1);
        // One on each is the simulator's own.
        let room = rng.between(3, 5) as usize;
        self.max_clients = Some(room + 1);
        self.users = room * self.servers + rng.between(1, 2 * room as u64) as usize;
        self
    }
}

impl fmt::Display for Swarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} servers; {} users, {} shared names, {} anonymous; {:.1} s of {}",
            self.servers,
            self.users,
            self.shared,
            self.anonymous,
            self.safety.as_secs_f32(),
            self.classes,
        )
    }
}
