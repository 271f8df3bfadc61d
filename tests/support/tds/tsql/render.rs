//! Statements about rows, in SQLite's words.

use super::super::errors::SqlError;
use super::SEPARATOR;
use super::lexer::Token;

/// Words after which a table is named.
const BEFORE_TABLE: &[&str] = &["FROM", "JOIN", "INTO", "UPDATE"];

/// Functions by other names.
const FUNCTIONS: &[(&str, &str)] = &[("ISNULL", "ifnull"), ("COUNT_BIG", "count")];

/// A statement, or an expression.
pub fn rows(tokens: &[Token]) -> Result<String, SqlError> {
    let mut out = Vec::new();
    let limited_delete = tokens.len() > 2 && tokens[0].is("DELETE") && tokens[1].is("TOP");
    if limited_delete {
        delete_top(tokens, &mut out)?
    } else {
        scope(tokens, &mut out)?
    }
    Ok(out.join(" "))
}

/// One level of parentheses, in which TOP limits what it stands in.
fn scope(tokens: &[Token], out: &mut Vec<String>) -> Result<(), SqlError> {
    let mut limit = None;
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let next_opens = tokens.get(at + 1).is_some_and(|next| next.is_sign('('));
        at += match token {
            Token::Sign('(') => {
                let end = closing(tokens, at)?;
                out.push("(".to_owned());
                scope(&tokens[at + 1..end], out)?;
                out.push(")".to_owned());
                end + 1 - at
            }
            token if token.is("TOP") => {
                let (number, width) = top(tokens, at)?;
                limit = Some(number);
                width
            }
            token if token.is("CAST") && next_opens => cast(tokens, at, out)?,
            token if token.is("COLLATE") => {
                out.push(format!("COLLATE {}", collation(tokens.get(at + 1))));
                2
            }
            token if token.is("OBJECT_ID") && next_opens => object_id(tokens, at, out)?,
            token if BEFORE_TABLE.iter().any(|word| token.is(word)) && !next_opens => {
                out.push(token.text());
                1 + table_after(tokens, at + 1, out)
            }
            // INTO and FROM may be left out
            token if (token.is("INSERT") || token.is("DELETE")) && at == 0 => {
                let word = if token.is("INSERT") { "INTO" } else { "FROM" };
                let said = tokens.get(1).is_some_and(|next| next.is(word));
                out.push(format!("{} {word}", token.text()));
                let skipped = 1 + usize::from(said);
                skipped + table_after(tokens, skipped, out)
            }
            token => {
                let function = FUNCTIONS.iter().find(|(name, _)| next_opens && token.is(name));
                out.push(function.map_or_else(|| spelled(token), |(_, name)| (*name).to_owned()));
                1
            }
        };
    }
    if let Some(number) = limit {
        out.push(format!("LIMIT {number}"));
    }
    Ok(())
}

/// The table named here and the hints after it; how many tokens that were.
fn table_after(tokens: &[Token], at: usize, out: &mut Vec<String>) -> usize {
    let Some((name, mut width)) = object_name(&tokens[at..]) else { return 0 };
    out.push(quoted(&name));
    let hints = tokens.get(at + width).is_some_and(|token| token.is("WITH"));
    if hints && let Ok(end) = closing(tokens, at + width + 1) {
        width = end + 1 - at;
    }
    width
}

/// DELETE TOP (n) FROM t …: SQLite limits only what it reads.
fn delete_top(tokens: &[Token], out: &mut Vec<String>) -> Result<(), SqlError> {
    let (number, width) = top(tokens, 1)?;
    let from = 1 + width + usize::from(tokens.get(1 + width).is_some_and(|token| token.is("FROM")));
    let mut table = Vec::new();
    let rest = from + table_after(tokens, from, &mut table);
    let table = table.concat();
    out.push(format!("DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table}"));
    scope(&tokens[rest..], out)?;
    out.push(format!("LIMIT {number})"));
    Ok(())
}

/// The number after TOP, in parentheses or not; how many tokens that were.
fn top(tokens: &[Token], at: usize) -> Result<(String, usize), SqlError> {
    match tokens.get(at + 1) {
        Some(Token::Sign('(')) => {
            let end = closing(tokens, at + 1)?;
            Ok((rows(&tokens[at + 2..end])?, end + 1 - at))
        }
        Some(token) => Ok((spelled(token), 2)),
        None => Err(SqlError::new(102, "TOP")),
    }
}

/// CAST(… AS type), with a type that SQLite converts to in the same way.
fn cast(tokens: &[Token], at: usize, out: &mut Vec<String>) -> Result<usize, SqlError> {
    let end = closing(tokens, at + 1)?;
    let inner = &tokens[at + 2..end];
    let split = inner.iter().rposition(|token| token.is("AS")).ok_or_else(|| SqlError::new(102, "CAST"))?;
    let kind = inner.get(split + 1).map(|token| token.text().to_lowercase()).unwrap_or_default();
    let affinity = match kind.as_str() {
        "tinyint" | "smallint" | "int" | "bigint" | "bit" => "INTEGER",
        "real" | "float" => "REAL",
        "binary" | "varbinary" => "BLOB",
        _ => "TEXT",
    };
    out.push(format!("CAST({} AS {affinity})", rows(&inner[..split])?));
    Ok(end + 1 - at)
}

/// OBJECT_ID(name, kind) looks the name up where SQLite keeps its tables.
fn object_id(tokens: &[Token], at: usize, out: &mut Vec<String>) -> Result<usize, SqlError> {
    let end = closing(tokens, at + 1)?;
    let inner = &tokens[at + 2..end];
    let comma = inner.iter().position(|token| token.is_sign(',')).unwrap_or(inner.len());
    let name = rows(&inner[..comma])?;
    out.push(format!("(SELECT object_id FROM \"sys|objects\" WHERE full_name = object_name({name}) COLLATE NOCASE)"));
    Ok(end + 1 - at)
}

/// The name of a table or view that the tokens start with, and how many they are: of `a.b.c` the last two in one, and
/// `dbo` is left out.
pub fn object_name(tokens: &[Token]) -> Option<(String, usize)> {
    let mut parts = Vec::new();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(Token::Name(part) | Token::Word(part)) => parts.push(part.clone()),
            Some(Token::Sign('.')) if !parts.is_empty() => parts.push(String::new()), // database..table
            _ => return None,
        }
        at += usize::from(!parts.last().is_some_and(String::is_empty));
        if !tokens.get(at).is_some_and(|token| token.is_sign('.')) {
            break;
        }
        at += 1;
    }
    let table = parts.pop()?;
    let schema = parts.pop().unwrap_or_default();
    let is_default = schema.is_empty() || schema.eq_ignore_ascii_case("dbo");
    Some((if is_default { table } else { format!("{schema}{SEPARATOR}{table}") }, at))
}

/// A binary collation, or the one that SQL Server has when nothing is said.
pub fn collation(name: Option<&Token>) -> &'static str {
    if name.is_some_and(|name| name.text().to_uppercase().contains("_BIN")) { "BINARY" } else { "mssql" }
}

/// Where the parenthesis that opens here is closed.
pub fn closing(tokens: &[Token], open: usize) -> Result<usize, SqlError> {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return if at > open { Ok(at) } else { Err(SqlError::new(102, &token.text())) };
        }
    }
    Err(SqlError::new(102, "("))
}

/// A single token.
pub fn spelled(token: &Token) -> String {
    match token {
        Token::Name(name) => quoted(name),
        Token::Text(text) => format!("'{}'", text.replace('\'', "''")),
        Token::Variable(name) => match name.strip_prefix("@@") {
            Some(name) => format!("@_{}", name.to_lowercase()),
            None => name.clone(),
        },
        other => other.text(),
    }
}

pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
