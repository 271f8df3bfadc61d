//! The binary as a person runs it: help, mistakes, exit codes, where settings come from.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a run left behind.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ended {
    /// Demands an exit code and that all of these texts stand in the output.
    fn expect(self, code: i32, texts: &[&str]) -> Self {
        let all = format!("exit {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "{all}");
        for text in texts {
            assert!(all.contains(text), "{text:?} is missing in\n{all}");
        }
        assert!(!all.contains("panicked"), "{all}");
        self
    }
}

/// Runs konekt in a directory with nothing in its environment but these variables.
fn konekt_in(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_konekt"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn konekt(arguments: &[&str]) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    konekt_in(directory.path(), &[], arguments)
}

#[test]
fn help_lists_commands_settings_and_exit_codes_on_stdout() {
    let ended = konekt(&["--help"]).expect(0, &["consume", "sink", "demo", "broker", "config", "completions", "130"]);
    assert_eq!(ended.stderr, "");
    konekt(&["consume", "--help"]).expect(0, &["--bootstrap-servers", "KAFKA_BATCH_SIZE", "default: 50", "--exec"]);
    konekt(&["sink", "sqlite", "--help"]).expect(0, &["--db", "default: 1000", "default: exactly-once", "Exit codes"]);
    konekt(&["help"]).expect(0, &["consume", "sink", "demo"]);
    konekt(&["help", "sink", "sqlite"]).expect(0, &["--db", "default: 1000"]);
    konekt(&["--version"]).expect(0, &[concat!("konekt ", env!("CARGO_PKG_VERSION")), "native", "sqlite, odbc"]);
}

#[test]
fn a_client_that_is_not_in_the_build_is_code_2_with_the_cure() {
    if cfg!(not(feature = "confluent")) {
        let cure = "client confluent is not in this build: build it with `cargo build --release --features confluent`";
        konekt(&["consume", "--topics", "t", "--client", "confluent"]).expect(2, &["--client", cure]);
    }
    konekt(&["consume", "--topics", "t", "--client", "librdkafka"]).expect(2, &["native, kafka, confluent"]);
}

#[test]
fn wrong_usage_is_code_2_with_a_suggestion_and_nothing_on_stdout() {
    for (arguments, text) in [
        (&["consum"][..], "consume"),
        (&["consume", "--batch-sise", "5"], "--batch-size"),
        (&["sink"], "sqlite"),
        (&[], "Usage"),
        (&["completions", "tcsh"], "zsh"),
        (&["--config", "k.toml", "consume"], "Flags stand behind the command"),
    ] {
        let ended = konekt(arguments).expect(2, &[text]);
        assert_eq!(ended.stdout, "", "{arguments:?}");
    }
}

#[test]
fn what_only_the_command_line_can_say_goes_by_its_flag() {
    for (arguments, expected) in [
        (
            &["admin", "topic", "create", "t", "--partitions", "0"][..],
            "\n  --partitions: \"0\" is not a whole number from 1",
        ),
        (&["admin", "topic", "create", "a b"], "\n  ADMIN_TOPIC: \"a b\" is no topic name"),
        (&["data", "generate", "songs"], "\n  DATA_KIND: \"songs\" is not one of orders, users, wiki"),
        (&["load", "x.jsonl", "--to", "sqlit"], "\n  --to: \"sqlit\" is not one of"),
        (&["produce"], "\n  --topic: is missing: give --topic\n"),
    ] {
        konekt(arguments).expect(2, &[expected]);
    }
}

#[test]
fn all_faults_of_all_sources_come_together() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("konekt.toml"), "max_worker = 4\nbatch_timeout_ms = -1\n").unwrap();
    std::fs::write(directory.path().join(".env"), "KAFKA_MAX_RETRIES=many\n").unwrap();
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", "localhost")];
    konekt_in(directory.path(), &environment, &["sink", "sqlite", "--memory-limit", "1MiB"]).expect(
        2,
        &[
            "7 settings are wrong",
            "konekt.toml:1: unknown setting max_worker; did you mean max_workers?",
            "konekt.toml:2: batch_timeout_ms \"-1\"",
            "KAFKA_MAX_RETRIES in .env: max_retries \"many\"",
            "KAFKA_BOOTSTRAP_SERVERS: bootstrap_servers \"localhost\"",
            "--memory-limit: memory_limit \"1MiB\" is not from 4MiB",
            "topics: is missing: give --topics, set KAFKA_TOPICS",
            "sqlite_db: is missing: give --db",
        ],
    );
}

#[test]
fn config_shows_each_setting_and_who_said_it() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("konekt.toml"), "# ours\ntopics = ['a', 'b']\n").unwrap();
    std::fs::write(directory.path().join(".env"), "KAFKA_GROUP_ID=billing\n").unwrap();
    let environment = [("MAX_WORKERS_PER_PARTITION", "2")];
    let ended = konekt_in(directory.path(), &environment, &["config", "--batch-size", "7"]);
    let ended = ended.expect(0, &[]);
    let squeezed: Vec<String> =
        ended.stdout.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "topics a,b konekt.toml:2",
        "group_id billing KAFKA_GROUP_ID in .env",
        "partition_workers 2 MAX_WORKERS_PER_PARTITION",
        "batch_size 7 --batch-size",
        "max_workers 4 default",
        "sqlite_db (not set) required",
    ] {
        assert!(squeezed.iter().any(|line| line == expected), "{expected:?} is missing in\n{}", ended.stdout);
    }
}

#[test]
fn a_settings_file_that_was_named_must_be_there() {
    konekt(&["config", "--config", "absent.toml"]).expect(2, &["absent.toml: cannot be read"]);
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        konekt(&["completions", shell]).expect(0, &["bootstrap-servers", "konekt"]);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_konekt"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn brokers_that_are_not_there_are_code_3() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    konekt(&["consume", "--topics", "a", "--bootstrap-servers", &address, "--connect-timeout-ms", "500"])
        .expect(3, &[&address]);
}

/// Something that answers as a web server does, once per connection.
fn web_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::Builder::new()
        .spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            }
        })
        .unwrap();
    address
}

#[test]
fn something_that_is_no_kafka_is_code_3() {
    let address = web_server();
    konekt(&["consume", "--topics", "a", "--bootstrap-servers", &address, "--connect-timeout-ms", "500"])
        .expect(3, &[&address]);
}

#[test]
fn a_misspelt_variable_is_named_beside_the_fault_that_it_causes() {
    let directory = tempfile::tempdir().unwrap();
    let run = |environment: &[(&str, &str)]| konekt_in(directory.path(), environment, &["consume"]);
    let meant = "did you mean KAFKA_TOPICS?";
    run(&[("KAFKA_TOPCIS", "orders")]).expect(2, &["topics: is missing", "KAFKA_TOPCIS in the environment", meant]);
    std::fs::write(directory.path().join(".env"), "KAFKA_TOPCIS=orders\n").unwrap();
    run(&[]).expect(2, &["topics: is missing", "KAFKA_TOPCIS in .env", meant]);
}

#[test]
fn a_run_to_the_ends_of_what_is_not_there_does_not_wait_for_ever() {
    let broker = konekt::broker::Broker::start(konekt::broker::BrokerOptions::default()).expect("a broker");
    let address = broker.address();
    let arguments = ["consume", "--topics", "/none-.*/", "--until-end", "--bootstrap-servers", &address];
    konekt(&arguments).expect(1, &["no topic of the cluster matches the pattern"]);
}

#[test]
fn a_file_that_cannot_be_written_is_found_by_check_and_ends_a_run_before_it_begins() {
    let options = konekt::broker::BrokerOptions {
        topics: vec![konekt::broker::TopicSpec::new("a", 1)],
        ..konekt::broker::BrokerOptions::default()
    };
    let broker = konekt::broker::Broker::start(options).expect("a broker");
    let (address, directory) = (broker.address(), tempfile::tempdir().unwrap());
    let run = |command: &[&str], letters: &str, pulse: &str| {
        let rest = ["--topics", "a", "--db", "x.db", "--bootstrap-servers", &address, "--dead-letter-file", letters];
        konekt_in(directory.path(), &[], &[command, &rest, &["--heartbeat-file", pulse]].concat())
    };
    run(&["check"], "letters", "pulse").expect(
        0,
        &["files           ✓ dead_letter_file letters can be written", "✓ heartbeat_file pulse can be written"],
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    let bad = run(&["check"], "absent/letters", ".").expect(2, &["✗ dead_letter_file absent/letters: No such file"]);
    bad.expect(2, &["make its directory", "✗ heartbeat_file .: is a directory; name a file in it"]);
    run(&["sink", "sqlite"], "absent/letters", "pulse")
        .expect(2, &["appended to absent/letters", "make its directory"]);
}

#[test]
fn the_broker_says_when_its_address_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    konekt(&["broker", "--listen", &address]).expect(1, &["cannot listen on", &address]);
}

#[test]
fn the_demo_goes_on_where_its_last_run_ended() {
    let directory = tempfile::tempdir().unwrap();
    let first = konekt_in(directory.path(), &[], &["demo", "--records", "2000"]);
    first.expect(0, &["is not there yet", "rows written   2,000", "rows in all    2,000", "konekt sink sqlite"]);
    let second = konekt_in(directory.path(), &[], &["demo", "--records", "30"]);
    second.expect(0, &["holds 2,000 rows; going on", "rows written   30", "rows in all    2,030"]);
    let positions = konekt_in(directory.path(), &[], &["positions", "show", "--db", "konekt-demo.db"]);
    positions.expect(1, &["no position of the group konekt, but of", "name one with --group-id"]);
}

#[test]
fn a_demo_that_cannot_write_its_file_says_so_and_ends() {
    konekt(&["demo", "--records", "10", "--db", "absent/demo.db"]).expect(2, &["absent", "mkdir -p"]);
}

#[test]
fn messages_shows_and_removes_what_a_database_holds() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| konekt_in(directory.path(), &[("SQLITE_DB", "konekt-demo.db")], arguments);
    run(&["messages", "stats"]).expect(2, &["konekt-demo.db", "unable to open"]);
    run(&["demo", "--records", "2000"]).expect(0, &[]);
    run(&["messages", "stats"]).expect(0, &["orders  7          SUCCESS", "2,000 rows, SUCCESS 2,000"]);
    let stats = run(&["messages", "stats", "--json"]).expect(0, &[]).stdout;
    let stats: serde_json::Value = serde_json::from_str(&stats).expect(&stats);
    assert_eq!((&stats["rows"], &stats["partitions"][7]["first_offset"]), (&2000.into(), &0.into()), "{stats}");

    let record = ["messages", "show", "--topic", "orders", "--partition", "3", "--offset"];
    let shown = run(&[&record[..], &["5"]].concat()).expect(0, &["record      orders/3@5", "status      SUCCESS"]);
    let json = run(&[&record[..], &["5", "--json"]].concat()).expect(0, &[]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect(&json);
    assert!(shown.stdout.contains(json["message_value"].as_str().expect("a value")), "{json}");
    run(&[&record[..], &["99999"]].concat()).expect(1, &["orders/3 offset 99999", "konekt messages stats"]);
    run(&record[..6]).expect(2, &["offset: is missing: give --offset\n"]);

    let prune = ["messages", "prune", "--older-than"];
    run(&[&prune[..], &["30d"]].concat()).expect(0, &["0 rows before ", " removed"]);
    run(&[&prune[..], &["30"]].concat()).expect(2, &["--older-than", "30d"]);
    // What was written in this second is not older than a second, so wait it out with a dry run.
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !run(&[&prune[..], &["1s", "--dry-run"]].concat()).expect(0, &[]).stdout.contains("2,000 rows before") {
        assert!(std::time::Instant::now() < limit, "the rows do not grow old");
    }
    run(&["messages", "stats"]).expect(0, &["2,000 rows"]);
    run(&[&prune[..], &["1s"]].concat()).expect(0, &["2,000 rows before ", " removed"]);
    run(&["messages", "stats"]).expect(0, &["\n0 rows\n"]);
}

#[test]
fn a_database_that_cannot_be_written_ends_the_run_before_it_begins() {
    let broker = konekt::broker::Broker::start(konekt::broker::BrokerOptions::default()).expect("a broker");
    let address = broker.address();
    let arguments = ["sink", "sqlite", "--db", "absent/out.db", "--topics", "a", "--bootstrap-servers", &address];
    konekt(&arguments).expect(2, &["absent", "mkdir -p"]);
}
