//! The shapes of requests, to be checked before they are decoded.
//!
//! `kafka-protocol` reserves memory for as many elements as an array's count announces; a count of two thousand million
//! in a request of twenty bytes ends the process. So `connection.rs` first walks over each request here: every length
//! and count must fit the bytes that are there. Source: Kafka's `clients/src/main/resources/common/message/*.json`.

use kafka_protocol::messages::ApiKey;

use self::Field::{Array, Bytes, Fixed, Since, Struct, Text, Until};

/// More array elements than an honest request has; each costs about a hundred bytes of memory once decoded.
const ELEMENTS_MAX: usize = 1_000_000;

/// A field on the wire. Lengths are 2 or 4 bytes, in flexible versions varints.
enum Field {
    /// A number, flag or id of so many bytes.
    Fixed(usize),
    /// A string that may be null.
    Text,
    /// Bytes that may be null.
    Bytes,
    /// An array that may be null.
    Array(&'static Field),
    /// Fields one after the other; in flexible versions tagged fields follow.
    Struct(&'static [Field]),
    /// A field that came with this version.
    Since(i16, &'static Field),
    /// A field that this version was the last to have.
    Until(i16, &'static Field),
}

const FLAG: Field = Fixed(1);
const INT8: Field = Fixed(1);
const INT16: Field = Fixed(2);
const INT32: Field = Fixed(4);
const INT64: Field = Fixed(8);
const UUID: Field = Fixed(16);

/// A request's first flexible version and its fields.
fn shape_of(api: ApiKey) -> Option<(i16, Field)> {
    Some(match api {
        ApiKey::Produce => (9, PRODUCE),
        ApiKey::Fetch => (12, FETCH),
        ApiKey::ListOffsets => (6, LIST_OFFSETS),
        ApiKey::Metadata => (9, METADATA),
        ApiKey::OffsetCommit => (8, OFFSET_COMMIT),
        ApiKey::OffsetFetch => (6, OFFSET_FETCH),
        ApiKey::FindCoordinator => (3, Struct(&[Until(3, &Text), Since(1, &INT8), Since(4, &Array(&Text))])),
        ApiKey::JoinGroup => (6, JOIN_GROUP),
        ApiKey::Heartbeat => (4, Struct(&[Text, INT32, Text, Since(3, &Text)])),
        ApiKey::LeaveGroup => (4, LEAVE_GROUP),
        ApiKey::SyncGroup => (4, SYNC_GROUP),
        ApiKey::DescribeGroups => (5, Struct(&[Array(&Text), Since(3, &FLAG)])),
        ApiKey::ListGroups => (3, Struct(&[Since(4, &Array(&Text)), Since(5, &Array(&Text))])),
        ApiKey::ApiVersions => (3, Struct(&[Since(3, &Text), Since(3, &Text)])),
        ApiKey::CreateTopics => (5, CREATE_TOPICS),
        ApiKey::DeleteTopics => (4, DELETE_TOPICS),
        ApiKey::DeleteRecords => (2, Struct(&[Array(&Struct(&[Text, Array(&Struct(&[INT32, INT64]))])), INT32])),
        ApiKey::InitProducerId => (2, Struct(&[Text, INT32, Since(3, &INT64), Since(3, &INT16)])),
        ApiKey::OffsetForLeaderEpoch => (4, OFFSET_FOR_LEADER_EPOCH),
        ApiKey::DescribeConfigs => (4, Struct(&[Array(&Struct(&[INT8, Text, Array(&Text)])), FLAG, Since(3, &FLAG)])),
        ApiKey::CreatePartitions => (2, CREATE_PARTITIONS),
        ApiKey::DeleteGroups => (2, Struct(&[Array(&Text)])),
        ApiKey::DescribeCluster => (0, Struct(&[FLAG, Since(1, &INT8), Since(2, &FLAG)])),
        ApiKey::ConsumerGroupHeartbeat => (0, CONSUMER_GROUP_HEARTBEAT),
        _ => return None,
    })
}

const CONSUMER_GROUP_HEARTBEAT: Field = Struct(&[
    Text, // group
    Text, // member
    INT32,
    Text, // instance id
    Text, // rack
    INT32,
    Array(&Text),    // subscribed topics
    Since(1, &Text), // or a pattern
    Text,            // assignor
    Array(&Struct(&[UUID, Array(&INT32)])),
]);

const PRODUCE: Field = Struct(&[
    Text, // transactional id
    INT16,
    INT32,
    Array(&Struct(&[Text, Array(&Struct(&[INT32, Bytes]))])),
]);

const FETCH: Field = Struct(&[
    Until(14, &INT32), // replica id
    INT32,
    INT32,
    INT32,
    INT8,
    Since(7, &INT32), // session id
    Since(7, &INT32),
    Array(&Struct(&[Until(12, &Text), Since(13, &UUID), Array(&FETCH_PARTITION)])),
    Since(7, &Array(&Struct(&[Until(12, &Text), Since(13, &UUID), Array(&INT32)]))), // forgotten topics
    Since(11, &Text),                                                                // rack
]);

const FETCH_PARTITION: Field = Struct(&[
    INT32,
    Since(9, &INT32), // current leader epoch
    INT64,
    Since(12, &INT32), // last fetched epoch
    Since(5, &INT64),  // log start
    INT32,
]);

const LIST_OFFSETS: Field =
    Struct(&[INT32, Since(2, &INT8), Array(&Struct(&[Text, Array(&Struct(&[INT32, Since(4, &INT32), INT64]))]))]);

const METADATA: Field = Struct(&[
    Array(&Struct(&[Since(10, &UUID), Text])),
    Since(4, &FLAG),             // may create topics
    Since(8, &Until(10, &FLAG)), // wants the cluster's permissions
    Since(8, &FLAG),             // wants the topics' permissions
]);

const OFFSET_COMMIT: Field = Struct(&[
    Text,
    INT32,
    Text,
    Since(7, &Text),  // instance id
    Until(4, &INT64), // retention time
    Array(&Struct(&[Text, Array(&Struct(&[INT32, INT64, Since(6, &INT32), Text]))])),
]);

const OFFSET_FETCH: Field = Struct(&[
    Until(7, &Text),
    Until(7, &Array(&NAMED_PARTITIONS)),
    Since(8, &Array(&Struct(&[Text, Since(9, &Text), Since(9, &INT32), Array(&NAMED_PARTITIONS)]))),
    Since(7, &FLAG), // only stable offsets
]);

const NAMED_PARTITIONS: Field = Struct(&[Text, Array(&INT32)]);

const JOIN_GROUP: Field = Struct(&[
    Text,
    INT32,
    Since(1, &INT32), // rebalance timeout
    Text,
    Since(5, &Text), // instance id
    Text,
    Array(&Struct(&[Text, Bytes])),
    Since(8, &Text), // reason
]);

const LEAVE_GROUP: Field = Struct(&[Text, Until(2, &Text), Since(3, &Array(&Struct(&[Text, Text, Since(5, &Text)])))]);

const SYNC_GROUP: Field = Struct(&[
    Text,
    INT32,
    Text,
    Since(3, &Text), // instance id
    Since(5, &Text), // protocol type
    Since(5, &Text),
    Array(&Struct(&[Text, Bytes])),
]);

const CREATE_TOPICS: Field = Struct(&[
    Array(&Struct(&[
        Text,
        INT32,
        INT16,
        Array(&Struct(&[INT32, Array(&INT32)])), // assignments
        Array(&Struct(&[Text, Text])),           // configs
    ])),
    INT32,
    FLAG,
]);

const DELETE_TOPICS: Field = Struct(&[Since(6, &Array(&Struct(&[Text, UUID]))), Until(5, &Array(&Text)), INT32]);

const OFFSET_FOR_LEADER_EPOCH: Field =
    Struct(&[Since(3, &INT32), Array(&Struct(&[Text, Array(&Struct(&[INT32, INT32, INT32]))]))]);

const CREATE_PARTITIONS: Field =
    Struct(&[Array(&Struct(&[Text, INT32, Array(&Struct(&[Array(&INT32)]))])), INT32, FLAG]);

/// What does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("{needed} bytes are announced where {left} are left")]
    Length { needed: usize, left: usize },
    #[error("{0} is no length")]
    Negative(i32),
    #[error("a varint has more than 5 bytes")]
    Varint,
    #[error("more than {ELEMENTS_MAX} array elements")]
    Elements,
    #[error("its shape is not known")]
    Shapeless,
}

/// Walks over a request's body; whatever it announces must be there.
pub fn check(api: ApiKey, version: i16, body: &[u8]) -> Result<(), Misfit> {
    let (first_flexible, fields) = shape_of(api).ok_or(Misfit::Shapeless)?;
    let mut walk = Walk { rest: body, version, is_flexible: version >= first_flexible, elements: 0 };
    walk.field(&fields)
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    is_flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn field(&mut self, field: &Field) -> Result<(), Misfit> {
        match field {
            Fixed(bytes) => self.skip(*bytes),
            Text => {
                let length = if self.is_flexible { self.compact_length()? } else { self.short_length()? };
                self.skip(length)
            }
            Bytes => {
                let length = self.length()?;
                self.skip(length)
            }
            Array(element) => self.array(element),
            Struct(fields) => {
                fields.iter().try_for_each(|field| self.field(field))?;
                self.tagged_fields()
            }
            Since(version, field) if self.version >= *version => self.field(field),
            Until(version, field) if self.version <= *version => self.field(field),
            Since(..) | Until(..) => Ok(()),
        }
    }

    fn array(&mut self, element: &Field) -> Result<(), Misfit> {
        let count = self.length()?;
        // No element is smaller than a byte.
        if count > self.rest.len() {
            return Err(Misfit::Length { needed: count, left: self.rest.len() });
        }
        self.elements += count;
        if self.elements > ELEMENTS_MAX {
            return Err(Misfit::Elements);
        }
        (0..count).try_for_each(|_| self.field(element))
    }

    fn tagged_fields(&mut self) -> Result<(), Misfit> {
        if !self.is_flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let bytes = self.varint()? as usize;
            self.skip(bytes)?;
        }
        Ok(())
    }

    /// The length of an array or of bytes; null counts as 0.
    fn length(&mut self) -> Result<usize, Misfit> {
        if self.is_flexible {
            return self.compact_length();
        }
        let length = i32::from_be_bytes(self.take()?);
        non_negative(length)
    }

    fn short_length(&mut self) -> Result<usize, Misfit> {
        let length = i16::from_be_bytes(self.take()?);
        non_negative(length.into())
    }

    /// One more than the length, so that 0 is null.
    fn compact_length(&mut self) -> Result<usize, Misfit> {
        Ok(self.varint()?.saturating_sub(1) as usize)
    }

    fn varint(&mut self) -> Result<u32, Misfit> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Misfit::Varint)
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Misfit> {
        let misfit = Misfit::Length { needed: bytes, left: self.rest.len() };
        self.rest = self.rest.get(bytes..).ok_or(misfit)?;
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Misfit> {
        let misfit = Misfit::Length { needed: N, left: self.rest.len() };
        let (taken, rest) = self.rest.split_first_chunk().ok_or(misfit)?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// −1 is null.
fn non_negative(length: i32) -> Result<usize, Misfit> {
    match length {
        -1 => Ok(0),
        length => usize::try_from(length).map_err(|_| Misfit::Negative(length)),
    }
}

/// Requests for the tests of this folder.
#[cfg(test)]
pub mod testing {
    use bytes::BufMut;

    use super::*;

    /// The body of a request: two elements in every array, `a` in every string, one byte in all bytes, one unknown
    /// tagged field in every struct, all numbers 0.
    pub fn example(api: ApiKey, version: i16) -> Vec<u8> {
        Example::of(api, version)
    }

    struct Example {
        bytes: Vec<u8>,
        version: i16,
        is_flexible: bool,
    }

    impl Example {
        fn of(api: ApiKey, version: i16) -> Vec<u8> {
            let (first_flexible, fields) = shape_of(api).unwrap_or_else(|| panic!("{api:?} has no shape"));
            let mut example = Self { bytes: Vec::new(), version, is_flexible: version >= first_flexible };
            example.put(&fields);
            example.bytes
        }

        fn put(&mut self, field: &Field) {
            match field {
                Fixed(bytes) => self.bytes.put_bytes(0, *bytes),
                Text if self.is_flexible => self.bytes.put_slice(&[2, b'a']),
                Text => self.bytes.put_slice(&[0, 1, b'a']),
                Bytes => {
                    self.put_length(1);
                    self.bytes.put_u8(0);
                }
                Array(element) => {
                    self.put_length(2);
                    self.put(element);
                    self.put(element);
                }
                Struct(fields) => {
                    fields.iter().for_each(|field| self.put(field));
                    if self.is_flexible {
                        self.bytes.put_slice(&[1, 99, 2, 0, 0]);
                    }
                }
                Since(version, field) if self.version >= *version => self.put(field),
                Until(version, field) if self.version <= *version => self.put(field),
                Since(..) | Until(..) => {}
            }
        }

        fn put_length(&mut self, length: u8) {
            match self.is_flexible {
                true => self.bytes.put_u8(length + 1),
                false => self.bytes.put_i32(length.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::RequestKind;

    use super::testing::example;
    use super::*;
    use crate::broker::handlers::supported_versions;

    fn decodes(api: ApiKey, version: i16, body: &[u8]) -> Result<usize, String> {
        let mut rest = bytes::Bytes::copy_from_slice(body);
        RequestKind::decode(api, &mut rest, version).map(|_| rest.len()).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn shapes_are_what_the_messages_are_in_every_version() {
        for (api, version) in supported_versions() {
            let body = example(api, version);
            assert_eq!(check(api, version, &body), Ok(()), "{api:?} {version}");
            assert_eq!(decodes(api, version, &body), Ok(0), "{api:?} {version}: the shape is not the message's");
        }
    }

    #[test]
    fn every_truncation_is_refused() {
        for (api, version) in supported_versions() {
            let body = example(api, version);
            for length in 0..body.len() {
                assert!(check(api, version, &body[..length]).is_err(), "{api:?} {version} cut to {length} bytes");
            }
        }
    }

    #[test]
    fn no_hostile_number_anywhere_gets_through_to_a_huge_allocation() {
        let hostile: [&[u8]; 4] =
            [&i32::MAX.to_be_bytes(), &i32::MIN.to_be_bytes(), &[0xff; 5], &[0xff, 0xff, 0xff, 0xff, 0x0f]];
        for (api, version) in supported_versions() {
            let honest = example(api, version);
            for (at, number) in (0..honest.len()).flat_map(|at| hostile.map(|number| (at, number))) {
                let mut body = honest.clone();
                let end = body.len().min(at + number.len());
                body[at..end].copy_from_slice(&number[..end - at]);
                if check(api, version, &body).is_ok() {
                    // A request that passes may be nonsense, but decoding it must end in an answer, not in an abort.
                    let _ = decodes(api, version, &body);
                }
            }
        }
    }

    #[test]
    fn too_many_elements_are_refused_though_their_bytes_are_there() {
        let count = ELEMENTS_MAX + 1;
        let mut body = (count as i32).to_be_bytes().to_vec();
        body.resize(4 + 2 * count, 0);
        assert_eq!(check(ApiKey::DescribeGroups, 0, &body), Err(Misfit::Elements));
    }
}
