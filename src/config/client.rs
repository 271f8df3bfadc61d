//! Which Kafka client reads, what it cannot honour, and what of librdkafka's settings goes to librdkafka as it is.

use super::field::{Field, Section};
use super::layers::Origin;
use super::{Fault, Reader, properties};
use crate::consumer::ConsumerConfig;
use crate::core::secret::Secret;
use crate::source::client::{Client, Delivers, NEEDS};

impl Reader<'_> {
    pub(super) fn client(&mut self) -> Client {
        let client = Client::named(&self.text("client")).unwrap_or_default();
        if !self.reads() {
            return client;
        }
        if let Some(absence) = client.absence() {
            self.faults.push(Fault::of(self.said_by(&["client"]), absence));
        }
        for (setting, value, ability) in NEEDS {
            let said = self.raw.get(setting).filter(|raw| {
                raw.origin != Origin::Default && value.is_none_or(|value| raw.text.trim().eq_ignore_ascii_case(value))
            });
            if let (Some(raw), Delivers::No(instead)) = (said, client.delivers(*ability)) {
                let others = Client::ALL.into_iter().filter(|other| other.delivers(*ability).is_yes());
                let others: Vec<String> = others.map(|other| format!("--client {}", other.name())).collect();
                let what = value.map_or((*setting).to_owned(), |value| format!("{setting} {value}"));
                let message =
                    format!("--client {} cannot honour {what} ({instead}): use {}", client.name(), others.join(" or "));
                self.faults.push(Fault::of(&raw.origin, message));
            }
        }
        client
    }

    /// librdkafka's settings as they were said, for librdkafka. With any other client those that mean nothing to it are
    /// faults.
    pub(super) fn properties_for(&mut self, client: Client) -> Vec<(String, Secret)> {
        if client != Client::Confluent {
            let complaints = self.properties.values();
            let complaints = complaints.filter_map(|property| Some((&property.origin, property.complaint.clone()?)));
            self.faults.extend(complaints.map(|(origin, complaint)| Fault::of(origin, complaint)));
            return Vec::new();
        }
        let is_security = |name: &str| Field::named(name).is_some_and(|field| field.section == Section::Security);
        let said = self.raw.iter().filter(|(name, raw)| is_security(name) && raw.origin != Origin::Default);
        let security = said.filter_map(|(name, raw)| Some((properties::name_of(name)?, raw.text.trim())));
        let verbatim = self.properties.iter().map(|(name, property)| (name.as_str(), property.text.reveal()));
        security.chain(verbatim).map(|(name, text)| (name.to_owned(), Secret::new(text))).collect()
    }

    /// librdkafka itself says what it does not take.
    #[cfg_attr(not(feature = "confluent"), allow(unused_variables, reason = "there is nobody to ask"))]
    pub(super) fn check_client(&mut self, consumer: &ConsumerConfig) {
        #[cfg(feature = "confluent")]
        if consumer.client == Client::Confluent && self.reads() && self.faults.is_empty() {
            let memory = crate::port::MemoryBudget::new(consumer.memory_limit);
            if let Err((name, message)) = consumer.confluent(&memory).check() {
                let origin = self.properties.get(&name).map(|property| property.origin.to_string());
                let place = origin.unwrap_or_else(|| self.said_by(&["client"]));
                self.faults.push(Fault::of(place, message));
            }
        }
    }

    /// Whether the command reads with the client that is asked for; others have our own.
    fn reads(&self) -> bool {
        Field::named("client").is_some_and(|field| field.belongs_to(self.command))
    }
}
