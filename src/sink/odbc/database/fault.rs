//! What a driver says when a call fails, or that it says nothing; and what that is to the engine.

use std::time::Duration;

use odbc_api::Error;
use odbc_api::handles::{Record, slice_to_cow_utf8};

use crate::core::verdict::{ErrorClass, ErrorCode};
use crate::port::SinkError;
use crate::sink::odbc::sqlstate::{System, classify, without_values};

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
            Fault::Gone => format!("{name}: cannot {what}: the driver failed on this connection; another is opened"),
            Fault::Own { words, .. } => format!("{name}: cannot {what}: {words}"),
        };
        let code = match self {
            Fault::Said { state, native, .. } => Some(ErrorCode { sqlstate: state.clone(), native: *native }),
            _ => None,
        };
        SinkError { code, ..SinkError::new(self.class(system), message) }
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
    let (state, words) = (record.state.as_str().to_owned(), one_line(&slice_to_cow_utf8(&record.message)));
    Fault::Said { state, native: record.native_error, words: without_values(&words) }
}

/// The words in one line, without what psqlodbc puts behind each of the server's.
fn one_line(text: &str) -> String {
    let words = text.trim_matches(|c: char| c.is_whitespace() || c == '\0').split_whitespace().collect::<Vec<_>>();
    let line = words.join(" ");
    line.strip_suffix("; Error while executing the query").map_or(line.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(state: &str, native: i32, words: &str) -> Fault {
        Fault::Said { state: state.to_owned(), native, words: one_line(words) }
    }

    #[test]
    fn a_fault_has_its_class_says_all_and_ends_the_connection_when_it_must() {
        let silence = Fault::Silence { waited: Duration::from_millis(2500) };
        let cases = [
            (said("08S01", 0, "gone"), ErrorClass::Transient, true, "08S01"),
            (
                said("40P01", 1, "ERROR: deadlock detected;\nError while executing the query"),
                ErrorClass::Contention,
                false,
                "deadlock detected (SQLSTATE 40P01, native 1)",
            ),
            (said("22001", 1, "too long"), ErrorClass::Data, false, "too long"),
            (silence, ErrorClass::Transient, true, "no answer within 2.5 s"),
            (Fault::Gone, ErrorClass::Transient, true, "the driver failed on"),
            (Fault::own(ErrorClass::Overload, "all busy"), ErrorClass::Overload, false, "all busy"),
        ];
        for (fault, class, ends, part) in cases {
            let error = fault.sink_error("odbc", "write", System::Postgres);
            assert_eq!((error.class, fault.ends_connection(System::Postgres)), (class, ends), "{error}");
            assert!(error.message.starts_with("odbc: cannot write: ") && error.message.contains(part), "{error}");
        }
    }

    #[test]
    fn missing_and_existing_tables_are_told_apart_from_other_faults() {
        for (fault, missing, existing) in [
            (said("42S02", 208, "Invalid object name"), true, false),
            (said("42P01", 1, "relation does not exist"), true, false),
            (said("HY000", 1, "no such table: x (1)"), true, false),
            (said("42S01", 2714, "There is already an object"), false, true),
            (said("42S01", 1050, "Table 'x' already exists"), false, true),
            (said("42501", 1, "permission denied"), false, false),
            (Fault::Gone, false, false),
        ] {
            assert_eq!((fault.is_missing_table(), fault.is_existing_table()), (missing, existing), "{fault:?}");
        }
    }
}
