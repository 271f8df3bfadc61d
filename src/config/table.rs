//! The settings as tables for people: README's, and what `konekt config` prints.

use std::fmt::Write;

use super::Resolved;
use super::field::{Command, Default, Field, Section, fields};
use super::layers::Raw;

/// README's table of settings, as Markdown; a test compares it with the page.
///
/// ```
/// assert!(konekt::config::settings_table_markdown().contains("| `batch_size` |"));
/// ```
pub fn settings_table_markdown() -> String {
    let mut page =
        String::from("| setting | flag | environment | values | default | meaning |\n|---|---|---|---|---|---|\n");
    for section in Section::ALL {
        let fields = fields().filter(|field| field.section == section && field.persistent());
        for field in fields {
            let variables = field.variables.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let (name, flag, default) = (field.name, field.flag(), markdown_default(field));
            let values = field.kind.to_string();
            let doc = field.doc;
            // Writing into a string cannot fail.
            let _ =
                writeln!(page, "| `{name}` | `--{flag}` | {variables} | {} | {default} | {doc} |", values.trim_end());
        }
    }
    page
}

fn markdown_default(field: &Field) -> String {
    match field.default {
        Default::Is(text) => format!("`{text}`"),
        Default::Differs { consume, sink } => format!("`{sink}` (consume: `{consume}`)"),
        Default::Nothing => "none".to_owned(),
        Default::Required => "required".to_owned(),
    }
}

/// Every persistent setting of a command with its effective value and where that came from.
pub(super) fn effective(resolved: &Resolved, command: Command) -> String {
    let rows: Vec<[String; 3]> = fields()
        .filter(|field| field.persistent() && field.belongs_to(command))
        .map(|field| effective_row(field, resolved.raw.get(field.name)))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (name_width, value_width) = (width(0), width(1).min(40));
    let mut page = String::new();
    for [name, value, origin] in &rows {
        let _ = writeln!(page, "{name:name_width$}  {value:value_width$}  {origin}");
    }
    page
}

fn effective_row(field: &Field, raw: Option<&Raw>) -> [String; 3] {
    let (value, origin) = match raw {
        Some(_) if field.secret => ("***".to_owned(), raw.map(|raw| raw.origin.to_string()).unwrap_or_default()),
        Some(raw) => (raw.text.clone(), raw.origin.to_string()),
        None if field.default == Default::Required => ("(not set)".to_owned(), "required".to_owned()),
        None => ("(not set)".to_owned(), "optional".to_owned()),
    };
    [field.name.to_owned(), value, origin]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::layers::Origin;

    #[test]
    fn a_secret_is_never_shown() {
        let mut field = *Field::named("client_id").unwrap();
        field.secret = true;
        let raw = Raw { text: "hunter2".into(), origin: Origin::Default };
        assert_eq!(effective_row(&field, Some(&raw)), ["client_id", "***", "default"].map(str::to_owned));
    }
}
