//! The position row: which offset of a partition is the first that is not written yet, and who may write it.
//!
//! Each statement stands here once, for every SQL sink. Parameters are `?`, in the order given at each statement, so
//! that SQLite and ODBC drivers take the same text; identifiers are quoted since `partition` and `offset` are reserved
//! words somewhere.
//!
//! How they are used, each time within one transaction:
//!
//! - A new owner takes a partition: [`take`](PositionSql::take); when that changed a row, [`read`](PositionSql::read)
//!   it; when there was none, [`insert`](PositionSql::insert) it. Updating first locks the row in every database, so
//!   two owners cannot take the same epoch.
//! - With each batch: [`advance`](PositionSql::advance), a compare-and-set. Exactly one row affected: the batch may be
//!   committed. No row: `read` tells whether this very move was committed before and only its answer was lost
//!   ([`Position::is_after`]), or whether somebody else owns the partition ([`fenced`]).
//! - In a dry run, which keeps nothing: both in each transaction ([`rehearsed`]).

use crate::core::record::TopicPartition;
use crate::core::verdict::ErrorClass;
use crate::port::{Claim, Claimed, PositionMove, SinkError, Write};
use crate::sink::dialect::Dialect;

/// The table of positions; one per database, for all consumer groups and topics.
pub const TABLE: &str = "konekt_positions";

/// The columns, in the order of the table.
pub const COLUMNS: [&str; 12] = [
    "consumer_group",
    "topic",
    "partition",
    "next_offset",
    "epoch",
    "cluster_id",
    "topic_id",
    "written",
    "dead_lettered",
    "skipped",
    "updated_at",
    "paused",
];

/// The statements in one dialect.
#[derive(Clone, Debug)]
pub struct PositionSql {
    /// Makes the table; see [`Dialect::create_table`] for what happens where there is one. No parameters.
    pub create: String,
    /// Raises the epoch, and fills in ids that the row does not have yet.
    /// Parameters: cluster_id, topic_id, updated_at, then the key (consumer_group, topic, partition).
    pub take: String,
    /// The first row of a partition, with epoch 1.
    /// Parameters: the key, next_offset, cluster_id, topic_id, updated_at.
    pub insert: String,
    /// Answers next_offset, epoch, cluster_id, topic_id, paused (0 or 1). Parameters: the key.
    pub read: String,
    /// The compare-and-set.
    /// Parameters: next_offset (new), written (added), dead_lettered (added), skipped (added), updated_at, the key,
    /// epoch, next_offset (expected).
    pub advance: String,
    /// Counts records as dead letters that `advance` counted as written, in the same transaction.
    /// Parameters: their number, twice, then the key.
    pub recount: String,
    /// Notes whether a person paused the partition. Parameters: 0 or 1, then the key.
    pub pause: String,
    /// All rows in the order of their keys: the key, next_offset, written, dead_lettered, skipped, epoch, paused,
    /// updated_at. No parameters.
    pub list: String,
    /// A person moves a position; the epoch is raised, so that an owner at work is fenced and asks again.
    /// Parameters: next_offset (new), updated_at, the key, epoch, next_offset (both as seen).
    pub set: String,
    /// A person removes a position. Parameters: the key, epoch, next_offset (both as seen).
    pub forget: String,
}

impl PositionSql {
    /// Spells the statements for a table where the connection finds names without a schema.
    pub fn new(dialect: &Dialect) -> Self {
        Self::of(dialect, &dialect.quoted(TABLE))
    }

    /// Spells the statements for a table whose name is quoted, and qualified where it need be.
    pub fn of(dialect: &Dialect, table: &str) -> Self {
        let q = |name: &str| dialect.quoted(name);
        let Dialect { create_table, table_options, key_text: text, wide_key, int, bigint, timestamp, .. } = dialect;
        let [group, topic, partition, next, epoch, cluster, topic_id, written, dead, skipped, updated, paused] =
            COLUMNS.map(q);
        let key = format!("{group} = ? AND {topic} = ? AND {partition} = ?");
        Self {
            create: format!(
                "{create_table} {table} ({group} {text} NOT NULL, {topic} {text} NOT NULL, \
                 {partition} {int} NOT NULL, {next} {bigint} NOT NULL, {epoch} {bigint} NOT NULL, {cluster} {text}, \
                 {topic_id} {text}, {written} {bigint} NOT NULL, {dead} {bigint} NOT NULL, {skipped} {bigint} NOT NULL, \
                 {updated} {timestamp} NOT NULL, {paused} {int} NOT NULL, {wide_key} ({group}, {topic}, \
                 {partition})){table_options}"
            ),
            take: format!(
                "UPDATE {table} SET {epoch} = {epoch} + 1, {cluster} = COALESCE({cluster}, ?), \
                 {topic_id} = COALESCE({topic_id}, ?), {updated} = ? WHERE {key}"
            ),
            insert: format!(
                "INSERT INTO {table} ({group}, {topic}, {partition}, {next}, {cluster}, {topic_id}, {updated}, \
                 {epoch}, {written}, {dead}, {skipped}, {paused}) VALUES (?, ?, ?, ?, ?, ?, ?, 1, 0, 0, 0, 0)"
            ),
            read: format!("SELECT {next}, {epoch}, {cluster}, {topic_id}, {paused} FROM {table} WHERE {key}"),
            advance: format!(
                "UPDATE {table} SET {next} = ?, {written} = {written} + ?, {dead} = {dead} + ?, \
                 {skipped} = {skipped} + ?, {updated} = ? WHERE {key} AND {epoch} = ? AND {next} = ?"
            ),
            recount: format!("UPDATE {table} SET {written} = {written} - ?, {dead} = {dead} + ? WHERE {key}"),
            pause: format!("UPDATE {table} SET {paused} = ? WHERE {key}"),
            list: format!(
                "SELECT {group}, {topic}, {partition}, {next}, {written}, {dead}, {skipped}, {epoch}, {paused}, \
                 {updated} FROM {table} ORDER BY {group}, {topic}, {partition}"
            ),
            set: format!(
                "UPDATE {table} SET {next} = ?, {epoch} = {epoch} + 1, {updated} = ? \
                 WHERE {key} AND {epoch} = ? AND {next} = ?"
            ),
            forget: format!("DELETE FROM {table} WHERE {key} AND {epoch} = ? AND {next} = ?"),
        }
    }
}

/// A position row as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub next_offset: i64,
    pub epoch: i64,
    pub cluster_id: Option<String>,
    pub topic_id: Option<String>,
    /// Whether a person paused the partition.
    pub paused: bool,
}

impl Position {
    /// Whether this row is what `step` makes of it. The epoch is that of the asking owner, and nobody else writes with
    /// it, so the step was committed: its rows are there too.
    pub fn is_after(&self, step: &PositionMove) -> bool {
        self.epoch == step.owner_epoch && self.next_offset == step.next
    }
}

/// One position, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PositionLine {
    pub consumer_group: String,
    pub topic: String,
    pub partition: i32,
    pub next_offset: i64,
    pub written: u64,
    pub dead_lettered: u64,
    pub skipped: u64,
    pub epoch: i64,
    pub paused: bool,
    /// In UTC.
    pub updated_at: String,
}

/// A database's positions, as a person sees and changes them.
pub trait PositionStore {
    /// All of them, in the order of group, topic and partition; none where there is no such table.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn list(&mut self) -> Result<Vec<PositionLine>, SinkError>;

    /// Moves a position to `next_offset`, or removes it (`None`), unless it has changed since `seen`: then the answer is
    /// false. An owner at work is fenced.
    ///
    /// # Errors
    /// When the database cannot be written.
    fn change(&mut self, seen: &PositionLine, next_offset: Option<i64>) -> Result<bool, SinkError>;
}

/// The move of a write's position in a dry run. No move before it was kept, so it claims the position anew, within its own
/// transaction, and moves it from where the database has it.
///
/// # Errors
/// Those of `claim`.
pub fn rehearsed<E>(
    write: &Write<'_>,
    claim: impl FnOnce(&Claim) -> Result<Claimed, E>,
) -> Result<Option<PositionMove>, E> {
    let Some(step) = write.position else { return Ok(None) };
    let (partition, start_if_absent) = (write.batch.partition().clone(), Some(step.expected));
    let claimed = claim(&Claim { partition, start_if_absent, cluster_id: None, topic_id: None })?;
    let expected = claimed.next_offset.unwrap_or(step.expected);
    Ok(Some(PositionMove { owner_epoch: claimed.owner_epoch, expected, ..step }))
}

/// The error of a compare-and-set that found another row than expected.
pub fn fenced(sink: &str, partition: &TopicPartition, step: &PositionMove, found: Option<&Position>) -> SinkError {
    let found = match found {
        Some(row) => format!("the row says offset {} with epoch {}", row.next_offset, row.epoch),
        None => "there is no such row any more".to_owned(),
    };
    SinkError::new(
        ErrorClass::Fenced,
        format!(
            "{sink}: {partition} has another owner now: expected offset {} with epoch {} in {TABLE}, but {found}; \
             nothing was written and the partition is let go",
            step.expected, step.owner_epoch
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::dialect::{MYSQL, POSTGRES, SQL_SERVER, SQLITE, STANDARD};

    #[test]
    fn each_statement_has_the_parameters_it_says() {
        for dialect in [SQLITE, STANDARD, POSTGRES, MYSQL, SQL_SERVER] {
            let sql = PositionSql::new(&dialect);
            for (statement, parameters) in [
                (&sql.create, 0),
                (&sql.take, 6),
                (&sql.insert, 7),
                (&sql.read, 3),
                (&sql.advance, 10),
                (&sql.recount, 5),
                (&sql.pause, 4),
                (&sql.list, 0),
                (&sql.set, 7),
                (&sql.forget, 5),
            ] {
                assert_eq!(statement.matches('?').count(), parameters, "{statement}");
            }
        }
    }
}
