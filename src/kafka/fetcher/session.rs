//! The fetch session with a broker (KIP-227): what it knows of what we fetch, and so what the next request has to say.
//! Pure.
//!
//! A broker that keeps sessions remembers the partitions; a request then names only those that are new, have moved on or
//! are asked for by other sizes, and those that are to be forgotten. Partitions that are idle cost nothing on the wire,
//! in either direction. The epoch counts the requests of a session; a broker that has lost count or has dropped the
//! session says so, and a whole request begins another one. A broker without sessions answers with the id 0, and gets
//! whole requests only.

use std::collections::BTreeSet;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use uuid::Uuid;

use super::{Active, Target};
use crate::core::record::TopicPartition;
use crate::kafka::cluster::topic_name;
use crate::kafka::error::Code;

/// A request with this epoch is whole, and asks for a session.
const OPENING_EPOCH: i32 = 0;

/// What a request says of a partition, and what ties the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub run: u64,
    pub offset: i64,
    pub last_epoch: i32,
    pub bytes_max: usize,
}

/// One session, or none.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    /// What the broker knows and we do not want any more.
    gone: BTreeSet<(Uuid, TopicPartition)>,
}

impl Session {
    pub(super) fn id(&self) -> i32 {
        self.id
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Whether a request need not name what the broker knows.
    pub(super) fn is_open(&self) -> bool {
        self.epoch != OPENING_EPOCH
    }

    /// The partition is not wanted any more. Nothing is to be said of it if the broker was never told.
    pub(super) fn forget(&mut self, active: &mut Active) {
        if active.told.take().is_some() {
            let Target { topic_id, partition, .. } = &active.target;
            self.gone.insert((*topic_id, partition.clone()));
        }
    }

    /// What the broker is to forget, as part of the next request.
    pub(super) fn take_gone(&mut self, by_id: bool) -> Vec<ForgottenTopic> {
        let mut topics: Vec<(Uuid, TopicPartition, ForgottenTopic)> = Vec::new();
        for (topic_id, partition) in std::mem::take(&mut self.gone) {
            match topics.last_mut().filter(|(id, last, _)| *id == topic_id && last.topic == partition.topic) {
                Some((.., topic)) => topic.partitions.push(partition.partition),
                None => {
                    let topic = ForgottenTopic::default().with_partitions(vec![partition.partition]);
                    let topic = match by_id {
                        true => topic.with_topic_id(topic_id),
                        false => topic.with_topic(topic_name(&partition.topic)),
                    };
                    topics.push((topic_id, partition, topic));
                }
            }
        }
        topics.into_iter().map(|(.., topic)| topic).collect()
    }

    /// Which partitions the next request names; afterwards the broker knows them. They are those that `wanted` lets
    /// through, less the ones it knows already.
    pub(super) fn tell<'a>(
        &mut self,
        active: impl Iterator<Item = &'a mut Active>,
        wanted: impl Fn(&Active) -> bool,
    ) -> Vec<&'a mut Active> {
        let mut said = Vec::new();
        for active in active {
            if !wanted(active) {
                self.forget(active);
                continue;
            }
            let Target { run, offset, last_epoch, .. } = active.target;
            let told = Some(Told { run, offset, last_epoch, bytes_max: active.bytes_max });
            if active.told != told || !self.is_open() {
                active.told = told;
                self.gone.remove(&(active.target.topic_id, active.target.partition.clone()));
                said.push(active);
            }
        }
        if !self.is_open() {
            self.gone.clear(); // a whole request names all that is wanted
        }
        said
    }

    /// The broker answered: the session goes on, or begins, or there is none.
    pub(super) fn answered(&mut self, id: i32) {
        self.epoch = match id {
            0 => OPENING_EPOCH,
            id if id == self.id => self.epoch.checked_add(1).unwrap_or(1),
            _ => 1,
        };
        self.id = id;
    }

    /// The next request begins anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Whether an error is about the session alone, so that a whole request is all it takes.
pub(super) fn is_about_session(code: Code) -> bool {
    [Code::FETCH_SESSION_ID_NOT_FOUND, Code::INVALID_FETCH_SESSION_EPOCH, Code::FETCH_SESSION_TOPIC_ID_ERROR]
        .contains(&code)
}

/// Partitions that follow each other and are of one topic share an entry; the order is kept, for it is the broker's.
/// Before version 12 nothing is said of the epoch of what was read.
pub(super) fn topics<'a>(said: impl IntoIterator<Item = &'a Active>, version: i16) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last: Option<&str> = None;
    for Active { target, bytes_max, .. } in said {
        let last_epoch =
            if version >= super::LAST_EPOCH_SINCE && !target.is_replica() { target.last_epoch } else { -1 };
        let partition = FetchPartition::default()
            .with_partition(target.partition.partition)
            .with_current_leader_epoch(target.leader_epoch)
            .with_fetch_offset(target.offset)
            .with_last_fetched_epoch(last_epoch)
            .with_log_start_offset(-1)
            .with_partition_max_bytes(super::bytes(*bytes_max));
        match topics.last_mut().filter(|_| last == Some(&target.partition.topic)) {
            Some(topic) => topic.partitions.push(partition),
            None => {
                let topic = FetchTopic::default().with_partitions(vec![partition]);
                topics.push(if version >= super::TOPIC_IDS_SINCE {
                    topic.with_topic_id(target.topic_id)
                } else {
                    topic.with_topic(topic_name(&target.partition.topic))
                });
            }
        }
        last = Some(&target.partition.topic);
    }
    topics
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::credit::Credit;

    fn active(topic: &str, partition: i32, offset: i64) -> Active {
        let target = Target {
            partition: TopicPartition::new(topic, partition),
            topic_id: Uuid::from_u128(topic.len() as u128),
            leader_epoch: 3,
            run: 1,
            offset,
            last_epoch: 2,
            replica_until: None,
            credit: Credit::new(1),
        };
        Active { target, bytes_max: 1 << 20, told: None }
    }

    fn show(topics: &[FetchTopic]) -> String {
        let of_topic = |topic: &FetchTopic| {
            let partitions = topic.partitions.iter().map(|of| format!("{}@{}", of.partition, of.fetch_offset));
            format!("{}{}[{}]", &**topic.topic, topic.topic_id.as_u128(), partitions.collect::<Vec<_>>().join(" "))
        };
        topics.iter().map(of_topic).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_request_keeps_the_order_and_names_topics_as_its_version_does() {
        let active = [active("a", 1, 10), active("a", 0, 20), active("bb", 0, 30), active("a", 2, 40)];
        for (version, expected) in [(12, "a0[1@10 0@20] bb0[0@30] a0[2@40]"), (13, "1[1@10 0@20] 2[0@30] 1[2@40]")] {
            assert_eq!(show(&topics(&active, version)), expected, "version {version}");
        }
    }

    /// What each request of a session says and takes back.
    struct Exchange {
        session: Session,
        active: Vec<Active>,
    }

    impl Exchange {
        fn request(&mut self, wanted: impl Fn(&Active) -> bool) -> String {
            let said = self.session.tell(self.active.iter_mut(), wanted);
            let said = show(&topics(said.into_iter().map(|active| &*active), 13));
            let gone: Vec<i32> = self.session.take_gone(true).into_iter().flat_map(|of| of.partitions).collect();
            format!("{} says {said} forgets {gone:?}", self.session.epoch())
        }
    }

    #[test]
    fn a_session_says_what_has_changed_and_nothing_of_what_is_idle() {
        let all = |_: &Active| true;
        let active = vec![active("a", 0, 10), active("a", 1, 20), active("a", 2, 30)];
        let mut exchange = Exchange { session: Session::default(), active };
        assert_eq!(exchange.request(all), "0 says 1[0@10 1@20 2@30] forgets []");
        exchange.session.answered(7);
        assert_eq!(exchange.request(all), "1 says  forgets []", "all is known");
        exchange.session.answered(7);
        exchange.active[1].target.offset = 25;
        let not_the_last = |active: &Active| active.target.partition.partition != 2;
        assert_eq!(exchange.request(not_the_last), "2 says 1[1@25] forgets [2]");
        exchange.session.answered(7);
        assert_eq!(exchange.request(all), "3 says 1[2@30] forgets []");
        exchange.session.answered(7);
        exchange.session.forget(&mut exchange.active[0]);
        assert_eq!(exchange.request(all), "4 says 1[0@10] forgets []", "wanted again before it was forgotten");
    }

    #[test]
    fn without_a_session_every_request_is_whole() {
        let mut exchange = Exchange { session: Session::default(), active: vec![active("a", 0, 10)] };
        for _ in 0..2 {
            assert_eq!(exchange.request(|_| true), "0 says 1[0@10] forgets []");
            exchange.session.answered(0);
        }
        exchange.session.answered(7);
        exchange.session.reset();
        assert_eq!(exchange.request(|_| true), "0 says 1[0@10] forgets []");
        assert_eq!(exchange.request(|_| false), "0 says  forgets []", "it was never told");
    }

    #[test]
    fn epochs_begin_again_at_one() {
        let mut session = Session { id: 7, epoch: i32::MAX, ..Session::default() };
        session.answered(7);
        assert_eq!(session.epoch(), 1);
    }
}
