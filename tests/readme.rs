//! The README's tables are what the program says: settings, exit codes, commands.
//!
//! After a change of settings: `KONEKT_BLESS=1 cargo test --test readme` writes the generated tables anew.

use std::fs;
use std::path::PathBuf;

use konekt::cli::exit::CODES;
use konekt::config::settings_table_markdown;
use konekt::source::client::abilities_markdown;

fn readme() -> (PathBuf, String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = fs::read_to_string(&path).expect("there is a README");
    (path, text)
}

/// Compares what stands between `<!-- NAME: … -->` and `<!-- /NAME -->` with `expected`, or writes it there.
fn expect_block(name: &str, expected: &str) {
    let (path, text) = readme();
    let opening = text.find(&format!("<!-- {name}:")).unwrap_or_else(|| panic!("README has no block {name}"));
    let start = opening + text[opening..].find("-->\n").expect("the opening mark ends its line") + 4;
    let end = start + text[start..].find(&format!("<!-- /{name} -->")).expect("the block is closed");
    if std::env::var_os("KONEKT_BLESS").is_some() {
        fs::write(&path, format!("{}{expected}{}", &text[..start], &text[end..])).expect("the README can be written");
    } else {
        let hint = "run KONEKT_BLESS=1 cargo test --test readme";
        assert_eq!(&text[start..end], expected, "README's {name} are not the program's: {hint}");
    }
}

#[test]
fn the_tables_are_the_programs() {
    // One test: two that write the same file would meet.
    expect_block("settings", &settings_table_markdown());
    expect_block("clients", &abilities_markdown());
    let codes: String = CODES.iter().map(|(exit, meaning)| format!("| {} | {meaning} |\n", *exit as u8)).collect();
    expect_block("exit-codes", &format!("| exit code | meaning |\n|---|---|\n{codes}"));
}

#[test]
fn every_command_is_in_the_table_of_commands() {
    let (_, text) = readme();
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_konekt")).arg("--help").output().expect("it starts");
    let help = String::from_utf8(help.stdout).expect("help is text");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() >= 6, "the commands were found in the help: {names:?}");
    for name in names {
        assert!(text.contains(&format!("| `konekt {name}")), "README's table of commands lacks {name}");
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
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/coverage.md");
    let text = fs::read_to_string(path).expect("there is a table");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    for original in ORIGINALS {
        assert!(rows.iter().any(|row| row.contains(original)), "docs/coverage.md has no row of {original}");
    }
    for row in rows {
        let test = row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        assert!(test.contains("`tests/"), "no test is named: {row}");
    }
}

#[test]
fn every_link_leads_somewhere_and_every_test_that_is_named_is_there() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).expect("there are docs").map(|entry| entry.expect("an entry").path());
    let pages = docs.filter(|path| path.extension().is_some_and(|ending| ending == "md"));
    let mut seen = 0;
    for page in pages.chain([root.join("README.md")]) {
        let text = fs::read_to_string(&page).expect("a page");
        let folder = page.parent().expect("a folder");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://")).map(|link| folder.join(link));
        let tests = text.split('`').filter(|words| words.starts_with("tests/")).map(|path| root.join(path));
        for place in links.chain(tests) {
            assert!(place.exists(), "{} names {}, which is not there", page.display(), place.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "links were found: {seen}");
}
