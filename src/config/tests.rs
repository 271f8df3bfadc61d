//! Settings from all four sources, as a person would give them.

use std::collections::BTreeMap;

use super::*;

/// Resolves a command with the given files, environment and flags.
fn resolved(
    command: Command,
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Resolved {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let variables: BTreeMap<&str, &str> = environment.iter().copied().collect();
    let surroundings = Surroundings {
        directory: directory.path(),
        environment: &|name| variables.get(name).map(|text| (*text).to_owned()),
        file: None,
        flags: flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect(),
    };
    resolve(command, &surroundings)
}

fn faults(resolved: &Resolved) -> Vec<String> {
    resolved.faults.iter().map(Fault::to_string).collect()
}

#[test]
fn every_command_resolves_with_what_it_needs() {
    for command in crate::config::command::COMMANDS.iter().map(|entry| entry.command) {
        let database = if command == Command::Sqlite { ("sqlite_db", "k.db") } else { ("connection_string", "DSN=k") };
        let record = [("topic", "orders"), ("partition", "0"), ("offset", "0")];
        let needed = [&record[..], &[("topics", "orders"), ("older_than", "1d"), database]].concat();
        assert_eq!(faults(&resolved(command, &[], &[], &needed)), [] as [String; 0], "{command:?}");
    }
}

#[test]
fn later_sources_win_one_by_one() {
    let toml = (
        "konekt.toml",
        "topics = ['a', 'b']\nbatch_size = 1\nmax_workers = 1\ngroup_id = 'toml'\nclient_id = 'toml'\n",
    );
    let dotenv = (".env", "KAFKA_BATCH_SIZE=2\nKAFKA_MAX_WORKERS=2\nKAFKA_GROUP_ID=dotenv\n");
    let environment = [("KAFKA_BATCH_SIZE", "3"), ("KAFKA_MAX_WORKERS", "3")];
    let flags = [("batch_size", "4")];
    let settings =
        resolved(Command::Consume, &[toml, dotenv], &environment, &flags).settings().unwrap().consumer.clone();
    assert_eq!(
        (settings.batch_size, settings.max_workers, &*settings.group_id, &*settings.client_id),
        (4, 3, "dotenv", "toml")
    );
    assert!(matches!(&settings.topics, TopicSelection::Names(names) if names == &["a", "b"]));
}

#[test]
fn all_faults_come_together_and_each_names_its_source() {
    let toml = ("konekt.toml", "topics = 'orders'\n\nbatch_sise = 1\nmax_workers = { a = 1 }\nuntil_end = true\n");
    let dotenv = (".env", "KAFKA_STATS_INTERVAL_MS=soon\n");
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", "nowhere")];
    let flags = [("memory_limit", "2TiBB"), ("auto_offset_reset", "earlest")];
    let all = faults(&resolved(Command::Consume, &[toml, dotenv], &environment, &flags)).join("\n");
    for expected in [
        "konekt.toml:3: unknown setting batch_sise; did you mean batch_size?",
        "konekt.toml:4: max_workers cannot be table: 1 to 1024",
        "konekt.toml:5: until_end belongs to one run: give it as the flag --until-end",
        "KAFKA_STATS_INTERVAL_MS in .env: stats_interval_ms \"soon\" is not a whole number from 100 to 86400000 ms",
        "KAFKA_BOOTSTRAP_SERVERS: bootstrap_servers \"nowhere\" is not an address such as localhost:9092",
        "--memory-limit: memory_limit \"2TiBB\" is not a size",
        "--auto-offset-reset: auto_offset_reset \"earlest\" is not one of earliest, latest, error; did you mean earliest?",
    ] {
        assert!(all.contains(expected), "{expected}\nis not in\n{all}");
    }
    assert_eq!(all.lines().count(), 7, "{all}");
}

#[test]
fn what_is_missing_is_said_with_the_ways_to_give_it() {
    let all = faults(&resolved(Command::Sqlite, &[], &[], &[]));
    assert_eq!(
        all,
        [
            "topics: is missing: give --topics, set KAFKA_TOPICS, or write it into konekt.toml",
            "sqlite_db: is missing: give --db, set SQLITE_DB, or write it into konekt.toml"
        ]
    );
}

#[test]
fn defaults_depend_on_the_command() {
    let needed = [("topics", "orders"), ("sqlite_db", "k.db")];
    let consume = resolved(Command::Consume, &[], &[], &needed).settings().unwrap().consumer.clone();
    let sqlite = resolved(Command::Sqlite, &[], &[], &needed).settings().unwrap().consumer.clone();
    assert_eq!((consume.delivery, consume.batch_size), (Delivery::AtLeastOnce, 50));
    assert_eq!((sqlite.delivery, sqlite.batch_size), (Delivery::ExactlyOnce, 1000));
}

#[test]
fn settings_are_checked_against_each_other() {
    let flags = [("topics", "a"), ("heartbeat_interval_ms", "9000"), ("session_timeout_ms", "9000")];
    assert_eq!(
        faults(&resolved(Command::Consume, &[], &[], &flags)),
        ["--heartbeat-interval-ms, --session-timeout-ms: heartbeat_interval_ms (9000) must be at most half of \
          session_timeout_ms (9000), best a third of it"]
    );
    let flags = [("topics", "a"), ("delivery", "exactly-once")];
    let all = faults(&resolved(Command::Consume, &[], &[], &flags));
    assert!(all.len() == 1 && all[0].starts_with("--delivery: delivery exactly-once needs a database"), "{all:?}");
}

#[test]
fn the_old_name_of_partition_workers_is_known() {
    let resolved = resolved(Command::Config, &[], &[("MAX_WORKERS_PER_PARTITION", "4")], &[]);
    assert_eq!(resolved.settings().unwrap().consumer.partition_workers, 4);
}

#[test]
fn a_program_and_the_command_line_begin_with_the_same_defaults() {
    let from_table = resolved(Command::Consume, &[], &[], &[("topics", "orders")]).settings().unwrap().consumer.clone();
    let topics = TopicSelection::names(["orders"]);
    let from_library = ConsumerConfig { topics, ..ConsumerConfig::default() };
    assert_eq!(format!("{from_table:#?}"), format!("{from_library:#?}"));
}

#[test]
fn a_misspelt_variable_in_dotenv_is_a_remark_and_a_broken_line_hides_its_value() {
    let remarks = resolved(Command::Config, &[(".env", "KAFKA_BATCH_SZIE=5\nOTHER=1\n")], &[], &[]).remarks;
    assert_eq!(remarks, ["KAFKA_BATCH_SZIE in .env is not a setting; did you mean KAFKA_BATCH_SIZE?"]);
    let all = faults(&resolved(Command::Config, &[(".env", "A=1\nSECRET=hunter2 hunter3\n")], &[], &[]));
    assert!(all.len() == 1 && all[0].starts_with(".env:2: ") && !all[0].contains("hunter"), "{all:?}");
}

#[test]
fn a_broken_file_names_the_line() {
    let all = faults(&resolved(Command::Config, &[("konekt.toml", "batch_size = 1\nmax_workers = = 2\n")], &[], &[]));
    assert!(!all.is_empty() && all[0].starts_with("konekt.toml:2: "), "{all:?}");
}

#[test]
fn the_effective_settings_say_where_they_come_from() {
    let page =
        resolved(Command::Config, &[("konekt.toml", "batch_size = 7")], &[("KAFKA_GROUP_ID", "g")], &[]).effective();
    let line = |name: &str| {
        page.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("batch_size "), "batch_size 7 konekt.toml:1");
    assert_eq!(line("group_id "), "group_id g KAFKA_GROUP_ID");
    assert_eq!(line("max_workers "), "max_workers 4 default");
    assert_eq!(line("topics "), "topics (not set) required");
}

#[test]
fn the_examples_are_accepted_as_they_are() {
    let dotenv = include_str!("../../.env.example");
    let toml = include_str!("../../docs/konekt.toml");
    let from_dotenv = resolved(Command::Sqlite, &[(".env", dotenv)], &[], &[]);
    assert_eq!((faults(&from_dotenv), &from_dotenv.remarks), (Vec::new(), &Vec::new()));
    assert_eq!(
        from_dotenv.settings().unwrap().sink.clone(),
        SinkSettings::Sqlite { path: "konekt.db".into(), table: "processed_messages".into() }
    );
    assert_eq!(faults(&resolved(Command::Sqlite, &[("konekt.toml", toml)], &[], &[])), [] as [String; 0]);
}

#[test]
fn a_look_at_a_database_wants_one_of_them() {
    type Said<'a> = &'a [(&'a str, &'a str)];
    let cases: &[(Said<'_>, &[(&'static str, &str)], &str)] = &[
        (&[("SQLITE_DB", "k.db")], &[], "sqlite k.db"),
        (&[("SQLSERVER_HOST", "db")], &[], "odbc"),
        (&[("SQLSERVER_HOST", "db"), ("ODBC_CONNECTION_STRING", "DSN=k")], &[("sqlite_db", "k.db")], "sqlite k.db"),
        (&[("SQLITE_DB", "k.db")], &[("connection_string", "DSN=k")], "odbc"),
        (&[], &[], "the database: is missing: give --db, --connection-string or --server"),
        (
            &[("SQLITE_DB", "k.db"), ("SQLSERVER_HOST", "db")],
            &[],
            "SQLITE_DB, SQLSERVER_HOST: several databases are named: choose one with --db, --connection-string or --server",
        ),
    ];
    for (variables, flags, expected) in cases {
        let resolved = resolved(Command::MessagesStats, &[], variables, flags);
        let found = match (faults(&resolved).pop(), &resolved.settings.sink) {
            (Some(fault), _) => fault,
            (None, SinkSettings::Sqlite { path, .. }) => format!("sqlite {}", path.display()),
            (None, SinkSettings::Odbc(_)) => "odbc".to_owned(),
            (None, other) => format!("{other:?}"),
        };
        assert_eq!(&found, expected, "{variables:?} {flags:?}");
    }
}

#[test]
fn sink_odbc_wants_a_connection_string_and_shows_it_to_nobody() {
    let topics = [("topics", "orders")];
    let all = faults(&resolved(Command::Odbc, &[], &[], &topics));
    assert!(
        all.len() == 1 && all[0].contains("--connection-string") && all[0].contains("ODBC_CONNECTION_STRING"),
        "{all:?}"
    );
    let environment = [("ODBC_CONNECTION_STRING", "DSN=x;PWD=hush")];
    let told = resolved(Command::Odbc, &[], &environment, &topics);
    let settings = told.settings().unwrap();
    let shown = format!("{settings:?}{}", told.effective());
    assert!(shown.contains("***") && !shown.contains("hush"), "{shown}");
    assert!(
        matches!(&settings.sink, SinkSettings::Odbc(odbc) if odbc.login == OdbcLogin::ConnectionString(Secret::new("DSN=x;PWD=hush")))
    );
}

#[test]
fn sink_sqlserver_knows_the_older_names_and_hides_the_password() {
    let environment = [
        ("SQLSERVER_HOST", "db\\first"),
        ("SQLSERVER_DATABASE", "shop"),
        ("SQLSERVER_USERNAME", "sa"),
        ("SQLSERVER_PASSWORD", "hush"),
    ];
    let told = resolved(Command::SqlServer, &[], &environment, &[("topics", "orders"), ("sqlserver_encrypt", "no")]);
    let settings = told.settings().unwrap();
    let SinkSettings::Odbc(OdbcSettings { login: OdbcLogin::SqlServer(login), pool_size: 5, .. }) = &settings.sink
    else {
        panic!("{:?}", settings.sink)
    };
    let expected = SqlServerLogin {
        driver: "auto".to_owned(),
        server: "db\\first".to_owned(),
        port: None,
        database: "shop".to_owned(),
        username: Some("sa".to_owned()),
        password: Secret::new("hush"),
        encrypt: "no".to_owned(),
        trust_server_certificate: false,
    };
    assert_eq!(*login, expected);
    assert!(!format!("{settings:?}{}", told.effective()).contains("hush"));
}
