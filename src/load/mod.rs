//! The load generator: many clients that check every delivery, in as many processes as they need.
//!
//! ```text
//!              ┌── plan, orders ──▶ generator 0: fleet of clients ──▶ servers
//!  conductor ──┼── plan, orders ──▶ generator 1: fleet of clients ──▶ servers
//!     ▲        └── ...                  │
//!     └───── progress, reports ─────────┘        one line of JSON each
//! ```
//!
//! A message says who said it, as which, and when it should have been said ([`stamp`]); a receiver knows what it is
//! to hear next of each talker ([`tally`]). So loss, repeats and order are checked for each delivery, and time is
//! counted from the intended moment: a server that stalls is charged for all that had to wait meanwhile.

mod conductor;
mod conn;
mod ending;
pub mod figures;
pub mod fleet;
pub mod generator;
mod hearing;
pub mod limits;
pub mod plan;
pub mod report;
pub mod stamp;
pub mod tally;
mod words;

use std::net::SocketAddr;
use std::time::Duration;

use conductor::Conductor;
use plan::{Pace, Plan};
use report::Summary;

/// What is asked for.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are named after what they are")]
pub struct Options {
    /// Clients begin at these, in turn.
    pub servers: Vec<SocketAddr>,
    pub clients: u32,
    pub talkers: u32,
    /// Clients that read little while others talk.
    pub slow: u32,
    /// Bytes a second that they read.
    pub slow_bytes: usize,
    pub registered: bool,
    /// Bytes of an activity.
    pub size: usize,
    pub pace: Pace,
    /// How long it is measured, and how long it runs before.
    pub time: Duration,
    pub warmup: Duration,
    pub processes: u32,
    /// Servers whose processor time is counted.
    pub server_pids: Vec<u32>,
}

/// Runs it in processes of its own, and sums up what they found.
///
/// # Errors
/// A sentence, when it could not be done.
pub fn run(options: &Options) -> Result<Summary, String> {
    let (mut run, mut secret) = ([0; 4], [0; 16]);
    getrandom::fill(&mut run)
        .and_then(|()| getrandom::fill(&mut secret))
        .map_err(|error| format!("no random numbers: {error}"))?;
    let plan = Plan {
        run: u32::from_ne_bytes(run),
        secret: format!("{:032x}", u128::from_ne_bytes(secret)),
        clients: options.clients,
        talkers: options.talkers,
        slow: options.slow,
        slow_bytes: options.slow_bytes,
        process: 0,
        processes: options.processes,
        servers: options.servers.clone(),
        registered: options.registered,
        size: options.size,
        pace: options.pace,
        returns: false,
    };
    Conductor::start(options, &plan)?.run()
}
