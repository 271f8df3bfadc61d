//! Scripted faults: what goes wrong, for which requests, how often. Tests and fault scripts push them while clients run.
//!
//! ```
//! use konekt::broker::{Action, ApiKey, Broker, BrokerOptions, Fault};
//! let broker = Broker::start(BrokerOptions::default())?;
//! broker.faults().push(Fault::new(ApiKey::Fetch, Action::Close).after(2).times(3));
//! # Ok::<(), konekt::broker::BrokerError>(())
//! ```

use std::time::Duration;

use kafka_protocol::messages::{ApiKey, RequestKind};
use parking_lot::Mutex;

/// A fault for requests of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which requests it is for.
    pub api: ApiKey,
    /// Only requests that name this partition (of any topic); an [`Action::Error`] then hits this partition alone.
    pub partition: Option<i32>,
    /// How many matching requests pass unharmed first.
    pub skip: u32,
    /// How many matching requests are hit; then the fault is used up.
    pub times: u32,
    /// What happens to them.
    pub action: Action,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing is done and the answer carries this Kafka error code.
    Error(i16),
    /// Nothing is done and the connection is closed.
    Close,
    /// The request is carried out, half of the answer is sent, then the connection is closed.
    CloseHalfWay,
    /// The request is carried out, then the connection is closed without an answer.
    CloseAfter,
    /// The request is carried out this much later.
    Delay(Duration),
    /// Nothing is done, and this connection never gets an answer again, though it stays open.
    Silence,
    /// The request is carried out; the answer is a whole frame with only the first half of its content.
    TruncateFrame,
    /// The request is carried out; one byte in the middle of the answer is changed.
    Corrupt,
    /// The request is carried out; after its correlation id the answer is noise, which and how long by this seed.
    Noise(u64),
}

impl Fault {
    /// A fault that hits the next request of this kind, once.
    pub fn new(api: ApiKey, action: Action) -> Self {
        Self { api, partition: None, skip: 0, times: 1, action }
    }

    /// Lets so many requests pass first.
    #[must_use]
    pub fn after(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    /// Hits so many requests.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { times, ..self }
    }

    /// Hits only requests that name this partition.
    #[must_use]
    pub fn on_partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    fn matches(&self, api: ApiKey, partitions: &[i32]) -> bool {
        self.api == api && self.partition.is_none_or(|partition| partitions.contains(&partition))
    }
}

/// The faults that are still to come.
#[derive(Debug, Default)]
pub struct Faults {
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    waiting: Vec<Fault>,
    fired: u64,
}

/// A fault that hits the request in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub partition: Option<i32>,
    pub action: Action,
}

impl Faults {
    /// Adds a fault to the script. Of several that match a request, the first that is due hits it.
    pub fn push(&self, fault: Fault) {
        self.script.lock().waiting.push(fault);
    }

    /// Forgets all faults that have not happened.
    pub fn clear(&self) {
        self.script.lock().waiting.clear();
    }

    /// How many requests were hit so far.
    pub fn fired(&self) -> u64 {
        self.script.lock().fired
    }

    /// How many faults are not used up yet.
    pub fn waiting(&self) -> usize {
        self.script.lock().waiting.len()
    }

    /// The fault for a request, if one is due; every matching fault counts the request.
    pub(super) fn take(&self, api: ApiKey, request: &RequestKind) -> Option<Hit> {
        let mut script = self.script.lock();
        if script.waiting.is_empty() {
            return None;
        }
        let partitions = partitions_of(request);
        let mut hit = None;
        for fault in script.waiting.iter_mut().filter(|fault| fault.matches(api, &partitions)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if hit.is_none() && fault.times > 0 {
                fault.times -= 1;
                hit = Some(Hit { partition: fault.partition, action: fault.action });
            }
        }
        script.waiting.retain(|fault| fault.times > 0);
        script.fired += u64::from(hit.is_some());
        hit
    }
}

/// The partitions that a request names.
fn partitions_of(request: &RequestKind) -> Vec<i32> {
    match request {
        RequestKind::Produce(request) => {
            request.topic_data.iter().flat_map(|topic| &topic.partition_data).map(|data| data.index).collect()
        }
        RequestKind::Fetch(request) => {
            request.topics.iter().flat_map(|topic| &topic.partitions).map(|asked| asked.partition).collect()
        }
        RequestKind::ListOffsets(request) => {
            request.topics.iter().flat_map(|topic| &topic.partitions).map(|asked| asked.partition_index).collect()
        }
        RequestKind::OffsetCommit(request) => {
            request.topics.iter().flat_map(|topic| &topic.partitions).map(|asked| asked.partition_index).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::{FetchRequest, HeartbeatRequest};

    use super::*;

    fn fetch_of(partitions: &[i32]) -> RequestKind {
        let asked = partitions.iter().map(|&index| FetchPartition::default().with_partition(index)).collect();
        RequestKind::Fetch(FetchRequest::default().with_topics(vec![FetchTopic::default().with_partitions(asked)]))
    }

    fn actions(faults: &Faults, request: &RequestKind, count: usize) -> Vec<Option<Action>> {
        (0..count).map(|_| faults.take(ApiKey::Fetch, request).map(|hit| hit.action)).collect()
    }

    #[test]
    fn a_fault_waits_its_turn_hits_as_often_as_it_says_and_is_gone() {
        let faults = Faults::default();
        faults.push(Fault::new(ApiKey::Fetch, Action::Close).after(1).times(2));
        let hit = Some(Action::Close);
        assert_eq!(actions(&faults, &fetch_of(&[0]), 5), [None, hit, hit, None, None]);
        assert_eq!((faults.fired(), faults.waiting()), (2, 0));
    }

    #[test]
    fn other_apis_and_other_partitions_are_spared() {
        let faults = Faults::default();
        faults.push(Fault::new(ApiKey::Fetch, Action::Error(6)).on_partition(3));
        let heartbeat = RequestKind::Heartbeat(HeartbeatRequest::default());
        assert_eq!(faults.take(ApiKey::Heartbeat, &heartbeat), None);
        assert_eq!(faults.take(ApiKey::Fetch, &fetch_of(&[1, 2])), None);
        let hit = Hit { partition: Some(3), action: Action::Error(6) };
        assert_eq!(faults.take(ApiKey::Fetch, &fetch_of(&[2, 3])), Some(hit));
    }

    #[test]
    fn the_first_that_is_due_hits() {
        let faults = Faults::default();
        faults.push(Fault::new(ApiKey::Fetch, Action::Close));
        faults.push(Fault::new(ApiKey::Fetch, Action::Corrupt));
        assert_eq!(actions(&faults, &fetch_of(&[0]), 3), [Some(Action::Close), Some(Action::Corrupt), None]);
        faults.push(Fault::new(ApiKey::Fetch, Action::Silence));
        faults.clear();
        assert_eq!(actions(&faults, &fetch_of(&[0]), 1), [None]);
    }
}
