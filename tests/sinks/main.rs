//! What every sink promises ([`contract`], [`bad_records`]), and what single ones promise beyond that.

mod bad_records;
mod contract;
mod lines;
mod records;
mod sqlite;
