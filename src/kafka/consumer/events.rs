//! What a consumer's threads report, and the [`Reporter`] by which each of them does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::error::Error;
use crate::kafka::wire::record_batch::FetchedRecords;

/// Offsets to be committed: of each partition, the next to be read.
pub type Positions = Vec<(TopicPartition, i64)>;

/// A partition, and where it stands in the log and in the group.
#[derive(Clone, Debug)]
pub struct AssignedPartition {
    pub partition: TopicPartition,
    pub committed: Option<i64>,
    pub log_start: i64,
    pub log_end: i64,
    pub topic_id: Option<Uuid>,
}

/// Records of one partition.
pub struct Fetched {
    pub partition: TopicPartition,
    pub run: u64,
    /// The offset that was asked for.
    pub first: i64,
    /// The offset after the last one covered.
    pub next: i64,
    pub records_max: usize,
    /// The partition's visible end at the time.
    pub log_end: i64,
    pub records: FetchedRecords,
}

/// What happened, in the words of [`SourceEvent`](crate::port::SourceEvent), which is made of it.
pub enum Event {
    Assigned(Vec<AssignedPartition>),
    Settled,
    Surveyed(Vec<AssignedPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
    Fetched(Fetched),
    OutOfRange { partition: TopicPartition, run: u64, requested: i64, log_start: i64, log_end: i64 },
    Committed { positions: Positions, result: Result<(), Error> },
    PartitionFailed { partition: TopicPartition, run: Option<u64>, error: Error },
    Trouble(Error),
    Failed(Error),
}

/// The way for all threads to say what happened.
#[derive(Clone)]
pub struct Reporter {
    events: Sender<Event>,
    told: Arc<Mutex<Repeats>>,
}

/// Tells news from what was just said.
#[derive(Default)]
pub struct Repeats(BTreeMap<String, Instant>);

impl Repeats {
    /// The same is news again after this long, however often it came meanwhile: trouble that lasts is not passed over in
    /// silence.
    const AFTER: Duration = Duration::from_secs(30);

    /// Whether this was not said just before.
    pub fn is_news(&mut self, text: &str) -> bool {
        self.is_news_at(door::now(), text)
    }

    fn is_news_at(&mut self, now: Instant, text: &str) -> bool {
        self.0.retain(|_, said| now.saturating_duration_since(*said) < Self::AFTER);
        let is_news = !self.0.contains_key(text);
        if is_news {
            self.0.insert(text.to_owned(), now);
        }
        is_news
    }
}

impl Reporter {
    pub(in crate::kafka) fn new(events: Sender<Event>) -> Self {
        Self { events, told: Arc::default() }
    }

    /// Reports. Whether anybody still listens does not matter: who does not is closing.
    pub fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Reports something that is being retried, unless the same was reported just before.
    pub fn trouble(&self, error: Error) {
        if matches!(error, Error::Closed) {
            return;
        }
        if self.told.lock().is_news(&error.to_string()) {
            self.send(Event::Trouble(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_said_again() {
        let (mut repeats, start) = (Repeats::default(), door::now());
        let said: Vec<u64> =
            (0..70).filter(|second| repeats.is_news_at(start + Duration::from_secs(*second), "away")).collect();
        assert_eq!(said, [0, 30, 60]);
        assert!(repeats.is_news_at(start, "something else"));
    }
}
