//! Takes its settings from where the program does: `konekt.toml`, `.env` and the environment, all checked at once.
//!
//! ```sh
//! KAFKA_BATCH_SIZE=200 cargo run --example env
//! KAFKA_BOOTSTRAP_SERVERS=localhost:9092 KAFKA_TOPICS=orders KAFKA_GROUP_ID=billing cargo run --example env
//! ```

#![allow(clippy::disallowed_methods, reason = "an example stands outside the door")]

mod support;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use konekt::Consumer;
use konekt::config::command::Command;
use konekt::config::layers::Surroundings;
use konekt::config::resolve;

fn main() -> Result<(), Box<dyn Error>> {
    let environment = |name: &str| std::env::var(name).ok();
    // Without a Kafka in the environment there is an embedded one. What stands in `flags` goes before all other sources.
    let mut flags = BTreeMap::new();
    let embedded = match environment("KAFKA_BOOTSTRAP_SERVERS") {
        Some(_) => None,
        None => Some(support::Kafka::from_arguments(&["orders"], 1_000)?),
    };
    if let Some(kafka) = &embedded {
        flags.insert("bootstrap_servers", kafka.bootstrap_servers.join(","));
        flags.insert("topics", kafka.topics.join(","));
    }
    if embedded.is_some() || std::env::args().any(|argument| argument == "--until-end") {
        flags.insert("until_end", "true".to_owned());
    }
    let resolved = resolve(
        Command::Consume,
        &Surroundings {
            directory: Path::new("."),
            environment: &environment,
            variables: std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect(),
            file: None,
            flags,
            properties: Vec::new(),
        },
    );
    let settings = resolved.settings().map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })?;

    let config = settings.consumer.clone();
    eprintln!("group {}, batches of up to {}", config.group_id, config.batch_size);
    let consumer = Consumer::builder(config)
        .handler(|batch| {
            println!("{}: {} records", batch.partition(), batch.len());
            Ok(())
        })
        .start()?;
    support::stop_on_ctrl_c(&consumer)?;
    eprintln!("{} records processed", consumer.join()?.statistics.messages_processed);
    Ok(())
}
