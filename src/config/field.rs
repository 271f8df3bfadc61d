//! Every setting, once, as data.
//!
//! From [`FIELDS`] come the command line's flags and help (`cli::parser`), the keys of konekt.toml and the environment
//! variables ([`super::layers`]), the checks ([`super::Settings`]), what `konekt config` prints and README's table
//! (`table.rs`). Names are those of the original Python system where it had the setting.

use super::value::Kind;

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its key in konekt.toml and its name in messages.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What holds when nobody says anything.
    pub default: Default,
    /// One sentence for help and README.
    pub doc: &'static str,
    /// Under which heading it stands.
    pub section: Section,
    /// The environment variables that set it, the first of them preferred. None: the setting belongs to one run, so
    /// only a flag sets it, not konekt.toml.
    pub variables: &'static [&'static str],
    /// Whether its value may never be shown.
    pub secret: bool,
    /// The commands that know it.
    pub commands: &'static [Command],
    flag: Option<&'static str>,
}

impl Field {
    /// The setting called `name`.
    pub fn named(name: &str) -> Option<&'static Field> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// The long flag, without dashes in front.
    pub fn flag(&self) -> String {
        self.flag.map_or_else(|| self.name.replace('_', "-"), str::to_owned)
    }

    /// Whether konekt.toml and the environment may set it.
    pub fn persistent(&self) -> bool {
        !self.variables.is_empty()
    }

    /// Whether it is part of `command`.
    pub fn belongs_to(&self, command: Command) -> bool {
        self.commands.contains(&command)
    }

    const fn new(section: Section, name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
        Field { name, kind, default, doc, section, variables: &[], secret: false, commands: MOVING, flag: None }
    }

    const fn variables(self, variables: &'static [&'static str]) -> Field {
        Field { variables, ..self }
    }

    const fn commands(self, commands: &'static [Command]) -> Field {
        Field { commands, ..self }
    }

    const fn flagged(self, flag: &'static str) -> Field {
        Field { flag: Some(flag), ..self }
    }
}

/// What a setting is when no source names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// This, written as a person would.
    Is(&'static str),
    /// It depends on the command: `consume`, or a database sink.
    Differs { consume: &'static str, sink: &'static str },
    /// Nothing; the setting is optional.
    Nothing,
    /// There is none: somebody has to say it.
    Required,
}

impl Default {
    /// The default for a command.
    pub fn of(self, command: Command) -> Option<&'static str> {
        match self {
            Default::Is(text) => Some(text),
            Default::Differs { consume, .. } if command == Command::Consume => Some(consume),
            Default::Differs { sink, .. } => Some(sink),
            Default::Nothing | Default::Required => None,
        }
    }
}

/// A heading in help and README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Kafka,
    Group,
    Delivery,
    Failure,
    Sink,
    Run,
}

impl Section {
    /// All of them, in the order of help and README.
    pub const ALL: [Section; 6] =
        [Section::Kafka, Section::Group, Section::Delivery, Section::Failure, Section::Sink, Section::Run];

    /// The heading's text.
    pub fn title(self) -> &'static str {
        match self {
            Section::Kafka => "Kafka",
            Section::Group => "Consumer group",
            Section::Delivery => "Delivery and batches",
            Section::Failure => "Failures",
            Section::Sink => "Sink",
            Section::Run => "Run",
        }
    }
}

/// What `konekt` is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print records, or hand them to a command.
    Consume,
    /// Write records into a SQLite file.
    Sqlite,
    /// Show it all on a machine without Kafka.
    Demo,
    /// Run the embedded broker.
    Broker,
    /// Show the settings that would hold.
    Config,
    /// Write a shell's completions.
    Completions,
}

/// Commands that move records.
const MOVING: &[Command] = &[Command::Consume, Command::Sqlite, Command::Config];
const TO_SQLITE: &[Command] = &[Command::Sqlite, Command::Config];
const LOGGING: &[Command] = &[Command::Consume, Command::Sqlite, Command::Demo, Command::Broker, Command::Config];

const DAY_MS: u64 = 24 * 3_600_000;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

const fn milliseconds(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, unit: "ms" }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max, unit: "" }
}

/// The settings, in the order of help, `konekt config` and README.
pub const FIELDS: &[Field] = &[
    Field::new(
        Section::Kafka,
        "bootstrap_servers",
        Kind::Addresses,
        Default::Is("localhost:9092"),
        "Brokers to ask first, as host:port; one that answers is enough.",
    )
    .variables(&["KAFKA_BOOTSTRAP_SERVERS"]),
    Field::new(
        Section::Kafka,
        "topics",
        Kind::Topics,
        Default::Required,
        "Topics to read: names with commas between, or one pattern between slashes, like /orders-.*/.",
    )
    .variables(&["KAFKA_TOPICS"]),
    Field::new(
        Section::Kafka,
        "client",
        Kind::Choice(&["native"]),
        Default::Is("native"),
        "The Kafka client to read with.",
    )
    .variables(&["KAFKA_CLIENT"]),
    Field::new(
        Section::Kafka,
        "client_id",
        Kind::Text,
        Default::Is("konekt"),
        "The name that brokers see in their logs and quotas.",
    )
    .variables(&["KAFKA_CLIENT_ID"]),
    Field::new(
        Section::Kafka,
        "isolation_level",
        Kind::Choice(&["read_committed", "read_uncommitted"]),
        Default::Is("read_committed"),
        "Whether records of open and aborted transactions are read.",
    )
    .variables(&["KAFKA_ISOLATION_LEVEL"]),
    Field::new(
        Section::Kafka,
        "fetch_min_bytes",
        Kind::Bytes { min: 1, max: 64 * MIB },
        Default::Is("1"),
        "How much a broker waits for before it answers a fetch.",
    )
    .variables(&["KAFKA_FETCH_MIN_BYTES"]),
    Field::new(
        Section::Kafka,
        "fetch_max_wait_ms",
        milliseconds(0, 60_000),
        Default::Is("500"),
        "How long a broker waits for fetch_min_bytes.",
    )
    .variables(&["KAFKA_FETCH_MAX_WAIT_MS"]),
    Field::new(
        Section::Kafka,
        "fetch_max_bytes",
        Kind::Bytes { min: KIB, max: GIB },
        Default::Is("8MiB"),
        "The most bytes of one fetch; one larger batch still gets through.",
    )
    .variables(&["KAFKA_FETCH_MAX_BYTES"]),
    Field::new(
        Section::Kafka,
        "max_partition_fetch_bytes",
        Kind::Bytes { min: KIB, max: GIB },
        Default::Is("1MiB"),
        "The most bytes of one partition in one fetch; one larger batch still gets through.",
    )
    .variables(&["KAFKA_MAX_PARTITION_FETCH_BYTES"]),
    Field::new(
        Section::Kafka,
        "connect_timeout_ms",
        milliseconds(100, 600_000),
        Default::Is("10000"),
        "How long one address may take to accept a connection.",
    )
    .variables(&["KAFKA_CONNECT_TIMEOUT_MS"]),
    Field::new(
        Section::Kafka,
        "request_timeout_ms",
        milliseconds(1_000, 600_000),
        Default::Is("30000"),
        "How long a broker may take to answer before the connection counts as dead.",
    )
    .variables(&["KAFKA_REQUEST_TIMEOUT_MS"]),
    Field::new(
        Section::Kafka,
        "metadata_max_age_ms",
        milliseconds(100, 86_400_000),
        Default::Is("300000"),
        "How soon new topics and partitions are noticed; trouble is looked into at once.",
    )
    .variables(&["KAFKA_METADATA_MAX_AGE_MS"]),
    Field::new(
        Section::Group,
        "group_id",
        Kind::Text,
        Default::Is("konekt"),
        "The consumer group: processes of one group share the partitions. It is part of every record id.",
    )
    .variables(&["KAFKA_GROUP_ID"]),
    Field::new(
        Section::Group,
        "auto_offset_reset",
        Kind::Choice(&["earliest", "latest", "error"]),
        Default::Is("earliest"),
        "Where to start a partition that has no position yet.",
    )
    .variables(&["KAFKA_AUTO_OFFSET_RESET"]),
    Field::new(
        Section::Group,
        "group_instance_id",
        Kind::Text,
        Default::Nothing,
        "A fixed name of this member, so that a short restart moves no partition (static membership).",
    )
    .variables(&["KAFKA_GROUP_INSTANCE_ID"]),
    Field::new(
        Section::Group,
        "partition_assignment_strategy",
        Kind::Strategies,
        Default::Is("range,cooperative-sticky"),
        "How the group shares partitions: range, roundrobin, cooperative-sticky; several, best first.",
    )
    .variables(&["KAFKA_PARTITION_ASSIGNMENT_STRATEGY"]),
    Field::new(
        Section::Group,
        "session_timeout_ms",
        milliseconds(1_000, 1_800_000),
        Default::Is("30000"),
        "Silence after which the group gives this member's partitions to others.",
    )
    .variables(&["KAFKA_SESSION_TIMEOUT_MS"]),
    Field::new(
        Section::Group,
        "heartbeat_interval_ms",
        milliseconds(100, 600_000),
        Default::Is("10000"),
        "Time between signs of life; below a third of session_timeout_ms is best.",
    )
    .variables(&["KAFKA_HEARTBEAT_INTERVAL_MS"]),
    Field::new(
        Section::Group,
        "max_poll_interval_ms",
        milliseconds(1_000, DAY_MS),
        Default::Is("300000"),
        "How long a rebalance may take, and work on one batch may stand still.",
    )
    .variables(&["KAFKA_MAX_POLL_INTERVAL_MS"]),
    Field::new(
        Section::Delivery,
        "delivery",
        Kind::Choice(&["exactly-once", "at-least-once"]),
        Default::Differs { consume: "at-least-once", sink: "exactly-once" },
        "What is promised: exactly-once keeps rows and position in one database transaction.",
    )
    .variables(&["KAFKA_DELIVERY"]),
    Field::new(Section::Delivery, "max_workers", count(1, 1_024), Default::Is("4"), "Threads that write.")
        .variables(&["KAFKA_MAX_WORKERS"]),
    Field::new(
        Section::Delivery,
        "partition_workers",
        count(1, 256),
        Default::Is("1"),
        "Key-hash lanes within one partition; order then holds per key. In exactly-once it is 1.",
    )
    .variables(&["KAFKA_PARTITION_WORKERS", "MAX_WORKERS_PER_PARTITION"]),
    Field::new(
        Section::Delivery,
        "batch_size",
        count(1, 1_000_000),
        Default::Differs { consume: "50", sink: "1000" },
        "The most records written together.",
    )
    .variables(&["KAFKA_BATCH_SIZE"]),
    Field::new(
        Section::Delivery,
        "batch_bytes_max",
        Kind::Bytes { min: KIB, max: GIB },
        Default::Is("16MiB"),
        "The most bytes written together; one larger record still passes, alone.",
    )
    .variables(&["KAFKA_BATCH_BYTES_MAX"]),
    Field::new(
        Section::Delivery,
        "batch_timeout_ms",
        milliseconds(0, 600_000),
        Default::Is("100"),
        "The longest a record waits for company.",
    )
    .variables(&["KAFKA_BATCH_TIMEOUT_MS"]),
    Field::new(
        Section::Delivery,
        "commit_interval_ms",
        milliseconds(10, 3_600_000),
        Default::Is("5000"),
        "Time between commits of the group's offsets to Kafka.",
    )
    .variables(&["KAFKA_COMMIT_INTERVAL_MS"]),
    Field::new(
        Section::Delivery,
        "memory_limit",
        Kind::Bytes { min: 4 * MIB, max: 1024 * GIB },
        Default::Is("256MiB"),
        "Bytes that fetched and waiting records may hold.",
    )
    .variables(&["KONEKT_MEMORY_LIMIT"]),
    Field::new(
        Section::Failure,
        "max_retries",
        count(0, 1_000_000),
        Default::Is("3"),
        "Further attempts at a batch that a handler refused, before it counts as bad data.",
    )
    .variables(&["KAFKA_MAX_RETRIES"]),
    Field::new(
        Section::Failure,
        "retry_backoff_ms",
        milliseconds(1, 3_600_000),
        Default::Is("1000"),
        "The first wait before such an attempt; it doubles.",
    )
    .variables(&["KAFKA_RETRY_BACKOFF_MS"]),
    Field::new(
        Section::Failure,
        "error_threshold",
        count(1, 1_000_000),
        Default::Is("10"),
        "Failures in a row that pause a partition.",
    )
    .variables(&["KAFKA_ERROR_THRESHOLD"]),
    Field::new(
        Section::Failure,
        "error_timeout_ms",
        milliseconds(1, DAY_MS),
        Default::Is("60000"),
        "How long such a partition rests before a probe.",
    )
    .variables(&["KAFKA_ERROR_TIMEOUT_MS"]),
    Field::new(
        Section::Failure,
        "shutdown_timeout_ms",
        milliseconds(0, 3_600_000),
        Default::Is("30000"),
        "Time to finish what is in flight after the first signal.",
    )
    .variables(&["KONEKT_SHUTDOWN_TIMEOUT_MS"]),
    Field::new(Section::Sink, "sqlite_db", Kind::Text, Default::Required, "The SQLite file; it is made when absent.")
        .variables(&["SQLITE_DB"])
        .commands(TO_SQLITE)
        .flagged("db"),
    Field::new(
        Section::Sink,
        "table",
        Kind::Text,
        Default::Is("processed_messages"),
        "The table; it is made when absent.",
    )
    .variables(&["KONEKT_TABLE"])
    .commands(TO_SQLITE),
    Field::new(
        Section::Sink,
        "format",
        Kind::Choice(&["text", "json"]),
        Default::Is("text"),
        "How records are printed.",
    )
    .variables(&["KONEKT_FORMAT"])
    .commands(&[Command::Consume, Command::Config]),
    Field::new(
        Section::Sink,
        "exec",
        Kind::Text,
        Default::Nothing,
        "A shell command that gets each batch as JSON lines on its standard input; exit code 0 means processed.",
    )
    .variables(&["KONEKT_EXEC"])
    .commands(&[Command::Consume, Command::Config]),
    Field::new(
        Section::Run,
        "stats_interval_ms",
        milliseconds(100, DAY_MS),
        Default::Is("30000"),
        "Time between lines of statistics on stderr.",
    )
    .variables(&["KAFKA_STATS_INTERVAL_MS"]),
    Field::new(
        Section::Run,
        "stats_json",
        Kind::Output,
        Default::Nothing,
        "Statistics as JSON lines, into this file (appended); - or no value: stderr, in place of the text.",
    )
    .variables(&["KONEKT_STATS_JSON"]),
    Field::new(
        Section::Run,
        "log",
        Kind::LogFilter,
        Default::Is("info"),
        "What is logged to stderr: error, warn, info, debug, trace, or per module like info,konekt::kafka=debug.",
    )
    .variables(&["KONEKT_LOG"])
    .commands(LOGGING),
    Field::new(
        Section::Run,
        "until_end",
        Kind::Switch,
        Default::Is("false"),
        "Stop by itself at the ends of the log as seen at the start.",
    )
    .commands(&[Command::Consume, Command::Sqlite]),
    Field::new(
        Section::Run,
        "max_messages",
        count(1, u64::MAX),
        Default::Nothing,
        "Stop by itself after this many records.",
    )
    .commands(&[Command::Consume, Command::Sqlite]),
    Field::new(
        Section::Run,
        "records",
        count(1, 5_000_000),
        Default::Is("100000"),
        "Orders to produce, after those of earlier runs.",
    )
    .commands(&[Command::Demo]),
    Field::new(Section::Run, "demo_db", Kind::Text, Default::Is("konekt-demo.db"), "The SQLite file to write into.")
        .commands(&[Command::Demo])
        .flagged("db"),
    Field::new(Section::Run, "listen", Kind::Address, Default::Is("127.0.0.1:9092"), "The address to listen on.")
        .commands(&[Command::Broker]),
    Field::new(
        Section::Run,
        "new_topics",
        Kind::NewTopics,
        Default::Is("orders:8"),
        "Topics to make, each with its number of partitions.",
    )
    .commands(&[Command::Broker])
    .flagged("topics"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_flags_and_variables_are_unique() {
        let mut seen = HashSet::new();
        for field in FIELDS {
            assert!(seen.insert(field.name.to_owned()), "setting {} twice", field.name);
            for variable in field.variables {
                assert!(seen.insert((*variable).to_owned()), "variable {variable} twice");
            }
            for command in field.commands {
                let flag = format!("{command:?} --{}", field.flag());
                assert!(seen.insert(flag.clone()), "{flag} twice");
            }
        }
    }

    #[test]
    fn every_setting_is_described_in_one_sentence_and_known_to_a_command() {
        for field in FIELDS {
            assert!(field.doc.ends_with('.') && field.doc.len() <= 110, "{}: {:?}", field.name, field.doc);
            assert!(!field.commands.is_empty(), "{} belongs to no command", field.name);
        }
    }

    #[test]
    fn every_default_is_a_value_that_would_be_accepted() {
        for field in FIELDS {
            for command in field.commands {
                if let Some(text) = field.default.of(*command) {
                    field.kind.parse(text).unwrap_or_else(|fault| panic!("{} = {text}: {fault}", field.name));
                }
            }
        }
    }
}
