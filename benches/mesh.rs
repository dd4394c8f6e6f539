//! Control traffic between servers: computed, and beside it counted in networks in virtual time. Prints the tables of
//! docs/performance.md.
//!
//! `cargo bench --bench mesh` takes a minute, most of it for 64 servers with 500 clients each.

#[path = "mesh/drive.rs"]
mod drive;
#[path = "mesh/model.rs"]
mod model;
#[path = "mesh/net.rs"]
#[allow(dead_code, reason = "a test uses the rest")]
mod net;

use activitystreamer::node::Kind;
use model::{Flow, Load};

/// What is compared: servers, all clients, users that come and go a second, messages a second.
const COUNTED: [(usize, usize, f64, f64); 5] = [
    (2, 1_000, 0.0, 10.0),
    (8, 4_000, 0.0, 10.0),
    (64, 32_000, 0.0, 0.0),
    (64, 32_000, 0.0, 10.0),
    (64, 32_000, 4.0, 1.0),
];

/// What is computed.
const COMPUTED: [(usize, usize, f64, f64); 6] = [
    (64, 1_000_000, 0.0, 0.0),
    (64, 1_000_000, 0.0, 10.0),
    (64, 1_000_000, 0.0, 1_000.0),
    (64, 1_000_000, 100.0, 10.0),
    (64, 1_000_000, 1_000.0, 10.0),
    (8, 1_000_000, 100.0, 10.0),
];

/// Of broadcasts, as `bench` has them.
const LINE: usize = 206;

fn load((servers, clients, comings, messages): (usize, usize, f64, f64)) -> Load {
    // Somebody talks on each of 16 servers, or on each.
    let talking = if messages > 0.0 { servers.min(16) } else { 0 };
    Load { servers, clients, comings, messages, talking, said: 20, line: LINE }
}

fn main() {
    let is_test = std::env::args().any(|arg| arg == "--test");
    let counted = if is_test { &[(3, 30, 1.0, 2.0)][..] } else { &COUNTED };
    println!(
        "\n| servers | clients | users come, s | messages, s | kind | frames, s: computed | counted | bytes, s: computed | counted |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for of in counted {
        let load = load(*of);
        let (load, seen) = drive::drive(&load, 20);
        load.flows().into_iter().for_each(|flow| beside(&load, flow, &seen));
    }
    println!(
        "\n| servers | clients | users come, s | messages, s | from a server to another, bytes a s | of a server to all | control frames of a server a s | of these: sessions |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for of in COMPUTED {
        total(&Load { said: 100_000, ..load(of) });
    }
}

fn beside(load: &Load, (kind, frames, bytes): Flow, seen: &[Flow]) {
    let counted = seen.iter().find(|flow| flow.0 == kind).expect("all kinds are counted");
    if frames > 0.0 || counted.1 > 0.0 {
        let Load { servers, clients, comings, messages, .. } = load;
        println!(
            "| {servers} | {clients} | {comings:.1} | {messages:.1} | {} | {frames:.0} | {:.0} | {bytes:.0} | {:.0} |",
            kind.label(),
            counted.1,
            counted.2
        );
    }
}

fn total(load: &Load) {
    let Load { servers, clients, comings, messages, .. } = load;
    let pair = load.control_of_pair();
    let all = load.flows();
    let control: f64 = all.iter().filter(|(kind, ..)| *kind != Kind::Data).map(|flow| flow.1).sum();
    let sessions: f64 = all.iter().filter(|(kind, ..)| *kind == Kind::Session).map(|flow| flow.1).sum();
    println!(
        "| {servers} | {clients} | {comings} | {messages} | {pair:.0} | {:.0} | {:.0} | {:.0} |",
        pair * (*servers as f64 - 1.0),
        control / *servers as f64,
        sessions / *servers as f64,
    );
}
