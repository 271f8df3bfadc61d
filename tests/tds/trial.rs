//! `konekt check-drivers --connect` with SQL Server's drivers.

use serde_json::Value;

use crate::client::Client;
use crate::support::konekt::Place;
use crate::support::odbc;

pub fn connect(client: &Client) {
    let report = check(client, 0);
    let connection = &report["connection"];
    assert_eq!(connection["dialect"], "sqlserver");
    let server = connection["server"].as_str().expect("the server says what it is");
    assert!(server.starts_with("Microsoft SQL Server 2022"), "{server}");
    assert!(["connect_us", "round_trip_us"].iter().all(|time| connection[time].as_u64().is_some_and(|us| us > 0)));
    assert_eq!(tried(&report), ["not there yet", "not there yet", "make a table"], "{report}");
    let tables = || client.server.rows("SELECT name FROM sqlite_master WHERE name LIKE 'konekt%' OR name LIKE 'proc%'");
    assert_eq!(tables().len(), 0, "nothing is left behind");

    crate::sink::make_tables(client);
    let report = check(client, 0);
    let expected =
        ["is there", "is there", "insert into [processed_messages]", "insert into [konekt", "update [konekt"];
    assert_eq!(tried(&report), expected, "{report}");
    assert_eq!(client.server.rows("SELECT 1 FROM processed_messages").len(), 0, "the row was rolled back");

    client.server.execute("DROP TABLE [konekt_positions]; CREATE TABLE [konekt_positions] ([topic] NVARCHAR(255))");
    let report = check(client, 2);
    let faults: Vec<&str> = steps(&report).iter().filter_map(|step| step["fault"].as_str()).collect();
    assert!(
        faults.iter().any(|fault| fault.contains("lacks the columns") && fault.contains("next_offset")),
        "{faults:?}"
    );
}

/// Runs it on the double, with JSON as the answer.
fn check(client: &Client, code: i32) -> Value {
    let run = Place::new()
        .konekt(&["check-drivers", "--json", "--connect", "--connection-string", &client.connection_string()])
        .variable("ODBCSYSINI", &odbc::ini_folder().expect("the drivers are registered").display().to_string())
        .run()
        .expect_code(code);
    serde_json::from_str(&run.stdout).expect("JSON on stdout")
}

fn steps(report: &Value) -> &[Value] {
    report["connection"]["steps"].as_array().unwrap_or_else(|| panic!("no steps in {report}"))
}

/// What was tried, as far as it is known beforehand; nothing of it failed.
fn tried(report: &Value) -> Vec<&'static str> {
    const WORDS: [&str; 6] = [
        "not there yet",
        "is there",
        "make a table",
        "insert into [processed_messages]",
        "insert into [konekt",
        "update [konekt",
    ];
    let word = |step: &Value| {
        assert!(step["fault"].is_null(), "{step}");
        let what = step["what"].as_str().unwrap_or_default();
        WORDS.into_iter().find(|word| what.contains(word)).unwrap_or_else(|| panic!("unexpected: {step}"))
    };
    steps(report).iter().map(word).collect()
}
