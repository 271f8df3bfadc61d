//! Rows per second into PostgreSQL and MariaDB by ODBC: our writer at several batch sizes and numbers of connections,
//! beside a bare odbc-api loop in two forms, and the database's own bulk path as the ceiling.
//!
//! Rows are those of DESIGN's table, of 200 bytes, with its key and index. The servers are started here, with their
//! ordinary durability. The bare loops keep no position; the bulk path has the rows ready in a file. All take turns,
//! each on a new database, and percentages are of the ceiling's median in the same process. CPU time is that of this
//! process: the bulk path's client is another.
//!
//! `cargo bench --bench odbc -- [ROWS] [ROUNDS]`
//!
//! `cargo bench --bench odbc -- sqlserver [ROWS] [ROUNDS]` tells what SQL Server costs on this side: the CPU time per row of
//! our writer and its driver. The server is the tests' TDS double in a process of its own, so rows per second mean nothing.
//!
//! `cargo bench --bench odbc -- whole [RECORDS] [ROUNDS]` compares whole runs from a real Kafka into PostgreSQL: the
//! binary at batch 1,000 with 4 connections, and `baseline/confluent_pyodbc.py` with the same, by the Python that
//! `KONEKT_BASELINE_PYTHON` names (it needs confluent-kafka and pyodbc).

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use bytes::Bytes;
use konekt::core::record::{Extent, RecordBuffer, Span};
use konekt::door::SystemClock;
use konekt::port::{Claim, PositionMove, Sink, Write, Writer};
use konekt::sink::odbc::{OdbcOptions, OdbcSink};
use konekt::{MessageBatch, RecordIds, TopicPartition};
use odbc_api::sys::Timestamp;
use odbc_api::{BindParamDesc, ConnectionOptions, environment};

use self::measure::{cpu_seconds, median, order, time};
use self::support::databases::{self, Database, Server};
use self::support::kafka;
use self::support::konekt::Place;
use self::support::odbc;

#[path = "support/mod.rs"]
mod measure;
#[path = "../tests/support/mod.rs"]
mod support;
#[path = "../tests/support/tds/mod.rs"]
mod tds;

const PARTITIONS: usize = 8;
const BULK_BATCH: usize = 1000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    if arguments.iter().any(|argument| argument == "whole") {
        whole(numbers.first().copied().unwrap_or(300_000), numbers.get(1).copied().unwrap_or(3));
        return;
    }
    if let [double, driver] = &arguments[..]
        && double == "double"
    {
        return be_the_double(Path::new(driver));
    }
    let data = Data::new(numbers.first().copied().unwrap_or(100_000) / PARTITIONS);
    let rounds = numbers.get(1).copied().unwrap_or(3);
    if arguments.iter().any(|argument| argument == "sqlserver") {
        return sql_server(&data, rounds);
    }
    for (server, bulk) in [
        (databases::durable_postgres(), Contender::new("COPY, from a file", copy)),
        (databases::durable_mariadb(), Contender::new("LOAD DATA, from a file", load_data)),
    ] {
        match server {
            Ok(server) => compare(&server, bulk, &data, rounds),
            Err(error) => println!("skipped: {error}"),
        }
    }
}

/// One way of writing all rows into an empty table.
struct Contender {
    name: String,
    write: Box<Insertion>,
}

type Insertion = dyn Fn(&Database<'_>, &Data);

impl Contender {
    fn new(name: impl Into<String>, write: impl Fn(&Database<'_>, &Data) + 'static) -> Self {
        Self { name: name.into(), write: Box::new(write) }
    }
}

fn compare(server: &Server, bulk: Contender, data: &Data, rounds: usize) {
    let mut contenders = vec![
        bulk,
        Contender::new("odbc-api, row by row, 1,000 per transaction", |database, data| bare(database, data, 1)),
        Contender::new("odbc-api, arrays of 1,000 rows", |database, data| bare(database, data, BULK_BATCH)),
    ];
    for (batch, connections) in [(100, 1), (1000, 1), (5000, 1), (1000, 4)] {
        let name = format!("konekt, batches of {batch}, connections: {connections}");
        contenders.push(Contender::new(name, move |database, data| ours(database, data, batch, connections)));
    }
    let mut rates = vec![Vec::new(); contenders.len()];
    let mut cpus = rates.clone();
    for _ in 0..rounds {
        for (index, contender) in contenders.iter().enumerate() {
            let database = server.database();
            // The sink makes the tables and nothing else, so that all have the same.
            sink(&database, 1).check().expect("the tables are made");
            let cpu = cpu_seconds();
            let (took, ()) = time(|| (contender.write)(&database, data));
            cpus[index].push((cpu_seconds() - cpu) * 1e6 / data.rows() as f64);
            rates[index].push(data.rows() as f64 / took.as_secs_f64());
            assert_eq!(database.select(&["COUNT(*)"], "processed_messages")[0][0], data.rows(), "{}", contender.name);
        }
    }
    let ceiling = median(rates[0].clone());
    println!("{}: {} rows, median of {rounds} rounds", server.name(), data.rows());
    for (contender, (rates, cpus)) in contenders.iter().zip(rates.into_iter().zip(cpus)) {
        let (rate, cpu) = (median(rates), median(cpus));
        let share = 100.0 * rate / ceiling;
        println!("{rate:>9.0} rows/s ({share:>3.0} %) {cpu:>6.1} client CPU us per row  {}", contender.name);
    }
}

/// The same records for all: as a source hands them over, and as text.
struct Data {
    values: Vec<String>,
    partitions: Vec<(TopicPartition, RecordBuffer)>,
    /// And in a file, for the databases' own ways.
    file: String,
    _place: Place,
}

impl Data {
    fn new(per_partition: usize) -> Self {
        let values: Vec<String> = (0..per_partition as u64).map(order).collect();
        let partitions =
            (0..PARTITIONS).map(|index| (TopicPartition::new("orders", index as i32), encoded(&values))).collect();
        let place = Place::new();
        let file = place.file("rows.tsv").display().to_string();
        let data = Self { values, partitions, file, _place: place };
        std::fs::write(&data.file, data.lines()).expect("the file of rows");
        data
    }

    /// One line per row, with tabs between the columns: there are no backslashes in them.
    fn lines(&self) -> String {
        let mut text = String::new();
        self.each(|partition, id, offset, key, value| {
            // A String takes whatever is written to it.
            let _ = writeln!(
                text,
                "orders\t{partition}\tbench\t2026-11-24 12:34:56.789\t{id}\t{offset}\t{key}\t{value}\tSUCCESS"
            );
        });
        text
    }

    fn rows(&self) -> usize {
        self.values.len() * PARTITIONS
    }

    /// Partition, id, offset, key and value of each row.
    fn each(&self, mut row: impl FnMut(i32, String, i64, &str, &str)) {
        for (partition, _) in &self.partitions {
            let ids = RecordIds::new("bench", partition);
            for (offset, value) in (0..).zip(&self.values) {
                row(partition.partition, ids.at(offset).to_string(), offset, &value[13..27], value);
            }
        }
    }
}

fn encoded(values: &[String]) -> RecordBuffer {
    let whole = Bytes::from(values.concat());
    let mut records = RecordBuffer::default();
    records.push_buffer(whole.clone());
    let mut start = 0;
    for (offset, value) in (0..).zip(values) {
        let part = &whole[start..start + value.len()];
        start += value.len();
        records.push(Span {
            offset,
            timestamp_ms: 0,
            key: Extent::of(&whole, Some(&part[13..27])),
            value: Extent::of(&whole, Some(part)),
            headers: Extent::ABSENT,
            header_count: 0,
        });
    }
    records
}

// ---- ours

fn sink(database: &Database<'_>, connections: usize) -> OdbcSink {
    sink_at(database.connection_string(), connections)
}

fn sink_at(connection_string: String, connections: usize) -> OdbcSink {
    let mut options = OdbcOptions::new(connection_string, "bench", Arc::new(SystemClock::start()));
    options.pool_size = connections;
    OdbcSink::new(options).expect("the driver is there")
}

fn ours(database: &Database<'_>, data: &Data, batch: usize, connections: usize) {
    write_all(&sink(database, connections), data, batch, connections);
}

fn write_all(sink: &OdbcSink, data: &Data, batch: usize, connections: usize) {
    std::thread::scope(|scope| {
        for share in data.partitions.chunks(PARTITIONS / connections) {
            scope.spawn(move || {
                let mut writer = sink.writer().expect("a writer opens");
                for (partition, records) in share {
                    write_partition(&mut *writer, partition, records, batch);
                }
            });
        }
    });
}

fn write_partition(writer: &mut dyn Writer, partition: &TopicPartition, records: &RecordBuffer, batch: usize) {
    let claim = Claim { partition: partition.clone(), start_if_absent: Some(0), cluster_id: None, topic_id: None };
    let owner_epoch = writer.claim(&[claim]).expect("the claim succeeds")[0].owner_epoch;
    for first in (0..records.len()).step_by(batch) {
        let next = records.len().min(first + batch);
        let step =
            PositionMove { owner_epoch, expected: first as i64, next: next as i64, skipped: 0, dead_lettered: 0 };
        let write = Write {
            batch: MessageBatch::new(partition, records, first..next),
            ids: RecordIds::new("bench", partition),
            position: Some(step),
            aside: None,
        };
        writer.write(&[write]).remove(0).expect("the batch is written");
    }
}

// ---- bare odbc-api

fn bare(database: &Database<'_>, data: &Data, at_once: usize) {
    let environment = environment().expect("an environment");
    let connection = environment
        .connect_with_connection_string(&database.connection_string(), ConnectionOptions::default())
        .expect("a connection");
    connection.set_autocommit(false).expect("transactions");
    let kind = database.server().kind();
    let (partition, offset) = (kind.quoted("partition"), kind.quoted("offset"));
    let insert = format!(
        "INSERT INTO processed_messages (topic, {partition}, consumer_group, processing_timestamp, id, {offset}, \
         message_key, message_value, processing_status) VALUES ('orders', ?, 'bench', ?, ?, ?, ?, ?, 'SUCCESS')"
    );
    let longest = data.values.iter().map(String::len).max().unwrap_or(1);
    let descriptions = [
        BindParamDesc::i32(false),
        BindParamDesc::timestamp(false, 3),
        BindParamDesc::text(36),
        BindParamDesc::i64(false),
        BindParamDesc::text(64),
        BindParamDesc::text(longest),
    ];
    let prepared = connection.prepare(&insert).expect("the statement is prepared");
    let mut inserter = prepared.into_column_inserter(at_once, descriptions).expect("buffers");
    let now = Timestamp { year: 2026, month: 11, day: 24, hour: 12, minute: 34, second: 56, fraction: 789_000_000 };
    let (mut filled, mut uncommitted) = (0, 0);
    data.each(|partition, id, offset, key, value| {
        inserter.set_num_rows(filled + 1);
        inserter.column_mut(0).as_slice::<i32>().expect("numbers")[filled] = partition;
        inserter.column_mut(1).as_slice::<Timestamp>().expect("moments")[filled] = now;
        inserter.column_mut(2).as_text().expect("text").set_cell(filled, Some(id.as_bytes()));
        inserter.column_mut(3).as_slice::<i64>().expect("numbers")[filled] = offset;
        inserter.column_mut(4).as_text().expect("text").set_cell(filled, Some(key.as_bytes()));
        inserter.column_mut(5).as_text().expect("text").set_cell(filled, Some(value.as_bytes()));
        (filled, uncommitted) = (filled + 1, uncommitted + 1);
        if filled == at_once {
            inserter.execute().expect("the rows are inserted");
            filled = 0;
        }
        if uncommitted == BULK_BATCH {
            connection.commit().expect("the transaction ends");
            uncommitted = 0;
        }
    });
    if filled > 0 {
        inserter.execute().expect("the rows are inserted");
    }
    connection.commit().expect("the transaction ends");
}

// ---- the databases' own ways

fn columns(database: &Database<'_>) -> String {
    let kind = database.server().kind();
    let (partition, offset) = (kind.quoted("partition"), kind.quoted("offset"));
    format!(
        "(topic, {partition}, consumer_group, processing_timestamp, id, {offset}, message_key, message_value, \
         processing_status)"
    )
}

fn copy(database: &Database<'_>, data: &Data) {
    let (file, columns) = (&data.file, columns(database));
    database.run(&format!("\\copy processed_messages {columns} FROM '{file}'"));
}

fn load_data(database: &Database<'_>, data: &Data) {
    let (file, columns) = (&data.file, columns(database));
    database.run(&format!("LOAD DATA LOCAL INFILE '{file}' INTO TABLE processed_messages {columns}"));
}

// ---- SQL Server's client side

fn sql_server(data: &Data, rounds: usize) {
    for name in [odbc::MICROSOFT, odbc::FREETDS] {
        let Ok(driver) = odbc::driver(name) else {
            println!("skipped: {name} is not installed");
            continue;
        };
        for batch in [100, 1000, 5000] {
            let mut cpus = Vec::new();
            for _ in 0..rounds {
                let double = Double::start(&driver);
                let sink = sink_at(double.connection_string.clone(), 1);
                sink.check().expect("the tables are made");
                let cpu = cpu_seconds();
                write_all(&sink, data, batch, 1);
                cpus.push((cpu_seconds() - cpu) * 1e6 / data.rows() as f64);
            }
            println!("{:>6.1} client CPU us per row  {name}, batches of {batch}", median(cpus));
        }
    }
}

/// The double in a process of its own, which ends with its stdin.
struct Double {
    process: Child,
    connection_string: String,
}

impl Double {
    fn start(driver: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("double").arg(driver).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("the double starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(process.stdout.take().expect("stdout is piped"));
        stdout.read_line(&mut line).expect("the double says where it is");
        Self { process, connection_string: line.trim().to_owned() }
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}

/// The other process: says how it is reached, and lives until its stdin ends.
fn be_the_double(driver: &Path) {
    let server = tds::TdsServer::start();
    println!("{}", server.connection_string(driver));
    std::io::stdin().read_line(&mut String::new()).ok();
}

// ---- whole runs

fn whole(records: usize, rounds: usize) {
    let kafka = kafka::newest().expect("Kafka");
    let server = databases::durable_postgres().expect("PostgreSQL");
    kafka.filled_topic("whole", PARTITIONS as u32, records as u64, 200);
    let python = konekt::door::env("KONEKT_BASELINE_PYTHON");
    let (mut ours, mut baselines) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (database, place) = (server.database(), Place::new());
        let group = format!("whole-{round}");
        let arguments = ["sink", "odbc", "--topics", "whole", "--group-id", &group, "--until-end"];
        let run = place
            .konekt(&arguments)
            .arguments(&["--bootstrap-servers", &kafka.address(), "--batch-size", "1000", "--max-workers", "4"])
            .arguments(&["--pool-size", "4"])
            .variable("ODBC_CONNECTION_STRING", &database.connection_string())
            .run();
        println!("round {round}: {:>9.0} records/s  konekt sink odbc", records as f64 / run.took.as_secs_f64());
        ours.push(run.took.as_secs_f64());
        run.expect_code(0);
        assert_eq!(database.select(&["COUNT(*)"], "processed_messages")[0][0], records);
        let Some(python) = &python else { continue };
        let seconds = baseline(Path::new(python), &kafka.address(), records, &server.database());
        println!("round {round}: {:>9.0} records/s  confluent-kafka and pyodbc", records as f64 / seconds);
        baselines.push(seconds);
    }
    if !baselines.is_empty() {
        println!("median: {:.1} times the baseline", median(baselines) / median(ours));
    }
}

/// Seconds that the baseline took.
fn baseline(python: &Path, kafka: &str, records: usize, database: &Database<'_>) -> f64 {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/baseline/confluent_pyodbc.py");
    let mut command = Command::new(python);
    command.arg(script).args([kafka, "whole", &records.to_string(), &database.connection_string(), "1000", "4"]);
    let output = command.output().expect("the baseline starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}
