//! # ActivityStreamer
//!
//! A network of servers for one job: what any client says, every connected client hears, once, in its
//! sender's order, on whichever server each of them is. This page is the way into the code.
//!
//! ## Picture
//!
//! ```text
//!                 lines                 actions
//!   clients ──▶ ┌────────┐ ──────────▶ ┌────────┐ ◀────────── hash threads
//!      ▲        │ server │  connect,   │  Node  │   results come back as input
//!      │        │ (mio)  │  line,      │ (pure) │
//!   servers ◀─▶ │        │  frame, ... │        │  relay: streams of all servers,
//!      │        └────────┘ ◀────────── └────────┘  applied in their order
//!      │             ▲      bytes,         │ one append a message,
//!      │             │      pulled         ▼ whatever the number of clients
//!      │             │              ┌──────────────────────────────┐
//!      └─ one write ─┘◀─────────────│ feed: ring of finished lines │
//!         a link, a turn            └──────▲────────▲───────▲──────┘
//!                                     cursor of  cursor   entry of a
//!                                     a session  of ...   broken one
//!
//!   store: the feed's bytes are appended to the journal before any link is written to; the rest is rows
//! ```
//!
//! A broadcast is written once, to the [feed](base::feed). A reader is no queue but the
//! [ranges](base::spans) of the feed it is still owed: one open range while it is online, closed ones for
//! what it missed. The [`Node`](node::Node) decides everything and touches nothing: no clock, socket,
//! thread, file or random source. The [mio server](server) drives it; the
//! [simulator](sim) drives whole networks of them from one seed.
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
//! | 3 | [`store`] | journal and records on disk | know a message or a client |
//! | 4 | [`server`], [`sim`], [`client`] | shells: every system call, or none at all; the client's machines | decide, but for those |
//! | 5 | [`load`], [`demo`], [`cli`], [`fuzz`] | load and what comes of it; the demonstration; the command line; what the fuzzer runs | |
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
//! | journal | the feed on disk: the same bytes at the same offsets, further back |
//! | row | what is kept on disk of a name, of its sessions, of other servers |
//! | boot | one run of a server; after a restart it is to the next what a peer is that is gone |
//! | span, range | what a reader is still owed of the feed |
//! | cursor | the first byte a reader was not sent |
//! | peer | another server, linked |
//! | stream, seq | what one boot of one server says, numbered |
//! | vector | the last number of each stream: a position between servers, as an offset is one inside |
//! | accept, expose | an own message gets its number; it is shown when a second server holds it |
//! | generation | the name of one session, ordered among all of its user's |
//! | home | the boot a session lives on |
//! | drain | a server stops and sends its clients to the others first |
//! | entry | what a broken session is owed: the *mailbox* of a name is its entries |
//! | frontier | what a server says four times a second: what it holds, how far its sessions are |
//! | follower | a link that has everything and only needs what comes next |
//! | answer | a private line to one client |
//! | claim, release | a login asks all servers about its name; their answer |
//! | credit, grant | how many clients a server may send to another, in all |
//! | spawn, retire | a full network starts a server; it ends when it is not needed |
//! | settle | older sessions are read dry and their unconfirmed bytes counted |
//! | record, verifier | the slow and the fast way to check a secret |
//! | turn | one round of the loop: read, handle, act, flush, sleep |
//! | talker | a client that says something, in a load test; its number is its name |
//! | fleet, generator, conductor | many clients on one poll; a process that has one; what starts those and adds up |
//! | tally | which message each client is to hear next of each talker |
//! | shell | what drives a node: the mio server, the simulator, or a test |
//!
//! ## Where to look
//!
//! | concern | file |
//! |---|---|
//! | every bound, its unit and reason | `base/limits.rs` |
//! | what a client may send, refusals | `wire/message.rs`, `wire/decode.rs` |
//! | what clients are sent | `wire/encode.rs` |
//! | splitting lines | `wire/line.rs` |
//! | frames between servers, what they say; positions as what changed | `wire/frame.rs`, `wire/peer.rs`, `wire/registration.rs`; `wire/changes.rs` |
//! | what a shell and a node say to each other | `node/contract.rs` |
//! | REGISTER, LOGIN, LOGOUT; ACTIVITY_MESSAGE | `node/session.rs`; `node/saying.rs` |
//! | who is written to, and what; who first | `node/delivery.rs`; `node/sweep.rs` |
//! | closing, what stays owed | `node/ending.rs` |
//! | a server stops: its clients are sent to others | `node/draining.rs` |
//! | how load is shared: the sums, what others said, who is sent on | `node/balance.rs`, `node/books.rs`, `node/spread.rs` |
//! | full networks start servers, which end when they are not needed | `node/scale.rs`, `server/spawn.rs` |
//! | several servers of a machine as one | `server/group.rs` |
//! | links to servers, signs of life | `node/mesh.rs`, `node/peer.rs`, `node/membership.rs` |
//! | messages of all servers: held, exposed, applied | `node/relay.rs`, `node/stream.rs`, `node/exchange.rs` |
//! | what is missing is asked for | `node/fetching.rs` |
//! | clients with ids: what was said, shown, acknowledged | `node/ids.rs`, `wire/ids.rs`, `base/seen.rs` |
//! | a login, on all servers | `node/claims.rs`, `node/plan.rs`, `node/answering.rs` |
//! | what servers keep of each other's sessions | `node/names.rs`, `node/replica.rs`, `node/late.rs`, `node/frontier.rs` |
//! | bugs on purpose | `node/mutation.rs` |
//! | what outlives the node, before which answer | `node/keeping.rs`, `node/restoring.rs`, `base/row.rs` |
//! | readers that go on from disk | `node/behind.rs` |
//! | unacknowledged bytes → what is owed | `node/sent.rs` |
//! | who gets a name, on all servers | `node/registration.rs`, `node/contest.rs`, `node/asking.rs` |
//! | two registries become one | `node/merging.rs`, `node/digest.rs` |
//! | names and secrets | `node/registry.rs`, `node/hashing.rs`, `node/guess.rs` |
//! | deadlines | `node/timers.rs` |
//! | what is counted, how long messages take | `node/counters.rs`, `node/traffic.rs`, `node/lag.rs` |
//! | how a server and its network stand | `node/status.rs` |
//! | the loop | `server/mod.rs` |
//! | one socket: reading, closing | `server/conn.rs` |
//! | memory for half-received lines | `server/inflow.rs` |
//! | socket options, addresses | `server/listen.rs` |
//! | status pages: requests, what they say, Prometheus' text | `server/http.rs`, `server/pages.rs`, `server/metrics.rs` |
//! | signals, the service manager | `server/signals.rs`, `server/notify.rs` |
//! | proven, encrypted links | `server/noise.rs`, `server/peers.rs`, `server/secret.rs` |
//! | dialling, names of hosts | `server/dial.rs`, `server/lookup.rs` |
//! | password threads | `server/pool.rs` |
//! | the server's disk: starting, appending, degraded | `server/keep.rs` |
//! | the feed on disk: appending, retention | `store/journal.rs`, `store/segment.rs` |
//! | its bytes, what is left of them after a crash | `store/block.rs`, `store/recovery.rs` |
//! | reading it far behind | `store/reading.rs` |
//! | everything else on disk | `store/records.rs` |
//! | the store's thread, syncing | `store/worker.rs` |
//! | `unsafe` | `server/sys.rs` |
//! | a node without sockets, for tests | `sim/mod.rs` |
//! | whole networks in virtual time: what a seed is, the run, the ways, the servers, their disks | `sim/swarm.rs`, `sim/cluster.rs`, `sim/network.rs`, `sim/host.rs`, `sim/turn.rs`, `sim/links.rs`, `sim/pipe.rs`, `sim/disk.rs` |
//! | what their clients do, what goes wrong | `sim/user.rs`, `sim/conversation.rs`, `sim/workload.rs`, `sim/faults.rs`, `sim/schedule.rs`, `sim/drain.rs` |
//! | what they must hear, and what a fault excuses | `sim/ledger.rs`, `sim/hearing.rs`, `sim/ids.rs`, `sim/judge.rs`, `sim/promises.rs`, `sim/names.rs`, `sim/balance.rs`, `sim/spawn.rs`, `sim/excuses.rs` |
//! | what the fuzzer runs | `fuzz/client_line.rs`, `fuzz/line_splitting.rs`, `fuzz/session.rs`, `fuzz/handshake.rs`, `fuzz/peer_frames.rs`, `fuzz/journal.rs` |
//! | one connection of a client; from server to server, and when | `client/machine.rs`; `client/journey.rs`, `client/servers.rs`, `client/news.rs` |
//! | its threads | `client/desk.rs`, `client/travel.rs` |
//! | a client for other programs; on a pipe | `client/connection.rs`; `client/pipe.rs` |
//! | on a terminal: the shell; the screen's state, its cells | `client/terminal/mod.rs`, `client/terminal/screen.rs`; `client/terminal/ui.rs`, `client/terminal/draw.rs` |
//! | the conversation, the input line, strangers' text | `client/terminal/entries.rs`, `client/terminal/editor.rs`, `client/terminal/text.rs` |
//! | secrets that are remembered | `client/keyring.rs` |
//! | what a client with an id knows; of its own; which comes next; says; in a file | `client/ids.rs`; `client/own.rs`; `client/named.rs`; `client/machine/numbered.rs`; `client/memory.rs` |
//! | load: many clients, one of them, what they read, how they end | `load/fleet.rs`, `load/conn.rs`, `load/hearing.rs`, `load/ending.rs` |
//! | load: what a message carries, what is lost, repeated or late | `load/stamp.rs`, `load/tally.rs` |
//! | load: processes, what they tell each other, their phases, what they found; what a run is; its bounds | `load/conductor.rs`, `load/words.rs`, `load/generator.rs`, `load/report.rs`, `load/figures.rs`; `load/plan.rs`; `load/limits.rs` |
//! | the demonstration | `demo/mod.rs`, `demo/network.rs`, `demo/picture.rs` |
//! | flags, how their values are written; the client's; one server started by another; a group | `cli.rs`, `cli/values.rs`; `cli/client.rs`; `cli/spawn.rs`; `cli/group.rs` |
//! | settings from file and environment, reading them anew | `cli/config.rs`, `cli/serve.rs`, `cli/logging.rs` |
//! | the status and bench commands, completions, the manual | `cli/status.rs`, `cli/bench.rs`, `cli/pages.rs` |

#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod base;
pub mod cli;
pub mod client;
pub mod demo;
#[doc(hidden)]
pub mod fuzz;
pub mod load;
pub mod node;
pub mod server;
pub mod sim;
pub mod store;
pub mod wire;
