//! [`Source`] over librdkafka (`rdkafka`'s `BaseConsumer`), for what only librdkafka has: its settings are handed through.
//!
//! ```text
//!   poll ─▶ main queue: rebalances, commits, errors, statistics ─▶ context.rs notes them ─▶ worked off here
//!        ─▶ each partition's own queue ─▶ lane.rs copies its messages into chunks
//! ```
//!
//! A partition without credit is not polled, so its queue fills and librdkafka stops fetching it; nothing is fetched
//! twice, as it would be by its pause. Assigned partitions are paused until the engine says where to begin.
//!
//! librdkafka waits for an answer to each rebalance. Revocations are answered when the engine has released what was
//! revoked, so its last batches are written and committed by then (`on_revoke`); what is lost is given up at once.

mod context;
mod lane;
mod lookup;
mod options;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, bounded};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use self::context::{Called, Context, assign, unassign};
use self::lane::Lane;
use self::lookup::Lookup;
pub use self::options::ConfluentOptions;
use super::native::TopicSelection;
use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::consumer::{Positions, Repeats};
use crate::kafka::credit::Wake;
use crate::port::{MemoryBudget, Source, SourceError, SourceEvent, Waker};

/// How long a poll waits at most for what nobody says: that there is memory again, that librdkafka seeks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between two tries to find out where assigned partitions stand.
const RETRY: Duration = Duration::from_secs(1);

/// A change of what is ours that is not worked off yet.
enum Change {
    Assign(TopicPartitionList),
    Revoke(TopicPartitionList),
    Lost(TopicPartitionList),
}

/// Reads with librdkafka.
pub struct ConfluentSource {
    /// `None` once closed. Queues of partitions hold it too.
    consumer: Option<Arc<BaseConsumer<Context>>>,
    lanes: BTreeMap<TopicPartition, Lane>,
    lookup: Lookup,
    memory: Arc<MemoryBudget>,
    credit_chunks: usize,
    chunk_bytes: usize,
    wake: Wake,
    woken: Receiver<()>,
    changes: VecDeque<Change>,
    /// When the first of the changes may be tried again.
    retry_at: Option<Instant>,
    /// What the engine has still to release before the first of the changes is through.
    unreleased: BTreeSet<TopicPartition>,
    survey: bool,
    /// What happened outside of a poll.
    late: Vec<SourceEvent>,
    repeats: Repeats,
}

impl ConfluentSource {
    /// Makes a client, finds brokers and topics, and begins to join the group.
    ///
    /// # Errors
    /// When librdkafka refuses a setting, no broker answers for `connect_timeout`, or a topic does not exist.
    pub fn connect(options: &ConfluentOptions) -> Result<Self, SourceError> {
        options.check().map_err(|(_, message)| SourceError { message, unavailable: false })?;
        let failed = |error: KafkaError| SourceError { message: format!("librdkafka: {error}"), unavailable: false };
        let (wake, woken) = Wake::channel();
        let lookup = Lookup::connect(options)?;
        let context = Context::new(options.read_committed);
        let mut consumer: BaseConsumer<Context> =
            options.client_config().create_with_context(context).map_err(failed)?;
        let waking = wake.clone();
        consumer.set_nonempty_callback(move || waking.wake());
        let mut changes = VecDeque::new();
        match &options.topics {
            TopicSelection::Names(names) => {
                consumer.subscribe(&names.iter().map(String::as_str).collect::<Vec<_>>()).map_err(failed)?;
            }
            TopicSelection::Pattern(pattern) => consumer.subscribe(&[&posix(pattern.as_str())]).map_err(failed)?,
            TopicSelection::Partitions(partitions) => {
                changes.push_back(Change::Assign(list(partitions.iter().map(|of| (of, Offset::Invalid)))));
            }
        }
        Ok(Self {
            consumer: Some(Arc::new(consumer)),
            lanes: BTreeMap::new(),
            lookup,
            memory: Arc::clone(&options.memory),
            credit_chunks: options.credit_chunks,
            chunk_bytes: options.chunk_bytes,
            wake,
            woken,
            changes,
            retry_at: None,
            unreleased: BTreeSet::new(),
            survey: false,
            late: Vec::new(),
            repeats: Repeats::default(),
        })
    }

    /// Works off all that there is without waiting; says whether to look again soon.
    fn turn(&mut self, events: &mut Vec<SourceEvent>) -> bool {
        let Some(consumer) = self.consumer.clone() else { return false };
        events.append(&mut self.late);
        self.poll_main(&consumer, events);
        self.work_off(&consumer, events);
        if std::mem::take(&mut self.survey) {
            self.answer_survey(events);
        }
        let mut soon = false;
        for (partition, lane) in &mut self.lanes {
            soon |= lane.read(partition, &consumer, &self.memory, self.chunk_bytes, events);
        }
        soon
    }

    /// Serves the main queue until it is empty.
    fn poll_main(&mut self, consumer: &BaseConsumer<Context>, events: &mut Vec<SourceEvent>) {
        let context = consumer.context();
        loop {
            let count = context.count();
            match consumer.poll(Duration::ZERO) {
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    let message = format!("librdkafka cannot go on: {code}");
                    events.push(SourceEvent::Failed(SourceError { message, unavailable: false }));
                }
                // A message here is from before its partition had a queue of its own, and comes again.
                Some(_) => {}
                None if context.count() == count => break,
                None => {}
            }
        }
        for called in context.take() {
            match called {
                Called::Assign(list) => self.changes.push_back(Change::Assign(list)),
                Called::Revoke { list, lost: true } => self.changes.push_back(Change::Lost(list)),
                Called::Revoke { list, lost: false } => self.changes.push_back(Change::Revoke(list)),
                Called::Committed { positions, result } => {
                    let result =
                        result.map_err(|text| error(format!("the group's offsets were not committed: {text}")));
                    events.push(SourceEvent::Committed { positions, result });
                }
                Called::Trouble(reason) => self.trouble(&reason, events),
            }
        }
    }

    fn trouble(&mut self, reason: &str, events: &mut Vec<SourceEvent>) {
        if self.repeats.is_news(reason) {
            let message = format!("librdkafka: {reason}; it tries again by itself");
            events.push(SourceEvent::Trouble(SourceError { message, unavailable: true }));
        }
    }

    /// Answers the changes in their order. One that has to wait holds up those after it.
    fn work_off(&mut self, consumer: &Arc<BaseConsumer<Context>>, events: &mut Vec<SourceEvent>) {
        while self.unreleased.is_empty() && self.retry_at.is_none_or(|at| at <= door::now()) {
            let Some(change) = self.changes.front() else { return };
            let done = match change {
                Change::Assign(list) => self.assigned(consumer, &list.clone(), events),
                Change::Revoke(list) if list.count() > 0 => {
                    self.unreleased = partitions(list).into_iter().collect();
                    self.lanes
                        .iter_mut()
                        .filter(|(of, _)| self.unreleased.contains(of))
                        .for_each(|(_, lane)| lane.stop());
                    events.push(SourceEvent::Revoked(partitions(list)));
                    return;
                }
                Change::Lost(list) | Change::Revoke(list) => {
                    let lost = partitions(list);
                    lost.iter().for_each(|partition| drop(self.lanes.remove(partition)));
                    events.push(SourceEvent::Lost(lost));
                    unassign(consumer, list)
                }
            };
            match done {
                Ok(()) => {
                    self.changes.pop_front();
                    self.retry_at = None;
                }
                Err(error) => {
                    self.retry_at = Some(door::now() + RETRY);
                    self.trouble(&format!("what is assigned cannot be looked up: {error}"), events);
                }
            }
        }
    }

    /// Finds out where the partitions stand, takes them, and holds them until they are started.
    fn assigned(
        &mut self,
        consumer: &Arc<BaseConsumer<Context>>,
        assigned: &TopicPartitionList,
        events: &mut Vec<SourceEvent>,
    ) -> KafkaResult<()> {
        let assignments = self.lookup.describe(assigned)?;
        // At the end of the log nothing is fetched that is not wanted.
        let list = list(assignments.iter().map(|of| (&of.partition, Offset::Offset(of.log_end))));
        assign(consumer, &list)?;
        consumer.pause(&list)?;
        for assignment in &assignments {
            let partition = &assignment.partition;
            if let Some(lane) = Lane::new(consumer, partition, self.wake.clone(), self.credit_chunks) {
                self.lanes.insert(partition.clone(), lane);
            }
        }
        if !assignments.is_empty() {
            events.push(SourceEvent::Assigned(assignments));
        }
        events.push(SourceEvent::Settled);
        Ok(())
    }

    /// No answer is an answer too: the engine asks again.
    fn answer_survey(&mut self, events: &mut Vec<SourceEvent>) {
        match self.lookup.survey() {
            Ok(surveyed) => events.push(SourceEvent::Surveyed(surveyed)),
            Err(error) => log::debug!("librdkafka: the partitions cannot be looked up: {error}"),
        }
    }

    /// Commits and waits for the answer.
    fn commit_now(&mut self, positions: Positions) -> Result<(), SourceError> {
        let Some(consumer) = self.consumer.as_ref().filter(|_| !positions.is_empty()) else { return Ok(()) };
        let result = consumer.commit(&list_of(&positions), CommitMode::Sync);
        let result = result.map_err(|cause| error(format!("the group's offsets were not committed: {cause}")));
        self.late.push(SourceEvent::Committed { positions, result: result.clone() });
        result
    }
}

impl Source for ConfluentSource {
    fn poll(&mut self, wait: Duration, events: &mut Vec<SourceEvent>) {
        let soon = self.turn(events);
        if !events.is_empty() {
            return;
        }
        let wait = if soon { wait.min(LOOK_AGAIN) } else { wait };
        let wait = self.retry_at.map_or(wait, |at| wait.min(at.saturating_duration_since(door::now())));
        if self.woken.recv_timeout(wait).is_ok() {
            self.turn(events);
        }
    }

    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64) {
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.start(run, offset);
            self.wake.wake();
        }
    }

    fn stop(&mut self, partitions: &[TopicPartition]) {
        let Some(consumer) = &self.consumer else { return };
        for partition in partitions {
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.stop();
            }
        }
        let held = list(partitions.iter().filter(|of| self.lanes.contains_key(of)).map(|of| (of, Offset::Invalid)));
        if let Err(error) = consumer.pause(&held) {
            log::debug!("librdkafka: {error}");
        }
    }

    fn commit(&mut self, positions: Positions) {
        let Some(consumer) = &self.consumer else { return };
        if let Err(cause) = consumer.commit(&list_of(&positions), CommitMode::Async) {
            let result = Err(error(format!("the group's offsets were not committed: {cause}")));
            self.late.push(SourceEvent::Committed { positions, result });
            self.wake.wake();
        }
    }

    fn survey(&mut self) {
        self.survey = true;
        self.wake.wake();
    }

    fn release(&mut self, partitions: Vec<TopicPartition>, positions: Positions) {
        if let Err(error) = self.commit_now(positions) {
            log::warn!("{error}");
        }
        for partition in &partitions {
            self.lanes.remove(partition);
            self.unreleased.remove(partition);
        }
        let Some(consumer) = self.consumer.clone() else { return };
        if self.unreleased.is_empty() && matches!(self.changes.front(), Some(Change::Revoke(_))) {
            if let Some(Change::Revoke(list)) = self.changes.pop_front()
                && let Err(error) = unassign(&consumer, &list)
            {
                log::warn!("librdkafka: {error}");
            }
            self.late.push(SourceEvent::Settled);
        }
        self.wake.wake();
    }

    fn close(&mut self, positions: Positions, deadline: Duration) -> Result<(), SourceError> {
        let until = door::now() + deadline;
        let committed = self.commit_now(positions);
        let Some(consumer) = self.consumer.take() else { return Ok(()) };
        consumer.context().close();
        // A revocation that was not answered would hold up the end.
        if let Some(Change::Revoke(list) | Change::Lost(list)) = self.changes.pop_front() {
            let _ = unassign(&consumer, &list);
        }
        self.lanes.clear();
        let (ending, ended) = bounded::<()>(0);
        // Leaving the group is the drop's work, and may take longer than there is time.
        let thread = door::spawn("konekt-librdkafka-close", move || {
            drop(consumer);
            drop(ending);
        });
        if ended.recv_deadline(until).is_err_and(|error| error.is_timeout()) {
            return committed.and(Err(error("librdkafka did not leave the group in time")));
        }
        committed.and(thread.join().map_err(|_| error("librdkafka's end panicked; see the log")))
    }

    fn waker(&self) -> Waker {
        let wake = self.wake.clone();
        Arc::new(move || wake.wake())
    }
}

/// librdkafka knows no groups that catch nothing.
fn posix(anchored: &str) -> String {
    let inner = anchored.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$"));
    inner.map_or_else(|| anchored.to_owned(), |inner| format!("^({inner})$"))
}

fn error(message: impl Into<String>) -> SourceError {
    SourceError { message: message.into(), unavailable: false }
}

fn list<'a>(entries: impl Iterator<Item = (&'a TopicPartition, Offset)>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in entries {
        // The offset is one of ours, and so one that can be represented.
        let _ = list.add_partition_offset(&partition.topic, partition.partition, offset);
    }
    list
}

fn list_of(positions: &Positions) -> TopicPartitionList {
    list(positions.iter().map(|(partition, offset)| (partition, Offset::Offset(*offset))))
}

fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|of| TopicPartition::new(of.topic(), of.partition())).collect()
}

/// Of each entry; −1 where there is none.
fn offsets(list: &TopicPartitionList) -> Vec<i64> {
    let number = |offset| if let Offset::Offset(number) = offset { number } else { -1 };
    list.elements().iter().map(|of| number(of.offset())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_written_as_librdkafka_reads_them() {
        let TopicSelection::Pattern(pattern) = TopicSelection::pattern("orders-.*|a").unwrap() else { unreachable!() };
        assert_eq!(posix(pattern.as_str()), "^(orders-.*|a)$");
    }
}
