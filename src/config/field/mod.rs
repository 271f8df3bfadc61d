//! Every setting, once, as data.
//!
//! From [`fields`] come the command line's flags and help (`cli::parser`), the keys of konekt.toml and the environment
//! variables ([`super::layers`]), the checks ([`super::Settings`]), what `konekt config` prints (`table.rs`) and the
//! tables of the documentation (`cli::reference`). Names are those of the original Python system where it had the
//! setting.

mod admin;
mod bench;
mod data;
mod delivery;
mod drivers;
mod failure;
mod group;
mod kafka;
mod load;
mod mongo_source;
mod mongodb;
mod odbc;
mod operate;
mod produce;
mod run;
mod security;
mod sink;

pub use super::command::{Command, Commands};
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
    /// One sentence for help and documentation.
    pub doc: &'static str,
    /// Under which heading it stands.
    pub section: Section,
    /// The environment variables that set it, the first of them preferred. None: the setting belongs to one run, so
    /// only a flag sets it, not konekt.toml.
    pub variables: &'static [&'static str],
    /// Whether its value may never be shown.
    pub secret: bool,
    /// The commands that know it.
    pub commands: Commands,
    /// Whether it is given by its place on the command line instead of by a flag.
    pub positional: bool,
    flag: Option<&'static str>,
    /// The flag's one letter, where it has one.
    pub short: Option<char>,
}

/// The settings, in the order of help, `konekt config` and documentation.
pub fn fields() -> impl Iterator<Item = &'static Field> + Clone {
    [
        kafka::FIELDS,
        security::FIELDS,
        group::FIELDS,
        delivery::FIELDS,
        failure::FIELDS,
        sink::FIELDS,
        odbc::FIELDS,
        mongodb::FIELDS,
        mongo_source::FIELDS,
        run::FIELDS,
        operate::FIELDS,
        produce::FIELDS,
        bench::FIELDS,
        admin::FIELDS,
        drivers::FIELDS,
        data::FIELDS,
        load::FIELDS,
    ]
    .into_iter()
    .flatten()
}

impl Field {
    /// The setting called `name`.
    pub fn named(name: &str) -> Option<&'static Field> {
        fields().find(|field| field.name == name)
    }

    /// The long flag, without dashes in front.
    pub fn flag(&self) -> String {
        self.flag.map_or_else(|| self.name.replace('_', "-"), str::to_owned)
    }

    /// How the command line names it: `--batch-size`, or what help calls an argument without a flag.
    pub fn argument(&self) -> String {
        if self.positional { self.name.to_uppercase() } else { format!("--{}", self.flag()) }
    }

    /// What a person knows it by: who can give it on the command line alone has never seen its name.
    pub fn known_as(&self) -> String {
        if self.persistent() { self.name.to_owned() } else { self.argument() }
    }

    /// Whether konekt.toml and the environment may set it.
    pub fn persistent(&self) -> bool {
        !self.variables.is_empty()
    }

    /// Whether it is part of `command`.
    pub fn belongs_to(&self, command: Command) -> bool {
        self.commands.contains(command)
    }

    /// Whether `command` does not work without it. `konekt config` shows what is missing and does not complain about it,
    /// `konekt init` asks for it; a command that looks at any database needs one of several.
    pub fn is_required_by(&self, command: Command) -> bool {
        let one_of_several = self.section == Section::Sink && ANY_DATABASE.contains(command);
        let shows = matches!(command, Command::Config | Command::Init);
        self.default == Default::Required && self.belongs_to(command) && !shows && !one_of_several
    }

    const fn new(section: Section, name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
        Field {
            name,
            kind,
            default,
            doc,
            section,
            variables: &[],
            secret: false,
            commands: MOVING,
            positional: false,
            flag: None,
            short: None,
        }
    }

    const fn variables(self, variables: &'static [&'static str]) -> Field {
        Field { variables, ..self }
    }

    const fn commands(self, commands: Commands) -> Field {
        Field { commands, ..self }
    }

    const fn only(self, commands: &[Command]) -> Field {
        self.commands(Commands::of(commands))
    }

    const fn short(self, letter: char) -> Field {
        Field { short: Some(letter), ..self }
    }

    const fn secret(self) -> Field {
        Field { secret: true, ..self }
    }

    const fn positional(self) -> Field {
        Field { positional: true, ..self }
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

/// A heading in help and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Kafka,
    Security,
    Group,
    Delivery,
    Failure,
    Sink,
    MongoDb,
    Run,
    Produce,
    Bench,
    Admin,
}

impl Section {
    /// All of them, in the order of help and documentation.
    pub const ALL: [Section; 11] = [
        Section::Produce,
        Section::Bench,
        Section::Admin,
        Section::Kafka,
        Section::Security,
        Section::Group,
        Section::Delivery,
        Section::Failure,
        Section::Sink,
        Section::MongoDb,
        Section::Run,
    ];

    /// The heading's text.
    pub fn title(self) -> &'static str {
        match self {
            Section::Kafka => "Kafka",
            Section::Security => "Security",
            Section::Group => "Consumer group",
            Section::Delivery => "Delivery and batches",
            Section::Failure => "Failures",
            Section::Sink => "Sink",
            Section::MongoDb => "MongoDB",
            Section::Run => "Run",
            Section::Produce => "Producing",
            Section::Bench => "What to measure",
            Section::Admin => "What to show or change",
        }
    }
}

/// Commands that move records, or prepare that.
const MOVING: Commands = Commands::of(&[
    Command::Consume,
    Command::Sqlite,
    Command::SqlServer,
    Command::Odbc,
    Command::MongoDb,
    Command::Init,
    Command::Check,
    Command::Config,
]);

/// The same, and the one that moves documents out of files.
const MOVING_OR_LOADING: Commands = MOVING.with(&[Command::Load]);

/// Commands that look at a database's rows.
const MESSAGES: Commands = Commands::of(&[Command::MessagesStats, Command::MessagesShow, Command::MessagesPrune]);
/// Commands that look at a database.
const LOOKING: Commands = MESSAGES.and(OPERATING);
/// Commands that take whichever database is named.
const ANY_DATABASE: Commands = LOOKING.with(&[Command::Init, Command::Check, Command::Plan, Command::Load]);
const TO_SQLITE: Commands = ANY_DATABASE.with(&[Command::Sqlite, Command::Config]);
const TO_SQL: Commands = TO_SQLITE.with(&[Command::SqlServer, Command::Odbc, Command::CheckDrivers]);
const POSITIONS: Commands = Commands::of(&[
    Command::PositionsShow,
    Command::PositionsRewind,
    Command::PositionsForward,
    Command::PositionsForget,
]);
const DLQ: Commands = Commands::of(&[Command::DlqList, Command::DlqShow, Command::DlqStats, Command::DlqReplay]);
/// Commands that look after what others have moved.
const OPERATING: Commands = POSITIONS.and(DLQ);
/// Commands that ask and change the cluster.
const ADMIN: Commands = Commands::of(&[
    Command::AdminCluster,
    Command::AdminTopics,
    Command::AdminGroups,
    Command::AdminLag,
    Command::AdminConfigs,
    Command::AdminTopicCreate,
    Command::AdminTopicDelete,
    Command::AdminGroupReset,
]);
/// Commands that speak to brokers.
const ON_KAFKA: Commands =
    MOVING.and(OPERATING).and(ADMIN).with(&[Command::Produce, Command::Load, Command::MongoSource]);
/// Commands that measure.
const BENCH: Commands =
    Commands::of(&[Command::BenchDecode, Command::BenchConsume, Command::BenchSink, Command::BenchEndToEnd]);
/// Of these, those that read from brokers: their own, or a given cluster's…
const BENCH_ON_KAFKA: Commands = Commands::of(&[Command::BenchConsume, Command::BenchEndToEnd]);
/// …and those that write into a sink.
const BENCH_ON_SINK: Commands = Commands::of(&[Command::BenchSink, Command::BenchEndToEnd]);
/// Commands that know how brokers are reached.
const TO_BROKERS: Commands = ON_KAFKA.and(BENCH_ON_KAFKA);
const LOGGING: Commands = ON_KAFKA.and(MESSAGES).and(BENCH).with(&[
    Command::Demo,
    Command::Broker,
    Command::CheckDrivers,
    Command::Plan,
    Command::MongoHealth,
]);

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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_flags_and_variables_are_unique() {
        let mut seen = HashSet::new();
        for field in fields() {
            assert!(seen.insert(field.name.to_owned()), "setting {} twice", field.name);
            for variable in field.variables {
                assert!(seen.insert((*variable).to_owned()), "variable {variable} twice");
            }
            for command in field.commands.iter() {
                let flag = format!("{command:?} --{}", field.flag());
                assert!(seen.insert(flag.clone()), "{flag} twice");
            }
        }
    }

    #[test]
    fn every_setting_is_described_in_one_sentence_and_known_to_a_command() {
        for field in fields() {
            assert!(field.doc.ends_with('.') && field.doc.len() <= 110, "{}: {:?}", field.name, field.doc);
            assert!(field.commands.iter().next().is_some(), "{} belongs to no command", field.name);
        }
    }

    #[test]
    fn every_default_is_a_value_that_would_be_accepted() {
        for field in fields() {
            for command in field.commands.iter() {
                if let Some(text) = field.default.of(command) {
                    field.kind.parse(text).unwrap_or_else(|fault| panic!("{} = {text}: {fault}", field.name));
                }
            }
        }
    }
}
