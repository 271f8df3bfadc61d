//! Settings: MongoDB.

use super::*;

const TO_MONGO: Commands = LOOKING.with(&[Command::MongoDb, Command::Load, Command::Config]);

/// What the source reads too.
const WATCHED: Commands = TO_MONGO.with(&[Command::MongoSource]);

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::MongoDb, name, kind, default, doc).commands(TO_MONGO)
}

const fn health(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    field(name, kind, default, doc).only(&[Command::MongoHealth])
}

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, unit: "s" }
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "mongodb_uri",
        Kind::Text,
        Default::Is("mongodb://localhost:27017"),
        "The address: mongodb://user:password@host:port,host:port/database?replicaSet=rs0.",
    )
    .variables(&["MONGODB_URI"])
    .commands(WATCHED.with(&[Command::MongoHealth]))
    .secret(),
    field("mongodb_database", Kind::Text, Default::Nothing, "The database; without it the one in the address.")
        .variables(&["MONGODB_DATABASE"])
        .commands(WATCHED),
    field(
        "mongodb_collection",
        Kind::Text,
        Default::Nothing,
        "The collection; without it a sink has one per topic, and a source watches all.",
    )
    .variables(&["MONGODB_COLLECTION"])
    .commands(WATCHED),
    field(
        "mongodb_mode",
        Kind::Choice(&["insert", "upsert", "document"]),
        Default::Is("insert"),
        "insert: records; upsert: values, one per key, removed by tombstones; document: values with their own _id.",
    )
    .variables(&["MONGODB_MODE"])
    .only(&[Command::MongoDb, Command::DlqReplay, Command::Config]),
    field(
        "mongodb_timeout",
        seconds(1, 3600),
        Default::Is("30"),
        "How long MongoDB may take to answer a question or to commit.",
    )
    .variables(&["MONGODB_TIMEOUT"]),
    health("lag_max", seconds(1, 86_400), Default::Is("60"), "How far a secondary may be behind the primary."),
    health(
        "oplog_min",
        Kind::Integer { min: 0, max: 8760, unit: "h" },
        Default::Is("4"),
        "How far the oplog must reach back, once anything was cut off from it.",
    ),
    health("health_timeout", seconds(1, 600), Default::Is("5"), "How long a member may take to answer."),
    health("watch_every", seconds(1, 86_400), Default::Is("5"), "The pause between two looks of --watch."),
];
