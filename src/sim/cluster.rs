//! A whole network in virtual time: servers, the ways between them, clients, faults. One seed says it all.
//!
//! 1. *Safety*: clients talk and things go wrong.
//! 2. Everything is mended.
//! 3. *Liveness*: all must be well again within a bound, and everybody must have heard everything.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::faults::Fault;
use super::host::Host;
use super::judge::Judge;
use super::ledger::Ledger;
use super::links::Links;
use super::pipe::{Pipe, PipeId};
use super::schedule::{Event, Schedule, ms};
use super::spawn::Start;
use super::swarm::{Class, Classes, Swarm};
use super::user::{Talk, User};
use crate::base::limits::PREV_WAIT_MAX;
use crate::base::rng::Rng;
use crate::base::time::Time;
use crate::node::Mutation;

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What may go wrong; a seed chooses of these.
    pub classes: Classes,
    /// All of them in every seed.
    pub exactly: bool,
    /// A rule broken on purpose, on all servers. Without the feature `mutations` it is not.
    pub mutation: Option<Mutation>,
    /// Tell what happens.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { classes: Classes::ALL, exactly: false, mutation: None, verbose: false }
    }
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub promise: &'static str,
    /// When, and what happened.
    pub text: String,
}

/// What came of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What it chose.
    pub swarm: Swarm,
    /// Promises that were not kept.
    pub violations: Vec<Violation>,
    /// How often what happened.
    pub marks: BTreeMap<&'static str, u64>,
    /// What the nodes counted, all together.
    pub counted: BTreeMap<String, u64>,
    /// Of all that happened, in its order.
    pub hash: u64,
    /// What was told, if it was asked for.
    pub story: Vec<String>,
}

/// What happens in one seed.
pub(super) struct Cluster {
    pub options: Options,
    pub swarm: Swarm,
    pub rng: Rng,
    pub schedule: Schedule,
    pub hosts: Vec<Host>,
    pub pipes: Vec<Pipe>,
    pub users: Vec<User>,
    pub talks: BTreeMap<PipeId, Talk>,
    /// How many faults keep each server from each.
    pub walls: Vec<Vec<u32>>,
    pub faults: Vec<Fault>,
    /// The next server that takes a login is killed in its middle.
    pub ambush: bool,
    pub ledger: Ledger,
    pub judge: Judge,
    pub links: Links,
    /// When everything was mended.
    pub healed: Option<Time>,
    /// All was well, and everybody has said a last word.
    pub farewell: Option<Time>,
    /// Those whose old session is owed something were told to come again.
    pub called: bool,
    /// Servers that are being started, and when all clients left for good.
    pub starts: Vec<Start>,
    pub emptied: Option<Time>,
    pub is_over: bool,
}

/// How long everything may take to be well again; and where users must become even, at two a second.
pub(super) const LIVENESS: Duration = Duration::from_secs(20);
const EVENNESS: Duration = Duration::from_secs(45);

/// How long the last words may take: what is said first in a session waits for what its name said elsewhere, and
/// all comes behind the old messages that a server lacks which was started again.
const LAST_WORDS: Duration = Duration::from_secs(8).saturating_add(PREV_WAIT_MAX);

/// Runs one seed. A panic in it is a promise not kept, too.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut cluster = Cluster::new(seed, *options);
    let played = catch_unwind(AssertUnwindSafe(|| cluster.run()));
    if let Err(panic) = played {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        cluster.violate("nothing makes a node panic", text.unwrap_or_default());
    }
    let Cluster { swarm, schedule, hosts, mut judge, .. } = cluster;
    hosts.iter().filter_map(|host| host.node.as_ref()).for_each(|node| judge.count(node));
    judge.mark_count("events", schedule.count());
    Outcome {
        seed,
        swarm,
        violations: judge.violations,
        marks: judge.marks,
        counted: judge.counted,
        hash: schedule.hash(),
        story: judge.story,
    }
}

impl Cluster {
    fn new(seed: u64, options: Options) -> Cluster {
        let mut rng = Rng::new(seed ^ 0xac71_0000_0000_0000);
        let mut swarm = Swarm::draw(&mut rng, options.classes);
        if options.exactly {
            let mut own_chance = rng.clone();
            if options.classes.has(Class::Balance) && !swarm.classes.has(Class::Balance) {
                swarm = swarm.balanced(&mut own_chance, options.classes);
            }
            if options.classes.has(Class::Spawn) && !swarm.classes.has(Class::Spawn) {
                swarm = swarm.balanced(&mut own_chance, options.classes).growing(&mut own_chance);
            }
            swarm.classes = match options.classes.has(Class::Spawn) {
                true => options.classes.with(Class::Balance),
                false => options.classes,
            };
        }
        let mut cluster = Cluster {
            options,
            rng,
            schedule: Schedule::new(),
            hosts: Vec::new(),
            pipes: Vec::new(),
            users: Vec::new(),
            talks: BTreeMap::new(),
            walls: Vec::new(),
            faults: Vec::new(),
            ambush: false,
            ledger: Ledger::default(),
            judge: Judge::new(options.verbose),
            links: Links::default(),
            healed: None,
            farewell: None,
            called: false,
            starts: Vec::new(),
            emptied: None,
            is_over: false,
            swarm,
        };
        for _ in 0..cluster.swarm.servers {
            cluster.add_host(None);
        }
        cluster.add_users();
        let last = cluster.schedule.now + cluster.swarm.safety;
        cluster.schedule.set(last, Event::Look);
        cluster.schedule.after(ms(1_500), Event::Fault);
        cluster
    }

    pub fn now(&self) -> Time {
        self.schedule.now
    }

    pub fn has(&self, class: Class) -> bool {
        self.swarm.classes.has(class)
    }

    fn run(&mut self) {
        while !self.is_over
            && let Some(event) = self.schedule.next()
        {
            self.on(event);
        }
    }

    fn on(&mut self, event: Event) {
        match event {
            Event::Turn(host) => self.on_turn(host),
            Event::Knock(pipe) => self.on_knock(pipe),
            Event::Arrive(pipe, side) => self.on_arrive(pipe, side),
            Event::Acked(pipe, side) => self.on_acked(pipe, side),
            Event::Reset(pipe, side) => self.on_reset(pipe, side),
            Event::Hashed { host, boot, link, hashed } => self.on_hashed(host, boot, link, hashed),
            Event::Disk { host, boot } => self.on_disk(host, boot),
            Event::Read(pipe) => self.user_reads(pipe, true),
            Event::Act(user) => self.on_act(user),
            Event::Come { user, plan, to } => self.on_come(user, plan, to),
            Event::Leave(pipe) => self.on_leave(pipe),
            Event::Impatient(pipe) => self.on_impatient(pipe),
            Event::Spawn { by, boot, ticket, good } => self.on_spawn(by, boot, ticket, good),
            Event::Fault => self.on_fault(),
            Event::Strike(host) => self.on_strike(host),
            Event::Mend(fault) => self.on_mend(fault),
            Event::Look => self.on_look(),
        }
    }

    /// Tells what happens, if somebody wants to know.
    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        let now = self.now();
        self.judge.tell(now, text);
    }

    /// The time of safety is over, or some time passed since.
    fn on_look(&mut self) {
        let Some(healed) = self.healed else {
            self.healed = Some(self.now());
            self.tell(|| "everything is mended".into());
            self.mend_everything();
            self.users.iter_mut().for_each(|user| user.is_slow = false);
            (0..self.pipes.len()).for_each(|pipe| self.user_reads(pipe, true));
            return self.schedule.after(ms(500), Event::Look);
        };
        self.bounds_hold();
        let bound = if self.has(Class::Balance) { EVENNESS } else { LIVENESS };
        let is_late = self.now().since(healed) > bound;
        if self.now().since(healed) > ms(4_000) && !std::mem::replace(&mut self.called, true) {
            self.call_again();
        }
        if self.emptied.is_some() {
            self.is_over = self.have_retired();
            return self.schedule.after(ms(100), Event::Look);
        }
        match self.farewell {
            None if is_late || self.all_is_well() => {
                if is_late {
                    self.say_what_is_not_well();
                }
                self.farewell = Some(self.now());
                self.last_words();
            }
            Some(at) if self.now().since(at) > LAST_WORDS || (!is_late && self.all_is_well()) => {
                self.check_the_end();
                self.is_over = !self.has(Class::Spawn);
                if !self.is_over {
                    self.empty();
                }
            }
            _ => {}
        }
        self.schedule.after(ms(100), Event::Look);
    }
}
