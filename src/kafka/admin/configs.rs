//! The settings of topics and brokers (DescribeConfigs, API key 32).

use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::protocol::StrBytes;
use serde::Serialize;

use super::check;
use crate::kafka::cluster::Cluster;
use crate::kafka::connection::Connection;
use crate::kafka::error::Error;

/// Whose settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOf {
    Topic(String),
    /// By node id. A broker answers for itself alone.
    Broker(i32),
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigEntry {
    pub name: String,
    /// `None`: it has none, or it is sensitive and the broker keeps it.
    pub value: Option<String>,
    /// `topic`, `broker`, `cluster`, `file` (of the broker), `default` and so on: who set it.
    pub source: &'static str,
    pub read_only: bool,
    pub sensitive: bool,
}

impl ConfigEntry {
    /// Whether nobody has set it.
    pub fn is_default(&self) -> bool {
        self.source == "default"
    }
}

/// Every setting of a topic or broker, by name.
///
/// # Errors
/// [`Error::Broker`] when it does not exist or may not be read.
pub fn describe_configs(cluster: &Cluster, of: &ConfigOf) -> Result<Vec<ConfigEntry>, Error> {
    let (resource_type, name) = match of {
        ConfigOf::Topic(name) => (2, name.clone()),
        ConfigOf::Broker(node) => (4, node.to_string()),
    };
    let resource = DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(StrBytes::from_string(name.clone()))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let mut connection = match of {
        ConfigOf::Broker(node) => cluster.connect_to(*node)?,
        ConfigOf::Topic(_) => any_broker(cluster)?,
    };
    let answer = connection.call(&request)?;
    let mut entries = Vec::new();
    for result in answer.results {
        let subject = || if resource_type == 2 { format!("topic {name}") } else { format!("broker {name}") };
        check(&connection, "DescribeConfigs", subject, result.error_code, result.error_message.as_ref())?;
        entries.extend(result.configs.into_iter().map(read));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn any_broker(cluster: &Cluster) -> Result<Connection, Error> {
    let metadata = cluster.metadata();
    let node = metadata.brokers.keys().next().ok_or(Error::NoBroker { tried: Vec::new() })?;
    cluster.connect_to(*node)
}

fn read(found: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: found.name.to_string(),
        value: found.value.map(|value| value.to_string()),
        source: source_name(found.config_source),
        read_only: found.read_only,
        sensitive: found.is_sensitive,
    }
}

/// As `org.apache.kafka.clients.admin.ConfigEntry.ConfigSource`, by its id on the wire.
fn source_name(source: i8) -> &'static str {
    match source {
        1 => "topic",
        2 => "broker",
        3 => "cluster",
        4 => "file",
        5 => "default",
        6 => "broker-logger",
        7 => "client-metrics",
        8 => "group",
        _ => "unknown",
    }
}
