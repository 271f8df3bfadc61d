//! The consumer protocol (KIP-848): the coordinator assigns, and everything is said in heartbeats.
//!
//! ```text
//!   Waiting ── topics known ──▶ Member ── leave ──▶ Leaving ──▶ Ended
//!                               │    ▲
//!       assignment: give up what it lacks, then take what is new, and say in a heartbeat what we have
//! ```
//!
//! A heartbeat says everything when we join (epoch 0) or when the last one was not answered, and else only what has
//! changed. What we have is said when all that was to be given up is given up, which the application does after its
//! positions are committed: that heartbeat is what gives the partitions to others.
//!
//! The member id is made here. Assignments name topics by id; the names come from the cluster's metadata. A topic that
//! was made anew has another id, so its partitions are given up before those of the new one are taken.
//! Source: API key 68 (ConsumerGroupHeartbeat); Kafka's `ConsumerGroupHeartbeatRequest.json` for which field says what.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use uuid::Uuid;

use super::{Answer, Call, Common, GroupEvent, GroupProtocol, Step, millis, text};
use crate::core::record::TopicPartition;
use crate::kafka::cluster::topic_name;
use crate::kafka::error::Code;

/// As errors name it.
pub const API: &str = "ConsumerGroupHeartbeat";
/// How long a static member waits for its predecessor's session to end: longer than brokers let sessions be
/// (`group.consumer.max.session.timeout.ms`, 60 s). After that it is another process that is alive.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(120);
/// A broker that wants heartbeats without a pause does not get them.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Topic ids that the metadata did not know are looked for again after this long.
const NAMES_INTERVAL: Duration = Duration::from_secs(1);

const JOINING_EPOCH: i32 = 0;
const LEAVING_EPOCH: i32 = -1;
const LEAVING_STATIC_EPOCH: i32 = -2;

/// Whether this protocol goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum GoesOn {
    AsItIs,
    /// The coordinator does not offer it for this group, and we may speak the classic one.
    AsClassic,
}

enum Phase {
    /// No topic to subscribe to is known yet.
    Waiting,
    /// Joining, or a member.
    Member,
    Leaving,
    Ended,
}

/// What a heartbeat says of us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    topics: Vec<Arc<str>>,
    owned: BTreeSet<TopicPartition>,
}

/// A member in the consumer protocol: what it has beside [`Common`].
pub(super) struct ConsumerProtocol {
    phase: Phase,
    /// What the coordinator last gave us, all of it.
    assigned: BTreeSet<(Uuid, i32)>,
    /// Whether we have yet to do what that asks for.
    unreconciled: bool,
    names: BTreeMap<Uuid, Arc<str>>,
    names_at: Duration,
    /// Of which topic, among those of one name, the partitions are that we have.
    ids: BTreeMap<Arc<str>, Uuid>,
    /// In the heartbeat that is on its way.
    saying: Said,
    /// What the coordinator knows of us. `None`: it is to be told everything.
    said: Option<Said>,
    /// Since when another member has our instance id.
    predecessor_since: Option<Duration>,
    /// Whether the coordinator may know us.
    has_asked: bool,
}

impl ConsumerProtocol {
    pub(super) fn new(common: &mut Common) -> Self {
        let bits = u128::from(common.chance()) << 64 | u128::from(common.chance());
        common.member_id = uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string();
        Self {
            phase: Phase::Waiting,
            assigned: BTreeSet::new(),
            unreconciled: false,
            names: BTreeMap::new(),
            names_at: Duration::ZERO,
            ids: BTreeMap::new(),
            saying: Said::default(),
            said: None,
            predecessor_since: None,
            has_asked: false,
        }
    }

    pub(super) fn step(&mut self, common: &mut Common, now: Duration) -> Step {
        self.unreconciled |= common.give_up_waiting(now);
        self.reconcile(common, now);
        let cannot_join = !is_member(common) && common.topics.is_empty();
        match self.phase {
            Phase::Ended => return Step::Ended,
            Phase::Waiting => return Step::Idle,
            Phase::Member if cannot_join => return Step::Idle,
            _ => {}
        }
        if now < common.not_before {
            return Step::Wait(common.not_before);
        }
        if !common.coordinator_known {
            return Step::Call(Call::FindCoordinator);
        }
        if matches!(self.phase, Phase::Leaving) {
            return Step::Call(Call::ConsumerHeartbeat(leave_request(common)));
        }
        let unnamed = self.unnamed();
        if !unnamed.is_empty() && now >= self.names_at {
            let among = common.topics.keys().cloned().collect();
            return Step::Call(Call::NameTopics { ids: unnamed, among });
        }
        if now >= common.heartbeat_at || self.has_news(common) {
            self.has_asked = true;
            return Step::Call(Call::ConsumerHeartbeat(self.heartbeat_request(common)));
        }
        let wait = common.next_wait();
        Step::Wait(if unnamed.is_empty() { wait } else { wait.min(self.names_at) })
    }

    pub(super) fn answered(&mut self, common: &mut Common, now: Duration, answer: Answer) -> GoesOn {
        let leaving = matches!(self.phase, Phase::Leaving);
        match answer {
            Answer::CoordinatorFound => common.coordinator_known = true,
            Answer::Named(names) => self.named(now, names),
            // Nobody is told that we leave, when nobody is there: the session runs out.
            Answer::ConsumerHeartbeat(_) | Answer::Unreachable if leaving => self.phase = Phase::Ended,
            Answer::ConsumerHeartbeat(response) => match Code(response.error_code) {
                Code::NONE => self.accepted(common, now, response),
                code => return self.refused(common, now, API, code),
            },
            Answer::Unreachable => {
                self.said = None;
                common.lost_coordinator(now);
            }
            Answer::Refused { api, code } => return self.refused(common, now, api, code),
            Answer::Impossible => {
                common.lose_everything();
                self.phase = Phase::Ended;
            }
            // Never asked for.
            Answer::Counted(_) | Answer::Joined(_) | Answer::Synced(_) | Answer::Heartbeat(_) | Answer::Left => {}
        }
        GoesOn::AsItIs
    }

    pub(super) fn subscribe(&mut self, common: &Common) {
        if matches!(self.phase, Phase::Waiting) && !common.topics.is_empty() {
            self.phase = Phase::Member;
        }
    }

    pub(super) fn all_released(&mut self) {
        self.unreconciled = true;
    }

    pub(super) fn leave(&mut self) {
        let nobody = !self.has_asked || matches!(self.phase, Phase::Ended);
        self.phase = if nobody { Phase::Ended } else { Phase::Leaving };
    }
}

fn is_member(common: &Common) -> bool {
    common.generation > JOINING_EPOCH
}

/// What is said.
impl ConsumerProtocol {
    /// Whether the coordinator should hear of something before the next heartbeat is due. What is being given up is
    /// ours until all of it is.
    fn has_news(&self, common: &Common) -> bool {
        self.said.as_ref().is_none_or(|said| {
            let moved = common.releasing.is_none() && said.owned != common.owned;
            moved || !common.topics.keys().eq(said.topics.iter())
        })
    }

    fn heartbeat_request(&mut self, common: &Common) -> ConsumerGroupHeartbeatRequest {
        self.saying = Said { topics: common.topics.keys().cloned().collect(), owned: common.owned.clone() };
        let said = self.said.as_ref().filter(|_| is_member(common));
        let mut request = request(common, common.generation.max(JOINING_EPOCH));
        if said.is_none() {
            request.rack_id = common.options.rack.as_deref().map(text);
            request.server_assignor = common.options.remote_assignor.as_deref().map(text);
            request.rebalance_timeout_ms = millis(common.options.rebalance_timeout);
        }
        if said.is_none_or(|said| said.topics != self.saying.topics) {
            request.subscribed_topic_names = Some(self.saying.topics.iter().map(|name| topic_name(name)).collect());
        }
        if said.is_none_or(|said| said.owned != self.saying.owned) {
            request.topic_partitions = Some(self.by_topic_id(&self.saying.owned));
        }
        request
    }

    fn by_topic_id(&self, partitions: &BTreeSet<TopicPartition>) -> Vec<TopicPartitions> {
        let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for of in partitions {
            let id = self.ids.get(&of.topic).copied().unwrap_or_default(); // known of all that is ours
            topics.entry(id).or_default().push(of.partition);
        }
        let topic = |(id, indexes)| TopicPartitions::default().with_topic_id(id).with_partitions(indexes);
        topics.into_iter().map(topic).collect()
    }
}

fn request(common: &Common, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(common.group_id())
        .with_member_id(text(&common.member_id))
        .with_member_epoch(epoch)
        .with_instance_id(common.instance())
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}

/// A static member says that it will be back: its partitions stay its own until its session ends.
fn leave_request(common: &Common) -> ConsumerGroupHeartbeatRequest {
    let is_static = common.options.instance.is_some();
    request(common, if is_static { LEAVING_STATIC_EPOCH } else { LEAVING_EPOCH })
}

/// What is heard.
impl ConsumerProtocol {
    fn accepted(&mut self, common: &mut Common, now: Duration, response: ConsumerGroupHeartbeatResponse) {
        common.backoff.reset();
        self.predecessor_since = None;
        if let Some(member_id) = response.member_id.filter(|id| !id.is_empty()) {
            common.member_id = member_id.to_string();
        }
        common.generation = response.member_epoch;
        let interval = Duration::from_millis(u64::try_from(response.heartbeat_interval_ms).unwrap_or(0));
        common.heartbeat_at = now + interval.max(HEARTBEAT_INTERVAL_MIN);
        self.said = Some(std::mem::take(&mut self.saying));
        if let Some(assignment) = response.assignment {
            let of_topic = assignment.topic_partitions.into_iter().map(|of| (of.topic_id, of.partitions));
            let assigned = of_topic.flat_map(|(id, indexes)| indexes.into_iter().map(move |at| (id, at))).collect();
            let before = std::mem::replace(&mut self.assigned, assigned);
            if before.difference(&self.assigned).any(|given| !self.has_taken(common, given)) {
                // The others get it once we say that we do not have it.
                self.said = None;
            }
            self.unreconciled = true;
        }
        self.reconcile(common, now);
    }

    fn has_taken(&self, common: &Common, (id, partition): &(Uuid, i32)) -> bool {
        let partition = *partition;
        let taken = |topic: &Arc<str>| common.owned.contains(&TopicPartition { topic: topic.clone(), partition });
        self.names.get(id).is_some_and(taken)
    }

    fn named(&mut self, now: Duration, names: BTreeMap<Uuid, Arc<str>>) {
        self.unreconciled |= !names.is_empty();
        self.names.extend(names);
        self.names_at = now + NAMES_INTERVAL;
    }

    fn unnamed(&self) -> Vec<Uuid> {
        let unnamed: BTreeSet<Uuid> =
            self.assigned.iter().map(|(id, _)| *id).filter(|id| !self.names.contains_key(id)).collect();
        unnamed.into_iter().collect()
    }

    /// Gives up what is not assigned any more; once that is done, takes what is new.
    fn reconcile(&mut self, common: &mut Common, now: Duration) {
        if !self.unreconciled || common.releasing.is_some() {
            return;
        }
        self.unreconciled = false;
        let wanted = self.wanted(common);
        let revoked = common.owned.difference(&wanted).cloned().collect();
        if common.release(now, revoked) {
            return; // and again when it is done
        }
        let added: Vec<TopicPartition> = wanted.difference(&common.owned).cloned().collect();
        if !added.is_empty() && self.said.is_none() {
            // What was said last may have given them to others; an answer tells.
            self.unreconciled = true;
            return;
        }
        common.owned = wanted;
        if !added.is_empty() || self.unnamed().is_empty() {
            common.events.push(GroupEvent::Assigned(added));
        }
    }

    /// The assigned partitions whose names are known, less those of a topic whose predecessor of the same name is
    /// still to be given up.
    fn wanted(&mut self, common: &Common) -> BTreeSet<TopicPartition> {
        let held: BTreeSet<&Arc<str>> = common.owned.iter().map(|of| &of.topic).collect();
        self.ids.retain(|topic, _| held.contains(topic));
        let mut wanted = BTreeSet::new();
        for (id, partition) in &self.assigned {
            let Some(topic) = self.names.get(id) else { continue };
            if self.ids.entry(topic.clone()).or_insert(*id) == id {
                wanted.insert(TopicPartition { topic: topic.clone(), partition: *partition });
            }
        }
        wanted
    }

    fn refused(&mut self, common: &mut Common, now: Duration, api: &'static str, code: Code) -> GoesOn {
        self.said = None;
        match code {
            // The coordinator has given our partitions away; the same member may come again.
            Code::UNKNOWN_MEMBER_ID | Code::FENCED_MEMBER_EPOCH | Code::STALE_MEMBER_EPOCH => {
                common.events.push(GroupEvent::Trouble { api, code });
                common.lose_everything();
                self.assigned.clear();
                common.wait(now);
            }
            Code::UNRELEASED_INSTANCE_ID if self.predecessor_may_go(now) => {
                common.events.push(GroupEvent::Trouble { api, code });
                common.wait(now);
            }
            Code::UNSUPPORTED_VERSION | Code::GROUP_ID_NOT_FOUND | Code::INCONSISTENT_GROUP_PROTOCOL
                if common.options.protocol == GroupProtocol::Auto && !is_member(common) =>
            {
                return GoesOn::AsClassic;
            }
            code if common.refused(now, api, code) => {}
            _ => self.phase = Phase::Ended,
        }
        GoesOn::AsItIs
    }

    /// A process that was killed keeps its instance id until its session ends.
    fn predecessor_may_go(&mut self, now: Duration) -> bool {
        let since = *self.predecessor_since.get_or_insert(now);
        now.saturating_sub(since) < PREDECESSOR_LIMIT
    }
}

#[cfg(test)]
mod tests;
