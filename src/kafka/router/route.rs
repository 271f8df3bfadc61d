//! A started partition: where it is fetched, or for what it waits.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::core::backoff::Backoff;
use crate::door;
use crate::kafka::credit::Credit;

/// A partition that was fetched for this long begins with short waits again.
const CALM: Duration = Duration::from_secs(10);

/// A started partition.
pub(super) struct Route {
    pub run: u64,
    pub offset: i64,
    pub last_epoch: i32,
    /// The newest leader epoch that was heard of: metadata of a broker that has not heard of it says nothing.
    pub leader_epoch: i32,
    pub topic_id: Uuid,
    /// A broker that is nearer than the leader, and until when it is believed to be.
    pub replica: Option<(i32, Instant)>,
    pub credit: Credit,
    pub place: Place,
    pub backoff: Backoff,
}

/// Where it is.
pub(super) enum Place {
    At {
        node: i32,
        since: Instant,
    },
    Waiting {
        at: Instant,
        unknown_since: Option<Instant>,
    },
    /// The offset is to be compared with the log.
    OutOfRange {
        at: Instant,
    },
}

impl Route {
    pub fn node(&self) -> Option<i32> {
        match self.place {
            Place::At { node, .. } => Some(node),
            _ => None,
        }
    }

    /// Waits after a failure.
    pub fn back_off(&mut self, now: Instant) {
        if matches!(self.place, Place::At { since, .. } if now.saturating_duration_since(since) >= CALM) {
            self.backoff.reset();
        }
        self.place = Place::Waiting { at: now + self.backoff.fail(door::random()), unknown_since: None };
    }

    /// Waits for other metadata.
    pub fn wait(&mut self, is_unknown: bool) {
        let now = door::now();
        let since = match self.place {
            Place::Waiting { unknown_since, .. } => unknown_since,
            _ => None,
        };
        let unknown_since = is_unknown.then(|| since.unwrap_or(now));
        self.place = Place::Waiting { at: now + self.backoff.fail(door::random()), unknown_since };
    }

    pub fn unknown_for(&self, now: Instant) -> Duration {
        match self.place {
            Place::Waiting { unknown_since: Some(since), .. } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        }
    }
}
