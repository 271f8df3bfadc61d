//! One member's way to the cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::cluster::Cluster;
use super::faults::{Bug, Faults};
use super::log::LogRun;
use crate::core::record::TopicPartition;
use crate::port::{Chunk, MemoryBudget, Source, SourceError, SourceEvent, Waker};

/// Runs of one partition that may be on their way at a time.
const CREDIT: usize = 3;

struct Started {
    run: u64,
    next: i64,
    credit: Arc<AtomicUsize>,
}

/// See the module.
pub struct MemberSource {
    process: u32,
    cluster: Cluster,
    faults: Faults,
    memory: Arc<MemoryBudget>,
    started: BTreeMap<TopicPartition, Started>,
    /// Commits that are on their way.
    commits: VecDeque<Vec<(TopicPartition, i64)>>,
    /// Partitions whose last run was damaged: the next one is not.
    damaged: BTreeSet<TopicPartition>,
    /// The offset behind the highest record the process wrote; only a planted defect looks at it.
    highest: Arc<Mutex<BTreeMap<TopicPartition, i64>>>,
}

impl MemberSource {
    /// The source of a process, which joins the group.
    pub fn join(process: u32, cluster: &Cluster, faults: &Faults, memory: Arc<MemoryBudget>) -> Self {
        cluster.join(process);
        Self {
            process,
            cluster: cluster.clone(),
            faults: faults.clone(),
            memory,
            started: BTreeMap::new(),
            commits: VecDeque::new(),
            damaged: BTreeSet::new(),
            highest: Arc::default(),
        }
    }

    /// Where somebody notes, for [`Bug::TrackerOfRanges`], the offset behind the highest record written.
    pub fn highest(&self) -> Arc<Mutex<BTreeMap<TopicPartition, i64>>> {
        Arc::clone(&self.highest)
    }

    fn fetch(&mut self, name: &TopicPartition) -> Option<Chunk> {
        let started = self.started.get_mut(name)?;
        if started.credit.load(Ordering::Relaxed) >= CREDIT {
            return None;
        }
        let (count, before) = (1 + self.faults.draw() as usize % 9, self.faults.draw() as usize % 3);
        let held = self.cluster.with(|state| {
            let log = &state.logs[name];
            let below = started.next < log.start;
            let fetched = !below && started.next < log.end && state.holds(self.process, name);
            fetched.then(|| (log.run(started.next, count, before), log.end))
        });
        let ((contents, next), log_end) = held?;
        if !self.memory.reserve(LogRun::bytes_of(contents.len()), Duration::ZERO) {
            return None;
        }
        let damaged = !self.damaged.remove(name) && self.faults.happens(10);
        if damaged {
            self.damaged.insert(name.clone());
        }
        if self.faults.planted(Bug::CommitBeforeWrite) {
            self.cluster.with(|state| state.commit(self.process, &[(name.clone(), next)]));
        }
        started.credit.fetch_add(1, Ordering::Relaxed);
        let records_max = contents.len();
        let (credit, memory) = (Arc::clone(&started.credit), Arc::clone(&self.memory));
        let damaged = damaged.then(|| self.faults.draw() as usize % 2);
        let records = Arc::new(LogRun { contents, damaged, credit, memory });
        let first = std::mem::replace(&mut started.next, next);
        Some(Chunk { partition: name.clone(), run: started.run, first, next, records_max, log_end, records })
    }

    /// One commit arrives, or fails; of a failed one nobody knows whether it arrived.
    fn answer_commit(&mut self) -> Option<SourceEvent> {
        let positions = self.commits.pop_front()?;
        let fails = self.faults.happens(100);
        let arrives = !fails || self.faults.draw().is_multiple_of(2);
        let taken = arrives && self.take_offsets(&positions);
        let result = if taken && !fails { Ok(()) } else { Err(planted("the offsets were not taken")) };
        Some(SourceEvent::Committed { positions, result })
    }

    fn take_offsets(&self, positions: &[(TopicPartition, i64)]) -> bool {
        let mut positions = positions.to_vec();
        if self.faults.planted(Bug::TrackerOfRanges) {
            let highest = self.highest.lock();
            positions.iter_mut().for_each(|(name, at)| *at = highest.get(name).copied().unwrap_or(*at).max(*at));
        }
        self.cluster.with(|state| state.commit(self.process, &positions))
    }

    /// Trouble of all kinds that a source can report.
    fn trouble(&mut self) -> Option<SourceEvent> {
        if self.faults.happens(3) {
            return Some(SourceEvent::Trouble(planted("a broker is away")));
        }
        if self.faults.happens(1) && self.faults.happens(200) {
            return Some(SourceEvent::Failed(planted("the group refuses us")));
        }
        if self.faults.happens(1)
            && self.faults.happens(300)
            && let Some((partition, started)) = self.started.pop_first()
        {
            let (run, forbidden) = (Some(started.run), started.run.is_multiple_of(2));
            let error = planted("the partition cannot be read");
            return Some(SourceEvent::PartitionFailed { partition, run, forbidden, error });
        }
        None
    }
}

fn planted(what: &str) -> SourceError {
    SourceError { message: format!("planted: {what}"), unavailable: false }
}

impl Source for MemberSource {
    fn poll(&mut self, _wait: Duration, events: &mut Vec<SourceEvent>) {
        let news = self.cluster.with(|state| state.news(self.process));
        if let Some(SourceEvent::Revoked(names) | SourceEvent::Lost(names)) = &news {
            self.stop(names);
        }
        if let Some(SourceEvent::Lost(names)) = &news {
            // What is on its way for these is refused, whoever has them next.
            self.commits.iter_mut().for_each(|commit| commit.retain(|(name, _)| !names.contains(name)));
        }
        events.extend(news);
        if self.faults.draw().is_multiple_of(2) {
            events.extend(self.answer_commit());
        }
        events.extend(self.trouble());
        let names: Vec<_> = self.started.keys().cloned().collect();
        for name in names {
            if self.faults.draw().is_multiple_of(2) {
                events.extend(self.fetch(&name).map(SourceEvent::Fetched));
            }
        }
    }

    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64) {
        if self.cluster.with(|state| state.holds(self.process, partition)) {
            let started = Started { run, next: offset, credit: Arc::default() };
            self.started.insert(partition.clone(), started);
        }
    }

    fn stop(&mut self, partitions: &[TopicPartition]) {
        self.started.retain(|name, _| !partitions.contains(name));
    }

    fn commit(&mut self, positions: Vec<(TopicPartition, i64)>) {
        self.commits.push_back(positions);
    }

    fn survey(&mut self) {
        if !self.faults.happens(100) {
            self.cluster.with(|state| state.survey(self.process));
        }
    }

    fn release(&mut self, partitions: Vec<TopicPartition>, positions: Vec<(TopicPartition, i64)>) {
        while let Some(event) = self.answer_commit() {
            self.cluster.with(|state| state.tell(self.process, event));
        }
        if !self.faults.happens(50) {
            self.take_offsets(&positions);
        }
        self.stop(&partitions);
        self.cluster.with(|state| state.release(self.process, &partitions));
    }

    fn close(&mut self, positions: Vec<(TopicPartition, i64)>, _deadline: Duration) -> Result<(), SourceError> {
        while self.answer_commit().is_some() {}
        let fails = self.faults.happens(50);
        if !fails {
            self.take_offsets(&positions);
        }
        self.cluster.with(|state| state.leave(self.process));
        if fails { Err(planted("the last commit was not answered")) } else { Ok(()) }
    }

    fn waker(&self) -> Waker {
        Arc::new(|| {})
    }
}
