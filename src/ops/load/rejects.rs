//! Bad documents, each as a line of JSON with its file, line and reason.
//!
//! ```json
//! {"file":"pages.jsonl","number":17,"reason":"it is not JSON: …","document":"{\"id\":"}
//! ```
//!
//! A document is kept before the position moves behind it; a load that was killed and goes on would see it again. So the
//! last number of each file is read from what is there, and what is not beyond it is known already.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::core::record::TopicPartition;
use crate::sink::dead_letter::append;
use crate::source::files::BadDocument;
use crate::source::files::documents::read_line;

/// What is done with bad documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnError {
    /// They are kept in this file, and the load goes on.
    Keep(PathBuf),
    /// They are only counted.
    Count,
    /// Nothing behind the first one of a file is loaded.
    Stop,
}

/// Keeps or counts bad documents. Shared by all threads that parse.
pub struct Rejects {
    policy: OnError,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last number that is kept of each file.
    last: HashMap<Arc<str>, i64>,
    count: u64,
    /// The first ones of this run, for people.
    named: Vec<String>,
}

/// How many are named.
const NAMED_MAX: usize = 20;

impl Rejects {
    /// Begins with what an earlier run has kept.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn open(policy: OnError) -> Result<Self, String> {
        let last = match &policy {
            OnError::Keep(path) => last_of(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?,
            OnError::Count | OnError::Stop => HashMap::new(),
        };
        Ok(Self { policy, state: Mutex::new(State { last, ..State::default() }) })
    }

    /// Takes the bad documents of a file, in their order.
    ///
    /// # Errors
    /// When they cannot be kept, or the load is to stop before them.
    pub fn put(&self, file: &TopicPartition, bad: &[BadDocument<'_>]) -> Result<(), String> {
        let mut state = self.state.lock();
        let known = state.last.get(&file.topic).copied().unwrap_or(0);
        let new: Vec<&BadDocument<'_>> = bad.iter().filter(|document| document.number > known).collect();
        let (Some(first), Some(last)) = (new.first(), new.last()) else { return Ok(()) };
        match &self.policy {
            OnError::Stop => return Err(format!("line {}: {}", first.number, first.reason)),
            OnError::Count => {}
            OnError::Keep(path) => {
                let lines: String = new.iter().map(|document| line(file, document)).collect();
                append(path, lines.as_bytes()).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
        }
        state.last.insert(Arc::clone(&file.topic), last.number);
        state.count += new.len() as u64;
        let room = NAMED_MAX.saturating_sub(state.named.len());
        let named = new.iter().take(room).map(|bad| format!("{}:{}: {}", file.topic, bad.number, bad.reason));
        state.named.extend(named);
        Ok(())
    }

    /// How many there were in this run.
    pub fn count(&self) -> u64 {
        self.state.lock().count
    }

    /// The first ones of this run.
    pub fn named(&self) -> Vec<String> {
        self.state.lock().named.clone()
    }
}

fn line(file: &TopicPartition, bad: &BadDocument<'_>) -> String {
    let document = String::from_utf8_lossy(bad.bytes);
    format!("{}\n", json!({"file": &*file.topic, "number": bad.number, "reason": bad.reason, "document": document}))
}

/// The largest number of each file. A line that a crash tore counts as not written.
fn last_of(path: &Path) -> io::Result<HashMap<Arc<str>, i64>> {
    let mut input = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashMap::new()),
        file => BufReader::new(file?),
    };
    let (mut last, mut line) = (HashMap::new(), Vec::new());
    while read_line(&mut input, &mut line)? {
        let kept: Value = serde_json::from_slice(&line).unwrap_or_default();
        if let (Some(file), Some(number)) = (kept["file"].as_str(), kept["number"].as_i64()) {
            let known = last.entry(Arc::from(file)).or_insert(number);
            *known = number.max(*known);
        }
        line.clear();
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(number: i64) -> BadDocument<'static> {
        BadDocument { number, reason: "it is not JSON".into(), bytes: b"{\xff" }
    }

    #[test]
    fn what_was_kept_is_not_kept_again_by_the_next_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejects.jsonl");
        let file = TopicPartition::new("a.jsonl", 0);
        let first = Rejects::open(OnError::Keep(path.clone())).unwrap();
        first.put(&file, &[bad(3), bad(7)]).unwrap();
        assert_eq!((first.count(), first.named()[0].as_str()), (2, "a.jsonl:3: it is not JSON"));
        // A crash in the midst of the next line.
        append(&path, b"{\"file\":\"a.jsonl\",\"num").unwrap();
        let second = Rejects::open(OnError::Keep(path.clone())).unwrap();
        second.put(&file, &[bad(7), bad(9)]).unwrap();
        second.put(&TopicPartition::new("b.jsonl", 0), &[bad(1)]).unwrap();
        assert_eq!(second.count(), 2);
        let text = std::fs::read_to_string(&path).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok());
        assert_eq!(whole.count(), 4, "{text}");
    }

    #[test]
    fn a_load_may_stop_at_the_first_one() {
        let rejects = Rejects::open(OnError::Stop).unwrap();
        let refused = rejects.put(&TopicPartition::new("a.jsonl", 0), &[bad(3)]);
        assert_eq!(refused, Err("line 3: it is not JSON".into()));
    }
}
