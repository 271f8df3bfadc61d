//! The sink: its options, and what its writers share.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::fault::Fault;
use super::link::Target;
use super::plan::{Plan, with_driver_settings};
use super::pool::{Pool, PoolLimits, Pooled};
use super::rehearsal::Absent;
use super::tables::Tables;
use super::writer::OdbcWriter;
use crate::core::statistics::PoolStatistics;
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Clock, Sink, SinkError, SinkTraits, Writer};
use crate::sink::odbc::connection_string::{resolved, value_of};
use crate::sink::odbc::drivers::{Driver, installed};
use crate::sink::odbc::sqlstate::System;
use crate::sink::odbc::trial::Trial;
use crate::sink::script::Statement;
use crate::sink::sqlite::DEFAULT_TABLE;

/// Where and how to write. Not `Debug`: the connection string holds a password.
#[derive(Clone)]
pub struct OdbcOptions {
    /// How the sink is called in messages: `sqlserver db:1433`.
    pub name: String,
    /// For the driver manager; a driver's name in it is looked up.
    pub connection_string: String,
    /// The database, where the driver is not to be asked.
    pub system: Option<System>,
    /// The message table, which may be qualified: `schema.table`. Made when absent; the schema is not.
    pub table: String,
    /// The consumer group, for the rows and the positions.
    pub consumer_group: Arc<str>,
    /// Whether the position is kept here, with the rows.
    pub exactly_once: bool,
    /// Rolls every transaction back at its end. Tables that are absent are made in each of them, where the database takes
    /// that back; MySQL does not, so there they are temporary.
    pub dry_run: bool,
    /// Connections at the same time.
    pub pool_size: usize,
    /// How long to wait for a connection.
    pub connection_timeout: Duration,
    /// How long to wait for a statement.
    pub query_timeout: Duration,
    /// How many connections may be left behind with a driver that does not answer.
    pub abandoned_max: usize,
    /// The clock of `processing_timestamp`.
    pub clock: Arc<dyn Clock>,
}

impl OdbcOptions {
    /// Exactly-once delivery into `processed_messages` over five connections.
    pub fn new(
        connection_string: impl Into<String>,
        consumer_group: impl Into<Arc<str>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            name: "odbc".to_owned(),
            connection_string: connection_string.into(),
            system: None,
            table: DEFAULT_TABLE.to_owned(),
            consumer_group: consumer_group.into(),
            exactly_once: true,
            dry_run: false,
            pool_size: 5,
            connection_timeout: Duration::from_secs(30),
            query_timeout: Duration::from_secs(60),
            abandoned_max: 16,
            clock,
        }
    }

    /// See [`Pool::patience`].
    pub(super) fn patience(&self) -> Duration {
        self.query_timeout + Duration::from_secs(5)
    }
}

/// Why a sink cannot be used, as known before anything is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Unusable {
    pub error: SinkError,
    /// The driver is not installed or does not load.
    pub driver_missing: bool,
}

/// What all writers share.
pub struct Shared {
    pub options: OdbcOptions,
    pub pool: Pool,
    /// What the first connection said. One that was in use before says nothing, and the plan may be forgotten meanwhile.
    system: OnceLock<System>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: Option<Arc<Plan>>,
    /// What a dry run found to be absent.
    absent: Arc<Absent>,
    /// Whether the tables were there before. They may be made once; if they are gone later, that must not pass
    /// silently.
    seen: bool,
}

/// The sink; it connects when the first writer is asked for.
pub struct OdbcSink {
    shared: Arc<Shared>,
}

impl OdbcSink {
    /// A sink for these options. Looks for the driver's file; connects to nothing yet.
    ///
    /// # Errors
    /// When the driver that the connection string names is not installed.
    pub fn new(options: OdbcOptions) -> Result<Self, Unusable> {
        let installed = installed(&door::env);
        let driver = driver(&options.connection_string, &installed);
        let connection_string = resolved(&options.connection_string, &installed).map_err(|words| {
            let message = format!("{}: {words}", options.name);
            Unusable { error: SinkError::new(ErrorClass::Auth, message), driver_missing: true }
        })?;
        let OdbcOptions { connection_timeout, query_timeout, system, .. } = options;
        let connection_string = with_driver_settings(&connection_string, &driver, connection_timeout, query_timeout);
        let target = Target { connection_string, driver, connection_timeout, query_timeout, system };
        let limits = PoolLimits { connections: options.pool_size.max(1), abandoned: options.abandoned_max.max(1) };
        let pool = Pool::new(target, limits);
        Ok(Self { shared: Arc::new(Shared { options, pool, system: OnceLock::new(), state: Mutex::default() }) })
    }

    /// Connects once, and makes or checks the tables.
    ///
    /// # Errors
    /// Whatever stands in the way.
    pub fn check(&self) -> Result<(), Unusable> {
        self.shared.ready(true).map(drop)
    }

    /// Connects once, and tries what the sink needs of the database. Nothing is left behind there.
    ///
    /// # Errors
    /// When no connection can be had.
    pub fn trial(&self) -> Result<Trial, Unusable> {
        let begun = door::now();
        let (mut pooled, plan) = self.shared.connect(None)?;
        let connect_us = begun.elapsed().as_micros() as u64;
        let tables = Tables { link: &mut pooled, plan: &plan, options: &self.shared.options };
        Ok(Trial::run(tables, connect_us))
    }

    /// The statements that this sink executes, for people. Connects to ask which database it is, where the options do
    /// not say; nothing is executed there.
    ///
    /// # Errors
    /// When no connection can be had.
    pub fn script(&self) -> Result<(System, Vec<Statement>), Unusable> {
        if let Some(system) = self.shared.options.system {
            let plan = Plan::new(system, &self.shared.options.table, self.shared.pool.driver());
            return Ok((system, plan.script()));
        }
        let (_pooled, plan) = self.shared.connect(None)?;
        Ok((plan.system, plan.script()))
    }

    /// What all writers share, for one who is no writer.
    pub(super) fn into_shared(self) -> Arc<Shared> {
        self.shared
    }

    /// What the pool has done so far.
    pub fn statistics(&self) -> PoolStatistics {
        self.shared.pool.statistics()
    }
}

impl Sink for OdbcSink {
    fn traits(&self) -> SinkTraits {
        SinkTraits {
            name: self.shared.options.name.clone(),
            // Decoding and building rows goes on while others wait for a connection.
            writers_max: usize::MAX,
            // Enough that the transaction's end is shared by many, few enough that one failure repeats little.
            batches_per_write: 16,
            transactional: self.shared.options.exactly_once,
        }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        let plan = self.shared.ready(false).map_err(|unusable| unusable.error)?;
        let absent = Arc::clone(&self.shared.state.lock().absent);
        Ok(Box::new(OdbcWriter::new(Arc::clone(&self.shared), plan, absent)))
    }

    fn pool(&self) -> Option<PoolStatistics> {
        Some(self.statistics())
    }

    fn absent(&self) -> Vec<String> {
        self.shared.state.lock().absent.tables()
    }
}

impl Shared {
    /// The plan, with tables that were made or checked by whoever came first.
    fn ready(&self, again: bool) -> Result<Arc<Plan>, Unusable> {
        // Others wait: they would only do the same.
        let mut state = self.state.lock();
        if let Some(plan) = state.plan.as_ref().filter(|_| !again) {
            return Ok(Arc::clone(plan));
        }
        let (mut pooled, plan) = self.connect(state.plan.take())?;
        self.refuse_mangled_name(&plan)?;
        let mut tables = Tables { link: &mut pooled, plan: &plan, options: &self.options };
        let found = match self.options.dry_run {
            true => tables.look(),
            false => tables.ensure(!state.seen).map(|()| Absent::default()),
        };
        state.absent = Arc::new(found.map_err(|error| {
            pooled.close();
            Unusable { error, driver_missing: false }
        })?);
        state.seen = true;
        state.plan = Some(Arc::clone(&plan));
        Ok(plan)
    }

    /// A connection, and the plan for what it is connected to.
    pub fn connect(&self, known: Option<Arc<Plan>>) -> Result<(Pooled<'_>, Arc<Plan>), Unusable> {
        let system = self.options.system.or(self.system.get().copied()).unwrap_or(System::Any);
        let (pooled, greeting) = self.pool.take().map_err(|fault| Unusable {
            error: fault.sink_error(&self.options.name, "connect", self.guess(system)),
            driver_missing: is_driver_missing(&fault),
        })?;
        let plan = match (greeting, known) {
            (None, Some(plan)) => plan,
            (greeting, _) => {
                let system = greeting.map_or(system, |greeting| *self.system.get_or_init(|| greeting.system));
                Arc::new(Plan::new(system, &self.options.table, self.pool.driver()))
            }
        };
        Ok((pooled, plan))
    }

    /// The text of a statement goes to Microsoft's driver in the process's own encoding, which on Unix need not be
    /// UTF-8; values are not concerned.
    fn refuse_mangled_name(&self, plan: &Plan) -> Result<(), Unusable> {
        if plan.wide.is_none() || self.options.table.is_ascii() || cfg!(windows) {
            return Ok(());
        }
        let OdbcOptions { name, table, .. } = &self.options;
        let words = format!(
            "{name}: the table's name {table} must be of ASCII characters on SQL Server; make a view or synonym"
        );
        Err(Unusable { error: SinkError::new(ErrorClass::Schema, words), driver_missing: false })
    }

    /// Which database it is as long as it has not said so itself: for the words of a failed login.
    fn guess(&self, system: System) -> System {
        if system != System::Any {
            return system;
        }
        super::plan::system_of_driver(self.pool.driver())
    }

    /// Looks at the tables anew when the next writer is made.
    pub fn forget_plan(&self) {
        self.state.lock().plan = None;
    }
}

/// The driver's name and file, in lower case.
fn driver(connection_string: &str, installed: &[Driver]) -> String {
    let name = value_of(connection_string, "driver").unwrap_or_default();
    let known = installed.iter().find(|driver| driver.name.eq_ignore_ascii_case(&name));
    let file = known.and_then(|driver| driver.file.as_deref()).map(|file| file.display().to_string());
    format!("{name} {}", file.unwrap_or_default()).to_lowercase()
}

/// The driver manager's own words: no such data source or driver (IM002, IM003), or a file that does not load.
pub(super) fn is_driver_missing(fault: &Fault) -> bool {
    match fault {
        Fault::Said { state, words, .. } => {
            matches!(state.as_str(), "IM002" | "IM003" | "IM004" | "IM005") || words.contains("Can't open lib")
        }
        _ => false,
    }
}
