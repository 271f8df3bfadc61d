//! Tables and indexes, in SQLite's words.

use super::super::errors::SqlError;
use super::SEPARATOR;
use super::lexer::Token;
use super::render::{closing, collation, object_name, quoted, rows};

type Rendered = Result<String, SqlError>;

/// CREATE, DROP and TRUNCATE.
pub fn definition(tokens: &[Token]) -> Rendered {
    let index = tokens.iter().take(4).position(|token| token.is("INDEX"));
    match (tokens.first(), tokens.get(1)) {
        (Some(create), Some(what)) if create.is("CREATE") && what.is("TABLE") => create_table(&tokens[2..]),
        (Some(create), Some(what)) if create.is("CREATE") && what.is("SCHEMA") => {
            Ok(format!("INSERT INTO \"sys|schemas\" (name) VALUES ({})", rows(&text_of(tokens.get(2)))?))
        }
        (Some(create), _) if create.is("CREATE") && index.is_some() => create_index(tokens, index.unwrap_or_default()),
        (Some(drop), Some(what)) if drop.is("DROP") && what.is("TABLE") => drop_table(&tokens[2..]),
        (Some(truncate), Some(what)) if truncate.is("TRUNCATE") && what.is("TABLE") => {
            Ok(format!("DELETE FROM {}", quoted(&named(&tokens[2..])?.0)))
        }
        (_, what) => Err(unexpected(what)),
    }
}

fn text_of(name: Option<&Token>) -> Vec<Token> {
    name.map(|token| Token::Text(token.text())).into_iter().collect()
}

fn create_table(tokens: &[Token]) -> Rendered {
    let (name, at) = named(tokens)?;
    let end = closing(tokens, at)?;
    let items = tokens[at + 1..end].to_vec();
    let items: Vec<String> = split(&items, ',').into_iter().map(table_item).collect::<Result<_, _>>()?;
    Ok(format!("CREATE TABLE {} ({})", quoted(&name), items.join(", ")))
}

/// A column, or a constraint of the table.
fn table_item(tokens: &[Token]) -> Rendered {
    match tokens.first() {
        Some(word) if word.is("CONSTRAINT") && tokens.get(2).is_some_and(|word| word.is("CHECK")) => {
            let name = quoted(&format!("547 {}", tokens[1].text()));
            Ok(format!("CONSTRAINT {name} {}", rows(&tokens[2..])?))
        }
        Some(word) if word.is("CONSTRAINT") => table_item(tokens.get(2..).unwrap_or_default()),
        Some(word) if word.is("PRIMARY") || word.is("UNIQUE") => {
            let open = tokens.iter().position(|token| token.is_sign('(')).ok_or_else(|| unexpected(tokens.first()))?;
            let word = if word.is("PRIMARY") { "PRIMARY KEY" } else { "UNIQUE" };
            Ok(format!("{word} {}", rows(&tokens[open..=closing(tokens, open)?])?))
        }
        // SQLite would say the name of the constraint before it.
        Some(word) if word.is("CHECK") => Ok(format!("CONSTRAINT {} {}", quoted("547 CHECK"), rows(tokens)?)),
        _ => column(tokens),
    }
}

fn column(tokens: &[Token]) -> Rendered {
    let name = match tokens.first() {
        Some(Token::Name(name) | Token::Word(name)) => name.clone(),
        other => return Err(unexpected(other)),
    };
    let (kind, width) = column_type(&tokens[1..])?;
    let mut parts = vec![quoted(&name), quoted(&kind)];
    let mut collate = collation(None);
    let mut at = 1 + width;
    while let Some(token) = tokens.get(at) {
        let next = tokens.get(at + 1);
        at += match token {
            token if token.is("NOT") && next.is_some_and(|next| next.is("NULL")) => {
                parts.push("NOT NULL".to_owned());
                2
            }
            token if token.is("NULL") => 1,
            token if token.is("CONSTRAINT") => 2,
            token if token.is("CLUSTERED") || token.is("NONCLUSTERED") => 1,
            token if token.is("PRIMARY") => {
                parts.push("NOT NULL PRIMARY KEY".to_owned());
                2
            }
            token if token.is("UNIQUE") => {
                parts.push("UNIQUE".to_owned());
                1
            }
            token if token.is("COLLATE") => {
                collate = collation(next);
                2
            }
            token if token.is("DEFAULT") => {
                // a literal, something in parentheses, or a call
                let opens = |at: usize| tokens.get(at).is_some_and(|token| token.is_sign('('));
                let open = [at + 1, at + 2].into_iter().find(|at| opens(*at));
                let end = open.map_or(Ok(at + 1), |open| closing(tokens, open))?;
                parts.push(format!("DEFAULT ({})", rows(tokens.get(at + 1..=end).unwrap_or_default())?));
                end + 1 - at
            }
            other => return Err(unexpected(Some(other))),
        };
    }
    if kind.contains("char") || kind.contains("text") {
        parts.push(format!("COLLATE {collate}"));
    }
    parts.extend(check(&name, &kind));
    Ok(parts.join(" "))
}

/// The type as it is declared, in one word: `nvarchar(255)`.
fn column_type(tokens: &[Token]) -> Result<(String, usize), SqlError> {
    let word = match tokens.first() {
        Some(Token::Word(word) | Token::Name(word)) => word.to_lowercase(),
        other => return Err(unexpected(other)),
    };
    if !tokens.get(1).is_some_and(|token| token.is_sign('(')) {
        return Ok((word, 1));
    }
    let end = closing(tokens, 1)?;
    let size: String = tokens[2..end].iter().map(|token| token.text().to_lowercase()).collect();
    Ok((format!("{word}({size})"), end + 1))
}

/// What holds the column's values to its type, named by the error that follows.
fn check(name: &str, kind: &str) -> Option<String> {
    let column = quoted(name);
    let (number, condition) = match kind {
        "tinyint" | "smallint" | "int" | "bigint" | "bit" => (8114, format!("typeof({column}) IN ('integer', 'null')")),
        kind if kind.contains("char") => (2628, format!("fits_type({column}, '{kind}')")),
        _ => return None,
    };
    Some(format!("CONSTRAINT {} CHECK ({condition})", quoted(&format!("{number} {name}"))))
}

fn create_index(tokens: &[Token], index: usize) -> Rendered {
    let unique = if tokens[..index].iter().any(|token| token.is("UNIQUE")) { "UNIQUE " } else { "" };
    let name = tokens.get(index + 1).map(Token::text).unwrap_or_default();
    let rest = tokens.get(index + 3..).unwrap_or_default();
    let (table, at) = named(rest)?;
    let end = closing(rest, at)?;
    let columns = rows(&rest[at..=end])?;
    let filter = rows(filter(&rest[end + 1..])?)?;
    let name = quoted(&format!("{table}{SEPARATOR}{name}"));
    Ok(format!("CREATE {unique}INDEX {name} ON {} {columns} {filter}", quoted(&table)))
}

/// What follows an index's columns: only a filter matters; what it includes and how it is stored does not.
fn filter(tokens: &[Token]) -> Result<&[Token], SqlError> {
    let included = tokens.first().is_some_and(|token| token.is("INCLUDE"));
    let rest = if included { &tokens[closing(tokens, 1)? + 1..] } else { tokens };
    let stored = rest.iter().position(|token| token.is("WITH") || token.is("ON")).unwrap_or(rest.len());
    match rest[..stored].first() {
        Some(token) if !token.is("WHERE") => Err(unexpected(Some(token))),
        _ => Ok(&rest[..stored]),
    }
}

fn drop_table(tokens: &[Token]) -> Rendered {
    let guarded = tokens.first().is_some_and(|token| token.is("IF"));
    let (name, _) = named(tokens.get(if guarded { 2 } else { 0 }..).unwrap_or_default())?;
    Ok(format!("DROP TABLE {}{}", if guarded { "IF EXISTS " } else { "" }, quoted(&name)))
}

fn named(tokens: &[Token]) -> Result<(String, usize), SqlError> {
    object_name(tokens).ok_or_else(|| unexpected(tokens.first()))
}

/// The parts between these signs, outside of parentheses.
fn split(tokens: &[Token], sign: char) -> Vec<&[Token]> {
    let mut depth = 0usize;
    tokens
        .split(|token| {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && token.is_sign(sign)
        })
        .collect()
}

fn unexpected(token: Option<&Token>) -> SqlError {
    SqlError::new(102, &token.map_or_else(|| "the end".to_owned(), Token::text))
}
