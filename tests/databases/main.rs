//! What Konekt does with real databases behind ODBC.

mod harness;

#[path = "../support/mod.rs"]
mod support;
