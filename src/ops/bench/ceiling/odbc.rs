//! The bare loop by ODBC: rows bound as arrays, nothing between the text and the driver.

use std::ops::Range;
use std::time::Duration;

use odbc_api::sys::Timestamp;
use odbc_api::{BindParamDesc, Connection, ConnectionOptions, Error, environment};

use super::Rows;
use crate::door;
use crate::ops::bench::timed::Times;
use crate::ops::bench::{Job, Measurement};
use crate::sink::dialect::Dialect;
use crate::sink::odbc::connection_string::names_freetds;

/// Rows bound at once; FreeTDS knows no arrays.
const ARRAY_ROWS: usize = 1_000;
/// Any moment will do.
const NOW: Timestamp = Timestamp { year: 2026, month: 11, day: 24, hour: 12, minute: 34, second: 56, fraction: 0 };

/// Runs a job into the table that it names, which the sink has made.
///
/// # Errors
/// What the driver says.
pub fn run(job: &Job, connection_string: &str, dialect: &Dialect) -> Result<Measurement, Error> {
    let rows = Rows::new(job);
    let connection = environment()?.connect_with_connection_string(connection_string, ConnectionOptions::default())?;
    connection.set_autocommit(false)?;
    let (times, _) = Times::new();
    let array_rows = if names_freetds(connection_string) { 1 } else { ARRAY_ROWS.min(job.setting.batch_size) };
    insert_all(job, &rows, &connection, &statement(job, dialect), array_rows, &times)?;
    drop(connection);
    times.closed();
    Ok(times.measurement("write"))
}

fn insert_all(
    job: &Job,
    rows: &Rows,
    connection: &Connection<'_>,
    statement: &str,
    array_rows: usize,
    times: &Times,
) -> Result<(), Error> {
    let longest = job.setting.record_bytes.max(crate::ops::bench::records::VALUE_BYTES_MIN);
    let descriptions = [
        BindParamDesc::i32(false),
        BindParamDesc::timestamp(false, 3),
        BindParamDesc::text(36),
        BindParamDesc::i64(false),
        BindParamDesc::text(64),
        BindParamDesc::text(longest),
    ];
    let mut inserter = connection.prepare(statement)?.into_column_inserter(array_rows, descriptions)?;
    let until = door::now() + Duration::from_secs_f64(job.seconds);
    for first in (0..rows.per_partition).step_by(job.setting.batch_size) {
        let offsets = first..rows.per_partition.min(first + job.setting.batch_size);
        for (partition, ids) in &rows.partitions {
            if door::now() >= until {
                return Ok(());
            }
            let mut bytes = 0;
            times.piece(|| {
                let mut transaction = || {
                    for array in arrays(&offsets, array_rows) {
                        inserter.set_num_rows(array.len());
                        for (row, offset) in array.enumerate() {
                            let (key, value) = rows.pool.text(offset);
                            bytes += (key.len() + value.len()) as u64;
                            numbers(inserter.column_mut(0).as_slice())[row] = partition.partition;
                            numbers(inserter.column_mut(1).as_slice())[row] = NOW;
                            numbers(inserter.column_mut(3).as_slice())[row] = offset as i64;
                            for (column, text) in [(2, ids[offset].as_str()), (4, key), (5, value)] {
                                let mut cells = inserter.column_mut(column).as_text().expect("it is bound as text");
                                cells.set_cell(row, Some(text.as_bytes()));
                            }
                        }
                        inserter.execute()?;
                    }
                    connection.commit()
                };
                (transaction(), offsets.len() as u64, bytes)
            })?;
        }
    }
    Ok(())
}

/// A column that is bound as this type.
fn numbers<T>(cells: Option<&mut [T]>) -> &mut [T] {
    cells.expect("it is bound as such")
}

fn arrays(offsets: &Range<usize>, rows: usize) -> impl Iterator<Item = Range<usize>> {
    let end = offsets.end;
    offsets.clone().step_by(rows).map(move |first| first..end.min(first + rows))
}

/// Topic, group and status are the same for all rows; names of a bench have no quotes in them.
fn statement(job: &Job, dialect: &Dialect) -> String {
    let columns = dialect.list([
        "topic",
        "consumer_group",
        "processing_status",
        "partition",
        "processing_timestamp",
        "id",
        "offset",
        "message_key",
        "message_value",
    ]);
    format!(
        "INSERT INTO {} ({columns}) VALUES ('{}', '{}', 'SUCCESS', ?, ?, ?, ?, ?, ?)",
        dialect.quoted(&job.place),
        job.topic,
        job.group
    )
}
