//! Record batches, magic 2: the bytes inside Fetch answers and Produce requests.
//!
//! All other messages come from the `kafka-protocol` crate. Batches are our own because they are where the time goes, and
//! because a client must handle what that decoder does not: repeated and non-UTF-8 header names, LogAppendTime, a
//! cut-off last batch, compacted batches without records.
//!
//! [`batch`] reads headers and records as borrowed slices, [`record_batch`] turns a whole answer into records (it is
//! what the rest of the client uses), [`builder`] writes, [`compression`] knows the codecs.
//! Source: "Record Batch" in Kafka's implementation notes, KIP-98 (transactions), KIP-110 (zstd).

pub mod batch;
pub mod builder;
pub mod compression;
pub mod record_batch;
pub(super) mod varint;
