//! The test harness, tested: a real Kafka starts, answers to both foreign clients, comes back with its data, and
//! leaves nothing behind.

mod support;

use serde_json::json;
use support::{kafka, or_skip};

#[test]
fn the_newest_kafka_serves_and_survives_a_restart() {
    let Some(kafka) = or_skip(kafka::own(&[kafka::FORGETS_SOON])) else { return };
    kafka.filled_topic("numbers", 4, 1_000, 200);
    kafka.kill();
    kafka.start_again().unwrap();
    kafka.stop();
    kafka.start_again().unwrap();
    assert_eq!(kafka.ends("numbers"), [250; 4]);
}

#[test]
fn the_oldest_kafka_takes_records_of_both_writers() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    kafka.create_topic("both", 1, &[]);
    let write = json!({"do": "write", "topic": "both", "codec": "zstd", "transaction": "abort",
        "records": [{"partition": 0, "key": null, "value": "aGk=", "headers": [["a", null]], "timestamp": 7}]});
    assert_eq!(kafka.java(&write)["places"], json!([[0, 0, 7]]));
    assert_eq!(kafka.librdkafka(&write).unwrap()["places"], json!([[0, 2, 7]]));
}

#[test]
fn a_stopped_kafka_leaves_no_folder() {
    let Some(kafka) = or_skip(kafka::own(&[])) else { return };
    let folder = kafka.folder().to_path_buf();
    assert!(folder.exists());
    drop(kafka);
    assert!(!folder.exists(), "{} is left", folder.display());
}
