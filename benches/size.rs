//! What a client costs at every size, beside the floor: a process that reads the same lines, writes the same bytes
//! to as many sockets, and knows nothing else. Prints the tables of docs/performance.md; only ratios of one run mean
//! something.
//!
//! `cargo bench --bench size -- 100 1000 18000` measures these numbers of clients, some three minutes each;
//! `-- hundred-thousand` so many on six servers, some five minutes.

#[path = "size/crowd.rs"]
mod crowd;
#[path = "size/floor.rs"]
mod floor;
#[path = "size/stage.rs"]
mod stage;

use std::time::Duration;

use serde_json::Value;
use stage::{Load, Pace, Subject, Who, logged_in};

/// Numbers of clients, unless others are asked for.
const SIZES: [usize; 2] = [100, 1_000];

/// How much is measured.
struct Plan {
    sizes: Vec<usize>,
    /// Interleaved runs of which the median counts.
    rounds: usize,
    /// Of one run, without its start.
    seconds: u64,
    /// For so long clients are silent while the server's processor time is looked at.
    idle: Duration,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is = |word: &str| args.iter().any(|arg| arg == word);
    if is("floor") {
        return floor::run(args.get(1).and_then(|port| port.parse().ok()));
    }
    if is("hundred-thousand") {
        return crowd::run(&crowd::Plan {
            clients: 100_000,
            servers: 6,
            seconds: 60,
            rates: &[0.1, 2.0, 10.0],
        });
    }
    let sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let plan = match is("--test") {
        // Only whether it runs.
        true => Plan { sizes: vec![10], rounds: 1, seconds: 1, idle: Duration::ZERO },
        false => Plan {
            sizes: if sizes.is_empty() { SIZES.to_vec() } else { sizes },
            rounds: 3,
            seconds: 3,
            idle: Duration::from_secs(20),
        },
    };
    plan.fan_out();
    plan.logins();
    plan.two_servers();
    plan.idle();
    if is("--test") {
        crowd::run(&crowd::Plan { clients: 60, servers: 2, seconds: 1, rates: &[10.0] });
    }
}

fn n(page: &Value, key: &str) -> f64 {
    page[key].as_f64().unwrap_or(f64::NAN)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

impl Plan {
    /// What the load comes to on a server and on the floor, round by round.
    fn beside_floor(&self, load: &Load) -> [Vec<Value>; 2] {
        let mut runs = [Vec::new(), Vec::new()];
        for round in 0..self.rounds {
            // Who is first in a round is second in the next.
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let subject = Subject::start([Who::Server, Who::Floor][which]);
                runs[which].push(load.put_on(&[&subject]));
            }
        }
        runs
    }

    /// Deliveries for each second of the server's processor.
    fn fan_out(&self) {
        println!(
            "\n| clients | in flight | server, deliveries a CPU s | floor | ratio | p50, p99 µs | floor's |"
        );
        println!("|---|---|---|---|---|---|---|");
        for &clients in &self.sizes {
            for window in [1, 64] {
                let runs =
                    self.beside_floor(&Load { clients, pace: Pace::Window(window), seconds: self.seconds });
                let figure =
                    |which: usize, key: &str| median(runs[which].iter().map(|page| n(page, key)).collect());
                let ratios = runs[0].iter().zip(&runs[1]).map(|(ours, floor)| {
                    n(ours, "deliveries_per_server_cpu_s") / n(floor, "deliveries_per_server_cpu_s")
                });
                let time = |which: usize, key: &str| {
                    median(runs[which].iter().map(|page| n(&page["latency_us"], key)).collect())
                };
                println!(
                    "| {clients} | {window} | {:.0} | {:.0} | {:.2} | {:.0}, {:.0} | {:.0}, {:.0} |",
                    figure(0, "deliveries_per_server_cpu_s"),
                    figure(1, "deliveries_per_server_cpu_s"),
                    median(ratios.collect()),
                    time(0, "p50"),
                    time(0, "p99"),
                    time(1, "p50"),
                    time(1, "p99"),
                );
            }
        }
    }

    /// Connections that log in, a second.
    fn logins(&self) {
        println!("\n| clients | connects and logins a second | floor | ratio |");
        println!("|---|---|---|---|");
        for &clients in &self.sizes {
            let runs = self.beside_floor(&Load { clients, pace: Pace::Window(1), seconds: 0 });
            let rates = runs.map(|run| run.iter().map(|page| n(page, "logins_per_s")).collect::<Vec<_>>());
            let ratio = median(rates[0].iter().zip(&rates[1]).map(|(ours, floor)| ours / floor).collect());
            let [ours, floor] = rates.map(median);
            println!("| {clients} | {ours:.0} | {floor:.0} | {ratio:.2} |");
        }
    }

    /// One server with all clients, and two with half of them each; and the same of floors, of which the second is
    /// a client of the first.
    fn two_servers(&self) {
        println!(
            "\n| clients | in flight | one server, deliveries a CPU s | two, of both | ratio | floors' ratio |"
        );
        println!("|---|---|---|---|---|---|");
        for &clients in &self.sizes {
            for window in [1, 64] {
                let load = Load { clients, pace: Pace::Window(window), seconds: self.seconds };
                let mut figures: [Vec<f64>; 4] = Default::default();
                for _ in 0..self.rounds {
                    for (figures, beside) in figures.chunks_mut(2).zip([Who::Beside, Who::FloorBeside]) {
                        let is_floor = matches!(beside(0), Who::FloorBeside(_));
                        let first = Subject::start(if is_floor { Who::Floor } else { Who::Server });
                        figures[0].push(n(&load.put_on(&[&first]), "deliveries_per_server_cpu_s"));
                        let second = Subject::start(beside(first.port));
                        if !is_floor {
                            second.wait_for_company();
                        }
                        figures[1].push(n(&load.put_on(&[&first, &second]), "deliveries_per_server_cpu_s"));
                    }
                }
                let ratio = |at: usize| {
                    median(figures[at + 1].iter().zip(&figures[at]).map(|(two, one)| two / one).collect())
                };
                let (ratio, floors) = (ratio(0), ratio(2));
                let [one, two, ..] = figures.map(median);
                println!("| {clients} | {window} | {one:.0} | {two:.0} | {ratio:.2} | {floors:.2} |");
            }
        }
    }

    /// What clients cost that say nothing: processor time, and memory of the server and of the kernel.
    fn idle(&self) {
        let most = self.sizes.iter().max().expect("some sizes");
        let clients = *most.min(&stage::descriptors().saturating_sub(100));
        println!(
            "\n| silent clients | processor | memory, bytes a client | kernel's, bytes a client (both ends) |"
        );
        println!("|---|---|---|---|");
        for who in [Who::Server, Who::Floor] {
            let subject = Subject::start(who);
            let (rss, kernel) = (subject.anonymous_bytes(), stage::kernel_bytes());
            let all: Vec<_> = (0..clients).map(|_| logged_in(subject.port)).collect();
            let (rss, kernel) = (subject.anonymous_bytes() - rss, stage::kernel_bytes() - kernel);
            let cpu = subject.cpu();
            std::thread::sleep(self.idle);
            let part = (subject.cpu() - cpu).as_secs_f64() / self.idle.as_secs_f64().max(1e-3);
            println!(
                "| {clients}, {} | {:.2} % | {} | {} |",
                if matches!(who, Who::Floor) { "floor" } else { "server" },
                part * 100.0,
                rss / all.len() as i64,
                kernel / all.len() as i64,
            );
        }
    }
}
