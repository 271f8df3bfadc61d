//! Konekt moves records out of Kafka into databases without losing or repeating one, with OS threads and no async.
//!
//! # As a library
//!
//! [`Consumer`] is the front: a consumer group member that hands batches to a closure, or to any [`port::Sink`].
//!
//! ```no_run
//! use konekt::{Consumer, ConsumerConfig, TopicSelection};
//!
//! let config = ConsumerConfig {
//!     bootstrap_servers: vec!["localhost:9092".into()],
//!     group_id: "billing".into(),
//!     topics: TopicSelection::names(["orders"]),
//!     ..ConsumerConfig::default()
//! };
//! let running = Consumer::builder(config)
//!     .on_assign(|partitions| println!("ours now: {partitions:?}"))
//!     .handler(|batch| {
//!         for record in batch.iter() {
//!             println!("{} {:?}", record.offset, record.value);
//!         }
//!         Ok(())
//!     })
//!     .start()?;
//! println!("{} records so far", running.stats().messages_processed);
//! running.stop();
//! running.join()?;
//! # Ok::<(), konekt::ConsumerError>(())
//! ```
//!
//! `examples/` has whole programs. Everything below [`Consumer`] can be put together by hand as well: a [`port::Source`],
//! a [`port::Sink`] and [`engine::Engine`]; [`kafka`] is a client for any program, and [`broker`] a Kafka for its tests.
//! The program's settings are in [`config`], and `docs/` tells what it does.
//!
//! # The way of one record
//!
//! ```text
//! broker ──▶ fetcher (a thread per broker)            kafka/fetcher          raw batches, slices of one pooled buffer
//!        ──▶ poller (the one thread that owns the     engine/poller.rs
//!            source)
//!        ──▶ loop (the only decider)                  engine/event_loop.rs   performs what core/coordinator decides
//!        ──▶ lane: a partition's own channel          engine/lane.rs         in the ready queue at most once
//!        ──▶ worker (a pool of threads)               engine/worker.rs       decodes, cuts a batch of borrowed views
//!        ──▶ sink: one transaction                    sink/                  rows and the partition's new position
//!        ──▶ outcome ──▶ loop                         core/coordinator       done | again later | pause | let go
//!        ──▶ the group's offsets in Kafka             kafka/committer        for everybody's lag tools
//! ```
//!
//! The loop handles batches, never single records; what is done per record (checksum, decompression, binding) is done by
//! workers, without an allocation per record.
//!
//! # Layers
//!
//! ```text
//! core ← port ← { engine | kafka, mongo, source, sink, broker, ops } ← consumer ← config ← cli
//! ```
//!
//! [`core`] is plain data and decisions: no I/O, no clock, no thread, no lock. [`port`] holds the traits. [`engine`] names no
//! adapter and adapters name no engine. [`kafka`] is a client of its own and knows neither; `mongo` is what speaks to
//! MongoDB. Time, threads and the
//! environment come in through [`door`]. `tests/tidy.rs` reads the `use` lines and fails on a wrong arrow.
//!
//! # What always holds, and where it is tested
//!
//! | | invariant | tests |
//! |---|---|---|
//! | 1 | no position, in the database or in Kafka, passes a record that is neither written nor dead-lettered | `tests/sim`, `tests/failure.rs`, `tests/recovery.rs` |
//! | 2 | rows of a partition (of a key, with sub-lanes) are written in offset order | `tests/sim`, `tests/live.rs` |
//! | 3 | after a partition is given back nothing is written for it | `tests/sim`, `core/coordinator/tests.rs`, `tests/sinks` (fencing) |
//! | 4 | exactly once: as many rows as records, whatever is killed, frozen or cut, whenever | `tests/sim`, `tests/recovery.rs`, `tests/chaos` |
//! | 5 | bytes held stay within the limit, beside what workers decode at the moment | `tests/sim`, `kafka/buffer.rs`, `tests/live.rs`, `tests/chaos` |
//! | 6 | read = written + dead-lettered + in flight + released, at every snapshot | `tests/sim`, `tests/http.rs` |
//! | 7 | a paused partition starts no write and holds no records; the others do not notice | `tests/sim`, `core/coordinator/tests.rs` |
//! | 8 | bytes from outside are hostile: no allocation from a claimed length, no panic | `tests/fuzz`, `kafka/`, `tests/broker` |
//!
//! # What can be left out
//!
//! Cargo features; by default there are `odbc`, `mongodb` and `kafka-crate`. SQLite and the native client are always there.
//!
//! | feature | what it brings |
//! |---|---|
//! | `odbc` | [`sink::odbc`], with unixODBC's driver manager built in |
//! | `odbc-system` | the same with the system's driver manager |
//! | `mongodb`, `mongodb-srv` | MongoDB as sink and source; addresses `mongodb+srv://` |
//! | `kafka-crate` | `--client kafka`: the `kafka` crate, for Kafka up to 3.9 |
//! | `confluent` | `--client confluent`: librdkafka, compiled in |
//! | `testkit` | fakes with a clock and chance of their own, for simulations |

pub mod broker;
pub mod cli;
pub mod config;
pub mod consumer;
pub mod core;
pub mod door;
pub mod engine;
pub mod kafka;
#[cfg(feature = "mongodb")]
pub mod mongo;
pub mod ops;
pub mod port;
pub mod sink;
pub mod source;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use crate::consumer::{Consumer, ConsumerBuilder, ConsumerConfig, ConsumerError, ReadyConsumer, RunningConsumer};
pub use crate::core::identity::RecordIds;
pub use crate::core::record::{Headers, MessageBatch, Record, TopicPartition};
pub use crate::core::statistics::Statistics;
pub use crate::engine::{Delivery, Handle, OffsetReset, Summary};
pub use crate::source::client::Client;
pub use crate::source::native::{Assignor, GroupProtocol, Isolation, TopicSelection};
