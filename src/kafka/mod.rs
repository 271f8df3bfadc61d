//! A synchronous Kafka client in pure Rust: no async, no C library. It knows nothing of the engine.

pub mod assignor;
pub mod membership;
