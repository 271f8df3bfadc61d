//! Rows per second into SQLite: our writer against a bare rusqlite loop.
//!
//! Both use the same statement, the same PRAGMAs and transactions of 1,000 rows of 200 bytes in turns over 8
//! partitions. The bare loop is given everything ready-made (ids and times as text) and keeps no position; our writer
//! makes ids, checks text, and moves the position with each batch. Rounds are interleaved, each on a new file, and the
//! ratio is that of the medians. On a busy machine CPU time per row is the steadier figure (Linux only).
//!
//! `cargo bench --bench sqlite -- [ROWS] [ROUNDS]`

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use konekt::core::record::{Extent, RecordBuffer, Span};
use konekt::door::{self, SystemClock};
use konekt::port::{Claim, PositionMove, Sink, Write};
use konekt::sink::sqlite::{SqliteOptions, SqliteSink};
use konekt::{MessageBatch, RecordIds, TopicPartition};
use rusqlite::{Connection, params};

const PARTITIONS: usize = 8;
const BATCH: usize = 1000;

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let rows = numbers.first().copied().unwrap_or(400_000);
    let rounds = numbers.get(1).copied().unwrap_or(5);
    let data = Data::new(rows / PARTITIONS / BATCH * BATCH);
    let contenders: [(&str, Contender); 3] = [
        ("bare rusqlite loop, 1,000 rows per transaction", bare),
        ("konekt, 1 batch of 1,000 per transaction", one_batch),
        ("konekt, 8 batches of 1,000 per transaction", eight_batches),
    ];
    let mut rates = [const { Vec::new() }; 3];
    let mut cpus = rates.clone();
    for round in 0..rounds {
        for (index, (name, contender)) in contenders.iter().enumerate() {
            let (rate, cpu) = measure(&data, *contender);
            println!("round {round}: {rate:>9.0} rows/s {cpu:>6.0} CPU ns per row  {name}");
            rates[index].push(rate);
            cpus[index].push(cpu);
        }
    }
    let (rates, cpus) = (rates.map(median), cpus.map(median));
    for (index, (name, _)) in contenders.iter().enumerate() {
        let (rate, cpu) = (rates[index], cpus[index]);
        let (of_rate, of_cpu) = (100.0 * rate / rates[0], 100.0 * cpu / cpus[0]);
        println!("median:  {rate:>9.0} rows/s ({of_rate:.0} %) {cpu:>6.0} CPU ns per row ({of_cpu:.0} %)  {name}");
    }
}

type Contender = fn(&Data, &Path);

/// Rows per second and CPU nanoseconds per row of one contender on a new file. Closing the file, and so the last
/// checkpoint, counts.
fn measure(data: &Data, contender: Contender) -> (f64, f64) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("bench.db");
    let rows = PARTITIONS * data.per_partition;
    let (started, cpu_before) = (door::now(), cpu_ns());
    contender(data, &path);
    let cpu = (cpu_ns() - cpu_before) / rows as f64;
    let rate = rows as f64 / started.elapsed().as_secs_f64();
    let connection = Connection::open(&path).expect("the file opens");
    let count: i64 = connection
        .query_row("SELECT count(*) FROM processed_messages", [], |row| row.get(0))
        .expect("the rows are counted");
    assert_eq!(count as usize, rows);
    (rate, cpu)
}

/// CPU time of this thread, which does everything; NaN where the system does not tell.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(f64::NAN)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The same records for all: as a source hands them over, and with ids as text.
struct Data {
    per_partition: usize,
    values: Vec<String>,
    partitions: Vec<(TopicPartition, RecordBuffer, Vec<String>)>,
}

impl Data {
    fn new(per_partition: usize) -> Self {
        let values: Vec<String> = (0..per_partition)
            .map(|n| {
                format!("{{\"order\":{n:08},\"customer\":\"{:016x}\",\"note\":\"{}\"}}", n * 7919, "x".repeat(140))
            })
            .collect();
        let partitions = (0..PARTITIONS).map(|index| {
            let partition = TopicPartition::new("orders", index as i32);
            let ids = RecordIds::new("bench", &partition);
            let ids = (0..per_partition).map(|offset| ids.at(offset as i64).to_string()).collect();
            (partition, encoded(&values), ids)
        });
        Self { per_partition, partitions: partitions.collect(), values }
    }
}

fn encoded(values: &[String]) -> RecordBuffer {
    let whole = Bytes::from(values.concat());
    let mut records = RecordBuffer::default();
    records.push_buffer(whole.clone());
    let mut start = 0;
    for (offset, value) in values.iter().enumerate() {
        let part = &whole[start..start + value.len()];
        start += value.len();
        records.push(Span {
            offset: offset as i64,
            timestamp_ms: 0,
            key: Extent::of(&whole, Some(&part[9..17])),
            value: Extent::of(&whole, Some(part)),
            headers: Extent::ABSENT,
            header_count: 0,
        });
    }
    records
}

fn bare(data: &Data, path: &Path) {
    // The sink makes the tables and nothing else, so that both have the same.
    drop(sink(path).writer().expect("the tables are made"));
    let connection = Connection::open(path).expect("the file opens");
    let pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 20000";
    connection.execute_batch(pragmas).expect("the file is set up");
    let mut insert = connection
        .prepare(
            r#"INSERT INTO "processed_messages" ("topic", "partition", "consumer_group", "processing_timestamp", "id", "offset",
               "message_key", "message_value", "message_headers", "processing_status")
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO NOTHING"#,
        )
        .expect("the statement is prepared");
    for first in (0..data.per_partition).step_by(BATCH) {
        for (partition, _, ids) in &data.partitions {
            connection.execute_batch("BEGIN IMMEDIATE").expect("a transaction begins");
            for (offset, id) in ids.iter().enumerate().skip(first).take(BATCH) {
                let value = &data.values[offset];
                let row = params![
                    &*partition.topic,
                    partition.partition,
                    "bench",
                    "2026-11-24 12:34:56.789",
                    id,
                    offset as i64,
                    &value[9..17],
                    value,
                    None::<&str>,
                    "SUCCESS",
                ];
                insert.execute(row).expect("a row is inserted");
            }
            connection.execute_batch("COMMIT").expect("the transaction ends");
        }
    }
}

fn one_batch(data: &Data, path: &Path) {
    ours(data, path, 1);
}

fn eight_batches(data: &Data, path: &Path) {
    ours(data, path, PARTITIONS);
}

fn ours(data: &Data, path: &Path, batches_per_write: usize) {
    let sink = sink(path);
    let mut writer = sink.writer().expect("a writer opens");
    let claim = |partition: &TopicPartition| Claim {
        partition: partition.clone(),
        start_if_absent: Some(0),
        cluster_id: None,
        topic_id: None,
    };
    let claims: Vec<Claim> = data.partitions.iter().map(|(partition, ..)| claim(partition)).collect();
    writer.claim(&claims).expect("the partitions are claimed");
    for first in (0..data.per_partition).step_by(BATCH) {
        for together in data.partitions.chunks(batches_per_write) {
            let writes: Vec<Write<'_>> = together
                .iter()
                .map(|(partition, records, _)| Write {
                    batch: MessageBatch::new(partition, records, first..first + BATCH),
                    ids: RecordIds::new("bench", partition),
                    position: Some(step(first)),
                    aside: None,
                })
                .collect();
            for answer in writer.write(&writes) {
                answer.expect("the batch is written");
            }
        }
    }
}

/// The first owner's epoch is 1.
fn step(first: usize) -> PositionMove {
    PositionMove { owner_epoch: 1, expected: first as i64, next: (first + BATCH) as i64, skipped: 0, dead_lettered: 0 }
}

fn sink(path: &Path) -> SqliteSink {
    SqliteSink::new(SqliteOptions::new(path, "bench", Arc::new(SystemClock::start())))
}
