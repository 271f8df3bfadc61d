//! An example of a message for each shape, for tests and fuzzing.

use super::{Blob, Field, Fixed, Kind, List, Nullable, Numbers, One, Shape, Tagged, Text, Texts};

/// As Kafka writes an unsigned number of its compact encoding.
pub(in crate::kafka) fn put_unsigned_varint(into: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// A message of a shape: two elements in every array, every tagged field, and one that nobody knows.
pub(in crate::kafka) struct Example {
    bytes: Vec<u8>,
    version: i16,
    is_compact: bool,
}

impl Example {
    /// The bytes of one.
    pub(in crate::kafka) fn of(shape: &Shape, version: i16) -> Vec<u8> {
        let mut example = Example { bytes: vec![], version, is_compact: version >= shape.compact_since };
        example.structure(shape.fields);
        example.bytes
    }

    fn structure(&mut self, fields: &[Field]) {
        let has = |field: &&Field| (field.since..=field.until).contains(&self.version);
        let (tagged, plain): (Vec<_>, Vec<_>) =
            fields.iter().filter(has).partition(|field| matches!(field.kind, Tagged(..)));
        plain.iter().for_each(|field| self.value(&field.kind));
        if !self.is_compact {
            return;
        }
        put_unsigned_varint(&mut self.bytes, tagged.len() as u32 + 1);
        for field in tagged {
            let Tagged(tag, kind) = &field.kind else { unreachable!() };
            put_unsigned_varint(&mut self.bytes, *tag);
            let start = self.bytes.len();
            self.value(kind);
            let value = self.bytes.split_off(start);
            put_unsigned_varint(&mut self.bytes, value.len() as u32);
            self.bytes.extend(value);
        }
        self.bytes.extend([99, 3, 1, 2, 3]);
    }

    fn length(&mut self, length: usize, wide: bool) {
        match (self.is_compact, wide) {
            (true, _) => put_unsigned_varint(&mut self.bytes, length as u32 + 1),
            (false, true) => self.bytes.extend((length as u32).to_be_bytes()),
            (false, false) => self.bytes.extend((length as u16).to_be_bytes()),
        }
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            // Not zero: that could pass for a length.
            Fixed(bytes) => self.bytes.extend(vec![1; *bytes]),
            Text => {
                self.length(5, false);
                self.bytes.extend(b"topic");
            }
            Texts => {
                self.length(2, true);
                self.value(&Text);
                self.value(&Text);
            }
            Blob => {
                self.length(200, true);
                self.bytes.extend([7; 200]);
            }
            Numbers(bytes) => {
                self.length(2, true);
                self.bytes.extend(vec![1; 2 * bytes]);
            }
            List(fields) => {
                self.length(2, true);
                self.structure(fields);
                self.structure(fields);
            }
            One(fields) => self.structure(fields),
            Nullable(fields) => {
                self.bytes.push(1);
                self.structure(fields);
            }
            Tagged(..) => unreachable!("it stands in a structure"),
        }
    }
}
