//! A synchronous Kafka client in pure Rust: no async, no C library. It knows nothing of the engine.
//!
//! From the bottom up:
//!
//! - [`error`]: the one table of broker error codes, and [`Error`](error::Error), which says where and what to do;
//! - [`wire`]: record batches and their compression; the other messages come from the `kafka-protocol` crate;
//! - `socket`, `versions`, `shape`: TCP, the versions we speak, and what answers look like;
//! - [`connection`]: one TCP connection to one broker: versions, correlation, timeouts;
//! - [`cluster`]: the bootstrap list, metadata, leaders, coordinators; [`offsets`]: offsets by time;
//! - [`producer`] and [`admin`]: enough to make and fill topics.
//!
//! Everything blocks, with a limit on its time. Whoever wants two things at once uses two threads and two connections.
//! Speaks to Kafka 3.9 and 4.x; versions are negotiated per connection (KIP-35) within the table in `versions`.

pub mod admin;
pub mod cluster;
pub mod connection;
pub mod error;
pub mod offsets;
pub mod producer;
#[cfg(test)]
mod scripted;
pub mod wire;

mod shape;
mod socket;
mod versions;
