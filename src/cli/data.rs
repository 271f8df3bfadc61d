//! `konekt data generate|inspect|sample|split|validate`.

use std::path::{Path, PathBuf};

use super::exit::{self, Exit, Failure};
use super::report::{bar, grouped};
use super::table::{Column, Table};
use crate::config::Resolved;
use crate::config::field::Command;
use crate::config::value::Value;
use crate::ops::data::DataError;
use crate::ops::data::generate::{Kind, Plan};
use crate::ops::data::inspect::{FieldReport, Report, inspect};
use crate::ops::data::output::Output;
use crate::ops::data::sample::sample;
use crate::ops::data::split::{PartSize, split};
use crate::ops::data::validate::{BadDocument, validate};
use crate::source::files::documents::files_of;

/// How many bad documents are named; the others are counted.
const NAMED_MAX: u64 = 100;

/// Runs one of the commands.
pub fn run(command: Command, resolved: &Resolved) -> Result<(), Failure> {
    match command {
        Command::DataGenerate => generate(resolved),
        Command::DataSample => take_sample(resolved),
        Command::DataSplit => take_apart(resolved),
        Command::DataValidate => check(resolved),
        _ => look(resolved),
    }
}

fn failed(error: DataError) -> Failure {
    Failure::new(Exit::Failed, error)
}

/// The files that the command line means.
pub fn files(resolved: &Resolved) -> Result<Vec<PathBuf>, Failure> {
    let Some(Value::Words(paths)) = resolved.value("paths") else { return Ok(Vec::new()) };
    files_of(&paths).map_err(|message| Failure::new(Exit::Usage, message))
}

fn generate(resolved: &Resolved) -> Result<(), Failure> {
    let plan = Plan {
        kind: match resolved.text("data_kind").as_str() {
            "users" => Kind::Users,
            "wiki" => Kind::Wiki,
            _ => Kind::Orders,
        },
        seed: resolved.number("seed"),
        documents: resolved.number("data_records"),
        bytes_max: resolved.number("document_bytes_max"),
    };
    let mut output = Output::create(Path::new(&resolved.text("output"))).map_err(failed)?;
    let bar = bar("generating", plan.documents);
    let written = plan.write(&mut output, |count| bar.set_position(count));
    bar.finish_and_clear();
    written.and_then(|()| output.finish()).or_else(unless_nobody_reads)
}

fn take_sample(resolved: &Resolved) -> Result<(), Failure> {
    let count = usize::try_from(resolved.number("data_records")).unwrap_or(usize::MAX);
    let mut bad = 0;
    let name = |found: BadDocument| {
        bad += 1;
        if bad <= NAMED_MAX {
            exit::say(format_args!("{}", line_of(&found)));
        }
    };
    let documents = sample(&files(resolved)?, count, resolved.number("seed"), name).map_err(failed)?;
    if bad > 0 {
        exit::say(format_args!(
            "konekt: {} documents drawn, {} bad ones left out",
            grouped(documents.len() as u64),
            grouped(bad)
        ));
    }
    let mut output = Output::create(Path::new(&resolved.text("output"))).map_err(failed)?;
    let written = documents.iter().try_for_each(|document| {
        output.put(document)?;
        output.put(b"\n")
    });
    written.and_then(|()| output.finish()).or_else(unless_nobody_reads)
}

/// A reader of stdout that has enough (`| head`) is no error.
fn unless_nobody_reads(error: DataError) -> Result<(), Failure> {
    match &error {
        DataError::Write { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(failed(error)),
    }
}

fn take_apart(resolved: &Resolved) -> Result<(), Failure> {
    let name = resolved.text("parts");
    if name.matches('*').count() != 1 {
        let message = format!("--parts {name}: one * must stand where the part's number goes");
        return Err(Failure::new(Exit::Usage, message));
    }
    let size = PartSize { documents: resolved.number("part_records"), bytes: resolved.number("part_bytes") };
    let parts = split(&files(resolved)?, &name, size).map_err(failed)?;
    exit::put(&parts.iter().map(|part| format!("{}\n", part.display())).collect::<String>())
}

fn check(resolved: &Resolved) -> Result<(), Failure> {
    let (key, in_json) = (resolved.text("key"), resolved.switch("json"));
    if !key.is_empty() && !key.starts_with('/') {
        return Err(Failure::new(Exit::Usage, format!("--key {key}: a JSON pointer begins with /")));
    }
    let (mut bad, mut lines) = (0, String::new());
    let key = Some(key.as_str()).filter(|key| !key.is_empty());
    let documents = validate(&files(resolved)?, key, |found| {
        bad += 1;
        if in_json {
            lines.push_str(&format!("{}\n", serde_json::json!(found)));
        } else if bad <= NAMED_MAX {
            lines.push_str(&format!("{}\n", line_of(&found)));
        }
    })
    .map_err(failed)?;
    exit::put(&lines)?;
    exit::say(format_args!("konekt: {} documents, {} bad", grouped(documents), grouped(bad)));
    if bad > 0 { Err(Failure::new(Exit::Failed, "not every document is good")) } else { Ok(()) }
}

/// Where a bad document stands, and why it is one.
fn line_of(bad: &BadDocument) -> String {
    format!("{}:{}: {}", bad.file.display(), bad.number, bad.reason)
}

fn look(resolved: &Resolved) -> Result<(), Failure> {
    let report = inspect(&files(resolved)?).map_err(failed)?;
    if resolved.switch("json") {
        return exit::put_json(&report);
    }
    exit::put(&page(&report))
}

fn page(report: &Report) -> String {
    let sizes = &report.document_sizes;
    let mut page = format!(
        "{} documents, {} bad; {} bytes\nsize of a document: {} to {} bytes, half up to {}, 90 % up to {}, 99 % up to {}\n\n",
        grouped(report.documents),
        grouped(report.bad_documents),
        grouped(sizes.total),
        grouped(sizes.min),
        grouped(sizes.max),
        grouped(sizes.median),
        grouped(sizes.p90),
        grouped(sizes.p99)
    );
    let mut table = Table::new(&[
        Column::Left("FIELD"),
        Column::Left("TYPES"),
        Column::Right("VALUES"),
        Column::Right("NULLS"),
        Column::Right("DISTINCT"),
        Column::Left("SIZE OR RANGE"),
    ]);
    report.fields.iter().for_each(|field| table.row(row(field)));
    page.push_str(&table.render());
    if report.values_of_further_fields > 0 {
        page.push_str(&format!("further fields: {} values\n", grouped(report.values_of_further_fields)));
    }
    page
}

fn row(field: &FieldReport) -> [String; 6] {
    let types = match &field.types[..] {
        [] => "null".to_owned(),
        [(one, _)] => (*one).to_owned(),
        several => {
            several.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect::<Vec<_>>().join(", ")
        }
    };
    let sizes = field.sizes.as_ref().map(|sizes| format!("{} to {}", grouped(sizes.min), grouped(sizes.max)));
    let range = field.range.map(|(low, high)| format!("{low} to {high}"));
    let about = if field.distinct_is_exact { "" } else { "~" };
    [
        if field.pointer.is_empty() { "(document)".to_owned() } else { field.pointer.clone() },
        types,
        grouped(field.values),
        grouped(field.nulls),
        format!("{about}{}", grouped(field.distinct)),
        range.or(sizes).unwrap_or_default(),
    ]
}
