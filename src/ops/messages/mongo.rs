//! Messages as documents. In a collection of plain documents (`mongodb_mode` upsert or document) only dead letters are
//! messages; the others say nothing of where they came from.

use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::sync::Collection;

use super::{Message, Messages, OldRows, PartitionStats, Slice};
use crate::core::record::TopicPartition;
use crate::port::SinkError;
use crate::sink::mongo::operate::{MongoTables, json_of, moment, not_ours, number, text_of};

impl Messages for MongoTables {
    fn counts(&mut self) -> Result<Vec<PartitionStats>, SinkError> {
        let group = doc! { "$group": {
            "_id": { "topic": "$topic", "partition": "$partition", "status": "$processing_status" },
            "rows": { "$sum": 1_i64 }, "first": { "$min": "$offset" }, "last": { "$max": "$offset" },
            "first_time": { "$min": "$processing_timestamp" }, "last_time": { "$max": "$processing_timestamp" },
        } };
        self.grouped(doc! {}, group, "count the messages", |id, line| {
            Some(PartitionStats {
                topic: id.get_str("topic").ok()?.to_owned(),
                partition: number(id, "partition")? as i32,
                status: id.get_str("status").ok()?.to_owned(),
                rows: number(line, "rows")? as u64,
                first_offset: number(line, "first")?,
                last_offset: number(line, "last")?,
                first_time: moment(line, "first_time")?,
                last_time: moment(line, "last_time")?,
            })
        })
    }

    fn show(&mut self, partition: &TopicPartition, offset: i64) -> Result<Vec<Message>, SinkError> {
        let place = doc! { "topic": &*partition.topic, "partition": partition.partition, "offset": offset };
        let mut found = Vec::new();
        for collection in self.collections_of(&partition.topic)? {
            let documents = collection.find(place.clone()).sort(doc! { "consumer_group": 1 });
            for document in self.all(documents.max_time(self.timeout()).run(), "find the message")? {
                found.push(message(&document).ok_or_else(|| not_ours("message"))?);
            }
        }
        Ok(found)
    }

    fn older_than(&mut self, before_ms: i64) -> Result<Vec<OldRows>, SinkError> {
        let group = doc! { "$group": {
            "_id": { "topic": "$topic", "partition": "$partition" },
            "rows": { "$sum": 1_i64 }, "first": { "$min": "$offset" }, "last": { "$max": "$offset" },
        } };
        self.grouped(older(before_ms), group, "look for old messages", |id, line| {
            Some(OldRows {
                topic: id.get_str("topic").ok()?.to_owned(),
                partition: number(id, "partition")? as i32,
                rows: number(line, "rows")? as u64,
                first_offset: number(line, "first")?,
                last_offset: number(line, "last")?,
            })
        })
    }

    fn first_of(&mut self, slice: &Slice<'_>) -> Result<Option<i64>, SinkError> {
        let mut first = None;
        for collection in self.collections_of(slice.topic)? {
            let found = collection.find_one(within(slice)).sort(doc! { "offset": 1 }).projection(doc! { "offset": 1 });
            let found = found.max_time(self.timeout()).run();
            let found = found.map_err(|error| self.failed("look for old messages", &error))?;
            let offset = found.and_then(|document| number(&document, "offset"));
            first = [first, offset].into_iter().flatten().min();
        }
        Ok(first)
    }

    fn remove(&mut self, slice: &Slice<'_>) -> Result<u64, SinkError> {
        let mut removed = 0;
        for collection in self.collections_of(slice.topic)? {
            let deleted = collection.delete_many(within(slice)).write_concern(self.write_concern()).run();
            removed += deleted.map_err(|error| self.failed("remove old messages", &error))?.deleted_count;
        }
        Ok(removed)
    }
}

impl MongoTables {
    /// What the messages of all collections come to in groups, in the order of these.
    fn grouped<T>(
        &self,
        which: Document,
        group: Document,
        what: &str,
        read: impl Fn(&Document, &Document) -> Option<T>,
    ) -> Result<Vec<T>, SinkError> {
        let mut lines = Vec::new();
        for collection in self.collections()? {
            // What has no status is somebody's document and no message.
            let of_status = doc! { "processing_status": { "$type": "string" }, "offset": { "$type": "number" } };
            let mut filter = which.clone();
            filter.extend(of_status);
            let stages = [doc! { "$match": filter }, group.clone(), doc! { "$sort": { "_id": 1 } }];
            let found = collection.aggregate(stages).allow_disk_use(true).run();
            for line in self.all(found, what)? {
                let id = line.get_document("_id").ok();
                lines.push(id.and_then(|id| read(id, &line)).ok_or_else(|| not_ours("message"))?);
            }
        }
        Ok(lines)
    }

    /// Where the messages of a topic are.
    fn collections_of(&self, topic: &str) -> Result<Vec<Collection<Document>>, SinkError> {
        match self.has_one_collection() {
            true => self.collections(),
            false => Ok(vec![self.collection(topic)]),
        }
    }
}

fn within(slice: &Slice<'_>) -> Document {
    let mut filter = doc! {
        "topic": slice.topic, "partition": slice.partition, "offset": { "$gte": slice.from, "$lte": slice.to },
    };
    filter.extend(older(slice.before_ms));
    filter
}

fn older(before_ms: i64) -> Document {
    doc! { "processing_timestamp": { "$lt": DateTime::from_millis(before_ms) } }
}

fn message(document: &Document) -> Option<Message> {
    let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
    Some(Message {
        id: text_of(document.get("_id"))?,
        topic: text("topic")?,
        partition: number(document, "partition")? as i32,
        offset: number(document, "offset")?,
        message_key: text_of(document.get("message_key")),
        message_value: text_of(document.get("message_value")).unwrap_or_default(),
        message_headers: document.get("message_headers").filter(|headers| **headers != Bson::Null).map(json_of),
        consumer_group: text("consumer_group")?,
        processing_timestamp: moment(document, "processing_timestamp")?,
        processing_status: text("processing_status")?,
        error_message: text("error_message"),
    })
}
