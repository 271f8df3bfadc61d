//! What ODBC itself defines (Microsoft: "Appendix A: ODBC Error Codes"), the SQL standard's classes, and what
//! unixODBC's and iODBC's driver managers say.

use super::{Entry, System};
use crate::core::verdict::ErrorClass::{self, *};

const fn row(state: &'static str, class: ErrorClass, meaning: &'static str, cure: &'static str) -> Entry {
    Entry::new(System::Any, class, meaning, cure).state(state)
}

const AGAIN: &str = "nothing: it is tried again";
const DRIVERS: &str = "`konekt check-drivers` names what is installed and what is missing";

pub(super) const ENTRIES: &[Entry] = &[
    // the driver manager
    row("01000", Auth, "the driver's file, or a library that it needs, cannot be opened", DRIVERS)
        .words("can't open lib"),
    row("IM001", Schema, "the driver has no such function", "use a newer driver"),
    row("IM002", Auth, "no driver and no data source has this name", DRIVERS),
    row("IM003", Auth, "the driver's file cannot be loaded", DRIVERS),
    row("IM004", Auth, "the driver was loaded and cannot start", DRIVERS),
    row("IM005", Auth, "the driver gives no connection", DRIVERS),
    row("IM006", Auth, "the driver refuses a setting of the connection", "look at the connection string's settings"),
    row("IM007", Auth, "no data source and no driver is named", "name one: Driver={…} in the connection string"),
    row("IM010", Auth, "the data source's name is too long", "give it a name of at most 32 characters"),
    row("IM011", Auth, "the driver's name is too long", "use the name that `konekt check-drivers` shows"),
    row("IM012", Auth, "Driver= in the connection string cannot be read", "write it in braces: Driver={name}"),
    row(
        "IM014",
        Auth,
        "the driver and this program differ in architecture",
        "install the driver for this machine's kind",
    ),
    row("IM", Auth, "the driver manager cannot get at the driver", DRIVERS),
    // the connection
    row(
        "08001",
        Transient,
        "the server cannot be reached",
        "check host, port and that the server runs; it is tried again",
    ),
    row("08002", Unclassified, "the connection is open already", "this should not happen: please report it"),
    row("08003", Transient, "the connection is closed", AGAIN),
    row("08004", Transient, "the server takes no connection now", AGAIN),
    row(
        "08007",
        Transient,
        "the link was cut during a commit: nobody knows its outcome",
        "nothing: the position row tells",
    ),
    row("08S01", Transient, "the link to the server was cut", AGAIN),
    row("08", Transient, "the connection failed", AGAIN),
    row("28", Auth, "the login was refused", "check user, password and what the server allows this user"),
    row(
        "HYT00",
        Transient,
        "the time ran out: for a login, the server often cannot be reached",
        "check host and port; it is tried again",
    ),
    row("HYT01", Transient, "the server has not answered in time", AGAIN),
    row("S1T00", Transient, "the time ran out", AGAIN),
    row("HY008", Transient, "the call was cancelled", AGAIN),
    row("HY117", Transient, "the connection's transaction hangs in the air", AGAIN),
    row("HY001", Overload, "the driver has no memory left", "lower batch_size or give the process more memory"),
    row("S1001", Overload, "the driver has no memory left", "lower batch_size or give the process more memory"),
    row("HY013", Overload, "the driver has no memory left", "lower batch_size or give the process more memory"),
    row("HY014", Overload, "the driver has no handles left", "lower the number of connections"),
    row("HYC00", Schema, "the driver cannot do what was asked", "use a newer driver"),
    // transactions
    row(
        "25006",
        Transient,
        "the database takes no writes: it is a replica, or was made one",
        "it is tried again; see who is primary",
    ),
    row("25S01", Transient, "nobody knows the outcome of the transaction", "nothing: the position row tells"),
    row("25S02", Transient, "the transaction is still open", AGAIN),
    row("25S03", Transient, "the transaction was rolled back", AGAIN),
    row("40001", Contention, "another transaction was in the way", AGAIN),
    row("40002", Data, "a constraint that is checked at commit refuses a row", "see the table's deferred constraints"),
    row("40003", Transient, "nobody knows the outcome of the statement", "nothing: the position row tells"),
    row("40", Contention, "the transaction was rolled back", AGAIN),
    // the table
    row("07", Schema, "the statement's parameters do not fit", "compare the table with what `konekt plan` shows"),
    row(
        "21",
        Schema,
        "the number of values is not that of the columns",
        "compare the table with what `konekt plan` shows",
    ),
    row("0A", Schema, "the database cannot do what was asked", "use a newer version of it"),
    row("37000", Schema, "the statement is not understood", "name the database's kind with --dialect"),
    row("3D", Schema, "there is no such database", "make it, or correct the name"),
    row("3F", Schema, "there is no such schema", "make it, or correct the name"),
    row("42000", Schema, "the statement is not understood, or not allowed", "name the database's kind with --dialect"),
    row("42S01", Contention, "the table was made by another process at this moment", AGAIN),
    row("42S02", Schema, "there is no such table", "make it, or let Konekt make it: CREATE TABLE must be allowed"),
    row("42S12", Schema, "there is no such index", "make it, or let Konekt make it"),
    row("42S11", Contention, "the index was made by another process at this moment", AGAIN),
    row("42S21", Schema, "the column is there already", "compare the table with what `konekt plan` shows"),
    row("42S22", Schema, "there is no such column", "compare the table with what `konekt plan` shows"),
    row("42", Schema, "the statement does not fit the database", "compare the table with what `konekt plan` shows"),
    row("S0001", Contention, "the table was made by another process at this moment", AGAIN),
    row("S0002", Schema, "there is no such table", "make it, or let Konekt make it: CREATE TABLE must be allowed"),
    row("S0022", Schema, "there is no such column", "compare the table with what `konekt plan` shows"),
    // the row
    row("22001", Data, "a value is too long for its column", "make the column longer"),
    row("22003", Data, "a number is too large for its column", "give the column a larger type"),
    row("22007", Data, "a text is no date or time", "see the record that is named"),
    row("22008", Data, "a date or time is out of range", "see the record that is named"),
    row("22018", Data, "a text cannot be made the column's type", "see the record that is named"),
    row("22", Data, "a value does not fit its column", "see the record that is named"),
    row("23", Data, "a constraint refuses the row", "see the table's keys, NOT NULLs and checks"),
    row("44", Data, "the view's WITH CHECK OPTION refuses the row", "write into the table itself"),
    row("45000", Data, "a trigger or procedure of the database refuses the row", "see its message"),
    // everything else
    row("HY000", Unclassified, "the driver has no SQLSTATE for it", "see its message"),
    row("HY", Unclassified, "a call broke a rule of ODBC's", "this should not happen: please report it"),
    row("01", Unclassified, "a warning, no failure", "see the next diagnostic"),
];
