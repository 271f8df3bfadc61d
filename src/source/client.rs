//! The Kafka clients that `--client` names, and what each of them delivers: one table, which docs/reference.md shows and the
//! conformance suite holds the clients to.

/// A Kafka client to read with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Client {
    /// Our own ([`kafka`](crate::kafka)).
    #[default]
    Native,
    /// The `kafka` crate; a build with the feature `kafka-crate` has it.
    Kafka,
    /// librdkafka, by the `rdkafka` crate; a build with the feature `confluent` has it.
    Confluent,
}

impl Client {
    /// All of them, in the order of the table's columns.
    pub const ALL: [Client; 3] = [Client::Native, Client::Kafka, Client::Confluent];

    /// The value of `--client`.
    pub const fn name(self) -> &'static str {
        match self {
            Client::Native => "native",
            Client::Kafka => "kafka",
            Client::Confluent => "confluent",
        }
    }

    /// The client of that name.
    pub fn named(name: &str) -> Option<Client> {
        Client::ALL.into_iter().find(|client| client.name() == name)
    }

    /// Why this build does not have it, if it does not, and what to do.
    pub fn absence(self) -> Option<String> {
        let feature = match self {
            Client::Kafka if !cfg!(feature = "kafka-crate") => "kafka-crate",
            Client::Confluent if !cfg!(feature = "confluent") => "confluent",
            _ => return None,
        };
        let name = self.name();
        Some(format!(
            "client {name} is not in this build: build it with `cargo build --release --features {feature}`, or use \
             --client native"
        ))
    }

    /// How it delivers this.
    pub fn delivers(self, ability: Ability) -> Delivers {
        let row = ABILITIES.iter().find(|row| row.ability == ability).expect("a test looks for each of them");
        row.delivers[self as usize]
    }
}

/// Something that a client can do, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    Kafka3,
    Kafka4,
    ExactlyOnce,
    Groups,
    NewGroups,
    AutoGroups,
    GrowingTopics,
    TopicIds,
    Racks,
    Headers,
    AnyHeaderName,
    Timestamps,
    NullAndEmpty,
    OldCodecs,
    NewCodecs,
    Committed,
    Tls,
    SaslPlain,
    SaslElse,
    OwnSettings,
}

/// How a client delivers something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivers {
    Yes,
    /// Not, and what there is instead.
    No(&'static str),
}

impl Delivers {
    /// Whether it does.
    pub fn is_yes(self) -> bool {
        self == Delivers::Yes
    }
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub ability: Ability,
    /// In words.
    pub words: &'static str,
    /// In the order of [`Client::ALL`].
    pub delivers: [Delivers; 3],
}

const fn row(ability: Ability, words: &'static str, delivers: [Delivers; 3]) -> Row {
    Row { ability, words, delivers }
}

use Delivers::{No, Yes};

/// What each client delivers.
pub const ABILITIES: &[Row] = &[
    row(Ability::Kafka3, "brokers of Kafka 3.9", [Yes, Yes, Yes]),
    row(Ability::Kafka4, "brokers of Kafka 4", [Yes, No("refused: they dropped the old protocol"), Yes]),
    row(Ability::ExactlyOnce, "exactly once into SQL, offsets committed for lag tools", [Yes, Yes, Yes]),
    row(
        Ability::Groups,
        "a group's members share the partitions",
        [Yes, No("each process reads all partitions: run one"), Yes],
    ),
    row(Ability::NewGroups, "group_protocol = consumer (KIP-848)", [Yes, No("no groups"), Yes]),
    row(
        Ability::AutoGroups,
        "group_protocol = auto, the newer where brokers have it",
        [Yes, No("no groups"), No("refused: say classic or consumer")],
    ),
    row(Ability::GrowingTopics, "topics and partitions that are made later", [Yes, No("seen at the next start"), Yes]),
    row(
        Ability::TopicIds,
        "a topic that was deleted and made anew is noticed",
        [Yes, Yes, No("read as if it were the old one")],
    ),
    row(Ability::Racks, "the replica in its own rack is read (client_rack)", [Yes, No("leaders are read"), Yes]),
    row(Ability::Headers, "headers", [Yes, No("dropped"), Yes]),
    row(Ability::AnyHeaderName, "header names that are not UTF-8", [Yes, No("dropped"), No("the partition stops")]),
    row(Ability::Timestamps, "the records' times", [Yes, No("none"), Yes]),
    row(Ability::NullAndEmpty, "null told from empty", [Yes, No("both are null"), Yes]),
    row(Ability::OldCodecs, "gzip, snappy", [Yes, Yes, Yes]),
    row(Ability::NewCodecs, "lz4, zstd", [Yes, No("the partition stops"), Yes]),
    row(Ability::Committed, "isolation_level = read_committed", [Yes, No("aborted transactions are read too"), Yes]),
    row(Ability::Tls, "TLS", [Yes, No("refused"), No("refused: built without OpenSSL")]),
    row(Ability::SaslPlain, "SASL PLAIN", [Yes, No("refused"), Yes]),
    row(Ability::SaslElse, "SASL SCRAM, OAUTHBEARER", [Yes, No("refused"), No("refused: built without OpenSSL")]),
    row(
        Ability::OwnSettings,
        "all of librdkafka's settings, by -X and [kafka.properties]",
        [No("those that are settings here"), No("likewise"), Yes],
    ),
];

/// The table for the documentation.
pub fn abilities_markdown() -> String {
    let names: String = Client::ALL.iter().map(|client| format!(" `{}` |", client.name())).collect();
    let cell = |delivers: &Delivers| match delivers {
        Yes => " yes |".to_owned(),
        No(instead) => format!(" no: {instead} |"),
    };
    let row = |row: &Row| format!("| {} |{}\n", row.words, row.delivers.iter().map(cell).collect::<String>());
    format!("| |{names}\n|---|---|---|---|\n{}", ABILITIES.iter().map(row).collect::<String>())
}

/// Settings that only mean something to some clients: a setting, a value of it where it is that alone that they lack, and
/// the ability that it needs.
pub const NEEDS: &[(&str, Option<&str>, Ability)] = &[
    ("group_instance_id", None, Ability::Groups),
    ("group_protocol", None, Ability::Groups),
    ("group_protocol", Some("auto"), Ability::AutoGroups),
    ("group_remote_assignor", None, Ability::Groups),
    ("partition_assignment_strategy", None, Ability::Groups),
    ("session_timeout_ms", None, Ability::Groups),
    ("heartbeat_interval_ms", None, Ability::Groups),
    ("max_poll_interval_ms", None, Ability::Groups),
    ("metadata_max_age_ms", None, Ability::GrowingTopics),
    ("client_rack", None, Ability::Racks),
    ("isolation_level", Some("read_committed"), Ability::Committed),
    ("security_protocol", Some("ssl"), Ability::Tls),
    ("security_protocol", Some("sasl_ssl"), Ability::Tls),
    ("security_protocol", Some("sasl_plaintext"), Ability::SaslPlain),
    ("sasl_mechanism", Some("SCRAM-SHA-256"), Ability::SaslElse),
    ("sasl_mechanism", Some("SCRAM-SHA-512"), Ability::SaslElse),
    ("sasl_mechanism", Some("OAUTHBEARER"), Ability::SaslElse),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_name_and_each_ability_one_row() {
        for client in Client::ALL {
            assert_eq!(Client::named(client.name()), Some(client));
        }
        for (nth, row) in ABILITIES.iter().enumerate() {
            let first = ABILITIES.iter().position(|other| other.ability == row.ability);
            assert_eq!(first, Some(nth), "{:?} twice", row.ability);
            assert_eq!(row.ability as usize, nth, "rows stand in the order of the abilities, so none is missing");
        }
        assert_eq!(ABILITIES.len(), Ability::OwnSettings as usize + 1);
        assert!(Client::Native.delivers(Ability::Headers).is_yes());
        assert!(!Client::Kafka.delivers(Ability::Headers).is_yes());
    }
}
