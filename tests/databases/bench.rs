//! `konekt bench` into real databases: it measures, and leaves nothing behind.

use konekt::port::Sink;
use serde_json::Value;

use crate::subject::Served;
use crate::support::databases::Server;
use crate::support::konekt::Place;
use crate::with_every_server;

with_every_server!(a_bench_leaves_the_database_as_it_was, a_bench_removes_the_tables_that_it_made);

fn a_bench_removes_the_tables_that_it_made(server: &'static Server) {
    let served = Served::new(server, |_| {});
    bench(&served, "end-to-end");
    assert_eq!(tables(&served), 0);
}

fn a_bench_leaves_the_database_as_it_was(server: &'static Server) {
    let served = Served::new(server, |_| {});
    drop(served.sink.writer().expect("the tables are made"));
    let before = tables(&served);
    bench(&served, "sink");
    assert_eq!((tables(&served), served.count()), (before, 0));
    assert_eq!(served.database.select(&["COUNT(*)"], "konekt_positions")[0][0], 0, "only a bench's rows were there");
}

/// A small bench, whose report has four settings and the bare loop.
fn bench(served: &Served<'_>, subject: &str) {
    let place = Place::new();
    place
        .konekt(&["bench", subject, "--sink", "odbc", "--out", "out", "--seconds", "2", "--records", "4000"])
        .arguments(&["--warm-up", "0", "--repeats", "2", "--workers", "1,4", "--batch-size", "100,1000"])
        .variable("ODBC_CONNECTION_STRING", &served.database.connection_string())
        .run()
        .expect_code(0);
    let text = std::fs::read_to_string(place.file("out/report.json")).expect("report.json");
    let report: Value = serde_json::from_str(&text).expect(&text);
    let cells = report["cells"].as_array().expect("cells");
    let who: Vec<&str> = cells.iter().filter_map(|cell| cell["contender"].as_str()).collect();
    assert_eq!(who, ["konekt", "konekt", "konekt", "konekt", "ceiling"], "{report:#}");
    for cell in cells {
        let written: u64 =
            cell["runs"].as_array().expect("runs").iter().filter_map(|run| run["records"].as_u64()).sum();
        assert!(written > 0 && cell["records_per_second"]["median"].as_f64() > Some(0.0), "{cell:#}");
    }
    assert!(cells[0]["phases"]["commit"]["count"].as_u64() > Some(0), "the phases are told: {report:#}");
    assert!(!text.contains("PWD="), "no secret is in the report");
}

/// The tables of the database, ours and the sink's.
fn tables(served: &Served<'_>) -> u64 {
    let name = served.database.name();
    let ours = format!(
        "information_schema.tables WHERE table_schema IN ('public', '{name}') \
         AND (table_name LIKE 'konekt%' OR table_name LIKE 'processed%')"
    );
    served.database.select(&["COUNT(*)"], &ours)[0][0].as_u64().expect("a count")
}
