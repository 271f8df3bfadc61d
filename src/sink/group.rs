//! How many batches share a transaction.

use crate::port::Write;

/// The most bytes of several batches in one transaction: one failure repeats all of them.
pub const GROUP_BYTES: usize = 8 << 20;

/// Has `write` write the batches in groups that fit a transaction each, and gives all its answers, in order.
pub fn write_in_groups<T>(writes: &[Write<'_>], mut write: impl FnMut(&[Write<'_>]) -> Vec<T>) -> Vec<T> {
    let mut answers = Vec::with_capacity(writes.len());
    let mut rest = writes;
    while !rest.is_empty() {
        let (group, later) = rest.split_at(group_len(rest));
        answers.extend(write(group));
        rest = later;
    }
    answers
}

/// How many of the first batches go into one transaction.
pub fn group_len(writes: &[Write<'_>]) -> usize {
    let mut bytes = 0;
    let fitting = writes.iter().take_while(|write| {
        bytes += write.batch.bytes();
        bytes <= GROUP_BYTES
    });
    fitting.count().max(1)
}
