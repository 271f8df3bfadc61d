//! The command line, made from the table of settings: every flag here is a [`Field`].
//!
//! clap checks the shape (which flags there are, which need a value); what values mean is checked with those of all other
//! sources, so that all faults come together.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command as Clap};
use clap_complete::Shell;

use super::exit;
use crate::config::command::{COMMANDS, Entry, GROUPS};
use crate::config::field::{Command, Default, Field, Section, fields};
use crate::config::value::Kind;
use crate::source::client::Client;

/// What the command line says.
pub struct Parsed {
    pub command: Command,
    /// Values of flags, by setting.
    pub flags: BTreeMap<&'static str, String>,
    /// `-X name=value`.
    pub properties: Vec<String>,
    /// `--config`.
    pub file: Option<PathBuf>,
    /// `-v` counts up, `-q` down.
    pub verbosity: i8,
    /// Of `konekt completions`.
    pub shell: Option<Shell>,
}

/// Reads the arguments.
///
/// # Errors
/// clap's message: about a mistake, or the help or version that was asked for.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    // As most programs have it: `konekt help sink sqlite` is `konekt sink sqlite --help`.
    if arguments.get(1).is_some_and(|word| word == "help") {
        arguments.remove(1);
        arguments.push("--help".into());
    }
    let matches = clap().try_get_matches_from(arguments)?;
    let (mut path, mut matches) = (String::new(), &matches);
    while let Some((word, inner)) = matches.subcommand() {
        path.push_str(if path.is_empty() { "" } else { " " });
        path.push_str(word);
        matches = inner;
    }
    let entry = COMMANDS.iter().find(|entry| entry.path == path).expect("clap knows the commands of the table only");
    Ok(read(entry.command, matches))
}

fn read(command: Command, matches: &ArgMatches) -> Parsed {
    if command == Command::Completions {
        let shell = matches.get_one::<Shell>("shell").copied();
        return Parsed { command, flags: BTreeMap::new(), properties: Vec::new(), file: None, verbosity: 0, shell };
    }
    let given = fields().filter(|field| field.belongs_to(command));
    let flags = given.filter_map(|field| {
        let values: Vec<&str> = matches.get_many::<String>(field.name)?.map(String::as_str).collect();
        Some((field.name, values.join(field.kind.separator().unwrap_or_default())))
    });
    // A command that connects to no brokers does not have the flag.
    let properties = matches.try_get_many::<String>("property").ok().flatten().into_iter().flatten();
    Parsed {
        command,
        flags: flags.collect(),
        properties: properties.cloned().collect(),
        file: matches.get_one::<PathBuf>("config").cloned(),
        verbosity: matches.get_count("verbose").min(9) as i8 - matches.get_count("quiet").min(9) as i8,
        shell: None,
    }
}

/// The whole command line, for parsing and for completions.
pub fn clap() -> Clap {
    Clap::new("konekt")
        .about("Moves records out of Kafka into databases without losing or repeating one.")
        .version(version())
        .after_help(exit::help())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .subcommands(subcommands())
}

/// The commands in the order of the table; a group stands where the first of its commands does.
fn subcommands() -> Vec<Clap> {
    let root = COMMANDS.iter().fold(Clap::new("konekt"), |root, entry| with_command(root, entry, 0));
    root.get_subcommands().cloned().collect()
}

/// `parent` with the command whose path goes on at byte `at`. Commands of a group follow each other in the table.
fn with_command(parent: Clap, entry: &Entry, at: usize) -> Clap {
    let rest = &entry.path[at..];
    let Some(blank) = rest.find(' ') else { return parent.subcommand(subcommand(entry, rest)) };
    let (group, word) = (&entry.path[..at + blank], &rest[..blank]);
    match parent.find_subcommand(word) {
        Some(_) => parent.mut_subcommand(word, |found| with_command(found, entry, at + blank + 1)),
        None => parent.subcommand(with_command(group_of(group, word), entry, at + blank + 1)),
    }
}

fn group_of(path: &str, word: &'static str) -> Clap {
    let about = GROUPS.iter().find(|(group, _)| *group == path).map_or("", |(_, about)| about);
    Clap::new(word).about(about).subcommand_required(true).arg_required_else_help(true).disable_help_subcommand(true)
}

fn subcommand(entry: &Entry, name: &'static str) -> Clap {
    let clap = Clap::new(name).about(entry.about);
    match entry.command {
        Command::Completions => clap.arg(Arg::new("shell").required(true).value_parser(clap::value_parser!(Shell))),
        command => with_fields(clap.after_help(exit::help()), command),
    }
}

fn version() -> String {
    let clients = Client::ALL.into_iter().filter(|client| client.absence().is_none()).map(Client::name);
    let clients = clients.collect::<Vec<_>>().join(", ");
    let optional =
        [("odbc", cfg!(any(feature = "odbc", feature = "odbc-system"))), ("mongodb", cfg!(feature = "mongodb"))];
    let built = optional.into_iter().filter(|(_, is_built)| *is_built).map(|(name, _)| format!(", {name}"));
    let sinks = built.collect::<String>();
    format!("{} (clients: {clients}; sinks: print, exec, sqlite{sinks})", env!("CARGO_PKG_VERSION"))
}

fn with_fields(mut clap: Clap, command: Command) -> Clap {
    for section in Section::ALL {
        let fields = fields().filter(|field| field.section == section && field.belongs_to(command));
        clap = clap.args(fields.map(|field| argument(field, command).help_heading(section.title())));
    }
    if Field::named("bootstrap_servers").is_some_and(|field| field.belongs_to(command)) {
        let property = Arg::new("property")
            .short('X')
            .value_name("NAME=VALUE")
            .action(ArgAction::Append)
            .help("A setting under its librdkafka name, such as -X security.protocol=ssl; may be repeated")
            .help_heading(Section::Kafka.title());
        clap = clap.arg(property);
    }
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("Settings file [default: konekt.toml if it is there]");
    clap.arg(config).arg(counter("verbose", 'v', "Log more: debug; -vv: trace")).arg(counter(
        "quiet",
        'q',
        "Log less: warnings; -qq: errors",
    ))
}

fn counter(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).short(short).long(name).action(ArgAction::Count).help(help)
}

fn argument(field: &'static Field, command: Command) -> Arg {
    let argument = match field.positional {
        true => Arg::new(field.name),
        false => Arg::new(field.name).long(field.flag()).short(field.short),
    };
    let placeholder = if field.positional { field.name.to_uppercase() } else { field.kind.placeholder().to_owned() };
    let argument = argument
        .value_name(placeholder)
        .value_parser(AnyText { words: field.kind.words() })
        // A number below zero is a wrong value, of which we say what is wrong, and no flag.
        .allow_hyphen_values(matches!(
            field.kind,
            Kind::Integer { .. }
                | Kind::Counts { .. }
                | Kind::Bytes { .. }
                | Kind::Age
                | Kind::Target
                | Kind::Separator
        ))
        .action(if field.kind.separator().is_some() { ArgAction::Append } else { ArgAction::Set })
        .help(help(field, command));
    match field.kind {
        Kind::Paths => argument.required(true).num_args(1..),
        _ if field.positional => argument.required(field.default == Default::Required),
        Kind::Switch => {
            argument.num_args(0..=1).default_missing_value("true").require_equals(true).hide_possible_values(true)
        }
        Kind::Output => argument.num_args(0..=1).default_missing_value("-"),
        _ => argument,
    }
}

fn help(field: &Field, command: Command) -> String {
    let mut notes = Vec::new();
    match (field.default, field.default.of(command)) {
        (_, Some(text)) if !matches!(field.kind, Kind::Switch) => notes.push(format!("default: {text}")),
        _ if field.is_required_by(command) => notes.push("required".to_owned()),
        _ => {}
    }
    if let Some(variable) = field.variables.first() {
        notes.push(format!("env: {variable}"));
    }
    match notes.is_empty() {
        true => field.doc.to_owned(),
        false => format!("{} [{}]", field.doc, notes.join("; ")),
    }
}

/// Takes any text, and still tells help and completions which words are meant.
#[derive(Clone)]
struct AnyText {
    words: &'static [&'static str],
}

impl TypedValueParser for AnyText {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Clap,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        match self.words {
            [] => None,
            words => Some(Box::new(words.iter().map(PossibleValue::new))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, clap::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn clap_finds_no_contradiction() {
        clap().debug_assert();
    }

    #[test]
    fn flags_become_settings_and_lists_join() {
        let parsed =
            parsed("konekt sink sqlite --db k.db --topics a --topics b,c --batch-size -5 --until-end -vv").unwrap();
        assert_eq!(parsed.command, Command::Sqlite);
        assert_eq!(parsed.verbosity, 2);
        let flags: Vec<_> = parsed.flags.iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert_eq!(flags, ["batch_size=-5", "sqlite_db=k.db", "topics=a,b,c", "until_end=true"]);
    }

    #[test]
    fn librdkafka_settings_are_taken_as_they_are() {
        let parsed = parsed("konekt consume -X a.b=c,d -X e=f=g").unwrap();
        assert_eq!(parsed.properties, ["a.b=c,d", "e=f=g"]);
    }

    #[test]
    fn stats_json_takes_a_file_or_nothing() {
        for (line, expected) in
            [("--stats-json", "-"), ("--stats-json s.jsonl", "s.jsonl"), ("--stats-json --until-end", "-")]
        {
            assert_eq!(parsed(&format!("konekt consume {line}")).unwrap().flags["stats_json"], expected, "{line}");
        }
    }

    #[test]
    fn an_unknown_flag_is_refused_with_a_suggestion() {
        let message = parsed("konekt consume --batch-sise 5").err().expect("no such flag").to_string();
        assert!(message.contains("--batch-size"), "{message}");
    }
}
