//! What a run is: told to each process that generates load, and the same for all but its number.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::limits::SOURCE_CLIENTS;
use crate::client::Mode;

/// When talkers speak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pace {
    /// So many messages of each talker are on their way: the next is said when one comes back to it.
    Window(u32),
    /// So many messages a second, all talkers together, whether those before were heard or not.
    Rate(f64),
}

/// A run. Client `i` is in process `i` modulo their number; the first talk, the last are slow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Drawn anew for each run: others may use the same servers.
    pub run: u32,
    /// What registered clients log in with.
    pub secret: String,
    /// Of all processes.
    pub clients: u32,
    /// Of all processes.
    pub talkers: u32,
    /// Of all processes.
    pub slow: u32,
    /// Bytes a second that a slow client reads while others talk.
    pub slow_bytes: usize,
    /// This one.
    pub process: u32,
    /// How many there are.
    pub processes: u32,
    /// Client `i` begins at server `i` modulo their number.
    pub servers: Vec<SocketAddr>,
    /// Clients have names, so that they are owed what they miss.
    pub registered: bool,
    /// Bytes of an activity.
    pub size: usize,
    /// When talkers speak.
    pub pace: Pace,
    /// Clients whose connection breaks log in at another server.
    pub returns: bool,
}

impl Plan {
    /// The clients of this process, by their numbers in the run.
    pub fn own(&self) -> impl Iterator<Item = u32> + use<> {
        (self.process..self.clients).step_by(self.processes as usize)
    }

    /// Whether the client talks; its number as a talker is its number.
    pub fn talks(&self, client: u32) -> bool {
        client < self.talkers
    }

    /// Whether the client is slow.
    pub fn is_slow(&self, client: u32) -> bool {
        client >= self.clients - self.slow
    }

    /// Who the client is.
    pub fn mode(&self, client: u32) -> Mode {
        if !self.registered {
            return Mode::Anonymous;
        }
        let name = format!("bench-{:08x}-{client}", self.run);
        Mode::Register { name, secret: Zeroizing::new(self.secret.clone()) }
    }

    /// The address from which the `i`th client of this process connects to a server on loopback: each has only so
    /// many ports.
    pub fn source(&self, i: usize) -> Ipv4Addr {
        let block = (i / SOURCE_CLIENTS) as u8;
        Ipv4Addr::new(127, 64 + self.process as u8, block, 1)
    }
}
