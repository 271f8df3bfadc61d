//! `.env` as Python's dotenv, Docker Compose and people write it: a value with spaces needs no quotes there, the parser we
//! use wants them. [`with_quotes`] puts them round such values before the parser sees the text; called by `layers.rs`.

use std::fmt::Write as _;

/// The text with quotes round each bare value that has spaces in it; as many lines as before.
pub fn with_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Within a value that goes on over several lines: its quote.
    let mut open = None;
    for line in text.split_inclusive('\n') {
        let bare = if open.is_none() { bare_value(line) } else { None };
        match bare {
            Some((name, value)) => {
                let end = if line.ends_with('\n') { "\n" } else { "" };
                // Writing to a String cannot fail.
                let _ = write!(out, "{name}=\"{value}\"{end}");
            }
            None => {
                open = quote_after(line, open);
                out.push_str(line);
            }
        }
    }
    out
}

/// What stands before the `=`, and a value behind it that has spaces, but no quotes and no escapes; without the comment after it.
fn bare_value(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    if name.trim_start().starts_with('#') {
        return None;
    }
    let value = value.trim();
    let comment = value.match_indices('#').find(|(at, _)| value[..*at].ends_with([' ', '\t']) || *at == 0);
    let value = comment.map_or(value, |(at, _)| &value[..at]).trim_end();
    let needs_quotes = value.contains([' ', '\t']) && !value.contains(['"', '\'', '\\']);
    needs_quotes.then_some((name, value))
}

/// The quote that is open behind this line, when `open` was before it.
fn quote_after(line: &str, mut open: Option<char>) -> Option<char> {
    if open.is_none() && line.trim_start().starts_with('#') {
        return None;
    }
    let (mut is_escaped, mut before) = (false, ' ');
    for c in line.chars() {
        match (open, c) {
            _ if is_escaped => is_escaped = false,
            // Nothing is escaped between single quotes.
            (None | Some('"'), '\\') => is_escaped = true,
            (None, '#') if before.is_whitespace() => break,
            (None, '"' | '\'') => open = Some(c),
            (Some(quote), c) if c == quote => open = None,
            _ => {}
        }
        before = c;
    }
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_values_with_spaces_get_quotes() {
        let cases = [
            ("A=ODBC Driver 18 for SQL Server\n", "A=\"ODBC Driver 18 for SQL Server\"\n"),
            ("export A = b c  # why\r\n", "export A =\"b c\"\n"),
            ("A=b#c d", "A=\"b#c d\""),
            ("A=b # c d\n", "A=b # c d\n"),
            ("A= # c d\n", "A= # c d\n"),
            ("# A=b c, don't\nA=b c\n", "# A=b c, don't\nA=\"b c\"\n"),
            ("A=\"b c\" # d\n", "A=\"b c\" # d\n"),
            ("A=it's b c\n", "A=it's b c\n"),
            ("A=\"b\nC=d e\n\"\nF=g h\n", "A=\"b\nC=d e\n\"\nF=\"g h\"\n"),
            ("A='b\\'\nF=g h", "A='b\\'\nF=\"g h\""),
            ("A=b\\ c\n", "A=b\\ c\n"),
            ("no name\n\n", "no name\n\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(with_quotes(text), expected, "{text:?}");
        }
    }
}
