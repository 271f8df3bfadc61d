//! A Kafka cluster as seen from outside: who its brokers are and which of them leads which partition.
//!
//! One [`Cluster`] is shared by everything that talks to it (fetchers, group, producer). It keeps the last metadata for
//! all to read, and one connection over which whatever any broker can answer is asked. When that connection fails, the
//! brokers last seen are tried, then the bootstrap list: a cluster whose brokers have all moved is found again.
//!
//! APIs: Metadata (3), FindCoordinator (10). Offsets by time are asked in [`offsets`](super::offsets).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::find_coordinator_response::FindCoordinatorResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{MetadataResponse, MetadataResponseTopic};
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};
use log::{debug, info, warn};
use parking_lot::Mutex;
use uuid::Uuid;

use super::connection::{Connection, ConnectionOptions};
use super::diagnosis;
use super::error::{Code, Error};
use crate::door;

/// Two metadata requests are at least this far apart, as `retry.backoff.ms` of the Java client.
pub const REFRESH_BACKOFF: Duration = Duration::from_millis(100);

/// What the cluster last said about itself.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// `None` before Kafka 0.10.1, or when the broker has none.
    pub cluster_id: Option<Arc<str>>,
    /// By name; topics that were asked for and do not exist are there too, with their error.
    pub topics: BTreeMap<Arc<str>, Topic>,
    /// Addresses (`host:port`) by node id.
    pub brokers: BTreeMap<i32, String>,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Nil where the broker has no topic ids.
    pub id: Uuid,
    /// In the order of their indexes.
    pub partitions: Vec<Partition>,
    pub error: Code,
    /// Whether it belongs to Kafka itself (`__consumer_offsets`).
    pub internal: bool,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub index: i32,
    /// Node id; `None` while one is being elected.
    pub leader: Option<i32>,
    /// −1 where the broker has none.
    pub leader_epoch: i32,
    pub error: Code,
}

impl Metadata {
    /// One partition, if it is known.
    pub fn partition(&self, topic: &str, index: i32) -> Option<&Partition> {
        let partitions = &self.topics.get(topic)?.partitions;
        partitions.binary_search_by_key(&index, |partition| partition.index).ok().map(|at| &partitions[at])
    }

    /// The node that leads a partition, if it has a leader that is known.
    pub fn leader(&self, topic: &str, index: i32) -> Option<i32> {
        self.partition(topic, index)?.leader
    }
}

/// Which topics a refresh asks about.
#[derive(Clone, Copy, Debug)]
pub enum TopicsWanted<'a> {
    /// Every topic there is. Topics that are gone are forgotten.
    All,
    /// These; what is known of others stays.
    Names(&'a [Arc<str>]),
}

/// A cluster; clones share it.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    bootstrap: Vec<String>,
    options: ConnectionOptions,
    /// Replaced whole, never held while waiting.
    metadata: Mutex<Arc<Metadata>>,
    /// Held while asking: whoever comes meanwhile waits and then finds the answer there.
    asking: Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    connection: Option<Connection>,
    /// When the last successful refresh began, and for what; `None` is all topics.
    last: Option<(Instant, Option<BTreeSet<Arc<str>>>)>,
    /// When the last attempt ended, whether or not it succeeded.
    last_ended: Option<Instant>,
}

impl Cluster {
    /// Finds a cluster from any of the addresses (`host:port`) in `bootstrap`. Dead ones are fine while one lives.
    ///
    /// # Errors
    /// [`Error::Security`] when TLS or SASL failed with one; [`Error::NoBroker`] with the reason for each address; with
    /// one address, that reason itself.
    pub fn connect(bootstrap: &[String], options: ConnectionOptions) -> Result<Cluster, Error> {
        if bootstrap.is_empty() {
            return Err(Error::Invalid(
                "no bootstrap address is given: write host:port, such as localhost:9092".into(),
            ));
        }
        let cluster = Cluster {
            shared: Arc::new(Shared {
                bootstrap: bootstrap.to_vec(),
                options,
                metadata: Mutex::default(),
                asking: Mutex::default(),
            }),
        };
        cluster.shared.options.security.warn_of_weakness();
        let metadata = cluster.refresh(TopicsWanted::Names(&[]))?;
        let id = metadata.cluster_id.as_deref().unwrap_or("without an id");
        info!("connected to the Kafka cluster {id} with {} brokers", metadata.brokers.len());
        Ok(cluster)
    }

    /// The cluster's id, where it has one.
    pub fn id(&self) -> Option<Arc<str>> {
        self.metadata().cluster_id.clone()
    }

    /// How connections to this cluster are made.
    pub fn options(&self) -> &ConnectionOptions {
        &self.shared.options
    }

    /// What was last heard.
    pub fn metadata(&self) -> Arc<Metadata> {
        self.shared.metadata.lock().clone()
    }

    /// Asks any live broker for metadata. Callers at the same time share one request, and requests keep
    /// [`REFRESH_BACKOFF`] apart.
    ///
    /// # Errors
    /// [`Error::NoBroker`] when nobody answers. Errors of single topics are in the metadata.
    pub fn refresh(&self, topics: TopicsWanted<'_>) -> Result<Arc<Metadata>, Error> {
        let wanted_since = door::now();
        let mut asking = self.shared.asking.lock();
        if asking.has_answered(topics, wanted_since) {
            return Ok(self.metadata());
        }
        asking.keep_apart();
        let began = door::now();
        let answer = self.ask_any(&mut asking, |_| metadata_request(topics));
        asking.last_ended = Some(door::now());
        let mut metadata = read_metadata(answer?.1);
        asking.last = Some((began, topics.names()));
        let mut known = self.shared.metadata.lock();
        if let TopicsWanted::Names(_) = topics {
            let kept = known.topics.iter().filter(|(name, _)| !metadata.topics.contains_key(*name));
            let kept: Vec<_> = kept.map(|(name, topic)| (name.clone(), topic.clone())).collect();
            metadata.topics.extend(kept);
        }
        *known = Arc::new(metadata);
        Ok(known.clone())
    }

    /// The address (`host:port`) of a broker that is known.
    pub fn broker_address(&self, node: i32) -> Option<String> {
        self.metadata().brokers.get(&node).cloned()
    }

    /// Opens a connection to a broker by its node id.
    ///
    /// # Errors
    /// [`Error::NoBroker`] when the node is not in the metadata; those of [`Connection::open`].
    pub fn connect_to(&self, node: i32) -> Result<Connection, Error> {
        let address = self.broker_address(node).ok_or_else(|| Error::NoBroker {
            tried: vec![(format!("node {node}"), "the cluster's metadata does not list it at the moment".into())],
        })?;
        Connection::open(&address, &self.shared.options)
    }

    /// Node id and address of the broker that coordinates a consumer group.
    ///
    /// # Errors
    /// [`Error::Broker`], retriable while there is no coordinator; [`Error::NoBroker`].
    pub fn find_group_coordinator(&self, group: &str) -> Result<(i32, String), Error> {
        let key = StrBytes::from_string(group.into());
        // Versions from 4 on take a list of keys (KIP-699); the encoder refuses the field that a version does not have.
        let single = FindCoordinatorRequest::default().with_key(key.clone()).with_key_type(0);
        let batched = FindCoordinatorRequest::default().with_coordinator_keys(vec![key]).with_key_type(0);
        let (address, answer) = self.ask_any(&mut self.shared.asking.lock(), |connection| {
            if connection.supports::<FindCoordinatorRequest>(4) { batched.clone() } else { single.clone() }
        })?;
        read_coordinator(&address, group, answer)
    }

    /// Asks any broker, and says at which address it answered.
    pub(crate) fn ask<R: Request + Clone>(&self, request: &R) -> Result<(String, R::Response), Error> {
        self.ask_any(&mut self.shared.asking.lock(), |_| request.clone())
    }

    /// Asks over the kept connection; when that fails, over a new one to any broker. What is asked may depend on the
    /// versions that the broker offers.
    fn ask_any<R: Request>(
        &self,
        asking: &mut Asking,
        request: impl Fn(&Connection) -> R,
    ) -> Result<(String, R::Response), Error> {
        if let Some(connection) = &mut asking.connection {
            match connection.call(&request(connection)) {
                Ok(answer) => return Ok((connection.address().into(), answer)),
                // Ordinary after ten idle minutes: brokers close such connections (connections.max.idle.ms).
                Err(error) => debug!("asking another broker: {error}"),
            }
            asking.connection = None;
        }
        self.try_each(|address| {
            let mut connection = Connection::open(address, &self.shared.options)?;
            let answer = connection.call(&request(&connection))?;
            asking.connection = Some(connection);
            Ok((address.to_string(), answer))
        })
    }

    /// Tries the known brokers and the bootstrap list until one gives a result.
    fn try_each<T>(&self, mut attempt: impl FnMut(&str) -> Result<T, Error>) -> Result<T, Error> {
        let mut failures: Vec<(String, Error)> = Vec::new();
        for address in self.candidates() {
            match attempt(&address) {
                Ok(result) => {
                    for (_, error) in failures {
                        warn!("passed over a broker: {error}");
                    }
                    return Ok(result);
                }
                Err(error) => {
                    let reason = diagnosis::reason_of(error, &address, &self.shared.options);
                    failures.push((address, reason));
                }
            }
        }
        // What is wrong between us and one broker is so with all, and tells more than that others are down.
        let refused = failures.iter().position(|(_, error)| matches!(error, Error::Security { .. }));
        if let Some(telling) = refused.or((failures.len() == 1).then_some(0)) {
            return Err(failures.swap_remove(telling).1);
        }
        Err(Error::NoBroker { tried: failures.into_iter().map(|(address, error)| (address, error.reason())).collect() })
    }

    /// Known brokers from a random one on, so that clients spread out, then the bootstrap list in its order.
    fn candidates(&self) -> Vec<String> {
        let mut candidates: Vec<String> = self.metadata().brokers.values().cloned().collect();
        if !candidates.is_empty() {
            let first = (door::random() % candidates.len() as u64) as usize;
            candidates.rotate_left(first);
        }
        for address in &self.shared.bootstrap {
            if !candidates.contains(address) {
                candidates.push(address.clone());
            }
        }
        candidates
    }
}

impl Asking {
    /// Whether a refresh that began after `since` covers these topics.
    fn has_answered(&self, topics: TopicsWanted<'_>, since: Instant) -> bool {
        let Some((began, answered)) = &self.last else { return false };
        *began >= since
            && match (answered, topics) {
                (None, _) => true,
                (Some(_), TopicsWanted::All) => false,
                (Some(answered), TopicsWanted::Names(names)) => names.iter().all(|name| answered.contains(name)),
            }
    }

    fn keep_apart(&self) {
        let Some(ended) = self.last_ended else { return };
        let since = door::now().saturating_duration_since(ended);
        if let Some(left) = REFRESH_BACKOFF.checked_sub(since) {
            door::sleep(left);
        }
    }
}

impl TopicsWanted<'_> {
    fn names(self) -> Option<BTreeSet<Arc<str>>> {
        match self {
            TopicsWanted::All => None,
            TopicsWanted::Names(names) => Some(names.iter().cloned().collect()),
        }
    }
}

/// A topic's name as the message types want it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.into()))
}

pub(crate) fn metadata_request(topics: TopicsWanted<'_>) -> MetadataRequest {
    let topic = |name: &Arc<str>| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    MetadataRequest::default().with_allow_auto_topic_creation(false).with_topics(match topics {
        TopicsWanted::All => None,
        TopicsWanted::Names(names) => Some(names.iter().map(topic).collect()),
    })
}

fn read_metadata(answer: MetadataResponse) -> Metadata {
    let brokers = answer.brokers.iter().map(|broker| (broker.node_id.0, join_address(&broker.host, broker.port)));
    Metadata {
        cluster_id: answer.cluster_id.as_deref().map(Arc::from),
        brokers: brokers.collect(),
        topics: answer.topics.iter().filter_map(read_topic).collect(),
    }
}

fn read_topic(topic: &MetadataResponseTopic) -> Option<(Arc<str>, Topic)> {
    let name: Arc<str> = Arc::from(topic.name.as_ref()?.as_str());
    let mut partitions: Vec<Partition> = topic
        .partitions
        .iter()
        .map(|partition| Partition {
            index: partition.partition_index,
            leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
            leader_epoch: partition.leader_epoch,
            error: Code(partition.error_code),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    Some((name, Topic { id: topic.topic_id, partitions, error: Code(topic.error_code), internal: topic.is_internal }))
}

fn read_coordinator(address: &str, group: &str, answer: FindCoordinatorResponse) -> Result<(i32, String), Error> {
    let (code, message, node, host, port) = match answer.coordinators.into_iter().next() {
        Some(found) => (found.error_code, found.error_message, found.node_id, found.host, found.port),
        None => (answer.error_code, answer.error_message, answer.node_id, answer.host, answer.port),
    };
    if code != 0 {
        return Err(Error::Broker {
            address: address.into(),
            api: "FindCoordinator",
            subject: format!("group {group}"),
            code: Code(code),
            message: message.map(|text| text.to_string()),
        });
    }
    Ok((node.0, join_address(&host, port)))
}

/// `host:port`, with an IPv6 address in brackets.
pub(crate) fn join_address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::super::scripted::{Answer, Call, ScriptedBroker};
    use super::*;
    use kafka_protocol::messages::find_coordinator_response::Coordinator;
    use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition};
    use kafka_protocol::messages::{ApiKey, ListOffsetsRequest};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const OFFERED: &[(ApiKey, i16)] = &[(ApiKey::Metadata, 13), (ApiKey::FindCoordinator, 6)];

    fn options() -> ConnectionOptions {
        let timeout = Duration::from_secs(5);
        ConnectionOptions { connect_timeout: timeout, request_timeout: timeout, ..ConnectionOptions::default() }
    }

    /// An address that nobody listens on.
    fn dead_port() -> i32 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().into()
    }

    fn dead_address() -> String {
        format!("127.0.0.1:{}", dead_port())
    }

    fn broker(node: i32, port: i32) -> MetadataResponseBroker {
        let host = StrBytes::from_static_str("127.0.0.1");
        MetadataResponseBroker::default().with_node_id(node.into()).with_host(host).with_port(port)
    }

    fn topic(name: &str, leaders: &[i32]) -> MetadataResponseTopic {
        let partition = |(index, leader): (usize, &i32)| {
            MetadataResponsePartition::default().with_partition_index(index as i32).with_leader_id((*leader).into())
        };
        // Brokers promise no order.
        let partitions = leaders.iter().enumerate().map(partition).rev().collect();
        MetadataResponseTopic::default().with_name(Some(topic_name(name))).with_partitions(partitions)
    }

    /// Answers metadata requests: one broker, and of the topics `a` and `b` those that are asked for.
    fn metadata(call: &Call, port: i32) -> Answer {
        let request: MetadataRequest = call.read();
        assert!(!request.allow_auto_topic_creation);
        let wanted = |name: &str| {
            let named = |topic: &MetadataRequestTopic| topic.name.as_ref().is_some_and(|asked| asked.as_str() == name);
            request.topics.as_ref().is_none_or(|topics| topics.iter().any(named))
        };
        let topics = ["a", "b"].into_iter().filter(|name| wanted(name)).map(|name| topic(name, &[1, -1]));
        let answer = MetadataResponse::default()
            .with_brokers(vec![broker(1, port)])
            .with_cluster_id(Some(StrBytes::from_static_str("test")))
            .with_topics(topics.collect());
        call.answer(answer)
    }

    fn names(metadata: &Metadata) -> Vec<&str> {
        metadata.topics.keys().map(|name| &**name).collect()
    }

    #[test]
    fn a_dead_first_address_is_passed_over() {
        let live = ScriptedBroker::start(OFFERED, metadata);
        let cluster = Cluster::connect(&[dead_address(), live.address.clone()], options()).unwrap();
        assert_eq!(cluster.id().as_deref(), Some("test"));
        assert_eq!(cluster.broker_address(1), Some(live.address.clone()));
        assert!(cluster.connect_to(1).is_ok());
        assert!(cluster.connect_to(2).err().expect("no such node").to_string().contains("node 2"));
    }

    #[test]
    fn when_nobody_answers_every_address_is_named_with_its_reason() {
        let [first, second] = [dead_address(), dead_address()];
        let error = Cluster::connect(&[first.clone(), second.clone()], options()).err().expect("nobody is there");
        let text = error.to_string();
        assert!(text.contains(&first) && text.contains(&second) && text.contains("refused"), "{text}");
        assert!(error.is_unavailable());
        let error = Cluster::connect(&[first], options()).err().expect("nobody is there");
        assert!(matches!(error, Error::Io { .. }), "one address gives its own reason: {error:?}");
        assert!(matches!(Cluster::connect(&[], options()), Err(Error::Invalid(_))));
    }

    #[test]
    fn named_topics_are_added_and_all_topics_replace() {
        let live = ScriptedBroker::start(OFFERED, metadata);
        let cluster = Cluster::connect(std::slice::from_ref(&live.address), options()).unwrap();
        assert!(cluster.metadata().topics.is_empty());
        let [a, b, c]: [Arc<str>; 3] = ["a".into(), "b".into(), "c".into()];
        assert_eq!(names(&cluster.refresh(TopicsWanted::Names(&[a])).unwrap()), ["a"]);
        assert_eq!(names(&cluster.refresh(TopicsWanted::Names(&[b, c])).unwrap()), ["a", "b"]);
        let all = cluster.refresh(TopicsWanted::All).unwrap();
        assert_eq!((all.leader("a", 0), all.leader("a", 1), all.leader("a", 2)), (Some(1), None, None));
        assert_eq!(all.partition("a", 1).map(|partition| partition.index), Some(1));
    }

    #[test]
    fn a_connection_that_went_away_is_replaced_and_the_bootstrap_list_is_the_last_resort() {
        let asked = AtomicUsize::new(0);
        let moved_to = dead_port();
        // Every second request finds the connection closed; the only broker listed cannot be reached.
        let live = ScriptedBroker::start(OFFERED, move |call, _| {
            if asked.fetch_add(1, Ordering::Relaxed) % 2 == 1 {
                return Answer::HangUp;
            }
            call.answer(MetadataResponse::default().with_brokers(vec![broker(7, moved_to)]))
        });
        let cluster = Cluster::connect(std::slice::from_ref(&live.address), options()).unwrap();
        for _ in 0..3 {
            let metadata = cluster.refresh(TopicsWanted::All).unwrap();
            assert_eq!(metadata.brokers.keys().collect::<Vec<_>>(), [&7]);
        }
    }

    #[test]
    fn a_refresh_that_began_after_the_question_answers_it() {
        let now = door::now();
        let later = now + Duration::from_millis(1);
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let some = Some(BTreeSet::from([a.clone()]));
        for (began, answered, wanted, expected) in [
            (later, None, TopicsWanted::All, true),
            (later, None, TopicsWanted::Names(std::slice::from_ref(&b)), true),
            (later, some.clone(), TopicsWanted::Names(std::slice::from_ref(&a)), true),
            (later, some.clone(), TopicsWanted::Names(std::slice::from_ref(&b)), false),
            (later, some.clone(), TopicsWanted::All, false),
            (now, None, TopicsWanted::All, true),
        ] {
            let asking = Asking { last: Some((began, answered)), ..Asking::default() };
            assert_eq!(asking.has_answered(wanted, now), expected, "{wanted:?}");
            assert!(!asking.has_answered(wanted, later + Duration::from_millis(1)), "it began too early: {wanted:?}");
        }
        assert!(!Asking::default().has_answered(TopicsWanted::All, now));
    }

    #[test]
    fn a_coordinator_is_found_in_both_forms_of_the_request() {
        for highest in [3, 6] {
            let offered = [(ApiKey::Metadata, 12), (ApiKey::FindCoordinator, highest)];
            let live = ScriptedBroker::start(&offered, |call, port| match call.key {
                ApiKey::FindCoordinator => {
                    let request: FindCoordinatorRequest = call.read();
                    let key = request.coordinator_keys.first().unwrap_or(&request.key);
                    let (node, code) = if &**key == "ours" { (4, 0) } else { (-1, 15) };
                    let host = StrBytes::from_static_str("::1");
                    let answer = FindCoordinatorResponse::default();
                    call.answer(if call.version >= 4 {
                        let found = Coordinator::default().with_key(key.clone()).with_node_id(node.into());
                        answer.with_coordinators(vec![found.with_host(host).with_port(9092).with_error_code(code)])
                    } else {
                        answer.with_node_id(node.into()).with_host(host).with_port(9092).with_error_code(code)
                    })
                }
                _ => metadata(call, port),
            });
            let cluster = Cluster::connect(std::slice::from_ref(&live.address), options()).unwrap();
            assert_eq!(cluster.find_group_coordinator("ours"), Ok((4, "[::1]:9092".into())), "version {highest}");
            let error = cluster.find_group_coordinator("other").unwrap_err();
            assert_eq!(error.code(), Some(Code::COORDINATOR_NOT_AVAILABLE), "version {highest}");
            assert!(error.is_retriable() && error.to_string().contains("group other"), "{error}");
        }
    }

    #[test]
    fn a_broker_without_the_api_is_named() {
        let live = ScriptedBroker::start(OFFERED, metadata);
        let cluster = Cluster::connect(std::slice::from_ref(&live.address), options()).unwrap();
        let error = cluster.ask(&ListOffsetsRequest::default()).unwrap_err();
        assert!(error.to_string().contains("the broker offers ListOffsets in no version"), "{error}");
    }
}
