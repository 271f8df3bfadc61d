//! Settings of `konekt produce`: where records go and what lines mean. Letters are kcat's.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Produce, name, kind, default, doc).only(&[Command::Produce])
}

pub(super) const FIELDS: &[Field] = &[
    field("produce_topic", Kind::Topic, Default::Required, "The topic to write to; it must be there.")
        .flagged("topic")
        .short('t'),
    field(
        "produce_partition",
        count(0, i32::MAX as u64),
        Default::Nothing,
        "The partition for every record; else the line's, the key's hash, or in turn.",
    )
    .flagged("partition")
    .short('p'),
    field(
        "input_format",
        Kind::Choice(&["text", "json"]),
        Default::Is("text"),
        "What a line is: a value, or a record as consume --format json prints it.",
    )
    .flagged("format"),
    field(
        "key_separator",
        Kind::Separator,
        Default::Nothing,
        "What stands between key and value in a line of text, like : or \\t.",
    )
    .short('K'),
    field("empty_is_null", Kind::Switch, Default::Is("false"), "Empty keys and values of text lines are null.")
        .short('Z'),
    field("header", Kind::Pairs, Default::Nothing, "A header for every record, behind its own; may be repeated.")
        .short('H'),
    field(
        "compression",
        Kind::Choice(&["none", "gzip", "snappy", "lz4", "zstd"]),
        Default::Is("none"),
        "How batches are compressed.",
    )
    .short('z')
    .only(&[Command::Produce, Command::Load, Command::MongoSource]),
    field("linger_ms", milliseconds(0, 600_000), Default::Is("5"), "How long a batch waits for more records."),
    field(
        "delivery_timeout_ms",
        milliseconds(100, DAY_MS),
        Default::Is("120000"),
        "How long a record is tried before it is given up.",
    ),
];
