//! One server that is killed, or stopped, and started again where it was.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::crew::{Listener, Message, rounds};
use crate::kept::{Folder, Place, names_in};
use crate::stage::{BINARY, CHEAP, PATIENCE, Server, pair};

/// What was said longer before a kill does not come again: positions are 250 ms old at most, and as much is for
/// a machine that is busy with other tests.
const REPEATED_MS: u64 = 500;
/// The number of the message that is said when all are back.
const LAST: u64 = 1_000_000;

/// A server with three users: ann, who talks, cy, who listens, and bob, who is away.
struct Scene {
    _folder: Folder,
    place: Place,
    start: Instant,
    ann: Listener,
    cy: Listener,
}

impl Scene {
    /// Bob has heard this many.
    const BEFORE: u64 = 20;

    fn new(test: &str) -> (Scene, Server) {
        let folder = Folder::new(test);
        let place = Place::new(folder.path("data"));
        let server = place.start(&[]);
        let mut ann = Listener::new(server.register("ann"));
        let mut cy = Listener::new(server.register("cy"));
        let mut bob = server.register("bob");
        for n in 0..Scene::BEFORE {
            ann.talker.say(Message { by: 0, n, at: 0, last: false }.activity());
        }
        assert!(ann.hear_until(0, Scene::BEFORE - 1) && cy.hear_until(0, Scene::BEFORE - 1));
        bob.hear_numbers(0..Scene::BEFORE);
        bob.vanish();
        (Scene { _folder: folder, place, start: Instant::now(), ann, cy }, server)
    }

    /// Ann talks and cy listens until `end` ends the server in the middle of it. When that was, in ms.
    fn talk_until(&mut self, end: impl FnOnce()) -> u64 {
        let heard = AtomicU64::new(0);
        let now = || self.start.elapsed().as_millis() as u64;
        let (ann, cy) = (&mut self.ann, &mut self.cy);
        thread::scope(|scope| {
            scope.spawn(|| {
                while cy.hear().is_some() {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
            });
            scope.spawn(|| {
                for ten in Scene::BEFORE / 10..10_000 {
                    let message = |n| Message { by: 0, n, at: now(), last: false }.activity();
                    let said = (10 * ten..10 * ten + 10).all(|n| ann.talker.said(&message(n)));
                    if !(said && ann.hear_until(0, 10 * ten + 9)) {
                        break;
                    }
                }
                while ann.hear().is_some() {}
            });
            // Long enough that most of it was confirmed before the end.
            while heard.load(Ordering::SeqCst) < 500 || now() < 3 * REPEATED_MS {
                assert!(self.start.elapsed() < PATIENCE, "ann talks");
                thread::yield_now();
            }
            let at = now();
            end();
            at
        })
    }

    /// All come back to the server: what each of ann, cy and bob hears there, and one message more.
    fn come_back(&mut self, server: &Server) -> [Vec<u64>; 3] {
        let mut bob = Listener::new(server.login("bob"));
        self.cy.talker = server.login("cy");
        self.ann.talker = server.login("ann");
        self.ann.talker.say(Message { by: 0, n: LAST, at: 0, last: true }.activity());
        [&mut self.ann, &mut self.cy, &mut bob].map(|listener| {
            let from = listener.heard.len();
            assert!(listener.hear_until(0, LAST), "the server goes on");
            listener.heard[from..].iter().map(|message| message.n).take_while(|n| *n < LAST).collect()
        })
    }
}

#[test]
fn what_a_killed_server_owed_is_owed_by_the_next_one_there() {
    let (mut scene, server) = Scene::new("killed");
    let killed_at = scene.talk_until(|| server.crash());
    let before = [&scene.ann, &scene.cy].map(|listener| listener.heard.clone());
    let server = scene.place.start(&[]);
    let [ann, cy, bob] = scene.come_back(&server);
    let end = bob.last().map_or(0, |n| n + 1);
    assert_eq!(bob, Vec::from_iter(Scene::BEFORE..end), "bob gets each once, in order");
    for (who, before, after) in [("ann", &before[0], ann), ("cy", &before[1], cy)] {
        let heard = before.len() as u64;
        assert!(before.iter().map(|m| m.n).eq(0..heard), "{who} heard each once, in order");
        assert!(end >= heard, "bob gets what {who} heard: {heard}, not {end}");
        let from = after.first().map_or(end, |n| *n);
        assert_eq!(after, Vec::from_iter(from..end), "{who} hears on, in order");
        assert!(from <= heard, "{who} misses nothing from {heard} on, where {from} is next");
        let repeated = before.get(from as usize).map_or(0, |m| killed_at.saturating_sub(m.at));
        println!("{who}: {} come again, said {repeated} ms before the kill", heard - from);
        assert!(repeated <= REPEATED_MS, "{who}: what was said {repeated} ms before the kill comes again");
    }
}

#[test]
fn what_a_stopped_server_owed_is_owed_by_the_next_one_there_and_nothing_twice() {
    let (mut scene, mut server) = Scene::new("stopped");
    scene.talk_until(|| server.process.signal("TERM"));
    let heard = [&scene.ann, &scene.cy].map(|listener| listener.heard.len() as u64);
    // Their connections end as those of any client that was told that all is over.
    scene.ann.talker.half_close();
    scene.cy.talker.half_close();
    server.process.end_with(0);
    let server = scene.place.start(&[]);
    let [ann, cy, bob] = scene.come_back(&server);
    assert_eq!((ann, cy), (vec![], vec![]), "nothing comes twice, and nothing was missed");
    assert_eq!(bob, Vec::from_iter(Scene::BEFORE..heard[1]), "bob gets each once, in order");
    assert_eq!(heard[0], heard[1]);
    // And once more: what bob got now he does not get again.
    let log = server.stop();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "all went well:\n{log}");
    let server = scene.place.start(&[]);
    assert_eq!(scene.come_back(&server), [[0; 0]; 3]);
}

#[test]
fn a_name_that_was_given_outlives_the_server_that_is_killed_at_once() {
    let folder = Folder::new("given");
    let place = Place::new(folder.path("data"));
    let rounds = rounds("GIVEN_ROUNDS", 30);
    for round in 0..rounds {
        let server = place.start(&[]);
        if round > 0 {
            drop(server.login(&format!("user{}", round - 1)));
        }
        let mut talker = server.connect();
        talker.tell(&format!(r#"{{"command":"REGISTER",{}}}"#, pair(&format!("user{round}"))));
        talker.hear_command("REGISTER_SUCCESS");
        server.crash();
    }
    let server = place.start(&[]);
    for round in 0..rounds {
        drop(server.login(&format!("user{round}")));
    }
}

#[test]
fn a_server_keeps_on_disk_what_it_says_and_no_more() {
    let folder = Folder::new("nothing");
    let run = |server: Server| {
        let mut ann = server.register("ann");
        ann.say(json!({ "n": 0 }));
        ann.hear_numbers([0]);
        server.stop();
    };
    let place = Place::new(folder.path("kept"));
    run(place.start(&["-s", "sek", "--ephemeral"]));
    assert_eq!(names_in(folder.here()), [""; 0], "a given secret is not kept");
    run(place.start(&["--ephemeral"]));
    assert_eq!(names_in(&place.data), ["cluster.secret"]);
    run(place.start(&[]));
    assert_eq!(names_in(&place.data), [place.port.to_string(), "cluster.secret".to_owned()]);
    assert_eq!(names_in(place.folder()), ["feed", "lock", "records.redb"]);
    let here = |flags: &[&str]| {
        let mut command = Command::new(BINARY);
        command.arg("server").args(flags).args(&CHEAP[2..]).current_dir(folder.here());
        Server::run(command.env("RUST_LOG", "debug"))
    };
    run(here(&["-lp", "0"]));
    assert_eq!(names_in(folder.here()), ["kept"], "a server on a free port keeps nothing");
    let port = place.port.to_string();
    run(here(&["-lp", &port, "--ephemeral"]));
    assert_eq!(names_in(folder.path("activitystreamer-data")), ["cluster.secret"]);
    // What was kept is what a server finds that is not asked to forget.
    drop(place.start(&[]).login("ann"));
}
