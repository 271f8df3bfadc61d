//! Whether every document is one: valid UTF-8, valid JSON, an object, with a key where one is asked for.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{DataError, each_batch};

/// A document that is none.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BadDocument {
    pub file: PathBuf,
    /// The line, or the place in the array.
    pub number: u64,
    pub reason: String,
}

/// Looks at every document, hands over the bad ones in their order and counts all.
///
/// # Errors
/// When a file cannot be read.
pub fn validate(files: &[PathBuf], key: Option<&str>, mut bad: impl FnMut(BadDocument)) -> Result<u64, DataError> {
    let mut count = 0;
    each_batch(files, |file: &Path, batch| {
        let documents = batch.documents();
        count += documents.len() as u64;
        let check = |(number, document): &(u64, &[u8])| {
            let reason = fault(document, key)?;
            Some(BadDocument { file: file.to_owned(), number: *number, reason })
        };
        let found: Vec<BadDocument> = documents.par_iter().filter_map(check).collect();
        found.into_iter().for_each(&mut bad);
        Ok(())
    })?;
    Ok(count)
}

fn fault(document: &[u8], key: Option<&str>) -> Option<String> {
    let text = match std::str::from_utf8(document) {
        Ok(text) => text,
        Err(error) => return Some(format!("it is not UTF-8 from byte {} on", error.valid_up_to())),
    };
    let parsed = match key {
        None => serde_json::from_str::<IgnoredAny>(text).map(|_| None),
        Some(_) => serde_json::from_str::<Value>(text).map(Some),
    };
    match (parsed, key) {
        (Err(error), _) => Some(format!("it is not JSON: {error}")),
        (Ok(_), _) if !text.trim_start().starts_with('{') => Some("it is not an object".to_owned()),
        (Ok(Some(value)), Some(key)) if value.pointer(key).is_none_or(Value::is_null) => {
            Some(format!("it has no {key}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(fault(document, key).as_deref(), expected, "{}", String::from_utf8_lossy(document));
        }
    }
}
