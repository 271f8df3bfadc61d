use std::collections::HashSet;

use super::*;
use ErrorClass::*;

#[test]
fn no_two_rows_are_about_the_same() {
    let mut seen = HashSet::new();
    for entry in entries() {
        let key = (entry.system, entry.state, entry.native, entry.words);
        assert!(seen.insert(key), "{key:?} twice");
    }
}

#[test]
fn every_row_can_be_reached_and_is_complete() {
    for entry in entries() {
        let state = format!("{:0<5}", entry.state);
        let found = classify(entry.system, &state, entry.native.unwrap_or(-99), &entry.words.replace('…', "\"x\""));
        // A class of SQLSTATEs may have a row of its own for the state that ends in zeros.
        let zeros = entry.native.is_none() && entry.words.is_empty() && found.state == state && state != entry.state;
        assert!(found == entry || zeros, "{entry:?} is hidden by {found:?}");
        assert!(!entry.meaning.is_empty() && !entry.cure.is_empty(), "{entry:?}");
        assert!(!entry.meaning.ends_with('.') && !entry.cure.ends_with('.'), "{entry:?}");
        assert_eq!(entry.words, entry.words.to_lowercase(), "messages are compared in lower case");
    }
}

#[test]
fn every_class_but_fenced_is_reached() {
    let reached: HashSet<ErrorClass> = entries().map(|entry| entry.class).collect();
    assert_eq!(reached, HashSet::from([Transient, Contention, Overload, Auth, Schema, Data, Unclassified]));
}

#[track_caller]
fn check(system: System, state: &str, native: i32, message: &str, class: ErrorClass) {
    let entry = classify(system, state, native, message);
    assert_eq!(entry.class, class, "{system} {state} {native} {message:?}: {entry:?}");
}

#[test]
fn sql_server_is_known_by_its_native_codes() {
    for (state, native, class) in [
        ("23000", 2627, Data),
        ("23000", 515, Data),
        ("42000", 2628, Data),
        ("40001", 1205, Contention),
        ("42000", 1222, Contention),
        ("42000", 9002, Overload),
        ("42S02", 208, Schema),
        ("42S22", 207, Schema),
        ("42000", 229, Auth),
        ("28000", 18456, Auth),
        ("42000", 4060, Auth),
        ("08S01", 10054, Transient),
        ("08001", 10061, Transient),
        ("HYT00", 0, Transient),
        ("HY000", 40613, Transient),
        ("42000", 12345, Unclassified),
        ("23000", 12345, Data),
        ("01000", 3621, Unclassified),
    ] {
        check(System::SqlServer, state, native, "", class);
    }
    let tls = "[Microsoft][ODBC Driver 18 for SQL Server]SSL Provider: [error:0A000086:SSL routines::certificate \
               verify failed:self signed certificate]";
    check(System::SqlServer, "08001", -1, tls, Auth);
    check(System::SqlServer, "HY000", 0, "[FreeTDS][SQL Server]Unknown error", Transient);
}

#[test]
fn postgres_is_known_by_sqlstate_and_a_failed_connection_by_its_words() {
    for (state, class) in [
        ("57P01", Transient),
        ("57P03", Transient),
        ("08006", Transient),
        ("53100", Overload),
        ("53300", Overload),
        ("40P01", Contention),
        ("40001", Contention),
        ("55P03", Contention),
        ("42P01", Schema),
        ("42703", Schema),
        ("42501", Auth),
        ("28P01", Auth),
        ("3D000", Schema),
        ("22001", Data),
        ("22021", Data),
        ("22P02", Data),
        ("23505", Data),
        ("P0001", Data),
        ("XX000", Transient),
    ] {
        check(System::Postgres, state, 1, "", class);
    }
    for (words, class) in [
        ("FATAL:  password authentication failed for user \"a\"", Auth),
        ("FATAL:  no pg_hba.conf entry for host \"1.2.3.4\", user \"a\", database \"b\", no encryption", Auth),
        ("FATAL:  database \"orders\" does not exist", Schema),
        ("FATAL:  role \"a\" does not exist", Auth),
        ("connection to server at \"127.0.0.1\", port 1 failed: Connection refused", Transient),
        ("FATAL:  sorry, too many clients already", Overload),
        ("FATAL:  the database system is starting up", Transient),
        ("could not translate host name \"x\" to address: Name or service not known", Transient),
        (
            "at \"::1\" failed: Connection refused … at \"127.0.0.1\" failed: FATAL: password authentication failed",
            Auth,
        ),
        ("nobody has heard of this", Transient),
    ] {
        check(System::Postgres, "08001", 101, words, class);
    }
    let cut = "server closed the connection unexpectedly This probably means the server terminated abnormally";
    check(System::Postgres, "HY000", 1, cut, Transient);
    let race = "ERROR: duplicate key value violates unique constraint \"pg_type_typname_nsp_index\"";
    check(System::Postgres, "23505", 1, race, Contention);
}

#[test]
fn mongodb_is_known_by_its_numbers() {
    for (native, class) in [
        (112, Contention),
        (189, Transient),
        (10107, Transient),
        (251, Transient),
        (14031, Overload),
        (13, Auth),
        (18, Auth),
        (20, Schema),
        (121, Data),
        (11000, Data),
        (10334, Data),
        (424_242, Unclassified),
    ] {
        check(System::MongoDb, "", native, "", class);
    }
}

#[test]
fn mysql_is_known_by_its_native_codes() {
    for (state, native, class) in [
        ("40001", 1213, Contention),
        ("HY000", 1205, Contention),
        ("HY000", 2002, Transient),
        ("08S01", 2006, Transient),
        ("08S01", 2013, Transient),
        ("HY000", 5014, Transient),
        ("42000", 1044, Auth),
        ("28000", 1045, Auth),
        ("42000", 1049, Schema),
        ("42S02", 1146, Schema),
        ("42S22", 1054, Schema),
        ("22001", 1406, Data),
        ("HY000", 1366, Data),
        ("23000", 1062, Data),
        ("HY000", 1114, Overload),
        ("08004", 1040, Overload),
        ("HY000", 1290, Transient),
        ("HY000", 3024, Transient),
        ("70100", 1317, Transient),
        ("42000", 9999, Schema),
    ] {
        check(System::MySql, state, native, "", class);
    }
}

#[test]
fn the_odbc_rows_hold_for_any_system_and_the_rest_is_unclassified() {
    for system in System::ALL {
        check(system, "IM002", 0, "Data source name not found, and no default driver specified", Auth);
        check(system, "01000", 0, "[unixODBC][Driver Manager]Can't open lib 'x' : file not found", Auth);
        check(system, "08S01", 0, "", Transient);
        check(system, "HY000", -1, "who knows", Unclassified);
        check(system, "", 0, "", Unclassified);
    }
    check(System::Any, "HY000", 1205, "another database's number", Unclassified);
}

/// SQLite's result codes mean the same through its driver as through the library.
#[test]
fn sqlite_has_one_meaning_both_ways() {
    use crate::sink::sqlite::class_of_code;
    for entry in System::Sqlite.entries() {
        let code = entry.native.expect("SQLite is known by native code");
        assert_eq!(class_of_code(code), entry.class, "code {code}: {}", entry.meaning);
    }
}

#[test]
fn codes_are_looked_up_by_state_by_class_and_by_number() {
    for (code, system, expected) in [
        ("1205", None, Some(vec!["sqlserver contention", "mysql contention"])),
        ("1205", Some(System::MySql), Some(vec!["mysql contention"])),
        ("40p01", None, Some(vec!["postgres contention", "any contention"])),
        ("08S01", Some(System::Any), Some(vec!["any transient"])),
        ("23999", Some(System::Any), Some(vec!["any data"])),
        ("40501", Some(System::SqlServer), Some(vec!["sqlserver overload"])),
        ("77777", None, Some(vec!["any unclassified"])),
        ("1234567", None, Some(vec!["any unclassified"])),
        ("hello", None, None),
        ("", None, None),
        ("08S0", None, None),
        ("é8S01", None, None),
    ] {
        let found = look_up(code, system)
            .map(|rows| rows.iter().map(|row| format!("{} {}", row.system, row.class)).collect::<Vec<_>>());
        assert_eq!(found, expected.map(|rows| rows.into_iter().map(str::to_owned).collect()), "{code} {system:?}");
    }
}
