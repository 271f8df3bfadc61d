//! What every sink promises ([`contract`]), and what single ones promise beyond that.

mod contract;
mod lines;
mod records;
mod sqlite;
