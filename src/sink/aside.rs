//! What a SQL sink does with the bad records it found in a batch: a FAILED row each, or a letter each.

use crate::core::record::{MessageBatch, Record};
use crate::port::{Aside, Letter, SinkError};

/// Keeps each of `bad` (its index in the batch, and why it is bad) where `aside` says. `failed_row` writes one as a row
/// of `table` with the status FAILED and the error's message, in the open transaction, and says whether the table took
/// it; where it did not, the record becomes a letter. Call it last before the transaction's end: the letters'
/// acknowledgement is awaited.
///
/// # Errors
/// When a record found no place: its own error, or that of the letters.
pub fn put_aside<E: From<SinkError>>(
    aside: &Aside<'_>,
    batch: &MessageBatch<'_>,
    table: &str,
    bad: &[(usize, SinkError)],
    mut failed_row: impl FnMut(&Record<'_>, &SinkError) -> Result<bool, E>,
) -> Result<(), E> {
    let mut letters = Vec::new();
    for (index, error) in bad {
        let record = batch.get(*index);
        if !(aside.rows && failed_row(&record, error)?) {
            letters.push(Letter { partition: batch.partition(), record, error, attempts: aside.attempts, table });
        }
    }
    match (letters.first(), aside.letters) {
        (None, _) => {}
        (Some(_), Some(keeper)) => keeper.put(&letters)?,
        (Some(first), None) => return Err(first.error.clone().into()),
    }
    if let Some(told) = aside.told {
        bad.iter().for_each(|(index, error)| told.put_aside(batch.get(*index).offset, error));
    }
    Ok(())
}
