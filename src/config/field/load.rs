//! Settings of `konekt load`: where documents go and what is done with bad ones.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Run, name, kind, default, doc).only(&[Command::Load])
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "load_to",
        Kind::Choice(&["sqlite", "odbc", "mongodb", "kafka"]),
        Default::Required,
        "Where to: sqlite (--db), odbc (--connection-string, --server), mongodb, kafka (--topic).",
    )
    .flagged("to"),
    field("load_topic", Kind::Topic, Default::Nothing, "The topic to write to; it must be there.")
        .flagged("topic")
        .short('t'),
    field(
        "on_error",
        Kind::Choice(&["reject", "stop"]),
        Default::Is("reject"),
        "What a bad document does: it is kept apart, or nothing behind it is loaded.",
    ),
    field(
        "rejects",
        Kind::Text,
        Default::Is("konekt-load.rejects.jsonl"),
        "The file for bad documents, with file, line and reason.",
    ),
    field(
        "checkpoint",
        Kind::Text,
        Default::Is("konekt-load.checkpoint.json"),
        "The file that keeps how far each file is, where no database does: for kafka, and at-least-once.",
    ),
];
