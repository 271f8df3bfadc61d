//! A sink alone: records that are ready, written as the engine writes them, with positions where the sink keeps any.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::records::Pool;
use super::timed::{TimedSink, Times};
use super::{Job, Measurement};
use crate::core::identity::RecordIds;
use crate::core::record::{MessageBatch, RecordBuffer, TopicPartition};
use crate::core::verdict::ErrorClass;
use crate::door;
use crate::port::{Claim, PositionMove, Sink, SinkError, SinkTraits, Write, Writer};

/// Runs a job into `sink`: each worker has a writer and its share of the partitions, and writes batches of as many of
/// them together as the sink likes.
///
/// # Errors
/// What the sink says first.
pub fn run(job: &Job, sink: Arc<dyn Sink>) -> Result<Measurement, SinkError> {
    let setting = job.setting;
    let per_partition = (job.records_max as usize / setting.partitions).max(1);
    let records = Pool::new(job.seed, setting.record_bytes, per_partition).buffer(per_partition);
    let (times, _) = Times::new();
    let sink = TimedSink::new(sink, times.clone());
    let traits = sink.traits();
    let workers = setting.workers.min(traits.writers_max).min(setting.partitions);
    let ended: Vec<Result<(), SinkError>> = std::thread::scope(|scope| {
        let run = |worker: usize| {
            let partitions = (worker..setting.partitions).step_by(workers);
            let share = Share {
                partitions: partitions.map(|index| TopicPartition::new(job.topic.as_str(), index as i32)).collect(),
                records: &records,
                traits: &traits,
                times: &times,
                job,
            };
            let sink = &sink;
            scope.spawn(move || share.write(&mut *sink.writer()?))
        };
        let started: Vec<_> = (0..workers).map(run).collect();
        started.into_iter().map(|worker| worker.join().expect("a writer does not panic")).collect()
    });
    ended.into_iter().collect::<Result<(), SinkError>>()?;
    Ok(times.measurement("write"))
}

/// One worker's part: all of `records` into each of its partitions.
struct Share<'a> {
    partitions: Vec<TopicPartition>,
    records: &'a RecordBuffer,
    traits: &'a SinkTraits,
    times: &'a Times,
    job: &'a Job,
}

impl Share<'_> {
    fn write(&self, writer: &mut dyn Writer) -> Result<(), SinkError> {
        let lanes = self.claim(writer)?;
        let until = door::now() + Duration::from_secs_f64(self.job.seconds);
        let (count, step) = (self.records.len(), self.job.setting.batch_size);
        for first in (0..count).step_by(step) {
            for together in lanes.chunks(self.traits.batches_per_write) {
                if door::now() >= until {
                    return Ok(());
                }
                let range = first..count.min(first + step);
                let writes = together.iter().map(|lane| self.batch(lane, range.clone())).collect();
                write_all(writer, writes)?;
                self.times.parts(&writer.phases());
            }
        }
        Ok(())
    }

    /// Each partition with its owner epoch, where the sink keeps positions.
    fn claim<'p>(&'p self, writer: &mut dyn Writer) -> Result<Vec<Lane<'p>>, SinkError> {
        if !self.traits.transactional {
            return Ok(self.partitions.iter().map(|partition| (partition, None)).collect());
        }
        let claim = |partition: &TopicPartition| Claim {
            partition: partition.clone(),
            start_if_absent: Some(0),
            cluster_id: None,
            topic_id: None,
        };
        let claims: Vec<Claim> = self.partitions.iter().map(claim).collect();
        let claimed = loop {
            match writer.claim(&claims) {
                Err(error) if error.class == ErrorClass::Contention => {}
                answer => break answer?,
            }
        };
        let epochs = claimed.into_iter().map(|claimed| Some(claimed.owner_epoch));
        Ok(self.partitions.iter().zip(epochs).collect())
    }

    fn batch<'w>(&'w self, &(partition, owner_epoch): &Lane<'w>, range: Range<usize>) -> Write<'w> {
        let position = owner_epoch.map(|owner_epoch| PositionMove {
            owner_epoch,
            expected: range.start as i64,
            next: range.end as i64,
            skipped: 0,
            dead_lettered: 0,
        });
        Write {
            batch: MessageBatch::new(partition, self.records, range),
            ids: RecordIds::new(&self.job.group, partition),
            position,
            aside: None,
        }
    }
}

/// Writes batches; those that met with others (a deadlock, a lock that took too long) again, at once, as the engine does.
fn write_all(writer: &mut dyn Writer, mut writes: Vec<Write<'_>>) -> Result<(), SinkError> {
    while !writes.is_empty() {
        let answers = writer.write(&writes);
        let mut again = Vec::new();
        for (write, answer) in writes.into_iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(error) if error.class == ErrorClass::Contention => again.push(write),
                Err(error) => return Err(error),
            }
        }
        writes = again;
    }
    Ok(())
}

type Lane<'a> = (&'a TopicPartition, Option<i64>);
