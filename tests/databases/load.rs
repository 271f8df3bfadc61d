//! `konekt load` into real databases, killed half-way.

use std::time::Duration;

use crate::subject::Served;
use crate::support::databases::Server;
use crate::support::konekt::{Konekt, Place};
use crate::support::wait::until;
use crate::with_every_server;

with_every_server!(files_are_loaded_once_though_the_loader_is_killed);

const DOCUMENTS: usize = 100_000;

fn files_are_loaded_once_though_the_loader_is_killed(server: &'static Server) {
    let served = Served::new(server, |_| {});
    let place = Place::new();
    let make = ["data", "generate", "orders", "--records", "100000", "--output", "orders.jsonl.gz"];
    place.konekt(&make).run().expect_code(0);
    let load = |batch_size: &str| -> Konekt {
        let arguments = ["load", "orders.jsonl.gz", "--to", "odbc", "--key", "/customer", "--batch-size", batch_size];
        place.konekt(&arguments).variable("ODBC_CONNECTION_STRING", &served.database.connection_string())
    };
    let killed = load("100").start();
    until("a part is loaded", Duration::from_secs(120), || killed_enough(&served));
    killed.kill();
    let half = served.count();
    assert!(half < DOCUMENTS as u64, "all was loaded before it was killed");
    load("1000").run().expect_code(0);
    let lines = place.konekt(&["data", "sample", "--records", "100000", "orders.jsonl.gz"]).run().expect_code(0).stdout;
    let order = served.database.server().kind().quoted("offset");
    let rows = served.database.select(&["message_value"], &format!("processed_messages ORDER BY {order}"));
    let found: Vec<&str> = rows.iter().filter_map(|row| row[0].as_str()).collect();
    assert!(found == lines.lines().collect::<Vec<_>>(), "each line is one row, in order: {} rows", found.len());
}

/// Rows are there; before the loader has made the table there is nothing to count.
fn killed_enough(served: &Served<'_>) -> Option<()> {
    let answer = served.database.session().try_run("SELECT COUNT(*) FROM processed_messages").unwrap_or_default();
    let rows: u64 = answer.first().and_then(|count| count.parse().ok()).unwrap_or(0);
    (rows > 1000).then_some(())
}
