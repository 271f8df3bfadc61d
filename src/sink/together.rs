//! How a transactional sink answers for batches that it writes together in one transaction.
//!
//! When a batch fails for a reason of its own (fenced, a record that does not fit), the whole transaction is rolled back
//! and each batch is tried alone, so that each has its own answer. A failure that concerns all of them (server gone, disk
//! full) is everybody's answer at once. When the answer to COMMIT is lost, the position rows say which batches were
//! committed.

use crate::core::record::TopicPartition;
use crate::port::{SinkError, Write, Written};
use crate::sink::position::Position;

/// Why a transaction did not happen.
#[derive(Clone, Debug)]
pub struct Failure {
    pub error: SinkError,
    /// The other batches of the transaction may succeed without the one that failed.
    pub others_may_succeed: bool,
    /// The connection is of no further use.
    pub close: bool,
    /// The failure was an answer to COMMIT, or that there was none: it may have been carried out.
    pub outcome_unknown: bool,
}

impl Failure {
    /// One that concerns everything in the transaction.
    pub fn of_all(error: SinkError, close: bool) -> Self {
        Self { error, others_may_succeed: false, close, outcome_unknown: false }
    }

    /// One that concerns a single batch, and not the connection.
    pub fn of_batch(error: SinkError) -> Self {
        Self { error, others_may_succeed: true, close: false, outcome_unknown: false }
    }

    /// Of an answer to COMMIT, or that there was none.
    pub fn of_commit(self) -> Self {
        Self { outcome_unknown: true, ..self }
    }
}

impl From<SinkError> for Failure {
    /// What the dead letters answered.
    fn from(error: SinkError) -> Self {
        Self::of_batch(error)
    }
}

/// A writer whose transactions may hold several batches.
pub trait Together {
    /// Writes all in one transaction.
    ///
    /// # Errors
    /// Nothing was written, unless the outcome is unknown.
    fn write_together(&mut self, writes: &[Write<'_>]) -> Result<Vec<Written>, Failure>;

    /// Writes one in a transaction of its own, after it failed together with others or may hold bad records.
    ///
    /// # Errors
    /// As [`write_together`](Self::write_together).
    fn write_alone(&mut self, write: &Write<'_>) -> Result<Written, Failure>;

    /// Whether trying each alone may do better than this failure of all of them.
    fn is_worth_a_second_try(&self, writes: &[Write<'_>], failure: &Failure) -> bool {
        failure.others_may_succeed && writes.len() > 1
    }

    /// The positions of these partitions as they are now.
    ///
    /// # Errors
    /// When they cannot be read.
    fn positions(&mut self, partitions: &[&TopicPartition]) -> Result<Vec<Option<Position>>, Failure>;

    /// Draws the consequences for the writer itself.
    fn remember(&mut self, failure: Failure) -> SinkError;

    /// Writes, and answers for each.
    fn write_and_answer(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        match self.write_together(writes) {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(failure) if self.is_worth_a_second_try(writes, &failure) => self.write_each(writes),
            Err(failure) => self.answer_all(writes, failure),
        }
    }

    /// Each in a transaction of its own; once the database itself fails, the rest get that answer untried.
    fn write_each(&mut self, writes: &[Write<'_>]) -> Vec<Result<Written, SinkError>> {
        let mut answers = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            match self.write_alone(write) {
                Ok(written) => answers.push(Ok(written)),
                Err(failure) if failure.others_may_succeed => answers.push(Err(self.remember(failure))),
                Err(failure) => {
                    answers.extend(self.answer_all(&writes[index..], failure));
                    break;
                }
            }
        }
        answers
    }

    /// Which of the batches are committed for certain, by their position rows. Where these cannot be read now, none: the
    /// engine tries the batches again, and the compare-and-set then finds what was done.
    fn committed(&mut self, writes: &[Write<'_>]) -> Vec<bool> {
        let moved = writes.iter().filter(|write| write.position.is_some());
        let partitions: Vec<&TopicPartition> = moved.map(|write| write.batch.partition()).collect();
        let found = self.positions(&partitions).unwrap_or_else(|failure| {
            log::warn!("whether the last batch was committed is not known yet: {}", failure.error);
            vec![None; partitions.len()]
        });
        let mut found = found.into_iter();
        let is_committed = |write: &Write<'_>| {
            let Some(step) = &write.position else { return false };
            found.next().flatten().is_some_and(|position| position.is_after(step))
        };
        writes.iter().map(is_committed).collect()
    }

    /// One failure as the answer to all, except to those that the position row proves committed.
    fn answer_all(&mut self, writes: &[Write<'_>], failure: Failure) -> Vec<Result<Written, SinkError>> {
        let committed = match failure.outcome_unknown {
            true => self.committed(writes),
            false => vec![false; writes.len()],
        };
        let error = self.remember(failure);
        let answer = |(write, committed): (&Write<'_>, bool)| match committed {
            true => Ok(Written::all_repeated(write.batch.len() as u64)),
            false => Err(error.clone()),
        };
        writes.iter().zip(committed).map(answer).collect()
    }
}
