//! How far a source is, kept from one run to the next: in a compacted topic, or in a file.
//!
//! It is one line of JSON: `{"token": {"_data": "82…"}, "copying": false, "at": 1700000000000}`. `copying` says that the
//! initial copy was not through; `token` is where the stream goes on, and `at` when that was noted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::door;
use crate::kafka::admin::topics::create_topic;
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::error::{Code, Error};
use crate::kafka::producer::{NewRecord, Producer};
use crate::ops::read_topic::read_topic;
use crate::source::native::NativeOptions;

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The text of the stream's token (`_data`).
    pub token: String,
    /// The initial copy is not through.
    pub copying: bool,
}

impl Place {
    fn line(&self) -> String {
        json!({ "token": { "_data": self.token }, "copying": self.copying, "at": door::unix_ms() }).to_string()
    }

    fn read(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match value["token"]["_data"].as_str() {
            Some(token) => {
                Ok(Self { token: token.to_owned(), copying: value["copying"].as_bool().unwrap_or_default() })
            }
            None => Err("there is no token in it".to_owned()),
        }
    }

    /// The second in which the last event before it happened: digits 3 to 10 of the token.
    pub fn unix_seconds(&self) -> Option<i64> {
        i64::from_str_radix(self.token.get(2..10)?, 16).ok()
    }
}

/// Where that is kept.
pub enum Store {
    File(PathBuf),
    /// A compacted topic; sources are told apart by name.
    Topic {
        topic: Arc<str>,
        name: String,
        options: Box<NativeOptions>,
    },
}

/// How long the acknowledgement of a kept place may take.
const SAVE_TIMEOUT: Duration = Duration::from_secs(30);

impl Store {
    /// The place that was kept last. A topic is made when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub fn load(&self, cluster: &Cluster) -> Result<Option<Place>, String> {
        match self {
            Store::File(path) => match fs::read(path) {
                Ok(text) => Place::read(&text).map(Some).map_err(|error| format!("{}: {error}", path.display())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
            Store::Topic { topic, name, options } => {
                ensure_topic(cluster, topic, Some(1), &[("cleanup.policy", "compact")])
                    .map_err(|error| error.to_string())?;
                let metadata = cluster.refresh(TopicsWanted::Names(std::slice::from_ref(topic)));
                let metadata = metadata.map_err(|error| error.to_string())?;
                let partitions = metadata.topics.get(topic).map_or(0, |known| known.partitions.len());
                let mut last = None;
                read_topic((**options).clone(), topic, partitions as i32, &mut |record| {
                    if record.key.as_deref() == Some(name.as_bytes()) {
                        last = record.value;
                    }
                    Ok(())
                })?;
                last.map(|text| Place::read(&text).map_err(|error| format!("topic {topic}: {error}"))).transpose()
            }
        }
    }

    /// Keeps a place; no crash can lose it after that.
    ///
    /// # Errors
    /// When it was not kept.
    pub fn save(&self, producer: &Producer, place: &Place) -> Result<(), String> {
        match self {
            Store::File(path) => replace(path, &place.line()).map_err(|error| format!("{}: {error}", path.display())),
            Store::Topic { topic, name, .. } => {
                let line = place.line();
                let (key, value) = (Some(name.as_bytes()), Some(line.as_bytes()));
                let sent = producer.send(topic, &NewRecord { key, value, ..NewRecord::default() });
                sent.and_then(|()| producer.flush(SAVE_TIMEOUT)).map_err(|error| error.to_string())
            }
        }
    }
}

/// A file is replaced whole, so that a crash leaves the old one or the new one.
fn replace(path: &Path, line: &str) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    writeln!(file, "{line}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}

/// Makes a topic where it is absent; without a number of partitions, with as many as the brokers give new ones.
///
/// # Errors
/// When it can neither be found nor made.
pub fn ensure_topic(
    cluster: &Cluster,
    topic: &Arc<str>,
    partitions: Option<i32>,
    settings: &[(&str, &str)],
) -> Result<(), Error> {
    let metadata = cluster.refresh(TopicsWanted::Names(std::slice::from_ref(topic)))?;
    if metadata.topics.get(topic).is_some_and(|known| known.error.is_ok() && !known.partitions.is_empty()) {
        return Ok(());
    }
    match create_topic(cluster, topic, partitions.unwrap_or(-1), -1, settings) {
        Err(error) if error.code() == Some(Code::TOPIC_ALREADY_EXISTS) => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_line_and_knows_its_time() {
        let place = Place { token: "826B035E04000000012B022C0100".to_owned(), copying: true };
        assert_eq!(Place::read(place.line().as_bytes()), Ok(place.clone()));
        assert_eq!(place.unix_seconds(), Some(0x6b03_5e04));
        assert!(Place::read(b"{}").is_err() && Place::read(b"x").is_err());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        for line in ["first", "second"] {
            replace(&path, line).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{line}\n"));
        }
    }
}
