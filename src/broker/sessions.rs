//! Fetch sessions (KIP-227): what a client fetches is remembered, so that it need only say what changes, and is only
//! told of partitions that have something new.
//!
//! `handlers/fetch.rs` enters a session with each request and gets a whole request out of it, which it answers as any
//! other; on the way out the answer is reduced to what the client does not know.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use parking_lot::Mutex;
use uuid::Uuid;

/// A request with this epoch opens a session…
const OPENING_EPOCH: i32 = 0;
/// …and one with this wants none, or ends the one it names.
const NO_SESSION_EPOCH: i32 = -1;

/// All sessions of the broker.
pub struct FetchSessions {
    state: Mutex<State>,
    /// Beyond so many the oldest goes; none at all are kept with 0.
    limit: usize,
}

#[derive(Default)]
struct State {
    last_id: i32,
    by_id: BTreeMap<i32, Session>,
}

/// The epoch of the next request, and what is fetched: who was served last stands at the end.
struct Session {
    next_epoch: i32,
    partitions: Vec<Remembered>,
}

struct Remembered {
    topic: TopicName,
    topic_id: Uuid,
    asked: FetchPartition,
    /// High watermark and log start, as the client last heard.
    told: Option<(i64, i64)>,
}

/// The session that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// None: the answer is whole.
    Nothing,
    /// A new one: the answer is whole, and names it.
    New(i32),
    /// One that goes on: the answer says what is new.
    Known(i32),
}

impl FetchSessions {
    /// No sessions yet, and never more than `limit`.
    pub fn new(limit: usize) -> Self {
        Self { state: Mutex::default(), limit }
    }

    /// Finds or makes the session of a request, and completes the request out of it.
    pub fn enter(&self, request: FetchRequest) -> Result<(Entered, FetchRequest), ResponseError> {
        let mut state = self.state.lock();
        match request.session_epoch {
            NO_SESSION_EPOCH => {
                state.by_id.remove(&request.session_id);
                Ok((Entered::Nothing, request))
            }
            OPENING_EPOCH if self.limit == 0 => Ok((Entered::Nothing, request)),
            OPENING_EPOCH => {
                state.by_id.remove(&request.session_id);
                while state.by_id.len() >= self.limit {
                    state.by_id.pop_first();
                }
                let id = state.open(&request);
                Ok((Entered::New(id), request))
            }
            epoch => {
                let id = request.session_id;
                let session = state.by_id.get_mut(&id).ok_or(ResponseError::FetchSessionIdNotFound)?;
                if epoch != session.next_epoch {
                    return Err(ResponseError::InvalidFetchSessionEpoch);
                }
                session.next_epoch = epoch.checked_add(1).unwrap_or(1);
                session.update(&request);
                let topics = session.topics();
                Ok((Entered::Known(id), request.with_topics(topics)))
            }
        }
    }

    /// Puts the session's id into an answer, and takes out of it what the client knows.
    pub fn leave(&self, entered: Entered, answer: FetchResponse) -> FetchResponse {
        let mut state = self.state.lock();
        let (Entered::New(id) | Entered::Known(id)) = entered else { return answer };
        let Some(session) = state.by_id.get_mut(&id) else { return answer };
        let answer = session.note(answer, matches!(entered, Entered::Known(_)));
        answer.with_session_id(id)
    }

    /// Forgets all of them, as a broker does that restarts or has too many.
    pub fn forget_all(&self) {
        self.state.lock().by_id.clear();
    }
}

impl State {
    fn open(&mut self, request: &FetchRequest) -> i32 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let mut session = Session { next_epoch: 1, partitions: Vec::new() };
        session.update(request);
        self.by_id.insert(self.last_id, session);
        self.last_id
    }
}

impl Session {
    fn update(&mut self, request: &FetchRequest) {
        for topic in &request.topics {
            for asked in &topic.partitions {
                let is_it = |known: &&mut Remembered| known.is(&topic.topic, topic.topic_id, asked.partition);
                match self.partitions.iter_mut().find(is_it) {
                    Some(known) => known.asked = asked.clone(),
                    None => self.partitions.push(Remembered {
                        topic: topic.topic.clone(),
                        topic_id: topic.topic_id,
                        asked: asked.clone(),
                        told: None,
                    }),
                }
            }
        }
        for topic in &request.forgotten_topics_data {
            for index in &topic.partitions {
                self.partitions.retain(|known| !known.is(&topic.topic, topic.topic_id, *index));
            }
        }
    }

    /// All that is fetched, in order; neighbours of one topic share an entry.
    fn topics(&self) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for known in &self.partitions {
            match topics.last_mut().filter(|last| last.topic == known.topic && last.topic_id == known.topic_id) {
                Some(last) => last.partitions.push(known.asked.clone()),
                None => topics.push(
                    FetchTopic::default()
                        .with_topic(known.topic.clone())
                        .with_topic_id(known.topic_id)
                        .with_partitions(vec![known.asked.clone()]),
                ),
            }
        }
        topics
    }

    /// The partitions of an answer are those of its request, in the same order.
    fn note(&mut self, mut answer: FetchResponse, only_news: bool) -> FetchResponse {
        let mut asked = std::mem::take(&mut self.partitions).into_iter();
        let (mut quiet, mut served) = (Vec::new(), Vec::new());
        for topic in &mut answer.responses {
            topic.partitions.retain(|data| {
                let Some(mut known) = asked.next() else { return true };
                let is_news = known.hears(data);
                if has_records(data) {
                    served.push(known)
                } else {
                    quiet.push(known)
                }
                is_news || !only_news
            });
        }
        answer.responses.retain(|topic| !topic.partitions.is_empty());
        self.partitions = quiet.into_iter().chain(asked).chain(served).collect();
        answer
    }
}

fn has_records(data: &PartitionData) -> bool {
    data.records.as_ref().is_some_and(|records| !records.is_empty())
}

impl Remembered {
    fn is(&self, topic: &TopicName, topic_id: Uuid, index: i32) -> bool {
        self.asked.partition == index && self.topic_id == topic_id && self.topic == *topic
    }

    /// Whether the client has not heard this yet.
    fn hears(&mut self, data: &PartitionData) -> bool {
        let marks = Some((data.high_watermark, data.log_start_offset));
        let diverges = data.diverging_epoch.end_offset >= 0;
        std::mem::replace(&mut self.told, marks) != marks || has_records(data) || data.error_code != 0 || diverges
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kafka_protocol::messages::fetch_request::ForgottenTopic;
    use kafka_protocol::messages::fetch_response::FetchableTopicResponse;

    const TOPIC: Uuid = Uuid::from_u128(1);

    fn request(id: i32, epoch: i32, wanted: &[i32], forgotten: &[i32]) -> FetchRequest {
        let asked = wanted.iter().map(|index| FetchPartition::default().with_partition(*index)).collect();
        let topic = FetchTopic::default().with_topic_id(TOPIC).with_partitions(asked);
        let gone = ForgottenTopic::default().with_topic_id(TOPIC).with_partitions(forgotten.to_vec());
        FetchRequest::default()
            .with_session_id(id)
            .with_session_epoch(epoch)
            .with_topics(vec![topic])
            .with_forgotten_topics_data(vec![gone])
    }

    fn indexes(request: &FetchRequest) -> Vec<i32> {
        request.topics.iter().flat_map(|topic| &topic.partitions).map(|asked| asked.partition).collect()
    }

    /// An answer for the partitions of a request, with records for one of them.
    fn answer(request: &FetchRequest, with_records: i32) -> FetchResponse {
        let data = |index: i32| {
            let records = (index == with_records).then(|| Bytes::from_static(b"records"));
            PartitionData::default().with_partition_index(index).with_records(records)
        };
        let partitions = indexes(request).into_iter().map(data).collect();
        let topic = FetchableTopicResponse::default().with_topic_id(TOPIC).with_partitions(partitions);
        FetchResponse::default().with_responses(vec![topic])
    }

    fn heard(answer: &FetchResponse) -> Vec<i32> {
        answer.responses.iter().flat_map(|topic| &topic.partitions).map(|data| data.partition_index).collect()
    }

    #[test]
    fn a_session_remembers_what_is_fetched_and_tells_only_what_is_new() {
        let sessions = FetchSessions::new(2);
        let (entered, whole) = sessions.enter(request(0, 0, &[0, 1, 2], &[])).unwrap();
        assert_eq!((entered, indexes(&whole)), (Entered::New(1), vec![0, 1, 2]));
        let first = sessions.leave(entered, answer(&whole, 0));
        assert_eq!((first.session_id, heard(&first)), (1, vec![0, 1, 2]));
        let (entered, whole) = sessions.enter(request(1, 1, &[], &[1])).unwrap();
        assert_eq!((entered, indexes(&whole)), (Entered::Known(1), vec![2, 0]), "who was served is last");
        assert_eq!(heard(&sessions.leave(entered, answer(&whole, 2))), [2]);
        let (_, whole) = sessions.enter(request(1, 2, &[1], &[])).unwrap();
        assert_eq!(indexes(&whole), [0, 2, 1]);
    }

    #[test]
    fn a_session_that_is_unknown_or_out_of_step_is_refused() {
        let sessions = FetchSessions::new(2);
        let enter = |id, epoch| sessions.enter(request(id, epoch, &[0], &[])).map(|(entered, _)| entered);
        assert_eq!(enter(7, 1), Err(ResponseError::FetchSessionIdNotFound));
        assert_eq!(enter(0, 0), Ok(Entered::New(1)));
        assert_eq!(enter(1, 2), Err(ResponseError::InvalidFetchSessionEpoch));
        assert_eq!(enter(1, 0), Ok(Entered::New(2)), "instead of the one it names");
        assert_eq!(enter(1, 1), Err(ResponseError::FetchSessionIdNotFound));
        assert_eq!(enter(2, -1), Ok(Entered::Nothing));
        assert_eq!(enter(2, 1), Err(ResponseError::FetchSessionIdNotFound));
        assert_eq!(enter(0, 0), Ok(Entered::New(3)));
        sessions.forget_all();
        assert_eq!(enter(3, 1), Err(ResponseError::FetchSessionIdNotFound));
    }
}
