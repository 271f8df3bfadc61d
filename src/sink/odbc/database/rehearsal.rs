//! Tables that a dry run needs and that are absent: made at the beginning of each transaction, and taken back with it.
//!
//! Where a CREATE TABLE ends the transaction that it stands in, as in MySQL, they are temporary tables: those of a session
//! of its own, which end with it, and whose rows can be rolled back.

use super::fault::Fault;
use super::plan::Plan;
use super::session::Session;
use crate::core::verdict::ErrorClass;
use crate::port::SinkError;
use crate::sink::odbc::sqlstate::System;

/// What is absent, and how it is made.
#[derive(Default)]
pub struct Absent(Vec<(String, Vec<String>)>);

impl Absent {
    /// Enters a table, quoted, with the statements that make it.
    pub fn note(&mut self, table: &str, create: Vec<String>) {
        self.0.push((table.to_owned(), create));
    }

    /// The tables, quoted.
    pub fn tables(&self) -> Vec<String> {
        self.0.iter().map(|(table, _)| table.clone()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they can be made and taken back.
    ///
    /// # Errors
    /// When nobody knows what this database does with a CREATE TABLE in a transaction.
    pub fn check(&self, name: &str, system: System) -> Result<(), SinkError> {
        if self.is_empty() || system != System::Any {
            return Ok(());
        }
        let words = format!(
            "{name}: {} is not there, and whether this database takes a CREATE TABLE back is not known, so a dry run would \
             perhaps leave it behind: make it first; `konekt plan` shows how",
            self.tables().join(" and ")
        );
        Err(SinkError::new(ErrorClass::Schema, words))
    }

    /// Makes them, in a transaction that has done nothing yet.
    pub fn make(&self, session: &mut Session<'_>, plan: &Plan) -> Result<(), Fault> {
        let temporary = plan.system == System::MySql;
        for (table, create) in &self.0 {
            if temporary && session.columns(&Plan::probe(table)).is_ok() {
                continue;
            }
            for statement in create {
                match temporary {
                    true => {
                        session.execute(&statement.replacen("CREATE TABLE", "CREATE TEMPORARY TABLE", 1), vec![])?
                    }
                    false => session.execute(statement, vec![])?,
                };
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_database_that_takes_them_back_is_given_tables() {
        let mut absent = Absent::default();
        assert!(absent.check("odbc", System::Any).is_ok(), "nothing is absent");
        absent.note("\"t\"", vec!["CREATE TABLE \"t\" (a INTEGER)".to_owned()]);
        for (system, is_taken_back) in
            [(System::Postgres, true), (System::SqlServer, true), (System::MySql, true), (System::Any, false)]
        {
            assert_eq!(absent.check("odbc", system).is_ok(), is_taken_back, "{system}");
        }
        let error = absent.check("odbc", System::Any).unwrap_err();
        assert!(error.class == ErrorClass::Schema && error.message.contains("konekt plan"), "{error}");
    }
}
