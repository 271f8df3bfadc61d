//! Settings of `konekt data`: which files, and what to make of them.

use super::*;

const fn field(name: &'static str, kind: Kind, default: Default, doc: &'static str) -> Field {
    Field::new(Section::Run, name, kind, default, doc)
}

pub(super) const FIELDS: &[Field] = &[
    field(
        "data_kind",
        Kind::Choice(&["orders", "users", "wiki"]),
        Default::Required,
        "What to make: orders (200 bytes each), users (400 bytes) or wiki, pages of 1 KiB to 30 MiB.",
    )
    .only(&[Command::DataGenerate])
    .positional(),
    field("paths", Kind::Paths, Default::Required, "Files of JSON lines or arrays (.gz, .zst), or folders of them.")
        .only(&[Command::DataInspect, Command::DataSample, Command::DataSplit, Command::DataValidate, Command::Load])
        .positional(),
    field("data_records", count(0, 10_000_000_000), Default::Is("1000"), "How many documents.")
        .only(&[Command::DataGenerate, Command::DataSample])
        .flagged("records"),
    field("seed", count(0, u64::MAX), Default::Is("1"), "What chance begins with: the same seed, the same bytes.")
        .commands(BENCH.with(&[Command::DataGenerate, Command::DataSample])),
    field("output", Kind::Text, Default::Is("-"), "The file to make, compressed as its name says; - is stdout.")
        .only(&[Command::DataGenerate, Command::DataSample]),
    field(
        "document_bytes_max",
        Kind::Bytes { min: KIB, max: 30 * MIB },
        Default::Is("30MiB"),
        "The size of the largest page; MongoDB takes 16 MB.",
    )
    .only(&[Command::DataGenerate]),
    field(
        "parts",
        Kind::Text,
        Default::Required,
        "The parts' name: * in it becomes their number, as part-*.jsonl.zst.",
    )
    .only(&[Command::DataSplit]),
    field("part_records", count(1, u64::MAX), Default::Is("100000"), "The most documents of a part.")
        .only(&[Command::DataSplit]),
    field(
        "part_bytes",
        Kind::Bytes { min: KIB, max: 1024 * GIB },
        Default::Is("1GiB"),
        "The most bytes of a part, before compression.",
    )
    .only(&[Command::DataSplit]),
    field("key", Kind::Text, Default::Nothing, "A JSON pointer such as /id that every document must have: its key.")
        .only(&[Command::DataValidate, Command::Load]),
];
