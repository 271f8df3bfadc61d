//! Reading dead letters from where they are, one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::Entry;
use crate::ops::read_topic::read_topic;
use crate::sink::json;
use crate::sink::row::FailedRows;
use crate::source::native::NativeOptions;

/// What is done with each letter.
pub type Take<'a> = dyn FnMut(Entry) -> Result<(), String> + 'a;

/// Where dead letters are.
pub enum Place<'a> {
    /// A JSON-lines file.
    File(&'a Path),
    /// A topic, and how its cluster is reached.
    Topic { options: Box<NativeOptions>, topic: String, partitions: i32 },
    /// The FAILED rows of a table.
    Table(&'a mut dyn FailedRows),
}

impl Place<'_> {
    /// Hands over every letter that is there now.
    ///
    /// # Errors
    /// When the place cannot be read, or `take` fails.
    pub fn read(self, take: &mut Take<'_>) -> Result<(), String> {
        match self {
            Place::File(path) => read_file(path, take),
            Place::Topic { options, topic, partitions } => {
                read_topic(*options, &topic, partitions, &mut |letter| take(Entry::of_letter(letter)))
            }
            Place::Table(rows) => {
                for id in rows.ids().map_err(|error| error.to_string())? {
                    if let Some(row) = rows.row(&id).map_err(|error| error.to_string())? {
                        take(Entry::of_row(row))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// A line that is no letter, such as one that a crash tore, is passed over and said.
fn read_file(path: &Path, take: &mut Take<'_>) -> Result<(), String> {
    let cannot = |error| format!("cannot read {}: {error}", path.display());
    let mut file = BufReader::new(File::open(path).map_err(cannot)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if file.read_until(b'\n', &mut line).map_err(cannot)? == 0 {
            return Ok(());
        }
        match json::read_record(&line).and_then(json::ReadRecord::in_place) {
            Ok(letter) => take(Entry::of_letter(letter))?,
            Err(error) => log::warn!("{} line {number} is no dead letter: {error}", path.display()),
        }
    }
    Ok(())
}
