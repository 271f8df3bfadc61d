//! Decoding alone: the bytes of a fetch into records, by one thread or several, again and again.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::records::{Generator, batches};
use super::timed::Times;
use super::{Job, Measurement};
use crate::core::record::{DecodeError, Encoded, RecordBuffer};
use crate::door;
use crate::kafka::offsets::Isolation;
use crate::kafka::wire::compression::Codec;
use crate::kafka::wire::record_batch::FetchedRecords;

/// So many bytes of records are encoded beforehand; they are more than caches hold.
const ENCODED_BYTES: u64 = 32 << 20;

/// Runs a job; what is timed is the decoding of one record batch.
///
/// # Errors
/// When our own batches cannot be read, which would be a fault of ours.
pub fn run(job: &Job, codec: Codec) -> Result<Measurement, DecodeError> {
    let setting = job.setting;
    let records = (ENCODED_BYTES / setting.record_bytes as u64).clamp(1, job.records_max);
    let mut generator = Generator::new(job.seed, setting.record_bytes);
    let encoded: Vec<Bytes> = batches(&mut generator, 0..records, setting.batch_size, codec).map(placed).collect();
    let (times, _) = Times::new();
    let until = door::now() + Duration::from_secs_f64(job.seconds);
    let per_worker = job.records_max / setting.workers as u64;
    let ended: Vec<Result<(), DecodeError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..setting.workers)
            .map(|worker| {
                let share = encoded.iter().cycle().skip(worker * encoded.len() / setting.workers);
                let times = &times;
                scope.spawn(move || {
                    let (mut buffer, mut done) = (RecordBuffer::default(), 0);
                    for batch in share.take_while(|_| door::now() < until) {
                        done += decode(batch, &mut buffer, times)?;
                        if done >= per_worker {
                            break;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("decoding does not panic")).collect()
    });
    ended.into_iter().collect::<Result<(), DecodeError>>()?;
    Ok(times.measurement("decode"))
}

/// Base offset 0, as every batch here has it.
fn placed(batch: Bytes) -> Bytes {
    let mut bytes = BytesMut::from(&batch[..]);
    bytes[..8].copy_from_slice(&0i64.to_be_bytes());
    bytes.freeze()
}

fn decode(batch: &Bytes, buffer: &mut RecordBuffer, times: &Times) -> Result<u64, DecodeError> {
    buffer.clear();
    let fetched =
        FetchedRecords { bytes: batch.clone(), aborted: Vec::new(), isolation: Isolation::ReadCommitted, held: None };
    times.piece(|| {
        let decoded = Arc::new(fetched).decoder(0).decode_rest(buffer);
        let records = buffer.len() as u64;
        (decoded.map(|_| records), records, buffer.bytes() as u64)
    })
}
