//! What many partitions cost while nothing comes, with fetch sessions and without: requests and bytes per second, and
//! processor time of the client alone (Linux: `/proc/self/task/*/schedstat`).
//!
//! `cargo bench --bench idle -- [PARTITIONS] [SECONDS]`

mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use konekt::broker::{ApiKey, Broker, BrokerOptions, TopicSpec};
use konekt::door;
use konekt::sink::null::NullSink;
use konekt::{Consumer, ConsumerConfig, TopicSelection};

/// How long all partitions take to be assigned and started, with time to spare.
const SETTLING: Duration = Duration::from_secs(5);

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let partitions = numbers.first().copied().unwrap_or(1_000) as i32;
    let seconds = numbers.get(1).copied().unwrap_or(10);
    for (name, fetch_sessions_max) in [("without sessions", 0), ("with sessions", 1_000)] {
        measure(name, partitions, seconds, fetch_sessions_max);
    }
}

fn measure(name: &str, partitions: i32, seconds: u64, fetch_sessions_max: usize) {
    let topics = vec![TopicSpec::new("idle", partitions)];
    let options = BrokerOptions { topics, fetch_sessions_max, ..BrokerOptions::default() };
    let broker = Broker::start(options).expect("a free port");
    let config = ConsumerConfig {
        bootstrap_servers: vec![broker.address()],
        topics: TopicSelection::names(["idle"]),
        stats_interval_ms: Duration::from_hours(1).as_millis() as u64,
        ..ConsumerConfig::default()
    };
    let running = Consumer::builder(config).sink(Arc::new(NullSink::default())).start().expect("the broker is there");
    door::sleep(SETTLING);
    let (before, cpu) = (broker.traffic(ApiKey::Fetch), client_cpu_ms());
    door::sleep(Duration::from_secs(seconds));
    let (after, cpu) = (broker.traffic(ApiKey::Fetch), client_cpu_ms() - cpu);
    let per_second = |count: u64| count as f64 / seconds as f64;
    println!(
        "{partitions} idle partitions {name}: {:.1} fetches/s, {:.0} bytes/s asked, {:.0} bytes/s answered, {:.2} CPU ms/s",
        per_second(after.requests - before.requests),
        per_second(after.request_bytes - before.request_bytes),
        per_second(after.answer_bytes - before.answer_bytes),
        cpu / seconds as f64
    );
    running.stop();
    running.join().expect("nothing fails here");
}

/// Processor time of all threads that live, less those of the embedded broker.
fn client_cpu_ms() -> f64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").flatten().map(|thread| thread.path());
    let of_client = threads.filter(|thread| {
        let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
        !name.starts_with("konekt-broker")
    });
    let nanoseconds = of_client.filter_map(|thread| {
        let line = fs::read_to_string(thread.join("schedstat")).ok()?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e6
}
