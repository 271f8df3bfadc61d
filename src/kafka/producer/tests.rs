//! The producer against a scripted broker and the embedded one's log: order, copies, refusals, bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ApiKey, InitProducerIdResponse, ProduceRequest};
use parking_lot::Mutex;

use super::*;
use crate::core::record::{Encoded, RecordBuffer};
use crate::kafka::cluster::topic_name;
use crate::kafka::connection::ConnectionOptions;
use crate::kafka::offsets::Isolation;
use crate::kafka::scripted::{Answer, Call, ScriptedBroker, one_broker};
use crate::kafka::wire::batch::Batches;
use crate::kafka::wire::record_batch::FetchedRecords;

const SOON: Duration = Duration::from_secs(20);

/// A batch as the broker sees it.
struct Seen<'a> {
    partition: i32,
    /// Batches before it, of all partitions.
    nth: usize,
    values: &'a [String],
}

/// What a partition of the scripted broker holds: values, and (epoch, sequence) of each batch.
#[derive(Default)]
struct Log {
    values: Vec<String>,
    stamps: Vec<(i16, i32)>,
}

type Logs = Arc<Mutex<BTreeMap<i32, Log>>>;

/// A broker that leads three partitions of `t` and says to each batch what `judge` does: 0 takes it, another code refuses
/// it, [`LOST`] takes it and hangs up.
fn broker(judge: impl Fn(&Seen<'_>) -> i16 + Send + Sync + 'static) -> (ScriptedBroker, Logs) {
    let logs = Logs::default();
    let (written, seen) = (logs.clone(), AtomicUsize::new(0));
    let script = move |call: &Call, port| match call.key {
        ApiKey::Metadata => call.answer(one_broker(port, "t", 3)),
        ApiKey::InitProducerId => call.answer(InitProducerIdResponse::default().with_producer_id(9.into())),
        _ => {
            let request: ProduceRequest = call.read();
            assert_eq!((request.acks, request.topic_data.len()), (-1, 1));
            let mut is_lost = false;
            let mut accept = |data: &PartitionProduceData| {
                let values = values(data);
                let nth = seen.fetch_add(1, Ordering::Relaxed);
                let code = judge(&Seen { partition: data.index, nth, values: &values });
                is_lost |= code == LOST;
                let code = if code == LOST { 0 } else { code };
                let mut logs = written.lock();
                let log = logs.entry(data.index).or_default();
                let answer = PartitionProduceResponse::default().with_index(data.index);
                if code != 0 {
                    return answer.with_error_code(code).with_base_offset(-1);
                }
                let stamp = stamp(data);
                // As a broker does with a repetition.
                if let Some(at) = log.stamps.iter().position(|known| *known == stamp) {
                    return answer.with_base_offset(at as i64);
                }
                let base_offset = log.values.len() as i64;
                log.values.extend(values);
                log.stamps.push(stamp);
                answer.with_base_offset(base_offset)
            };
            let answers = request.topic_data[0].partition_data.iter().map(&mut accept).collect();
            if is_lost {
                return Answer::HangUp;
            }
            let topic = TopicProduceResponse::default().with_name(topic_name("t"));
            call.answer(ProduceResponse::default().with_responses(vec![topic.with_partition_responses(answers)]))
        }
    };
    (ScriptedBroker::start(&OFFERED, script), logs)
}

const OFFERED: [(ApiKey, i16); 3] = [(ApiKey::Metadata, 12), (ApiKey::Produce, 13), (ApiKey::InitProducerId, 5)];

const LOST: i16 = i16::MAX;

fn stamp(data: &PartitionProduceData) -> (i16, i32) {
    let bytes = data.records.clone().unwrap();
    let header = Batches::new(&bytes).next().unwrap().unwrap().header;
    assert_eq!(header.producer_id, 9);
    (header.producer_epoch, header.base_sequence)
}

fn values(data: &PartitionProduceData) -> Vec<String> {
    let bytes = data.records.clone().unwrap();
    let fetched = FetchedRecords { bytes, aborted: vec![], isolation: Isolation::ReadCommitted, held: None };
    let mut records = RecordBuffer::default();
    Arc::new(fetched).decoder(0).decode_rest(&mut records).unwrap();
    (0..records.len()).map(|at| String::from_utf8_lossy(records.get(at).value.unwrap()).into_owned()).collect()
}

/// Options of a producer whose batches hold three short records each.
fn small_batches() -> ProducerOptions {
    ProducerOptions { batch_bytes: 90, linger: Duration::from_secs(600), ..ProducerOptions::default() }
}

fn producer(broker: &ScriptedBroker, options: ProducerOptions) -> (Producer, Arc<Mutex<Vec<Delivery>>>) {
    let cluster = Cluster::connect(std::slice::from_ref(&broker.address), ConnectionOptions::default()).unwrap();
    let deliveries = Arc::new(Mutex::new(Vec::new()));
    let kept = deliveries.clone();
    let on_delivery = Box::new(move |delivery: &Delivery| kept.lock().push(delivery.clone()));
    (Producer::reporting(cluster, options, on_delivery), deliveries)
}

fn send(producer: &Producer, partition: Option<i32>, value: &str, tag: u64) -> Result<(), Error> {
    let value = Some(value.as_bytes());
    producer.send(&"t".into(), &NewRecord { partition, value, tag, ..NewRecord::default() })
}

/// Sends 60 numbered records in turn to three partitions, and demands one copy of each, in order, with the offsets
/// that the reports name.
fn check_order(judge: impl Fn(&Seen<'_>) -> i16 + Send + Sync + 'static) -> Logs {
    let (broker, logs) = broker(judge);
    let (producer, deliveries) = producer(&broker, small_batches());
    for number in 0..60 {
        send(&producer, Some(number % 3), &format!("{number:04}"), number as u64).unwrap();
    }
    producer.flush(SOON).unwrap();
    for partition in 0..3 {
        let expected: Vec<String> = (0..60).filter(|n| n % 3 == partition).map(|n| format!("{n:04}")).collect();
        assert_eq!(logs.lock()[&partition].values, expected, "partition {partition}");
        let deliveries = deliveries.lock();
        let tags = deliveries.iter().filter(|of| of.partition.partition == partition).flat_map(|of| of.tags.clone());
        assert!(tags.eq((0..60).filter(|n| n % 3 == partition as u64)), "the reports of partition {partition}");
    }
    let expected = ProducerCounts { sent: 60, acknowledged: 60, failed: 0 };
    assert_eq!(producer.counts(), expected);
    logs
}

#[test]
fn order_within_a_partition_survives_retries() {
    check_order(|seen| if seen.nth % 3 == 2 { 6 } else { 0 });
}

#[test]
fn an_answer_that_was_lost_makes_no_second_copy() {
    check_order(|seen| if seen.nth % 5 == 1 { LOST } else { 0 });
}

#[test]
fn a_log_that_lost_the_sequence_gets_a_new_epoch() {
    for code in [45, 59] {
        let logs = check_order(
            move |seen| if seen.partition == 1 && seen.values[0] == "0010" { code_once(code, seen) } else { 0 },
        );
        let stamps = logs.lock()[&1].stamps.clone();
        assert_eq!(stamps[0], (0, 0));
        assert!(stamps.contains(&(1, 0)), "error {code}: {stamps:?}");
        let stamps = logs.lock()[&0].stamps.clone();
        assert!(stamps.iter().all(|(epoch, _)| *epoch == 0), "the others go on: {stamps:?}");
    }
}

#[test]
fn a_leader_that_moves_is_followed() {
    let (new, logs) = broker(|_| 0);
    let new_port: i32 = new.address.rsplit_once(':').unwrap().1.parse().unwrap();
    let has_moved = AtomicBool::new(false);
    let old = ScriptedBroker::start(&OFFERED, move |call, port| match call.key {
        ApiKey::Metadata => {
            let mut metadata = one_broker(port, "t", 3);
            let other = metadata.brokers[0].clone().with_node_id(2.into()).with_port(new_port);
            metadata.brokers.push(other);
            if has_moved.load(Ordering::Relaxed) {
                metadata.topics[0].partitions.iter_mut().for_each(|partition| partition.leader_id = 2.into());
            }
            call.answer(metadata)
        }
        ApiKey::InitProducerId => call.answer(InitProducerIdResponse::default().with_producer_id(9.into())),
        // It gives its leadership up in the middle of a request.
        _ => {
            has_moved.store(true, Ordering::Relaxed);
            Answer::HangUp
        }
    });
    let (producer, _) = producer(&old, small_batches());
    for number in 0..60 {
        send(&producer, Some(0), &format!("{number:04}"), 0).unwrap();
    }
    producer.flush(SOON).unwrap();
    let expected: Vec<String> = (0..60).map(|number| format!("{number:04}")).collect();
    assert_eq!(logs.lock()[&0].values, expected);
}

/// The code for the batch's first attempt, which is among the first in all.
fn code_once(code: i16, seen: &Seen<'_>) -> i16 {
    if seen.nth < 6 { code } else { 0 }
}

#[test]
fn a_refused_record_is_reported_and_the_others_go_on() {
    // MESSAGE_TOO_LARGE for any batch with the culprit.
    let (broker, logs) = broker(|seen| if seen.values.iter().any(|value| value == "culprit") { 10 } else { 0 });
    let (producer, deliveries) = producer(&broker, ProducerOptions::default());
    for (tag, value) in ["one", "two", "culprit", "three", "four"].into_iter().enumerate() {
        send(&producer, Some(1), value, tag as u64).unwrap();
    }
    send(&producer, Some(2), "other", 9).unwrap();
    let error = producer.flush(SOON).unwrap_err();
    assert_eq!(error.code(), Some(Code::MESSAGE_TOO_LARGE));
    assert!(error.to_string().contains("t/1"), "{error}");
    assert_eq!(producer.flush(SOON), Ok(()), "it is told once");
    assert_eq!(logs.lock()[&1].values, ["one", "two", "three", "four"], "the batch was halved until one was left");
    assert_eq!(logs.lock()[&2].values, ["other"]);
    let failed: Vec<u64> =
        deliveries.lock().iter().filter(|of| of.result.is_err()).flat_map(|of| of.tags.clone()).collect();
    assert_eq!((failed, producer.counts().failed), (vec![2], 1));
    // The sequences of what was refused are taken by what follows.
    send(&producer, Some(1), "five", 10).unwrap();
    producer.flush(SOON).unwrap();
    let stamps = logs.lock()[&1].stamps.clone();
    assert_eq!(stamps.last(), Some(&(0, 4)), "{stamps:?}");
}

#[test]
fn what_cannot_be_delivered_is_given_up_in_time() {
    let (broker, logs) = broker(|seen| if seen.partition == 0 { 19 } else { 0 });
    let delivery_timeout = Duration::from_millis(300);
    let (producer, _) = producer(&broker, ProducerOptions { delivery_timeout, ..ProducerOptions::default() });
    for partition in 0..3 {
        send(&producer, Some(partition), "value", 0).unwrap();
    }
    let error = producer.flush(SOON).unwrap_err();
    assert_eq!(error.code(), Some(Code::NOT_ENOUGH_REPLICAS));
    assert_eq!((producer.counts().acknowledged, producer.counts().failed), (2, 1));
    assert!(logs.lock()[&0].values.is_empty());
}

#[test]
fn a_flush_that_is_late_says_so_and_delivery_goes_on() {
    let (broker, _) = broker(|seen| if seen.nth < 3 { 19 } else { 0 });
    let (producer, _) = producer(&broker, ProducerOptions::default());
    send(&producer, Some(0), "value", 0).unwrap();
    assert!(matches!(producer.flush(Duration::from_millis(1)), Err(Error::Timeout { .. })));
    assert_eq!(producer.flush(SOON), Ok(()));
    assert_eq!(producer.counts().acknowledged, 1);
}

#[test]
fn a_fatal_error_ends_everything() {
    let (broker, _) = broker(|_| 31);
    let (producer, _) = producer(&broker, ProducerOptions::default());
    for partition in 0..3 {
        send(&producer, Some(partition), "value", 0).unwrap();
    }
    let fatal = Some(Code::CLUSTER_AUTHORIZATION_FAILED);
    assert_eq!(producer.flush(SOON).unwrap_err().code(), fatal);
    assert_eq!(producer.counts().failed, 3);
    assert_eq!(send(&producer, Some(0), "value", 0).unwrap_err().code(), fatal);
}

#[test]
fn linger_sends_without_being_asked_and_the_buffer_has_a_bound() {
    let (broker, logs) = broker(|_| 0);
    let options = ProducerOptions { linger: Duration::from_millis(1), buffer_bytes: 100, ..small_batches() };
    let (producer, _) = producer(&broker, options);
    for number in 0..300 {
        send(&producer, Some(0), &number.to_string(), 0).unwrap();
        assert!(producer.counts().pending() <= 4, "more than 100 bytes wait");
    }
    let until = door::now() + SOON;
    while producer.counts().pending() > 0 && door::now() < until {
        door::sleep(Duration::from_millis(1));
    }
    assert_eq!(logs.lock()[&0].values.len(), 300, "nobody flushed");
}

#[test]
fn records_without_a_key_are_spread_evenly() {
    let (broker, logs) = broker(|_| 0);
    let (producer, _) = producer(&broker, small_batches());
    for _ in 0..90 {
        send(&producer, None, "0123", 0).unwrap();
    }
    producer.flush(SOON).unwrap();
    let counts: Vec<usize> = logs.lock().values().map(|log| log.values.len()).collect();
    assert!(counts.len() == 3 && counts.iter().all(|count| (20..=40).contains(count)), "{counts:?}");
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    let (broker, _) = broker(|_| 0);
    let (producer, _) = producer(&broker, ProducerOptions::default());
    for partition in [-1, 3, i32::MAX] {
        let error = send(&producer, Some(partition), "value", 0).unwrap_err();
        assert!(matches!(&error, Error::Invalid(text) if text.contains("0 to 2")), "{error}");
    }
    let huge = vec![0; RECORD_BYTES_MAX];
    let refused = producer.send(&"t".into(), &NewRecord { value: Some(&huge), ..NewRecord::default() });
    assert!(matches!(refused, Err(Error::Invalid(_))));
    assert_eq!(producer.counts(), ProducerCounts::default());
}

#[test]
fn dropping_a_producer_does_not_wait_for_a_silent_broker() {
    let (broker, _) = broker(|_| {
        door::sleep(SOON);
        0
    });
    let (producer, _) = producer(&broker, ProducerOptions::default());
    send(&producer, Some(0), "value", 0).unwrap();
    assert!(producer.flush(Duration::from_millis(200)).is_err());
    let started = door::now();
    drop(producer);
    assert!(door::now() - started < SOON / 2, "it took {:?}", door::now() - started);
}
