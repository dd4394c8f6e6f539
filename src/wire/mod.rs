//! Floor 1: bytes ↔ messages. No state beyond reused buffers, no decision, no I/O.

mod changes;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod ids;
pub mod line;
pub mod message;
pub mod peer;
pub mod registration;
