//! Settings: MongoDB.

use super::*;

const TO_MONGO: &[Command] = &[Command::MongoDb, Command::Config];

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::MongoDb, name, kind, default, doc).commands(TO_MONGO)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "mongodb_uri",
        Kind::Text,
        Default::Is("mongodb://localhost:27017"),
        "The address: mongodb://user:password@host:port,host:port/database?replicaSet=rs0.",
    )
    .variables(&["MONGODB_URI"])
    .secret(),
    field("mongodb_database", Kind::Text, Default::Nothing, "The database; without it the one in the address.")
        .variables(&["MONGODB_DATABASE"]),
    field("mongodb_collection", Kind::Text, Default::Nothing, "The collection; without it a sink has one per topic.")
        .variables(&["MONGODB_COLLECTION"]),
    field(
        "mongodb_mode",
        Kind::Choice(&["insert", "upsert"]),
        Default::Is("insert"),
        "insert: a document per record; upsert: one per key, replaced by values, removed by tombstones.",
    )
    .variables(&["MONGODB_MODE"]),
    field(
        "mongodb_timeout",
        Kind::Integer { min: 1, max: 3600, unit: "s" },
        Default::Is("30"),
        "How long MongoDB may take to answer a question or to commit.",
    )
    .variables(&["MONGODB_TIMEOUT"]),
];
