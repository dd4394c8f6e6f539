//! The client: what a person or a script runs to talk and to listen.
//!
//! [`Client`] is the machine: it turns lines from a server into events, and what the user says into
//! bytes to send, and touches no socket, clock, thread or file. [`run`] is the shell that drives it on
//! a pipe: standard input in, standard output out.
//!
//! Invariant: one sender's messages reach the servers in the order they were said, and what a server
//! sent is shown in the order it was sent, over any number of redirects.
//!
//! Floor 4, beside the server's shell: it shares the protocol with the server and no code.

pub mod ids;
mod lines;
mod link;
pub mod machine;
pub mod memory;
mod outbox;
pub mod pipe;
mod reply;

pub use machine::{Client, Closed, Event, Mode};
pub use pipe::{Exit, Options, run};
