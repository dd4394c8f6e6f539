//! A crowd of clients that go from server to server while all of them talk.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use crate::crew::{Listener, Message, login_at, mesh, rounds};
use crate::stage::Server;

const CLIENTS: usize = 51;
const WORDS: u64 = 5;

#[test]
fn clients_that_break_and_log_in_at_another_server_while_talking_miss_nothing_and_hear_all_in_order() {
    let servers = mesh(3);
    let moves = rounds("MOVE_ROUNDS", 4);
    let clients: Vec<Listener> =
        (0..CLIENTS).map(|i| Listener::new(servers[i % 3].register(&format!("user{i}")))).collect();
    let places: Vec<_> = servers.iter().map(Server::address).collect();
    let repeats: usize = thread::scope(|scope| {
        let places = &places;
        let threads: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(i, client)| scope.spawn(move || wander(i, client, places, moves)))
            .collect();
        let all = threads.into_iter().map(|thread| thread.join().expect("it hears"));
        all.enumerate().map(|(i, (client, breaks))| judge(i, &client, &breaks, moves)).sum()
    });
    assert_eq!(repeats, 0, "repeats in {} moves of clients that had read all", CLIENTS * moves);
}

/// Says a few words on one server after the other. Its connection ends as a break does, without LOGOUT, and
/// what was on its way is read. Tells how much it had heard at each break.
fn wander(me: usize, mut client: Listener, places: &[SocketAddr], moves: usize) -> (Listener, Vec<usize>) {
    let (mut n, mut breaks) = (0, Vec::new());
    for place in 1..=moves {
        for _ in 0..WORDS {
            client.talker.say(Message { by: me as u64, n, at: 0, last: false }.activity());
            n += 1;
        }
        client.talker.half_close();
        while client.hear().is_some() {}
        breaks.push(client.heard.len());
        client.talker = login_at(places[(me + place) % 3], &format!("user{me}"));
    }
    client.talker.say(Message { by: me as u64, n, at: 0, last: true }.activity());
    client.hear_all(CLIENTS);
    breaks.push(client.heard.len());
    (client, breaks)
}

/// No sender's message is missing. Going back is possible from one session to the next only, by what was not
/// yet confirmed at the break; how much that was.
fn judge(i: usize, client: &Listener, breaks: &[usize], moves: usize) -> usize {
    let mut next: BTreeMap<u64, u64> = BTreeMap::new();
    let mut begin = 0;
    for end in breaks {
        let mut session: BTreeMap<u64, u64> = BTreeMap::new();
        for message in &client.heard[begin..*end] {
            let known = next.entry(message.by).or_default();
            match session.insert(message.by, message.n) {
                None => assert!(message.n <= *known, "client {i} misses {known}, hears {message:?}"),
                Some(before) => assert_eq!(message.n, before + 1, "client {i} hears {message:?}"),
            }
            *known = (*known).max(message.n + 1);
        }
        begin = *end;
    }
    let all = moves as u64 * WORDS + 1;
    assert!(next.len() == CLIENTS && next.values().all(|n| *n == all), "client {i} heard {next:?} of {all}");
    client.heard.len() - CLIENTS * all as usize
}
