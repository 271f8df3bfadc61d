//! Real database servers, PostgreSQL and MariaDB: started here on free ports, in folders of their own, and questioned
//! through their own command-line clients, so that what Konekt wrote by ODBC has an independent witness.
//!
//! `prepare.sh` installs what a machine lacks.

mod mariadb;
mod postgres;
mod session;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use super::helper::tail;
use super::kafka::{free_port, fresh_folder, lock};
use super::running::Running;
use super::{odbc, wait};
pub use session::Session;

/// What a busy two-core machine may need to start a server and to recover its data.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The user that tests connect as; it may do everything.
pub const USER: &str = "konekt";
/// Its password.
pub const PASSWORD: &str = "s3cret;{}'pass";

/// A kind of server: how its programs are called and what its SQL spells differently.
pub trait Kind: Sync {
    fn name(&self) -> &'static str;
    /// The registered name of its ODBC driver.
    fn driver(&self) -> &'static str;
    /// The user that the server runs as, where it does not run as ours.
    fn account(&self) -> Option<Account> {
        None
    }
    /// Makes the server's initial data below `folder`.
    fn make_data(&self, folder: &Path) -> Command;
    /// The server in the foreground.
    fn server(&self, folder: &Path, port: u16) -> Command;
    /// The signal for an orderly end that does not wait for clients.
    fn stop_signal(&self) -> Signal;
    /// A client that reads statements on stdin and writes one line per row.
    fn client(&self, port: u16, database: &str) -> Command;
    /// The client's own command that prints its argument, whatever became of the server.
    fn echo(&self) -> &'static str;
    /// The database that is always there.
    fn first_database(&self) -> &'static str;
    /// An identifier in quotes.
    fn quoted(&self, name: &str) -> String;
    /// The function that makes a JSON array of its arguments.
    fn json_array(&self) -> &'static str;
    /// `column`, a moment, as `YYYY-MM-DD HH:MM:SS.mmm` in UTC.
    fn utc_text(&self, column: &str) -> String;
    /// Asks for the statements that end all connections to a database but the one that asks.
    fn disconnecting(&self, database: &str) -> String;
    /// Has the server log the statements of later connections to a database.
    fn logging(&self, database: &str) -> String;
    /// How many statements are in its log, of the connections to a database but the one that asks.
    fn logged(&self, database: &Database<'_>) -> usize;
}

/// Another user of this system.
#[derive(Clone, Copy)]
pub struct Account {
    pub uid: u32,
    pub gid: u32,
}

/// The PostgreSQL that all tests of this binary share.
pub fn postgres() -> Result<&'static Server, String> {
    static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();
    SHARED.get_or_init(own_postgres).as_ref().map_err(Clone::clone)
}

/// The MariaDB that all tests of this binary share.
pub fn mariadb() -> Result<&'static Server, String> {
    static SHARED: OnceLock<Result<Server, String>> = OnceLock::new();
    SHARED.get_or_init(own_mariadb).as_ref().map_err(Clone::clone)
}

/// A PostgreSQL of its own, for a test that stops it.
pub fn own_postgres() -> Result<Server, String> {
    Server::start(&postgres::Postgres { durable: false })
}

/// A MariaDB of its own, for a test that stops it.
pub fn own_mariadb() -> Result<Server, String> {
    Server::start(&mariadb::MariaDb { durable: false })
}

/// A PostgreSQL that waits for the disk as users' do, for measurements.
pub fn durable_postgres() -> Result<Server, String> {
    Server::start(&postgres::Postgres { durable: true })
}

/// A MariaDB that waits for the disk as users' do, for measurements.
pub fn durable_mariadb() -> Result<Server, String> {
    Server::start(&mariadb::MariaDb { durable: true })
}

/// A running server. Dropping it stops it and removes its data; so does the end of the test process.
pub struct Server {
    kind: &'static dyn Kind,
    port: u16,
    folder: PathBuf,
    running: Mutex<Option<Running>>,
}

impl Server {
    fn start(kind: &'static dyn Kind) -> Result<Self, String> {
        let server = Self { kind, port: free_port(), folder: folder_for(kind)?, running: Mutex::new(None) };
        let mut command = kind.make_data(&server.folder);
        run_as(&mut command, kind.account());
        let output = command
            .output()
            .map_err(|error| format!("{}: {error}: run tests/support/databases/prepare.sh", kind.name()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{} makes no data: {}\n{said}", kind.name(), output.status));
        }
        server.start_again()?;
        Ok(server)
    }

    /// Starts it after [`stop`](Self::stop) or [`kill`](Self::kill), with the data it had, and waits until it answers.
    pub fn start_again(&self) -> Result<(), String> {
        let log_path = self.log();
        let log = File::options().append(true).create(true).open(&log_path);
        let log = log.map_err(|error| format!("{}: {error}", log_path.display()))?;
        let begin = || {
            let mut command = self.kind.server(&self.folder, self.port);
            run_as(&mut command, self.kind.account());
            let log = log.try_clone().map_err(|error| format!("{}: {error}", log_path.display()))?;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            Running::start(command, &self.folder).map_err(|error| format!("{}: {error}", self.name()))
        };
        let mut running = begin()?;
        let answers = || self.kind.client(self.port, self.kind.first_database()).stdin(Stdio::null()).output();
        let outcome =
            wait::until(&format!("{} answers", self.name()), START_LIMIT, || match running.child.try_wait() {
                Ok(Some(status)) => {
                    let last = tail(&log_path);
                    // What a killed PostgreSQL has started outlives it for a moment, and keeps the next one out.
                    if last.lines().rev().take(2).any(|line| line.contains("still in use")) {
                        return begin().map(|again| running = again).err().map(Err);
                    }
                    Some(Err(format!("{} ended: {status}\n{last}", self.name())))
                }
                Err(error) => Some(Err(error.to_string())),
                Ok(None) => answers().is_ok_and(|output| output.status.success()).then_some(Ok(())),
            });
        outcome?;
        *lock(&self.running) = Some(running);
        Ok(())
    }

    /// Stops it as an operator would who does not wait for clients; its data stay.
    pub fn stop(&self) {
        let mut running = self.take_running();
        kill(running.pid(), self.kind.stop_signal()).expect("the server is our child");
        running.child.wait().expect("the server is our child");
    }

    /// Kills it as a power cut would; its data stay.
    pub fn kill(&self) {
        drop(self.take_running());
    }

    fn take_running(&self) -> Running {
        lock(&self.running).take().expect("the server runs")
    }

    /// Makes a new, empty database.
    pub fn database(&self) -> Database<'_> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("konekt_{}", MADE.fetch_add(1, Ordering::Relaxed));
        self.session(self.kind.first_database()).run(&format!("CREATE DATABASE {name}"));
        Database { server: self, name }
    }

    /// A conversation with one of its databases.
    fn session(&self, database: &str) -> Session {
        Session::start(self.kind.client(self.port, database), self.kind.echo(), &self.folder)
    }

    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub fn kind(&self) -> &'static dyn Kind {
        self.kind
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        lock(&self.running).take();
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// One database of a server.
pub struct Database<'a> {
    server: &'a Server,
    name: String,
}

impl Database<'_> {
    /// A conversation with it.
    pub fn session(&self) -> Session {
        self.server.session(&self.name)
    }

    /// The connection string for the server's ODBC driver.
    pub fn connection_string(&self) -> String {
        self.connection_string_through(self.server.port)
    }

    /// The same by another port, behind which a [`Link`](super::link::Link) stands.
    pub fn connection_string_through(&self, port: u16) -> String {
        let driver = odbc::driver(self.server.kind.driver()).expect("it was there when the server started");
        let driver = driver.display();
        let password = PASSWORD.replace('}', "}}");
        let name = &self.name;
        format!("Driver={driver};Server=127.0.0.1;Port={port};Database={name};Uid={USER};Pwd={{{password}}}")
    }

    /// Rows of `from` and what follows it, each as the JSON array of these expressions.
    pub fn select(&self, expressions: &[&str], from: &str) -> Vec<Vec<Value>> {
        let mut rows = Vec::new();
        self.each(expressions, from, &mut |row| rows.push(row));
        rows
    }

    /// The same, one after the other.
    pub fn each(&self, expressions: &[&str], from: &str, row: &mut dyn FnMut(Vec<Value>)) {
        let sql = format!("SELECT {}({}) FROM {from}", self.server.kind.json_array(), expressions.join(", "));
        let outcome = self.session().each_row(&sql, &mut |line| {
            row(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
        });
        outcome.unwrap_or_else(|error| panic!("{sql}\n{error}"));
    }

    /// Runs statements that answer nothing.
    pub fn run(&self, sql: &str) {
        self.session().run(sql);
    }

    /// Ends all connections to it, as an operator would.
    pub fn disconnect_all(&self) {
        let mut session = self.session();
        for statement in session.run(&self.server.kind.disconnecting(&self.name)) {
            session.run(&statement);
        }
    }

    /// From now on the statements of new connections are counted.
    pub fn count_statements(&self) {
        self.run(&self.server.kind.logging(&self.name));
    }

    /// How many have arrived since.
    pub fn statements(&self) -> usize {
        self.server.kind.logged(self)
    }

    pub fn server(&self) -> &Server {
        self.server
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A new folder for a server's data that its account can reach.
fn folder_for(kind: &dyn Kind) -> Result<PathBuf, String> {
    odbc::driver(kind.driver())?;
    let name = kind.name();
    let below_target = fresh_folder(name);
    let below_tmp = std::env::temp_dir().join(below_target.file_name().expect("a folder has a name"));
    for folder in [below_target, below_tmp] {
        let failed = |error| format!("{}: {error}", folder.display());
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let Some(account) = kind.account() else { return Ok(folder) };
        std::os::unix::fs::chown(&folder, Some(account.uid), Some(account.gid)).map_err(failed)?;
        let mut reach = Command::new("test");
        run_as(reach.arg("-w").arg(&folder), Some(account));
        if reach.status().is_ok_and(|status| status.success()) {
            return Ok(folder);
        }
        std::fs::remove_dir(&folder).map_err(failed)?;
    }
    Err(format!("{name}: no folder that its user can reach"))
}

fn run_as(command: &mut Command, account: Option<Account>) {
    use std::os::unix::process::CommandExt;
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}
