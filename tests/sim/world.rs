//! A world: processes of one group, a cluster, a database, bad luck; and who takes the next turn. One `u64` decides all.
//!
//! For a while a storm goes on: processes crash or freeze and wake up, partitions move, the database goes away, workers
//! hang, people pause partitions, logs grow and lose their beginnings. Then everything heals, and everything has to be
//! done. The invariants are checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use konekt::TopicPartition;
use konekt::core::backoff::Chance;
use konekt::core::breaker::PauseReason;
use konekt::core::statistics::{PartitionState, PartitionStatistics, Statistics};
use konekt::testkit::{Cluster, Database, Entry, Faults, Journal, PartitionLog, VirtualClock};

use crate::invariants::{COMPLETION, Invariants, NO_PANIC, Violation};
use crate::process::{Process, Surroundings};
use crate::scenario::{Place, Scenario};

/// Steps in which nothing happened before time leaps to what is due next.
const QUIET_STEPS_MAX: u64 = 12;
/// How long the group waits for a member that is silent.
const SESSION_TIMEOUT_S: u64 = 20;
/// Steps after which a run that has healed should long be done.
const STEPS_MAX: u64 = 20_000_000;

/// What came of a run.
pub struct Outcome {
    /// A number over everything that happened, in order.
    pub trace: u64,
    pub steps: u64,
    pub violation: Option<Violation>,
    /// What came about in it.
    pub seen: BTreeSet<&'static str>,
    /// The last things that happened, when they were to be told.
    pub told: Vec<String>,
}

/// Runs a scenario to its end or to the first violation.
pub fn run(scenario: &Scenario, tell: bool) -> Outcome {
    let mut world = World::new(scenario.clone(), tell);
    let result = catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Violation { invariant: NO_PANIC, what: text.unwrap_or_default() })
    });
    Outcome {
        trace: world.trace.finish(),
        steps: world.steps,
        violation: result.err(),
        seen: world.seen,
        told: world.told,
    }
}

/// What happens at a time that is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Appointment {
    /// The group gives a silent member up.
    Expel(u32),
    /// The same for one that will never speak again.
    Bury(u32),
    Thaw(usize),
    Restart(usize),
    OutageEnds,
    Resume(TopicPartition),
}

/// The place of a process.
enum Slot {
    Up(Box<Process>),
    /// Stopped by a signal: it is there, and takes no turn.
    Frozen(Box<Process>),
    Down,
    /// Ended by itself, and well.
    Done,
}

impl Slot {
    /// Takes the process out, if there is one.
    fn take(&mut self) -> Option<Process> {
        if let Slot::Down | Slot::Done = self {
            return None;
        }
        match std::mem::replace(self, Slot::Down) {
            Slot::Up(process) | Slot::Frozen(process) => Some(*process),
            Slot::Down | Slot::Done => None,
        }
    }
}

/// What an entry is an example of.
fn what_it_shows(entry: &Entry) -> Option<&'static str> {
    match entry {
        Entry::Revoked { .. } => Some("a partition that was asked for"),
        Entry::Lost { .. } => Some("a partition that was lost"),
        Entry::Fenced { .. } => Some("a former owner that was refused"),
        Entry::Letter { .. } => Some("a letter"),
        Entry::Committed { failed, .. } if !failed.is_empty() => Some("a row kept as failed"),
        Entry::PauseNoted { paused: true, .. } => Some("a pause that outlives its process"),
        _ => None,
    }
}

struct World {
    scenario: Scenario,
    around: Surroundings,
    ends: BTreeMap<TopicPartition, i64>,
    slots: Vec<Slot>,
    next_process: u32,
    appointments: BTreeSet<(Duration, Appointment)>,
    invariants: Invariants,
    chance: Chance,
    steps: u64,
    quiet_steps: u64,
    healed: bool,
    healed_at: Duration,
    /// Stopped by a person, who saw that all is done.
    stopped: bool,
    /// What stays paused after the storm until the others are done.
    held_back: Option<TopicPartition>,
    /// A process with `max_messages` ended before it got there, for something planted.
    cut_short: bool,
    ended_in_the_storm: bool,
    /// Some partition stood still for good, and no process was started for it since.
    stood_still: bool,
    paused: BTreeSet<TopicPartition>,
    seen: BTreeSet<&'static str>,
    trace: DefaultHasher,
    tell: bool,
    told: Vec<String>,
}

impl World {
    fn new(scenario: Scenario, tell: bool) -> Self {
        let mut logs = scenario.logs();
        let invariants = Invariants::new(&scenario, &logs);
        let ends = logs.iter().map(|(name, log)| (name.clone(), log.end)).collect();
        if !scenario.until_end {
            logs.values_mut().for_each(|log: &mut PartitionLog| log.end = log.end * 2 / 3);
        }
        let faults = Faults::new(scenario.seed ^ 0x5117, scenario.percent, scenario.kinds.clone())
            .with_bad_records(scenario.bad_permille)
            .with_bug(scenario.bug);
        let journal = Journal::default();
        let cluster = Cluster::new(logs, faults.clone(), journal.clone());
        let (clock, database) = (VirtualClock::default(), Database::default());
        let around = Surroundings { clock, cluster, database, faults, journal };
        let mut world = Self {
            around,
            ends,
            slots: (0..scenario.processes).map(|_| Slot::Down).collect(),
            next_process: 1,
            appointments: BTreeSet::new(),
            invariants,
            chance: Chance::seeded(scenario.seed ^ 0xabcd),
            steps: 0,
            quiet_steps: 0,
            healed: false,
            healed_at: Duration::ZERO,
            stopped: false,
            held_back: None,
            cut_short: false,
            ended_in_the_storm: false,
            stood_still: false,
            paused: BTreeSet::new(),
            seen: BTreeSet::new(),
            trace: DefaultHasher::new(),
            tell,
            told: Vec::new(),
            scenario,
        };
        (0..world.slots.len()).for_each(|slot| world.start(slot));
        world
    }

    fn run(&mut self) -> Result<(), Violation> {
        while !self.slots.iter().all(|slot| matches!(slot, Slot::Done)) {
            self.step()?;
            if self.steps > STEPS_MAX {
                let missing = format!("no end after {} steps", self.steps);
                return self.explain_standstill(missing);
            }
        }
        self.ended()
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.chance.draw() % below
    }

    fn now(&self) -> Duration {
        self.around.clock.now()
    }

    fn say(&mut self, what: impl Hash + std::fmt::Debug) {
        what.hash(&mut self.trace);
        if self.tell {
            let line = format!("{:>6} {:>9.3} s {what:?}", self.steps, self.now().as_secs_f64());
            self.told.push(line);
        }
    }

    fn step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        self.keep_appointments()?;
        if !self.healed && self.steps >= self.scenario.storm {
            self.heal();
        }
        if !self.healed && self.draw(120) == 0 {
            self.strike()?;
        }
        let slot = self.draw(self.slots.len() as u64) as usize;
        self.turn(slot)?;
        if self.healed {
            self.see_to_the_end();
        }
        let pass = Duration::from_millis(self.draw(3));
        self.around.clock.advance(pass);
        self.leap_when_quiet();
        Ok(())
    }

    /// Somebody of a process takes a turn.
    fn turn(&mut self, slot: usize) -> Result<(), Violation> {
        let (now, chance) = (self.now(), self.chance.draw());
        let Slot::Up(process) = &mut self.slots[slot] else { return Ok(()) };
        let (id, actor) = (process.id, chance as usize % process.actors());
        process.turn(actor, now, chance / 64);
        let (bytes, over) = (process.memory.used(), process.over());
        let said = (actor == 1).then(|| (process.statistics(), process.at_rest()));
        self.read_the_journal()?;
        self.invariants.bytes_stay_within_the_limit(id, bytes)?;
        if let Some((said, at_rest)) = said {
            self.invariants.heard(id, &said, at_rest)?;
            self.look_after(slot, &said)?;
            (id, said.records_read, said.records_written, said.records_in_flight, said.retries).hash(&mut self.trace);
        }
        if over { self.end(slot) } else { Ok(()) }
    }

    /// What a person does who reads this after the storm: restarts what cannot go on, and resumes what is paused.
    fn look_after(&mut self, slot: usize, said: &Statistics) -> Result<(), Violation> {
        if said.workers_replaced > 0 {
            self.seen.insert("a worker that died");
        }
        if said.partitions.iter().any(|one| one.pause_reasons.contains(&PauseReason::Errors)) {
            self.seen.insert("a circuit that opened");
        }
        if said.partitions.iter().any(|one| one.state == PartitionState::Stuck) {
            self.stood_still = true;
        }
        if !self.healed {
            self.ended_in_the_storm |= said.stopping;
            return Ok(());
        }
        let alone = self.scenario.max_messages.is_some();
        if !alone && said.partitions.iter().any(|one| one.state == PartitionState::Stuck) {
            return self.crash(slot, 1);
        }
        for one in said.partitions.iter().filter(|one| one.pause_reasons.contains(&PauseReason::Operator)) {
            let name = TopicPartition::new(&*one.topic, one.partition);
            if let Slot::Up(process) = &self.slots[slot]
                && Some(&name) != self.held_back.as_ref()
            {
                process.handle().resume(&name);
            }
        }
        Ok(())
    }

    fn read_the_journal(&mut self) -> Result<(), Violation> {
        for entry in self.around.journal.read() {
            self.quiet_steps = 0;
            let now = self.now();
            self.say(&entry);
            self.seen.extend(what_it_shows(&entry));
            self.invariants.saw(&entry, now)?;
        }
        Ok(())
    }

    /// Time leaps when nothing happens before something is due.
    fn leap_when_quiet(&mut self) {
        let now = self.now();
        let quiet = self.slots.iter().all(|slot| if let Slot::Up(process) = slot { process.quiet(now) } else { true });
        self.quiet_steps = if quiet { self.quiet_steps + 1 } else { 0 };
        if self.quiet_steps < QUIET_STEPS_MAX * self.slots.len() as u64 {
            return;
        }
        self.quiet_steps = 0;
        let due = self.slots.iter().filter_map(|slot| match slot {
            Slot::Up(process) => Some(process.due(now)),
            _ => None,
        });
        if let Some(due) = due.chain(self.appointments.iter().map(|(at, _)| *at)).min() {
            self.around.clock.advance(due.saturating_sub(now).max(Duration::from_millis(1)));
        }
    }

    // ---- the storm

    fn strike(&mut self) -> Result<(), Violation> {
        let (slot, kind) = (self.draw(self.slots.len() as u64) as usize, self.draw(20));
        let seconds = 1 + self.draw(60);
        let alone = self.scenario.max_messages.is_some();
        self.say((kind, slot, seconds));
        match kind {
            0..=3 => self.around.cluster.rebalance(),
            4 | 5 if !alone => self.crash(slot, seconds)?,
            6 | 7 => self.freeze(slot, seconds),
            8 => {
                self.around.faults.outage(true);
                self.appoint(seconds, Appointment::OutageEnds);
            }
            9 | 10 => self.pause(slot, seconds),
            11..=13 => {
                let (worker, until) = (self.chance.draw(), self.now() + Duration::from_secs(2 * seconds));
                if let Slot::Up(process) = &mut self.slots[slot] {
                    process.hang(worker, until);
                }
            }
            14 => self.trim(),
            15..=17 => self.around.cluster.grow(10, &self.ends),
            _ => self.around.clock.advance(Duration::from_millis(100 * seconds)),
        }
        Ok(())
    }

    fn appoint(&mut self, seconds: u64, what: Appointment) {
        let at = self.now() + Duration::from_secs(seconds);
        self.appointments.insert((at, what));
    }

    fn start(&mut self, slot: usize) {
        let process = Process::start(self.next_process, &self.scenario, &self.around);
        self.next_process += 1;
        self.slots[slot] = Slot::Up(Box::new(process));
    }

    fn crash(&mut self, slot: usize, seconds: u64) -> Result<(), Violation> {
        let Some(process) = self.slots[slot].take() else { return Ok(()) };
        self.appointments.retain(|(_, what)| *what != Appointment::Thaw(slot));
        self.seen.insert("a crash");
        self.gone(process)?;
        self.appoint(seconds, Appointment::Restart(slot));
        Ok(())
    }

    /// A process is gone without a farewell; nothing of it may be left.
    fn gone(&mut self, process: Process) -> Result<(), Violation> {
        let (id, memory) = (process.id, std::sync::Arc::clone(&process.memory));
        drop(process);
        self.appoint(SESSION_TIMEOUT_S, Appointment::Bury(id));
        self.invariants.nothing_is_held_after_the_end(id, memory.used())
    }

    fn freeze(&mut self, slot: usize, seconds: u64) {
        if !matches!(self.slots[slot], Slot::Up(_)) {
            return;
        }
        if let Some(process) = self.slots[slot].take() {
            if seconds > SESSION_TIMEOUT_S {
                self.appoint(SESSION_TIMEOUT_S, Appointment::Expel(process.id));
                self.seen.insert("an owner frozen for too long");
            }
            self.slots[slot] = Slot::Frozen(Box::new(process));
            self.appoint(seconds, Appointment::Thaw(slot));
        }
    }

    fn pause(&mut self, slot: usize, seconds: u64) {
        let partition = TopicPartition::new("t", self.draw(self.scenario.partitions as u64) as i32);
        if let Slot::Up(process) = &self.slots[slot] {
            process.handle().pause(&partition);
            self.paused.insert(partition.clone());
            self.appoint(seconds, Appointment::Resume(partition));
        }
    }

    fn resume(&mut self, partition: &TopicPartition) {
        self.paused.remove(partition);
        for slot in &self.slots {
            if let Slot::Up(process) | Slot::Frozen(process) = slot {
                process.handle().resume(partition);
            }
        }
    }

    /// Retention removes what nobody needs any more.
    fn trim(&mut self) {
        let position = |name: &TopicPartition| match self.scenario.exactly_once {
            true => self.around.database.position(name),
            false => self.around.cluster.offset(name),
        };
        let positions = self.ends.keys().filter_map(|name| Some((name.clone(), position(name)?))).collect();
        self.around.cluster.trim(&positions);
    }

    fn keep_appointments(&mut self) -> Result<(), Violation> {
        let now = self.now();
        while let Some((at, _)) = self.appointments.first()
            && *at <= now
        {
            let Some((_, what)) = self.appointments.pop_first() else { break };
            self.say(&what);
            match what {
                Appointment::Expel(process) => self.around.cluster.expel(process),
                Appointment::Bury(process) => self.around.cluster.bury(process),
                Appointment::Thaw(slot) => self.thaw(slot),
                Appointment::Restart(slot) if matches!(self.slots[slot], Slot::Down) => self.start(slot),
                Appointment::Restart(_) => {}
                Appointment::OutageEnds => self.around.faults.outage(false),
                Appointment::Resume(partition) => self.resume(&partition),
            }
        }
        self.read_the_journal()
    }

    fn thaw(&mut self, slot: usize) {
        if let Some(process) = self.slots[slot].take() {
            self.slots[slot] = Slot::Up(Box::new(process));
        }
    }

    // ---- the end

    /// Nothing fails any more. One partition that a person paused stays so until the others are done.
    fn heal(&mut self) {
        (self.healed, self.healed_at) = (true, self.now());
        self.say("healed");
        self.around.faults.calm();
        if self.scenario.place == Place::Nowhere {
            self.around.faults.mend();
        }
        self.around.cluster.grow(i64::MAX / 2, &self.ends);
        (0..self.slots.len()).for_each(|slot| self.thaw(slot));
        self.appointments.retain(|(_, what)| !matches!(what, Appointment::Resume(_) | Appointment::Thaw(_)));
        // With `max_messages` nobody mends what stands still, so the others may never be done.
        self.held_back = self.paused.iter().next().filter(|_| self.scenario.max_messages.is_none()).cloned();
        for partition in self.ends.keys().cloned().collect::<Vec<_>>() {
            if Some(&partition) != self.held_back.as_ref() {
                self.resume(&partition);
            }
        }
    }

    /// A person sees to what only a person can do.
    fn see_to_the_end(&mut self) {
        if let Some(partition) = self.held_back.clone()
            && self.invariants.complete(Some(&partition))
        {
            self.held_back = None;
            self.seen.insert("others that did not notice a pause");
            self.say("the others are done");
            self.resume(&partition);
        }
        if !self.stopped && !self.scenario.until_end && self.held_back.is_none() && self.positions_are_at_the_end() {
            self.stopped = true;
            self.say("stopped");
            for slot in &self.slots {
                if let Slot::Up(process) = slot {
                    process.handle().stop();
                }
            }
        }
        if self.stopped {
            self.slots.iter_mut().filter(|slot| matches!(slot, Slot::Down)).for_each(|slot| *slot = Slot::Done);
        }
    }

    fn positions_are_at_the_end(&mut self) -> bool {
        let at_end = |(name, end): (&TopicPartition, &i64)| {
            let kept = !self.scenario.exactly_once || self.around.database.position(name) == Some(*end);
            kept && self.around.cluster.offset(name) == Some(*end)
        };
        self.ends.iter().all(at_end)
    }

    /// A process ended by itself. What made it end too soon is mended, and it is started again.
    fn end(&mut self, slot: usize) -> Result<(), Violation> {
        let Some(process) = self.slots[slot].take() else { return Ok(()) };
        let id = process.id;
        let (result, bytes) = process.end();
        self.say(("ended", id, result.is_ok()));
        self.invariants.nothing_is_held_after_the_end(id, bytes)?;
        // Just after the storm it may still end as it decided in it.
        self.ended_in_the_storm |= !self.healed || self.now() < self.healed_at + Duration::from_secs(1);
        let again = match &result {
            Ok(summary) => match summary.stuck.iter().find(|(_, why)| !why.contains("planted")) {
                Some((name, why)) => return Err(Violation { invariant: COMPLETION, what: format!("{name}: {why}") }),
                // It may have lost since what made it end.
                None => std::mem::take(&mut self.stood_still) || !summary.stuck.is_empty(),
            },
            Err(error) if error.message.contains("planted") => true,
            Err(error) => return Err(Violation { invariant: COMPLETION, what: error.message.clone() }),
        };
        if again && self.scenario.max_messages.is_none() {
            self.appoint(5, Appointment::Restart(slot));
        } else {
            self.cut_short |= again;
            self.slots[slot] = Slot::Done;
        }
        self.appoint(SESSION_TIMEOUT_S, Appointment::Bury(id));
        Ok(())
    }

    fn ended(&mut self) -> Result<(), Violation> {
        if let Some(max) = self.scenario.max_messages {
            let (answered, wanted) = (self.invariants.behind_the_positions(), max.min(self.invariants.records()));
            let what = format!("{answered} records were handled where max_messages is {max}");
            let right = if self.cut_short { answered <= wanted } else { answered == wanted };
            return if right { Ok(()) } else { Err(Violation { invariant: COMPLETION, what }) };
        }
        // The last commit of a process that ended in the storm may have failed; then nobody is left to tell Kafka.
        if !self.ended_in_the_storm && !self.positions_are_at_the_end() {
            return self.explain_standstill("not all positions are at the end".to_owned());
        }
        let (faults, scenario) = (&self.around.faults, &self.scenario);
        let known = !scenario.blames_the_innocent() && scenario.place != Place::Nowhere;
        self.invariants.ended(|name, offset| known.then(|| faults.is_bad(name, offset)))
    }

    fn explain_standstill(&mut self, mut what: String) -> Result<(), Violation> {
        for (name, end) in &self.ends {
            let (database, group) = (self.around.database.position(name), self.around.cluster.offset(name));
            what += &format!("\n{name}: ends at {end}, the database is at {database:?}, the group at {group:?}");
        }
        for slot in &mut self.slots {
            if let Slot::Up(process) | Slot::Frozen(process) = slot {
                let said = process.statistics();
                let state = |one: PartitionStatistics| (one.partition, one.state, one.position, one.detail);
                let partitions: Vec<_> = said.partitions.into_iter().map(state).collect();
                what += &format!("\nprocess {}: {partitions:?}", process.id);
            }
        }
        Err(Violation { invariant: COMPLETION, what })
    }
}
