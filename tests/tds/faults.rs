//! What goes wrong when told to.

use std::time::{Duration, Instant};

use crate::client::{Client, code, execute, ids, rows};
use crate::support::wait::pause;
use crate::tds::{Action, Fault, On};

/// A fault at each execution of an INSERT.
fn at_insert(action: Action) -> Fault {
    Fault::new(On::Execute, action).within("insert")
}

pub fn errors_at_a_row(client: &Client) {
    let connection = client.connect_to_table();
    let keys = ids(5);
    for (number, state) in [
        (2627, "23000"),
        (2628, "22001"),
        (515, "23000"),
        (1222, "HYT00"),
        (9002, "42000"),
        (208, "42S02"),
        (229, "42000"),
    ] {
        client.server.faults().push(at_insert(Action::Error(number)).after(2));
        let result = client.insert(&connection, &rows(&keys));
        if client.is_microsofts() {
            let found = code(result);
            assert_eq!(found.1, number);
            assert!([state, "42000"].contains(&found.0.as_str()), "{number}: {found:?}");
        }
        // FreeTDS tells nobody; the rows show that it was the third
        connection.commit().expect("a commit");
        assert_eq!(client.ids(), ["id-0000", "id-0001", "id-0003", "id-0004"], "{number}");
        execute(&connection, "DELETE FROM t").expect("no rows");
        connection.commit().expect("a commit");
    }
    assert_eq!(client.server.faults().fired(), 7);
    client.server.faults().push(Fault::new(On::Prepare, Action::Error(229)));
    let found = code(client.insert(&connection, &rows(&keys))).1;
    assert!([229, 8180].contains(&found), "{found}: the cause, or that there is one");
}

pub fn deadlock(client: &Client) {
    let connection = client.connect_to_table();
    let keys = ids(5);
    client.insert(&connection, &rows(&keys[..1])).expect("a row");
    client.server.faults().push(at_insert(Action::Error(1205)).after(2));
    let result = client.insert(&connection, &rows(&keys[1..]));
    if client.is_microsofts() {
        assert_eq!(code(result), ("40001".to_owned(), 1205));
    }
    // Microsoft's driver has heard that the transaction is gone, FreeTDS asks a server that knows of none
    let rolled_back = connection.rollback();
    if client.is_microsofts() {
        rolled_back.expect("nothing to roll back is no error");
        client.insert(&connection, &rows(&keys)).expect("the connection is as good as before");
        connection.rollback().expect("a rollback");
    } else {
        assert_eq!(code(rolled_back).1, 3903);
    }
    assert_eq!(client.count(), 0);
}

/// Severity 20 and above: the server says what is wrong and hangs up.
pub fn hanging_up(client: &Client) {
    let connection = client.connect_to_table();
    client.server.faults().push(at_insert(Action::Error(40501)));
    let found = code(execute(&connection, "INSERT INTO t (id) VALUES (N'a')"));
    assert_eq!(found.1, 40501, "{found:?}");
    assert!(execute(&connection, "SELECT 1").is_err(), "nobody is there");
}

pub fn lost_links(client: &Client) {
    client.server.execute(crate::client::TABLE);
    let keys = ids(9);
    let all = rows(&keys);
    for (on, action, written) in [
        (On::Execute, Action::Close, 0),
        (On::Execute, Action::CloseHalfWay, 0),
        (On::Execute, Action::CloseAfter, 0),
        (On::Prepare, Action::Close, 0),
        (On::Commit, Action::Close, 0),
        (On::Commit, Action::CloseHalfWay, 3),
        (On::Commit, Action::CloseAfter, 3),
    ] {
        let connection = client.connect();
        connection.set_autocommit(false).expect("transactions");
        client.server.faults().push(Fault::new(on, action));
        let result = client.insert(&connection, &all[..3]).and_then(|()| connection.commit());
        let (state, _) = code(result);
        assert!(state == "08S01" || !client.is_microsofts(), "{on:?} {action:?}: {state}");
        client.server.cut_connections();
        assert_eq!(client.count(), written, "{on:?} {action:?}");
        client.server.execute("DELETE FROM t");
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(connection))).ok();
    }
}

pub fn late_answers(client: &Client) {
    let connection = client.connect_to_table();
    let patient = Duration::from_millis(300);
    client.server.faults().push(at_insert(Action::Delay(patient)));
    let started = Instant::now();
    client.insert(&connection, &[("late", None, None)]).expect("a row, at last");
    assert!(started.elapsed() >= patient, "{:?}", started.elapsed());
    connection.commit().expect("a commit");

    // the driver gives up, the server stops what it was doing
    client.server.faults().push(at_insert(Action::Delay(Duration::from_secs(60))));
    let started = Instant::now();
    let mut statement = connection.preallocate().expect("a statement");
    statement.set_query_timeout_sec(1).expect("a time-out");
    let given_up = statement.execute("INSERT INTO t (id) VALUES (N'never')", ()).map(drop);
    assert_eq!(code(given_up).0, "HYT00");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    drop(statement);
    connection.commit().expect("the connection is as good as before");
    assert_eq!(client.ids(), ["late"]);

    // no time-out of the driver ends a silence; only the end of the connection does
    client.server.faults().push(at_insert(Action::Silence));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(move || execute(&connection, "INSERT INTO t (id) VALUES (N'silence')").map(drop));
        pause(patient);
        assert!(!waiting.is_finished());
        client.server.cut_connections();
        code(waiting.join().expect("no panic"));
    });
    assert_eq!(client.ids(), ["late"]);
}
