//! Reads a topic as a member of a consumer group and prints each record, until Ctrl-C.
//!
//! ```sh
//! cargo run --example basic -- localhost:9092 orders
//! ```

use konekt::{Consumer, ConsumerConfig, TopicSelection};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let config = ConsumerConfig {
        bootstrap_servers: vec![arguments.next().unwrap_or_else(|| "localhost:9092".into())],
        topics: TopicSelection::names([arguments.next().unwrap_or_else(|| "orders".into())]),
        group_id: "konekt-example-basic".into(),
        until_end: arguments.next().as_deref() == Some("--until-end"),
        ..ConsumerConfig::default()
    };

    let consumer = Consumer::builder(config)
        .on_assign(|partitions| eprintln!("assigned: {partitions:?}"))
        .on_revoke(|partitions| eprintln!("revoked: {partitions:?}"))
        .handler(|batch| {
            for record in batch.iter() {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                println!("{}@{}: {value}", batch.partition(), record.offset);
            }
            Ok(())
        })
        .start()?;

    let handle = consumer.handle();
    ctrlc::set_handler(move || handle.stop())?;
    let summary = consumer.join()?;
    eprintln!("{} records processed", summary.statistics.messages_processed);
    Ok(())
}
