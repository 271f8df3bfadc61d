//! Data sets as files of JSON documents: [`generate`] makes them, [`inspect`] says what is in one, [`sample`] and [`split`]
//! make smaller ones of it, [`validate`] finds what is no document. None of them holds more than a few megabytes, however
//! large the file, and parsing is spread over rayon's threads ([`each_batch`]).

pub mod generate;
pub mod inspect;
pub mod output;
pub mod sample;
pub mod split;
pub mod validate;

use std::io;
use std::path::{Path, PathBuf};

use crate::source::files::documents::Documents;

/// What went wrong, and with which file.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("{}: {source}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", .path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl DataError {
    fn read(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Read { path: path.to_owned(), source }
    }

    fn write(path: &Path) -> impl Fn(io::Error) -> Self {
        |source| Self::Write { path: path.to_owned(), source }
    }
}

/// Documents that are looked at together: enough for every thread to have some, few enough to fit anywhere.
const BATCH_BYTES: usize = 4 << 20;

/// A part of a file: documents one behind the other.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each ends, and its number.
    ends: Vec<(usize, u64)>,
}

impl Batch {
    /// The documents with their numbers.
    pub fn documents(&self) -> Vec<(u64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        starts.zip(&self.ends).map(|(start, (end, number))| (*number, &self.bytes[start..*end])).collect()
    }
}

/// Hands over the documents of all files, batch by batch.
///
/// # Errors
/// When a file cannot be read, and what `take` fails with.
pub fn each_batch(
    files: &[PathBuf],
    mut take: impl FnMut(&Path, &Batch) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for path in files {
        let mut documents = Documents::open(path).map_err(DataError::read(path))?;
        loop {
            let mut batch = Batch::default();
            while batch.bytes.len() < BATCH_BYTES {
                match documents.next(&mut batch.bytes).map_err(DataError::read(path))? {
                    Some(number) => batch.ends.push((batch.bytes.len(), number)),
                    None => break,
                }
            }
            if batch.ends.is_empty() {
                break;
            }
            take(path, &batch)?;
        }
    }
    Ok(())
}
