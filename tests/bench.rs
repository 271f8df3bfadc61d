//! `konekt bench` as a person runs it, small: the report is whole and its parts agree. No test here asserts a time.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions};
use serde_json::Value;
use support::konekt::{Konekt, Place};
use support::wait;

const FILES: [&str; 5] = ["cpu.svg", "rate.svg", "report.csv", "report.html", "report.json"];

/// A bench that takes about a second, with its report in `out`.
fn small(place: &Place, subject: &str) -> Konekt {
    place
        .konekt(&["bench", subject, "--out", "out", "--seconds", "1", "--records", "3000", "--warm-up", "0"])
        .arguments(&["--repeats", "3", "--batch-size", "50,500"])
}

fn report(place: &Place) -> Value {
    let text = std::fs::read_to_string(place.file("out/report.json")).expect("report.json");
    serde_json::from_str(&text).expect(&text)
}

/// The names of what lies in `out`.
fn files(place: &Place) -> Vec<String> {
    let entries = std::fs::read_dir(place.file("out")).expect("the folder of the report");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Equal but for the last digits, which writing and reading JSON may cost.
fn is_near(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Demands a report of so many settings, whose numbers can be true.
fn expect_sound(report: &Value, cells: usize, phase: &str) {
    assert_eq!((&report["version"], &report["repeats"]), (&1.into(), &3.into()), "{report}");
    let found = report["cells"].as_array().expect("cells");
    assert_eq!(found.len(), cells, "{report:#}");
    for cell in found {
        let rate = &cell["records_per_second"];
        let runs = cell["runs"].as_array().expect("runs");
        let rates: Vec<f64> = runs.iter().map(|run| number(&run["records"]) / number(&run["seconds"])).collect();
        let [min, median, max] = ["min", "median", "max"].map(|name| number(&rate[name]));
        assert!(0.0 < min && min <= median && median <= max, "{cell:#}");
        let is_of_a_run = |rate: &f64| rates.iter().any(|of_run| is_near(*of_run, *rate));
        assert!(rates.len() == 3 && [min, median, max].iter().all(is_of_a_run), "{cell:#}");
        assert!(runs.iter().all(|run| (1.0..=3_000.0).contains(&number(&run["records"]))), "{cell:#}");
        assert!(number(&cell["cpu_us_per_record"]) >= 0.0 && number(&cell["memory_bytes_max"]) > 1e6, "{cell:#}");
        let times = ["p50_ms", "p90_ms", "p99_ms", "max_ms"].map(|name| number(&cell["phases"][phase][name]));
        assert!(times.is_sorted() && number(&cell["phases"][phase]["count"]) >= 1.0, "{cell:#}");
    }
    expect_choice_follows(report);
}

/// The choice is the smallest setting within 5 % of the fastest.
fn expect_choice_follows(report: &Value) {
    let ours = report["cells"].as_array().expect("cells").iter().filter(|cell| cell["contender"] == "konekt");
    let settings: Vec<(u64, u64, f64)> = ours
        .map(|cell| {
            let whole = |name: &str| cell[name].as_u64().expect(name);
            (whole("workers"), whole("batch_size"), number(&cell["records_per_second"]["median"]))
        })
        .collect();
    let best = settings.iter().map(|(.., rate)| *rate).fold(0.0, f64::max);
    let enough = settings.iter().filter(|(.., rate)| *rate >= best * 0.95);
    let (workers, batch_size, rate) = enough.min_by_key(|(workers, batch, _)| (*workers, *batch)).expect("settings");
    let choice = &report["choices"][0];
    assert_eq!((&choice["workers"], &choice["batch_size"]), (&(*workers).into(), &(*batch_size).into()), "{choice}");
    assert!((number(&choice["records_per_second"]) - rate).abs() < 1.0, "{choice}");
}

/// The table on stdout and the CSV have the JSON's numbers.
fn expect_agreement(place: &Place, report: &Value, stdout: &str) {
    let csv = std::fs::read_to_string(place.file("out/report.csv")).expect("report.csv");
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<&str>>());
    let names = lines.next().expect("a line of names");
    let column = |name: &str| names.iter().position(|found| *found == name).unwrap_or_else(|| panic!("{name}: {csv}"));
    let rows = stdout.lines().filter(|line| line.contains("konekt  ") || line.contains("ceiling  "));
    let rows: Vec<Vec<&str>> = rows.map(|line| line.split_whitespace().collect()).collect();
    let cells = report["cells"].as_array().expect("cells");
    assert_eq!((rows.len(), lines.clone().count()), (cells.len(), cells.len()), "{stdout}\n{csv}");
    for ((line, row), cell) in lines.zip(rows).zip(cells) {
        assert_eq!((line[0], row[0]), (cell["contender"].as_str().unwrap(), line[0]));
        for name in ["record_bytes", "partitions", "workers", "batch_size"] {
            assert_eq!(line[column(name)], cell[name].to_string(), "{name}");
            assert_eq!(row[column(name)].replace(',', ""), cell[name].to_string(), "{name}");
        }
        for (name, part) in
            [("records_per_second", "median"), ("records_per_second_min", "min"), ("records_per_second_max", "max")]
        {
            let rate = number(&cell["records_per_second"][part]);
            let in_csv = line[column(name)].parse().unwrap_or_else(|error| panic!("{name}: {error} in\n{csv}"));
            assert!(is_near(in_csv, rate), "{name}: {in_csv}, {rate}");
            assert_eq!(row[column(name)].replace(',', ""), format!("{:.0}", rate.round()), "{name}");
        }
    }
}

#[test]
fn the_whole_way_into_sqlite_is_reported_and_leaves_nothing_else() {
    let place = Place::new();
    let ended = small(&place, "end-to-end").arguments(&["--sink", "sqlite", "--workers", "1,4"]).run().expect_code(0);
    let report = report(&place);
    // SQLite has one writer: more workers are the same setting. With the bare loop it is three.
    expect_sound(&report, 3, "write");
    expect_agreement(&place, &report, &ended.stdout);
    assert_eq!((&report["sink"], &report["kafka"]), (&"sqlite".into(), &"embedded".into()));
    assert_eq!(report["cells"][2]["contender"], "ceiling");
    assert!(number(&report["cells"][0]["of_ceiling_percent"]) > 0.0, "{report:#}");
    assert_eq!(files(&place), FILES, "the database is removed");
    let page = std::fs::read_to_string(place.file("out/report.html")).expect("report.html");
    let choice = &report["choices"][0];
    assert!(page.contains(&format!("batch_size {}, max_workers 1", choice["batch_size"])), "{page}");
}

#[test]
fn each_subject_has_its_report() {
    for (subject, phase, cells, arguments) in [
        ("decode", "decode", 4, &["--workers", "1,2", "--compression", "lz4"][..]),
        ("consume", "write", 4, &["--workers", "1,2", "--partitions", "3", "--record-size", "1000"]),
        ("sink", "write", 4, &["--sink", "null", "--workers", "1,2"]),
        ("sink", "write", 3, &["--sink", "sqlite", "--partitions", "20"]),
    ] {
        let place = Place::new();
        let ended = small(&place, subject).arguments(arguments).run().expect_code(0);
        let report = report(&place);
        assert_eq!(report["subject"], subject);
        expect_sound(&report, cells, phase);
        expect_agreement(&place, &report, &ended.stdout);
        assert_eq!(files(&place), FILES, "{subject}");
    }
}

#[test]
fn a_given_cluster_is_left_as_it_was() {
    let broker = Broker::start(BrokerOptions::default()).expect("a broker");
    let (place, address) = (Place::new(), broker.address());
    small(&place, "consume").arguments(&["--bootstrap-servers", &address]).run().expect_code(0);
    let report = report(&place);
    assert_eq!(report["kafka"], address.as_str());
    expect_sound(&report, 4, "write");
    let topics = place.konekt(&["admin", "topics", "--bootstrap-servers", &address]).run().expect_code(0).stdout;
    assert!(!topics.contains("konekt-bench"), "{topics}");
}

#[test]
fn a_bench_that_is_stopped_removes_what_it_made() {
    let place = Place::new();
    let arguments = ["bench", "sink", "--out", "out", "--seconds", "60", "--repeats", "100", "--batch-size", "100"];
    let mut run = place.konekt(&arguments).start();
    wait::until("a run has begun to write", Duration::from_secs(60), || {
        assert!(run.poll().is_none(), "it has ended by itself:\n{}", run.stderr());
        let names = if place.file("out").exists() { files(&place) } else { Vec::new() };
        names.iter().any(|name| name.ends_with(".db")).then_some(())
    });
    run.stop("INT", Duration::from_secs(60)).expect_code(130).expect_stderr("is removed");
    assert_eq!(files(&place), [""; 0]);
}

#[test]
fn what_cannot_be_measured_is_said() {
    let place = Place::new();
    std::fs::write(place.file("taken"), "").expect("a file");
    for (arguments, code, words) in [
        (&["sink", "--sink", "odbc"][..], 2, "--connection-string"),
        (&["sink", "--out", "taken"], 1, "choose another folder with --out"),
        (&["decode", "--batch-size", "10,0"], 2, "\"0\" is not a whole number from 1 to"),
        (&["decode", "--measure", "{}"], 2, "--measure: missing field"),
        (&["consume", "--bootstrap-servers", "127.0.0.1:1", "--connect-timeout-ms", "200"], 3, "127.0.0.1:1"),
    ] {
        let run = place.konekt(&[&["bench"], arguments].concat()).run();
        run.expect_code(code).expect_stderr(words);
    }
}
