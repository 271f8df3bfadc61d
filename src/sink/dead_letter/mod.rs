//! Dead letters outside the database: records that cannot be written, with the reason, in a topic or a file.
//!
//! A letter is the record as it was (key, value, headers and timestamp byte for byte) with the reason as further
//! headers behind its own (`marks.rs`). The table's form of a dead letter, a row with the status FAILED, is the SQL
//! sinks' own affair ([`super::aside`]).

mod file;
mod marks;
mod topic;

pub use file::{FileLetters, append};
pub use marks::{Header, Marks, REPLAYS, restored, text_of};
pub use topic::TopicLetters;

use crate::core::verdict::ErrorClass;
use crate::port::{DeadLetters, Letter, SinkError};

/// Keeps nothing, and is content with that: for a dry run.
pub struct Forgotten;

impl DeadLetters for Forgotten {
    fn put(&self, _letters: &[Letter<'_>]) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Several places, the first that can take a letter keeps it. Being away is no reason to go to the next one: that is
/// waited for.
pub struct InTurn(Vec<Box<dyn DeadLetters>>);

impl InTurn {
    /// The places in the order of preference; `None` without any.
    pub fn new(places: Vec<Box<dyn DeadLetters>>) -> Option<Self> {
        (!places.is_empty()).then_some(Self(places))
    }

    fn put_from(&self, at: usize, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        let error = match self.0[at].put(letters) {
            Err(error) if error.class == ErrorClass::Data && at + 1 < self.0.len() => error,
            result => return result,
        };
        match letters {
            [letter] => {
                let (partition, offset) = (letter.partition, letter.record.offset);
                log::warn!("{partition} offset {offset}: the next place keeps this dead letter: {error}");
                self.put_from(at + 1, letters)
            }
            _ => letters.iter().try_for_each(|letter| self.put_from(at, std::slice::from_ref(letter))),
        }
    }
}

impl DeadLetters for InTurn {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        self.put_from(0, letters)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::core::record::{Headers, Record, TopicPartition};

    /// Keeps what is below a limit, and notes its offset.
    struct Small {
        below: i64,
        class: ErrorClass,
        kept: Arc<Mutex<Vec<i64>>>,
    }

    impl DeadLetters for Small {
        fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
            if letters.iter().any(|letter| letter.record.offset >= self.below) {
                return Err(SinkError::new(self.class, "too large"));
            }
            self.kept.lock().extend(letters.iter().map(|letter| letter.record.offset));
            Ok(())
        }
    }

    #[test]
    fn the_first_place_that_can_keeps_a_letter() {
        let partition = TopicPartition::new("t", 0);
        let error = SinkError::new(ErrorClass::Data, "bad");
        let letter = |offset| Letter {
            partition: &partition,
            record: Record { offset, timestamp_ms: 0, key: None, value: None, headers: Headers::default() },
            error: &error,
            attempts: 1,
            table: "t",
        };
        let letters = [letter(1), letter(20), letter(3)];
        for (class, last_below, expected) in [
            (ErrorClass::Data, 100, (Ok(()), vec![1, 3], vec![20])),
            (ErrorClass::Data, 10, (Err(ErrorClass::Data), vec![1], vec![])),
            (ErrorClass::Transient, 100, (Err(ErrorClass::Transient), vec![], vec![])),
        ] {
            let kept = [Arc::default(), Arc::default()];
            let place = |index: usize, below| -> Box<dyn DeadLetters> {
                Box::new(Small { below, class, kept: Arc::clone(&kept[index]) })
            };
            let places = InTurn::new(vec![place(0, 10), place(1, last_below)]).unwrap();
            let answer = places.put(&letters).map_err(|error| error.class);
            let [first, second] = kept.map(|kept| kept.lock().clone());
            assert_eq!((answer, first, second), expected);
        }
    }
}
