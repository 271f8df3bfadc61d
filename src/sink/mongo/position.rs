//! The position of a partition in MongoDB: the document that [`crate::sink::position`] describes as a row, with
//! `{consumer_group, topic, partition}` as its `_id`.

use mongodb::bson::{Bson, DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::options::ReturnDocument;
use mongodb::sync::{ClientSession, Collection};
use uuid::Uuid;

use crate::core::record::TopicPartition;
use crate::port::{Claim, Claimed, PositionMove};
use crate::sink::position::Position;

/// The positions of one consumer group, within a transaction.
pub struct Positions<'a> {
    pub collection: Collection<Document>,
    pub group: &'a str,
    pub session: &'a mut ClientSession,
    pub now: DateTime,
}

impl Positions<'_> {
    fn id(&self, partition: &TopicPartition) -> Document {
        doc! { "consumer_group": self.group, "topic": &*partition.topic, "partition": partition.partition }
    }

    /// Takes possession: raises the epoch, and fills in ids that are not known yet.
    pub fn claim(&mut self, claim: &Claim) -> Result<Claimed, Error> {
        let id = self.id(&claim.partition);
        let topic_id = claim.topic_id.map(|id| id.to_string());
        // An expression would take a text that begins with $ for a field.
        let filled = |field: &str, value: Option<&str>| doc! { "$ifNull": [field, { "$literal": value }] };
        let take = doc! { "$set": {
            "epoch": { "$add": ["$epoch", 1_i64] },
            "cluster_id": filled("$cluster_id", claim.cluster_id.as_deref()),
            "topic_id": filled("$topic_id", topic_id.as_deref()),
            "updated_at": self.now,
        } };
        let taken = self.collection.find_one_and_update(doc! { "_id": id.clone() }, vec![take]);
        let taken = taken.return_document(ReturnDocument::After).session(&mut *self.session).run()?;
        if let Some(document) = taken {
            let position = position_of(&document);
            return Ok(Claimed {
                next_offset: Some(position.next_offset),
                owner_epoch: position.epoch,
                topic_id: position.topic_id.as_deref().and_then(|id| Uuid::parse_str(id).ok()),
                cluster_id: position.cluster_id,
                existed: true,
                paused: position.paused,
            });
        }
        let absent = Claimed {
            next_offset: claim.start_if_absent,
            owner_epoch: i64::from(claim.start_if_absent.is_some()),
            cluster_id: None,
            topic_id: None,
            existed: false,
            paused: false,
        };
        let Some(start) = claim.start_if_absent else { return Ok(absent) };
        let first = doc! {
            "_id": id, "next_offset": start, "epoch": 1_i64, "cluster_id": claim.cluster_id.as_deref(),
            "topic_id": topic_id, "written": 0_i64, "dead_lettered": 0_i64, "skipped": 0_i64,
            "updated_at": self.now, "paused": false,
        };
        self.collection.insert_one(first).session(&mut *self.session).run()?;
        Ok(Claimed { cluster_id: claim.cluster_id.as_deref().map(str::to_owned), topic_id: claim.topic_id, ..absent })
    }

    /// The compare-and-set. False when the document is not what the owner last made it.
    pub fn advance(
        &mut self,
        partition: &TopicPartition,
        step: &PositionMove,
        written: u64,
        dead_lettered: u64,
    ) -> Result<bool, Error> {
        let seen = doc! { "_id": self.id(partition), "epoch": step.owner_epoch, "next_offset": step.expected };
        let moved = doc! {
            "$set": { "next_offset": step.next, "updated_at": self.now },
            "$inc": {
                "written": written as i64,
                "dead_lettered": (step.dead_lettered + dead_lettered) as i64,
                "skipped": step.skipped as i64,
            },
        };
        Ok(self.collection.update_one(seen, moved).session(&mut *self.session).run()?.matched_count == 1)
    }

    /// The position as it is.
    pub fn read(&mut self, partition: &TopicPartition) -> Result<Option<Position>, Error> {
        let id = self.id(partition);
        let found = self.collection.find_one(doc! { "_id": id }).session(&mut *self.session).run()?;
        Ok(found.as_ref().map(position_of))
    }

    /// Notes whether a person paused the partition.
    pub fn note_pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Error> {
        let (of, noted) = (doc! { "_id": self.id(partition) }, doc! { "$set": { "paused": paused } });
        self.collection.update_one(of, noted).session(&mut *self.session).run().map(drop)
    }
}

fn position_of(document: &Document) -> Position {
    let number = |name: &str| match document.get(name) {
        Some(Bson::Int64(number)) => *number,
        Some(Bson::Int32(number)) => i64::from(*number),
        // Whoever put something else there has moved the position: no step will match it.
        _ => -1,
    };
    let text = |name: &str| document.get_str(name).ok().map(str::to_owned);
    Position {
        next_offset: number("next_offset"),
        epoch: number("epoch"),
        cluster_id: text("cluster_id"),
        topic_id: text("topic_id"),
        paused: document.get_bool("paused").is_ok_and(|paused| paused),
    }
}
