//! Settings of `konekt source mongodb`: what is watched, and what its events become. The names in brackets are those of
//! MongoDB's connector for Kafka Connect, whose file says the same (`crate::ops::mongo_source::connector`).

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::MongoDb, name, kind, default, doc).only(&[Command::MongoSource, Command::Config])
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "connector_config",
        Kind::Text,
        Default::Nothing,
        "A file of MongoDB's Kafka connector; it holds where no flag, variable or konekt.toml says otherwise.",
    )
    .variables(&["MONGODB_CONNECTOR_CONFIG"]),
    field("topic_prefix", Kind::Text, Default::Nothing, "Before the names of topics (topic.prefix).")
        .variables(&["MONGODB_TOPIC_PREFIX"]),
    field("topic_suffix", Kind::Text, Default::Nothing, "Behind the names of topics (topic.suffix).")
        .variables(&["MONGODB_TOPIC_SUFFIX"]),
    field("topic_separator", Kind::Text, Default::Is("."), "Between the parts of topics' names (topic.separator).")
        .variables(&["MONGODB_TOPIC_SEPARATOR"]),
    field(
        "topic_namespace_map",
        Kind::Text,
        Default::Nothing,
        "A JSON object from db, db.collection, /regex/ or * to names (topic.namespace.map).",
    )
    .variables(&["MONGODB_TOPIC_NAMESPACE_MAP"]),
    field("pipeline", Kind::Text, Default::Nothing, "A JSON array of stages that events pass, like $match (pipeline).")
        .variables(&["MONGODB_PIPELINE"]),
    field(
        "full_document",
        Kind::Choice(&["default", "updateLookup", "whenAvailable", "required"]),
        Default::Is("default"),
        "Whether updates carry the whole document (change.stream.full.document).",
    )
    .variables(&["MONGODB_FULL_DOCUMENT"]),
    field(
        "full_document_before_change",
        Kind::Choice(&["off", "default", "whenAvailable", "required"]),
        Default::Is("off"),
        "Whether events carry the document before them (change.stream.full.document.before.change).",
    )
    .variables(&["MONGODB_FULL_DOCUMENT_BEFORE_CHANGE"]),
    field(
        "publish_full_document_only",
        Kind::Switch,
        Default::Is("false"),
        "Values are documents alone; events without one are left out (publish.full.document.only).",
    )
    .variables(&["MONGODB_PUBLISH_FULL_DOCUMENT_ONLY"]),
    field(
        "tombstone_on_delete",
        Kind::Switch,
        Default::Is("false"),
        "With that, a deletion is a record without a value (….tombstone.on.delete).",
    )
    .variables(&["MONGODB_TOMBSTONE_ON_DELETE"]),
    field(
        "document_key_as_key",
        Kind::Switch,
        Default::Is("true"),
        "Keys are the documents' keys, not the events' ids (change.stream.document.key.as.key).",
    )
    .variables(&["MONGODB_DOCUMENT_KEY_AS_KEY"]),
    field(
        "json_formatter",
        Kind::Choice(&["DefaultJson", "ExtendedJson", "SimplifiedJson"]),
        Default::Is("DefaultJson"),
        "How types are written that JSON does not have (output.json.formatter).",
    )
    .variables(&["MONGODB_JSON_FORMATTER"]),
    field(
        "startup_mode",
        Kind::Choice(&["latest", "copy-existing", "timestamp"]),
        Default::Is("latest"),
        "Where a first run starts: now, with a copy of what is there, or at start_at (startup.mode).",
    )
    .variables(&["MONGODB_STARTUP_MODE"]),
    field(
        "start_at",
        Kind::Text,
        Default::Nothing,
        "The time of startup_mode timestamp: seconds, or 2026-01-31T12:00Z.",
    )
    .variables(&["MONGODB_START_AT"]),
    field(
        "on_lost",
        Kind::Choice(&["fail", "now", "copy", "timestamp"]),
        Default::Is("fail"),
        "When the place is not in the oplog any more: stop; or go on now, with a copy, at the oplog's start.",
    )
    .variables(&["MONGODB_ON_LOST"]),
    field(
        "watch_heartbeat_interval_ms",
        milliseconds(0, DAY_MS),
        Default::Is("0"),
        "How often a quiet stream shows life in a topic; 0: never (heartbeat.interval.ms).",
    )
    .variables(&["MONGODB_HEARTBEAT_INTERVAL_MS"]),
    field(
        "watch_heartbeat_topic",
        Kind::Text,
        Default::Is("__mongodb_heartbeats"),
        "The topic of that (heartbeat.topic.name).",
    )
    .variables(&["MONGODB_HEARTBEAT_TOPIC"]),
    field(
        "watch_batch_size",
        count(0, 100_000),
        Default::Is("0"),
        "Events of one answer; 0: as MongoDB likes (batch.size).",
    )
    .variables(&["MONGODB_BATCH_SIZE"]),
    field("source_name", Kind::Text, Default::Is("konekt"), "The name under which the place is kept.")
        .variables(&["MONGODB_SOURCE_NAME"]),
    field(
        "state_topic",
        Kind::Topic,
        Default::Is("konekt-mongodb-source"),
        "The compacted topic in which the place is kept; made when absent.",
    )
    .variables(&["MONGODB_STATE_TOPIC"]),
    field("state_file", Kind::Text, Default::Nothing, "The file in which the place is kept instead.")
        .variables(&["MONGODB_STATE_FILE"]),
    field(
        "save_interval_ms",
        milliseconds(10, DAY_MS),
        Default::Is("1000"),
        "How often the place is kept: what a crash may repeat.",
    )
    .variables(&["MONGODB_SAVE_INTERVAL_MS"]),
];
