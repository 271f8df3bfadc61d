//! What goes wrong, and when: all of it drawn from one seed before anything happens.

use std::time::Duration;

use crate::support::random::Random;

/// A member of one of the groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    pub group: usize,
    pub seat: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wire {
    Kafka,
    Database,
}

/// Something that goes wrong for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL; started again at the end.
    Kill(Seat),
    /// SIGTERM; started again at the end.
    Leave(Seat),
    /// SIGSTOP, often for longer than the session lasts; SIGCONT at the end.
    Freeze(Seat),
    BrokerStops,
    BrokerDies,
    DatabaseStops,
    DatabaseDies,
    /// All connections are cut, once.
    Cut(Wire),
    /// Everything takes longer.
    Slow(Wire),
    /// Nothing gets through; later all of it does.
    Hang(Wire),
    /// Nothing gets through, ever; at the end the connections are cut.
    Swallow(Wire),
    DiskFull,
}

impl Fault {
    /// What it happens to; nothing has two faults at once.
    fn subject(self) -> Subject {
        match self {
            Fault::Kill(seat) | Fault::Leave(seat) | Fault::Freeze(seat) => Subject::Seat(seat),
            Fault::BrokerStops | Fault::BrokerDies => Subject::Wire(Wire::Kafka),
            Fault::DatabaseStops | Fault::DatabaseDies => Subject::Wire(Wire::Database),
            Fault::Cut(wire) | Fault::Slow(wire) | Fault::Hang(wire) | Fault::Swallow(wire) => Subject::Wire(wire),
            Fault::DiskFull => Subject::Disk,
        }
    }

    /// How long it may last, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            Fault::Kill(_) | Fault::Leave(_) => (100, 2_000),
            Fault::Freeze(_) => (1_000, 8_000),
            Fault::BrokerStops | Fault::BrokerDies => (100, 2_000),
            Fault::DatabaseStops | Fault::DatabaseDies => (100, 4_000),
            Fault::Cut(_) => (1, 2),
            Fault::Slow(_) => (2_000, 6_000),
            Fault::Hang(_) | Fault::Swallow(_) => (1_000, 8_000),
            Fault::DiskFull => (1_000, 6_000),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Seat(Seat),
    Wire(Wire),
    Disk,
}

/// A fault's begin or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Duration,
    pub fault: Fault,
    pub begins: bool,
}

/// How many processes there are, and what there is to break.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub groups: usize,
    /// Seat 0 of each group is never killed and never leaves: it is watched for what it piles up.
    pub seats: usize,
    pub disk: bool,
}

/// After a fault its subject is left alone for this long.
const REST: Duration = Duration::from_secs(1);

/// Faults for so long, in order; the last ends soon after. The same seed gives the same.
pub fn plan(seed: u64, lasting: Duration, world: World) -> Vec<Step> {
    let mut random = Random::seeded(seed);
    let (mut steps, mut deck) = (Vec::new(), Vec::new());
    let mut free_at: Vec<(Subject, Duration)> = Vec::new();
    let mut at = Duration::from_secs(1);
    while at < lasting {
        if deck.is_empty() {
            deck = shuffled_deck(world, &mut random);
        }
        let fault: Fault = deck.pop().expect("a deck has cards");
        let subject = fault.subject();
        let busy = free_at.iter().find(|(busy, _)| *busy == subject).map_or(Duration::ZERO, |(_, until)| *until);
        at = at.max(busy);
        let (least, most) = fault.lasts_ms();
        let until = at + Duration::from_millis(random.between(least, most));
        free_at.retain(|(other, _)| *other != subject);
        free_at.push((subject, until + REST));
        steps.push(Step { at, fault, begins: true });
        steps.push(Step { at: until, fault, begins: false });
        at += Duration::from_millis(random.between(300, 1_500));
    }
    steps.sort_by_key(|step| (step.at, step.begins));
    steps
}

/// Every fault there is, members' several times: what they do moves partitions.
fn shuffled_deck(world: World, random: &mut Random) -> Vec<Fault> {
    let mut deck = vec![Fault::BrokerStops, Fault::BrokerDies, Fault::DatabaseStops, Fault::DatabaseDies];
    for wire in [Wire::Kafka, Wire::Database] {
        deck.extend([Fault::Cut(wire), Fault::Slow(wire), Fault::Hang(wire), Fault::Swallow(wire)]);
    }
    deck.extend(world.disk.then_some(Fault::DiskFull));
    for group in 0..world.groups {
        let mut anyone = |least| Seat { group, seat: random.between(least, world.seats as u64) as usize };
        deck.extend([Fault::Kill(anyone(1)), Fault::Kill(anyone(1)), Fault::Leave(anyone(1)), Fault::Leave(anyone(1))]);
        deck.extend([Fault::Freeze(anyone(0)), Fault::Freeze(anyone(0))]);
    }
    for last in (1..deck.len()).rev() {
        deck.swap(last, random.between(0, last as u64 + 1) as usize);
    }
    deck
}

#[test]
fn a_seed_decides_everything_and_two_minutes_have_every_fault() {
    const WORLD: World = World { groups: 2, seats: 3, disk: true };
    let lasting = Duration::from_secs(120);
    for seed in 0..20 {
        let steps = plan(seed, lasting, WORLD);
        assert_eq!(steps, plan(seed, lasting, WORLD));
        assert_ne!(steps, plan(seed + 1, lasting, WORLD));
        let mut open: Vec<Fault> = Vec::new();
        for Step { fault, begins, .. } in &steps {
            if *begins {
                assert!(open.iter().all(|other| other.subject() != fault.subject()), "{fault:?} meets {open:?}");
                open.push(*fault);
            } else {
                open.retain(|other| other != fault);
            }
        }
        assert!(open.is_empty(), "{open:?} never ends");
        let kinds: std::collections::BTreeSet<_> =
            steps.iter().map(|step| std::mem::discriminant(&step.fault)).map(|kind| format!("{kind:?}")).collect();
        assert_eq!(kinds.len(), 12, "seed {seed}: {} steps", steps.len());
    }
}
