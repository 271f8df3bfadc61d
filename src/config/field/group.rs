//! Settings: the consumer group and where reading starts.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Group, name, kind, default, doc)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "group_id",
        Kind::Text,
        Default::Is("konekt"),
        "The consumer group: processes of one group share the partitions. It is part of every record id.",
    )
    .variables(&["KAFKA_GROUP_ID"])
    .commands(MOVING_OR_LOADING.and(POSITIONS)),
    field(
        "auto_offset_reset",
        Kind::Choice(&["earliest", "latest", "error"]),
        Default::Is("earliest"),
        "Where to start a partition that has no position yet.",
    )
    .variables(&["KAFKA_AUTO_OFFSET_RESET"]),
    field(
        "group_instance_id",
        Kind::Text,
        Default::Nothing,
        "A fixed name of this member, so that a short restart moves no partition (static membership).",
    )
    .variables(&["KAFKA_GROUP_INSTANCE_ID"]),
    field(
        "group_protocol",
        Kind::Choice(&["classic", "consumer", "auto"]),
        Default::Is("classic"),
        "How members and coordinator agree: classic, consumer (KIP-848, Kafka 4.0) or auto, the newer if offered.",
    )
    .variables(&["KAFKA_GROUP_PROTOCOL"]),
    field(
        "group_remote_assignor",
        Kind::Text,
        Default::Nothing,
        "Which of the coordinator's assignors to ask for: uniform, range (group_protocol = consumer).",
    )
    .variables(&["KAFKA_GROUP_REMOTE_ASSIGNOR"]),
    field(
        "partition_assignment_strategy",
        Kind::Strategies,
        Default::Is("range,cooperative-sticky"),
        "How the group shares partitions: range, roundrobin, cooperative-sticky; several, best first.",
    )
    .variables(&["KAFKA_PARTITION_ASSIGNMENT_STRATEGY"]),
    field(
        "session_timeout_ms",
        milliseconds(1_000, 1_800_000),
        Default::Is("30000"),
        "Silence after which the group gives this member's partitions to others.",
    )
    .variables(&["KAFKA_SESSION_TIMEOUT_MS"]),
    field(
        "heartbeat_interval_ms",
        milliseconds(100, 600_000),
        Default::Is("10000"),
        "Time between signs of life; below a third of session_timeout_ms is best.",
    )
    .variables(&["KAFKA_HEARTBEAT_INTERVAL_MS"]),
    field(
        "max_poll_interval_ms",
        milliseconds(1_000, DAY_MS),
        Default::Is("300000"),
        "How long a rebalance may take, and work on one batch may stand still.",
    )
    .variables(&["KAFKA_MAX_POLL_INTERVAL_MS"]),
];
