//! What the members of a classic group tell each other through the coordinator: subscriptions and assignments.
//!
//! They come from other clients, in any version: a two-byte version, then the fields. Later versions only append
//! fields, so a version that we do not know is read as the last one that we do.

use bytes::Bytes;
use kafka_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use kafka_protocol::protocol::{Decodable, Message};

use super::shape::{CONSUMER_ASSIGNMENT, CONSUMER_SUBSCRIPTION, Shape};

/// Reads a member's subscription.
///
/// # Errors
/// In words, when it is cut off or its version is negative.
pub fn decode_subscription(bytes: &Bytes) -> Result<ConsumerProtocolSubscription, String> {
    decode(&CONSUMER_SUBSCRIPTION, bytes)
}

/// Reads the assignment that the leader made for a member. An empty one is no error: it assigns nothing.
///
/// # Errors
/// In words, when it is cut off or its version is negative.
pub fn decode_assignment(bytes: &Bytes) -> Result<ConsumerProtocolAssignment, String> {
    if bytes.is_empty() {
        return Ok(ConsumerProtocolAssignment::default());
    }
    decode(&CONSUMER_ASSIGNMENT, bytes)
}

fn decode<M: Message + Decodable>(shape: &Shape, bytes: &Bytes) -> Result<M, String> {
    let version = bytes.first_chunk().map(|version| i16::from_be_bytes(*version)).filter(|version| *version >= 0);
    let version = version.ok_or("it does not begin with a version")?.min(M::VERSIONS.max);
    let mut fields = bytes.slice(size_of::<i16>()..);
    shape.check(version, &fields)?;
    M::decode(&mut fields, version).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Topic `t` with the partitions 0 and 1, no user data.
    const PARTITIONS: &[u8] = b"\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01";

    #[test]
    fn assignments_are_read_in_known_and_later_versions() {
        for version in [0, 3, 9] {
            let bytes = [&i16::to_be_bytes(version)[..], PARTITIONS, &[0xff; 4], b"later fields"].concat();
            let assignment = decode_assignment(&bytes.into()).unwrap();
            assert_eq!(assignment.assigned_partitions[0].partitions, [0, 1], "version {version}");
        }
        assert!(decode_assignment(&Bytes::new()).unwrap().assigned_partitions.is_empty());
    }

    #[test]
    fn subscriptions_carry_what_is_owned_from_version_1_on() {
        let topics = b"\0\0\0\x01\0\x01t\xff\xff\xff\xff";
        for version in [0i16, 1] {
            let bytes = [&version.to_be_bytes()[..], topics, PARTITIONS].concat();
            let subscription = decode_subscription(&bytes.into()).unwrap();
            assert_eq!(subscription.topics.len(), 1);
            assert_eq!(subscription.owned_partitions.len(), version as usize);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&[][..], &[0], &[0xff, 0xff, 0, 0], &[0, 1], &[0, 0, 0x7f, 0xff, 0xff, 0xff]] {
            assert!(decode_subscription(&Bytes::from_static(bytes)).is_err(), "{bytes:?}");
        }
    }
}
