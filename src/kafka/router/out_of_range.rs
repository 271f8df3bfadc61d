//! A broker said that an offset is not in its log. A new leader may say so of the last few offsets until it has caught
//! up, so only what the log's bounds confirm is reported.

use super::Router;
use super::route::{Place, Route};
use crate::core::record::TopicPartition;
use crate::door;
use crate::kafka::consumer::Event;
use crate::kafka::error::Error;
use crate::kafka::offsets::{Isolation, OffsetAt};

/// Where a partition's log begins and ends.
type Bounds = (TopicPartition, Result<(i64, i64), Error>);

impl Router {
    /// Examines what is due.
    pub(super) fn examine_offsets(&mut self) {
        let now = door::now();
        let is_due = |route: &Route| matches!(route.place, Place::OutOfRange { at } if at <= now);
        let doubtful: Vec<TopicPartition> =
            self.routes.iter().filter(|(_, route)| is_due(route)).map(|(partition, _)| partition.clone()).collect();
        if doubtful.is_empty() {
            return;
        }
        match self.bounds(&doubtful) {
            Ok(bounds) => bounds.into_iter().for_each(|(partition, bounds)| self.examine(partition, bounds)),
            Err(error) => doubtful.into_iter().for_each(|partition| self.examine(partition, Err(error.clone()))),
        }
    }

    fn examine(&mut self, partition: TopicPartition, bounds: Result<(i64, i64), Error>) {
        let Some(route) = self.routes.get_mut(&partition) else { return };
        match bounds {
            Ok((log_start, log_end)) if (log_start..=log_end).contains(&route.offset) => {
                // It may be that the leader cannot tell any more where the epoch ended, and so has to be asked without.
                route.last_epoch = -1;
                route.wait(false);
            }
            Ok((log_start, log_end)) => {
                let (run, requested) = (route.run, route.offset);
                self.routes.remove(&partition);
                self.reporter.send(Event::OutOfRange { partition, run, requested, log_start, log_end });
            }
            Err(error) if error.is_retriable() => {
                route.place = Place::OutOfRange { at: door::now() + route.backoff.fail(door::random()) };
                self.reporter.trouble(error);
            }
            Err(error) => self.fail(&partition, error),
        }
    }

    fn bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Bounds>, Error> {
        let ask = |at| {
            let queries: Vec<_> = partitions.iter().map(|partition| (partition.clone(), at)).collect();
            self.cluster.list_offsets(&queries, Isolation::ReadUncommitted)
        };
        let both = ask(OffsetAt::Earliest)?.into_iter().zip(ask(OffsetAt::Latest)?);
        Ok(both.map(|((partition, start), (_, end))| (partition, start.and_then(|start| Ok((start, end?))))).collect())
    }
}
