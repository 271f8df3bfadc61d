//! What MongoDB says when something fails, as a class and a sentence with the cure.

use mongodb::error::{Error, RETRYABLE_WRITE_ERROR, TRANSIENT_TRANSACTION_ERROR};

use crate::core::verdict::{ErrorClass, ErrorCode};
use crate::mongo::error::Said;
use crate::port::SinkError;
use crate::sink::odbc::sqlstate::{System, classify, without_values};

/// A failure of the driver while doing `what`.
pub fn sink_error(name: &str, what: &str, error: &Error) -> SinkError {
    let failed = said_error(name, what, &Said::of(error));
    let passes = error.contains_label(TRANSIENT_TRANSACTION_ERROR) || error.contains_label(RETRYABLE_WRITE_ERROR);
    match failed.class {
        // The server and the driver know of more that passes than the table does.
        ErrorClass::Unclassified if passes => SinkError { class: ErrorClass::Transient, ..failed },
        _ => failed,
    }
}

/// The same of what was said.
pub fn said_error(name: &str, what: &str, said: &Said) -> SinkError {
    let (class, cure) = match said.code {
        Some(code) => {
            let entry = classify(System::MongoDb, "", code, &said.words);
            (entry.class, entry.cure)
        }
        None if said.unreachable => (ErrorClass::Transient, "it is tried again"),
        None => (ErrorClass::Unclassified, "max_retries bounds what is tried"),
    };
    let code = said.code.map(|native| ErrorCode { sqlstate: String::new(), native });
    let told = Said { words: without_values(&said.words), ..said.clone() }.text();
    SinkError { code, ..SinkError::new(class, format!("{name}: cannot {what}: {told}; {cure}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_has_its_class_and_its_cure() {
        for (code, unreachable, class, parts) in [
            (Some(112), false, ErrorClass::Contention, "(MongoDB code 112)"),
            (Some(121), false, ErrorClass::Data, "validator"),
            (Some(18), false, ErrorClass::Auth, "authSource"),
            (Some(424_242), false, ErrorClass::Unclassified, "424242"),
            (None, true, ErrorClass::Transient, "tried again"),
            (None, false, ErrorClass::Unclassified, "max_retries"),
        ] {
            let error =
                said_error("mongodb a:1/shop", "commit", &Said { code, words: "its words".into(), unreachable });
            assert_eq!(error.class, class, "{error}");
            for part in ["mongodb a:1/shop: cannot commit: its words", parts] {
                assert!(error.message.contains(part), "{part} is missing: {error}");
            }
        }
    }
}
