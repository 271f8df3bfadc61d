//! Where records come from: the adapters of [`port::Source`](crate::port::Source), one for each Kafka client that
//! [`client`] lists; [`files`]; and [`uncommitted`] around any of them.

pub mod client;
#[cfg(feature = "confluent")]
pub mod confluent;
#[cfg(any(feature = "confluent", feature = "kafka-crate"))]
mod copied;
pub mod files;
#[cfg(feature = "kafka-crate")]
pub mod kafka_crate;
pub mod native;
pub mod uncommitted;
