//! A helper process that takes one JSON command per line and gives one JSON answer per line: `Tool.java` and
//! `librdkafka_tool.py`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A running helper. It ends with its stdin, so dropping it ends it.
pub struct Helper {
    child: Child,
    answers: BufReader<ChildStdout>,
    log: std::path::PathBuf,
}

impl Helper {
    /// Starts it; what it says on stderr goes to `log`.
    pub fn start(mut command: Command, log: &Path) -> Result<Self, String> {
        let stderr = File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Ok(Self { child, answers, log: log.to_path_buf() })
    }

    /// Sends a command and waits for its answer.
    pub fn call(&mut self, command: &Value) -> Result<Value, String> {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{command}").map_err(|error| self.story(&format!("takes no command: {error}")))?;
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|error| self.story(&error.to_string()))?;
        let answer: Value = serde_json::from_str(&line).map_err(|error| self.story(&format!("{error}: {line:?}")))?;
        match answer.get("error") {
            Some(error) => Err(format!("{}: {error}", command["do"])),
            None => Ok(answer),
        }
    }

    fn story(&self, what: &str) -> String {
        format!("the helper {what}\n{}", tail(&self.log))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The last lines of a log, for a message.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}
