//! Log lines on stderr: `2026-11-24T04:05:26.007Z INFO konekt-loop message`.

use std::io::Write;

use log::LevelFilter;

use crate::core::civil::utc_text;
use crate::door;

/// The filter for a number of `-v` (positive) or `-q` (negative); without any, the setting holds.
pub fn filter(setting: &str, verbosity: i8) -> String {
    let level = match verbosity {
        0 => return setting.to_owned(),
        ..=-2 => LevelFilter::Error,
        -1 => LevelFilter::Warn,
        1 => LevelFilter::Debug,
        2.. => LevelFilter::Trace,
    };
    level.to_string().to_ascii_lowercase()
}

/// Libraries whose chatter is of no use to anybody, or shows what they send, a token perhaps.
const QUIET: [&str; 3] = ["rustls", "ureq", "ureq_proto"];

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(filter: &str) {
    let mut builder = env_logger::Builder::new();
    // It logs whatever a driver says, several lines and values of rows included; what matters is in the sink's errors.
    builder.filter_module("odbc_api", LevelFilter::Off);
    builder.parse_filters(filter).format(|line, record| {
        let time = utc_text(door::unix_ms()).replacen(' ', "T", 1);
        let thread = std::thread::current();
        writeln!(line, "{time}Z {:<5} {} {}", record.level(), thread.name().unwrap_or("-"), record.args())
    });
    for library in QUIET {
        builder.filter_module(library, LevelFilter::Warn);
    }
    // Only a logger that is there already refuses, and then there is one.
    let _ = builder.try_init();
}
