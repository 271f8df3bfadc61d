//! deploy/setup.sh and deploy/mongo-init/01-init.js, run as far as that goes without containers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::support::konekt::Place;
use super::support::or_skip;
use super::{path, text};

/// Runs deploy/setup.sh with its files in `place` and a `docker` that only notes how it was called.
fn setup(place: &Place, arguments: &[&str]) -> (i32, String, String) {
    let (folder, calls) = (place.file("stubs"), place.file("calls"));
    fs::create_dir_all(&folder).expect("the folder is ours");
    fs::write(&calls, "").expect("the folder is ours");
    let docker = folder.join("docker");
    fs::write(&docker, format!("#!/bin/sh\necho \"$*\" >> {}\n", calls.display())).expect("the folder is ours");
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let search = std::env::var_os("PATH").unwrap_or_default();
    let output = Command::new("bash")
        .arg(path("deploy/setup.sh"))
        .args(arguments)
        .env("PATH", format!("{}:{}", folder.display(), search.display()))
        .env("KONEKT_ENV_FILE", place.file("env"))
        .env("KONEKT_KEYFILE", place.file("keyfile"))
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    (output.status.code().unwrap_or(-1), both(&output), fs::read_to_string(&calls).expect("the calls"))
}

fn both(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn mode(file: &Path) -> u32 {
    fs::metadata(file).expect("the file is there").permissions().mode() & 0o777
}

#[test]
fn a_dry_run_says_each_step_and_does_none() {
    let place = Place::new();
    let (code, said, calls) = setup(&place, &["--dry-run", "--all"]);
    assert_eq!(code, 0, "{said}");
    for part in [
        "a new MSSQL_SA_PASSWORD",
        "a new MONGODB_URI",
        "would make",
        "up -d --wait mongo1 mongo2 mongo3",
        "run --rm mongo-init",
        "docker-compose.yml up -d --build",
        "connectors/mongo-source/config",
        "nothing was done",
    ] {
        assert!(said.contains(part), "{part:?} is missing in\n{said}");
    }
    assert_eq!(calls, "");
    assert!(!place.file("env").exists() && !place.file("keyfile").exists(), "nothing was made");
}

#[test]
fn secrets_are_made_once_and_shown_to_nobody() {
    let place = Place::new();
    let (code, said, calls) = setup(&place, &[]);
    assert_eq!(code, 0, "{said}");
    let (env, keyfile) = (place.file("env"), place.file("keyfile"));
    assert_eq!((mode(&env), mode(&keyfile)), (0o600, 0o400));
    let settings = fs::read_to_string(&env).expect("the settings");
    assert!(settings.starts_with(&text(".env.example")), "the example is where it begins");
    let added: Vec<(&str, &str)> =
        settings[text(".env.example").len()..].lines().map(|line| line.split_once('=').expect("NAME=value")).collect();
    let names: Vec<&str> = added.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["MSSQL_SA_PASSWORD", "SQLSERVER_PASSWORD", "MONGO_INITDB_ROOT_PASSWORD", "MONGODB_URI"]);
    for (name, value) in &added {
        assert!(value.len() >= 30 && !said.contains(value) && !calls.contains(value), "{name} was shown, or is short");
    }
    let key = fs::read_to_string(&keyfile).expect("the keyfile");
    let characters = key.chars().filter(|character| !character.is_whitespace()).count();
    assert!((6..=1024).contains(&characters), "mongod takes 6 to 1024 characters, not {characters}");
    let started = calls.find("up -d --wait mongo1 mongo2 mongo3").expect("the members are started");
    assert!(calls.find("run --rm mongo-init").is_some_and(|initiated| initiated > started), "{calls}");

    let (code, said, _) = setup(&place, &["--all"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read_to_string(&env).expect("the settings"), settings, "a second run changes nothing");
    assert_eq!(fs::read_to_string(&keyfile).expect("the keyfile"), key);
}

#[test]
fn wrong_usage_is_told() {
    let place = Place::new();
    let (code, said, _) = setup(&place, &["--bogus"]);
    assert!(code == 2 && said.contains("--bogus is not an option") && said.contains("--dry-run"), "{code} {said}");
    let (code, said, _) = setup(&place, &["--help"]);
    assert!(code == 0 && said.contains("--all"), "{code} {said}");
}

#[test]
fn the_connector_is_registered_as_it_stands_in_its_file() {
    let place = Place::new();
    let (code, said, calls) = setup(&place, &["--all"]);
    assert_eq!(code, 0, "{said}");
    let start = calls.find("--data {").expect("a configuration is sent") + "--data ".len();
    let end = start + calls[start..].find(" http://").expect("to an address");
    let sent: Value = serde_json::from_str(&calls[start..end]).expect("JSON");
    let file: Value = serde_json::from_str(&text("deploy/mongo-source-connector.json")).expect("JSON");
    assert_eq!(sent, file["config"]);
    let name = file["name"].as_str().expect("a name");
    assert!(calls.contains(&format!("/connectors/{name}/config")), "{calls}");
}

#[test]
fn the_shell_finds_no_mistake() {
    let version = Command::new("shellcheck").arg("--version").output();
    if or_skip(version.map_err(|error| format!("there is no shellcheck: {error}"))).is_some() {
        let checked = Command::new("shellcheck").arg(path("deploy/setup.sh")).output().expect("shellcheck runs");
        assert!(checked.status.success(), "{}", both(&checked));
    }
}

/// What the init script changes in its first and in its second run on one replica set.
fn init(state: &str, uri: &str) -> Option<Result<[Value; 2], String>> {
    or_skip(Command::new("node").arg("--version").output().map_err(|error| format!("there is no node: {error}")))?;
    let output = Command::new("node")
        .arg(path("tests/deploy/mongosh.js"))
        .arg(state)
        .arg(path("deploy/mongo-init/01-init.js"))
        .env("MONGO_INITDB_ROOT_USERNAME", "root")
        .env("MONGO_INITDB_ROOT_PASSWORD", "r00t")
        .env("MONGODB_URI", uri)
        .output()
        .expect("node runs");
    let changes = serde_json::from_slice(&output.stdout).map_err(|_| both(&output));
    Some(changes)
}

#[test]
fn the_init_script_initiates_once_and_then_changes_nothing() {
    let uri = "mongodb://app:p%40ss@mongo1:27017,mongo2:27018,mongo3:27019/store?replicaSet=rs0&authSource=admin";
    let Some(changes) = init("UNINITIATED", uri) else { return };
    let [first, second] = changes.expect("it runs");
    assert_eq!(first[0]["initiated"]["_id"], "rs0");
    let members = first[0]["initiated"]["members"].as_array().expect("members");
    let hosts: Vec<&Value> = members.iter().map(|member| &member["host"]).collect();
    assert_eq!(hosts, ["mongo1:27017", "mongo2:27018", "mongo3:27019"]);
    let roles = ["readWrite@store", "clusterMonitor@admin", "read@local"];
    assert_eq!(first[1], json!({ "user": "admin.app", "roles": roles }));
    assert!(first.as_array().expect("changes").iter().any(|change| change["document"] == "store.products.beans"));
    assert_eq!(second, json!([]), "a second run");
}

#[test]
fn the_init_script_finds_the_primary_of_a_set_that_is_there() {
    let Some(changes) = init("INITIATED", "mongodb://app:secret@mongo1:27017/shop") else { return };
    let [first, _] = changes.expect("it runs");
    assert_eq!(
        first[0]["user"], "shop.app",
        "the user lives where the address says, and the set is not initiated again"
    );
    let Some(refused) = init("INITIATED", "mongodb://mongo1:27017/shop") else { return };
    assert!(refused.expect_err("no user is named").contains("mongodb://USER:PASSWORD@"));
}
