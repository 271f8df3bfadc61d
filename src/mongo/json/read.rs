//! JSON text into BSON: plain JSON, and extended JSON in every form that MongoDB's tools have written.
//!
//! `{"$date": …}` and its kind become what they stand for. An object with a `$` name that is none of these stays an
//! object. Whole numbers are the smallest of 32 and 64 bits that holds them, others are doubles.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp};
use serde_json::{Map, Value};

use crate::core::civil::unix_ms_of;

/// The BSON of a JSON value. `None` when BSON cannot hold it: a name with a NUL in it.
pub fn read(value: Value) -> Option<Bson> {
    Some(match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(value),
        Value::Number(number) => read_number(&number),
        Value::String(text) => Bson::String(text),
        Value::Array(values) => Bson::Array(values.into_iter().map(read).collect::<Option<_>>()?),
        Value::Object(members) => match special(&members) {
            Some(bson) => bson,
            None => Bson::Document(read_object(members)?),
        },
    })
}

/// The document of a JSON object, whatever its names are.
pub fn read_object(members: Map<String, Value>) -> Option<Document> {
    let mut document = Document::new();
    for (name, value) in members {
        if name.contains('\0') {
            return None;
        }
        document.insert(name, read(value)?);
    }
    Some(document)
}

fn read_number(number: &serde_json::Number) -> Bson {
    match number.as_i64() {
        Some(whole) => i32::try_from(whole).map_or(Bson::Int64(whole), Bson::Int32),
        None => Bson::Double(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// What an object of extended JSON stands for; `None`: it is an object like any other.
fn special(members: &Map<String, Value>) -> Option<Bson> {
    let (name, value) = members.iter().next().filter(|(name, _)| name.starts_with('$'))?;
    let second = members.iter().nth(1).map(|(name, value)| (name.as_str(), value));
    if members.len() > 2 {
        return None;
    }
    match (name.as_str(), second) {
        (_, None) => single(name, value),
        ("$binary", Some(("$type", subtype))) => binary(value.as_str()?, subtype),
        ("$regex", Some(("$options", options))) => regex(value, options),
        ("$code", Some(("$scope", Value::Object(scope)))) => {
            let (code, scope) = (value.as_str()?.to_owned(), read_object(scope.clone())?);
            Some(Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope }))
        }
        _ => None,
    }
}

fn single(name: &str, value: &Value) -> Option<Bson> {
    let text = || value.as_str();
    match name {
        "$oid" => ObjectId::parse_str(text()?).ok().map(Bson::ObjectId),
        "$date" => date(value),
        "$numberInt" => text()?.parse().ok().map(Bson::Int32),
        "$numberLong" => text()?.parse().ok().map(Bson::Int64),
        "$numberDouble" => double(text()?).map(Bson::Double),
        "$numberDecimal" => text()?.parse::<Decimal128>().ok().map(Bson::Decimal128),
        "$binary" => binary(value.get("base64")?.as_str()?, value.get("subType")?),
        "$uuid" => {
            let bytes = uuid::Uuid::parse_str(text()?).ok()?.as_bytes().to_vec();
            Some(Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes }))
        }
        "$timestamp" => {
            let part = |name: &str| value.get(name)?.as_u64().and_then(|part| u32::try_from(part).ok());
            Some(Bson::Timestamp(Timestamp { time: part("t")?, increment: part("i")? }))
        }
        "$regularExpression" => regex(value.get("pattern")?, value.get("options")?),
        "$code" => Some(Bson::JavaScriptCode(text()?.to_owned())),
        "$symbol" => Some(Bson::Symbol(text()?.to_owned())),
        "$undefined" => value.as_bool().filter(|yes| *yes).map(|_| Bson::Undefined),
        "$minKey" => value.as_i64().filter(|one| *one == 1).map(|_| Bson::MinKey),
        "$maxKey" => value.as_i64().filter(|one| *one == 1).map(|_| Bson::MaxKey),
        _ => None,
    }
}

/// Milliseconds as a number or within `$numberLong`, or ISO text in UTC.
fn date(value: &Value) -> Option<Bson> {
    let unix_ms = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => unix_ms_of(text),
        Value::Object(long) => long.get("$numberLong")?.as_str()?.parse().ok(),
        _ => None,
    };
    unix_ms.map(|unix_ms| Bson::DateTime(DateTime::from_millis(unix_ms)))
}

fn double(text: &str) -> Option<f64> {
    match text {
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

fn binary(base64: &str, subtype: &Value) -> Option<Bson> {
    let subtype = BinarySubtype::from(u8::from_str_radix(subtype.as_str()?, 16).ok()?);
    Some(Bson::Binary(Binary { subtype, bytes: BASE64.decode(base64).ok()? }))
}

fn regex(pattern: &Value, options: &Value) -> Option<Bson> {
    let text = |value: &Value| value.as_str()?.to_owned().try_into().ok();
    Some(Bson::RegularExpression(Regex { pattern: text(pattern)?, options: text(options)? }))
}
