//! The program itself, on real sockets. Every wait has a deadline, every port is a free one, and every
//! process that is started ends with its test.

#[path = "../common/mod.rs"]
mod common;

mod balance;
mod behind;
mod breaks;
mod client;
mod crew;
mod crowd;
mod demo;
mod drain;
mod fake;
mod faults;
mod full;
mod group;
mod growth;

mod hostile;
mod intruders;
mod kept;
mod load;
mod moves;
mod names;
mod network;
mod once;
mod pages;
mod partition;
mod program;
mod provoked;
mod proxy;
mod readers;
mod restarts;
mod rolling;
mod series;
mod settings;
mod stage;
mod storage;
mod talk;
#[cfg(feature = "terminal")]
mod terminal;
