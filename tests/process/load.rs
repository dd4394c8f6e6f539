//! The load generator: it finds what is wrong with a server, and nothing wrong with ours.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::crew::mesh;
use crate::fake::{Fake, Fault};
use crate::stage::{BINARY, Process, Server};

/// Starts it with these flags, for a second unless they say otherwise.
fn start(servers: &[String], flags: &str) -> Process {
    let time: &[&str] = if flags.contains("--time") { &[] } else { &["--time", "1s"] };
    let mut command = Command::new(BINARY);
    command.args(["bench", "--json", "--warmup", "0"]).args(time).args(servers);
    Process::start(command.args(flags.split_whitespace()).env("RUST_LOG", "warn"))
}

/// How it ended, and what it says.
fn end(mut process: Process) -> (i32, Value) {
    let text = process.output.rest();
    let code = process.end().code().expect("it ends by itself");
    let lines: Vec<&str> = text.lines().collect();
    let [line] = lines[..] else { panic!("one line, not {text:?}; {}", process.errors.rest()) };
    (code, serde_json::from_str(line).expect("JSON"))
}

fn bench(servers: &[String], flags: &str) -> (i32, Value) {
    end(start(servers, flags))
}

#[test]
fn one_delivery_that_is_missing_repeated_or_swapped_fails_a_run() {
    for (fault, name) in
        [(Fault::Drops, "lost"), (Fault::Repeats, "repeated"), (Fault::Swaps, "out_of_order")]
    {
        let fake = Fake::start(fault);
        let (code, page) = bench(&[fake.address.to_string()], "--clients 5 --rate 100 --processes 2");
        let found = ["lost", "repeated", "out_of_order"].map(|name| (name, page[name].as_u64()));
        assert_eq!(
            found,
            found.map(|(other, _)| (other, Some(u64::from(other == name)))),
            "{fault:?}: {page}"
        );
        assert_eq!((code, &page["ok"]), (1, &Value::Bool(false)), "{fault:?}: {page}");
    }
}

#[test]
fn a_server_that_spells_its_lines_in_another_way_passes() {
    for fault in [Fault::None, Fault::Respells] {
        let fake = Fake::start(fault);
        let (code, page) = bench(&[fake.address.to_string()], "--clients 5 --window 8 --talkers 2");
        assert_eq!((code, &page["malformed"], &page["foreign"]), (0, &0.into(), &0.into()), "{page}");
        let n = |name: &str| page[name].as_u64().expect("a number");
        assert!(n("messages") > 8 && n("deliveries") == 5 * n("messages"), "{page}");
    }
}

#[test]
fn who_is_cut_off_fails_a_run_unless_it_is_slow() {
    let fake = Fake::start(Fault::Cuts);
    let (code, page) = bench(&[fake.address.to_string()], "--clients 2 --rate 100");
    assert_eq!((code, &page["broken"], &page["slow_cut"]), (1, &1.into(), &0.into()), "{page}");
    assert!(page["lost"].as_u64() > Some(0) && page["reasons"][0].is_string(), "{page}");
    let fake = Fake::start(Fault::Cuts);
    let (code, page) = bench(&[fake.address.to_string()], "--clients 2 --rate 100 --slow 1");
    assert_eq!((code, &page["broken"], &page["slow_cut"]), (0, &0.into(), &1.into()), "{page}");
    assert!(page["slow_missed"].as_u64() > Some(0), "{page}");
}

#[test]
fn every_process_has_addresses_of_its_own_and_there_are_as_many_as_the_clients_need() {
    let fake = Fake::start(Fault::None);
    let script =
        r#"ulimit -n 100 && exec "$0" bench --json --warmup 0 --time 1s --rate 5 --clients 150 "$1""#;
    let address = fake.address.to_string();
    let (code, page) = end(Process::start(Command::new("sh").args(["-c", script, BINARY, &address])));
    assert_eq!((code, &page["processes"]), (0, &3.into()), "{page}");
    let sources: BTreeSet<_> = fake.sources().iter().map(|source| source.ip().to_string()).collect();
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["127.64.0.1", "127.65.0.1", "127.66.0.1"]);
}

#[test]
fn a_server_of_ours_passes_with_slow_clients_and_its_processor_time_is_told() {
    let server = Server::start(&[]);
    let flags = format!(
        "--clients 40 --talkers 5 --rate 200 --size 4K --registered --processes 2 --slow 10% --slow-bytes 20K \
         --server-pid {}",
        server.process.id()
    );
    let (code, page) = bench(&[server.address().to_string()], &flags);
    let n = |name: &str| page[name].as_u64().expect("a number");
    assert_eq!((code, n("slow"), n("messages"), n("deliveries")), (0, 4, 200, 8000), "{page}");
    for times in ["latency_us", "login_us", "registration_us"] {
        let [p50, p99, max] = ["p50", "p99", "max"].map(|name| page[times][name].as_u64());
        assert!(Some(0) < p50 && p50 <= p99 && p99 <= max, "{times}: {page}");
    }
    assert_eq!(
        (&page["latency_us"]["count"], &page["login_us"]["count"]),
        (&7200.into(), &40.into()),
        "{page}"
    );
    assert!(page["logins_per_s"].as_f64() > Some(1.0) && page["server_cpu_s"].is_number(), "{page}");
}

#[test]
fn clients_that_are_sent_to_other_servers_while_all_talk_hear_everything_once() {
    let mut servers = mesh(3);
    let addresses: Vec<String> = servers.iter().map(|server| server.address().to_string()).collect();
    let mut listener = servers[0].login("anonymous");
    let run = start(&addresses, "--clients 30 --talkers 30 --rate 300 --registered --time 3s --processes 2");
    // They talk by now.
    listener.hear_activity();
    servers[1].process.signal("TERM");
    let (code, page) = end(run);
    let n = |name: &str| page[name].as_u64().expect("a number");
    assert_eq!((code, n("messages"), n("deliveries"), n("broken")), (0, 900, 27_000, 0), "{page}");
    assert!(n("moved") >= 10, "{page}");
    servers[1].process.end_with(0);
}

#[test]
fn what_cannot_be_done_is_said_with_a_code_of_its_own() {
    let server = Server::start(&[]);
    let there = server.address().to_string();
    let nowhere = {
        let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        taken.local_addr().expect("bound").to_string()
    };
    for (at, flags, wanted, words) in [
        (&nowhere, "", 3, "refused"),
        (&there, "--talkers 9 --clients 8", 2, "--talkers 9"),
        (&there, "--rate 5 --window 5", 2, "--window"),
        (&there, "--rate 0", 2, "above 0"),
        (&there, "--size 1", 2, "to 1000000"),
        (&there, "--slow 101%", 2, "--slow 101%"),
        (&there, "--processes 101", 2, "--processes"),
        (&there, "--server-pid 0", 2, "no process"),
        (&"localhost".to_owned(), "", 2, "localhost:3780"),
    ] {
        let mut process = start(std::slice::from_ref(at), flags);
        let (text, code) = (process.errors.rest(), process.end().code());
        assert!(text.contains(words) && code == Some(wanted), "{at} {flags}: {code:?}, {text}");
    }
}
