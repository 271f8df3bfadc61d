//! Types and values of parameters and columns (MS-TDS 2.2.5.4 to 2.2.5.6).

use std::borrow::Cow;
use std::fmt;
use std::io;

use bytes::{Buf, BufMut};

use super::calendar;
use super::packet::{malformed, put_units, take, take_units, units};

/// Latin1_General_CI_AS: what a server has whose installer changed nothing.
pub const COLLATION: [u8; 5] = [0x09, 0x04, 0xd0, 0x00, 0x34];
/// The length that stands for NULL in two-byte lengths, and for `max` in type infos.
const MAX: u16 = 0xffff;
/// The length that stands for NULL of a `max` type.
const NULL_OF_MAX: u64 = u64::MAX;
/// The length of a `max` value that is not known beforehand.
const UNKNOWN_OF_MAX: u64 = u64::MAX - 1;

/// A type as it is declared, which `Display` spells as SQL does: `nvarchar(36)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// `nvarchar`, `bigint`, …
    pub name: &'static str,
    /// Characters, bytes or digits of a second, where the type has a size.
    pub size: Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    None,
    Of(u16),
    Max,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.size {
            Size::None => f.write_str(self.name),
            Size::Of(size) => write!(f, "{}({size})", self.name),
            Size::Max => write!(f, "{}(max)", self.name),
        }
    }
}

/// A value as it came or goes. Text stays what the wire carries, so that a test can see every unit of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Int(i64),
    Float(f64),
    /// Of `nvarchar`, or of `varchar` widened from Latin-1.
    Text(Vec<u16>),
    /// A date, a time or both, as SQL Server writes them.
    Moment(String),
    Bytes(Vec<u8>),
}

impl Value {
    pub fn text(text: &str) -> Self {
        Value::Text(text.encode_utf16().collect())
    }

    /// Text, or the empty string for anything else.
    pub fn as_text(&self) -> String {
        match self {
            Value::Text(units) => String::from_utf16_lossy(units),
            Value::Moment(text) => text.clone(),
            _ => String::new(),
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }
}

fn plain(name: &'static str) -> Type {
    Type { name, size: Size::None }
}

fn sized(name: &'static str, size: u16) -> Type {
    Type { name, size: Size::Of(size) }
}

/// TYPE_INFO and the value after it.
pub fn take_typed(body: &mut &[u8]) -> io::Result<(Type, Value)> {
    match body.try_get_u8()? {
        token @ (0x26 | 0x68 | 0x6d | 0x6f | 0x24) => take_nullable(body, token),
        0x28 => Ok((plain("date"), take_moment(body, calendar::date)?)),
        token @ (0x29..=0x2b) => {
            let scale = body.try_get_u8()?;
            let (name, spell): (_, fn(&[u8], u8) -> String) = match token {
                0x29 => ("time", calendar::time),
                0x2a => ("datetime2", calendar::datetime2),
                _ => ("datetimeoffset", calendar::datetimeoffset),
            };
            Ok((sized(name, scale.into()), take_moment(body, |bytes| spell(bytes, scale))?))
        }
        0x6a | 0x6c => take_numeric(body),
        token @ (0xe7 | 0xef | 0xa7 | 0xaf | 0xa5 | 0xad) => take_string(body, token),
        token @ (0x63 | 0x23 | 0x22) => take_long(body, token),
        token => Err(malformed(format!("a parameter of type {token:#x}"))),
    }
}

/// Types whose length says whether there is a value and how wide it is.
fn take_nullable(body: &mut &[u8], token: u8) -> io::Result<(Type, Value)> {
    let width = body.try_get_u8()?;
    let size = body.try_get_u8()?;
    let bytes = take(body, size.into())?;
    let integer = || bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let signed = |width: usize| (integer() << (64 - 8 * width)).cast_signed() >> (64 - 8 * width);
    let (name, value) = match (token, width) {
        (0x26, 1) => ("tinyint", integer().cast_signed()),
        (0x26, 2) => ("smallint", signed(bytes.len().max(1))),
        (0x26, 4) => ("int", signed(bytes.len().max(1))),
        (0x26, _) => ("bigint", signed(bytes.len().max(1))),
        (0x68, _) => ("bit", integer().cast_signed()),
        (0x6d, 4) => return Ok((plain("real"), float(bytes))),
        (0x6d, _) => return Ok((plain("float"), float(bytes))),
        (0x6f, _) => return Ok((plain("datetime"), moment_or_null(bytes, calendar::datetime))),
        _ => return Ok((plain("uniqueidentifier"), bytes_or_null(bytes))),
    };
    Ok((plain(name), if bytes.is_empty() { Value::Null } else { Value::Int(value) }))
}

fn float(bytes: &[u8]) -> Value {
    match bytes.len() {
        4 => Value::Float((&mut &*bytes).get_f32_le().into()),
        8 => Value::Float((&mut &*bytes).get_f64_le()),
        _ => Value::Null,
    }
}

fn bytes_or_null(bytes: &[u8]) -> Value {
    if bytes.is_empty() { Value::Null } else { Value::Bytes(bytes.to_vec()) }
}

fn moment_or_null(bytes: &[u8], spell: impl Fn(&[u8]) -> String) -> Value {
    if bytes.is_empty() { Value::Null } else { Value::Moment(spell(bytes)) }
}

fn take_moment(body: &mut &[u8], spell: impl Fn(&[u8]) -> String) -> io::Result<Value> {
    let size = body.try_get_u8()?;
    Ok(moment_or_null(take(body, size.into())?, spell))
}

/// Whole numbers only: nothing here sends fractions as decimals.
fn take_numeric(body: &mut &[u8]) -> io::Result<(Type, Value)> {
    let (_width, precision, scale) = (body.try_get_u8()?, body.try_get_u8()?, body.try_get_u8()?);
    let size = body.try_get_u8()?;
    let Some((sign, magnitude)) = take(body, size.into())?.split_first() else {
        return Ok((sized("numeric", precision.into()), Value::Null));
    };
    let magnitude = magnitude.iter().rev().fold(0i128, |number, byte| number << 8 | i128::from(*byte));
    let number = if *sign == 0 { -magnitude } else { magnitude };
    let value = match scale {
        0 => i64::try_from(number).map_or(Value::Float(number as f64), Value::Int),
        _ => Value::Float(number as f64 / 10f64.powi(scale.into())),
    };
    Ok((sized("numeric", precision.into()), value))
}

fn take_string(body: &mut &[u8], token: u8) -> io::Result<(Type, Value)> {
    let size = body.try_get_u16_le()?;
    let (name, wide, binary) = match token {
        0xe7 => ("nvarchar", true, false),
        0xef => ("nchar", true, false),
        0xa7 => ("varchar", false, false),
        0xaf => ("char", false, false),
        0xa5 => ("varbinary", false, true),
        _ => ("binary", false, true),
    };
    if !binary {
        take(body, COLLATION.len())?;
    }
    let value = |bytes: &[u8]| string_value(bytes, wide, binary);
    if size == MAX {
        let bytes = take_chunks(body)?;
        return Ok((Type { name, size: Size::Max }, bytes.map_or(Value::Null, |bytes| value(&bytes))));
    }
    let length = body.try_get_u16_le()?;
    let kind = sized(name, if wide { size / 2 } else { size });
    Ok((kind, if length == MAX { Value::Null } else { value(take(body, length.into())?) }))
}

fn string_value(bytes: &[u8], wide: bool, binary: bool) -> Value {
    match (wide, binary) {
        (_, true) => Value::Bytes(bytes.to_vec()),
        (true, _) => Value::Text(units(bytes)),
        (false, _) => Value::Text(bytes.iter().map(|byte| u16::from(*byte)).collect()),
    }
}

/// A `max` value: chunks, each with its length, up to an empty one.
fn take_chunks(body: &mut &[u8]) -> io::Result<Option<Vec<u8>>> {
    if body.try_get_u64_le()? == NULL_OF_MAX {
        return Ok(None);
    }
    let mut whole = Vec::new();
    loop {
        match body.try_get_u32_le()? as usize {
            0 => return Ok(Some(whole)),
            size => whole.extend_from_slice(take(body, size)?),
        }
    }
}

/// The long types of SQL Server 7, which drivers still use for texts of the session's own making.
fn take_long(body: &mut &[u8], token: u8) -> io::Result<(Type, Value)> {
    body.try_get_u32_le()?;
    if token != 0x22 {
        take(body, COLLATION.len())?;
    }
    let length = body.try_get_i32_le()?;
    let name = match token {
        0x63 => "ntext",
        0x23 => "text",
        _ => "image",
    };
    let Ok(length) = usize::try_from(length) else { return Ok((plain(name), Value::Null)) };
    let value = match token {
        0x63 => Value::Text(take_units(body, length / 2)?),
        token => string_value(take(body, length)?, false, token == 0x22),
    };
    Ok((plain(name), value))
}

// ---- what goes back

/// TYPE_INFO of a column.
pub fn put_type(into: &mut Vec<u8>, kind: &Type) {
    match (kind.name, kind.size) {
        ("int", _) => into.put_slice(&[0x26, 4]),
        ("bigint", _) => into.put_slice(&[0x26, 8]),
        ("bit", _) => into.put_slice(&[0x68, 1]),
        ("float", _) => into.put_slice(&[0x6d, 8]),
        ("datetime2", Size::Of(scale)) => into.put_slice(&[0x2a, scale as u8]),
        (name, size) => {
            let (token, unit) = match name {
                "varbinary" => (0xa5, 1),
                "varchar" => (0xa7, 1),
                _ => (0xe7, 2),
            };
            into.put_u8(token);
            into.put_u16_le(if let Size::Of(size) = size { size * unit } else { MAX });
            if name != "varbinary" {
                into.put_slice(&COLLATION);
            }
        }
    }
}

/// A value of a column of this type; one of another type goes as its text.
pub fn put_value(into: &mut Vec<u8>, kind: &Type, value: &Value) {
    match (kind.name, kind.size, value) {
        ("int" | "bigint" | "bit" | "float" | "datetime2", _, Value::Null) => into.put_u8(0),
        ("int", _, value) => put_sized(into, &(integer(value) as i32).to_le_bytes()),
        ("bigint", _, value) => put_sized(into, &integer(value).to_le_bytes()),
        ("bit", _, value) => put_sized(into, &[u8::from(integer(value) != 0)]),
        ("float", _, Value::Float(number)) => put_sized(into, &number.to_le_bytes()),
        ("float", _, value) => put_sized(into, &(integer(value) as f64).to_le_bytes()),
        ("datetime2", Size::Of(scale), value) => {
            put_sized(into, &calendar::datetime2_bytes(&value.as_text(), scale as u8))
        }
        (_, Size::Max, Value::Null) => into.put_u64_le(NULL_OF_MAX),
        (_, _, Value::Null) => into.put_u16_le(MAX),
        (name, size, value) => {
            let bytes = string_bytes(value, name == "varchar");
            if size != Size::Max {
                into.put_u16_le(bytes.len() as u16);
                into.put_slice(&bytes);
                return;
            }
            into.put_u64_le(UNKNOWN_OF_MAX);
            if !bytes.is_empty() {
                into.put_u32_le(bytes.len() as u32);
                into.put_slice(&bytes);
            }
            into.put_u32_le(0);
        }
    }
}

fn put_sized(into: &mut Vec<u8>, bytes: &[u8]) {
    into.put_u8(bytes.len() as u8);
    into.put_slice(bytes);
}

fn integer(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Float(number) => *number as i64,
        other => other.as_text().trim().parse().unwrap_or_default(),
    }
}

fn string_bytes(value: &Value, narrow: bool) -> Vec<u8> {
    let units: Cow<'_, [u16]> = match value {
        Value::Bytes(bytes) => return bytes.clone(),
        Value::Text(units) => units.into(),
        Value::Int(number) => number.to_string().encode_utf16().collect(),
        Value::Float(number) => number.to_string().encode_utf16().collect(),
        other => other.as_text().encode_utf16().collect(),
    };
    if narrow {
        return units.iter().map(|unit| u8::try_from(*unit).unwrap_or(b'?')).collect();
    }
    let mut bytes = Vec::with_capacity(units.len() * 2);
    put_units(&mut bytes, &units);
    bytes
}
