//! The servers themselves: a test of Konekt proves nothing when its server is not what it seems.

use crate::support::databases::{self, Server};
use crate::support::or_skip;

#[test]
fn a_server_keeps_what_is_committed_whether_stopped_or_killed() {
    for own in [databases::own_postgres, databases::own_mariadb] {
        let Some(server) = or_skip(own()) else { return };
        let database = server.database();
        database.run("CREATE TABLE t (n INT, s VARCHAR(100))");
        database.run("INSERT INTO t VALUES (1, 'é\n')");
        for (round, end) in [Server::stop as fn(&Server), Server::kill].into_iter().enumerate() {
            let mut open = database.session();
            open.run("BEGIN");
            open.run("INSERT INTO t VALUES (99, 'never committed')");
            end(&server);
            assert!(open.try_run("SELECT 1").is_err() || open.run("SELECT 1").is_empty(), "{}", server.name());
            server.start_again().expect("it comes back");
            assert_eq!(database.select(&["n"], "t ORDER BY n").len(), 1 + round, "{}", server.name());
            database.run(&format!("INSERT INTO t VALUES ({}, NULL)", round + 2));
        }
        let rows = database.select(&["n", "s"], "t ORDER BY n");
        assert_eq!(serde_json::json!(rows), serde_json::json!([[1, "é\n"], [2, null], [3, null]]));
    }
}

#[test]
fn a_statement_that_is_refused_says_so() {
    for shared in [databases::postgres, databases::mariadb] {
        let Some(server) = or_skip(shared()) else { return };
        let mut session = server.database().session();
        let error = session.try_run("SELECT * FROM absent").unwrap_err();
        assert!(error.contains("absent"), "{error}");
        assert_eq!(session.run("SELECT 7"), ["7"], "{}: it goes on", server.name());
    }
}
