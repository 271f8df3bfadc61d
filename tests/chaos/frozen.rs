//! An owner is frozen for longer than its session; another one takes over and does all the work; then the old one wakes
//! up with batches in hand. It writes nothing.

use std::time::Duration;

use crate::support::audit::{Expected, audit};
use crate::support::databases;
use crate::support::kafka::{self, RealKafka};
use crate::support::konekt::{Place, Running, stop_all};
use crate::support::link::Link;
use crate::support::random::Random;
use crate::support::{or_skip, wait};
use crate::target::{MEMORY_MIB, Target, expect_rows, member};
use crate::{PARTITIONS, SOON};

const RECORDS: u64 = 200_000;
const MORE: u64 = 20_000;

/// What the owner is doing when it freezes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// It holds no lock, but batches that it is about to write.
    BetweenTransactions,
    /// It holds the locks of rows that it has written and not committed.
    WithinATransaction,
    /// The same, and the server waits for the rest of a statement: then it ends nothing by itself.
    WithinAStatement,
}

/// A frozen process that holds SQLite's one lock keeps everybody out until it wakes: nobody could take over.
#[test]
fn a_frozen_owner_of_sqlite_wakes_up_fenced() {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let place = Place::new();
    let target = Target::Sqlite(place.database());
    freeze_and_thaw(kafka, "frozen-sqlite", &place, &target, Moment::BetweenTransactions);
}

#[test]
fn a_frozen_owner_of_postgres_wakes_up_fenced() {
    on_postgres("frozen-postgres", Moment::BetweenTransactions);
}

/// The server ends its transaction when it is idle for longer than a statement may take: the heir need not wait.
#[test]
fn an_owner_of_postgres_that_is_frozen_within_a_transaction_holds_nobody_up() {
    on_postgres("frozen-within", Moment::WithinATransaction);
}

/// The server waits for the rest of a statement as long as the process lives, and no time-out of its own ends that before
/// PostgreSQL 17: the heir has it ended.
#[test]
fn an_owner_of_postgres_that_is_frozen_within_a_statement_holds_nobody_up() {
    on_postgres("frozen-statement", Moment::WithinAStatement);
}

fn on_postgres(topic: &str, moment: Moment) {
    let Some(kafka) = or_skip(kafka::newest()) else { return };
    let Some(server) = or_skip(databases::postgres()) else { return };
    let (place, wire) = (Place::new(), Link::to(server.port()));
    let target = Target::Postgres(server.database(), &wire);
    freeze_and_thaw(kafka, topic, &place, &target, moment);
}

fn freeze_and_thaw(kafka: &RealKafka, topic: &str, place: &Place, target: &Target<'_>, moment: Moment) {
    let mut random = Random::announced();
    kafka.filled_topic(topic, PARTITIONS, RECORDS, 200);
    // What has no answer for longer is given up: between transactions it must not, to be told that it is fenced.
    let query_timeout = if moment == Moment::BetweenTransactions { "60" } else { "3" };
    let start = || {
        let member = member(target, place, &kafka.address(), topic, topic).arguments(&["--max-workers", "1"]);
        member.variable("ODBC_QUERY_TIMEOUT", query_timeout).start()
    };
    let zombie = start();
    let wanted = random.between(1, RECORDS / 4);
    wait::until("it is time to freeze", SOON, || (target.written(topic) >= wanted).then_some(()));
    freeze(&zombie, target, moment);
    assert!(target.written(topic) < RECORDS, "there is work left for the heir");

    let mut heir = [start()];
    expect_rows(target, topic, RECORDS, &mut heir, SOON);
    if moment == Moment::WithinAStatement {
        let said = heir[0].stderr();
        assert!(said.contains("1 session held locks"), "{said}");
    }
    assert_eq!(kafka.members(topic), [PARTITIONS as usize], "the frozen one is no member any more");
    target.thaw();
    zombie.signal("CONT");
    let awake = || {
        let said = zombie.stderr();
        let fenced = said.contains("(fenced)");
        (fenced || moment != Moment::BetweenTransactions && said.contains("partitions lost")).then_some(())
    };
    wait::until("the old owner says that it is none any more", SOON, awake);
    let is_exact = |records| {
        let expected = Expected { records, ..Expected::default() };
        target.with_witness(|witness| audit(witness, &kafka.ends(topic), topic, topic, &expected)).expect_none();
    };
    is_exact(RECORDS);

    // Both are members of the group again, and share what comes.
    kafka.fill(topic, PARTITIONS, RECORDS, MORE, 200);
    let [heir] = heir;
    let mut members = [zombie, heir];
    expect_rows(target, topic, RECORDS + MORE, &mut members, SOON);
    for ended in stop_all(members) {
        ended.expect_code(0).expect_memory_within(MEMORY_MIB);
    }
    is_exact(RECORDS + MORE);
}

/// Freezes it at such a moment, however often that takes.
fn freeze(run: &Running, target: &Target<'_>, moment: Moment) {
    let what = format!("it is frozen {moment:?}");
    if moment == Moment::WithinAStatement {
        target.hold_up("unnest(");
        wait::until(&what, Duration::from_secs(30), || target.is_held_up().then_some(()));
        return run.freeze();
    }
    wait::until(&what, Duration::from_secs(30), || {
        run.freeze();
        // What it has sent last is under way.
        wait::pause(Duration::from_millis(100));
        if target.is_being_written() == (moment == Moment::WithinATransaction) {
            return Some(());
        }
        run.signal("CONT");
        None
    });
}
