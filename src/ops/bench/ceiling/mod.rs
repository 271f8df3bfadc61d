//! What a database takes at best on this machine: a bare loop over its own interface, with the sink's table, statement
//! and settings, given everything ready-made. It makes no ids, checks no text and keeps no position.

#[cfg(any(feature = "odbc", feature = "odbc-system"))]
pub mod odbc;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::records::Pool;
use super::timed::Times;
use super::{Job, Measurement};
use crate::core::identity::RecordIds;
use crate::core::record::TopicPartition;
use crate::door;
use crate::sink::sqlite::DEFAULT_TABLE;

/// What [`sqlite`] is, for people.
pub const SQLITE: &str =
    "a bare rusqlite loop with the sink's statement and settings, in transactions of the largest batch";
/// What [`odbc`] is, for people.
pub const ODBC: &str = "a bare odbc-api loop, one connection and arrays of 1,000 rows (with FreeTDS row by row), in transactions of the largest batch";

/// Runs a job into the SQLite file at `path`, whose tables the sink has made.
///
/// # Errors
/// What SQLite says.
pub fn sqlite(job: &Job, path: &Path) -> rusqlite::Result<Measurement> {
    let rows = Rows::new(job);
    let connection = Connection::open(path)?;
    // As the sink sets up its connections.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768; \
         PRAGMA wal_autocheckpoint = 20000",
    )?;
    let (times, _) = Times::new();
    insert_all(job, &rows, &connection, &times)?;
    connection.close().map_err(|(_, error)| error)?;
    times.closed();
    Ok(times.measurement("write"))
}

fn insert_all(job: &Job, rows: &Rows, connection: &Connection, times: &Times) -> rusqlite::Result<()> {
    let mut insert = connection.prepare(&format!(
        "INSERT INTO \"{DEFAULT_TABLE}\" (\"topic\", \"partition\", \"consumer_group\", \"processing_timestamp\", \"id\", \
         \"offset\", \"message_key\", \"message_value\", \"message_headers\", \"processing_status\") \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING"
    ))?;
    let until = door::now() + Duration::from_secs_f64(job.seconds);
    for first in (0..rows.per_partition).step_by(job.setting.batch_size) {
        let offsets = first..rows.per_partition.min(first + job.setting.batch_size);
        for (partition, ids) in rows.partitions.iter() {
            if door::now() >= until {
                return Ok(());
            }
            times.piece(|| {
                let mut bytes = 0;
                let mut transaction = || {
                    connection.execute_batch("BEGIN IMMEDIATE")?;
                    for offset in offsets.clone() {
                        let (key, value) = rows.pool.text(offset);
                        bytes += (key.len() + value.len()) as u64;
                        insert.execute(params![
                            &*partition.topic,
                            partition.partition,
                            &*job.group,
                            NOW,
                            &ids[offset],
                            offset as i64,
                            key,
                            value,
                            None::<&str>,
                            "SUCCESS",
                        ])?;
                    }
                    connection.execute_batch("COMMIT")
                };
                (transaction(), offsets.len() as u64, bytes)
            })?;
        }
    }
    Ok(())
}

/// Any moment will do.
const NOW: &str = "2026-11-24 12:34:56.789";

/// Rows that are ready: ids as text, keys and values.
struct Rows {
    per_partition: usize,
    partitions: Vec<(TopicPartition, Vec<String>)>,
    pool: Pool,
}

impl Rows {
    fn new(job: &Job) -> Self {
        let per_partition = (job.records_max as usize / job.setting.partitions).max(1);
        let partitions = super::topics::partitions(&job.topic, job.setting.partitions).into_iter().map(|partition| {
            let ids = RecordIds::new(&job.group, &partition);
            let ids = (0..per_partition as i64).map(|offset| ids.at(offset).to_string()).collect();
            (partition, ids)
        });
        let partitions = partitions.collect();
        Self { per_partition, partitions, pool: Pool::new(job.seed, job.setting.record_bytes, per_partition) }
    }
}
