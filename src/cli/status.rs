//! `activitystreamer status`: what a server's status page says, as a table.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::values::{page, time};

/// Where `status` asks unless it is told.
const USUAL: &str = "127.0.0.1:9780";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer: sixty servers have some thousands.
const ANSWER_BYTES: u64 = 4 << 20;

pub const HELP: &str = "\
It asks the server's status page, which `server --http` opens.

Exit codes: 0 all is well; 1 something is not, or no answer came; 2 wrong command line.";

#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the server's status pages are; a port alone is one of this machine's
    #[arg(value_name = "HOST:PORT", default_value = USUAL, value_parser = page)]
    at: (String, u16),
    /// Ask again and again, every 2 s or what is said
    #[arg(long, value_name = "TIME", value_parser = time, num_args = 0..=1, require_equals = true, default_missing_value = "2s")]
    watch: Option<Duration>,
    /// Print the page as it is: JSON
    #[arg(long)]
    json: bool,
    /// Only ask whether the server is alive, whatever its network is
    #[arg(long, conflicts_with_all = ["watch", "json"])]
    alive: bool,
}

/// Prints a server's status, once or again and again.
pub fn run(args: &StatusArgs) -> ExitCode {
    loop {
        let (text, is_well) = match ask((&*args.at.0, args.at.1), args.alive) {
            Ok(Value::String(alive)) => (alive, true),
            Ok(page) => {
                let is_well = page["healthy"] == true;
                (if args.json { format!("{page:#}\n") } else { table(&page) }, is_well)
            }
            Err(why) => {
                let (host, port) = &args.at;
                (format!("error: no status from {host} port {port}: {why}\n"), false)
            }
        };
        let Some(pause) = args.watch else {
            let shown = if text.starts_with("error: ") {
                write(io::stderr(), &text)
            } else {
                write(io::stdout(), &text)
            };
            return if shown && is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        };
        // A terminal shows the newest in the place of the one before.
        let text = if io::stdout().is_terminal() { format!("\x1b[H\x1b[2J{text}") } else { text + "\n" };
        if !write(io::stdout(), &text) {
            return ExitCode::FAILURE;
        }
        std::thread::sleep(pause.max(Duration::from_millis(100)));
    }
}

fn write(mut to: impl Write, text: &str) -> bool {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).is_ok()
}

/// The status page; or with `alive` the text that says so.
pub(crate) fn ask(at: impl ToSocketAddrs, alive: bool) -> Result<Value, String> {
    let page = get(at, if alive { "/healthz" } else { "/status" }).map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => "nobody listens there; start the server with --http".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
        _ => error.to_string(),
    })?;
    let (head, body) = page.split_once("\r\n\r\n").ok_or("that is no status page")?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(format!("it answers {:?}", head.lines().next().unwrap_or_default()));
    }
    if alive {
        return Ok(Value::String(body.to_owned()));
    }
    serde_json::from_str(body).map_err(|error| format!("that is no status page: {error}"))
}

/// The page with its head.
fn get(at: impl ToSocketAddrs, path: &str) -> io::Result<String> {
    let mut found = Err(io::Error::other("the host has no address"));
    for address in at.to_socket_addrs()? {
        found = TcpStream::connect_timeout(&address, PATIENCE);
        if found.is_ok() {
            break;
        }
    }
    let mut stream = found?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", stream.peer_addr()?)?;
    let mut page = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut page)?;
    Ok(page)
}

/// The table: this server first, then the others.
fn table(page: &Value) -> String {
    // Names of hosts come from other servers: a terminal must not obey them.
    let text = |value: &Value| value.as_str().unwrap_or("-").replace(char::is_control, "?");
    let number = |value: &Value| value.as_u64().map_or("-".to_owned(), |n| n.to_string());
    let address = |server: &Value| format!("{}:{}", text(&server["hostname"]), number(&server["port"]));
    let id = |server: &Value| text(&server["id"]).chars().take(8).collect::<String>();
    let head =
        ["SERVER", "ID", "STATE", "SESSIONS", "UNCONFIRMED", "MISSING", "NAMES", "SILENT"].map(str::to_owned);
    let own = [address(page), id(page), text(&page["state"]), number(&page["sessions"])];
    let dashes = ["-"; 4].map(str::to_owned);
    let mut rows = vec![head.to_vec(), [own, dashes].concat()];
    let servers = page["servers"].as_array().map_or(&[][..], Vec::as_slice);
    for server in servers {
        let names = match server["same_names"].as_bool() {
            Some(true) => "same",
            Some(false) => "differ",
            None => "-",
        };
        let state = if server["draining"] == true { "draining".to_owned() } else { text(&server["state"]) };
        let silent = server["silent_ms"].as_u64().unwrap_or(0);
        rows.push(vec![
            address(server),
            id(server),
            state,
            number(&server["sessions"]),
            number(&server["unconfirmed"]),
            number(&server["missing"]),
            names.to_owned(),
            format!("{}.{} s", silent / 1000, silent % 1000 / 100),
        ]);
    }
    let mut table = columns(&rows);
    let linked = servers.iter().filter(|server| server["state"] == "linked");
    let sessions = linked.clone().chain([page]).filter_map(|server| server["sessions"].as_u64());
    let sync = if page["in_sync"] == true { "in sync" } else { "NOT in sync" };
    let (n, sessions) = (1 + linked.count(), sessions.sum::<u64>());
    let mut line =
        |text: std::fmt::Arguments<'_>| writeln!(table, "{text}").expect("a String takes every write");
    line(format_args!("network: {n} servers up, {sessions} sessions, {sync}"));
    line(format_args!(
        "here: {} of {} connections, {} names, {} mailboxes ({} bytes), storage {}, version {}, up {} s",
        number(&page["connections"]),
        number(&page["connections_max"]),
        number(&page["names"]),
        number(&page["mailboxes"]),
        number(&page["mailbox_bytes"]),
        text(&page["storage"]),
        text(&page["version"]),
        number(&page["uptime_s"]),
    ));
    for trouble in page["troubles"].as_array().into_iter().flatten() {
        line(format_args!("trouble: {}", text(trouble)));
    }
    table
}

/// Rows of words, each column as wide as its longest.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
