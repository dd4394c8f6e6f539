//! The command line: what can be asked for, checked, with errors that say what to do.
//!
//! Existing scripts write some flags with one dash and two letters (`-lp 3780`). They are turned into
//! their long forms before clap sees them.

mod bench;
mod client;
mod config;
mod group;
mod logging;
mod pages;
mod serve;
mod sim;
mod spawn;
pub(crate) mod status;
mod values;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use zeroize::Zeroizing;

use crate::base::limits::{LINE_BYTES_MAX, LINE_BYTES_MIN, Limits};
use crate::demo;
use crate::server::secret::{DATA_DIR, Source};
use crate::server::{Bind, Keep, Options};
use crate::store::{Fsync, Retention};
use values::{fsync, hidden, host, level, place, processes, size, time};

/// The port of servers since the first of them.
const PORT: u16 = 3780;

#[derive(Debug, Parser)]
#[command(
    version,
    about = "What any client says, every connected client hears",
    max_term_width = 100,
    after_help = "Run `activitystreamer COMMAND --help` for a command's flags."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server
    #[command(after_help = SERVER_HELP)]
    Server(Box<ServerArgs>),
    /// Talk and listen: each line of input is said to everybody, each line heard is printed
    #[command(after_help = client::HELP)]
    Client(client::ClientArgs),
    /// Show how a server and its network stand
    #[command(after_help = status::HELP)]
    Status(status::StatusArgs),
    /// See it work: three servers, fifty clients that talk, one server killed and back, nothing lost
    #[command(after_help = DEMO_HELP)]
    Demo,
    /// Put load on servers, check every delivery, and measure
    #[command(after_help = bench::HELP)]
    Bench(bench::BenchArgs),
    /// Run whole networks of servers in virtual time, with faults, and check what they promise
    #[command(after_help = sim::help())]
    Sim(sim::SimArgs),
    /// Print what makes a shell complete this program's flags
    Completions(pages::CompletionArgs),
    /// Write the manual's pages, one a command
    Man(pages::ManArgs),
}

const SERVER_HELP: &str = "\
Try it: `activitystreamer server`, then in two other terminals `activitystreamer client -u NAME`.

A network: start the other servers in the same folder, say `activitystreamer server -lp 3781 -rh localhost`. \
They have the same cluster secret then. On another machine give the secret, which the first server keeps in \
activitystreamer-data/cluster.secret, by --secret-file, and the name under which the others reach that machine \
by -lh. A server that cannot join serves its clients, and goes on trying.

Sizes are bytes and may end in K, M or G (times 1024). Durations are seconds, or like 500ms, 10m, 1h. The \
flags -lp, -lh, -rp and -rh may be written with one dash.

With --max-clients a network that is full starts another server by itself, which ends when it is not needed; see \
--spawn. Until it is there, who comes is let in all the same.

Every flag may also stand in a TOML file (--config), as `away = \"5m\"`, or in the environment, as AS_AWAY=5m: \
a flag wins over the environment, that over the file. --print-config shows what holds, and from where.

The log goes to standard error; RUST_LOG=debug shows more of it, RUST_LOG=warn less. SIGUSR1 logs what was \
counted, SIGHUP reads the settings anew. SIGTERM and SIGINT stop the server. It drains: its clients are sent to the other servers (REDIRECT), which \
takes --drain at most, and lose nothing; so a network is restarted one server after the other. Without another \
server clients get what they are owed, for at most 2 s, and are closed. A second signal, half a second later or more, \
stops it at once.

Exit codes: 0 stopped by a signal, 1 could not start, 2 wrong command line.";

const DEMO_HELP: &str = "\
It takes about 12 s, on free ports of this machine and a temporary folder, and leaves nothing behind, also when it is \
stopped (Ctrl-C). Every delivery to every client is checked, and counted at the end.

Exit codes: 0 nothing was lost and all came in order, 1 not so, 2 wrong command line, 3 it could not be shown, or was \
stopped.";

#[derive(Debug, Args)]
struct ServerArgs {
    /// Port to listen on; 0 takes a free one. The addresses are printed on standard output [-lp]
    #[arg(long, alias = "lp", value_name = "PORT", default_value_t = PORT)]
    local_port: u16,
    /// Name under which clients reach this server. Without it, or if it is this machine's own loopback, only
    /// this machine can connect; with it every interface is listened on [-lh]
    #[arg(long, alias = "lh", value_name = "HOST", value_parser = host)]
    local_host: Option<String>,
    /// Servers that share the port, each a process with a port of its own that follows it (with -lp 0 a free one)
    /// and linked to the others: a group, for machines with more cores than one. auto: one for each core
    #[arg(long, value_name = "N", default_value = "1", value_parser = processes)]
    processes: u16,
    /// Listen on this port, too, and let more servers of this machine and user do so: the system spreads who knocks
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    shared_port: Option<u16>,
    /// Listen on this address only, whatever -lh says
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    /// Longest line from a client, and longest broadcast
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    line_bytes: usize,
    /// How much of the conversation is kept in memory; who is further behind reads from disk, or with --ephemeral
    /// has lost it
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size)]
    feed_bytes: usize,
    /// How long a registered user whose connection broke is owed what is said meanwhile
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    away: Duration,
    /// How long a stopping server may take to send its clients to the others of its network; 0 sends nobody
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    drain: Duration,
    /// How long a connection may take to log in
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    login_timeout: Duration,
    /// Failed logins a minute after which an address must wait before it tries that name again
    #[arg(long, value_name = "N", default_value_t = Limits::default().failed_logins, value_parser = clap::value_parser!(u8).range(1..))]
    failed_logins: u8,
    /// Most names that can be registered
    #[arg(long, value_name = "N", default_value_t = Limits::default().names)]
    names: usize,
    /// KiB of memory that hashing one password takes (Argon2id)
    #[arg(long, value_name = "KIB", default_value_t = Limits::default().hash_kib, value_parser = clap::value_parser!(u32).range(8..=4 << 20))]
    hash_kib: u32,
    /// Passes over that memory
    #[arg(long, value_name = "N", default_value_t = Limits::default().hash_passes, value_parser = clap::value_parser!(u32).range(1..=1000))]
    hash_passes: u32,
    /// Passwords hashed at the same time
    #[arg(long, value_name = "N", default_value_t = Limits::default().hash_threads as u16, value_parser = clap::value_parser!(u16).range(1..=64))]
    hash_threads: u16,
    /// A server of the network to join; the others are learned from it. It is tried until it is there [-rh]
    #[arg(long, alias = "rh", value_name = "HOST", value_parser = host)]
    remote_host: Option<String>,
    /// Its port [default: 3780] [-rp]
    #[arg(long, alias = "rp", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    remote_port: Option<u16>,
    /// The cluster secret, which all servers of a network have. Others on this machine see what stands on a
    /// command line; better keep it in a file
    #[arg(short, long, value_name = "SECRET", value_parser = hidden)]
    secret: Option<Zeroizing<String>>,
    /// A file with the cluster secret and nothing else
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Folder for what outlives the server: the cluster secret, if none is given, and in a folder of its
    /// port names, sessions and the conversation. With -lp 0 and without this flag nothing is kept [default:
    /// activitystreamer-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Keep no names and no conversation on disk
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_possible_values = true, hide_default_value = true)]
    ephemeral: bool,
    /// How much of the conversation is kept on disk, for who is further behind than the memory reaches
    #[arg(long, value_name = "SIZE", default_value = "256M", value_parser = size)]
    retention_bytes: usize,
    /// For how long it is kept
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    retention_age: Duration,
    /// When messages are synced, so that they outlive the machine: after each turn (always), once a second
    /// (interval), or when the system likes (never). What ends the process alone loses none of them
    #[arg(long, value_name = "WHEN", default_value_t = Fsync::Interval, value_parser = fsync())]
    fsync: Fsync,
    /// Milliseconds between two announces of this server's load to the others
    #[arg(short, long = "announce", alias = "announce-ms", value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    announce: u64,
    /// Whether clients are sent to servers that have fewer (REDIRECT): on, or off
    #[arg(long, value_name = "WHEN", default_value = "on", value_parser = ["on", "off"])]
    balance: String,
    /// Clients this server should have at most. One more is let in when all servers have as many as they should,
    /// and sent on as soon as there is room elsewhere [default: no bound]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_clients: Option<u64>,
    /// What starts another server when all have as many clients as they should: this program on a free port of this
    /// machine (local), nothing (off), or a command for the shell. In the command {args} becomes the flags for
    /// `activitystreamer server`, and the cluster secret is its standard input [default: local with --max-clients,
    /// else off]
    #[arg(long, value_name = "HOW", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    spawn: Option<String>,
    /// Most servers started so, in the whole network at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=63))]
    spawn_max: u16,
    /// After how long without a client a server that was started so ends, if the others have room
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = time)]
    retire: Duration,
    /// This server was started by another, which knows it by this number: it ends by itself when it is not needed
    #[arg(long, value_name = "NUMBER")]
    spawned: Option<u64>,
    /// Serve /healthz, /readyz, /metrics (Prometheus) and /status (JSON) here. A port alone is one of this
    /// machine's loopback; 0 takes a free one. The address is printed on standard output
    #[arg(long, value_name = "ADDR:PORT", value_parser = place)]
    http: Option<SocketAddr>,
    /// What is logged [default: RUST_LOG, or info]
    #[arg(long, value_name = "LEVEL", value_parser = level())]
    log: Option<log::LevelFilter>,
    /// A TOML file with settings: the flags above, without their dashes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look whether the settings are good, and end
    #[arg(long)]
    check_config: bool,
    /// Print the settings that hold as such a file, and end
    #[arg(long)]
    print_config: bool,
}

/// Runs the program and says how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = old_flags(args);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            // Printing fails only when nobody reads it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // Whole networks log more than anybody reads.
    logging::start(if matches!(cli.command, Command::Sim(_)) { "off" } else { "info" });
    if matches!(&cli.command, Command::Client(args) if args.on_screen() && std::io::stderr().is_terminal()) {
        // A log would write over the screen.
        logging::set(log::LevelFilter::Off);
    }
    match cli.command {
        Command::Server(given) => serve::run(&args, &given),
        Command::Client(args) => client::run(args),
        Command::Status(args) => status::run(&args),
        Command::Demo => demo::run(),
        Command::Bench(args) => bench::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Completions(args) => pages::completions(&args),
        Command::Man(args) => pages::man(&args),
    }
}

/// Turns the flags with one dash and two letters into their long forms, up to a `--`.
fn old_flags(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut plain = true;
    let long = |arg: OsString| {
        plain &= arg != "--";
        let text = arg.to_str().unwrap_or_default();
        let name = text.split('=').next().unwrap_or_default();
        if plain && ["-lp", "-lh", "-rp", "-rh"].contains(&name) { format!("-{text}").into() } else { arg }
    };
    args.into_iter().map(long).collect()
}

impl ServerArgs {
    /// The folder of what outlives the server, if something does.
    fn keeps_in(&self) -> Option<PathBuf> {
        let is_kept = !self.ephemeral && (self.local_port != 0 || self.data_dir.is_some());
        is_kept.then(|| self.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR)))
    }

    fn options(self) -> Result<Options, String> {
        if !(LINE_BYTES_MIN..=LINE_BYTES_MAX).contains(&self.line_bytes) {
            return Err(format!(
                "--line-bytes {} is out of range; it goes from {LINE_BYTES_MIN} to {LINE_BYTES_MAX}",
                self.line_bytes
            ));
        }
        if self.feed_bytes < 4 * self.line_bytes {
            return Err(format!(
                "--feed-bytes {} is too small; it must hold four of the longest lines, so at least {}",
                self.feed_bytes,
                4 * self.line_bytes
            ));
        }
        if self.remote_port.is_some() && self.remote_host.is_none() {
            return Err("--remote-port (-rp) is that of a --remote-host (-rh), which is missing".to_owned());
        }
        if self.secret.is_some() && self.secret_file.is_some() {
            return Err("--secret cannot be used with --secret-file: the secret is in one place".to_owned());
        }
        if self.max_clients.is_none() && self.spawn.as_deref().is_some_and(|how| how != "off") {
            return Err("--spawn needs --max-clients: without that no server is full".to_owned());
        }
        if self.shared_port == Some(self.local_port) {
            return Err("--shared-port is a port besides the server's own (-lp), not the same".to_owned());
        }
        let loopback = |host: &str| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        let bind = match (self.bind, &self.local_host) {
            (Some(address), _) => Bind::Only(address),
            (None, Some(host)) if !loopback(host) => Bind::Everywhere,
            (None, _) => Bind::Loopback,
        };
        let spawn = self.how_to_spawn();
        let limits = Limits {
            line_bytes: self.line_bytes,
            feed_bytes: self.feed_bytes,
            away: self.away,
            drain: self.drain,
            announce: Duration::from_millis(self.announce),
            balance: self.balance == "on",
            max_clients: self.max_clients,
            spawn_max: if spawn.is_some() { usize::from(self.spawn_max) } else { 0 },
            spawned: self.spawned,
            retire: self.retire,
            login: self.login_timeout,
            failed_logins: self.failed_logins,
            names: self.names,
            hash_kib: self.hash_kib,
            hash_passes: self.hash_passes,
            hash_threads: usize::from(self.hash_threads),
        };
        let retention = Retention { bytes: self.retention_bytes as u64, age: self.retention_age };
        let keep = self.keeps_in().map(|folder| Keep { folder, retention, fsync: self.fsync });
        let kept = self.data_dir.clone().unwrap_or_else(|| PathBuf::from(DATA_DIR));
        let secret = match (self.secret, self.secret_file) {
            (Some(secret), _) => Source::Given(secret),
            (None, Some(file)) => Source::File(file),
            (None, None) if self.local_port == 0 && self.data_dir.is_none() => Source::Ephemeral(kept),
            (None, None) => Source::Kept(kept),
        };
        Ok(Options {
            bind,
            port: self.local_port,
            shared_port: self.shared_port,
            hostname: self.local_host.unwrap_or_else(|| "localhost".to_owned()),
            join: self.remote_host.map(|host| (host, self.remote_port.unwrap_or(PORT))),
            secret,
            keep,
            spawn,
            http: self.http,
            limits,
        })
    }
}

#[cfg(test)]
mod tests;
