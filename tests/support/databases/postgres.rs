//! PostgreSQL, from the system's packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use super::super::odbc;
use super::{Account, Database, Kind, PASSWORD, USER, is_root};

pub struct Postgres {
    /// Whether a commit waits for the disk: where processes are killed, and not machines, it need not.
    pub durable: bool,
}

impl Kind for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn driver(&self) -> &'static str {
        odbc::POSTGRESQL
    }

    /// It refuses to run as root.
    fn account(&self) -> Option<Account> {
        if !is_root() {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let of = |name: &str| {
            let fields: Vec<&str> = users.lines().find(|line| line.starts_with(name))?.split(':').collect();
            Some(Account { uid: fields.get(2)?.parse().ok()?, gid: fields.get(3)?.parse().ok()? })
        };
        of("postgres:").or_else(|| of("nobody:"))
    }

    fn make_data(&self, folder: &Path) -> Command {
        let password = folder.join("password");
        // Read before anything else fails; a folder that cannot be written to is noticed by initdb.
        std::fs::write(&password, PASSWORD).ok();
        let mut command = Command::new(program("initdb"));
        command.current_dir(folder).args(["--pgdata=data", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]);
        command.args(["--auth-host=scram-sha-256", "--auth-local=trust"]);
        command.arg(format!("--username={USER}")).arg(format!("--pwfile={}", password.display()));
        command
    }

    fn server(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new(program("postgres"));
        command.current_dir(folder).args(["-D", "data", "-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            if self.durable { "fsync=on" } else { "fsync=off" },
            "shared_buffers=128MB",
            "max_connections=60",
            "max_wal_size=256MB",
            // The first of two to wait is to find the deadlock that the second makes, also on a busy machine.
            "deadlock_timeout=3s",
            // Who asks for a log of statements (`logging`) gets one line for each.
            "log_line_prefix=%d ",
            "log_parameter_max_length=0",
            // A row says UTC, whatever the session thinks.
            "timezone=Asia/Kathmandu",
        ] {
            command.args(["-c", setting]);
        }
        command
    }

    /// "Fast": clients are disconnected, what they have begun is rolled back.
    fn stop_signal(&self) -> Signal {
        Signal::SIGINT
    }

    fn client(&self, port: u16, database: &str) -> Command {
        let mut command = Command::new("psql");
        command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
        command.args(["--host=127.0.0.1", &format!("--port={port}"), &format!("--username={USER}"), database]);
        command.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "10").env("PGCLIENTENCODING", "UTF8");
        command
    }

    fn echo(&self) -> &'static str {
        "\\echo"
    }

    fn first_database(&self) -> &'static str {
        "postgres"
    }

    fn quoted(&self, name: &str) -> String {
        format!("\"{name}\"")
    }

    fn json_array(&self) -> &'static str {
        "json_build_array"
    }

    fn utc_text(&self, column: &str) -> String {
        format!("to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS')")
    }

    fn disconnecting(&self, database: &str) -> String {
        format!(
            "SELECT 'SELECT pg_terminate_backend(' || pid || ')' FROM pg_stat_activity WHERE datname = '{database}' \
             AND pid <> pg_backend_pid()"
        )
    }

    fn logging(&self, database: &str) -> String {
        format!("ALTER DATABASE {database} SET log_statement = 'all'")
    }

    fn logged(&self, database: &Database<'_>) -> usize {
        let log = std::fs::read(database.server().log()).expect("the server has a log");
        let begins = ["statement: ", "execute "].map(|kind| format!("{} LOG:  {kind}", database.name()));
        let is_statement = |line: &&str| begins.iter().any(|begin| line.starts_with(begin));
        String::from_utf8_lossy(&log).lines().filter(is_statement).count()
    }
}

/// Debian keeps the server's programs off the path, in a folder per version; the newest is taken.
fn program(name: &str) -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = folders.map(|folder| folder.path().join("bin").join(name)).filter(|path| path.exists()).max();
    newest.unwrap_or_else(|| PathBuf::from(name))
}
