//! What an answer brings: chunks to hand on, partitions to send back, and what it says about the session.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use super::session::is_about_session;
use super::{Asked, Fetcher, Target};
use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::consumer::{Event, Fetched};
use crate::kafka::error::{Code, Error};
use crate::kafka::offsets::Isolation;
use crate::kafka::router::Cause;
use crate::kafka::wire::record_batch::{Aborted, FetchedRecords, Survey, survey};

impl Fetcher {
    /// Waits for the answer, asks again, then hands the chunks on.
    pub(super) fn receive(&mut self, asked: Asked) -> Option<Asked> {
        let Asked { in_flight, mut reservation, wait } = asked;
        let timeout = wait + self.options.request_timeout;
        let connection = self.connection.as_mut()?;
        let answer = connection.receive::<FetchRequest>(in_flight, &mut reservation, timeout);
        let address = connection.address().to_owned();
        drop(reservation);
        let chunks = match answer {
            Ok(answer) => self.read(&address, answer),
            Err(error) => {
                self.give_up(error);
                return None;
            }
        };
        let next = self.ask(Duration::ZERO).ok();
        chunks.into_iter().for_each(|chunk| self.reporter.send(Event::Fetched(chunk)));
        next
    }

    fn read(&mut self, address: &str, answer: FetchResponse) -> Vec<Fetched> {
        self.connection_worked = true;
        self.heed_throttle(answer.throttle_time_ms);
        match Code(answer.error_code) {
            Code::NONE => self.session.answered(answer.session_id),
            code if is_about_session(code) => {
                log::debug!("{address}: {code}");
                self.session.reset();
                return Vec::new();
            }
            code => {
                self.give_up(refused(address, format!("broker {}", self.node), code));
                return Vec::new();
            }
        }
        let mut chunks = Vec::new();
        for topic in answer.responses {
            let known = self.names.get(&topic.topic_id).filter(|_| !topic.topic_id.is_nil());
            let name = known.map_or_else(|| Arc::from(topic.topic.as_str()), Arc::clone);
            for data in topic.partitions {
                let partition = TopicPartition { topic: Arc::clone(&name), partition: data.partition_index };
                chunks.extend(self.read_partition(address, &partition, data));
            }
        }
        chunks
    }

    /// The broker has answered at once and expects us to be quiet for so long (KIP-219).
    fn heed_throttle(&mut self, throttle_time_ms: i32) {
        if let Some(throttle) = u64::try_from(throttle_time_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis) {
            log::debug!("broker {}: its quota lets us fetch again in {throttle:?}", self.node);
            self.throttled_until = Some(door::now() + throttle.min(self.options.request_timeout));
        }
    }

    /// A partition that was moved, removed or started anew since it was asked for is passed over.
    fn read_partition(&mut self, address: &str, partition: &TopicPartition, data: PartitionData) -> Option<Fetched> {
        let target = &self.active.get(partition).filter(|active| active.told.is_some())?.target;
        let diverging = &data.diverging_epoch;
        match Code(data.error_code) {
            Code::NONE if diverging.end_offset >= 0 => {
                let error = truncated(target, diverging.epoch, diverging.end_offset);
                self.fail(partition, error);
            }
            Code::NONE if data.preferred_read_replica.0 >= 0 && data.preferred_read_replica.0 != self.node => {
                self.send_back(partition, Cause::ToReplica(data.preferred_read_replica.0));
            }
            Code::NONE => return self.take_records(partition, data),
            Code::OFFSET_OUT_OF_RANGE => self.send_back(partition, Cause::OutOfRange),
            code => {
                let error = refused(address, partition.to_string(), code);
                if error.is_retriable() || code == Code::UNKNOWN_SERVER_ERROR {
                    self.send_back(partition, Cause::Refused(error));
                } else {
                    self.fail(partition, error);
                }
            }
        }
        None
    }

    fn take_records(&mut self, partition: &TopicPartition, data: PartitionData) -> Option<Fetched> {
        let records = data.records.filter(|records| !records.is_empty())?;
        let active = self.active.get_mut(partition)?;
        let first = active.target.offset;
        let surveyed = match survey(&records, first) {
            Ok(surveyed) => surveyed,
            Err(error) => {
                self.fail(partition, Error::Invalid(format!("{partition}: {error}")));
                return None;
            }
        };
        let Survey { next_offset, last_epoch, records_max, batches, bytes, cut_off_bytes } = surveyed;
        if next_offset <= first {
            self.ask_for_more(partition, batches, cut_off_bytes);
            return None;
        }
        active.bytes_max = self.options.partition_fetch_bytes;
        active.target.offset = next_offset;
        active.target.last_epoch = last_epoch;
        let visible_end = if data.last_stable_offset >= 0 { data.last_stable_offset } else { data.high_watermark };
        let log_end = match self.options.isolation {
            Isolation::ReadCommitted => visible_end,
            Isolation::ReadUncommitted => data.high_watermark,
        };
        let aborted = data.aborted_transactions.unwrap_or_default();
        let aborted = aborted.iter().map(|of| Aborted { producer_id: of.producer_id.0, first_offset: of.first_offset });
        Some(Fetched {
            partition: partition.clone(),
            run: active.target.run,
            first,
            next: next_offset,
            records_max,
            log_end,
            records: FetchedRecords {
                bytes: records.slice(..bytes),
                aborted: aborted.collect(),
                isolation: self.options.isolation,
                held: Some(Box::new(active.target.credit.take())),
            },
        })
    }

    /// Nothing in the answer is at or after the offset: the next batch is larger than was asked for, or the answer is
    /// not what it should be, and then the partition takes the way of a failed one, which has a backoff.
    fn ask_for_more(&mut self, partition: &TopicPartition, batches: usize, cut_off_bytes: Option<usize>) {
        let Some(active) = self.active.get_mut(partition) else { return };
        match cut_off_bytes {
            Some(needed) if batches == 0 && needed > active.bytes_max => {
                log::debug!("{partition}: its next batch has {needed} bytes");
                active.bytes_max = needed.min(self.cluster.options().response_bytes_max);
            }
            _ => {
                let offset = active.target.offset;
                let text = format!("{partition}: the answer to a fetch from offset {offset} holds no such record");
                self.send_back(partition, Cause::Refused(Error::Invalid(text)));
            }
        }
    }
}

/// The leader lacks records that we have read: it became the leader without having them (an unclean election), or the
/// log was restored from an older copy.
fn truncated(target: &Target, epoch: i32, end: i64) -> Error {
    let Target { partition, offset, last_epoch, .. } = target;
    Error::Invalid(format!(
        "{partition}: the log was cut: it was read up to offset {offset} in leader epoch {last_epoch}, but on its leader \
         epoch {epoch} ends at {end}, so what was read from {end} on is lost in Kafka, and other records may stand \
         there now; to accept this, set the position to {end} (reads what is there instead) or leave it at {offset}, \
         and start again"
    ))
}

fn refused(address: &str, subject: String, code: Code) -> Error {
    Error::Broker { address: address.into(), api: "Fetch", subject, code, message: None }
}
