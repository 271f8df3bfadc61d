//! How a run ends: the exit codes, once, and what is said on stderr with them.

use std::fmt;
use std::io::{self, Write};

use log::Level;
use serde::Serialize;

use super::logging::dressed;

/// What the process answers its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Unavailable = 3,
    Abandoned = 130,
}

/// The table that `--help` shows.
pub const CODES: &[(Exit, &str)] = &[
    (Exit::Done, "done"),
    (Exit::Failed, "failed while running"),
    (Exit::Usage, "wrong usage or configuration; nothing was begun"),
    (Exit::Unavailable, "a needed service or driver is absent"),
    (Exit::Abandoned, "abandoned on the second signal; what was not committed is read again"),
];

/// [`CODES`] as the last part of `--help`.
pub fn help() -> String {
    let lines = CODES.iter().map(|(exit, meaning)| format!("\n  {:<4} {meaning}", *exit as u8));
    format!("Exit codes:{}", lines.collect::<String>())
}

/// Why a command did not end well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    /// For a person; may have several lines.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}

/// Writes data to stdout. A reader that has gone away (`konekt … | head`) is no failure.
pub fn put(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Failed, format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a value to stdout, as one line of JSON.
pub fn put_json(value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
    let line = serde_json::to_string(value).map_err(|error| Failure::new(Exit::Failed, error))?;
    put(&format!("{line}\n"))
}

/// Says something to a person on stderr; where nobody listens, nothing is lost.
pub fn say(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{}", dressed(Level::Info, text.to_string()));
}

/// Says on stderr why it ends.
pub fn complain(failure: &Failure) {
    let text = format!("konekt: {}", failure.message);
    let _ = writeln!(io::stderr().lock(), "{}", dressed(Level::Error, text));
}
