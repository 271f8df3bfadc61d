//! Where a group is to read on: new offsets worked out from a target, within the bounds of the logs. Nothing is changed
//! here; see [`set_offsets`](crate::kafka::admin::offsets::set_offsets).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::core::civil::unix_ms_of;
use crate::core::record::TopicPartition;
use crate::kafka::cluster::Cluster;
use crate::kafka::error::Error;
use crate::kafka::offsets::{Isolation, OffsetAt};

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Earliest,
    Latest,
    Offset(i64),
    /// So many records on (or back) from the committed offset.
    Shift(i64),
    /// The first record at or after this time, in milliseconds since the epoch.
    Time(i64),
}

impl FromStr for Target {
    type Err = String;

    /// `earliest`, `latest`, `4711`, `+100`, `-100`, `2026-11-24T04:05:26Z`.
    fn from_str(text: &str) -> Result<Target, String> {
        let number = text.parse::<i64>().ok();
        let target = match text {
            "earliest" => Some(Target::Earliest),
            "latest" => Some(Target::Latest),
            _ if text.starts_with(['+', '-']) => number.map(Target::Shift),
            _ => number.map(Target::Offset).or_else(|| unix_ms_of(text).map(Target::Time)),
        };
        target.ok_or_else(|| {
            format!("{text:?} is not earliest, latest, an offset (4711), a shift (+100, -100) or a time (2026-11-24T04:05:26Z)")
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Earliest => f.write_str("earliest"),
            Target::Latest => f.write_str("latest"),
            Target::Offset(offset) => write!(f, "{offset}"),
            Target::Shift(records) => write!(f, "{records:+}"),
            Target::Time(ms) => f.write_str(&crate::core::civil::utc_text(*ms)),
        }
    }
}

/// One partition's move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Move {
    pub topic: String,
    pub partition: i32,
    /// The committed offset; null when there is none.
    pub from: Option<i64>,
    pub to: i64,
    pub log_start: i64,
    pub log_end: i64,
}

/// The moves to `target` of these partitions, of which some are committed. A partition without a committed offset is
/// shifted from the log's start.
///
/// # Errors
/// When a partition's log cannot be asked about.
pub fn plan(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, i64>,
    target: Target,
) -> Result<Vec<Move>, Error> {
    let ask = |at: OffsetAt| {
        let queries: Vec<_> = partitions.iter().map(|partition| (partition.clone(), at)).collect();
        let found = cluster.list_offsets(&queries, Isolation::ReadUncommitted)?;
        found.into_iter().map(|(_, offset)| offset).collect::<Result<Vec<i64>, Error>>()
    };
    let (starts, ends) = (ask(OffsetAt::Earliest)?, ask(OffsetAt::Latest)?);
    let timed = match target {
        Target::Time(ms) => Some(ask(OffsetAt::Timestamp(ms))?),
        _ => None,
    };
    let moves = partitions.iter().enumerate().map(|(index, partition)| {
        let (start, end) = (starts[index], ends[index]);
        let from = committed.get(partition).copied();
        let at_time = timed.as_ref().map(|offsets| offsets[index]);
        let to = resolve(target, from, start, end, at_time);
        let (topic, partition) = (partition.topic.to_string(), partition.partition);
        Move { topic, partition, from, to, log_start: start, log_end: end }
    });
    Ok(moves.collect())
}

fn resolve(target: Target, from: Option<i64>, start: i64, end: i64, at_time: Option<i64>) -> i64 {
    let wanted = match target {
        Target::Earliest => start,
        Target::Latest => end,
        Target::Offset(offset) => offset,
        Target::Shift(records) => from.unwrap_or(start).saturating_add(records),
        // No record is so late.
        Target::Time(_) => at_time.filter(|offset| *offset >= 0).unwrap_or(end),
    };
    wanted.clamp(start, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read() {
        for (text, expected) in [
            ("earliest", Some(Target::Earliest)),
            ("latest", Some(Target::Latest)),
            ("4711", Some(Target::Offset(4711))),
            ("+5", Some(Target::Shift(5))),
            ("-5", Some(Target::Shift(-5))),
            ("2026-11-24T04:05:26.007Z", Some(Target::Time(1_795_493_126_007))),
            ("2026-11-24", Some(Target::Time(1_795_478_400_000))),
            ("soon", None),
            ("+", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
        assert!("soon".parse::<Target>().unwrap_err().contains("earliest"));
    }

    #[test]
    fn a_move_stays_within_the_log() {
        for (target, from, at_time, expected) in [
            (Target::Earliest, Some(50), None, 10),
            (Target::Latest, None, None, 100),
            (Target::Offset(70), Some(50), None, 70),
            (Target::Offset(5), Some(50), None, 10),
            (Target::Offset(500), Some(50), None, 100),
            (Target::Shift(-20), Some(50), None, 30),
            (Target::Shift(i64::MIN), Some(50), None, 10),
            (Target::Shift(5), None, None, 15),
            (Target::Time(1), Some(50), Some(33), 33),
            (Target::Time(1), Some(50), Some(-1), 100),
        ] {
            assert_eq!(resolve(target, from, 10, 100, at_time), expected, "{target:?} from {from:?}");
        }
    }
}
