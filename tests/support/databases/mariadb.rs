//! MariaDB, from the system's packages.

use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use super::super::odbc;
use super::{Database, Kind, PASSWORD, USER, is_root};

pub struct MariaDb {
    /// Whether a commit waits for the disk: where processes are killed, and not machines, it need not.
    pub durable: bool,
}

impl Kind for MariaDb {
    fn name(&self) -> &'static str {
        "mariadb"
    }

    fn driver(&self) -> &'static str {
        odbc::MARIADB
    }

    fn make_data(&self, folder: &Path) -> Command {
        let password = PASSWORD.replace('\'', "''");
        let users = format!(
            "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{password}';\n\
             GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        );
        // A server without its users answers nobody, and that is noticed.
        std::fs::write(folder.join("users.sql"), users).ok();
        let mut command = Command::new("mariadb-install-db");
        command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        command.arg("--skip-name-resolve").arg(format!("--datadir={}", folder.join("data").display()));
        if is_root() {
            command.arg("--user=root");
        }
        command
    }

    fn server(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new("/usr/sbin/mariadbd");
        // Its defaults, so latin1: what is stored rightly is Konekt's doing.
        command.args(["--no-defaults", "--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-log-bin"]);
        // 2: what was committed is with the system.
        command.arg(format!("--innodb-flush-log-at-trx-commit={}", if self.durable { 1 } else { 2 }));
        command.args(["--innodb-buffer-pool-size=128M", "--max-connections=60", "--local-infile=1"]);
        command.args(["--max-allowed-packet=64M", "--performance-schema=0", "--default-time-zone=+05:45"]);
        command.args(["--socket=socket", &format!("--port={port}")]);
        command.arg(format!("--datadir={}", folder.join("data").display()));
        command.arg(format!("--init-file={}", folder.join("users.sql").display()));
        if is_root() {
            command.arg("--user=root");
        }
        command
    }

    fn stop_signal(&self) -> Signal {
        Signal::SIGTERM
    }

    fn client(&self, port: u16, database: &str) -> Command {
        let mut command = Command::new("mariadb");
        // "force" goes on after an error, which the session reports.
        command.args([
            "--no-defaults",
            "--force",
            "--batch",
            "--raw",
            "--skip-column-names",
            "--unbuffered",
            "--skip-reconnect",
        ]);
        command.args(["--default-character-set=utf8mb4", "--max-allowed-packet=64M", "--connect-timeout=10"]);
        command.args(["--host=127.0.0.1", &format!("--port={port}"), &format!("--user={USER}"), database]);
        command.env("MYSQL_PWD", PASSWORD);
        command
    }

    fn echo(&self) -> &'static str {
        "\\! echo"
    }

    fn first_database(&self) -> &'static str {
        "mysql"
    }

    fn quoted(&self, name: &str) -> String {
        format!("`{name}`")
    }

    fn json_array(&self) -> &'static str {
        "JSON_ARRAY"
    }

    fn utc_text(&self, column: &str) -> String {
        format!("DATE_FORMAT({column}, '%Y-%m-%d %H:%i:%s.%f')")
    }

    fn disconnecting(&self, database: &str) -> String {
        format!(
            "SELECT CONCAT('KILL ', id) FROM information_schema.processlist WHERE db = '{database}' \
             AND id <> connection_id()"
        )
    }

    fn logging(&self, _database: &str) -> String {
        "SET GLOBAL log_output = 'TABLE', GLOBAL general_log = ON".to_owned()
    }

    fn logged(&self, database: &Database<'_>) -> usize {
        let sql = format!(
            "SELECT COUNT(*) FROM mysql.general_log WHERE command_type IN ('Query', 'Execute', 'Bulk_execute') \
             AND thread_id IN (SELECT id FROM information_schema.processlist WHERE db = '{}' \
             AND id <> connection_id())",
            database.name()
        );
        database.session().run(&sql)[0].parse().expect("a number")
    }
}
