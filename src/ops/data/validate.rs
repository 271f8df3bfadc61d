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
        for ((number, _), reason) in documents.iter().zip(reasons(&documents, key)) {
            if let Some(reason) = reason {
                bad(BadDocument { file: file.to_owned(), number: *number, reason });
            }
        }
        Ok(())
    })?;
    Ok(count)
}

/// Of each document why it is none, or `None`: the parsing is spread over the threads.
pub(super) fn reasons(documents: &[(u64, &[u8])], key: Option<&str>) -> Vec<Option<String>> {
    documents.par_iter().map(|(_, document)| key_of(document, key).err()).collect()
}
