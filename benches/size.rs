//! What a client costs at every size, beside the floor: a process that reads the same lines, writes the same bytes
//! to as many sockets, and knows nothing else. Prints the tables of docs/performance.md; only ratios of one run mean
//! something.
//!
//! `cargo bench --bench size` takes some ten minutes; `cargo bench --bench size -- 100 1000` measures these numbers
//! of clients alone.

#[path = "size/floor.rs"]
mod floor;
#[path = "size/stage.rs"]
mod stage;

use std::time::Duration;

use serde_json::Value;
use stage::{Load, Subject, Who, logged_in};

/// Interleaved runs of which the median counts.
const ROUNDS: usize = 3;
/// Clients of one server: what 20,000 descriptors leave room for, with the rest of a process.
const SIZES: [usize; 3] = [100, 1_000, 18_000];
/// Clients are silent for so long while the server's processor time is looked at.
const IDLE: Duration = Duration::from_secs(20);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "floor") {
        return floor::run();
    }
    let sizes: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { SIZES.to_vec() } else { sizes };
    fan_out(&sizes);
    logins(&sizes);
    two_servers(&sizes);
    let most = *sizes.iter().max().expect("some sizes");
    idle(most.min(stage::descriptors().saturating_sub(100)));
}

fn n(page: &Value, key: &str) -> f64 {
    page[key].as_f64().unwrap_or(f64::NAN)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Deliveries for each second of the server's processor.
fn fan_out(sizes: &[usize]) {
    println!(
        "\n| clients | in flight | server, deliveries a CPU s | floor | ratio | p50, p99 µs | floor's |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &clients in sizes {
        for window in [1, 64] {
            let mut runs = [Vec::new(), Vec::new()];
            for round in 0..ROUNDS {
                // Who is first in a round is second in the next.
                for turn in 0..2 {
                    let which = (round + turn) % 2;
                    let subject = Subject::start([Who::Server, Who::Floor][which]);
                    runs[which].push(Load { clients, window, seconds: 3 }.put_on(&[&subject]));
                }
            }
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
fn logins(sizes: &[usize]) {
    println!("\n| clients | connects and logins a second | floor | ratio |");
    println!("|---|---|---|---|");
    for &clients in sizes {
        let mut rates = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let subject = Subject::start([Who::Server, Who::Floor][which]);
                let page = Load { clients, window: 1, seconds: 0 }.put_on(&[&subject]);
                rates[which].push(n(&page, "logins_per_s"));
            }
        }
        let ratio = median(rates[0].iter().zip(&rates[1]).map(|(ours, floor)| ours / floor).collect());
        let [ours, floor] = rates.map(median);
        println!("| {clients} | {ours:.0} | {floor:.0} | {ratio:.2} |");
    }
}

/// One server with all clients, and two with half of them each.
fn two_servers(sizes: &[usize]) {
    println!(
        "\n| clients | in flight | one server, deliveries a CPU s | two, of both | ratio | messages a s |"
    );
    println!("|---|---|---|---|---|---|");
    for &clients in sizes {
        for window in [1, 64] {
            let mut figures = [Vec::new(), Vec::new()];
            let mut rates = Vec::new();
            for _ in 0..ROUNDS {
                let one = Subject::start(Who::Server);
                let load = Load { clients, window, seconds: 3 };
                figures[0].push(n(&load.put_on(&[&one]), "deliveries_per_server_cpu_s"));
                drop(one);
                let first = Subject::start(Who::Server);
                let second = Subject::start(Who::Beside(first.port));
                second.wait_for_company();
                let page = load.put_on(&[&first, &second]);
                figures[1].push(n(&page, "deliveries_per_server_cpu_s"));
                rates.push(n(&page, "messages_per_s"));
            }
            let ratio = median(figures[1].iter().zip(&figures[0]).map(|(two, one)| two / one).collect());
            let [one, two] = figures.map(median);
            println!("| {clients} | {window} | {one:.0} | {two:.0} | {ratio:.2} | {:.0} |", median(rates));
        }
    }
}

/// What clients cost that say nothing: processor time, and memory of the server and of the kernel.
fn idle(clients: usize) {
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
        std::thread::sleep(IDLE);
        let part = (subject.cpu() - cpu).as_secs_f64() / IDLE.as_secs_f64();
        println!(
            "| {clients}, {} | {:.2} % | {} | {} |",
            if matches!(who, Who::Floor) { "floor" } else { "server" },
            part * 100.0,
            rss / all.len() as i64,
            kernel / all.len() as i64,
        );
    }
}
