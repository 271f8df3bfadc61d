//! `konekt check-drivers`, `konekt errors` and `setup_sqlserver_driver.sh`, without any database and without changing the
//! machine: drivers are planted in a folder that `ODBCSYSINI` names.

mod errors;
mod setup;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::konekt::{Finished, Konekt, Place};
use support::or_skip;

const PASSWORD: &str = "hunter2;}x";

/// A folder with an odbcinst.ini.
fn place(drivers: &[(&str, &str)]) -> Place {
    let place = Place::new();
    let sections: String = drivers.iter().map(|(name, file)| format!("[{name}]\nDriver={file}\n")).collect();
    fs::write(place.file("odbcinst.ini"), sections).expect("the folder is ours");
    place
}

fn check_drivers(place: &Place, arguments: &[&str]) -> Konekt {
    let folder = place.file("").display().to_string();
    let folder = folder.trim_end_matches('/');
    place
        .konekt(&["check-drivers"])
        .arguments(arguments)
        .variable("ODBCSYSINI", folder)
        .variable("HOME", folder)
        .variable("LD_LIBRARY_PATH", folder)
}

/// Compiles the planted driver.
fn plant(file: &Path, define: &str) -> Result<(), String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers/driver.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", define, "-o"]).arg(file).arg(source);
    let output = compiler.output().map_err(|error| format!("there is no C compiler: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn expect_all(ended: &Finished, parts: &[&str]) {
    for part in parts {
        assert!(ended.stdout.contains(part), "{part:?} is missing in\n{}\n{}", ended.stdout, ended.stderr);
    }
}

#[test]
fn without_any_driver_it_is_code_3_and_says_how_to_get_one() {
    let ended = check_drivers(&place(&[]), &[]).run().expect_code(3);
    expect_all(
        &ended,
        &["✗ none is installed", "✗ no driver that loads", "→ for SQL Server: ./setup_sqlserver_driver.sh"],
    );
    let ended = check_drivers(&place(&[]), &["--json"]).run().expect_code(3);
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout");
    assert_eq!(report["usable"], false);
    assert_eq!(report["drivers"], Value::Array(Vec::new()));
    assert_eq!(report["connection_string"], Value::Null);
}

#[test]
fn what_does_not_load_is_told_with_its_cure() {
    let place =
        place(&[("Gone", "/nowhere/gone.so"), ("Text", "text.so"), ("ODBC Driver 18 for SQL Server", "text.so")]);
    fs::write(place.file("text.so"), "this is no library").expect("the folder is ours");
    let ended = check_drivers(&place, &[]).run().expect_code(3);
    expect_all(
        &ended,
        &[
            "✗ Gone: its file \"/nowhere/gone.so\" is not there",
            "→ install the driver again, or correct its Driver= in",
            "✗ Text, ",
            "text.so",
            "→ install the driver for",
            "✗ no driver that loads",
        ],
    );
}

#[test]
fn a_driver_that_loads_is_found_by_its_bare_name_and_makes_the_connection_string() {
    let place = place(&[("ODBC Driver 17 for SQL Server", "libplanted-17.2.so.1"), ("Gone", "gone.so")]);
    if or_skip(plant(&place.file("libplanted-17.2.so.1"), "-DWELL")).is_none() {
        return;
    }
    let login = ["--server", "db.example", "--username", "sa", "--password", PASSWORD, "--database", "orders"];
    let ended = check_drivers(&place, &login).run().expect_code(0);
    expect_all(
        &ended,
        &[
            "✓ ODBC Driver 17 for SQL Server 17.2.1, ",
            "SQL Server      ✓ ODBC Driver 17 for SQL Server",
            "Server=db.example,1433;",
            "Database=orders;UID=sa;PWD=***;",
            "✗ Gone: its file \"gone.so\" is not there",
        ],
    );
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{}", ended.stdout);

    let arguments = [&login[..], &["--json", "--connect", "--connection-timeout", "1"]].concat();
    let ended = check_drivers(&place, &arguments).run().expect_code(3);
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout");
    assert_eq!(report["sql_server_driver"], "ODBC Driver 17 for SQL Server");
    assert_eq!(report["drivers"][0]["loads"], true);
    assert_eq!(report["drivers"][1]["loads"], false);
    assert!(report["connection_fault"].as_str().is_some_and(|fault| fault.contains("no server anywhere")), "{report}");
    assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{}", ended.stdout);
}

#[test]
fn a_driver_that_crashes_or_hangs_takes_nobody_along() {
    let place = place(&[("Crashing", "crashing.so"), ("Hanging", "hanging.so"), ("Well", "well.so")]);
    for (file, define) in [("crashing.so", "-DCRASH"), ("hanging.so", "-DHANG"), ("well.so", "-DWELL")] {
        if or_skip(plant(&place.file(file), define)).is_none() {
            return;
        }
    }
    let ended = check_drivers(&place, &[]).run().expect_code(0);
    expect_all(
        &ended,
        &["crashing.so: crashes while it loads", "hanging.so: hangs while it loads", "✓ Well, ", "→ for SQL Server: "],
    );
}

#[test]
fn a_driver_that_was_asked_for_must_be_there() {
    let place = place(&[("Well", "well.so")]);
    if or_skip(plant(&place.file("well.so"), "-DWELL")).is_none() {
        return;
    }
    for (arguments, fault) in [
        (&["--driver", "Oracle"][..], "\"Oracle\" is not installed; installed: Well"),
        (&["--connection-string", "Driver=Oracle;PWD=hunter2"], "\"Oracle\" is not installed; installed: Well"),
        (&["--connect"], "no ODBC driver for SQL Server is installed"),
    ] {
        let ended = check_drivers(&place, arguments).run().expect_code(3).expect_stderr("no connection");
        expect_all(&ended, &[fault]);
        assert!(!ended.stdout.contains("hunter2") && !ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
    let shown = check_drivers(&place, &["--connection-string", "Driver=Well;PWD=hunter2;UID=a"]).run().expect_code(0);
    expect_all(&shown, &["well.so;PWD=***;UID=a;"]);
}

#[test]
fn one_driver_can_be_loaded_alone() {
    let place = place(&[]);
    if or_skip(plant(&place.file("well.so"), "-DWELL")).is_none() {
        return;
    }
    expect_all(&check_drivers(&place, &["--load", "well.so"]).run().expect_code(0), &["well.so loads"]);
    let ended = check_drivers(&place, &["--load", "absent.so"]).run().expect_code(3).expect_stderr("does not load");
    expect_all(&ended, &["Can't open lib"]);
}

#[test]
fn a_sink_without_its_driver_is_code_3_before_anything_connects() {
    for (sink, part) in [
        (&["sink", "sqlserver"][..], "./setup_sqlserver_driver.sh"),
        (&["sink", "odbc", "--connection-string", "Driver={PostgreSQL Unicode};PWD=hunter2"], "konekt check-drivers"),
    ] {
        let place = place(&[]);
        let kafka = ["--topics", "a", "--bootstrap-servers", "127.0.0.1:1"];
        let folder = place.file("").display().to_string();
        let run = place.konekt(sink).arguments(&kafka).variable("ODBCSYSINI", &folder).variable("HOME", &folder);
        let ended = run.run().expect_code(3).expect_stderr(part);
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}
