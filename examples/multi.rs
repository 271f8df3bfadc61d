//! Reads several topics at once, each with a handler of its own; a record that a handler refuses is kept in a file.
//!
//! ```sh
//! cargo run --example multi
//! cargo run --example multi -- --bootstrap-servers localhost:9092 --topics orders,returns
//! ```

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use konekt::{Consumer, ConsumerConfig, MessageBatch};
use serde_json::Value;

/// Money that came in and that went back, in cents.
#[derive(Default)]
struct Books {
    sold: AtomicU64,
    returned: Mutex<BTreeMap<String, u64>>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let kafka = support::Kafka::from_arguments(&["orders", "returns"], 5_000)?;
    let config = ConsumerConfig {
        dead_letter_file: Some(std::env::temp_dir().join("konekt-example-multi.jsonl")),
        ..kafka.config("konekt-example-multi")
    };
    let books = Arc::new(Books::default());
    let shared = Arc::clone(&books);
    let consumer = Consumer::builder(config)
        // Called by several threads at once; for one partition by one at a time, in order.
        .handler(move |batch| match batch.partition().topic.as_ref() {
            "returns" => returned(&shared, batch),
            _ => sold(&shared, batch),
        })
        .start()?;
    support::stop_on_ctrl_c(&consumer)?;
    let summary = consumer.join()?;

    println!("sold      {:>12}", euros(books.sold.load(Ordering::Relaxed)));
    for (city, cents) in books.returned.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("returned  {:>12}  {city}", euros(*cents));
    }
    eprintln!("{} records processed", summary.statistics.messages_processed);
    Ok(())
}

fn sold(books: &Books, batch: &MessageBatch<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // All of a batch or nothing of it: a batch that fails comes again.
    let mut cents = 0;
    for record in batch.iter() {
        cents += total_cents(&serde_json::from_slice(record.value.unwrap_or_default())?);
    }
    books.sold.fetch_add(cents, Ordering::Relaxed);
    Ok(())
}

fn returned(books: &Books, batch: &MessageBatch<'_>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut by_city = BTreeMap::new();
    for record in batch.iter() {
        let order: Value = serde_json::from_slice(record.value.unwrap_or_default())?;
        let city = order["city"].as_str().unwrap_or("unknown").to_owned();
        *by_city.entry(city).or_insert(0) += total_cents(&order);
    }
    let mut returned = books.returned.lock().unwrap_or_else(PoisonError::into_inner);
    for (city, cents) in by_city {
        *returned.entry(city).or_insert(0) += cents;
    }
    Ok(())
}

fn total_cents(order: &Value) -> u64 {
    (order["total"].as_f64().unwrap_or_default() * 100.0).round() as u64
}

fn euros(cents: u64) -> String {
    format!("{}.{:02} EUR", cents / 100, cents % 100)
}
