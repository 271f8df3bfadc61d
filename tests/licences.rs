//! What is linked into konekt has licences that `deny.toml` allows. `cargo deny` knows more (advisories, sources, what is not
//! declared), but need not be installed; this runs everywhere.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What `deny.toml` says of licences.
struct Allowed {
    everywhere: Vec<String>,
    /// For one crate alone.
    exceptions: Vec<(String, Vec<String>)>,
}

impl Allowed {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml");
        let text = std::fs::read_to_string(path).expect("there is a deny.toml");
        let deny: toml::Value = toml::from_str(&text).expect("it is TOML");
        let words = |list: &toml::Value| {
            let words = list.as_array().expect("a list").iter();
            words.map(|word| word.as_str().expect("a word").to_owned()).collect()
        };
        let exceptions = deny["licenses"]["exceptions"].as_array().expect("a list").iter();
        Self {
            everywhere: words(&deny["licenses"]["allow"]),
            exceptions: exceptions
                .map(|of| (of["crate"].as_str().expect("a name").to_owned(), words(&of["allow"])))
                .collect(),
        }
    }

    fn takes(&self, package: &str, licence: &str) -> bool {
        let of_package = self.exceptions.iter().filter(|(name, _)| name == package).flat_map(|(_, allowed)| allowed);
        self.everywhere.iter().chain(of_package).any(|allowed| allowed == licence)
    }
}

/// Whether an SPDX expression holds, where `takes` says which licences do. A slash is how `OR` was written once.
fn holds(expression: &str, takes: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let held = any(&mut rest, takes);
    assert!(rest.is_empty(), "{expression}: {rest:?} is left over");
    held
}

fn any(rest: &mut &[&str], takes: &dyn Fn(&str) -> bool) -> bool {
    let mut held = all(rest, takes);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        held |= all(rest, takes);
    }
    held
}

fn all(rest: &mut &[&str], takes: &dyn Fn(&str) -> bool) -> bool {
    let mut held = one(rest, takes);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        held &= one(rest, takes);
    }
    held
}

fn one(rest: &mut &[&str], takes: &dyn Fn(&str) -> bool) -> bool {
    let (first, behind) = rest.split_first().expect("a licence");
    *rest = behind;
    if *first == "(" {
        let held = any(rest, takes);
        assert_eq!(rest.first(), Some(&")"));
        *rest = &rest[1..];
        return held;
    }
    match *rest {
        ["WITH", exception, behind @ ..] => {
            *rest = behind;
            takes(&format!("{first} WITH {exception}"))
        }
        _ => takes(first),
    }
}

#[test]
fn an_expression_holds_when_its_parts_do() {
    let takes = |licence: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&licence);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0", false),
        ("Apache-2.0 WITH LLVM-exception OR Apache-2.0", true),
        ("MIT AND Apache-2.0", false),
        ("(MIT OR Apache-2.0) AND ISC", true),
        ("(Apache-2.0 OR GPL-3.0) AND ISC", false),
        ("GPL-3.0 OR MIT AND ISC", true),
    ] {
        assert_eq!(holds(expression, &takes), expected, "{expression}");
    }
}

#[test]
fn every_licence_is_allowed_and_every_exception_is_needed() {
    let arguments = ["metadata", "--locked", "--offline", "--all-features", "--format-version", "1"];
    let asked = Command::new(env!("CARGO")).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let asked = asked.expect("cargo");
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    let metadata: Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 100, "{} packages", packages.len());
    let allowed = Allowed::read();
    let text = |package: &Value, name: &str| package[name].as_str().unwrap_or_default().to_owned();
    let refused: Vec<String> = packages
        .iter()
        .map(|package| (text(package, "name"), text(package, "license")))
        .filter(|(name, licence)| licence.is_empty() || !holds(licence, &|one| allowed.takes(name, one)))
        .map(|(name, licence)| format!("{name}: {licence}"))
        .collect();
    assert!(refused.is_empty(), "deny.toml does not allow: {refused:?}");
    for (package, _) in &allowed.exceptions {
        assert!(packages.iter().any(|of| text(of, "name") == *package), "{package} is not linked any more");
    }
}
