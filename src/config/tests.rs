//! Settings from all four sources, as a person would give them.

use std::collections::BTreeMap;

use super::field::{Default, fields};
use super::value::Kind;
use super::*;

/// Resolves a command with the given files, environment and flags.
fn resolved(
    command: Command,
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Resolved {
    resolved_with_properties(command, files, environment, flags, &[])
}

/// The same, with `-X` too.
fn resolved_with_properties(
    command: Command,
    files: &[(&str, &str)],
    environment: &[(&str, &str)],
    flags: &[(&'static str, &str)],
    properties: &[&str],
) -> Resolved {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let variables: BTreeMap<&str, &str> = environment.iter().copied().collect();
    let surroundings = Surroundings {
        directory: directory.path(),
        environment: &|name| variables.get(name).map(|text| (*text).to_owned()),
        variables: variables.keys().map(|name| (*name).to_owned()).collect(),
        file: None,
        flags: flags.iter().map(|(name, text)| (*name, (*text).to_owned())).collect(),
        properties: properties.iter().map(|text| (*text).to_owned()).collect(),
    };
    resolve(command, &surroundings)
}

fn faults(resolved: &Resolved) -> Vec<String> {
    resolved.faults.iter().map(Fault::to_string).collect()
}

#[test]
fn every_command_resolves_with_what_it_needs() {
    let example = |kind: Kind| match kind {
        Kind::Target => "latest",
        Kind::Integer { .. } => "1",
        Kind::Age => "1d",
        Kind::Choice(words) => words[words.len() - 1],
        _ => "orders",
    };
    let required = fields().filter(|field| field.default == Default::Required && field.name != "sqlite_db");
    let required: Vec<(&str, &str)> = required.map(|field| (field.name, example(field.kind))).collect();
    for command in crate::config::command::COMMANDS.iter().map(|entry| entry.command) {
        let file = Field::named("sqlite_db").is_some_and(|field| field.is_required_by(command));
        let database = if file { ("sqlite_db", "k.db") } else { ("connection_string", "DSN=k") };
        let needed = [&required[..], &[database]].concat();
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
    let toml = (toml.0, &*format!("{}KAFKA_TOPICS = 'b'\n[sink]\ntable = 't'\n[kafka]\nmax_retries = 1\n", toml.1));
    let dotenv = (".env", "KAFKA_STATS_INTERVAL_MS=soon\n");
    let environment = [("KAFKA_BOOTSTRAP_SERVERS", "nowhere")];
    let flags = [("memory_limit", "2TiBB"), ("auto_offset_reset", "earlest")];
    let all = faults(&resolved(Command::Consume, &[toml, dotenv], &environment, &flags)).join("\n");
    for expected in [
        "konekt.toml:3: unknown setting batch_sise; did you mean batch_size?",
        "konekt.toml:4: max_workers cannot be table: 1 to 1024",
        "konekt.toml:5: until_end belongs to one run: give it as the flag --until-end",
        "konekt.toml:6: KAFKA_TOPICS is the environment's name for it: here it is topics",
        "konekt.toml:7: unknown table [sink]: settings stand in none",
        "konekt.toml:10: max_retries stands in no table: write it above the first one",
        "KAFKA_STATS_INTERVAL_MS in .env: stats_interval_ms \"soon\" is not a whole number from 100 to 86400000 ms",
        "KAFKA_BOOTSTRAP_SERVERS: bootstrap_servers \"nowhere\" is not an address such as localhost:9092",
        "--memory-limit: memory_limit \"2TiBB\" is not a size",
        "--auto-offset-reset: auto_offset_reset \"earlest\" is not one of earliest, latest, error; did you mean earliest?",
    ] {
        assert!(all.contains(expected), "{expected}\nis not in\n{all}");
    }
    assert_eq!(all.lines().count(), 10, "{all}");
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
fn a_misspelt_variable_is_a_remark_and_a_broken_line_hides_its_value() {
    let remarks = resolved(Command::Config, &[(".env", "KAFKA_BATCH_SZIE=5\nOTHER=1\n")], &[], &[]).remarks;
    assert_eq!(remarks, ["KAFKA_BATCH_SZIE in .env is not a setting; did you mean KAFKA_BATCH_SIZE?"]);
    let both = [("KAFKA_TOPIC", "theirs"), ("KAFKA_TOPICS", "ours"), ("KAFKA_GROUP_IDD", "g"), ("MONGO_URI", "theirs")];
    let remarks = resolved(Command::Consume, &[], &both, &[]).remarks;
    assert_eq!(remarks, ["KAFKA_GROUP_IDD in the environment is not a setting; did you mean KAFKA_GROUP_ID?"]);
    let all = faults(&resolved(Command::Config, &[(".env", "A=1\nSECRET=hunter2 it's hunter3\n")], &[], &[]));
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

/// As the original system's README has it.
#[test]
fn a_dotenv_file_of_the_python_scripts_is_taken_as_it_is() {
    let dotenv = "# SQL Server Configuration\nKAFKA_TOPICS=topic1,topic2\nSQLSERVER_HOST=localhost\nSQLSERVER_PORT=1433\n\
                  SQLSERVER_DB=kafka_messages\nSQLSERVER_USER=sa\nSQLSERVER_PASSWORD=YourPassword123!\n\
                  SQLSERVER_DRIVER=ODBC Driver 18 for SQL Server\nSQLSERVER_TRUST_SERVER_CERTIFICATE=yes\n";
    let all = resolved(Command::SqlServer, &[(".env", dotenv)], &[], &[]);
    assert_eq!(faults(&all), [] as [String; 0]);
    assert_eq!(all.text("sqlserver_driver"), "ODBC Driver 18 for SQL Server");
    assert!(all.switch("trust_server_certificate"));
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
    // variables, flags, what comes of them
    type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'static str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        (&[("SQLITE_DB", "k.db")], &[], "sqlite k.db"),
        (&[("SQLSERVER_HOST", "db")], &[], "odbc"),
        (&[("SQLSERVER_HOST", "db"), ("ODBC_CONNECTION_STRING", "DSN=k")], &[("sqlite_db", "k.db")], "sqlite k.db"),
        (&[("SQLITE_DB", "k.db")], &[("connection_string", "DSN=k")], "odbc"),
        (&[("MONGODB_DATABASE", "shop")], &[], "mongodb Some(\"shop\")"),
        (&[], &[], "the database: is missing: give --db, --connection-string, --server or --mongodb-database"),
        (
            &[("SQLITE_DB", "k.db"), ("SQLSERVER_HOST", "db")],
            &[],
            "SQLITE_DB, SQLSERVER_HOST: several databases are named: choose one with --db, --connection-string, --server or --mongodb-database",
        ),
    ];
    for (variables, flags, expected) in cases {
        let resolved = resolved(Command::MessagesStats, &[], variables, flags);
        let found = match (faults(&resolved).pop(), &resolved.settings.sink) {
            (Some(fault), _) => fault,
            (None, SinkSettings::Sqlite { path, .. }) => format!("sqlite {}", path.display()),
            (None, SinkSettings::Odbc(_)) => "odbc".to_owned(),
            (None, SinkSettings::MongoDb(mongo)) => format!("mongodb {:?}", mongo.database),
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

#[test]
fn librdkafka_names_stand_for_ours_in_the_file_and_as_flags() {
    let toml = (
        "konekt.toml",
        "[kafka.properties]\nsession.timeout.ms = 9000\n'heartbeat.interval.ms' = 3000\n'client.id' = 'toml'\n",
    );
    let resolved = resolved_with_properties(
        Command::Consume,
        &[toml],
        &[("KAFKA_HEARTBEAT_INTERVAL_MS", "2000")],
        &[("topics", "orders"), ("group_id", "g")],
        &["client.id=flag", "auto.offset.reset=largest", "group.id=g", "enable.auto.commit=false"],
    );
    let page = resolved.effective();
    let consumer = resolved.settings().unwrap().consumer.clone();
    assert_eq!((consumer.session_timeout_ms, consumer.heartbeat_interval_ms), (9000, 2000));
    assert_eq!((consumer.client_id.as_str(), consumer.auto_offset_reset), ("flag", OffsetReset::Latest));
    assert!(page.contains("konekt.toml:2") && page.contains("-X client.id"), "{page}");
}

#[test]
fn librdkafka_names_that_mean_nothing_here_are_faults_with_a_way_out() {
    let toml = (
        "konekt.toml",
        "group_id = 'a'\n[kafka]\nproperties.group.id = 'b'\nclient.id = 'c'\nproperties.debug = 'all'\n",
    );
    let resolved = resolved_with_properties(
        Command::Consume,
        &[toml],
        &[],
        &[("topics", "orders"), ("client_id", "c")],
        &["client.id=d", "linger.ms=5", "sesion.timeout.ms=1", "nonsense"],
    );
    let all = faults(&resolved).join("\n");
    for expected in [
        "konekt.toml:3: group.id is group_id, to which konekt.toml:1 gives another value",
        "konekt.toml:4: unknown setting kafka.client.id; did you mean [kafka.properties]?",
        "konekt.toml:5: debug is not known to the native client: give --log",
        "-X client.id: client.id is client_id, to which --client-id gives another value",
        "-X linger.ms: linger.ms is librdkafka's own: the native client has nothing like it, only --client confluent has",
        "-X sesion.timeout.ms: unknown property sesion.timeout.ms; did you mean session.timeout.ms?",
        "-X: is not name=value",
    ] {
        assert!(all.contains(expected), "{expected}\nis not in\n{all}");
    }
    assert_eq!(all.lines().count(), 7, "{all}");
}

#[test]
fn what_a_client_cannot_honour_is_a_fault_that_names_one_that_can() {
    let flags = |client| [("topics", "orders"), ("client", client)];
    let toml = ("konekt.toml", "group_instance_id = 'a'\nisolation_level = 'read_uncommitted'\n");
    let properties = ["security.protocol=ssl"];
    let all = faults(&resolved_with_properties(Command::Consume, &[toml], &[], &flags("kafka"), &properties));
    let expected = [
        "konekt.toml:1: --client kafka cannot honour group_instance_id (each process reads all partitions: run one): \
         use --client native or --client confluent",
        "-X security.protocol: --client kafka cannot honour security_protocol ssl (refused): use --client native",
    ];
    let expected = if cfg!(feature = "kafka-crate") { &expected[..] } else { &[] };
    expected.iter().for_each(|fault| assert!(all.iter().any(|said| said == fault), "{fault}\nis not in\n{all:#?}"));
    assert_eq!(faults(&resolved(Command::Consume, &[toml], &[], &flags("native"))), [] as [String; 0]);
}

/// Another command of the same folder reads the same konekt.toml.
#[test]
fn librdkafkas_own_settings_are_handed_to_it_and_bother_no_other_command() {
    let toml = (
        "konekt.toml",
        "client = 'confluent'\nsasl_username = 'u'\n[kafka.properties]\nqueued.min.messages = 7\n\
         security.protocol = 'sasl_plaintext'\nsasl.mechanism = 'PLAIN'\nsasl.password = 'hush'\n",
    );
    let admin = resolved(Command::AdminLag, &[toml], &[], &[]);
    assert_eq!(faults(&admin), [] as [String; 0]);
    let consume = resolved(Command::Consume, &[toml], &[], &[("topics", "orders")]);
    if cfg!(feature = "confluent") {
        let properties = consume.settings().unwrap().consumer.properties.clone();
        let shown = |(name, text): &(String, Secret)| format!("{name}={}", text.reveal());
        let mut shown: Vec<String> = properties.iter().map(shown).collect();
        shown.sort();
        let expected = [
            "queued.min.messages=7",
            "sasl.mechanism=PLAIN",
            "sasl.password=hush",
            "sasl.username=u",
            "security.protocol=sasl_plaintext",
        ];
        assert_eq!(shown, expected);
        assert!(!format!("{:?}", consume.settings()).contains("hush"));
    } else {
        assert!(faults(&consume).join("\n").starts_with("konekt.toml:1: client confluent is not in this build"));
    }
}

/// The faults of these properties, of a command that has its topics.
fn security_faults(properties: &[&str]) -> Vec<String> {
    faults(&resolved_with_properties(Command::Consume, &[], &[], &[("topics", "orders")], properties))
}

#[test]
fn security_is_complete_or_a_fault() {
    for (properties, expected) in [
        (
            &["security.protocol=SASL_PLAINTEXT"][..],
            &["sasl_mechanism: is missing: security_protocol sasl_plaintext"][..],
        ),
        (
            &["security.protocol=sasl_ssl", "sasl.mechanism=PLAIN"],
            &["sasl_username: is missing: sasl_mechanism PLAIN", "sasl_password: is missing: sasl_mechanism PLAIN"],
        ),
        (
            &["security.protocol=sasl_ssl", "sasl.mechanism=GSSAPI"],
            &["-X sasl.mechanism: sasl_mechanism \"GSSAPI\" is not one of PLAIN, SCRAM-SHA-256"],
        ),
        (
            &["security.protocol=sasl_plaintext", "sasl.mechanism=OAUTHBEARER", "sasl.username=a"],
            &[
                "sasl_oauthbearer_token_endpoint_url: is missing",
                "sasl_oauthbearer_client_id: is missing",
                "sasl_oauthbearer_client_secret: is missing",
                "-X sasl.username: sasl_username is of no use: sasl_mechanism is OAUTHBEARER",
            ],
        ),
        (
            &["ssl.ca.location=/ca.pem", "sasl.password=p"],
            &[
                "-X ssl.ca.location: ssl_ca_location is of no use: security_protocol is plaintext",
                "-X sasl.password: sasl_password is of no use: security_protocol is plaintext",
            ],
        ),
        (
            &["security.protocol=ssl", "ssl.ca.location=/no/such.pem"],
            &["-X ssl.ca.location: ssl_ca_location /no/such.pem: cannot be read as PEM certificates"],
        ),
        (
            &["security.protocol=ssl", "enable.ssl.certificate.verification=0", "ssl.key.location=/no/such.pem"],
            &["ssl_certificate_location: ssl_certificate_location is missing"],
        ),
    ] {
        let faults = security_faults(properties);
        assert_eq!(faults.len(), expected.len(), "{properties:?}: {faults:?}");
        for (fault, expected) in faults.iter().zip(expected) {
            assert!(fault.starts_with(expected), "{properties:?}: {fault}");
        }
    }
}

#[test]
fn security_that_is_complete_is_ready() {
    let scram = ["sasl.mechanisms=scram-sha-512", "sasl.username=bob", "sasl.password=hunter2"];
    for (properties, expected) in [
        (vec![], "plaintext"),
        ([&["security.protocol=SASL_PLAINTEXT"], &scram[..]].concat(), "sasl_plaintext"),
        (vec!["security.protocol=SSL", "enable.ssl.certificate.verification=false"], "ssl"),
    ] {
        let resolved = resolved_with_properties(Command::Consume, &[], &[], &[("topics", "orders")], &properties);
        assert_eq!(faults(&resolved), [] as [String; 0], "{properties:?}");
        assert_eq!(resolved.settings().unwrap().consumer.security.protocol(), expected);
        let shown = format!("{resolved:?} {}", resolved.effective());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
