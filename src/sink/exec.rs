//! A shell command per batch: `sh -c COMMAND` reads the batch as JSON lines ([`json`]) on its standard input, and exit
//! status 0 means processed.
//!
//! Its environment says what it is given: `KONEKT_TOPIC`, `KONEKT_PARTITION`, `KONEKT_FIRST_OFFSET`,
//! `KONEKT_LAST_OFFSET`, `KONEKT_COUNT`. Its output and its messages go where Konekt's go. It need not read all of its
//! input. It runs in a process group of its own: Ctrl-C stops Konekt, which lets a running command finish, and a
//! command that takes too long is ended together with what it started, so that nothing of it works on beside the next
//! attempt.

use std::io::{self, Write as _};
use std::mem;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::{json, keeps_no_position};
use crate::core::record::MessageBatch;
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Claim, Claimed, Sink, SinkError, SinkTraits, Write, Writer, Written};

/// Runs a command per batch.
#[derive(Clone)]
pub struct ExecSink {
    command: Arc<str>,
    timeout: Option<Duration>,
}

impl ExecSink {
    /// A sink that runs `command` by `sh -c`, and ends it after `timeout`.
    pub fn new(command: impl Into<Arc<str>>, timeout: Option<Duration>) -> Self {
        Self { command: command.into(), timeout }
    }
}

impl Sink for ExecSink {
    fn traits(&self) -> SinkTraits {
        let name = format!("exec {}", self.command);
        SinkTraits { name, writers_max: usize::MAX, batches_per_write: 1, transactional: false }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        Ok(Box::new(ExecWriter { sink: self.clone(), lines: Vec::new() }))
    }
}

struct ExecWriter {
    sink: ExecSink,
    lines: Vec<u8>,
}

impl Writer for ExecWriter {
    fn claim(&mut self, _claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        Err(keeps_no_position("exec"))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        writes.iter().map(|write| self.process(&write.batch)).collect()
    }
}

impl ExecWriter {
    fn process(&mut self, batch: &MessageBatch<'_>) -> Result<Written, SinkError> {
        if !batch.is_empty() {
            self.run(batch).map_err(|what| self.failure(batch, &what))?;
        }
        Ok(Written::all(batch.len() as u64))
    }

    fn run(&mut self, batch: &MessageBatch<'_>) -> Result<(), String> {
        self.lines.clear();
        json::put_batch(&mut self.lines, batch);
        let mut child = self.start(batch).map_err(|error| format!("cannot be started: {error}"))?;
        let status = feed_and_wait(&mut child, &mut self.lines, self.sink.timeout)?;
        explain(status)
    }

    fn start(&self, batch: &MessageBatch<'_>) -> io::Result<Child> {
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(&*self.sink.command)
            .stdin(Stdio::piped())
            .env("KONEKT_TOPIC", &*batch.partition().topic)
            .env("KONEKT_PARTITION", batch.partition().partition.to_string())
            .env("KONEKT_FIRST_OFFSET", batch.get(0).offset.to_string())
            .env("KONEKT_LAST_OFFSET", batch.get(batch.len() - 1).offset.to_string())
            .env("KONEKT_COUNT", batch.len().to_string());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn()
    }

    fn failure(&self, batch: &MessageBatch<'_>, what: &str) -> SinkError {
        SinkError::new(
            ErrorClass::Unclassified,
            format!("exec {}: on {batch:?}: the command {what}", self.sink.command),
        )
    }
}

/// Gives the child its input and waits for its end. The input has a thread of its own, since a child that does not read
/// would hold up the wait for its time-out; `lines` goes there and comes back.
fn feed_and_wait(child: &mut Child, lines: &mut Vec<u8>, timeout: Option<Duration>) -> Result<ExitStatus, String> {
    let (stdin, input) = (child.stdin.take(), mem::take(lines));
    let feeder = door::spawn("konekt-exec-feed", move || (feed(stdin, &input), input));
    let status = wait(child, timeout);
    // It ends with the child's end of the pipe.
    let Ok((fed, input)) = feeder.join() else {
        return Err("was not given all of its input: the thread for it panicked".to_owned());
    };
    *lines = input;
    let status = status?;
    fed.map_err(|error| format!("did not take its input: {error}"))?;
    Ok(status)
}

/// Writes the input and closes it. A child that ends or closes its input early is within its rights.
fn feed(stdin: Option<ChildStdin>, lines: &[u8]) -> io::Result<()> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    match stdin.write_all(lines) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Waits for the child's end, at most `timeout`. There is no portable way to wait for both, so with a time-out it looks
/// again and again, ever more slowly.
pub(crate) fn wait(child: &mut Child, timeout: Option<Duration>) -> Result<ExitStatus, String> {
    const PAUSE_MAX: Duration = Duration::from_millis(20);
    let cannot = |error: io::Error| format!("cannot be waited for: {error}");
    let Some(timeout) = timeout else { return child.wait().map_err(cannot) };
    let started = door::now();
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return Ok(status);
        }
        let left = timeout.saturating_sub(started.elapsed());
        if left.is_zero() {
            end(child)?;
            return Err(format!("took longer than {} ms and was ended", timeout.as_millis()));
        }
        door::sleep(pause.min(left));
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Kills the child with all that it started and did not send away. It was not waited for yet, so its id is still its
/// own.
fn end(child: &mut Child) -> Result<ExitStatus, String> {
    #[cfg(unix)]
    {
        let group = nix::unistd::Pid::from_raw(child.id() as i32);
        // Fails only when nothing is left of the group.
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
    #[cfg(not(unix))]
    child.kill().map_err(|error| format!("cannot be ended: {error}"))?;
    child.wait().map_err(|error| format!("cannot be waited for: {error}"))
}

fn explain(status: ExitStatus) -> Result<(), String> {
    match status.code() {
        Some(0) => Ok(()),
        Some(126) => Err("cannot be executed (exit status 126): check its permissions".to_owned()),
        Some(127) => Err("was not found (exit status 127): check its name and PATH".to_owned()),
        Some(code) => Err(format!("ended with exit status {code}")),
        None => Err(format!("did not end by itself: {status}")),
    }
}
