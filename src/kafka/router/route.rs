//! A started partition: where it is fetched, or for what it waits.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::core::backoff::Backoff;
use crate::door;
use crate::kafka::credit::Credit;
use crate::kafka::topics::GONE_AFTER;

/// A partition that was fetched for this long begins with short waits again.
const CALM: Duration = Duration::from_secs(10);

/// A started partition.
pub(super) struct Route {
    pub run: u64,
    pub offset: i64,
    pub last_epoch: i32,
    /// The newest leader epoch that was heard of: metadata of a broker that has not heard of it says nothing…
    pub leader_epoch: i32,
    /// …unless nobody has said anything else since then for long.
    pub outdated_since: Option<Instant>,
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

    /// Whether an epoch is from before the newest one that was heard of. A broker that has not heard of that one hears of it
    /// soon; where all stay at the older one, the log is another: the cluster was restored, or, where topics have no ids,
    /// the topic was made anew. Then the leader is asked, and says by epochs and offsets what is left of what was read.
    pub fn is_outdated(&mut self, epoch: i32, now: Instant) -> bool {
        if epoch >= self.leader_epoch {
            self.outdated_since = None;
            return false;
        }
        now.saturating_duration_since(*self.outdated_since.get_or_insert(now)) < GONE_AFTER
    }

    pub fn unknown_for(&self, now: Instant) -> Duration {
        match self.place {
            Place::Waiting { unknown_since: Some(since), .. } => now.saturating_duration_since(since),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_leader_epoch_is_believed_when_nobody_says_anything_else_for_long() {
        let now = door::now();
        let mut route = Route {
            run: 1,
            offset: 0,
            last_epoch: 7,
            leader_epoch: 7,
            outdated_since: None,
            topic_id: Uuid::nil(),
            replica: None,
            credit: Credit::new(1),
            place: Place::Waiting { at: now, unknown_since: None },
            backoff: Backoff::new(CALM, CALM),
        };
        let mut asked = |epoch, seconds| route.is_outdated(epoch, now + Duration::from_secs(seconds));
        assert_eq!([asked(7, 0), asked(8, 0)], [false, false]);
        assert_eq!([asked(3, 0), asked(3, 29), asked(7, 30)], [true, true, false], "somebody knows of it");
        assert_eq!([asked(3, 40), asked(3, 69), asked(3, 70)], [true, true, false]);
    }
}
