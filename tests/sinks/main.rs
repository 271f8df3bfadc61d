//! What every sink promises ([`contract`], [`bad_records`]), and what single ones promise beyond that.

mod bad_records;
#[path = "../contract/mod.rs"]
mod contract;
mod lines;
mod sqlite;
