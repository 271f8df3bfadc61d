//! What databases say, as a class: the table of SQLSTATEs and native codes, with what each means and what to do.
//!
//! Every sink over ODBC asks [`classify`] about the first diagnostic of a failed call, and so does MongoDB's; `konekt
//! errors` prints the table. One file per database holds its rows. A SQLSTATE is five characters whose first two are its
//! class; a native code is the database's own number. SQL Server puts most things under one SQLSTATE, so there the native
//! code decides; PostgreSQL has telling SQLSTATEs, but its driver reports every failed connection as 08001, so there the
//! words decide; MySQL and MariaDB are known by native code, and so is SQLite, whose driver says HY000 of everything.
//!
//! What stays retried for ever and what may end as a dead letter follows from the class (`core::verdict`). Where a code
//! can mean both, the row takes the class that keeps records: a needless pause costs time, a needless dead letter
//! costs a person's trust.

mod mongodb;
mod mysql;
mod postgres;
mod sqlite;
mod sqlserver;
mod standard;
mod values;

pub use self::values::without_values;

use std::fmt;

use crate::core::verdict::ErrorClass;

/// Whose codes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum System {
    /// SQL Server and Azure SQL, through Microsoft's drivers or FreeTDS.
    SqlServer,
    /// PostgreSQL, through psqlodbc.
    Postgres,
    /// MySQL and MariaDB, through either's Connector/ODBC.
    MySql,
    /// SQLite, through Christian Werner's driver.
    Sqlite,
    /// MongoDB, which is no SQL database and has numbers of its own.
    MongoDb,
    /// Any database: what ODBC itself defines, and the driver manager.
    Any,
}

impl System {
    /// All of them, in the table's order.
    pub const ALL: [System; 6] =
        [System::SqlServer, System::Postgres, System::MySql, System::Sqlite, System::MongoDb, System::Any];

    /// Its name in `--system` and in output.
    pub const fn name(self) -> &'static str {
        match self {
            System::SqlServer => "sqlserver",
            System::Postgres => "postgres",
            System::MySql => "mysql",
            System::Sqlite => "sqlite",
            System::MongoDb => "mongodb",
            System::Any => "any",
        }
    }

    /// The system called `name`.
    pub fn named(name: &str) -> Option<System> {
        System::ALL.into_iter().find(|system| system.name() == name)
    }

    /// Its rows.
    pub fn entries(self) -> &'static [Entry] {
        match self {
            System::SqlServer => sqlserver::ENTRIES,
            System::Postgres => postgres::ENTRIES,
            System::MySql => mysql::ENTRIES,
            System::Sqlite => sqlite::ENTRIES,
            System::MongoDb => mongodb::ENTRIES,
            System::Any => standard::ENTRIES,
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub system: System,
    /// A SQLSTATE, or the first characters of several (`08`); empty for any.
    pub state: &'static str,
    /// The database's own number; none for any.
    pub native: Option<i32>,
    /// Words the message must have, in lower case; `…` stands for anything between. Empty for any message.
    pub words: &'static str,
    pub class: ErrorClass,
    /// What happened.
    pub meaning: &'static str,
    /// What to do about it.
    pub cure: &'static str,
}

/// What nobody has put in the table.
static UNKNOWN: Entry = Entry::new(
    System::Any,
    ErrorClass::Unclassified,
    "it is in no table of ours",
    "look it up in \
    the database's manual; max_retries bounds what is tried",
);

/// Every row; within a system the first that fits wins among equally specific ones.
pub fn entries() -> impl Iterator<Item = &'static Entry> + Clone {
    System::ALL.into_iter().flat_map(System::entries).chain([&UNKNOWN])
}

/// The row that fits a diagnostic best.
///
/// Words beat a native code, that beats a SQLSTATE, and a longer SQLSTATE beats a shorter one. A system's own rows come
/// before those of ODBC itself.
///
/// ```
/// use konekt::core::verdict::ErrorClass;
/// use konekt::sink::odbc::sqlstate::{System, classify};
///
/// assert_eq!(classify(System::SqlServer, "40001", 1205, "deadlock victim").class, ErrorClass::Contention);
/// assert_eq!(classify(System::Any, "08S01", 0, "").class, ErrorClass::Transient);
/// ```
pub fn classify(system: System, state: &str, native: i32, message: &str) -> &'static Entry {
    let message = message.to_lowercase();
    let fitting = entries().filter(|entry| entry.fits(system, state, native, &message));
    // min_by_key keeps the first of equals
    fitting.min_by_key(|entry| std::cmp::Reverse(entry.weight())).unwrap_or(&UNKNOWN)
}

/// The rows about a code, for a person who has met it: a SQLSTATE or a native code, in one system or in all. A SQLSTATE
/// without a row of its own gets the row of its class. `None` when the text is no code at all.
pub fn look_up(code: &str, system: Option<System>) -> Option<Vec<&'static Entry>> {
    let state = code.to_ascii_uppercase();
    let native = code.parse::<i32>().ok();
    let well_formed = state.len() == 5
        && state.chars().all(|character| character.is_ascii_alphanumeric())
        && state.chars().any(|character| character.is_ascii_digit());
    if native.is_none() && !well_formed {
        return None;
    }
    let mut found = Vec::new();
    for system in System::ALL.into_iter().filter(|one| system.is_none_or(|wanted| wanted == *one)) {
        let rows = system.entries();
        found.extend(rows.iter().filter(|row| row.native.is_some() && row.native == native));
        if well_formed {
            let of_state = |row: &&Entry| row.native.is_none() && !row.state.is_empty() && state.starts_with(row.state);
            let length = rows.iter().filter(of_state).map(|row| row.state.len()).max();
            found.extend(rows.iter().filter(of_state).filter(|row| Some(row.state.len()) == length));
        }
    }
    if found.is_empty() {
        found.push(&UNKNOWN);
    }
    Some(found)
}

impl Entry {
    const fn new(system: System, class: ErrorClass, meaning: &'static str, cure: &'static str) -> Entry {
        Entry { system, state: "", native: None, words: "", class, meaning, cure }
    }

    const fn state(self, state: &'static str) -> Entry {
        Entry { state, ..self }
    }

    const fn native(self, native: i32) -> Entry {
        Entry { native: Some(native), ..self }
    }

    const fn words(self, words: &'static str) -> Entry {
        Entry { words, ..self }
    }

    fn fits(&self, system: System, state: &str, native: i32, message: &str) -> bool {
        (self.system == system || self.system == System::Any)
            && state.starts_with(self.state)
            && self.native.is_none_or(|own| own == native)
            && says(message, self.words)
    }

    /// Greater is more specific.
    fn weight(&self) -> (bool, bool, bool, usize) {
        (!self.words.is_empty(), self.native.is_some(), self.system != System::Any, self.state.len())
    }
}

/// Whether all pieces of `words` stand in the message, in their order.
fn says(message: &str, words: &str) -> bool {
    let mut rest = message;
    words.split('…').map(str::trim).all(|piece| match rest.find(piece) {
        Some(at) => {
            rest = &rest[at + piece.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests;
