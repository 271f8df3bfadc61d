//! Where records come from: the adapters of [`port::Source`](crate::port::Source).

pub mod files;
pub mod native;
