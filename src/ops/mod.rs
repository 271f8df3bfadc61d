//! What is built of several adapters: tools that stand beside the engine.

pub mod demo;
pub mod messages;
pub mod orders;
