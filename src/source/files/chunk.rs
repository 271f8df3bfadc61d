//! A run of documents as read from a file, and their parsing: each must be JSON, and may have a key.

use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;

use super::documents::key_of;
use crate::core::record::{DecodeError, Decoder, Encoded, Extent, RecordBuffer, Skipped, Span, TopicPartition};
use crate::port::MemoryBudget;

/// A document that is no record, and why.
#[derive(Clone, Debug)]
pub struct BadDocument<'a> {
    /// The number of its line, or its place in the array.
    pub number: i64,
    pub reason: String,
    pub bytes: &'a [u8],
}

/// Called with the bad documents of a file, in their order; after a restart perhaps again. An error refuses to go on behind
/// them.
pub type OnBad = Box<dyn Fn(&TopicPartition, &[BadDocument<'_>]) -> Result<(), String> + Send + Sync>;

/// What makes records of documents.
pub struct Parser {
    /// A JSON pointer to the key of each record.
    pub key: Option<String>,
    pub on_bad: OnBad,
}

/// Documents one behind the other.
pub(super) struct FileChunk {
    pub partition: TopicPartition,
    pub bytes: Bytes,
    /// Offset and end of each.
    pub documents: Vec<(i64, usize)>,
    pub parser: Arc<Parser>,
    pub memory: Arc<MemoryBudget>,
}

impl Drop for FileChunk {
    fn drop(&mut self) {
        self.memory.release(self.bytes.len());
    }
}

impl Encoded for FileChunk {
    fn decoder(self: Arc<Self>, from: i64) -> Box<dyn Decoder> {
        Box::new(FileDecoder { chunk: Some(self), from })
    }

    fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// Decodes a chunk in one piece.
struct FileDecoder {
    /// `None` once decoded.
    chunk: Option<Arc<FileChunk>>,
    from: i64,
}

impl Decoder for FileDecoder {
    fn decode(&mut self, into: &mut RecordBuffer) -> Option<Result<Skipped, DecodeError>> {
        let chunk = self.chunk.take()?;
        Some(chunk.decode(self.from, into))
    }

    fn bytes_left(&self) -> usize {
        self.chunk.as_ref().map_or(0, |chunk| chunk.bytes.len())
    }
}

/// A document's offset and bytes, and what came of parsing it.
type Parsed<'a> = (i64, &'a [u8], Result<Option<Vec<u8>>, String>);

impl FileChunk {
    fn decode(&self, from: i64, into: &mut RecordBuffer) -> Result<Skipped, DecodeError> {
        let starts = std::iter::once(0).chain(self.documents.iter().map(|(_, end)| *end));
        let documents = starts.zip(&self.documents).map(|(start, (offset, end))| (*offset, &self.bytes[start..*end]));
        let wanted: Vec<(i64, &[u8])> = documents.filter(|(offset, _)| *offset >= from).collect();
        let parsed: Vec<Parsed<'_>> = wanted
            .into_par_iter()
            .map(|(offset, document)| (offset, document, key_of(document, self.parser.key.as_deref())))
            .collect();
        let bad = self.report_bad(&parsed)?;
        let keys: Vec<u8> =
            parsed.iter().filter_map(|(.., key)| key.as_ref().ok()?.as_deref()).flatten().copied().collect();
        // A record's parts lie in one buffer, so documents with keys are copied to where these are. Either way the buffer
        // outlives the chunk, and has to be accounted for after it.
        let whole = match keys.is_empty() {
            true => self.bytes.clone(),
            false => Bytes::from([&self.bytes[..], &keys].concat()),
        };
        into.push_inflated(whole.clone());
        let mut key_at = self.bytes.len();
        for (offset, document, key) in &parsed {
            let Ok(key) = key else { continue };
            let key = key.as_ref().map(|key| {
                key_at += key.len();
                &whole[key_at - key.len()..key_at]
            });
            let at = document.as_ptr() as usize - self.bytes.as_ptr() as usize;
            into.push(Span {
                offset: *offset,
                timestamp_ms: -1,
                key: Extent::of(&whole, key),
                value: Extent::of(&whole, Some(&whole[at..at + document.len()])),
                headers: Extent::ABSENT,
                header_count: 0,
            });
        }
        Ok(Skipped { control: bad, aborted: 0 })
    }

    /// Hands over what is no record; answers how many these are.
    fn report_bad(&self, parsed: &[Parsed<'_>]) -> Result<u64, DecodeError> {
        let bad = parsed.iter().filter_map(|(number, bytes, key)| {
            let reason = key.as_ref().err()?.clone();
            Some(BadDocument { number: *number, reason, bytes })
        });
        let bad: Vec<BadDocument<'_>> = bad.collect();
        if let Some(first) = bad.first() {
            (self.parser.on_bad)(&self.partition, &bad).map_err(|what| DecodeError {
                base_offset: first.number,
                what,
                position: first.bytes.as_ptr() as usize - self.bytes.as_ptr() as usize,
            })?;
        }
        Ok(bad.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Offset, key and value.
    type Decoded = (i64, Option<String>, String);

    fn decoded(text: &[&str], key: Option<&str>, from: i64) -> (Vec<Decoded>, Result<u64, String>) {
        let (mut bytes, mut documents) = (Vec::new(), Vec::new());
        for (index, document) in text.iter().enumerate() {
            bytes.extend_from_slice(document.as_bytes());
            documents.push((index as i64 + 1, bytes.len()));
        }
        let memory = MemoryBudget::new(1 << 20);
        memory.charge(bytes.len());
        let on_bad: OnBad = Box::new(|_, bad| match bad[0].reason.contains("stop") {
            true => Err(bad[0].reason.clone()),
            false => Ok(()),
        });
        let parser = Arc::new(Parser { key: key.map(str::to_owned), on_bad });
        let partition = TopicPartition::new("a.jsonl", 0);
        let chunk = Arc::new(FileChunk { partition, bytes: bytes.into(), documents, parser, memory: memory.clone() });
        let mut records = RecordBuffer::default();
        let result = chunk.decoder(from).decode_rest(&mut records);
        assert_eq!(memory.used(), 0, "a chunk gives its memory back");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found = (0..records.len()).map(|index| {
            let record = records.get(index);
            (record.offset, record.key.map(text), record.value.map(text).expect("a document"))
        });
        (found.collect(), result.map(|skipped| skipped.total()).map_err(|error| error.to_string()))
    }

    #[test]
    fn documents_are_records_with_keys_and_bad_ones_are_passed_over() {
        let text = [r#"{"id":"a\n"}"#, r#"{"id":7}"#, "{", r#"{"no":1}"#, r#"{"id":{"b":[1]}}"#];
        let (records, bad) = decoded(&text, Some("/id"), 0);
        let key = |key: &str| Some(key.to_owned());
        assert_eq!(
            records,
            [(1, key("a\n"), text[0].into()), (2, key("7"), text[1].into()), (5, key(r#"{"b":[1]}"#), text[4].into())]
        );
        assert_eq!(bad, Ok(2));
        let (records, bad) = decoded(&text, None, 2);
        assert_eq!((records.len(), records[0].0, bad), (3, 2, Ok(1)));
        assert_eq!(
            decoded(&["{}"], Some("/stop"), 0).1,
            Err("corrupt record batch at offset 1: it has no /stop (byte 0)".into())
        );
    }
}
