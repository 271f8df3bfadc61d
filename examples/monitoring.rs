//! Watches a consumer from outside: a line of statistics every interval, a partition that rests for a while, a last
//! summary as JSON.
//!
//! ```sh
//! cargo run --example monitoring
//! cargo run --example monitoring -- --bootstrap-servers localhost:9092 --topics orders
//! ```

#![allow(clippy::disallowed_methods, reason = "an example stands outside the door")]

mod support;

use std::thread;
use std::time::Duration;

use konekt::{Consumer, ConsumerConfig, TopicPartition};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kafka = support::Kafka::from_arguments(&["orders"], 20_000)?;
    let config = ConsumerConfig { stats_interval_ms: 250, ..kafka.config("konekt-example-monitoring") };
    let consumer = Consumer::builder(config)
        .on_statistics(|now| {
            let standing: Vec<String> =
                now.standing().map(|one| format!("{}/{} {:?}", one.topic, one.partition, one.pause_reasons)).collect();
            println!(
                "{:6.2} s  {:8.0} records/s  lag {:6}  in flight {:5}  {}",
                now.uptime_seconds,
                now.processing_rate_per_second,
                now.lag_records,
                now.records_in_flight,
                standing.join(", "),
            );
        })
        .handler(|batch| {
            // As if each record took a while.
            thread::sleep(Duration::from_micros(100) * batch.len() as u32);
            Ok(())
        })
        .start()?;
    support::stop_on_ctrl_c(&consumer)?;

    // An operator's pause: the other partitions do not notice, and nothing is lost.
    let resting = TopicPartition::new(kafka.topics[0].as_str(), 0);
    consumer.pause(&resting);
    thread::sleep(Duration::from_secs(1));
    consumer.resume(&resting);

    let summary = consumer.join()?;
    println!("{}", serde_json::to_string_pretty(&summary.statistics)?);
    Ok(())
}
