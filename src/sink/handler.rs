//! A closure of the library's user as a sink: what it answers `Ok` for is processed, at least once.

use std::error::Error;
use std::sync::Arc;

use super::keeps_no_position;
use crate::core::record::MessageBatch;
use crate::core::verdict::ErrorClass;
use crate::port::{Claim, Claimed, Sink, SinkError, SinkTraits, Write, Writer, Written};

/// What a handler answers. A [`SinkError`] keeps its class: a handler that writes to a database can say whether that is
/// away or the record is bad. Any other error counts as unclassified: it is retried a few times.
pub type Handled = Result<(), Box<dyn Error + Send + Sync>>;

type Handler = dyn Fn(&MessageBatch<'_>) -> Handled + Send + Sync;

/// Calls a closure with each batch, from several threads at once; per partition in order, one call at a time.
#[derive(Clone)]
pub struct HandlerSink {
    handler: Arc<Handler>,
}

impl HandlerSink {
    /// A sink that calls `handler`. It is not called with empty batches.
    ///
    /// ```
    /// use konekt::sink::handler::HandlerSink;
    /// let sink = HandlerSink::new(|batch| {
    ///     for record in batch.iter() {
    ///         let order = std::str::from_utf8(record.value.unwrap_or_default())?;
    ///         println!("{}@{}: {order}", batch.partition(), record.offset);
    ///     }
    ///     Ok(())
    /// });
    /// ```
    pub fn new(handler: impl Fn(&MessageBatch<'_>) -> Handled + Send + Sync + 'static) -> Self {
        Self { handler: Arc::new(handler) }
    }
}

impl Sink for HandlerSink {
    fn traits(&self) -> SinkTraits {
        SinkTraits { name: "handler".to_owned(), writers_max: usize::MAX, batches_per_write: 1, transactional: false }
    }

    fn writer(&self) -> Result<Box<dyn Writer>, SinkError> {
        Ok(Box::new(self.clone()))
    }
}

impl Writer for HandlerSink {
    fn claim(&mut self, _claims: &[Claim]) -> Result<Vec<Claimed>, SinkError> {
        Err(keeps_no_position("a handler"))
    }

    fn write(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        writes.iter().map(|write| self.handle(&write.batch)).collect()
    }
}

impl HandlerSink {
    fn handle(&self, batch: &MessageBatch<'_>) -> Result<Written, SinkError> {
        if !batch.is_empty() {
            (self.handler)(batch).map_err(|error| classified(batch, error))?;
        }
        Ok(Written::all(batch.len() as u64))
    }
}

fn classified(batch: &MessageBatch<'_>, error: Box<dyn Error + Send + Sync>) -> SinkError {
    match error.downcast::<SinkError>() {
        Ok(error) => *error,
        Err(error) => SinkError::new(ErrorClass::Unclassified, format!("the handler failed on {batch:?}: {error}")),
    }
}
