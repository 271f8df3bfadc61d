//! The commands, once: where each stands on the command line and what it is for. `cli::parser` makes clap's tree of them.

/// What `konekt` is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Consume,
    Sqlite,
    SqlServer,
    Odbc,
    Demo,
    Broker,
    Config,
    Completions,
}

/// A command's place on the command line and its line in help.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub command: Command,
    /// One word, or a group's word and one of its own: `sink sqlite`.
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
    entry(Command::Demo, "demo", "Show it all on this machine, without Kafka"),
    entry(Command::Broker, "broker", "Run the embedded broker, in memory, until Ctrl-C"),
    entry(Command::Config, "config", "Show the settings that would hold and where they come from"),
    entry(Command::Completions, "completions", "Print the completions of a shell"),
];

/// The first words of commands with two.
pub const GROUPS: &[(&str, &str)] = &[("sink", "Write records into a database")];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_place_is_taken_once_and_each_group_has_its_line() {
        let mut paths = HashSet::new();
        for entry in COMMANDS {
            assert!(paths.insert(entry.path), "{} twice", entry.path);
            if let Some((group, _)) = entry.path.split_once(' ') {
                assert!(GROUPS.iter().any(|(name, _)| *name == group), "group {group} has no line in help");
            }
        }
    }
}
