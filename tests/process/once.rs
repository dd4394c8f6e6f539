//! A client with an id says ten thousand messages, and another hears them, while their servers are killed and
//! stopped one after the other and started again.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use activitystreamer::client::{Connection, Delivery, Error, News, Settings};
use serde_json::{Value, json};

use crate::kept::{Folder, Place};
use crate::stage::{PATIENCE, Server};

const MESSAGES: u64 = 10_000;
const ROUNDS: u64 = 20;
/// Messages that are said before the first was heard.
const AHEAD: usize = 300;
const SECRET: [&str; 2] = ["-s", "sek"];

fn settings(places: &[Place], delivery: Delivery) -> Settings {
    let servers = places.iter().map(|place| ("127.0.0.1".to_owned(), place.port)).collect();
    Settings { servers, delivery, ..Settings::at("", 0) }
}

/// Opens it as soon as the one before has let the file go.
fn open(settings: &Settings) -> Connection {
    let start = Instant::now();
    loop {
        match Connection::open(settings) {
            Ok(connection) => return connection,
            Err(Error::Settings(why)) if why.contains("another client uses") => {
                assert!(start.elapsed() < PATIENCE, "{why}");
                thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Says one message for each leave to do so. Four times the program ends in the middle of it, and another goes on.
fn talk(mut settings: Settings, leaves: &Receiver<()>) -> Connection {
    settings.name = Some("sue".to_owned());
    let mut connection = open(&settings);
    settings.secret = connection.secret().map(|secret| secret.to_owned().into());
    for n in 0..MESSAGES {
        leaves.recv_timeout(PATIENCE).expect("what was said is heard");
        if n % 2_500 == 2_400 {
            drop(connection);
            connection = open(&settings);
        }
        connection.send_value(&json!({ "n": n })).expect("it is kept");
    }
    connection
}

/// The number of the next message that is heard.
fn hear(connection: &Connection) -> u64 {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(News::Broadcast { activity }) = connection.receive(PATIENCE).expect("it goes on") {
            let activity: Value = serde_json::from_str(&activity).expect("JSON");
            return activity["n"].as_u64().expect("a number");
        }
    }
    panic!("nothing is heard any more");
}

#[test]
fn ten_thousand_messages_are_heard_once_and_in_order_while_servers_die_and_stop() {
    let folder = Folder::new("once");
    let places = ["one", "two", "three"].map(|name| Place::new(folder.path(name)));
    let first = places[0].port.to_string();
    let join = [&SECRET[..], &["-rh", "localhost", "-rp", &first]].concat();
    let start = |i: usize| places[i].start(if i == 0 { &SECRET } else { &join });
    let mut servers: Vec<Option<Server>> = (0..3).map(|i| Some(start(i))).collect();
    servers.iter().flatten().for_each(|server| server.joined_by(2));
    let listener = open(&settings(&places, Delivery::Kept(folder.path("listener").into())));
    // It is in before anything is said.
    while !matches!(listener.receive(PATIENCE).expect("it goes on"), Some(News::LoggedIn { .. })) {}
    let (leave, leaves): (Sender<()>, Receiver<()>) = channel();
    (0..AHEAD).for_each(|_| leave.send(()).expect("the talker is there"));
    let talker = settings(&places, Delivery::Kept(folder.path("talker").into()));
    let talker = thread::spawn(move || talk(talker, &leaves));
    for n in 0..MESSAGES {
        assert_eq!(hear(&listener), n, "each once, and in order");
        let _ = leave.send(());
        let (round, rest) = (n / (MESSAGES / (ROUNDS + 1)), n % (MESSAGES / (ROUNDS + 1)));
        if rest == 0 && (1..=ROUNDS).contains(&round) {
            // By chance which; kills and stops in turn.
            let i = ((round * 0x9e37_79b9) >> 7) as usize % 3;
            let server = servers[i].take().expect("it runs");
            match round % 2 {
                0 => drop(server.stop()),
                _ => drop(server),
            }
            let server = start(i);
            server.joined_by(2);
            servers[i] = Some(server);
        }
    }
    let talker = talker.join().expect("it has said all");
    talker.close(PATIENCE).expect("all is safe, so it logs out");
    assert!(listener.close(PATIENCE).is_ok());
}
