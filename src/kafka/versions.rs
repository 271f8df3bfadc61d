//! Which versions of which APIs this client and a broker have in common.
//!
//! [`APIS`] is the one table of what we speak; a broker says what it speaks in its ApiVersions answer (API key 18,
//! KIP-35, KIP-511), which is the first thing a connection asks for.

use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::Request;

use super::error::Code;
use super::shape::{self, Shape};
use super::wire::varint::Cursor;

/// Versions of one API that a broker offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VersionRange {
    pub(super) key: i16,
    pub(super) lowest: i16,
    pub(super) highest: i16,
}

pub(super) fn highest_common(api: Api, offered: &VersionRange) -> Option<i16> {
    let version = api.highest.min(offered.highest);
    (version >= api.lowest.max(offered.lowest)).then_some(version)
}

/// An API as this client speaks it.
#[derive(Clone, Copy)]
pub(super) struct Api {
    pub(super) key: ApiKey,
    pub(super) name: &'static str,
    pub(super) lowest: i16,
    pub(super) highest: i16,
    pub(super) answer: &'static Shape,
}

const fn api(key: ApiKey, name: &'static str, lowest: i16, highest: i16, answer: &'static Shape) -> Api {
    Api { key, name, lowest, highest, answer }
}

/// The versions this client was written and tried for. The message types may know higher ones, but a new version can
/// change what a field means, so it is raised here by hand.
pub(super) const APIS: &[Api] = &[
    api(ApiKey::Produce, "Produce", 3, 11, &shape::PRODUCE),
    api(ApiKey::Fetch, "Fetch", 4, 17, &shape::FETCH),
    api(ApiKey::ListOffsets, "ListOffsets", 2, 9, &shape::LIST_OFFSETS),
    api(ApiKey::Metadata, "Metadata", 4, 13, &shape::METADATA),
    api(ApiKey::OffsetCommit, "OffsetCommit", 2, 9, &shape::OFFSET_COMMIT),
    api(ApiKey::OffsetFetch, "OffsetFetch", 2, 9, &shape::OFFSET_FETCH),
    api(ApiKey::FindCoordinator, "FindCoordinator", 1, 6, &shape::FIND_COORDINATOR),
    api(ApiKey::JoinGroup, "JoinGroup", 2, 9, &shape::JOIN_GROUP),
    api(ApiKey::Heartbeat, "Heartbeat", 1, 4, &shape::HEARTBEAT),
    api(ApiKey::LeaveGroup, "LeaveGroup", 3, 5, &shape::LEAVE_GROUP),
    api(ApiKey::SyncGroup, "SyncGroup", 1, 5, &shape::SYNC_GROUP),
    api(ApiKey::SaslHandshake, "SaslHandshake", 1, 1, &shape::SASL_HANDSHAKE),
    api(ApiKey::ApiVersions, "ApiVersions", 0, 3, &shape::API_VERSIONS),
    api(ApiKey::SaslAuthenticate, "SaslAuthenticate", 0, 2, &shape::SASL_AUTHENTICATE),
    api(ApiKey::CreateTopics, "CreateTopics", 2, 7, &shape::CREATE_TOPICS),
    api(ApiKey::DeleteTopics, "DeleteTopics", 1, 5, &shape::DELETE_TOPICS),
    api(ApiKey::InitProducerId, "InitProducerId", 1, 4, &shape::INIT_PRODUCER_ID),
    api(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4, &shape::DESCRIBE_CONFIGS),
    api(ApiKey::ListGroups, "ListGroups", 1, 5, &shape::LIST_GROUPS),
    api(ApiKey::DescribeGroups, "DescribeGroups", 1, 5, &shape::DESCRIBE_GROUPS),
    api(ApiKey::ConsumerGroupDescribe, "ConsumerGroupDescribe", 0, 1, &shape::CONSUMER_GROUP_DESCRIBE),
    api(ApiKey::ConsumerGroupHeartbeat, "ConsumerGroupHeartbeat", 0, 1, &shape::CONSUMER_GROUP_HEARTBEAT),
];

impl Api {
    /// The entry of our table, cut to what the message type can encode. An API that is not in it has no version.
    pub(super) fn of<R: Request>() -> Api {
        let entry = APIS.iter().find(|api| api.key as i16 == R::KEY);
        let unknown = api(ApiKey::ApiVersions, "an API outside its table", 0, -1, &shape::API_VERSIONS);
        let entry = entry.copied().unwrap_or(unknown);
        Api { lowest: entry.lowest.max(R::VERSIONS.min), highest: entry.highest.min(R::VERSIONS.max), ..entry }
    }
}

/// `None` when the bytes are no ApiVersions response. Decoded by hand: it is what protects everything after it from
/// servers that are no Kafka, so it must not trust a single length.
pub(super) fn decode_api_versions(body: &[u8], version: i16) -> Option<(Code, Vec<VersionRange>)> {
    let mut cursor = Cursor::new(body);
    let number = |cursor: &mut Cursor<'_>| cursor.array().map(i16::from_be_bytes);
    let code = Code(number(&mut cursor)?);
    if !code.is_ok() {
        return Some((code, Vec::new()));
    }
    let is_compact = version >= 3;
    let count = match is_compact {
        true => cursor.unsigned_varint()?.checked_sub(1)?,
        false => u32::from_be_bytes(cursor.array()?),
    };
    let mut offered = Vec::new();
    for _ in 0..count {
        let (key, lowest, highest) = (number(&mut cursor)?, number(&mut cursor)?, number(&mut cursor)?);
        offered.push(VersionRange { key, lowest, highest });
        if is_compact {
            skip_tagged_fields(&mut cursor)?;
        }
    }
    // An empty list would make every later error a puzzle.
    (!offered.is_empty()).then_some((code, offered))
}

fn skip_tagged_fields(cursor: &mut Cursor<'_>) -> Option<()> {
    for _ in 0..cursor.unsigned_varint()? {
        cursor.unsigned_varint()?;
        let size = cursor.unsigned_varint()? as usize;
        cursor.take(size)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::shape::recorded::{Recorded, recorded};
    use super::*;

    /// ApiVersions v3: Heartbeat 0 to 9 and Metadata 0 to 3.
    const ANSWER: &[u8] = &[0, 0, 3, 0, 12, 0, 0, 0, 9, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0];

    #[test]
    fn api_versions_are_decoded_whole_or_not_at_all() {
        let (code, offered) = decode_api_versions(ANSWER, 3).unwrap();
        assert!(code.is_ok());
        assert_eq!(offered[0], VersionRange { key: 12, lowest: 0, highest: 9 });
        let list_bytes = 17;
        for cut in 0..list_bytes {
            assert_eq!(decode_api_versions(&ANSWER[..cut], 3), None, "cut at {cut}");
        }
    }

    #[test]
    fn what_real_brokers_offer_is_understood() {
        let answers = recorded().filter(|recorded| recorded.key == ApiKey::ApiVersions as i16);
        let mut brokers = 0;
        for Recorded { version, body, .. } in answers {
            let (code, offered) = decode_api_versions(body, version).unwrap();
            assert!(code.is_ok());
            for api in APIS {
                let offered = offered.iter().find(|offered| offered.key == api.key as i16);
                assert!(offered.is_some_and(|offered| highest_common(*api, offered).is_some()), "{}", api.name);
            }
            brokers += 1;
        }
        assert_eq!(brokers, 2);
    }
}
