//! Settings for throughput: large batches, large fetches, a worker per core. Counts, and says how fast that was.
//!
//! ```sh
//! cargo run --release --example throughput
//! cargo run --release --example throughput -- --bootstrap-servers localhost:9092 --topics orders --until-end
//! ```

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use konekt::{Consumer, ConsumerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kafka = support::Kafka::from_arguments(&["orders"], 200_000)?;
    let config = ConsumerConfig {
        // A batch is one call of the handler: the larger, the less is spent around it.
        batch_size: 5_000,
        // Brokers send more at once, and are asked less often.
        fetch_max_bytes: 32 << 20,
        max_partition_fetch_bytes: 4 << 20,
        // What is read and waits for a worker; more than this is not fetched.
        memory_limit: 512 << 20,
        max_workers: thread::available_parallelism()?.get(),
        ..kafka.config("konekt-example-throughput")
    };
    let bytes = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&bytes);
    let consumer = Consumer::builder(config)
        .handler(move |batch| {
            let length = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len) as u64;
            let sum = batch.iter().map(|record| length(record.key) + length(record.value)).sum();
            counted.fetch_add(sum, Ordering::Relaxed);
            Ok(())
        })
        .start()?;
    support::stop_on_ctrl_c(&consumer)?;
    let statistics = consumer.join()?.statistics;

    let seconds = statistics.uptime_seconds.max(0.001);
    let mebibytes = bytes.load(Ordering::Relaxed) as f64 / f64::from(1 << 20);
    println!(
        "{} records in {} batches, {seconds:.2} s: {:.0} records/s, {:.1} MiB/s",
        statistics.messages_processed,
        statistics.batches_processed,
        statistics.messages_processed as f64 / seconds,
        mebibytes / seconds,
    );
    Ok(())
}
