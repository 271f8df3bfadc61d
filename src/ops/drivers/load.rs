//! Whether a driver loads.
//!
//! Loading runs the driver's initialiser, which may crash or hang, so it is done by a process of its own: this program,
//! as `konekt check-drivers --load FILE`, which is killed when it takes too long.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::sink::exec;

/// Time for one driver. They take milliseconds; a cold disk may need some seconds.
const DEADLINE: Duration = Duration::from_secs(5);

/// What came of loading a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    Yes,
    No { fault: String, cure: String },
}

impl Loaded {
    fn no(fault: impl Into<String>, cure: impl Into<String>) -> Loaded {
        Loaded::No { fault: fault.into(), cure: cure.into() }
    }
}

/// Loads the driver with this file in a process of its own.
///
/// That process says on stdout why the driver does not load; what a driver writes to stderr is left out.
pub fn load(file: &Path) -> Loaded {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Loaded::no(format!("was not tried: {error}"), "start konekt by its full path"),
    };
    let mut command = Command::new(program);
    command
        .args(["check-drivers", "--load"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // what the driver starts is killed with it
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Loaded::no(format!("was not tried: {error}"), "look at the machine's limits"),
    };
    // A few lines: they fit into the pipe, so the child need not be read while it runs.
    let status = exec::wait(&mut child, Some(DEADLINE));
    let said = child.wait_with_output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    match status {
        Err(fault) => Loaded::no(format!("hangs while it loads: it {fault}"), "update the driver, or take it away"),
        Ok(status) if status.success() => Loaded::Yes,
        Ok(status) => match status.code() {
            Some(_) => parse(&said.unwrap_or_default()),
            None => Loaded::no(format!("crashes while it loads: {status}"), "update the driver, or take it away"),
        },
    }
}

/// What the process prints: the fault, and in a second line the cure.
pub fn printed(fault: &str, cure: &str) -> String {
    format!("{fault}\n{cure}\n")
}

fn parse(said: &str) -> Loaded {
    let mut lines = said.lines().rev();
    match (lines.next(), lines.next()) {
        (Some(cure), Some(fault)) => Loaded::no(fault, cure),
        _ => Loaded::no("ends the program while it loads", "update the driver, or take it away"),
    }
}

/// Loads the driver with this file into this process.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub fn load_here(file: &Path) -> Loaded {
    crate::sink::odbc::load(file).map_or_else(|words| explain(&words), |()| Loaded::Yes)
}

/// Without ODBC nothing can be loaded.
#[cfg(not(any(feature = "odbc", feature = "odbc-system")))]
pub fn load_here(_file: &Path) -> Loaded {
    Loaded::no("this konekt was built without ODBC", "build it with the feature odbc")
}

/// The loader's words, and what to do about them.
#[cfg(any(feature = "odbc", feature = "odbc-system"))]
fn explain(message: &str) -> Loaded {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = message.rsplit_once("Can't open lib").map_or(message.as_str(), |(_, words)| words);
    let cure = if let Some((library, _)) = words.split_once(": cannot open shared object file") {
        let library = library.rsplit([' ', '\'']).next().unwrap_or(library);
        format!("install the package that has {library}")
    } else if ["ELF", "too short", "mach-o", "architecture", "IM014"].iter().any(|part| words.contains(part)) {
        format!("install the driver for {}", std::env::consts::ARCH)
    } else if words.contains("undefined symbol") || words.contains("version `") {
        "install the driver for this release of the system".to_owned()
    } else {
        "install the driver again".to_owned()
    };
    Loaded::no(message, cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(any(feature = "odbc", feature = "odbc-system"))]
    fn the_loaders_words_have_their_cure() {
        for (words, cure) in [
            ("Can't open lib '/d.so' : libpq.so.5: cannot open shared object file: No such file", "has libpq.so.5"),
            ("Can't open lib '/d.so' : /d.so: invalid ELF header", "install the driver for"),
            ("Can't open lib '/d.so' : /d.so: file too short", "install the driver for"),
            ("Can't open lib '/d.so' : /d.so: undefined symbol: SSL_x", "this release of the system"),
            ("Driver's SQLAllocHandle on SQL_HANDLE_HENV failed", "install the driver again"),
        ] {
            let Loaded::No { fault, cure: found } = explain(words) else { panic!("{words}") };
            assert!(fault.contains(words) && found.contains(cure), "{words}: {found}");
        }
    }

    #[test]
    fn what_the_process_prints_is_read_back() {
        assert_eq!(parse(&printed("a fault", "a cure")), Loaded::no("a fault", "a cure"));
        assert_eq!(parse(&format!("a driver's babble\n{}", printed("f", "c"))), Loaded::no("f", "c"));
        assert!(matches!(parse(""), Loaded::No { fault, .. } if fault.contains("ends the program")));
    }
}
