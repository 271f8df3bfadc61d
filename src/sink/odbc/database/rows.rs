//! Records as rows that own their text, so that they can cross to a connection's thread. One buffer is used again and
//! again; it holds what is inserted by one statement, not the whole batch.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use uuid::Uuid;

use crate::core::identity::RecordIds;
use crate::core::record::MessageBatch;
use crate::sink::row::{RowBuffer, Status};

/// The most bytes of bind buffers at once. They are as wide as the longest value in each column.
pub const PIECE_BYTES: usize = 4 << 20;
/// A longer value goes alone, by a statement of its own: it would make the buffers of all rows as wide.
pub const LONG_BYTES: usize = 64 << 10;
/// What a buffer may keep between batches.
const KEPT_BYTES: usize = 2 * PIECE_BYTES;

/// What all rows of a batch have in common.
#[derive(Clone, Debug)]
pub struct Head {
    pub topic: Arc<str>,
    pub partition: i32,
    pub consumer_group: Arc<str>,
    /// `processing_timestamp`, in milliseconds since the Unix epoch.
    pub unix_ms: i64,
}

/// See the module.
#[derive(Default)]
pub struct Rows {
    text: String,
    rows: Vec<Place>,
    /// The longest key, value and headers.
    pub widths: [usize; 3],
}

/// Where a row's texts lie.
struct Place {
    id: Uuid,
    offset: i64,
    /// Key, value, headers.
    texts: [Option<Range<usize>>; 3],
    status: Status,
}

/// A row, borrowed.
pub struct OwnedRow<'a> {
    pub id: Uuid,
    pub offset: i64,
    /// Key, value, headers.
    pub texts: [Option<&'a str>; 3],
    pub status: &'static str,
}

impl Rows {
    /// Takes the records of `batch` from `from` on, as many as go into one statement, at most `rows_max` and at least
    /// one. Returns the first that was not taken.
    pub fn fill(
        &mut self,
        batch: &MessageBatch<'_>,
        range: Range<usize>,
        ids: &RecordIds,
        rows_max: usize,
        buffer: &mut RowBuffer,
    ) -> usize {
        self.clear();
        for index in range.clone() {
            let record = batch.get(index);
            let row = buffer.row(&record);
            let texts = [row.key, Some(row.value), row.headers];
            let lengths = texts.map(|text| text.map_or(0, str::len));
            let widths: [usize; 3] = std::array::from_fn(|column| self.widths[column].max(lengths[column]));
            let count = index - range.start;
            let fits = count < rows_max
                && (count + 1) * widths.iter().sum::<usize>() <= PIECE_BYTES
                && widths.iter().all(|width| *width <= LONG_BYTES);
            if count > 0 && !fits {
                return index;
            }
            self.widths = widths;
            let texts = texts.map(|text| text.map(|text| self.keep(text)));
            self.rows.push(Place { id: ids.at(record.offset), offset: record.offset, texts, status: row.status });
        }
        range.end
    }

    /// One row to try a table with.
    pub fn probe(id: Uuid) -> Self {
        let place = Place { id, offset: 0, texts: [None, Some(0..0), None], status: Status::Success };
        Self { rows: vec![place], ..Self::default() }
    }

    fn keep(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// Forgets the rows, and what memory one huge value took.
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.rows.clear();
        self.widths = [0; 3];
    }

    /// Bytes of all texts together.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it is one row with a long value.
    pub fn is_long(&self) -> bool {
        self.widths.iter().any(|width| *width > LONG_BYTES)
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = OwnedRow<'_>> {
        self.rows.iter().map(|row| OwnedRow {
            id: row.id,
            offset: row.offset,
            texts: row.texts.each_ref().map(|range| range.as_ref().map(|range| &self.text[range.clone()])),
            status: row.status.as_str(),
        })
    }

    /// The ids of the first and the last row; ids grow with the offset.
    pub fn ids(&self) -> Option<(Uuid, Uuid)> {
        Some((self.rows.first()?.id, self.rows.last()?.id))
    }

    /// Leaves out the rows with these ids.
    pub fn remove(&mut self, ids: &HashSet<Uuid>) {
        self.rows.retain(|row| !ids.contains(&row.id));
    }
}
