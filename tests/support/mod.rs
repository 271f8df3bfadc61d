//! What the live tests share: a real Kafka, its Java client and librdkafka as writers, the binary under test, and the
//! audit of what it wrote.
//!
//! Nothing outlives the test process, not even when that is killed: every helper process watches its stdin, a pipe
//! whose other end dies with us. Servers listen on 127.0.0.1, on free ports, in folders of their own, and are stopped
//! through the handle they were started with.
//!
//! What a machine lacks is fetched by `tests/support/*/prepare.sh`, which `./check` runs first. What is still
//! missing then is a loud `skipped` on a developer's machine and a failure in CI (`CI=true`): see [`or_skip`].
#![allow(dead_code, reason = "every test binary includes this module whole and uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

pub mod audit;
pub mod databases;
pub mod helper;
pub mod http;
pub mod issuer;
pub mod kafka;
pub mod konekt;
pub mod link;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod odbc;
pub mod random;
pub mod running;
pub mod wait;

use std::io::Write;
use std::path::PathBuf;

/// The service, or `None` after the test was entered as skipped. In CI a missing service is a failure.
///
/// # Panics
/// In CI, when the service is missing.
pub fn or_skip<T>(service: Result<T, String>) -> Option<T> {
    let reason = match service {
        Ok(service) => return Some(service),
        Err(reason) => reason,
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(std::env::var("CI").is_err(), "{test} cannot run: {reason}");
    let line = format!("skipped: {test}: {}\n", reason.lines().next().unwrap_or_default());
    // past libtest, which keeps what a passing test prints to itself
    std::io::stderr().write_all(line.as_bytes()).ok();
    if let Ok(list) = std::env::var("KONEKT_CHECK_SKIPPED") {
        let mut list =
            std::fs::File::options().append(true).create(true).open(list).expect("the list of skipped tests");
        list.write_all(line.as_bytes()).expect("a line in the list of skipped tests");
    }
    None
}

/// Where the prepare scripts keep what they fetched.
pub fn cache() -> PathBuf {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("KONEKT_CHECK_CACHE").unwrap_or_else(|| {
        let user = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")));
        user.expect("HOME is set").join("konekt-check")
    })
}
