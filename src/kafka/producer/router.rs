//! The producer's thread `konekt-produce`: knows who leads, gives every leader its sender, asks for the producer's id,
//! and gives up what has been tried for too long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka_protocol::messages::InitProducerIdRequest;
use log::{debug, warn};

use super::accumulator::Identity;
use super::{Shared, sender};
use crate::core::backoff::Backoff;
use crate::door;
use crate::kafka::cluster::TopicsWanted;
use crate::kafka::error::{Code, Error};
use crate::kafka::interrupt::Interrupt;

const RETRY_BASE: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(1);

/// Works until the producer is dropped, then joins the senders.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut router = Router {
        shared,
        senders: BTreeMap::new(),
        refreshed_at: door::now(),
        not_before: None,
        backoff: Backoff::new(RETRY_BASE, RETRY_CAP),
    };
    while router.turn() {}
    for (interrupt, sender) in router.senders.into_values() {
        interrupt.raise();
        // Its panic was reported where it happened.
        let _ = sender.join();
    }
}

struct Router<'a> {
    shared: &'a Arc<Shared>,
    senders: BTreeMap<i32, (Interrupt, JoinHandle<()>)>,
    refreshed_at: Instant,
    /// After a failure nobody is asked before this.
    not_before: Option<Instant>,
    backoff: Backoff,
}

/// What is to be asked.
enum Question {
    Identity,
    Leaders,
}

impl Router<'_> {
    /// False: the end.
    fn turn(&mut self) -> bool {
        let now = door::now();
        let mut state = self.shared.state.lock();
        if state.stopping {
            return false;
        }
        let (over, expires_at) = state.expire(now);
        if !over.is_empty() {
            drop(state);
            self.shared.conclude(&over);
            return true;
        }
        let refresh_at = self.refreshed_at + self.shared.options.metadata_max_age;
        let has_topics = !state.topics().is_empty() && state.fatal.is_none();
        let question = match (state.identity, has_topics) {
            (None, true) => Some(Question::Identity),
            (_, true) if state.metadata_wanted || now >= refresh_at => Some(Question::Leaders),
            _ => None,
        };
        let asks_at = match &question {
            Some(_) => Some(self.not_before.unwrap_or(now)),
            None => has_topics.then_some(refresh_at),
        };
        match question.filter(|_| asks_at <= Some(now)) {
            None => self.shared.wait(&mut state, expires_at.into_iter().chain(asks_at).min()),
            Some(question) => {
                let topics = state.topics();
                drop(state);
                let answered = match question {
                    Question::Identity => self.ask_identity(),
                    Question::Leaders => self.ask_leaders(&topics),
                };
                self.not_before = answered.err().map(|error| {
                    debug!("producer: asking again: {error}");
                    door::now() + self.backoff.fail(door::random())
                });
            }
        }
        true
    }

    fn ask_leaders(&mut self, topics: &[Arc<str>]) -> Result<(), Error> {
        let metadata = self.shared.cluster.refresh(TopicsWanted::Names(topics))?;
        self.refreshed_at = door::now();
        self.backoff.reset();
        let leaders = self.shared.state.lock().apply(&metadata);
        for node in leaders {
            self.senders.entry(node).or_insert_with(|| {
                let (shared, interrupt) = (Arc::clone(self.shared), Interrupt::default());
                let armed = interrupt.clone();
                let body = move || shared.guard(|| sender::run(&shared, node, armed));
                (interrupt, door::spawn(format!("konekt-produce-{node}"), body))
            });
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    /// InitProducerId (22), which any broker answers for a producer without transactions.
    fn ask_identity(&mut self) -> Result<(), Error> {
        let request =
            InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(i32::MAX);
        let (address, answer) = self.shared.cluster.ask(&request)?;
        let code = Code(answer.error_code);
        let mut state = self.shared.state.lock();
        if code.is_ok() {
            self.backoff.reset();
            state.identity = Some(Identity { id: answer.producer_id.0, epoch: answer.producer_epoch });
            debug!("producer id {}, epoch {}", answer.producer_id.0, answer.producer_epoch);
            self.shared.changed.notify_all();
            return Ok(());
        }
        let subject = "an idempotent producer".into();
        let error = Error::Broker { address, api: "InitProducerId", subject, code, message: None };
        if !error.is_retriable() {
            warn!("producer: {error}");
            state.fatal = Some(error.clone());
            self.shared.changed.notify_all();
        }
        Err(error)
    }
}
