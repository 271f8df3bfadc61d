//! What `konekt load` keeps beside the database: bad documents ([`rejects`]), and how far it is where no database says so
//! ([`checkpoint`]). Reading is done by [`crate::source::files`], writing by any sink, and between them stands the engine.

pub mod checkpoint;
pub mod rejects;
