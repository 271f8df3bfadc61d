//! Who a record is: an id that is always the same for the same record, and grows with the offset.
//!
//! The id is a UUID version 8 (RFC 9562 §5.8, "custom"). 60 bits are taken from a name-based UUID (version 5) of group,
//! topic and partition, and 62 bits are the offset, big-endian, at the end. So the ids of one partition sort by
//! offset, as bytes and as text: a primary key on them is appended to, not shuffled.

use uuid::Uuid;

use super::record::TopicPartition;

/// The namespace of Konekt's name-based UUIDs; it must never change, or every id would.
const NAMESPACE: Uuid = Uuid::from_bytes(*b"konekt:record-id");

/// Makes the ids of one partition's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordIds {
    prefix: u128,
}

impl RecordIds {
    /// The ids of a partition as read by a consumer group.
    pub fn new(group: &str, partition: &TopicPartition) -> Self {
        // Lengths first: no two different triples may spell the same name.
        let name =
            format!("{}:{group}{}:{}{}", group.len(), partition.topic.len(), partition.topic, partition.partition);
        let hash = Uuid::new_v5(&NAMESPACE, name.as_bytes()).as_u128();
        let high48 = hash >> 80;
        let next12 = (hash >> 48) & 0xfff;
        Self { prefix: high48 << 80 | 0x8 << 76 | next12 << 64 | 0b10 << 62 }
    }

    /// The id of the record at `offset`.
    ///
    /// ```
    /// use konekt::{RecordIds, TopicPartition};
    /// let ids = RecordIds::new("billing", &TopicPartition::new("orders", 0));
    /// assert!(ids.at(41).to_string() < ids.at(42).to_string());
    /// ```
    pub fn at(&self, offset: i64) -> Uuid {
        const OFFSET_BITS: u128 = (1 << 62) - 1;
        Uuid::from_u128(self.prefix | (offset as u128 & OFFSET_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ids_of_a_known_record_never_change() {
        let ids = RecordIds::new("billing", &TopicPartition::new("orders", 7));
        let id = ids.at(0x1234);
        assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        assert_eq!(id.to_string(), ids.at(0x1234).to_string());
        assert!(id.to_string().ends_with("-8000-000000001234"), "{id}");
    }

    #[test]
    fn names_that_concatenate_alike_differ() {
        let a = RecordIds::new("ab", &TopicPartition::new("c", 1));
        let b = RecordIds::new("a", &TopicPartition::new("bc", 1));
        let c = RecordIds::new("ab", &TopicPartition::new("c1", 1));
        assert!(a != b && a != c && b != c);
    }

    proptest! {
        #[test]
        fn text_order_is_offset_order(a in 0i64..1 << 62, b in 0i64..1 << 62) {
            let ids = RecordIds::new("g", &TopicPartition::new("t", 0));
            prop_assert_eq!(a.cmp(&b), ids.at(a).to_string().cmp(&ids.at(b).to_string()));
        }
    }
}
