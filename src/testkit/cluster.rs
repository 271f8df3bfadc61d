//! A cluster with one topic and one consumer group: who holds which partition, and the group's offsets.
//!
//! A rebalance draws who is to have what. A partition that moves is taken from its holder first, which is asked for it
//! (and answers when its work is finished) or told that it is gone; a member that is silent for too long is expelled,
//! and learns of that when it speaks again. Offsets are taken only from who holds the partition, as the native client
//! sees to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::faults::{Bug, Faults};
use super::journal::{Entry, Journal};
use super::log::PartitionLog;
use crate::core::assignment::Assignment;
use crate::core::record::TopicPartition;
use crate::port::SourceEvent;

/// Who has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Member(u32),
    /// Asked to give it back.
    Leaving(u32),
}

#[derive(Default)]
struct Member {
    inbox: VecDeque<SourceEvent>,
    /// What its engine was told it has.
    told: BTreeSet<TopicPartition>,
    /// Something changed for it since it was last told that all is settled.
    unsettled: bool,
    expelled: bool,
}

pub(super) struct State {
    pub logs: BTreeMap<TopicPartition, PartitionLog>,
    pub offsets: BTreeMap<TopicPartition, i64>,
    members: BTreeMap<u32, Member>,
    holders: BTreeMap<TopicPartition, Holder>,
    targets: BTreeMap<TopicPartition, u32>,
    pub faults: Faults,
    pub journal: Journal,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub struct Cluster(Arc<Mutex<State>>);

impl Cluster {
    /// A cluster with these logs and a group without members.
    pub fn new(logs: BTreeMap<TopicPartition, PartitionLog>, faults: Faults, journal: Journal) -> Self {
        let holders = logs.keys().map(|name| (name.clone(), Holder::Nobody)).collect();
        let (offsets, members, targets) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(State { logs, offsets, members, holders, targets, faults, journal })))
    }

    /// A process joins the group.
    pub fn join(&self, process: u32) {
        let mut state = self.0.lock();
        state.members.insert(process, Member { unsettled: true, ..Member::default() });
        state.rebalance();
    }

    /// A process was silent for too long: its partitions go to others. It joins again should it speak again.
    pub fn expel(&self, process: u32) {
        let mut state = self.0.lock();
        if let Some(member) = state.members.get_mut(&process) {
            member.expelled = true;
            state.take_all(process);
            state.rebalance();
        }
    }

    /// A process that will never speak again was silent for too long.
    pub fn bury(&self, process: u32) {
        let mut state = self.0.lock();
        if state.members.remove(&process).is_some() {
            state.take_all(process);
            state.rebalance();
        }
    }

    /// Draws anew who is to have what.
    pub fn rebalance(&self) {
        self.0.lock().rebalance();
    }

    /// Makes up to `count` further offsets of each log visible.
    pub fn grow(&self, count: i64, ends: &BTreeMap<TopicPartition, i64>) {
        for (name, log) in &mut self.0.lock().logs {
            log.end = (log.end + count).min(ends[name]);
        }
    }

    /// Retention removes what lies below these positions.
    pub fn trim(&self, positions: &BTreeMap<TopicPartition, i64>) {
        for (name, log) in &mut self.0.lock().logs {
            log.start = positions.get(name).map_or(log.start, |position| log.start.max(*position));
        }
    }

    /// The group's offset of a partition.
    pub fn offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.0.lock().offsets.get(partition).copied()
    }

    pub(super) fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock())
    }
}

impl State {
    /// What the group and the log say of a partition.
    pub fn assignment(&self, name: &TopicPartition) -> Assignment {
        let (log, committed) = (&self.logs[name], self.offsets.get(name).copied());
        let (log_start, log_end) = (log.start, log.end);
        Assignment { partition: name.clone(), committed, log_start, log_end, cluster_id: None, topic_id: None }
    }

    /// What there is to report to a member next. One that was expelled joins again.
    pub fn news(&mut self, process: u32) -> Option<SourceEvent> {
        let member = self.members.get_mut(&process)?;
        if member.expelled {
            let lost: Vec<_> = member.told.iter().cloned().collect();
            *member = Member { unsettled: true, told: std::mem::take(&mut member.told), ..Member::default() };
            member.inbox.push_back(SourceEvent::Lost(lost));
            self.rebalance();
        }
        let event = self.members.get_mut(&process)?.inbox.pop_front()?;
        self.told(process, &event);
        Some(event)
    }

    fn told(&mut self, process: u32, event: &SourceEvent) {
        let Some(member) = self.members.get_mut(&process) else { return };
        let note = |entry| self.journal.note(entry);
        match event {
            SourceEvent::Assigned(assignments) => {
                for partition in assignments.iter().map(|assignment| assignment.partition.clone()) {
                    member.told.insert(partition.clone());
                    note(Entry::Assigned { process, partition });
                }
            }
            SourceEvent::Revoked(names) => {
                names.iter().cloned().for_each(|partition| note(Entry::Revoked { process, partition }));
            }
            SourceEvent::Lost(names) => {
                for partition in names.iter().cloned() {
                    member.told.remove(&partition);
                    note(Entry::Lost { process, partition });
                }
            }
            _ => {}
        }
    }

    /// The answer to a survey.
    pub fn survey(&mut self, process: u32) {
        let all = self.logs.keys().map(|name| self.assignment(name)).collect();
        if let Some(member) = self.members.get_mut(&process) {
            member.inbox.push_back(SourceEvent::Surveyed(all));
        }
    }

    /// Something else to report to a member.
    pub fn tell(&mut self, process: u32, event: SourceEvent) {
        if let Some(member) = self.members.get_mut(&process) {
            member.inbox.push_back(event);
        }
    }

    /// Whether a member may fetch a partition and commit for it.
    pub fn holds(&self, process: u32, name: &TopicPartition) -> bool {
        let expelled = self.members.get(&process).is_none_or(|member| member.expelled);
        !expelled && matches!(self.holders[name], Holder::Member(holder) | Holder::Leaving(holder) if holder == process)
    }

    /// Takes the group's offsets from a member, but for partitions it does not hold. Answers whether it took all.
    pub fn commit(&mut self, process: u32, positions: &[(TopicPartition, i64)]) -> bool {
        let mut all = true;
        for (partition, position) in positions {
            if self.holds(process, partition) {
                self.offsets.insert(partition.clone(), *position);
                let (partition, position) = (partition.clone(), *position);
                self.journal.note(Entry::Told { process, partition, position });
            } else {
                all = false;
            }
        }
        all
    }

    /// A member gives partitions back.
    pub fn release(&mut self, process: u32, names: &[TopicPartition]) {
        for partition in names.iter().cloned() {
            if let Some(member) = self.members.get_mut(&process) {
                member.told.remove(&partition);
            }
            if self.holders[&partition] == Holder::Leaving(process) {
                self.holders.insert(partition.clone(), Holder::Nobody);
            }
            self.journal.note(Entry::Released { process, partition });
        }
        self.hand_out();
    }

    /// A member leaves for good.
    pub fn leave(&mut self, process: u32) {
        self.members.remove(&process);
        self.take_all(process);
        self.rebalance();
    }

    fn take_all(&mut self, process: u32) {
        for holder in self.holders.values_mut() {
            if matches!(*holder, Holder::Member(member) | Holder::Leaving(member) if member == process) {
                *holder = Holder::Nobody;
            }
        }
    }

    fn rebalance(&mut self) {
        let live: Vec<u32> =
            self.members.iter().filter(|(_, member)| !member.expelled).map(|(process, _)| *process).collect();
        if live.is_empty() {
            return self.targets.clear();
        }
        let names: Vec<TopicPartition> = self.logs.keys().cloned().collect();
        for name in names {
            let stays = self.targets.get(&name).is_some_and(|target| live.contains(target));
            // Half of them stay where they are, as with a sticky assignor.
            if !stays || self.faults.draw().is_multiple_of(2) {
                let target = live[self.faults.draw() as usize % live.len()];
                self.targets.insert(name, target);
            }
        }
        self.take_what_moves();
        self.hand_out();
    }

    fn take_what_moves(&mut self) {
        let mut moving: BTreeMap<u32, Vec<TopicPartition>> = BTreeMap::new();
        for (name, holder) in &self.holders {
            if let Holder::Member(process) = holder
                && self.targets.get(name) != Some(process)
            {
                moving.entry(*process).or_default().push(name.clone());
            }
        }
        for (process, names) in moving {
            let silent = self.faults.planted(Bug::LostRevoke);
            let lost = !silent && self.faults.happens(250);
            let then = if lost || silent { Holder::Nobody } else { Holder::Leaving(process) };
            self.holders.extend(names.iter().map(|name| (name.clone(), then)));
            let Some(member) = self.members.get_mut(&process) else { continue };
            member.unsettled = true;
            if silent {
                let released = |partition| self.journal.note(Entry::Released { process, partition });
                names.into_iter().for_each(released);
            } else {
                let event = if lost { SourceEvent::Lost(names) } else { SourceEvent::Revoked(names) };
                member.inbox.push_back(event);
            }
        }
    }

    /// Gives what nobody has to whoever is to have it, and says who has all that is his.
    fn hand_out(&mut self) {
        let mut given: BTreeMap<u32, Vec<Assignment>> = BTreeMap::new();
        for (name, target) in &self.targets {
            if self.holders[name] == Holder::Nobody {
                given.entry(*target).or_default().push(self.assignment(name));
            }
        }
        for (process, assignments) in given {
            self.holders.extend(assignments.iter().map(|one| (one.partition.clone(), Holder::Member(process))));
            let Some(member) = self.members.get_mut(&process) else { continue };
            member.unsettled = true;
            member.inbox.push_back(SourceEvent::Assigned(assignments));
        }
        let leaving = |holder: &Holder| if let Holder::Leaving(process) = holder { Some(*process) } else { None };
        let leaving: BTreeSet<u32> = self.holders.values().filter_map(leaving).collect();
        for (process, member) in &mut self.members {
            if member.unsettled && !member.expelled && !leaving.contains(process) {
                member.unsettled = false;
                member.inbox.push_back(SourceEvent::Settled);
            }
        }
    }
}
