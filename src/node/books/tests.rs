//! Whole networks of books: clients come, go, and are sent on; announces are late, lost, or come again.

use proptest::prelude::*;

use super::*;
use crate::base::limits::CREDIT;
use crate::base::rng::Rng;

const EVERY: Duration = Duration::from_millis(500);

struct Net {
    now: Time,
    books: Vec<Books>,
    /// What is on its way: when it comes, from where, to where.
    announces: Vec<(Time, usize, usize, Offer)>,
    /// Clients on their way, and their kind; some never come.
    clients: Vec<(Time, usize, usize, usize)>,
    moves: u64,
    rng: Rng,
    lossy: u64,
}

fn id(i: usize) -> ServerId {
    ServerId([i as u8; 16])
}

impl Net {
    fn new(seed: u64, loads: &[[u64; 2]], most: Option<u64>, lossy: u64) -> Net {
        let books = loads.iter().map(|here| Books { here: *here, most, ..Books::default() }).collect();
        let (announces, clients) = (Vec::new(), Vec::new());
        Net { now: Time::START, books, announces, clients, moves: 0, rng: Rng::new(seed), lossy }
    }

    fn announce(&mut self, i: usize) {
        self.books[i].expire(self.now);
        self.books[i].issue(self.now, id(i), |_| true);
        for to in (0..self.books.len()).filter(|to| *to != i) {
            let offer = self.books[i].offer_to(id(to), EVERY);
            let at = self.now + Duration::from_millis(self.rng.between(1, 40));
            if !self.rng.chance(self.lossy) {
                self.announces.push((at, i, to, offer));
            }
        }
    }

    /// Sends one client on, if there is a better place.
    fn send_on(&mut self, i: usize, kind: usize) -> bool {
        let best = self.books[i].best(self.now, kind, |_| true);
        let Some(to) = best.map(|best| usize::from(best.0[0])).filter(|_| self.books[i].here[kind] > 0)
        else {
            return false;
        };
        self.books[i].sent(id(to), kind);
        self.books[i].here[kind] -= 1;
        self.moves += 1;
        let at = self.now + Duration::from_millis(self.rng.between(1, 300));
        self.clients.push((at, i, to, kind));
        true
    }

    /// `ms` pass. `moves`: users that a server moves in each 100 ms.
    fn run(&mut self, ms: u64, moves: usize) {
        for _ in 0..ms / 10 {
            self.now = self.now + Duration::from_millis(10);
            let now = self.now;
            let due: Vec<_> = self.announces.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, from, to, offer) in due {
                self.books[to].hear(now, id(from), Some(offer));
            }
            let due: Vec<_> = self.clients.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, from, to, kind) in due {
                self.books[to].begin(kind);
                match kind {
                    USERS => self.books[to].arrived(id(from), kind),
                    _ => drop(self.books[to].guest_arrived()),
                }
            }
            let tick = now.since(Time::START).as_millis() as u64 / 10;
            for i in 0..self.books.len() {
                if (tick + i as u64).is_multiple_of(10) {
                    (0..moves).take_while(|_| self.send_on(i, USERS)).count();
                    self.announce(i);
                }
            }
        }
    }

    fn login(&mut self, i: usize, kind: usize) {
        self.books[i].begin(kind);
        self.send_on(i, kind);
    }

    fn users(&self) -> Vec<u64> {
        self.books.iter().map(|books| books.here[USERS]).collect()
    }

    fn spread(&self) -> u64 {
        let users = self.users();
        users.iter().max().unwrap() - users.iter().min().unwrap()
    }
}

/// The least moves that make the loads even.
fn least(loads: &[u64]) -> u64 {
    let vessels: Vec<Vessel> =
        loads.iter().enumerate().map(|(i, load)| Vessel { id: id(i), load: *load, most: u64::MAX }).collect();
    let shares = super::super::balance::shares(&vessels);
    loads.iter().zip(shares).map(|(load, share)| load.saturating_sub(share)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn loads_become_even_by_nearly_the_least_moves_and_then_nothing_moves(
        seed: u64,
        loads in proptest::collection::vec(0..30_u64, 2..7),
        lossy in prop_oneof![Just(0), Just(40_u64)],
    ) {
        let here: Vec<[u64; 2]> = loads.iter().map(|n| [*n, 0]).collect();
        let mut net = Net::new(seed, &here, None, lossy);
        net.run(30_000, 1);
        prop_assert!(net.spread() <= 1, "{:?} became {:?}", loads, net.users());
        prop_assert!(net.moves <= 2 * least(&loads), "{} moves for {:?}", net.moves, loads);
        let moves = net.moves;
        net.run(20_000, 3);
        prop_assert_eq!(net.moves, moves, "no to and fro");
    }

    #[test]
    fn a_storm_of_logins_at_one_server_ends_even_and_nobody_else_gets_above_its_most(
        seed: u64, servers in 2..7_usize, logins in 10..120_u64, gap in 0..4_u64, guests: bool,
    ) {
        let most = logins.div_ceil(servers as u64) + 1;
        let mut net = Net::new(seed, &vec![[0, 0]; servers], Some(most), 0);
        net.run(1_000, 1);
        let kind = if guests { GUESTS } else { USERS };
        for _ in 0..logins {
            net.login(0, kind);
            net.run(10 * gap, 1);
            for books in &net.books[1..] {
                prop_assert!(books.sessions() <= most, "{} of {most}", books.sessions());
            }
        }
        // Those who just came are sent on when there is a place.
        for _ in 0..10 {
            while net.send_on(0, kind) {}
            net.run(100, 1);
        }
        net.run(20_000, 1);
        let here: Vec<u64> = net.books.iter().map(|books| books.here[kind]).collect();
        let (low, high) = (here.iter().min().unwrap(), here.iter().max().unwrap());
        // Guests are not moved any more; the last ones of a storm came while the others' announces were late.
        let spread = if guests { 2 } else { 1 };
        prop_assert!(high - low <= spread, "{:?}", here);
        prop_assert!(*high < most + spread);
    }

    #[test]
    fn in_a_long_storm_all_but_a_few_are_where_they_belong_at_its_end(
        seed: u64, servers in 2..6_usize, each_10_ms in 1..20_u64,
    ) {
        let mut net = Net::new(seed, &vec![[0, 0]; servers], None, 0);
        net.run(1_000, 1);
        for _ in 0..200 {
            (0..each_10_ms).for_each(|_| net.login(0, USERS));
            net.run(10, 1);
            while net.send_on(0, USERS) {}
        }
        let mut users = net.users();
        net.clients.iter().for_each(|(_, _, to, kind)| users[*to] += u64::from(*kind == USERS));
        let (low, high) = (users.iter().min().unwrap(), users.iter().max().unwrap());
        let mean = 200 * each_10_ms / servers as u64;
        // Announces take up to 40 ms here, and are sent ten times a second, each server's at another time.
        prop_assert!(high - low <= 6 + mean / 10, "{:?}", users);
    }

    #[test]
    fn what_is_granted_never_exceeds_the_room_whatever_is_said(
        seed: u64,
        offers in proptest::collection::vec((0..5_usize, 0..50_u64, 0..9_u64), 1..40),
        here in 0..30_u64,
    ) {
        let mut books = Books { here: [here, 0], ..Books::default() };
        let (mut now, mut rng) = (Time::START, Rng::new(seed));
        for (from, load, sent) in offers {
            now = now + Duration::from_millis(rng.between(0, 900));
            let offer = Offer { here: [load, 0], came: 0, most: None, every_ms: 500, credit: [0; 2], sent: [sent, 0], arrived: [0; 2] };
            books.hear(now, id(from + 1), Some(offer));
            books.expire(now);
            let before = books.expected(USERS);
            books.issue(now, id(0), |_| true);
            let lively: Vec<u64> = books.others.values().filter_map(|o| Some(o.offer(now)?.here[USERS])).collect();
            let mean = (lively.iter().sum::<u64>() + before) / (lively.len() as u64 + 1) + 1;
            prop_assert!(books.expected(USERS) <= before.max(mean), "{} with a mean of {mean}", books.expected(USERS));
        }
    }
}

#[test]
fn who_is_silent_suspected_or_does_not_share_gives_and_gets_nothing() {
    let offer = |load| Offer {
        here: [load, 0],
        came: 0,
        most: None,
        every_ms: 500,
        credit: [9, 9],
        sent: [0; 2],
        arrived: [0; 2],
    };
    let mut books = Books { here: [10, 0], ..Books::default() };
    books.hear(Time::START, id(1), Some(offer(0)));
    let at = |ms| Time::START + Duration::from_millis(ms);
    assert_eq!(books.best(at(2_000), USERS, |_| true), Some(id(1)));
    assert_eq!(books.best(at(2_001), USERS, |_| true), None, "two announces and a second");
    assert_eq!(books.best(at(0), USERS, |_| false), None);
    books.hear(at(2_001), id(1), Some(offer(9)));
    assert_eq!(books.best(at(2_001), USERS, |_| true), None, "a gain of one is none");
    books.hear(at(2_001), id(1), None);
    assert_eq!(books.best(at(2_001), USERS, |_| true), None);
    books.hear(at(2_001), id(1), Some(offer(30)));
    for (now, lively) in [(at(2_001), false), (at(9_000), true)] {
        books.issue(now, id(0), |_| lively);
        assert_eq!(books.offer_to(id(1), EVERY).credit, [0; 2]);
    }
    books.issue(at(2_100), id(0), |_| true);
    assert_eq!(books.offer_to(id(1), EVERY).credit, [10, 0]);
    // Not used, it is void; and with its link.
    assert_eq!(books.expires(), Some(at(2_100) + CREDIT));
    books.forget(id(1));
    assert_eq!((books.offer_to(id(1), EVERY).credit, books.expires()), ([0; 2], None));
}
