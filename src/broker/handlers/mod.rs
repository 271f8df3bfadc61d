//! What the broker answers: one function per API, by theme. [`SUPPORTED`] says which APIs and versions there are.

mod admin;
mod consumer_group;
mod fetch;
mod group;
mod metadata;
mod offsets;
mod produce;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestKind, ResponseKind, api_versions_response};
use kafka_protocol::protocol::StrBytes;

use super::Shared;

/// The APIs with their lowest and highest version. Produce says 0 though 3 is the first it takes: as with Kafka 4,
/// because older clients look at this number to learn what else a broker can do.
const SUPPORTED: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Produce, 0, 11),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 9),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::CreatePartitions, 0, 3),
    (ApiKey::DeleteGroups, 0, 2),
    (ApiKey::DescribeCluster, 0, 2),
    (ApiKey::ConsumerGroupHeartbeat, 0, 1),
];

/// Who asks, and for what the answer must account.
pub struct Context<'a> {
    pub shared: &'a Shared,
    pub version: i16,
    pub client_id: &'a str,
    pub client_host: &'a str,
    pub refusal: Option<Refusal>,
}

/// A scripted error: nothing is done and this code is answered, for everything or for one partition.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub code: i16,
    pub partition: Option<i32>,
}

impl Context<'_> {
    /// The scripted error for a request as a whole.
    fn refused(&self) -> Option<i16> {
        self.refusal.map(|refusal| refusal.code)
    }

    /// The scripted error for what the request wants of one partition.
    fn refused_at(&self, partition: i32) -> Option<i16> {
        let hits = |refusal: &Refusal| refusal.partition.is_none_or(|hit| hit == partition);
        self.refusal.filter(hits).map(|refusal| refusal.code)
    }
}

/// What follows from a request.
pub enum Answer {
    Response(Box<ResponseKind>),
    /// The client wants no answer (acks = 0).
    Nothing,
    /// The connection ends, for this reason.
    Hangup(String),
}

impl Answer {
    fn of(response: impl Into<ResponseKind>) -> Self {
        Self::Response(Box::new(response.into()))
    }
}

/// Whether the broker takes this version of this API.
pub fn supported(api: ApiKey, version: i16) -> bool {
    let in_range = |&(key, min, max): &(ApiKey, i16, i16)| key == api && (min..=max).contains(&version);
    SUPPORTED.iter().any(in_range)
}

/// Every version of every API, for tests.
#[cfg(test)]
pub fn supported_versions() -> impl Iterator<Item = (ApiKey, i16)> {
    // Produce before version 3 is announced, but has no message any more.
    let is_served = |&(api, version): &(ApiKey, i16)| api != ApiKey::Produce || version >= 3;
    SUPPORTED.iter().flat_map(|&(api, min, max)| (min..=max).map(move |version| (api, version))).filter(is_served)
}

/// Answers a request of a supported version. May block: for records to come, for a rebalance to end.
pub fn answer(context: &Context, request: RequestKind) -> Answer {
    match request {
        RequestKind::ApiVersions(_) => Answer::of(api_versions(context.refused().unwrap_or(0))),
        RequestKind::Metadata(request) => Answer::of(metadata::metadata(context, request)),
        RequestKind::FindCoordinator(request) => Answer::of(metadata::find_coordinator(context, request)),
        RequestKind::DescribeCluster(_) => Answer::of(metadata::describe_cluster(context)),
        RequestKind::Produce(request) => produce::produce(context, request),
        RequestKind::InitProducerId(request) => Answer::of(produce::init_producer_id(context, &request)),
        RequestKind::Fetch(request) => Answer::of(fetch::fetch(context, request)),
        RequestKind::ListOffsets(request) => Answer::of(fetch::list_offsets(context, request)),
        RequestKind::OffsetForLeaderEpoch(request) => Answer::of(fetch::offset_for_leader_epoch(context, request)),
        RequestKind::JoinGroup(request) => group::join(context, request),
        RequestKind::SyncGroup(request) => group::sync(context, request),
        RequestKind::Heartbeat(request) => Answer::of(group::heartbeat(context, &request)),
        RequestKind::LeaveGroup(request) => Answer::of(group::leave(context, request)),
        RequestKind::ConsumerGroupHeartbeat(request) => Answer::of(consumer_group::heartbeat(context, &request)),
        RequestKind::DescribeGroups(request) => Answer::of(group::describe(context, request)),
        RequestKind::ListGroups(request) => Answer::of(group::list(context, &request)),
        RequestKind::DeleteGroups(request) => Answer::of(group::delete(context, request)),
        RequestKind::OffsetCommit(request) => Answer::of(offsets::commit(context, request)),
        RequestKind::OffsetFetch(request) => Answer::of(offsets::fetch(context, request)),
        RequestKind::CreateTopics(request) => Answer::of(admin::create_topics(context, request)),
        RequestKind::DeleteTopics(request) => Answer::of(admin::delete_topics(context, request)),
        RequestKind::CreatePartitions(request) => Answer::of(admin::create_partitions(context, request)),
        RequestKind::DeleteRecords(request) => Answer::of(admin::delete_records(context, request)),
        RequestKind::DescribeConfigs(request) => Answer::of(admin::describe_configs(context, request)),
        _ => Answer::Hangup("this API is not supported".to_owned()),
    }
}

/// The answer to ApiVersions in a version we do not know, to be sent in version 0: error 35 and what we do know.
pub fn unsupported_api_versions() -> ResponseKind {
    api_versions(ResponseError::UnsupportedVersion.code()).into()
}

fn api_versions(error_code: i16) -> ApiVersionsResponse {
    let range = |&(key, min, max): &(ApiKey, i16, i16)| {
        api_versions_response::ApiVersion::default()
            .with_api_key(key as i16)
            .with_min_version(min)
            .with_max_version(max)
    };
    ApiVersionsResponse::default().with_error_code(error_code).with_api_keys(SUPPORTED.iter().map(range).collect())
}

fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bytes::BytesMut;

    use super::*;
    use crate::broker::shape::testing::example;
    use crate::broker::{BrokerOptions, Shared};

    /// A broker without threads that has the topic `a`, with records.
    fn shared() -> Shared {
        let shared = Shared::new(&BrokerOptions::default(), SocketAddr::from(([127, 0, 0, 1], 9092)));
        let topic = shared.topics.create("a", 1).unwrap();
        topic.partition(0).unwrap().lock().append(&crate::broker::batch::testing::plain(3)).unwrap();
        shared
    }

    fn answered(shared: &Shared, refusal: Option<Refusal>, api: ApiKey, version: i16) -> Option<ResponseKind> {
        let mut body = example(api, version).into();
        let request = RequestKind::decode(api, &mut body, version).unwrap();
        let context = Context { shared, version, client_id: "test", client_host: "127.0.0.1", refusal };
        match answer(&context, request) {
            Answer::Response(response) => Some(*response),
            Answer::Nothing => None,
            Answer::Hangup(why) => {
                assert_eq!(api, ApiKey::Produce, "{api:?} {version}: {why}");
                None
            }
        }
    }

    #[test]
    fn every_answer_can_be_sent_in_the_version_of_its_request() {
        for refusal in [None, Some(Refusal { code: 7, partition: None })] {
            for (api, version) in supported_versions() {
                let Some(response) = answered(&shared(), refusal, api, version) else { continue };
                let mut bytes = BytesMut::new();
                let encoded = response.encode(&mut bytes, version);
                assert!(encoded.is_ok(), "{api:?} {version}: {encoded:?}");
                let mut rest = bytes.freeze();
                let decoded = ResponseKind::decode(api, &mut rest, version);
                assert!(
                    decoded.is_ok() && rest.is_empty(),
                    "{api:?} {version}: {decoded:?}, {} bytes left",
                    rest.len()
                );
            }
        }
    }

    #[test]
    fn a_scripted_error_reaches_every_answer_that_can_carry_one() {
        // The example of Produce wants no answer.
        for (api, version) in supported_versions().filter(|(api, _)| *api != ApiKey::Produce) {
            let refusal = Some(Refusal { code: 1_234, partition: None });
            let response = answered(&shared(), refusal, api, version).unwrap();
            let said = format!("{response:?}").contains("error_code: 1234");
            assert!(said, "{api:?} {version}: {response:?}");
        }
    }
}
