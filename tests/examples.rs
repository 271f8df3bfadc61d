//! Each example does what its head says: by itself, and with a broker that it is pointed to.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::cluster::Cluster;
use konekt::kafka::connection::ConnectionOptions;
use konekt::kafka::producer::{NewRecord, Producer, ProducerOptions};
use tempfile::TempDir;

/// A folder of its own, so that only the settings given here count.
struct Place(TempDir);

impl Place {
    fn new(settings: &str) -> Place {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        fs::write(folder.path().join("konekt.toml"), settings).expect("a settings file");
        Place(folder)
    }

    fn run(&self, example: &str, arguments: &[&str], environment: &[(&str, String)]) -> Output {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mut command = Command::new(env!("CARGO"));
        // What cargo tells a test about its package would make build scripts run again, and all that hangs on them.
        for (name, _) in std::env::vars_os() {
            let told =
                name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
            if told {
                command.env_remove(name);
            }
        }
        let features = if cfg!(feature = "testkit") { "testkit" } else { "" };
        command.args(["run", "--quiet", "--locked", "--features", features, "--manifest-path", manifest]);
        command.args(["--example", example, "--"]);
        command.args(arguments).current_dir(&self.0).env("TMPDIR", self.0.path()).stdin(Stdio::null());
        command.env_remove("KAFKA_BOOTSTRAP_SERVERS").envs(environment.iter().map(|(name, value)| (name, value)));
        command.output().expect("cargo starts")
    }
}

fn run(example: &str, arguments: &[&str]) -> Output {
    Place::new("").run(example, arguments, &[])
}

/// What it printed has each of the words; the output is shown when it has not.
fn check(example: &str, output: &Output, words: &[&str]) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{example}: {}\n{text}", output.status);
    for word in words {
        assert!(text.contains(word), "{example} does not say {word:?}:\n{text}");
    }
}

#[test]
fn they_run_with_nothing_installed() {
    for (example, words) in [
        ("basic", &["assigned: [", "orders/0@0: {\"order\":", "100 records processed"][..]),
        ("multi", &["sold ", "returned ", "Lisboa", "10000 records processed"]),
        ("throughput", &["200000 records in ", "MiB/s"]),
        ("monitoring", &["orders/0 [Operator]", "\"messages_processed\": 20000"]),
        ("env", &["group konekt, batches of up to 50", "orders/0: ", "1000 records processed"]),
    ] {
        check(example, &run(example, &[]), words);
    }
}

#[test]
fn they_run_against_a_kafka_that_is_named() {
    let topics = vec![TopicSpec::new("orders", 2)];
    let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
    let cluster = Cluster::connect(&[broker.address()], ConnectionOptions::default()).expect("the broker answers");
    let producer = Producer::new(cluster, ProducerOptions::default());
    for number in 0..37 {
        let value = format!("{{\"total\":{number}.50,\"city\":\"Gent\"}}");
        let record = NewRecord { value: Some(value.as_bytes()), ..NewRecord::default() };
        producer.send(&"orders".into(), &record).expect("a record");
    }
    producer.flush(Duration::from_secs(30)).expect("all are acknowledged");

    let arguments = ["--bootstrap-servers", &broker.address(), "--topics", "orders", "--until-end"];
    for (example, words) in [
        ("basic", &["37 records processed", "{\"total\":36.50"][..]),
        // 0.50 + 1.50 + … + 36.50
        ("multi", &["684.50 EUR"]),
        ("throughput", &["37 records in "]),
        ("monitoring", &["\"messages_processed\": 37"]),
    ] {
        check(example, &run(example, &arguments), words);
    }
    let place = Place::new("batch_size = 20\n");
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", broker.address()), ("KAFKA_TOPICS", "orders".to_owned())];
    check("env", &place.run("env", &["--until-end"], &environment), &["batches of up to 20", "37 records processed"]);
}

#[test]
fn wrong_arguments_are_said() {
    let output = run("basic", &["--bootstrap"]);
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("--bootstrap is not --bootstrap-servers"), "{text}");
}
