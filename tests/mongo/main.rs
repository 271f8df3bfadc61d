//! MongoDB: real servers of every shape, and what Konekt does with them.

mod health;
mod servers;
mod sink;
mod sink_live;
mod source;
mod stored;

#[path = "../sinks/bad_records.rs"]
mod bad_records;
#[path = "../contract/mod.rs"]
mod contract;
#[path = "../support/mod.rs"]
mod support;
