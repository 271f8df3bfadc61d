//! A double of SQL Server: it speaks TDS 7.4 well enough that Microsoft's ODBC driver and FreeTDS log in, prepare, send
//! parameter arrays and end transactions; it keeps the rows, tells what arrived on the wire, and goes wrong when told to.
//!
//! ```text
//! packet ─▶ request ─▶ session ─▶ procedures ─▶ statements ─▶ tsql ─▶ database (SQLite), catalogue
//!                      faults, log                  │
//! packet ◀─────────────────── answer ◀──────────────┘ errors
//! ```
//!
//! What it is not: a server. It has no TLS, no cursors, no procedures but those that prepare and execute, one writer at a
//! time, and of Transact-SQL only what [`tsql`] says. The protocol is MS-TDS; sections are named where they are followed.
//!
//! A test that uses it includes this folder by itself: not every test binary needs a database server.
#![allow(dead_code, unused_imports, reason = "every test binary includes this module whole and uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod answer;
mod calendar;
mod catalogue;
mod database;
mod errors;
mod faults;
mod log;
mod packet;
mod procedures;
mod request;
mod session;
mod statements;
pub mod tsql;
mod value;

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use database::Database;
use tempfile::TempDir;

pub use faults::{Action, Fault, Faults, On};
pub use log::{Entry, Event};
pub use request::{Call, Parameter, Transaction};
pub use value::{Size, Type, Value};

/// Who may log in.
pub const USER: &str = "konekt";
pub const PASSWORD: &str = "Secret-18456";
/// The one database that there is.
pub const DATABASE: &str = "konekt";

/// What all sessions share.
struct Shared {
    /// Where the rows are.
    file: PathBuf,
    faults: Faults,
    log: log::Log,
    stopping: AtomicBool,
    sessions: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
}

/// The double. Dropping it cuts its connections and joins its threads.
pub struct TdsServer {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Option<JoinHandle<()>>,
    /// Open as long as the double, so that a test can look at any time.
    database: Mutex<Database>,
    _folder: TempDir,
}

impl TdsServer {
    /// Listens on a free port, with an empty database.
    pub fn start() -> Self {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary folder");
        let file = folder.path().join("double.db");
        let database = Database::create(&file).expect("a database");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let shared = Arc::new(Shared {
            file,
            faults: Faults::default(),
            log: log::Log::default(),
            stopping: AtomicBool::new(false),
            sessions: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || accept(&for_thread, &listener));
        Self { shared, address, accepting: Some(accepting), database: Mutex::new(database), _folder: folder }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A connection string for a driver, by its file. Both drivers take it: Microsoft's and FreeTDS.
    pub fn connection_string(&self, driver: &Path) -> String {
        let (driver, port) = (driver.display(), self.port());
        let server = match driver.to_string().contains("tdsodbc") {
            true => format!("Server=127.0.0.1;Port={port};TDS_Version=7.4;ClientCharset=UTF-8"),
            false => format!("Server=tcp:127.0.0.1,{port};Encrypt=no"),
        };
        format!("Driver={driver};{server};Database={DATABASE};UID={USER};PWD={PASSWORD}")
    }

    /// What is to go wrong.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// All that has arrived since the last time it was taken.
    pub fn take_log(&self) -> Vec<Entry> {
        self.shared.log.take()
    }

    /// What has arrived, and stays.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.log.copy()
    }

    /// Runs Transact-SQL beside all clients, to prepare what a test needs.
    ///
    /// # Panics
    /// When it fails.
    pub fn execute(&self, sql: &str) {
        let statements = tsql::parse(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        for statement in statements {
            let tsql::Statement::Sql { sql, kind } = statement else { panic!("{sql}: only plain statements here") };
            let outcome = self.database().execute(&sql, kind, database::Parameters::NONE);
            outcome.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }

    /// What is committed, by a query in SQLite's words.
    ///
    /// # Panics
    /// When it fails.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Value>> {
        self.database().rows(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Cuts every connection, as a restart of the server does; what was not committed is rolled back.
    pub fn cut_connections(&self) {
        cut(&self.shared);
    }

    fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for TdsServer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        // wakes the thread that accepts; it takes no more after this one
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            accepting.join().ok();
        }
        cut(&self.shared);
    }
}

/// Each client has a thread of its own.
fn accept(shared: &Arc<Shared>, listener: &TcpListener) {
    for number in 1.. {
        let Ok((socket, _)) = listener.accept() else { break };
        if shared.stopping.load(Ordering::SeqCst) {
            break;
        }
        socket.set_nodelay(true).ok();
        let Ok(known) = socket.try_clone() else { continue };
        let for_thread = Arc::clone(shared);
        let thread = std::thread::spawn(move || session::serve(&for_thread, number, socket));
        let mut sessions = sessions(shared);
        sessions.extract_if(.., |(_, thread)| thread.is_finished()).for_each(|(_, thread)| join(thread));
        sessions.push((known, thread));
    }
}

/// Ends all sessions and waits for their threads.
fn cut(shared: &Shared) {
    let all = std::mem::take(&mut *sessions(shared));
    for (socket, _) in &all {
        // an error says that the connection is gone already
        let _ = socket.shutdown(Shutdown::Both);
    }
    all.into_iter().for_each(|(_, thread)| join(thread));
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        eprintln!("a session of the TDS double panicked; its message stands above");
    }
}

fn sessions(shared: &Shared) -> MutexGuard<'_, Vec<(TcpStream, JoinHandle<()>)>> {
    shared.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
