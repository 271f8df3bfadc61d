//! Whether a topic is still the one that a position was read from.
//!
//! Kafka forgets a group's offsets together with the topic, and takes them by name. A position of the old topic that is
//! committed once a new one has its name would be a position in the new one, and nobody would read the records before it.
//! So what is known to be of another topic is not committed; and since a topic may be made anew at any moment, each offset
//! is committed with a note of where it was read, which whoever starts from it compares.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::Committer;
use crate::core::record::TopicPartition;
use crate::kafka::cluster::{Metadata, TopicsWanted};
use crate::kafka::error::{Code, Error};

/// What a note begins with.
const NOTE: &str = "konekt:read-from";

#[derive(Debug, PartialEq)]
enum Origin {
    /// As far as is known.
    Same,
    Anew,
    /// The topic is not there, or its broker has not heard of it yet.
    Gone,
}

/// `assigned` is the topic's id when the partition was assigned; none where the cluster has no ids.
fn origin(metadata: &Metadata, partition: &TopicPartition, assigned: Option<Uuid>) -> Origin {
    let Some(assigned) = assigned else { return Origin::Same };
    match metadata.topics.get(&partition.topic) {
        Some(topic) if topic.error == Code::UNKNOWN_TOPIC_OR_PARTITION => Origin::Gone,
        Some(topic) if topic.error.is_ok() && !topic.id.is_nil() && topic.id != assigned => Origin::Anew,
        _ => Origin::Same,
    }
}

/// The note that is committed with an offset (OffsetCommit's `committed_metadata`).
pub(super) fn note(cluster: Option<&str>, topic_id: Option<Uuid>) -> String {
    match (cluster, topic_id) {
        (Some(cluster), Some(topic_id)) => format!("{NOTE} {cluster} {topic_id}"),
        _ => String::new(),
    }
}

/// Whether the note says that its offset was read from another topic of this cluster. Offsets of other clusters are those
/// that were translated to this one, and other programs write other notes: both are believed.
pub(super) fn is_of_another_topic(noted: &str, cluster: Option<&str>, topic_id: Option<Uuid>) -> bool {
    let mut words = noted.split(' ');
    let (Some(NOTE), Some(then_in), Some(then)) = (words.next(), words.next(), words.next()) else { return false };
    let (Ok(then), Some(topic_id)) = (Uuid::parse_str(then), topic_id) else { return false };
    cluster == Some(then_in) && then != topic_id
}

impl Committer {
    /// Refuses the positions of topics that are gone or were made anew. The cluster is asked about those in doubt.
    pub(super) fn refuse_strangers(&mut self) -> Result<(), Error> {
        let mut metadata = self.cluster.metadata();
        let doubtful: BTreeSet<Arc<str>> = (self.pending.keys())
            .filter(|of| self.doubted.contains(&of.topic) || self.origin(&metadata, of) != Origin::Same)
            .map(|of| of.topic.clone())
            .collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let doubtful: Vec<Arc<str>> = doubtful.into_iter().collect();
        metadata = self.cluster.refresh(TopicsWanted::Names(&doubtful))?;
        self.doubted.clear();
        for (found, words) in [
            (Origin::Gone, "the topic is not there at the moment"),
            (Origin::Anew, "the topic was deleted and made anew, so they are no offsets of it"),
        ] {
            let is_it = |of: &&TopicPartition| self.origin(&metadata, of) == found;
            let partitions: Vec<TopicPartition> = self.pending.keys().filter(is_it).cloned().collect();
            if let Some(first) = partitions.first() {
                let error = Error::Invalid(format!("{first}: {words}"));
                self.last_error = Some(error.clone());
                self.refuse(&partitions, error);
            }
        }
        Ok(())
    }

    fn origin(&self, metadata: &Metadata, partition: &TopicPartition) -> Origin {
        origin(metadata, partition, self.topic_ids.get(partition).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::cluster::Topic;

    #[test]
    fn a_note_tells_an_offset_of_another_topic() {
        let (old, new) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        let noted = note(Some("here"), old);
        for (case, noted, cluster, topic_id, expected) in [
            ("the same", &*noted, Some("here"), old, false),
            ("made anew", &noted, Some("here"), new, true),
            ("translated from another cluster", &noted, Some("there"), new, false),
            ("a broker without ids", &noted, Some("here"), None, false),
            ("committed by others", "theirs", Some("here"), new, false),
            ("nothing noted", "", Some("here"), new, false),
            ("nothing known", &note(None, old), Some("here"), new, false),
            ("cut off", "konekt:read-from here", Some("here"), new, false),
            ("no id", "konekt:read-from here there", Some("here"), new, false),
        ] {
            assert_eq!(is_of_another_topic(noted, cluster, topic_id), expected, "{case}");
        }
    }

    #[test]
    fn a_topic_of_another_id_is_another_topic() {
        let (old, new) = (Uuid::from_u128(1), Uuid::from_u128(2));
        for (case, known, assigned, expected) in [
            ("as it was", Some((old, Code::NONE)), Some(old), Origin::Same),
            ("made anew", Some((new, Code::NONE)), Some(old), Origin::Anew),
            ("deleted", Some((Uuid::nil(), Code::UNKNOWN_TOPIC_OR_PARTITION)), Some(old), Origin::Gone),
            ("electing", Some((Uuid::nil(), Code::LEADER_NOT_AVAILABLE)), Some(old), Origin::Same),
            ("a cluster without ids", Some((Uuid::nil(), Code::NONE)), None, Origin::Same),
            ("a broker without ids", Some((Uuid::nil(), Code::NONE)), Some(old), Origin::Same),
            ("never asked about", None, Some(old), Origin::Same),
        ] {
            let topic = |(id, error)| Topic { id, partitions: Vec::new(), error, internal: false };
            let topics = known.into_iter().map(|known| ("t".into(), topic(known))).collect();
            let metadata = Metadata { topics, ..Metadata::default() };
            assert_eq!(origin(&metadata, &TopicPartition::new("t", 0), assigned), expected, "{case}");
        }
    }
}
