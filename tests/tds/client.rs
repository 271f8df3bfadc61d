//! A driver and a double of its own, and what tests do with odbc-api.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use odbc_api::buffers::BufferDesc;
use odbc_api::{BindParamDesc, Connection, ConnectionOptions, Cursor, DataType, Error, ResultSetMetadata, environment};

use crate::support::odbc;
use crate::tds::{Event, TdsServer};

/// A table like the sink's: a key, a long text, a number.
pub const TABLE: &str = "CREATE TABLE [t] ([id] NVARCHAR(36) NOT NULL PRIMARY KEY, [v] NVARCHAR(MAX), [n] BIGINT)";
const INSERT: &str = "INSERT INTO [t] ([id], [v], [n]) VALUES (?, ?, ?)";

/// A row of [`TABLE`].
pub type Row<'a> = (&'a str, Option<&'a str>, Option<i64>);

pub struct Client {
    pub server: TdsServer,
    driver: &'static str,
    file: PathBuf,
}

impl Client {
    pub fn new(driver: &'static str, file: PathBuf) -> Self {
        Self { server: TdsServer::start(), driver, file }
    }

    /// The same driver with another double.
    pub fn afresh(&self) -> Self {
        Self::new(self.driver, self.file.clone())
    }

    pub fn connection_string(&self) -> String {
        self.server.connection_string(&self.file)
    }

    pub fn is_microsofts(&self) -> bool {
        self.driver == odbc::MICROSOFT
    }

    /// Logs in.
    pub fn connect(&self) -> Connection<'static> {
        self.try_connect("", "").unwrap_or_else(|error| panic!("{}: {error}", self.driver))
    }

    /// Logs in with a connection string that says `new` where it said `old`.
    pub fn try_connect(&self, old: &str, new: &str) -> Result<Connection<'static>, Error> {
        let options = ConnectionOptions { login_timeout_sec: Some(2), ..ConnectionOptions::default() };
        let text = self.connection_string().replacen(old, new, 1);
        environment().expect("a driver manager").connect_with_connection_string(&text, options)
    }

    /// Logs in, makes [`TABLE`] and begins a transaction.
    pub fn connect_to_table(&self) -> Connection<'static> {
        self.server.execute(TABLE);
        let connection = self.connect();
        connection.set_autocommit(false).expect("transactions");
        connection
    }

    /// What arrived since the last time, a line each. The ends of connections come when they come and are left out.
    pub fn arrived(&self) -> Vec<String> {
        let entries = self.server.take_log();
        entries
            .into_iter()
            .filter(|it| !matches!(it.event, Event::Ended(None)))
            .map(|it| it.event.to_string())
            .collect()
    }

    /// One array of rows, in UTF-16, with the long text as `nvarchar(max)`: each driver wants it said in its own way.
    pub fn insert(&self, connection: &Connection<'_>, rows: &[Row<'_>]) -> Result<(), Error> {
        insert_arrays(connection, self.long_text(), &[rows])
    }

    pub fn long_text(&self) -> DataType {
        match self.is_microsofts() {
            true => DataType::WVarchar { length: None },
            false => DataType::WLongVarchar { length: None },
        }
    }

    /// The keys that are committed, in order.
    pub fn ids(&self) -> Vec<String> {
        self.server.rows("SELECT id FROM t ORDER BY rowid").iter().map(|row| row[0].as_text()).collect()
    }

    pub fn count(&self) -> i64 {
        self.server.rows("SELECT count(*) FROM t")[0][0].as_int().expect("a count")
    }
}

/// Runs a text of SQL; how many rows it says it changed.
pub fn execute(connection: &Connection<'_>, sql: &str) -> Result<Option<usize>, Error> {
    let mut statement = connection.preallocate()?;
    drop(statement.execute(sql, ())?);
    statement.row_count()
}

/// What a query answers, as text.
pub fn query(connection: &Connection<'_>, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
    let Some(mut cursor) = connection.execute(sql, (), None)? else { return Ok(Vec::new()) };
    let count = u16::try_from(cursor.num_result_cols()?).expect("a count");
    let mut rows = Vec::new();
    while let Some(mut row) = cursor.next_row()? {
        let mut cell = |column: u16| {
            let mut units = Vec::new();
            let found = row.get_wide_text(column, &mut units)?;
            Ok(found.then(|| String::from_utf16_lossy(&units)))
        };
        rows.push((1..=count).map(&mut cell).collect::<Result<_, Error>>()?);
    }
    Ok(rows)
}

/// Arrays of rows, one after the other, with one statement.
pub fn insert_arrays(connection: &Connection<'_>, text: DataType, arrays: &[&[Row<'_>]]) -> Result<(), Error> {
    let units = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    let values = arrays.iter().copied().flatten().filter_map(|row| row.1);
    let longest = values.map(|value| units(value).len()).max().unwrap_or_default().max(1);
    let wide = |max_str_len, data_type| BindParamDesc { buffer_desc: BufferDesc::WText { max_str_len }, data_type };
    let key = DataType::WVarchar { length: NonZeroUsize::new(36) };
    let columns = [wide(36, key), wide(longest, text), BindParamDesc::i64(true)];
    let prepared = connection.prepare(INSERT)?;
    let capacity = arrays.iter().map(|rows| rows.len()).max().unwrap_or_default();
    let mut inserter = prepared.into_column_inserter(capacity, columns)?;
    for rows in arrays {
        inserter.set_num_rows(rows.len());
        for (at, (id, value, number)) in rows.iter().enumerate() {
            inserter.column_mut(0).as_wide_text().expect("text").set_cell(at, Some(&units(id)));
            let value = value.map(units);
            inserter.column_mut(1).as_wide_text().expect("text").set_cell(at, value.as_deref());
            inserter.column_mut(2).as_nullable_slice::<i64>().expect("numbers").set_cell(at, *number);
        }
        inserter.execute()?;
    }
    Ok(())
}

/// So many keys, in order.
pub fn ids(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("id-{at:04}")).collect()
}

/// Rows with these keys.
pub fn rows(ids: &[String]) -> Vec<Row<'_>> {
    ids.iter().enumerate().map(|(at, id)| (id.as_str(), Some("value"), Some(at as i64))).collect()
}

/// SQLSTATE and native error.
pub fn code<T>(result: Result<T, Error>) -> (String, i32) {
    match result {
        Ok(_) => panic!("it should have failed"),
        Err(Error::Diagnostics { record, .. }) => (record.state.as_str().to_owned(), record.native_error),
        Err(other) => panic!("no diagnosis: {other:?}"),
    }
}
