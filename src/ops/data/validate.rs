//! Whether every document is one: valid UTF-8, valid JSON, an object, with a key where one is asked for.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{DataError, each_batch};
use crate::source::files::documents::key_of;

/// A document that is none.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BadDocument {
    pub file: PathBuf,
    /// The line, or the place in the array.
    pub number: u64,
    pub reason: String,
}

/// Looks at every document, hands over the bad ones in their order and counts all.
///
/// # Errors
/// When a file cannot be read.
pub fn validate(files: &[PathBuf], key: Option<&str>, mut bad: impl FnMut(BadDocument)) -> Result<u64, DataError> {
    let mut count = 0;
    each_batch(files, |file: &Path, batch| {
        let documents = batch.documents();
        count += documents.len() as u64;
        faults(file, &documents, key).into_iter().flatten().for_each(&mut bad);
        Ok(())
    })?;
    Ok(count)
}

/// Of each document whether it is none: the parsing is spread over the threads.
pub(super) fn faults(file: &Path, documents: &[(u64, &[u8])], key: Option<&str>) -> Vec<Option<BadDocument>> {
    let fault = |(number, document): &(u64, &[u8])| {
        let reason = key_of(document, key).err()?;
        Some(BadDocument { file: file.to_owned(), number: *number, reason })
    };
    documents.par_iter().map(fault).collect()
}
