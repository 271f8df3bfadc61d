//! `konekt errors`.

use serde_json::Value;

use super::support::konekt::Place;

#[test]
fn the_table_is_printed_whole_and_by_system() {
    let place = Place::new();
    let all = place.konekt(&["errors"]).run().expect_code(0);
    let mysql = place.konekt(&["errors", "--system", "mysql"]).run().expect_code(0);
    assert!(all.stdout.lines().count() > 400, "{}", all.stdout.lines().count());
    assert!(mysql.stdout.lines().count() > 100 && mysql.stdout.lines().all(|line| line.starts_with("mysql ")));
    assert_eq!(all.stderr, "");
}

#[test]
fn a_code_is_looked_up_by_sqlstate_or_number() {
    let place = Place::new();
    for (arguments, parts) in [
        (&["errors", "1205"][..], &["sqlserver  1205", "deadlock's victim", "mysql      1205"][..]),
        (&["errors", "40p01", "--system", "postgres"], &["postgres   40P01  contention"]),
        (&["errors", "08001", "--system=postgres"], &["password authentication failed", "auth"]),
        (&["errors", "99999"], &["other", "unclassified"]),
    ] {
        let ended = place.konekt(arguments).run().expect_code(0);
        for part in parts {
            assert!(ended.stdout.contains(part), "{arguments:?}: {part:?} is missing in\n{}", ended.stdout);
        }
    }
}

#[test]
fn json_has_its_keys_and_nonsense_is_code_2() {
    let place = Place::new();
    let ended = place.konekt(&["errors", "2627", "--json"]).run().expect_code(0);
    let rows: Value = serde_json::from_str(&ended.stdout).expect("JSON on stdout");
    assert_eq!(rows[0]["system"], "sqlserver");
    assert_eq!(rows[0]["native"], 2627);
    assert_eq!(rows[0]["class"], "data");
    for key in ["sqlstate", "words", "meaning", "cure"] {
        assert!(rows[0][key].is_string(), "{key}: {rows}");
    }
    for nonsense in ["hello", "12345678901", "08S0"] {
        place.konekt(&["errors", nonsense]).run().expect_code(2).expect_stderr("is no code");
    }
    place.konekt(&["errors", "--system", "oracle"]).run().expect_code(2).expect_stderr("sqlserver");
}
