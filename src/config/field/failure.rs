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
        "shutdown_timeout_ms",
        milliseconds(0, 3_600_000),
        Default::Is("30000"),
        "Time to finish what is in flight after the first signal.",
    )
    .variables(&["KONEKT_SHUTDOWN_TIMEOUT_MS"]),
];
