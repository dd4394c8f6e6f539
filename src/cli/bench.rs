//! `bench`: what load, on which servers, and what came of it.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::values::{size, time};
use crate::load::figures::cpu_ms;
use crate::load::fleet::resolve;
use crate::load::limits::{
    CLIENTS_MAX, PROCESSES_MAX, RATE_MAX, RESERVED_DESCRIPTORS, SIZE_MAX, TALLY_BYTES_MAX, WINDOW_MAX,
};
use crate::load::plan::Pace;
use crate::load::{self, Options, generator, stamp};
use crate::server::sys::raise_descriptors;

pub const HELP: &str = "\
Every delivery to every client is checked: nothing lost, nothing repeated, each talker's messages in order. \
Redirects are followed, and count. Times of deliveries are counted from the moment a message was meant to be said: \
with --rate a server that stalls is charged for all that waited meanwhile.

Try it: `activitystreamer server --hash-kib 8 --hash-passes 1`, and in another terminal `activitystreamer bench \
--clients 1000`. With a network: `activitystreamer bench localhost:3780,localhost:3781 --registered --rate 100`. \
At size: `activitystreamer bench HOST:PORT,... --clients 100000 --rate 5`; it starts as many processes as it needs, \
and spreads over 127.0.0.0/8 where the servers are on loopback.

A slow client reads --slow-bytes a second while others talk, then the rest. If the server cuts it off, that is \
counted apart, as slow_cut, with what it missed, and is no failure. Anonymous clients that are sent on while others \
talk are owed nothing of the time between; they are counted as begun_anew.

Exit codes: 0 every client heard every message once and in order; 1 not so, or a client was cut off or refused; \
2 wrong command line; 3 it could not be done: no server there, no login, too few descriptors.";

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("pace"))]
pub struct BenchArgs {
    /// The servers, with commas between or one after the other; clients begin at them in turn
    #[arg(value_name = "HOST:PORT", default_value = "localhost:3780", value_delimiter = ',', value_parser = server)]
    servers: Vec<SocketAddr>,
    /// Clients, talkers among them
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(CLIENTS_MAX)))]
    clients: u32,
    /// Clients that talk
    #[arg(long, value_name = "N", default_value_t = 1)]
    talkers: u32,
    /// Messages that each talker has on their way: it says the next when one comes back to it [default: 1]
    #[arg(long, value_name = "N", group = "pace", value_parser = clap::value_parser!(u32).range(1..=i64::from(WINDOW_MAX)))]
    window: Option<u32>,
    /// Messages a second of all talkers together, said on time whatever the server does
    #[arg(long, value_name = "N", group = "pace", value_parser = rate)]
    rate: Option<f64>,
    /// Bytes of a message's activity
    #[arg(long, value_name = "SIZE", default_value = "128", value_parser = activity)]
    size: usize,
    /// Clients register names of their own first; else they are anonymous
    #[arg(long)]
    registered: bool,
    /// Clients that read slowly: a number, or a part of all as 10%
    #[arg(long, value_name = "N", default_value = "0")]
    slow: String,
    /// Bytes a second that a slow client reads while others talk
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size)]
    slow_bytes: usize,
    /// How long it is measured; 0 only logs in
    #[arg(short, long = "time", value_name = "TIME", default_value = "10s", value_parser = time)]
    time: Duration,
    /// How long they talk before that
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    warmup: Duration,
    /// Processes that generate the load: a number, or as many as the clients need (auto)
    #[arg(long, value_name = "N", default_value = "auto")]
    processes: String,
    /// Processes of servers on this machine, with commas between: their processor time is shown
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = process)]
    server_pid: Vec<u32>,
    /// Print one line of JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Generate load as another process says on standard input
    #[arg(long, hide = true)]
    generator: bool,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let (host, port) =
        parts.filter(|(_, port)| *port > 0).ok_or("it is a host and a port, as localhost:3780")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    resolve(host, port).ok_or_else(|| format!("the host {host} cannot be found"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= RATE_MAX);
    rate.ok_or_else(|| format!("a rate is a number above 0, up to {RATE_MAX}"))
}

fn activity(text: &str) -> Result<usize, String> {
    let range = stamp::SIZE_MIN..=SIZE_MAX;
    let bytes = size(text)?;
    match range.contains(&bytes) {
        true => Ok(bytes),
        false => Err(format!("it goes from {} to {}", range.start(), range.end())),
    }
}

fn process(text: &str) -> Result<u32, String> {
    let id = text.parse().ok().filter(|id| cpu_ms(*id).is_some());
    id.ok_or_else(|| format!("there is no process {text}"))
}

/// A number of clients, or a part of them.
fn part(text: &str, clients: u32) -> Result<u32, String> {
    let n = match text.strip_suffix('%') {
        Some(percent) => percent
            .parse::<u32>()
            .ok()
            .filter(|percent| *percent <= 100)
            .map(|percent| (u64::from(clients) * u64::from(percent) / 100) as u32),
        None => text.parse().ok(),
    };
    n.ok_or_else(|| format!("--slow {text} is no number of clients, and no part as 10%"))
}

impl BenchArgs {
    fn options(&self) -> Result<Options, String> {
        let (clients, talkers, slow) = (self.clients, self.talkers, part(&self.slow, self.clients)?);
        if u64::from(talkers) + u64::from(slow) > u64::from(clients) || talkers == 0 {
            return Err(format!(
                "--talkers {talkers} and --slow {slow} must be among --clients {clients}, different ones, and \
                 somebody must talk"
            ));
        }
        let descriptors = raise_descriptors().map_err(|error| format!("no descriptor limit: {error}"))?;
        let each = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(1);
        let needed = u64::from(clients).div_ceil(each);
        let processes = match &*self.processes {
            "auto" => needed,
            number => {
                number.parse::<u64>().ok().filter(|n| *n > 0).ok_or("--processes is a number, or auto")?
            }
        };
        if processes < needed || processes > u64::from(PROCESSES_MAX) || processes > u64::from(clients) {
            return Err(format!(
                "--processes {processes} is out of range: {clients} clients need {needed}, with {descriptors} \
                 descriptors each, and there are {PROCESSES_MAX} at most"
            ));
        }
        let tally = 4 * u64::from(clients) * u64::from(talkers) / processes;
        if tally > TALLY_BYTES_MAX {
            return Err(format!(
                "{clients} clients of {talkers} talkers take {} MiB of counters in each process; fewer talkers, or \
                 more --processes",
                tally >> 20
            ));
        }
        Ok(Options {
            servers: self.servers.clone(),
            clients,
            talkers,
            slow,
            slow_bytes: self.slow_bytes,
            registered: self.registered,
            size: self.size,
            pace: self.rate.map_or(Pace::Window(self.window.unwrap_or(1)), Pace::Rate),
            time: self.time,
            warmup: if self.time.is_zero() { Duration::ZERO } else { self.warmup },
            processes: processes as u32,
            server_pids: self.server_pid.clone(),
        })
    }
}

/// Runs it, and prints what came of it.
pub fn run(args: &BenchArgs) -> ExitCode {
    if args.generator {
        return generator::run();
    }
    let options = match args.options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    match load::run(&options) {
        Ok(summary) => {
            let text = match args.json {
                true => summary.json(&options) + "\n",
                false => summary.table(&options),
            };
            // That nobody reads it changes nothing of what was found.
            let _ = std::io::stdout().write_all(text.as_bytes());
            if summary.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(3)
        }
    }
}
