//! What a client lacks is refused before anything is read, with the client that has it; what it has works.

use konekt::Client;
use konekt::source::client::Ability;

use crate::clients;
use crate::support::kafka;
use crate::support::kafka::secured::{ALICE, BOB, secured};
use crate::support::konekt::{Finished, Place};
use crate::support::or_skip;

fn refused(client: Client, arguments: &[&str]) -> Finished {
    let place = Place::new();
    // nobody listens there: a fault of the settings is found before
    let consume = ["consume", "--topics", "t", "--bootstrap-servers", "127.0.0.1:1", "--client", client.name()];
    place.konekt(&consume).arguments(arguments).run()
}

#[test]
fn settings_that_a_client_cannot_honour_name_one_that_can() {
    for (arguments, ability) in [
        (["--group-instance-id", "a"], Ability::Groups),
        (["--group-protocol", "consumer"], Ability::NewGroups),
        (["--group-protocol", "auto"], Ability::AutoGroups),
        (["--session-timeout-ms", "6000"], Ability::Groups),
        (["--isolation-level", "read_committed"], Ability::Committed),
        (["--client-rack", "a"], Ability::Racks),
        (["--security-protocol", "ssl"], Ability::Tls),
        (["-X", "security.protocol=SASL_SSL"], Ability::Tls),
    ] {
        for client in clients().filter(|client| !client.delivers(ability).is_yes()) {
            let run = refused(client, &arguments).expect_code(2).expect_stderr("--client native");
            run.expect_stderr(&format!("--client {} cannot honour", client.name()));
        }
    }
}

#[test]
fn librdkafkas_own_settings_are_for_librdkafka() {
    for client in clients() {
        let run = refused(client, &["-X", "queued.min.messages=no number"]).expect_code(2);
        match client.delivers(Ability::OwnSettings).is_yes() {
            true => run.expect_stderr("librdkafka refuses queued.min.messages"),
            false => run.expect_stderr("only --client confluent has"),
        };
    }
}

#[test]
fn a_broker_that_is_not_there_is_said_by_every_client() {
    for client in clients() {
        let run = refused(client, &["--connect-timeout-ms", "500"]);
        run.expect_code(3).expect_stderr("127.0.0.1:1").expect_stderr("refused");
    }
}

#[test]
fn a_topic_that_is_not_there_is_said_by_every_client() {
    let Some(kafka) = or_skip(kafka::oldest()) else { return };
    for client in clients() {
        let place = Place::new();
        let run = place.consume(kafka, "no-such-topic", client.name()).arguments(&["--client", client.name()]);
        run.arguments(&["--connect-timeout-ms", "1000"]).run().expect_code(1).expect_stderr("topic");
    }
}

#[test]
fn passwords_open_the_door_where_a_client_knows_the_way() {
    let Some(kafka) = or_skip(secured()) else { return };
    kafka.kafka.filled_topic("passwords", 2, 300, 100);
    for client in clients() {
        let name = client.name();
        for (mechanism, [user, password], ability) in
            [("PLAIN", ALICE, Ability::SaslPlain), ("SCRAM-SHA-512", BOB, Ability::SaslElse)]
        {
            let place = Place::new();
            let properties = [
                "security.protocol=sasl_plaintext".to_owned(),
                format!("sasl.mechanism={mechanism}"),
                format!("sasl.username={user}"),
                format!("sasl.password={password}"),
            ];
            let address = kafka.listener("sasl_plaintext");
            let group = format!("passwords-{name}-{mechanism}");
            let consume = ["consume", "--until-end", "--topics", "passwords", "--bootstrap-servers", &address];
            let run = place.konekt(&consume).arguments(&["--client", name, "--group-id", &group]);
            let run = properties.iter().fold(run, |run, property| run.arguments(&["-X", property])).run();
            assert!(!run.stderr.contains(password), "the password is shown: {}", run.stderr);
            match client.delivers(ability).is_yes() {
                true => assert_eq!(run.expect_code(0).stdout.lines().count(), 300, "{name} {mechanism}"),
                false => drop(run.expect_code(2).expect_stderr("--client native")),
            }
        }
    }
}
