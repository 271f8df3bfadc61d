//! Words, names, literals and signs.

use super::super::errors::SqlError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A keyword, a function or a name without quotes.
    Word(String),
    /// A name in brackets or double quotes.
    Name(String),
    /// `'…'` or `N'…'`.
    Text(String),
    Number(String),
    /// `@name`, or `@@name`.
    Variable(String),
    Sign(char),
}

impl Token {
    /// Whether it is this keyword.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    pub fn is_sign(&self, sign: char) -> bool {
        *self == Token::Sign(sign)
    }

    /// As it stands in messages.
    pub fn text(&self) -> String {
        match self {
            Token::Word(text) | Token::Name(text) | Token::Text(text) | Token::Number(text) | Token::Variable(text) => {
                text.clone()
            }
            Token::Sign(sign) => sign.to_string(),
        }
    }
}

/// All tokens of a text; comments are left out.
pub fn tokens(text: &str) -> Result<Vec<Token>, SqlError> {
    let mut rest = text;
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let second = rest[first.len_utf8()..].chars().next();
        rest = match (first, second) {
            (first, _) if first.is_whitespace() => rest.trim_start(),
            ('-', Some('-')) => rest.split_once('\n').map_or("", |(_, rest)| rest),
            ('/', Some('*')) => rest.split_once("*/").map_or("", |(_, rest)| rest),
            ('N' | 'n', Some('\'')) => quoted(&rest[2..], '\'', Token::Text, &mut tokens)?,
            ('\'', _) => quoted(&rest[1..], '\'', Token::Text, &mut tokens)?,
            ('"', _) => quoted(&rest[1..], '"', Token::Name, &mut tokens)?,
            ('[', _) => quoted(&rest[1..], ']', Token::Name, &mut tokens)?,
            ('@', _) => word(rest, Token::Variable, &mut tokens),
            (first, _) if first.is_ascii_digit() => word(rest, Token::Number, &mut tokens),
            (first, _) if first.is_alphabetic() || first == '_' || first == '#' => word(rest, Token::Word, &mut tokens),
            (first, _) => {
                tokens.push(Token::Sign(first));
                &rest[first.len_utf8()..]
            }
        };
    }
    Ok(tokens)
}

/// What stands up to the closing quote; a doubled one stands for itself.
fn quoted<'a>(
    text: &'a str,
    quote: char,
    kind: fn(String) -> Token,
    tokens: &mut Vec<Token>,
) -> Result<&'a str, SqlError> {
    let mut content = String::new();
    let mut rest = text;
    loop {
        let Some((before, after)) = rest.split_once(quote) else { return Err(SqlError::new(102, text)) };
        content.push_str(before);
        rest = match after.strip_prefix(quote) {
            Some(after) => after,
            None => {
                tokens.push(kind(content));
                return Ok(after);
            }
        };
        content.push(quote);
    }
}

fn word<'a>(text: &'a str, kind: fn(String) -> Token, tokens: &mut Vec<Token>) -> &'a str {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '@' | '#' | '$');
    // a number may have a fraction; a dotted name is several tokens
    let number = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| !(is_part(c) || number && c == '.')).unwrap_or(text.len());
    tokens.push(kind(text[..end].to_owned()));
    &text[end..]
}
