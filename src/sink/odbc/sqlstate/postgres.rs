//! PostgreSQL. Source: its manual's "Appendix A. PostgreSQL Error Codes"; words are those of the server and of libpq,
//! for psqlodbc reports every failed connection as 08001 with native code 101.

use super::{Entry, System};
use crate::core::verdict::ErrorClass::{self, *};

const fn row(state: &'static str, class: ErrorClass, meaning: &'static str, cure: &'static str) -> Entry {
    Entry::new(System::Postgres, class, meaning, cure).state(state)
}

/// Words of a connection that was lost, where the SQLSTATE says nothing.
const fn cut(words: &'static str) -> Entry {
    Entry::new(System::Postgres, Transient, "the link was cut", AGAIN).state("HY000").words(words)
}

/// A failed connection.
const fn says(words: &'static str, class: ErrorClass, meaning: &'static str, cure: &'static str) -> Entry {
    Entry::new(System::Postgres, class, meaning, cure).state("08").words(words)
}

const AGAIN: &str = "nothing: it is tried again";
const TABLE: &str = "compare the table with what `konekt plan` shows";
const RECORD: &str = "see the record that is named";
const LOGIN: &str = "check user and password";
const POOL: &str = "lower --pool-size, or raise max_connections";

pub(super) const ENTRIES: &[Entry] = &[
    // a failed connection: what needs a person stands first, for one message may tell of several addresses
    says("password authentication failed", Auth, "the password was refused", LOGIN),
    says("no password supplied", Auth, "the server wants a password", LOGIN),
    says("authentication failed", Auth, "the login was refused", LOGIN),
    says("no pg_hba.conf entry", Auth, "the server lets nobody in from here", "add a line to its pg_hba.conf"),
    says("pg_hba.conf rejects", Auth, "the server lets nobody in from here", "change the line in its pg_hba.conf"),
    says("role … is not permitted to log in", Auth, "the role may not log in", "ALTER ROLE … LOGIN"),
    says("role … does not exist", Auth, "there is no such role", "CREATE ROLE … LOGIN, or correct the user"),
    says(
        "permission denied for database",
        Auth,
        "the user may not connect to the database",
        "GRANT CONNECT ON DATABASE … TO …",
    ),
    says("certificate verify failed", Auth, "the server's certificate is signed by nobody we trust", "set sslrootcert"),
    says(
        "server certificate for",
        Auth,
        "the server's certificate is for another name",
        "use that name, or SSLmode=require",
    ),
    says("does not support ssl", Auth, "the server has no TLS", "SSLmode=prefer if the network is trusted"),
    says(
        "lacks some options",
        Auth,
        "the connection string lacks server, database or user",
        "add Servername=, Database=, UID=",
    ),
    says("database … does not exist", Schema, "there is no such database", "CREATE DATABASE …, or correct the name"),
    says("not currently accepting connections", Transient, "the database takes no connections now", AGAIN),
    says("too many clients", Overload, "the server has as many connections as it takes", POOL),
    says("too many connections", Overload, "the role or database has as many connections as it may", POOL),
    says("remaining connection slots", Overload, "the last connections are for administrators", POOL),
    says("no more connections allowed", Overload, "the pooler has as many connections as it takes", POOL),
    says("starting up", Transient, "the server is starting", AGAIN),
    says("shutting down", Transient, "the server is shutting down", AGAIN),
    says("in recovery mode", Transient, "the server is recovering from a crash", AGAIN),
    says("not yet accepting connections", Transient, "the server is recovering", AGAIN),
    says("could not translate host name", Transient, "the server's name is unknown", "check it and the name service"),
    says("timeout expired", Transient, "the server has not answered in time", "check host, port and firewall"),
    says("connection refused", Transient, "nothing listens on the server's port", "check host, port and that it runs"),
    says(
        "no such file or directory",
        Transient,
        "the server's socket is not there",
        "check that it runs, or name a host",
    ),
    says("no route to host", Transient, "there is no way to the server's machine", "check host and network"),
    says("server closed the connection", Transient, "the link was cut", AGAIN),
    // the connection later on; while it prepares a statement the driver says HY000
    cut("server closed the connection"),
    cut("could not receive data from server"),
    cut("could not send data to server"),
    cut("no connection to the server"),
    cut("terminating connection"),
    row("08P01", Transient, "the protocol was violated: often more parameters than the driver can send", AGAIN),
    row(
        "26000",
        Transient,
        "the prepared statement is gone: a pooler changed the session",
        "let the pooler keep sessions",
    ),
    row(
        "42P05",
        Transient,
        "the prepared statement is there already: a pooler changed the session",
        "let the pooler keep sessions",
    ),
    row("25P03", Transient, "the transaction was idle too long", "raise idle_in_transaction_session_timeout"),
    row("25P04", Transient, "the transaction took too long", "raise transaction_timeout, or lower batch_size"),
    row("25P02", Unclassified, "an earlier error has ended the transaction", "see the diagnostic before"),
    row(
        "57014",
        Transient,
        "the statement was cancelled, or took too long",
        "see statement_timeout; it is tried again",
    ),
    row("57P01", Transient, "an administrator ended the session, or the server is shutting down", AGAIN),
    row("57P02", Transient, "the server ended the session after a crash", AGAIN),
    row("57P03", Transient, "the server takes no connections now: it is starting or stopping", AGAIN),
    row("57P04", Schema, "the database was dropped", "make it, or name another one"),
    row("57P05", Transient, "the session was idle too long", AGAIN),
    row("57", Transient, "an operator stepped in", AGAIN),
    row("58", Transient, "the server's disk or system failed", "see the server's log; it is tried again"),
    row("F0", Transient, "the server's configuration file is at fault", "see the server's log"),
    row("XX001", Schema, "the table is damaged", "see the server's log, restore a backup"),
    row("XX002", Schema, "an index is damaged", "REINDEX TABLE …"),
    row("XX", Transient, "the server failed inside", "see the server's log; it is tried again"),
    // locks
    row("40001", Contention, "the transaction could not be put in a row with the others", AGAIN),
    row("40P01", Contention, "this transaction was chosen as a deadlock's victim", AGAIN),
    row(
        "55P03",
        Contention,
        "a lock was not given in time",
        "look for a long transaction on the table; it is tried again",
    ),
    row("55006", Contention, "the object is in use", AGAIN),
    row("72000", Contention, "the snapshot is too old", AGAIN),
    row("42P07", Contention, "the table was made by another process at this moment", AGAIN),
    row("42710", Contention, "the object was made by another process at this moment", AGAIN),
    row("23505", Contention, "two processes made the same table at this moment", AGAIN)
        .words("pg_type_typname_nsp_index"),
    row("23505", Contention, "two processes made the same table at this moment", AGAIN)
        .words("pg_class_relname_nsp_index"),
    // too much
    row("53100", Overload, "the disk is full", "free disk space; it is tried again"),
    row(
        "53200",
        Overload,
        "the server has no memory left for this",
        "lower batch_size; see also max_locks_per_transaction",
    ),
    row("53300", Overload, "the server has as many connections as it takes", POOL),
    row("53400", Overload, "a limit of the server's configuration was reached", "see the message"),
    row("53", Overload, "the server lacks resources", AGAIN),
    row("54001", Overload, "the statement is too complex", "lower batch_size"),
    row("54011", Overload, "the statement has too many columns", "lower batch_size"),
    row("54023", Overload, "the statement has too many arguments", "lower batch_size"),
    row(
        "54",
        Data,
        "a value is larger than the server can store or index",
        "index no long column; see the record that is named",
    ),
    // not let in
    row("28000", Auth, "the login was refused", "check user, password and the server's pg_hba.conf"),
    row("28P01", Auth, "the password was refused", LOGIN),
    row(
        "42501",
        Auth,
        "the user may not do this",
        "GRANT SELECT, INSERT, UPDATE ON … TO …; CREATE ON SCHEMA for making tables",
    ),
    // the table
    row("0A000", Schema, "the table was changed under a prepared statement", AGAIN)
        .words("cached plan must not change result type"),
    row("3D000", Schema, "there is no such database", "CREATE DATABASE …, or correct the name"),
    row("3F000", Schema, "there is no such schema", "CREATE SCHEMA …, or correct --table"),
    row("42P01", Schema, "there is no such table", "make it, or let Konekt make it: CREATE ON SCHEMA must be granted"),
    row("42703", Schema, "there is no such column", TABLE),
    row("42804", Schema, "a column has a type that cannot hold such values", TABLE),
    row("42846", Schema, "a column has a type that cannot hold such values", TABLE),
    row("42883", Schema, "a function is missing: the server is too old, or a column has another type", TABLE),
    row("42704", Schema, "a type or other object is missing", TABLE),
    row("42809", Schema, "the name is not that of a table", "correct --table"),
    row("42P10", Schema, "the table lacks the unique key that the statement needs", TABLE),
    row("428C9", Schema, "a column is generated and cannot be written", TABLE),
    row("42601", Schema, "the statement is not understood", "this should not happen: please report it"),
    row("42P02", Schema, "a parameter is missing", "this should not happen: please report it"),
    row("42P18", Schema, "a parameter's type cannot be told", TABLE),
    row("55000", Schema, "the object is not in the state that this needs", "see the message"),
    row("55", Schema, "the object is not in the state that this needs", "see the message"),
    // the row
    row("21000", Schema, "a view or rule gives more than one row", "write into the table itself"),
    row("22001", Data, "a text is too long for its column", "make the column TEXT"),
    row("22003", Data, "a number is too large for its column", "give the column a larger type"),
    row("22007", Data, "a text is no date or time", RECORD),
    row("22008", Data, "a date or time is out of range", RECORD),
    row("22021", Data, "a text has bytes that its encoding does not know, such as NUL", RECORD),
    row("22P02", Data, "a text cannot be made the column's type", RECORD),
    row("22P05", Data, "a character is not in the database's encoding", "make the database with encoding UTF8"),
    row("22P03", Data, "a binary value is malformed", RECORD),
    row("22023", Data, "a value is not allowed here", RECORD),
    row("22030", Data, "a JSON object has a name twice", RECORD),
    row("22032", Data, "a text is not JSON", RECORD),
    row("23502", Data, "a column that must not be null gets none", TABLE),
    row("23503", Data, "a foreign key refuses the row", "see the table's constraints"),
    row("23505", Data, "a primary or unique key has this value already", "see the table's keys and who else writes it"),
    row("23514", Data, "a check refuses the row, or no partition of the table takes it", "see the table's constraints"),
    row("23P01", Data, "an exclusion constraint refuses the row", "see the table's constraints"),
    row("2200", Data, "a value does not fit its column", RECORD),
    row("44000", Data, "the view's WITH CHECK OPTION refuses the row", "write into the table itself"),
    row("P0001", Data, "a trigger or function of the database refuses the row", "see its message"),
    row("P0", Data, "a trigger or function of the database failed at the row", "see its message"),
    row("38", Data, "a function of the database failed at the row", "see its message"),
    row("39", Data, "a function of the database failed at the row", "see its message"),
];
