//! The settings as a table for people: what `konekt config` prints.

use std::fmt::Write;

use super::Resolved;
use super::field::{Command, Default, Field, fields};
use super::layers::Raw;

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
