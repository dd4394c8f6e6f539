//! Floor 5: what the fuzzer runs. The bodies are here so that every build compiles them; `fuzz/` only calls
//! them, and `tests/fuzz_seeds.rs` replays what is in `fuzz/corpus/`.
//!
//! Each body takes any bytes, and panics if and only if they show a fault in the server.

mod client_line;
mod handshake;
mod journal;
mod line_splitting;
mod peer_frames;
mod reference;
mod session;

pub use client_line::client_line;
pub use handshake::handshake;
pub use journal::journal;
pub use line_splitting::line_splitting;
pub use peer_frames::peer_frames;
pub use session::session;
