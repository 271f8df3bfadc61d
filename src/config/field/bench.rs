//! Settings of `konekt bench`: what is compared, how often, and where the report goes. All belong to one call.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Bench, name, kind, default, doc).commands(BENCH)
}

const fn counts(min: u64, max: u64) -> Kind {
    Kind::Counts { min, max }
}

/// Partitions mean nothing where bytes are only decoded.
const IN_PARTITIONS: Commands = Commands::of(&[Command::BenchConsume, Command::BenchSink, Command::BenchEndToEnd]);

pub(super) const FIELDS: &[Field] = &[
    field(
        "bench_sink",
        Kind::Choice(&["null", "sqlite", "odbc", "sqlserver"]),
        Default::Is("sqlite"),
        "Where records go: into a file or tables of its own, which are removed afterwards.",
    )
    .commands(BENCH_ON_SINK)
    .flagged("sink"),
    field(
        "bench_servers",
        Kind::Addresses,
        Default::Nothing,
        "A cluster to read from, in a topic of its own; without it an embedded broker.",
    )
    .commands(BENCH_ON_KAFKA)
    .flagged("bootstrap-servers"),
    field(
        "bench_batch_sizes",
        counts(1, 1_000_000),
        Default::Is("10,100,500,1000,5000"),
        "Numbers of records written together, or in one batch to decode.",
    )
    .flagged("batch-size"),
    field(
        "bench_workers",
        counts(1, 1024),
        Default::Is("1,4"),
        "Numbers of threads, and of connections to a database.",
    )
    .flagged("workers"),
    field("bench_partitions", counts(1, 10_000), Default::Is("8"), "Numbers of partitions.")
        .commands(IN_PARTITIONS)
        .flagged("partitions"),
    field("bench_record_bytes", counts(64, 32 * MIB), Default::Is("200"), "Sizes of a record's value, in bytes.")
        .flagged("record-size"),
    field(
        "bench_compression",
        Kind::Choice(&["none", "gzip", "snappy", "lz4", "zstd"]),
        Default::Is("none"),
        "How the records' batches are compressed.",
    )
    .only(&[Command::BenchDecode, Command::BenchConsume, Command::BenchEndToEnd])
    .flagged("compression"),
    field("warm_up", count(0, 100), Default::Is("1"), "Rounds before those that count."),
    field("repeats", count(1, 1_000), Default::Is("5"), "Rounds that count; in each, all settings take turns."),
    field(
        "bench_seconds",
        Kind::Integer { min: 1, max: 86_400, unit: "s" },
        Default::Is("60"),
        "The time that all runs share; one that has used its part stops.",
    )
    .flagged("seconds"),
    field(
        "bench_records",
        count(1, 1_000_000_000),
        Default::Nothing,
        "The most records of one run; without it as many as fit into some memory.",
    )
    .flagged("records"),
    field("out", Kind::Text, Default::Is("konekt-bench"), "The folder for report.html, .json, .csv and the plots."),
    field(
        "measure",
        Kind::Text,
        Default::Nothing,
        "One run, described in JSON, in this process: what each run is started with.",
    ),
];
