//! `konekt broker`: the embedded broker, until a signal.

use super::exit::{self, Exit, Failure};
use super::signals;
use crate::broker::{Broker, BrokerOptions, TopicSpec};
use crate::config::Resolved;
use crate::config::value::Value;

/// Listens until the first signal.
pub fn run(resolved: &Resolved) -> Result<(), Failure> {
    let topics = match resolved.value("new_topics") {
        Some(Value::NewTopics(topics)) => topics,
        _ => Vec::new(),
    };
    let stopped = signals::listen()?;
    let options = BrokerOptions {
        listen: resolved.text("listen"),
        topics: topics.into_iter().map(|(name, partitions)| TopicSpec::new(name, partitions)).collect(),
        auto_create_partitions: Some(1),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).map_err(|error| Failure::new(Exit::Failed, error))?;
    exit::say(format_args!("konekt: listening on {}, in memory, until Ctrl-C", broker.address()));
    // The sender lives in the signal handler, for ever.
    let _ = stopped.recv();
    broker.stop();
    Ok(())
}
