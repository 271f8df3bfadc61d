//! `konekt init`: writes a commented konekt.toml of what flags say and a person answers.

use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::exit::{self, Exit, Failure};
use super::parser::Parsed;
use crate::config::command::COMMANDS;
use crate::config::field::{Command, Default, Field};
use crate::config::template;

/// The words of --for, and what each prepares.
const TARGETS: [(&str, Command); 5] = [
    ("consume", Command::Consume),
    ("sqlite", Command::Sqlite),
    ("sqlserver", Command::SqlServer),
    ("odbc", Command::Odbc),
    ("mongodb", Command::MongoDb),
];

/// What is asked for in this order, if the target has it and no flag says it.
const QUESTIONS: [&str; 8] = [
    "bootstrap_servers",
    "topics",
    "group_id",
    "sqlite_db",
    "sqlserver_host",
    "sqlserver_database",
    "sqlserver_username",
    "mongodb_database",
];

/// Asks, and writes.
pub fn run(parsed: &Parsed) -> Result<(), Failure> {
    let path = parsed.file.clone().unwrap_or_else(|| PathBuf::from("konekt.toml"));
    let force = parsed.flags.get("force").is_some_and(|text| text == "true");
    if path.exists() && !force {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is there already: --force writes over it, --config names another file", path.display()),
        ));
    }
    let mut given = parsed.flags.clone();
    let target = match given.remove("target") {
        Some(word) => target(&word)?,
        None => target(&ask(&format!("where records go ({})", words()), Some("sqlite"), "--for")?)?,
    };
    for field in QUESTIONS.into_iter().filter_map(Field::named).filter(|field| field.belongs_to(target)) {
        answer(field, target, &mut given)?;
    }
    let text = template(target, &given).map_err(|faults| Failure::new(Exit::Usage, super::all(&faults, &[])))?;
    write(&path, &text, force)?;
    exit::say(format_args!("{} is written; next:", path.display()));
    exit::put(&next_steps(&path, parsed.file.is_some(), target))
}

fn target(word: &str) -> Result<Command, Failure> {
    let found = TARGETS.iter().find(|(name, _)| *name == word);
    found
        .map(|(_, command)| *command)
        .ok_or_else(|| Failure::new(Exit::Usage, format!("--for: {word:?} is not one of {}", words())))
}

fn words() -> String {
    TARGETS.map(|(name, _)| name).join(", ")
}

/// Takes the value of a setting from a person, unless a flag has said it.
fn answer(field: &'static Field, target: Command, given: &mut BTreeMap<&'static str, String>) -> Result<(), Failure> {
    if given.contains_key(field.name) {
        return Ok(());
    }
    let default = field.default.of(target);
    // Without a person what has a default keeps it.
    if !io::stdin().is_terminal() && (default.is_some() || field.default == Default::Nothing) {
        return Ok(());
    }
    loop {
        let text = ask(field.doc.trim_end_matches('.'), default.or(Some("")), &format!("--{}", field.flag()))?;
        if text.is_empty() && field.default == Default::Nothing {
            return Ok(());
        }
        match field.kind.parse(&text) {
            Ok(_) => {
                given.insert(field.name, text);
                return Ok(());
            }
            Err(fault) => exit::say(format_args!("{text:?} {fault}")),
        }
    }
}

/// A person's answer; `default` for an empty line.
fn ask(question: &str, default: Option<&str>, flag: &str) -> Result<String, Failure> {
    let missing = || Failure::new(Exit::Usage, format!("{flag} is missing, and there is no terminal to ask on"));
    if !io::stdin().is_terminal() {
        return Err(missing());
    }
    let shown = default.filter(|text| !text.is_empty()).map(|text| format!(" [{text}]")).unwrap_or_default();
    let _ = write!(io::stderr(), "{question}{shown}: ");
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(missing()),
        Ok(_) if line.trim().is_empty() => Ok(default.unwrap_or_default().to_owned()),
        Ok(_) => Ok(line.trim().to_owned()),
        Err(error) => Err(Failure::new(Exit::Failed, format!("the answer cannot be read: {error}"))),
    }
}

/// A file that came meanwhile is not written over either.
fn write(path: &Path, text: &str, force: bool) -> Result<(), Failure> {
    let mut options = std::fs::File::options();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let written = options.open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(Exit::Usage, format!("{} is there already", path.display())),
        _ => Failure::new(Exit::Usage, format!("{} cannot be written: {error}", path.display())),
    })
}

fn next_steps(path: &Path, named: bool, target: Command) -> String {
    let config = if named { format!(" --config {}", path.display()) } else { String::new() };
    let run = COMMANDS.iter().find(|entry| entry.command == target).map_or("", |entry| entry.path);
    let secret = match target {
        Command::SqlServer => "  put SQLSERVER_PASSWORD=… into .env\n",
        Command::Odbc => "  put ODBC_CONNECTION_STRING='Driver={…};Server=…;Database=…;UID=…;PWD=…;' into .env\n",
        Command::MongoDb => "  put MONGODB_URI='mongodb://user:password@host:27017/?replicaSet=rs0' into .env\n",
        _ => "",
    };
    format!("{secret}  konekt check{config}\n  konekt {run}{config}\n")
}
