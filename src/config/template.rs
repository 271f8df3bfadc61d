//! A commented konekt.toml: what is known stands in it, everything else is a comment with its default.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::field::{Command, Field, Section, fields};
use super::value::{Kind, Value};
use super::{Fault, parse};

/// The text of a settings file for `command`, with these values.
///
/// ```
/// use konekt::config::{command::Command, template};
///
/// let given = [("group_id", "billing".to_owned())].into();
/// let text = template(Command::Sqlite, &given).unwrap();
/// assert!(text.contains("\ngroup_id = \"billing\"\n") && text.contains("\n# batch_size = 1000\n"));
/// ```
///
/// # Errors
/// Every value that is none, and every secret: those do not belong into a file that many may read.
pub fn template(command: Command, given: &BTreeMap<&'static str, String>) -> Result<String, Vec<Fault>> {
    let mut page = String::from(
        "# Settings of Konekt, read from the working directory or named by --config. The environment wins over this file,\n\
         # a flag over both. `konekt config` shows what holds and where it comes from, `konekt check` tries it.\n",
    );
    let mut faults = Vec::new();
    for section in Section::ALL {
        let mut rows = fields()
            .filter(|field| field.section == section && field.persistent() && field.belongs_to(command))
            .peekable();
        if rows.peek().is_some() {
            // Writing into a string cannot fail.
            let _ = writeln!(page, "\n# ---- {}\n", section.title());
        }
        for field in rows {
            match row(field, command, given.get(field.name)) {
                Ok(text) => page.push_str(&text),
                Err(fault) => faults.push(fault),
            }
        }
    }
    if faults.is_empty() { Ok(page) } else { Err(faults) }
}

fn row(field: &Field, command: Command, given: Option<&String>) -> Result<String, Fault> {
    let variable = field.variables.first().copied().unwrap_or_default();
    let name = field.name;
    let fault = |message: String| Fault::of(format!("--{}", field.flag()), message);
    let line = match (given, field.default.of(command)) {
        (Some(_), _) if field.secret => {
            return Err(fault(format!("is a secret and not written to a file; put {variable}=… into .env")));
        }
        (None, _) if field.secret => format!("# not here: {variable} in the environment or in .env"),
        (Some(text), _) => format!("{name} = {}", toml_value(field, text).map_err(fault)?),
        (None, Some(text)) => format!("# {name} = {}", toml_value(field, text).map_err(fault)?),
        (None, None) => format!("# {name} = \"…\""),
    };
    Ok(format!("# {}\n{line}\n", field.doc))
}

/// The value as TOML writes it; what a person wrote stays as it is where TOML can say it.
fn toml_value(field: &Field, text: &str) -> Result<String, String> {
    Ok(match (field.kind, parse(field, text)?) {
        (Kind::Integer { .. }, Value::Number(number)) => number.to_string(),
        (_, Value::Switch(on)) => on.to_string(),
        (kind, _) => match kind.separator() {
            Some(separator) if !text.starts_with('/') => {
                let words: Vec<String> = text.split(separator).map(|word| quoted(word.trim())).collect();
                format!("[{}]", words.join(", "))
            }
            _ => quoted(text),
        },
    })
}

/// TOML's basic strings are JSON's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::layers::Surroundings;
    use crate::config::resolve;

    /// What a command makes of the file of these values, and of nothing else.
    fn check(command: Command, given: &[(&'static str, &str)], expected: &[&str]) {
        let given = given.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let text = template(command, &given).unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        std::fs::write(folder.path().join("konekt.toml"), &text).unwrap();
        let surroundings = Surroundings {
            directory: Path::new(folder.path()),
            environment: &|_| None,
            variables: Vec::new(),
            file: None,
            flags: BTreeMap::new(),
            properties: Vec::new(),
        };
        let resolved = resolve(command, &surroundings);
        assert_eq!(resolved.faults, [], "{text}");
        let effective = resolved.effective();
        for words in expected {
            let squeezed: Vec<String> =
                effective.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
            assert!(squeezed.iter().any(|line| line.starts_with(words)), "{words:?}:\n{effective}");
        }
        // Everything that is a comment is a default: with the marks taken away the file says the same.
        for field in fields().filter(|field| field.persistent() && field.belongs_to(command) && !field.secret) {
            let line =
                text.lines().find(|line| line.trim_start_matches("# ").starts_with(&format!("{} = ", field.name)));
            assert!(line.is_some(), "{} is not in the file", field.name);
        }
    }

    #[test]
    fn the_file_says_what_was_given_and_can_be_read() {
        check(
            Command::Sqlite,
            &[("bootstrap_servers", "a:9092, b:9092"), ("topics", "orders"), ("sqlite_db", r#"C:\data\k "1".db"#)],
            &[
                "bootstrap_servers a:9092,b:9092 konekt.toml:",
                "topics orders konekt.toml:",
                r#"sqlite_db C:\data\k "1".db konekt.toml:"#,
                "batch_size 1000 default",
            ],
        );
        check(
            Command::SqlServer,
            &[("topics", "/orders-.*/"), ("memory_limit", "64MiB"), ("trust_server_certificate", "true")],
            &["topics /orders-.*/ konekt.toml:", "memory_limit 64MiB konekt.toml:", "trust_server_certificate true"],
        );
        check(Command::Consume, &[("topics", "a,b")], &["topics a,b konekt.toml:", "batch_size 50 default"]);
    }

    #[test]
    fn bad_values_and_secrets_are_refused_together() {
        let given = [("batch_size", "many".to_owned()), ("sqlserver_password", "hunter2".to_owned())].into();
        let faults = template(Command::SqlServer, &given).unwrap_err();
        let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(words.len(), 2, "{words:?}");
        assert!(words[0].starts_with("--batch-size: batch_size \"many\""), "{words:?}");
        assert!(words[1].contains("put SQLSERVER_PASSWORD=… into .env") && !words[1].contains("hunter2"), "{words:?}");
    }
}
