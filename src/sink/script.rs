//! The SQL that a sink uses, for people: to be read before it runs, or to make the tables by hand.

use serde::Serialize;

use crate::sink::dialect::{Dialect, create_messages};
use crate::sink::position::PositionSql;

/// One statement and when it is executed. `?` stands for a bound value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Statement {
    pub when: &'static str,
    pub sql: String,
}

/// A statement and when it is executed.
pub(in crate::sink) fn statement(when: &'static str, sql: &str) -> Statement {
    Statement { when, sql: sql.to_owned() }
}

/// What the statements of a message table are made of.
pub(in crate::sink) struct Messages<'a> {
    pub dialect: &'a Dialect,
    /// The table, quoted.
    pub table: &'a str,
    /// The bare name of its index.
    pub index: &'a str,
    /// Inserts a batch's rows.
    pub insert: &'a str,
    /// Inserts a dead letter; `None`: as any row.
    pub insert_failed: Option<&'a str>,
    /// Asks which of a batch's ids are there already; `None`: the insertion itself leaves them out.
    pub existing: Option<&'a str>,
    /// How the bad records of a batch are found, where that takes statements of its own.
    pub search: Vec<Statement>,
}

/// All statements in the order of a run.
pub(in crate::sink) fn script(messages: Messages<'_>, positions: &PositionSql) -> Vec<Statement> {
    let [table, index] = create_messages(messages.dialect, messages.table, messages.index);
    let mut script = vec![
        statement("at the start, where the message table is absent", &table),
        statement("with it", &index),
        statement("at the start, where the position table is absent", &positions.create),
        statement("a partition is taken: its owner's epoch is raised, which fences the owner before", &positions.take),
        statement("in the same transaction: where it goes on", &positions.read),
        statement("in the same transaction, where there was no row", &positions.insert),
    ];
    script.extend(messages.existing.map(|sql| statement("each batch: which of its rows are there already", sql)));
    script.push(statement("each batch: its rows", messages.insert));
    script.push(statement(
        "in the same transaction: the position, unless somebody else has moved it; then all is rolled back",
        &positions.advance,
    ));
    script.extend(messages.search);
    script.extend(
        messages.insert_failed.map(|sql| statement("a record that cannot be written, with dead_letter_table", sql)),
    );
    script.push(statement("with dead letters, in the same transaction", &positions.recount));
    script.push(statement("a person pauses or resumes a partition", &positions.pause));
    script
}
