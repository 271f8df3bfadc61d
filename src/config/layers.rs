//! The four sources of settings, later ones winning: defaults, konekt.toml, the environment with `.env`, flags.
//!
//! What comes out is still text, each value with its [`Origin`], so that a fault found later can say who is to blame.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::field::{Command, Field, fields};
use super::{Fault, dotenv, properties, suggest};
use crate::core::secret::Secret;

/// The file that is read when nobody names another and it is there.
const DEFAULT_FILE: &str = "konekt.toml";
const DOTENV_FILE: &str = ".env";

/// Who said a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    DotEnv {
        path: PathBuf,
        variable: &'static str,
    },
    Environment {
        variable: &'static str,
    },
    Flag {
        /// As the command line names it, `--batch-size`.
        flag: String,
    },
    /// A librdkafka setting, `-X name=value`.
    Property {
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::DotEnv { path, variable } => write!(f, "{variable} in {}", path.display()),
            Origin::Environment { variable } => write!(f, "{variable}"),
            Origin::Flag { flag } => f.write_str(flag),
            Origin::Property { name } => write!(f, "-X {name}"),
        }
    }
}

/// A value as it was written, and where.
#[derive(Clone, PartialEq, Eq)]
pub struct Raw {
    pub text: String,
    pub origin: Origin,
}

/// Without the text, which may be a secret.
impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Raw values by setting.
pub type RawValues = BTreeMap<&'static str, Raw>;

/// A librdkafka setting that is none of ours: one for librdkafka alone.
pub struct Property {
    pub text: Secret,
    pub origin: Origin,
    /// Why it is a fault with any other client; `None` when it only says what holds always.
    pub complaint: Option<String>,
}

/// Such settings by their names.
pub type Properties = BTreeMap<String, Property>;

/// What one source said, or all of them together.
#[derive(Default)]
pub struct Said {
    pub values: RawValues,
    pub properties: Properties,
}

/// What lies around a process that its settings come from.
pub struct Surroundings<'a> {
    /// Where konekt.toml and .env are looked for.
    pub directory: &'a Path,
    /// Looks up an environment variable.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// The names of all environment variables: one that is nearly a setting's is remarked on.
    pub variables: Vec<String>,
    /// The file named by `--config`.
    pub file: Option<PathBuf>,
    /// Values given as flags, by setting.
    pub flags: BTreeMap<&'static str, String>,
    /// What `-X` said: librdkafka's settings as `name=value`.
    pub properties: Vec<String>,
}

impl Surroundings<'_> {
    /// Every setting of `command` that somebody gave a value, and the faults and remarks of reading them.
    pub(super) fn gather(&self, command: Command, faults: &mut Vec<Fault>, remarks: &mut Vec<String>) -> Said {
        let flags = self.read_flags(faults);
        let file = self.read_file(faults);
        let dotenv = self.read_dotenv(command, faults, remarks);
        let is_set = |meant: &str| (self.environment)(meant).is_some();
        remarks.extend(self.variables.iter().filter_map(|name| misspelt(name, "the environment", command, &is_set)));
        let mut values = RawValues::new();
        // Which client it is decides for all commands what librdkafka's settings mean.
        for field in fields().filter(|field| field.belongs_to(command) || field.name == "client") {
            let raw = flags
                .values
                .get(field.name)
                .cloned()
                .or_else(|| self.variable(field))
                .or_else(|| dotenv.get(field.name).cloned())
                .or_else(|| file.values.get(field.name).cloned())
                .or_else(|| default(field, command));
            if let Some(raw) = raw {
                values.insert(field.name, raw);
            }
        }
        let mut properties = file.properties;
        properties.extend(flags.properties);
        Said { values, properties }
    }

    fn read_flags(&self, faults: &mut Vec<Fault>) -> Said {
        let mut said = Said::default();
        for field in fields() {
            if let Some(text) = self.flags.get(field.name) {
                said.values
                    .insert(field.name, Raw { text: text.clone(), origin: Origin::Flag { flag: field.argument() } });
            }
        }
        for property in &self.properties {
            match property.split_once('=') {
                Some((name, text)) => {
                    let origin = Origin::Property { name: name.trim().to_owned() };
                    enter_property(&mut said, name.trim(), text, origin, faults);
                }
                None => faults.push(Fault::of("-X", "is not name=value, such as -X security.protocol=ssl".into())),
            }
        }
        said
    }

    fn variable(&self, field: &Field) -> Option<Raw> {
        field.variables.iter().find_map(|variable| {
            let text = (self.environment)(variable)?;
            Some(Raw { text, origin: Origin::Environment { variable } })
        })
    }

    fn read_file(&self, faults: &mut Vec<Fault>) -> Said {
        let shown = self.file.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        let text = match std::fs::read_to_string(self.directory.join(&shown)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound && self.file.is_none() => return Said::default(),
            Err(error) => {
                faults.push(Fault::of(shown.display(), format!("cannot be read: {error}")));
                return Said::default();
            }
        };
        parse_file(&shown, &text, faults)
    }

    fn read_dotenv(&self, command: Command, faults: &mut Vec<Fault>, remarks: &mut Vec<String>) -> RawValues {
        let path = PathBuf::from(DOTENV_FILE);
        let text = match std::fs::read_to_string(self.directory.join(&path)) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return RawValues::new(),
            Err(error) => {
                faults.push(Fault::of(path.display(), format!("cannot be read: {error}")));
                return RawValues::new();
            }
        };
        let text = dotenv::with_quotes(&text);
        let mut given = BTreeMap::new();
        for entry in dotenvy::from_read_iter(text.as_bytes()) {
            match entry {
                Ok((name, text)) => drop(given.insert(name, text)),
                Err(error) => {
                    // The rest cannot be trusted: a quote that was never closed swallows lines.
                    faults.push(dotenv_fault(&path, &text, &error));
                    break;
                }
            }
        }
        let is_set = |meant: &str| given.contains_key(meant);
        remarks.extend(given.keys().filter_map(|name| misspelt(name, DOTENV_FILE, command, &is_set)));
        from_dotenv(&given, &path)
    }
}

/// The parser's own message quotes the line, which may hold a password; this one names its number.
fn dotenv_fault(path: &Path, text: &str, error: &dotenvy::Error) -> Fault {
    match error {
        dotenvy::Error::LineParse(piece, _) => {
            // With a quote that was never closed the piece is all that follows.
            let first = piece.lines().next().unwrap_or_default();
            let line = text.lines().position(|line| line.contains(first)).map_or(1, |index| index + 1);
            let message = "is not NAME=value; a value with quotes or spaces in it stands in quotes".to_owned();
            Fault::of(format!("{}:{line}", path.display()), message)
        }
        other => Fault::of(path.display(), format!("cannot be read: {other}")),
    }
}

fn from_dotenv(given: &BTreeMap<String, String>, path: &Path) -> RawValues {
    let mut values = RawValues::new();
    for field in fields() {
        for variable in field.variables.iter().rev() {
            if let Some(text) = given.get(*variable).filter(|text| !text.is_empty()) {
                let origin = Origin::DotEnv { path: path.to_owned(), variable };
                values.insert(field.name, Raw { text: text.clone(), origin });
            }
        }
    }
    values
}

/// A variable that looks like one of this command's and is not: worth a remark, but the environment and `.env` serve other
/// programs too, whose name for the same thing may stand beside ours.
fn misspelt(name: &str, place: &str, command: Command, is_set: &dyn Fn(&str) -> bool) -> Option<String> {
    if fields().flat_map(|field| field.variables).any(|variable| *variable == name) {
        return None;
    }
    let ours = fields().filter(|field| field.belongs_to(command)).flat_map(|field| field.variables);
    let near = |variable: &&&str| strsim::damerau_levenshtein(variable, name) <= 2 && !is_set(variable);
    let meant = ours.clone().find(near)?;
    Some(format!("{name} in {place} is not a setting; did you mean {meant}?"))
}

fn default(field: &Field, command: Command) -> Option<Raw> {
    let text = field.default.of(command)?.to_owned();
    Some(Raw { text, origin: Origin::Default })
}

fn parse_file(path: &Path, text_of_file: &str, faults: &mut Vec<Fault>) -> Said {
    let (table, errors) = DeTable::parse_recoverable(text_of_file);
    for error in errors {
        let line = error.span().map_or(1, |span| line_of(text_of_file, span.start));
        faults.push(Fault::of(format!("{}:{line}", path.display()), error.message().to_owned()));
    }
    let mut said = Said::default();
    let mut properties = Vec::new();
    for (key, value) in table.into_inner() {
        if let ("kafka", DeValue::Table(table)) = (key.get_ref().as_ref(), value.get_ref()) {
            flatten("kafka", table, &mut properties);
            continue;
        }
        let line = line_of(text_of_file, key.span().start);
        let origin = Origin::File { path: path.to_owned(), line };
        let found = fields().find(|field| field.persistent() && field.name == key.get_ref().as_ref());
        match (found, plain_text(value.get_ref())) {
            (None, text) => faults.push(Fault::of(origin, unknown_key(key.get_ref(), text.is_none()))),
            (Some(field), None) => {
                let type_name = value.get_ref().type_str();
                faults.push(Fault::of(origin, format!("{} cannot be {type_name}: {}", field.name, field.kind)));
            }
            (Some(field), Some(text)) => drop(said.values.insert(field.name, Raw { text, origin })),
        }
    }
    for (name, at, text) in properties {
        let origin = Origin::File { path: path.to_owned(), line: line_of(text_of_file, at) };
        match (name.strip_prefix("kafka.properties."), text) {
            (Some(name), Some(text)) => enter_property(&mut said, name, &text, origin, faults),
            (Some(name), None) => faults.push(Fault::of(origin, format!("{name} is no text, number or switch"))),
            (None, _) => faults.push(Fault::of(origin, misplaced(name.strip_prefix("kafka.").unwrap_or(&name)))),
        }
    }
    said
}

/// Names with dots are nested tables to TOML: this puts them together again, each with its place and its value.
fn flatten(prefix: &str, table: &DeTable<'_>, found: &mut Vec<(String, usize, Option<String>)>) {
    for (key, value) in table {
        let name = format!("{prefix}.{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => flatten(&name, inner, found),
            value => found.push((name, key.span().start, plain_text(value))),
        }
    }
}

/// Enters a librdkafka setting under our name for it, if we have one. Two names for one thing in one source must agree.
fn enter_property(said: &mut Said, name: &str, text: &str, origin: Origin, faults: &mut Vec<Fault>) {
    let complaint = match properties::translate(name, text) {
        Ok(Some((setting, text))) => {
            return match said.values.get(setting) {
                Some(other) if other.text.trim() != text => {
                    let message = format!("{name} is {setting}, to which {} gives another value", other.origin);
                    faults.push(Fault::of(origin, message));
                }
                _ => drop(said.values.insert(setting, Raw { text, origin })),
            };
        }
        Ok(None) => None,
        Err(message) => Some(message),
    };
    said.properties.insert(name.to_owned(), Property { text: Secret::new(text.trim()), origin, complaint });
}

/// What stands in the table `[kafka]` itself.
fn misplaced(name: &str) -> String {
    match fields().find(|field| field.persistent() && field.name == name) {
        Some(field) => format!("{} stands in no table: write it above the first one", field.name),
        None => format!("unknown setting kafka.{name}; did you mean [kafka.properties]?"),
    }
}

fn unknown_key(key: &str, is_table: bool) -> String {
    if is_table {
        return format!("unknown table [{key}]: settings stand in none, but for Kafka's own in [kafka.properties]");
    }
    if let Some(field) = fields().find(|field| field.persistent() && field.variables.contains(&key)) {
        return format!("{key} is the environment's name for it: here it is {}", field.name);
    }
    if let Some(field) = fields().find(|field| field.name == key) {
        return format!("{key} belongs to one run: give it as the flag --{}", field.flag());
    }
    let names = fields().filter(|field| field.persistent()).map(|field| field.name);
    format!("unknown setting {key}{}", suggest(&key.replace('-', "_"), names))
}

/// A scalar, or a list of scalars joined with commas, as a person would write it in a flag.
fn plain_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(on) => Some(on.to_string()),
        DeValue::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(|item| plain_text(item.get_ref())).collect();
            texts.map(|texts| texts.join(","))
        }
        DeValue::Datetime(_) | DeValue::Table(_) => None,
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}
