//! The thread `konekt-commit`: the group's offsets in Kafka. It has a connection to the coordinator of its own, so that
//! neither a held JoinGroup nor a heartbeat waits behind a commit, nor the other way round.
//!
//! - Commits are merged, the latest position of a partition wins, and one request is in flight at a time. What the
//!   group refuses during a rebalance is tried again in the next generation, if the partition is still ours then; a
//!   position of a partition that is not ours any more is refused here already.
//! - A position is committed to the topic that it was read from, not to one that was made anew under its name
//!   (`origin.rs`).
//! - A release is answered to the keeper when the positions that came with it are committed, or hopeless.
//! - An assigned partition is described before the application hears of it (`describe.rs`).
//! - Surveys come last, and of several that wait only the newest is made: a leader that cannot be reached makes them slow.
//!
//! Source: API key 8 (OffsetCommit).

mod describe;
mod origin;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{GroupId, OffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::cluster::{Cluster, topic_name};
use crate::kafka::connection::Connection;
use crate::kafka::consumer::{ConsumerOptions, Event, Positions, Reporter, TopicSelection, tell};
use crate::kafka::error::{Code, Error};
use crate::kafka::group::Credentials;
use crate::kafka::keeper;
use crate::kafka::offsets::Isolation;

/// A release whose commit does not succeed lets the others wait no longer than this.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_BASE: Duration = Duration::from_millis(50);
const RETRY_CAP: Duration = Duration::from_secs(2);

/// Who we are in the group at the moment, and what is ours. Written by the keeper alone.
#[derive(Clone, Debug)]
pub struct Membership {
    pub credentials: Credentials,
    pub owned: BTreeSet<TopicPartition>,
}

impl Default for Membership {
    fn default() -> Self {
        Self { credentials: Credentials::nobody(), owned: BTreeSet::new() }
    }
}

/// What the committer is told.
pub enum Command {
    Commit(Positions),
    /// Commit, then tell the keeper that the partitions are given up.
    Release {
        partitions: Vec<TopicPartition>,
        positions: Positions,
    },
    /// Look up where these stand. The round comes back with the answer.
    Describe {
        partitions: Vec<TopicPartition>,
        round: u64,
    },
    /// Report where these stand, whoever has them.
    Survey(Vec<TopicPartition>),
    /// These are not ours any more.
    Forget(Vec<TopicPartition>),
    /// Commit, answer, and end.
    Close {
        positions: Positions,
        until: Instant,
        answer: Sender<Result<(), Error>>,
    },
    /// End at once.
    Stop,
}

struct Release {
    partitions: BTreeSet<TopicPartition>,
    until: Instant,
}

struct Closing {
    until: Instant,
    answer: Sender<Result<(), Error>>,
}

/// A thing to try again later.
struct Retry {
    at: Instant,
    backoff: Backoff,
}

impl Retry {
    fn new() -> Self {
        Self { at: door::now(), backoff: Backoff::new(RETRY_BASE, RETRY_CAP) }
    }

    fn worked(&mut self) {
        self.backoff.reset();
        self.at = door::now();
    }

    fn failed(&mut self, again: TryAgain) {
        self.at = match again {
            TryAgain::AtOnce => door::now(),
            TryAgain::Later => door::now() + self.backoff.fail(door::random()),
        };
    }
}

/// When.
#[derive(Clone, Copy)]
enum TryAgain {
    AtOnce,
    Later,
}

/// The thread's state.
pub struct Committer {
    cluster: Cluster,
    commands: Receiver<Command>,
    keeper: Sender<keeper::Command>,
    reporter: Reporter,
    membership: Arc<Mutex<Membership>>,
    group_id: Arc<str>,
    instance: Option<Arc<str>>,
    isolation: Isolation,
    /// The partitions are given by number; we are no member.
    is_alone: bool,
    connection: Option<Connection>,
    /// Whether something was answered over it.
    connection_worked: bool,
    pending: BTreeMap<TopicPartition, i64>,
    /// Of each assigned partition, the id of its topic.
    topic_ids: BTreeMap<TopicPartition, Uuid>,
    /// Topics that a commit did not find.
    doubted: BTreeSet<Arc<str>>,
    commit_retry: Retry,
    releases: Vec<Release>,
    describing: BTreeMap<TopicPartition, u64>,
    describe_retry: Retry,
    surveying: Option<Vec<TopicPartition>>,
    closing: Option<Closing>,
    last_error: Option<Error>,
}

impl Committer {
    pub(super) fn new(
        cluster: Cluster,
        commands: Receiver<Command>,
        keeper: Sender<keeper::Command>,
        reporter: Reporter,
        membership: Arc<Mutex<Membership>>,
        options: &ConsumerOptions,
    ) -> Self {
        Self {
            cluster,
            commands,
            keeper,
            reporter,
            membership,
            group_id: options.group_id.as_str().into(),
            instance: options.group_instance_id.as_deref().map(Arc::from),
            isolation: options.isolation,
            is_alone: matches!(options.topics, TopicSelection::Partitions(_)),
            connection: None,
            connection_worked: false,
            pending: BTreeMap::new(),
            topic_ids: BTreeMap::new(),
            doubted: BTreeSet::new(),
            commit_retry: Retry::new(),
            releases: Vec::new(),
            describing: BTreeMap::new(),
            describe_retry: Retry::new(),
            surveying: None,
            closing: None,
            last_error: None,
        }
    }

    /// Works until told to end.
    pub fn run(mut self) {
        while self.hear() {
            let now = door::now();
            if !self.pending.is_empty() && now >= self.commit_retry.at {
                self.commit();
            }
            self.answer_releases();
            if self.has_closed() {
                return;
            }
            if !self.describing.is_empty() && door::now() >= self.describe_retry.at {
                self.describe();
            }
            if let Some(partitions) = self.surveying.take() {
                self.survey(&partitions);
            }
        }
    }

    /// Waits for a command or the time of the next attempt, and takes all commands that are there. False: the end.
    fn hear(&mut self) -> bool {
        match self.wait() {
            Ok(command) => {
                let first = self.obey(command);
                let rest: Vec<Command> = self.commands.try_iter().collect();
                rest.into_iter().fold(first, |goes_on, command| self.obey(command) && goes_on)
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    fn wait(&self) -> Result<Command, RecvTimeoutError> {
        let times = [
            (!self.pending.is_empty()).then_some(self.commit_retry.at),
            (!self.describing.is_empty()).then_some(self.describe_retry.at),
            self.closing.as_ref().map(|closing| closing.until),
            self.releases.iter().map(|release| release.until).min(),
        ];
        match times.into_iter().flatten().min() {
            Some(at) => self.commands.recv_deadline(at),
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Commit(positions) => self.pending.extend(positions),
            Command::Release { partitions, positions } => {
                self.pending.extend(positions);
                let until = door::now() + RELEASE_TIMEOUT;
                self.releases.push(Release { partitions: partitions.into_iter().collect(), until });
                self.commit_retry.worked(); // the others wait for us: do not sit out an earlier failure
            }
            Command::Describe { partitions, round } => {
                self.describing.extend(partitions.into_iter().map(|partition| (partition, round)));
                self.describe_retry.worked();
            }
            Command::Survey(partitions) => self.surveying = Some(partitions),
            Command::Forget(partitions) => self.forget(&partitions),
            Command::Close { positions, until, answer } => {
                self.pending.extend(positions);
                self.describing.clear();
                self.surveying = None;
                self.closing = Some(Closing { until, answer });
                self.commit_retry.worked();
            }
            Command::Stop => return false,
        }
        true
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        self.describing.retain(|partition, _| !partitions.contains(partition));
        for release in &mut self.releases {
            release.partitions.retain(|partition| !partitions.contains(partition));
        }
        self.releases.retain(|release| !release.partitions.is_empty());
        let gone: Vec<TopicPartition> = partitions.iter().filter(|of| self.pending.contains_key(of)).cloned().collect();
        self.refuse(&gone, not_ours());
    }

    /// Tells the application that these positions will not be committed.
    fn refuse(&mut self, partitions: &[TopicPartition], error: Error) {
        let positions: Positions = partitions.iter().filter_map(|of| self.pending.remove_entry(of)).collect();
        if !positions.is_empty() {
            self.reporter.send(Event::Committed { positions, result: Err(error) });
        }
    }

    fn answer_releases(&mut self) {
        let now = door::now();
        let pending = &self.pending;
        let is_done = |release: &Release| !release.partitions.iter().any(|partition| pending.contains_key(partition));
        let (over, still): (Vec<Release>, _) = std::mem::take(&mut self.releases)
            .into_iter()
            .partition(|release| is_done(release) || now >= release.until);
        self.releases = still;
        for release in over {
            let partitions: Vec<TopicPartition> = release.partitions.into_iter().collect();
            let error = self.last_error.clone().unwrap_or_else(not_ours);
            self.refuse(&partitions, error);
            tell(&self.keeper, keeper::Command::Released(partitions));
        }
    }

    fn has_closed(&mut self) -> bool {
        let Some(closing) = &self.closing else { return false };
        if !self.pending.is_empty() && door::now() < closing.until {
            return false;
        }
        let error = self.last_error.clone().unwrap_or_else(|| Error::Invalid("the last commit came too late".into()));
        let result = if self.pending.is_empty() { Ok(()) } else { Err(error) };
        let _ = closing.answer.send(result); // who closes may have given up waiting
        true
    }

    /// A connection to the group's coordinator.
    fn coordinator(&mut self) -> Result<&mut Connection, Error> {
        if self.connection.is_none() {
            let (_, address) = self.cluster.find_group_coordinator(&self.group_id)?;
            self.connection_worked = false;
            self.connection = Some(Connection::open(&address, self.cluster.options())?);
        }
        self.connection.as_mut().ok_or(Error::Closed)
    }

    /// A failure that a later attempt may overcome. Brokers close connections that were idle for long, so the first
    /// failure of one that has worked is ordinary, and says nothing about the next.
    fn failed(&mut self, error: Error) -> TryAgain {
        let was_idle = self.connection.take().is_some() && std::mem::take(&mut self.connection_worked);
        self.last_error = Some(error.clone());
        if was_idle && matches!(error, Error::Io { .. }) {
            log::debug!("connecting to the coordinator again: {error}");
            return TryAgain::AtOnce;
        }
        self.reporter.trouble(error);
        TryAgain::Later
    }
}

/// Commits.
impl Committer {
    fn commit(&mut self) {
        let membership = self.membership.lock().clone();
        let gone: Vec<TopicPartition> =
            self.pending.keys().filter(|of| !membership.owned.contains(of)).cloned().collect();
        self.refuse(&gone, not_ours());
        if let Err(error) = self.refuse_strangers() {
            let again = self.failed(error);
            self.commit_retry.failed(again);
            return;
        }
        if self.pending.is_empty() {
            return;
        }
        let request = self.commit_request(&membership.credentials);
        let answer = self.coordinator().and_then(|connection| {
            let answer = connection.call(&request)?;
            Ok((connection.address().to_owned(), answer))
        });
        match answer {
            Ok((address, answer)) => {
                self.connection_worked = true;
                let mut codes = BTreeMap::new();
                for topic in &answer.topics {
                    for of in &topic.partitions {
                        let partition = TopicPartition::new(topic.name.as_str(), of.partition_index);
                        codes.insert(partition, Code(of.error_code));
                    }
                }
                self.committed(&address, codes);
            }
            Err(error) => {
                let again = self.failed(error);
                self.commit_retry.failed(again);
            }
        }
    }

    fn commit_request(&self, credentials: &Credentials) -> OffsetCommitRequest {
        let cluster = self.cluster.id();
        let note = |of: &TopicPartition| origin::note(cluster.as_deref(), self.topic_ids.get(of).copied());
        OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_string(self.group_id.to_string())))
            .with_generation_id_or_member_epoch(credentials.generation)
            .with_member_id(StrBytes::from_string(credentials.member_id.clone()))
            .with_group_instance_id(self.instance.as_deref().map(|instance| StrBytes::from_string(instance.to_owned())))
            .with_topics(topics_to_commit(&self.pending, note))
    }

    /// One request was in flight with all that is pending, so an answer is for the positions that are pending still.
    fn committed(&mut self, address: &str, codes: BTreeMap<TopicPartition, Code>) {
        let mut done = Positions::new();
        let mut refused: BTreeMap<Code, Vec<TopicPartition>> = BTreeMap::new();
        let mut again = None;
        for (partition, code) in codes {
            match after_commit(code) {
                AfterCommit::Done => done.extend(self.pending.remove_entry(&partition)),
                AfterCommit::Again => again = Some(code),
                AfterCommit::Refused => {
                    if code == Code::UNKNOWN_TOPIC_OR_PARTITION {
                        self.doubted.insert(partition.topic.clone());
                    }
                    refused.entry(code).or_default().push(partition);
                }
            }
        }
        let subject = format!("group {}", self.group_id);
        let error = |code| Error::Broker {
            address: address.into(),
            api: "OffsetCommit",
            subject: subject.clone(),
            code,
            message: None,
        };
        for (code, partitions) in refused {
            self.last_error = Some(error(code));
            self.refuse(&partitions, error(code));
        }
        if !done.is_empty() {
            self.reporter.send(Event::Committed { positions: done, result: Ok(()) });
        }
        if let Some(code) = again {
            if self.is_alone && code == Code::UNKNOWN_MEMBER_ID {
                self.last_error = Some(occupied(&self.group_id));
                self.reporter.trouble(occupied(&self.group_id));
            } else {
                self.last_error = Some(error(code));
                log::debug!("commit: {}; trying again", error(code));
            }
            if matches!(code, Code::NOT_COORDINATOR | Code::COORDINATOR_NOT_AVAILABLE) {
                self.connection = None;
            }
        }
        // What the answer does not mention is tried again as well.
        if self.pending.is_empty() { self.commit_retry.worked() } else { self.commit_retry.failed(TryAgain::Later) }
    }
}

/// Offsets as an OffsetCommit request has them, without leader epochs; `note` is their metadata.
pub(super) fn topics_to_commit(
    offsets: &BTreeMap<TopicPartition, i64>,
    note: impl Fn(&TopicPartition) -> String,
) -> Vec<OffsetCommitRequestTopic> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (partition, next) in offsets {
        let commit = OffsetCommitRequestPartition::default()
            .with_partition_index(partition.partition)
            .with_committed_offset(*next)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(StrBytes::from_string(note(partition))));
        topics.entry(&partition.topic).or_default().push(commit);
    }
    let topic = |(name, partitions)| {
        OffsetCommitRequestTopic::default().with_name(topic_name(name)).with_partitions(partitions)
    };
    topics.into_iter().map(topic).collect()
}

#[derive(Debug, PartialEq)]
enum AfterCommit {
    Done,
    Again,
    Refused,
}

fn after_commit(code: Code) -> AfterCommit {
    match code {
        Code::NONE => AfterCommit::Done,
        code if is_about_membership(code) => AfterCommit::Again,
        // A deleted topic never gets its position.
        Code::UNKNOWN_TOPIC_OR_PARTITION => AfterCommit::Refused,
        code if code.is_retriable() => AfterCommit::Again,
        _ => AfterCommit::Refused,
    }
}

/// We are not who the group thinks we are. The keeper is about to find out, and joins again or learns of the new epoch:
/// then the partition is ours still, and the next attempt is signed anew, or it is not, and its position is dropped.
fn is_about_membership(code: Code) -> bool {
    [
        Code::REBALANCE_IN_PROGRESS,
        Code::ILLEGAL_GENERATION,
        Code::UNKNOWN_MEMBER_ID,
        Code::STALE_MEMBER_EPOCH,
        Code::FENCED_MEMBER_EPOCH,
    ]
    .contains(&code)
}

fn not_ours() -> Error {
    Error::Invalid("the partition was given to another member before its position could be committed".into())
}

/// Who is no member may commit only while nobody is.
fn occupied(group_id: &str) -> Error {
    Error::Invalid(format!(
        "group {group_id} has live members, so it takes no offsets from this process, which reads partitions given by \
         number; use another --group-id, or stop the members; committing is tried again, and what it cannot commit is \
         read again after a restart where Kafka keeps the position"
    ))
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::unbounded;
    use kafka_protocol::messages::ApiKey;
    use kafka_protocol::messages::find_coordinator_response::{Coordinator, FindCoordinatorResponse};
    use kafka_protocol::messages::list_offsets_request::ListOffsetsRequest;
    use kafka_protocol::messages::list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
    };
    use kafka_protocol::messages::offset_commit_response::{
        OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
    };
    use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponse;

    use super::*;
    use crate::kafka::scripted::{Answer, Call, ScriptedBroker, one_broker};

    const APIS: [(ApiKey, i16); 5] = [
        (ApiKey::Metadata, 12),
        (ApiKey::FindCoordinator, 4),
        (ApiKey::OffsetFetch, 7),
        (ApiKey::ListOffsets, 7),
        (ApiKey::OffsetCommit, 8),
    ];

    /// A broker that takes its time to say where logs begin and end.
    fn slow(call: &Call, port: i32) -> Answer {
        match call.key {
            ApiKey::Metadata => call.answer(one_broker(port, "t", 1)),
            ApiKey::FindCoordinator => {
                let host = StrBytes::from_static_str("127.0.0.1");
                let found = Coordinator::default().with_node_id(1.into()).with_host(host).with_port(port);
                call.answer(FindCoordinatorResponse::default().with_coordinators(vec![found]))
            }
            ApiKey::OffsetFetch => call.answer(OffsetFetchResponse::default()),
            ApiKey::ListOffsets => {
                door::sleep(Duration::from_millis(200));
                let request: ListOffsetsRequest = call.read();
                let topic = ListOffsetsTopicResponse::default().with_name(request.topics[0].name.clone());
                let topic = topic.with_partitions(vec![ListOffsetsPartitionResponse::default().with_offset(7)]);
                call.answer(ListOffsetsResponse::default().with_topics(vec![topic]))
            }
            ApiKey::OffsetCommit => {
                let topic = OffsetCommitResponseTopic::default().with_name(topic_name("t"));
                let topic = topic.with_partitions(vec![OffsetCommitResponsePartition::default()]);
                call.answer(OffsetCommitResponse::default().with_topics(vec![topic]))
            }
            _ => Answer::HangUp,
        }
    }

    /// One to whom the topic's first partition belongs; the way to it, and what it reports. The keeper is not there.
    fn committer_of(broker: &ScriptedBroker, topics: TopicSelection) -> (Committer, Sender<Command>, Receiver<Event>) {
        let options = ConsumerOptions::new(vec![broker.address.clone()], "g", topics);
        let cluster = Cluster::connect(&options.bootstrap, options.connection()).unwrap();
        let ((commands, orders), (keeper, _), (events, reported)) = (unbounded(), unbounded(), unbounded());
        let owned = BTreeSet::from([TopicPartition::new("t", 0)]);
        let membership = Arc::new(Mutex::new(Membership { owned, ..Membership::default() }));
        let committer = Committer::new(cluster, orders, keeper, Reporter::new(events), membership, &options);
        (committer, commands, reported)
    }

    #[test]
    fn questions_that_are_slow_to_answer_do_not_pile_up_in_front_of_commits() {
        let broker = ScriptedBroker::start(&APIS, slow);
        let partition = TopicPartition::new("t", 0);
        let (committer, commands, reported) = committer_of(&broker, TopicSelection::names(["t"]));
        (0..40).for_each(|_| commands.send(Command::Survey(vec![partition.clone()])).unwrap());
        commands.send(Command::Commit(vec![(partition, 7)])).unwrap();
        let thread = door::spawn("konekt-commit", move || committer.run());
        let until = door::now() + Duration::from_secs(5);
        let mut seen = (0, 0);
        while seen.0 == 0 || seen.1 == 0 {
            match reported.recv_deadline(until).expect("both are answered soon") {
                Event::Surveyed(_) => seen.0 += 1,
                Event::Committed { result: Ok(()), .. } => seen.1 += 1,
                _ => panic!("nothing else was asked for"),
            }
        }
        commands.send(Command::Stop).unwrap();
        thread.join().unwrap();
    }

    #[test]
    fn a_group_with_live_members_takes_no_offsets_of_partitions_given_by_number_and_that_is_told_once() {
        let broker = ScriptedBroker::start(&APIS, |call, port| match call.key {
            ApiKey::OffsetCommit => {
                let refused = OffsetCommitResponsePartition::default().with_error_code(Code::UNKNOWN_MEMBER_ID.0);
                let topic = OffsetCommitResponseTopic::default().with_name(topic_name("t"));
                let topic = topic.with_partitions(vec![refused]);
                call.answer(OffsetCommitResponse::default().with_topics(vec![topic]))
            }
            _ => slow(call, port),
        });
        let partition = TopicPartition::new("t", 0);
        let topics = TopicSelection::Partitions(vec![partition.clone()]);
        let (committer, commands, reported) = committer_of(&broker, topics);
        commands.send(Command::Commit(vec![(partition, 7)])).unwrap();
        let thread = door::spawn("konekt-commit", move || committer.run());
        let told = reported.recv_timeout(Duration::from_secs(5));
        let Ok(Event::Trouble(error)) = told else { panic!("it is told within seconds") };
        assert!(error.to_string().contains("use another --group-id, or stop the members"), "{error}");
        let (answer, answered) = unbounded();
        let until = door::now() + Duration::from_millis(500);
        commands.send(Command::Close { positions: Vec::new(), until, answer }).unwrap();
        assert_eq!(answered.recv().unwrap(), Err(error));
        thread.join().unwrap();
        assert_eq!(reported.try_iter().count(), 0, "each attempt says no more");
    }

    #[test]
    fn what_follows_each_answer_to_a_commit() {
        for (code, expected) in [
            (Code::NONE, AfterCommit::Done),
            (Code::REBALANCE_IN_PROGRESS, AfterCommit::Again),
            (Code::ILLEGAL_GENERATION, AfterCommit::Again),
            (Code::UNKNOWN_MEMBER_ID, AfterCommit::Again),
            (Code::STALE_MEMBER_EPOCH, AfterCommit::Again),
            (Code::NOT_COORDINATOR, AfterCommit::Again),
            (Code::COORDINATOR_LOAD_IN_PROGRESS, AfterCommit::Again),
            (Code::FENCED_INSTANCE_ID, AfterCommit::Refused),
            (Code::GROUP_AUTHORIZATION_FAILED, AfterCommit::Refused),
            (Code::UNKNOWN_TOPIC_OR_PARTITION, AfterCommit::Refused),
        ] {
            assert_eq!(after_commit(code), expected, "{code}");
        }
    }
}
