//! Settings: how a run behaves and what it says.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Run, name, kind, default, doc)
}

/// Commands that can end by themselves.
const RUNS: Commands =
    Commands::of(&[Command::Consume, Command::Sqlite, Command::SqlServer, Command::Odbc, Command::MongoDb]);

/// Commands that can answer in JSON.
const IN_JSON: Commands = ADMIN.with(&[
    Command::CheckDrivers,
    Command::Errors,
    Command::MessagesStats,
    Command::MessagesShow,
    Command::Check,
    Command::Plan,
    Command::DataInspect,
    Command::DataValidate,
    Command::MongoHealth,
]);

pub(super) const FIELDS: &[Field] = &[
    field(
        "stats_interval_ms",
        milliseconds(100, DAY_MS),
        Default::Is("30000"),
        "Time between lines of statistics on stderr.",
    )
    .variables(&["KAFKA_STATS_INTERVAL_MS"])
    .commands(MOVING.with(&[Command::MongoSource])),
    field(
        "stats_json",
        Kind::Output,
        Default::Nothing,
        "Statistics as JSON lines, into this file (appended); - or no value: stderr, in place of the text.",
    )
    .variables(&["KONEKT_STATS_JSON"]),
    field(
        "heartbeat_file",
        Kind::Text,
        Default::Nothing,
        "A file that is written about once a second, so that others see this process decide.",
    )
    .variables(&["KONEKT_HEARTBEAT_FILE"]),
    field(
        "log",
        Kind::LogFilter,
        Default::Is("info"),
        "What is logged to stderr: error, warn, info, debug, trace, or per module like info,konekt::kafka=debug.",
    )
    .variables(&["KONEKT_LOG"])
    .commands(LOGGING),
    field(
        "log_format",
        Kind::Choice(&["human", "json"]),
        Default::Is("human"),
        "What lines on stderr look like; json is one object a line: time, level, thread, target, message.",
    )
    .variables(&["KONEKT_LOG_FORMAT"])
    .commands(LOGGING),
    field(
        "http",
        Kind::Address,
        Default::Nothing,
        "Address to show health, metrics and a status page at, as 127.0.0.1:8080; off without one.",
    )
    .variables(&["KONEKT_HTTP"]),
    field(
        "http_token",
        Kind::Text,
        Default::Nothing,
        "What whoever pauses or resumes over HTTP must know; needed on any address but loopback.",
    )
    .variables(&["KONEKT_HTTP_TOKEN"])
    .secret(),
    field(
        "until_end",
        Kind::Switch,
        Default::Is("false"),
        "Stop by itself at the ends of the log as seen at the start.",
    )
    .commands(RUNS),
    field("max_messages", count(1, u64::MAX), Default::Nothing, "Stop by itself after this many records.")
        .commands(RUNS),
    field("records", count(1, 5_000_000), Default::Is("100000"), "Orders to produce, after those of earlier runs.")
        .only(&[Command::Demo]),
    field("demo_db", Kind::Text, Default::Is("konekt-demo.db"), "The SQLite file to write into.")
        .only(&[Command::Demo])
        .flagged("db"),
    field("listen", Kind::Address, Default::Is("127.0.0.1:9092"), "The address to listen on.").only(&[Command::Broker]),
    field(
        "new_topics",
        Kind::NewTopics,
        Default::Is("orders:8"),
        "Topics to make, each with its number of partitions.",
    )
    .only(&[Command::Broker])
    .flagged("topics"),
    field("topic", Kind::Text, Default::Required, "The topic of the record.").only(&[Command::MessagesShow]),
    field("partition", count(0, i32::MAX as u64), Default::Required, "The partition of the record.")
        .only(&[Command::MessagesShow]),
    field("offset", count(0, i64::MAX as u64), Default::Required, "The offset of the record.")
        .only(&[Command::MessagesShow]),
    field(
        "target",
        Kind::Choice(&["consume", "sqlite", "sqlserver", "odbc", "mongodb"]),
        Default::Nothing,
        "Where records will go; without it init asks.",
    )
    .only(&[Command::Init])
    .flagged("for"),
    field(
        "man_folder",
        Kind::Text,
        Default::Nothing,
        "The folder to write a page for each command into; made when absent.",
    )
    .only(&[Command::Man])
    .flagged("out"),
    field("force", Kind::Switch, Default::Is("false"), "Write over a file that is there.").only(&[Command::Init]),
    field("json", Kind::Switch, Default::Is("false"), "Print JSON instead of text for people.").commands(IN_JSON),
    field("older_than", Kind::Age, Default::Required, "Remove rows whose processing_timestamp is older than this.")
        .only(&[Command::MessagesPrune]),
    field(
        "dry_run",
        Kind::Switch,
        Default::Is("false"),
        "Only say what would be done; a sink tries it with 1,000 records, and takes it back.",
    )
    .only(&[
        Command::Sqlite,
        Command::SqlServer,
        Command::Odbc,
        Command::MongoDb,
        Command::MessagesPrune,
        Command::DlqReplay,
        Command::Load,
    ]),
];
