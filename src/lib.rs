pub mod base;
pub mod node;
pub mod wire;
