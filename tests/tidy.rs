//! The rules about the sources that no compiler checks: which layer may name which, how long a function may be, which
//! words have no place. The rules are functions from a file's text to faults, so they are themselves tested on planted
//! text: a rule that cannot fail proves nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What each part of src may name of the crate (DESIGN: core ← port ← {engine | adapters} ← consumer ← config ← cli). The door is
/// how time, threads and the environment come in, so everything but `core` may use it. Tests are free.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("port", &["core"]),
    ("door", &["core", "port"]),
    ("engine", &["core", "port", "door"]),
    ("kafka", &["core", "port", "door"]),
    ("mongo", &["core", "port", "door"]),
    ("source", &["core", "port", "door", "kafka", "mongo"]),
    ("sink", &["core", "port", "door", "kafka", "mongo"]),
    ("broker", &["core", "port", "door", "kafka"]),
    ("testkit", &["core", "port"]),
    ("ops", &["core", "port", "door", "kafka", "mongo", "source", "sink", "broker"]),
    ("consumer", &["core", "port", "door", "engine", "kafka", "mongo", "source", "sink"]),
    ("config", &["core", "port", "door", "engine", "kafka", "mongo", "source", "sink", "broker", "ops", "consumer"]),
];

/// The parts that stand above all layers: what puts them together.
const ABOVE: &[&str] = &["cli", "lib", "main"];

/// Lines a function may have, from its signature to its last brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that are allowed to be longer, with their reason. The list may only get shorter: an entry that is no
/// longer needed is a fault.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Lines a file may have without its tests.
const FILE_LINES_MAX: usize = 700;

/// Words that mean unfinished work; whole words, wherever they stand in src.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "HACK", "dbg!", "todo!", "unimplemented!"];

/// Code that has no place in src outside tests, and what to write instead.
const REFUSED_CODE: &[(&str, &str)] = &[
    (".unwrap()", "say why it cannot fail (expect), or hand the error on"),
    ("unsafe", "it needs its own module and a proof, and an entry below"),
    ("println!", "stdout is for data: write to the output that was given; people are told through stderr"),
];

/// Of [`REFUSED_CODE`], what these files are there for.
const ALLOWED_CODE: &[(&str, &str)] =
    &[("src/cli/", "println!"), ("src/main.rs", "println!"), ("src/cli/allocator.rs", "unsafe")];

#[test]
fn the_layers_hold() {
    expect_none(sources().iter().flat_map(layer_faults));
}

#[test]
fn functions_fit_on_a_screen() {
    expect_none(function_faults(&sources(), LONG_FUNCTIONS));
}

#[test]
fn files_have_a_size_that_can_be_read() {
    expect_none(sources().iter().filter_map(length_fault));
}

#[test]
fn nothing_is_unfinished_and_no_code_is_refused() {
    expect_none(sources().iter().flat_map(|source| {
        let mut faults = word_faults(source, UNFINISHED);
        faults.extend(code_faults(source));
        faults
    }));
}

#[test]
fn no_file_names_a_registry_or_a_path_of_some_machine() {
    let names = machine_names();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let files = project_files();
    assert!(files.iter().any(|file| file.path == "check"), "the whole project is looked at");
    expect_none(files.iter().flat_map(|file| name_faults(file, &names)));
}

#[test]
fn every_module_opens_with_its_purpose() {
    expect_none(sources().iter().filter_map(purpose_fault));
}

// ---- what is looked at

/// One file: where it lies from the project's root, with `/` between folders, and what it says.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Its part of the crate: `core` for src/core/record.rs, `port` for src/port.rs.
    fn part(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// Its modules from the crate's root: `[kafka, wire]` for src/kafka/wire/mod.rs.
    fn modules(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path).trim_end_matches(".rs");
        inner.split('/').filter(|name| !matches!(*name, "mod" | "lib" | "main")).collect()
    }

    /// The code alone: comments, literals and what is compiled for tests only are blanked out. Lines stay in place.
    fn code(&self) -> String {
        let mut code = blanked(&self.text).into_bytes();
        for item in self.test_items() {
            blank(&mut code[item]);
        }
        String::from_utf8(code).expect("whole items were replaced")
    }

    /// Where the items under `#[cfg(test)]` stand.
    fn test_items(&self) -> Vec<Range<usize>> {
        test_items(&blanked(&self.text))
    }

    /// The files that it includes for tests only: `#[cfg(test)] mod scripted;`, with or without a path of its own.
    fn test_files(&self) -> Vec<String> {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut files = Vec::new();
        for item in self.test_items().into_iter().map(|item| &self.text[item]) {
            if let Some((_, path)) = item.split_once("#[path = \"") {
                files.push(format!("{folder}/{}", path.split('"').next().unwrap_or_default()));
            } else if let Some(at) = words(item, "mod").next().filter(|_| item.ends_with(';')) {
                let name = word_at_start(item[at + "mod".len()..].trim_start());
                files.push(format!("{folder}/{name}.rs"));
                files.push(format!("{}/{name}.rs", self.path.trim_end_matches(".rs")));
            }
        }
        files
    }
}

/// All of src but files that are tests as a whole.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("src"), &mut found);
    let tests: BTreeSet<String> = found.iter().flat_map(Source::test_files).collect();
    found.retain(|source| source.path.ends_with(".rs") && !tests.contains(&source.path));
    assert!(found.iter().any(|source| source.path == "src/lib.rs"), "src was found");
    found
}

/// All text of the project that is ours.
fn project_files() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), &mut found);
    // lock files name the index that their crates came from; this file names what it looks for
    found.retain(|file| !file.path.ends_with("Cargo.lock") && file.path != "tests/tidy.rs");
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, into: &mut Vec<Source>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name == "target" || name == ".git" {
            continue;
        }
        if path.is_dir() {
            collect(&path, into);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let inner = path.strip_prefix(root()).expect("below the root");
            into.push(Source { path: inner.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

// ---- faults

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// A fault at a byte of the file's text.
fn fault_at(source: &Source, byte: usize, what: String) -> Fault {
    Fault { path: source.path.clone(), line: line_of(&source.text, byte), what }
}

fn expect_none(faults: impl IntoIterator<Item = Fault>) {
    let faults: Vec<String> = faults.into_iter().map(|fault| fault.to_string()).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

// ---- rules

fn layer_faults(source: &Source) -> Vec<Fault> {
    let part = source.part();
    if ABOVE.contains(&part) {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == part) else {
        return vec![fault_at(source, 0, format!("the part `{part}` has no layer: give it one in ARROWS"))];
    };
    let code = source.code();
    let mut faults = Vec::new();
    for (byte, named) in parts_named(&code, &source.modules()) {
        if named != part && is_part(&named) && !allowed.contains(&named.as_str()) {
            faults.push(fault_at(source, byte, format!("`{part}` may not name `{named}`")));
        }
    }
    faults
}

fn is_part(name: &str) -> bool {
    ABOVE.contains(&name) || ARROWS.iter().any(|(part, _)| *part == name)
}

/// Every part that follows `crate::`, or as many `super::` as lead out of `modules`; also within braces:
/// `crate::{core::x, port}` names two.
fn parts_named(code: &str, modules: &[&str]) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let root = "super::".repeat(modules.len());
    let roots = code.match_indices("crate::").chain(code.match_indices(&root));
    for (at, root) in roots.filter(|(_, root)| !root.is_empty()) {
        let rest = &code[at + root.len()..];
        match rest.strip_prefix('{') {
            Some(list) => named.extend(heads_of_list(list).into_iter().map(|head| (at, head))),
            None => named.push((at, word_at_start(rest))),
        }
    }
    named
}

/// The first word of each entry of a brace list whose opening brace is already taken.
fn heads_of_list(list: &str) -> Vec<String> {
    let (mut depth, mut start, mut heads) = (0, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' if depth == 0 => {
                heads.push(word_at_start(list[start..at].trim_start()));
                start = at + 1;
            }
            '}' => {
                heads.push(word_at_start(list[start..at].trim_start()));
                break;
            }
            _ => {}
        }
    }
    heads
}

fn word_at_start(text: &str) -> String {
    text.chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
}

fn function_faults(sources: &[Source], exceptions: &[(&str, &str)]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut needed = BTreeSet::new();
    for source in sources {
        for function in functions(&source.code()) {
            let excepted = exceptions.iter().position(|(path, name)| *path == source.path && *name == function.name);
            if function.lines <= FUNCTION_LINES_MAX {
                continue;
            }
            match excepted {
                Some(index) => drop(needed.insert(index)),
                None => {
                    let what =
                        format!("fn {} has {} lines, {FUNCTION_LINES_MAX} at most", function.name, function.lines);
                    faults.push(fault_at(source, function.start, what));
                }
            }
        }
    }
    for (index, (path, name)) in exceptions.iter().enumerate() {
        if !needed.contains(&index) {
            let what = format!("fn {name} is short by now: take it off LONG_FUNCTIONS");
            faults.push(Fault { path: (*path).to_owned(), line: 1, what });
        }
    }
    faults
}

struct Function {
    name: String,
    start: usize,
    lines: usize,
}

/// All functions with a body, those within functions too.
fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for start in words(code, "fn") {
        let name = word_at_start(code[start + 2..].trim_start());
        let Some(open) = body_start(code, start) else { continue };
        let end = matching_brace(code, open);
        let lines = code[start..end].lines().count();
        if !name.is_empty() {
            found.push(Function { name, start, lines });
        }
    }
    found
}

/// Where the body of the function that starts here opens; `None` for one that is only declared, and for a `fn` type.
fn body_start(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0i32;
    for (at, character) in code[start..].char_indices() {
        match character {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(start + at),
            ';' | ',' | '=' | '}' if depth <= 0 && !code[..start + at].ends_with(['<', '>', '=']) => return None,
            _ => {}
        }
        if depth < 0 {
            return None;
        }
    }
    None
}

fn matching_brace(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, character) in code[open..].char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

fn length_fault(source: &Source) -> Option<Fault> {
    let tests: usize = source.test_items().into_iter().map(|item| source.text[item].lines().count()).sum();
    let lines = source.text.lines().count() - tests;
    (lines > FILE_LINES_MAX).then(|| {
        let what = format!("{lines} lines without tests, {FILE_LINES_MAX} at most: look for the cut");
        fault_at(source, 0, what)
    })
}

fn word_faults(source: &Source, unwanted: &[&str]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for word in unwanted {
        faults.extend(words(&source.text, word).map(|at| fault_at(source, at, format!("says `{word}`"))));
    }
    faults
}

fn code_faults(source: &Source) -> Vec<Fault> {
    let code = source.code();
    let allowed = |text: &str| ALLOWED_CODE.iter().any(|(path, what)| source.path.starts_with(path) && *what == text);
    let mut faults = Vec::new();
    for (text, instead) in REFUSED_CODE.iter().filter(|(text, _)| !allowed(text)) {
        faults.extend(words(&code, text).map(|at| fault_at(source, at, format!("`{text}`: {instead}"))));
    }
    faults
}

/// Registries' hosts, and folders of the machines that this was written on.
fn machine_names() -> Vec<String> {
    let hosts = ["crates.io", "pypi.org", "pythonhosted.org", "repo.maven.apache.org", "repo1.maven.org", "npmjs.org"];
    let folders = ["/work/", "/root/", "/tmp/wt", "/tmp/brief", "../shared"];
    hosts.iter().chain(&folders).map(|name| (*name).to_owned()).collect()
}

fn name_faults(file: &Source, names: &[&str]) -> Vec<Fault> {
    let hits = names.iter().flat_map(|name| file.text.match_indices(name));
    hits.map(|(at, name)| fault_at(file, at, format!("names `{name}`"))).collect()
}

fn purpose_fault(source: &Source) -> Option<Fault> {
    let opens = source.text.trim_start().starts_with("//!");
    (!opens).then(|| fault_at(source, 0, "opens without saying what it is for (//!)".to_owned()))
}

// ---- reading Rust

/// Where the items under `#[cfg(test)]` stand in code whose comments and literals are blanked out.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut items: Vec<Range<usize>> = Vec::new();
    for (start, marker) in code.match_indices("#[cfg(test)]") {
        let inner = start + marker.len();
        let Some(head) = code[inner..].find(['{', ';']).map(|head| inner + head) else { continue };
        let end = if code.as_bytes()[head] == b'{' { matching_brace(code, head) } else { head + 1 };
        if items.last().is_none_or(|last| last.end <= start) {
            items.push(start..end);
        }
    }
    items
}

fn blank(bytes: &mut [u8]) {
    bytes.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// Where `word` stands by itself: no letter, digit or underscore touches it where it begins or ends with one.
fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let part_of_word = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let runs_in = text[..*at].ends_with(part_of_word) && word.starts_with(part_of_word);
        let runs_on = text[at + word.len()..].starts_with(part_of_word) && word.ends_with(part_of_word);
        !runs_in && !runs_on
    })
}

fn line_of(text: &str, byte: usize) -> usize {
    text.bytes().take(byte).filter(|byte| *byte == b'\n').count() + 1
}

/// The text with comments, strings and character literals as blanks, each byte and line where it was.
fn blanked(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match literal_end(bytes, at) {
            Some(end) => end.min(bytes.len()),
            None => {
                at += 1;
                continue;
            }
        };
        blank(&mut out[at..end]);
        at = end;
    }
    String::from_utf8(out).expect("whole literals were replaced")
}

/// Where the comment or literal that starts here ends; `None` when there is none.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let in_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => Some(at + find(rest, b"\n").unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(at + find(rest, b"*/").map_or(rest.len(), |end| end + 2)),
        [b'"', ..] => Some(at + quoted_end(rest)),
        [b'r', b'"' | b'#', ..] if !in_word => raw_end(rest, 1).map(|end| at + end),
        [b'b', b'r', b'"' | b'#', ..] if !in_word => raw_end(rest, 2).map(|end| at + end),
        [b'\'', b'\\', ..] => Some(at + 3 + find(&rest[3..], b"'")? + 1),
        [b'\'', ..] => character_end(rest).map(|end| at + end),
        _ => None,
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn quoted_end(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A raw string whose hashes or quote stand at `prefix`; `None` for a raw identifier.
fn raw_end(rest: &[u8], prefix: usize) -> Option<usize> {
    let hashes = rest[prefix..].iter().take_while(|byte| **byte == b'#').count();
    if rest.get(prefix + hashes) != Some(&b'"') {
        return None;
    }
    let closing = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let body = prefix + hashes + 1;
    Some(body + find(&rest[body..], &closing).map_or(rest.len() - body, |end| end + closing.len()))
}

/// `'x'`, and not the lifetime `'x`.
fn character_end(rest: &[u8]) -> Option<usize> {
    let length = match rest.get(1)? {
        byte if *byte < 0x80 => 1,
        byte if *byte < 0xe0 => 2,
        byte if *byte < 0xf0 => 3,
        _ => 4,
    };
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

// ---- the rules, tried on planted text

fn planted(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

#[test]
fn wrong_arrows_are_found() {
    for (path, text, expected) in [
        ("src/core/a.rs", "use crate::port::Sink;", vec!["1: `core` may not name `port`"]),
        (
            "src/core/a.rs",
            "use crate::core::b;\n\nfn f() { crate::door::now() }",
            vec!["3: `core` may not name `door`"],
        ),
        ("src/engine/mod.rs", "use crate::{core::{a, b}, sink::sqlite,\n kafka};", vec!["sink", "kafka"]),
        ("src/sink/print.rs", "use crate::engine::Delivery;", vec!["`sink` may not name `engine`"]),
        ("src/kafka/a.rs", "use crate::cli;", vec!["`kafka` may not name `cli`"]),
        ("src/port.rs", "pub(crate) use crate::core::record;", vec![]),
        ("src/core/a.rs", "// crate::port\nconst A: &str = \"crate::port\";", vec![]),
        ("src/core/a.rs", "#[cfg(test)]\nmod tests {\n use crate::broker::Broker; }", vec![]),
        (
            "src/kafka/wire/a.rs",
            "use super::super::error; use super::super::super::engine;",
            vec!["may not name `engine`"],
        ),
        ("src/core/a.rs", "#[cfg(test)]\nuse crate::port;\nuse crate::door;", vec!["3: `core` may not name `door`"]),
        ("src/core/a.rs", "pub fn f() -> crate::Error {}", vec![]),
        ("src/cli/mod.rs", "use crate::engine::Engine;", vec![]),
        ("src/novel/mod.rs", "", vec!["`novel` has no layer"]),
    ] {
        expect_faults(path, text, layer_faults(&planted(path, text)), &expected);
    }
}

#[test]
fn long_functions_and_needless_exceptions_are_found() {
    let body = "    let a = \"}\"; // }\n".repeat(FUNCTION_LINES_MAX - 1);
    let short = format!("impl A {{\n fn fits(a: fn(u8) -> u8) -> [u8; 2] {{\n{}}}\n}}", &body[22..]);
    let long = format!("trait T {{ fn declared(&self); }}\npub fn long<'a>(a: &'a str) {{\n{body}}}\n");
    let short_file = [planted("src/a.rs", &short)];
    let long_file = [planted("src/a.rs", &long)];
    expect_faults("src/a.rs", &short, function_faults(&short_file, &[]), &[]);
    expect_faults("src/a.rs", &long, function_faults(&long_file, &[]), &["2: fn long has 71 lines"]);
    expect_faults("src/a.rs", &long, function_faults(&long_file, &[("src/a.rs", "long")]), &[]);
    expect_faults(
        "src/a.rs",
        &short,
        function_faults(&short_file, &[("src/a.rs", "fits")]),
        &["fn fits is short by now"],
    );
}

#[test]
fn long_files_are_found_and_tests_do_not_count() {
    let long = "//! A.\n".repeat(FILE_LINES_MAX + 1);
    let tested = format!("//! A.\n#[cfg(test)]\nmod tests {{\n{long}}}");
    expect_faults("src/a.rs", &long, length_fault(&planted("src/a.rs", &long)), &["701 lines without tests"]);
    expect_faults("src/a.rs", &tested, length_fault(&planted("src/a.rs", &tested)), &[]);
}

#[test]
fn unfinished_work_and_refused_code_are_found() {
    for (text, expected) in [
        ("// TODO: later\n", vec!["says `TODO`"]),
        ("fn f() {\n    todo!()\n}", vec!["2: says `todo!`"]),
        ("const TODOS: u8 = 0; let method = a.todos();", vec![]),
        ("fn f() { a.unwrap() }", vec![".unwrap()"]),
        ("/// a.unwrap()\nfn f() { a.unwrap_or(b) }", vec![]),
        ("fn f() { a }\n#[cfg(test)]\n#[allow(x)]\nmod tests { fn g() { a.unwrap() } }", vec![]),
        ("fn f() { unsafe { g() } }", vec!["unsafe"]),
        ("fn f() { println!(\"a\"); eprintln!(\"b\"); }", vec!["`println!`"]),
    ] {
        let source = planted("src/sink/a.rs", text);
        let mut faults = word_faults(&source, UNFINISHED);
        faults.extend(code_faults(&source));
        expect_faults("src/sink/a.rs", text, faults, &expected);
    }
    let output = "fn f() { println!(\"a\") }";
    expect_faults("src/cli/mod.rs", output, code_faults(&planted("src/cli/mod.rs", output)), &[]);
}

#[test]
fn files_of_tests_alone_are_known() {
    let text = "#[cfg(test)]\n#[path = \"b_tests.rs\"]\nmod tests;\n#[cfg(test)]\nmod scripted;\nmod real;";
    let expected = ["src/a/b_tests.rs", "src/a/scripted.rs", "src/a/b/scripted.rs"];
    assert_eq!(planted("src/a/b.rs", text).test_files(), expected);
}

#[test]
fn names_of_machines_and_missing_purposes_are_found() {
    let text = "see /work/shared and ../shared";
    let faults = name_faults(&planted("README.md", text), &["/work/", "../shared"]);
    expect_faults("README.md", text, faults, &["/work/", "../shared"]);
    let bare = "use std::fmt;\n//! Late.";
    expect_faults("src/a.rs", bare, purpose_fault(&planted("src/a.rs", bare)), &["without saying what it is for"]);
}

#[test]
fn literals_and_comments_are_blanked_where_they_stand() {
    for (text, expected) in [
        ("a \"x\\\"y\" b", "a        b"),
        ("a r#\"x\"y\"# b", "a          b"),
        ("a br\"x\\\" b", "a        b"),
        ("let r#type = 'a'; // b\n'x: loop", "let r#type =    ;     \n'x: loop"),
        ("f('\\'', '\\u{1f}', 'é', &'a str)", "f(    ,         ,     , &'a str)"),
        ("a /* x\ny */ b", "a     \n     b"),
    ] {
        assert_eq!(blanked(text), expected, "{text:?}");
    }
}

/// Demands one fault per expected part of a sentence, in this order.
fn expect_faults(path: &str, text: &str, faults: impl IntoIterator<Item = Fault>, expected: &[&str]) {
    let faults: Vec<String> = faults.into_iter().map(|fault| fault.to_string()).collect();
    let as_expected =
        faults.len() == expected.len() && faults.iter().zip(expected).all(|(fault, part)| fault.contains(part));
    assert!(as_expected, "{path} with {text:.200?}\nexpected {expected:#?}\nfound {faults:#?}");
}
