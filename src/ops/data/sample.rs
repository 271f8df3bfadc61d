//! A sample of documents, each as likely as any other, in the order of the files.

use std::collections::BinaryHeap;
use std::path::PathBuf;

use super::{DataError, each_batch};
use crate::core::backoff::Chance;

/// Draws `count` documents; the same seed draws the same of the same files.
///
/// Each document draws a number, and those with the smallest ones stay, so one pass is enough and only the sample is held.
///
/// # Errors
/// When a file cannot be read.
pub fn sample(files: &[PathBuf], count: usize, seed: u64) -> Result<Vec<Vec<u8>>, DataError> {
    let mut chance = Chance::seeded(seed);
    let mut drawn: BinaryHeap<(u64, u64, Vec<u8>)> = BinaryHeap::new();
    let mut place = 0;
    each_batch(files, |_, batch| {
        for (_, document) in batch.documents() {
            let number = chance.draw();
            place += 1;
            if drawn.len() < count {
                drawn.push((number, place, document.to_vec()));
            } else if let Some(mut largest) = drawn.peek_mut()
                && number < largest.0
            {
                *largest = (number, place, document.to_vec());
            }
        }
        Ok(())
    })?;
    let mut kept = drawn.into_vec();
    kept.sort_by_key(|(_, place, _)| *place);
    Ok(kept.into_iter().map(|(_, _, document)| document).collect())
}
