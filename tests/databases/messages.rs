//! `konekt messages` on real databases.

use konekt::TopicPartition;
use serde_json::Value;

use crate::contract::records::{Log, Sample};
use crate::contract::write_logs;
use crate::subject::Served;
use crate::support::databases::Server;
use crate::support::konekt::{Finished, Place};
use crate::with_every_server;

with_every_server!(rows_are_counted_shown_and_removed);

/// Rows here are of 29 February 2024: see the contract's clock.
fn rows_are_counted_shown_and_removed(server: &'static Server) {
    let served = Served::new(server, |_| {});
    let place = Place::new();
    let run = |arguments: &[&str]| -> Finished {
        place
            .konekt(&[&["messages"], arguments].concat())
            .variable("ODBC_CONNECTION_STRING", &served.database.connection_string())
            .run()
    };
    run(&["stats"]).expect_code(2).expect_stderr("processed_messages");

    let large = "ä😀".repeat(1_000_000);
    let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"1"))];
    let samples = [
        Sample { key: Some(b"k"), value: Some(b"v"), headers },
        Sample { key: None, value: None, headers: &[] },
        Sample { key: Some(b"k"), value: Some(large.as_bytes()), headers: &[] },
    ];
    let logs = [
        Log::of(&TopicPartition::new("orders", 3), 0, &samples),
        Log::plain(&TopicPartition::new("orders", 4), 0, 2500),
    ];
    write_logs(&served.sink, &logs);

    let stats = json(run(&["stats", "--json"]));
    assert_eq!(stats["by_status"], serde_json::json!({"SUCCESS": 2502, "TOMBSTONE": 1}));
    let line = &stats["partitions"][0];
    assert_eq!((&line["first_offset"], &line["last_offset"]), (&0.into(), &2.into()), "{stats}");
    let time = line["first_time"].as_str().expect("a time");
    assert!(time.starts_with("2024-02-29 12:34:56.789"), "{time}");

    let record = ["show", "--topic", "orders", "--partition", "3", "--json", "--offset"];
    let shown = json(run(&[&record[..], &["0"]].concat()));
    assert_eq!(shown["message_headers"], serde_json::json!({"h": "1"}));
    let shown = json(run(&[&record[..], &["2"]].concat()));
    assert_eq!(shown["message_value"].as_str().map(str::len), Some(large.len()));
    assert!(shown["message_value"] == large.as_str(), "a long value comes back whole");

    let prune = ["prune", "--older-than", "30d"];
    let dry = run(&[&prune[..], &["--dry-run"]].concat()).expect_code(0).stdout;
    assert!(dry.contains("2,503 rows before"), "{dry}");
    assert_eq!(served.count(), 2503);
    let removed = run(&prune).expect_code(0).stdout;
    assert!(removed.contains("2,503 rows before"), "{removed}");
    assert_eq!(served.count(), 0);
}

fn json(finished: Finished) -> Value {
    let text = finished.expect_code(0).stdout;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
