//! What a driver says when a call fails, or that it says nothing; and what that is to the engine.

use std::time::Duration;

use odbc_api::Error;
use odbc_api::handles::{Record, slice_to_cow_utf8};

use super::sqlstate::{System, classify};
use crate::core::verdict::ErrorClass;
use crate::port::SinkError;

/// Why something did not happen on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The driver or the database answered with an error.
    Said { state: String, native: i32, words: String },
    /// No answer came in time. The connection was left behind with its thread.
    Silence { waited: Duration },
    /// The connection's thread is gone: the driver panicked or the connection had been given up.
    Gone,
    /// Konekt's own bounds or checks were met.
    Own { class: ErrorClass, words: String },
}

impl Fault {
    /// One of Konekt's own.
    pub fn own(class: ErrorClass, words: impl Into<String>) -> Self {
        Fault::Own { class, words: words.into() }
    }

    /// What it means for the records.
    pub fn class(&self, system: System) -> ErrorClass {
        match self {
            Fault::Said { state, native, words } => classify(system, state, *native, words).class,
            Fault::Silence { .. } | Fault::Gone => ErrorClass::Transient,
            Fault::Own { class, .. } => *class,
        }
    }

    /// Whether the connection is of no use after this. Where that is not certain it is closed: opening one costs
    /// milliseconds.
    pub fn ends_connection(&self, system: System) -> bool {
        match self {
            Fault::Said { state, .. } => {
                state.starts_with("08") || state.starts_with("HYT") || self.class(system) == ErrorClass::Transient
            }
            Fault::Silence { .. } | Fault::Gone => true,
            Fault::Own { .. } => false,
        }
    }

    /// Whether it says that there is no such table.
    pub fn is_missing_table(&self) -> bool {
        match self {
            Fault::Said { state, words, .. } => {
                matches!(state.as_str(), "42S02" | "42P01" | "S0002") || words.contains("no such table")
            }
            _ => false,
        }
    }

    /// Whether it says that there is such a table or index already.
    pub fn is_existing_table(&self) -> bool {
        match self {
            // 2714: SQL Server; 23505: two PostgreSQL sessions that make the same table at once.
            Fault::Said { state, native, words } => {
                matches!(state.as_str(), "42S01" | "42P07" | "42S11" | "23505")
                    || *native == 2714
                    || words.contains("already exists")
            }
            _ => false,
        }
    }

    /// In one line, with what was tried and what to do.
    pub fn sink_error(&self, name: &str, what: &str, system: System) -> SinkError {
        let message = match self {
            Fault::Said { state, native, words } => {
                let cure = classify(system, state, *native, words).cure;
                let cure = if cure.is_empty() { String::new() } else { format!("; {cure}") };
                format!("{name}: cannot {what}: {words} (SQLSTATE {state}, native {native}){cure}")
            }
            Fault::Silence { waited } => format!(
                "{name}: cannot {what}: no answer within {} s; the connection was left behind and another is opened",
                waited.as_secs_f32()
            ),
            Fault::Gone => format!("{name}: cannot {what}: the connection's driver failed; another is opened"),
            Fault::Own { words, .. } => format!("{name}: cannot {what}: {words}"),
        };
        SinkError::new(self.class(system), message)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Diagnostics { record, .. }
            | Error::UnsupportedOdbcApiVersion(record)
            | Error::InvalidRowArraySize { record, .. }
            | Error::UnableToRepresentNull(record)
            | Error::OracleOdbcDriverDoesNotSupport64Bit(record) => said(&record),
            Error::NoDiagnostics { function } => {
                Fault::Said { state: "HY000".to_owned(), native: 0, words: format!("{function} failed without a word") }
            }
            other => Fault::Said { state: "HY000".to_owned(), native: 0, words: one_line(&other.to_string()) },
        }
    }
}

fn said(record: &Record) -> Fault {
    let words = one_line(&slice_to_cow_utf8(&record.message));
    Fault::Said { state: record.state.as_str().to_owned(), native: record.native_error, words }
}

fn one_line(text: &str) -> String {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0').split_whitespace().collect::<Vec<_>>().join(" ")
}
