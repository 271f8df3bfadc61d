//! What a thousand partitions cost while nothing comes: requests, bytes and processor time per second, of client and
//! embedded broker together.
//!
//! `cargo bench --bench idle -- [PARTITIONS] [SECONDS]`

mod support;

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
    let topics = vec![TopicSpec::new("idle", partitions)];
    let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a free port");
    let config = ConsumerConfig {
        bootstrap_servers: vec![broker.address()],
        topics: TopicSelection::names(["idle"]),
        stats_interval_ms: Duration::from_hours(1).as_millis() as u64,
        ..ConsumerConfig::default()
    };
    let running = Consumer::builder(config).sink(Arc::new(NullSink::default())).start().expect("the broker is there");
    door::sleep(SETTLING);
    let (before, cpu) = (broker.traffic(ApiKey::Fetch), support::cpu_seconds());
    door::sleep(Duration::from_secs(seconds));
    let (after, cpu) = (broker.traffic(ApiKey::Fetch), support::cpu_seconds() - cpu);
    let per_second = |count: u64| count as f64 / seconds as f64;
    println!(
        "{partitions} idle partitions: {:.1} fetches/s, {:.0} bytes/s asked, {:.0} bytes/s answered, {:.2} CPU ms/s",
        per_second(after.requests - before.requests),
        per_second(after.request_bytes - before.request_bytes),
        per_second(after.answer_bytes - before.answer_bytes),
        cpu * 1e3 / seconds as f64
    );
    running.handle().stop();
    running.join().expect("nothing fails here");
}
