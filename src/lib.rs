//! # ActivityStreamer
//!
//! A server (and, by design, a network of servers) for one job: what any client says, every connected
//! client hears, once, in its sender's order. This page is the way into the code.
//!
//! ## Picture
//!
//! ```text
//!                 lines                 actions
//!   clients ──▶ ┌────────┐ ──────────▶ ┌────────┐ ◀────────── hash threads
//!      ▲        │ server │  connect,   │  Node  │   results come back as input
//!      │        │ (mio)  │  line, ...  │ (pure) │
//!      │        └────────┘ ◀────────── └────────┘
//!      │             ▲      bytes,         │ say: one append a message,
//!      │             │      pulled         ▼ whatever the number of clients
//!      │             │              ┌──────────────────────────────┐
//!      └─ one write ─┘◀─────────────│ feed: ring of finished lines │
//!         a link, a turn            └──────▲────────▲───────▲──────┘
//!                                     cursor of  cursor   mailbox of
//!                                     a session  of ...   an absent name
//! ```
//!
//! A broadcast is written once, to the [feed](base::feed). A reader is no queue but the
//! [ranges](base::spans) of the feed it is still owed: one open range while it is online, closed ones for
//! what it missed. The [`Node`](node::Node) decides everything and touches nothing: no clock, socket,
//! thread, file or random source. The [mio server](server) drives it; so can a test.
//!
//! ## Floors
//!
//! A file uses its own floor and those below; `tests/tidy.rs` holds that.
//!
//! | floor | folder | what | may not |
//! |---|---|---|---|
//! | 0 | [`base`] | words for all: time, ids, ring, feed, spans, limits | know a message or a client |
//! | 1 | [`wire`] | bytes ↔ messages | keep state, decide |
//! | 2 | [`node`] | the whole mind of a server | touch the world, fail |
//! | 4 | [`server`], [`sim`], [`client`] | shells: every system call, or none at all | decide |
//! | 5 | [`cli`], [`fuzz`] | the command line; what the fuzzer runs | |
//!
//! Floor 3 is for the store, which is not there yet.
//!
//! ## Lexicon
//!
//! | word | meaning |
//! |---|---|
//! | link | one TCP connection, from accept to close; its id names slot and generation |
//! | session | a link whose client is in: `Silent` (no LOGIN yet) or `Online` |
//! | name, user | what is registered; one user may have many sessions |
//! | frame | one finished broadcast line, LF included |
//! | feed | the ring of all frames, with absolute offsets |
//! | span, range | what a reader is still owed of the feed |
//! | cursor | the first byte a reader was not sent |
//! | mailbox | what a name is owed while it is away, one entry a broken session |
//! | follower | a link that has everything and only needs what comes next |
//! | answer | a private line to one client |
//! | claim, settle | a login looks at its name's older sessions before it starts |
//! | record, verifier | the slow and the fast way to check a secret |
//! | turn | one round of the loop: read, handle, act, flush, sleep |
//! | shell | what drives a node: the mio server, or a test |
//!
//! ## Where to look
//!
//! | concern | file |
//! |---|---|
//! | every bound, its unit and reason | `base/limits.rs` |
//! | what a client may send, refusals | `wire/message.rs`, `wire/decode.rs` |
//! | what clients are sent | `wire/encode.rs` |
//! | splitting lines | `wire/line.rs` |
//! | REGISTER, LOGIN, LOGOUT, ACTIVITY_MESSAGE | `node/session.rs` |
//! | who is written to, and what | `node/delivery.rs` |
//! | closing, what stays owed | `node/ending.rs`, `node/mailbox.rs` |
//! | unacknowledged bytes → what is owed | `node/sent.rs` |
//! | who gets a name, on all servers | `node/registration.rs`, `node/contest.rs`, `node/asking.rs` |
//! | two registries become one | `node/merging.rs`, `node/digest.rs` |
//! | names and secrets | `node/registry.rs`, `node/hashing.rs`, `node/guess.rs` |
//! | deadlines | `node/timers.rs` |
//! | what is counted | `node/counters.rs` |
//! | the loop | `server/mod.rs` |
//! | one socket: reading, closing | `server/conn.rs` |
//! | memory for half-received lines | `server/inflow.rs` |
//! | socket options, addresses | `server/listen.rs` |
//! | password threads | `server/pool.rs` |
//! | `unsafe` | `server/sys.rs` |
//! | a node without sockets, for tests | `sim/mod.rs` |
//! | what the fuzzer runs | `fuzz/client_line.rs`, `fuzz/line_splitting.rs`, `fuzz/session.rs`, `fuzz/handshake.rs`, `fuzz/peer_frames.rs` |
//! | the client | `client/machine.rs`, `client/pipe.rs` |
//! | flags | `cli.rs` |

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod base;
pub mod cli;
pub mod client;
#[doc(hidden)]
pub mod fuzz;
pub mod node;
pub mod server;
pub mod sim;
pub mod wire;
