//! What both protocols' model tests share: an application that believes what its group tells it.

use super::*;

/// A process: its group, and what its application has been told.
pub(super) struct Application {
    pub(super) group: Group,
    pub(super) held: BTreeSet<TopicPartition>,
    pub(super) to_release: Vec<TopicPartition>,
    pub(super) leaves: bool,
}

impl Application {
    pub(super) fn new(group: Group) -> Self {
        Self { group, held: BTreeSet::new(), to_release: Vec::new(), leaves: false }
    }

    pub(super) fn hear(&mut self) {
        for event in self.group.take_events() {
            match event {
                GroupEvent::Assigned(added) => {
                    for partition in added {
                        assert!(self.held.insert(partition.clone()), "{partition} was assigned twice");
                    }
                }
                GroupEvent::Revoked(revoked) => {
                    assert!(revoked.iter().all(|partition| self.held.contains(partition)), "{revoked:?} is not held");
                    self.to_release = revoked;
                }
                GroupEvent::Lost(lost) => {
                    self.held.retain(|partition| !lost.contains(partition));
                    self.to_release.retain(|partition| !lost.contains(partition));
                }
                GroupEvent::Trouble { .. } => {}
                GroupEvent::Refused { api, code } => panic!("{api}: {code}"),
            }
        }
        assert_eq!(self.group.owned(), &self.held, "the group and the application disagree");
    }

    pub(super) fn release(&mut self) {
        let released = std::mem::take(&mut self.to_release);
        self.held.retain(|partition| !released.contains(partition));
        self.group.released(&released);
    }
}

/// That no partition is with two.
pub(super) fn expect_one_owner<'a>(applications: impl Iterator<Item = &'a Application>) {
    let mut owner: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
    for (at, application) in applications.enumerate() {
        for partition in &application.held {
            let other = owner.insert(partition, at);
            assert_eq!(other, None, "{partition} is with two");
        }
    }
}

/// That all of `count` partitions are shared out evenly, if there is anybody to have them.
pub(super) fn expect_shared<'a>(applications: impl Iterator<Item = &'a Application>, count: usize) {
    let shares: Vec<usize> = applications.map(|application| application.held.len()).collect();
    let expected = if shares.is_empty() { 0 } else { count };
    assert_eq!(shares.iter().sum::<usize>(), expected, "{shares:?}");
    let (most, least) = (shares.iter().max(), shares.iter().min());
    assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{shares:?}");
}
