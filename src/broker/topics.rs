//! All topics of the broker: by name, by id, and a bell that rings when any of their logs grows.
//!
//! Lock order: the registry first, then one partition, then the bell; no two partitions are ever locked together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::ResponseError;
use parking_lot::{Condvar, Mutex, RwLock};
use uuid::Uuid;

use super::log::PartitionLog;
use crate::door;

/// Kafka's own limit for a topic's name.
const NAME_BYTES_MAX: usize = 249;
/// More partitions than any test needs, few enough that a hostile CreateTopics costs nothing.
const PARTITIONS_MAX: i32 = 10_000;

/// A topic and its logs. It stays usable while somebody holds it, also after its deletion.
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    partitions: RwLock<Vec<Arc<Mutex<PartitionLog>>>>,
}

impl Topic {
    /// How many partitions there are.
    pub fn partition_count(&self) -> i32 {
        self.partitions.read().len() as i32
    }

    /// A partition's log, if there is such a partition.
    pub fn partition(&self, index: i32) -> Option<Arc<Mutex<PartitionLog>>> {
        self.partitions.read().get(usize::try_from(index).ok()?).cloned()
    }
}

/// Why a topic cannot be made, changed or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("topic '{0}' exists already")]
    Exists(String),
    #[error("there is no topic '{0}'")]
    Unknown(String),
    #[error("'{0}' is no topic name: use 1 to {NAME_BYTES_MAX} letters, digits, '.', '_' and '-'")]
    Name(String),
    #[error("topic '{name}' cannot have {partitions} partitions: {why}")]
    Partitions { name: String, partitions: i32, why: &'static str },
}

impl TopicError {
    /// The error code a broker answers with.
    pub fn code(&self) -> i16 {
        match self {
            Self::Exists(_) => ResponseError::TopicAlreadyExists.code(),
            Self::Unknown(_) => ResponseError::UnknownTopicOrPartition.code(),
            Self::Name(_) => ResponseError::InvalidTopicException.code(),
            Self::Partitions { .. } => ResponseError::InvalidPartitions.code(),
        }
    }
}

/// The registry of topics.
pub struct Topics {
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
    retention_bytes: Option<usize>,
    appends: Mutex<u64>,
    bell: Condvar,
}

impl Topics {
    /// No topics yet; each log will keep about `retention_bytes`.
    pub fn new(retention_bytes: Option<usize>) -> Self {
        Self { by_name: RwLock::default(), retention_bytes, appends: Mutex::new(0), bell: Condvar::new() }
    }

    /// Checks what [`Topics::create`] would refuse.
    pub fn check(&self, name: &str, partitions: i32) -> Result<(), TopicError> {
        if !is_valid_name(name) {
            return Err(TopicError::Name(name.to_owned()));
        }
        if !(1..=PARTITIONS_MAX).contains(&partitions) {
            let why = "1 to 10,000 are possible";
            return Err(TopicError::Partitions { name: name.to_owned(), partitions, why });
        }
        match self.by_name.read().contains_key(name) {
            true => Err(TopicError::Exists(name.to_owned())),
            false => Ok(()),
        }
    }

    /// Makes a topic.
    pub fn create(&self, name: &str, partitions: i32) -> Result<Arc<Topic>, TopicError> {
        self.create_as(random_id(), name, partitions)
    }

    /// Makes a topic with this id.
    pub fn create_as(&self, id: Uuid, name: &str, partitions: i32) -> Result<Arc<Topic>, TopicError> {
        self.check(name, partitions)?;
        let logs = (0..partitions).map(|_| self.new_log()).collect();
        let topic = Arc::new(Topic { name: name.to_owned(), id, partitions: RwLock::new(logs) });
        let mut by_name = self.by_name.write();
        if by_name.contains_key(name) {
            return Err(TopicError::Exists(name.to_owned()));
        }
        by_name.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    fn new_log(&self) -> Arc<Mutex<PartitionLog>> {
        Arc::new(Mutex::new(PartitionLog::new(self.retention_bytes)))
    }

    /// Gives a topic more partitions.
    pub fn grow(&self, name: &str, partitions: i32) -> Result<(), TopicError> {
        let topic = self.get(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let mut logs = topic.partitions.write();
        let refused = |why| Err(TopicError::Partitions { name: name.to_owned(), partitions, why });
        match usize::try_from(partitions) {
            Ok(count) if count <= logs.len() => refused("a topic can only get more than it has"),
            Ok(count) if partitions <= PARTITIONS_MAX => {
                logs.resize_with(count, || self.new_log());
                Ok(())
            }
            _ => refused("1 to 10,000 are possible"),
        }
    }

    /// Deletes a topic with its records; readers that wait are woken.
    pub fn delete(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        let gone = self.by_name.write().remove(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        self.ring();
        Ok(gone)
    }

    /// A topic by name.
    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }

    /// A topic by id.
    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_name.read().values().find(|topic| topic.id == id).cloned()
    }

    /// All topics, by name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().values().cloned().collect()
    }

    /// Tells readers that a log changed.
    pub fn ring(&self) {
        *self.appends.lock() += 1;
        self.bell.notify_all();
    }

    /// How often the bell has rung; take it before looking at the logs.
    pub fn rings(&self) -> u64 {
        *self.appends.lock()
    }

    /// Waits until the bell has rung after `seen`; false when the deadline came first.
    pub fn wait_for_ring(&self, seen: u64, deadline: Instant) -> bool {
        let mut appends = self.appends.lock();
        self.bell.wait_while_until(&mut appends, |appends| *appends == seen, deadline);
        *appends != seen
    }
}

fn is_valid_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed)
}

/// A random UUID: a topic that is made anew is another topic.
pub fn random_id() -> Uuid {
    let bits = u128::from(door::random()) << 64 | u128::from(door::random());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_made_anew_has_another_id() {
        let topics = Topics::new(None);
        let first = topics.create("orders", 2).unwrap();
        assert_eq!(topics.create("orders", 2).err(), Some(TopicError::Exists("orders".into())));
        topics.delete("orders").unwrap();
        assert!(topics.get("orders").is_none() && topics.get_by_id(first.id).is_none());
        let second = topics.create("orders", 2).unwrap();
        assert_ne!(first.id, second.id);
        assert!(topics.get_by_id(second.id).is_some());
    }

    #[test]
    fn names_and_counts_are_checked() {
        let topics = Topics::new(None);
        for name in ["", ".", "..", "a b", "ü", "a/b", &"x".repeat(250)] {
            assert!(matches!(topics.create(name, 1), Err(TopicError::Name(_))), "'{name}' passed");
        }
        for partitions in [i32::MIN, -1, 0, 10_001, i32::MAX] {
            assert!(matches!(topics.create("t", partitions), Err(TopicError::Partitions { .. })), "{partitions}");
        }
    }

    #[test]
    fn partitions_grow_and_never_shrink() {
        let topics = Topics::new(None);
        let topic = topics.create("t", 2).unwrap();
        for (partitions, fits) in [(1, false), (2, false), (-5, false), (5, true), (10_001, false)] {
            assert_eq!(topics.grow("t", partitions).is_ok(), fits, "{partitions}");
        }
        assert_eq!(topic.partition_count(), 5);
        assert!(topic.partition(4).is_some() && topic.partition(5).is_none() && topic.partition(-1).is_none());
    }

    #[test]
    fn the_bell_is_not_missed_when_it_rang_before_the_wait() {
        let topics = Topics::new(None);
        let seen = topics.rings();
        assert!(!topics.wait_for_ring(seen, door::now()), "woken without a ring");
        topics.ring();
        assert!(topics.wait_for_ring(seen, door::now()), "a ring between look and wait was lost");
    }
}
