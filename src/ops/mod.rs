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
pub mod orders;
pub mod positions;
pub mod preflight;
pub mod produce;
pub mod reset;
