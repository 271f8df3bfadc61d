//! A synchronous Kafka client in pure Rust: no async, no C library. It knows nothing of the engine.
//!
//! From the bottom up:
//!
//! - [`error`]: the one table of broker error codes, and [`Error`](error::Error), which says where and what to do;
//! - [`wire`]: record batches and their compression; the other messages come from the `kafka-protocol` crate;
//! - `socket`, `versions`, `shape`: TCP, the versions we speak, and what answers look like;
//! - [`security`]: what protects a connection: `tls` (with its `private_key`), and [`sasl`] with its tokens ([`oauth`]),
//!   which `authentication` carries out; `diagnosis` finds out why a server hung up;
//! - [`connection`]: one connection to one broker: versions, correlation, timeouts;
//! - [`cluster`]: the bootstrap list, metadata, leaders, coordinators; [`offsets`]: offsets by time;
//! - [`producer`]: idempotent, a thread per broker; [`admin`]: what an operator asks and does;
//! - [`consumer`]: ties together, each on a thread of its own, membership ([`keeper`] drives [`group`], with [`assignor`]
//!   and [`membership`]), offsets ([`committer`]), metadata ([`router`], with [`topics`]) and reading ([`fetcher`], with
//!   [`buffer`] and [`credit`]).
//!
//! Everything blocks, with a limit on its time. Whoever wants two things at once uses two threads and two connections.
//! Speaks to Kafka 3.9 and 4.x; versions are negotiated per connection (KIP-35) within the table in `versions`.

pub mod admin;
#[cfg(feature = "testkit")]
pub mod answers;
pub mod assignor;
pub mod buffer;
pub mod cluster;
pub mod committer;
pub mod connection;
pub mod consumer;
pub mod credit;
pub mod error;
pub mod fetcher;
pub mod group;
pub mod interrupt;
pub mod keeper;
pub mod membership;
pub mod oauth;
pub mod offsets;
pub mod producer;
pub mod router;
pub mod sasl;
pub mod security;
pub mod topics;
pub mod wire;

mod authentication;
mod diagnosis;
mod private_key;
#[cfg(test)]
mod scripted;
mod shape;
mod socket;
mod tls;
mod versions;
