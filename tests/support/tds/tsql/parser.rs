//! Where one statement ends and the next begins: Transact-SQL needs no semicolon between them.

use super::super::errors::SqlError;
use super::lexer::Token;
use super::{Kind, Setting, Statement, render, table};

type Parsed<T> = Result<T, SqlError>;

/// Words that begin a statement, or end a block.
const STARTS: &[&str] = &[
    "ALTER",
    "BEGIN",
    "COMMIT",
    "CREATE",
    "DECLARE",
    "DELETE",
    "DROP",
    "ELSE",
    "END",
    "EXEC",
    "EXECUTE",
    "IF",
    "INSERT",
    "MERGE",
    "PRINT",
    "RAISERROR",
    "ROLLBACK",
    "SAVE",
    "SELECT",
    "SET",
    "THROW",
    "TRUNCATE",
    "UPDATE",
    "USE",
    "WHILE",
];

/// Which of these words belong to a statement that began with the first.
const CONTINUES: &[(&str, &[&str])] =
    &[("INSERT", &["SELECT"]), ("UPDATE", &["SET"]), ("WITH", &["SELECT", "INSERT", "UPDATE", "DELETE"])];

pub struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    pub fn new(tokens: Vec<Token>) -> Self {
        Self { tokens, at: 0 }
    }

    pub fn batch(mut self) -> Parsed<Vec<Statement>> {
        let statements = self.statements()?;
        match self.peek() {
            Some(unexpected) => Err(syntax(unexpected)),
            None => Ok(statements),
        }
    }

    /// Statements up to an END or the end of the text.
    fn statements(&mut self) -> Parsed<Vec<Statement>> {
        let mut statements = Vec::new();
        loop {
            while self.take_sign(';') {}
            match self.peek() {
                None => return Ok(statements),
                Some(token) if token.is("END") => return Ok(statements),
                Some(_) => statements.extend(self.statement()?),
            }
        }
    }

    /// One statement, or those of a block.
    fn statement(&mut self) -> Parsed<Vec<Statement>> {
        let Some(Token::Word(word)) = self.peek().cloned() else { return Err(self.unexpected()) };
        let one = match word.to_uppercase().as_str() {
            "IF" => self.condition()?,
            "BEGIN" => {
                self.at += 1;
                if !self.take_any(&["TRAN", "TRANSACTION"]) {
                    return self.block();
                }
                self.take_name();
                Statement::Begin
            }
            "COMMIT" => {
                self.transaction_word();
                Statement::Commit
            }
            "ROLLBACK" => Statement::Rollback(self.transaction_word()),
            "SAVE" => Statement::Save(self.transaction_word().ok_or_else(|| self.unexpected())?),
            "SET" => Statement::Set(setting(&self.take_statement("SET"))),
            "USE" => {
                self.take_statement("USE");
                Statement::Set(Setting::Other)
            }
            "CREATE" | "DROP" | "TRUNCATE" => {
                let tokens = self.take_statement("");
                Statement::Sql { sql: table::definition(&tokens)?, kind: Kind::Define }
            }
            "SELECT" => Statement::Sql { sql: render::rows(&self.take_statement("SELECT"))?, kind: Kind::Read },
            "INSERT" | "UPDATE" | "DELETE" | "WITH" => {
                let tokens = self.take_statement(&word);
                let reads = tokens[0].is("WITH")
                    && !tokens.iter().any(|it| it.is("INSERT") || it.is("UPDATE") || it.is("DELETE"));
                Statement::Sql { sql: render::rows(&tokens)?, kind: if reads { Kind::Read } else { Kind::Write } }
            }
            _ => return Err(self.unexpected()),
        };
        Ok(vec![one])
    }

    fn condition(&mut self) -> Parsed<Statement> {
        let tokens = self.take_statement("IF");
        let condition = format!("SELECT CASE WHEN {} THEN 1 ELSE 0 END", render::rows(&tokens[1..])?);
        let then = self.statement()?;
        let semicolon = self.at;
        while self.take_sign(';') {}
        let otherwise = if self.take_any(&["ELSE"]) {
            self.statement()?
        } else {
            self.at = semicolon;
            Vec::new()
        };
        Ok(Statement::If { condition, then, otherwise })
    }

    fn block(&mut self) -> Parsed<Vec<Statement>> {
        let statements = self.statements()?;
        if self.take_any(&["END"]) { Ok(statements) } else { Err(SqlError::new(102, "BEGIN")) }
    }

    /// What follows COMMIT, ROLLBACK and SAVE: a word without meaning, then a name.
    fn transaction_word(&mut self) -> Option<String> {
        self.at += 1;
        self.take_any(&["TRAN", "TRANSACTION", "WORK"]);
        self.take_name()
    }

    /// The tokens up to where the next statement begins.
    fn take_statement(&mut self, first: &str) -> Vec<Token> {
        let start = self.at;
        let continues = CONTINUES.iter().find(|(word, _)| word.eq_ignore_ascii_case(first)).map_or(&[][..], |it| it.1);
        let mut continued = false;
        let mut depth = 0usize;
        self.at += 1;
        while let Some(token) = self.tokens.get(self.at) {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                Token::Sign(';') if depth == 0 => break,
                token if depth == 0 && STARTS.iter().any(|word| token.is(word)) => {
                    let previous = &self.tokens[self.at - 1];
                    let joined = ["UNION", "ALL", "EXCEPT", "INTERSECT"].iter().any(|word| previous.is(word));
                    let case = token.is("END") || token.is("ELSE");
                    let within_case = case && is_within_case(&self.tokens[start..self.at]);
                    if !joined && !within_case {
                        if continued || !continues.iter().any(|word| token.is(word)) {
                            break;
                        }
                        continued = true;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        self.tokens[start..self.at].to_vec()
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take_any(&mut self, words: &[&str]) -> bool {
        let found = self.peek().is_some_and(|token| words.iter().any(|word| token.is(word)));
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: char) -> bool {
        let found = self.peek().is_some_and(|token| token.is_sign(sign));
        self.at += usize::from(found);
        found
    }

    /// The name of a transaction or savepoint.
    fn take_name(&mut self) -> Option<String> {
        let name = match self.peek()? {
            Token::Name(name) => name.clone(),
            Token::Word(word) if !STARTS.iter().any(|start| word.eq_ignore_ascii_case(start)) => word.clone(),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    fn unexpected(&self) -> SqlError {
        self.peek().map_or_else(|| SqlError::new(102, "the end"), syntax)
    }
}

/// Whether more CASE than END stand here.
fn is_within_case(tokens: &[Token]) -> bool {
    let count = |word: &str| tokens.iter().filter(|token| token.is(word)).count();
    count("CASE") > count("END")
}

/// `SET NAME ON`, `SET NAME value`.
fn setting(tokens: &[Token]) -> Setting {
    let on = tokens.last().is_some_and(|token| token.is("ON"));
    let value = || tokens[2..].iter().map(Token::text).collect::<String>().parse().unwrap_or(-1);
    match tokens.get(1) {
        Some(name) if name.is("NOCOUNT") => Setting::NoCount(on),
        Some(name) if name.is("XACT_ABORT") => Setting::AbortsTransaction(on),
        Some(name) if name.is("IMPLICIT_TRANSACTIONS") => Setting::ImplicitTransactions(on),
        Some(name) if name.is("LOCK_TIMEOUT") => Setting::LockTimeout(value()),
        _ => Setting::Other,
    }
}

fn syntax(token: &Token) -> SqlError {
    SqlError::new(102, &token.text())
}
