//! What each worker is doing, so that the loop can say when that takes too long.
//!
//! Nothing can end a call of a sink from outside, so a worker that hangs is reported and left to it: its partitions stand
//! still, the others go on with the workers that are left. A worker whose thread dies is replaced.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam::channel::Receiver;
use parking_lot::Mutex;

use super::channels::{Job, Outcomes};
use super::worker::{Outfit, Worker};
use crate::core::record::TopicPartition;

/// What a worker is doing.
#[derive(Debug)]
pub(super) struct Doing {
    /// `writing`, `claiming`.
    pub call: &'static str,
    /// Each partition, and the first and last offset of its batch where there is one.
    pub parts: Vec<(TopicPartition, Option<(i64, i64)>)>,
    pub since: Duration,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.call)?;
        for (index, (partition, offsets)) in self.parts.iter().enumerate() {
            write!(f, "{}{partition}", if index == 0 { " " } else { ", " })?;
            if let Some((first, last)) = offsets {
                write!(f, " offsets {first} to {last}")?;
            }
        }
        Ok(())
    }
}

/// Where a worker says what it is doing.
#[derive(Clone, Default)]
pub(super) struct Desk(Arc<Mutex<Option<Doing>>>);

impl Desk {
    /// It is doing this until what is answered is dropped.
    pub fn busy_with(&self, doing: Doing) -> AtWork {
        *self.0.lock() = Some(doing);
        AtWork(self.clone())
    }
}

/// See [`Desk::busy_with`].
pub(super) struct AtWork(Desk);

impl Drop for AtWork {
    fn drop(&mut self) {
        *self.0.0.lock() = None;
    }
}

/// Life shown by a thread that is never idle for long.
#[derive(Clone, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// It lives.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// All workers and the poller, as the loop sees them.
pub(super) struct Crew {
    desks: Vec<Desk>,
    /// Since when each one is doing what was last reported.
    reported: Vec<Option<Duration>>,
    replaced: Arc<AtomicU64>,
    timeout: Duration,
    poller: Pulse,
    /// The poller's beats when they were last counted, and when they had last become more.
    poller_seen: (u64, Duration),
}

impl Crew {
    /// So many workers, who may do one thing for `timeout`.
    pub fn new(count: usize, timeout: Duration) -> Self {
        let desks = (0..count).map(|_| Desk::default()).collect();
        let (poller, poller_seen) = (Pulse::default(), (0, Duration::ZERO));
        Self { desks, reported: vec![None; count], replaced: Arc::default(), timeout, poller, poller_seen }
    }

    /// Watches the poller as well.
    pub fn watching(self, poller: Pulse) -> Self {
        Self { poller, ..self }
    }

    /// How long the poller has shown no life.
    pub fn poller_silence(&mut self, now: Duration) -> Duration {
        let beats = self.poller.0.load(Ordering::Relaxed);
        if beats != self.poller_seen.0 {
            self.poller_seen = (beats, now);
        }
        now.saturating_sub(self.poller_seen.1)
    }

    /// How many workers there are, and how many are at work.
    pub fn count(&self) -> (usize, usize) {
        (self.desks.len(), self.desks.iter().filter(|desk| desk.0.lock().is_some()).count())
    }

    /// A worker's desk.
    pub fn desk(&self, number: usize) -> Desk {
        self.desks[number].clone()
    }

    /// The place of a worker who is given this.
    pub fn place(&self, number: usize, outfit: Outfit, jobs: Receiver<Job>, outcomes: Outcomes) -> Place {
        Place { number, outfit, jobs, outcomes, replaced: Arc::clone(&self.replaced) }
    }

    /// Workers that died and were replaced.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Workers that do one thing for too long, each with the sentence to say about it the first time.
    pub fn stuck(&mut self, now: Duration) -> Vec<(usize, Option<String>)> {
        let mut stuck = Vec::new();
        for (number, (desk, reported)) in self.desks.iter().zip(&mut self.reported).enumerate() {
            let doing = desk.0.lock();
            let Some(doing) = doing.as_ref().filter(|doing| now.saturating_sub(doing.since) >= self.timeout) else {
                continue;
            };
            let news = reported.replace(doing.since) != Some(doing.since);
            let sentence = || {
                let seconds = now.saturating_sub(doing.since).as_secs();
                format!(
                    "worker {number} has been {doing} for {seconds} s, longer than message_timeout_seconds: the sink \
                     does not answer, and these partitions stand still until it does"
                )
            };
            stuck.push((number, news.then(sentence)));
        }
        stuck
    }

    /// How long one thing may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Where one worker at a time works. Should it die of a panic, another takes its place.
pub(super) struct Place {
    number: usize,
    outfit: Outfit,
    jobs: Receiver<Job>,
    outcomes: Outcomes,
    replaced: Arc<AtomicU64>,
}

impl Place {
    /// A worker for it.
    pub fn worker(&self) -> Worker {
        Worker::new(self.outfit.clone(), self.jobs.clone(), self.outcomes.clone())
    }

    /// Has it worked at until the ready queue is closed.
    pub fn run(self) {
        while catch_unwind(AssertUnwindSafe(|| self.worker().run())).is_err() {
            self.replaced();
        }
    }

    /// Counts a worker that died.
    pub fn replaced(&self) {
        self.replaced.fetch_add(1, Ordering::Relaxed);
        log::error!("worker {} died of a panic and is replaced; this is a defect, please report it", self.number);
    }

    /// Whether no work waits for anybody.
    #[cfg(feature = "testkit")]
    pub fn idle(&self) -> bool {
        self.jobs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_hangs_is_reported_once_with_what_it_is_doing() {
        let mut crew = Crew::new(2, Duration::from_secs(10));
        let parts = vec![(TopicPartition::new("t", 0), Some((5, 9))), (TopicPartition::new("t", 1), None)];
        let at_work = crew.desk(1).busy_with(Doing { call: "writing", parts, since: Duration::from_secs(3) });
        assert_eq!(crew.stuck(Duration::from_secs(12)), []);
        let [(1, Some(sentence))] = &crew.stuck(Duration::from_secs(13))[..] else { panic!("worker 1 hangs") };
        assert!(sentence.starts_with("worker 1 has been writing t/0 offsets 5 to 9, t/1 for 10 s"), "{sentence}");
        assert_eq!(crew.stuck(Duration::from_secs(14)), [(1, None)], "said once");
        drop(at_work);
        assert_eq!(crew.stuck(Duration::from_secs(99)), []);
    }
}
