//! The audit of a database after a run: nothing lost, nothing twice, positions where the log ends.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::kafka::RealKafka;

/// How many offenders a message shows.
const SHOWN: usize = 10;

/// Demands that the database holds exactly the records 0 to `records` that [`RealKafka::fill`] wrote to the topic, once
/// each, in the order of their offsets, and that the group's positions are the log's ends.
pub fn expect_exactly(database: &Path, kafka: &RealKafka, topic: &str, group: &str, records: u64) {
    let audit = Audit::open(database);
    let faults: Vec<String> = [
        audit.sequence_fault(topic, records),
        audit.identity_fault(topic),
        audit.order_fault(topic),
        audit.position_fault(kafka, topic, group),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(faults.is_empty(), "{topic} in {}:\n{}", database.display(), faults.join("\n"));
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

    fn sequence_fault(&self, topic: &str, records: u64) -> Option<String> {
        let sql = "SELECT json_extract(message_value, '$.seq') FROM processed_messages WHERE topic = ?1";
        let mut statement = self.connection.prepare(sql).expect("the message table");
        let sequences = statement.query_map([topic], |row| row.get::<_, i64>(0)).expect("sequences");
        let mut seen = vec![0u32; records as usize];
        let mut beyond = Vec::new();
        for sequence in sequences {
            let sequence = sequence.expect("a sequence number");
            match seen.get_mut(sequence as usize) {
                Some(count) => *count += 1,
                None => beyond.push(sequence),
            }
        }
        let which = |wrong: fn(u32) -> bool| -> Vec<usize> {
            seen.iter().enumerate().filter(|(_, count)| wrong(**count)).map(|(sequence, _)| sequence).collect()
        };
        let (lost, repeated) = (which(|count| count == 0), which(|count| count > 1));
        let fault = !lost.is_empty() || !repeated.is_empty() || !beyond.is_empty();
        fault.then(|| {
            format!(
                "of {records} records: {} lost {:?}…, {} repeated {:?}…, {} never written {:?}…",
                lost.len(),
                &lost[..lost.len().min(SHOWN)],
                repeated.len(),
                &repeated[..repeated.len().min(SHOWN)],
                beyond.len(),
                &beyond[..beyond.len().min(SHOWN)],
            )
        })
    }

    fn identity_fault(&self, topic: &str) -> Option<String> {
        let rows = self.rows(topic);
        let ids = self.number("SELECT count(DISTINCT id) FROM processed_messages WHERE topic = ?1", topic);
        let offsets = self.number(
            "SELECT count(*) FROM (SELECT DISTINCT partition, offset FROM processed_messages WHERE topic = ?1)",
            topic,
        );
        (rows != ids || rows != offsets).then(|| format!("{rows} rows, {ids} ids, {offsets} offsets"))
    }

    /// Ids grow with the offsets of a partition (DESIGN §5).
    fn order_fault(&self, topic: &str) -> Option<String> {
        let wrong = self.number(
            "SELECT count(*) FROM (SELECT id, lag(id) OVER (PARTITION BY partition ORDER BY offset) AS before
             FROM processed_messages WHERE topic = ?1) WHERE before >= id",
            topic,
        );
        (wrong > 0).then(|| format!("{wrong} ids do not grow with the offset"))
    }

    fn position_fault(&self, kafka: &RealKafka, topic: &str, group: &str) -> Option<String> {
        let ends: BTreeMap<i32, i64> = (0..).zip(kafka.ends(topic)).collect();
        let positions = self.positions(topic, group);
        (ends != positions).then(|| format!("positions {positions:?}, but the log ends at {ends:?}"))
    }

    fn number(&self, sql: &str, topic: &str) -> u64 {
        self.connection.query_row(sql, [topic], |row| row.get::<_, i64>(0)).expect(sql) as u64
    }
}
