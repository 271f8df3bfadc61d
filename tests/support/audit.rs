//! The audit of a database after a run: nothing lost, nothing twice, all in order, positions where the log ends.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::databases::Database;
use super::kafka::RealKafka;

/// How many offenders a message shows.
const SHOWN: usize = 10;

/// Demands that the SQLite file holds exactly what [`expect_exactly_in`] asks for.
pub fn expect_exactly(database: &Path, kafka: &RealKafka, topic: &str, group: &str, records: u64) {
    expect_exactly_in(&Audit::open(database), kafka, topic, group, records);
}

/// Demands that the database holds exactly the records 0 to `records` that [`RealKafka::fill`] wrote to the topic, once
/// each, in the order of their offsets, and that the group's positions are the log's ends.
pub fn expect_exactly_in(database: &dyn Witness, kafka: &RealKafka, topic: &str, group: &str, records: u64) {
    let expected = Expected { records, ..Expected::default() };
    audit(database, &kafka.ends(topic), topic, group, &expected).expect_none();
}

/// What should have become of a topic's records.
#[derive(Default)]
pub struct Expected {
    /// Records 0 to this were written to the topic;
    pub records: u64,
    /// the database refuses these of them,
    pub poison: BTreeSet<u64>,
    /// and these were found among the dead letters; `None` where letters are rows with the status FAILED.
    pub letters: Option<Vec<u64>>,
}

/// What an audit found.
pub struct Findings {
    /// What is there, for people.
    pub summary: String,
    /// What is wrong with it.
    pub faults: Vec<String>,
}

impl Findings {
    /// Demands that nothing is wrong.
    pub fn expect_none(&self) {
        assert!(self.faults.is_empty(), "{}\n{}", self.summary, self.faults.join("\n"));
    }
}

/// Compares what the database holds of a topic with what it should: each record that is no poison is one row, undamaged
/// and in order; each that is poison is a dead letter and no row; positions are the `ends` of the log, and their
/// counters agree.
pub fn audit(database: &dyn Witness, ends: &[i64], topic: &str, group: &str, expected: &Expected) -> Findings {
    let mut tally = Tally { seen: vec![0; expected.records as usize], ..Tally::default() };
    database.each_row(topic, &mut |row| tally.count(row));
    let letters = expected.letters.as_ref().unwrap_or(&tally.letters);
    let mut faults = tally.faults(&expected.poison);
    faults.extend(letter_faults(&expected.poison, letters));
    let ends: BTreeMap<i32, i64> = (0..).zip(ends.iter().copied()).collect();
    let positions = database.positions(topic, group);
    if ends != positions {
        faults.push(format!("positions {positions:?}, but the log ends at {ends:?}"));
    }
    let poisoned = expected.poison.len() as u64;
    let counted = (database.written(topic), database.dead_lettered(topic));
    if counted != (expected.records - poisoned, poisoned) {
        faults.push(format!("the positions count {counted:?} records as written and dead-lettered"));
    }
    let rows: u32 = tally.seen.iter().sum();
    let summary = format!(
        "{topic} in {}: of {} records {rows} are rows; {} were poisoned, and there are {} letters",
        database.name(),
        expected.records,
        poisoned,
        letters.len(),
    );
    Findings { summary, faults }
}

/// Letters outside the database may be there more than once: they are sent before the position moves.
fn letter_faults(poison: &BTreeSet<u64>, letters: &[u64]) -> Vec<String> {
    let letters: BTreeSet<u64> = letters.iter().copied().collect();
    let mut faults = Vec::new();
    for (what, numbers) in [
        ("poisoned records are no dead letters", poison.difference(&letters)),
        ("dead letters were good records", letters.difference(poison)),
    ] {
        let numbers: Vec<&u64> = numbers.collect();
        if !numbers.is_empty() {
            faults.push(format!("{} {what}: {:?}…", numbers.len(), &numbers[..numbers.len().min(SHOWN)]));
        }
    }
    faults
}

/// The sum that a record of [`numbered`] carries (FNV-1a, 64 bits).
fn checksum(text: &str) -> String {
    let sum = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{sum:016x}")
}

/// The value of a record with its number, a sum over its contents and perhaps the word that makes it poison.
pub fn numbered(sequence: u64, contents: &str, poison: bool) -> String {
    let contents = format!("{sequence}:{contents}");
    let sum = checksum(&contents);
    let poison = if poison { r#""poison":true,"# } else { "" };
    format!(r#"{{"seq":{sequence},{poison}"sum":"{sum}","contents":"{contents}"}}"#)
}

/// Whether a value is as it was made; other writers' records carry no sum.
fn undamaged(value: &Value, sequence: i64) -> bool {
    let Some(sum) = value["sum"].as_str() else { return true };
    let contents = value["contents"].as_str().unwrap_or_default();
    contents.starts_with(&format!("{sequence}:")) && checksum(contents) == sum
}

/// A row of the message table.
#[derive(Clone, Debug)]
pub struct AuditRow {
    pub partition: i32,
    pub offset: i64,
    pub id: String,
    /// When it was written.
    pub time: String,
    pub value: String,
    pub status: String,
}

/// A database that Konekt wrote, as seen by a client that is not Konekt.
pub trait Witness {
    /// How it is called in messages.
    fn name(&self) -> String;
    /// The rows of a topic in the order of partition and offset.
    fn each_row(&self, topic: &str, row: &mut dyn FnMut(AuditRow));
    /// The group's positions in a topic: partition and next offset.
    fn positions(&self, topic: &str, group: &str) -> BTreeMap<i32, i64>;
    /// Rows that the positions of a topic count; 0 while there are no tables.
    fn written(&self, topic: &str) -> u64;
    /// Records that the positions of a topic count as dead letters.
    fn dead_lettered(&self, topic: &str) -> u64;
}

/// What the rows of a topic add up to.
#[derive(Default)]
struct Tally {
    /// How often each sequence number came.
    seen: Vec<u32>,
    beyond: Vec<i64>,
    /// The numbers of rows with the status FAILED.
    letters: Vec<u64>,
    damaged: Vec<i64>,
    ids: HashSet<String>,
    repeated_ids: usize,
    /// The row before, and its sequence number.
    before: Option<(AuditRow, i64)>,
    disorder: Vec<String>,
}

impl Tally {
    fn count(&mut self, row: AuditRow) {
        let value: Value = serde_json::from_str(&row.value).unwrap_or_else(|error| panic!("{error}: {}", row.value));
        let sequence = value["seq"].as_i64().expect("records are numbered");
        match self.seen.get_mut(sequence as usize) {
            Some(_) if row.status == "FAILED" => self.letters.push(sequence as u64),
            Some(count) => *count += 1,
            None => self.beyond.push(sequence),
        }
        if !undamaged(&value, sequence) {
            self.damaged.push(sequence);
        }
        self.repeated_ids += usize::from(!self.ids.insert(row.id.clone()));
        if let Some((before, sequence_before)) = &self.before
            && before.partition == row.partition
        {
            // Ids grow with the offset (DESIGN §5); rows of one partition are written in the order of their offsets.
            let grows = before.offset < row.offset && before.id < row.id && *sequence_before < sequence;
            if !grows || before.time > row.time {
                let (from, to) = ((before.offset, sequence_before, &before.time), (row.offset, sequence, &row.time));
                self.disorder.push(format!("partition {}: {to:?} after {from:?}", row.partition));
            }
        }
        self.before = Some((AuditRow { value: String::new(), ..row }, sequence));
    }

    fn faults(&self, poison: &BTreeSet<u64>) -> Vec<String> {
        let which = |wrong: &dyn Fn(u64, u32) -> bool| -> Vec<i64> {
            (0..)
                .zip(&self.seen)
                .filter(|(number, count)| wrong(*number, **count))
                .map(|(number, _)| number as i64)
                .collect()
        };
        let lost = which(&|number, count| count == 0 && !poison.contains(&number));
        let repeated = which(&|_, count| count > 1);
        let swallowed = which(&|number, count| count > 0 && poison.contains(&number));
        let mut faults = Vec::new();
        for (what, numbers) in [
            ("lost", &lost),
            ("repeated", &repeated),
            ("poisoned and yet rows", &swallowed),
            ("damaged", &self.damaged),
            ("never written", &self.beyond),
        ] {
            if !numbers.is_empty() {
                let (count, total) = (numbers.len(), self.seen.len());
                faults.push(format!("of {total} records {count} are {what}: {:?}…", &numbers[..count.min(SHOWN)]));
            }
        }
        if self.repeated_ids > 0 {
            faults.push(format!("{} ids are there twice", self.repeated_ids));
        }
        faults.extend(self.disorder.iter().take(SHOWN).cloned());
        faults
    }
}

/// Read-only questions to a database that konekt wrote.
pub struct Audit {
    connection: Connection,
}

impl Audit {
    /// Opens the database.
    pub fn open(database: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags);
        let connection = connection.unwrap_or_else(|error| panic!("{}: {error}", database.display()));
        connection.busy_timeout(std::time::Duration::from_secs(30)).expect("a timeout");
        Self { connection }
    }

    /// Rows of a topic.
    pub fn rows(&self, topic: &str) -> u64 {
        self.number("SELECT count(*) FROM processed_messages WHERE topic = ?1", topic)
    }

    /// The group's positions in a topic: partition and next offset.
    pub fn positions(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        let sql = "SELECT partition, next_offset FROM konekt_positions WHERE topic = ?1 AND consumer_group = ?2";
        let mut statement = self.connection.prepare(sql).expect("the position table");
        let rows = statement.query_map([topic, group], |row| Ok((row.get(0)?, row.get(1)?))).expect("positions");
        rows.map(|row| row.expect("a position")).collect()
    }

    /// Rows of any database with this table; 0 while it or the table is not there.
    pub fn rows_so_far(database: &Path, topic: &str) -> u64 {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let Ok(connection) = Connection::open_with_flags(database, flags) else { return 0 };
        let sql = "SELECT coalesce(sum(written), 0) FROM konekt_positions WHERE topic = ?1";
        connection.query_row(sql, [topic], |row| row.get::<_, i64>(0)).map_or(0, |rows| rows as u64)
    }

    fn number(&self, sql: &str, topic: &str) -> u64 {
        self.connection.query_row(sql, [topic], |row| row.get::<_, i64>(0)).expect(sql) as u64
    }
}

impl Witness for Audit {
    fn name(&self) -> String {
        self.connection.path().unwrap_or_default().to_owned()
    }

    fn each_row(&self, topic: &str, row: &mut dyn FnMut(AuditRow)) {
        let sql = "SELECT partition, offset, id, processing_timestamp, message_value, processing_status FROM processed_messages \
                   WHERE topic = ?1 ORDER BY partition, offset";
        let mut statement = self.connection.prepare(sql).expect("the message table");
        let mut rows = statement.query([topic]).expect("rows");
        while let Some(found) = rows.next().expect("a row") {
            let text = |index| found.get::<_, String>(index).expect("text");
            let (partition, offset) = (found.get(0).expect("a number"), found.get(1).expect("a number"));
            row(AuditRow { partition, offset, id: text(2), time: text(3), value: text(4), status: text(5) });
        }
    }

    fn positions(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        Self::positions(self, topic, group)
    }

    fn written(&self, topic: &str) -> u64 {
        self.number("SELECT coalesce(sum(written), 0) FROM konekt_positions WHERE topic = ?1", topic)
    }

    fn dead_lettered(&self, topic: &str) -> u64 {
        self.number("SELECT coalesce(sum(dead_lettered), 0) FROM konekt_positions WHERE topic = ?1", topic)
    }
}

impl Witness for Database<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.server().name(), Database::name(self))
    }

    fn each_row(&self, topic: &str, row: &mut dyn FnMut(AuditRow)) {
        let kind = self.server().kind();
        let (partition, offset) = (kind.quoted("partition"), kind.quoted("offset"));
        let time = kind.utc_text("processing_timestamp");
        let columns = [&*partition, &*offset, "id", &*time, "message_value", "processing_status"];
        let from = format!("processed_messages WHERE topic = '{topic}' ORDER BY {partition}, {offset}");
        self.each(&columns, &from, &mut |cells| {
            let text = |index: usize| cells[index].as_str().expect("text").to_owned();
            let (partition, offset) =
                (cells[0].as_i64().expect("a number") as i32, cells[1].as_i64().expect("a number"));
            row(AuditRow { partition, offset, id: text(2), time: text(3), value: text(4), status: text(5) });
        });
    }

    fn positions(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        let partition = self.server().kind().quoted("partition");
        let from = format!("konekt_positions WHERE topic = '{topic}' AND consumer_group = '{group}'");
        let rows = self.select(&[&partition, "next_offset"], &from);
        let number = |cell: &Value| cell.as_i64().expect("a number");
        rows.iter().map(|row| (number(&row[0]) as i32, number(&row[1]))).collect()
    }

    fn written(&self, topic: &str) -> u64 {
        self.counted("written", topic)
    }

    fn dead_lettered(&self, topic: &str) -> u64 {
        self.counted("dead_lettered", topic)
    }
}

impl Database<'_> {
    /// What the positions of a topic add up to; 0 while there are none, and while the server is away.
    fn counted(&self, column: &str, topic: &str) -> u64 {
        let sql = format!("SELECT COALESCE(SUM({column}), 0) FROM konekt_positions WHERE topic = '{topic}'");
        let answer = self.session().try_run(&sql).unwrap_or_default();
        answer.first().and_then(|line| line.parse().ok()).unwrap_or(0)
    }
}
