//! The JSON documents of a file, one after the other, as bytes: nothing is parsed here but where a document ends.
//!
//! `.jsonl` and `.ndjson` hold a document a line; `.json` holds an array of documents, or documents one behind the other.
//! `.gz` and `.zst` behind either say how the file is compressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde::de::IgnoredAny;
use serde_json::Value;

/// Longer documents are cut there, and so are no JSON: brokers take 100 MiB, which base64 makes a third longer.
pub const DOCUMENT_BYTES_MAX: u64 = 144 << 20;

const BUFFER_BYTES: usize = 256 << 10;

/// How documents are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Lines,
    /// Whether the array's bracket was seen; `None` before the first byte that counts.
    Values {
        in_array: Option<bool>,
    },
}

/// Reads a file document by document.
pub struct Documents {
    input: Box<dyn BufRead + Send>,
    layout: Layout,
    /// The number of the last document, or of the last line where a line is one.
    number: u64,
}

impl Documents {
    /// Opens a file; its name says what is in it.
    ///
    /// # Errors
    /// When it cannot be opened, or its name says nothing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let Some(layout) = layout(path) else {
            let words = "its name must end in .jsonl, .ndjson or .json, with .gz or .zst behind where it is compressed";
            return Err(io::Error::new(ErrorKind::InvalidInput, words));
        };
        let file = File::open(path)?;
        let input: Box<dyn BufRead + Send> = match extension(path) {
            "gz" => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(BufReader::new(file)))),
            "zst" => Box::new(BufReader::with_capacity(BUFFER_BYTES, zstd::Decoder::new(file)?)),
            _ => Box::new(BufReader::with_capacity(BUFFER_BYTES, file)),
        };
        Ok(Self { input, layout, number: 0 })
    }

    /// Appends the next document to `into` and answers its number: that of its line, or its place in the array, from 1 on.
    /// Empty lines are passed over. `None`: there is none left.
    ///
    /// # Errors
    /// When the file cannot be read, or its array is not one.
    pub fn next(&mut self, into: &mut Vec<u8>) -> io::Result<Option<u64>> {
        match self.layout {
            Layout::Lines => self.next_line(into),
            Layout::Values { in_array } => self.next_value(in_array, into),
        }
    }

    /// The number of the last document that was read, or of the last line.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn next_line(&mut self, into: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let start = into.len();
        while read_line(&mut self.input, into)? {
            self.number += 1;
            if into[start..].trim_ascii().is_empty() {
                into.truncate(start);
                continue;
            }
            if into.last() == Some(&b'\r') {
                into.pop();
            }
            return Ok(Some(self.number));
        }
        Ok(None)
    }

    fn next_value(&mut self, in_array: Option<bool>, into: &mut Vec<u8>) -> io::Result<Option<u64>> {
        let in_array = match (in_array, self.skip_blanks(b"")?) {
            (None, Some(b'[')) => {
                self.input.consume(1);
                true
            }
            (known, _) => known.unwrap_or(false),
        };
        self.layout = Layout::Values { in_array: Some(in_array) };
        match self.skip_blanks(if in_array { b"," } else { b"" })? {
            None if in_array => Err(self.malformed("the array is not closed")),
            None => Ok(None),
            Some(b']') if in_array => {
                self.input.consume(1);
                self.layout = Layout::Values { in_array: Some(false) };
                match self.skip_blanks(b"")? {
                    None => Ok(None),
                    Some(_) => Err(self.malformed("something follows the array")),
                }
            }
            Some(_) => {
                self.number += 1;
                self.take_value(into)?;
                Ok(Some(self.number))
            }
        }
    }

    /// Passes over white space and `others`, and answers the byte behind, which stays.
    fn skip_blanks(&mut self, others: &[u8]) -> io::Result<Option<u8>> {
        loop {
            let bytes = self.input.fill_buf()?;
            let blank = |byte: &u8| byte.is_ascii_whitespace() || others.contains(byte);
            match bytes.iter().position(|byte| !blank(byte)) {
                Some(at) => {
                    let found = bytes[at];
                    self.input.consume(at);
                    return Ok(Some(found));
                }
                None if bytes.is_empty() => return Ok(None),
                None => {
                    let count = bytes.len();
                    self.input.consume(count);
                }
            }
        }
    }

    fn take_value(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        let start = into.len();
        let mut end = ValueEnd::default();
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return if end.is_open() { Err(self.malformed("the file ends within it")) } else { Ok(()) };
            }
            let found = end.find(bytes);
            let count = found.unwrap_or(bytes.len());
            into.extend_from_slice(&bytes[..count]);
            self.input.consume(count);
            if (into.len() - start) as u64 > DOCUMENT_BYTES_MAX {
                return Err(self.malformed("it is longer than any record can be"));
            }
            if found.is_some() {
                return Ok(());
            }
        }
    }

    fn malformed(&self, what: &str) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, format!("document {}: {what}", self.number))
    }
}

/// Finds where a JSON value ends without understanding it.
#[derive(Default)]
struct ValueEnd {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl ValueEnd {
    fn is_open(&self) -> bool {
        self.depth > 0 || self.in_string
    }

    /// How many of the next bytes still belong to the value, once it ends among them.
    fn find(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' if self.depth == 0 => return Some(at),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                b',' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => return Some(at),
                _ => {}
            }
        }
        None
    }
}

/// The key of a document, where `pointer` (a JSON pointer) says which member it is: text as it is, anything else as JSON.
///
/// # Errors
/// Why it is no document: it is not UTF-8, not JSON, not an object, or has no such member.
pub fn key_of(document: &[u8], pointer: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    let text = std::str::from_utf8(document)
        .map_err(|error| format!("it is not UTF-8 from byte {} on", error.valid_up_to()))?;
    let not_json = |error: serde_json::Error| format!("it is not JSON: {error}");
    // Without a key nothing of it needs to be kept.
    let value = match pointer {
        None => serde_json::from_str::<IgnoredAny>(text).map(|_| Value::Null),
        Some(_) => serde_json::from_str(text),
    };
    let value = value.map_err(not_json)?;
    if !text.trim_start().starts_with('{') {
        return Err("it is not an object".to_owned());
    }
    let Some(pointer) = pointer else { return Ok(None) };
    match value.pointer(pointer) {
        None | Some(Value::Null) => Err(format!("it has no {pointer}")),
        Some(Value::String(key)) => Ok(Some(key.clone().into_bytes())),
        Some(other) => Ok(Some(other.to_string().into_bytes())),
    }
}

/// The last part of a name, behind its dot.
fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

fn layout(path: &Path) -> Option<Layout> {
    let inner = match extension(path) {
        "gz" | "zst" => path.with_extension(""),
        _ => path.to_owned(),
    };
    match extension(&inner) {
        "jsonl" | "ndjson" => Some(Layout::Lines),
        "json" => Some(Layout::Values { in_array: None }),
        _ => None,
    }
}

/// The files that are meant: each file as it is, of a folder all that hold documents, in the order of their names.
///
/// # Errors
/// When something is not there, or a folder holds none.
pub fn files_of(paths: &[String]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for path in paths.iter().map(Path::new) {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        if !path.metadata().map_err(failed)?.is_dir() {
            files.push(path.to_owned());
            continue;
        }
        let entries = path.read_dir().map_err(failed)?.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let mut found: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        found.retain(|path| path.is_file() && layout(path).is_some());
        if found.is_empty() {
            return Err(format!("{}: no file in it ends in .jsonl, .ndjson or .json", path.display()));
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Appends the next line without its end; of an overlong one as much as makes it too long. False: there is none.
///
/// # Errors
/// When the input cannot be read.
pub fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    let read = input.by_ref().take(DOCUMENT_BYTES_MAX).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') && read > 0 {
        line.pop();
    } else if read as u64 == DOCUMENT_BYTES_MAX {
        skip_line(input)?;
    }
    Ok(read > 0)
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let (used, is_over) = match input.fill_buf()? {
            [] => return Ok(()),
            bytes => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (bytes.len(), false),
            },
        };
        input.consume(used);
        if is_over {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All documents of a text with their numbers, read in pieces of `capacity` bytes.
    fn read(layout: Layout, text: &'static str, capacity: usize) -> Result<Vec<(u64, String)>, String> {
        let input = Box::new(BufReader::with_capacity(capacity, text.as_bytes()));
        let mut documents = Documents { input, layout, number: 0 };
        let (mut found, mut bytes) = (Vec::new(), Vec::new());
        while let Some(number) = documents.next(&mut bytes).map_err(|error| error.to_string())? {
            found.push((number, String::from_utf8(std::mem::take(&mut bytes)).unwrap()));
        }
        Ok(found)
    }

    #[test]
    fn documents_are_found_wherever_the_buffer_ends() {
        const VALUES: Layout = Layout::Values { in_array: None };
        type Case = (Layout, &'static str, Result<&'static [(u64, &'static str)], &'static str>);
        let cases: &[Case] = &[
            (Layout::Lines, "{\"a\":1}\r\n\n  \n[2]\n3", Ok(&[(1, "{\"a\":1}"), (4, "[2]"), (5, "3")])),
            (Layout::Lines, "", Ok(&[])),
            (
                VALUES,
                " [ {\"a\":\"]},\\\"{\"} , [1,[2]],\"x,y\", 4.5,null ] \n",
                Ok(&[(1, "{\"a\":\"]},\\\"{\"}"), (2, "[1,[2]]"), (3, "\"x,y\""), (4, "4.5"), (5, "null")]),
            ),
            (VALUES, "[]", Ok(&[])),
            (VALUES, "", Ok(&[])),
            (VALUES, "{\"a\":1}\n{\"b\":[]} 7", Ok(&[(1, "{\"a\":1}"), (2, "{\"b\":[]}"), (3, "7")])),
            (VALUES, "[1,", Err("document 1: the array is not closed")),
            (VALUES, "[{\"a\":1", Err("document 1: the file ends within it")),
            (VALUES, "[1] 2", Err("document 1: something follows the array")),
        ];
        for (layout, text, expected) in cases {
            let expected = expected.map_err(str::to_owned).map(|expected| {
                expected.iter().map(|(number, document)| (*number, (*document).to_owned())).collect::<Vec<_>>()
            });
            for capacity in [1, 2, 3, 7, 1000] {
                assert_eq!(read(*layout, text, capacity), expected, "{text:?} in pieces of {capacity}");
            }
        }
    }

    #[test]
    fn lines_end_at_newlines_and_with_the_input() {
        let mut rest: &[u8] = b"of a long line\nnext";
        skip_line(&mut rest).unwrap();
        assert_eq!(rest, b"next");
    }

    #[test]
    fn names_say_what_is_in_a_file() {
        for (name, expected) in [
            ("a.jsonl", Some(Layout::Lines)),
            ("a.b.ndjson.zst", Some(Layout::Lines)),
            ("a.json.gz", Some(Layout::Values { in_array: None })),
            ("a.gz", None),
            ("a.txt", None),
        ] {
            assert_eq!(layout(Path::new(name)), expected, "{name}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_document_is_said() {
        for (document, key, expected) in [
            (&b"{\"id\":1}"[..], None, None),
            (b"{\"id\":1}", Some("/id"), None),
            (b"{\"id\":null}", Some("/id"), Some("it has no /id")),
            (b"{\"a\":{}}", Some("/a/b"), Some("it has no /a/b")),
            (b"[1]", None, Some("it is not an object")),
            (b"{\"a\":\"\xff\"}", None, Some("it is not UTF-8 from byte 6 on")),
            (b"{\"a\":", None, Some("it is not JSON: EOF while parsing a value at line 1 column 5")),
            (b"{} {}", None, Some("it is not JSON: trailing characters at line 1 column 4")),
        ] {
            assert_eq!(key_of(document, key).err().as_deref(), expected, "{}", String::from_utf8_lossy(document));
        }
    }
}
