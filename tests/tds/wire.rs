//! What goes over the wire.

use odbc_api::DataType;

use crate::client::{Client, Row, ids, insert_arrays, query, rows};
use crate::tds::{Call, Entry, Event};

pub fn array(client: &Client) {
    let connection = client.connect_to_table();
    let keys = ids(2000);
    let all = rows(&keys);
    insert_arrays(&connection, client.long_text(), &[&all[..1000], &all[1000..]]).expect("2,000 rows");
    connection.commit().expect("a commit");
    let entries = client.server.log();
    let expected = ["login konekt", "begin", "prepare", "execute × 1000", "execute × 1000", "unprepare", "commit"];
    assert_eq!(client.arrived(), expected);
    assert_eq!(client.ids(), keys);

    let Call::Prepare { declared, .. } = &calls(&entries)[0] else { panic!("{entries:?}") };
    assert_eq!(declared.to_lowercase(), "@p1 nvarchar(36),@p2 nvarchar(max),@p3 bigint");
    let types: Vec<String> = calls(&entries)[1].parameters().iter().map(|it| it.kind.to_string()).collect();
    assert_eq!(types, ["nvarchar(36)", "nvarchar(max)", "bigint"]);
}

pub fn values(client: &Client) {
    let connection = client.connect_to_table();
    let all: &[Row<'_>] = &[
        ("emoji", Some("a\u{1f600}z"), Some(i64::MAX)),
        ("nul", Some("a\0z"), Some(i64::MIN)),
        ("empty", Some(""), Some(0)),
        ("null", None, None),
        ("spaces", Some("  a  "), Some(-1)),
        ("quotes", Some("it''s \"[x]\" N'y'"), Some(1)),
        ("lines", Some("\r\n\t\u{feff}"), Some(2)),
        ("4001", Some(&"é".repeat(4001)), Some(3)),
    ];
    client.insert(&connection, all).expect("all rows");
    connection.commit().expect("a commit");

    let sent = client.server.log();
    let sent: Vec<&Call> = calls(&sent).into_iter().filter(|call| matches!(call, Call::Execute { .. })).collect();
    let stored = client.server.rows("SELECT id, v, n FROM t ORDER BY rowid");
    let read = query(&connection, "SELECT [id], [v], [n] FROM [t] WHERE [n] IS NOT NULL OR [v] IS NULL").expect("rows");
    for (at, (id, value, number)) in all.iter().enumerate() {
        let on_the_wire = sent[at].parameters();
        assert_eq!(on_the_wire[1].value.to_owned(), stored[at][1], "{id}: what came is what is kept");
        assert_eq!((stored[at][0].as_text(), stored[at][2].as_int()), ((*id).to_owned(), *number));
        assert_eq!(value.map(str::to_owned), Some(stored[at][1].as_text()).filter(|_| value.is_some()), "{id}");
        let expected = [Some((*id).to_owned()), value.map(str::to_owned), number.map(|it| it.to_string())];
        assert_eq!(read[at], expected, "{id}, read back");
    }
}

pub fn long_value(client: &Client) {
    let connection = client.connect_to_table();
    let long = "\u{1f600}é".repeat(250_000);
    client.insert(&connection, &[("long", Some(&long), None)]).expect("a row");
    connection.commit().expect("a commit");
    let stored = client.server.rows("SELECT v FROM t")[0][0].as_text();
    assert!(stored == long, "{} characters arrived", stored.chars().count());
    let read = query(&connection, "SELECT v FROM t").expect("a row").remove(0).remove(0).expect("a text");
    assert!(read == long, "{} characters came back", read.chars().count());
}

/// Microsoft's driver declares what it is told to; FreeTDS declares a text by the first value of an array, and a server
/// takes no more of the others: this binding loses data there, which the double shows as a server would.
pub fn declared_size(client: &Client) {
    let connection = client.connect_to_table();
    let of_any_length = DataType::WVarchar { length: None };
    let long = "long".repeat(10);
    insert_arrays(&connection, of_any_length, &[&[("1", Some("ab"), None), ("2", Some(&long), None)]]).expect("rows");
    connection.commit().expect("a commit");
    let stored = client.server.rows("SELECT v FROM t WHERE id = '2'")[0][0].as_text();
    assert_eq!(stored, if client.is_microsofts() { &long } else { "long" });
}

/// All calls of procedures, in their order.
fn calls(entries: &[Entry]) -> Vec<&Call> {
    let calls = entries.iter().filter_map(|entry| match &entry.event {
        Event::Calls(calls) => Some(calls.iter()),
        _ => None,
    });
    calls.flatten().collect()
}
