//! The command line: what can be asked for, checked, with errors that say what to do.
//!
//! Existing scripts write some flags with one dash and two letters (`-lp 3780`). They are turned into
//! their long forms before clap sees them.

mod sim;

use std::ffi::OsString;
use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::base::limits::{LINE_BYTES_MAX, LINE_BYTES_MIN, Limits};
use crate::client;
use crate::server::{Bind, Options, Server};

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
    Server(ServerArgs),
    /// Talk and listen: each line of input is said to everybody, each line heard is printed
    #[command(after_help = CLIENT_HELP)]
    Client(ClientArgs),
    /// Run whole networks of servers in virtual time, with faults, and check what they promise
    Sim(sim::SimArgs),
}

const SERVER_HELP: &str = "\
Try it: `activitystreamer server`, then in two other terminals `activitystreamer client -u NAME`.

Sizes are bytes and may end in K, M or G (times 1024). Durations are seconds, or like 500ms, 10m, 1h. The \
flags -lp and -lh may be written with one dash.

The log goes to standard error; RUST_LOG=debug shows more of it, RUST_LOG=warn less. SIGUSR1 logs what was \
counted. SIGTERM and SIGINT stop the server: clients get what they are owed, for at most 2 s; a second signal \
stops it at once.

Exit codes: 0 stopped by a signal, 1 could not start, 2 wrong command line.";

const CLIENT_HELP: &str = "\
A line of input that is a JSON object is said as it is; any other text becomes {\"message\": text}. Each \
activity heard, one's own too, is one line of JSON on standard output. At the end of input the client logs \
out, prints what it is still owed, and ends.

With -u alone the name is registered with a secret made here, which is shown once on standard error; with -u \
and -s it logs in; with neither it is anonymous. The flags -rh, -rp and -lp may be written with one dash.

Exit codes: 0 all was said and heard; 1 no connection, or it was lost; 2 wrong command line; 3 name or secret \
refused; 4 a message refused, or input that cannot be read; 5 the output cannot be written.";

#[derive(Debug, Args)]
struct ServerArgs {
    /// Port to listen on; 0 takes a free one. The addresses are printed on standard output [-lp]
    #[arg(long, alias = "lp", value_name = "PORT", default_value_t = PORT)]
    local_port: u16,
    /// Name under which clients reach this server. Without it, or if it is this machine's own loopback, only
    /// this machine can connect; with it every interface is listened on [-lh]
    #[arg(long, alias = "lh", value_name = "HOST")]
    local_host: Option<String>,
    /// Listen on this address only, whatever -lh says
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    /// Longest line from a client, and longest broadcast
    #[arg(long, value_name = "SIZE", default_value = "1M", value_parser = size)]
    line_bytes: usize,
    /// How much of the conversation is kept in memory: what a slow reader may fall behind, or an absent
    /// user miss
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size)]
    feed_bytes: usize,
    /// How long a registered user whose connection broke is owed what is said meanwhile
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    away: Duration,
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
    /// A server of the network to join: not yet, this version is one server [-rh]
    #[arg(long, alias = "rh", hide = true)]
    remote_host: Option<String>,
    #[arg(long, alias = "rp", hide = true)]
    remote_port: Option<u16>,
    #[arg(short, long, hide = true)]
    secret: Option<String>,
    #[arg(short, long, hide = true)]
    announce_ms: Option<u64>,
}

#[derive(Debug, Args)]
struct ClientArgs {
    /// The server's host name or address [-rh]
    #[arg(long, alias = "rh", value_name = "HOST", default_value = "localhost")]
    remote_host: String,
    /// The server's port [-rp]
    #[arg(long, alias = "rp", value_name = "PORT", default_value_t = PORT, value_parser = clap::value_parser!(u16).range(1..))]
    remote_port: u16,
    /// User name
    #[arg(short, long, value_name = "NAME")]
    username: Option<String>,
    /// The secret the name was registered with
    #[arg(short, long, value_name = "SECRET", requires = "username")]
    secret: Option<String>,
    /// Port to connect from [-lp]
    #[arg(long, alias = "lp", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    local_port: Option<u16>,
    /// Only listen: standard input is not read, and its end does not end the client
    #[arg(long)]
    listen: bool,
    /// End after so many activities were heard
    #[arg(long, value_name = "N")]
    count: Option<u64>,
}

/// Runs the program and says how it ended.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(old_flags(args)) {
        Ok(cli) => cli,
        Err(error) => {
            // Printing fails only when nobody reads it.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // Whole networks log more than anybody reads.
    let level = if matches!(cli.command, Command::Sim(_)) { "off" } else { "info" };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    match cli.command {
        Command::Server(args) => server(&args),
        Command::Client(args) => client(args),
        Command::Sim(args) => sim::run(&args),
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

fn server(args: &ServerArgs) -> ExitCode {
    let options = match args.options() {
        Ok(options) => options,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    for (flag, given) in [("-s", args.secret.is_some()), ("-a", args.announce_ms.is_some())] {
        if given {
            log::warn!("{flag} is for networks of servers; this version is one server, so it has no effect");
        }
    }
    let server = match Server::new(&options) {
        Ok(server) => server,
        Err(error) => {
            eprintln!(
                "error: cannot listen on port {}: {error}; -lp chooses another, -lp 0 a free one",
                options.port
            );
            return ExitCode::FAILURE;
        }
    };
    for address in server.addresses() {
        // For scripts; that nobody reads it is no reason to stop.
        let _ = writeln!(std::io::stdout(), "listening on {address}");
    }
    match server.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the event loop failed: {error}");
            ExitCode::FAILURE
        }
    }
}

impl ServerArgs {
    fn options(&self) -> Result<Options, String> {
        if self.remote_host.is_some() || self.remote_port.is_some() {
            return Err(
                "-rh and -rp join a network of servers; this version is one server, so leave them out".into(),
            );
        }
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
        let loopback = |host: &str| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        let bind = match (self.bind, &self.local_host) {
            (Some(address), _) => Bind::Only(address),
            (None, Some(host)) if !loopback(host) => Bind::Everywhere,
            (None, _) => Bind::Loopback,
        };
        let limits = Limits {
            line_bytes: self.line_bytes,
            feed_bytes: self.feed_bytes,
            away: self.away,
            login: self.login_timeout,
            failed_logins: self.failed_logins,
            names: self.names,
            hash_kib: self.hash_kib,
            hash_passes: self.hash_passes,
            hash_threads: usize::from(self.hash_threads),
        };
        Ok(Options { bind, port: self.local_port, limits })
    }
}

fn client(args: ClientArgs) -> ExitCode {
    let options = client::Options {
        host: args.remote_host,
        port: args.remote_port,
        name: args.username,
        secret: args.secret,
        local_port: args.local_port,
        listen: args.listen,
        count: args.count,
    };
    client::run(&options, std::io::stdin(), std::io::stdout()).into()
}

fn size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text
        .trim_end_matches("iB")
        .split_at_checked(text.trim_end_matches("iB").len().saturating_sub(1))
    {
        Some((digits, "K" | "k")) => (digits, 10),
        Some((digits, "M" | "m")) => (digits, 20),
        Some((digits, "G" | "g")) => (digits, 30),
        _ => (text, 0),
    };
    let n: usize = digits
        .parse()
        .map_err(|_| "a size is a number of bytes, or one with K, M or G behind it".to_owned())?;
    n.checked_mul(1 << shift)
        .filter(|n| *n <= 1 << 40)
        .ok_or_else(|| "that is more than a terabyte".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let ms = digits.parse::<u64>().ok().filter(|_| unit_ms > 0).and_then(|n| n.checked_mul(unit_ms));
    let ms = ms.ok_or("a duration is a number of seconds, or one with ms, s, m or h behind it")?;
    if ms > 366 * 24 * 3_600_000 {
        Err("that is more than a year".into())
    } else {
        Ok(Duration::from_millis(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(old_flags(line.split_whitespace().map(OsString::from)))
    }

    fn options(line: &str) -> Result<Options, String> {
        match parse(line).map_err(|e| e.to_string())?.command {
            Command::Server(args) => args.options(),
            Command::Client(_) | Command::Sim(_) => Err("no server".into()),
        }
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn old_flags_work_as_written() {
        let server = options("as server -lp 4000 -lh localhost -s secret -a 1000").unwrap();
        assert_eq!((server.port, server.bind), (4000, Bind::Loopback));
        let Command::Client(client) =
            parse("as client -u bob -s sek -rh host -rp 4001 -lp=77").unwrap().command
        else {
            panic!()
        };
        assert_eq!((client.username.as_deref(), client.secret.as_deref()), (Some("bob"), Some("sek")));
        assert_eq!((&*client.remote_host, client.remote_port, client.local_port), ("host", 4001, Some(77)));
    }

    #[test]
    fn where_a_server_listens_follows_from_lh_and_bind() {
        assert_eq!(options("as server").unwrap().bind, Bind::Loopback);
        assert_eq!(options("as server -lh 127.0.0.1").unwrap().bind, Bind::Loopback);
        assert_eq!(options("as server -lh chat.example").unwrap().bind, Bind::Everywhere);
        let only = options("as server -lh chat.example --bind 127.0.0.2").unwrap().bind;
        assert_eq!(only, Bind::Only([127, 0, 0, 2].into()));
    }

    #[test]
    fn wrong_values_are_refused_with_what_to_do() {
        for (line, hint) in [
            ("as server --line-bytes 1", "from 4096"),
            ("as server --feed-bytes 1M", "at least 4194304"),
            ("as server --feed-bytes 9X", "K, M or G"),
            ("as server --away soon", "number of seconds"),
            ("as server --hash-kib 1", "8.."),
            ("as server -rh other", "one server"),
            ("as server -lp 70000", "65535"),
        ] {
            let error = options(line).unwrap_err();
            assert!(error.contains(hint), "{line}: {error}");
        }
        assert!(parse("as client -s x").is_err());
    }

    #[test]
    fn sizes_and_durations_are_read() {
        assert_eq!(
            (size("10"), size("2K"), size("1MiB"), size("1g")),
            (Ok(10), Ok(2048), Ok(1 << 20), Ok(1 << 30))
        );
        assert_eq!((time("5"), time("250ms")), (Ok(Duration::from_secs(5)), Ok(Duration::from_millis(250))));
        assert_eq!((time("2m"), time("1h")), (Ok(Duration::from_secs(120)), Ok(Duration::from_secs(3600))));
    }
}
