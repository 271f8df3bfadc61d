//! README and docs/ are what the program says: generated tables, links, paths, commands with their flags.
//!
//! After a change of settings, commands, metrics or statistics: `KONEKT_BLESS=1 cargo test --test readme` writes the
//! generated tables anew.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use konekt::cli::reference;
use konekt::config::command::{COMMANDS, GROUPS};
use konekt::config::field::fields;
use konekt::core::statistics::{PartitionStatistics, Statistics};
use konekt::sink::odbc::sqlstate;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A page of the documentation.
struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn name(&self) -> String {
        self.path.strip_prefix(root()).expect("below the root").display().to_string()
    }

    /// Lines, and whether each stands in a block of code.
    fn lines(&self) -> impl Iterator<Item = (&str, bool)> {
        self.text.lines().scan(false, |inside, line| {
            let fence = line.trim_start().starts_with("```");
            *inside ^= fence;
            Some((line, *inside || fence))
        })
    }

    /// What stands between back-quotes outside blocks of code.
    fn spans(&self) -> impl Iterator<Item = &str> {
        self.lines().filter(|(_, code)| !code).flat_map(|(line, _)| line.split('`').skip(1).step_by(2))
    }
}

/// All of them.
fn pages() -> Vec<Page> {
    let folders = [root(), root().join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("a folder"));
    let paths = files.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ending| ending == "md")).collect();
    paths.sort();
    let page = |path: PathBuf| Page { text: fs::read_to_string(&path).expect("a page"), path };
    let pages: Vec<_> = paths.into_iter().map(page).collect();
    assert!(pages.len() > 10, "the pages were found");
    pages
}

fn expect_none(faults: Vec<String>) {
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

// ---- generated tables

/// What stands in `text` between `<!-- NAME: generated … -->` and `<!-- /NAME -->`.
fn block(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let opening = text.find(&format!("<!-- {name}: generated"))?;
    let start = opening + text[opening..].find("-->\n").expect("the opening mark ends its line") + 4;
    let length = text[start..].find(&format!("<!-- /{name} -->")).unwrap_or_else(|| panic!("{name} is not closed"));
    Some(start..start + length)
}

#[test]
fn the_generated_tables_are_the_programs() {
    let bless = std::env::var_os("KONEKT_BLESS").is_some();
    let mut blocks = reference::blocks();
    blocks.push(("statistics", statistics_markdown()));
    let (mut pages, mut faults) = (pages(), Vec::new());
    for (name, expected) in &blocks {
        let mut seen = 0;
        for page in &mut pages {
            let Some(found) = block(&page.text, name) else { continue };
            seen += 1;
            if bless {
                page.text.replace_range(found, expected);
            } else if page.text[found] != **expected {
                faults.push(format!("{}: the block {name} is not the program's", page.name()));
            }
        }
        if seen == 0 {
            faults.push(format!("the block {name} stands in no page"));
        }
    }
    for page in &pages {
        let marks = page.text.matches(": generated ").count();
        let known = blocks.iter().filter(|(name, _)| block(&page.text, name).is_some()).count();
        if marks != known {
            faults.push(format!("{}: {marks} blocks are marked as generated, {known} are known", page.name()));
        }
        if bless {
            fs::write(&page.path, &page.text).expect("the page can be written");
        }
    }
    faults.extend((!faults.is_empty()).then(|| "KONEKT_BLESS=1 cargo test --test readme writes them".to_owned()));
    expect_none(faults);
}

/// The fields of the snapshot as its source describes them.
fn statistics_markdown() -> String {
    let source = fs::read_to_string(root().join("src/core/statistics.rs")).expect("the source");
    let mut page = String::new();
    for (name, title) in [
        ("Statistics", "The whole run"),
        ("Memory", "`memory`"),
        ("SinkStatistics", "`sink`"),
        ("PoolStatistics", "`pool`"),
        ("PartitionStatistics", "Each of `partitions`"),
        ("Problem", "Each of `problems`"),
        ("PutAside", "Each of `letters`"),
    ] {
        page += &format!("\n### {title}\n\n| key | value | meaning |\n|---|---|---|\n");
        for (key, kind, doc) in fields_of(&source, name) {
            page += &format!("| `{key}` | {kind} | {doc} |\n");
        }
    }
    page
}

/// A struct's public fields: name, what JSON makes of the type, and the sentences above.
fn fields_of(source: &str, name: &str) -> Vec<(String, String, String)> {
    let start = source.find(&format!("pub struct {name} {{")).unwrap_or_else(|| panic!("no struct {name}"));
    let (mut doc, mut fields) = (Vec::new(), Vec::new());
    for line in source[start..].lines().skip(1).take_while(|line| *line != "}").map(str::trim) {
        if let Some(sentence) = line.strip_prefix("///") {
            doc.push(sentence.trim().replace(['[', ']'], ""));
        } else if let Some((key, kind)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
            fields.push((key.to_owned(), json_kind(kind.trim_end_matches(',')), doc.join(" ")));
            doc.clear();
        }
    }
    fields
}

fn json_kind(kind: &str) -> String {
    let inner = |outer: &str| kind.strip_prefix(outer).map(|rest| rest.trim_end_matches('>'));
    if let Some(kind) = inner("Option<") {
        return format!("{} or null", json_kind(kind));
    }
    let kind = match kind {
        "f64" => "number",
        "bool" => "true, false",
        "String" | "PartitionState" => "text",
        _ if kind.starts_with("Vec<") => "array",
        _ if kind.starts_with(['u', 'i']) => "integer",
        _ => "object",
    };
    kind.to_owned()
}

#[test]
fn the_tables_of_statistics_have_every_key() {
    let source = fs::read_to_string(root().join("src/core/statistics.rs")).expect("the source");
    let partition = serde_json::to_value(PartitionStatistics::default()).expect("JSON");
    let whole = serde_json::to_value(Statistics::default()).expect("JSON");
    for (name, object) in [("Statistics", whole), ("PartitionStatistics", partition)] {
        let keys: Vec<_> = object.as_object().expect("an object").keys().cloned().collect();
        let told: Vec<_> = fields_of(&source, name).into_iter().map(|(key, ..)| key).collect();
        assert_eq!(told, keys, "{name}");
    }
}

#[test]
fn every_class_of_errors_is_explained() {
    let text = fs::read_to_string(root().join("docs/reference.md")).expect("the page");
    let classes: BTreeSet<String> = sqlstate::entries().map(|entry| entry.class.to_string()).collect();
    for class in classes.into_iter().chain(["fenced".to_owned()]) {
        assert!(text.contains(&format!("\n| `{class}` |")), "reference.md does not explain the class {class}");
    }
}

/// The original's files and commands, each with its counterpart.
const ORIGINALS: [&str; 18] = [
    "`script.py confluent",
    "`advanced_kafka_consumer.py`",
    "`kafka_sqlserver_consumer.py`",
    "`script_db_sqlserver.py`",
    "`script_db.py`",
    "the PostgreSQL variant",
    "a handler in the user's code",
    "`example_usage.py ",
    "`check_drivers.py`",
    "`mongo_health.py`",
    "`data.py`",
    "`loader.py`",
    "`mongo-source-connector.json`",
    "`docker-compose.yml`",
    "`docker-compose-mongo.yaml`",
    "`setup_sqlserver_driver.sh`",
    "`.env.example`",
    "the admin client",
];

#[test]
fn everything_of_the_original_has_its_counterpart_and_a_test() {
    let text = fs::read_to_string(root().join("docs/coverage.md")).expect("there is a table");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    for original in ORIGINALS {
        assert!(rows.iter().any(|row| row.contains(original)), "docs/coverage.md has no row of {original}");
    }
    for row in rows {
        let test = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        assert!(test.contains("`tests/"), "no test is named: {row}");
    }
}

// ---- links and paths

/// What GitHub makes of a heading: `## The way of one record` is `#the-way-of-one-record`.
fn anchors(page: &Page) -> Vec<String> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let headings = page.lines().filter(|(line, code)| !code && line.starts_with('#'));
    let slug = |heading: &str| -> String {
        let kept = heading.chars().filter(|one| one.is_alphanumeric() || matches!(one, ' ' | '-' | '_'));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    let anchor = |(line, _): (&str, bool)| {
        let slug = slug(line.trim_start_matches('#').trim());
        let nth = seen.entry(slug.clone()).or_default();
        *nth += 1;
        if *nth == 1 { slug } else { format!("{slug}-{}", *nth - 1) }
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let (pages, mut seen, mut faults) = (pages(), 0, Vec::new());
    for page in &pages {
        let folder = page.path.parent().expect("a folder");
        let links = page.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.path.clone() } else { folder.join(path) };
            let exists = target.exists();
            let target = target.canonicalize().unwrap_or(target);
            let to_page = pages.iter().find(|other| other.path.canonicalize().is_ok_and(|path| path == target));
            let anchored = anchor.is_empty() || to_page.is_some_and(|to| anchors(to).iter().any(|one| one == anchor));
            if !exists || !anchored {
                faults.push(format!("{}: the link {link} leads nowhere", page.name()));
            }
            seen += 1;
        }
    }
    assert!(seen > 20, "links were found: {seen}");
    expect_none(faults);
}

#[test]
fn every_path_of_the_project_that_is_named_is_there() {
    const FOLDERS: [&str; 6] = ["src/", "tests/", "docs/", "deploy/", "examples/", "benches/"];
    let (mut seen, mut faults) = (0, Vec::new());
    for page in pages() {
        for span in page.spans().filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder))) {
            let known = span.split(['*', ' ']).next().unwrap_or_default();
            let folder = known.rsplit_once('/').map_or("", |(folder, _)| folder);
            let path = if known == span { known } else { folder };
            if !root().join(path).exists() {
                faults.push(format!("{}: `{span}` is not there", page.name()));
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "paths were found: {seen}");
    expect_none(faults);
}

// ---- names in the code

/// All of src, with the line ends inside of texts taken out.
fn sources() -> String {
    fn collect(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => collect(&path, text),
                false => text.push_str(&fs::read_to_string(&path).unwrap_or_default()),
            }
        }
    }
    let mut text = String::new();
    collect(&root().join("src"), &mut text);
    let joined = text.split("\\\n").map(str::trim_start);
    joined.collect()
}

/// The text in the first column of the tables below a heading.
fn first_cells<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split("` |").next());
    rows.collect()
}

#[test]
fn every_line_of_the_log_that_is_explained_is_written_by_the_program() {
    let (page, sources) = (fs::read_to_string(root().join("docs/operations.md")).expect("the page"), sources());
    let lines = first_cells(&page, "At three in the morning");
    assert!(lines.len() > 10, "{lines:?}");
    let pieces = lines.iter().flat_map(|line| line.split('…')).map(|piece| piece.trim_matches([' ', '(', ')', ',']));
    let unknown = pieces.filter(|piece| !sources.contains(piece)).map(|piece| format!("nothing says {piece:?}"));
    expect_none(unknown.collect());
}

#[test]
fn every_thread_that_is_named_is_started() {
    let (page, sources) = (fs::read_to_string(root().join("docs/architecture.md")).expect("the page"), sources());
    let cells = first_cells(&page, "Threads");
    let names = cells.iter().flat_map(|cell| cell.split("`, `")).map(|name| name.trim_end_matches('N'));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    let unknown = names.iter().filter(|name| !sources.contains(&format!("\"{name}")));
    expect_none(unknown.map(|name| format!("no thread is called {name}")).collect());
}

// ---- commands

/// Every `konekt …` of a page, in code and in text, up to where the shell or the sentence goes on.
fn invocations(page: &Page) -> Vec<String> {
    let in_blocks = page.lines().filter(|(_, code)| *code).map(|(line, _)| line);
    let joined = in_blocks.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    let code = joined.lines().flat_map(|line| line.split(['|', '&', ';', '#', '\'', '"'])).map(str::to_owned);
    let spans = page.spans().map(|span| span.replace("\\|", "/"));
    let spans = spans.flat_map(|span| span.split(['|', '&', ';', '\'']).map(str::to_owned).collect::<Vec<_>>());
    let begins = |text: String| text.trim().strip_prefix("konekt ").map(str::to_owned);
    code.chain(spans).filter_map(begins).collect()
}

/// What is wrong with the words behind `konekt`; `a/b` stands for either.
fn invocation_fault(words: &str) -> Option<String> {
    let words: Vec<&str> = words.split_whitespace().map(|word| word.split('/').next().unwrap_or_default()).collect();
    let plain = words.iter().take_while(|word| word.chars().all(|one| one.is_ascii_lowercase() || one == '-'));
    let plain: Vec<&str> = plain.take_while(|word| !word.starts_with('-')).copied().collect();
    let starts = |path: &str| path.split(' ').zip(&plain).all(|(one, other)| one == *other);
    let whole = |path: &&str| starts(path) && path.split(' ').count() <= plain.len();
    let entry = COMMANDS.iter().find(|entry| whole(&entry.path));
    let group = GROUPS.iter().any(|(path, _)| *path == plain.join(" "));
    if entry.is_none() && !group && !plain.is_empty() {
        return Some(format!("there is no command `konekt {}`", words.join(" ")));
    }
    let flags = words.iter().filter_map(|word| word.strip_prefix("--"));
    let names =
        flags.map(|flag| flag.split(|one: char| one != '-' && !one.is_ascii_lowercase()).next().unwrap_or_default());
    let of_all = ["config", "verbose", "quiet", "help", "version", ""];
    let known = |name: &str| {
        of_all.contains(&name)
            || fields().any(|field| field.flag() == name && entry.is_none_or(|entry| field.belongs_to(entry.command)))
    };
    let unknown: Vec<&str> = names.filter(|name| !known(name)).collect();
    (!unknown.is_empty()).then(|| format!("`konekt {}` has no --{}", plain.join(" "), unknown.join(", --")))
}

#[test]
fn every_command_that_is_named_is_there_with_its_flags() {
    for (words, fault) in [
        ("sink sqlite --db x --until-end", false),
        ("dlq ls/show --db x", false),
        ("positions …", false),
        ("admin topic create NAME", false),
        ("sink sqlight --db x", true),
        ("plan --until-end", true),
    ] {
        assert_eq!(invocation_fault(words).is_some(), fault, "{words}: {:?}", invocation_fault(words));
    }
    let (mut seen, mut faults) = (0, Vec::new());
    for page in pages() {
        for words in invocations(&page) {
            seen += 1;
            faults.extend(invocation_fault(&words).map(|fault| format!("{}: {fault}", page.name())));
        }
    }
    assert!(seen > 60, "commands were found: {seen}");
    expect_none(faults);
}
