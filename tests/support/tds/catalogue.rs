//! What SQL Server tells about itself: the catalogue's views, made of SQLite's own, and functions.

use std::cmp::Ordering;

use rusqlite::Connection;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::ValueRef;

use super::answer::PRODUCT;
use super::tsql::{SEPARATOR, object_name, tokens};

/// Types, their numbers in the catalogue, and their sizes in bytes where these are fixed.
const TYPES: &[(&str, i64, i64)] = &[
    ("bigint", 127, 8),
    ("bit", 104, 1),
    ("char", 175, 0),
    ("date", 40, 3),
    ("datetime", 61, 8),
    ("datetime2", 42, 8),
    ("datetimeoffset", 43, 10),
    ("float", 62, 8),
    ("int", 56, 4),
    ("nchar", 239, 0),
    ("ntext", 99, 16),
    ("nvarchar", 231, 0),
    ("smallint", 52, 2),
    ("text", 35, 16),
    ("tinyint", 48, 1),
    ("uniqueidentifier", 36, 16),
    ("varbinary", 165, 0),
    ("varchar", 167, 0),
];

const VIEWS: &str = r#"
CREATE TABLE "sys|schemas" (schema_id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE);
INSERT INTO "sys|schemas" VALUES (1, 'dbo'), (3, 'INFORMATION_SCHEMA'), (4, 'sys');
CREATE VIEW "sys|objects" AS
    SELECT m.rowid AS object_id, name_of(m.name) COLLATE mssql AS name, m.name AS full_name, 'U ' AS type, 'USER_TABLE' AS type_desc,
           (SELECT s.schema_id FROM "sys|schemas" s WHERE s.name = schema_of(m.name)) AS schema_id
    FROM sqlite_master m WHERE m.type = 'table' AND m.name NOT LIKE 'sys|%' AND m.name NOT LIKE 'sqlite_%';
CREATE VIEW "sys|tables" AS SELECT object_id, name, schema_id, type, type_desc FROM "sys|objects";
CREATE VIEW "sys|columns" AS
    SELECT o.object_id, p.name COLLATE mssql AS name, p.cid + 1 AS column_id, type_id(p.type) AS user_type_id, type_id(p.type) AS system_type_id,
           type_bytes(p.type) AS max_length, NOT p."notnull" AS is_nullable
    FROM "sys|objects" o, pragma_table_info(o.full_name) p;
CREATE VIEW "sys|indexes" AS
    SELECT o.object_id, name_of(i.name) COLLATE mssql AS name, i."unique" AS is_unique, i.origin = 'pk' AS is_primary_key, i.seq + 1 AS index_id
    FROM "sys|objects" o, pragma_index_list(o.full_name) i;
CREATE VIEW "INFORMATION_SCHEMA|TABLES" AS
    SELECT 'konekt' AS TABLE_CATALOG, schema_of(full_name) COLLATE mssql AS TABLE_SCHEMA, name AS TABLE_NAME, 'BASE TABLE' AS TABLE_TYPE
    FROM "sys|objects";
CREATE VIEW "INFORMATION_SCHEMA|COLUMNS" AS
    SELECT 'konekt' AS TABLE_CATALOG, schema_of(o.full_name) COLLATE mssql AS TABLE_SCHEMA, o.name AS TABLE_NAME, p.name COLLATE mssql AS COLUMN_NAME,
           p.cid + 1 AS ORDINAL_POSITION, p.dflt_value AS COLUMN_DEFAULT,
           CASE p."notnull" WHEN 1 THEN 'NO' ELSE 'YES' END AS IS_NULLABLE,
           type_name(type_id(p.type)) AS DATA_TYPE, type_characters(p.type) AS CHARACTER_MAXIMUM_LENGTH
    FROM "sys|objects" o, pragma_table_info(o.full_name) p;
"#;

/// Makes the views, once in a database.
pub fn create(sqlite: &Connection) -> rusqlite::Result<()> {
    define(sqlite)?;
    let types: String =
        TYPES.iter().map(|(name, id, _)| format!("SELECT '{name}' AS name, {id} AS user_type_id UNION ALL ")).collect();
    let types = types.trim_end_matches("UNION ALL ");
    sqlite.execute_batch(VIEWS)?;
    sqlite.execute_batch(&format!(
        "CREATE VIEW \"sys|types\" AS SELECT name, user_type_id, user_type_id AS system_type_id FROM ({types})"
    ))
}

/// Teaches a connection SQL Server's comparison and functions.
pub fn define(sqlite: &Connection) -> rusqlite::Result<()> {
    sqlite.create_collation("mssql", compare)?;
    function(sqlite, "object_name", 1, |call| Ok(object(&call.get::<String>(0)?)))?;
    function(sqlite, "schema_of", 1, |call| Ok(parts(&call.get::<String>(0)?).0))?;
    function(sqlite, "name_of", 1, |call| Ok(parts(&call.get::<String>(0)?).1))?;
    function(sqlite, "type_id", 1, |call| Ok(type_row(&call.get::<String>(0)?).map(|row| row.1)))?;
    function(sqlite, "type_name", 1, |call| {
        let id: Option<i64> = call.get(0)?;
        Ok(TYPES.iter().find(|row| Some(row.1) == id).map(|row| row.0))
    })?;
    function(sqlite, "type_bytes", 1, |call| Ok(type_bytes(&call.get::<String>(0)?)))?;
    function(sqlite, "type_characters", 1, |call| Ok(type_size(&call.get::<String>(0)?)))?;
    function(sqlite, "fits_type", 2, |call| Ok(fits(call.get_raw(0), &call.get::<String>(1)?)))?;
    function(sqlite, "LEN", 1, |call| {
        Ok(text(call.get_raw(0)).map(|it| it.trim_end_matches(' ').encode_utf16().count() as i64))
    })?;
    function(sqlite, "DATALENGTH", 1, |call| Ok(text(call.get_raw(0)).map(|it| it.encode_utf16().count() as i64 * 2)))?;
    for name in ["SYSUTCDATETIME", "GETUTCDATE", "SYSDATETIME", "GETDATE"] {
        function(sqlite, name, 0, |_| Ok(konekt::core::civil::utc_text(konekt::door::unix_ms())))?;
    }
    for (name, value) in
        [("DB_NAME", super::DATABASE), ("SCHEMA_NAME", "dbo"), ("SUSER_SNAME", super::USER), ("USER_NAME", "dbo")]
    {
        function(sqlite, name, 0, move |_| Ok(value))?;
    }
    function(sqlite, "SCHEMA_NAME", 1, |call| Ok((call.get::<i64>(0)? == 1).then_some("dbo")))?;
    function(sqlite, "SCHEMA_ID", 0, |_| Ok(1))?;
    function(sqlite, "HAS_PERMS_BY_NAME", 3, |_| Ok(1))?;
    function(sqlite, "SERVERPROPERTY", 1, |call| Ok(property(&call.get::<String>(0)?)))
}

/// What `@@VERSION` begins with.
pub fn version() -> String {
    format!("{PRODUCT} 2022 (a double of it for tests) - 16.0.1027.3")
}

fn function<T: rusqlite::types::ToSql>(
    sqlite: &Connection,
    name: &str,
    parameters: i32,
    value: impl Fn(&Context<'_>) -> rusqlite::Result<T> + Send + 'static,
) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    sqlite.create_scalar_function(name, parameters, flags, move |call| value(call))
}

/// Latin1_General_CI_AS as far as tests go: case does not count, nor do spaces at the end.
fn compare(left: &str, right: &str) -> Ordering {
    let folded = |text: &str| text.trim_end_matches(' ').to_lowercase();
    folded(left).cmp(&folded(right))
}

/// The name that a table goes by, from one that SQL Server would take.
fn object(name: &str) -> Option<String> {
    object_name(&tokens(name).ok()?).map(|(name, _)| name)
}

/// Schema and name.
fn parts(name: &str) -> (String, String) {
    let (schema, name) = name.rsplit_once(SEPARATOR).unwrap_or(("dbo", name));
    (schema.to_owned(), name.to_owned())
}

fn type_row(declared: &str) -> Option<&'static (&'static str, i64, i64)> {
    let name = declared.split('(').next().unwrap_or_default();
    TYPES.iter().find(|row| row.0 == name)
}

/// The number in the parentheses of a string type, -1 for `max`.
fn type_size(declared: &str) -> Option<i64> {
    let (name, size) = declared.split_once('(')?;
    if !name.contains("char") && !name.contains("binary") {
        return None;
    }
    Some(size.trim_end_matches(')').parse().unwrap_or(-1))
}

fn type_bytes(declared: &str) -> Option<i64> {
    let wide = declared.starts_with('n');
    match type_size(declared) {
        Some(size) => Some(if wide && size > 0 { size * 2 } else { size }),
        None => type_row(declared).map(|row| row.2),
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    }
}

/// Whether a text is no longer than its column.
fn fits(value: ValueRef<'_>, declared: &str) -> bool {
    let size = type_size(declared).and_then(|size| usize::try_from(size).ok());
    size.is_none_or(|size| text(value).is_none_or(|text| text.trim_end_matches(' ').encode_utf16().count() <= size))
}

fn property(name: &str) -> Option<&'static str> {
    match name {
        "ProductVersion" => Some("16.0.1027.3"),
        "ProductMajorVersion" => Some("16"),
        "Edition" => Some("Developer Edition (64-bit)"),
        "EngineEdition" => Some("3"),
        "Collation" => Some("Latin1_General_CI_AS"),
        _ => None,
    }
}
