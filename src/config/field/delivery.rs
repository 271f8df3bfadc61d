//! Settings: what is promised, and how records become batches.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Delivery, name, kind, default, doc)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "delivery",
        Kind::Choice(&["exactly-once", "at-least-once"]),
        Default::Differs { consume: "at-least-once", sink: "exactly-once" },
        "What is promised: exactly-once keeps rows and position in one database transaction.",
    )
    .variables(&["KAFKA_DELIVERY"])
    .commands(MOVING_OR_LOADING),
    field("max_workers", count(1, 1_024), Default::Is("4"), "Threads that write.")
        .variables(&["KAFKA_MAX_WORKERS"])
        .commands(MOVING_OR_LOADING),
    field(
        "partition_workers",
        count(1, 256),
        Default::Is("1"),
        "Key-hash lanes within one partition; order then holds per key. In exactly-once it is 1.",
    )
    .variables(&["KAFKA_PARTITION_WORKERS", "MAX_WORKERS_PER_PARTITION"]),
    field(
        "batch_size",
        count(1, 1_000_000),
        Default::Differs { consume: "50", sink: "1000" },
        "The most records written together.",
    )
    .variables(&["KAFKA_BATCH_SIZE"])
    .commands(MOVING_OR_LOADING),
    field(
        "batch_bytes_max",
        Kind::Bytes { min: KIB, max: GIB },
        Default::Is("16MiB"),
        "The most bytes written together; one larger record still passes, alone.",
    )
    .variables(&["KAFKA_BATCH_BYTES_MAX"])
    .commands(MOVING_OR_LOADING),
    field("batch_timeout_ms", milliseconds(0, 600_000), Default::Is("100"), "The longest a record waits for company.")
        .variables(&["KAFKA_BATCH_TIMEOUT_MS"]),
    field(
        "commit_interval_ms",
        milliseconds(10, 3_600_000),
        Default::Is("5000"),
        "Time between commits of the group's offsets to Kafka.",
    )
    .variables(&["KAFKA_COMMIT_INTERVAL_MS"]),
    field(
        "memory_limit",
        Kind::Bytes { min: 4 * MIB, max: 1024 * GIB },
        Default::Is("256MiB"),
        "Bytes that fetched and waiting records may hold.",
    )
    .variables(&["KONEKT_MEMORY_LIMIT"])
    .commands(MOVING_OR_LOADING),
];
