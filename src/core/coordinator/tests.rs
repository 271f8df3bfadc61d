//! The coordinator on its own: events in, actions out.

use super::*;
use crate::core::assignment::{Assignment, Claimed};
use crate::core::batcher::Amount;
use crate::core::statistics::Statistics;
use crate::core::verdict::{ErrorClass, Failure};

const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    Rules {
        limits: BatchLimits { rows_max: 10, bytes_max: 1 << 20, wait_max: Duration::from_millis(100) },
        patience: Patience {
            max_retries: 3,
            retry_backoff: SECOND,
            error_threshold: 2,
            error_timeout: Duration::from_secs(60),
        },
        dead_letter_percent_max: 10,
        lanes: 1,
        transactional: true,
        reset: OffsetReset::Earliest,
        commit_interval: Duration::from_secs(5),
        drain_timeout: Duration::from_secs(30),
        until_end: false,
        max_messages: None,
        survey_interval: Duration::from_secs(3600),
    }
}

struct Bench {
    coordinator: Coordinator,
    now: Duration,
}

impl Bench {
    fn new(rules: Rules) -> Self {
        Self { coordinator: Coordinator::new(rules, 7), now: Duration::ZERO }
    }

    /// Handles one event and returns what follows, without log lines.
    fn on(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.coordinator.handle(self.now, event, &mut actions);
        actions.retain(|action| !matches!(action, Action::Note(..)));
        actions
    }

    fn after(&mut self, wait: Duration) -> Vec<Action> {
        self.now += wait;
        self.on(Event::Tick)
    }

    /// Assigns partitions of topic `t` with logs from 5 to 100 and claims them at `next`. Returns their runs.
    fn started(&mut self, partitions: i32, next: i64) -> Vec<u64> {
        self.on(Event::Assigned((0..partitions).map(|p| assignment(p, None)).collect()));
        let runs: Vec<u64> = (1..=partitions as u64).collect();
        let rows = runs.iter().map(|_| row(Some(next), true)).collect();
        self.on(Event::Claimed { runs: runs.clone(), result: Ok(rows) });
        runs
    }

    fn fetch(&mut self, run: u64, first: i64, next: i64) -> Vec<Action> {
        let records_max = (next - first) as usize;
        self.on(Event::Fetched(Arrival { run, first, next, records_max, bytes: records_max * 100, log_end: 100 }))
    }

    /// The row says now that the partition is paused, or not.
    fn noted(&mut self, partition: i32, paused: bool) -> Vec<Action> {
        self.on(Event::PauseNoted { partition: name(partition), paused, error: None })
    }

    fn statistics(&mut self, now_unix_ms: i64) -> Statistics {
        self.coordinator.statistics(self.now, now_unix_ms, 0)
    }

    /// Why a partition stands still.
    fn standing(&mut self) -> Option<String> {
        self.statistics(0).standing().next().and_then(|partition| partition.detail.clone())
    }

    fn stuck(&self) -> Vec<String> {
        self.coordinator.stuck_partitions().into_values().collect()
    }
}

fn name(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn assignment(partition: i32, committed: Option<i64>) -> Assignment {
    let topic_id = Some(uuid::Uuid::from_u128(1));
    let cluster_id = Some("cluster-a".into());
    Assignment { partition: name(partition), committed, log_start: 5, log_end: 100, cluster_id, topic_id }
}

fn row(next_offset: Option<i64>, existed: bool) -> Claimed {
    let (cluster_id, topic_id) = (Some("cluster-a".into()), Some(uuid::Uuid::from_u128(1)));
    Claimed { next_offset, owner_epoch: 3, cluster_id, topic_id, existed, paused: false }
}

fn lane(run: u64) -> LaneId {
    LaneId { run, index: 0 }
}

fn done(run: u64, through: i64, written: u64) -> LaneReport {
    LaneReport {
        lane: lane(run),
        through,
        chunks: 1,
        decoded: written,
        skipped: 0,
        waiting_records: 0,
        waiting_bytes: 0,
        open: Amount::default(),
        owes_position: false,
        attempted: written,
        written,
        repeated: 0,
        dead_lettered: 0,
        written_bytes: written * 10,
        took: SECOND,
        told: Box::default(),
        failure: None,
        ruined: false,
    }
}

fn failed(run: u64, through: i64, class: ErrorClass) -> LaneReport {
    let failure = Some(Failure { class, message: "no".into(), offset: None });
    LaneReport { written: 0, written_bytes: 0, waiting_records: 10, decoded: 10, failure, ..done(run, through, 10) }
}

fn dispatched(actions: &[Action]) -> Vec<(u64, usize)> {
    let one = |action: &Action| match action {
        Action::Dispatch { lane, orders } => Some((lane.run, orders.rows_max)),
        _ => None,
    };
    actions.iter().filter_map(one).collect()
}

#[test]
fn a_claim_asks_with_the_groups_offset_or_the_reset_policy() {
    let cases = [
        (OffsetReset::Earliest, None, Some(5)),
        (OffsetReset::Latest, None, Some(100)),
        (OffsetReset::Error, None, None),
        (OffsetReset::Error, Some(42), Some(42)),
    ];
    for (reset, committed, expected) in cases {
        let mut bench = Bench::new(Rules { reset, ..rules() });
        let actions = bench.on(Event::Assigned(vec![assignment(0, committed)]));
        let Some(Action::Claim { claims, .. }) = actions.last() else { panic!("{actions:?}") };
        assert_eq!(claims[0].start_if_absent, expected, "{reset:?}, committed {committed:?}");
    }
}

#[test]
fn the_databases_position_decides_where_to_read() {
    let mut bench = Bench::new(rules());
    bench.on(Event::Assigned(vec![assignment(0, Some(90))]));
    let actions = bench.on(Event::Claimed { runs: vec![1], result: Ok(vec![row(Some(60), true)]) });
    let open = Action::Open { run: 1, partition: name(0), lanes: 1, position: 60, claimed: Some((3, 60)) };
    assert_eq!(actions, [open, Action::Fetch { partition: name(0), run: 1, offset: 60 }]);
}

#[test]
fn a_position_of_another_log_stops_its_partition_with_numbers_and_a_way_out() {
    let cases = [
        (Claimed { topic_id: Some(uuid::Uuid::from_u128(2)), ..row(Some(60), true) }, "deleted and made anew"),
        (Claimed { cluster_id: Some("cluster-b".into()), ..row(Some(60), true) }, "belongs to cluster cluster-b"),
        (row(Some(2), true), "3 records were removed by retention"),
        (row(None, false), "has no position yet"),
    ];
    for (row, words) in cases {
        let mut bench = Bench::new(rules());
        bench.on(Event::Assigned(vec![assignment(0, None)]));
        let actions = bench.on(Event::Claimed { runs: vec![1], result: Ok(vec![row]) });
        assert!(!actions.iter().any(|action| matches!(action, Action::Fetch { .. })), "{words}: {actions:?}");
        let [reason] = &bench.stuck()[..] else { panic!("{words}: {:?}", bench.stuck()) };
        assert!(reason.contains(words), "{words}: {reason}");
    }
}

#[test]
fn a_gap_is_never_jumped_where_the_database_decided_the_position() {
    let mut bench = Bench::new(rules());
    bench.started(1, 60);
    bench.on(Event::OutOfRange { run: 1, requested: 60, log_start: 70, log_end: 100 });
    assert!(bench.stuck()[0].contains("10 records were removed by retention"), "{:?}", bench.stuck());

    let mut bench = Bench::new(Rules { transactional: false, ..rules() });
    bench.on(Event::Assigned(vec![assignment(0, Some(60))]));
    let actions = bench.on(Event::OutOfRange { run: 1, requested: 60, log_start: 70, log_end: 100 });
    assert!(actions.contains(&Action::Fetch { partition: name(0), run: 2, offset: 70 }), "{actions:?}");
}

#[test]
fn a_lane_is_with_one_worker_at_a_time_and_waits_for_company() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    assert_eq!(bench.fetch(1, 5, 9), [Action::Enqueue { run: 1 }], "4 records wait for company");
    assert_eq!(dispatched(&bench.fetch(1, 9, 20)), [(1, 10)], "15 are more than a batch");
    assert_eq!(dispatched(&bench.fetch(1, 20, 40)), [], "the lane is at work");
    assert_eq!(dispatched(&bench.on(Event::Worked(done(1, 15, 10)))), [(1, 10)]);

    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 9);
    assert_eq!(dispatched(&bench.after(Duration::from_millis(99))), []);
    assert_eq!(dispatched(&bench.after(Duration::from_millis(1))), [(1, 10)], "nobody came within batch_timeout");
}

#[test]
fn stale_chunks_and_reports_change_nothing() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 20);
    bench.on(Event::Lost(vec![name(0)]));
    assert_eq!(bench.fetch(1, 20, 30), [], "a chunk of a lost partition");
    assert_eq!(bench.on(Event::Worked(done(1, 15, 10))), [], "its outcome");
    bench.now += Duration::from_secs(6);
    let actions = bench.on(Event::Tick);
    assert!(!actions.iter().any(|action| matches!(action, Action::Commit(_))), "nothing is committed: {actions:?}");
}

#[test]
fn a_revoked_partition_finishes_what_is_in_flight_and_commits_before_it_is_let_go() {
    let mut bench = Bench::new(rules());
    bench.started(2, 5);
    bench.fetch(1, 5, 30);
    bench.fetch(2, 5, 30);
    let actions = bench.on(Event::Revoked(vec![name(0)]));
    assert_eq!(actions, [Action::StopFetching(vec![name(0)])], "the worker still has it");
    let actions = bench.on(Event::Worked(done(1, 15, 10)));
    let release = Action::Release { partitions: vec![name(0)], positions: vec![(name(0), 15)] };
    assert_eq!(actions, [Action::Close { run: 1 }, Action::OnRevoke(vec![name(0)]), release]);
    let other = LaneReport { waiting_records: 15, ..done(2, 15, 10) };
    assert_eq!(dispatched(&bench.on(Event::Worked(other))), [(2, 10)], "the other did not notice");
}

#[test]
fn a_partition_that_was_started_while_it_was_lost_is_not_fetched_on() {
    let mut bench = Bench::new(rules());
    bench.on(Event::Assigned(vec![assignment(0, None)]));
    // The source has reported the loss and stopped the partition by itself; then it hears of this start.
    let actions = bench.on(Event::Claimed { runs: vec![1], result: Ok(vec![row(Some(5), true)]) });
    assert!(matches!(actions.last(), Some(Action::Fetch { .. })), "{actions:?}");
    let actions = bench.on(Event::Lost(vec![name(0)]));
    assert!(actions.contains(&Action::StopFetching(vec![name(0)])), "{actions:?}");
}

#[test]
fn a_partition_on_its_way_out_is_not_started_anew_where_its_log_begins() {
    let mut bench = Bench::new(rules());
    bench.on(Event::Assigned((0..2).map(|partition| assignment(partition, None)).collect()));
    bench.on(Event::Claimed { runs: vec![1, 2], result: Ok(vec![row(Some(5), false), row(Some(5), false)]) });
    bench.fetch(1, 5, 30);
    assert_eq!(bench.on(Event::Revoked(vec![name(0), name(1)])), [Action::StopFetching(vec![name(0), name(1)])]);
    assert_eq!(bench.on(Event::OutOfRange { run: 2, requested: 5, log_start: 50, log_end: 100 }), []);
}

#[test]
fn a_revocation_does_not_wait_for_ever() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 30);
    bench.on(Event::Revoked(vec![name(0)]));
    let actions = bench.after(Duration::from_secs(30));
    let release = Action::Release { partitions: vec![name(0)], positions: vec![(name(0), 5)] };
    assert!(actions.contains(&release), "{actions:?}");
}

#[test]
fn failures_wait_outside_the_workers_and_the_circuit_probes_with_one_record() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 30);
    assert_eq!(dispatched(&bench.on(Event::Worked(failed(1, 5, ErrorClass::Unclassified)))), []);
    assert_eq!(dispatched(&bench.after(SECOND)), [(1, 10)], "the same batch again");
    bench.on(Event::Worked(LaneReport { chunks: 0, decoded: 0, ..failed(1, 5, ErrorClass::Unclassified) }));
    assert_eq!(bench.standing().as_deref(), Some("errors: no"));
    assert_eq!(bench.fetch(1, 30, 40), [], "while it is paused it holds no records");
    assert_eq!(bench.after(Duration::from_secs(59)).len(), 1, "a commit, and nothing else");
    assert!(matches!(&bench.after(SECOND)[..], [Action::Claim { runs, .. }] if runs == &[2]));
    bench.on(Event::Claimed { runs: vec![2], result: Ok(vec![row(Some(5), true)]) });
    assert_eq!(dispatched(&bench.fetch(2, 5, 30)), [(2, 1)], "one record is the probe");
    let probe = LaneReport { waiting_records: 24, ..done(2, 6, 1) };
    assert_eq!(dispatched(&bench.on(Event::Worked(probe))), [(2, 10)], "and then it goes on");
    assert_eq!(bench.standing(), None);
}

#[test]
fn an_operators_pause_is_its_own_reason_and_outlives_a_rebalance() {
    let mut bench = Bench::new(rules());
    bench.started(2, 5);
    let actions = bench.on(Event::Pause(name(0)));
    let note = |paused| Action::NotePause { partition: name(0), paused };
    let parked = [Action::Close { run: 1 }, Action::StopFetching(vec![name(0)]), note(true)];
    assert_eq!(actions, parked, "it holds no records");
    bench.noted(0, true);
    assert_eq!(dispatched(&bench.fetch(1, 5, 30)), []);
    assert_eq!(dispatched(&bench.fetch(2, 5, 30)), [(2, 10)]);
    bench.on(Event::Revoked(vec![name(0)]));
    let actions = bench.on(Event::Assigned(vec![assignment(0, None)]));
    assert_eq!(actions, [Action::OnAssign(vec![name(0)])], "still paused: nothing is claimed");
    assert_eq!(bench.on(Event::Resume(name(0))), [note(false)], "claimed once the row says so too");
    let actions = bench.noted(0, false);
    assert!(matches!(&actions[..], [Action::Claim { runs, .. }] if runs == &[4]), "{actions:?}");
}

#[test]
fn an_operators_pause_is_known_to_the_next_owner() {
    let mut bench = Bench::new(rules());
    bench.on(Event::Assigned(vec![assignment(0, None)]));
    let paused = Claimed { paused: true, ..row(Some(60), true) };
    assert_eq!(bench.on(Event::Claimed { runs: vec![1], result: Ok(vec![paused]) }), []);
    assert_eq!(bench.standing().as_deref(), Some("operator"));
    bench.on(Event::Resume(name(0)));
    let actions = bench.noted(0, false);
    assert!(matches!(&actions[..], [Action::Claim { runs, .. }] if runs == &[1]), "{actions:?}");
}

#[test]
fn the_last_word_about_a_pause_is_the_one_that_is_noted() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    let noting = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::NotePause { .. }));
    assert!(noting(bench.on(Event::Pause(name(0)))));
    assert!(!noting(bench.on(Event::Resume(name(0)))), "one note at a time");
    assert_eq!(bench.noted(0, true), [Action::NotePause { partition: name(0), paused: false }]);
    assert!(matches!(&bench.noted(0, false)[..], [Action::Claim { .. }]));
}

#[test]
fn what_a_person_says_while_the_row_is_being_read_is_newer_than_the_row() {
    let mut bench = Bench::new(rules());
    bench.on(Event::Assigned(vec![assignment(0, None)]));
    assert_eq!(bench.on(Event::Resume(name(0))), [Action::NotePause { partition: name(0), paused: false }]);
    let paused = || Claimed { paused: true, ..row(Some(60), true) };
    let actions = bench.on(Event::Claimed { runs: vec![1], result: Ok(vec![paused()]) });
    assert!(matches!(&actions[..], [Action::Open { .. }, Action::Fetch { .. }]), "{actions:?}");
    assert_eq!((bench.noted(0, false), bench.standing()), (vec![], None));

    let mut bench = Bench::new(rules());
    bench.on(Event::Assigned(vec![assignment(0, None)]));
    bench.on(Event::Resume(name(0)));
    bench.noted(0, false);
    bench.on(Event::Claimed { runs: vec![1], result: Ok(vec![paused()]) });
    assert_eq!(bench.standing(), None, "though the note was faster than the row");
}

#[test]
fn a_stop_waits_until_a_pause_is_noted_but_not_for_a_database_that_is_away() {
    let finishes = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Finish { .. }));
    for error in [None, Some("away".to_owned())] {
        let mut bench = Bench::new(rules());
        bench.started(1, 5);
        bench.on(Event::Pause(name(0)));
        assert!(!finishes(&bench.on(Event::Stop)), "the next start would not know of the pause");
        assert!(finishes(&bench.on(Event::PauseNoted { partition: name(0), paused: true, error })));
    }
}

#[test]
fn a_pause_that_could_not_be_noted_is_noted_again() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.on(Event::Pause(name(0)));
    let failed = |paused| Event::PauseNoted { partition: name(0), paused, error: Some("away".into()) };
    assert_eq!(bench.on(failed(true)), []);
    let note = |paused| [Action::NotePause { partition: name(0), paused }];
    let with_the_commit = bench.after(5 * SECOND);
    assert!(with_the_commit.ends_with(&note(true)), "with the next commit: {with_the_commit:?}");
    assert_eq!(bench.on(failed(true)), []);
    assert_eq!(bench.on(Event::Resume(name(0))), [], "the row still has to be asked");
    assert_eq!(bench.after(5 * SECOND), note(false), "the last word");
    assert!(matches!(&bench.noted(0, false)[..], [Action::Claim { .. }]), "our own row does not pause us again");
}

#[test]
fn a_partition_is_not_given_back_while_a_worker_holds_a_lane_of_an_earlier_stay() {
    let mut bench = Bench::new(Rules { transactional: false, ..rules() });
    bench.on(Event::Assigned(vec![assignment(0, Some(5))]));
    assert_eq!(dispatched(&bench.fetch(1, 5, 30)), [(1, 10)]);
    bench.on(Event::Lost(vec![name(0)]));
    bench.on(Event::Assigned(vec![assignment(0, Some(5))]));
    let given_back = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Release { .. }));
    assert!(!given_back(&bench.on(Event::Revoked(vec![name(0)]))), "lane 1.0 is at work");
    assert!(given_back(&bench.on(Event::Worked(done(1, 15, 10)))));
}

#[test]
fn an_open_circuit_stays_open_while_the_partition_is_elsewhere() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 30);
    bench.on(Event::Worked(failed(1, 5, ErrorClass::Data)));
    bench.on(Event::Lost(vec![name(0)]));
    bench.after(Duration::from_secs(20));
    let actions = bench.on(Event::Assigned(vec![assignment(0, None)]));
    assert_eq!(actions, [Action::OnAssign(vec![name(0)])], "no claim before the probe is due");
    assert!(matches!(&bench.after(Duration::from_secs(40))[..], [.., Action::Claim { .. }]));
    let claimed = Event::Claimed { runs: vec![3], result: Ok(vec![row(Some(5), true)]) };
    bench.on(claimed);
    assert_eq!(dispatched(&bench.fetch(3, 5, 30)), [(3, 1)], "one record is the probe");
}

#[test]
fn an_outage_is_not_counted_against_the_records() {
    let mut bench = Bench::new(Rules { patience: Patience { error_threshold: 100, ..rules().patience }, ..rules() });
    bench.started(1, 5);
    let mut actions = bench.fetch(1, 5, 30);
    let mut blamed = Vec::new();
    for class in [ErrorClass::Transient; 20].into_iter().chain([ErrorClass::Unclassified; 5]) {
        let orders = actions.iter().find_map(|action| match action {
            Action::Dispatch { orders, .. } => Some(*orders),
            _ => None,
        });
        blamed.push(orders.expect("tried again").unclassified);
        bench.on(Event::Worked(LaneReport { chunks: 0, ..failed(1, 5, class) }));
        actions = bench.after(Duration::from_secs(60));
    }
    let expected: Vec<bool> = (0..25).map(|attempt| attempt >= 20 + 3).collect();
    assert_eq!(blamed, expected, "three retries of what nobody classified, however long the outage was");
}

#[test]
fn a_database_that_has_too_much_gets_less_until_it_takes_that() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    let mut actions = bench.fetch(1, 5, 100);
    let mut sizes = Vec::new();
    for written in [0, 0, 0, 0, 0, 1, 2, 5, 10, 10] {
        let [(1, rows_max)] = dispatched(&actions)[..] else { panic!("{actions:?}") };
        sizes.push(rows_max);
        let through = sizes.iter().skip(5).sum::<usize>() as i64;
        let report = match written {
            0 => LaneReport { waiting_records: 95, ..failed(1, 5, ErrorClass::Overload) },
            _ => LaneReport { waiting_records: 95 - through as usize, ..done(1, 5 + through, written) },
        };
        actions = bench.on(Event::Worked(LaneReport { chunks: usize::from(sizes.len() == 1), ..report }));
        actions.extend(bench.after(Duration::from_secs(60)));
    }
    assert_eq!(sizes, [10, 5, 2, 1, 1, 1, 2, 5, 10, 10]);
}

#[test]
fn a_flood_of_bad_records_opens_the_circuit() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    let bad_max = |actions: Vec<Action>| match actions.last() {
        Some(Action::Dispatch { orders, .. }) => orders.bad_max(orders.rows_max),
        other => panic!("{other:?}"),
    };
    assert_eq!(bad_max(bench.fetch(1, 5, 40)), 10, "a few are always let through");
    let put_aside = LaneReport { dead_lettered: 10, decoded: 35, waiting_records: 25, ..done(1, 15, 0) };
    assert_eq!(bad_max(bench.on(Event::Worked(put_aside))), 0);
    let statistics = bench.statistics(0);
    assert_eq!((statistics.dead_lettered, statistics.records_in_flight, statistics.records_read), (10, 25, 35));
    bench.on(Event::Worked(failed(1, 15, ErrorClass::Schema)));
    assert_eq!(bench.standing().as_deref(), Some("schema: no"));
}

#[test]
fn a_fenced_partition_is_dropped_and_asked_for_again() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 30);
    let actions = bench.on(Event::Worked(failed(1, 5, ErrorClass::Fenced)));
    assert_eq!(actions, [Action::Close { run: 1 }, Action::StopFetching(vec![name(0)])]);
    let actions = bench.after(Duration::from_secs(5));
    assert!(matches!(&actions[..], [Action::Claim { runs, .. }] if runs == &[2]), "{actions:?}");
}

#[test]
fn a_batch_that_is_refused_after_its_partition_went_elsewhere_is_told() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 30);
    bench.on(Event::Lost(vec![name(0)]));
    let mut actions = Vec::new();
    bench.coordinator.handle(bench.now, Event::Worked(failed(1, 5, ErrorClass::Fenced)), &mut actions);
    assert!(matches!(&actions[..], [Action::Note(log::Level::Warn, text)] if text.contains("(fenced)")), "{actions:?}");
}

#[test]
fn corrupt_bytes_are_fetched_again_and_stop_the_partition_when_they_stay_corrupt() {
    let mut bench = Bench::new(Rules { transactional: false, ..rules() });
    bench.on(Event::Assigned(vec![assignment(0, Some(5))]));
    for run in 1..=4 {
        bench.fetch(run, 5, 30);
        let report = LaneReport { ruined: true, attempted: 0, ..failed(run, 5, ErrorClass::Data) };
        bench.on(Event::Worked(report));
        bench.after(Duration::from_secs(120));
    }
    assert_eq!(bench.stuck(), ["no"]);
}

#[test]
fn until_end_ends_when_every_partition_is_through_and_not_between_rebalances() {
    let mut bench = Bench::new(Rules { until_end: true, ..rules() });
    bench.started(2, 5);
    bench.fetch(1, 5, 100);
    assert_eq!(bench.on(Event::Lost(vec![name(1)])).iter().filter(|a| matches!(a, Action::Finish { .. })).count(), 0);
    bench.on(Event::Worked(done(1, 100, 95)));
    assert!(!bench.coordinator.finished(), "who has t/1 is not known yet");
    bench.on(Event::Settled);
    let actions = bench.on(Event::Surveyed(vec![assignment(0, None)]));
    assert!(actions.contains(&Action::Finish { positions: vec![(name(0), 100)] }), "{actions:?}");
}

#[test]
fn until_end_waits_for_the_partitions_of_other_members() {
    let mut bench = Bench::new(Rules { until_end: true, ..rules() });
    bench.started(1, 100);
    let actions = bench.on(Event::Settled);
    assert_eq!(actions, [Action::Commit(vec![(name(0), 100)]), Action::Survey]);
    let others = |committed| Event::Surveyed(vec![assignment(0, None), assignment(1, committed)]);
    assert_eq!(bench.on(others(Some(40))), []);
    assert_eq!(bench.on(Event::Tick), [], "it was asked just now");
    assert_eq!(bench.after(SECOND), [Action::Survey]);

    // the other member dies, and its partition comes here
    bench.on(Event::Assigned(vec![assignment(1, Some(40))]));
    bench.on(Event::Settled);
    bench.on(Event::Claimed { runs: vec![2], result: Ok(vec![row(Some(40), true)]) });
    assert!(!bench.coordinator.finished());
    bench.fetch(2, 40, 100);
    assert!(bench.on(Event::Worked(done(2, 100, 60))).contains(&Action::Survey));
    let actions = bench.on(others(Some(100)));
    assert!(matches!(actions.last(), Some(Action::Finish { positions }) if positions.len() == 2), "{actions:?}");
}

#[test]
fn a_stop_lets_work_in_flight_finish_and_starts_nothing_new() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 60);
    let actions = bench.on(Event::Stop);
    assert_eq!(actions, [Action::StopFetching(vec![name(0)])]);
    let actions = bench.on(Event::Worked(LaneReport { waiting_records: 45, ..done(1, 15, 10) }));
    assert_eq!(dispatched(&actions), []);
    assert_eq!(actions.last(), Some(&Action::Finish { positions: vec![(name(0), 15)] }));
}

#[test]
fn the_success_of_one_lane_does_not_hide_the_failure_of_another() {
    let mut bench = Bench::new(Rules { lanes: 2, transactional: false, ..rules() });
    bench.on(Event::Assigned(vec![assignment(0, Some(5))]));
    bench.fetch(1, 5, 30);
    let second = LaneId { run: 1, index: 1 };
    bench.on(Event::Worked(failed(1, 5, ErrorClass::Transient)));
    bench.on(Event::Worked(LaneReport { lane: second, ..done(1, 30, 10) }));
    assert_eq!(bench.standing().as_deref(), Some("no"), "the first lane tries again");
    bench.after(60 * SECOND);
    bench.on(Event::Worked(done(1, 30, 10)));
    assert_eq!(bench.standing(), None);
}

#[test]
fn an_impossible_report_is_not_believed() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 30);
    bench.on(Event::Worked(done(1, 31, 26)));
    assert!(bench.stuck()[0].contains("only offsets below 30 were handed out"), "{:?}", bench.stuck());
}

#[test]
fn until_end_does_not_forget_a_partition_that_could_not_be_read() {
    let mut bench = Bench::new(Rules { until_end: true, ..rules() });
    bench.started(1, 100);
    let message = "not authorized".to_owned();
    bench.on(Event::PartitionFailed { partition: name(1), run: None, forbidden: true, message });
    assert!(!bench.coordinator.finished());
    bench.on(Event::Settled);
    bench.on(Event::Surveyed(vec![assignment(0, None)]));
    assert!(bench.coordinator.finished());
    assert_eq!(bench.stuck(), ["not authorized"]);
}

#[test]
fn a_failure_of_a_run_that_is_over_stops_nothing() {
    let mut bench = Bench::new(rules());
    bench.started(2, 10);
    let failure = |run| {
        let message = "not authorized".to_owned();
        Event::PartitionFailed { partition: name(1), run: Some(run), forbidden: false, message }
    };
    bench.on(Event::Lost(vec![name(1)]));
    bench.on(failure(2));
    assert_eq!((bench.stuck(), bench.statistics(0).partitions.len()), (vec![], 1), "it is somebody else's");
    bench.on(Event::Assigned(vec![assignment(1, None)]));
    bench.on(failure(2));
    assert_eq!(bench.stuck(), [""; 0], "it was assigned again meanwhile");
    bench.on(failure(3));
    assert_eq!(bench.stuck(), ["not authorized"]);
}

#[test]
fn a_right_that_was_taken_away_is_asked_for_again_and_the_partition_goes_on_when_it_is_back() {
    for transactional in [true, false] {
        let mut bench = Bench::new(Rules { transactional, ..rules() });
        bench.on(Event::Assigned(vec![assignment(0, Some(7))]));
        let claim = |bench: &mut Bench, run| match transactional {
            true => bench.on(Event::Claimed { runs: vec![run], result: Ok(vec![row(Some(7), true)]) }),
            false => vec![],
        };
        claim(&mut bench, 1);
        let mut told = 0;
        for (run, pause) in (1..).zip([5, 10, 20, 40, 60, 60, 60, 60, 60, 60, 60, 60]) {
            let (message, mut actions) = ("not authorized".to_owned(), Vec::new());
            let refused = Event::PartitionFailed { partition: name(0), run: Some(run), forbidden: true, message };
            bench.coordinator.handle(bench.now, refused, &mut actions);
            assert!(actions.contains(&Action::StopFetching(vec![name(0)])), "{actions:?}");
            told += actions.iter().filter(|action| matches!(action, Action::Note(log::Level::Error, _))).count();
            assert_eq!((bench.standing().as_deref(), bench.stuck()), (Some("auth: not authorized"), vec![]));
            let starts = |actions: &[Action]| {
                let is_it = |action: &Action| matches!(action, Action::Claim { .. } | Action::Fetch { offset: 7, .. });
                actions.iter().any(is_it)
            };
            assert!(!starts(&bench.after((pause - 1) * SECOND)), "attempt {run}: too early");
            assert!(starts(&bench.after(SECOND)), "attempt {run}");
            claim(&mut bench, run + 1);
        }
        assert_eq!(told, 2, "not at each attempt");
        assert_eq!(bench.standing(), None);
        bench.fetch(13, 7, 17);
        bench.on(Event::Worked(done(13, 17, 10)));
        assert_eq!(bench.statistics(0).partitions[0].position, Some(17));
    }
}

#[test]
fn a_right_that_is_missing_ends_a_run_until_the_end() {
    let mut bench = Bench::new(Rules { until_end: true, ..rules() });
    bench.started(1, 10);
    bench.on(Event::Settled);
    let message = "not authorized".to_owned();
    bench.on(Event::PartitionFailed { partition: name(0), run: Some(1), forbidden: true, message });
    bench.on(Event::Surveyed(vec![assignment(0, None)]));
    assert_eq!((bench.coordinator.finished(), bench.stuck()), (true, vec!["not authorized".to_owned()]));
}

#[test]
fn what_a_run_leaves_undone_at_its_end_is_released() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    bench.fetch(1, 5, 30);
    bench.on(Event::Stop);
    bench.on(Event::Worked(LaneReport { waiting_records: 15, decoded: 25, ..done(1, 15, 10) }));
    assert!(bench.coordinator.finished());
    let statistics = bench.statistics(0);
    assert_eq!((statistics.records_in_flight, statistics.records_released), (0, 15));
    assert_eq!((statistics.records_read, statistics.records_unaccounted), (25, 0));
}

#[test]
fn a_commit_that_is_refused_is_sent_again_but_not_for_what_stands_still() {
    let mut bench = Bench::new(rules());
    bench.started(2, 10);
    let sent = vec![(name(0), 10), (name(1), 10)];
    let commits = |bench: &mut Bench| -> Vec<Vec<(TopicPartition, i64)>> {
        let actions = bench.after(rules().commit_interval);
        actions
            .into_iter()
            .filter_map(|it| if let Action::Commit(positions) = it { Some(positions) } else { None })
            .collect()
    };
    let refused = |bench: &mut Bench, positions| {
        bench.on(Event::Committed { positions, error: Some("the topic was deleted".to_owned()) });
    };
    assert_eq!(commits(&mut bench), std::slice::from_ref(&sent));
    refused(&mut bench, sent.clone());
    assert_eq!(commits(&mut bench), std::slice::from_ref(&sent));
    let message = "deleted and made anew".to_owned();
    bench.on(Event::PartitionFailed { partition: name(1), run: Some(2), forbidden: false, message });
    refused(&mut bench, sent);
    assert_eq!(commits(&mut bench), [[(name(0), 10)]]);
}

#[test]
fn an_operators_pause_lets_the_batch_in_flight_finish_and_resumes_behind_it() {
    let mut bench = Bench::new(Rules { transactional: false, ..rules() });
    bench.on(Event::Assigned(vec![assignment(0, Some(5))]));
    bench.fetch(1, 5, 30);
    assert_eq!(bench.on(Event::Pause(name(0))), [], "a worker has it");
    let actions = bench.on(Event::Worked(LaneReport { waiting_records: 15, ..done(1, 15, 10) }));
    assert_eq!(actions, [Action::Close { run: 1 }, Action::StopFetching(vec![name(0)])]);
    let actions = bench.on(Event::Resume(name(0)));
    assert_eq!(actions.last(), Some(&Action::Fetch { partition: name(0), run: 2, offset: 15 }));
}

#[test]
fn lag_is_told_also_while_the_database_does_not_say_where_we_are() {
    for (reset, committed, expected) in [
        (OffsetReset::Earliest, Some(60), (40, Some(10.0))),
        (OffsetReset::Earliest, None, (95, Some(10.0))),
        (OffsetReset::Latest, None, (0, Some(0.0))),
        (OffsetReset::Error, None, (0, None)),
    ] {
        let mut bench = Bench::new(Rules { reset, ..rules() });
        bench.on(Event::Assigned(vec![assignment(0, committed)]));
        bench.now = 10 * SECOND;
        let failure = Failure { class: ErrorClass::Transient, message: "gone".into(), offset: None };
        bench.on(Event::Claimed { runs: vec![1], result: Err(failure) });
        let told = bench.statistics(1_000_000);
        assert_eq!((told.lag_records, told.lag_seconds), expected, "{reset:?} {committed:?}");
    }
}

#[test]
fn a_snapshot_tells_lag_in_time_and_when_it_will_be_gone() {
    let mut bench = Bench::new(rules());
    bench.started(1, 5);
    let statistics = |bench: &mut Bench| bench.statistics(1_000_000);
    let first = statistics(&mut bench);
    assert_eq!(
        (first.lag_records, first.lag_seconds, first.catch_up_seconds),
        (95, Some(0.0), None),
        "known of since now"
    );

    bench.now = SECOND;
    bench.fetch(1, 5, 45);
    let told = || Box::new(Told { written_unix_ms: Some(940_000), ..Told::default() });
    bench.on(Event::Worked(LaneReport { waiting_records: 30, decoded: 40, told: told(), ..done(1, 15, 10) }));
    let behind = statistics(&mut bench);
    assert_eq!((behind.lag_records, behind.lag_seconds), (85, Some(60.0)), "as old as what was written last");
    assert_eq!(behind.catch_up_seconds, Some(8.5), "10 records in the first second");
    let of = &behind.partitions[0];
    assert_eq!((of.records_in_flight, of.to_retention_records, behind.records_unaccounted), (30, Some(10), 0));
    assert_eq!(of.until_retention_seconds, None, "it has removed nothing");
    assert_eq!(of.distributions.as_ref().map(|spreads| spreads.fetch_wait_seconds.max), Some(1.0));

    let waiting = Box::new(Told { waiting_unix_ms: Some(990_000), ..Told::default() });
    bench.on(Event::Worked(LaneReport { decoded: 0, told: waiting, ..done(1, 45, 30) }));
    assert_eq!(statistics(&mut bench).lag_seconds, Some(10.0), "the next record's own age");
    bench.fetch(1, 45, 100);
    bench.on(Event::Worked(LaneReport { told: told(), ..done(1, 100, 55) }));
    let through = statistics(&mut bench);
    assert_eq!((through.lag_records, through.lag_seconds, through.catch_up_seconds), (0, Some(0.0), Some(0.0)));

    bench.after(Duration::from_secs(99));
    bench.on(Event::Surveyed(vec![Assignment { log_start: 55, log_end: 100, ..assignment(0, None) }]));
    let reached = statistics(&mut bench).partitions[0].until_retention_seconds;
    assert_eq!(reached, Some(45.0 * 100.0 / 50.0), "45 records, of which 50 went in 100 s");
    bench.after(SECOND);
    bench.on(Event::Surveyed(vec![Assignment { log_start: 120, log_end: 150, ..assignment(0, None) }]));
    bench.after(2 * SECOND);
    let later = statistics(&mut bench);
    assert_eq!((later.lag_records, later.lag_seconds), (50, Some(2.0)), "it was at its end two seconds ago");
    assert_eq!(later.partitions[0].to_retention_records, Some(-20), "retention took what was not read");
    assert_eq!(later.partitions[0].until_retention_seconds, Some(0.0));
}

#[test]
fn a_snapshot_tells_how_the_sink_is_and_what_was_put_aside() {
    let mut bench = Bench::new(rules());
    bench.on(Event::Assigned(vec![assignment(0, None)]));
    let sink = |bench: &mut Bench| bench.statistics(0).sink.reachable;
    assert_eq!(sink(&mut bench), None);
    let away = Failure { class: ErrorClass::Transient, message: "refused".into(), offset: None };
    bench.on(Event::Claimed { runs: vec![1], result: Err(away) });
    assert_eq!(sink(&mut bench), Some(false));
    bench.after(60 * SECOND);
    bench.on(Event::Claimed { runs: vec![1], result: Ok(vec![row(Some(5), true)]) });
    assert_eq!(sink(&mut bench), Some(true));
    bench.fetch(1, 5, 15);
    let told = Box::new(Told { letters: vec![(7, "too long".to_owned())], ..Told::default() });
    bench.on(Event::Worked(LaneReport { dead_lettered: 1, decoded: 10, told, ..done(1, 15, 9) }));
    let statistics = bench.statistics(0);
    let [letter] = &statistics.letters[..] else { panic!("{:?}", statistics.letters) };
    assert_eq!((letter.at_seconds, letter.offset, &*letter.reason), (60, 7, "too long"));
    let failure = Failure { class: ErrorClass::Data, message: "bad".into(), offset: None };
    bench.fetch(1, 15, 25);
    bench.on(Event::Worked(LaneReport { failure: Some(failure), ..failed(1, 15, ErrorClass::Data) }));
    assert_eq!(sink(&mut bench), Some(true), "only a database that is there refuses a record");
}
