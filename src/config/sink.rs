//! Where records go: from the settings of sinks to [`SinkSettings`], and which database is meant where several commands
//! could mean any.

use std::path::PathBuf;

use super::field::{Command, Field};
use super::layers::Origin;
use super::{Fault, Reader};
use crate::core::secret::Secret;

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkSettings {
    /// To stdout; as JSON lines, or as text for people.
    Print { json: bool },
    /// To a shell command's standard input.
    Exec { command: String },
    /// Into a SQLite file.
    Sqlite { path: PathBuf, table: String },
    /// Into a database by ODBC.
    Odbc(OdbcSettings),
    /// Into MongoDB.
    MongoDb(MongoSettings),
    /// Nowhere: they are counted. For measurements.
    Null,
    /// The command moves no records.
    None,
}

/// How to reach a database by ODBC, and how to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OdbcSettings {
    pub login: OdbcLogin,
    /// `auto`, or the database's name.
    pub dialect: String,
    pub table: String,
    pub pool_size: usize,
    /// Seconds.
    pub connection_timeout: u64,
    /// Seconds.
    pub query_timeout: u64,
    pub abandoned_connections_max: usize,
}

/// How to reach MongoDB, and how to use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MongoSettings {
    pub uri: Secret,
    /// `None`: the one in the address.
    pub database: Option<String>,
    /// `None`: one per topic.
    pub collection: Option<String>,
    /// What becomes of a record: `insert`, `upsert` or `document`.
    pub mode: String,
    /// Seconds.
    pub timeout: u64,
}

/// Who logs in where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OdbcLogin {
    ConnectionString(Secret),
    SqlServer(SqlServerLogin),
}

/// What a connection to SQL Server is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlServerLogin {
    /// The driver's name or file, or `auto`.
    pub driver: String,
    pub server: String,
    /// `None`: the server's text says it all (`host\\instance`).
    pub port: Option<u16>,
    /// Empty: the login's own.
    pub database: String,
    /// `None`: the process's own identity.
    pub username: Option<String>,
    pub password: Secret,
    /// `yes`, `no` or `strict`.
    pub encrypt: String,
    pub trust_server_certificate: bool,
}

impl Reader<'_> {
    pub(super) fn sink(&mut self) -> SinkSettings {
        match self.command {
            Command::Consume => match self.optional_text("exec") {
                Some(command) => SinkSettings::Exec { command },
                None => SinkSettings::Print { json: self.text("format") == "json" },
            },
            Command::Sqlite => SinkSettings::Sqlite { path: self.text("sqlite_db").into(), table: self.text("table") },
            Command::SqlServer | Command::Odbc | Command::CheckDrivers => SinkSettings::Odbc(self.odbc()),
            Command::Load => self.loaded(),
            Command::MongoDb => SinkSettings::MongoDb(self.mongodb()),
            Command::MessagesStats
            | Command::MessagesShow
            | Command::MessagesPrune
            | Command::Plan
            | Command::PositionsShow
            | Command::PositionsRewind
            | Command::PositionsForward
            | Command::PositionsForget => self.any_database(),
            // These may do without one.
            Command::Check | Command::DlqList | Command::DlqShow | Command::DlqStats | Command::DlqReplay
                if !self.named_databases().is_empty() =>
            {
                self.any_database()
            }
            Command::BenchSink | Command::BenchEndToEnd => self.measured_sink(),
            Command::BenchConsume => SinkSettings::Null,
            _ => SinkSettings::None,
        }
    }

    /// Of `konekt bench`, which names files and tables of its own.
    fn measured_sink(&mut self) -> SinkSettings {
        match self.text("bench_sink").as_str() {
            "sqlite" => SinkSettings::Sqlite { path: PathBuf::new(), table: self.text("table") },
            "odbc" | "sqlserver" => SinkSettings::Odbc(self.odbc()),
            _ => SinkSettings::Null,
        }
    }

    fn mongodb(&mut self) -> MongoSettings {
        MongoSettings {
            uri: Secret::new(self.text("mongodb_uri")),
            database: self.optional_text("mongodb_database"),
            collection: self.optional_text("mongodb_collection"),
            mode: self.text("mongodb_mode"),
            timeout: self.number("mongodb_timeout"),
        }
    }

    /// The database that files are loaded into; a topic is none.
    fn loaded(&mut self) -> SinkSettings {
        match self.text("load_to").as_str() {
            "sqlite" => {
                let path = self.text("sqlite_db");
                if path.is_empty() {
                    self.faults.push(Fault::of("sqlite_db", "is missing: --to sqlite needs --db".to_owned()));
                }
                SinkSettings::Sqlite { path: path.into(), table: self.text("table") }
            }
            "odbc" => SinkSettings::Odbc(self.odbc()),
            "mongodb" => SinkSettings::MongoDb(self.loaded_documents()),
            _ => SinkSettings::None,
        }
    }

    /// Documents are loaded as they are: those with a key as the document of that key.
    fn loaded_documents(&mut self) -> MongoSettings {
        if self.optional_text("mongodb_collection").is_none() {
            let message = "is missing: --to mongodb needs --mongodb-collection, or set MONGODB_COLLECTION";
            self.faults.push(Fault::of("mongodb_collection", message.to_owned()));
        }
        let mode = if self.optional_text("key").is_some() { "upsert" } else { "document" };
        MongoSettings { mode: mode.to_owned(), ..self.mongodb() }
    }

    fn odbc(&mut self) -> OdbcSettings {
        let connection_string = self.optional_text("connection_string");
        let login = match connection_string {
            Some(text) => OdbcLogin::ConnectionString(Secret::new(text)),
            None => OdbcLogin::SqlServer(self.sql_server()),
        };
        let any = self.command == Command::Odbc || self.command.is_bench() && self.text("bench_sink") == "odbc";
        if any && matches!(login, OdbcLogin::SqlServer(_)) {
            let message = "is missing: give --connection-string, or set ODBC_CONNECTION_STRING, as \
                           'Driver={PostgreSQL Unicode};Server=…;Database=…;UID=…;PWD=…'; konekt sink sqlserver needs none";
            self.faults.push(Fault::of("connection_string", message.to_owned()));
        }
        self.odbc_at(login)
    }

    fn odbc_at(&mut self, login: OdbcLogin) -> OdbcSettings {
        OdbcSettings {
            login,
            dialect: self.text("dialect"),
            table: self.text("table"),
            pool_size: self.size("pool_size"),
            connection_timeout: self.number("connection_timeout"),
            query_timeout: self.number("query_timeout"),
            abandoned_connections_max: self.size("abandoned_connections_max"),
        }
    }

    /// The settings that name a database. What flags name goes before the other sources, which may name several for
    /// several sinks.
    fn named_databases(&self) -> Vec<&'static str> {
        const NAMES: [&str; 4] = ["sqlite_db", "connection_string", "sqlserver_host", "mongodb_database"];
        let origin =
            |name: &str| self.raw.get(name).map(|raw| &raw.origin).filter(|origin| **origin != Origin::Default);
        let flag = |name: &&str| matches!(origin(name), Some(Origin::Flag { .. }));
        let flags: Vec<&'static str> = NAMES.into_iter().filter(flag).collect();
        let all = || NAMES.into_iter().filter(|name| origin(name).is_some()).collect();
        if flags.is_empty() { all() } else { flags }
    }

    /// The one database that is named, be it a file, by ODBC or MongoDB's.
    fn any_database(&mut self) -> SinkSettings {
        let with_mongodb = Field::named("mongodb_database").is_some_and(|field| field.belongs_to(self.command));
        let ways = match with_mongodb {
            true => "--db, --connection-string, --server or --mongodb-database",
            false => "--db, --connection-string or --server",
        };
        match &self.named_databases()[..] {
            ["sqlite_db"] => SinkSettings::Sqlite { path: self.text("sqlite_db").into(), table: self.text("table") },
            ["connection_string"] => {
                let login = OdbcLogin::ConnectionString(Secret::new(self.text("connection_string")));
                SinkSettings::Odbc(self.odbc_at(login))
            }
            ["sqlserver_host"] => {
                let login = OdbcLogin::SqlServer(self.sql_server());
                SinkSettings::Odbc(self.odbc_at(login))
            }
            ["mongodb_database"] => SinkSettings::MongoDb(self.mongodb()),
            [] => {
                self.faults.push(Fault::of("the database", format!("is missing: give {ways}")));
                SinkSettings::None
            }
            several => {
                let message = format!("several databases are named: choose one with {ways}");
                self.faults.push(Fault::of(self.said_by(several), message));
                SinkSettings::None
            }
        }
    }

    fn sql_server(&mut self) -> SqlServerLogin {
        let server = self.text("sqlserver_host");
        // An instance's name, and a port that is said with the host, make the setting's port void.
        let port = self.number("sqlserver_port") as u16;
        SqlServerLogin {
            driver: self.text("sqlserver_driver"),
            port: (!server.contains(['\\', ','])).then_some(port),
            server,
            database: self.text("sqlserver_database"),
            username: self.optional_text("sqlserver_username"),
            password: Secret::new(self.text("sqlserver_password")),
            encrypt: self.text("sqlserver_encrypt"),
            trust_server_certificate: self.switch("trust_server_certificate"),
        }
    }
}
