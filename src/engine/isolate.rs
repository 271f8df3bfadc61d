//! Taking a batch apart that failed for a bad record.
//!
//! Sinks that can, put bad records aside within their own transaction. This is for all others: the batch is written in
//! pieces ([`Halving`]), each of which moves the position, until the bad record stands first. Then it becomes a letter,
//! whose acknowledgement is awaited, and the position moves past it. Without a place for letters all that is before
//! it is written, and it stays where it is.
//!
//! A handler or a command may see records again that it has seen in a larger piece: delivery is at least once there.

use super::DeadLetterPlaces;
use super::worker::{Held, Way};
use crate::core::bisect::{Halving, Step};
use crate::core::verdict::ErrorClass;
use crate::port::{Aside, Letter, PutAsideListener, SinkError, Write, Written};

impl Held {
    /// Works through the batch in pieces. Its failure afterwards is what ended that early, if anything did.
    pub(super) fn isolate(&mut self, way: &mut Way, places: &DeadLetterPlaces) {
        let Some(mut error) = self.failure.take() else { return };
        let mut search = Halving::new(self.count);
        search.refused(self.count, self.hint(&error));
        loop {
            let step = match search.next() {
                Step::Done => return,
                Step::PutAside => self.put_first_aside(&error, way, places).map(|()| search.put_aside()),
                Step::Try(count) => match way.write(self.lane.write(count)) {
                    Err(refusal) if self.blames_a_record(&refusal) => {
                        search.refused(count, self.hint(&refusal));
                        error = refusal;
                        Ok(())
                    }
                    Err(failure) => {
                        self.lane.failed(count);
                        Err(failure)
                    }
                    Ok(written) => {
                        self.answered(count, Ok(written));
                        search.accepted(count);
                        Ok(())
                    }
                },
            };
            if let Err(failure) = step {
                self.failure = Some(failure);
                return;
            }
        }
    }

    /// The index of the record that an error names.
    fn hint(&self, error: &SinkError) -> Option<usize> {
        let batch = self.lane.write(self.lane.waiting_records()).batch;
        error.offset.and_then(|offset| batch.iter().position(|record| record.offset == offset))
    }

    /// The first record becomes a dead letter, and the position moves past it.
    fn put_first_aside(
        &mut self,
        error: &SinkError,
        way: &mut Way,
        places: &DeadLetterPlaces,
    ) -> Result<(), SinkError> {
        // Bad luck must not become a record's fault: it is to stand first, and to fail as often as one may try.
        if error.class == ErrorClass::Unclassified && self.written != Written::default() {
            return Err(error.clone());
        }
        let found = self.written.dead_lettered as usize + 1;
        if (places.rows || places.letters.is_some()) && found > self.orders.bad_max(self.count) {
            return Err(SinkError::too_many_bad(error, found, self.count));
        }
        if places.rows && self.put_into_the_table(way, places)? {
            return Ok(());
        }
        let write = self.lane.write(1);
        let (partition, record) = (write.batch.partition(), write.batch.get(0));
        let Some(letters) = &places.letters else {
            return Err(no_place(error, record.offset));
        };
        let offset = record.offset;
        let table = &*way.sink.traits().name;
        letters.put(&[Letter { partition, record, error, attempts: self.orders.attempt, table }])?;
        if let Some(past) = self.lane.write_past_first() {
            way.write(past)?;
        }
        self.lane.wrote(1);
        self.written.dead_lettered += 1;
        self.put_aside(offset, error);
        Ok(())
    }

    /// Whether the sink could keep the first record, alone, as a row of its table.
    fn put_into_the_table(&mut self, way: &mut Way, places: &DeadLetterPlaces) -> Result<bool, SinkError> {
        let aside = self.aside(places).map(|aside| Aside { letters: None, bad_max: 1, ..aside });
        match way.write(Write { aside, ..self.lane.write(1) }) {
            Err(error) if self.blames_a_record(&error) => Ok(false),
            Err(error) => Err(error),
            Ok(written) => {
                self.answered(1, Ok(written));
                Ok(true)
            }
        }
    }
}

/// The error of a record that can be neither written nor put aside.
fn no_place(error: &SinkError, offset: i64) -> SinkError {
    let mut error = SinkError { offset: Some(offset), ..error.clone() };
    if error.class == ErrorClass::Data {
        error.message += "; to go on without this record choose where it goes: --dead-letter-topic, --dead-letter-file \
                          or --dead-letter-table";
    }
    error
}
