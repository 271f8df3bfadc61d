//! What is built of several adapters: tools that stand beside the engine.

pub mod bench;
pub mod data;
pub mod demo;
pub mod dlq;
pub mod drivers;
pub mod http;
pub mod lag;
pub mod load;
pub mod messages;
#[cfg(feature = "mongodb")]
pub mod mongo_health;
#[cfg(feature = "mongodb")]
pub mod mongo_source;
pub mod orders;
pub mod positions;
pub mod preflight;
pub mod process;
pub mod produce;
mod read_topic;
pub mod reset;
pub mod service;
