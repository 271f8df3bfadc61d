//! The tables of README and docs/, made of the tables that the program itself goes by.
//!
//! A block stands in a page between `<!-- NAME: … -->` and `<!-- /NAME -->`. `tests/readme.rs` compares every page with
//! [`blocks`], or writes them anew.

use super::exit::CODES;
use crate::config::command::{COMMANDS, Entry, GROUPS};
use crate::config::field::{Default, Field, Section, fields};
use crate::ops::http::metrics;
use crate::sink::odbc::sqlstate::System;
use crate::source::client::abilities_markdown;

/// Of the settings, those that README shows: what most runs set.
const MOST_USED: [&str; 16] = [
    "bootstrap_servers",
    "topics",
    "group_id",
    "auto_offset_reset",
    "security_protocol",
    "sqlite_db",
    "connection_string",
    "table",
    "delivery",
    "max_workers",
    "batch_size",
    "batch_timeout_ms",
    "memory_limit",
    "dead_letter_table",
    "stats_json",
    "http",
];

/// Every block: its name, and its Markdown.
///
/// ```
/// let blocks = konekt::cli::reference::blocks();
/// let (_, settings) = blocks.iter().find(|(name, _)| *name == "settings").unwrap();
/// assert!(settings.contains("| `batch_size` |"));
/// ```
pub fn blocks() -> Vec<(&'static str, String)> {
    vec![
        ("commands-in-groups", commands_in_groups()),
        ("commands", commands()),
        ("settings-most-used", settings_most_used()),
        ("settings", settings()),
        ("flags", flags()),
        ("exit-codes", exit_codes()),
        ("errors", errors()),
        ("clients", abilities_markdown()),
        ("metrics", metrics::table_markdown()),
    ]
}

/// A Markdown table; what would end a cell is escaped.
fn table<const N: usize>(heads: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let line = |cells: [String; N]| format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
    let rule = format!("|{}\n", "---|".repeat(N));
    let head = line(heads.map(str::to_owned));
    format!("{head}{rule}{}", rows.map(line).collect::<String>())
}

fn code(text: impl std::fmt::Display) -> String {
    format!("`{text}`")
}

/// The first word of a command.
fn head(entry: &Entry) -> &'static str {
    entry.path.split(' ').next().unwrap_or_default()
}

/// The commands that begin with the same word as this one.
fn siblings(first: &'static str) -> impl Iterator<Item = &'static Entry> {
    COMMANDS.iter().filter(move |entry| head(entry) == first)
}

/// The first words, each once, in the order of help.
fn heads() -> Vec<&'static str> {
    let mut heads: Vec<_> = COMMANDS.iter().map(head).collect();
    heads.dedup();
    heads
}

fn commands_in_groups() -> String {
    let row = |first: &'static str| {
        let rest: Vec<_> =
            siblings(first).filter_map(|entry| entry.path.split_once(' ')).map(|(_, rest)| rest).collect();
        let about = GROUPS.iter().find(|(group, _)| *group == first).map(|(_, about)| *about);
        let own = siblings(first).next().map_or("", |entry| entry.about);
        [code(format_args!("konekt {first}")), rest.join(", "), about.unwrap_or(own).to_owned()]
    };
    table(["command", "of these", "what it does"], heads().into_iter().map(row))
}

fn commands() -> String {
    let row = |entry: &Entry| [code(format_args!("konekt {}", entry.path)), entry.about.to_owned()];
    table(["command", "what it does"], COMMANDS.iter().map(row))
}

fn settings_most_used() -> String {
    let row = |field: &Field| {
        let variable = field.variables.first().map_or(String::new(), code);
        [code(field.name), flag(field), variable, default(field), meaning(field)]
    };
    let named = MOST_USED.iter().filter_map(|name| Field::named(name));
    table(["setting", "flag", "environment", "default", "meaning"], named.map(row))
}

/// A table for each section. What most of its settings have in common, the commands that know them, is said once.
fn settings() -> String {
    let mut page = String::new();
    for section in Section::ALL {
        let known: Vec<&Field> = fields().filter(|field| field.section == section && field.persistent()).collect();
        let Some(usual) = most_frequent(known.iter().map(|field| commands_of(field))) else { continue };
        page += &format!("\n### {}\n\nThe commands, where none stand in the table: {usual}.\n\n", section.title());
        let heads = ["setting", "flag", "environment", "values", "default", "commands", "meaning"];
        page += &table(heads, known.into_iter().map(|field| setting(field, &usual)));
    }
    page
}

fn setting(field: &Field, usual_commands: &str) -> [String; 7] {
    let variables: Vec<_> = field.variables.iter().map(code).collect();
    let commands = Some(commands_of(field)).filter(|commands| commands != usual_commands).unwrap_or_default();
    let (flag, values) = (flag(field), field.kind.to_string().trim_end().to_owned());
    [code(field.name), flag, variables.join(", "), values, default(field), commands, meaning(field)]
}

fn most_frequent(texts: impl Iterator<Item = String> + Clone) -> Option<String> {
    texts.clone().max_by_key(|text| texts.clone().filter(|other| other == text).count())
}

/// What belongs to one run, so that neither konekt.toml nor the environment sets it.
fn flags() -> String {
    let row = |field: &Field| {
        let values = field.kind.to_string().trim_end().to_owned();
        [flag(field), commands_of(field), values, default(field), meaning(field)]
    };
    let known = Section::ALL.into_iter().flat_map(|section| fields().filter(move |field| field.section == section));
    let known = known.filter(|field| !field.persistent());
    table(["flag", "commands", "values", "default", "meaning"], known.map(row))
}

fn flag(field: &Field) -> String {
    match (field.positional, field.short) {
        (true, _) => code(field.name.to_uppercase()),
        (false, Some(letter)) => format!("`--{}`, `-{letter}`", field.flag()),
        (false, None) => format!("`--{}`", field.flag()),
    }
}

fn default(field: &Field) -> String {
    match field.default {
        Default::Is(text) => code(text),
        Default::Differs { consume, sink } => format!("`{sink}` (consume: `{consume}`)"),
        Default::Nothing => "none".to_owned(),
        Default::Required => "required".to_owned(),
    }
}

fn meaning(field: &Field) -> String {
    let secret = if field.secret { " Secret." } else { "" };
    format!("{}{secret}", field.doc)
}

/// The commands that know a setting; where a whole group does, its first word stands for all of it.
fn commands_of(field: &Field) -> String {
    let mut names = Vec::new();
    for first in heads() {
        let known: Vec<_> = siblings(first).filter(|entry| field.belongs_to(entry.command)).collect();
        match known.len() == siblings(first).count() {
            true => names.push(first),
            false => names.extend(known.iter().map(|entry| entry.path)),
        }
    }
    names.join(", ")
}

fn exit_codes() -> String {
    let row = |(exit, meaning): &(super::exit::Exit, &str)| [(*exit as u8).to_string(), (*meaning).to_owned()];
    table(["exit code", "meaning"], CODES.iter().map(row))
}

/// What ODBC itself and the SQL standard define; `konekt errors` knows each database's own numbers too.
fn errors() -> String {
    let rows = System::Any.entries().iter().map(|entry| {
        let state = if entry.state.len() == 5 { code(entry.state) } else { format!("`{}`…", entry.state) };
        let words = if entry.words.is_empty() { String::new() } else { format!(" \"{}\"", entry.words) };
        [format!("{state}{words}"), entry.class.to_string(), entry.meaning.to_owned(), entry.cure.to_owned()]
    });
    table(["SQLSTATE", "class", "meaning", "what to do"], rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_group_is_told_by_its_first_word() {
        let commands = |name| commands_of(Field::named(name).unwrap());
        assert_eq!(commands("topics"), "consume, sink, init, check, config");
        assert_eq!(commands("older_than"), "messages prune");
    }

    #[test]
    fn what_most_runs_set_are_settings() {
        for name in MOST_USED {
            assert!(Field::named(name).is_some_and(Field::persistent), "{name}");
        }
    }

    #[test]
    fn a_cell_does_not_end_early() {
        assert_eq!(table(["a"], [["x|y".to_owned()]].into_iter()), "| a |\n|---|\n| x\\|y |\n");
    }
}
