//! `konekt check-drivers` with the real drivers: each loads, and `--connect` tries what the sink needs, here of a SQLite
//! file by ODBC, which needs no server.

mod support;

use serde_json::Value;

use support::konekt::Place;
use support::{odbc, or_skip};

/// Runs it on a file of the place, with JSON as the answer.
fn check_drivers(place: &Place, folder: &std::path::Path, arguments: &[&str], code: i32) -> Value {
    let run = place.konekt(&["check-drivers", "--json"]).arguments(arguments);
    let ended = run.variable("ODBCSYSINI", &folder.display().to_string()).run().expect_code(code);
    serde_json::from_str(&ended.stdout).expect("JSON on stdout")
}

/// What was tried, and whether it went well.
fn steps(report: &Value) -> Vec<(String, bool)> {
    let steps = report["connection"]["steps"].as_array().unwrap_or_else(|| panic!("no steps in {report}"));
    steps.iter().map(|step| (step["what"].to_string(), step["fault"].is_null())).collect()
}

#[test]
fn every_driver_loads_and_microsofts_is_preferred() {
    let Some(folder) = or_skip(odbc::ini_folder()) else { return };
    let report = check_drivers(&Place::new(), &folder, &[], 0);
    for name in [odbc::MICROSOFT, odbc::FREETDS, odbc::POSTGRESQL, odbc::MARIADB, odbc::SQLITE] {
        let mut drivers = report["drivers"].as_array().into_iter().flatten();
        let driver = drivers.find(|driver| driver["name"] == name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(driver["loads"], true, "{driver}");
    }
    assert_eq!(report["sql_server_driver"], odbc::MICROSOFT);
    assert!(
        report["connection_string"].as_str().is_some_and(|text| text.contains("Server=localhost,1433")),
        "{report}"
    );
}

#[test]
fn a_database_is_tried_and_nothing_is_left_behind_in_it() {
    let Some(folder) = or_skip(odbc::ini_folder()) else { return };
    let place = Place::new();
    let connection_string = format!("Driver={};Database={}", odbc::SQLITE, place.database().display());
    let arguments = ["--connect", "--connection-string", &connection_string];

    let report = check_drivers(&place, &folder, &arguments, 0);
    assert_eq!(report["connection"]["dialect"], "sqlite");
    assert!(report["connection"]["server"].as_str().is_some_and(|server| server.starts_with("SQLite 3")), "{report}");
    let tried = steps(&report);
    assert!(tried.len() == 3 && tried.iter().all(|(_, well)| *well), "{tried:?}");
    assert!(tried[2].0.contains("make a table"), "{tried:?}");

    let database = rusqlite::Connection::open(place.database()).expect("the file is a database");
    let tables = |like: &str| -> i64 {
        let sql = "SELECT count(*) FROM sqlite_master WHERE name LIKE ?1";
        database.query_row(sql, [like], |row| row.get(0)).expect("a count")
    };
    assert_eq!(tables("%"), 0, "nothing is left behind");

    database.execute_batch("CREATE TABLE processed_messages (id TEXT, topic TEXT)").expect("a table");
    let tried = steps(&check_drivers(&place, &folder, &arguments, 2));
    let faulty: Vec<&String> = tried.iter().filter(|(_, well)| !well).map(|(what, _)| what).collect();
    assert!(faulty.len() == 2 && faulty[0].contains("columns") && faulty[1].contains("insert"), "{tried:?}");
}
