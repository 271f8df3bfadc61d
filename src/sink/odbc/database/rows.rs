//! Records as rows that own their text, so that they can cross to a connection's thread. One buffer is used again and
//! again; it holds what is inserted by one statement, not the whole batch. A long value is not copied but shared with the
//! batch.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
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
    /// Of all texts together.
    pub bytes: usize,
    /// The longest key, value and headers.
    pub widths: [usize; 3],
}

/// Where a row's texts lie.
struct Place {
    id: Uuid,
    offset: i64,
    /// Key, value, headers.
    texts: [Option<Text>; 3],
    status: Status,
}

enum Text {
    /// A part of [`Rows::text`].
    Kept(Range<usize>),
    /// A part of the batch, which is text.
    Shared(Bytes),
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
            self.bytes += lengths.iter().sum::<usize>();
            let texts = texts.map(|text| {
                let text = text?;
                let shared = (text.len() > LONG_BYTES).then(|| batch.share(index, text.as_bytes())).flatten();
                Some(shared.map_or_else(|| self.keep(text), Text::Shared))
            });
            self.rows.push(Place { id: ids.at(record.offset), offset: record.offset, texts, status: row.status });
        }
        range.end
    }

    /// One row to try a table with.
    pub fn probe(id: Uuid) -> Self {
        let place = Place { id, offset: 0, texts: [None, Some(Text::Kept(0..0)), None], status: Status::Success };
        Self { rows: vec![place], ..Self::default() }
    }

    fn keep(&mut self, text: &str) -> Text {
        let start = self.text.len();
        self.text.push_str(text);
        Text::Kept(start..self.text.len())
    }

    fn text<'a>(&'a self, text: &'a Text) -> &'a str {
        match text {
            Text::Kept(range) => &self.text[range.clone()],
            // It was text when it was taken, and nobody changes it.
            Text::Shared(bytes) => std::str::from_utf8(bytes).unwrap_or_default(),
        }
    }

    /// Forgets the rows, and what memory one huge value took.
    pub fn clear(&mut self) {
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.rows.clear();
        self.bytes = 0;
        self.widths = [0; 3];
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
            texts: row.texts.each_ref().map(|text| text.as_ref().map(|text| self.text(text))),
            status: row.status.as_str(),
        })
    }

    /// The ids of the first and the last row; ids grow with the offset.
    pub fn ids(&self) -> Option<(Uuid, Uuid)> {
        Some((self.rows.first()?.id, self.rows.last()?.id))
    }

    /// Leaves out the rows with these ids.
    pub fn remove(&mut self, ids: &HashSet<Uuid>) {
        if !ids.is_empty() {
            self.rows.retain(|row| !ids.contains(&row.id));
        }
    }
}
