//! What statements do, seen through a driver.

use odbc_api::IntoParameter;

use crate::client::{Client, TABLE, code, execute, ids, query, rows};

pub fn guards(client: &Client) {
    let connection = client.connect();
    let table = TABLE.replace("[t]", "[dbo].[t]");
    for _ in 0..2 {
        execute(&connection, &format!("IF OBJECT_ID(N'[dbo].[t]', N'U') IS NULL BEGIN {table}; END")).expect("a table");
        let index = "IF NOT EXISTS (SELECT 1 FROM sys.indexes WHERE name = N'by_n' AND object_id = OBJECT_ID(N'dbo.t')) \
                     CREATE NONCLUSTERED INDEX [by_n] ON [dbo].[t] ([n], [id] DESC)";
        execute(&connection, index).expect("an index");
    }
    assert_eq!(code(execute(&connection, &table)), ("42S01".to_owned(), 2714));
    assert_eq!(code(execute(&connection, "CREATE INDEX by_n ON t (n)")).1, 1913);
    assert_eq!(code(execute(&connection, "INSERT INTO nothing VALUES (1)")), ("42S02".to_owned(), 208));
    assert_eq!(code(execute(&connection, "SELECT missing FROM t")), ("42S22".to_owned(), 207));
    assert_eq!(code(execute(&connection, "MAKE TABLE t")).1, 102);
    // a schema's table is another one
    execute(&connection, "CREATE SCHEMA other").expect("a schema");
    execute(&connection, &TABLE.replace("[t]", "[other].[t]")).expect("its table");
    assert_eq!(execute(&connection, "INSERT INTO other.t (id) VALUES (N'x'), (N'y')").expect("two rows"), Some(2));
    assert_eq!(query(&connection, "SELECT COUNT(*) FROM t").expect("a count"), [[Some("0".to_owned())]]);
}

pub fn catalogue(client: &Client) {
    client.server.execute(TABLE);
    let connection = client.connect();
    let columns = "SELECT COLUMN_NAME, DATA_TYPE, CHARACTER_MAXIMUM_LENGTH, IS_NULLABLE FROM INFORMATION_SCHEMA.COLUMNS \
                   WHERE TABLE_SCHEMA = N'dbo' AND TABLE_NAME = N'T' ORDER BY ORDINAL_POSITION";
    let expected =
        [["id", "nvarchar", "36", "NO"], ["v", "nvarchar", "-1", "YES"], ["n", "bigint", "", "YES"]].map(cells);
    assert_eq!(query(&connection, columns).expect("columns"), expected);
    let columns = "SELECT c.name, TYPE_NAME(c.user_type_id), c.max_length, c.is_nullable FROM sys.columns AS c \
                   JOIN sys.types AS y ON y.user_type_id = c.user_type_id WHERE c.object_id = OBJECT_ID(N't') ORDER BY c.column_id";
    let expected = [["id", "nvarchar", "72", "0"], ["v", "nvarchar", "-1", "1"], ["n", "bigint", "8", "1"]].map(cells);
    assert_eq!(query(&connection, columns).expect("columns"), expected);
}

/// Cells as text, where the empty one stands for NULL.
fn cells<const N: usize>(cells: [&str; N]) -> [Option<String>; N] {
    cells.map(|cell| Some(cell.to_owned()).filter(|cell| !cell.is_empty()))
}

pub fn compare_and_set(client: &Client) {
    let connection = client.connect_to_table();
    client.insert(&connection, &[("a", None, Some(7))]).expect("a row");
    let sql = "UPDATE [t] SET [n] = ?, [v] = COALESCE([v], ?) WHERE [id] = ? AND [n] = ?";
    let mut statement = connection.prepare(sql).expect("a statement");
    for (new, expected, changed) in [(8i64, 7i64, 1), (9, 7, 0), (10, 8, 1)] {
        let parameters =
            (&new.into_parameter(), &"first".into_parameter(), &"a".into_parameter(), &expected.into_parameter());
        drop(statement.execute(parameters).expect("an update"));
        assert_eq!(statement.row_count().expect("a count"), Some(changed), "{expected} to {new}");
    }
    connection.commit().expect("a commit");
    let row = query(&connection, "SELECT TOP (1) n, v FROM t WITH (UPDLOCK, HOLDLOCK) WHERE id = N'a'").expect("a row");
    assert_eq!(row, [cells(["10", "first"])]);
}

pub fn savepoints(client: &Client) {
    let connection = client.connect_to_table();
    let keys = ids(3);
    let all = rows(&keys);
    client.insert(&connection, &all[..1]).expect("a row");
    execute(&connection, "SAVE TRANSACTION here").expect("a savepoint");
    client.insert(&connection, &all[1..2]).expect("a row");
    execute(&connection, "ROLLBACK TRANSACTION here").expect("back to it");
    client.insert(&connection, &all[2..]).expect("a row");
    connection.commit().expect("a commit");
    assert_eq!(client.ids(), ["id-0000", "id-0002"]);
    assert_eq!(code(execute(&connection, "ROLLBACK TRANSACTION nowhere")).1, 6401);

    client.insert(&connection, &all[1..2]).expect("a row");
    connection.rollback().expect("a rollback");
    assert_eq!(client.count(), 2);

    // the same with statements alone
    connection.set_autocommit(true).expect("no transactions");
    execute(&connection, "BEGIN TRANSACTION; INSERT t (id) VALUES ('x'); IF @@TRANCOUNT > 0 ROLLBACK")
        .expect("a batch");
    execute(&connection, "SET IMPLICIT_TRANSACTIONS ON INSERT t (id) VALUES ('y') COMMIT").expect("a batch");
    assert_eq!(client.ids(), ["id-0000", "id-0002", "y"]);
    execute(&connection, "SET IMPLICIT_TRANSACTIONS OFF").expect("a setting");
    assert_eq!(code(execute(&connection, "COMMIT")).1, 3902);
    let again = "SET NOCOUNT ON; SET XACT_ABORT ON; BEGIN TRAN; INSERT t (id) VALUES ('z'); INSERT t (id) VALUES ('y')";
    assert_eq!(code(execute(&connection, again)).1, 2627);
    assert_eq!(query(&connection, "SELECT @@TRANCOUNT").expect("a count"), [cells(["0"])]);
    assert_eq!(client.count(), 3);
}

pub fn isolation(client: &Client) {
    let writer = client.connect_to_table();
    let other = client.connect();
    client.insert(&writer, &[("a", None, None)]).expect("a row");
    assert_eq!(query(&other, "SELECT id FROM t").expect("rows"), Vec::<Vec<Option<String>>>::new());
    execute(&other, "SET LOCK_TIMEOUT 50").expect("a setting");
    let update = "UPDATE t SET n = 1 WHERE id = 'a'";
    assert_eq!(code(execute(&other, update)).1, 1222);
    writer.commit().expect("a commit");
    assert_eq!(execute(&other, update).expect("an update"), Some(1));
    // who leaves without a commit leaves nothing
    client.insert(&writer, &[("b", None, None)]).expect("a row");
    client.server.cut_connections();
    assert_eq!(client.ids(), ["a"]);
}

pub fn constraints(client: &Client) {
    client.server.execute("CREATE TABLE c (id VARCHAR(3) NOT NULL, n INT NOT NULL, at DATETIME2(3) DEFAULT NULL, CONSTRAINT pk PRIMARY KEY CLUSTERED (id, n))");
    client.server.execute("CREATE UNIQUE INDEX u ON c (at) WHERE at IS NOT NULL");
    let connection = client.connect();
    execute(&connection, "INSERT INTO c VALUES ('abc', 1, '2024-02-29 12:34:56.789')").expect("a row");
    for (values, state, number) in [
        ("'abc', 1, NULL", "23000", 2627),
        ("'x', 1, '2024-02-29 12:34:56.789'", "23000", 2601),
        ("NULL, 1, NULL", "23000", 515),
        ("'abcd', 1, NULL", "", 2628),
        ("'x', 'one', NULL", "", 8114),
    ] {
        let found = code(execute(&connection, &format!("INSERT INTO c (id, n, at) VALUES ({values})")));
        assert!(found.1 == number && (state.is_empty() || found.0 == state), "{values}: {found:?}");
    }
    let read = query(&connection, "SELECT id, n, at FROM c").expect("a row");
    assert_eq!(read, [cells(["abc", "1", "2024-02-29 12:34:56.789"])]);
}

pub fn collation(client: &Client) {
    client.server.execute("CREATE TABLE k (a NVARCHAR(9) PRIMARY KEY, b NVARCHAR(9) COLLATE Latin1_General_100_BIN2)");
    let connection = client.connect();
    execute(&connection, "INSERT INTO k VALUES (N'Topic', N'Topic')").expect("a row");
    assert_eq!(code(execute(&connection, "INSERT INTO k VALUES (N'topic ', N'x')")).1, 2627);
    let found =
        |column: &str| query(&connection, &format!("SELECT a FROM k WHERE {column} = N'TOPIC'")).expect("rows").len();
    assert_eq!((found("a"), found("b")), (1, 0));
}

pub fn row_limits(client: &Client) {
    let connection = client.connect_to_table();
    let keys = ids(10);
    client.insert(&connection, &rows(&keys)).expect("rows");
    let deleted = execute(&connection, "DELETE TOP (3) FROM [t] WHERE [n] < 5").expect("rows");
    assert_eq!(deleted, Some(3));
    let inner = "SELECT id FROM (SELECT TOP 4 id, n FROM t ORDER BY n DESC) AS last WHERE n < 8";
    assert_eq!(query(&connection, inner).expect("rows"), [cells(["id-0007"]), cells(["id-0006"])]);
    execute(&connection, "INSERT INTO t (id) SELECT N'new' WHERE NOT EXISTS (SELECT 1 FROM t WHERE id = N'new')")
        .expect("a row");
    connection.commit().expect("a commit");
    assert_eq!(client.count(), 8);
}
