//! Settings: how brokers are reached and read.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Kafka, name, kind, default, doc)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "bootstrap_servers",
        Kind::Addresses,
        Default::Is("localhost:9092"),
        "Brokers to ask first, as host:port; one that answers is enough.",
    )
    .variables(&["KAFKA_BOOTSTRAP_SERVERS"])
    .commands(ON_KAFKA),
    field(
        "topics",
        Kind::Topics,
        Default::Required,
        "Topics to read: names with commas between, or one pattern between slashes, like /orders-.*/.",
    )
    .variables(&["KAFKA_TOPICS"]),
    field(
        "client",
        Kind::Choice(&["native", "kafka", "confluent"]),
        Default::Is("native"),
        "The Kafka client to read with: our own, the kafka crate (Kafka up to 3.9), or librdkafka.",
    )
    .variables(&["KAFKA_CLIENT"]),
    field("client_id", Kind::Text, Default::Is("konekt"), "The name that brokers see in their logs and quotas.")
        .variables(&["KAFKA_CLIENT_ID"])
        .commands(TO_BROKERS),
    field(
        "client_rack",
        Kind::Text,
        Default::Nothing,
        "Where this client is, as brokers name racks: a replica in the same rack is read instead of the leader.",
    )
    .variables(&["KAFKA_CLIENT_RACK"]),
    field(
        "isolation_level",
        Kind::Choice(&["read_committed", "read_uncommitted"]),
        Default::Is("read_committed"),
        "Whether records of open and aborted transactions are read.",
    )
    .variables(&["KAFKA_ISOLATION_LEVEL"]),
    field(
        "fetch_min_bytes",
        Kind::Bytes { min: 1, max: 64 * MIB },
        Default::Is("1"),
        "How much a broker waits for before it answers a fetch.",
    )
    .variables(&["KAFKA_FETCH_MIN_BYTES"]),
    field(
        "fetch_max_wait_ms",
        milliseconds(0, 60_000),
        Default::Is("500"),
        "How long a broker waits for fetch_min_bytes.",
    )
    .variables(&["KAFKA_FETCH_MAX_WAIT_MS"]),
    field(
        "fetch_max_bytes",
        Kind::Bytes { min: KIB, max: GIB },
        Default::Is("8MiB"),
        "The most bytes of one fetch; one larger batch still gets through.",
    )
    .variables(&["KAFKA_FETCH_MAX_BYTES"]),
    field(
        "max_partition_fetch_bytes",
        Kind::Bytes { min: KIB, max: GIB },
        Default::Is("1MiB"),
        "The most bytes of one partition in one fetch; one larger batch still gets through.",
    )
    .variables(&["KAFKA_MAX_PARTITION_FETCH_BYTES"]),
    field(
        "connect_timeout_ms",
        milliseconds(100, 600_000),
        Default::Is("10000"),
        "How long one address may take to accept a connection.",
    )
    .variables(&["KAFKA_CONNECT_TIMEOUT_MS"])
    .commands(TO_BROKERS),
    field(
        "request_timeout_ms",
        milliseconds(1_000, 600_000),
        Default::Is("30000"),
        "How long a broker may take to answer before the connection counts as dead.",
    )
    .variables(&["KAFKA_REQUEST_TIMEOUT_MS"])
    .commands(TO_BROKERS),
    field(
        "metadata_max_age_ms",
        milliseconds(100, 86_400_000),
        Default::Is("300000"),
        "How soon new topics and partitions are noticed; trouble is looked into at once.",
    )
    .variables(&["KAFKA_METADATA_MAX_AGE_MS"]),
];
