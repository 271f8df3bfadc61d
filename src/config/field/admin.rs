//! Settings of `konekt admin`: what to ask about and what to change.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str, commands: &[Command]) -> Field {
    Field::new(Section::Admin, name, kind, default, doc).only(commands)
}

const ONE_TOPIC: &[Command] = &[Command::AdminTopicCreate, Command::AdminTopicDelete];
const CREATING: &[Command] = &[Command::AdminTopicCreate];
const RESETTING: &[Command] = &[Command::AdminGroupReset];

pub(super) const FIELDS: &[Field] = &[
    field("admin_topic", Kind::Topic, Default::Required, "The topic.", ONE_TOPIC).positional(),
    field(
        "admin_groups",
        Kind::Names,
        Default::Nothing,
        "Groups, with commas between; without it all.",
        &[Command::AdminGroups, Command::AdminLag],
    )
    .flagged("group"),
    field("reset_group", Kind::Text, Default::Required, "The group; it may have no members.", RESETTING)
        .flagged("group"),
    field(
        "admin_topics",
        Kind::Topics,
        Default::Nothing,
        "Topics: names with commas between, or one /pattern/.",
        &[Command::AdminTopics, Command::AdminLag, Command::AdminConfigs],
    )
    .flagged("topics"),
    field(
        "reset_topics",
        Kind::Topics,
        Default::Required,
        "Topics whose offsets move: names with commas between, or one /pattern/.",
        RESETTING,
    )
    .flagged("topics"),
    field("reset_partition", count(0, i32::MAX as u64), Default::Nothing, "Only this partition of them.", RESETTING)
        .flagged("partition"),
    field(
        "reset_to",
        Kind::Target,
        Default::Required,
        "Where to: earliest, latest, an offset, a shift (+100, -100) or a UTC time.",
        RESETTING,
    )
    .flagged("to"),
    field(
        "new_partitions",
        count(1, 100_000),
        Default::Nothing,
        "How many partitions; else the broker's default.",
        CREATING,
    )
    .flagged("partitions"),
    field(
        "replication_factor",
        count(1, i16::MAX as u64),
        Default::Nothing,
        "How many brokers hold each partition; else the broker's default.",
        CREATING,
    ),
    field(
        "topic_settings",
        Kind::Pairs,
        Default::Nothing,
        "A setting of the topic, like cleanup.policy=compact; may be repeated.",
        CREATING,
    )
    .flagged("set"),
    field("broker", count(0, i32::MAX as u64), Default::Nothing, "A broker, by its node id.", &[Command::AdminConfigs]),
    field(
        "all",
        Kind::Switch,
        Default::Is("false"),
        "Also settings that nobody has changed.",
        &[Command::AdminConfigs],
    ),
    field(
        "interval_ms",
        milliseconds(0, 3_600_000),
        Default::Is("1000"),
        "Time between the two looks that give rates; 0 looks once and gives none.",
        &[Command::AdminLag],
    ),
    field(
        "watch",
        Kind::Switch,
        Default::Is("false"),
        "Go on until Ctrl-C, a table each interval.",
        &[Command::AdminLag, Command::MongoHealth],
    ),
    field(
        "execute",
        Kind::Switch,
        Default::Is("false"),
        "Do it; without it only show what would be done.",
        &[Command::AdminTopicDelete, Command::AdminGroupReset],
    ),
];
