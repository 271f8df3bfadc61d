//! How far behind a group is: in records, in time, and until when.
//!
//! A [`Sample`] is what the cluster says at one moment; [`partitions`] makes the lag out of one or two of them, without
//! asking anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;

use crate::core::record::TopicPartition;
use crate::kafka::admin::groups::{GroupDescription, describe_group};
use crate::kafka::admin::offsets::committed_offsets;
use crate::kafka::admin::timestamps::record_timestamps;
use crate::kafka::cluster::{Cluster, TopicsWanted};
use crate::kafka::error::Error;
use crate::kafka::offsets::{Isolation, OffsetAt};

/// What was found out about a group at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub taken_at_ms: i64,
    pub group: GroupDescription,
    pub partitions: BTreeMap<TopicPartition, Seen>,
}

/// A partition that the group has committed, or that a member holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub committed: Option<i64>,
    /// `None` when the partition is gone or has no leader.
    pub log: Option<LogBounds>,
    /// The times of the record to be read next, of the oldest and of the newest one, in milliseconds since the epoch.
    pub next_ms: Option<i64>,
    pub oldest_ms: Option<i64>,
    pub newest_ms: Option<i64>,
}

/// Where a log begins, and which offset its next record gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    pub start: i64,
    pub end: i64,
}

/// The lag of one partition. What cannot be known is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PartitionLag {
    pub topic: String,
    pub partition: i32,
    /// The offset that the group reads next.
    pub committed: Option<i64>,
    pub log_start: Option<i64>,
    pub log_end: Option<i64>,
    /// Records between the committed offset and the log's end, as Kafka's own tools count.
    pub lag_records: Option<i64>,
    /// How old the record is that the group reads next; 0 when it has read everything.
    pub lag_seconds: Option<f64>,
    /// How much older that record is than the log's newest one.
    pub behind_newest_seconds: Option<f64>,
    /// Records that retention can still remove before the group loses one; negative: it has lost some.
    pub to_retention_records: Option<i64>,
    /// The same as time between the oldest record and the one to be read next.
    pub to_retention_seconds: Option<f64>,
    /// Between the two samples.
    pub consumed_per_second: Option<f64>,
    pub produced_per_second: Option<f64>,
    /// When the lag will be gone at these rates; null when it will not.
    pub catch_up_seconds: Option<f64>,
    /// The member that holds the partition.
    pub member_id: Option<String>,
    pub client_id: Option<String>,
    pub host: Option<String>,
}

/// Asks for everything that the lag of a group is made of.
///
/// # Errors
/// When the group or its partitions' logs cannot be asked about. A single partition that cannot has no bounds.
pub fn sample(cluster: &Cluster, group: &str, taken_at_ms: i64) -> Result<Sample, Error> {
    let group = describe_group(cluster, group)?;
    let committed = committed_offsets(cluster, &group.group)?;
    let held = group.members.iter().flat_map(|member| &member.assignment).flat_map(|(topic, partitions)| {
        partitions.iter().map(|partition| TopicPartition::new(topic.as_str(), *partition))
    });
    let all: BTreeSet<TopicPartition> = committed.keys().cloned().chain(held).collect();
    let led = with_leader(cluster, &all)?;
    let starts = bounds(cluster, &led, OffsetAt::Earliest)?;
    let ends = bounds(cluster, &led, OffsetAt::Latest)?;
    let mut partitions: BTreeMap<TopicPartition, Seen> = BTreeMap::new();
    for partition in all {
        let log = starts.get(&partition).zip(ends.get(&partition)).map(|(&start, &end)| LogBounds { start, end });
        let committed = committed.get(&partition).copied();
        partitions.insert(partition, Seen { committed, log, ..Seen::default() });
    }
    find_times(cluster, &mut partitions)?;
    Ok(Sample { taken_at_ms, group, partitions })
}

/// The partitions of topics that are there. Asking where the others end would wait for them to appear.
fn with_leader(cluster: &Cluster, partitions: &BTreeSet<TopicPartition>) -> Result<Vec<TopicPartition>, Error> {
    let topics: BTreeSet<Arc<str>> = partitions.iter().map(|partition| partition.topic.clone()).collect();
    let metadata = cluster.refresh(TopicsWanted::Names(&topics.into_iter().collect::<Vec<_>>()))?;
    let is_led = |of: &&TopicPartition| metadata.leader(&of.topic, of.partition).is_some();
    Ok(partitions.iter().filter(is_led).cloned().collect())
}

/// As Kafka's tools ask: up to the high watermark, whatever transactions are open.
fn bounds(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    at: OffsetAt,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let queries: Vec<_> = partitions.iter().map(|partition| (partition.clone(), at)).collect();
    if queries.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = cluster.list_offsets(&queries, Isolation::ReadUncommitted)?;
    Ok(found.into_iter().filter_map(|(partition, offset)| Some((partition, offset.ok()?))).collect())
}

fn find_times(cluster: &Cluster, partitions: &mut BTreeMap<TopicPartition, Seen>) -> Result<(), Error> {
    type Pick = fn(&Seen, LogBounds) -> Option<i64>;
    type Put = fn(&mut Seen, i64);
    let questions: [(Pick, Put); 3] = [
        (|seen, log| seen.committed.map(|offset| offset.max(log.start)), |seen, ms| seen.next_ms = Some(ms)),
        (|_, log| Some(log.start), |seen, ms| seen.oldest_ms = Some(ms)),
        (|_, log| Some(log.end - 1), |seen, ms| seen.newest_ms = Some(ms)),
    ];
    for (pick, put) in questions {
        let offset =
            |seen: &Seen| seen.log.and_then(|log| pick(seen, log).filter(|at| (log.start..log.end).contains(at)));
        let offsets: BTreeMap<TopicPartition, i64> =
            partitions.iter().filter_map(|(partition, seen)| Some((partition.clone(), offset(seen)?))).collect();
        if offsets.is_empty() {
            continue;
        }
        for (partition, ms) in record_timestamps(cluster, &offsets)? {
            // −1: the record carries no time.
            if let Some(seen) = partitions.get_mut(&partition).filter(|_| ms >= 0) {
                put(seen, ms);
            }
        }
    }
    Ok(())
}

/// The lag of each partition as of `sample`; with an earlier one also the rates.
pub fn partitions(sample: &Sample, earlier: Option<&Sample>) -> Vec<PartitionLag> {
    let mut lags = Vec::with_capacity(sample.partitions.len());
    for (partition, seen) in &sample.partitions {
        let mut lag = lag_of(partition, seen, sample.taken_at_ms);
        if let Some((before, seconds)) = earlier.and_then(|earlier| before(earlier, sample, partition)) {
            add_rates(&mut lag, before, seconds);
        }
        let holds = |assignment: &BTreeMap<String, Vec<i32>>| {
            assignment.get(&*partition.topic).is_some_and(|held| held.contains(&partition.partition))
        };
        if let Some(member) = sample.group.members.iter().find(|member| holds(&member.assignment)) {
            lag.member_id = Some(member.member_id.clone());
            lag.client_id = Some(member.client_id.clone());
            lag.host = Some(member.host.clone());
        }
        lags.push(lag);
    }
    lags
}

fn before<'a>(earlier: &'a Sample, sample: &Sample, partition: &TopicPartition) -> Option<(&'a Seen, f64)> {
    let seconds = seconds_between(earlier.taken_at_ms, sample.taken_at_ms);
    Some((earlier.partitions.get(partition)?, seconds)).filter(|_| seconds > 0.0)
}

fn lag_of(partition: &TopicPartition, seen: &Seen, now_ms: i64) -> PartitionLag {
    let Seen { committed, log, next_ms, oldest_ms, newest_ms } = *seen;
    let lag_records = committed.zip(log).map(|(committed, log)| log.end - committed);
    let since_next = |until_ms: i64| match lag_records {
        Some(lag) if lag <= 0 => Some(0.0),
        _ => next_ms.map(|next_ms| seconds_between(next_ms, until_ms).max(0.0)),
    };
    PartitionLag {
        topic: partition.topic.to_string(),
        partition: partition.partition,
        committed,
        log_start: log.map(|log| log.start),
        log_end: log.map(|log| log.end),
        lag_records,
        lag_seconds: since_next(now_ms),
        behind_newest_seconds: newest_ms.and_then(since_next),
        to_retention_records: committed.zip(log).map(|(committed, log)| committed - log.start),
        to_retention_seconds: next_ms.zip(oldest_ms).map(|(next_ms, oldest_ms)| seconds_between(oldest_ms, next_ms)),
        ..PartitionLag::default()
    }
}

fn add_rates(lag: &mut PartitionLag, before: &Seen, seconds: f64) {
    let rate = |now: Option<i64>, before: Option<i64>| Some((now? - before?) as f64 / seconds);
    lag.consumed_per_second = rate(lag.committed, before.committed);
    lag.produced_per_second = rate(lag.log_end, before.log.map(|log| log.end));
    let gain = lag.consumed_per_second.zip(lag.produced_per_second).map(|(consumed, produced)| consumed - produced);
    lag.catch_up_seconds = match (lag.lag_records, gain) {
        (Some(..=0), _) => Some(0.0),
        (Some(records), Some(gain)) if gain > 0.0 => Some(records as f64 / gain),
        _ => None,
    };
}

fn seconds_between(from_ms: i64, to_ms: i64) -> f64 {
    to_ms.saturating_sub(from_ms) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::admin::groups::GroupMember;

    fn sample_of(taken_at_ms: i64, seen: Seen) -> Sample {
        let member = GroupMember {
            member_id: "m".into(),
            instance_id: None,
            client_id: "c".into(),
            host: "/127.0.0.1".into(),
            assignment: BTreeMap::from([("t".to_owned(), vec![0])]),
        };
        let group = GroupDescription {
            group: "g".into(),
            group_type: "classic",
            state: "Stable".into(),
            assignor: "range".into(),
            coordinator: "a:1".into(),
            members: vec![member],
        };
        Sample { taken_at_ms, group, partitions: BTreeMap::from([(TopicPartition::new("t", 0), seen)]) }
    }

    const NOW_MS: i64 = 100_000;
    const SEEN: Seen = Seen {
        committed: Some(60),
        log: Some(LogBounds { start: 10, end: 100 }),
        next_ms: Some(40_000),
        oldest_ms: Some(30_000),
        newest_ms: Some(90_000),
    };

    #[test]
    fn one_sample_gives_the_distances() {
        let lags = partitions(&sample_of(NOW_MS, SEEN), None);
        let expected = PartitionLag {
            topic: "t".into(),
            partition: 0,
            committed: Some(60),
            log_start: Some(10),
            log_end: Some(100),
            lag_records: Some(40),
            lag_seconds: Some(60.0),
            behind_newest_seconds: Some(50.0),
            to_retention_records: Some(50),
            to_retention_seconds: Some(10.0),
            member_id: Some("m".into()),
            client_id: Some("c".into()),
            host: Some("/127.0.0.1".into()),
            ..PartitionLag::default()
        };
        assert_eq!(lags, [expected]);
    }

    #[test]
    fn two_samples_say_when_it_will_be_caught_up() {
        type Case = (i64, i64, Option<f64>);
        // (committed before, end before): ten seconds earlier
        let cases: [Case; 4] =
            [(20, 90, Some(40.0 / 3.0)), (60, 100, None), (55, 90, None), (0, 100, Some(40.0 / 6.0))];
        for (committed, end, expected) in cases {
            let before = Seen { committed: Some(committed), log: Some(LogBounds { start: 0, end }), ..SEEN };
            let lags = partitions(&sample_of(NOW_MS, SEEN), Some(&sample_of(NOW_MS - 10_000, before)));
            assert_eq!(lags[0].catch_up_seconds, expected, "from {committed} of {end}");
            assert_eq!(lags[0].produced_per_second, Some((100 - end) as f64 / 10.0));
        }
    }

    #[test]
    fn nothing_left_to_read_is_no_lag_and_the_unknown_is_not_made_up() {
        let caught_up = Seen { committed: Some(100), next_ms: None, ..SEEN };
        let lag = &partitions(&sample_of(NOW_MS, caught_up), Some(&sample_of(0, caught_up)))[0];
        assert_eq!((lag.lag_records, lag.lag_seconds, lag.catch_up_seconds), (Some(0), Some(0.0), Some(0.0)));
        let uncommitted = Seen { committed: None, next_ms: None, ..SEEN };
        let lag = &partitions(&sample_of(NOW_MS, uncommitted), None)[0];
        assert_eq!((lag.lag_records, lag.lag_seconds, lag.to_retention_records), (None, None, None));
        let gone = Seen { log: None, next_ms: None, ..SEEN };
        assert_eq!(partitions(&sample_of(NOW_MS, gone), None)[0].lag_records, None);
        let overtaken = Seen { committed: Some(5), ..SEEN };
        assert_eq!(partitions(&sample_of(NOW_MS, overtaken), None)[0].to_retention_records, Some(-5));
    }
}
