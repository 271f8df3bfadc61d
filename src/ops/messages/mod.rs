//! What is in a database's messages: how much, one record of it, and the removal of what is old. `konekt messages` calls it.
//!
//! [`Messages`] is what is asked of a database: `sql` asks a table, `mongo` collections. All of it is safe beside a running
//! sink.

#[cfg(feature = "mongodb")]
mod mongo;
mod sql;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::core::backoff::Schedule;
use crate::core::record::TopicPartition;
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::SinkError;

/// The messages of a database, in whatever form it has them.
pub trait Messages {
    /// Counts them, in the order of topic, partition and status. This reads everything once.
    ///
    /// # Errors
    /// What the database says.
    fn counts(&mut self) -> Result<Vec<PartitionStats>, SinkError>;

    /// The rows of one record: one for each consumer group that wrote it here.
    ///
    /// # Errors
    /// What the database says.
    fn show(&mut self, partition: &TopicPartition, offset: i64) -> Result<Vec<Message>, SinkError>;

    /// The rows whose `processing_timestamp` lies before a moment, in milliseconds since the Unix epoch. This reads
    /// everything once.
    ///
    /// # Errors
    /// What the database says.
    fn older_than(&mut self, before_ms: i64) -> Result<Vec<OldRows>, SinkError>;

    /// The first offset of these, if there are any.
    ///
    /// # Errors
    /// What the database says.
    fn first_of(&mut self, slice: &Slice<'_>) -> Result<Option<i64>, SinkError>;

    /// Removes these at once and says how many they were.
    ///
    /// # Errors
    /// What the database says; nothing was removed then.
    fn remove(&mut self, slice: &Slice<'_>) -> Result<u64, SinkError>;
}

/// The rows of one partition between two offsets, both included, that are older than a moment.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub from: i64,
    pub to: i64,
    /// In milliseconds since the Unix epoch.
    pub before_ms: i64,
}

/// What a database holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub rows: u64,
    pub by_status: BTreeMap<String, u64>,
    /// In the order of topic, partition and status.
    pub partitions: Vec<PartitionStats>,
}

/// What it holds of one partition with one status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionStats {
    pub topic: String,
    pub partition: i32,
    pub status: String,
    pub rows: u64,
    pub first_offset: i64,
    pub last_offset: i64,
    /// The earliest and the latest `processing_timestamp`, in UTC.
    pub first_time: String,
    pub last_time: String,
}

/// Counts the rows.
///
/// # Errors
/// What the database says.
pub fn stats(messages: &mut dyn Messages) -> Result<Stats, SinkError> {
    let partitions = messages.counts()?;
    let mut by_status = BTreeMap::new();
    for line in &partitions {
        *by_status.entry(line.status.clone()).or_default() += line.rows;
    }
    Ok(Stats { rows: by_status.values().sum(), by_status, partitions })
}

/// One row, whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    pub id: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub message_key: Option<String>,
    pub message_value: String,
    /// The JSON object of the headers.
    pub message_headers: Option<Value>,
    pub consumer_group: String,
    pub processing_timestamp: String,
    pub processing_status: String,
    pub error_message: Option<String>,
}

/// Rows of one partition that are older than asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OldRows {
    pub topic: String,
    pub partition: i32,
    pub rows: u64,
    pub first_offset: i64,
    pub last_offset: i64,
}

/// Offsets of one transaction of a removal: few enough that a running sink does not wait long for the locks.
const OFFSETS_PER_TRANSACTION: i64 = 1000;
/// How often a transaction is tried that another one stands in the way of.
const ATTEMPTS: u32 = 10;
const WAITS: Schedule = Schedule::new(Duration::from_millis(10), Duration::from_secs(1));

/// Removes what [`older_than`](Messages::older_than) found, along the index of topic, partition and offset, in small
/// transactions; `progress` gets the number of rows of each. Ended half-way, a second call goes on where the first one
/// was. Says how many rows were removed.
///
/// # Errors
/// What the database says, also when others stood in the way for long. What was removed until then stays removed.
pub fn prune(
    messages: &mut dyn Messages,
    old: &[OldRows],
    before_ms: i64,
    mut progress: impl FnMut(u64),
) -> Result<u64, SinkError> {
    let mut removed = 0;
    for rows in old {
        let (topic, partition) = (rows.topic.as_str(), rows.partition);
        let mut left = Slice { topic, partition, from: rows.first_offset, to: rows.last_offset, before_ms };
        // Asking for the next one first, a log with large gaps costs no empty transactions.
        while let Some(from) = messages.first_of(&left)? {
            let to = left.to.min(from.saturating_add(OFFSETS_PER_TRANSACTION - 1));
            let count = patiently(|| messages.remove(&Slice { from, to, ..left }))?;
            removed += count;
            progress(count);
            if to == left.to {
                break;
            }
            left.from = to + 1;
        }
    }
    Ok(removed)
}

/// Tries again what failed because of somebody else's lock.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, SinkError>) -> Result<T, SinkError> {
    for failures in 1..ATTEMPTS {
        match attempt() {
            Err(error) if error.class == ErrorClass::Contention => door::sleep(WAITS.wait(failures, door::random())),
            outcome => return outcome,
        }
    }
    attempt()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sink::query::MessageDatabase;
    use crate::sink::sqlite::SqliteMessages;

    /// 2026-01-01 00:00 in UTC.
    const NEW_YEAR_MS: i64 = 1_767_225_600_000;

    /// A table in which the record of offset `n` was written `n` minutes before and after the new year, in turns.
    fn table(path: &Path) -> Box<dyn MessageDatabase> {
        let connection = rusqlite::Connection::open(path).unwrap();
        connection
            .execute_batch(
                r#"CREATE TABLE m (id VARCHAR(36) PRIMARY KEY, topic TEXT, "partition" INT, "offset" BIGINT,
                    message_key TEXT, message_value TEXT, message_headers TEXT, consumer_group TEXT,
                    processing_timestamp DATETIME, processing_status TEXT, error_message TEXT);
                   CREATE INDEX i ON m (topic, "partition", "offset");
                   WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 4999)
                   INSERT INTO m SELECT 'id-' || n, 'orders', n % 2, n * 7, 'k', 'v' || n, '{"h":"1"}', 'g',
                     strftime('%Y-%m-%d %H:%M:%f', '2026-01-01', printf('%+d minutes', iif(n < 4000, n - 4000, n))),
                     iif(n % 100 = 0, 'TOMBSTONE', 'SUCCESS'), NULL FROM n;"#,
            )
            .unwrap();
        Box::new(SqliteMessages::open(path, "m").unwrap())
    }

    #[test]
    fn rows_are_counted_by_partition_and_status() {
        let folder = tempfile::tempdir().unwrap();
        let stats = stats(&mut table(&folder.path().join("k.db"))).unwrap();
        assert_eq!(stats.rows, 5000);
        assert_eq!(stats.by_status, BTreeMap::from([("SUCCESS".to_owned(), 4950), ("TOMBSTONE".to_owned(), 50)]));
        let statuses: Vec<(i32, &str, u64)> =
            stats.partitions.iter().map(|line| (line.partition, line.status.as_str(), line.rows)).collect();
        assert_eq!(statuses, [(0, "SUCCESS", 2450), (0, "TOMBSTONE", 50), (1, "SUCCESS", 2500)]);
        let last = &stats.partitions[2];
        assert_eq!((last.first_offset, last.last_offset), (7, 34_993));
        assert_eq!((&*last.first_time, &*last.last_time), ("2025-12-29 05:21:00.000", "2026-01-04 11:19:00.000"));
    }

    #[test]
    fn one_record_is_shown_whole_and_an_absent_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = table(&folder.path().join("k.db"));
        let found = database.show(&TopicPartition::new("orders", 1), 7).unwrap();
        assert_eq!((found.len(), &*found[0].id, &*found[0].message_value), (1, "id-1", "v1"));
        assert_eq!(found[0].message_headers, Some(serde_json::json!({"h": "1"})));
        assert_eq!(database.show(&TopicPartition::new("orders", 0), 7), Ok(vec![]));
    }

    #[test]
    fn what_is_old_is_removed_in_small_transactions_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut database = table(&folder.path().join("k.db"));
        let old = database.older_than(NEW_YEAR_MS).unwrap();
        assert_eq!(old.iter().map(|rows| rows.rows).collect::<Vec<_>>(), [2000, 2000]);
        let mut transactions = Vec::new();
        let removed = prune(&mut database, &old, NEW_YEAR_MS, |rows| transactions.push(rows)).unwrap();
        assert_eq!((removed, transactions.iter().sum::<u64>()), (4000, 4000));
        assert!(
            transactions.iter().all(|rows| (1..=OFFSETS_PER_TRANSACTION as u64).contains(rows)),
            "{transactions:?}"
        );
        assert!(transactions.len() > 20, "{transactions:?}");
        assert_eq!(stats(&mut database).unwrap().rows, 1000);
        assert_eq!(database.older_than(NEW_YEAR_MS), Ok(vec![]), "a second time there is nothing to do");
    }
}
