//! Runs statements for a session, and begins and ends its transactions.

use super::answer::{Answer, Done};
use super::database::{Outcome, Parameters};
use super::errors::{Reach, SqlError};
use super::faults::On;
use super::request::Transaction;
use super::session::{Answered, Session, Stop};
use super::tsql::{Setting, Statement};

impl Session<'_> {
    pub fn executed(
        &mut self,
        sql: &str,
        statements: &[Statement],
        parameters: Parameters<'_>,
        done: Done,
        answer: &mut Answer,
    ) -> Answered<Option<Reach>> {
        self.faulted(On::Execute, sql, answer, |session, answer| session.run_all(statements, parameters, done, answer))
    }

    /// Runs statement after statement, past those that fail alone; how far the worst error reached.
    fn run_all(
        &mut self,
        statements: &[Statement],
        parameters: Parameters<'_>,
        done: Done,
        answer: &mut Answer,
    ) -> Answered<Option<Reach>> {
        let mut worst = None;
        for statement in statements {
            let reach = match self.run_one(statement, parameters, done, answer) {
                Err(Stop::Error(error)) => Some(self.report(&error, done, answer)),
                other => other?,
            };
            worst = worst.max(reach);
            if reach > Some(Reach::Statement) {
                break;
            }
        }
        Ok(worst)
    }

    fn run_one(
        &mut self,
        statement: &Statement,
        parameters: Parameters<'_>,
        done: Done,
        answer: &mut Answer,
    ) -> Answered<Option<Reach>> {
        match statement {
            Statement::If { condition, then, otherwise } => {
                let branch = if self.database.is_true(condition, parameters)? { then } else { otherwise };
                return self.run_all(branch, parameters, done, answer);
            }
            Statement::Sql { sql, kind } => {
                if self.begins_implicitly && !self.database.is_in_transaction() {
                    self.begin(answer)?;
                }
                match self.database.execute(sql, *kind, parameters)? {
                    Outcome::Rows(columns, rows) => {
                        answer.columns(&columns);
                        rows.iter().for_each(|row| answer.row(&columns, row));
                        answer.done(done, Some(rows.len() as u64));
                    }
                    Outcome::Count(count) => answer.done(done, Some(count).filter(|_| self.counts)),
                    Outcome::Nothing => answer.done(done, None),
                }
                return Ok(None);
            }
            Statement::Begin => self.begin(answer)?,
            Statement::Commit => self.commit(answer)?,
            Statement::Rollback(savepoint) => self.rollback(savepoint.as_deref(), answer)?,
            Statement::Save(name) => self.save(name, answer)?,
            Statement::Set(setting) => self.set(*setting)?,
        }
        answer.done(done, None);
        Ok(None)
    }

    fn set(&mut self, setting: Setting) -> Result<(), SqlError> {
        match setting {
            Setting::NoCount(on) => self.counts = !on,
            Setting::AbortsTransaction(on) => self.aborts_transaction = on,
            Setting::ImplicitTransactions(on) => self.begins_implicitly = on,
            Setting::LockTimeout(ms) => self.database.set_lock_timeout(ms)?,
            Setting::Other => {}
        }
        Ok(())
    }

    // ---- transactions

    pub fn transaction(&mut self, transaction: &Transaction, answer: &mut Answer) -> Answered<()> {
        match transaction {
            Transaction::Begin => self.begin(answer)?,
            Transaction::Commit { begins } => {
                self.commit(answer)?;
                self.begin_if(*begins, answer)?;
            }
            Transaction::Rollback { savepoint, begins } => {
                self.rollback(savepoint.as_deref(), answer)?;
                self.begin_if(*begins, answer)?;
            }
            Transaction::Save(name) => self.save(name, answer)?,
        }
        answer.done(Done::Statement, None);
        Ok(())
    }

    fn begin_if(&mut self, begins: bool, answer: &mut Answer) -> Answered<()> {
        if begins { self.begin(answer) } else { Ok(()) }
    }

    fn begin(&mut self, answer: &mut Answer) -> Answered<()> {
        self.faulted(On::Begin, "", answer, |session, answer| {
            let nested = session.database.is_in_transaction();
            session.database.begin();
            if !nested {
                answer.began(session.database.transaction());
            }
            Ok(())
        })
    }

    fn commit(&mut self, answer: &mut Answer) -> Answered<()> {
        self.faulted(On::Commit, "", answer, |session, answer| {
            session.database.commit()?;
            if !session.database.is_in_transaction() {
                answer.committed(session.database.transaction());
            }
            Ok(())
        })
    }

    fn rollback(&mut self, savepoint: Option<&str>, answer: &mut Answer) -> Answered<()> {
        self.faulted(On::Rollback, "", answer, |session, answer| match savepoint {
            Some(name) => Ok(session.database.rollback_to(name)?),
            None => {
                session.database.rollback()?;
                answer.rolled_back(session.database.transaction());
                Ok(())
            }
        })
    }

    fn save(&mut self, name: &str, answer: &mut Answer) -> Answered<()> {
        self.faulted(On::Save, "", answer, |session, _| Ok(session.database.save(name)?))
    }
}
