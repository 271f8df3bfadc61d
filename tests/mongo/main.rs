//! MongoDB: real servers of every shape, and what Konekt does with them.

mod health;
mod load;
mod operate;
mod servers;
mod sink;
mod sink_live;
mod source;
mod stored;

#[path = "../contract/mod.rs"]
mod contract;
#[path = "../support/mod.rs"]
mod support;
