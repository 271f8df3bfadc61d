//! BSON as the JSON text that MongoDB's own tools write, and back: [`Formatter`] writes it as MongoDB's connector for Kafka
//! Connect does, byte for byte, [`read`](read::read) takes any of its forms.
//!
//! Bytes matter where the text is a Kafka key, since keys decide the partition and what compaction keeps. So there is a
//! blank after each `:` and `,`, numbers are spelled as Java's `Double.toString` does, and characters are escaped that
//! Java's driver escapes. Sources: `org.bson.json.StrictCharacterStreamJsonWriter` and the MongoDB Extended JSON
//! specification; recorded answers of the connector are in `tests/fixtures/mongo`.

mod number;
pub mod read;

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mongodb::bson::raw::{RawArray, RawBsonRef, RawDocument};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Bson, Document, RawDocumentBuf};
use regex::Regex;

use self::number::java_double;
use super::error::Malformed;
use crate::core::civil::iso_instant;

/// How values are written that JSON has no spelling for, under the connector's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Formatter {
    /// The older extended JSON: `{"$date": 1700000000123}`, `{"$numberLong": "1"}`; 32-bit integers and doubles plain.
    #[default]
    DefaultJson,
    /// Canonical extended JSON: every type is kept.
    ExtendedJson,
    /// For people and for databases: dates as ISO text, ids as text, all integers plain.
    SimplifiedJson,
}

impl Formatter {
    /// All of them.
    pub const ALL: [Formatter; 3] = [Formatter::DefaultJson, Formatter::ExtendedJson, Formatter::SimplifiedJson];

    /// The last word of the connector's class name.
    pub const fn name(self) -> &'static str {
        match self {
            Formatter::DefaultJson => "DefaultJson",
            Formatter::ExtendedJson => "ExtendedJson",
            Formatter::SimplifiedJson => "SimplifiedJson",
        }
    }

    /// A document's text.
    ///
    /// # Errors
    /// When the bytes are no BSON.
    pub fn document(self, document: &RawDocument) -> Result<String, Malformed> {
        let mut writer = Writer { formatter: self, text: String::with_capacity(document.as_bytes().len() * 2) };
        writer.document(document)?;
        Ok(writer.text)
    }

    /// The text of a document in memory.
    ///
    /// # Errors
    /// When it cannot be encoded: a name holds a NUL.
    pub fn owned(self, document: &Document) -> Result<String, Malformed> {
        self.document(&RawDocumentBuf::try_from(document)?)
    }
}

/// Appends to a text.
struct Writer {
    formatter: Formatter,
    text: String,
}

impl Writer {
    fn document(&mut self, document: &RawDocument) -> Result<(), Malformed> {
        self.text.push('{');
        for (index, element) in document.iter().enumerate() {
            let (name, value) = element?;
            if index > 0 {
                self.text.push_str(", ");
            }
            self.string(name.as_str());
            self.text.push_str(": ");
            self.value(value)?;
        }
        self.text.push('}');
        Ok(())
    }

    fn array(&mut self, array: &RawArray) -> Result<(), Malformed> {
        self.text.push('[');
        for (index, value) in array.into_iter().enumerate() {
            if index > 0 {
                self.text.push_str(", ");
            }
            self.value(value?)?;
        }
        self.text.push(']');
        Ok(())
    }

    fn value(&mut self, value: RawBsonRef<'_>) -> Result<(), Malformed> {
        match value {
            RawBsonRef::Double(number) => self.double(number),
            RawBsonRef::String(text) => self.string(text),
            RawBsonRef::Document(document) => self.document(document)?,
            RawBsonRef::Array(array) => self.array(array)?,
            RawBsonRef::Binary(binary) => self.binary(binary.subtype, binary.bytes),
            RawBsonRef::ObjectId(id) => self.wrapped_unless_simple("$oid", &id.to_hex()),
            RawBsonRef::Boolean(value) => self.put(value),
            RawBsonRef::DateTime(moment) => self.date(moment.timestamp_millis()),
            RawBsonRef::Null => self.text.push_str("null"),
            RawBsonRef::RegularExpression(regex) => self.regex(regex.pattern.as_str(), regex.options.as_str()),
            RawBsonRef::JavaScriptCode(code) => self.wrapped("$code", code),
            RawBsonRef::JavaScriptCodeWithScope(code) => {
                self.text.push_str("{\"$code\": ");
                self.string(code.code);
                self.text.push_str(", \"$scope\": ");
                self.document(code.scope)?;
                self.text.push('}');
            }
            RawBsonRef::Int32(number) if self.formatter == Formatter::ExtendedJson => {
                self.wrapped("$numberInt", &number.to_string());
            }
            RawBsonRef::Int32(number) => self.put(number),
            RawBsonRef::Int64(number) if self.formatter == Formatter::SimplifiedJson => self.put(number),
            RawBsonRef::Int64(number) => self.wrapped("$numberLong", &number.to_string()),
            RawBsonRef::Timestamp(at) => {
                self.put(format_args!("{{\"$timestamp\": {{\"t\": {}, \"i\": {}}}}}", at.time, at.increment));
            }
            RawBsonRef::Decimal128(number) => self.wrapped_unless_simple("$numberDecimal", &number.to_string()),
            RawBsonRef::MinKey => self.text.push_str("{\"$minKey\": 1}"),
            RawBsonRef::MaxKey => self.text.push_str("{\"$maxKey\": 1}"),
            RawBsonRef::Undefined => self.text.push_str("{\"$undefined\": true}"),
            RawBsonRef::Symbol(text) => self.wrapped_unless_simple("$symbol", text),
            RawBsonRef::DbPointer(_) => self.pointer(value),
        }
        Ok(())
    }

    fn put(&mut self, value: impl std::fmt::Display) {
        // A String takes everything.
        let _ = write!(self.text, "{value}");
    }

    fn wrapped(&mut self, name: &str, text: &str) {
        self.put(format_args!("{{\"{name}\": "));
        self.string(text);
        self.text.push('}');
    }

    fn wrapped_unless_simple(&mut self, name: &str, text: &str) {
        match self.formatter {
            Formatter::SimplifiedJson => self.string(text),
            _ => self.wrapped(name, text),
        }
    }

    fn double(&mut self, number: f64) {
        let text = java_double(number);
        match self.formatter {
            Formatter::DefaultJson => self.text.push_str(&text),
            Formatter::SimplifiedJson if number.is_finite() => self.text.push_str(&text),
            _ => self.wrapped("$numberDouble", &text),
        }
    }

    fn binary(&mut self, subtype: BinarySubtype, bytes: &[u8]) {
        let (text, subtype) = (BASE64.encode(bytes), u8::from(subtype));
        match self.formatter {
            Formatter::SimplifiedJson => self.string(&text),
            Formatter::DefaultJson => {
                self.put(format_args!("{{\"$binary\": \"{text}\", \"$type\": \"{subtype:02x}\"}}"));
            }
            Formatter::ExtendedJson => {
                let inner = format_args!("{{\"base64\": \"{text}\", \"subType\": \"{subtype:02x}\"}}");
                self.put(format_args!("{{\"$binary\": {inner}}}"));
            }
        }
    }

    fn date(&mut self, unix_ms: i64) {
        match self.formatter {
            Formatter::DefaultJson => self.put(format_args!("{{\"$date\": {unix_ms}}}")),
            Formatter::ExtendedJson => self.put(format_args!("{{\"$date\": {{\"$numberLong\": \"{unix_ms}\"}}}}")),
            Formatter::SimplifiedJson => self.put(format_args!("\"{}\"", iso_instant(unix_ms))),
        }
    }

    fn regex(&mut self, pattern: &str, options: &str) {
        let (open, second, close) = match self.formatter {
            Formatter::DefaultJson => ("{\"$regex\": ", ", \"$options\": ", "}"),
            _ => ("{\"$regularExpression\": {\"pattern\": ", ", \"options\": ", "}}"),
        };
        self.text.push_str(open);
        self.string(pattern);
        self.text.push_str(second);
        self.string(options);
        self.text.push_str(close);
    }

    /// A DBPointer, deprecated long ago, shows its parts in the crate's own text only: `DbPointer(db.collection, id)`.
    fn pointer(&mut self, value: RawBsonRef<'_>) {
        let text = Bson::try_from(value).map(|pointer| pointer.to_string()).unwrap_or_default();
        let parts = text.strip_prefix("DbPointer(").and_then(|text| text.strip_suffix(')'));
        let (namespace, id) = parts.and_then(|parts| parts.rsplit_once(", ")).unwrap_or_default();
        let canonical = self.formatter == Formatter::ExtendedJson;
        self.text.push_str(if canonical { "{\"$dbPointer\": {\"$ref\": " } else { "{\"$ref\": " });
        self.string(namespace);
        self.text.push_str(", \"$id\": ");
        self.wrapped_unless_simple("$oid", id);
        self.text.push_str(if canonical { "}}" } else { "}" });
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        if text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\') {
            self.text.push_str(text);
        } else {
            text.chars().for_each(|character| self.character(character));
        }
        self.text.push('"');
    }

    fn character(&mut self, character: char) {
        match character {
            '"' => self.text.push_str("\\\""),
            '\\' => self.text.push_str("\\\\"),
            '\u{8}' => self.text.push_str("\\b"),
            '\u{c}' => self.text.push_str("\\f"),
            '\n' => self.text.push_str("\\n"),
            '\r' => self.text.push_str("\\r"),
            '\t' => self.text.push_str("\\t"),
            character if is_escaped(character) => {
                let mut units = [0; 2];
                character.encode_utf16(&mut units).iter().for_each(|unit| self.put(format_args!("\\u{unit:04x}")));
            }
            character => self.text.push(character),
        }
    }
}

/// What Java's driver escapes: everything beyond the basic plane, and of the rest what it does not list as a letter,
/// number, blank, punctuation or symbol.
fn is_escaped(character: char) -> bool {
    static ESCAPED: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^[\p{Lm}\p{Mn}\p{Mc}\p{C}\p{Zl}\p{Zp}]$").expect("a fixed pattern, tested below")
    });
    match character {
        ' '..='~' => false,
        _ => u32::from(character) > 0xffff || ESCAPED.is_match(character.encode_utf8(&mut [0; 4])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongo::json::read::read_object;

    /// What the connector made of one document, by formatter.
    const RECORDED: &str = include_str!("../../../tests/fixtures/mongo/formatters.txt");

    fn recorded(name: &str) -> &'static str {
        RECORDED.lines().skip_while(|line| *line != name).nth(1).expect("a line below the name")
    }

    /// The document, from its canonical form; a DBPointer, which nothing here makes, as its bytes.
    fn document() -> RawDocumentBuf {
        let pointer = r#", "dbref": {"$dbPointer""#;
        let (before, _) = recorded("ExtendedJson").split_once(pointer).expect("it is the last member");
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&format!("{before}}}")).expect("canonical JSON");
        let mut bytes = RawDocumentBuf::try_from(&read_object(members).unwrap()).unwrap().into_bytes();
        bytes.pop();
        bytes.extend_from_slice(b"\x0cdbref\0\x04\0\0\0x.y\0\x65\xa0\0\0\0\0\0\0\0\0\0\x01\0");
        let length = (bytes.len() as i32).to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        RawDocumentBuf::from_bytes(bytes).unwrap()
    }

    #[test]
    fn each_formatter_writes_what_the_connector_wrote() {
        for formatter in Formatter::ALL {
            let text = formatter.document(&document()).unwrap();
            assert_eq!(text, recorded(formatter.name()), "{}", formatter.name());
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let original: Document = (&*document()).try_into().unwrap();
        for formatter in [Formatter::DefaultJson, Formatter::ExtendedJson] {
            let text = formatter.document(&document()).unwrap().replace(", Infinity]", "]");
            let read = read_object(serde_json::from_str(&text).unwrap()).unwrap();
            for (name, value) in original.iter().filter(|(name, _)| !["dbl", "dbref"].contains(&name.as_str())) {
                assert_eq!(read.get(name), Some(value), "{}: {name}", formatter.name());
            }
        }
    }

    #[test]
    fn what_looks_like_extended_json_and_is_not_stays_an_object() {
        for text in [
            r#"{"$date": "soon"}"#,
            r#"{"$oid": 7}"#,
            r#"{"$set": {"a": 1}}"#,
            r#"{"$oid": "65a000000000000000000001", "b": 1}"#,
            r#"{"$binary": "!", "$type": "00"}"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(matches!(read::read(value), Some(Bson::Document(_))), "{text}");
        }
    }
}
