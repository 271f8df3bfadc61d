//! Every client that `--client` names against every broker there is: Kafka 3.9 and the newest, the embedded broker, and
//! librdkafka's mock cluster. What `konekt::source::client` says that a client delivers it must deliver, and what it
//! says of the rest must come true too; docs/reference.md shows the same table.
//!
//! `./check conformance` builds it with the feature `confluent`; without it that client is left out.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod bulk;
mod groups;
#[cfg(feature = "confluent")]
mod mock;
mod records;
mod refusals;
mod shapes;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use konekt::Client;
use konekt::source::client::{ABILITIES, Ability};

/// The clients of this build.
fn clients() -> impl Iterator<Item = Client> {
    Client::ALL.into_iter().filter(|client| client.absence().is_none())
}

/// Whether a client reads from this version of Kafka.
fn reads(client: Client, version: &str) -> bool {
    let ability = if version.starts_with("3.") { Ability::Kafka3 } else { Ability::Kafka4 };
    client.delivers(ability).is_yes()
}

#[test]
fn the_table_of_differences() {
    for row in ABILITIES {
        println!("{}", row.words);
        for client in Client::ALL {
            println!("    {:10} {:?}", client.name(), client.delivers(row.ability));
        }
    }
    assert!(clients().count() >= 1);
}
