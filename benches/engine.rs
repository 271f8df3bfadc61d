//! The engine without a database: embedded broker → native client → engine → null sink. Records per second and per
//! CPU-second (the broker's share included), and the peak memory, per codec and number of workers.
//!
//! `cargo bench --bench engine`

mod support;

use std::sync::Arc;
use std::time::Duration;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::wire::compression::Codec;
use konekt::ops::bench::records::{Generator, topic_batches};
use konekt::sink::null::NullSink;
use konekt::{Consumer, ConsumerConfig, TopicSelection};

const PARTITIONS: i32 = 8;
const RECORDS: u64 = 1_000_000;

fn main() {
    println!("{RECORDS} records of about 200 bytes in {PARTITIONS} partitions, batches of 1000, best of 3");
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd] {
        let topics = vec![TopicSpec { name: "orders".into(), partitions: PARTITIONS }];
        let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a free port");
        fill(&broker, codec);
        for workers in [1, 2, 4] {
            let runs = (0..3).map(|run| consume(&broker, workers, &format!("bench-{codec}-{workers}-{run}")));
            let (wall, cpu) = runs.min_by(|a, b| a.0.total_cmp(&b.0)).expect("three runs");
            println!(
                "{codec:>5}, {workers} workers: {:5.2} M records/s, {:5.0} CPU ns per record, peak {:.0} MiB",
                RECORDS as f64 / wall / 1e6,
                cpu * 1e9 / RECORDS as f64,
                support::peak_mib()
            );
        }
    }
}

fn fill(broker: &Broker, codec: Codec) {
    let mut generator = Generator::new(0, 200);
    for (index, batch) in (0..).zip(topic_batches(&mut generator, 0..RECORDS, codec)) {
        broker.append("orders", index % PARTITIONS, batch);
    }
}

fn consume(broker: &Broker, max_workers: usize, group: &str) -> (f64, f64) {
    let sink = NullSink::default();
    let config = ConsumerConfig {
        bootstrap_servers: vec![broker.address()],
        group_id: group.into(),
        topics: TopicSelection::names(["orders"]),
        max_workers,
        batch_size: 1000,
        stats_interval_ms: Duration::from_secs(3600).as_millis() as u64,
        until_end: true,
        ..ConsumerConfig::default()
    };
    let cpu = support::cpu_seconds();
    let (wall, summary) = support::time(|| {
        let running = Consumer::builder(config).sink(Arc::new(sink.clone())).start().expect("the broker is there");
        running.join().expect("nothing fails here")
    });
    assert_eq!((summary.statistics.messages_processed, sink.records()), (RECORDS, RECORDS));
    (wall.as_secs_f64(), support::cpu_seconds() - cpu)
}
