//! Somebody who writes numbered records all the time, by Kafka's own Java client, and now and then poison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::PARTITIONS;
use crate::support::audit::{Expected, numbered};
use crate::support::kafka::RealKafka;
use crate::support::random::Random;

/// Time between two batches.
const INTERVAL: Duration = Duration::from_millis(250);

/// See the module. Dropped, it stops.
pub struct Writer {
    state: Arc<State>,
    thread: Option<JoinHandle<Expected>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    written: AtomicU64,
}

impl Writer {
    /// Starts to write so many records a second to the topic, of which one in `poison_every` is poison (0: none).
    pub fn start(kafka: &Arc<RealKafka>, topic: &'static str, per_second: u64, poison_every: u64, seed: u64) -> Self {
        let (kafka, state) = (Arc::clone(kafka), Arc::new(State::default()));
        let shared = Arc::clone(&state);
        let step = per_second * INTERVAL.as_millis() as u64 / 1000;
        let thread = std::thread::spawn(move || {
            let (mut random, mut expected) = (Random::seeded(seed), Expected::default());
            while !shared.stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let records: Vec<Value> = (0..step).map(|_| record(&mut expected, poison_every, &mut random)).collect();
                kafka.java(&json!({"do": "write", "topic": topic, "codec": "lz4", "records": records}));
                shared.written.store(expected.records, Ordering::Relaxed);
                std::thread::sleep(INTERVAL.saturating_sub(begun.elapsed()));
            }
            expected
        });
        Self { state, thread: Some(thread) }
    }

    /// Records that Kafka has acknowledged.
    pub fn written(&self) -> u64 {
        self.state.written.load(Ordering::Relaxed)
    }

    /// Stops, and says what it has written.
    ///
    /// # Panics
    /// When Kafka did not take it.
    pub fn finish(mut self) -> Expected {
        self.state.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("it is finished once").join().expect("Kafka takes all that is written")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn record(expected: &mut Expected, poison_every: u64, random: &mut Random) -> Value {
    let number = expected.records;
    let poison = poison_every > 0 && random.between(0, poison_every) == 0;
    if poison {
        expected.poison.insert(number);
    }
    expected.records += 1;
    let contents = BASE64.encode(random.bytes(90));
    let value = BASE64.encode(numbered(number, &contents, poison));
    let key = BASE64.encode(format!("k{number}"));
    json!({"partition": number % u64::from(PARTITIONS), "key": key, "value": value, "headers": [], "timestamp": number})
}

/// The numbers of the records in a topic of dead letters, each as often as it is there.
pub fn letters_in(kafka: &RealKafka, topic: &str) -> Vec<u64> {
    let answer = kafka.java(&json!({"do": "read", "topic": topic}));
    let number = |record: &Value| {
        let value = BASE64.decode(record[4].as_str().expect("a value")).expect("base64");
        let value: Value = serde_json::from_slice(&value).expect("a letter keeps the record's value");
        value["seq"].as_u64().expect("records are numbered")
    };
    answer["records"].as_array().expect("records").iter().map(number).collect()
}
