//! Two groups, one into SQLite and one into PostgreSQL, read the same topic while everything goes wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::disk::SmallDisk;
use crate::faults::{Fault, Seat, Wire, World, plan};
use crate::support::audit::{Expected, audit};
use crate::support::databases::{self, Server};
use crate::support::kafka::{self, RealKafka};
use crate::support::konekt::{Footprint, Konekt, Place, Running, stop_all};
use crate::support::link::Link;
use crate::support::random::Random;
use crate::support::{or_skip, wait};
use crate::target::{MEMORY_MIB, Target, member};
use crate::writer::{Writer, letters_in};
use crate::{PARTITIONS, SOON, say};

const TOPIC: &str = "chaos";
const LETTERS: &str = "chaos-letters";
const EMPTY: &str = "chaos-empty";
const SEATS: usize = 3;
const PER_SECOND: u64 = 1_200;
const POISON_EVERY: u64 = 100;
/// What a process says once it has reached Kafka and its database…
const BEGUN: &str = "connected to the Kafka cluster";
/// …and the exit code when it could not.
const ABSENT: i32 = 3;
/// What a member that was asked to leave may take: its `shutdown_timeout_ms`, and what a busy machine needs beside it.
const LEAVING: Duration = Duration::from_secs(30);
/// How much more a process may hold at the end than when faults began: the rest of a pool of five connections, and a
/// connection to the broker. One that leaks with each fault holds more, at the latest in a long run.
const THREADS_MORE: u64 = 8;
const HANDLES_MORE: u64 = 8;
const MEMORY_KIB_MORE: u64 = 32 * 1024;

#[test]
fn everything_goes_wrong_and_each_record_is_there_once() {
    let seed = Random::seed();
    let seconds = std::env::var("KONEKT_CHAOS_SECONDS").map_or(120, |text| text.parse().expect("a number"));
    say(&format!("KONEKT_SEED={seed} KONEKT_CHAOS_SECONDS={seconds}"));
    let Some((kafka, wire)) = or_skip(kafka_behind_a_wire()) else { return };
    let Some(postgres) = or_skip(databases::own_postgres()) else { return };
    // A second's records take some 600 KiB in the file; the rest is for its log.
    let disk = or_skip(SmallDisk::mount(64 + seconds));
    let database_wire = Link::to(postgres.port());
    let mut scene = Scene::new(&kafka, &wire, &postgres, &database_wire, disk.as_ref());
    for topic in [TOPIC, LETTERS, EMPTY] {
        kafka.create_topic(topic, PARTITIONS, &[]);
    }
    scene.open();
    let writer = Writer::start(&kafka, TOPIC, PER_SECOND, POISON_EVERY, seed);
    scene.settle_in();
    let before = scene.footprints();
    let world = World { groups: scene.groups.len(), seats: SEATS, disk: disk.is_some() };
    scene.suffer(seed, Duration::from_secs(seconds), world);
    let expected = writer.finish();
    scene.recover(expected.records - expected.poison.len() as u64);
    let after = scene.footprints();
    let Scene { groups, .. } = scene;
    let ends = kafka.ends(TOPIC);
    let letters = [Some(letters_in(&kafka, LETTERS)), None];
    let mut faults = growth(&before, &after);
    for (group, letters) in groups.into_iter().zip(letters) {
        for ended in stop_all(group.members.into_iter().flatten()) {
            ended.expect_code(0).expect_memory_within(MEMORY_MIB);
        }
        let expected = Expected { letters, poison: expected.poison.clone(), ..expected };
        let findings = group.target.with_witness(|witness| audit(witness, &ends, TOPIC, group.name, &expected));
        say(&findings.summary);
        faults.extend(findings.faults);
    }
    assert!(faults.is_empty(), "KONEKT_SEED={seed}:\n{}", faults.join("\n"));
    say("every record once, in order, undamaged; letters are the poison; nothing has grown");
}

/// A Kafka whose clients connect by a wire, except for the tests' own Java client. Its groups forget members soon.
fn kafka_behind_a_wire() -> Result<(Arc<RealKafka>, Link), String> {
    let behind = kafka::free_port();
    let wire = Link::to(behind);
    let listeners = [
        format!(
            "listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller_port}},WIRE://127.0.0.1:{behind}"
        ),
        format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},WIRE://127.0.0.1:{}", wire.port()),
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,WIRE:PLAINTEXT".to_owned(),
        "group.consumer.min.session.timeout.ms=1000".to_owned(),
        "group.consumer.session.timeout.ms=3000".to_owned(),
        "group.consumer.min.heartbeat.interval.ms=100".to_owned(),
        "group.consumer.heartbeat.interval.ms=500".to_owned(),
        kafka::FORGETS_SOON.to_owned(),
    ];
    let settings: Vec<&str> = listeners.iter().map(String::as_str).collect();
    Ok((Arc::new(kafka::own(&settings)?), wire))
}

/// The processes of one group; a seat is empty while its process is down.
struct Group<'a> {
    name: &'static str,
    target: Target<'a>,
    arguments: &'static [&'static str],
    members: [Option<Running>; SEATS],
}

struct Scene<'a> {
    place: Place,
    kafka: &'a RealKafka,
    kafka_wire: &'a Link,
    postgres: &'a Server,
    database_wire: &'a Link,
    disk: Option<&'a SmallDisk>,
    groups: [Group<'a>; 2],
}

impl<'a> Scene<'a> {
    fn new(
        kafka: &'a RealKafka,
        kafka_wire: &'a Link,
        postgres: &'a Server,
        database_wire: &'a Link,
        disk: Option<&'a SmallDisk>,
    ) -> Self {
        let place = Place::new();
        let file = disk.map_or_else(|| place.database(), |disk| disk.folder().join("out.db"));
        let group = |name, target, arguments| Group { name, target, arguments, members: Default::default() };
        let groups = [
            group("into-sqlite", Target::Sqlite(file), &["--dead-letter-topic", LETTERS]),
            group(
                "into-postgres",
                Target::Postgres(postgres.database(), database_wire),
                &["--dead-letter-table", "--group-protocol", "consumer"],
            ),
        ];
        Self { place, kafka, kafka_wire, postgres, database_wire, disk, groups }
    }

    /// Everybody takes their seats, before databases that refuse poison.
    fn open(&mut self) {
        let address = self.address();
        for group in &mut self.groups {
            group.target.refuse_poison(&self.place, &address, EMPTY);
        }
        for group in 0..self.groups.len() {
            for seat in 0..SEATS {
                self.take_seat(Seat { group, seat });
            }
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.kafka_wire.port())
    }

    fn member(&self, group: &Group<'_>) -> Konekt {
        member(&group.target, &self.place, &self.address(), TOPIC, group.name)
            .arguments(group.arguments)
            .arguments(&["--shutdown-timeout-ms", "5000"])
    }

    fn take_seat(&mut self, at: Seat) {
        let running = self.member(&self.groups[at.group]).start();
        self.groups[at.group].members[at.seat] = Some(running);
    }

    fn leave_seat(&mut self, at: Seat) -> Running {
        self.groups[at.group].members[at.seat].take().expect("one fault at a time")
    }

    fn seated(&self, at: Seat) -> &Running {
        self.groups[at.group].members[at.seat].as_ref().expect("one fault at a time")
    }

    /// Waits until all have their partitions and have written for a while.
    fn settle_in(&mut self) {
        for group in 0..self.groups.len() {
            let name = self.groups[group].name;
            wait::until("the group is complete", SOON, || (self.kafka.members(name).len() == SEATS).then_some(()));
            self.expect_rows(group, 10 * PER_SECOND);
        }
    }

    fn expect_rows(&mut self, group: usize, rows: u64) {
        wait::until(&format!("{rows} rows are {}", self.groups[group].name), SOON, || {
            self.look_after();
            (self.groups[group].target.written(TOPIC) >= rows).then_some(())
        });
    }

    /// What the members hold that sit here all the time.
    fn footprints(&self) -> Vec<(&'static str, Footprint)> {
        let of = |group: &Group<'_>| {
            let first = group.members[0].as_ref().and_then(Running::footprint);
            (group.name, first.expect("the first seat is never empty"))
        };
        self.groups.iter().map(of).collect()
    }

    /// Lets the plan happen, and demands that nobody gives up. While a server starts the plan stands still; what has not
    /// begun when the time is up does not happen.
    fn suffer(&mut self, seed: u64, lasting: Duration, world: World) {
        let (begun, mut late, mut skipped) = (Instant::now(), Duration::ZERO, Vec::new());
        for step in plan(seed, lasting, world) {
            if begun.elapsed() >= lasting && step.begins {
                skipped.push(step.fault);
            }
            if skipped.contains(&step.fault) {
                continue;
            }
            while begun.elapsed() < step.at + late {
                self.look_after();
                wait::pause(Duration::from_millis(50));
            }
            let word = if step.begins { "begins" } else { "ends" };
            say(&format!("{:6.1} s {:?} {word}", begun.elapsed().as_secs_f64(), step.fault));
            if step.begins {
                self.begin(step.fault)
            } else {
                self.end(step.fault)
            }
            late = late.max(begun.elapsed().saturating_sub(step.at));
        }
    }

    fn begin(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(at) => self.leave_seat(at).kill(),
            Fault::Leave(at) => {
                let left = self.leave_seat(at).stop("TERM", LEAVING);
                if left.stderr.contains(BEGUN) {
                    left.expect_code(0);
                }
            }
            Fault::Freeze(at) => self.seated(at).signal("STOP"),
            Fault::BrokerStops => self.kafka.stop(),
            Fault::BrokerDies => self.kafka.kill(),
            Fault::DatabaseStops => self.postgres.stop(),
            Fault::DatabaseDies => self.postgres.kill(),
            Fault::Cut(wire) => self.wire(wire).cut(),
            Fault::Slow(wire) => self.wire(wire).delay(Duration::from_millis(50)),
            Fault::Hang(wire) | Fault::Swallow(wire) => self.wire(wire).freeze(),
            Fault::DiskFull => self.disk.expect("planned where there is one").fill(),
        }
    }

    fn end(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(at) | Fault::Leave(at) => self.take_seat(at),
            Fault::Freeze(at) => self.seated(at).signal("CONT"),
            Fault::BrokerStops | Fault::BrokerDies => self.kafka.start_again().expect("the broker comes back"),
            Fault::DatabaseStops | Fault::DatabaseDies => {
                self.postgres.start_again().expect("the database comes back");
            }
            Fault::Cut(_) => {}
            Fault::Slow(wire) => self.wire(wire).delay(Duration::ZERO),
            Fault::Hang(wire) => self.wire(wire).thaw(),
            Fault::Swallow(wire) => {
                self.wire(wire).cut();
                self.wire(wire).thaw();
            }
            Fault::DiskFull => self.disk.expect("planned where there is one").free(),
        }
    }

    fn wire(&self, wire: Wire) -> &Link {
        match wire {
            Wire::Kafka => self.kafka_wire,
            Wire::Database => self.database_wire,
        }
    }

    /// Demands that nobody who has begun gives up. Who cannot begin says so and ends with the code for that; a
    /// supervisor starts it again.
    fn look_after(&mut self) {
        for (group, seat) in (0..self.groups.len()).flat_map(|group| (0..SEATS).map(move |seat| (group, seat))) {
            let Some(member) = &mut self.groups[group].members[seat] else { continue };
            let Some(status) = member.poll() else { continue };
            let (began, said) = (member.stderr().contains(BEGUN), member.stderr());
            assert!(!began && status.code() == Some(ABSENT), "it has ended by itself, {status}:\n{said}");
            say(&format!("seat {seat} of group {group} could not begin: {}", said.lines().last().unwrap_or_default()));
            self.take_seat(Seat { group, seat });
        }
    }

    /// Nothing goes wrong any more: all of it is written.
    fn recover(&mut self, rows: u64) {
        let begun = Instant::now();
        for group in 0..self.groups.len() {
            self.expect_rows(group, rows);
        }
        say(&format!("all is written {:.1} s after the last fault", begun.elapsed().as_secs_f64()));
    }
}

/// What has grown beyond what is allowed, of processes that were there all the time.
fn growth(before: &[(&'static str, Footprint)], after: &[(&'static str, Footprint)]) -> Vec<String> {
    let mut faults = Vec::new();
    for ((name, then), (_, now)) in before.iter().zip(after) {
        say(&format!("{name}: {then:?} before, {now:?} after"));
        let grown = [
            ("threads", then.threads, now.threads, THREADS_MORE),
            ("handles", then.handles, now.handles, HANDLES_MORE),
            ("KiB", then.memory_kib, now.memory_kib, MEMORY_KIB_MORE),
        ];
        let beyond = grown.into_iter().filter(|(_, then, now, more)| *now > then + more);
        faults.extend(beyond.map(|(what, then, now, _)| format!("{name}: {then} {what} have become {now}")));
    }
    faults
}
