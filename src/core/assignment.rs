//! What is known of a partition when it becomes ours: from the cluster, and from the database.

use std::sync::Arc;

use uuid::Uuid;

use super::record::TopicPartition;

/// A partition that this process now owns. Nothing is fetched from it until `Source::start`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub partition: TopicPartition,
    /// The group's committed offset in Kafka, if there is one.
    pub committed: Option<i64>,
    /// The first offset that the log still holds.
    pub log_start: i64,
    /// The offset after the last visible record (the last stable offset under `read_committed`).
    pub log_end: i64,
    /// The cluster's id, where the broker says one.
    pub cluster_id: Option<Arc<str>>,
    /// The topic's id; a topic that was deleted and made anew has another one.
    pub topic_id: Option<Uuid>,
}

/// Takes possession of a partition's position row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub partition: TopicPartition,
    /// Where to start when the database has no position for it; `None`: make no row, answer `next_offset: None`.
    pub start_if_absent: Option<i64>,
    pub cluster_id: Option<Arc<str>>,
    pub topic_id: Option<Uuid>,
}

/// A position row that is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The first offset that is not written yet.
    pub next_offset: Option<i64>,
    /// Our fencing number: whoever claims next has a higher one.
    pub owner_epoch: i64,
    /// The cluster and topic that the row was written for.
    pub cluster_id: Option<String>,
    pub topic_id: Option<Uuid>,
    /// Whether the row was there before.
    pub existed: bool,
    /// Whether a person paused the partition (`Writer::note_pause`).
    pub paused: bool,
}

impl Claimed {
    /// There was no row, and none was to be made.
    pub fn absent() -> Self {
        Self { next_offset: None, owner_epoch: 0, cluster_id: None, topic_id: None, existed: false, paused: false }
    }

    /// The row that `claim` began at offset `start`, with the first epoch.
    pub fn begun(claim: &Claim, start: i64) -> Self {
        Self {
            next_offset: Some(start),
            owner_epoch: 1,
            cluster_id: claim.cluster_id.as_deref().map(str::to_owned),
            topic_id: claim.topic_id,
            ..Self::absent()
        }
    }
}
