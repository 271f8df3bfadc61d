//! Settings: what happens when something goes wrong.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Failure, name, kind, default, doc)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "max_retries",
        count(0, 1_000_000),
        Default::Is("3"),
        "Further attempts at a batch that a handler refused, before it counts as bad data.",
    )
    .variables(&["KAFKA_MAX_RETRIES"]),
    field(
        "retry_backoff_ms",
        milliseconds(1, 3_600_000),
        Default::Is("1000"),
        "The first wait before such an attempt; it doubles.",
    )
    .variables(&["KAFKA_RETRY_BACKOFF_MS"]),
    field("error_threshold", count(1, 1_000_000), Default::Is("10"), "Failures in a row that pause a partition.")
        .variables(&["KAFKA_ERROR_THRESHOLD"]),
    field(
        "error_timeout_ms",
        milliseconds(1, DAY_MS),
        Default::Is("60000"),
        "How long such a partition rests before a probe.",
    )
    .variables(&["KAFKA_ERROR_TIMEOUT_MS"]),
    field(
        "dead_letter_table",
        Kind::Switch,
        Default::Is("false"),
        "Keep records that cannot be written as rows with status FAILED, if the table takes them so.",
    )
    .variables(&["KONEKT_DEAD_LETTER_TABLE"])
    .commands(TO_SQL.with(&[Command::MongoDb])),
    field("dead_letter_topic", Kind::Text, Default::Nothing, "Send records that cannot be written to this topic.")
        .variables(&["KAFKA_DEAD_LETTER_TOPIC"])
        .commands(MOVING.and(DLQ)),
    field(
        "dead_letter_file",
        Kind::Text,
        Default::Nothing,
        "Append them to this file, as JSON lines; with table or topic: only those that these refuse.",
    )
    .variables(&["KONEKT_DEAD_LETTER_FILE"])
    .commands(MOVING_OR_LOADING.and(DLQ)),
    field(
        "dead_letter_share_max",
        Kind::Integer { min: 0, max: 100, unit: "%" },
        Default::Is("10"),
        "Of the last records, the share that may be dead letters before the table is held to be wrong.",
    )
    .variables(&["KONEKT_DEAD_LETTER_SHARE_MAX"])
    .commands(MOVING_OR_LOADING),
    field(
        "message_timeout_seconds",
        Kind::Integer { min: 1, max: 86_400, unit: "s" },
        Default::Is("300"),
        "A worker that waits for its sink or handler longer than this is reported.",
    )
    .variables(&["KAFKA_MESSAGE_TIMEOUT_SECONDS"]),
    field(
        "shutdown_timeout_ms",
        milliseconds(0, 3_600_000),
        Default::Is("30000"),
        "Time to finish what is in flight after the first signal.",
    )
    .variables(&["KONEKT_SHUTDOWN_TIMEOUT_MS"]),
];
