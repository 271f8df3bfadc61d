//! Konekt moves records out of Kafka into databases without losing or repeating one.

pub mod broker;
pub mod cli;
pub mod config;
pub mod consumer;
pub mod core;
pub mod door;
pub mod engine;
pub mod kafka;
pub mod ops;
pub mod port;
pub mod sink;
pub mod source;

pub use crate::consumer::{Consumer, ConsumerBuilder, ConsumerConfig, ConsumerError, ReadyConsumer, RunningConsumer};
pub use crate::core::identity::RecordIds;
pub use crate::core::record::{Headers, MessageBatch, Record, TopicPartition};
pub use crate::core::tally::Statistics;
pub use crate::engine::{Delivery, Handle, OffsetReset, Summary};
pub use crate::source::native::{Assignor, Isolation, TopicSelection};
