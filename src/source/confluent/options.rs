//! librdkafka's settings: ours under its names, then what was said for it alone.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::core::secret::Secret;
use crate::port::MemoryBudget;
use crate::source::native::TopicSelection;

/// What the source rests on, and nobody else may set.
const FIXED: &[(&str, &str)] = &[
    // Positions come from the sink, and are committed after it.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // The engine decides where to begin, and what to do about an offset outside the log.
    ("auto.offset.reset", "error"),
    // How far a log was read whose end are transaction markers.
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "500"),
];

/// Better defaults than librdkafka's: without the first a full queue makes it rest for a second.
const TUNED: &[(&str, &str)] =
    &[("fetch.queue.backoff.ms", "2"), ("check.crcs", "true"), ("socket.nagle.disable", "true")];

/// How to read with librdkafka.
pub struct ConfluentOptions {
    /// Its settings; later ones win.
    pub properties: Vec<(String, Secret)>,
    pub topics: TopicSelection,
    /// Whether only what is committed is read.
    pub read_committed: bool,
    /// How long to look for a broker and the topics.
    pub connect_timeout: Duration,
    /// How long to wait for an answer.
    pub request_timeout: Duration,
    pub memory: Arc<MemoryBudget>,
    /// How many chunks of one partition may be held by the application.
    pub credit_chunks: usize,
    /// The most bytes of a chunk; a larger record still gets through.
    pub chunk_bytes: usize,
}

impl ConfluentOptions {
    /// Asks librdkafka whether it takes these settings.
    ///
    /// # Errors
    /// The setting that it refuses, and what it says; never the value, which may be a secret.
    pub fn check(&self) -> Result<(), (String, String)> {
        for (name, text) in &self.properties {
            if let Some((_, fixed)) = FIXED.iter().find(|(of, fixed)| of == name && *fixed != text.reveal()) {
                return Err((name.clone(), format!("{name} is konekt's to set: it is always {fixed}")));
            }
        }
        match self.client_config().create_native_config() {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(_, what, name, value)) => {
                let what = if value.is_empty() { what } else { what.replace(&value, "***") };
                Err((name.clone(), format!("librdkafka refuses {name}: {what}")))
            }
            Err(error) => Err(("client".to_owned(), format!("librdkafka refuses its settings: {error}"))),
        }
    }

    pub(super) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in TUNED {
            config.set(*name, *value);
        }
        // Its queue is not in our budget, and each partition has one.
        let queued_kib = (self.memory.limit() / 64 / 1024).clamp(1024, 16 * 1024);
        config.set("queued.max.messages.kbytes", queued_kib.to_string());
        for (name, text) in &self.properties {
            config.set(name, text.reveal());
        }
        for (name, value) in FIXED {
            config.set(*name, *value);
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(properties: &[(&str, &str)]) -> ConfluentOptions {
        ConfluentOptions {
            properties: properties.iter().map(|(name, text)| ((*name).to_owned(), Secret::new(*text))).collect(),
            topics: TopicSelection::names(["t"]),
            read_committed: true,
            connect_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            memory: MemoryBudget::new(256 << 20),
            credit_chunks: 4,
            chunk_bytes: 1 << 20,
        }
    }

    #[test]
    fn librdkafka_says_what_it_does_not_take_and_no_secret_is_said() {
        for (properties, expected) in [
            (&[("fetch.queue.backoff.ms", "5"), ("debug", "cgrp")][..], Ok(())),
            (&[("enable.auto.commit", "false")], Ok(())),
            (&[("enable.auto.commit", "true")], Err("enable.auto.commit is konekt's to set: it is always false")),
            (&[("fetch.queue.backof.ms", "hunter2")], Err("librdkafka refuses fetch.queue.backof.ms: No such")),
            (&[("queued.min.messages", "hunter2")], Err("librdkafka refuses queued.min.messages: Invalid value")),
            (&[("security.protocol", "ssl")], Err("librdkafka refuses security.protocol")),
        ] {
            let said = options(properties).check().map_err(|(_, message)| message);
            match (&said, expected) {
                (Ok(()), Ok(())) => {}
                (Err(message), Err(part)) if message.contains(part) && !message.contains("hunter2") => {}
                _ => panic!("{properties:?}: {said:?}, expected {expected:?}"),
            }
        }
    }

    #[test]
    fn what_is_said_wins_over_what_is_tuned_and_what_is_fixed_over_both() {
        let config = options(&[("check.crcs", "false"), ("check.crcs", "true"), ("group.id", "g")]).client_config();
        assert_eq!((config.get("check.crcs"), config.get("group.id")), (Some("true"), Some("g")));
        assert_eq!(config.get("queued.max.messages.kbytes"), Some("4096"));
        assert_eq!(config.get("enable.auto.commit"), Some("false"));
    }
}
