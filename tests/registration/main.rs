//! Names are registered once, whichever servers are asked, and known wherever somebody logs in.

mod net;

use std::time::Duration;

use activitystreamer::node::{Counters, Mutation};
use net::{Client, Net};

const OK: &str = "REGISTER_SUCCESS";
const FAILED: &str = "REGISTER_FAILED";

impl Net {
    fn count(&mut self, of: impl Fn(&Counters) -> u64) -> u64 {
        self.nodes.iter().flatten().map(|node| of(node.counters())).sum()
    }

    fn succeeded(&self, clients: &[Client]) -> usize {
        clients.iter().filter(|client| self.heard(**client).contains(OK)).count()
    }

    /// All servers that live have the same names, registered by the same.
    fn agree(&self) -> bool {
        let mut all = self.nodes.iter().flatten().map(|node| (node.registry_digest(), node.names()));
        let first = all.next();
        all.all(|other| Some(other) == first)
    }
}

#[test]
fn of_many_that_want_a_name_at_once_exactly_one_gets_it() {
    let mut net = Net::new(3, 1);
    for round in 0..200 {
        net.delay = 1 + net.rng.below(30);
        let name = format!("n{round}");
        let mut clients = Vec::new();
        for _ in 0..net.rng.between(2, 4) {
            let server = net.rng.below(3) as usize;
            clients.push(net.register(server, &name, &format!("s{}", clients.len())));
            let pause = net.rng.below(40);
            net.run(pause);
        }
        net.run(250);
        assert_eq!(net.succeeded(&clients), 1, "round {round}");
        for client in &clients {
            assert_ne!(net.heard(*client).contains(OK), net.heard(*client).contains(FAILED), "round {round}");
        }
        let winner = clients.iter().position(|client| net.heard(*client).contains(OK)).unwrap();
        let logins = [0, 1, 2].map(|server| net.login(server, &name, &format!("s{winner}")));
        net.run(150);
        for client in logins {
            assert!(net.heard(client).contains("LOGIN_SUCCESS"), "round {round}: {}", net.heard(client));
            net.leave(client);
        }
        clients.into_iter().for_each(|client| net.leave(client));
    }
    net.delay = 1;
    net.run(10);
    assert!(net.agree());
    let odd = |c: &Counters| c.registrations_unanswered + c.registrations_single_copy + c.registrations_lost;
    assert_eq!(net.count(odd), 0);
}

#[test]
fn a_claim_whose_client_leaves_lets_the_next_one_have_the_name() {
    for seed in 0..50 {
        let mut net = Net::new(3, seed);
        net.delay = 10;
        let first = net.register(0, "bob", "a");
        let pause = net.rng.between(1, 12);
        net.run(pause);
        let second = net.register(1, "bob", "b");
        let third = net.register(0, "bob", "c");
        let pause = net.rng.between(1, 12);
        net.run(pause);
        let left_early = !net.heard(first).contains(OK);
        net.leave(first);
        net.run(1000);
        let n = net.succeeded(&[second, third]);
        assert!(
            n == 1 || (n == 0 && (!left_early || net.node(2).registered("bob").is_some())),
            "seed {seed}"
        );
        assert!(net.agree());
    }
}

#[test]
fn a_silent_server_makes_registrations_slow_and_does_not_stop_them() {
    let mut net = Net::new(3, 5);
    net.silent = vec![2];
    let (a, b) = (net.register(0, "bob", "a"), net.register(1, "bob", "b"));
    net.run(400);
    assert_eq!(net.succeeded(&[a, b]), 0);
    net.run(300);
    assert_eq!(net.succeeded(&[a, b]), 1, "{} {}", net.heard(a), net.heard(b));
    net.run(5000);
    let c = net.register(1, "eve", "c");
    net.run(20);
    assert_eq!(net.succeeded(&[c]), 1, "a suspected server is not waited for");
    net.silent.clear();
    net.run(5000);
    assert!(net.agree() && net.node(2).names() == 2);
}

#[test]
fn a_name_outlives_its_server_from_the_instant_it_is_answered() {
    for seed in 0..50 {
        let mut net = Net::new(3, seed);
        net.delay = 20;
        let client = net.register(0, "bob", "sek");
        while !net.heard(client).contains(OK) {
            net.run(1);
        }
        net.kill(0);
        let logins = [net.login(1, "bob", "sek"), net.login(2, "bob", "sek")];
        net.run(500);
        for login in logins {
            assert!(net.heard(login).contains("LOGIN_SUCCESS"), "seed {seed}: {}", net.heard(login));
        }
        let again = net.register(2, "bob", "other");
        net.run(200);
        assert!(net.heard(again).contains(FAILED));
    }
}

#[test]
fn a_name_that_was_answered_is_known_to_a_client_that_is_faster_than_the_links() {
    for seed in 0..50 {
        let mut net = Net::new(3, seed);
        net.delay = 60;
        let client = net.register(0, "bob", "sek");
        while !net.heard(client).contains(OK) {
            net.run(1);
        }
        let login = net.login(1 + (seed % 2) as usize, "bob", "sek");
        net.run(600);
        assert!(net.heard(login).contains("LOGIN_SUCCESS"), "seed {seed}: {}", net.heard(login));
    }
}

#[test]
fn after_a_partition_one_of_two_has_the_name_and_the_other_is_told() {
    for seed in 0..10 {
        let mut net = Net::new(3, seed);
        net.cut = vec![(0, 1), (0, 2)];
        net.run(8000);
        let (first, second) = if seed % 2 == 0 { (0, 2) } else { (2, 0) };
        let winner = net.register(first, "bob", "a");
        net.run(20);
        let loser = net.register(second, "bob", "b");
        net.run(20);
        assert_eq!(net.succeeded(&[winner, loser]), 2);
        net.say(winner, "LOGIN", "bob", "a");
        net.say(loser, "LOGIN", "bob", "b");
        let away = net.login(second, "bob", "b");
        net.run(600);
        net.leave(away);
        let only = net.register(second, "eve", "e");
        net.run(600);
        assert_eq!(net.succeeded(&[only]), 1);
        net.cut.clear();
        net.run(7000);
        assert!(net.agree(), "seed {seed}");
        assert_eq!(net.node(0).names(), 2);
        assert!(net.heard(loser).contains("LOGIN_FAILED") && net.is_closed(loser), "{}", net.heard(loser));
        assert!(!net.heard(winner).contains("LOGIN_FAILED") && !net.is_closed(winner));
        assert_eq!(net.count(|c| c.registrations_lost), if second == 2 { 2 } else { 1 });
        for server in 0..3 {
            let (right, wrong) = (net.login(server, "bob", "a"), net.login(server, "bob", "b"));
            net.run(300);
            assert!(net.heard(right).contains("LOGIN_SUCCESS"), "seed {seed}");
            assert!(net.heard(wrong).contains("LOGIN_FAILED"), "seed {seed}");
        }
    }
}

#[test]
fn a_name_nobody_knows_is_refused_at_the_same_instant_as_a_wrong_secret() {
    let mut net = Net::new(3, 3);
    net.delay = 10;
    let bob = net.register(0, "bob", "sek");
    net.run(100);
    assert_eq!(net.succeeded(&[bob]), 1);
    let logins = [net.login(1, "nobody", "x"), net.login(1, "bob", "x")];
    net.run(249);
    assert!(logins.iter().all(|login| net.heard(*login).is_empty()));
    net.run(3);
    assert!(logins.iter().all(|login| net.heard(*login).contains("wrong username or secret")));
    let talk = net.connect(2);
    net.say(talk, "ACTIVITY_MESSAGE", "nobody", "x");
    net.run(300);
    assert!(net.heard(talk).contains("AUTHENTICATION_FAIL"));
    net.silent = vec![2];
    let login = net.login(1, "nobody", "x");
    net.run(255);
    assert!(net.heard(login).contains("LOGIN_FAILED"), "nobody waits longer for a silent server");
}

#[test]
fn a_newcomer_learns_all_names_before_it_lets_anybody_in() {
    let mut net = Net::new(2, 4);
    for i in 0..300 {
        net.register(i % 2, &format!("u{i}"), "sek");
    }
    net.run(100);
    assert!(net.agree() && net.node(0).names() == 300);
    let new = net.start(true);
    let early = net.login(new, "u7", "sek");
    let late = net.register(0, "late", "sek");
    net.run(100);
    assert!(net.heard(early).contains("LOGIN_SUCCESS"), "{}", net.heard(early));
    assert!(net.heard(late).contains(OK));
    net.run(100);
    assert!(net.agree() && net.node(new).names() == 301);
    assert_eq!(net.count(|c| c.registries_differed), 0);
}

#[test]
fn the_one_between_two_that_are_not_linked_decides() {
    let mut net = Net::new(3, 9);
    net.cut = vec![(0, 2)];
    net.run(8000);
    for round in 0..100 {
        net.delay = 1 + net.rng.below(20);
        let name = format!("n{round}");
        let first = net.register(0, &name, "a");
        let pause = net.rng.below(30);
        net.run(pause);
        let second = net.register(2, &name, "b");
        let pause = net.rng.below(30);
        net.run(pause);
        let third = net.register(1, &name, "c");
        net.run(300);
        let all = [first, second, third];
        assert_eq!(net.succeeded(&all), 1, "round {round}");
        all.into_iter().for_each(|client| net.leave(client));
    }
    assert_eq!(net.count(|c| c.registrations_lost + c.registrations_unanswered), 0);
}

#[test]
fn a_wrong_winner_is_seen() {
    let mut net = Net::new(2, 1);
    net.cut = vec![(0, 1)];
    net.run(8000);
    let winner = net.register(0, "bob", "a");
    net.run(20);
    net.register(1, "bob", "b");
    net.run(20);
    let right = net.node(0).registered("bob");
    (0..2).for_each(|i| net.node(i).mutate(Mutation::WrongWinner));
    net.cut.clear();
    net.run(7000);
    assert!(net.agree() && net.node(0).registered("bob") > right && net.is_closed(winner));
}

/// The processor's time this thread had, so that a busy machine does not count.
fn worked() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// A hundred thousand names, and half as many on each side after a partition; fewer, and with all the time
/// they take, where nothing is optimised.
#[test]
fn large_registries_become_one_in_two_seconds() {
    let n = if cfg!(debug_assertions) { 3_000 } else { 100_000 };
    let mut net = Net::unlinked(2, 7);
    for i in 0..n {
        net.register_alone(0, &format!("user number {i}"));
    }
    let begun = worked();
    net.tell_of(1, 0);
    // A turn a millisecond, and 400 names a turn.
    net.run(600);
    let took = worked() - begun;
    assert!(net.agree() && net.node(1).names() == n);
    println!("{n} names to a newcomer: {took:?} of work on both sides");
    assert!(cfg!(debug_assertions) || took < Duration::from_secs(2));
    net.cut = vec![(0, 1)];
    net.run(7000);
    for i in 0..n / 2 {
        net.register_alone(0, &format!("left {i}"));
        net.register_alone(1, &format!("right {i}"));
    }
    net.cut.clear();
    let begun = worked();
    net.run(7000);
    let took = worked() - begun;
    assert!(net.agree() && net.node(1).names() == 2 * n);
    println!("{n} more, half on each side, after a partition: {took:?} of work");
}

#[test]
fn registries_that_are_not_linked_become_one_through_a_third() {
    let mut net = Net::new(3, 6);
    net.cut = vec![(0, 2)];
    net.run(8000);
    net.silent = vec![1];
    let (a, b) = (net.register(0, "bob", "a"), net.register(2, "bob", "b"));
    net.run(100);
    net.silent.clear();
    net.run(1000);
    assert_eq!(net.succeeded(&[a, b]), 1, "the one between them decides: {} {}", net.heard(a), net.heard(b));
    let c = net.register(0, "eve", "a");
    net.run(100);
    assert_eq!(net.succeeded(&[c]), 1);
    net.run(3000);
    assert!(net.agree());
}
