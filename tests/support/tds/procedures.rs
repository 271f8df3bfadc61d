//! The procedures by which drivers prepare and execute: `sp_prepare`, `sp_execute` and their kin.

use std::sync::Arc;

use super::answer::{Answer, Done};
use super::database::{Declared, Parameters};
use super::errors::{Reach, SqlError};
use super::faults::On;
use super::request::{Call, Parameter};
use super::session::{Answered, Session, Stop};
use super::tsql::{self, Kind, Statement, Token};

/// A prepared statement: mostly one, but any text of SQL can be prepared.
pub struct Prepared {
    sql: String,
    parameters: Vec<Declared>,
    statements: Vec<Statement>,
}

impl Session<'_> {
    pub fn calls(&mut self, calls: &[Call], answer: &mut Answer) -> Answered<Option<Reach>> {
        let mut worst = None;
        for call in calls {
            worst = worst.max(self.call(call, answer)?);
            // each is a batch of its own; only the loss of the transaction ends them all
            if worst >= Some(Reach::Transaction) {
                break;
            }
        }
        Ok(worst)
    }

    fn call(&mut self, call: &Call, answer: &mut Answer) -> Answered<Option<Reach>> {
        let mut handle = None;
        let reach = match self.procedure(call, &mut handle, answer) {
            Err(Stop::Error(error)) => Some(self.report(&error, Done::InProcedure, answer)),
            other => other?,
        };
        answer.returned(if reach.is_some() { -6 } else { 0 });
        if let Some(handle) = handle {
            answer.handle(handle);
        }
        match reach {
            Some(_) => answer.failed(Done::Procedure),
            None => answer.done(Done::Procedure, None),
        }
        Ok(reach)
    }

    fn procedure(&mut self, call: &Call, new: &mut Option<i32>, answer: &mut Answer) -> Answered<Option<Reach>> {
        match call {
            Call::Prepare { declared, sql } => {
                let (handle, prepared) = self.prepare(declared, sql, answer)?;
                *new = Some(handle);
                self.describe(&prepared, answer)?;
                Ok(None)
            }
            Call::Unprepare { handle } => {
                self.prepared.remove(handle);
                Ok(None)
            }
            Call::Execute { handle, parameters } => {
                let prepared = self.prepared.get(handle).cloned();
                let prepared = prepared.ok_or_else(|| SqlError::new(8179, &handle.to_string()))?;
                self.execute(&prepared, parameters, answer)
            }
            Call::PrepareAndExecute { declared, sql, parameters } => {
                let (handle, prepared) = self.prepare(declared, sql, answer)?;
                *new = Some(handle);
                self.execute(&prepared, parameters, answer)
            }
            Call::ExecuteSql { declared, sql, parameters } => {
                self.execute(&Prepared::new(declared, sql)?, parameters, answer)
            }
            Call::Other { procedure, .. } => Err(SqlError::new(2812, procedure).into()),
        }
    }

    fn prepare(&mut self, declared: &str, sql: &str, answer: &mut Answer) -> Answered<(i32, Arc<Prepared>)> {
        let prepared = self.faulted(On::Prepare, sql, answer, |session, _| {
            let prepared = Prepared::new(declared, sql)?;
            for sql in prepared.about_rows() {
                session.database.describe(sql)?;
            }
            Ok(Arc::new(prepared))
        });
        match prepared {
            Ok(prepared) => {
                self.last_handle += 1;
                self.prepared.insert(self.last_handle.into(), Arc::clone(&prepared));
                Ok((self.last_handle, prepared))
            }
            Err(Stop::Error(error)) => {
                answer.error(&error);
                Err(SqlError { reach: error.reach, ..SqlError::new(8180, "") }.into())
            }
            Err(stop) => Err(stop),
        }
    }

    /// The columns that a prepared statement will answer.
    fn describe(&self, prepared: &Prepared, answer: &mut Answer) -> Answered<()> {
        if let Some(sql) = prepared.about_rows().next() {
            let columns = self.database.describe(sql)?;
            if !columns.is_empty() {
                answer.columns(&columns);
            }
        }
        answer.done(Done::InProcedure, None);
        Ok(())
    }

    fn execute(&mut self, prepared: &Prepared, values: &[Parameter], answer: &mut Answer) -> Answered<Option<Reach>> {
        let parameters = Parameters { declared: &prepared.parameters, values };
        self.executed(&prepared.sql, &prepared.statements, parameters, Done::InProcedure, answer)
    }
}

impl Prepared {
    fn new(list: &str, sql: &str) -> Result<Self, SqlError> {
        Ok(Self { sql: sql.to_owned(), parameters: declared(list)?, statements: tsql::parse(sql)? })
    }

    /// What reads and writes rows whatever else happens, and so must make sense from the start.
    fn about_rows(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter_map(|statement| match statement {
            Statement::Sql { sql, kind: Kind::Read | Kind::Write } => Some(sql.as_str()),
            _ => None,
        })
    }
}

/// `@P1 nvarchar(36),@P2 int`.
fn declared(list: &str) -> Result<Vec<Declared>, SqlError> {
    let tokens = tsql::tokens(list)?;
    let mut all: Vec<Declared> = Vec::new();
    let mut is_text = false;
    for token in tokens {
        match (token, all.last_mut()) {
            (Token::Variable(name), _) => all.push(Declared { name, size: None }),
            (Token::Word(kind), _) if !kind.eq_ignore_ascii_case("max") => {
                is_text = kind.to_lowercase().contains("char")
            }
            (Token::Number(size), Some(last)) if is_text => last.size = size.parse().ok(),
            _ => {}
        }
    }
    Ok(all)
}
