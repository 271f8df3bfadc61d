//! A sample of documents, each as likely as any other, in the order of the files. What is no document is not drawn.

use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use super::validate::{BadDocument, faults};
use super::{DataError, each_batch};
use crate::core::backoff::Chance;

/// Draws `count` documents; the same seed draws the same of the same files. What is none goes to `bad`, in its order.
///
/// Each document draws a number, and those with the smallest ones stay, so one pass is enough and only the sample is held.
///
/// # Errors
/// When a file cannot be read.
pub fn sample(
    files: &[PathBuf],
    count: usize,
    seed: u64,
    mut bad: impl FnMut(BadDocument),
) -> Result<Vec<Vec<u8>>, DataError> {
    let mut chance = Chance::seeded(seed);
    let mut drawn: BinaryHeap<(u64, u64, Vec<u8>)> = BinaryHeap::new();
    let mut place = 0;
    each_batch(files, |file: &Path, batch| {
        let documents = batch.documents();
        for ((_, document), fault) in documents.iter().zip(faults(file, &documents, None)) {
            if let Some(fault) = fault {
                bad(fault);
                continue;
            }
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
