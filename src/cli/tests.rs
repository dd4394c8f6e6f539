use super::values::page;
use super::*;
use crate::server::Spawn;
use clap::CommandFactory;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(old_flags(line.split_whitespace().map(OsString::from)))
}

fn options(line: &str) -> Result<Options, String> {
    match parse(line).map_err(|e| e.to_string())?.command {
        Command::Server(args) => args.options(),
        _ => Err("no server".into()),
    }
}

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn old_flags_work_as_written() {
    let line = "as server -lp 4000 -lh localhost -rh other -rp 4001 -s secret -a 1000";
    let server = options(line).unwrap();
    assert_eq!((server.port, server.bind), (4000, Bind::Loopback));
    assert_eq!(
        (server.join, server.limits.announce),
        (Some(("other".to_owned(), 4001)), Duration::from_secs(1))
    );
    assert!(matches!(server.secret, Source::Given(secret) if *secret == "secret"));
    let Command::Client(client) = parse("as client -u bob -s sek -rh host -rp 4001 -lp=77").unwrap().command
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
fn where_the_cluster_secret_is_follows_from_four_flags() {
    let secret = |line: &str| format!("{:?}", options(line).unwrap().secret);
    assert_eq!(secret("as server"), "Kept(\"activitystreamer-data\")");
    assert_eq!(secret("as server -lp 0"), "Ephemeral(\"activitystreamer-data\")");
    assert_eq!(secret("as server -lp 0 --data-dir d"), "Kept(\"d\")");
    assert_eq!(secret("as server --secret-file f --data-dir d"), "File(\"f\")");
    assert_eq!(secret("as server -s sek"), "Given(..)");
    assert!(!format!("{:?}", options("as server -s sek").unwrap()).contains("sek"));
    let joins = |line: &str| options(line).unwrap().join;
    assert_eq!((joins("as server"), joins("as server -rh h")), (None, Some(("h".to_owned(), 3780))));
}

#[test]
fn wrong_values_are_refused_with_what_to_do() {
    for (line, hint) in [
        ("as server --line-bytes 1", "from 4096"),
        ("as server --feed-bytes 1M", "at least 4194304"),
        ("as server --feed-bytes 9X", "K, M or G"),
        ("as server --away soon", "number of seconds"),
        ("as server --hash-kib 1", "8.."),
        ("as server -rp 4000", "--remote-host"),
        ("as server -rh other -rp 0", "1..=65535"),
        ("as server -a 99", "100..=600000"),
        ("as server -s x --secret-file y", "cannot be used with"),
        ("as server -lp 70000", "65535"),
        ("as server -lh one.example:3780", "the port has a flag of its own"),
        ("as server -rh=", "without blanks"),
        ("as server -s=", "not empty"),
        ("as server --log loud", "off, error, warn"),
    ] {
        let error = options(line).unwrap_err();
        assert!(error.contains(hint), "{line}: {error}");
    }
    assert!(parse("as client -s x").is_err());
    assert!(parse("as client -rh localhost:3780").unwrap_err().to_string().contains("-rp"));
}

#[test]
fn a_stop_may_take_half_a_minute_or_what_is_said() {
    let drain = |line: &str| options(line).unwrap().limits.drain;
    assert_eq!(drain("as server"), Duration::from_secs(30));
    assert_eq!(
        (drain("as server --drain 5"), drain("as server --drain 0")),
        (time("5s").unwrap(), Duration::ZERO)
    );
}

#[test]
fn where_the_status_pages_are_is_this_machine_unless_it_is_said() {
    let at = |text: &str| place(text).map(|at| at.to_string());
    assert_eq!(at("9780"), Ok("127.0.0.1:9780".into()));
    assert_eq!((at(":0"), at("[::]:1")), (Ok("127.0.0.1:0".into()), Ok("[::]:1".into())));
    assert!(at("localhost:1").unwrap_err().contains("127.0.0.1:9780") && at("70000").is_err());
    let asked = |text: &str| page(text).map(|(host, port)| format!("{host} {port}"));
    assert_eq!((asked("9780"), asked("http://[::1]:1/")), (Ok("127.0.0.1 9780".into()), Ok("::1 1".into())));
    assert_eq!(asked("one.example:9780"), Ok("one.example 9780".into()));
    assert!(asked("one.example").unwrap_err().contains("one.example:9780"));
    let options = options("as server --http 0.0.0.0:9780").unwrap();
    assert_eq!(options.http.map(|at| at.to_string()), Some("0.0.0.0:9780".into()));
}

#[test]
fn hosts_are_names_and_addresses() {
    for good in ["localhost", "one.example", "10.0.0.1", "::1", "fe80::1%eth0", "a_b"] {
        assert_eq!(host(good), Ok(good.to_owned()));
    }
    assert_eq!(host("[::1]"), Ok("::1".to_owned()));
    for bad in ["", "[]", "a b", "a\nb", "a:1", "::1:x:y", &"h".repeat(254)] {
        assert!(host(bad).is_err(), "{bad:?}");
    }
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

#[test]
fn a_server_that_is_started_has_the_limits_of_the_one_that_starts_it_and_no_secret_in_its_flags() {
    let line = "as server -lp 4000 -s topsecret --max-clients 5 --away 3m --line-bytes 64K --retire 2s --fsync always";
    let own = options(line).unwrap();
    for (how, local) in [("", true), (" --spawn local", true), (" --spawn cmd", false)] {
        let (flags, spawn) = match options(&format!("{line}{how}")).unwrap().spawn {
            Some(Spawn::Local(flags)) if local => (flags, "local"),
            Some(Spawn::Command(text, flags)) if !local && text == "cmd" => (flags, "off"),
            other => panic!("{other:?}"),
        };
        let flags: Vec<&str> = flags.iter().map(|flag| flag.to_str().unwrap()).collect();
        assert!(!flags.iter().any(|flag| flag.contains("topsecret")), "{flags:?}");
        let other = options(&format!("as server {} -rh h --spawned 7", flags.join(" "))).unwrap();
        let wanted = Limits { spawned: Some(7), spawn_max: if local { 8 } else { 0 }, ..own.limits.clone() };
        assert_eq!(other.limits, wanted, "{spawn}");
        assert_eq!(format!("{:?}", other.secret), "File(\"/dev/stdin\")");
        assert_eq!((other.port == 0, other.spawn.is_some()), (local, local));
    }
    assert!(options(&format!("{line} --spawn off")).unwrap().spawn.is_none());
    assert!(options("as server").unwrap().spawn.is_none());
    assert!(options("as server --spawn local").unwrap_err().contains("--max-clients"));
}
