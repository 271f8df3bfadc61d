//! What a run shows over HTTP: the real binary against the embedded broker. Its counters are those of the audit, and who may
//! not steer it does not.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::wire::builder::RecordBatchBuilder;
use konekt::kafka::wire::compression::Codec;
use konekt::ops::http::metrics::FAMILIES;
use rusqlite::Connection;
use serde_json::Value;
use support::http::{ask, get};
use support::kafka::free_port;
use support::konekt::{Konekt, Place, Running};
use support::wait;

const SOON: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 3;
const RECORDS: i64 = 500;
/// Every so many-th record is refused by the database.
const BAD_EVERY: i64 = 100;

/// A broker with orders in it.
struct Scene {
    broker: Broker,
    place: Place,
    port: u16,
}

impl Scene {
    fn new() -> Self {
        let topics = vec![TopicSpec::new("orders", PARTITIONS), TopicSpec::new("empty", 1)];
        let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
        let scene = Self { broker, place: Place::new(), port: free_port() };
        (0..PARTITIONS).for_each(|partition| scene.produce(partition));
        scene
    }

    fn produce(&self, partition: i32) {
        let mut batch = RecordBatchBuilder::default();
        for number in 0..RECORDS {
            let word = if number % BAD_EVERY == 7 { "bad" } else { "good" };
            batch.append(None, Some(format!("{word} {number}").as_bytes()), &[], 1_700_000_000_000);
        }
        self.broker.append("orders", partition, batch.finish(Codec::None).expect("a batch"));
    }

    fn konekt(&self, topics: &str) -> Konekt {
        let address = self.broker.address();
        self.place.konekt(&["sink", "sqlite", "--db", "out.db", "--group-id", "g", "--batch-size", "50"]).arguments(&[
            "--bootstrap-servers",
            &address,
            "--topics",
            topics,
        ])
    }

    /// A run that shows itself, and goes on.
    fn start(&self, arguments: &[&str]) -> Running {
        let address = format!("127.0.0.1:{}", self.port);
        let running = self.konekt("orders").arguments(&["--http", &address]).arguments(arguments).start();
        wait::until("it shows itself", SOON, || ask(self.port, "GET", "/livez", &[]));
        running
    }

    fn sql(&self, sql: &str) {
        let connection = Connection::open(self.place.database()).expect("the database");
        connection.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    fn rows(&self) -> f64 {
        let connection = Connection::open(self.place.database()).expect("the database");
        let rows = connection.query_row("SELECT count(*) FROM processed_messages", [], |row| row.get::<_, i64>(0));
        rows.expect("a number") as f64
    }

    fn post(&self, path: &str, headers: &[&str]) -> u16 {
        ask(self.port, "POST", path, headers).expect("an answer").status
    }

    fn state(&self, partition: usize) -> Value {
        get(self.port, "/status").json()["statistics"]["partitions"][partition]["state"].clone()
    }
}

/// Prometheus text, taken apart as strictly as its specification demands: `name{labels}` to value.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut values, mut kinds) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.split_once(' ').is_some_and(|(_, help)| !help.is_empty()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}: twice");
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} has no value"));
            let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| (name, Some(rest)));
            if let Some(labels) = labels {
                let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}: the labels are not closed"));
                for label in labels.split("\",") {
                    let (label, value) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}: {label}"));
                    assert!(label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
                    assert!(!value.trim_end_matches('"').contains(['"', '\\', '\n']), "{line}");
                }
            }
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let family = bare.filter(|bare| kinds.get(*bare).is_some_and(|kind| kind == "histogram")).unwrap_or(name);
            assert!(kinds.contains_key(family), "{line}: no type was given before it");
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}: no number"));
            assert!(values.insert(series.to_owned(), value).is_none(), "{line}: twice");
        }
    }
    check_histograms(&values);
    values
}

/// Buckets count upwards, and the last one counts all.
fn check_histograms(values: &BTreeMap<String, f64>) {
    let mut seen = 0;
    for (series, count) in values.iter().filter(|(series, _)| series.contains("le=\"+Inf\"")) {
        let total = series.replace("_bucket{", "_count{").replace(",le=\"+Inf\"", "").replace("{le=\"+Inf\"}", "");
        assert_eq!(values.get(&total), Some(count), "{total}");
        let stem = series.split("le=\"").next().expect("there is one");
        let mut buckets: Vec<(f64, f64)> = values
            .iter()
            .filter_map(|(name, count)| {
                let upper = name.strip_prefix(stem)?.strip_prefix("le=\"")?.trim_end_matches("\"}");
                Some((upper.replace('+', "").to_lowercase().parse().ok()?, *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{series}: {buckets:?}");
        assert!(buckets.len() > 5, "{series}: {buckets:?}");
        seen += 1;
    }
    assert!(seen >= 3, "histograms were found");
}

#[test]
fn the_counters_are_those_of_the_audit_and_everything_is_accounted_for() {
    let scene = Scene::new();
    scene.konekt("empty").arguments(&["--until-end"]).run().expect_code(0);
    scene.sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON processed_messages WHEN NEW.message_value LIKE 'bad%' \
         BEGIN SELECT RAISE(ABORT, 'no bad ones here'); END",
    );
    let running = scene.start(&["--dead-letter-file", "letters.jsonl", "--stats-json", "stats.jsonl"]);
    let all = (RECORDS * i64::from(PARTITIONS)) as f64;
    let bad = all / BAD_EVERY as f64;
    let metrics = wait::until("everything is written", SOON, || {
        let metrics = parse(&get(scene.port, "/metrics").body);
        let done = metrics["konekt_records_written_total"] + metrics["konekt_records_dead_lettered_total"];
        (done == all).then_some(metrics)
    });
    let letters = std::fs::read_to_string(scene.place.file("letters.jsonl")).expect("the letters").lines().count();
    for (name, expected) in [
        ("konekt_records_written_total", scene.rows()),
        ("konekt_records_dead_lettered_total", letters as f64),
        ("konekt_records_dead_lettered_total", bad),
        ("konekt_records_read_total", all),
        ("konekt_records_unaccounted", 0.0),
        ("konekt_lag_records", 0.0),
        ("konekt_partitions{state=\"running\"}", f64::from(PARTITIONS)),
        ("konekt_sink_reachable", 1.0),
        ("konekt_group_settled", 1.0),
        ("konekt_workers", 1.0),
        ("konekt_partition_position{topic=\"orders\",partition=\"1\"}", RECORDS as f64),
        ("konekt_batch_phase_seconds_count{phase=\"commit\"}", metrics["konekt_batches_total"]),
        ("konekt_batch_records_sum", all),
    ] {
        assert_eq!(metrics.get(name), Some(&expected), "{name}");
    }
    assert!(metrics["konekt_batch_phase_seconds_sum{phase=\"execute\"}"] > 0.0);
    if cfg!(target_os = "linux") {
        assert!(metrics["process_cpu_seconds_total"] > 0.0 && metrics["process_resident_memory_bytes"] > 1e6);
        assert!((3.0..=metrics["process_max_fds"]).contains(&metrics["process_open_fds"]));
    }

    let status = get(scene.port, "/status").json();
    let statistics = &status["statistics"];
    assert_eq!((&statistics["version"], &statistics["records_unaccounted"]), (&1.into(), &0.into()));
    let letter = &statistics["letters"][0];
    assert_eq!((&letter["topic"], letter["offset"].as_i64().map(|offset| offset % 100)), (&"orders".into(), Some(7)));
    assert!(letter["reason"].as_str().expect("a reason").contains("no bad ones here"), "{letter}");
    let ready = get(scene.port, "/readyz");
    assert_eq!((ready.status, &ready.json()["sink"]), (200, &"reachable".into()), "{}", ready.body);

    running.stop("TERM", SOON).expect_code(0).expect_stderr("1,500 read = 1,485 written + 15 dead-lettered");
    let lines = std::fs::read_to_string(scene.place.file("stats.jsonl")).expect("the statistics");
    let last: Value = serde_json::from_str(lines.lines().last().expect("a line")).expect("JSON");
    assert_eq!(last["records_written"].as_f64(), Some(scene.rows()));
    assert_eq!((&last["summary"], &last["partition_errors"]), (&true.into(), &serde_json::json!({})));
}

#[test]
fn a_partition_is_paused_and_resumed_by_whoever_may() {
    let scene = Scene::new();
    let running = scene.start(&["--stats-interval-ms", "1000"]);
    let (pause, resume) = ("/partitions/orders/1/pause", "/partitions/orders/1/resume");
    wait::until("it runs", SOON, || (scene.state(1) == "running").then_some(()));
    for headers in [
        &["Origin: http://evil.example"][..],
        &["Origin: null"],
        &["Sec-Fetch-Site: cross-site"],
        &["Host: evil.example"],
        &["Host: evil.example", "Origin: http://evil.example"],
    ] {
        assert_eq!(scene.post(pause, headers), 403, "{headers:?}");
    }
    assert_eq!(ask(scene.port, "GET", "/status", &["Host: evil.example"]).expect("an answer").status, 403);
    assert_eq!(ask(scene.port, "GET", pause, &[]).expect("an answer").status, 404, "reading changes nothing");
    assert_eq!(scene.state(1), "running");

    let nobodys = ask(scene.port, "POST", "/partitions/orders/99/pause", &[]).expect("an answer");
    assert_eq!((nobodys.status, &nobodys.json()["ours"]), (202, &false.into()), "{}", nobodys.body);
    let ours = ask(scene.port, "POST", pause, &[&format!("Origin: http://127.0.0.1:{}", scene.port)]);
    let ours = ours.expect("an answer");
    assert_eq!((ours.status, &ours.json()["ours"]), (202, &true.into()), "{}", ours.body);
    wait::until("it is paused", SOON, || (scene.state(1) == "paused").then_some(()));
    assert_eq!(scene.state(0), "running", "the others do not notice");
    let metrics = parse(&get(scene.port, "/metrics").body);
    assert_eq!(metrics["konekt_partitions_paused{reason=\"operator\"}"], 1.0);
    scene.produce(1);
    wait::until("its lag grows although nothing is fetched", SOON, || {
        let metrics = parse(&get(scene.port, "/metrics").body);
        (metrics["konekt_partition_lag_records{topic=\"orders\",partition=\"1\"}"] >= RECORDS as f64).then_some(())
    });
    assert_eq!(scene.post(resume, &[]), 202);
    wait::until("it is caught up", SOON, || (scene.rows() == (RECORDS * 4) as f64).then_some(()));
    running.stop("TERM", SOON).expect_code(0);
}

#[test]
fn other_machines_need_the_token() {
    let scene = Scene::new();
    let anywhere = format!("0.0.0.0:{}", scene.port);
    let start = |token: &str| {
        let konekt = scene.konekt("orders").arguments(&["--http", &anywhere]);
        let running =
            if token.is_empty() { konekt.start() } else { konekt.variable("KONEKT_HTTP_TOKEN", token).start() };
        wait::until("it shows itself", SOON, || ask(scene.port, "GET", "/livez", &[]));
        running
    };
    let pause = "/partitions/orders/0/pause";
    let open = start("");
    assert_eq!(scene.post(pause, &[]), 403, "without a token nobody steers from outside");
    open.stop("TERM", SOON).expect_code(0).expect_stderr("is open to other machines");
    let closed = start("correct horse");
    for (header, status) in [
        ("X: y", 401),
        ("Authorization: Bearer wrong horse", 401),
        ("Authorization: Basic correct horse", 401),
        ("Authorization: Bearer correct horse", 202),
    ] {
        assert_eq!(scene.post(pause, &[header]), status, "{header}");
    }
    let ended = closed.stop("TERM", SOON).expect_code(0);
    assert!(!ended.stderr.contains("horse"), "{}", ended.stderr);
}

#[test]
fn the_answers_are_not_for_frames_caches_or_other_sites() {
    let scene = Scene::new();
    let running = scene.start(&[]);
    for path in ["/", "/status", "/metrics", "/livez", "/nothing"] {
        let answer = get(scene.port, path);
        for line in [
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
            "Content-Security-Policy: default-src 'none'",
        ] {
            assert!(answer.head.contains(line), "{path}: {line} is missing in\n{}", answer.head);
        }
    }
    let page = get(scene.port, "/");
    assert!(page.head.contains("frame-ancestors 'none'") && page.head.contains("script-src 'sha256-"), "{}", page.head);
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        let allowed = page.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!allowed.contains(outside), "the page asks for something from elsewhere: {outside}");
    }
    running.stop("TERM", SOON).expect_code(0);
}

#[test]
fn a_port_that_is_taken_ends_the_program_before_it_begins() {
    let scene = Scene::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    scene.konekt("orders").arguments(&["--http", &address]).run().expect_code(1).expect_stderr("cannot listen there");
    assert!(!scene.place.database().exists());
}

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of metrics in a text.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    words.filter(|word| word.starts_with("konekt_")).map(str::to_owned).collect()
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let known: BTreeSet<String> = FAMILIES
        .iter()
        .flat_map(|family| match family.kind {
            "histogram" => ["", "_bucket", "_sum", "_count"].map(|end| format!("{}{end}", family.name)).to_vec(),
            _ => vec![family.name.to_owned()],
        })
        .collect();
    let dashboard = file("deploy/grafana-dashboard.json");
    serde_json::from_str::<Value>(&dashboard).expect("the dashboard is JSON");
    for (path, text) in [("dashboard", dashboard), ("alerts", file("deploy/prometheus-alerts.yaml"))] {
        let asked = names(&text);
        assert!(asked.len() > 5, "{path}: {asked:?}");
        let unknown: Vec<_> = asked.difference(&known).collect();
        assert!(unknown.is_empty(), "{path} asks for what there is not: {unknown:?}");
    }
}
