//! Very many clients on a few servers of one machine: whether all is heard, and what it costs.

use std::cell::RefCell;
use std::time::Instant;

use serde_json::Value;

use crate::n;
use crate::stage::{Load, Pace, Subject, Who, kernel_bytes};

/// How many there are, and for how long they talk at each rate.
pub struct Plan {
    pub clients: usize,
    pub servers: usize,
    pub seconds: u64,
    /// Messages a second: where one is not over when the next is said, several go out in one write.
    pub rates: &'static [f64],
}

/// What was seen while the load was on.
#[derive(Default)]
struct Seen {
    /// Bytes a client: the servers', the kernel's.
    memory: Option<[i64; 2]>,
    /// The largest difference between two servers' sessions while all clients were there, of their mean.
    spread: f64,
}

/// Prints the tables.
pub fn run(plan: &Plan) {
    plan.talk(&plan.servers(|first| first.map_or(Who::Server, Who::Beside)));
    plan.knock(&plan.servers(Who::Sharing));
}

fn sum(servers: &[Subject], name: &str) -> f64 {
    servers.iter().filter_map(|server| server.figure(name)).sum()
}

impl Plan {
    /// Servers that are linked to each other, each begun with the port of the first.
    fn servers(&self, who: impl Fn(Option<u16>) -> Who) -> Vec<Subject> {
        let mut servers: Vec<Subject> = Vec::new();
        for _ in 0..self.servers {
            let first = servers.first().map(|first| first.port);
            servers.push(Subject::start(who(first)));
        }
        servers.iter().for_each(|server| server.wait_for_others(self.servers - 1));
        servers
    }

    /// All clients come to one server, which sends them on.
    fn knock(&self, servers: &[Subject]) {
        let load = Load { clients: self.clients, pace: Pace::Window(1), seconds: 0 };
        let seen = RefCell::new(Seen::default());
        let begun = Instant::now();
        let page = load.watched(&[&servers[0]], || self.look(servers, [0; 2], &mut seen.borrow_mut()));
        println!("\n| {} clients come to one of {} servers | |\n|---|---|", self.clients, servers.len());
        println!("| logins a second, with those who were sent on | {:.0} |", n(&page, "logins_per_s"));
        println!("| sent on | {:.0} |", n(&page, "moved"));
        println!("| all in, at rest, and out again | {:.1} s |", begun.elapsed().as_secs_f64());
        println!("| the most and the fewest sessions differ by | {:.2} % |", 100.0 * seen.borrow().spread);
    }

    /// They come to all servers in turn, and one of them talks.
    fn talk(&self, servers: &[Subject]) {
        println!(
            "\n| messages a second | deliveries a second | p50, p99, worst ms | servers' processor | logins a second \
             | bytes a client: servers', kernel's | loads differ by | late, suspected | single copy | lost, repeated, \
             out of order |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        let all: Vec<&Subject> = servers.iter().collect();
        for &rate in self.rates {
            let load = Load { clients: self.clients, pace: Pace::Rate(rate), seconds: self.seconds };
            let empty = [anonymous(servers), kernel_bytes()];
            let names = ["peers_late_total", "peers_suspected_total", "exposed_single_copy_total"];
            let before = names.map(|name| sum(servers, name));
            let seen = RefCell::new(Seen::default());
            let page = load.watched(&all, || self.look(servers, empty, &mut seen.borrow_mut()));
            let [late, suspected, single] = names.map(|name| sum(servers, name));
            let Seen { memory, spread } = seen.into_inner();
            let [ours, kernel] = memory.unwrap_or_default();
            let ms = |key: &str| n(&page["latency_us"], key) / 1e3;
            let whole = |key: &str| n(&page, key);
            println!(
                "| {rate} | {:.0} | {:.0}, {:.0}, {:.0} | {:.2} cores | {:.0} | {ours}, {kernel} | {:.2} % | {:.0}, {:.0} \
                 | {:.0} of {:.0} | {:.0}, {:.0}, {:.0} |",
                whole("deliveries_per_s"),
                ms("p50"),
                ms("p99"),
                ms("max"),
                whole("server_cpu_s") / self.seconds as f64,
                whole("logins_per_s"),
                100.0 * spread,
                late - before[0],
                suspected - before[1],
                single - before[2],
                whole("messages"),
                whole("lost"),
                whole("repeated"),
                whole("out_of_order"),
            );
            assert_eq!(page["ok"], Value::Bool(true));
        }
    }

    /// Looks at the servers, and notes what they have while all clients are there.
    fn look(&self, servers: &[Subject], empty: [i64; 2], seen: &mut Seen) {
        let sessions: Vec<f64> = servers.iter().filter_map(|server| server.figure("sessions")).collect();
        let mean = self.clients as f64 / servers.len() as f64;
        // Pages are up to a second old.
        if (sessions.iter().sum::<f64>() - self.clients as f64).abs() < 0.5 {
            let (most, fewest) = (
                sessions.iter().copied().fold(0.0, f64::max),
                sessions.iter().copied().fold(f64::MAX, f64::min),
            );
            // A storm of logins ends uneven for a moment: what it comes to counts.
            seen.spread = (most - fewest) / mean;
            let each = |now: i64, before: i64| (now - before) / self.clients as i64;
            seen.memory
                .get_or_insert_with(|| [each(anonymous(servers), empty[0]), each(kernel_bytes(), empty[1])]);
        }
    }
}

fn anonymous(servers: &[Subject]) -> i64 {
    servers.iter().map(Subject::anonymous_bytes).sum()
}
