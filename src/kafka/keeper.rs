//! The thread `konekt-group`: performs what [`Group`] asks for over the connection to the coordinator, and is the only
//! one that tells the application what is its own.
//!
//! Between an assignment by the group and [`Event::Assigned`] the committer looks up where the partitions stand. What is
//! taken away before that is done was never announced and is given back without asking.
//!
//! Heartbeats go on while the application finishes a revocation. They stop only while a JoinGroup or SyncGroup is held
//! by the coordinator, which then keeps the session alive itself; [`Interrupt`] ends such a wait for closing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use kafka_protocol::messages::ConsumerGroupHeartbeatRequest;
use kafka_protocol::protocol::Request;
use parking_lot::Mutex;
use uuid::Uuid;

use super::assignor::PartitionCounts;
use super::cluster::{Cluster, Metadata, TopicsWanted};
use super::committer::{self, Membership};
use super::connection::Connection;
use super::consumer::{AssignedPartition, ConsumerOptions, Event, Reporter, TopicSelection, tell};
use super::error::{Code, Error};
use super::group::{Answer, CONSUMER_HEARTBEAT, Call, Group, GroupEvent, Step};
use super::interrupt::Interrupt;
use crate::core::record::TopicPartition;
use crate::door;

/// The coordinator answers a join at the latest when the rebalance is over; this is for the way there and back.
const JOIN_ANSWER_MARGIN: Duration = Duration::from_secs(5);

/// How often a broker may have no coordinator to name before that is trouble.
const PATIENCE: u32 = 5;

/// What the keeper is told.
pub enum Command {
    /// The subscribed topics as they are now.
    Topics(PartitionCounts),
    /// The application has given these up, and their positions are committed.
    Released(Vec<TopicPartition>),
    /// Where assigned partitions stand.
    Described { partitions: Vec<AssignedPartition>, failed: Vec<(TopicPartition, Error)>, round: u64 },
    /// Look up where the group stands everywhere.
    Survey,
    /// Leave the group and end.
    Leave { until: Instant },
    /// End at once.
    Stop,
}

/// The thread's state.
pub struct Keeper {
    cluster: Cluster,
    group: Group,
    group_id: Arc<str>,
    started: Instant,
    commands: Receiver<Command>,
    committer: Sender<committer::Command>,
    reporter: Reporter,
    interrupt: Interrupt,
    membership: Arc<Mutex<Membership>>,
    connection: Option<Connection>,
    /// Short enough that after a coordinator that fell silent there is time to find the next one.
    heartbeat_timeout: Duration,
    /// A join is held until all members have joined.
    join_timeout: Duration,
    /// A sync is held until the leader has assigned, which takes it no time. Of one that dies meanwhile we hear sooner
    /// by asking again.
    request_timeout: Duration,
    /// The subscribed topics and their partitions, as last heard.
    topics: PartitionCounts,
    /// Partitions that were given instead of topics.
    fixed: Option<Vec<TopicPartition>>,
    /// Assigned, but not announced yet, with the round of their description.
    awaited: BTreeMap<TopicPartition, u64>,
    round: u64,
    leave_until: Option<Instant>,
    /// How often in a row the broker had no coordinator to name.
    refusals: u32,
}

impl Keeper {
    #[allow(clippy::too_many_arguments)] // its wiring, made in one place
    pub(super) fn new(
        cluster: Cluster,
        group: Group,
        commands: Receiver<Command>,
        committer: Sender<committer::Command>,
        reporter: Reporter,
        interrupt: Interrupt,
        membership: Arc<Mutex<Membership>>,
        options: &ConsumerOptions,
    ) -> Self {
        Self {
            cluster,
            group,
            group_id: options.group_id.as_str().into(),
            started: door::now(),
            commands,
            committer,
            reporter,
            interrupt,
            membership,
            connection: None,
            heartbeat_timeout: options.request_timeout.min(options.session_timeout / 2),
            join_timeout: options.request_timeout.max(options.max_poll_interval + JOIN_ANSWER_MARGIN),
            request_timeout: options.request_timeout,
            topics: PartitionCounts::new(),
            fixed: match &options.topics {
                TopicSelection::Partitions(partitions) => Some(partitions.clone()),
                _ => None,
            },
            awaited: BTreeMap::new(),
            round: 0,
            leave_until: None,
            refusals: 0,
        }
    }

    /// Works until told to end.
    pub fn run(mut self) {
        loop {
            let commands: Vec<Command> = self.commands.try_iter().collect();
            if !commands.into_iter().all(|command| self.obey(command)) {
                return;
            }
            let step = self.group.step(self.elapsed());
            self.publish();
            let heard = match step {
                Step::Call(call) => {
                    self.perform(call);
                    self.publish();
                    continue;
                }
                Step::Ended if self.leave_until.is_some() => return,
                Step::Wait(at) => self.commands.recv_deadline(self.started + at).map_err(|error| error.is_timeout()),
                Step::Idle | Step::Ended => self.commands.recv().map_err(|_| false),
            };
            let goes_on = heard.map_or_else(|timed_out| timed_out, |command| self.obey(command));
            if !goes_on {
                return;
            }
            self.publish();
        }
    }

    fn elapsed(&self) -> Duration {
        door::now().saturating_duration_since(self.started)
    }

    fn obey(&mut self, command: Command) -> bool {
        match command {
            Command::Topics(topics) => {
                self.topics.clone_from(&topics);
                self.group.subscribe(topics);
            }
            Command::Released(partitions) => self.group.released(&partitions),
            Command::Described { partitions, failed, round } => self.announce(partitions, failed, round),
            Command::Survey => tell(&self.committer, committer::Command::Survey(self.all_partitions())),
            Command::Leave { until } => {
                self.leave_until = Some(until);
                self.group.leave();
            }
            Command::Stop => return false,
        }
        true
    }

    /// What the group reads, or we alone where the partitions are given.
    fn all_partitions(&self) -> Vec<TopicPartition> {
        if let Some(fixed) = &self.fixed {
            return fixed.clone();
        }
        let of_topic = |(topic, count): (&Arc<str>, &i32)| {
            let topic = topic.clone();
            (0..*count).map(move |partition| TopicPartition { topic: topic.clone(), partition })
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    /// Tells the application what is its own, unless that has changed since it was asked about.
    fn announce(
        &mut self,
        mut partitions: Vec<AssignedPartition>,
        mut failed: Vec<(TopicPartition, Error)>,
        round: u64,
    ) {
        let mut still_ours = |partition: &TopicPartition| {
            let ours = self.awaited.get(partition) == Some(&round);
            ours.then(|| self.awaited.remove(partition)).is_some()
        };
        partitions.retain(|assigned| still_ours(&assigned.partition));
        failed.retain(|(partition, _)| still_ours(partition));
        if !partitions.is_empty() {
            self.reporter.send(Event::Assigned(partitions));
        }
        for (partition, error) in failed {
            self.reporter.send(Event::PartitionFailed { partition, run: None, error });
        }
        if self.awaited.is_empty() {
            self.reporter.send(Event::Settled);
        }
    }

    fn publish(&mut self) {
        let events = self.group.take_events();
        let changed = Membership { credentials: self.group.credentials(), owned: self.group.owned().clone() };
        *self.membership.lock() = changed;
        for event in events {
            match event {
                GroupEvent::Assigned(partitions) => self.assigned(partitions),
                GroupEvent::Revoked(partitions) => self.revoked(partitions),
                GroupEvent::Lost(partitions) => self.lost(partitions),
                GroupEvent::Trouble { api, code } => self.reporter.trouble(self.refusal(api, code)),
                GroupEvent::Refused { api, code } => self.reporter.send(Event::Failed(self.refusal(api, code))),
            }
        }
    }

    fn assigned(&mut self, partitions: Vec<TopicPartition>) {
        let owned = self.group.owned().len();
        log::info!(
            "group {}: {} partitions assigned, {owned} are ours: {partitions:?}",
            self.group_id,
            partitions.len()
        );
        if partitions.is_empty() {
            if self.awaited.is_empty() {
                self.reporter.send(Event::Settled);
            }
            return;
        }
        self.round += 1;
        self.awaited.extend(partitions.iter().map(|partition| (partition.clone(), self.round)));
        tell(&self.committer, committer::Command::Describe { partitions, round: self.round });
    }

    fn revoked(&mut self, partitions: Vec<TopicPartition>) {
        log::info!("group {}: {} partitions revoked: {partitions:?}", self.group_id, partitions.len());
        let (unknown, known) = self.forget(partitions);
        if !known.is_empty() {
            self.reporter.send(Event::Revoked(known));
        }
        if !unknown.is_empty() {
            tell(&self.committer, committer::Command::Forget(unknown.clone()));
            self.group.released(&unknown);
        }
    }

    fn lost(&mut self, partitions: Vec<TopicPartition>) {
        log::warn!("group {}: {} partitions lost: {partitions:?}", self.group_id, partitions.len());
        tell(&self.committer, committer::Command::Forget(partitions.clone()));
        let (_, known) = self.forget(partitions);
        if !known.is_empty() {
            self.reporter.send(Event::Lost(known));
        }
    }

    /// Splits off what the application has not heard of; that will not be announced any more.
    fn forget(&mut self, partitions: Vec<TopicPartition>) -> (Vec<TopicPartition>, Vec<TopicPartition>) {
        partitions.into_iter().partition(|partition| self.awaited.remove(partition).is_some())
    }

    fn refusal(&self, api: &'static str, code: Code) -> Error {
        let address = self.connection.as_ref().map_or("the coordinator", |connection| connection.address());
        let no_consumer_protocol =
            [Code::UNSUPPORTED_VERSION, Code::GROUP_ID_NOT_FOUND, Code::INCONSISTENT_GROUP_PROTOCOL];
        if api == CONSUMER_HEARTBEAT && no_consumer_protocol.contains(&code) {
            return Error::Invalid(format!(
                "{address}: group {} cannot be joined by the consumer protocol (KIP-848, Kafka 4.0 and later; {}): \
                 set group_protocol to classic or auto",
                self.group_id,
                code.name()
            ));
        }
        Error::Broker { address: address.into(), api, subject: format!("group {}", self.group_id), code, message: None }
    }
}

/// The calls.
impl Keeper {
    fn perform(&mut self, call: Call) {
        let answer = match call {
            Call::FindCoordinator => self.find_coordinator().map(|()| Answer::CoordinatorFound),
            Call::CountPartitions(topics) => self.count(&topics).map(Answer::Counted),
            Call::Join(request) => self.ask_held(&request, self.join_timeout).map(Answer::Joined),
            Call::Sync(request) => self.ask_held(&request, self.request_timeout).map(Answer::Synced),
            Call::Heartbeat(request) => self.ask(&request, self.heartbeat_timeout).map(Answer::Heartbeat),
            Call::Leave(request) => self.ask(&request, self.time_to_leave()).map(|_| Answer::Left),
            Call::NameTopics { ids, among } => self.name(&ids, &among).map(Answer::Named),
            Call::ConsumerHeartbeat(request) => self.consumer_heartbeat(&request),
        };
        let answer = answer.unwrap_or_else(|error| self.unreachable(error));
        self.group.answered(self.elapsed(), answer);
    }

    fn unreachable(&mut self, error: Error) -> Answer {
        self.connection = None;
        let is_final = matches!(error, Error::Unsupported { .. } | Error::Unsendable { .. });
        match error.code() {
            Some(code) if !error.is_retriable() => Answer::Refused { api: "FindCoordinator", code },
            _ if is_final => {
                self.reporter.send(Event::Failed(error));
                Answer::Impossible
            }
            // Ordinary for a group that nobody used before: its coordinator is just being made.
            Some(_) if self.refusals < PATIENCE => {
                self.refusals += 1;
                log::debug!("trying again: {error}");
                Answer::Unreachable
            }
            _ => {
                self.reporter.trouble(error);
                Answer::Unreachable
            }
        }
    }

    fn find_coordinator(&mut self) -> Result<(), Error> {
        self.connection = None;
        let (_, address) = self.cluster.find_group_coordinator(&self.group_id)?;
        self.refusals = 0;
        self.connection = Some(Connection::open(&address, self.cluster.options())?);
        log::debug!("group {}: its coordinator is {address}", self.group_id);
        Ok(())
    }

    /// Topics that are gone count as having no partition. The router keeps the topics that we subscribe to fresh, and
    /// reports what changes; what others subscribe to may be new to us.
    fn count(&self, topics: &[Arc<str>]) -> Result<PartitionCounts, Error> {
        let mut metadata = self.cluster.metadata();
        if !topics.iter().all(|topic| metadata.topics.contains_key(topic)) {
            metadata = self.cluster.refresh(TopicsWanted::Names(topics))?;
        }
        let count = |topic: &Arc<str>| {
            let known = metadata.topics.get(topic).filter(|known| known.error.is_ok());
            (topic.clone(), known.map_or(0, |known| known.partitions.len() as i32))
        };
        Ok(topics.iter().map(count).collect())
    }

    fn name(&self, ids: &[Uuid], among: &[Arc<str>]) -> Result<BTreeMap<Uuid, Arc<str>>, Error> {
        let named = |metadata: &Metadata| -> BTreeMap<Uuid, Arc<str>> {
            let topics = metadata.topics.iter().filter(|(_, topic)| ids.contains(&topic.id));
            topics.map(|(name, topic)| (topic.id, name.clone())).collect()
        };
        let known = named(&self.cluster.metadata());
        if known.len() == ids.len() {
            return Ok(known);
        }
        Ok(named(&*self.cluster.refresh(TopicsWanted::Names(among))?))
    }

    fn consumer_heartbeat(&mut self, request: &ConsumerGroupHeartbeatRequest) -> Result<Answer, Error> {
        let timeout = self.leave_until.map_or(self.heartbeat_timeout, |_| self.time_to_leave());
        match self.ask(request, timeout) {
            Ok(response) => Ok(Answer::ConsumerHeartbeat(response)),
            Err(Error::Unsupported { api, .. }) => Ok(Answer::Refused { api, code: Code::UNSUPPORTED_VERSION }),
            Err(error) => Err(error),
        }
    }

    fn ask<R: Request>(&mut self, request: &R, timeout: Duration) -> Result<R::Response, Error> {
        self.connected()?.call_within(request, timeout)
    }

    fn time_to_leave(&self) -> Duration {
        self.leave_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(door::now()))
    }

    /// Asks what the coordinator answers only when others have done their part.
    fn ask_held<R: Request>(&mut self, request: &R, timeout: Duration) -> Result<R::Response, Error> {
        let interrupt = self.interrupt.clone();
        let connection = self.connected()?;
        interrupt.arm(connection);
        let answer = connection.call_within(request, timeout);
        interrupt.disarm();
        answer
    }

    fn connected(&mut self) -> Result<&mut Connection, Error> {
        self.connection.as_mut().ok_or(Error::Closed)
    }
}
