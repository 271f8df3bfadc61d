//! Every database with an ODBC driver.
//!
//! [`sqlstate`] gives what a database says its class and says what to do about it; [`drivers`] finds the drivers that
//! are installed; [`connection_string`] builds, reads and hides connection strings. They are plain data and text and
//! in every build, so that `konekt errors` and `konekt check-drivers` work where ODBC was left out.

pub mod connection_string;
pub mod drivers;
pub mod sqlstate;
