//! What was measured, for people and programs: one [`Report`], of which the page, the table, the CSV and the JSON are made.
//! [`COLUMNS`] says once what stands in a line about a setting, so that all of them agree.

use std::collections::BTreeMap;

use serde::Serialize;

use super::choice::{Choice, choose};
use super::{Contender, Measurement, Phase, Setting, Subject};
use crate::core::digits::grouped;

/// The version of the JSON: it grows when a key changes its meaning or goes.
pub const VERSION: u32 = 1;

/// All of a bench. As JSON it is a documented contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub version: u32,
    #[serde(flatten)]
    pub about: About,
    pub choices: Vec<Choice>,
    pub cells: Vec<Cell>,
}

/// What was measured, where and how.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    pub subject: Subject,
    pub konekt: String,
    /// UTC.
    pub at: String,
    pub machine: Machine,
    /// `embedded`, or the brokers' addresses; `None` where nothing is read from Kafka.
    pub kafka: Option<String>,
    /// `null`, `sqlite`, `odbc`, `sqlserver`; `None` where nothing is written.
    pub sink: Option<String>,
    /// What the bare loop is; `None` where there is none.
    pub ceiling: Option<String>,
    pub codec: String,
    pub seed: u64,
    pub warm_up: u64,
    pub repeats: u64,
    /// The time of one run.
    pub run_seconds: f64,
    /// What one should know to read the numbers.
    pub notes: Vec<String>,
}

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Machine {
    pub system: String,
    pub architecture: String,
    pub processor: Option<String>,
    /// Threads that run at the same time.
    pub processors: usize,
    /// How many wanted to run in the minute before; `None` where the system does not tell.
    pub load_before: Option<f64>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            system: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            processor: model.map(|(_, name)| name.trim().to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load_before: load.split(' ').next().and_then(|load| load.parse().ok()),
        }
    }

    /// Whether others took a good part of it before the bench began.
    pub fn is_busy(&self) -> bool {
        self.load_before.is_some_and(|load| load > self.processors as f64 / 2.0)
    }
}

/// A median, and how far the runs lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of an even number the lower one of the two in the middle, so that it is one that was measured.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        Self { median: at(last / 2), min: at(0), max: at(last) }
    }
}

/// One setting and what came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    pub contender: Contender,
    #[serde(flatten)]
    pub setting: Setting,
    pub records_per_second: Spread,
    /// Keys, values and headers, at the median.
    pub mebibytes_per_second: f64,
    pub cpu_us_per_record: Option<f64>,
    pub memory_bytes_max: Option<u64>,
    /// The median in percent of the bare loop's.
    pub of_ceiling_percent: Option<f64>,
    /// Of the run with the median rate.
    pub phases: BTreeMap<String, Phase>,
    pub runs: Vec<Measurement>,
}

impl Cell {
    /// What these runs amount to.
    pub fn new(contender: Contender, setting: Setting, runs: Vec<Measurement>) -> Self {
        let rates = Spread::of(runs.iter().map(Measurement::rate));
        let middle = runs.iter().find(|run| run.rate() == rates.median);
        let bytes_per_record = middle.map_or(0.0, |run| run.bytes as f64 / run.records.max(1) as f64);
        let cpu: Vec<f64> = runs
            .iter()
            .filter(|run| run.records > 0)
            .filter_map(|run| Some(run.cpu_seconds? * 1e6 / run.records as f64))
            .collect();
        Self {
            contender,
            setting,
            records_per_second: rates,
            mebibytes_per_second: rates.median * bytes_per_record / f64::from(1 << 20),
            cpu_us_per_record: (!cpu.is_empty()).then(|| Spread::of(cpu).median),
            memory_bytes_max: runs.iter().filter_map(|run| run.memory_bytes_max).max(),
            of_ceiling_percent: None,
            phases: middle.map(|run| run.phases.clone()).unwrap_or_default(),
            runs,
        }
    }

    /// The phase that every subject has: the write, or the decoding.
    fn main_phase(&self) -> Option<&Phase> {
        self.phases.get("write").or_else(|| self.phases.get("decode"))
    }
}

impl Report {
    /// Of what was measured: the settings and their runs.
    pub fn new(about: About, measured: Vec<(Contender, Setting, Vec<Measurement>)>) -> Self {
        let mut cells: Vec<Cell> =
            measured.into_iter().map(|(contender, setting, runs)| Cell::new(contender, setting, runs)).collect();
        let ceilings: BTreeMap<usize, f64> = cells
            .iter()
            .filter(|cell| cell.contender == Contender::Ceiling)
            .map(|cell| (cell.setting.record_bytes, cell.records_per_second.median))
            .collect();
        for cell in cells.iter_mut().filter(|cell| cell.contender == Contender::Konekt) {
            let ceiling = ceilings.get(&cell.setting.record_bytes).filter(|rate| **rate > 0.0);
            cell.of_ceiling_percent = ceiling.map(|rate| 100.0 * cell.records_per_second.median / rate);
        }
        Self { version: VERSION, about, choices: choose(&cells), cells }
    }

    /// `konekt bench sink, sqlite`.
    pub fn title(&self) -> String {
        let sink = self.about.sink.as_ref().map(|sink| format!(", {sink}")).unwrap_or_default();
        format!("konekt bench {}{sink}", self.about.subject.name())
    }

    /// Comma-separated: a line of names, and one for each cell, with further columns for the percentiles of each phase.
    pub fn csv(&self) -> String {
        let phases: Vec<&String> = {
            let all: std::collections::BTreeSet<&String> =
                self.cells.iter().flat_map(|cell| cell.phases.keys()).collect();
            all.into_iter().collect()
        };
        let of_phases = phases.iter().flat_map(|phase| PERCENTILES.map(|(name, _)| format!("{phase}_{name}")));
        let mut lines = vec![COLUMNS.iter().map(|column| column.name.to_owned()).chain(of_phases).collect::<Vec<_>>()];
        for cell in &self.cells {
            let of_phases = phases.iter().flat_map(|phase| {
                PERCENTILES.map(|(_, of)| cell.phases.get(*phase).map_or(String::new(), |phase| of(phase).to_string()))
            });
            let line = COLUMNS.iter().map(|column| (column.value)(cell).plain()).chain(of_phases);
            lines.push(line.collect());
        }
        lines.iter().map(|line| line.join(",") + "\n").collect()
    }
}

type OfPhase = fn(&Phase) -> f64;

const PERCENTILES: [(&str, OfPhase); 4] = [
    ("p50_ms", |phase| phase.p50_ms),
    ("p90_ms", |phase| phase.p90_ms),
    ("p99_ms", |phase| phase.p99_ms),
    ("max_ms", |phase| phase.max_ms),
];

/// What stands in a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(&'static str),
    Count(u64),
    /// A number, and how many decimals of it a person wants to see.
    Number(f64, usize),
    Absent,
}

impl Value {
    fn number(value: Option<f64>, decimals: usize) -> Self {
        value.map_or(Value::Absent, |value| Value::Number(value, decimals))
    }

    /// For programs: whole, with a point, and nothing where there is nothing.
    pub fn plain(&self) -> String {
        match self {
            Value::Text(text) => (*text).to_owned(),
            Value::Count(count) => count.to_string(),
            Value::Number(value, _) => value.to_string(),
            Value::Absent => String::new(),
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Value::Text(text) => (*text).to_owned(),
            Value::Count(count) => grouped(*count),
            Value::Number(value, 0) => grouped(value.round() as u64),
            Value::Number(value, decimals) => format!("{value:.decimals$}"),
            Value::Absent => "-".to_owned(),
        }
    }
}

/// A column of the table and of the CSV.
pub struct Column {
    /// In the CSV, with its unit; in the JSON it is the same or lies below it.
    pub name: &'static str,
    /// For people.
    pub heading: &'static str,
    pub value: fn(&Cell) -> Value,
}

/// What is said of a setting.
pub const COLUMNS: [Column; 14] = [
    Column { name: "contender", heading: "WHO", value: |cell| Value::Text(who(cell.contender)) },
    Column { name: "record_bytes", heading: "BYTES", value: |cell| count(cell.setting.record_bytes) },
    Column { name: "partitions", heading: "PARTITIONS", value: |cell| count(cell.setting.partitions) },
    Column { name: "workers", heading: "WORKERS", value: |cell| count(cell.setting.workers) },
    Column { name: "batch_size", heading: "BATCH", value: |cell| count(cell.setting.batch_size) },
    Column {
        name: "records_per_second",
        heading: "RECORDS/S",
        value: |cell| Value::Number(cell.records_per_second.median, 0),
    },
    Column {
        name: "records_per_second_min",
        heading: "MIN",
        value: |cell| Value::Number(cell.records_per_second.min, 0),
    },
    Column {
        name: "records_per_second_max",
        heading: "MAX",
        value: |cell| Value::Number(cell.records_per_second.max, 0),
    },
    Column {
        name: "mebibytes_per_second",
        heading: "MIB/S",
        value: |cell| Value::Number(cell.mebibytes_per_second, 1),
    },
    Column {
        name: "of_ceiling_percent",
        heading: "% OF CEILING",
        value: |cell| Value::number(cell.of_ceiling_percent, 0),
    },
    Column {
        name: "cpu_us_per_record",
        heading: "CPU US/RECORD",
        value: |cell| Value::number(cell.cpu_us_per_record, 2),
    },
    Column {
        name: "memory_mebibytes_max",
        heading: "MEMORY MIB",
        value: |cell| Value::number(cell.memory_bytes_max.map(|bytes| bytes as f64 / f64::from(1 << 20)), 0),
    },
    Column {
        name: "piece_p50_ms",
        heading: "P50 MS",
        value: |cell| Value::number(cell.main_phase().map(|phase| phase.p50_ms), 3),
    },
    Column {
        name: "piece_p99_ms",
        heading: "P99 MS",
        value: |cell| Value::number(cell.main_phase().map(|phase| phase.p99_ms), 3),
    },
];

fn who(contender: Contender) -> &'static str {
    match contender {
        Contender::Konekt => "konekt",
        Contender::Ceiling => "ceiling",
    }
}

fn count(number: usize) -> Value {
    Value::Count(number as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A report of two settings and a ceiling, three runs each.
    pub fn example() -> Report {
        let setting = |batch_size| Setting { record_bytes: 200, partitions: 8, workers: 1, batch_size };
        let run = |records: u64| Measurement {
            records,
            bytes: records * 214,
            seconds: 0.5,
            cpu_seconds: Some(records as f64 * 2e-6),
            memory_bytes_max: Some(records << 10),
            phases: [("write".to_owned(), Phase { count: 3, p50_ms: 1.5, p90_ms: 2.0, p99_ms: 3.25, max_ms: 4.0 })]
                .into(),
        };
        let runs = |records: [u64; 3]| records.map(run).to_vec();
        let about = About {
            subject: Subject::EndToEnd,
            konekt: "0.1.0".to_owned(),
            at: "2026-11-25 12:00:00.000".to_owned(),
            machine: Machine {
                system: "linux".into(),
                architecture: "x86_64".into(),
                processor: None,
                processors: 2,
                load_before: Some(0.5),
            },
            kafka: Some("embedded".to_owned()),
            sink: Some("sqlite".to_owned()),
            ceiling: Some("a bare loop <fast>".to_owned()),
            codec: "none".to_owned(),
            seed: 1,
            warm_up: 1,
            repeats: 3,
            run_seconds: 0.5,
            notes: vec!["a note".to_owned()],
        };
        let measured = vec![
            (Contender::Konekt, setting(100), runs([50_000, 40_000, 45_000])),
            (Contender::Konekt, setting(1000), runs([90_000, 80_000, 85_000])),
            (Contender::Ceiling, setting(1000), runs([100_000, 99_000, 101_000])),
        ];
        Report::new(about, measured)
    }

    #[test]
    fn a_cell_is_what_its_runs_amount_to() {
        let cell = &example().cells[0];
        assert_eq!(cell.records_per_second, Spread { median: 90_000.0, min: 80_000.0, max: 100_000.0 });
        assert_eq!((cell.cpu_us_per_record, cell.memory_bytes_max), (Some(2.0), Some(50_000 << 10)));
        assert_eq!(cell.of_ceiling_percent, Some(45.0));
        assert!((cell.mebibytes_per_second - 90_000.0 * 214.0 / 1_048_576.0).abs() < 1e-9);
        assert_eq!(Spread::of([4.0, 1.0, 3.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 4.0 });
        let nothing = Cell::new(Contender::Konekt, cell.setting, vec![Measurement::default()]);
        assert_eq!((nothing.records_per_second.median, nothing.cpu_us_per_record), (0.0, None));
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let report = example();
        let json = serde_json::to_value(&report).unwrap();
        let csv = report.csv();
        let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let names = lines.next().unwrap();
        for (line, cell) in lines.zip(json["cells"].as_array().unwrap()) {
            assert_eq!(line.len(), names.len());
            for (name, text) in names.iter().zip(line) {
                let value = match *name {
                    "records_per_second" => &cell["records_per_second"]["median"],
                    "records_per_second_min" => &cell["records_per_second"]["min"],
                    "records_per_second_max" => &cell["records_per_second"]["max"],
                    "memory_mebibytes_max" => &(cell["memory_bytes_max"].as_f64().unwrap() / 1_048_576.0).into(),
                    "piece_p50_ms" | "write_p50_ms" => &cell["phases"]["write"]["p50_ms"],
                    "piece_p99_ms" | "write_p99_ms" => &cell["phases"]["write"]["p99_ms"],
                    "write_p90_ms" => &cell["phases"]["write"]["p90_ms"],
                    "write_max_ms" => &cell["phases"]["write"]["max_ms"],
                    name => &cell[name],
                };
                match value {
                    serde_json::Value::Null => assert_eq!(text, "", "{name}"),
                    serde_json::Value::String(expected) => assert_eq!(text, expected, "{name}"),
                    number => assert_eq!(text.parse::<f64>().ok(), number.as_f64(), "{name}"),
                }
            }
        }
        assert_eq!((csv.lines().count(), json["version"].as_u64()), (4, Some(1)));
        assert_eq!((&json["subject"], &json["choices"][0]["batch_size"]), (&"end-to-end".into(), &1000.into()));
    }
}
