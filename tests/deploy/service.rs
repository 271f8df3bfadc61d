//! The unit file for systemd: what it says fits what the program does, and systemd takes it.

use std::fs;
use std::process::Command;

use konekt::cli::exit::Exit;
use konekt::config::command::COMMANDS;
use konekt::config::field::{Command as Konekt, Field};

use crate::support::konekt::Place;
use crate::support::or_skip;
use crate::text;

const UNIT: &str = "deploy/konekt.service";
/// `systemd-analyze security` rates from 0 (locked in) to 10.
const EXPOSURE_MAX: &str = "20";

/// The values of a key, in the order of the file.
fn values(unit: &str, key: &str) -> Vec<String> {
    let value = |line: &str| Some(line.split_once('=').filter(|(name, _)| *name == key)?.1.to_owned());
    unit.lines().filter_map(value).collect()
}

fn only(unit: &str, key: &str) -> String {
    let found = values(unit, key);
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    found.into_iter().next().unwrap_or_default()
}

fn seconds(unit: &str, key: &str) -> u64 {
    only(unit, key).parse().unwrap_or_else(|error| panic!("{key}: {error}"))
}

#[test]
fn the_unit_fits_the_program() {
    let unit = text(UNIT);
    let started = only(&unit, "ExecStart");
    let (program, words) = started.split_once(' ').expect("a program and its arguments");
    assert!(COMMANDS.iter().any(|entry| entry.path == words), "{words} is no command");
    assert!(unit.contains(&format!("target/release/konekt {program}")), "the comment says how it comes there");
    let default = |name: &str| Field::named(name).expect(name).default.of(Konekt::SqlServer).expect("a default");
    let drain_ms: u64 = default("shutdown_timeout_ms").parse().expect("a number");
    assert!(seconds(&unit, "TimeoutStopSec") * 1000 > drain_ms, "what is in flight is given {drain_ms} ms");
    assert!(seconds(&unit, "WatchdogSec") > 2 * 15, "the loop may be silent for 15 s");
    assert_eq!(only(&unit, "RestartPreventExitStatus"), (Exit::Usage as u8).to_string());
    let expected = [("Type", "notify"), ("Restart", "on-failure"), ("KillSignal", "SIGTERM"), ("DynamicUser", "yes")];
    for (key, value) in expected {
        assert_eq!(only(&unit, key), value, "{key}");
    }
    let folder = format!("/var/lib/{}", only(&unit, "StateDirectory"));
    assert_eq!(only(&unit, "WorkingDirectory"), folder, "where it may write");
}

/// What `systemd-analyze` says with these words of the unit with the program that was built here; it must be content.
fn systemd_analyze(words: &[&str]) -> Option<String> {
    let version = Command::new("systemd-analyze").arg("--version").output();
    or_skip(version.map_err(|error| format!("systemd-analyze: {error}")))?;
    let place = Place::new();
    let file = place.file("konekt.service");
    let unit = text(UNIT).replace("/usr/local/bin/konekt", env!("CARGO_BIN_EXE_konekt"));
    fs::write(&file, unit.replace("EnvironmentFile=", "EnvironmentFile=-")).expect("a file");
    let said = Command::new("systemd-analyze").args(words).arg(&file).output().expect("it was there just now");
    let words = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{words}");
    Some(words)
}

#[test]
fn systemd_takes_the_unit() {
    let remarks = systemd_analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    assert!(!remarks.as_ref().is_some_and(|remarks| remarks.contains("konekt.service")), "{remarks:?}");
}

#[test]
fn the_unit_is_locked_in() {
    systemd_analyze(&["security", "--offline=yes", "--no-pager", &format!("--threshold={EXPOSURE_MAX}")]);
}
