//! Reads a topic as a member of a consumer group and prints each record.
//!
//! ```sh
//! cargo run --example basic
//! cargo run --example basic -- --bootstrap-servers localhost:9092 --topics orders
//! ```

mod support;

use konekt::Consumer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kafka = support::Kafka::from_arguments(&["orders"], 100)?;
    let consumer = Consumer::builder(kafka.config("konekt-example-basic"))
        .on_assign(|partitions| eprintln!("assigned: {partitions:?}"))
        .on_revoke(|partitions| eprintln!("revoked: {partitions:?}"))
        .handler(|batch| {
            for record in batch.iter() {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default());
                println!("{}@{}: {value}", batch.partition(), record.offset);
            }
            Ok(()) // an error would bring the batch again
        })
        .start()?;
    support::stop_on_ctrl_c(&consumer)?;
    let summary = consumer.join()?;
    eprintln!("{} records processed", summary.statistics.messages_processed);
    Ok(())
}
