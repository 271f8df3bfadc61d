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
    // The table is made by the loader: before that there is nothing to count.
    let made = || killed_enough(&served);
    until("a part is loaded", Duration::from_secs(120), made);
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

fn killed_enough(served: &Served<'_>) -> Option<()> {
    let tables = served.database.select(
        &["COUNT(*)"],
        "information_schema.tables WHERE table_name = 'processed_messages' AND table_schema NOT IN ('information_schema')",
    );
    let is_made = tables[0][0].as_u64().is_some_and(|count| count > 0);
    (is_made && served.count() > 1000).then_some(())
}
