//! The library's client against scripted servers and a real one, on free ports of this machine. No sleeps:
//! every wait has a deadline.

mod scripted;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use activitystreamer::base::limits::Limits;
use activitystreamer::client::connection::NEWS_BYTES_MAX;
use activitystreamer::client::{Connection, Error, News, Over, Settings, pipe};
use activitystreamer::server;
use scripted::{PATIENCE, Server, unused_port};
use serde_json::{Value, json};
use zeroize::Zeroizing;

fn bob(server: &Server) -> Settings {
    let (name, secret) = (Some("bob".to_owned()), Some(Zeroizing::new("sek".to_owned())));
    Settings { name, secret, ..Settings::at("127.0.0.1", server.port()) }
}

fn next(connection: &Connection) -> News<'static> {
    connection.receive(PATIENCE).expect("it is not over").expect("news")
}

/// The next news of that kind; others are passed over.
fn wait_for<T>(connection: &Connection, wanted: impl Fn(News<'static>) -> Option<T>) -> T {
    loop {
        if let Some(found) = wanted(next(connection)) {
            return found;
        }
    }
}

fn activity(news: News<'static>) -> Option<Value> {
    let News::Broadcast { activity } = news else { return None };
    Some(serde_json::from_str(&activity).expect("JSON"))
}

#[test]
fn a_broken_connection_is_made_again_and_says_only_what_was_not_written() {
    let server = Server::start();
    let connection = Connection::open(&bob(&server)).expect("good settings");
    let mut peer = server.accept_login();
    connection.send("one").expect("under way");
    assert_eq!(peer.hear_activity(), json!({ "message": "one" }));
    peer.break_off();
    wait_for(&connection, |news| matches!(news, News::Lost { .. }).then_some(()));
    assert!(matches!(next(&connection), News::Waiting { .. }));
    connection.send_value(&json!({ "n": 2 })).expect("under way");
    let mut peer = server.accept_login();
    assert_eq!(peer.hear_activity(), json!({ "n": 2 }));
    peer.broadcast(&json!({ "owed": true }));
    assert_eq!(wait_for(&connection, activity), json!({ "owed": true }));
    let end = thread::spawn(move || connection.close(PATIENCE));
    peer.log_out();
    assert_eq!(end.join().expect("no panic"), Ok(Over::LoggedOut));
}

#[test]
fn when_one_server_is_gone_the_next_it_heard_of_is_found() {
    let (first, second) = (Server::start(), Server::start());
    let (_reserved, dead) = unused_port();
    let mut settings = bob(&first);
    settings.servers.insert(0, ("127.0.0.1".to_owned(), dead));
    let connection = Connection::open(&settings).expect("good settings");
    let mut peer = first.accept_login();
    peer.redirect(&second);
    peer.half_close();
    let peer = second.accept_login();
    drop((second, peer));
    // The one that sent it on is the next that worked.
    let mut peer = first.accept_login();
    peer.broadcast(&json!({ "back": 1 }));
    assert_eq!(wait_for(&connection, activity), json!({ "back": 1 }));
    drop(connection);
    peer.hear_eof();
}

#[test]
fn the_end_says_why_and_what_to_do() {
    let server = Server::start();
    let connection = Connection::open(&bob(&server)).expect("good settings");
    let mut peer = server.accept();
    peer.hear();
    peer.tell(r#"{"command":"LOGIN_FAILED","info":"wrong username or secret"}"#);
    wait_for(&connection, |news| matches!(news, News::Refused { .. }).then_some(()));
    let error = connection.receive(PATIENCE).expect_err("it is over");
    let words = "login refused: wrong username or secret; check the name and the secret";
    assert_eq!(error.to_string(), words);
    assert_eq!(connection.send("more"), Err(error));

    let settings = Settings { retries: Some(1), ..Settings::at("127.0.0.1", unused_port().1) };
    let connection = Connection::open(&settings).expect("good settings");
    let mut lost = 0;
    let error = loop {
        match connection.receive(PATIENCE) {
            Ok(news) => lost += usize::from(matches!(news.expect("news"), News::Lost { .. })),
            Err(error) => break error,
        }
    };
    assert_eq!(lost, 2);
    assert!(matches!(error, Error::Over(Over::Unreached { .. })), "{error}");

    let settings = Settings { name: None, ..bob(&server) };
    assert!(matches!(Connection::open(&settings), Err(Error::Settings(_))));
    let settings = Settings { servers: Vec::new(), ..bob(&server) };
    assert!(matches!(Connection::open(&settings), Err(Error::Settings(_))));
}

#[test]
fn a_close_without_a_server_ends_in_time() {
    let settings = Settings::at("127.0.0.1", unused_port().1);
    let connection = Connection::open(&settings).expect("good settings");
    connection.send("never heard").expect("it waits");
    assert_eq!(connection.send_value(&json!([1])), Err(Error::NoObject));
    wait_for(&connection, |news| matches!(news, News::Lost { .. }).then_some(()));
    assert_eq!(connection.close(Duration::ZERO), Err(Error::Late));
}

#[test]
fn what_waits_is_bounded_both_ways_and_nothing_of_it_is_lost() {
    let server = Server::start();
    let connection = Arc::new(Connection::open(&bob(&server)).expect("good settings"));
    let mut peer = server.accept_login();
    let pad = "x".repeat(10_000);
    // More than both bounds and what the kernels hold.
    let all = 2 * (NEWS_BYTES_MAX + pipe::WAITING_BYTES_MAX + (8 << 20)) / pad.len();
    let (tell, told) = mpsc::channel();
    let sender = connection.clone();
    thread::spawn(move || {
        for n in 0..all {
            sender.send_value(&json!({ "n": n, "pad": pad })).expect("under way");
            let _ = tell.send(n);
        }
        sender.end();
    });
    // It says what there is room for, and waits.
    let mut said = 0;
    while said * 10_000 < pipe::WAITING_BYTES_MAX {
        said = told.recv_timeout(PATIENCE).expect("it goes on saying");
    }
    let echo = thread::spawn(move || {
        for n in 0..all {
            let activity = peer.hear_activity();
            assert_eq!(activity["n"], json!(n));
            peer.broadcast(&activity);
        }
        peer.log_out();
    });
    for n in 0..all {
        assert_eq!(wait_for(&connection, activity)["n"], json!(n));
    }
    echo.join().expect("no panic");
    assert_eq!(connection.receive(PATIENCE), Err(Error::Over(Over::LoggedOut)));
}

#[test]
fn a_registered_name_misses_nothing_over_breaks_of_a_real_server() {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let limits = Limits { hash_kib: 8, hash_passes: 1, ..Limits::default() };
        let options = server::Options { limits, ..server::Options::default() };
        let server = server::Server::new(&options).expect("a port on loopback");
        tell.send(server.addresses().next().expect("an address").port()).expect("the test waits");
        server.run().expect("the loop runs");
    });
    let port = told.recv_timeout(PATIENCE).expect("the server starts");
    let named = |name: &str| Settings { name: Some(name.to_owned()), ..Settings::at("localhost", port) };
    let talker = Connection::open(&named("ann")).expect("good settings");
    let mut settings = named("bob");
    let mut heard = BTreeSet::new();
    for round in 0..5 {
        let listener = Connection::open(&settings).expect("good settings");
        settings.secret = listener.secret().map(|secret| Zeroizing::new(secret.to_owned()));
        wait_for(&listener, |news| matches!(news, News::LoggedIn { .. }).then_some(()));
        let n = 2 * round;
        talker.send_value(&json!({ "n": n })).expect("under way");
        while !heard.contains(&n) {
            heard.insert(wait_for(&listener, activity)["n"].as_u64().expect("a number"));
        }
        // Dropped, it breaks off, and is owed what comes.
        drop(listener);
        talker.send_value(&json!({ "n": n + 1 })).expect("under way");
        while wait_for(&talker, activity)["n"] != json!(n + 1) {}
    }
    let listener = Connection::open(&settings).expect("good settings");
    while heard.len() < 10 {
        heard.insert(wait_for(&listener, activity)["n"].as_u64().expect("a number"));
    }
    assert_eq!(listener.close(PATIENCE), Ok(Over::LoggedOut));
    assert_eq!(talker.close(PATIENCE), Ok(Over::LoggedOut));
}
