//! MongoDB: real servers of every shape, and what Konekt does with them.

mod servers;

#[path = "../support/mod.rs"]
mod support;
