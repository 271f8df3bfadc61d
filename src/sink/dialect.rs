//! What SQL databases disagree on when tables are made and identifiers written; and the message table's SQL.
//!
//! [`super::position`] spells the position row's statements with it, [`create_messages`] the message table of DESIGN §6.

/// One database's spelling.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// What stands before and after an identifier.
    pub quotes: (char, char),
    /// How a statement begins that makes a table.
    pub create_table: &'static str,
    /// How a statement begins that makes an index.
    pub create_index: &'static str,
    /// What a table's definition ends with.
    pub table_options: &'static str,
    /// Text that can be part of a key, of up to 255 characters, compared exactly.
    pub key_text: &'static str,
    /// The constraint of a key of several such texts.
    pub wide_key: &'static str,
    /// The text of an id: 36 characters of ASCII.
    pub id: &'static str,
    /// A name of up to 255 characters.
    pub name: &'static str,
    /// A 32-bit integer.
    pub int: &'static str,
    /// A 64-bit integer.
    pub bigint: &'static str,
    /// Text of any length.
    pub long_text: &'static str,
    /// A moment in UTC, with milliseconds.
    pub timestamp: &'static str,
}

/// SQLite's column types are affinities.
pub const SQLITE: Dialect = Dialect {
    quotes: ('"', '"'),
    create_table: "CREATE TABLE IF NOT EXISTS",
    create_index: "CREATE INDEX IF NOT EXISTS",
    table_options: "",
    key_text: "VARCHAR(255)",
    wide_key: "PRIMARY KEY",
    id: "VARCHAR(36)",
    name: "VARCHAR(255)",
    int: "INT",
    bigint: "BIGINT",
    long_text: "TEXT",
    timestamp: "DATETIME",
};

/// Standard SQL and nothing else.
pub const STANDARD: Dialect = Dialect {
    create_table: "CREATE TABLE",
    create_index: "CREATE INDEX",
    int: "INTEGER",
    long_text: "CLOB",
    timestamp: "TIMESTAMP",
    ..SQLITE
};

/// PostgreSQL. Ids and names are compared byte by byte, which is cheaper than by a language's rules.
pub const POSTGRES: Dialect = Dialect {
    key_text: "VARCHAR(255) COLLATE \"C\"",
    id: "VARCHAR(36) COLLATE \"C\"",
    name: "VARCHAR(255) COLLATE \"C\"",
    long_text: "TEXT",
    timestamp: "TIMESTAMPTZ",
    ..STANDARD
};

/// MySQL and MariaDB. Keys are compared exactly: the usual collation takes `A` for `a`.
pub const MYSQL: Dialect = Dialect {
    quotes: ('`', '`'),
    table_options: " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4",
    key_text: "VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    id: "VARCHAR(36) CHARACTER SET ascii COLLATE ascii_bin",
    int: "INT",
    long_text: "LONGTEXT",
    timestamp: "DATETIME(3)",
    ..STANDARD
};

/// SQL Server. A clustered key may have 900 bytes, a nonclustered one 1700, and two names need 1024.
pub const SQL_SERVER: Dialect = Dialect {
    quotes: ('[', ']'),
    key_text: "NVARCHAR(255) COLLATE Latin1_General_BIN2",
    wide_key: "PRIMARY KEY NONCLUSTERED",
    name: "NVARCHAR(255)",
    int: "INT",
    long_text: "NVARCHAR(MAX)",
    timestamp: "DATETIME2(3)",
    ..STANDARD
};

impl Dialect {
    /// An identifier in quotes; a closing quote within it is doubled, so it cannot end early.
    pub fn quoted(&self, identifier: &str) -> String {
        let (open, close) = self.quotes;
        format!("{open}{}{close}", identifier.replace(close, &format!("{close}{close}")))
    }

    /// Identifiers in quotes, with commas between them.
    pub fn list<'a>(&self, identifiers: impl IntoIterator<Item = &'a str>) -> String {
        identifiers.into_iter().map(|name| self.quoted(name)).collect::<Vec<_>>().join(", ")
    }
}

/// The message table's columns that a record fills, in the order of the sinks' parameters: first those that are the same
/// for a whole batch. Beside them there is [`ERROR`].
pub const FILLED: [&str; 10] = [
    "topic",
    "partition",
    "consumer_group",
    "processing_timestamp",
    "id",
    "offset",
    "message_key",
    "message_value",
    "message_headers",
    "processing_status",
];

/// The column that says why a record is a dead letter; NULL in all other rows.
pub const ERROR: &str = "error_message";

/// All columns of the message table, in the order of the table.
pub const COLUMNS: [&str; 11] = [
    "id",
    "topic",
    "partition",
    "offset",
    "message_key",
    "message_value",
    "message_headers",
    "consumer_group",
    "processing_timestamp",
    "processing_status",
    ERROR,
];

/// The statements that make the message table and its index; `table` is quoted already, `index` is a bare name.
pub fn create_messages(dialect: &Dialect, table: &str, index: &str) -> [String; 2] {
    let q = |name: &str| dialect.quoted(name);
    let Dialect { create_table, create_index, table_options, id, name, int, bigint, long_text, timestamp, .. } =
        dialect;
    let (partition, offset, index) = (q("partition"), q("offset"), q(index));
    let columns = [
        format!("{} {id} NOT NULL PRIMARY KEY", q("id")),
        format!("{} {name} NOT NULL", q("topic")),
        format!("{partition} {int} NOT NULL"),
        format!("{offset} {bigint} NOT NULL"),
        format!("{} {long_text}", q("message_key")),
        format!("{} {long_text} NOT NULL", q("message_value")),
        format!("{} {long_text}", q("message_headers")),
        format!("{} {name} NOT NULL", q("consumer_group")),
        format!("{} {timestamp} NOT NULL", q("processing_timestamp")),
        format!("{} VARCHAR(50) NOT NULL", q("processing_status")),
        format!("{} {long_text}", q(ERROR)),
    ];
    [
        format!("{create_table} {table} ({}){table_options}", columns.join(", ")),
        format!("{create_index} {index} ON {table} ({}, {partition}, {offset})", q("topic")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_cannot_leave_its_quotes() {
        assert_eq!(SQLITE.quoted(r#"a"; DROP TABLE x; --"#), r#""a""; DROP TABLE x; --""#);
        assert_eq!(SQL_SERVER.quoted("a]b[c"), "[a]]b[c]");
        assert_eq!(MYSQL.list(["a`b", "c"]), "`a``b`, `c`");
    }
}
