//! Settings: SQL Server, and every database with an ODBC driver.

use super::*;

const TO_SQL_SERVER: Commands =
    ANY_DATABASE.and(BENCH_ON_SINK).with(&[Command::SqlServer, Command::CheckDrivers, Command::Config]);
const TO_ODBC: Commands = TO_SQL_SERVER.with(&[Command::Odbc]);
/// Without SQL Server's own commands, which know their dialect.
const TO_ANY_DIALECT: Commands =
    ANY_DATABASE.and(BENCH_ON_SINK).with(&[Command::Odbc, Command::CheckDrivers, Command::Config]);
/// A bench has as many connections as workers.
const POOLED: Commands =
    ANY_DATABASE.with(&[Command::SqlServer, Command::Odbc, Command::CheckDrivers, Command::Config]);

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Sink, name, kind, default, doc).commands(TO_ODBC)
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, unit: "s" }
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "connection_string",
        Kind::Text,
        Default::Nothing,
        "The ODBC connection string, driver and all; for SQL Server instead of the settings below.",
    )
    .variables(&["ODBC_CONNECTION_STRING", "SQLSERVER_CONNECTION_STRING"])
    .secret(),
    field(
        "dialect",
        Kind::Choice(&["auto", "sqlserver", "postgres", "mysql", "sqlite", "any"]),
        Default::Is("auto"),
        "The database's SQL; auto asks the driver, any is standard SQL.",
    )
    .variables(&["ODBC_DIALECT"])
    .commands(TO_ANY_DIALECT),
    field("sqlserver_host", Kind::Text, Default::Is("localhost"), "The server: host, or host\\instance.")
        .variables(&["SQLSERVER_HOST"])
        .commands(TO_SQL_SERVER)
        .flagged("server"),
    field("sqlserver_port", count(1, 65_535), Default::Is("1433"), "The server's port; an instance's name needs none.")
        .variables(&["SQLSERVER_PORT"])
        .commands(TO_SQL_SERVER)
        .flagged("port"),
    field("sqlserver_database", Kind::Text, Default::Nothing, "The database; without it the login's own.")
        .variables(&["SQLSERVER_DB", "SQLSERVER_DATABASE"])
        .commands(TO_SQL_SERVER)
        .flagged("database"),
    field(
        "sqlserver_username",
        Kind::Text,
        Default::Nothing,
        "The user; without one the process's own identity logs in (Windows, Kerberos).",
    )
    .variables(&["SQLSERVER_USER", "SQLSERVER_USERNAME"])
    .commands(TO_SQL_SERVER)
    .flagged("username"),
    field("sqlserver_password", Kind::Text, Default::Nothing, "The user's password.")
        .variables(&["SQLSERVER_PASSWORD"])
        .commands(TO_SQL_SERVER)
        .flagged("password")
        .secret(),
    field(
        "sqlserver_driver",
        Kind::Text,
        Default::Is("auto"),
        "The ODBC driver's name or file; auto takes the newest of Microsoft's, then FreeTDS.",
    )
    .variables(&["SQLSERVER_DRIVER"])
    .commands(TO_SQL_SERVER)
    .flagged("driver"),
    field(
        "sqlserver_encrypt",
        Kind::Choice(&["yes", "no", "strict"]),
        Default::Is("yes"),
        "Whether the connection is encrypted; strict is TDS 8, from the first byte.",
    )
    .variables(&["SQLSERVER_ENCRYPT"])
    .commands(TO_SQL_SERVER)
    .flagged("encrypt"),
    field(
        "trust_server_certificate",
        Kind::Switch,
        Default::Is("false"),
        "Takes the server's certificate unchecked, as for one that is self-signed.",
    )
    .variables(&["SQLSERVER_TRUST_SERVER_CERTIFICATE"])
    .commands(TO_SQL_SERVER),
    field("pool_size", count(1, 1000), Default::Is("5"), "Connections to the database at the same time.")
        .variables(&["SQLSERVER_POOL_SIZE", "ODBC_POOL_SIZE"])
        .commands(POOLED),
    field("connection_timeout", seconds(1, 3600), Default::Is("30"), "How long a connection may take to open.")
        .variables(&["SQLSERVER_CONNECTION_TIMEOUT", "ODBC_CONNECTION_TIMEOUT"]),
    field(
        "query_timeout",
        seconds(1, 86_400),
        Default::Is("60"),
        "How long a statement may take; a connection that does not answer is left behind.",
    )
    .variables(&["SQLSERVER_QUERY_TIMEOUT", "ODBC_QUERY_TIMEOUT"]),
    field(
        "abandoned_connections_max",
        count(1, 10_000),
        Default::Is("16"),
        "How many connections may be left behind with a driver that does not answer.",
    )
    .variables(&["ODBC_ABANDONED_CONNECTIONS_MAX"]),
];
