//! All consumer groups behind one lock, with a condition variable for those who wait and a timer for sessions.
//!
//! The decisions are in `group`; here are only the lock, the clock and the waiting. Connections call in; the timer
//! thread runs [`Groups::run_timer`] until [`Groups::stop`].
//!
//! Lock order: this lock before those of `topics.rs` (a commit asks whether the partition exists).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use parking_lot::{Condvar, Mutex};

use super::group::{Caller, Group, Join, JoinAnswer, SyncAnswer, Ticket};
use crate::door;

/// The groups of the broker.
pub struct Groups {
    state: Mutex<State>,
    changed: Condvar,
    started: Instant,
    initial_rebalance_delay: Duration,
}

#[derive(Default)]
struct State {
    by_id: BTreeMap<String, Group>,
    stopping: bool,
}

impl Groups {
    /// No groups yet; a group's first rebalance waits for `initial_rebalance_delay`.
    pub fn new(initial_rebalance_delay: Duration) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), started: door::now(), initial_rebalance_delay }
    }

    /// A JoinGroup: blocks until the rebalance is through. `None`: the broker stops.
    pub fn join(&self, group_id: &str, join: Join) -> Option<JoinAnswer> {
        let ticket = self.with_or_new(group_id, |group, now| group.join(now, join));
        self.wait_for(group_id, ticket, Group::take_join)
    }

    /// A SyncGroup: blocks until the leader has spoken. `None`: the broker stops.
    pub fn sync(
        &self,
        group_id: &str,
        caller: &Caller,
        protocol: Option<&str>,
        assignments: Vec<(String, Bytes)>,
    ) -> Option<SyncAnswer> {
        let ticket = self.with(group_id, |group, now| group.sync(now, caller, protocol, assignments));
        match ticket {
            None => Some(Err(ResponseError::UnknownMemberId)),
            Some(ticket) => self.wait_for(group_id, ticket, Group::take_sync),
        }
    }

    /// Does something with a group, if it exists; everybody who waits looks again afterwards.
    pub fn with<A>(&self, group_id: &str, act: impl FnOnce(&mut Group, Duration) -> A) -> Option<A> {
        let mut state = self.state.lock();
        let answer = state.by_id.get_mut(group_id).map(|group| act(group, self.started.elapsed()));
        self.changed.notify_all();
        answer
    }

    /// Does something with a group, made first if need be.
    pub fn with_or_new<A>(&self, group_id: &str, act: impl FnOnce(&mut Group, Duration) -> A) -> A {
        let mut state = self.state.lock();
        let new = || Group::new(self.initial_rebalance_delay);
        let group = state.by_id.entry(group_id.to_owned()).or_insert_with(new);
        let answer = act(group, self.started.elapsed());
        self.changed.notify_all();
        answer
    }

    /// Looks at every group, in the order of their ids.
    pub fn list<A>(&self, look: impl Fn(&str, &Group) -> A) -> Vec<A> {
        self.state.lock().by_id.iter().map(|(group_id, group)| look(group_id, group)).collect()
    }

    /// Forgets what all groups have committed for a topic that was deleted.
    pub fn forget_topic(&self, topic: &str) {
        for group in self.state.lock().by_id.values_mut() {
            group.offsets.retain(|(of, _), _| of != topic);
        }
    }

    /// Deletes a group that has no members.
    pub fn delete(&self, group_id: &str) -> Result<(), ResponseError> {
        let mut state = self.state.lock();
        match state.by_id.get(group_id) {
            None => Err(ResponseError::GroupIdNotFound),
            Some(group) if group.has_members() => Err(ResponseError::NonEmptyGroup),
            Some(_) => {
                state.by_id.remove(group_id);
                self.changed.notify_all();
                Ok(())
            }
        }
    }

    /// Lets sessions and rebalances end in time. Returns after [`Groups::stop`].
    pub fn run_timer(&self) {
        let mut state = self.state.lock();
        while !state.stopping {
            let now = self.started.elapsed();
            let due = |group: &&mut Group| group.next_deadline().is_some_and(|deadline| deadline <= now);
            let mut ticked = false;
            for group in state.by_id.values_mut().filter(due) {
                group.tick(now);
                ticked = true;
            }
            if ticked {
                self.changed.notify_all();
            }
            match state.by_id.values().filter_map(Group::next_deadline).min() {
                Some(deadline) => {
                    self.changed.wait_until(&mut state, self.started + deadline);
                }
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Sends everybody away who waits, the timer too.
    pub fn stop(&self) {
        self.state.lock().stopping = true;
        self.changed.notify_all();
    }

    fn wait_for<A>(&self, group_id: &str, ticket: Ticket, take: impl Fn(&mut Group, Ticket) -> Option<A>) -> Option<A> {
        let mut state = self.state.lock();
        while !state.stopping {
            match take(state.by_id.get_mut(group_id)?, ticket) {
                Some(answer) => return Some(answer),
                None => self.changed.wait(&mut state),
            }
        }
        None
    }
}
