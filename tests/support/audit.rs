//! The audit of a database after a run: nothing lost, nothing twice, all in order, positions where the log ends.

use std::collections::{BTreeMap, HashSet};
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
    let mut tally = Tally { seen: vec![0; records as usize], ..Tally::default() };
    database.each_row(topic, &mut |row| tally.count(row));
    let mut faults = tally.faults();
    let ends: BTreeMap<i32, i64> = (0..).zip(kafka.ends(topic)).collect();
    let positions = database.positions(topic, group);
    if ends != positions {
        faults.push(format!("positions {positions:?}, but the log ends at {ends:?}"));
    }
    assert!(faults.is_empty(), "{topic} in {}:\n{}", database.name(), faults.join("\n"));
}

/// A row of the message table.
pub struct AuditRow {
    pub partition: i32,
    pub offset: i64,
    pub id: String,
    /// When it was written.
    pub time: String,
    pub value: String,
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
}

/// What the rows of a topic add up to.
#[derive(Default)]
struct Tally {
    /// How often each sequence number came.
    seen: Vec<u32>,
    beyond: Vec<i64>,
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
            Some(count) => *count += 1,
            None => self.beyond.push(sequence),
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

    fn faults(&self) -> Vec<String> {
        let which = |wrong: fn(u32) -> bool| -> Vec<usize> {
            self.seen.iter().enumerate().filter(|(_, count)| wrong(**count)).map(|(sequence, _)| sequence).collect()
        };
        let (lost, repeated) = (which(|count| count == 0), which(|count| count > 1));
        let mut faults = Vec::new();
        if !lost.is_empty() || !repeated.is_empty() || !self.beyond.is_empty() {
            faults.push(format!(
                "of {} records: {} lost {:?}…, {} repeated {:?}…, {} never written {:?}…",
                self.seen.len(),
                lost.len(),
                &lost[..lost.len().min(SHOWN)],
                repeated.len(),
                &repeated[..repeated.len().min(SHOWN)],
                self.beyond.len(),
                &self.beyond[..self.beyond.len().min(SHOWN)],
            ));
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
        let sql = "SELECT partition, offset, id, processing_timestamp, message_value FROM processed_messages \
                   WHERE topic = ?1 ORDER BY partition, offset";
        let mut statement = self.connection.prepare(sql).expect("the message table");
        let mut rows = statement.query([topic]).expect("rows");
        while let Some(found) = rows.next().expect("a row") {
            let text = |index| found.get::<_, String>(index).expect("text");
            let (partition, offset) = (found.get(0).expect("a number"), found.get(1).expect("a number"));
            row(AuditRow { partition, offset, id: text(2), time: text(3), value: text(4) });
        }
    }

    fn positions(&self, topic: &str, group: &str) -> BTreeMap<i32, i64> {
        Self::positions(self, topic, group)
    }

    fn written(&self, topic: &str) -> u64 {
        self.number("SELECT coalesce(sum(written), 0) FROM konekt_positions WHERE topic = ?1", topic)
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
        let columns = [&*partition, &*offset, "id", &*time, "message_value"];
        let from = format!("processed_messages WHERE topic = '{topic}' ORDER BY {partition}, {offset}");
        self.each(&columns, &from, &mut |cells| {
            let text = |index: usize| cells[index].as_str().expect("text").to_owned();
            let (partition, offset) =
                (cells[0].as_i64().expect("a number") as i32, cells[1].as_i64().expect("a number"));
            row(AuditRow { partition, offset, id: text(2), time: text(3), value: text(4) });
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
        let sql = format!("SELECT COALESCE(SUM(written), 0) FROM konekt_positions WHERE topic = '{topic}'");
        let answer = self.session().try_run(&sql).unwrap_or_default();
        answer.first().and_then(|line| line.parse().ok()).unwrap_or(0)
    }
}
