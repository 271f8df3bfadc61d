//! A server's process that ends with the tests, whatever becomes of them.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A server's process, and what ends it should ours end first.
pub struct Running {
    pub child: Child,
    watch: Child,
}

impl Running {
    /// Starts it in a process group of its own. `folder` is removed when our process dies before the server ends.
    pub fn start(mut command: Command, folder: &Path) -> std::io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        // The end of its stdin, a pipe that dies with us, sets it off; a line calls it off.
        let script = r#"read -r off || { kill -9 $(cat /proc/$1/task/$1/children) $1; rm -rf "$2"; }"#;
        let mut watch = Command::new("sh");
        watch.args(["-c", script, "watch", &child.id().to_string()]).arg(folder).process_group(0);
        let watch = watch.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, watch })
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }
}

/// Kills the server and the processes it has made, unless it has ended.
impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let id = self.child.id();
            kill(self.pid(), Signal::SIGSTOP).ok(); // it makes no further ones
            let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
                kill(Pid::from_raw(child), Signal::SIGKILL).ok();
            }
            self.child.kill().ok();
            self.child.wait().ok();
        }
        self.watch.stdin.take().map(|mut stdin| stdin.write_all(b"off\n"));
        self.watch.wait().ok();
    }
}
