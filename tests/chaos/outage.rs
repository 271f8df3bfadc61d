//! PostgreSQL is away for two minutes while records keep coming.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::audit::audit;
use crate::support::databases;
use crate::support::kafka;
use crate::support::konekt::{Footprint, Place, Running, stop_all};
use crate::support::link::Link;
use crate::support::{or_skip, wait};
use crate::target::{MEMORY_MIB, Target, expect_rows, member};
use crate::writer::Writer;
use crate::{PARTITIONS, SOON, say};

const TOPIC: &str = "outage";
const PER_SECOND: u64 = 2_000;
const AWAY: Duration = Duration::from_secs(120);
/// How soon rows must be written once the server answers again.
const BACK_WITHIN: Duration = Duration::from_secs(5);
/// When queues are full, memory has its height; from then on it stays there.
const FILLED_AFTER: Duration = Duration::from_secs(30);
const MEMORY_KIB_MORE: u64 = 16 * 1024;

#[test]
fn postgres_is_away_for_two_minutes_under_load() {
    let Some(kafka) = or_skip(kafka::own(&[]).map(Arc::new)) else { return };
    let Some(server) = or_skip(databases::own_postgres()) else { return };
    kafka.create_topic(TOPIC, PARTITIONS, &[]);
    let (place, wire) = (Place::new(), Link::to(server.port()));
    let target = Target::Postgres(server.database(), &wire);
    let run = member(&target, &place, &kafka.address(), TOPIC, TOPIC)
        .arguments(&["--dead-letter-file", "letters.jsonl", "--stats-json", "statistics.jsonl"])
        .arguments(&["--stats-interval-ms", "1000"]);
    let mut members = [run.start()];
    let writer = Writer::start(&kafka, TOPIC, PER_SECOND, 0, 1);
    expect_rows(&target, TOPIC, 5 * PER_SECOND, &mut members, SOON);

    let at_its_end = target.written(TOPIC);
    server.stop();
    let heights = suffer(&mut members[0]);
    let lines_before = statistics(&place);
    let written = writer.written();
    server.start_again().expect("it comes back");
    let back = Instant::now();
    wait::until("it goes on by itself", SOON, || (target.written(TOPIC) > at_its_end + PER_SECOND).then_some(()));
    let took = back.elapsed();
    say(&format!("it goes on {took:.1?} after the server's return"));
    assert!(took <= BACK_WITHIN, "it went on only after {took:?}:\n{}", members[0].stderr());

    expect_flat(&heights);
    expect_lag(&lines_before, written - at_its_end);
    let expected = writer.finish();
    expect_rows(&target, TOPIC, expected.records, &mut members, SOON);
    for ended in stop_all(members) {
        ended.expect_code(0).expect_memory_within(MEMORY_MIB);
    }
    assert_eq!(std::fs::read_to_string(place.file("letters.jsonl")).unwrap_or_default(), "", "no record was bad");
    let findings = target.with_witness(|witness| audit(witness, &kafka.ends(TOPIC), TOPIC, TOPIC, &expected));
    say(&findings.summary);
    findings.expect_none();
}

/// Watches the process through the outage.
fn suffer(run: &mut Running) -> Vec<(Duration, Footprint)> {
    let (begun, mut heights) = (Instant::now(), Vec::new());
    while begun.elapsed() < AWAY {
        assert!(run.poll().is_none(), "it has ended by itself:\n{}", run.stderr());
        heights.extend(run.footprint().map(|height| (begun.elapsed(), height)));
        wait::pause(Duration::from_millis(500));
    }
    heights
}

/// The lines of statistics so far.
fn statistics(place: &Place) -> Vec<Value> {
    let text = std::fs::read_to_string(place.file("statistics.jsonl")).expect("the statistics");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn expect_flat(heights: &[(Duration, Footprint)]) {
    let filled: Vec<Footprint> =
        heights.iter().filter(|(at, _)| *at >= FILLED_AFTER).map(|(_, height)| *height).collect();
    let range = |of: fn(&Footprint) -> u64| (filled.iter().map(of).min(), filled.iter().map(of).max());
    let (memory, threads, handles) =
        (range(|height| height.memory_kib), range(|height| height.threads), range(|height| height.handles));
    say(&format!("during the outage: {memory:?} KiB, {threads:?} threads, {handles:?} handles"));
    for (what, (least, most), more) in
        [("KiB", memory, MEMORY_KIB_MORE), ("threads", threads, 4), ("handles", handles, 8)]
    {
        assert!(most <= least.map(|least| least + more), "{what} went from {least:?} to {most:?}");
    }
}

/// Each second a line, each with a lag that is no smaller than the one before, and in the end all that was written.
fn expect_lag(lines: &[Value], behind: u64) {
    let during = &lines[lines.len().saturating_sub(AWAY.as_secs() as usize - 10)..];
    let lags: Vec<u64> = during.iter().map(|line| line["lag_records"].as_u64().expect("a number")).collect();
    say(&format!("lag during the outage, every tenth line: {:?}", lags.iter().step_by(10).collect::<Vec<_>>()));
    assert!(lags.len() >= 100 && lags.is_sorted(), "{lags:?}");
    let last = *lags.last().expect("there are lines");
    assert!(last * 10 >= behind * 9, "the lag says {last}, but {behind} records wait");
}
