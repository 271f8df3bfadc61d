//! SQLite through its ODBC driver, which reports SQLite's result code as the native one and HY000 as the SQLSTATE. The
//! classes are those of [`crate::sink::sqlite`], which a test holds together. Source:
//! <https://sqlite.org/rescode.html>.

use super::{Entry, System};
use crate::core::verdict::ErrorClass::{self, *};

const fn row(native: i32, class: ErrorClass, meaning: &'static str, cure: &'static str) -> Entry {
    Entry::new(System::Sqlite, class, meaning, cure).native(native)
}

const AGAIN: &str = "nothing: it is tried again";
const RIGHTS: &str = "make the file and its directory writable for this user";

pub(super) const ENTRIES: &[Entry] = &[
    row(1, Schema, "the statement does not fit the tables", "compare the table with what `konekt plan` shows"),
    row(3, Auth, "the file may not be opened so", RIGHTS),
    row(4, Transient, "the statement was broken off", AGAIN),
    row(5, Contention, "another program holds the lock", "raise Timeout= in the connection string; it is tried again"),
    row(6, Contention, "another connection of this process holds the lock", AGAIN),
    row(7, Overload, "memory is short", "lower batch_size"),
    row(8, Auth, "the file may not be written", RIGHTS),
    row(9, Transient, "the statement was interrupted", AGAIN),
    row(10, Transient, "the disk failed", "see the system's log; it is tried again"),
    row(11, Schema, "the file is damaged", "`sqlite3 FILE .recover`, or restore a backup together with its -wal"),
    row(13, Overload, "the disk is full", "free disk space; it is tried again"),
    row(14, Auth, "the file cannot be opened", "check that its directory is there and may be written"),
    row(15, Contention, "the locking protocol failed", AGAIN),
    row(17, Schema, "the table was changed", AGAIN),
    row(18, Data, "a value is larger than SQLite stores", "see the record that is named"),
    row(19, Data, "a constraint of the table refuses the row", "see the table's keys, NOT NULLs and checks"),
    row(20, Data, "a value does not fit its column", "see the record that is named"),
    row(21, Unclassified, "the library was used wrongly", "this should not happen: please report it"),
    row(23, Auth, "the statement is not authorized", RIGHTS),
    row(26, Schema, "the file is no SQLite database", "name another one, or move it away"),
];
