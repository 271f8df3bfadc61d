//! Values as a driver takes them: single ones, PostgreSQL's array literals, and columns of bind buffers.
//!
//! Buffers are as wide as the longest value of the rows at hand, never as the column. SQL Server gets UTF-16
//! (`SQL_C_WCHAR`), declared NVARCHAR(255) for names and as [`Plan::wide`](super::plan::Plan) says for the rest. Ids and
//! the status are ASCII and bound narrow, so that an index on a VARCHAR column is used. All other databases get UTF-8.

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use odbc_api::buffers::{BoxColumnBuffer, BufferDesc};
use odbc_api::handles::AsStatementRef;
use odbc_api::parameter::{InputParameter, VarCharBox, VarCharSlice, VarWCharBox, WithDataType};
use odbc_api::sys::Timestamp;
use odbc_api::{BindParamDesc, ColumnarBulkInserter, DataType};
use uuid::Uuid;

use super::rows::{Head, OwnedRow, PIECE_BYTES, Rows};
use crate::core::civil::utc;
use crate::sink::row::Status;

/// A parameter of a statement.
#[derive(Clone, Debug)]
pub enum Value {
    Int(i32),
    Long(i64),
    /// A name, of at most 255 characters.
    Text(Option<String>),
    /// Text of any length, in the way of [`Plan::wide`](super::plan::Plan).
    LongText(Option<String>, Option<DataType>),
    /// Text of ASCII alone, compared with a VARCHAR column.
    Ascii(String),
    /// Milliseconds since the Unix epoch.
    Time(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(Some(text.to_owned()))
    }
}

/// Bound parameters that own or borrow their values.
pub type Bound<'a> = Vec<Box<dyn InputParameter + 'a>>;

/// The values, bound.
pub fn bound(values: Vec<Value>, wide: bool) -> Bound<'static> {
    let bind = |value| -> Box<dyn InputParameter> {
        match value {
            Value::Int(number) => Box::new(number),
            Value::Long(number) => Box::new(number),
            Value::Time(unix_ms) => Box::new(moment(unix_ms)),
            Value::Ascii(text) => Box::new(WithDataType::new(VarCharBox::from_string(text), varchar(NAME_CHARS))),
            Value::LongText(text, Some(declared)) => Box::new(wide_text(text.as_deref(), declared)),
            Value::LongText(text, None) => Box::new(text.map_or_else(VarCharBox::null, VarCharBox::from_string)),
            Value::Text(text) if wide => Box::new(wide_text(text.as_deref(), WIDE_NAME)),
            Value::Text(text) => Box::new(match text {
                Some(text) => WithDataType::new(VarCharBox::from_string(text), varchar(NAME_CHARS)),
                None => WithDataType::new(VarCharBox::null(), varchar(NAME_CHARS)),
            }),
        }
    };
    values.into_iter().map(bind).collect()
}

/// One row, whose texts are not copied; its value in these parts.
pub fn bound_row<'a>(head: &'a Head, row: &OwnedRow<'a>, value: &[&'a str], wide: Option<DataType>) -> Bound<'a> {
    let text = |text: Option<&'a str>| -> Box<dyn InputParameter + 'a> {
        match (wide, text) {
            (Some(long), text) => Box::new(wide_text(text, long)),
            (None, Some(text)) => Box::new(VarCharSlice::new(text.as_bytes())),
            (None, None) => Box::new(VarCharSlice::NULL),
        }
    };
    let ascii = |text: String, chars| WithDataType::new(VarCharBox::from_string(text), varchar(chars));
    let [key, _, headers] = row.texts;
    let mut bound = vec![
        text(Some(&head.topic)),
        Box::new(head.partition),
        text(Some(&head.consumer_group)),
        Box::new(moment(head.unix_ms)),
        Box::new(ascii(row.id.to_string(), ID_CHARS)),
        Box::new(row.offset),
        text(key),
    ];
    bound.extend(value.iter().map(|part| text(Some(part))));
    bound.extend([text(headers), Box::new(ascii(row.status.to_owned(), STATUS_CHARS)) as _]);
    bound
}

const ID_CHARS: usize = 36;
const NAME_CHARS: usize = 255;
const WIDE_NAME: DataType = DataType::WVarchar { length: NonZeroUsize::new(NAME_CHARS) };
const STATUS_CHARS: usize = 50;

fn varchar(chars: usize) -> DataType {
    DataType::Varchar { length: NonZeroUsize::new(chars) }
}

fn wide_text(text: Option<&str>, declared: DataType) -> WithDataType<VarWCharBox> {
    WithDataType::new(text.map_or_else(VarWCharBox::null, VarWCharBox::from_str_slice), declared)
}

fn timestamp(unix_ms: i64) -> Timestamp {
    let utc = utc(unix_ms);
    Timestamp {
        year: utc.year,
        month: utc.month,
        day: utc.day,
        hour: utc.hour,
        minute: utc.minute,
        second: utc.second,
        fraction: utc.millisecond * 1_000_000,
    }
}

fn moment(unix_ms: i64) -> WithDataType<Timestamp> {
    WithDataType::new(timestamp(unix_ms), DataType::Timestamp { precision: 3 })
}

// ---- PostgreSQL's arrays

/// The parameters of [`Plan::unnest`](super::plan::Plan::unnest): what all rows share, then an array per column. A column
/// without any value is NULL instead of an array: `unnest` fills it up. So is the status of a batch that is plain, which
/// the statement takes for `SUCCESS`. Last come the first and the last id.
pub fn bound_arrays<'a>(head: &'a Head, rows: &Rows) -> Bound<'a> {
    let mut arrays: [Array; 6] = std::array::from_fn(|_| Array::default());
    let (mut id, mut offset) = (Uuid::encode_buffer(), String::new());
    for row in rows.iter() {
        arrays[0].push(Some(row.id.hyphenated().encode_lower(&mut id)));
        offset.clear();
        // A String takes whatever is written to it.
        let _ = write!(offset, "{}", row.offset);
        arrays[1].push(Some(&offset));
        for (array, text) in arrays[2..5].iter_mut().zip(row.texts) {
            array.push(text);
        }
        arrays[5].push(Some(row.status).filter(|status| *status != Status::Success.as_str()));
    }
    let mut bound: Bound<'a> = vec![
        Box::new(VarCharSlice::new(head.topic.as_bytes())),
        Box::new(head.partition),
        Box::new(VarCharSlice::new(head.consumer_group.as_bytes())),
        Box::new(moment(head.unix_ms)),
    ];
    for array in arrays {
        bound.push(Box::new(match array.finish() {
            Some(literal) => VarCharBox::from_string(literal),
            None => VarCharBox::null(),
        }));
    }
    for id in rows.ids().into_iter().flat_map(|(first, last)| [first, last]) {
        bound.push(Box::new(WithDataType::new(VarCharBox::from_string(id.to_string()), varchar(ID_CHARS))));
    }
    bound
}

/// An array literal as PostgreSQL's manual gives it (§8.15.2): elements in double quotes, in which `"` and `\` have a `\`
/// before them.
#[derive(Default)]
struct Array {
    literal: String,
    has_values: bool,
}

impl Array {
    fn push(&mut self, element: Option<&str>) {
        self.literal.push(if self.literal.is_empty() { '{' } else { ',' });
        let Some(element) = element else { return self.literal.push_str("NULL") };
        self.has_values = true;
        self.literal.push('"');
        let mut rest = element;
        while let Some(at) = rest.find(['"', '\\']) {
            self.literal.push_str(&rest[..at]);
            self.literal.push('\\');
            self.literal.push_str(&rest[at..=at]);
            rest = &rest[at + 1..];
        }
        self.literal.push_str(rest);
        self.literal.push('"');
    }

    fn finish(mut self) -> Option<String> {
        self.literal.push('}');
        self.has_values.then_some(self.literal)
    }
}

// ---- columns of bind buffers

/// Bound buffers, as [`Shape::descriptions`] describe them.
pub type Inserter<S> = ColumnarBulkInserter<S, WithDataType<BoxColumnBuffer>>;

/// What buffers hold: so many rows, and texts so long, in bytes of UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    rows: usize,
    /// Topic, consumer group, key, value, headers.
    widths: [usize; 5],
}

impl Shape {
    /// What rows need, `at_once` of them at the same time.
    pub fn of(head: &Head, rows: &Rows, at_once: usize) -> Self {
        let [key, value, headers] = rows.widths;
        let widths = [head.topic.len(), head.consumer_group.len(), key, value, headers];
        Self { rows: at_once, widths: widths.map(|width| width.next_multiple_of(64).max(64)) }
    }

    /// How many rows it holds.
    pub fn rows(self) -> usize {
        self.rows
    }

    /// Whether what fits `other` fits this.
    pub fn holds(self, other: Self) -> bool {
        self.rows >= other.rows && self.widths.iter().zip(other.widths).all(|(own, other)| *own >= other)
    }

    /// The smallest that holds both, if that is no waste.
    pub fn with(self, other: Self) -> Self {
        let widths = std::array::from_fn(|column| self.widths[column].max(other.widths[column]));
        let both = Self { rows: self.rows.max(other.rows), widths };
        if both.rows * both.widths.iter().sum::<usize>() <= PIECE_BYTES { both } else { other }
    }

    /// A buffer per parameter of [`Plan::insert`](super::plan::Plan::insert).
    pub fn descriptions(self, wide: Option<DataType>) -> [BindParamDesc; 10] {
        let narrow = |bytes: usize, declared: usize| BindParamDesc {
            buffer_desc: BufferDesc::Text { max_str_len: bytes },
            data_type: varchar(declared),
        };
        // A text has at most as many units in UTF-16 as bytes in UTF-8.
        let text = |bytes: usize, declared: Option<DataType>| match declared {
            Some(data_type) => BindParamDesc { buffer_desc: BufferDesc::WText { max_str_len: bytes }, data_type },
            None => narrow(bytes, bytes),
        };
        let name = wide.map(|_| WIDE_NAME);
        let [topic, consumer_group, key, value, headers] = self.widths;
        [
            text(topic, name),
            BindParamDesc::i32(false),
            text(consumer_group, name),
            BindParamDesc::timestamp(false, 3),
            narrow(ID_CHARS, ID_CHARS),
            BindParamDesc::i64(false),
            text(key, wide),
            text(value, wide),
            text(headers, wide),
            narrow(STATUS_CHARS, STATUS_CHARS),
        ]
    }
}

/// Writes a row into the buffers' place `at`.
pub fn put_row<S: AsStatementRef>(
    inserter: &mut Inserter<S>,
    at: usize,
    head: &Head,
    row: &OwnedRow<'_>,
    wide: Option<&mut Vec<u16>>,
) {
    let mut id = Uuid::encode_buffer();
    let [key, value, headers] = row.texts;
    let texts = [(0, Some(&*head.topic)), (2, Some(&*head.consumer_group)), (6, key), (7, value), (8, headers)];
    match wide {
        Some(units) => texts.iter().for_each(|(column, text)| put_wide(inserter, *column, at, *text, units)),
        None => texts.iter().for_each(|(column, text)| put_narrow(inserter, *column, at, *text)),
    }
    put_narrow(inserter, 4, at, Some(row.id.hyphenated().encode_lower(&mut id)));
    put_narrow(inserter, 9, at, Some(row.status));
    put_fixed(inserter, 1, at, head.partition);
    put_fixed(inserter, 3, at, timestamp(head.unix_ms));
    put_fixed(inserter, 5, at, row.offset);
}

const DESCRIBED: &str = "the column has the type that its description gave it";

fn put_narrow<S: AsStatementRef>(inserter: &mut Inserter<S>, column: usize, at: usize, text: Option<&str>) {
    inserter.column_mut(column).as_text().expect(DESCRIBED).set_cell(at, text.map(str::as_bytes));
}

fn put_wide<S: AsStatementRef>(
    inserter: &mut Inserter<S>,
    column: usize,
    at: usize,
    text: Option<&str>,
    units: &mut Vec<u16>,
) {
    units.clear();
    units.extend(text.unwrap_or_default().encode_utf16());
    inserter.column_mut(column).as_wide_text().expect(DESCRIBED).set_cell(at, text.map(|_| units.as_slice()));
}

fn put_fixed<S: AsStatementRef, T: odbc_api::Pod + Copy>(
    inserter: &mut Inserter<S>,
    column: usize,
    at: usize,
    value: T,
) {
    inserter.column_mut(column).as_slice::<T>().expect(DESCRIBED)[at] = value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::odbc::database::rows::LONG_BYTES;

    #[test]
    fn buffers_grow_to_hold_what_comes_and_are_made_anew_rather_than_wasted() {
        let shape = |rows, value| Shape { rows, widths: [64, 64, 64, value, 64] };
        let small = shape(100, 128);
        assert!(small.holds(shape(100, 64)) && small.holds(small));
        assert!(!small.holds(shape(101, 64)) && !small.holds(shape(1, 192)));
        assert_eq!(small.with(shape(10, 256)), shape(100, 256));
        let wide = shape(10, LONG_BYTES);
        assert_eq!(shape(2000, 128).with(wide), wide);
    }

    #[test]
    fn an_array_literal_keeps_every_character() {
        for (elements, expected) in [
            (vec![Some("a"), None, Some("")], Some(r#"{"a",NULL,""}"#)),
            (vec![Some(r#"q"b\c,{}"#), Some("NULL"), Some("ä😀\n")], Some("{\"q\\\"b\\\\c,{}\",\"NULL\",\"ä😀\n\"}")),
            (vec![None, None], None),
        ] {
            let mut array = Array::default();
            elements.iter().for_each(|element| array.push(*element));
            assert_eq!(array.finish().as_deref(), expected);
        }
    }
}
