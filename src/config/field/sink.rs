//! Settings: where records go.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Sink, name, kind, default, doc)
}

pub(super) const FIELDS: &[Field] = &[
    field("sqlite_db", Kind::Text, Default::Required, "The SQLite file; a sink makes it when absent.")
        .variables(&["SQLITE_DB"])
        .commands(TO_SQLITE)
        .flagged("db"),
    field(
        "table",
        Kind::Text,
        Default::Is("processed_messages"),
        "The table, or schema.table by ODBC; made when absent.",
    )
    .variables(&["KONEKT_TABLE"])
    .commands(TO_SQL),
    field("format", Kind::Choice(&["text", "json"]), Default::Is("text"), "How records are printed.")
        .variables(&["KONEKT_FORMAT"])
        .only(&[Command::Consume, Command::PositionsShow, Command::DlqList, Command::DlqStats, Command::Config]),
    field(
        "exec",
        Kind::Text,
        Default::Nothing,
        "A shell command that gets each batch as JSON lines on its standard input; exit code 0 means processed.",
    )
    .variables(&["KONEKT_EXEC"])
    .only(&[Command::Consume, Command::Config]),
];
