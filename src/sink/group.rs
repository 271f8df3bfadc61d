//! How many batches share a transaction.

use crate::port::Write;

/// The most bytes of several batches in one transaction: one failure repeats all of them.
pub const GROUP_BYTES: usize = 8 << 20;

/// How many of the first batches go into one transaction.
pub fn group_len(writes: &[Write<'_>]) -> usize {
    let mut bytes = 0;
    let fitting = writes.iter().take_while(|write| {
        bytes += write.batch.bytes();
        bytes <= GROUP_BYTES
    });
    fitting.count().max(1)
}
