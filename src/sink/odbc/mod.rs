//! Every database with an ODBC driver: rows and position committed together.
//!
//! [`sqlstate`] gives what a database says its class and says what to do about it; [`drivers`] finds the drivers that
//! are installed; [`connection_string`] builds, reads and hides connection strings; [`trial`] is what `konekt
//! check-drivers --connect` tells. They are plain data and text and in every build, so that `konekt errors` and `konekt
//! check-drivers` work where ODBC was left out; the sink itself (`database`) needs the feature `odbc` or `odbc-system`.

pub mod connection_string;
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
mod database;
pub mod drivers;
pub mod sqlstate;
pub mod trial;

#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub use self::database::{OdbcMessages, OdbcOptions, OdbcSink, Unusable, load};
