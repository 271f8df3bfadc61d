//! A lane: the records of one partition (or of one key-hash share of it) on their way to a worker.
//!
//! There is exactly one [`Lane`] value per sub-lane, in a box that moves: idle with the loop, in the ready queue, or with
//! the one worker that holds it. Ownership is the mutual exclusion, so batches of a partition are written in order.

use std::collections::VecDeque;
use std::sync::Arc;

use crossbeam::channel::Receiver;

use super::channels::SharedChunk;
use crate::core::batcher::Amount;
use crate::core::identity::RecordIds;
use crate::core::partition::LaneId;
use crate::core::record::{DecodeError, Decoder, MessageBatch, Record, RecordBuffer, Skipped, TopicPartition};
use crate::port::{MemoryBudget, PositionMove, Write};

/// See the module.
pub(super) struct Lane {
    pub id: LaneId,
    pub partition: TopicPartition,
    ids: RecordIds,
    /// This lane is one of so many; each takes the records whose key hashes to it.
    shares: usize,
    chunks: Receiver<SharedChunk>,
    records: RecordBuffer,
    open: Option<OpenChunk>,
    /// What is wrong with the open chunk, behind the records held.
    damage: Option<DecodeError>,
    /// A batch of so many records failed. It is tried again as it was: where its commit was not answered, only the position
    /// that it makes tells whether it is written.
    tried: Option<usize>,
    /// Per decoded chunk: after how many of the records held it ends, and the offset behind it.
    ends: VecDeque<(usize, i64)>,
    /// Everything below is written.
    through: i64,
    /// The fencing number and the position of our row.
    claimed: Option<(i64, i64)>,
    /// Log records passed over since the last write.
    skipped: u64,
    memory: Arc<MemoryBudget>,
    charged: usize,
    /// The time of the record written last, in milliseconds since the epoch.
    pub written_unix_ms: Option<i64>,
}

/// A chunk of which a part is decoded.
struct OpenChunk {
    decoder: Box<dyn Decoder>,
    /// The offset behind it.
    next: i64,
    /// The most records that can be left in it.
    records_left: usize,
    /// Holds the memory and the credit until the last part is decoded.
    _chunk: SharedChunk,
}

impl OpenChunk {
    fn new(chunk: SharedChunk) -> Self {
        let decoder = Arc::clone(&chunk.records).decoder(chunk.first);
        Self { decoder, next: chunk.next, records_left: chunk.records_max, _chunk: chunk }
    }
}

/// What filling a lane did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Filled {
    pub chunks: usize,
    pub decoded: u64,
    pub skipped: u64,
}

/// What makes a lane.
pub(super) struct LaneSeed {
    pub id: LaneId,
    pub partition: TopicPartition,
    pub ids: RecordIds,
    pub shares: usize,
    pub position: i64,
    pub claimed: Option<(i64, i64)>,
    pub memory: Arc<MemoryBudget>,
}

impl Lane {
    pub fn new(seed: LaneSeed, chunks: Receiver<SharedChunk>) -> Self {
        Self {
            id: seed.id,
            partition: seed.partition,
            ids: seed.ids,
            shares: seed.shares,
            chunks,
            records: RecordBuffer::default(),
            open: None,
            damage: None,
            tried: None,
            ends: VecDeque::new(),
            through: seed.position,
            claimed: seed.claimed,
            skipped: 0,
            memory: seed.memory,
            charged: 0,
            written_unix_ms: None,
        }
    }

    /// Decodes as much of the chunks as a batch of `rows_max` rows and `bytes_max` bytes needs, or all there is. Nothing
    /// where a batch is to be tried again.
    ///
    /// # Errors
    /// When a chunk's bytes are not what they should be and everything before them is written.
    pub fn fill(&mut self, rows_max: usize, bytes_max: usize, filled: &mut Filled) -> Result<(), DecodeError> {
        while self.tried.is_none() && self.records.len() < rows_max && self.records.bytes() < bytes_max {
            if let Some(damage) = &self.damage {
                return if self.records.is_empty() { Err(damage.clone()) } else { Ok(()) };
            }
            let mut open = match self.open.take() {
                Some(open) => open,
                None => match self.chunks.try_recv() {
                    Ok(chunk) => {
                        filled.chunks += 1;
                        OpenChunk::new(chunk)
                    }
                    Err(_) => break,
                },
            };
            let before = self.records.len();
            match open.decoder.decode(&mut self.records) {
                Some(piece) => {
                    match piece {
                        Ok(skipped) => {
                            let decoded = self.take_share(before, skipped, filled);
                            open.records_left = open.records_left.saturating_sub(decoded);
                        }
                        Err(damage) => {
                            self.records.retain_from(before, |_| false);
                            self.damage = Some(damage);
                        }
                    }
                    self.open = Some(open);
                }
                None => self.ends.push_back((self.records.len(), open.next)),
            }
            self.account();
        }
        Ok(())
    }

    /// Keeps of the records from `before` on those that are this lane's. Answers how many there were.
    fn take_share(&mut self, before: usize, skipped: Skipped, filled: &mut Filled) -> usize {
        let decoded = self.records.len() - before;
        if self.shares > 1 {
            let (index, shares) = (self.id.index, self.shares);
            self.records.retain_from(before, |record| share_of(record, shares) == index);
        }
        let skipped = if self.id.index == 0 { skipped.total() } else { 0 };
        self.skipped += skipped;
        filled.skipped += skipped;
        filled.decoded += (self.records.len() - before) as u64;
        decoded
    }

    /// How many of the records held make up the next batch.
    pub fn cut(&self, rows_max: usize, bytes_max: usize) -> usize {
        self.records.cut(self.tried.map_or(rows_max, |tried| tried.min(rows_max)), bytes_max)
    }

    /// The first `count` records as a write that moves the position behind them.
    pub fn write(&self, count: usize) -> Write<'_> {
        Write {
            batch: MessageBatch::new(&self.partition, &self.records, 0..count),
            ids: self.ids,
            position: self.move_behind(count, 0),
            aside: None,
        }
    }

    /// A write that only moves the position behind the first record, which was put aside. `None` where the sink keeps
    /// no position.
    pub fn write_past_first(&self) -> Option<Write<'_>> {
        let position = self.move_behind(1, 1)?;
        let batch = MessageBatch::new(&self.partition, &self.records, 0..0);
        Some(Write { batch, ids: self.ids, position: Some(position), aside: None })
    }

    fn move_behind(&self, count: usize, dead_lettered: u64) -> Option<PositionMove> {
        let next = self.position_behind(count);
        let skipped = self.skipped;
        self.claimed.map(|(owner_epoch, expected)| PositionMove { owner_epoch, expected, next, skipped, dead_lettered })
    }

    /// Whether writing `count` records would change anything in a sink.
    pub fn moves(&self, count: usize) -> bool {
        count > 0 || self.claimed.is_some_and(|(_, position)| position != self.position_behind(0))
    }

    /// A batch of the first `count` records failed.
    pub fn failed(&mut self, count: usize) {
        self.tried = Some(count);
    }

    /// The first `count` records are written, or put aside.
    pub fn wrote(&mut self, count: usize) {
        self.tried = None;
        if let Some(last) = count.checked_sub(1) {
            self.written_unix_ms = self.records.get(last).time_ms();
        }
        let next = self.position_behind(count);
        self.through = next;
        self.skipped = 0;
        if let Some((_, position)) = &mut self.claimed {
            *position = next;
        }
        self.records.consume(count);
        while self.ends.front().is_some_and(|&(records, _)| records <= count) {
            self.ends.pop_front();
        }
        for (records, _) in &mut self.ends {
            *records -= count;
        }
        self.account();
    }

    /// The offset below which everything is done once the first `count` records are: behind the last of them, and
    /// behind every chunk that ends there, whatever holes it covers.
    fn position_behind(&self, count: usize) -> i64 {
        let record = count.checked_sub(1).map_or(self.through, |last| self.records.get(last).offset + 1);
        let chunk =
            self.ends.iter().take_while(|(records, _)| *records <= count).last().map_or(record, |&(_, next)| next);
        record.max(chunk).max(self.through)
    }

    /// Everything below is written.
    pub fn through(&self) -> i64 {
        self.through
    }

    /// Records decoded and not written.
    pub fn waiting_records(&self) -> usize {
        self.records.len()
    }

    /// Bytes of these.
    pub fn waiting_bytes(&self) -> usize {
        self.records.bytes()
    }

    /// Whether chunks were taken that the position is not behind yet.
    pub fn owes_position(&self) -> bool {
        self.open.is_some() || !self.ends.is_empty()
    }

    /// The time of the first record that is not written, in milliseconds since the epoch.
    pub fn waiting_unix_ms(&self) -> Option<i64> {
        if self.records.is_empty() { None } else { self.records.get(0).time_ms() }
    }

    /// Bytes that decompression made.
    pub fn inflated_bytes(&self) -> usize {
        self.charged
    }

    /// At most so much is left of the chunk that is decoded in part.
    pub fn open(&self) -> Amount {
        let left = |open: &OpenChunk| Amount { records: open.records_left, bytes: open.decoder.bytes_left() };
        self.open.as_ref().map_or(Amount::default(), left)
    }

    /// Whether anything waits that is still encoded.
    pub fn has_encoded(&self) -> bool {
        self.open.is_some() || !self.chunks.is_empty()
    }

    /// Keeps the budget informed of the buffers that decompression made.
    fn account(&mut self) {
        let held = self.records.inflated_bytes();
        if held > self.charged {
            self.memory.charge(held - self.charged);
        } else {
            self.memory.release(self.charged - held);
        }
        self.charged = held;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.memory.release(self.charged);
    }
}

/// Which share a record belongs to: by key, so that order holds per key; without a key, spread by offset.
fn share_of(record: &Record<'_>, shares: usize) -> usize {
    // FNV-1a, 64 bits: fixed for a run, cheap for short keys.
    let hash = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let number = record.key.map_or(record.offset as u64, hash);
    (number % shares as u64) as usize
}

#[cfg(test)]
mod tests {
    use crossbeam::channel::{Sender, unbounded};

    use super::*;
    use crate::kafka::offsets::Isolation;
    use crate::kafka::wire::batch::HEADER_BYTES;
    use crate::kafka::wire::compression::Codec;
    use crate::kafka::wire::record_batch::{FetchedRecords, RecordBatchBuilder};
    use crate::port::Chunk;

    /// `batches` compressed batches of 100 records of 1,000 zeros each, as one fetched chunk.
    fn inflating(partition: &TopicPartition, batches: i64) -> SharedChunk {
        Arc::new(chunk_of(partition, batches))
    }

    fn chunk_of(partition: &TopicPartition, batches: i64) -> Chunk {
        let mut bytes = Vec::new();
        for batch in 0..batches {
            let mut builder = RecordBatchBuilder::default();
            (0..100).for_each(|_| builder.append(None, Some(&[0; 1000]), &[], 0));
            let mut encoded = builder.finish(Codec::Zstd).unwrap().to_vec();
            encoded[..8].copy_from_slice(&(batch * 100).to_be_bytes());
            bytes.extend(encoded);
        }
        let (next, records_max) = (batches * 100, batches as usize * 100);
        let (bytes, isolation) = (bytes.into(), Isolation::ReadCommitted);
        let records = Arc::new(FetchedRecords { bytes, aborted: Vec::new(), isolation, held: None });
        let partition = partition.clone();
        Chunk { partition, run: 1, first: 0, next, records_max, log_end: next, records }
    }

    /// A lane and the way into it.
    fn lane_of(partition: &TopicPartition, memory: &Arc<MemoryBudget>) -> (Lane, Sender<SharedChunk>) {
        let seed = LaneSeed {
            id: LaneId { run: 1, index: 0 },
            partition: partition.clone(),
            ids: RecordIds::new("g", partition),
            shares: 1,
            position: 0,
            claimed: None,
            memory: Arc::clone(memory),
        };
        let (chunks, receiver) = unbounded();
        (Lane::new(seed, receiver), chunks)
    }

    /// Three batches of 10 records, in the second of which the sixth record lies about its length, its checksum being right.
    fn damaged(partition: &TopicPartition) -> SharedChunk {
        let mut bytes = Vec::new();
        for batch in 0..3 {
            let mut builder = RecordBatchBuilder::default();
            (0..10).for_each(|_| builder.append(None, Some(&[7; 20]), &[], 0));
            let mut encoded = builder.finish(Codec::None).unwrap().to_vec();
            encoded[..8].copy_from_slice(&(batch * 10_i64).to_be_bytes());
            if batch == 1 {
                let record = (encoded.len() - HEADER_BYTES) / 10;
                encoded[HEADER_BYTES + 5 * record] = 0x7e;
                let checksum = crc32c::crc32c(&encoded[21..]);
                encoded[17..21].copy_from_slice(&checksum.to_be_bytes());
            }
            bytes.extend(encoded);
        }
        let records = FetchedRecords {
            bytes: bytes.into(),
            aborted: Vec::new(),
            isolation: Isolation::ReadCommitted,
            held: None,
        };
        let (partition, records) = (partition.clone(), Arc::new(records));
        Arc::new(Chunk { partition, run: 1, first: 0, next: 30, records_max: 30, log_end: 30, records })
    }

    #[test]
    fn a_batch_that_failed_is_tried_again_as_it_was_whatever_came_meanwhile() {
        let partition = TopicPartition::new("t", 0);
        let (mut lane, chunks) = lane_of(&partition, &MemoryBudget::new(usize::MAX));
        lane.claimed = Some((1, 0));
        let write = |lane: &mut Lane| {
            lane.fill(1000, usize::MAX, &mut Filled::default()).unwrap();
            let count = lane.cut(1000, usize::MAX);
            (count, lane.write(count).position.map(|position| position.next))
        };
        chunks.send(inflating(&partition, 1)).unwrap();
        assert_eq!(write(&mut lane), (100, Some(100)));
        lane.failed(100);
        chunks.send(Arc::new(Chunk { first: 100, ..chunk_of(&partition, 2) })).unwrap();
        assert_eq!(
            write(&mut lane),
            (100, Some(100)),
            "with a larger one nobody could tell whether the first is written"
        );
        lane.wrote(100);
        assert_eq!(write(&mut lane), (100, Some(200)));
    }

    #[test]
    fn what_stands_before_a_damaged_batch_is_written_and_nothing_of_it_or_behind_it() {
        let partition = TopicPartition::new("t", 0);
        let (mut lane, chunks) = lane_of(&partition, &MemoryBudget::new(usize::MAX));
        chunks.send(damaged(&partition)).unwrap();
        let mut filled = Filled::default();
        lane.fill(1000, usize::MAX, &mut filled).expect("there is something to write");
        assert_eq!((lane.waiting_records(), filled.decoded), (10, 10));
        lane.fill(1000, usize::MAX, &mut Filled::default()).expect("and still, when it could not be written");
        lane.wrote(10);
        assert_eq!((lane.through(), lane.owes_position()), (10, true));
        for _ in 0..2 {
            let error = lane.fill(1000, usize::MAX, &mut Filled::default()).expect_err("then the damage shows");
            assert_eq!((error.base_offset, lane.waiting_records()), (10, 0), "{error}");
        }
    }

    #[test]
    fn of_a_chunk_that_inflates_only_what_a_batch_needs_is_held() {
        let partition = TopicPartition::new("t", 0);
        let memory = MemoryBudget::new(usize::MAX);
        let (mut lane, chunks) = lane_of(&partition, &memory);
        chunks.send(inflating(&partition, 50)).unwrap();
        for batch in 1..=25 {
            lane.fill(200, usize::MAX, &mut Filled::default()).unwrap();
            assert_eq!((lane.waiting_records(), lane.open().records), (200, 5_000 - 200 * batch), "batch {batch}");
            assert!(memory.used() < 3 * 101_000 + 3_000, "{} bytes held", memory.used());
            lane.wrote(200);
            assert_eq!(lane.through(), 200 * batch as i64);
        }
        lane.fill(200, usize::MAX, &mut Filled::default()).unwrap();
        assert_eq!((lane.waiting_records(), lane.has_encoded()), (0, false));
        lane.wrote(0);
        assert_eq!((lane.through(), lane.owes_position(), memory.used()), (5_000, false, 0));
    }
}
