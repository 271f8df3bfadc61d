//! The log of one partition, in memory: batches as they came, in offset order, plus what is needed to answer for them.
//!
//! Pure: no lock, no clock. `topics.rs` holds one per partition behind a lock.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::batch::{self, BatchFault, BatchHeader, add_sequence};

/// How many of a producer's last batches are remembered; producers keep at most five in flight.
const REMEMBERED_BATCHES: usize = 5;

/// One partition's batches.
#[derive(Debug)]
pub struct PartitionLog {
    start: i64,
    end: i64,
    batches: VecDeque<StoredBatch>,
    stored_bytes: usize,
    retention_bytes: Option<usize>,
    producers: HashMap<i64, ProducerState>,
    /// Where each leader epoch begins. A single node never loses its leadership, so a new one comes of
    /// [`truncate`](Self::truncate) alone.
    epochs: Vec<i64>,
}

#[derive(Debug)]
struct StoredBatch {
    base_offset: i64,
    last_offset: i64,
    max_timestamp_ms: i64,
    bytes: Bytes,
}

/// What a partition remembers of an idempotent producer.
#[derive(Debug)]
struct ProducerState {
    epoch: i16,
    recent: VecDeque<SequenceRange>,
}

#[derive(Clone, Copy, Debug)]
struct SequenceRange {
    first: i32,
    last: i32,
    base_offset: i64,
}

/// Why an append was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendFault {
    #[error(transparent)]
    Batch(#[from] BatchFault),
    #[error("sequence number {actual} where {expected} should follow")]
    Sequence { actual: i32, expected: i32 },
    #[error("producer epoch {actual} is older than {current}")]
    ProducerEpoch { actual: i16, current: i16 },
}

impl AppendFault {
    /// The error code a broker answers with.
    pub fn code(self) -> i16 {
        match self {
            Self::Batch(fault) => fault.code(),
            Self::Sequence { .. } => ResponseError::OutOfOrderSequenceNumber.code(),
            Self::ProducerEpoch { .. } => ResponseError::InvalidProducerEpoch.code(),
        }
    }
}

/// An offset found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    pub offset: i64,
    pub timestamp_ms: i64,
}

impl PartitionLog {
    /// An empty log that keeps about `retention_bytes` (`None`: everything).
    pub fn new(retention_bytes: Option<usize>) -> Self {
        Self {
            start: 0,
            end: 0,
            batches: VecDeque::new(),
            stored_bytes: 0,
            retention_bytes,
            producers: HashMap::new(),
            epochs: vec![0],
        }
    }

    /// The first offset that is still there.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// The offset that the next record gets.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Stores the one batch that `bytes` must be and returns its base offset. A batch that an idempotent producer
    /// sends again is not stored again: it gets the offset of the first time.
    pub fn append(&mut self, bytes: &[u8]) -> Result<i64, AppendFault> {
        let header = BatchHeader::validate(bytes)?;
        if header.producer_id >= 0 {
            if let Some(stored_at) = self.check_sequence(&header)? {
                return Ok(stored_at);
            }
            self.remember(&header);
        }
        Ok(self.store(bytes, &header))
    }

    /// Stores a batch whose checksum, counts and contents may be anything; only its header must be whole.
    pub fn append_unchecked(&mut self, bytes: &[u8]) -> Result<i64, BatchFault> {
        let header = BatchHeader::peek(bytes)?;
        Ok(self.store(&bytes[..header.batch_bytes], &header))
    }

    fn store(&mut self, bytes: &[u8], header: &BatchHeader) -> i64 {
        let base_offset = self.end;
        let last_offset = base_offset + i64::from(header.last_offset_delta.max(0));
        self.batches.push_back(StoredBatch {
            base_offset,
            last_offset,
            max_timestamp_ms: header.max_timestamp_ms,
            bytes: batch::placed_at(bytes, base_offset, self.leader_epoch()),
        });
        self.end = last_offset + 1;
        self.stored_bytes += bytes.len();
        self.retain();
        base_offset
    }

    fn retain(&mut self) {
        let Some(limit) = self.retention_bytes else { return };
        while self.stored_bytes > limit && self.batches.len() > 1 {
            self.delete_before(self.batches[1].base_offset);
        }
    }

    /// The base offset of the stored batch when this one is a repetition of it.
    fn check_sequence(&self, header: &BatchHeader) -> Result<Option<i64>, AppendFault> {
        let actual = header.base_sequence;
        let Some(state) = self.producers.get(&header.producer_id) else { return Ok(None) };
        if header.producer_epoch < state.epoch {
            return Err(AppendFault::ProducerEpoch { actual: header.producer_epoch, current: state.epoch });
        }
        if header.producer_epoch > state.epoch {
            return if actual == 0 { Ok(None) } else { Err(AppendFault::Sequence { actual, expected: 0 }) };
        }
        let same = |known: &&SequenceRange| known.first == actual && known.last == header.last_sequence();
        if let Some(known) = state.recent.iter().find(same) {
            return Ok(Some(known.base_offset));
        }
        let expected = state.recent.back().map_or(0, |known| add_sequence(known.last, 1));
        if actual == expected { Ok(None) } else { Err(AppendFault::Sequence { actual, expected }) }
    }

    fn remember(&mut self, header: &BatchHeader) {
        let fresh = || ProducerState { epoch: header.producer_epoch, recent: VecDeque::new() };
        let state = self.producers.entry(header.producer_id).or_insert_with(fresh);
        if state.epoch != header.producer_epoch {
            *state = fresh();
        }
        if state.recent.len() == REMEMBERED_BATCHES {
            state.recent.pop_front();
        }
        let (first, last) = (header.base_sequence, header.last_sequence());
        state.recent.push_back(SequenceRange { first, last, base_offset: self.end });
    }

    /// Bytes that a read from `offset` would give, not counting beyond `enough_bytes` by more than one batch.
    pub fn available_bytes(&self, offset: i64, enough_bytes: usize) -> usize {
        let mut bytes = 0;
        for stored in self.batches.range(self.index_of(offset)..) {
            bytes += stored.bytes.len();
            if bytes >= enough_bytes {
                break;
            }
        }
        bytes
    }

    /// The bytes from the batch that holds `offset` on, up to `max_bytes`; the first batch whatever its size when
    /// `at_least_one`, else nothing if it does not fit. As from a real broker, which sends a slice of a file, the last
    /// batch may be cut off. `None`: the offset is outside of the log.
    pub fn read(&self, offset: i64, max_bytes: usize, at_least_one: bool) -> Option<Vec<Bytes>> {
        if offset < self.start || offset > self.end {
            return None;
        }
        let mut slices = Vec::new();
        let mut left_bytes = max_bytes;
        for stored in self.batches.range(self.index_of(offset)..) {
            let is_first = slices.is_empty();
            if stored.bytes.len() <= left_bytes || (is_first && at_least_one) {
                slices.push(stored.bytes.clone());
                left_bytes = left_bytes.saturating_sub(stored.bytes.len());
                continue;
            }
            if !is_first && left_bytes > 0 {
                slices.push(stored.bytes.slice(..left_bytes));
            }
            break;
        }
        Some(slices)
    }

    /// The first batch whose last offset is not below `offset`.
    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|stored| stored.last_offset < offset)
    }

    /// The first record at or after a time. In a compressed batch, which is not opened here, it is the batch's first
    /// record: never too late, at most one batch too early.
    pub fn offset_at(&self, timestamp_ms: i64) -> Option<TimedOffset> {
        let stored = self.batches.iter().find(|stored| stored.max_timestamp_ms >= timestamp_ms)?;
        let (delta, at_ms) =
            batch::first_at_or_after(&stored.bytes, timestamp_ms).unwrap_or((0, stored.max_timestamp_ms));
        Some(TimedOffset { offset: (stored.base_offset + i64::from(delta)).max(self.start), timestamp_ms: at_ms })
    }

    /// A record with the greatest time there is: exact in an uncompressed batch, else the batch's last record.
    pub fn offset_of_max_timestamp(&self) -> Option<TimedOffset> {
        let timestamp_ms = self.batches.iter().map(|stored| stored.max_timestamp_ms).max()?;
        let stored = self.batches.iter().find(|stored| stored.max_timestamp_ms == timestamp_ms)?;
        let offset = batch::first_at_or_after(&stored.bytes, timestamp_ms)
            .map_or(stored.last_offset, |(delta, _)| stored.base_offset + i64::from(delta));
        Some(TimedOffset { offset, timestamp_ms })
    }

    /// The current leader epoch.
    pub fn leader_epoch(&self) -> i32 {
        self.epochs.len() as i32 - 1
    }

    /// Where the records of a leader epoch end. `None`: there was no such epoch.
    pub fn end_of_epoch(&self, epoch: i32) -> Option<i64> {
        let epoch = usize::try_from(epoch).ok().filter(|epoch| *epoch < self.epochs.len())?;
        Some(self.epochs.get(epoch + 1).copied().unwrap_or(self.end))
    }

    /// Loses all batches that reach `offset` or beyond, as when a replica that lacks them becomes the leader: a new
    /// leader epoch begins. Returns the log's new end.
    pub fn truncate(&mut self, offset: i64) -> i64 {
        while self.batches.back().is_some_and(|stored| stored.last_offset >= offset) {
            let gone = self.batches.pop_back();
            self.stored_bytes -= gone.map_or(0, |stored| stored.bytes.len());
        }
        self.end = self.batches.back().map_or(self.start, |stored| stored.last_offset + 1);
        self.epochs.iter_mut().for_each(|start| *start = (*start).min(self.end));
        self.epochs.push(self.end);
        self.end
    }

    /// Moves the log's start to `offset` (kept within the log) and drops the batches that end before it.
    pub fn delete_before(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        while self.batches.front().is_some_and(|stored| stored.last_offset < self.start) {
            let gone = self.batches.pop_front();
            self.stored_bytes -= gone.map_or(0, |stored| stored.bytes.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::batch::testing::{batch_of, plain};

    fn log_of(counts: &[usize]) -> PartitionLog {
        let mut log = PartitionLog::new(None);
        for &count in counts {
            log.append(&plain(count)).unwrap();
        }
        log
    }

    #[test]
    fn a_truncated_log_goes_on_in_a_new_epoch() {
        let mut log = log_of(&[3, 3, 3]);
        assert_eq!((log.leader_epoch(), log.end_of_epoch(0), log.end_of_epoch(1)), (0, Some(9), None));
        assert_eq!(log.truncate(5), 3, "the batch that holds the offset goes too");
        log.append(&plain(10)).unwrap();
        assert_eq!((log.leader_epoch(), log.end_of_epoch(0), log.end_of_epoch(1)), (1, Some(3), Some(13)));
        assert_eq!(log.truncate(0), 0);
        assert_eq!((log.end_of_epoch(0), log.end_of_epoch(1), log.end_of_epoch(2)), (Some(0), Some(0), Some(0)));
    }

    fn base_offsets(slices: &[Bytes]) -> Vec<i64> {
        slices.iter().map(|slice| i64::from_be_bytes(slice[..8].try_into().unwrap())).collect()
    }

    #[test]
    fn a_read_starts_at_the_batch_that_holds_the_offset() {
        let log = log_of(&[3, 2, 4]); // 0..=2, 3..=4, 5..=8
        for (offset, expected) in [
            (0, Some(vec![0, 3, 5])),
            (2, Some(vec![0, 3, 5])),
            (3, Some(vec![3, 5])),
            (8, Some(vec![5])),
            (9, Some(vec![])),
            (10, None),
            (-1, None),
        ] {
            let read = log.read(offset, usize::MAX, true).map(|slices| base_offsets(&slices));
            assert_eq!(read, expected, "from offset {offset}");
        }
    }

    #[test]
    fn a_limit_cuts_the_last_batch_off_but_never_the_only_one() {
        let log = log_of(&[1, 1, 1]);
        let one = plain(1).len();
        for (max_bytes, at_least_one, expected) in [
            (0, true, vec![one]),
            (0, false, vec![]),
            (one - 1, false, vec![]),
            (one, false, vec![one]),
            (2 * one - 1, true, vec![one, one - 1]),
            (2 * one, false, vec![one, one]),
            (2 * one + 5, false, vec![one, one, 5]),
            (9 * one, false, vec![one, one, one]),
        ] {
            let slices = log.read(0, max_bytes, at_least_one).unwrap();
            let sizes: Vec<usize> = slices.iter().map(Bytes::len).collect();
            assert_eq!(sizes, expected, "{max_bytes} bytes, at least one: {at_least_one}");
        }
        assert_eq!(log.available_bytes(1, usize::MAX), 2 * one);
        assert_eq!(log.available_bytes(3, usize::MAX), 0);
    }

    #[test]
    fn a_repeated_batch_is_recognised_and_a_gap_refused() {
        let mut log = PartitionLog::new(None);
        let numbered = |epoch, sequence| batch_of(&[1, 2], (9, epoch, sequence));
        for sequence in (0..14).step_by(2) {
            assert_eq!(log.append(&numbered(0, sequence)), Ok(i64::from(sequence)));
        }
        assert_eq!(log.append(&numbered(0, 8)), Ok(8), "one of the last five");
        assert_eq!(log.end(), 14, "a repetition was stored");
        assert_eq!(log.append(&numbered(0, 0)), Err(AppendFault::Sequence { actual: 0, expected: 14 }), "forgotten");
        assert_eq!(log.append(&numbered(0, 16)), Err(AppendFault::Sequence { actual: 16, expected: 14 }));
        assert_eq!(log.append(&numbered(1, 3)), Err(AppendFault::Sequence { actual: 3, expected: 0 }));
        assert_eq!(log.append(&numbered(1, 0)), Ok(14), "a new epoch starts at 0");
        assert_eq!(log.append(&numbered(0, 14)), Err(AppendFault::ProducerEpoch { actual: 0, current: 1 }));
    }

    #[test]
    fn deleting_moves_the_start_inside_a_batch_and_keeps_the_batch() {
        let mut log = log_of(&[3, 3]);
        log.delete_before(4);
        assert_eq!((log.start(), log.end()), (4, 6));
        assert_eq!(log.read(3, 1, true), None);
        assert_eq!(base_offsets(&log.read(4, 1, true).unwrap()), [3]);
        log.delete_before(100);
        assert_eq!((log.start(), log.end(), log.stored_bytes), (6, 6, 0));
        log.delete_before(0);
        assert_eq!(log.start(), 6, "the start went back");
    }

    #[test]
    fn retention_drops_the_oldest_batches_but_never_the_last() {
        let mut log = PartitionLog::new(Some(2 * plain(1).len()));
        for _ in 0..5 {
            log.append(&plain(1)).unwrap();
        }
        assert_eq!((log.start(), log.end()), (3, 5));
        log.append(&plain(1_000)).unwrap();
        assert_eq!((log.start(), log.end()), (5, 1_005));
    }

    #[test]
    fn offsets_are_found_by_time() {
        let mut log = PartitionLog::new(None);
        log.append(&batch_of(&[100, 200], (-1, -1, -1))).unwrap();
        log.append(&batch_of(&[300, 250], (-1, -1, -1))).unwrap();
        let found = |timestamp_ms| log.offset_at(timestamp_ms).map(|at| (at.offset, at.timestamp_ms));
        for (timestamp_ms, expected) in [(0, Some((0, 100))), (101, Some((1, 200))), (201, Some((2, 300))), (301, None)]
        {
            assert_eq!(found(timestamp_ms), expected, "at {timestamp_ms} ms");
        }
        assert_eq!(log.offset_of_max_timestamp(), Some(TimedOffset { offset: 2, timestamp_ms: 300 }));
        assert_eq!(PartitionLog::new(None).offset_of_max_timestamp(), None);
    }

    #[test]
    fn an_unchecked_append_keeps_the_fault_in_the_bytes() {
        let mut bytes = plain(1).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let mut log = PartitionLog::new(None);
        assert!(matches!(log.append(&bytes), Err(AppendFault::Batch(BatchFault::Crc { .. }))));
        assert_eq!(log.append_unchecked(&bytes), Ok(0));
        assert!(BatchHeader::validate(&log.read(0, 1, true).unwrap()[0]).is_err());
    }
}
