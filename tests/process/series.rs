//! Every series in `/metrics` moves when what it counts happens.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::process::Command;
use std::thread;

use activitystreamer::sim::{Options, run};
use serde_json::json;

use crate::kept::Folder;
use crate::provoked;
use crate::stage::{BINARY, CHEAP, PATIENCE, Server};

/// They say how something is and never change.
const FIXED: [&str; 2] =
    ["activitystreamer_open_connections_max", "activitystreamer_build_info{version=\"0.1.0\"}"];
/// Moved by tests beside the code: a disk that fails only when it syncs cannot be had here, and more clients with ids
/// than can be known take long to come.
const ELSEWHERE: [&str; 2] =
    ["activitystreamer_syncs_failed_total", "activitystreamer_clients_forgotten_total"];
/// Networks in virtual time whose nodes' counts are looked at, at most.
const SEEDS: u64 = 300;

/// The series that were seen to move.
#[derive(Default)]
pub struct Seen {
    last: BTreeMap<String, String>,
    moved: BTreeSet<String>,
}

impl Seen {
    /// Takes a page, and notes what is different from the last.
    pub fn look(&mut self, page: &str) {
        let now = series(page);
        for (name, value) in &now {
            if self.last.get(name).is_some_and(|last| last != value) {
                self.moved.insert(name.clone());
            }
        }
        self.last = now;
    }

    /// The next page is of another node.
    pub fn forget(&mut self) {
        self.last.clear();
    }
}

/// The series of a page with their values. The page must be one that Prometheus reads.
pub fn series(page: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let (mut helped, mut kinds) = (BTreeSet::new(), BTreeMap::new());
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a help has a text");
            assert!(text.len() > 10 && text.ends_with('.') || text == "1, with the version.", "{line}");
            assert!(helped.insert(name.to_owned()), "one help each: {line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type has a name");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            kinds.insert(name.to_owned(), kind.to_owned());
        } else {
            let (name, value) = line.rsplit_once(' ').expect("a series has a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            let family = name.split('{').next().expect("a name");
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| family.strip_suffix(end));
            let kind = kinds.get(family).or_else(|| stem.and_then(|stem| kinds.get(stem)));
            let kind = kind.unwrap_or_else(|| panic!("a type comes before {line}"));
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
            assert!(family.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
            assert!(all.insert(name.to_owned(), value.to_owned()).is_none(), "one value each: {line}");
        }
    }
    all
}

/// A server with its status pages.
pub struct Watched {
    pub server: Server,
    pub http: SocketAddr,
}

impl Watched {
    pub fn start(flags: &[&str]) -> Watched {
        Watched::run(
            Command::new(BINARY)
                .arg("server")
                .args(CHEAP)
                .args(["--http", "0"])
                .args(flags)
                .env("RUST_LOG", "debug"),
        )
    }

    pub fn run(command: &mut Command) -> Watched {
        let server = Server::run(command);
        let line = server.process.output.line_with("status on http://");
        let http = line.trim_start_matches("status on http://").trim_end_matches('/').parse();
        Watched { server, http: http.unwrap_or_else(|_| panic!("it prints an address, not {line:?}")) }
    }

    /// What it answers to these bytes, up to its end.
    pub fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.http).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        stream.write_all(bytes).expect("it takes a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers and closes");
        answer
    }

    /// A page: its status line, and its body.
    pub fn page(&self, path: &str) -> (String, String) {
        let answer = self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("a page, not {answer:?}"));
        (head.lines().next().unwrap_or_default().to_owned(), body.to_owned())
    }

    pub fn metrics(&self) -> String {
        self.page("/metrics").1
    }

    /// Looks until this holds of a series.
    pub fn until(&self, name: &str, holds: impl Fn(f64) -> bool) -> f64 {
        let until = std::time::Instant::now() + PATIENCE;
        loop {
            let value = series(&self.metrics()).get(name).and_then(|value| value.parse().ok());
            let value = value.unwrap_or_else(|| panic!("there is a series {name}"));
            if holds(value) {
                return value;
            }
            assert!(std::time::Instant::now() < until, "{name} stays at {value}");
            thread::yield_now();
        }
    }
}

/// What a real server shows of sockets, pages, memory, signals.
fn program(seen: &mut Seen) -> BTreeSet<String> {
    let folder = Folder::new("series");
    let (settings, kept) = (folder.path("as.toml"), folder.path("kept"));
    std::fs::write(&settings, "away = \"1m\"\n").expect("a file");
    let flags = ["--config", &settings, "--data-dir", &kept];
    let one = Watched::start(&flags);
    let names = series(&one.metrics()).into_keys().collect();
    seen.look(&one.metrics());
    let mut ann = one.server.register("ann");
    let mut bob = one.server.login("anonymous");
    for n in 0..100 {
        ann.say(json!({ "n": n, "pad": "x".repeat(10_000) }));
        bob.hear_numbers([n]);
    }
    let mut half = one.server.login("anonymous");
    half.tell_bytes(&[b'x'; 50_000]);
    one.until("activitystreamer_input_bytes", |bytes| bytes >= 50_000.0);
    one.until("activitystreamer_sessions", |n| n >= 3.0);
    one.until("activitystreamer_uptime_seconds", |s| s >= 1.0);
    one.ask(b"POST / HTTP/1.1\r\n\r\n");
    std::fs::write(&settings, "away = \"2m\"\n").expect("a file");
    one.server.process.signal("HUP");
    one.until("activitystreamer_reloads_total", |n| n == 1.0);
    seen.look(&one.metrics());
    seen.forget();

    // More connections than there are descriptors.
    let few = format!("ulimit -n 24; exec \"$0\" server {} --http 0", CHEAP.join(" "));
    let few = Watched::run(Command::new("sh").args(["-c", &few, BINARY]).env("RUST_LOG", "debug"));
    seen.look(&few.metrics());
    let mut crowd: Vec<_> = (0..20).map(|_| few.server.connect()).collect();
    few.server.process.errors.line_with("accepting a connection failed");
    crowd.truncate(5);
    few.until("activitystreamer_accepts_failed_total", |n| n >= 1.0);
    seen.look(&few.metrics());
    seen.forget();
    names
}

/// What nodes count in these networks in virtual time, with all faults.
fn networks(seen: &mut Seen, seeds: Range<u64>) {
    let play = |half: u64| {
        let seeds = seeds.clone().filter(move |seed| seed % 2 == half);
        move || seeds.map(|seed| run(seed, &Options::default())).collect::<Vec<_>>()
    };
    let outcomes = thread::scope(|scope| {
        let halves = [scope.spawn(play(0)), scope.spawn(play(1))];
        halves.map(|half| half.join().expect("a seed's panic is an outcome")).concat()
    });
    for (what, n) in outcomes.into_iter().flat_map(|outcome| outcome.counted) {
        let labelled = [("closed", "reason"), ("peer_frames_bytes", "kind"), ("peer_frames", "kind")];
        let labelled = labelled.iter().find_map(|(stem, label)| {
            let value = what.strip_prefix(stem)?.strip_prefix('_')?;
            Some(format!("activitystreamer_{stem}_total{{{label}=\"{value}\"}}"))
        });
        let name = labelled.unwrap_or_else(|| format!("activitystreamer_{what}_total"));
        if n > 0 {
            seen.moved.insert(name);
        }
    }
}

#[test]
fn every_series_in_metrics_moves_when_what_it_counts_happens() {
    let mut seen = Seen::default();
    provoked::clients(&mut seen);
    provoked::gauges(&mut seen);
    provoked::servers(&mut seen);
    provoked::ids(&mut seen);
    let all = program(&mut seen);
    let missed = |seen: &Seen| -> Vec<String> {
        let is_fixed = |name: &str| FIXED.contains(&name) || ELSEWHERE.contains(&name);
        // A histogram is one thing, whichever of its buckets moves.
        let others = all.iter().filter(|name| !is_fixed(name) && !name.contains("_bucket{"));
        others.filter(|name| !seen.moved.contains(*name)).cloned().collect()
    };
    // Repairs and bounds that ran out take faults to happen.
    for first in (0..SEEDS).step_by(20) {
        if missed(&seen).is_empty() {
            break;
        }
        networks(&mut seen, first..first + 20);
    }
    assert!(missed(&seen).is_empty(), "nothing moves {:#?}", missed(&seen));
    let unknown: Vec<&String> = seen.moved.iter().filter(|name| !all.contains(*name)).collect();
    assert!(unknown.is_empty(), "a server does not show {unknown:#?}");
}
