//! Messages in a table. The SQL here is standard and the same for every database; what they spell differently comes from
//! their [`Dialect`](crate::sink::dialect::Dialect).

use serde_json::Value;

use super::{Message, Messages, OldRows, PartitionStats, Slice};
use crate::core::record::TopicPartition;
use crate::core::verdict::ErrorClass;
use crate::port::SinkError;
use crate::sink::dialect::COLUMNS;
use crate::sink::query::{MessageDatabase, Parameter, Row};

impl Messages for Box<dyn MessageDatabase> {
    fn counts(&mut self) -> Result<Vec<PartitionStats>, SinkError> {
        let [topic, partition, offset, status, time] =
            ["topic", "partition", "offset", "processing_status", "processing_timestamp"]
                .map(|name| self.dialect().quoted(name));
        let sql = format!(
            "SELECT {topic}, {partition}, {status}, COUNT(*), MIN({offset}), MAX({offset}), MIN({time}), MAX({time}) \
             FROM {} GROUP BY {topic}, {partition}, {status} ORDER BY {topic}, {partition}, {status}",
            self.table()
        );
        let line = |row: Row| {
            let mut cells = Cells(row.into_iter());
            Ok(PartitionStats {
                topic: cells.text(),
                partition: cells.number()? as i32,
                status: cells.text(),
                rows: cells.number()? as u64,
                first_offset: cells.number()?,
                last_offset: cells.number()?,
                first_time: cells.text(),
                last_time: cells.text(),
            })
        };
        self.query(&sql, &[])?.into_iter().map(line).collect()
    }

    fn show(&mut self, partition: &TopicPartition, offset: i64) -> Result<Vec<Message>, SinkError> {
        let quoted = COLUMNS.map(|name| self.dialect().quoted(name));
        let sql = format!(
            "SELECT {} FROM {} WHERE {} = ? AND {} = ? AND {} = ? ORDER BY {}",
            quoted.join(", "),
            self.table(),
            quoted[1],
            quoted[2],
            quoted[3],
            quoted[7]
        );
        let (topic, partition) = (Parameter::Text(&partition.topic), Parameter::Number(partition.partition.into()));
        self.query(&sql, &[topic, partition, Parameter::Number(offset)])?.into_iter().map(message).collect()
    }

    fn older_than(&mut self, before_ms: i64) -> Result<Vec<OldRows>, SinkError> {
        let [topic, partition, offset, time] =
            ["topic", "partition", "offset", "processing_timestamp"].map(|name| self.dialect().quoted(name));
        let sql = format!(
            "SELECT {topic}, {partition}, COUNT(*), MIN({offset}), MAX({offset}) FROM {} WHERE {time} < ? \
             GROUP BY {topic}, {partition} ORDER BY {topic}, {partition}",
            self.table()
        );
        let old = |row: Row| {
            let mut cells = Cells(row.into_iter());
            Ok(OldRows {
                topic: cells.text(),
                partition: cells.number()? as i32,
                rows: cells.number()? as u64,
                first_offset: cells.number()?,
                last_offset: cells.number()?,
            })
        };
        self.query(&sql, &[Parameter::Time(before_ms)])?.into_iter().map(old).collect()
    }

    fn first_of(&mut self, slice: &Slice<'_>) -> Result<Option<i64>, SinkError> {
        let sql = format!("SELECT MIN({}) {}", self.dialect().quoted("offset"), rest(&**self));
        let answer = self.query(&sql, &parameters(slice))?;
        // NULL: there is none.
        let first = answer.first().and_then(|row| row.first()?.as_deref());
        Ok(first.and_then(|text| text.trim().parse().ok()))
    }

    fn remove(&mut self, slice: &Slice<'_>) -> Result<u64, SinkError> {
        let sql = format!("DELETE {}", rest(&**self));
        self.execute(&sql, &parameters(slice))
    }
}

/// What follows the verb of a statement about a [`Slice`].
fn rest(database: &dyn MessageDatabase) -> String {
    let [topic, partition, offset, time] =
        ["topic", "partition", "offset", "processing_timestamp"].map(|name| database.dialect().quoted(name));
    format!(
        "FROM {} WHERE {topic} = ? AND {partition} = ? AND {offset} BETWEEN ? AND ? AND {time} < ?",
        database.table()
    )
}

fn parameters<'a>(slice: &Slice<'a>) -> [Parameter<'a>; 5] {
    let [partition, from, to] = [slice.partition.into(), slice.from, slice.to].map(Parameter::Number);
    [Parameter::Text(slice.topic), partition, from, to, Parameter::Time(slice.before_ms)]
}

fn message(row: Row) -> Result<Message, SinkError> {
    let mut cells = Cells(row.into_iter());
    Ok(Message {
        id: cells.text(),
        topic: cells.text(),
        partition: cells.number()? as i32,
        offset: cells.number()?,
        message_key: cells.optional(),
        message_value: cells.text(),
        // What somebody else wrote there need not be JSON.
        message_headers: cells.optional().map(|text| serde_json::from_str(&text).unwrap_or(Value::String(text))),
        consumer_group: cells.text(),
        processing_timestamp: cells.text(),
        processing_status: cells.text(),
        error_message: cells.optional(),
    })
}

/// A row's cells, taken one after the other.
struct Cells(std::vec::IntoIter<Option<String>>);

impl Cells {
    fn optional(&mut self) -> Option<String> {
        self.0.next().flatten()
    }

    fn text(&mut self) -> String {
        self.optional().unwrap_or_default()
    }

    fn number(&mut self) -> Result<i64, SinkError> {
        let text = self.text();
        text.trim().parse().map_err(|_| {
            let message =
                format!("the message table holds {text:?} where a whole number should be: Konekt did not write it");
            SinkError::new(ErrorClass::Schema, message)
        })
    }
}
