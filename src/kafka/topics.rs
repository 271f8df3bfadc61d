//! Which topics are subscribed to, out of what the metadata says: pure, but for [`partitions_now`], which asks.
//!
//! A topic that is missing from one answer is not gone: a broker that has just started may not have heard of it. So
//! what was seen is believed until the topic was missing for [`GONE_AFTER`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::assignor::PartitionCounts;
use super::cluster::{Cluster, Metadata, Topic, TopicsWanted};
use super::consumer::TopicSelection;
use super::error::{Code, Error};
use crate::core::backoff::Backoff;
use crate::core::record::TopicPartition;
use crate::door;

/// A topic that is unknown for this long was deleted.
pub const GONE_AFTER: Duration = Duration::from_secs(30);
/// How many similar names an error lists.
const SUGGESTIONS_MAX: usize = 3;
/// Below this similarity (0 to 1) a name is no suggestion.
const SIMILARITY_MIN: f64 = 0.6;

/// The subscription and what was last seen of it.
pub struct Topics {
    selection: TopicSelection,
    /// Empty for a pattern.
    names: Vec<Arc<str>>,
    counts: PartitionCounts,
    missing_since: BTreeMap<Arc<str>, Instant>,
}

impl Topics {
    /// Nothing seen yet.
    pub fn new(selection: TopicSelection) -> Self {
        let mut names: Vec<Arc<str>> = match &selection {
            TopicSelection::Names(names) => names.iter().map(|name| Arc::from(name.as_str())).collect(),
            TopicSelection::Pattern(_) => Vec::new(),
            TopicSelection::Partitions(partitions) => partitions.iter().map(|of| of.topic.clone()).collect(),
        };
        names.sort();
        names.dedup();
        Self { selection, names, counts: PartitionCounts::new(), missing_since: BTreeMap::new() }
    }

    /// What to ask the cluster about.
    pub fn wanted(&self) -> TopicsWanted<'_> {
        match self.selection {
            TopicSelection::Pattern(_) => TopicsWanted::All,
            _ => TopicsWanted::Names(&self.names),
        }
    }

    /// Takes in an answer and gives the subscribed topics as they are now believed to be.
    pub fn see(&mut self, metadata: &Metadata, now: Instant) -> PartitionCounts {
        let seen = metadata.topics.iter().filter(|(name, topic)| topic.error.is_ok() && self.selects(name, topic));
        let seen: PartitionCounts = seen.map(|(name, topic)| (name.clone(), topic.partitions.len() as i32)).collect();
        self.missing_since.retain(|name, _| !seen.contains_key(name));
        let unseen: Vec<Arc<str>> = self.counts.keys().filter(|name| !seen.contains_key(*name)).cloned().collect();
        for name in unseen {
            let since = *self.missing_since.entry(name.clone()).or_insert(now);
            // One that we may not see any more is there, as far as we know.
            let hidden = |topic: &Topic| topic.error == Code::TOPIC_AUTHORIZATION_FAILED;
            let is_hidden = metadata.topics.get(&name).is_some_and(hidden);
            if now.saturating_duration_since(since) >= GONE_AFTER && !is_hidden {
                self.gone(&name);
            }
        }
        self.counts.extend(seen);
        self.counts.clone()
    }

    /// A named topic stays subscribed to: it may come back.
    fn gone(&mut self, name: &Arc<str>) {
        log::warn!("topic {name} is gone");
        match self.selection {
            TopicSelection::Pattern(_) => drop(self.counts.remove(name)),
            _ => drop(self.counts.insert(name.clone(), 0)),
        }
    }

    /// Whether topics are believed in that were not in the last answer.
    pub fn doubtful(&self) -> bool {
        !self.missing_since.is_empty()
    }

    /// Whether all that was asked for by name is there, or anything that matches.
    pub fn complete(&self) -> bool {
        match self.selection {
            TopicSelection::Pattern(_) => !self.counts.is_empty(),
            _ => self.names.iter().all(|name| self.counts.contains_key(name)),
        }
    }

    /// Why the subscription is not complete, with names that look alike.
    pub fn complaint(&self, metadata: &Metadata) -> Error {
        let Some(missing) = self.names.iter().find(|name| !self.counts.contains_key(*name)) else {
            return Error::Invalid(
                "no topic of the cluster matches the pattern: create one, or correct the pattern".into(),
            );
        };
        let code = metadata.topics.get(missing).map_or(Code::UNKNOWN_TOPIC_OR_PARTITION, |topic| topic.error);
        if code != Code::UNKNOWN_TOPIC_OR_PARTITION && !code.is_ok() {
            let (address, subject) = ("the cluster".into(), format!("topic {missing}"));
            return Error::Broker { address, api: "Metadata", subject, code, message: None };
        }
        let similar = similar_names(missing, metadata);
        let hint = match similar.as_slice() {
            [] => "create it, or check its name".into(),
            names => format!("did you mean {}?", names.join(" or ")),
        };
        Error::Invalid(format!("there is no topic {missing} in the cluster: {hint}"))
    }

    /// A partition that was asked for by number and does not exist.
    pub fn missing_partition(&self) -> Option<Error> {
        let TopicSelection::Partitions(partitions) = &self.selection else { return None };
        let exists = |count: &i32, index: i32| (0..*count).contains(&index);
        partitions.iter().find_map(|of| {
            let count = self.counts.get(&of.topic)?;
            let words = || Error::Invalid(format!("there is no partition {of}: the topic has {count} partitions"));
            (!exists(count, of.partition)).then(words)
        })
    }

    fn selects(&self, name: &Arc<str>, topic: &Topic) -> bool {
        match &self.selection {
            TopicSelection::Pattern(pattern) => {
                !topic.internal && pattern.find(name).is_some_and(|found| found.len() == name.len())
            }
            _ => self.names.binary_search(name).is_ok(),
        }
    }
}

/// All partitions of the topics as they are now. Topics that are missing are waited for, since one that was just created
/// is not known everywhere yet.
///
/// # Errors
/// When one is still missing after `wait`, or the cluster cannot be asked.
pub fn partitions_now(
    cluster: &Cluster,
    selection: &TopicSelection,
    wait: Duration,
) -> Result<Vec<TopicPartition>, Error> {
    if let TopicSelection::Partitions(partitions) = selection {
        return Ok(partitions.clone());
    }
    let (until, mut backoff) = (door::now() + wait, Backoff::new(Duration::from_millis(100), Duration::from_secs(1)));
    let mut topics = Topics::new(selection.clone());
    loop {
        let metadata = cluster.refresh(topics.wanted())?;
        let counts = topics.see(&metadata, door::now());
        if topics.complete() {
            let of_topic = |(topic, count)| (0..count).map(move |index| TopicPartition::new(Arc::clone(&topic), index));
            return Ok(counts.into_iter().flat_map(of_topic).collect());
        }
        let wait = backoff.fail(door::random());
        if door::now() + wait >= until {
            return Err(topics.complaint(&*cluster.refresh(TopicsWanted::All)?));
        }
        door::sleep(wait);
    }
}

fn similar_names<'a>(name: &str, metadata: &'a Metadata) -> Vec<&'a str> {
    let there = metadata.topics.iter().filter(|(_, topic)| topic.error.is_ok() && !topic.internal);
    let mut rated: Vec<(f64, &str)> =
        there.map(|(other, _)| (strsim::normalized_damerau_levenshtein(name, other), &**other)).collect();
    rated.retain(|(similarity, _)| *similarity >= SIMILARITY_MIN);
    rated.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    rated.into_iter().take(SUGGESTIONS_MAX).map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::cluster::Partition;
    use regex::Regex;

    fn metadata(topics: &[(&str, i32, Code)]) -> Metadata {
        let partition = |index| Partition { index, leader: Some(1), leader_epoch: 0, error: Code::NONE };
        let topic = |(name, count, error): &(&str, i32, Code)| {
            let partitions = (0..*count).map(partition).collect();
            let internal = name.starts_with("__");
            (Arc::from(*name), Topic { id: uuid::Uuid::nil(), partitions, error: *error, internal })
        };
        Metadata { topics: topics.iter().map(topic).collect(), ..Metadata::default() }
    }

    fn show(counts: &PartitionCounts) -> String {
        counts.iter().map(|(name, count)| format!("{name}:{count}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_pattern_matches_whole_names_and_no_internal_topic() {
        let pattern = TopicSelection::Pattern(Regex::new("orders|.*offsets").unwrap());
        let mut topics = Topics::new(pattern);
        let there = metadata(&[("orders", 2, Code::NONE), ("orders-old", 1, Code::NONE), ("__offsets", 5, Code::NONE)]);
        assert_eq!(show(&topics.see(&there, crate::door::now())), "orders:2");
        assert!(topics.complete());
    }

    #[test]
    fn a_topic_missing_from_one_answer_is_believed_in_until_it_is_gone_for_long() {
        let start = crate::door::now();
        let there = metadata(&[("a", 3, Code::NONE)]);
        let missing = metadata(&[("a", 0, Code::UNKNOWN_TOPIC_OR_PARTITION)]);
        for (selection, gone) in
            [(TopicSelection::Names(vec!["a".into()]), "a:0"), (TopicSelection::Pattern(Regex::new("a").unwrap()), "")]
        {
            let mut topics = Topics::new(selection);
            assert_eq!(show(&topics.see(&there, start)), "a:3");
            assert_eq!(show(&topics.see(&missing, start)), "a:3");
            assert!(topics.doubtful());
            assert_eq!(show(&topics.see(&there, start + GONE_AFTER)), "a:3", "it came back");
            topics.see(&missing, start + GONE_AFTER);
            assert_eq!(show(&topics.see(&missing, start + GONE_AFTER * 2)), gone);
        }
    }

    #[test]
    fn a_topic_that_is_hidden_from_us_is_not_gone() {
        let start = crate::door::now();
        let mut topics = Topics::new(TopicSelection::Names(vec!["a".into()]));
        topics.see(&metadata(&[("a", 3, Code::NONE)]), start);
        let hidden = metadata(&[("a", 0, Code::TOPIC_AUTHORIZATION_FAILED)]);
        topics.see(&hidden, start);
        assert_eq!(show(&topics.see(&hidden, start + GONE_AFTER * 2)), "a:3");
    }

    #[test]
    fn a_missing_topic_is_named_with_its_likes() {
        let mut topics = Topics::new(TopicSelection::Names(vec!["ordes".into()]));
        let there = metadata(&[("orders", 1, Code::NONE), ("payments", 1, Code::NONE), ("__orders", 1, Code::NONE)]);
        topics.see(&there, crate::door::now());
        assert!(!topics.complete());
        let words = topics.complaint(&there).to_string();
        assert_eq!(words, "there is no topic ordes in the cluster: did you mean orders?");
        let forbidden = metadata(&[("ordes", 0, Code::TOPIC_AUTHORIZATION_FAILED)]);
        assert_eq!(topics.complaint(&forbidden).code(), Some(Code::TOPIC_AUTHORIZATION_FAILED));
    }

    #[test]
    fn a_partition_that_does_not_exist_is_named() {
        let wanted = ["a/0", "a/3"].map(|text| TopicPartition::new(&text[..1], text[2..].parse().unwrap()));
        let mut topics = Topics::new(TopicSelection::Partitions(wanted.to_vec()));
        topics.see(&metadata(&[("a", 3, Code::NONE)]), crate::door::now());
        let words = topics.missing_partition().unwrap().to_string();
        assert_eq!(words, "there is no partition a/3: the topic has 3 partitions");
    }
}
