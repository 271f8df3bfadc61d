//! Dead letters in memory, which are not always to be had.

use super::faults::Faults;
use super::journal::{Entry, Journal};
use crate::port::{DeadLetters, Letter, SinkError};

/// Keeps letters in the journal.
pub struct LetterBox {
    /// Whose letters these are.
    pub process: u32,
    pub journal: Journal,
    pub faults: Faults,
}

impl DeadLetters for LetterBox {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        // Outside of the writer nothing catches this: the worker dies.
        if self.faults.kills() {
            panic!("planted");
        }
        self.faults.away("no letter can be kept")?;
        for letter in letters {
            let (partition, offset) = (letter.partition.clone(), letter.record.offset);
            self.journal.note(Entry::Letter { process: self.process, partition, offset });
        }
        Ok(())
    }
}
