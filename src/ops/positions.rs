//! `konekt positions`: what a person may want to know of a database's positions, and to change.
//!
//! A change is planned first ([`plan`]), so that it can be shown and agreed to; [`apply`] then carries out exactly that,
//! and leaves alone what has moved meanwhile. Whoever writes to a partition at the moment is fenced by the change and
//! goes on from the new position.
//!
//! Records that are read again after a rewind find their rows there already (same ids) and change nothing: to have them
//! written anew, remove those rows first.

use std::collections::BTreeSet;

use crate::core::civil::unix_ms_of;
use crate::core::record::TopicPartition;
use crate::kafka::cluster::Cluster;
use crate::kafka::error::Error;
use crate::kafka::offsets::{Isolation, OffsetAt};
use crate::port::SinkError;
use crate::sink::position::{PositionLine, PositionStore};

/// So many groups are named to somebody who named another one.
const GROUPS_SHOWN_MAX: usize = 8;

/// Which positions are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub group: String,
    /// All topics, when none is named.
    pub topic: Option<String>,
    /// All partitions, when none is named.
    pub partition: Option<i32>,
}

impl Selection {
    /// The positions that are meant, of all in a database.
    pub fn of(&self, lines: &[PositionLine]) -> Vec<PositionLine> {
        let meant = |line: &&PositionLine| {
            line.consumer_group == self.group
                && self.topic.as_ref().is_none_or(|topic| *topic == line.topic)
                && self.partition.is_none_or(|partition| partition == line.partition)
        };
        lines.iter().filter(meant).cloned().collect()
    }

    /// Why nothing is meant, for people: what there is instead.
    pub fn nothing(&self, lines: &[PositionLine]) -> String {
        let group = &self.group;
        let groups: BTreeSet<&str> = lines.iter().map(|line| line.consumer_group.as_str()).collect();
        let unread =
            "without any, Kafka's offsets of the group decide, which `konekt admin group reset-offsets` changes";
        if groups.is_empty() {
            return format!("the database keeps no such position, nor any other; {unread}");
        }
        if groups.contains(group.as_str()) {
            return format!("the database keeps no such position of the group {group}; {unread}");
        }
        let shown: Vec<&str> = groups.iter().take(GROUPS_SHOWN_MAX).copied().collect();
        let more = if groups.len() > shown.len() { ", …" } else { "" };
        format!(
            "the database keeps no position of the group {group}, but of {}{more}: name one with --group-id; {unread}",
            shown.join(", ")
        )
    }
}

/// Where a position is to be moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Offset(i64),
    /// The first record that the log still holds.
    Start,
    /// Behind the last record.
    End,
    /// The first record at or after this time, in milliseconds since the epoch; behind the last one when there is none.
    Time(i64),
}

impl Target {
    /// Reads an offset, `start`, `end`, or a time in UTC.
    ///
    /// ```
    /// use konekt::ops::positions::Target;
    ///
    /// assert_eq!(Target::parse("1970-01-01T00:00:01Z"), Some(Target::Time(1000)));
    /// assert_eq!(Target::parse("17"), Some(Target::Offset(17)));
    /// assert_eq!(Target::parse("yesterday"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Target> {
        match text {
            "start" => Some(Target::Start),
            "end" => Some(Target::End),
            _ => match text.parse() {
                Ok(offset) => (offset >= 0).then_some(Target::Offset(offset)),
                Err(_) => unix_ms_of(text).map(Target::Time),
            },
        }
    }

    /// Whether only Kafka knows which offset that is.
    pub fn needs_kafka(self) -> bool {
        !matches!(self, Target::Offset(_))
    }
}

/// Which way a position may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Records are read again.
    Rewind,
    /// Records are never read.
    Forward,
}

/// One position and where it goes; `None` removes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub line: PositionLine,
    pub to: Option<i64>,
}

/// The offsets that a target means.
///
/// # Errors
/// When Kafka does not say it.
pub fn offsets(cluster: Option<&Cluster>, lines: &[PositionLine], target: Target) -> Result<Vec<i64>, Error> {
    let at = match target {
        Target::Offset(offset) => return Ok(vec![offset; lines.len()]),
        Target::Start => OffsetAt::Earliest,
        Target::End => OffsetAt::Latest,
        Target::Time(unix_ms) => OffsetAt::Timestamp(unix_ms),
    };
    let Some(cluster) = cluster else { return Err(Error::Closed) };
    let ask = |at| {
        let name = |line: &PositionLine| (TopicPartition::new(line.topic.as_str(), line.partition), at);
        let queries: Vec<_> = lines.iter().map(name).collect();
        let found = cluster.list_offsets(&queries, Isolation::ReadCommitted)?;
        found.into_iter().map(|(_, offset)| offset).collect::<Result<Vec<i64>, Error>>()
    };
    let mut found = ask(at)?;
    if found.contains(&-1) {
        let ends = ask(OffsetAt::Latest)?;
        for (offset, end) in found.iter_mut().zip(ends).filter(|(offset, _)| **offset == -1) {
            *offset = end;
        }
    }
    Ok(found)
}

/// The positions that move, to `offsets` (one per line); those that would move the other way, or not at all, stay.
pub fn plan(lines: Vec<PositionLine>, offsets: &[i64], direction: Direction) -> Vec<Change> {
    let moves = |(line, to): &(PositionLine, i64)| match direction {
        Direction::Rewind => *to < line.next_offset,
        Direction::Forward => *to > line.next_offset,
    };
    let moving = lines.into_iter().zip(offsets.iter().copied()).filter(moves);
    moving.map(|(line, to)| Change { line, to: Some(to) }).collect()
}

/// Carries out a plan, and answers the changes that did not happen because the position has moved meanwhile.
///
/// # Errors
/// When the database cannot be written; changes before that have happened.
pub fn apply(store: &mut dyn PositionStore, changes: &[Change]) -> Result<Vec<Change>, SinkError> {
    let mut missed = Vec::new();
    for change in changes {
        if !store.change(&change.line, change.to)? {
            missed.push(change.clone());
        }
    }
    Ok(missed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(group: &str, topic: &str, partition: i32, next_offset: i64) -> PositionLine {
        PositionLine {
            consumer_group: group.to_owned(),
            topic: topic.to_owned(),
            partition,
            next_offset,
            written: 0,
            dead_lettered: 0,
            skipped: 0,
            epoch: 1,
            paused: false,
            updated_at: String::new(),
        }
    }

    #[test]
    fn a_selection_is_as_narrow_as_it_says() {
        let lines = || vec![line("g", "a", 0, 1), line("g", "a", 1, 1), line("g", "b", 0, 1), line("h", "a", 0, 1)];
        for (topic, partition, expected) in
            [(None, None, 3), (Some("a"), None, 2), (Some("a"), Some(1), 1), (None, Some(0), 2)]
        {
            let selection = Selection { group: "g".to_owned(), topic: topic.map(str::to_owned), partition };
            assert_eq!(selection.of(&lines()).len(), expected, "{selection:?}");
        }
    }

    #[test]
    fn who_finds_nothing_hears_what_there_is() {
        let many: Vec<PositionLine> = (0..9).map(|number| line(&format!("g{number}"), "a", 0, 1)).collect();
        for (lines, expected) in [
            (&[][..], "no such position, nor any other;"),
            (&[line("konekt", "a", 0, 1)], "no such position of the group konekt;"),
            (&[line("billing", "a", 0, 1), line("billing", "a", 1, 1)], "but of billing: name one with --group-id;"),
            (&many, "but of g0, g1, g2, g3, g4, g5, g6, g7, …: name one"),
        ] {
            let selection = Selection { group: "konekt".to_owned(), ..Selection::default() };
            let said = selection.nothing(lines);
            assert!(said.contains(expected) && said.contains("reset-offsets"), "{said}");
        }
    }

    #[test]
    fn a_position_moves_only_the_way_that_was_asked_for() {
        let lines = || vec![line("g", "a", 0, 10), line("g", "a", 1, 20), line("g", "a", 2, 30)];
        let moved = |direction| -> Vec<(i32, Option<i64>)> {
            plan(lines(), &[20, 20, 20], direction).iter().map(|change| (change.line.partition, change.to)).collect()
        };
        assert_eq!(moved(Direction::Forward), [(0, Some(20))]);
        assert_eq!(moved(Direction::Rewind), [(2, Some(20))]);
    }
}
