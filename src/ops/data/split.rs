//! A large data set as several smaller files.

use std::path::{Path, PathBuf};

use super::output::Output;
use super::{DataError, each_batch};

/// When a part is full: at whichever comes first.
#[derive(Clone, Copy, Debug)]
pub struct PartSize {
    pub documents: u64,
    /// Before compression; one larger document still gets a part of its own.
    pub bytes: u64,
}

/// Writes the documents of all files into parts, a line each, and answers these. `name` holds a `*`, which stands for the
/// part's number: `pages-*.jsonl.zst` becomes `pages-00001.jsonl.zst` and so on.
///
/// # Errors
/// When something cannot be read or written.
pub fn split(files: &[PathBuf], name: &str, size: PartSize) -> Result<Vec<PathBuf>, DataError> {
    let mut parts = Vec::new();
    let mut open: Option<(Output, u64, u64)> = None;
    each_batch(files, |_, batch| {
        for (_, document) in batch.documents() {
            let length = document.len() as u64 + 1;
            let fits = |(_, documents, bytes): &(Output, u64, u64)| {
                *documents < size.documents && bytes + length <= size.bytes
            };
            let (mut output, documents, bytes) = match open.take() {
                Some(part) if fits(&part) => part,
                full => {
                    full.map_or(Ok(()), |(output, ..)| output.finish())?;
                    let path = part_name(name, parts.len() + 1);
                    parts.push(path.clone());
                    (Output::create(&path)?, 0, 0)
                }
            };
            output.put(document)?;
            output.put(b"\n")?;
            open = Some((output, documents + 1, bytes + length));
        }
        Ok(())
    })?;
    open.map_or(Ok(()), |(output, ..)| output.finish())?;
    Ok(parts)
}

fn part_name(name: &str, number: usize) -> PathBuf {
    Path::new(&name.replacen('*', &format!("{number:05}"), 1)).to_owned()
}
