//! What one seed makes of a world: how many there are, what fails, where bad records go.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use konekt::TopicPartition;
use konekt::core::backoff::Chance;
use konekt::core::verdict::ErrorClass;
use konekt::engine::{DeadLetterPlaces, Delivery, EngineConfig, OffsetReset};
use konekt::port::MemoryBudget;
use konekt::testkit::{Bug, Fault, Manner, PartitionLog};

/// How long work in flight may take when its partition is revoked.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Where bad records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere: their partition waits until somebody mends the table.
    Nowhere,
    Table,
    Letters,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub exactly_once: bool,
    pub partitions: i32,
    /// The end of each log.
    pub end: i64,
    /// Processes that share the group.
    pub processes: usize,
    /// How many calls in a hundred fail, and how.
    pub percent: u64,
    pub kinds: Vec<Fault>,
    /// How many records in a thousand are bad.
    pub bad_permille: u64,
    pub place: Place,
    pub manner: Manner,
    pub workers: usize,
    pub lanes: usize,
    pub batch_size: usize,
    pub memory_limit: usize,
    /// Processes end by themselves at the ends of the logs, which then do not grow.
    pub until_end: bool,
    pub max_messages: Option<u64>,
    /// Steps before everything heals.
    pub storm: u64,
    pub bug: Option<Bug>,
}

/// What goes by without anybody looking at the records.
const BLAMELESS: [Fault; 6] = [
    Fault::Refused(ErrorClass::Transient),
    Fault::Refused(ErrorClass::Contention),
    Fault::Refused(ErrorClass::Overload),
    Fault::Refused(ErrorClass::Auth),
    Fault::Refused(ErrorClass::Schema),
    Fault::LostAnswer,
];

/// What is blamed on records when it goes on.
const SUSPICIOUS: [Fault; 3] = [Fault::Refused(ErrorClass::Unclassified), Fault::Silence, Fault::Panic];

impl Scenario {
    /// Everything drawn from the seed.
    pub fn drawn(seed: u64) -> Self {
        let chance = &mut Chance::seeded(seed);
        let mut draw = |below: u64| chance.draw() % below;
        let exactly_once = draw(3) > 0;
        let place = [Place::Table, Place::Letters, Place::Letters, Place::Nowhere][draw(4) as usize];
        let bad_permille = if draw(2) == 0 { 0 } else { 5 + draw(60) };
        let bad = if draw(4) == 0 { ErrorClass::Unclassified } else { ErrorClass::Data };
        let mut kinds: Vec<Fault> = BLAMELESS.into_iter().filter(|_| draw(3) > 0).collect();
        kinds.extend(SUSPICIOUS.into_iter().filter(|_| draw(4) == 0));
        let max_messages = (draw(8) == 0).then(|| 1 + draw(60));
        // Nobody counts what was written without an answer, or again.
        let exactly_once = exactly_once || max_messages.is_some();
        kinds.retain(|kind| max_messages.is_none() || !matches!(kind, Fault::LostAnswer | Fault::Panic));
        let manner = Manner {
            transactional: exactly_once,
            // Up to three lanes are decoded by the worker itself; more would be spread over threads.
            batches_per_write: 1 + draw(3) as usize,
            bisects: draw(2) == 0,
            bad,
            slow_ms: [0, 0, 20, 400][draw(4) as usize],
        };
        Self {
            seed,
            exactly_once,
            partitions: 1 + draw(4) as i32,
            end: 20 + draw(100) as i64,
            processes: if max_messages.is_some() { 1 } else { 1 + draw(3) as usize },
            percent: draw(30),
            kinds,
            bad_permille,
            place,
            manner,
            workers: 1 + draw(3) as usize,
            lanes: if exactly_once { 1 } else { 1 + draw(3) as usize },
            batch_size: 1 + draw(12) as usize,
            memory_limit: [1 << 20, 2000, 400][draw(3) as usize],
            until_end: max_messages.is_some() || draw(2) == 0,
            max_messages,
            storm: 500 + draw(3000),
            bug: None,
        }
    }

    /// The logs as they will be when all of them can be seen.
    pub fn logs(&self) -> BTreeMap<TopicPartition, PartitionLog> {
        let mut chance = Chance::seeded(self.seed ^ 0x106);
        (0..self.partitions)
            .map(|partition| (TopicPartition::new("t", partition), PartitionLog::drawn(&mut chance, self.end)))
            .collect()
    }

    /// Whether a record can become a letter that is not bad: when failures without a class go on for too long.
    pub fn blames_the_innocent(&self) -> bool {
        self.kinds.iter().any(|kind| SUSPICIOUS.contains(kind))
    }

    pub fn engine(&self, dead_letters: DeadLetterPlaces, memory: Arc<MemoryBudget>) -> EngineConfig {
        EngineConfig {
            group_id: "sim".into(),
            delivery: if self.exactly_once { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce },
            auto_offset_reset: OffsetReset::Earliest,
            max_workers: self.workers,
            partition_workers: self.lanes,
            batch_size: self.batch_size,
            batch_bytes_max: 1 << 20,
            batch_timeout: Duration::from_millis(100),
            max_retries: 3,
            retry_backoff: Duration::from_millis(50),
            error_threshold: 3,
            error_timeout: Duration::from_secs(2),
            dead_letters,
            dead_letter_share_max: 100,
            message_timeout: Duration::from_secs(120),
            commit_interval: Duration::from_secs(5),
            stats_interval: Duration::from_secs(30),
            shutdown_timeout: DRAIN_TIMEOUT,
            until_end: self.until_end,
            max_messages: self.max_messages,
            memory,
        }
    }
}
