//! Every database with an ODBC driver.
//!
//! [`sqlstate`] gives what a database says its class and says what to do about it.

pub mod sqlstate;
