//! The consumer: a group's membership, the partitions that come of it, and what is fetched from them, as one stream
//! of [`Event`]s. Owned by one thread; all waiting happens on its own threads:
//!
//! ```text
//!   konekt-group      keeper.rs   joins, beats, leaves; the only one that says what is ours
//!   konekt-commit     committer/  commits; looks up where an assigned partition stands
//!   konekt-route      router/     metadata; sends each started partition to its leader's fetcher
//!   konekt-fetch-N    fetcher/    one per broker N: long polls
//! ```
//!
//! They report into one channel. It is unbounded and yet bounded in effect: every partition has credit for a few
//! chunks, whose bytes are in the memory budget; all other events are rare.

mod events;
mod options;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, select_biased, unbounded};
use parking_lot::Mutex;

pub use self::events::{AssignedPartition, Event, Fetched, Positions, Repeats, Reporter};
pub use self::options::{ConsumerOptions, TopicSelection};
pub(super) use self::threads::PanicGuard;
use self::threads::Threads;
use super::buffer::BufferPool;
use super::cluster::Cluster;
use super::committer::{self, Committer, Membership};
use super::credit::Wake;
use super::error::Error;
use super::group::Group;
use super::interrupt::Interrupt;
use super::keeper::{self, Keeper};
use super::router::{self, Router};
use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::door;

/// A running consumer.
pub struct Consumer {
    cluster: Cluster,
    events: Receiver<Event>,
    wake: Wake,
    woken: Receiver<()>,
    keeper: Sender<keeper::Command>,
    committer: Sender<committer::Command>,
    router: Sender<router::Command>,
    interrupt: Interrupt,
    threads: Threads,
}

impl Consumer {
    /// Finds the cluster and starts. Joining the group goes on in the background.
    ///
    /// # Errors
    /// [`Error::Invalid`] for options that make no sense; that of [`Cluster::connect`] when no broker could be reached
    /// for `connect_timeout`.
    pub fn start(options: ConsumerOptions) -> Result<Self, Error> {
        options.check()?;
        let options = options.within_memory();
        let cluster = connect(&options)?;
        let (event_sender, events) = unbounded();
        let (keeper, keeper_commands) = unbounded();
        let (committer, committer_commands) = unbounded();
        let (router, router_commands) = unbounded();
        let (wake, woken) = Wake::channel();
        let reporter = Reporter::new(event_sender);
        let interrupt = Interrupt::default();
        let membership = Arc::new(Mutex::new(Membership::default()));
        let mut threads = Threads::new(reporter.clone());

        let group = match &options.topics {
            TopicSelection::Partitions(partitions) => Group::fixed(options.group(), partitions),
            _ => Group::new(options.group(), door::random()),
        };
        let keeper_thread = Keeper::new(
            cluster.clone(),
            group,
            keeper_commands,
            committer.clone(),
            reporter.clone(),
            interrupt.clone(),
            membership.clone(),
            &options,
        );
        threads.spawn("konekt-group", move || keeper_thread.run());
        let committer_thread =
            Committer::new(cluster.clone(), committer_commands, keeper.clone(), reporter.clone(), membership, &options);
        threads.spawn("konekt-commit", move || committer_thread.run());
        let pool = BufferPool::new(options.memory.clone(), options.fetch_max_bytes.saturating_mul(2));
        let router_thread =
            Router::new(cluster.clone(), options, router_commands, router.clone(), keeper.clone(), reporter, pool);
        threads.spawn("konekt-route", move || router_thread.run());
        Ok(Self { cluster, events, wake, woken, keeper, committer, router, interrupt, threads })
    }

    /// The cluster it reads from.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Waits up to `wait` for something to happen, or until woken, and hands over all that has.
    pub fn poll(&self, wait: Duration, mut take: impl FnMut(Event)) {
        select_biased! {
            recv(self.events) -> event => event.into_iter().for_each(&mut take),
            recv(self.woken) -> _ => {}
            default(wait) => {}
        }
        self.events.try_iter().for_each(take);
    }

    /// Something to end a [`poll`](Self::poll) with.
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Fetches a partition from `offset` on.
    pub fn fetch(&self, partition: &TopicPartition, run: u64, offset: i64) {
        tell(&self.router, router::Command::Start { partition: partition.clone(), run, offset });
    }

    /// Fetches these no more.
    pub fn stop(&self, partitions: &[TopicPartition]) {
        tell(&self.router, router::Command::Stop(partitions.to_vec()));
    }

    /// Commits; the answer comes as an event.
    pub fn commit(&self, positions: Positions) {
        tell(&self.committer, committer::Command::Commit(positions));
    }

    /// Asks where the group stands in all partitions that are read, also in those of other members.
    pub fn survey(&self) {
        tell(&self.keeper, keeper::Command::Survey);
    }

    /// Gives revoked partitions up, after `positions` are committed.
    pub fn release(&self, partitions: Vec<TopicPartition>, positions: Positions) {
        tell(&self.committer, committer::Command::Release { partitions, positions });
    }

    /// Commits, leaves the group and ends all threads.
    ///
    /// # Errors
    /// When the commit failed, or a thread did not end in time (it ends by itself when its request times out).
    pub fn close(mut self, positions: Positions, deadline: Duration) -> Result<(), Error> {
        let until = door::now() + deadline;
        tell(&self.router, router::Command::Close);
        let (answer, answered) = bounded(1);
        tell(&self.committer, committer::Command::Close { positions, until, answer });
        let late = || Error::Invalid(format!("the last commit was not answered within {deadline:?}"));
        let committed =
            answered.recv_timeout(until.saturating_duration_since(door::now())).unwrap_or_else(|_| Err(late()));
        tell(&self.keeper, keeper::Command::Leave { until });
        self.interrupt.raise();
        let ended = self.threads.join(until);
        committed.and(ended)
    }
}

impl Drop for Consumer {
    /// Abandoned without [`close`](Consumer::close): threads end as soon as they look, the group finds out by itself.
    fn drop(&mut self) {
        tell(&self.router, router::Command::Close);
        tell(&self.committer, committer::Command::Stop);
        tell(&self.keeper, keeper::Command::Stop);
        self.interrupt.raise();
    }
}

/// A thread that has ended already needs no telling.
pub(super) fn tell<T>(thread: &Sender<T>, command: T) {
    let _ = thread.send(command);
}

/// Tries for `connect_timeout`, since a broker that is just starting refuses connections. A wrong password or certificate
/// ends it at once: somebody who has just started us is there to mend it.
fn connect(options: &ConsumerOptions) -> Result<Cluster, Error> {
    let until = door::now() + options.connect_timeout;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
    loop {
        match Cluster::connect(&options.bootstrap, options.connection()) {
            Err(error @ Error::Security { .. }) => return Err(error),
            Err(error) if error.is_retriable() => {
                let wait = backoff.fail(door::random());
                if door::now() + wait >= until {
                    return Err(error);
                }
                log::debug!("trying again in {wait:?}: {error}");
                door::sleep(wait);
            }
            result => return result,
        }
    }
}
