//! The shapes of broker answers, checked before they are decoded.
//!
//! The decoder of the `kafka-protocol` crate takes memory for as many elements as an array's length claims, before it
//! sees whether they are there: four wrong bytes would end the process. So the connection walks each answer along its
//! [`Shape`] first, which takes no memory at all, and only decodes what is really as long as it says.
//!
//! Source: the message definitions of Apache Kafka (`clients/src/main/resources/common/message`). A test makes an answer
//! of every shape in every version we speak and has the decoder read it to the last byte.

use super::wire::varint::Cursor;

#[cfg(any(test, feature = "testkit"))]
pub(super) mod example;
#[cfg(any(test, feature = "testkit"))]
pub(super) mod recorded;

/// The fields of a message, and from which version on it is encoded compactly (KIP-482).
pub(super) struct Shape {
    compact_since: i16,
    fields: &'static [Field],
}

/// A field and the versions that have it.
struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

enum Kind {
    /// A number, a boolean or an id of so many bytes.
    Fixed(usize),
    /// A string or null.
    Text,
    /// Bytes or null.
    Blob,
    /// An array of fixed fields of so many bytes each.
    Numbers(usize),
    /// An array of strings.
    Texts,
    /// An array of structures.
    List(&'static [Field]),
    /// A structure of its own, or in a tagged field.
    One(&'static [Field]),
    /// A structure behind a byte that is negative when it is null.
    Nullable(&'static [Field]),
    /// A tagged field that the decoder knows; it reads it without looking at the size.
    Tagged(u32, &'static Kind),
}

use Kind::{Blob, Fixed, List, Nullable, Numbers, One, Tagged, Text, Texts};

const BOOL: Kind = Fixed(1);
const I8: Kind = Fixed(1);
const I16: Kind = Fixed(2);
const I32: Kind = Fixed(4);
const I64: Kind = Fixed(8);
const UUID: Kind = Fixed(16);

const fn all(kind: Kind) -> Field {
    between(0, i16::MAX, kind)
}

const fn since(version: i16, kind: Kind) -> Field {
    between(version, i16::MAX, kind)
}

const fn until(version: i16, kind: Kind) -> Field {
    between(0, version, kind)
}

const fn between(since: i16, until: i16, kind: Kind) -> Field {
    Field { since, until, kind }
}

pub(super) const API_VERSIONS: Shape = Shape { compact_since: 0, fields: &[] };

pub(super) const PRODUCE: Shape = Shape {
    compact_since: 9,
    fields: &[
        all(List(&[
            until(12, Text),
            since(13, UUID),
            all(List(&[
                all(I32),
                all(I16),
                all(I64),
                all(I64),
                since(5, I64),
                since(8, List(&[all(I32), all(Text)])),
                since(8, Text),
                since(10, Tagged(0, &One(&[all(I32), all(I32)]))),
            ])),
        ])),
        all(I32),
        since(10, Tagged(0, &NODE_ENDPOINTS)),
    ],
};

const NODE_ENDPOINTS: Kind = List(&[all(I32), all(Text), all(I32), all(Text)]);

pub(super) const FETCH: Shape = Shape {
    compact_since: 12,
    fields: &[
        all(I32),
        since(7, I16),
        since(7, I32),
        all(List(&[
            until(12, Text),
            since(13, UUID),
            all(List(&[
                all(I32),
                all(I16),
                all(I64),
                all(I64),
                since(5, I64),
                all(List(&[all(I64), all(I64)])),
                since(11, I32),
                all(Blob),
                since(12, Tagged(0, &One(&[all(I32), all(I64)]))),
                since(12, Tagged(1, &One(&[all(I32), all(I32)]))),
                since(12, Tagged(2, &One(&[all(I64), all(I32)]))),
            ])),
        ])),
        since(16, Tagged(0, &NODE_ENDPOINTS)),
    ],
};

pub(super) const LIST_OFFSETS: Shape = Shape {
    compact_since: 6,
    fields: &[
        since(2, I32),
        all(List(&[all(Text), all(List(&[all(I32), all(I16), all(I64), all(I64), since(4, I32)]))])),
    ],
};

pub(super) const METADATA: Shape = Shape {
    compact_since: 9,
    fields: &[
        since(3, I32),
        all(List(&[all(I32), all(Text), all(I32), since(1, Text)])),
        since(2, Text),
        since(1, I32),
        all(List(&[
            all(I16),
            all(Text),
            since(10, UUID),
            since(1, BOOL),
            all(List(&[
                all(I16),
                all(I32),
                all(I32),
                since(7, I32),
                all(Numbers(4)),
                all(Numbers(4)),
                since(5, Numbers(4)),
            ])),
            since(8, I32),
        ])),
        between(8, 10, I32),
        since(13, I16),
    ],
};

pub(super) const OFFSET_COMMIT: Shape = Shape {
    compact_since: 8,
    fields: &[since(3, I32), all(List(&[until(9, Text), since(10, UUID), all(List(&[all(I32), all(I16)]))]))],
};

pub(super) const OFFSET_FETCH: Shape = Shape {
    compact_since: 6,
    fields: &[
        since(3, I32),
        until(7, List(&[all(Text), all(List(&[all(I32), all(I64), since(5, I32), all(Text), all(I16)]))])),
        between(2, 7, I16),
        since(
            8,
            List(&[
                all(Text),
                all(List(&[
                    until(9, Text),
                    since(10, UUID),
                    all(List(&[all(I32), all(I64), all(I32), all(Text), all(I16)])),
                ])),
                all(I16),
            ]),
        ),
    ],
};

pub(super) const FIND_COORDINATOR: Shape = Shape {
    compact_since: 3,
    fields: &[
        since(1, I32),
        until(3, I16),
        between(1, 3, Text),
        until(3, I32),
        until(3, Text),
        until(3, I32),
        since(4, List(&[all(Text), all(I32), all(Text), all(I32), all(I16), all(Text)])),
    ],
};

pub(super) const JOIN_GROUP: Shape = Shape {
    compact_since: 6,
    fields: &[
        since(2, I32),
        all(I16),
        all(I32),
        since(7, Text),
        all(Text),
        all(Text),
        since(9, BOOL),
        all(Text),
        all(List(&[all(Text), since(5, Text), all(Blob)])),
    ],
};

pub(super) const HEARTBEAT: Shape = Shape { compact_since: 4, fields: &[since(1, I32), all(I16)] };

pub(super) const LEAVE_GROUP: Shape =
    Shape { compact_since: 4, fields: &[since(1, I32), all(I16), since(3, List(&[all(Text), all(Text), all(I16)]))] };

pub(super) const SYNC_GROUP: Shape =
    Shape { compact_since: 4, fields: &[since(1, I32), all(I16), since(5, Text), since(5, Text), all(Blob)] };

pub(super) const SASL_HANDSHAKE: Shape =
    Shape { compact_since: i16::MAX, fields: &[all(I16), all(List(&[all(Text)]))] };

pub(super) const SASL_AUTHENTICATE: Shape =
    Shape { compact_since: 2, fields: &[all(I16), all(Text), all(Blob), since(1, I64)] };

pub(super) const CREATE_TOPICS: Shape = Shape {
    compact_since: 5,
    fields: &[
        all(I32),
        all(List(&[
            all(Text),
            since(7, UUID),
            all(I16),
            all(Text),
            since(5, I32),
            since(5, I16),
            since(5, List(&[all(Text), all(Text), all(BOOL), all(I8), all(BOOL)])),
            since(5, Tagged(0, &I16)),
        ])),
    ],
};

pub(super) const DELETE_TOPICS: Shape =
    Shape { compact_since: 4, fields: &[all(I32), all(List(&[all(Text), since(6, UUID), all(I16), since(5, Text)]))] };

pub(super) const INIT_PRODUCER_ID: Shape =
    Shape { compact_since: 2, fields: &[all(I32), all(I16), all(I64), all(I16)] };

pub(super) const DESCRIBE_CONFIGS: Shape = Shape {
    compact_since: 4,
    fields: &[
        all(I32),
        all(List(&[
            all(I16),
            all(Text),
            all(I8),
            all(Text),
            all(List(&[
                all(Text),
                all(Text),
                all(BOOL),
                all(I8),
                all(BOOL),
                all(List(&[all(Text), all(Text), all(I8)])),
                since(3, I8),
                since(3, Text),
            ])),
        ])),
    ],
};

pub(super) const LIST_GROUPS: Shape = Shape {
    compact_since: 3,
    fields: &[since(1, I32), all(I16), all(List(&[all(Text), all(Text), since(4, Text), since(5, Text)]))],
};

pub(super) const DESCRIBE_GROUPS: Shape = Shape {
    compact_since: 5,
    fields: &[
        since(1, I32),
        all(List(&[
            all(I16),
            since(6, Text),
            all(Text),
            all(Text),
            all(Text),
            all(Text),
            all(List(&[all(Text), since(4, Text), all(Text), all(Text), all(Blob), all(Blob)])),
            since(3, I32),
        ])),
    ],
};

const GROUP_ASSIGNMENT: Kind = One(&[all(List(&[all(UUID), all(Text), all(Numbers(4))]))]);

pub(super) const CONSUMER_GROUP_DESCRIBE: Shape = Shape {
    compact_since: 0,
    fields: &[
        all(I32),
        all(List(&[
            all(I16),
            all(Text),
            all(Text),
            all(Text),
            all(I32),
            all(I32),
            all(Text),
            all(List(&[
                all(Text),
                all(Text),
                all(Text),
                all(I32),
                all(Text),
                all(Text),
                all(Texts),
                all(Text),
                all(GROUP_ASSIGNMENT),
                all(GROUP_ASSIGNMENT),
                since(1, I8),
            ])),
            all(I32),
        ])),
    ],
};

pub(super) const CONSUMER_GROUP_HEARTBEAT: Shape = Shape {
    compact_since: 0,
    fields: &[
        all(I32),
        all(I16),
        all(Text),
        all(Text),
        all(I32),
        all(I32),
        all(Nullable(&[all(List(&[all(UUID), all(Numbers(4))]))])),
    ],
};

impl Shape {
    /// Walks `bytes`, and says how many of them the message takes.
    ///
    /// # Errors
    /// Where something is shorter than it claims to be.
    pub(super) fn check(&self, version: i16, bytes: &[u8]) -> Result<usize, String> {
        let mut walk = Walk { cursor: Cursor::new(bytes), version, is_compact: version >= self.compact_since };
        match walk.structure(self.fields) {
            Some(()) => Ok(walk.cursor.position()),
            None => Err(format!(
                "what begins at byte {} of {} is cut off, or claims a length that is not there",
                walk.cursor.position(),
                bytes.len()
            )),
        }
    }
}

/// One pass over a message; `None` means that it is shorter than it says.
struct Walk<'a> {
    cursor: Cursor<'a>,
    version: i16,
    is_compact: bool,
}

impl Walk<'_> {
    fn structure(&mut self, fields: &'static [Field]) -> Option<()> {
        for field in fields {
            if self.has(field) && !matches!(field.kind, Tagged(..)) {
                self.value(&field.kind)?;
            }
        }
        if self.is_compact { self.tagged_fields(fields) } else { Some(()) }
    }

    fn has(&self, field: &Field) -> bool {
        (field.since..=field.until).contains(&self.version)
    }

    fn value(&mut self, kind: &'static Kind) -> Option<()> {
        match kind {
            Fixed(bytes) => self.skip(*bytes),
            Text => self.text(),
            Texts => {
                let count = self.length()?;
                (0..count).try_for_each(|_| self.text())
            }
            Blob => {
                let length = self.length()?;
                self.skip(length)
            }
            Numbers(bytes) => {
                let count = self.length()?;
                self.skip(count.checked_mul(*bytes)?)
            }
            // Each element takes at least a byte, so a count that lies ends at the end of the bytes.
            List(fields) => {
                let count = self.length()?;
                (0..count).try_for_each(|_| self.structure(fields))
            }
            One(fields) => self.structure(fields),
            Nullable(fields) => match self.big_endian::<1>()? {
                ..0 => Some(()),
                _ => self.structure(fields),
            },
            Tagged(_, kind) => self.value(kind),
        }
    }

    fn text(&mut self) -> Option<()> {
        let length = if self.is_compact { self.compact_length()? } else { nullable(self.big_endian::<2>()?)? };
        self.skip(length)
    }

    fn tagged_fields(&mut self, fields: &'static [Field]) -> Option<()> {
        for _ in 0..self.cursor.unsigned_varint()? {
            let tag = self.cursor.unsigned_varint()?;
            let size = self.cursor.unsigned_varint()? as usize;
            let is_it = |field: &&Field| matches!(field.kind, Tagged(known, _) if known == tag) && self.has(field);
            match fields.iter().find(is_it) {
                Some(field) => self.value(&field.kind)?,
                None => self.skip(size)?,
            }
        }
        Some(())
    }

    /// Of bytes or an array; null is as long as empty.
    fn length(&mut self) -> Option<usize> {
        if self.is_compact { self.compact_length() } else { nullable(self.big_endian::<4>()?) }
    }

    fn compact_length(&mut self) -> Option<usize> {
        Some((self.cursor.unsigned_varint()? as usize).saturating_sub(1))
    }

    /// A signed number of `N` bytes.
    fn big_endian<const N: usize>(&mut self) -> Option<i64> {
        let bytes = self.cursor.take(N)?;
        let sign = if bytes.first()? & 0x80 != 0 { -1 } else { 0 };
        Some(bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.cursor.take(count).map(|_| ())
    }
}

/// A length where −1 stands for null.
fn nullable(length: i64) -> Option<usize> {
    usize::try_from(length.max(-1) + i64::from(length == -1)).ok()
}

#[cfg(test)]
mod tests {
    use super::example::Example;
    use super::recorded::{Recorded, recorded};
    use super::*;
    use bytes::{Buf, Bytes};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Decodable;
    use std::ops::RangeInclusive;

    type Decode = fn(&[u8], i16) -> Result<usize, String>;

    /// Bytes left over after decoding.
    fn decode<M: Decodable>(bytes: &[u8], version: i16) -> Result<usize, String> {
        let mut bytes = Bytes::copy_from_slice(bytes);
        M::decode(&mut bytes, version).map_err(|error| error.to_string())?;
        Ok(bytes.remaining())
    }

    const CASES: &[(&str, &Shape, RangeInclusive<i16>, Decode)] = &[
        ("Produce", &PRODUCE, 3..=13, decode::<ProduceResponse>),
        ("Fetch", &FETCH, 4..=17, decode::<FetchResponse>),
        ("ListOffsets", &LIST_OFFSETS, 1..=10, decode::<ListOffsetsResponse>),
        ("Metadata", &METADATA, 0..=13, decode::<MetadataResponse>),
        ("OffsetCommit", &OFFSET_COMMIT, 2..=9, decode::<OffsetCommitResponse>),
        ("OffsetFetch", &OFFSET_FETCH, 1..=9, decode::<OffsetFetchResponse>),
        ("FindCoordinator", &FIND_COORDINATOR, 0..=6, decode::<FindCoordinatorResponse>),
        ("JoinGroup", &JOIN_GROUP, 0..=9, decode::<JoinGroupResponse>),
        ("Heartbeat", &HEARTBEAT, 0..=4, decode::<HeartbeatResponse>),
        ("LeaveGroup", &LEAVE_GROUP, 0..=5, decode::<LeaveGroupResponse>),
        ("SyncGroup", &SYNC_GROUP, 0..=5, decode::<SyncGroupResponse>),
        ("SaslHandshake", &SASL_HANDSHAKE, 0..=1, decode::<SaslHandshakeResponse>),
        ("SaslAuthenticate", &SASL_AUTHENTICATE, 0..=2, decode::<SaslAuthenticateResponse>),
        ("CreateTopics", &CREATE_TOPICS, 2..=7, decode::<CreateTopicsResponse>),
        ("DeleteTopics", &DELETE_TOPICS, 1..=6, decode::<DeleteTopicsResponse>),
        ("InitProducerId", &INIT_PRODUCER_ID, 0..=5, decode::<InitProducerIdResponse>),
        ("DescribeConfigs", &DESCRIBE_CONFIGS, 1..=4, decode::<DescribeConfigsResponse>),
        ("ListGroups", &LIST_GROUPS, 0..=5, decode::<ListGroupsResponse>),
        ("DescribeGroups", &DESCRIBE_GROUPS, 0..=6, decode::<DescribeGroupsResponse>),
        ("ConsumerGroupDescribe", &CONSUMER_GROUP_DESCRIBE, 0..=1, decode::<ConsumerGroupDescribeResponse>),
        ("ConsumerGroupHeartbeat", &CONSUMER_GROUP_HEARTBEAT, 0..=1, decode::<ConsumerGroupHeartbeatResponse>),
    ];

    /// An example of each answer in each version, and what real brokers answered.
    fn for_each_case(mut test: impl FnMut(&str, &Shape, Decode, i16, Vec<u8>)) {
        for (name, shape, versions, decode) in CASES {
            for version in versions.clone() {
                test(&format!("{name} {version}"), shape, *decode, version, Example::of(shape, version));
            }
        }
        for Recorded { key, version, body } in recorded() {
            let name = format!("{:?}", ApiKey::try_from(key).unwrap());
            let Some((_, shape, _, decode)) = CASES.iter().find(|(known, ..)| *known == name) else {
                assert_eq!(name, "ApiVersions", "it alone is decoded by hand");
                continue;
            };
            test(&format!("the recorded {name} {version}"), shape, *decode, version, body.to_vec());
        }
    }

    #[test]
    fn shape_and_decoder_agree_in_every_version() {
        for_each_case(|name, shape, decode, version, bytes| {
            assert_eq!(decode(&bytes, version), Ok(0), "{name}");
            assert_eq!(shape.check(version, &bytes), Ok(bytes.len()), "{name}");
        });
    }

    #[test]
    fn a_cut_is_noticed_at_every_byte() {
        for_each_case(|name, shape, _, version, bytes| {
            for cut in 0..bytes.len() {
                assert!(shape.check(version, &bytes[..cut]).is_err(), "{name} cut at {cut}");
            }
        });
    }

    /// Writes −1, 0 and the largest lengths over every place. What the check lets through, the decoder must survive: an
    /// array that it took memory for in vain would end this test's process.
    #[test]
    fn lengths_that_lie_never_reach_the_decoder() {
        let lies: [&[u8]; 6] = [
            &[0xff; 4],
            &[0; 4],
            &[0x7f, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0x7f],
            &[0x80],
        ];
        for_each_case(|_, shape, decode, version, bytes| {
            for at in 0..bytes.len() {
                for lie in lies {
                    let mut bytes = bytes.clone();
                    let end = bytes.len().min(at + lie.len());
                    bytes[at..end].copy_from_slice(&lie[..end - at]);
                    if shape.check(version, &bytes).is_ok() {
                        let _ = decode(&bytes, version);
                    }
                }
            }
        });
        assert!(HEARTBEAT.check(4, &[0; 3]).unwrap_err().contains("byte 0 of 3"));
    }
}
