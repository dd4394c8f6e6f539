pub mod base;
pub mod node;
pub mod server;
pub mod wire;
