//! The client: what a person or a script runs to talk and to listen.
//!
//! [`Client`] is the machine: it turns lines from a server into events, and what the user says into
//! bytes to send. [`Journey`] takes it from server to server. Neither touches a socket, clock, thread or
//! file. What drives them is small: [`Connection`] for other programs, [`run`] on a pipe, `terminal` on a screen.
//!
//! Invariant: one sender's messages reach the servers in the order they were said, and what a server
//! sent is shown in the order it was sent, over any number of redirects.
//!
//! Floor 4, beside the server's shell: it shares the protocol with the server and no code.

pub mod connection;
mod desk;
pub mod ids;
pub mod journey;
pub mod keyring;
mod lines;
mod link;
pub mod machine;
pub mod memory;
pub mod named;
mod news;
mod outbox;
mod own;
pub mod pipe;
mod reply;
mod secret;
mod servers;
#[cfg(feature = "terminal")]
pub mod terminal;
mod travel;

pub use connection::{Connection, Delivery, Error, Settings};
pub use journey::{Journey, News, Over, Step};
pub use keyring::Keyring;
pub use machine::{Client, Closed, Event, Mode};
pub use pipe::{Exit, Options, run};
pub use servers::SERVERS_MAX;
