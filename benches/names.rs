//! What very many registered names cost: memory, starting, telling a newcomer, logins meanwhile; and where the bytes
//! of a client are. Prints the tables of docs/performance.md.
//!
//! `cargo bench --bench names -- 1000 1000000` measures these numbers of names.

#[path = "names/folder.rs"]
mod folder;
#[path = "size/stage.rs"]
mod stage;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use folder::{Folder, SECRET, name};
use hdrhistogram::Histogram;
use stage::{Subject, descriptors, kernel_bytes, logged_in};

/// Numbers of names, unless others are asked for.
const SIZES: [usize; 2] = [1_000, 1_000_000];
const MIB: f64 = (1 << 20) as f64;

/// How much is measured.
struct Plan {
    sizes: Vec<usize>,
    /// Clients of each kind whose bytes are looked at.
    clients: usize,
    /// For so long logins are timed while nothing else happens.
    idle: Duration,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let plan = match args.iter().any(|arg| arg == "--test") {
        // Only whether it runs.
        true => Plan { sizes: vec![100], clients: 20, idle: Duration::from_millis(100) },
        false => Plan {
            sizes: if sizes.is_empty() { SIZES.to_vec() } else { sizes },
            clients: 10_000.min(descriptors().saturating_sub(100)),
            idle: Duration::from_secs(10),
        },
    };
    let empty = empty_bytes();
    println!(
        "| names | start, of it processor, s | killed, and again | memory, bytes a name | disk, bytes a name | peak of a start, MiB | anonymous logins: p50, p99, worst ms | with a name |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let kinds = plan.sizes.iter().flat_map(|names| [(*names, false), (*names, true)]);
    let synced: Vec<String> = kinds.map(|(names, away)| plan.names(names, away, empty)).collect();
    println!(
        "\n| names | newcomer has all, s | and on disk, s | processor of old, new, s | longest turn of old, new, ms | peak of old, new, MiB | new after, MiB | anonymous logins at the old meanwhile | with a name |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    synced.iter().for_each(|row| println!("{row}"));
    plan.clients();
}

/// What a server has in use that knows nothing yet.
fn empty_bytes() -> i64 {
    let folder = Folder::new("empty");
    let server = serve(&folder, free_port(), "");
    drop(logged_in(server.port));
    server.anonymous_bytes()
}

fn serve(folder: &Folder, port: u16, more: &str) -> Subject {
    let path = folder.path().display();
    Subject::serving(&format!("-lp {port} --data-dir {path} --hash-kib 8 --hash-passes 1{more}"))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("it is bound").port()
}

impl Plan {
    /// Prints what so many names cost a server; returns what they cost a newcomer, as a row.
    fn names(&self, names: usize, away: bool, empty: i64) -> String {
        let (folder, port) = (Folder::new("old"), free_port());
        folder.fill(port, names, away);
        let what = if away { format!("{names}, each away") } else { names.to_string() };
        let start = || {
            let begun = Instant::now();
            let server = serve(&folder, port, "");
            let took = [begun.elapsed(), server.cpu()].map(|time| time.as_secs_f64());
            (server, format!("{:.2}, {:.2}", took[0], took[1]))
        };
        let (_, first) = start();
        let (old, again) = start();
        assert_eq!(metric(&old, "names"), names as u64);
        let (bytes, peak) = (old.anonymous_bytes() - empty, old.peak_bytes());
        let logins = beside(port, names, || thread::sleep(self.idle));
        println!(
            "| {what} | {first} | {again} | {} | {} | {:.0} | {logins} |",
            bytes / names as i64,
            folder.kept_bytes(port) / names as u64,
            peak as f64 / MIB,
        );
        self.newcomer(names, &what, &old)
    }

    fn newcomer(&self, names: usize, what: &str, old: &Subject) -> String {
        old.forget_peak();
        let (cpu, begun) = (old.cpu(), Instant::now());
        let (folder, port) = (Folder::new("new"), free_port());
        let mut new = None;
        let mut told = (0.0, [0.0; 2], [0.0; 2]);
        let logins = beside(old.port, names, || {
            let server = serve(&folder, port, &format!(" -rh localhost -rp {}", old.port));
            let has_all = || metric(&server, "registrations_learnt_total") >= names as u64;
            while !has_all() || metric(&server, "in_sync") == 0 {
                thread::sleep(Duration::from_millis(20));
            }
            let longest =
                [old, &server].map(|server| server.figure("turn_longest_seconds").unwrap_or(0.0) * 1e3);
            let cpus = [old.cpu() - cpu, server.cpu()].map(|cpu| cpu.as_secs_f64());
            told = (begun.elapsed().as_secs_f64(), cpus, longest);
            new = Some(server);
        });
        let (new, (told, cpus, longest)) = (new.expect("it was started"), told);
        while metric(&new, "unkept_rows") > 0 {
            thread::sleep(Duration::from_millis(20));
        }
        let kept = begun.elapsed().as_secs_f64();
        let (peaks, after) =
            ([old, &new].map(|server| server.peak_bytes() as f64 / MIB), new.anonymous_bytes());
        drop(new);
        let again = serve(&folder, port, "");
        assert_eq!(metric(&again, "names"), names as u64, "it kept them");
        format!(
            "| {what} | {told:.2} | {kept:.2} | {:.2}, {:.2} | {:.0}, {:.0} | {:.0}, {:.0} | {:.0} | {logins} |",
            cpus[0],
            cpus[1],
            longest[0],
            longest[1],
            peaks[0],
            peaks[1],
            after as f64 / MIB,
        )
    }

    /// Where the bytes of clients are of each kind.
    fn clients(&self) {
        println!(
            "\n| {} clients | ours, bytes a client | kernel's, both ends, bytes a client |",
            self.clients
        );
        println!("|---|---|---|");
        let row = |what: &str, run: &dyn Fn(&Subject) -> Vec<TcpStream>| {
            let server = Subject::serving("-lp 0 --hash-kib 8 --hash-passes 1");
            drop(logged_in(server.port));
            let (ours, kernel) = (server.anonymous_bytes(), kernel_bytes());
            let open = run(&server);
            let (ours, kernel) = (server.anonymous_bytes() - ours, kernel_bytes() - kernel);
            let all = self.clients as i64;
            let kernel = if open.is_empty() { "-".to_owned() } else { (kernel / all).to_string() };
            println!("| {what} | {} | {kernel} |", ours / all);
        };
        let registered =
            |server: &Subject| (0..self.clients).map(|i| say(server.port, "REGISTER", &name(i))).collect();
        row("anonymous, online", &|server| (0..self.clients).map(|_| logged_in(server.port)).collect());
        row("registered, online", &registered);
        row("registered, away", &|server| {
            drop::<Vec<TcpStream>>(registered(server));
            while metric(server, "sessions") > 0 {
                thread::sleep(Duration::from_millis(100));
            }
            Vec::new()
        });
    }
}

/// Logs in anonymous clients and those with a name, one after the other each, while `work` is done. Returns for both
/// how long that took, as two places of a row.
fn beside(port: u16, names: usize, work: impl FnOnce()) -> String {
    let is_over = AtomicBool::new(false);
    let time = |login: &dyn Fn(usize)| {
        let mut all = Histogram::<u64>::new_with_max(60_000_000, 3).expect("three digits");
        let mut i = 0;
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            login(i);
            all.saturating_record(begun.elapsed().as_micros() as u64);
            i += 1;
            thread::sleep(Duration::from_millis(3));
        }
        let ms = |us: u64| us as f64 / 1e3;
        let [p50, p99] = [0.5, 0.99].map(|part| ms(all.value_at_quantile(part)));
        format!("{p50:.1}, {p99:.1}, {:.1}", ms(all.max()))
    };
    thread::scope(|scope| {
        let anonymous = scope.spawn(|| time(&|_| drop(logged_in(port))));
        let named = scope.spawn(|| time(&|i| drop(say(port, "LOGIN", &name(i * 7919 % names)))));
        work();
        is_over.store(true, Ordering::Relaxed);
        [anonymous, named].map(|thread| thread.join().expect("every login is answered")).join(" | ")
    })
}

/// A client with a name that registers, or logs in.
fn say(port: u16, command: &str, name: &str) -> TcpStream {
    let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    let line = format!("{{\"command\":\"{command}\",\"username\":\"{name}\",\"secret\":\"{SECRET}\"}}\n");
    socket.write_all(line.as_bytes()).expect("it reads");
    let mut answer = [0; 512];
    let read = socket.read(&mut answer).expect("it answers");
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.contains("_SUCCESS"), "{line}{answer}");
    socket
}

/// A number of a server's metrics.
fn metric(server: &Subject, name: &str) -> u64 {
    server.figure(name).unwrap_or_else(|| panic!("it shows {name}")) as u64
}
