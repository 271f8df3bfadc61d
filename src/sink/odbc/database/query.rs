//! A database by ODBC as a [`MessageDatabase`]: for questions and small changes beside a run, or without one.

use std::sync::Arc;

use super::bind::Value;
use super::fault::Fault;
use super::plan::Plan;
use super::session::Session;
use super::sink::{OdbcOptions, OdbcSink, Shared, Unusable};
use crate::port::SinkError;
use crate::sink::dialect::Dialect;
use crate::sink::position::PositionSql;
use crate::sink::query::{MessageDatabase, Parameter, Row};

/// A database that was reached once; it makes no tables.
pub struct OdbcMessages {
    shared: Arc<Shared>,
    plan: Arc<Plan>,
}

impl OdbcMessages {
    /// Connects.
    ///
    /// # Errors
    /// When the driver is absent, or the database cannot be reached.
    pub fn connect(options: OdbcOptions) -> Result<Self, Unusable> {
        let shared = OdbcSink::new(options)?.into_shared();
        let plan = shared.connect(None)?.1;
        Ok(Self { shared, plan })
    }

    /// Does `job`, which ends its transaction itself, on a connection; rolls back when it fails.
    fn transact<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce(&mut Session<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, SinkError> {
        let (name, system) = (&self.shared.options.name, self.plan.system);
        let failed = |fault: &Fault| fault.sink_error(name, what, system);
        let (mut pooled, _) = self.shared.pool.take().map_err(|fault| failed(&fault))?;
        let done = pooled.call(self.shared.pool.patience(), move |session| {
            job(session).inspect_err(|_| {
                // The connection may be gone; the fault says so.
                let _ = session.rollback();
            })
        });
        let done = done.and_then(|done| done);
        if done.as_ref().is_err_and(|fault| fault.ends_connection(system)) {
            pooled.close();
        }
        done.map_err(|fault| failed(&fault))
    }
}

impl MessageDatabase for OdbcMessages {
    fn dialect(&self) -> &Dialect {
        &self.plan.spelling
    }

    fn table(&self) -> &str {
        &self.plan.table
    }

    fn positions(&self) -> &PositionSql {
        &self.plan.positions
    }

    fn has_positions(&mut self) -> Result<bool, SinkError> {
        let sql = Plan::probe(&self.plan.position_table);
        self.transact("look for its positions", move |session| {
            let found = match session.columns(&sql) {
                Err(fault) if fault.is_missing_table() => false,
                columns => columns.map(|_| true)?,
            };
            session.rollback()?;
            Ok(found)
        })
    }

    fn query(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, SinkError> {
        let (sql, values) = (sql.to_owned(), values(parameters));
        let what = format!("read {}", self.plan.table);
        self.transact(&what, move |session| {
            let rows = session.query(&sql, values)?;
            session.rollback()?;
            Ok(rows)
        })
    }

    fn execute(&mut self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, SinkError> {
        let (sql, values) = (sql.to_owned(), values(parameters));
        let what = format!("change {}", self.plan.table);
        self.transact(&what, move |session| {
            let affected = session.execute(&sql, values)?;
            session.commit()?;
            Ok(affected)
        })
    }
}

fn values(parameters: &[Parameter<'_>]) -> Vec<Value> {
    let value = |parameter: &Parameter<'_>| match *parameter {
        Parameter::Number(number) => Value::Long(number),
        Parameter::Text(text) => text.into(),
        Parameter::Ascii(text) => Value::Ascii(text.to_owned()),
        Parameter::Time(unix_ms) => Value::Time(unix_ms),
    };
    parameters.iter().map(value).collect()
}
