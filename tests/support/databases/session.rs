//! A conversation with a database through its own client, one statement after the other on one connection.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// What the client prints when it has done a statement.
const DONE: &str = "konekt-done";

/// A client that waits for statements. Its transaction, if any, is rolled back when it is dropped.
pub struct Session {
    child: Child,
    answers: BufReader<ChildStdout>,
    echo: &'static str,
    errors: PathBuf,
}

impl Session {
    pub(super) fn start(mut command: Command, echo: &'static str, folder: &Path) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let errors = folder.join(format!("session-{}.errors", MADE.fetch_add(1, Ordering::Relaxed)));
        let stderr = File::options().append(true).create(true).open(&errors).expect("a file for the client's errors");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Self { child, answers, echo, errors }
    }

    /// Runs a statement and gives its rows as the client prints them.
    ///
    /// # Panics
    /// When the database refuses it.
    pub fn run(&mut self, sql: &str) -> Vec<String> {
        self.try_run(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// The same, for a statement that may be refused.
    pub fn try_run(&mut self, sql: &str) -> Result<Vec<String>, String> {
        let mut rows = Vec::new();
        self.each_row(sql, &mut |row| rows.push(row.to_owned()))?;
        Ok(rows)
    }

    /// The same, row by row.
    pub fn each_row(&mut self, sql: &str, row: &mut dyn FnMut(&str)) -> Result<(), String> {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        // A client that is gone is noticed by its silence.
        writeln!(stdin, "{sql};\n{} {DONE}", self.echo).ok();
        let mut line = String::new();
        while self.answers.read_line(&mut line).expect("the client writes UTF-8") > 0 {
            match line.trim_end_matches('\n') {
                DONE => break,
                text => row(text),
            }
            line.clear();
        }
        let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
        File::create(&self.errors).expect("the file of the client's errors");
        if errors.contains("ERROR") || errors.contains("error:") { Err(errors) } else { Ok(()) }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        std::fs::remove_file(&self.errors).ok();
    }
}
