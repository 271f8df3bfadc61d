//! Membership of a consumer group, as a state machine without I/O.
//!
//! Called by [`super::keeper`], which performs what [`Group::step`] asks for and reports the answer; what the
//! application must know comes out of [`Group::take_events`]. Time and chance are arguments.
//!
//! There are two protocols, and a third way without either:
//!
//! - `classic`: the members join, and one of them assigns the partitions for all. Every Kafka speaks it.
//! - `consumer_protocol`: the coordinator assigns, and members confirm by heartbeats (KIP-848, Kafka 4.0 and later).
//! - fixed: the partitions are given, and the group is only where their offsets are committed.

#[cfg(test)]
mod application;
mod classic;
mod consumer_protocol;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest, HeartbeatResponse,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use self::classic::Classic;
pub use self::consumer_protocol::API as CONSUMER_HEARTBEAT;
use self::consumer_protocol::{ConsumerProtocol, GoesOn};
use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::kafka::assignor::{Assignor, PartitionCounts};
use crate::kafka::error::Code;

const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(2);

/// Which protocol a member speaks with its group (`group.protocol`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// JoinGroup and SyncGroup. The default, as in Kafka's own clients: every broker speaks it, `session_timeout_ms`,
    /// `heartbeat_interval_ms` and the assignors are ours to choose, and tools older than Kafka 4.0 see the group.
    #[default]
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848): the coordinator assigns, and only what moves is stopped. Session timeout,
    /// heartbeat interval and the choice of assignors are the broker's. Nothing else is accepted.
    Consumer,
    /// `Consumer` where the coordinator offers it for this group, else `Classic`. A classic group with members is
    /// converted by brokers that allow it (`group.consumer.migration.policy`).
    Auto,
}

/// How this member takes part.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    pub group_id: Arc<str>,
    pub protocol: GroupProtocol,
    /// `group.instance.id`: the member is static, and keeps its partitions over a short absence. Of two processes with
    /// the same instance the classic protocol fences the older one; the consumer protocol keeps the newer one out.
    pub instance: Option<Arc<str>>,
    /// `client.rack`, which the coordinator's assignor may look at.
    pub rack: Option<Arc<str>>,
    /// In order of preference; not empty. Cooperative only if all of them are. Classic only.
    pub assignors: Vec<Assignor>,
    /// `group.remote.assignor`: which of the coordinator's assignors is wanted; `None` leaves it the choice. Consumer
    /// protocol only.
    pub remote_assignor: Option<Arc<str>>,
    /// Classic only, as the heartbeat interval.
    pub session_timeout: Duration,
    /// How long the others wait for this member to give up its partitions and join.
    pub rebalance_timeout: Duration,
    pub heartbeat_interval: Duration,
}

/// What is to be done next. Times are since the same start as those given to the group.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)] // one at a time, a few in a second at most
pub enum Step {
    /// Perform this and report its answer.
    Call(Call),
    /// Nothing until this time, unless told something before.
    Wait(Duration),
    /// Nothing until told something.
    Idle,
    /// The group is left, or refused us for good.
    Ended,
}

/// A request to perform.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Find the coordinator and connect to it.
    FindCoordinator,
    /// Count the partitions of these topics.
    CountPartitions(Vec<Arc<str>>),
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    /// Find the names of these topic ids, which are most likely among these topics.
    NameTopics {
        ids: Vec<Uuid>,
        among: Vec<Arc<str>>,
    },
    ConsumerHeartbeat(ConsumerGroupHeartbeatRequest),
}

/// The answer to a [`Call`].
#[derive(Clone, Debug)]
pub enum Answer {
    CoordinatorFound,
    Counted(PartitionCounts),
    Joined(JoinGroupResponse),
    Synced(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Left,
    /// Those that are known.
    Named(BTreeMap<Uuid, Arc<str>>),
    ConsumerHeartbeat(ConsumerGroupHeartbeatResponse),
    /// The connection failed, or there is none.
    Unreachable,
    /// The broker refused for good before the coordinator could be asked.
    Refused {
        api: &'static str,
        code: Code,
    },
    /// The broker does not speak what is needed.
    Impossible,
}

/// What the application must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupEvent {
    /// These are ours in addition to what was ours. Empty when a rebalance gave nothing new.
    Assigned(Vec<TopicPartition>),
    /// These are to be given up: answer with [`Group::released`].
    Revoked(Vec<TopicPartition>),
    /// These are gone.
    Lost(Vec<TopicPartition>),
    /// The coordinator refused, and it will be tried again.
    Trouble { api: &'static str, code: Code },
    /// The coordinator refused for good.
    Refused { api: &'static str, code: Code },
}

/// What must stand in a commit, so that the coordinator can tell whether it comes from a member of this generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub member_id: String,
    /// The generation or, in the consumer protocol, the member's epoch.
    pub generation: i32,
}

impl Credentials {
    /// Of somebody who is no member.
    pub fn nobody() -> Self {
        Self { member_id: String::new(), generation: -1 }
    }
}

/// One member's view of its group.
pub struct Group {
    common: Common,
    protocol: Protocol,
}

#[allow(clippy::large_enum_variant)] // there is one
enum Protocol {
    /// Not a member: these partitions are given. None once left.
    Fixed(Option<BTreeSet<TopicPartition>>),
    Classic(Classic),
    Consumer(ConsumerProtocol),
}

impl Group {
    /// A member that has not joined yet. `chance` seeds its id and the jitter of its retries.
    pub fn new(options: GroupOptions, chance: u64) -> Self {
        let mut common = Common::new(options, chance);
        let protocol = match common.options.protocol {
            GroupProtocol::Classic => Protocol::Classic(Classic::new()),
            GroupProtocol::Consumer | GroupProtocol::Auto => Protocol::Consumer(ConsumerProtocol::new(&mut common)),
        };
        Self { common, protocol }
    }

    /// No member of anything: `partitions` are ours from the first [`subscribe`](Self::subscribe) on, and for good.
    /// Commits are signed by nobody, which the coordinator accepts while the group has no members.
    pub fn fixed(options: GroupOptions, partitions: &[TopicPartition]) -> Self {
        let protocol = Protocol::Fixed(Some(partitions.iter().cloned().collect()));
        Self { common: Common::new(options, 0), protocol }
    }

    /// What to do at this time.
    pub fn step(&mut self, now: Duration) -> Step {
        match &mut self.protocol {
            Protocol::Fixed(Some(_)) => Step::Idle,
            Protocol::Fixed(None) => Step::Ended,
            Protocol::Classic(classic) => classic.step(&mut self.common, now),
            Protocol::Consumer(consumer) => consumer.step(&mut self.common, now),
        }
    }

    /// Reports what a [`Call`] gave.
    pub fn answered(&mut self, now: Duration, answer: Answer) {
        match &mut self.protocol {
            Protocol::Fixed(_) => {}
            Protocol::Classic(classic) => classic.answered(&mut self.common, now, answer),
            Protocol::Consumer(consumer) => {
                if consumer.answered(&mut self.common, now, answer) == GoesOn::AsClassic {
                    self.fall_back();
                }
            }
        }
    }

    fn fall_back(&mut self) {
        log::info!("group {}: its coordinator wants the classic protocol", self.common.options.group_id);
        self.common.member_id.clear();
        let mut classic = Classic::new();
        classic.subscribe(&self.common);
        self.protocol = Protocol::Classic(classic);
    }

    /// The subscribed topics as they are now: called at first, and whenever metadata was refreshed. New topics and new
    /// partitions cause a rebalance.
    pub fn subscribe(&mut self, topics: PartitionCounts) {
        self.common.topics = topics;
        match &mut self.protocol {
            Protocol::Fixed(Some(partitions)) if self.common.owned.is_empty() => {
                self.common.owned = partitions.clone();
                self.common.events.push(GroupEvent::Assigned(partitions.iter().cloned().collect()));
            }
            Protocol::Fixed(_) => {}
            Protocol::Classic(classic) => classic.subscribe(&self.common),
            Protocol::Consumer(consumer) => consumer.subscribe(&self.common),
        }
    }

    /// These partitions of a [`GroupEvent::Revoked`] are given up: their positions are committed.
    pub fn released(&mut self, partitions: &[TopicPartition]) {
        if !self.common.released(partitions) {
            return;
        }
        match &mut self.protocol {
            Protocol::Fixed(_) => {}
            Protocol::Classic(classic) => classic.all_released(),
            Protocol::Consumer(consumer) => consumer.all_released(),
        }
    }

    /// Leaves the group. A static member of the classic protocol just stops.
    pub fn leave(&mut self) {
        self.common.not_before = Duration::ZERO;
        match &mut self.protocol {
            Protocol::Fixed(partitions) => *partitions = None,
            Protocol::Classic(classic) => classic.leave(&self.common),
            Protocol::Consumer(consumer) => consumer.leave(),
        }
    }

    /// What happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<GroupEvent> {
        std::mem::take(&mut self.common.events)
    }

    /// What to sign commits with.
    pub fn credentials(&self) -> Credentials {
        Credentials { member_id: self.common.member_id.clone(), generation: self.common.generation }
    }

    /// The partitions that are ours, those being given up included.
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.common.owned
    }

    /// Whether a coordinator is known, and so whether its connection is of use.
    pub fn coordinator_known(&self) -> bool {
        self.common.coordinator_known
    }
}

/// What a member is and has, in either protocol.
struct Common {
    options: GroupOptions,
    coordinator_known: bool,
    member_id: String,
    /// The generation or the member's epoch; negative outside of the group.
    generation: i32,
    /// Subscribed topics and their partitions, as last seen.
    topics: PartitionCounts,
    owned: BTreeSet<TopicPartition>,
    releasing: Option<Releasing>,
    heartbeat_at: Duration,
    not_before: Duration,
    backoff: Backoff,
    chance: u64,
    events: Vec<GroupEvent>,
}

/// What the application was asked to give up and has not yet, and for how long that is waited for.
struct Releasing {
    waiting: BTreeSet<TopicPartition>,
    until: Duration,
}

impl Common {
    fn new(options: GroupOptions, chance: u64) -> Self {
        Self {
            options,
            coordinator_known: false,
            member_id: String::new(),
            generation: -1,
            topics: PartitionCounts::new(),
            owned: BTreeSet::new(),
            releasing: None,
            heartbeat_at: Duration::ZERO,
            not_before: Duration::ZERO,
            backoff: Backoff::new(RETRY_BASE, RETRY_CAP),
            chance,
            events: Vec::new(),
        }
    }

    fn group_id(&self) -> GroupId {
        GroupId(text(&self.options.group_id))
    }

    fn instance(&self) -> Option<StrBytes> {
        self.options.instance.as_deref().map(text)
    }

    /// Asks the application to give these up. False: there are none.
    fn release(&mut self, now: Duration, waiting: BTreeSet<TopicPartition>) -> bool {
        if waiting.is_empty() {
            return false;
        }
        self.events.push(GroupEvent::Revoked(waiting.iter().cloned().collect()));
        self.releasing = Some(Releasing { waiting, until: now + self.options.rebalance_timeout });
        true
    }

    /// Takes note of what was given up. True: it was the last that was waited for.
    fn released(&mut self, partitions: &[TopicPartition]) -> bool {
        let Some(releasing) = &mut self.releasing else { return false };
        for partition in partitions {
            if releasing.waiting.remove(partition) {
                self.owned.remove(partition);
            }
        }
        let all = releasing.waiting.is_empty();
        self.releasing.take_if(|_| all).is_some()
    }

    /// What the application did not give up in time is taken from it: the group would not wait any longer either.
    /// True: that was so.
    fn give_up_waiting(&mut self, now: Duration) -> bool {
        let Some(releasing) = self.releasing.take_if(|releasing| now >= releasing.until) else { return false };
        self.owned.retain(|partition| !releasing.waiting.contains(partition));
        self.events.push(GroupEvent::Lost(releasing.waiting.into_iter().collect()));
        true
    }

    fn lose_everything(&mut self) {
        self.generation = -1;
        self.releasing = None;
        let lost: Vec<TopicPartition> = std::mem::take(&mut self.owned).into_iter().collect();
        if !lost.is_empty() {
            self.events.push(GroupEvent::Lost(lost));
        }
    }

    /// What no protocol has words of its own for. False: the group is over for us.
    fn refused(&mut self, now: Duration, api: &'static str, code: Code) -> bool {
        match code {
            Code::NOT_COORDINATOR | Code::COORDINATOR_NOT_AVAILABLE => self.lost_coordinator(now),
            Code::COORDINATOR_LOAD_IN_PROGRESS => self.wait(now),
            code if code.is_retriable() || code == Code::UNKNOWN_SERVER_ERROR => {
                self.events.push(GroupEvent::Trouble { api, code });
                self.wait(now);
            }
            code => {
                self.lose_everything();
                self.events.push(GroupEvent::Refused { api, code });
                return false;
            }
        }
        true
    }

    /// Membership survives the coordinator's move: the same id and generation go to the next one.
    fn lost_coordinator(&mut self, now: Duration) {
        self.coordinator_known = false;
        self.wait(now);
    }

    /// Until the next heartbeat, or until the application has had its time to give partitions up.
    fn next_wait(&self) -> Duration {
        let until = self.releasing.as_ref().map(|releasing| releasing.until);
        until.map_or(self.heartbeat_at, |until| until.min(self.heartbeat_at))
    }

    fn wait(&mut self, now: Duration) {
        let chance = self.chance();
        self.not_before = now + self.backoff.fail(chance);
    }

    fn chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.chance
    }
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
