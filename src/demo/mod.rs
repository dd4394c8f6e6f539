//! The demonstration: three servers, fifty clients that talk, a server that is killed and comes back.
//!
//! Everything is real: the servers are processes of this program, the clients are those of the [load
//! generator](crate::load), which check every delivery. Clients do what users would: whose connection breaks, logs in
//! at another server; who was never heard, says it again.

mod network;
mod picture;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::load::fleet::{Fleet, nanos};
use crate::load::limits::{
    DEMO_ASK, DEMO_CALM, DEMO_CLIENTS, DEMO_DOUBT, DEMO_DRAW, DEMO_LINGER, DEMO_MOVED_PART, DEMO_PATIENCE,
    DEMO_SAYS, DEMO_SERVERS, DEMO_SIZE, DEMO_TURN, DEMO_VICTIM, LEAVE,
};
use crate::load::plan::{Pace, Plan};
use crate::server::sys::monotonic_ns;
use network::Network;
use picture::{Picture, Row, Scene};

/// Runs it. 0: nothing was lost, all came in order; 1: not so; 3: it could not be shown, or was stopped.
pub fn run() -> ExitCode {
    match Show::open().and_then(Show::play) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(3)
        }
    }
}

struct Show {
    // Fields are dropped in their order: clients go before servers do.
    fleet: Fleet,
    network: Network,
    picture: Picture,
    stopped: Arc<AtomicBool>,
    addresses: Vec<SocketAddr>,
    is_talking: bool,
    /// When each client says something next.
    says_at: Vec<u64>,
    drawn_at: u64,
    asked_at: u64,
}

impl Show {
    fn open() -> Result<Show, String> {
        let stopped = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, stopped.clone())
                .map_err(|error| format!("signals cannot be caught: {error}"))?;
        }
        let mut picture = Picture::new();
        let mut network = Network::new()?;
        let addresses = network.addresses();
        let ports: Vec<String> = addresses.iter().map(|address| address.port().to_string()).collect();
        picture.tell(&format!("Three servers start, at the ports {}.", ports.join(", ")));
        for i in 0..DEMO_SERVERS {
            if stopped.load(Ordering::Relaxed) {
                return Err("stopped".to_owned());
            }
            network.start(i)?;
        }
        let fleet = Fleet::new(plan(&addresses)?).map_err(|error| format!("no poll: {error}"))?;
        let now = monotonic_ns();
        let says_at = (0..u64::from(DEMO_CLIENTS))
            .map(|i| now + i * nanos(DEMO_SAYS) / u64::from(DEMO_CLIENTS))
            .collect();
        Ok(Show {
            fleet,
            network,
            picture,
            stopped,
            addresses,
            is_talking: false,
            says_at,
            drawn_at: 0,
            asked_at: 0,
        })
    }

    /// The story. True if nothing was lost and all came in order.
    fn play(mut self) -> Result<bool, String> {
        // Nobody logs in before the servers know each other: each client stays where it knocks.
        let mut whole = false;
        let until = monotonic_ns() + nanos(DEMO_PATIENCE);
        while !whole {
            self.check(until, "the servers do not find each other")?;
            std::thread::sleep(DEMO_TURN);
            whole = self.asks_whole(monotonic_ns());
        }
        self.picture.tell(&format!("They are one network. {DEMO_CLIENTS} clients register and log in."));
        self.wait("the clients do not log in", |show, _| show.are_all_in())?;
        // Who comes later is not owed what was said before.
        self.is_talking = true;
        self.picture.tell("All are in, and talk.");
        self.calm()?;

        let there = self.at(DEMO_VICTIM);
        let moved = self.fleet.counts.moved;
        self.network.kill(DEMO_VICTIM);
        let killed_at = monotonic_ns();
        let port = self.addresses[DEMO_VICTIM].port();
        self.picture.tell(&format!("The server at {port} is killed (SIGKILL), with {there} clients on it."));
        self.wait("the clients do not log in again", |show, _| {
            show.fleet.counts.broken >= there as u64 && show.are_all_in()
        })?;
        let took = (monotonic_ns() - killed_at) as f64 / 1e9;
        let broken = self.fleet.counts.broken;
        self.picture
            .tell(&format!("{broken} clients logged in at the other servers, all within {took:.1} s."));
        self.calm()?;

        let settled = self.fleet.counts.moved;
        self.picture.tell(&format!("The server at {port} comes back, with what it had on disk."));
        self.network.start(DEMO_VICTIM)?;
        self.wait("the server does not find the others", |show, now| show.asks_whole(now))?;
        self.picture.tell("It is in the network again; clients are sent to it (REDIRECT).");
        let wanted = u64::from(DEMO_CLIENTS).div_ceil(DEMO_MOVED_PART);
        self.wait("the clients are not spread again", |show, _| {
            show.fleet.counts.moved - settled >= wanted && show.are_all_in() && show.is_even()
        })?;
        let returned = self.fleet.counts.moved - settled;
        self.picture.tell(&format!("{returned} of {DEMO_CLIENTS} clients moved, and talked on their way."));
        self.calm()?;

        self.is_talking = false;
        self.picture.tell("Everybody is silent, and hears what is still to come.");
        let end = self.wait("something is missing", |show, _| show.missing() == 0);
        if self.stopped.load(Ordering::Relaxed) {
            end?;
        }
        let until = monotonic_ns() + nanos(DEMO_LINGER);
        self.wait("nothing", |_, now| now >= until)?;
        let is_good = self.judge(there, settled - moved, returned);
        self.leave();
        Ok(is_good)
    }

    fn judge(&mut self, there: usize, placed: u64, returned: u64) -> bool {
        let (counts, missing) = (self.fleet.counts.clone(), self.missing());
        let port = self.addresses[DEMO_VICTIM].port();
        self.picture.tell(&format!(
            "\nkilled      1 of {DEMO_SERVERS} servers, at {port}, with {there} of {DEMO_CLIENTS} clients; it came back\n\
             moved       {returned} clients when it was back; {placed} before, when its own had come to the others\n\
             delivered   {} messages to {DEMO_CLIENTS} clients: {} deliveries, {missing} missing, {} out of order\n\
             came twice  {} deliveries, to clients of the killed server, which had not confirmed them; {} to others\n\
             said again  {} messages that died with the server before anybody had heard them",
            counts.said,
            counts.heard,
            counts.out_of_order,
            counts.repeated_after_break,
            counts.repeated,
            counts.said_again
        ));
        for why in self.fleet.reasons.clone() {
            self.picture.tell(&why);
        }
        let wrong = [counts.out_of_order, counts.repeated, counts.malformed, counts.refused, missing];
        let is_good = wrong.iter().all(|n| *n == 0);
        self.picture.tell(match is_good {
            true => "\nNothing was lost, and everybody heard everybody in order.",
            false => "\nThat is WRONG: something was lost, repeated or out of order.",
        });
        is_good
    }

    fn calm(&mut self) -> Result<(), String> {
        let until = monotonic_ns() + nanos(DEMO_CALM);
        self.wait("nothing", |_, now| now >= until)
    }

    /// Lets everybody go on until it holds.
    fn wait(&mut self, what_not: &str, holds: impl Fn(&mut Show, u64) -> bool) -> Result<(), String> {
        let until = monotonic_ns() + nanos(DEMO_PATIENCE);
        loop {
            self.check(until, what_not)?;
            self.turn()?;
            let now = monotonic_ns();
            if holds(self, now) {
                return Ok(());
            }
        }
    }

    fn check(&mut self, until: u64, what_not: &str) -> Result<(), String> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err("stopped".to_owned());
        }
        if let Some(why) = self.network.fallen() {
            return Err(why);
        }
        match monotonic_ns() < until {
            true => Ok(()),
            false => Err(format!("{what_not} within {} s", DEMO_PATIENCE.as_secs())),
        }
    }

    fn turn(&mut self) -> Result<(), String> {
        let now = monotonic_ns();
        self.fleet.turn(now + nanos(DEMO_TURN)).map_err(|error| format!("the poll failed: {error}"))?;
        let now = monotonic_ns();
        for i in 0..self.says_at.len() {
            if now >= self.says_at[i] {
                self.speak(i, now);
            }
        }
        let every = if self.picture.is_terminal() { DEMO_DRAW.0 } else { DEMO_DRAW.1 };
        if now >= self.drawn_at + nanos(every) {
            self.draw(now);
        }
        Ok(())
    }

    /// Its time has come: the client says its next message, or its last one again if nobody heard that.
    fn speak(&mut self, i: usize, now: u64) {
        let Some(since) = self.fleet.online_since(i) else { return };
        let (_, in_flight) = self.fleet.said(i);
        if in_flight == 0 && self.is_talking {
            self.fleet.say(i, now);
        } else if in_flight > 0 && now >= since.max(self.says_at[i]) + nanos(DEMO_DOUBT) {
            self.fleet.say_again(i, now);
        } else {
            return;
        }
        self.says_at[i] = now + nanos(DEMO_SAYS);
    }

    fn draw(&mut self, now: u64) {
        self.drawn_at = now;
        let places = self.fleet.places();
        let row = |(i, address): (usize, &SocketAddr)| Row {
            port: address.port(),
            runs: self.network.runs(i),
            clients: places.get(address).copied().unwrap_or(0),
        };
        let counts = &self.fleet.counts;
        let scene = Scene {
            rows: self.addresses.iter().enumerate().map(row).collect(),
            said: counts.said,
            heard: counts.heard,
            moved: counts.moved,
            repeats: counts.repeated + counts.repeated_after_break,
            lost_way: self.fleet.len() - self.fleet.online,
        };
        self.picture.show(&scene);
    }

    fn asks_whole(&mut self, now: u64) -> bool {
        let is_time = now >= self.asked_at + nanos(DEMO_ASK);
        if is_time {
            self.asked_at = now;
        }
        is_time && self.network.is_whole()
    }

    fn are_all_in(&self) -> bool {
        self.fleet.online == self.fleet.len()
    }

    fn at(&self, i: usize) -> usize {
        self.fleet.places().get(&self.addresses[i]).copied().unwrap_or(0)
    }

    fn is_even(&self) -> bool {
        let loads = (0..DEMO_SERVERS).map(|i| self.at(i));
        let (least, most) = loads.fold((usize::MAX, 0), |(least, most), n| (least.min(n), most.max(n)));
        most - least <= 1
    }

    fn missing(&self) -> u64 {
        let said: Vec<u32> = (0..self.fleet.len()).map(|i| self.fleet.said(i).0).collect();
        let missing = self.fleet.missing(&said);
        missing.owed + missing.lost
    }

    /// All log out, so that nobody stays owed anything.
    fn leave(&mut self) {
        self.fleet.leave();
        let until = monotonic_ns() + nanos(LEAVE);
        while self.fleet.gone < self.fleet.len() && monotonic_ns() < until && self.fleet.turn(until).is_ok() {
        }
    }
}

fn plan(addresses: &[SocketAddr]) -> Result<Plan, String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| format!("no random number: {error}"))?;
    let random = u128::from_ne_bytes(random);
    Ok(Plan {
        run: random as u32,
        secret: format!("{random:032x}"),
        clients: DEMO_CLIENTS,
        talkers: DEMO_CLIENTS,
        slow: 0,
        slow_bytes: 0,
        process: 0,
        processes: 1,
        servers: addresses.to_vec(),
        registered: true,
        size: DEMO_SIZE,
        pace: Pace::Window(1),
        returns: true,
    })
}
