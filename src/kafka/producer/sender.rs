//! The thread `konekt-produce-N`: the batches of the partitions that node N leads, one request at a time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, ProduceResponse};
use log::{Level, info, log};
use rayon::prelude::*;

use super::accumulator::{Sending, Work};
use super::{Delivery, Shared};
use crate::door;
use crate::kafka::cluster::topic_name;
use crate::kafka::connection::Connection;
use crate::kafka::error::{Code, Error};
use crate::kafka::interrupt::Interrupt;

/// Sends until the producer is dropped.
pub(super) fn run(shared: &Shared, node: i32, interrupt: Interrupt) {
    let mut sender = Sender { shared, node, interrupt, connection: None, throttled_until: None, is_failing: false };
    while let Some(batches) = sender.take() {
        sender.turn(batches);
    }
}

struct Sender<'a> {
    shared: &'a Shared,
    node: i32,
    /// Ends the wait for an answer when the producer is dropped.
    interrupt: Interrupt,
    connection: Option<Connection>,
    /// The broker asked for silence until then (KIP-219).
    throttled_until: Option<Instant>,
    /// Whether the last request got no answer: said once, not at every attempt.
    is_failing: bool,
}

/// A batch and what the broker said of it.
type Answered = (Sending, Result<Option<i64>, Error>);

impl Sender<'_> {
    /// Waits for batches; `None` is the end.
    fn take(&mut self) -> Option<Vec<Sending>> {
        let mut state = self.shared.state.lock();
        loop {
            if state.stopping {
                return None;
            }
            let now = door::now();
            let wait_until = match self.throttled_until.filter(|until| *until > now) {
                Some(until) => Some(until),
                None => match state.take(self.node, now) {
                    Work::Send(batches) => return Some(batches),
                    Work::Wait(until) => until,
                },
            };
            self.shared.wait(&mut state, wait_until);
        }
    }

    fn turn(&mut self, batches: Vec<Sending>) {
        let (batches, mut answered) = self.close(batches);
        if !batches.is_empty() {
            answered.extend(self.exchange(batches));
        }
        let now = door::now();
        let mut state = self.shared.state.lock();
        let settle = |(sending, result)| state.settle(sending, result, now, door::random());
        let over: Vec<Delivery> = answered.into_iter().filter_map(settle).collect();
        drop(state);
        self.shared.conclude(&over);
    }

    /// Compresses, several batches at a time; what cannot be is answered here.
    fn close(&self, mut batches: Vec<Sending>) -> (Vec<Sending>, Vec<Answered>) {
        let options = &self.shared.options;
        let closed: Vec<_> = batches.par_iter_mut().map(|sending| sending.batch.close(options)).collect();
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (sending, closed) in batches.into_iter().zip(closed) {
            match closed {
                Ok(()) => good.push(sending),
                Err(error) => bad.push((sending, Err(error))),
            }
        }
        (good, bad)
    }

    fn exchange(&mut self, batches: Vec<Sending>) -> Vec<Answered> {
        let request = request(&batches, self.shared.cluster.options().request_timeout);
        match self.call(&request) {
            Ok((address, answer)) => {
                if std::mem::take(&mut self.is_failing) {
                    info!("producer: {address} answers again");
                }
                let throttle = Duration::from_millis(answer.throttle_time_ms.max(0) as u64);
                // Whatever a broker says, what waits is not held for longer than an answer would be waited for.
                let throttle = throttle.min(self.shared.cluster.options().request_timeout);
                self.throttled_until = (!throttle.is_zero()).then(|| door::now() + throttle);
                read(&address, &answer, batches)
            }
            Err(error) => {
                let level = if self.is_failing { Level::Debug } else { Level::Warn };
                log!(level, "producer: {} batches are tried again: {error}", batches.len());
                self.is_failing = true;
                self.connection = None;
                batches.into_iter().map(|sending| (sending, Err(error.clone()))).collect()
            }
        }
    }

    fn call(&mut self, request: &ProduceRequest) -> Result<(String, ProduceResponse), Error> {
        if self.connection.is_none() {
            self.connection = Some(self.shared.cluster.connect_to(self.node)?);
        }
        let Some(connection) = &mut self.connection else { return Err(Error::Closed) };
        self.interrupt.arm(connection);
        let answer = connection.call(request);
        let address = connection.address().to_owned();
        self.interrupt.disarm();
        Ok((address, answer?))
    }
}

fn request(batches: &[Sending], timeout: Duration) -> ProduceRequest {
    let mut topics: BTreeMap<&Arc<str>, Vec<PartitionProduceData>> = BTreeMap::new();
    for Sending { partition, batch } in batches {
        let data = PartitionProduceData::default().with_index(partition.partition).with_records(Some(batch.encode()));
        topics.entry(&partition.topic).or_default().push(data);
    }
    let topic = |(name, data): (&Arc<str>, _)| {
        TopicProduceData::default().with_name(topic_name(name)).with_partition_data(data)
    };
    ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(timeout.as_millis().min(i32::MAX as u128) as i32)
        .with_topic_data(topics.into_iter().map(topic).collect())
}

fn read(address: &str, answer: &ProduceResponse, batches: Vec<Sending>) -> Vec<Answered> {
    let mut answers = HashMap::new();
    for topic in &answer.responses {
        for found in &topic.partition_responses {
            answers.insert((topic.name.as_str(), found.index), found);
        }
    }
    let result = |sending: Sending| {
        let found = answers.get(&(&*sending.partition.topic, sending.partition.partition));
        let result = match found {
            Some(found) => read_one(address, &sending, found),
            None => {
                let what = format!("{} is missing in it", sending.partition);
                Err(Error::Malformed { address: address.into(), api: "Produce", what })
            }
        };
        (sending, result)
    };
    batches.into_iter().map(result).collect()
}

fn read_one(address: &str, sending: &Sending, found: &PartitionProduceResponse) -> Result<Option<i64>, Error> {
    match Code(found.error_code) {
        Code::NONE => Ok(Some(found.base_offset).filter(|offset| *offset >= 0)),
        // Written by an earlier attempt, so long ago that the broker has forgotten where.
        Code::DUPLICATE_SEQUENCE_NUMBER => Ok(None),
        code => Err(Error::Broker {
            address: address.into(),
            api: "Produce",
            subject: sending.partition.to_string(),
            code,
            message: found.error_message.as_ref().map(|text| text.to_string()),
        }),
    }
}
