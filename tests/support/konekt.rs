//! The binary under test, run as a person runs it: arguments, signals, exit codes, output.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::kafka::RealKafka;
use super::wait;

/// A run that takes longer hangs.
pub const RUN_LIMIT: Duration = Duration::from_secs(300);

/// What a run may hold beyond its memory budget, in KiB.
pub const BEYOND_BUDGET_KIB: u64 = 64 * 1024;

/// A folder in which runs take place: their database, settings file and outputs. Removed when dropped, but kept for a
/// look when the test has failed.
pub struct Place {
    folder: TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.folder.disable_cleanup(std::thread::panicking());
    }
}

impl Place {
    /// A new, empty folder.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("konekt-").tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        Self { folder: folder.expect("a folder below target/") }
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The database that [`sink`](Self::sink) writes.
    pub fn database(&self) -> PathBuf {
        self.file("out.db")
    }

    /// `konekt` with these arguments, in this folder and with no settings but its own.
    pub fn konekt(&self, arguments: &[&str]) -> Konekt {
        let mut command = Command::new(env!("CARGO_BIN_EXE_konekt"));
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        for name in ["PATH", "HOME", "KONEKT_LOG", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        Konekt { command, folder: self.folder.path().to_path_buf(), input: Stdio::null() }
    }

    /// `konekt sink sqlite` of `topics` into [`database`](Self::database).
    pub fn sink(&self, kafka: &RealKafka, topics: &str, group: &str) -> Konekt {
        self.konekt(&["sink", "sqlite", "--db", "out.db"]).reading(kafka, topics, group)
    }

    /// `konekt consume --format json --until-end` of `topics`.
    pub fn consume(&self, kafka: &RealKafka, topics: &str, group: &str) -> Konekt {
        self.konekt(&["consume", "--format", "json", "--until-end"]).reading(kafka, topics, group)
    }
}

/// A run that is not started yet.
pub struct Konekt {
    command: Command,
    folder: PathBuf,
    input: Stdio,
}

impl Konekt {
    /// Further arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }

    fn reading(self, kafka: &RealKafka, topics: &str, group: &str) -> Self {
        self.arguments(&["--bootstrap-servers", &kafka.address(), "--topics", topics, "--group-id", group])
    }

    /// An environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Its standard input: a file, or a pipe that the test writes to.
    pub fn input(mut self, input: impl Into<Stdio>) -> Self {
        self.input = input.into();
        self
    }

    /// Starts it; its output goes to files.
    pub fn start(mut self) -> Running {
        let nth = std::fs::read_dir(&self.folder).expect("the folder of the run").count();
        let stdout = self.folder.join(format!("{nth}.stdout"));
        let stderr = self.folder.join(format!("{nth}.stderr"));
        self.command.stdin(self.input);
        self.command.stdout(File::create(&stdout).expect("a file for stdout"));
        self.command.stderr(File::create(&stderr).expect("a file for stderr"));
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.command));
        let arguments: Vec<_> = self.command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let command = format!("konekt {}", arguments.join(" "));
        Running { command, child, started: Instant::now(), peak_kib: 0, stdout, stderr }
    }

    /// Runs it to its end.
    pub fn run(self) -> Finished {
        self.start().wait()
    }

    /// Runs it to its end, which must come soon.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub fn run_within(self, limit: Duration) -> Finished {
        self.start().wait_within(limit)
    }
}

/// A started run. Dropping it kills it.
pub struct Running {
    command: String,
    child: Child,
    started: Instant,
    peak_kib: u64,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not end within [`RUN_LIMIT`].
    pub fn wait(self) -> Finished {
        self.wait_within(RUN_LIMIT)
    }

    /// Sends it a signal and waits for the end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub fn stop(self, signal: &str, limit: Duration) -> Finished {
        self.signal(signal);
        self.wait_within(limit)
    }

    fn wait_within(mut self, limit: Duration) -> Finished {
        let asked = Instant::now();
        let status = loop {
            if let Some(status) = self.poll() {
                break status;
            }
            assert!(asked.elapsed() < limit, "still running after {limit:?}: {}", self.story());
            std::thread::sleep(Duration::from_millis(10));
        };
        Finished {
            status,
            took: self.started.elapsed(),
            peak_kib: self.peak_kib,
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
            command: self.command.clone(),
        }
    }

    /// Its end, when that has come. Notes the memory it has used so far.
    pub fn poll(&mut self) -> Option<ExitStatus> {
        self.peak_kib = peak_kib(self.child.id()).unwrap_or(0).max(self.peak_kib);
        self.child.try_wait().expect("the run is our child")
    }

    /// Sends it a signal: `TERM`, `INT`, `STOP`, `CONT`. Not after its end was seen: the id may be another's then.
    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(status.success(), "{kill}: {status}: {}", self.story());
    }

    /// SIGSTOP, and waits until each of its threads stands still: they go on for a moment after the signal was sent.
    pub fn freeze(&self) {
        self.signal("STOP");
        let threads = format!("/proc/{}/task", self.child.id());
        // The state follows the name, which stands in brackets.
        let is_stopped = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'));
        wait::until("every thread stands still", Duration::from_secs(10), || {
            let mut threads = std::fs::read_dir(&threads).ok()?.flatten();
            threads
                .all(|thread| std::fs::read_to_string(thread.path().join("stat")).is_ok_and(is_stopped))
                .then_some(())
        });
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("the run is our child");
        self.child.wait().expect("the run is our child");
    }

    /// What it holds of the system now; `None` once it has ended.
    pub fn footprint(&self) -> Option<Footprint> {
        let process = format!("/proc/{}", self.child.id());
        let status = std::fs::read_to_string(format!("{process}/status")).ok()?;
        let number = |name: &str| status_number(&status, name);
        let handles = std::fs::read_dir(format!("{process}/fd")).ok()?.count() as u64;
        Some(Footprint { threads: number("Threads:")?, handles, memory_kib: number("VmRSS:")? })
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it said on stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn story(&self) -> String {
        format!("{}\n{}", self.command, last_part(&self.stderr()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Stops all of them at once, as an operator would.
pub fn stop_all(members: impl IntoIterator<Item = Running>) -> Vec<Finished> {
    let members: Vec<Running> = members.into_iter().collect();
    members.iter().for_each(|member| member.signal("TERM"));
    members.into_iter().map(Running::wait).collect()
}

/// What a process holds of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    pub threads: u64,
    /// Open files and sockets.
    pub handles: u64,
    /// Resident memory.
    pub memory_kib: u64,
}

/// A run that has ended.
pub struct Finished {
    status: ExitStatus,
    /// From start to end.
    pub took: Duration,
    /// The most memory that was resident at once, as last seen before the end, in KiB.
    pub peak_kib: u64,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl Finished {
    /// Demands an exit code.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}\n{}\n{}", self.command, self.status, last_part(&self.stderr));
        assert!(!self.stderr.contains("panicked at"), "{}\n{}", self.command, last_part(&self.stderr));
        self
    }

    /// Demands one of these exit codes.
    pub fn expect_one_of(self, codes: &[i32]) -> Self {
        let code = self.status.code().filter(|code| codes.contains(code)).unwrap_or(codes[0]);
        self.expect_code(code)
    }

    /// Demands that stderr says this.
    pub fn expect_stderr(self, part: &str) -> Self {
        let said = self.stderr.to_lowercase();
        assert!(said.contains(&part.to_lowercase()), "{}\nsays nothing of {part:?}:\n{}", self.command, self.stderr);
        self
    }

    /// Demands that it stayed within its memory budget and what is allowed beside it.
    pub fn expect_memory_within(self, budget_mib: u64) -> Self {
        self.expect_memory_of(budget_mib * 1024 + BEYOND_BUDGET_KIB)
    }

    /// Demands that it never had more than this.
    pub fn expect_memory_of(self, limit_kib: u64) -> Self {
        let limit = limit_kib;
        assert!(self.peak_kib > 0, "the run's memory was never seen: {}", self.command);
        assert!(self.peak_kib <= limit, "{} KiB of memory, more than {limit} KiB: {}", self.peak_kib, self.command);
        self
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// Enough of an output to see what went wrong.
fn last_part(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// `VmHWM` of a process: the most memory that was ever resident.
fn peak_kib(process: u32) -> Option<u64> {
    status_number(&std::fs::read_to_string(format!("/proc/{process}/status")).ok()?, "VmHWM:")
}

/// A number in `/proc/…/status`.
fn status_number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
