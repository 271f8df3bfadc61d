//! What group members tell each other through the coordinator, which does not look inside: the subscription (member
//! to leader, within JoinGroup) and the assignment (leader to member, within SyncGroup).
//!
//! Written by hand and not by `kafka-protocol`, whose decoder allocates whatever length it reads; these bytes come
//! from any client of the group. Source: Kafka's `ConsumerProtocolSubscription.json` and
//! `ConsumerProtocolAssignment.json`, and the user data of `CooperativeStickyAssignor` (a generation, four bytes).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::core::record::TopicPartition;

/// The version we write; readers of any version accept it by its first fields.
const SUBSCRIPTION_VERSION: i16 = 2;
const ASSIGNMENT_VERSION: i16 = 1;

/// What a member wants and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// Topics to be given partitions of.
    pub topics: Vec<Arc<str>>,
    /// Partitions it holds on to while it joins (cooperative members only).
    pub owned: Vec<TopicPartition>,
    /// The generation in which it was given them; `None` when it was in no group yet.
    pub generation: Option<i32>,
}

impl Subscription {
    /// The bytes for JoinGroup. `with_user_data` is for `cooperative-sticky`: members older than subscription version
    /// 2 carry the generation there.
    pub fn encode(&self, with_user_data: bool) -> Bytes {
        let mut into = BytesMut::new();
        let generation = self.generation.unwrap_or(-1);
        into.put_i16(SUBSCRIPTION_VERSION);
        into.put_i32(self.topics.len() as i32);
        self.topics.iter().for_each(|topic| put_text(&mut into, topic));
        if with_user_data {
            into.put_i32(4);
            into.put_i32(generation);
        } else {
            into.put_i32(-1);
        }
        put_partitions(&mut into, &self.owned);
        into.put_i32(generation);
        into.freeze()
    }

    /// Reads a member's bytes; `None` when they are malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let version = from.i16()?;
        let topics = from.list(2, |from| Some(Arc::from(from.text()?)))?;
        let user_data = from.bytes()?;
        let owned = if version >= 1 { from.partitions()? } else { Vec::new() };
        let generation = match version {
            ..=1 => user_data.and_then(|data| Reader(data).i32()),
            _ => Some(from.i32()?),
        };
        Some(Self { topics, owned, generation: generation.filter(|generation| *generation >= 0) })
    }
}

/// The bytes for SyncGroup: what one member is given.
pub fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut into = BytesMut::new();
    into.put_i16(ASSIGNMENT_VERSION);
    put_partitions(&mut into, partitions);
    into.put_i32(-1); // no user data
    into.freeze()
}

/// Reads an assignment; `None` when it is malformed. No bytes at all are an empty assignment: the coordinator sends
/// them to a member that the leader did not mention.
pub fn decode_assignment(bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let mut from = Reader(bytes);
    from.i16()?;
    from.partitions()
}

fn put_text(into: &mut BytesMut, text: &str) {
    into.put_i16(text.len() as i16); // topic names are at most 249 bytes
    into.put_slice(text.as_bytes());
}

fn put_partitions(into: &mut BytesMut, partitions: &[TopicPartition]) {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    into.put_i32(topics.len() as i32);
    for (topic, partitions) in topics {
        put_text(into, topic);
        into.put_i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| into.put_i32(*partition));
    }
}

/// Reads big-endian fields and never beyond the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn i16(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn i32(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.i16()?).ok()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// Outer `None`: malformed; inner: null.
    fn bytes(&mut self) -> Option<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Some(None),
            length => self.take(usize::try_from(length).ok()?).map(Some),
        }
    }

    /// A list whose items take at least `item_bytes_min` each, so that no count allocates more than was sent.
    fn list<T>(&mut self, item_bytes_min: usize, mut item: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = usize::try_from(self.i32()?).ok()?;
        if count > self.0.len() / item_bytes_min {
            return None;
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn partitions(&mut self) -> Option<Vec<TopicPartition>> {
        let topics = self.list(6, |from| {
            let topic: Arc<str> = Arc::from(from.text()?);
            from.list(4, |from| Some(TopicPartition { topic: Arc::clone(&topic), partition: from.i32()? }))
        })?;
        Some(topics.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
    use kafka_protocol::protocol::{Decodable, Encodable};

    fn partitions() -> Vec<TopicPartition> {
        vec![TopicPartition::new("a", 0), TopicPartition::new("a", 3), TopicPartition::new("b", 1)]
    }

    fn subscription() -> Subscription {
        Subscription { topics: vec!["a".into(), "b".into()], owned: partitions(), generation: Some(7) }
    }

    #[test]
    fn both_forms_come_back_as_they_went() {
        for with_user_data in [false, true] {
            let encoded = subscription().encode(with_user_data);
            assert_eq!(Subscription::decode(&encoded), Some(subscription()), "user data: {with_user_data}");
        }
        assert_eq!(decode_assignment(&encode_assignment(&partitions())), Some(partitions()));
        assert_eq!(decode_assignment(b""), Some(Vec::new()));
    }

    #[test]
    fn another_implementation_reads_ours() {
        let mut encoded = subscription().encode(true).slice(2..);
        let read = ConsumerProtocolSubscription::decode(&mut encoded, SUBSCRIPTION_VERSION).unwrap();
        assert_eq!((read.topics.len(), read.generation_id, encoded.len()), (2, 7, 0));
        assert_eq!(read.user_data.as_deref(), Some(&[0, 0, 0, 7][..]));
        assert_eq!(read.owned_partitions[0].partitions, [0, 3]);
        let mut encoded = encode_assignment(&partitions()).slice(2..);
        let read = ConsumerProtocolAssignment::decode(&mut encoded, ASSIGNMENT_VERSION).unwrap();
        assert_eq!((read.assigned_partitions.len(), encoded.len()), (2, 0));
    }

    #[test]
    fn every_version_of_others_is_read() {
        for version in 0..=3i16 {
            let mut other = ConsumerProtocolSubscription::default();
            other.topics = vec!["a".to_string().into()];
            other.user_data = (version < 2).then(|| Bytes::from_static(&[0, 0, 0, 5]));
            other.generation_id = if version >= 2 { 5 } else { -1 };
            let mut encoded = BytesMut::new();
            encoded.put_i16(version);
            other.encode(&mut encoded, version).unwrap();
            let read = Subscription::decode(&encoded).unwrap();
            assert_eq!((read.topics.len(), read.generation), (1, Some(5)), "version {version}");
        }
    }

    #[test]
    fn cut_or_wrong_lengths_are_refused_without_allocating_them() {
        let good = subscription().encode(true);
        for cut in 0..good.len() {
            assert_eq!(Subscription::decode(&good[..cut]), None, "cut at {cut}");
        }
        for at in 0..good.len() - 4 {
            for length in [-2, i32::MAX, i32::MIN, 1 << 24] {
                let mut bad = good.to_vec();
                bad[at..at + 4].copy_from_slice(&length.to_be_bytes());
                let _ = Subscription::decode(&bad);
                let _ = decode_assignment(&bad);
            }
        }
    }
}
