//! Dead letters in a file, one JSON object a line as [`crate::sink::json`] describes it, with the reason as further
//! headers.
//!
//! Several processes may share the file: each takes its lock for a put. A put is on the disk when it is answered
//! (fsync), whole or not at all: what a full disk lets through is cut off again, and a line that a crash tore is ended
//! before the next one begins. The file is opened anew each time, so it may be moved away at any moment.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::Marks;
use crate::core::record::Record;
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Clock, DeadLetters, Letter, SinkError};
use crate::sink::json;

/// Whoever holds the file's lock for longer is frozen. A database's transaction may be open meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at the lock: there is no portable way to wait for it and for a time-out.
const LOCK_PAUSE: Duration = Duration::from_millis(2);

/// Appends letters to a file, which is made when absent; its directory is not.
pub struct FileLetters {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    marks: Mutex<Marks>,
}

impl FileLetters {
    /// Letters of a consumer group in the file at `path`.
    pub fn new(path: impl Into<PathBuf>, group: &str, clock: Arc<dyn Clock>) -> Self {
        Self { path: path.into(), clock, marks: Mutex::new(Marks::new(group)) }
    }

    /// That letters can be kept, before any has to be.
    ///
    /// # Errors
    /// When the file can be neither opened nor made.
    pub fn check(&self) -> Result<(), SinkError> {
        open(&self.path).map(drop).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> SinkError {
        let (class, cure) = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (ErrorClass::Overload, "make room on its disk"),
            ErrorKind::NotFound => (ErrorClass::Auth, "make its directory"),
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem | ErrorKind::IsADirectory => {
                (ErrorClass::Auth, "make it a file that this user may write")
            }
            _ => (ErrorClass::Transient, "it is tried again"),
        };
        SinkError::new(class, format!("dead letters cannot be appended to {}: {error}; {cure}", self.path.display()))
    }
}

impl DeadLetters for FileLetters {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        let (mut lines, now_ms) = (Vec::new(), self.clock.unix_ms());
        let mut marks = self.marks.lock();
        for letter in letters {
            let headers = marks.headers(letter, now_ms);
            json::put_record(&mut lines, letter.partition, &Record { headers, ..letter.record });
        }
        append(&self.path, &lines).map_err(|error| self.failed(&error))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let is_new = !path.exists();
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    if is_new {
        // The file's name must be as lasting as its content.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)?.sync_all()?;
    }
    Ok(file)
}

/// Takes the file's lock, which ends with the file.
fn lock(file: &File, patience: Duration) -> io::Result<()> {
    let until = door::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if door::now() < until => door::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                let words = format!("another process has held its lock for {} s", patience.as_secs_f32());
                return Err(io::Error::new(ErrorKind::TimedOut, words));
            }
        }
    }
}

/// Appends whole lines for good.
///
/// # Errors
/// When nothing of it was appended.
pub fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    append_within(path, lines, PATIENCE)
}

fn append_within(path: &Path, lines: &[u8], patience: Duration) -> io::Result<()> {
    let mut file = open(path)?;
    lock(&file, patience)?;
    let length = file.seek(SeekFrom::End(0))?;
    let torn = length > 0 && {
        file.seek(SeekFrom::End(-1))?;
        let mut last = [0];
        file.read_exact(&mut last)?;
        last != *b"\n"
    };
    let whole = if torn { [b"\n", lines].concat() } else { lines.to_vec() };
    let written = file.write_all(&whole).and_then(|()| file.sync_data());
    if written.is_err() {
        file.set_len(length)?;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_append_and_a_torn_line_stays_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letters.jsonl");
        std::fs::write(&path, "{\"torn").unwrap();
        let line = |thread: usize, nth: usize| format!("{{\"thread\":{thread},\"nth\":{nth}}}\n").repeat(nth % 3 + 1);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = &path;
                scope.spawn(move || (0..25).for_each(|nth| append(path, line(thread, nth).as_bytes()).unwrap()));
            }
        });
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!(whole.count(), 4 * (9 + 8 * 2 + 8 * 3));
        assert_eq!(text.lines().next(), Some("{\"torn"));
    }

    #[test]
    fn a_lock_that_a_frozen_process_holds_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letters.jsonl");
        let held = open(&path).unwrap();
        held.lock().unwrap();
        let error = append_within(&path, b"{}\n", Duration::from_millis(50)).unwrap_err();
        assert!(error.kind() == ErrorKind::TimedOut && error.to_string().contains("lock"), "{error}");
        drop(held);
        append(&path, b"{}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n");
    }

    #[test]
    fn what_cannot_be_appended_says_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(crate::door::SystemClock::start());
        for (path, class, words) in [("absent/l.jsonl", ErrorClass::Auth, "directory"), ("", ErrorClass::Auth, "file")]
        {
            let letters = FileLetters::new(directory.path().join(path), "g", clock.clone());
            let error = letters.check().unwrap_err();
            assert!(error.class == class && error.message.contains(words), "{error:?}");
        }
    }
}
