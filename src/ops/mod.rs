//! What is built of several adapters: tools that stand beside the engine.

pub mod demo;
pub mod lag;
pub mod orders;
pub mod produce;
pub mod reset;
