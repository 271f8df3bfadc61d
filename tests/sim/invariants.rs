//! What must hold after every step (the list is that in the library's front page), checked against what the world around
//! the engine saw. The engine's own word counts only where its word is what is checked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use konekt::TopicPartition;
use konekt::core::statistics::{PartitionState, PartitionStatistics, Statistics};
use konekt::testkit::{Entry, PartitionLog};

use crate::scenario::{DRAIN_TIMEOUT, Scenario};

/// What did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

pub const POSITION: &str = "1: no position passes a record that is neither written nor dead-lettered";
pub const ORDER: &str = "2: rows are written in offset order, per partition or per key";
pub const LEFT_ALONE: &str = "3: after a partition is given back nothing is written for it";
pub const EXACTLY_ONCE: &str = "4: exactly once: no row twice, none by a former owner, none missing";
pub const BYTES: &str = "5: bytes held stay within the limit, beside what workers decode at the moment";
pub const CONSERVATION: &str = "6: read = written + dead-lettered + in flight + released";
pub const PAUSED: &str = "7: a paused partition starts no write; the others do not notice";
pub const COMPLETION: &str = "when everything is well again, everything gets done";
pub const NO_PANIC: &str = "nothing panics but what was planted";
pub const REPEATABLE: &str = "a seed repeats its run to the letter";

type Checked = Result<(), Violation>;

fn fail(invariant: &'static str, what: String) -> Checked {
    Err(Violation { invariant, what })
}

/// What became of one record.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Answer {
    rows: u32,
    failed: u32,
    letters: u32,
}

/// One partition, as the world saw it.
struct Part {
    records: Vec<i64>,
    answers: BTreeMap<i64, Answer>,
    /// How many of the first records are answered for without a gap.
    answered: usize,
    /// The last row per key (exactly once: of all).
    last_rows: BTreeMap<i64, i64>,
    /// Who claimed the position row last, and whether it said then that a person paused the partition.
    claimant: Option<u32>,
    claimed_paused: bool,
    row_paused: bool,
    /// The database's position, where it keeps one, and what Kafka was told last.
    position: i64,
    told: i64,
}

impl Part {
    fn new(log: &PartitionLog) -> Self {
        Self {
            records: log.records().collect(),
            answers: BTreeMap::new(),
            answered: 0,
            last_rows: BTreeMap::new(),
            claimant: None,
            claimed_paused: false,
            row_paused: false,
            position: 0,
            told: 0,
        }
    }

    fn answer(&mut self, offset: i64) -> &mut Answer {
        self.answers.entry(offset).or_default()
    }

    /// The first record that nobody has answered for.
    fn open(&mut self) -> Option<i64> {
        while self.records.get(self.answered).is_some_and(|offset| self.answers.contains_key(offset)) {
            self.answered += 1;
        }
        self.records.get(self.answered).copied()
    }
}

/// Of one process, what decides whether it may write.
#[derive(Default)]
struct Standing {
    revoked_at: BTreeMap<TopicPartition, Duration>,
    /// Given back with nothing in flight.
    given_back: BTreeSet<TopicPartition>,
    /// Paused, by its own word, with nothing in flight.
    still: BTreeSet<TopicPartition>,
}

/// See the module.
pub struct Invariants {
    exactly_once: bool,
    bytes_max: usize,
    parts: BTreeMap<TopicPartition, Part>,
    processes: BTreeMap<u32, Standing>,
}

/// What a worker may hold of one lane beyond the limit: a batch and the piece that was decoded too much; and one run
/// that is larger than the limit gets through alone.
const DECODED_BYTES_MAX: usize = 16 * (12 + 9 + 3);

impl Invariants {
    pub fn new(scenario: &Scenario, logs: &BTreeMap<TopicPartition, PartitionLog>) -> Self {
        let lanes = scenario.partitions as usize * scenario.lanes;
        Self {
            exactly_once: scenario.exactly_once,
            bytes_max: scenario.memory_limit + (lanes + 1) * DECODED_BYTES_MAX,
            parts: logs.iter().map(|(name, log)| (name.clone(), Part::new(log))).collect(),
            processes: BTreeMap::new(),
        }
    }

    /// One thing that happened.
    pub fn saw(&mut self, entry: &Entry, now: Duration) -> Checked {
        match entry {
            Entry::Assigned { process, partition } => drop(self.process(*process).given_back.remove(partition)),
            Entry::Revoked { process, partition } => {
                self.process(*process).revoked_at.insert(partition.clone(), now);
            }
            Entry::Released { process, partition } => self.released(*process, partition, now),
            Entry::Lost { .. } | Entry::Fenced { .. } => {}
            Entry::Claimed { process, partition, .. } => {
                let part = self.part(partition);
                (part.claimant, part.claimed_paused) = (Some(*process), part.row_paused);
            }
            Entry::PauseNoted { partition, paused } => {
                let part = self.part(partition);
                (part.row_paused, part.claimed_paused) = (*paused, part.claimed_paused && *paused);
            }
            Entry::Tried { process, partition } => self.may_write(*process, partition)?,
            Entry::Committed { process, partition, rows, failed, position } => {
                self.committed(*process, partition, rows, failed)?;
                if let Some(position) = position {
                    self.position_passes_nothing(partition, *position)?;
                    self.part(partition).position = *position;
                }
            }
            Entry::Letter { partition, offset, .. } => self.part(partition).answer(*offset).letters += 1,
            Entry::Told { partition, position, .. } => {
                self.position_passes_nothing(partition, *position)?;
                let before = std::mem::replace(&mut self.part(partition).told, *position);
                if *position < before {
                    return fail(
                        POSITION,
                        format!("{partition}: Kafka's offset goes back from {before} to {position}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn part(&mut self, partition: &TopicPartition) -> &mut Part {
        self.parts.get_mut(partition).expect("a partition of this world")
    }

    fn process(&mut self, process: u32) -> &mut Standing {
        self.processes.entry(process).or_default()
    }

    fn position_passes_nothing(&mut self, partition: &TopicPartition, position: i64) -> Checked {
        match self.part(partition).open() {
            Some(open) if open < position => {
                fail(POSITION, format!("{partition} is at {position}, and nobody answered for {open}"))
            }
            _ => Ok(()),
        }
    }

    /// Whoever gives a partition back may only have work in flight when its time was up.
    fn released(&mut self, process: u32, partition: &TopicPartition, now: Duration) {
        let standing = self.process(process);
        let asked = standing.revoked_at.remove(partition).unwrap_or(now);
        if now - asked < DRAIN_TIMEOUT {
            standing.given_back.insert(partition.clone());
        }
    }

    fn may_write(&mut self, process: u32, partition: &TopicPartition) -> Checked {
        let standing = self.process(process);
        if standing.given_back.contains(partition) {
            return fail(LEFT_ALONE, format!("process {process} gave {partition} back and writes for it"));
        }
        if standing.still.contains(partition) {
            return fail(PAUSED, format!("process {process} says that {partition} is paused and writes for it"));
        }
        Ok(())
    }

    fn committed(&mut self, process: u32, partition: &TopicPartition, rows: &[i64], failed: &[i64]) -> Checked {
        let exactly_once = self.exactly_once;
        let part = self.part(partition);
        if exactly_once && part.claimant != Some(process) {
            let owner = part.claimant;
            return fail(EXACTLY_ONCE, format!("process {process} wrote {partition}, which {owner:?} had claimed"));
        }
        if part.claimed_paused && part.claimant == Some(process) {
            return fail(PAUSED, format!("a person paused {partition}, process {process} found that out and writes"));
        }
        for &offset in rows {
            let first = part.answers.get(&offset).is_none_or(|answer| answer.rows == 0);
            part.answer(offset).rows += 1;
            let key = if exactly_once { 0 } else { offset * 7 % 5 };
            let last = part.last_rows.get(&key).copied().unwrap_or(-1);
            if first && offset < last {
                return fail(ORDER, format!("{partition}: {offset} was written after {last}"));
            }
            part.last_rows.insert(key, last.max(offset));
        }
        failed.iter().for_each(|offset| part.answer(*offset).failed += 1);
        let twice = |offset: &&i64| part.answers[*offset].rows + part.answers[*offset].failed > 1;
        match rows.iter().chain(failed).find(twice) {
            Some(offset) if exactly_once => fail(EXACTLY_ONCE, format!("{partition}: {offset} is there twice")),
            _ => Ok(()),
        }
    }

    /// What a process says of itself after its loop had a turn. `at_rest`: no worker has anything in hands.
    pub fn heard(&mut self, process: u32, said: &Statistics, at_rest: bool) -> Checked {
        let answered = said.records_written + said.dead_lettered + said.records_in_flight + said.records_released;
        if said.records_read != answered || said.records_unaccounted != 0 {
            return fail(CONSERVATION, format!("process {process}: {said:#?}"));
        }
        let defect = said.partitions.iter().find(|one| {
            one.state == PartitionState::Stuck && !one.detail.as_deref().unwrap_or_default().contains("planted")
        });
        if let Some(one) = defect {
            return fail(COMPLETION, format!("process {process}: {one:?}"));
        }
        let stands = |one: &&PartitionStatistics| matches!(one.state, PartitionState::Paused | PartitionState::Stuck);
        let paused = said.partitions.iter().filter(stands);
        let paused: BTreeSet<TopicPartition> =
            paused.map(|one| TopicPartition::new(&*one.topic, one.partition)).collect();
        let still = &mut self.process(process).still;
        if at_rest {
            *still = paused;
        } else {
            still.retain(|name| paused.contains(name));
        }
        Ok(())
    }

    pub fn bytes_stay_within_the_limit(&self, process: u32, bytes: usize) -> Checked {
        if bytes > self.bytes_max {
            return fail(BYTES, format!("process {process} holds {bytes} bytes, {} at most", self.bytes_max));
        }
        Ok(())
    }

    pub fn nothing_is_held_after_the_end(&self, process: u32, bytes: usize) -> Checked {
        if bytes > 0 {
            return fail(BYTES, format!("process {process} is gone and {bytes} bytes are held"));
        }
        Ok(())
    }

    /// Whether every record is answered for, but for those of `except`.
    pub fn complete(&mut self, except: Option<&TopicPartition>) -> bool {
        self.parts.iter_mut().all(|(name, part)| Some(name) == except || part.open().is_none())
    }

    /// Records that the database's position is behind. A letter may be kept, and the position not move then.
    pub fn behind_the_positions(&self) -> u64 {
        self.parts.values().map(|part| part.answers.range(..part.position).count() as u64).sum()
    }

    pub fn records(&self) -> u64 {
        self.parts.values().map(|part| part.records.len() as u64).sum()
    }

    /// The end: each record has an answer, and only those were put aside that had to be.
    pub fn ended(&mut self, must_be_aside: impl Fn(&TopicPartition, i64) -> Option<bool>) -> Checked {
        for (name, part) in &mut self.parts {
            if let Some(open) = part.open() {
                return fail(COMPLETION, format!("{name}: nobody answered for {open}"));
            }
            for (&offset, answer) in &part.answers {
                let aside = answer.failed + answer.letters > 0;
                if must_be_aside(name, offset).is_some_and(|must| must != aside) {
                    return fail(EXACTLY_ONCE, format!("{name}: {offset} was put aside: {aside}"));
                }
                if self.exactly_once && (answer.rows > 0) == aside && must_be_aside(name, offset).is_some() {
                    return fail(EXACTLY_ONCE, format!("{name}: {offset} is a row and put aside, or neither"));
                }
            }
        }
        Ok(())
    }
}
