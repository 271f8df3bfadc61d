//! The manual that `konekt man` writes: a page for each command, which the formatter of `man` takes without a remark.

use std::process::Command;

use konekt::config::command::{COMMANDS, GROUPS};

use crate::support::konekt::Place;
use crate::support::or_skip;

#[test]
fn every_command_has_a_page() {
    let place = Place::new();
    place.konekt(&["man", "--out", "pages"]).run().expect_code(0);
    let mut paths: Vec<&str> = COMMANDS.iter().map(|entry| entry.path).collect();
    paths.extend(GROUPS.iter().map(|(path, _)| *path));
    let pages = std::fs::read_dir(place.file("pages")).expect("the folder").count();
    assert_eq!(pages, paths.len() + 1, "one for each, and the first one");
    let page = |path: &str| {
        let file = place.file(&format!("pages/konekt-{}.1", path.replace(' ', "-")));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    for path in &paths {
        assert!(page(path).contains(".SH SYNOPSIS"), "{path}");
    }
    let sink = page("sink sqlite");
    for part in ["dry\\-run", "batch\\-size", "Exit codes", "130"] {
        assert!(sink.contains(part), "{part:?} is missing:\n{sink}");
    }
    let first = place.konekt(&["man"]).run().expect_code(0).stdout;
    assert!(first.contains("konekt\\-sink") && first.contains("Exit codes"), "{first}");
}

#[test]
fn the_formatter_has_no_remark_on_any_page() {
    let version = Command::new("groff").arg("--version").output();
    let Some(_) = or_skip(version.map_err(|error| format!("groff: {error}"))) else { return };
    let place = Place::new();
    place.konekt(&["man", "--out", "pages"]).run().expect_code(0);
    let pages = std::fs::read_dir(place.file("pages")).expect("the folder").map(|page| page.expect("a page").path());
    let formatted = Command::new("groff").args(["-ww", "-z", "-man", "-Tutf8", "-K", "utf8"]).args(pages).output();
    let formatted = formatted.expect("it was there just now");
    let remarks = String::from_utf8_lossy(&formatted.stderr);
    assert!(formatted.status.success() && remarks.is_empty(), "{remarks}");
}
