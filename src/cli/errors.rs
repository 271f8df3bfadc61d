//! `konekt errors [CODE]`: the table of what databases say, or the rows about one code.
//!
//! With `--json` an array of objects with the keys `system`, `sqlstate` (a SQLSTATE or the first characters of several;
//! empty for any), `native` (a number or null), `words` (what the message must say; empty for anything), `class`,
//! `meaning` and `cure`: a documented contract.

use serde_json::{Value, json};

use super::exit::{self, Exit, Failure};
use crate::config::Resolved;
use crate::sink::odbc::sqlstate::{Entry, System, entries, look_up};

/// Prints the rows.
pub fn run(resolved: &Resolved) -> Result<(), Failure> {
    let system = System::named(&resolved.text("system"));
    let code = resolved.text("code");
    let rows = match code.is_empty() {
        true => entries().filter(|row| system.is_none_or(|wanted| wanted == row.system)).collect(),
        false => look_up(&code, system).ok_or_else(|| {
            let message = format!(
                "{code:?} is no code: give a SQLSTATE, which has five letters and digits such as 40P01 or 08S01, \
                 or a database's own number such as 1205"
            );
            Failure::new(Exit::Usage, message)
        })?,
    };
    if resolved.switch("json") { exit::put_json(&as_json(&rows)) } else { exit::put(&as_text(&rows)) }
}

fn as_json(rows: &[&Entry]) -> Vec<Value> {
    rows.iter()
        .map(|row| {
            json!({
                "system": row.system.name(),
                "sqlstate": row.state,
                "native": row.native,
                "words": row.words,
                "class": row.class.to_string(),
                "meaning": row.meaning,
                "cure": row.cure,
            })
        })
        .collect()
}

fn as_text(rows: &[&Entry]) -> String {
    let code = |row: &Entry| match (row.native, row.state, row.words) {
        (Some(native), _, _) => native.to_string(),
        (None, "", "") => "other".to_owned(),
        (None, "", words) => format!("{words:?}"),
        (None, state, "") if state.len() == 5 => state.to_owned(),
        (None, state, "") => format!("{state}…"),
        (None, state, words) => format!("{state} {words:?}"),
    };
    // words are few and long; the other codes stand in line
    rows.iter()
        .map(|row| {
            let (system, class) = (row.system.name(), row.class.to_string());
            format!("{system:9}  {:5}  {class:12}  {}; {}\n", code(row), row.meaning, row.cure)
        })
        .collect()
}
