//! Makes the tables that are absent, each in a transaction of its own, and checks those that are there: all columns at
//! once by name and type, and whatever else may not fit by a row that is inserted and rolled back.

use std::sync::Arc;

use odbc_api::DataType;
use uuid::Uuid;

use super::fault::Fault;
use super::link::Link;
use super::plan::Plan;
use super::rehearsal::Absent;
use super::rows::{Head, Rows};
use super::session::Column;
use super::sink::OdbcOptions;
use crate::core::verdict::ErrorClass;
use crate::port::SinkError;
use crate::sink::dialect::{ERROR, FILLED, create_messages};
use crate::sink::position;

/// Looks at the tables through one connection.
pub struct Tables<'a> {
    pub link: &'a mut Link,
    pub plan: &'a Arc<Plan>,
    pub options: &'a OdbcOptions,
}

impl Tables<'_> {
    /// Makes what is absent where `may_create` says so, and checks that all fits.
    pub fn ensure(&mut self, may_create: bool) -> Result<(), SinkError> {
        let plan = Arc::clone(self.plan);
        let create = create_messages(&plan.spelling, &plan.table, &plan.index);
        let found = self.make(&plan.table, create.to_vec(), may_create)?;
        self.check_columns(&plan.table, &found, MESSAGES)?;
        if self.options.exactly_once {
            let found = self.make(&plan.position_table, vec![plan.positions.create.clone()], may_create)?;
            self.check_columns(&plan.position_table, &found, POSITIONS)?;
        }
        self.try_a_row()
    }

    /// For a dry run: checks what is there, makes nothing, and answers what is absent.
    pub fn look(&mut self) -> Result<Absent, SinkError> {
        let plan = Arc::clone(self.plan);
        let mut absent = Absent::default();
        let create = create_messages(&plan.spelling, &plan.table, &plan.index).to_vec();
        if self.look_at(&plan.table, MESSAGES)? {
            self.try_a_row()?;
        } else {
            absent.note(&plan.table, create);
        }
        if self.options.exactly_once && !self.look_at(&plan.position_table, POSITIONS)? {
            absent.note(&plan.position_table, vec![plan.positions.create.clone()]);
        }
        absent.check(&self.options.name, plan.system)?;
        Ok(absent)
    }

    /// Whether a table is there; it must fit then.
    fn look_at(&mut self, table: &str, wanted: &[(&str, Needs)]) -> Result<bool, SinkError> {
        match self.columns(table) {
            Ok(found) => self.check_columns(table, &found, wanted).map(|()| true),
            Err(fault) if fault.is_missing_table() => Ok(false),
            Err(fault) => Err(self.error(&format!("look at the table {table}"), &fault)),
        }
    }

    /// The columns of a table, which is made when absent.
    fn make(&mut self, table: &str, create: Vec<String>, may_create: bool) -> Result<Vec<Column>, SinkError> {
        match self.columns(table) {
            Err(fault) if fault.is_missing_table() && may_create => {}
            Err(fault) if fault.is_missing_table() => {
                let words = format!(
                    "{}: the table {table} was there and is gone; put it back, or restart to begin a new one. Nothing \
                     is written meanwhile",
                    self.options.name
                );
                return Err(SinkError::new(ErrorClass::Schema, words));
            }
            found => return found.map_err(|fault| self.error(&format!("look at the table {table}"), &fault)),
        }
        match self.create(create) {
            Ok(()) => log::info!("{}: made the table {table}", self.options.name),
            // Several processes may start at once; the first one makes it for all.
            Err(fault) if fault.is_existing_table() => {}
            Err(fault) => return Err(self.error(&format!("make the table {table}"), &fault)),
        }
        self.columns(table).map_err(|fault| self.error(&format!("look at the table {table}"), &fault))
    }

    fn create(&mut self, statements: Vec<String>) -> Result<(), Fault> {
        self.in_transaction(move |session| {
            for statement in statements {
                session.execute(&statement, Vec::new())?;
            }
            session.commit()
        })
    }

    pub(super) fn columns(&mut self, table: &str) -> Result<Vec<Column>, Fault> {
        let sql = Plan::probe(table);
        self.in_transaction(move |session| {
            let columns = session.columns(&sql)?;
            session.rollback()?;
            Ok(columns)
        })
    }

    /// Rolls back when `body` fails.
    pub(super) fn in_transaction<T: Send + 'static>(
        &mut self,
        body: impl FnOnce(&mut super::session::Session<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        self.link.call(self.options.patience(), move |session| {
            body(session).inspect_err(|_| {
                // The connection may be gone; the fault says so.
                let _ = session.rollback();
            })
        })?
    }

    /// All that is wrong with a table's columns, in one error.
    pub(super) fn check_columns(
        &self,
        table: &str,
        found: &[Column],
        wanted: &[(&str, Needs)],
    ) -> Result<(), SinkError> {
        let faults = column_faults(found, wanted);
        if faults.is_empty() {
            return Ok(());
        }
        let cure = match wanted == POSITIONS {
            true => "rename that table, and Konekt makes its own",
            false => "change the table, or name another one with --table",
        };
        let name = &self.options.name;
        Err(SinkError::new(ErrorClass::Schema, format!("{name}: the table {table} {}; {cure}", faults.join(", and "))))
    }

    /// Inserts a row and rolls back: rights, defaults, constraints and types are tried rather than guessed.
    pub(super) fn try_a_row(&mut self) -> Result<(), SinkError> {
        let plan = Arc::clone(self.plan);
        let head = Head {
            topic: "konekt-probe".into(),
            partition: 0,
            consumer_group: Arc::clone(&self.options.consumer_group),
            unix_ms: self.options.clock.unix_ms(),
        };
        let tried = self.in_transaction(move |session| {
            let id = Uuid::nil();
            let looked = session.existing(&plan, id, id);
            let tried = looked.and_then(|_| session.insert(&plan, &head, &Rows::probe(id), false));
            session.rollback()?;
            tried.map(drop)
        });
        tried.map_err(|fault| {
            let mut error = self.error(&format!("insert a row into {} (it was only a trial)", self.plan.table), &fault);
            if matches!(error.class, ErrorClass::Data | ErrorClass::Unclassified) {
                error.class = ErrorClass::Schema;
            }
            error
        })
    }

    pub(super) fn error(&self, what: &str, fault: &Fault) -> SinkError {
        fault.sink_error(&self.options.name, what, self.plan.system)
    }
}

/// What a column must be able to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Text of at least so many characters.
    Text(usize),
    /// A whole number of at least so many bits.
    Bits(u32),
    /// A date and time.
    Moment,
}

pub(super) const MESSAGES: &[(&str, Needs)] = &[
    ("topic", Needs::Text(1)),
    ("partition", Needs::Bits(32)),
    ("consumer_group", Needs::Text(1)),
    ("processing_timestamp", Needs::Moment),
    ("id", Needs::Text(36)),
    ("offset", Needs::Bits(64)),
    ("message_key", Needs::Text(1)),
    ("message_value", Needs::Text(1)),
    ("message_headers", Needs::Text(1)),
    ("processing_status", Needs::Text(9)),
    (ERROR, Needs::Text(1)),
];

pub(super) const POSITIONS: &[(&str, Needs)] = &[
    ("consumer_group", Needs::Text(1)),
    ("topic", Needs::Text(1)),
    ("partition", Needs::Bits(32)),
    ("next_offset", Needs::Bits(64)),
    ("epoch", Needs::Bits(64)),
    ("cluster_id", Needs::Text(1)),
    ("topic_id", Needs::Text(36)),
    ("written", Needs::Bits(64)),
    ("dead_lettered", Needs::Bits(64)),
    ("skipped", Needs::Bits(64)),
    ("updated_at", Needs::Moment),
    ("paused", Needs::Bits(1)),
];

fn column_faults(found: &[Column], wanted: &[(&str, Needs)]) -> Vec<String> {
    let find = |name: &str| found.iter().find(|column| column.name.eq_ignore_ascii_case(name));
    let missing: Vec<&str> = wanted.iter().map(|(name, _)| *name).filter(|name| find(name).is_none()).collect();
    let unfit: Vec<String> = wanted
        .iter()
        .filter_map(|(name, needs)| find(name).filter(|column| !needs.met_by(column.data_type)).map(|_| (name, needs)))
        .map(|(name, needs)| format!("{name} (must be {needs})"))
        .collect();
    let mut faults = Vec::new();
    if !missing.is_empty() {
        faults.push(format!("lacks the columns {}", missing.join(", ")));
    }
    if !unfit.is_empty() {
        faults.push(format!("has columns of another type: {}", unfit.join(", ")));
    }
    faults
}

impl Needs {
    /// Types that ODBC does not know are given the benefit of the doubt: the trial row decides.
    fn met_by(self, data_type: DataType) -> bool {
        let text = |length: Option<std::num::NonZeroUsize>| match self {
            Needs::Text(chars) => length.is_none_or(|length| length.get() >= chars),
            Needs::Bits(_) => false,
            // SQLite's dates are text.
            Needs::Moment => true,
        };
        let bits = |has: u32| matches!(self, Needs::Bits(needed) if needed <= has);
        match data_type {
            DataType::Char { length }
            | DataType::WChar { length }
            | DataType::Varchar { length }
            | DataType::WVarchar { length } => text(length),
            DataType::LongVarchar { .. } | DataType::WLongVarchar { .. } => text(None),
            DataType::TinyInt | DataType::SmallInt | DataType::Bit => false,
            DataType::Integer => bits(32),
            DataType::BigInt => bits(64),
            DataType::Numeric { .. } | DataType::Decimal { .. } => matches!(self, Needs::Bits(_)),
            DataType::Date | DataType::Time { .. } => false,
            DataType::Timestamp { .. } => self == Needs::Moment,
            _ => true,
        }
    }
}

impl std::fmt::Display for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Needs::Text(1) => f.write_str("text"),
            Needs::Text(chars) => write!(f, "text of {chars} characters or more"),
            Needs::Bits(bits) => write!(f, "a whole number of {bits} bits"),
            Needs::Moment => f.write_str("a date with time"),
        }
    }
}

/// Names are those that the statements fill.
const _: () = assert!(MESSAGES.len() == FILLED.len() + 1 && POSITIONS.len() == position::COLUMNS.len());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checked_columns_are_those_that_the_statements_fill() {
        let filled = FILLED.into_iter().chain([ERROR]).collect::<Vec<_>>();
        assert_eq!(MESSAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), filled);
        assert_eq!(POSITIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), position::COLUMNS);
    }

    #[test]
    fn every_fault_of_a_table_is_named_at_once() {
        let column = |name: &str, data_type| Column { name: name.to_owned(), data_type };
        let short = DataType::Varchar { length: std::num::NonZeroUsize::new(20) };
        let found = [
            column("ID", short),
            column("topic", DataType::LongVarchar { length: None }),
            column("partition", DataType::SmallInt),
            column("offset", DataType::Integer),
            column("message_value", DataType::BigInt),
            column("processing_timestamp", DataType::Date),
        ];
        let faults = column_faults(&found, MESSAGES).join("; ");
        for part in [
            "lacks the columns consumer_group, message_key, message_headers, processing_status, error_message",
            "partition (must be a whole number of 32 bits)",
            "processing_timestamp (must be a date with time)",
            "id (must be text of 36 characters or more)",
            "offset (must be a whole number of 64 bits)",
            "message_value (must be text)",
        ] {
            assert!(faults.contains(part), "{part:?} is missing: {faults}");
        }
    }
}
