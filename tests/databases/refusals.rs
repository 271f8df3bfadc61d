//! What people get wrong: one line that says where, what, and what to do, and an exit code that a script understands.

use crate::subject::Served;
use crate::support::databases::{Database, PASSWORD, Server, USER};
use crate::support::kafka::free_port;
use crate::support::konekt::{Finished, Place};
use crate::with_every_server;

with_every_server! {
    a_wrong_password_user_or_database_is_said,
    missing_rights_are_said,
    a_driver_that_is_not_there_is_said,
    a_server_that_is_down_is_said_and_waited_for,
}

/// A run that wants this database, on a machine without Kafka.
fn run(connection_string: &str) -> Finished {
    let kafka = format!("127.0.0.1:{}", free_port());
    let arguments = ["sink", "odbc", "--topics", "a", "--bootstrap-servers", &kafka, "--connect-timeout-ms", "200"];
    Place::new()
        .konekt(&arguments)
        .arguments(&["--connection-timeout", "5"])
        .variable("ODBC_CONNECTION_STRING", connection_string)
        .run()
}

/// That the run ended with this code and one line that has all these parts, but no password.
fn expect_refusal(connection_string: &str, code: i32, parts: &[&str]) {
    let finished = run(connection_string).expect_code(code);
    println!("{}", finished.stderr.trim_end());
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("konekt: ")).collect();
    assert_eq!(lines.len(), 1, "{}", finished.stderr);
    assert_eq!(finished.stderr.trim_end().lines().last(), lines.last().copied(), "nothing follows it");
    for part in parts {
        assert!(lines[0].to_lowercase().contains(&part.to_lowercase()), "{part:?} is missing: {}", lines[0]);
    }
    assert!(!finished.stderr.contains(PASSWORD), "{}", finished.stderr);
}

fn changed(database: &Database<'_>, from: &str, to: &str) -> String {
    let whole = database.connection_string();
    let changed = whole.replace(from, to);
    assert_ne!(changed, whole);
    changed
}

fn a_wrong_password_user_or_database_is_said(server: &'static Server) {
    let database = server.database();
    expect_refusal(&changed(&database, "Pwd={", "Pwd={x"), 2, &[USER, "password"]);
    expect_refusal(&changed(&database, &format!("Uid={USER}"), "Uid=somebody"), 2, &["somebody"]);
    let name = format!("Database={}", database.name());
    expect_refusal(&changed(&database, &name, "Database=elsewhere"), 2, &["elsewhere"]);
}

fn missing_rights_are_said(server: &'static Server) {
    let served = Served::new(server, |_| {});
    let (database, reader) = (&served.database, format!("reader_of_{}", served.database.name()));
    match server.name() {
        "postgres" => database.run(&format!("CREATE ROLE {reader} LOGIN PASSWORD 'x'")),
        _ => {
            database.run(&format!("CREATE USER {reader} IDENTIFIED BY 'x'"));
            database.run(&format!("GRANT SELECT ON {}.* TO {reader}", database.name()));
        }
    }
    let login = changed(database, &format!("Uid={USER}"), &format!("Uid={reader}"));
    let login = format!("{};Pwd=x", login.split(";Pwd=").next().expect("a password"));
    // Neither may it make the tables,
    expect_refusal(&login, 2, &["processed_messages", "grant"]);
    // nor fill those that are there.
    served.sink.check().expect("the tables are made");
    if server.name() == "postgres" {
        database.run(&format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}"));
    }
    expect_refusal(&login, 2, &["processed_messages", "grant"]);
}

fn a_driver_that_is_not_there_is_said(server: &'static Server) {
    let database = server.database();
    let rest = database.connection_string();
    let rest = rest.split_once(';').expect("the driver comes first").1;
    expect_refusal(&format!("Driver={{Postgres Unicorn}};{rest}"), 3, &["Postgres Unicorn", "check-drivers"]);
    expect_refusal(&format!("Driver=/absent/driver.so;{rest}"), 3, &["/absent/driver.so"]);
}

fn a_server_that_is_down_is_said_and_waited_for(server: &'static Server) {
    let port = free_port();
    let finished = run(&server.database().connection_string_through(port));
    // What ends this run is that there is no Kafka either.
    let finished = finished.expect_code(3).expect_stderr("tried again");
    println!("{}", finished.stderr.trim_end());
    let line = finished.stderr.lines().find(|line| line.contains("tried again")).expect("a line");
    assert!(line.contains("cannot connect"), "{line}");
}
