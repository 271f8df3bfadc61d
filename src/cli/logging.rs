//! Log lines on stderr, for people (`2026-11-24T04:05:26.007Z INFO konekt-loop message`) or as JSON, one object a line with
//! `time`, `level`, `thread`, `target` and `message`: a documented contract. Where stderr is systemd's journal, which notes
//! the time by itself, a line for people begins with its priority instead (`<6>konekt-loop message`, sd-daemon(3)).
//!
//! Warnings and errors that repeat (a database that is away, a hundred partitions with the same trouble) are held back
//! after a few and counted; see [`Repeats`].

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use log::{Level, LevelFilter};
use parking_lot::Mutex;
use serde_json::json;

use crate::core::civil::utc_text;
use crate::door;

/// What lines on stderr look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogFormat {
    Human,
    /// Lines for people, as the journal wants them.
    Journal,
    Json,
}

impl LogFormat {
    /// That of lines for people where stderr leads now.
    fn for_people() -> LogFormat {
        if is_journal(door::env("JOURNAL_STREAM").as_deref()) { LogFormat::Journal } else { LogFormat::Human }
    }
}

/// Whether stderr is what JOURNAL_STREAM names, by device and inode (systemd.exec(5)).
#[cfg(unix)]
fn is_journal(stream: Option<&str>) -> bool {
    use std::os::unix::fs::MetadataExt;

    let stderr = || std::fs::metadata("/dev/stderr").ok();
    stream.is_some_and(|stream| stderr().is_some_and(|of| format!("{}:{}", of.dev(), of.ino()) == stream))
}

#[cfg(not(unix))]
fn is_journal(_stream: Option<&str>) -> bool {
    false
}

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
const QUIET: [&str; 4] = ["rustls", "ureq", "ureq_proto", "tiny_http"];

/// What was given to [`start`]: the format of everything that is said from then on.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Starts logging for the whole process, as JSON or for people. A second call changes nothing.
pub fn start(filter: &str, json: bool) {
    let format = *FORMAT.get_or_init(|| if json { LogFormat::Json } else { LogFormat::for_people() });
    let mut builder = env_logger::Builder::new();
    // It logs whatever a driver says, several lines and values of rows included; what matters is in the sink's errors.
    builder.filter_module("odbc_api", LevelFilter::Off);
    let repeats = Mutex::new(Repeats::default());
    builder.parse_filters(filter).format(move |output, record| {
        let message = record.args().to_string();
        match repeats.lock().admit(door::now(), record.level(), &message) {
            Admission::Said(note) => {
                writeln!(output, "{}", line(format, record.level(), record.target(), &(message + &note)))
            }
            Admission::HeldBack => Ok(()),
        }
    });
    for library in QUIET {
        builder.filter_module(library, LevelFilter::Warn);
    }
    // Only a logger that is there already refuses, and then there is one.
    let _ = builder.try_init();
}

/// What is said to a person outside the log, in the format that the log has.
pub fn dressed(level: Level, text: String) -> String {
    match FORMAT.get().copied().unwrap_or_else(LogFormat::for_people) {
        LogFormat::Json => line(LogFormat::Json, level, "konekt", &text),
        LogFormat::Journal => prioritised(level, &text),
        LogFormat::Human => text,
    }
}

/// With its priority in front of each line, since each is an entry of its own in the journal.
fn prioritised(level: Level, text: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    text.lines().map(|line| format!("<{priority}>{line}")).collect::<Vec<_>>().join("\n")
}

fn line(format: LogFormat, level: Level, target: &str, message: &str) -> String {
    let time = utc_text(door::unix_ms()).replacen(' ', "T", 1) + "Z";
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("-");
    match format {
        LogFormat::Human => format!("{time} {level:<5} {thread} {message}"),
        LogFormat::Journal => prioritised(level, &format!("{thread} {message}")),
        LogFormat::Json => {
            let level = level.as_str();
            json!({ "time": time, "level": level, "thread": thread, "target": target, "message": message }).to_string()
        }
    }
}

/// Warnings and errors of which there are many. Those that differ in numbers only (attempts, offsets, partitions, waits)
/// are of one kind; of each kind [`Repeats::SHOWN`] a minute are said.
#[derive(Default)]
struct Repeats {
    kinds: HashMap<u64, Kind>,
}

struct Kind {
    since: Instant,
    said: u32,
    held_back: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Admission {
    /// It is said, with this behind it.
    Said(String),
    HeldBack,
}

impl Repeats {
    const SHOWN: u32 = 10;
    const WINDOW: Duration = Duration::from_secs(60);
    /// More kinds than a program has.
    const KINDS_MAX: usize = 1_000;

    fn admit(&mut self, now: Instant, level: Level, message: &str) -> Admission {
        if level > Level::Warn {
            return Admission::Said(String::new());
        }
        if self.kinds.len() > Self::KINDS_MAX {
            self.kinds.retain(|_, kind| now.duration_since(kind.since) < Self::WINDOW);
        }
        if self.kinds.len() > Self::KINDS_MAX {
            self.kinds.clear();
        }
        let mut hasher = DefaultHasher::new();
        without_numbers(message).for_each(|byte| byte.hash(&mut hasher));
        let kind = self.kinds.entry(hasher.finish()).or_insert(Kind { since: now, said: 0, held_back: 0 });
        let before = if now.duration_since(kind.since) >= Self::WINDOW {
            std::mem::replace(kind, Kind { since: now, said: 0, held_back: 0 }).held_back
        } else {
            0
        };
        kind.said += 1;
        match (kind.said, before) {
            (..Self::SHOWN, 0) => Admission::Said(String::new()),
            (..Self::SHOWN, more) => Admission::Said(format!(" ({more} more like this were held back)")),
            (Self::SHOWN, _) => Admission::Said(" (more like this are held back for a minute)".to_owned()),
            _ => {
                kind.held_back += 1;
                Admission::HeldBack
            }
        }
    }
}

/// A message but for its numbers and the units right behind them: `in 17.2ms` and `in 1.3s` are the same trouble.
fn without_numbers(message: &str) -> impl Iterator<Item = u8> + '_ {
    let mut in_number = false;
    message.bytes().filter(move |byte| {
        in_number = byte.is_ascii_digit() || in_number && (byte.is_ascii_alphabetic() || *byte == b'.');
        !in_number
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_of_any_length_are_of_one_kind() {
        let kind = |message| String::from_utf8(without_numbers(message).collect()).unwrap();
        let one = kind("orders/0: attempt 1 failed (transient), tries again in 17.2ms: refused, port 47655");
        assert_eq!(one, "orders/: attempt  failed (transient), tries again in : refused, port ");
        assert_eq!(kind("orders/11: attempt 9 failed (transient), tries again in 1.3s: refused, port 47655"), one);
        assert_ne!(kind("orders/1: attempt 9 failed (auth), tries again in 4s: refused, port 47655"), one);
    }

    #[test]
    fn repeats_are_held_back_and_counted() {
        let mut repeats = Repeats::default();
        let now = door::now();
        let said = |repeats: &mut Repeats, at: Duration, level, text: &str| repeats.admit(now + at, level, text);
        let mut shown = 0;
        for attempt in 0..50 {
            let text = format!("orders/{attempt}: attempt {attempt} failed, tries again in {attempt}.5s: refused");
            match said(&mut repeats, Duration::from_secs(attempt), Level::Warn, &text) {
                Admission::Said(note) => {
                    shown += 1;
                    assert_eq!(note.is_empty(), shown < Repeats::SHOWN, "{shown}: {note}");
                }
                Admission::HeldBack => {}
            }
        }
        assert_eq!(shown, Repeats::SHOWN);
        let other = said(&mut repeats, Duration::from_secs(50), Level::Error, "orders/3 stands still");
        assert_eq!(other, Admission::Said(String::new()), "another kind is not concerned");
        let later = "orders/7: attempt 99 failed, tries again in 1.5s: refused";
        let note = said(&mut repeats, Duration::from_secs(61), Level::Warn, later);
        assert_eq!(note, Admission::Said(" (40 more like this were held back)".to_owned()));
        for _ in 0..100 {
            let told = said(&mut repeats, Duration::ZERO, Level::Info, "t/0: starts at offset 5");
            assert_eq!(told, Admission::Said(String::new()), "what happens is told each time");
        }
    }

    #[test]
    fn kinds_are_not_remembered_for_ever() {
        let mut repeats = Repeats::default();
        for number in 0..10 * Repeats::KINDS_MAX {
            let text: String = number.to_string().chars().map(|digit| (digit as u8 - b'0' + b'a') as char).collect();
            repeats.admit(door::now(), Level::Warn, &text);
            assert!(repeats.kinds.len() <= Repeats::KINDS_MAX + 1);
        }
    }

    #[test]
    fn each_line_in_the_journal_has_its_priority() {
        for (level, expected) in
            [(Level::Error, "<3>a\n<3>b"), (Level::Warn, "<4>a\n<4>b"), (Level::Trace, "<7>a\n<7>b")]
        {
            assert_eq!(prioritised(level, "a\nb"), expected);
        }
        assert!(line(LogFormat::Journal, Level::Info, "konekt", "started").ends_with(" started"));
        assert!(!is_journal(None) && !is_journal(Some("1:2")));
    }

    #[test]
    fn a_json_line_is_one_line_whatever_is_said() {
        let text = line(LogFormat::Json, Level::Warn, "konekt::engine", "two\nlines and a \"quote\"");
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(!text.contains('\n'));
        assert_eq!((&object["level"], &object["message"]), (&"WARN".into(), &"two\nlines and a \"quote\"".into()));
        assert_eq!((&object["target"], object["time"].as_str().map(str::len)), (&"konekt::engine".into(), Some(24)));
    }
}
