//! The commands, once: where each stands on the command line and what it is for. `cli::parser` makes clap's tree of them.

/// What `konekt` is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Consume,
    Sqlite,
    SqlServer,
    Odbc,
    MongoDb,
    MongoSource,
    PositionsShow,
    PositionsRewind,
    PositionsForward,
    PositionsForget,
    DlqList,
    DlqShow,
    DlqStats,
    DlqReplay,
    Demo,
    BenchDecode,
    BenchConsume,
    BenchSink,
    BenchEndToEnd,
    Broker,
    Produce,
    Load,
    AdminCluster,
    AdminTopics,
    AdminGroups,
    AdminLag,
    AdminConfigs,
    AdminTopicCreate,
    AdminTopicDelete,
    AdminGroupReset,
    Init,
    Check,
    Plan,
    CheckDrivers,
    MongoHealth,
    Errors,
    Config,
    MessagesStats,
    MessagesShow,
    MessagesPrune,
    DataGenerate,
    DataInspect,
    DataSample,
    DataSplit,
    DataValidate,
    Completions,
    Man,
}

/// A set of commands: those that know a setting.
#[derive(Clone, Copy, Debug)]
pub struct Commands(u128);

impl Commands {
    pub(super) const fn of(commands: &[Command]) -> Commands {
        Commands(0).with(commands)
    }

    /// Those of either set.
    pub(super) const fn and(self, others: Commands) -> Commands {
        Commands(self.0 | others.0)
    }

    pub(super) const fn with(mut self, commands: &[Command]) -> Commands {
        let mut index = 0;
        while index < commands.len() {
            self.0 |= 1 << commands[index] as u32;
            index += 1;
        }
        self
    }

    pub const fn contains(self, command: Command) -> bool {
        self.0 & (1 << command as u32) != 0
    }

    /// In the order of help.
    pub fn iter(self) -> impl Iterator<Item = Command> {
        COMMANDS.iter().map(|entry| entry.command).filter(move |command| self.contains(*command))
    }
}

/// A command's place on the command line and its line in help.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub command: Command,
    /// One word, or its group's words and one of its own: `sink sqlite`.
    pub path: &'static str,
    pub about: &'static str,
}

const fn entry(command: Command, path: &'static str, about: &'static str) -> Entry {
    Entry { command, path, about }
}

/// Every command, in the order of help.
pub const COMMANDS: &[Entry] = &[
    entry(Command::Consume, "consume", "Print records, or hand them to a command (--exec)"),
    entry(Command::Sqlite, "sink sqlite", "Write records into a SQLite file, exactly once"),
    entry(Command::SqlServer, "sink sqlserver", "Write records into SQL Server, exactly once"),
    entry(Command::Odbc, "sink odbc", "Write records into any database with an ODBC driver, exactly once"),
    entry(Command::MongoDb, "sink mongodb", "Write records into MongoDB, exactly once on a replica set"),
    entry(Command::MongoSource, "source mongodb", "Publish MongoDB's changes in Kafka topics, until it is stopped"),
    entry(Command::PositionsShow, "positions show", "Show how far each partition is"),
    entry(Command::PositionsRewind, "positions rewind", "Move positions back, to read records again"),
    entry(Command::PositionsForward, "positions forward", "Move positions ahead, to leave records out"),
    entry(Command::PositionsForget, "positions forget", "Remove positions, to start anew"),
    entry(Command::DlqList, "dlq ls", "List dead letters, one a line"),
    entry(Command::DlqShow, "dlq show", "Show dead letters whole, as JSON lines"),
    entry(Command::DlqStats, "dlq stats", "Count dead letters per topic and class"),
    entry(Command::DlqReplay, "dlq replay", "Try dead letters again"),
    entry(Command::Demo, "demo", "Show it all on this machine, without Kafka"),
    entry(Command::BenchDecode, "bench decode", "Measure decoding alone: fetched bytes into records"),
    entry(Command::BenchConsume, "bench consume", "Measure reading from Kafka, into nothing"),
    entry(Command::BenchSink, "bench sink", "Measure a sink alone, beside what its database takes at best"),
    entry(Command::BenchEndToEnd, "bench end-to-end", "Measure the whole way, from Kafka into a sink"),
    entry(Command::Broker, "broker", "Run the embedded broker, in memory, until Ctrl-C"),
    entry(Command::Produce, "produce", "Write lines of stdin to a topic: text, or records as JSON"),
    entry(Command::Load, "load", "Load files of JSON documents into a database or a topic"),
    entry(Command::AdminCluster, "admin cluster", "Show the brokers and what they lead"),
    entry(Command::AdminTopics, "admin topics", "Show topics; with --topics also their partitions"),
    entry(Command::AdminGroups, "admin groups", "Show groups; with --group also their members"),
    entry(Command::AdminLag, "admin lag", "Show how far groups are behind: records, time, time to catch up"),
    entry(Command::AdminConfigs, "admin configs", "Show the settings of topics or of a broker"),
    entry(Command::AdminTopicCreate, "admin topic create", "Create a topic"),
    entry(
        Command::AdminTopicDelete,
        "admin topic delete",
        "Delete a topic with its records (dry run without --execute)",
    ),
    entry(Command::AdminGroupReset, "admin group reset-offsets", "Move a group's offsets (dry run without --execute)"),
    entry(Command::Init, "init", "Write a commented konekt.toml; asks for what no flag says"),
    entry(Command::Check, "check", "Try brokers, topics, group, database and table before a run; writes nothing"),
    entry(Command::Plan, "plan", "Show the SQL that a sink uses, table definitions included; executes nothing"),
    entry(Command::CheckDrivers, "check-drivers", "Show which ODBC drivers are installed and whether they work"),
    entry(Command::MongoHealth, "mongo-health", "Show whether a MongoDB replica set is healthy; --watch looks again"),
    entry(Command::Errors, "errors", "Explain what a database says: a SQLSTATE, or the database's own number"),
    entry(Command::MessagesStats, "messages stats", "Count a database's rows by partition and status"),
    entry(Command::MessagesShow, "messages show", "Show one record of a database, whole"),
    entry(Command::MessagesPrune, "messages prune", "Remove a database's old rows in small transactions"),
    entry(Command::DataGenerate, "data generate", "Make a data set of a seed: orders, users or wiki pages"),
    entry(Command::DataInspect, "data inspect", "Show the fields of a data set: types, nulls, sizes, different values"),
    entry(Command::DataSample, "data sample", "Draw documents of a data set, each as likely as any other"),
    entry(Command::DataSplit, "data split", "Write a data set as several smaller files"),
    entry(Command::DataValidate, "data validate", "Find what is no JSON document in a data set"),
    entry(Command::Config, "config", "Show the settings that would hold and where they come from"),
    entry(Command::Completions, "completions", "Print the completions of a shell"),
    entry(Command::Man, "man", "Print the manual page, or write one for each command into a folder"),
];

impl Command {
    /// Whether it is one of `konekt admin …`.
    pub fn is_admin(self) -> bool {
        self.is_below("admin ")
    }

    /// Whether it is one of `konekt bench …`.
    pub fn is_bench(self) -> bool {
        self.is_below("bench ")
    }

    fn is_below(self, words: &str) -> bool {
        COMMANDS.iter().any(|entry| entry.command == self && entry.path.starts_with(words))
    }
}

/// The words before the last one of commands with several.
pub const GROUPS: &[(&str, &str)] = &[
    ("sink", "Write records into a database"),
    ("source", "Read a database's changes into Kafka"),
    ("bench", "Measure on this machine, and say which setting to choose"),
    ("admin", "Ask and change the cluster"),
    ("admin topic", "Create and delete topics"),
    ("admin group", "Move a group's offsets"),
    ("positions", "Look at and change the positions that a database keeps"),
    ("dlq", "Look at dead letters and try them again"),
    ("data", "Make data sets, look at them, take them apart"),
    ("messages", "Look at the rows of a database, remove old ones"),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_place_is_taken_once_and_each_group_has_its_line() {
        let mut paths = HashSet::new();
        for entry in COMMANDS {
            assert!(paths.insert(entry.path), "{} twice", entry.path);
            for (end, _) in entry.path.match_indices(' ') {
                let group = &entry.path[..end];
                assert!(GROUPS.iter().any(|(name, _)| *name == group), "group {group} has no line in help");
            }
        }
    }
}
