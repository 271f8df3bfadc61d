//! Nowhere: counts what it is given and forgets it. For benchmarks of what comes before a sink.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::keeps_no_position;
use crate::port::{Claim, Claimed, Sink, SinkError, SinkTraits, Write, Writer, Written};

/// A sink that only counts. Clones count together.
#[derive(Clone, Default)]
pub struct NullSink {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl NullSink {
    /// Records taken so far.
    pub fn records(&self) -> u64 {
        self.counts.records.load(Ordering::Relaxed)
    }

    /// Bytes of their keys, values and headers.
    pub fn bytes(&self) -> u64 {
        self.counts.bytes.load(Ordering::Relaxed)
    }
}

impl Sink for NullSink {
    fn traits(&self) -> SinkTraits {
        SinkTraits { name: "null".to_owned(), writers_max: usize::MAX, batches_per_write: 1, transactional: false }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        Ok(Box::new(self.clone()))
    }
}

impl Writer for NullSink {
    fn claim(&mut self, _claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        Err(keeps_no_position("null"))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let count = |write: &Write<'_>| {
            let records = write.batch.len() as u64;
            self.counts.records.fetch_add(records, Ordering::Relaxed);
            self.counts.bytes.fetch_add(write.batch.bytes() as u64, Ordering::Relaxed);
            Ok(Written::all(records))
        };
        writes.iter().map(count).collect()
    }
}
