//! Floor 5: what the fuzzer runs. The bodies are here so that every build compiles them; `fuzz/` only calls
//! them, and `tests/fuzz_seeds.rs` replays what is in `fuzz/corpus/`.
//!
//! Each body takes any bytes, and panics if and only if they show a fault in the server.

mod client_line;
mod line_splitting;
mod reference;
mod session;

pub use client_line::client_line;
pub use line_splitting::line_splitting;
pub use session::session;
