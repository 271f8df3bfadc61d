//! TLS and SASL against a real broker that has a listener for each way to be protected: what is right reads the topic to
//! its end, what is wrong says so in its own words and ends with exit code 3, and what goes wrong later is waited out.

mod support;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use support::audit::{Audit, expect_exactly};
use support::issuer::{CLIENT, Issuer, token};
use support::kafka::secured::{ALICE, BOB, SecuredKafka, secured, set_password};
use support::konekt::{Konekt, Place, Running};
use support::{or_skip, wait};

/// Long enough for anything on a busy machine, short enough to see a hang.
const SOON: Duration = Duration::from_secs(90);
/// A wrong secret is said at once, not after the time that a broker is waited for.
const AT_ONCE: Duration = Duration::from_secs(8);

const RECORDS: u64 = 300;

/// `konekt consume` of a topic through a listener.
fn consume(place: &Place, kafka: &SecuredKafka, listener: &str, topic: &str, arguments: &[&str]) -> Konekt {
    let address = kafka.listener(listener);
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let group = format!("{topic}-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let consume = ["consume", "--format", "json", "--until-end", "--bootstrap-servers", &address];
    place.konekt(&consume).arguments(&["--topics", topic, "--group-id", &group]).arguments(arguments)
}

/// Properties as `-X`.
fn properties(list: &[(&str, &str)]) -> Vec<String> {
    list.iter().flat_map(|(name, value)| ["-X".into(), format!("{name}={value}")]).collect()
}

fn plain() -> [(&'static str, &'static str); 3] {
    [("sasl.mechanism", "PLAIN"), ("sasl.username", ALICE[0]), ("sasl.password", ALICE[1])]
}

fn scram(mechanism: &'static str) -> [(&'static str, &'static str); 3] {
    [("sasl.mechanism", mechanism), ("sasl.username", BOB[0]), ("sasl.password", BOB[1])]
}

/// Demands that every record of the topic comes through.
fn expect_all(kafka: &SecuredKafka, listener: &str, topic: &str, list: &[(&str, &str)]) {
    let place = Place::new();
    let arguments = properties(list);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = consume(&place, kafka, listener, topic, &arguments).run().expect_code(0);
    assert_eq!(run.stdout.lines().count() as u64, RECORDS, "{listener} {list:?}");
}

#[test]
fn every_right_way_in_reads_everything() {
    let Some(kafka) = or_skip(secured()) else { return };
    kafka.kafka.filled_topic("guarded", 2, RECORDS, 100);
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| kafka.certificate(name));
    let ssl = [("security.protocol", "SSL"), ("ssl.ca.location", ca.as_str())];
    let identity = [("ssl.certificate.location", certificate.as_str()), ("ssl.key.location", key.as_str())];
    let sasl_ssl = [("security.protocol", "SASL_SSL"), ("ssl.ca.location", ca.as_str())];
    let sasl_plaintext = [("security.protocol", "SASL_PLAINTEXT")];
    let any_name = [("ssl.endpoint.identification.algorithm", "none")];
    let anybody = [("security.protocol", "ssl"), ("enable.ssl.certificate.verification", "false")];

    expect_all(kafka, "ssl", "guarded", &ssl);
    expect_all(kafka, "mtls", "guarded", &[&ssl[..], &identity].concat());
    expect_all(kafka, "elsewhere", "guarded", &[&ssl[..], &any_name].concat());
    expect_all(kafka, "expired", "guarded", &anybody);
    for credentials in [plain(), scram("SCRAM-SHA-256"), scram("SCRAM-SHA-512")] {
        expect_all(kafka, "sasl_plaintext", "guarded", &[&sasl_plaintext[..], &credentials].concat());
        expect_all(kafka, "sasl_ssl", "guarded", &[&sasl_ssl[..], &credentials].concat());
    }
}

#[test]
fn a_key_that_openssl_encrypted_is_opened_by_its_password() {
    let Some(kafka) = or_skip(secured()) else { return };
    kafka.kafka.filled_topic("encrypted-key", 2, RECORDS, 100);
    let place = Place::new();
    let encrypted = place.file("encrypted.key").display().to_string();
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| kafka.certificate(name));
    let encrypt = ["pkcs8", "-topk8", "-in", &key, "-out", &encrypted, "-passout", "pass:open sesame"];
    let ended = Command::new("openssl").args(encrypt).output().map_err(|error| format!("openssl: {error}"));
    let Some(ended) = or_skip(ended) else { return };
    assert!(ended.status.success(), "{ended:?}");
    let identity = [
        ("security.protocol", "SSL"),
        ("ssl.ca.location", ca.as_str()),
        ("ssl.certificate.location", certificate.as_str()),
        ("ssl.key.location", encrypted.as_str()),
    ];
    expect_all(kafka, "mtls", "encrypted-key", &[&identity[..], &[("ssl.key.password", "open sesame")]].concat());
    for (password, expected) in
        [(None, "ssl_key_password is missing"), (Some("wrong one"), "ssl_key_password does not open")]
    {
        let password: Vec<_> = password.map(|password| ("ssl.key.password", password)).into_iter().collect();
        let arguments = properties(&[&identity[..], &password].concat());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let run = consume(&place, kafka, "mtls", "encrypted-key", &arguments).run();
        assert!(!run.stderr.contains("wrong one"), "the password is shown: {}", run.stderr);
        run.expect_code(2).expect_stderr(expected);
    }
}

#[test]
fn scram_over_tls_with_a_client_certificate_fills_a_database() {
    let Some(kafka) = or_skip(secured()) else { return };
    kafka.kafka.filled_topic("end-to-end", 4, 20_000, 300);
    let place = Place::new();
    let [ca, certificate, key] = ["ca.pem", "client.pem", "client.key"].map(|name| kafka.certificate(name));
    let settings = format!(
        "bootstrap_servers = '{}'\n[kafka.properties]\nsecurity.protocol = 'SASL_SSL'\nssl.ca.location = '{ca}'\n\
         ssl.certificate.location = '{certificate}'\nssl.key.location = '{key}'\nsasl.mechanisms = 'SCRAM-SHA-512'\n\
         sasl.username = '{}'\nsasl.password = '{}'\n",
        kafka.listener("sasl_mtls"),
        BOB[0],
        BOB[1],
    );
    std::fs::write(place.file("konekt.toml"), settings).expect("a settings file");
    let sink =
        ["sink", "sqlite", "--db", "out.db", "--topics", "end-to-end", "--group-id", "end-to-end", "--until-end"];
    let run = place.konekt(&sink).run().expect_code(0);
    expect_exactly(&place.database(), &kafka.kafka, "end-to-end", "end-to-end", 20_000);
    let config = place.konekt(&["config"]).run().expect_code(0);
    for said in [run.stdout, run.stderr, config.stdout, config.stderr] {
        assert!(!said.contains(BOB[1]), "the password is shown: {said}");
    }
}

#[test]
fn every_wrong_way_in_says_what_is_wrong() {
    let Some(kafka) = or_skip(secured()) else { return };
    let [ca, other_ca, stranger, strange_key] =
        ["ca.pem", "other-ca.pem", "stranger.pem", "stranger.key"].map(|name| kafka.certificate(name));
    let ssl = [("security.protocol", "ssl"), ("ssl.ca.location", ca.as_str())];
    let strange = [("ssl.certificate.location", stranger.as_str()), ("ssl.key.location", strange_key.as_str())];
    let sasl = [("security.protocol", "sasl_plaintext")];
    let sasl_ssl = [("security.protocol", "sasl_ssl"), ("ssl.ca.location", ca.as_str())];
    let user = |name, password| [("sasl.username", name), ("sasl.password", password)];
    let by = |mechanism| [("sasl.mechanism", mechanism)];

    for (listener, list, expected) in [
        ("ssl", vec![("security.protocol", "ssl")], "not signed by a CA that is trusted here; set ssl_ca_location"),
        (
            "ssl",
            vec![("security.protocol", "ssl"), ("ssl.ca.location", &other_ca)],
            "not signed by a CA that is trusted",
        ),
        ("expired", ssl.to_vec(), "the broker's certificate expired on 2021-01-01"),
        ("elsewhere", ssl.to_vec(), "made out for kafka.elsewhere.example, not for 127.0.0.1"),
        ("mtls", ssl.to_vec(), "demands a client certificate: set ssl_certificate_location and ssl_key_location"),
        ("mtls", [&ssl[..], &strange].concat(), "the broker refuses our certificate"),
        ("ssl", vec![], "the broker speaks TLS on this port; set security_protocol=ssl"),
        (
            "sasl_ssl",
            [&sasl[..], &plain()].concat(),
            "the broker speaks TLS on this port; set security_protocol=sasl_ssl",
        ),
        ("sasl_plaintext", ssl.to_vec(), "does not speak TLS on this port"),
        ("sasl_plaintext", vec![], "set security_protocol=sasl_plaintext and sasl_mechanism to one of"),
        ("sasl_ssl", ssl.to_vec(), "set security_protocol=sasl_ssl and sasl_mechanism to one of"),
        ("ssl", [&sasl_ssl[..], &plain()].concat(), "wants no SASL on this port; set security_protocol=ssl"),
        ("brief", [&sasl[..], &plain()].concat(), "does not offer SASL PLAIN here; set sasl_mechanism to one of"),
        (
            "sasl_plaintext",
            [&sasl[..], &by("PLAIN"), &user("alice", "wrong")].concat(),
            "SASL PLAIN: the broker refuses us (Authentication failed: Invalid username or password); check",
        ),
        (
            "sasl_ssl",
            [&sasl_ssl[..], &by("SCRAM-SHA-512"), &user("bob", "wrong")].concat(),
            "SASL SCRAM-SHA-512: the broker refuses us",
        ),
        (
            "sasl_plaintext",
            [&sasl[..], &by("SCRAM-SHA-256"), &user("nobody", "wrong")].concat(),
            "SASL SCRAM-SHA-256: the broker refuses us",
        ),
    ] {
        expect_refused(kafka, listener, &list, expected);
    }
}

fn expect_refused(kafka: &SecuredKafka, listener: &str, list: &[(&str, &str)], expected: &str) {
    let place = Place::new();
    let arguments = properties(list);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = consume(&place, kafka, listener, "nothing", &arguments).run();
    assert!(run.took < AT_ONCE, "{listener} {list:?} took {:?}", run.took);
    run.expect_code(3).expect_stderr(expected).expect_stderr(&kafka.listener(listener));
}

#[test]
fn a_plaintext_port_is_recognised_by_a_tls_client() {
    let Some(kafka) = or_skip(secured()) else { return };
    let place = Place::new();
    let run = place.consume(&kafka.kafka, "nothing", "nothing").arguments(&["--security-protocol", "ssl"]).run();
    run.expect_code(3).expect_stderr("does not speak TLS on this port; set security_protocol=plaintext");
}

#[test]
fn what_is_weak_is_said_loudly() {
    let Some(kafka) = or_skip(secured()) else { return };
    let place = Place::new();
    let arguments = properties(&[("security.protocol", "ssl"), ("enable.ssl.certificate.verification", "false")]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = consume(&place, kafka, "ssl", "no-such-topic", &arguments).run();
    run.expect_code(1).expect_stderr("WARN").expect_stderr("brokers are NOT verified");
}

/// A sink that runs until it is told to stop, and says what it does.
fn start_sink(place: &Place, kafka: &SecuredKafka, topic: &str, list: &[(&str, &str)]) -> Running {
    let address = kafka.listener("brief");
    // Statistics open connections of their own.
    let sink =
        ["sink", "sqlite", "--db", "out.db", "-v", "--stats-interval-ms", "600000", "--bootstrap-servers", &address];
    let arguments = properties(list);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    place.konekt(&sink).arguments(&["--topics", topic, "--group-id", topic]).arguments(&arguments).start()
}

fn written(place: &Place, topic: &str) -> u64 {
    Audit::rows_so_far(&place.database(), topic)
}

fn times(run: &Running, said: &str) -> usize {
    run.stderr().matches(said).count()
}

/// What comes after the first 1,000 records is read too, over the `connected` connections that there are.
fn goes_on(kafka: &SecuredKafka, place: &Place, run: Running, topic: &str, connected: usize) {
    kafka.kafka.fill(topic, 2, 1_000, 1_000, 100);
    wait::until("the rest is written", SOON, || (written(place, topic) == 2_000).then_some(()));
    let now_connected = times(&run, ": connected by sasl_plaintext");
    assert_eq!(now_connected, connected, "no connection was made anew: {}", run.stderr());
    run.stop("TERM", SOON).expect_code(0);
    expect_exactly(&place.database(), &kafka.kafka, topic, topic, 2_000);
}

#[test]
fn a_session_is_renewed_before_it_ends_on_the_same_connections() {
    let Some(kafka) = or_skip(secured()) else { return };
    kafka.kafka.filled_topic("renewed", 2, 1_000, 100);
    let place = Place::new();
    let list = [&[("security.protocol", "sasl_plaintext")], &scram("SCRAM-SHA-512")[..]].concat();
    let run = start_sink(&place, kafka, "renewed", &list);
    wait::until("every row is written", SOON, || (written(&place, "renewed") == 1_000).then_some(()));
    let connected = times(&run, ": connected by sasl_plaintext");
    let authenticated = times(&run, ": authenticated for");
    wait::until("each is authenticated twice more", SOON, || {
        (times(&run, ": authenticated for") >= authenticated + 2 * connected).then_some(())
    });
    goes_on(kafka, &place, run, "renewed", connected);
}

#[test]
fn a_password_that_changes_while_it_runs_is_said_and_waited_out() {
    let Some(kafka) = or_skip(secured()) else { return };
    let (mechanism, user) = ("SCRAM-SHA-512", "carol");
    set_password(&kafka.kafka, mechanism, user, "old");
    kafka.kafka.filled_topic("rotated", 2, 1_000, 100);
    let place = Place::new();
    let list = [
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", user),
        ("sasl.password", "old"),
    ];
    let run = start_sink(&place, kafka, "rotated", &list);
    wait::until("every row is written", SOON, || (written(&place, "rotated") == 1_000).then_some(()));
    set_password(&kafka.kafka, mechanism, user, "new");
    wait::until("the refusal is said", SOON, || (times(&run, "the broker refuses us") > 0).then_some(()));
    set_password(&kafka.kafka, mechanism, user, "old");
    kafka.kafka.fill("rotated", 2, 1_000, 1_000, 100);
    wait::until("it goes on", SOON, || (written(&place, "rotated") == 2_000).then_some(()));
    run.stop("TERM", SOON).expect_code(0);
    expect_exactly(&place.database(), &kafka.kafka, "rotated", "rotated", 2_000);
}

/// What to say to the broker to come in by a token of the issuer at `url`.
fn by_token<'a>(url: &'a str, secret: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("sasl.oauthbearer.method", "oidc"),
        ("sasl.oauthbearer.token.endpoint.url", url),
        ("sasl.oauthbearer.client.id", CLIENT[0]),
        ("sasl.oauthbearer.client.secret", secret),
        ("sasl.oauthbearer.scope", "read kafka"),
    ]
}

#[test]
fn tokens_of_an_issuer_open_the_door_and_are_renewed() {
    let Some(kafka) = or_skip(secured()) else { return };
    kafka.kafka.filled_topic("by-token", 2, 1_000, 100);
    let issuer = Issuer::start(8);
    let place = Place::new();
    let run = start_sink(&place, kafka, "by-token", &by_token(&issuer.url, CLIENT[1]));
    wait::until("every row is written", SOON, || (written(&place, "by-token") == 1_000).then_some(()));
    let connected = times(&run, ": connected by sasl_plaintext");
    let issued = issuer.issued();
    wait::until("tokens are renewed", SOON, || (issuer.issued() >= issued + 2).then_some(()));
    goes_on(kafka, &place, run, "by-token", connected);
}

#[test]
fn a_token_file_opens_the_door() {
    let Some(kafka) = or_skip(secured()) else { return };
    kafka.kafka.filled_topic("by-file", 2, RECORDS, 100);
    let place = Place::new();
    std::fs::write(place.file("token"), token(3600)).expect("a token file");
    let arguments = ["--security-protocol", "sasl_plaintext", "--sasl-mechanism", "OAUTHBEARER"];
    let run = consume(&place, kafka, "sasl_plaintext", "by-file", &arguments);
    let run = run.arguments(&["--sasl-oauthbearer-token-file", "token"]).run().expect_code(0);
    assert_eq!(run.stdout.lines().count() as u64, RECORDS);
}

#[test]
fn an_issuer_that_refuses_and_a_token_that_is_refused_are_told_apart() {
    let Some(kafka) = or_skip(secured()) else { return };
    let issuer = Issuer::start(60);
    let wrong = by_token(&issuer.url, "wrong");
    expect_refused(kafka, "brief", &wrong, "the issuer refuses with status 401: invalid_client (no such client)");
    let ended = Issuer::start(-60);
    expect_refused(kafka, "brief", &by_token(&ended.url, CLIENT[1]), "SASL OAUTHBEARER: the broker refuses");
    let url = format!("http://{}/token", kafka.listener("ssl")); // it speaks TLS
    expect_refused(kafka, "brief", &by_token(&url, CLIENT[1]), "SASL OAUTHBEARER: no token from http://");
}
