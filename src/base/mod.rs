//! Floor 0: the words every other floor uses. Nothing here knows a message, a client or a socket.

pub mod feed;
pub mod hlc;
pub mod id;
pub mod limits;
pub mod ring;
pub mod rng;
pub mod row;
pub mod seen;
pub mod spans;
pub mod time;
pub mod vector;
