//! What every sink promises ([`contract`]), and what single ones promise beyond that.

#[path = "../contract/mod.rs"]
mod contract;
mod lines;
mod sqlite;
