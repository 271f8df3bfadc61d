//! How far each file is, in a file of its own, for sinks that keep no position.
//!
//! ```json
//! {"kafka orders": {"a.jsonl": {"id": "…", "next": 1001}}}
//! ```
//!
//! It is written anew as a whole, to the disk, and renamed into its place, so that it is always whole. It follows the writes
//! it speaks of: after a crash what was written since is written again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::record::TopicPartition;
use crate::source::files::{CountedFile, Positions};

type Lines = BTreeMap<String, BTreeMap<String, Line>>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    id: String,
    next: i64,
}

/// See the [module](self).
pub struct Checkpoint {
    path: PathBuf,
    /// What the sink is called.
    target: String,
    ids: BTreeMap<TopicPartition, String>,
    lines: Lines,
}

impl Checkpoint {
    /// What earlier runs have kept at `path` for the sink called `target`.
    ///
    /// # Errors
    /// When it cannot be read, or a file is not the one that it was then.
    pub fn open(path: &Path, target: &str, files: &[CountedFile]) -> Result<Self, String> {
        let lines: Lines = match std::fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Lines::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| format!("{} is no checkpoint of konekt load: {error}", path.display()))?,
        };
        let ids = files.iter().map(|file| (file.partition.clone(), file.id.to_string())).collect();
        let checkpoint = Self { path: path.to_owned(), target: target.to_owned(), ids, lines };
        for file in files {
            let known = checkpoint.line(file);
            if let Some(line) = known.filter(|line| line.id != file.id.to_string()) {
                return Err(format!(
                    "{} is not the file that was loaded to {} up to line {}: it begins differently; load it with another \
                     --checkpoint",
                    file.path.display(),
                    target,
                    line.next - 1
                ));
            }
        }
        Ok(checkpoint)
    }

    fn line(&self, file: &CountedFile) -> Option<&Line> {
        self.lines.get(&self.target)?.get(&*file.partition.topic)
    }

    fn save(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(&self.lines)?)?;
        file.sync_all()?;
        std::fs::rename(&new, &self.path)
    }
}

impl Positions for Checkpoint {
    fn read(&self, file: &CountedFile) -> Option<i64> {
        self.line(file).map(|line| line.next)
    }

    fn write(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), String> {
        let of_target = self.lines.entry(self.target.clone()).or_default();
        for (partition, next) in positions {
            let id = self.ids.get(partition).cloned().unwrap_or_default();
            of_target.insert(partition.topic.to_string(), Line { id, next: *next });
        }
        self.save().map_err(|error| format!("cannot write {}: {error}", self.path.display()))
    }
}
