//! The status pages of a real server: what they say, and that nobody who asks badly harms anybody.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::series::{Watched, series};
use crate::stage::{BINARY, PATIENCE, Process, Server};

fn status(watched: &Watched) -> Value {
    let (code, body) = watched.page("/status");
    assert_eq!(code, "HTTP/1.1 200 OK");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("JSON, not {body:?}: {error}"))
}

/// Asks until it holds.
fn until(watched: &Watched, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let page = status(watched);
        if holds(&page) {
            return page;
        }
        assert!(Instant::now() < until, "{what}: {page:#}");
    }
}

/// How `activitystreamer status` ends, and what it prints.
fn tell(watched: &Watched, flags: &[&str]) -> (i32, String) {
    let mut command = Command::new(BINARY);
    command.arg("status").arg(watched.http.to_string()).args(flags);
    let mut process = Process::start(&mut command);
    let text = process.output.rest();
    (process.end().code().unwrap_or(-1), text)
}

#[test]
fn a_server_says_how_it_stands() {
    let watched = Watched::start(&[]);
    assert!(watched.http.ip().is_loopback(), "unless told otherwise");
    assert_eq!(watched.page("/healthz"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
    assert_eq!(watched.page("/readyz?verbose=1").0, "HTTP/1.1 200 OK");
    let (code, body) = watched.page("/nothing");
    assert!(code.contains("404") && body.contains("/metrics"), "{code} {body}");
    let mut ann = watched.server.register("ann");
    let mut bob = watched.server.login("anonymous");
    for n in 0..10 {
        ann.say(json!({ "n": n }));
        ann.hear_numbers([n]);
        bob.hear_numbers([n]);
    }
    let page = series(&watched.metrics());
    let n = |name: &str| page[&format!("activitystreamer_{name}")].parse::<f64>().expect("a number");
    assert_eq!((n("activities_total"), n("deliveries_total"), n("logins_total")), (10.0, 20.0, 2.0));
    assert_eq!(n("delivery_lag_seconds_count"), 20.0);
    assert_eq!(n("delivery_lag_seconds_bucket{le=\"+Inf\"}"), 20.0);
    assert!(n("delivery_lag_seconds_sum") < 20.0, "nothing took a second");
    assert!(n("sent_bytes_total") > 2.0 * n("feed_bytes_total") - 1.0 && n("lines_bytes_total") > 500.0);
    let status = until(&watched, "two sessions", |page| page["sessions"] == 2);
    assert_eq!((&status["healthy"], &status["in_sync"]), (&json!(true), &json!(true)));
    let (code, text) = tell(&watched, &[]);
    assert!(code == 0 && text.contains("in sync") && text.contains("serving"), "{code}: {text}");
    let (code, text) = tell(&watched, &["--json"]);
    assert!(code == 0 && serde_json::from_str::<Value>(&text).is_ok(), "{code}: {text}");
}

#[test]
fn the_status_of_a_network_names_its_servers_and_what_is_wrong() {
    const SECRET: [&str; 2] = ["-s", "sek"];
    let one = Watched::start(&SECRET);
    let port = one.server.port.to_string();
    let flags = [&SECRET[..], &["-rh", "localhost", "-rp", &port]].concat();
    let mut two = Watched::start(&flags);
    let mut three = Server::start(&flags);
    for watched in [&one, &two] {
        let page = until(watched, "all are linked", |page| {
            let servers = page["servers"].as_array().expect("a list");
            servers.len() == 2 && page["in_sync"] == true && servers.iter().all(|s| s["same_names"] == true)
        });
        assert_eq!(page["healthy"], true, "{page:#}");
    }
    let mut watch =
        Process::start(Command::new(BINARY).args(["status", &one.http.to_string(), "--watch=100ms"]));
    watch.output.line_with("network: 3 servers up");
    watch.output.line_with("network: 3 servers up");

    // One is killed: what is left is not well.
    three.process.kill();
    let page = until(&one, "one is lost", |page| page["healthy"] == false);
    let lost = format!("the server at localhost:{} is lost", three.port);
    assert_eq!((&page["troubles"], &page["in_sync"]), (&json!([lost]), &json!(false)));
    watch.output.line_with("NOT in sync");
    watch.output.line_with(&format!("trouble: {lost}"));
    watch.kill();
    let (code, text) = tell(&one, &[]);
    assert!(code == 1 && text.contains("NOT in sync"), "{code}: {text}");

    // One stops as it should: while it drains it is not ready, and then it is not missed.
    let mut stuck = two.server.connect_slow();
    stuck.login("anonymous");
    two.server.process.signal("TERM");
    two.server.process.errors.line_with("are sent to other servers");
    let (code, body) = two.page("/readyz");
    assert!(code.contains("503") && body.contains("stops"), "{code} {body}");
    assert_eq!(two.page("/healthz").0, "HTTP/1.1 200 OK", "it is alive all the same");
    let page = until(&one, "it drains", |page| page.to_string().contains("\"draining\":true"));
    assert!(page["servers"].as_array().is_some_and(|servers| servers.len() == 2));
    let (alive, well) = (tell(&two, &["--alive"]), tell(&two, &[]));
    assert_eq!((alive, well.0), ((0, "ok\n".to_owned()), 1), "{}", well.1);
    drop(stuck);
    two.server.process.end_with(0);
    until(&one, "it has stopped", |page| page.to_string().contains("\"stopped\""));
}

#[test]
fn a_server_that_is_not_in_step_yet_is_not_ready() {
    // Nobody is at that port, so it waits for its first peer as long as it may.
    let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = gone.local_addr().expect("bound").port().to_string();
    let watched = Watched::start(&["-rh", "127.0.0.1", "-rp", &port]);
    let (code, body) = watched.page("/readyz");
    assert!(code.contains("503") && body.contains("not yet in step"), "{code} {body}");
    let until = Instant::now() + PATIENCE;
    while watched.page("/readyz").0 != "HTTP/1.1 200 OK" {
        assert!(Instant::now() < until, "it serves alone after a while");
    }
}

#[test]
fn bad_requests_get_a_clear_answer() {
    let watched = Watched::start(&[]);
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    let cases: [(&[u8], &str, &str); 10] = [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", "405", "only GET"),
        (b"DELETE / HTTP/1.1\r\n\r\n", "405", "only GET"),
        (b"GET /healthz HTTP/1.1\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n", "400", "one request a connection"),
        (b"GET /healthz HTTP/1.1\r\nContent-Length: 1\r\n\r\nx", "400", "one request a connection"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400", "no HTTP/1 request"),
        (b"{\"command\":\"LOGIN\",\"username\":\"anonymous\"}\n", "400", "no HTTP/1 request"),
        (b"GET / HTTP/9.9\r\n\r\n", "400", "no HTTP/1 request"),
        (b"\r\n\r\nGET\r\n\r\n", "400", "no HTTP/1 request"),
        (long.as_bytes(), "431", "8 KiB"),
        (many.as_bytes(), "431", "64 header fields"),
    ];
    for (request, code, why) in cases {
        let answer = watched.ask(request);
        let text = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(why), "{text}: {answer}");
    }
    let head = watched.ask(b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    let mut early = TcpStream::connect(watched.http).expect("it listens");
    early.write_all(b"GET /metr").expect("it takes bytes");
    early.shutdown(Shutdown::Write).expect("the connection stands");
    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("ends too early"), "{answer}");
    assert!(watched.until("activitystreamer_http_refused_total", |n| n >= 11.0) >= 11.0);
}

#[test]
fn who_asks_slowly_or_never_harms_nobody() {
    let watched = Watched::start(&[]);
    let mut ann = watched.server.login("anonymous");
    let start = Instant::now();
    // Many more than are served at once, and each begins a request that it never ends.
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(watched.http).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
            // The oldest may be closed already.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
            stream
        })
        .collect();
    for n in 0..50 {
        ann.say(json!({ "n": n }));
        ann.hear_numbers([n]);
        assert_eq!(watched.page("/healthz").0, "HTTP/1.1 200 OK");
    }
    let mut codes = std::collections::BTreeMap::new();
    for mut stream in slow {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        *codes.entry(answer.get(..12).unwrap_or_default().to_owned()).or_insert(0) += 1;
    }
    assert!(start.elapsed() < PATIENCE && codes.get("HTTP/1.1 503").is_some_and(|n| *n >= 80), "{codes:?}");
    // One that nobody pushes out is told that its time is over.
    let begun = Instant::now();
    let answer = watched.ask(b"GET /metrics HTTP/1.1\r\n");
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("5 s"), "{answer}");
    assert!(begun.elapsed() >= Duration::from_secs(4));
    // Who asks and does not read costs nothing but its place.
    let _deaf: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(watched.http).expect("it listens");
            stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").expect("it takes a request");
            stream
        })
        .collect();
    assert_eq!(watched.page("/healthz").0, "HTTP/1.1 200 OK");
}

#[test]
fn a_place_for_the_pages_that_cannot_be_had_is_refused_with_what_to_do() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let at = taken.local_addr().expect("bound").to_string();
    let mut server = Process::start(Command::new(BINARY).args(["server", "-lp", "0", "--http", &at]));
    let errors = server.errors.rest();
    assert!(errors.contains(&at) && errors.contains("--http chooses another"), "{errors}");
    server.end_with(1);
    let mut status = Process::start(Command::new(BINARY).args(["status", &at]));
    drop(taken);
    status.end_with(1);
}
