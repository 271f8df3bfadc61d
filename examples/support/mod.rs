//! Where an example reads: the Kafka that `--bootstrap-servers` names, until Ctrl-C; without it an embedded broker with
//! topics full of orders, to their ends.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::cluster::Cluster;
use konekt::kafka::connection::ConnectionOptions;
use konekt::kafka::producer::{NewRecord, Producer, ProducerOptions};
use konekt::ops::orders::Order;
use konekt::{ConsumerConfig, RunningConsumer, TopicSelection};

const PARTITIONS: i32 = 4;

/// A Kafka to read from.
pub struct Kafka {
    pub bootstrap_servers: Vec<String>,
    pub topics: Vec<String>,
    /// The embedded broker ends by itself when its topics are read.
    pub until_end: bool,
    _embedded: Option<Broker>,
}

impl Kafka {
    /// What the command line says: `[--bootstrap-servers HOST:PORT,…] [--topics A,B] [--until-end]`. The embedded broker
    /// gets `records` orders in each topic.
    ///
    /// # Errors
    /// When the arguments are wrong, or the embedded broker does not start.
    pub fn from_arguments(topics: &[&str], records: u64) -> Result<Kafka, Box<dyn Error>> {
        let list = |text: String| text.split(',').map(str::to_owned).collect::<Vec<String>>();
        let (mut servers, mut names, mut until_end) = (None, None, false);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--bootstrap-servers" => servers = arguments.next().map(list),
                "--topics" => names = arguments.next().map(list),
                "--until-end" => until_end = true,
                other => return Err(format!("{other} is not --bootstrap-servers, --topics or --until-end").into()),
            }
        }
        let topics = names.unwrap_or_else(|| topics.iter().map(|topic| (*topic).to_owned()).collect());
        match servers {
            Some(bootstrap_servers) => Ok(Kafka { bootstrap_servers, topics, until_end, _embedded: None }),
            None => Kafka::embedded(topics, records),
        }
    }

    fn embedded(topics: Vec<String>, records: u64) -> Result<Kafka, Box<dyn Error>> {
        let specs = topics.iter().map(|topic| TopicSpec::new(topic.as_str(), PARTITIONS)).collect();
        let broker = Broker::start(BrokerOptions { topics: specs, ..BrokerOptions::default() })?;
        let cluster = Cluster::connect(&[broker.address()], ConnectionOptions::default())?;
        let producer = Producer::new(cluster, ProducerOptions::default());
        let mut order = Order::default();
        for topic in &topics {
            let topic: Arc<str> = topic.as_str().into();
            for number in 0..records {
                order.fill(number);
                let (key, value) = (Some(order.key.as_bytes()), Some(order.value.as_bytes()));
                producer.send(&topic, &NewRecord { key, value, ..NewRecord::default() })?;
            }
        }
        producer.flush(Duration::from_secs(30))?;
        Ok(Kafka { bootstrap_servers: vec![broker.address()], topics, until_end: true, _embedded: Some(broker) })
    }

    /// A consumer's settings for this Kafka; the rest stands at its defaults.
    #[allow(dead_code, reason = "the example env takes its settings from the environment")]
    pub fn config(&self, group_id: &str) -> ConsumerConfig {
        ConsumerConfig {
            bootstrap_servers: self.bootstrap_servers.clone(),
            topics: TopicSelection::names(&self.topics),
            group_id: group_id.to_owned(),
            until_end: self.until_end,
            ..ConsumerConfig::default()
        }
    }
}

/// Lets Ctrl-C finish what is in flight and end the consumer.
pub fn stop_on_ctrl_c(consumer: &RunningConsumer) -> Result<(), ctrlc::Error> {
    let handle = consumer.handle();
    ctrlc::set_handler(move || handle.stop())
}
