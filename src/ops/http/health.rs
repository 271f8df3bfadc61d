//! Whether a run lives, and whether it does its work.
//!
//! Alive means that its threads show life: restarting helps one that does not. A database that is away is no reason to
//! restart, since it is waited for on purpose; so it changes neither answer, and both say what is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::core::statistics::Statistics;
use crate::door;

/// The loop shows life once a second; a callback of a program may hold it up a little.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// The thread that reads shows life twice a second, but for the loop's sake it may wait.
const SOURCE_SILENCE_MAX: Duration = Duration::from_secs(60);

/// Where the loop shows life, and where is noted what it says of the thread that reads.
pub struct Heart {
    started: Instant,
    beat_ms: AtomicU64,
    source_silent_ms: AtomicU64,
}

impl Default for Heart {
    fn default() -> Self {
        Self { started: door::now(), beat_ms: AtomicU64::new(0), source_silent_ms: AtomicU64::new(0) }
    }
}

impl Heart {
    /// The loop lives.
    pub fn beat(&self) {
        self.beat_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// The thread that reads has been silent for so long.
    pub fn note_source(&self, silent_seconds: f64) {
        self.source_silent_ms.store((silent_seconds * 1e3) as u64, Ordering::Relaxed);
    }

    fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Time since the last beat.
    fn silence(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms().saturating_sub(self.beat_ms.load(Ordering::Relaxed)))
    }
}

/// An answer to a question about health.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    pub well: bool,
    /// What it is made from, in a sentence.
    pub detail: String,
    /// `unknown`, `reachable`, or `waiting` with the reason: for readiness.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partitions_assigned: Option<usize>,
    /// Partitions that stand still, each with its reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Vec<String>>,
}

/// Whether the threads show life.
pub fn liveness(heart: &Heart) -> Verdict {
    let silence = heart.silence();
    let source_silence = Duration::from_millis(heart.source_silent_ms.load(Ordering::Relaxed));
    let detail = if silence > SILENCE_MAX {
        format!("the loop has shown no life for {} s: restart", silence.as_secs())
    } else if source_silence > SOURCE_SILENCE_MAX {
        format!("the thread that reads from Kafka has shown no life for {} s: restart", source_silence.as_secs())
    } else {
        format!("the loop showed life {:.1} s ago", silence.as_secs_f64())
    };
    let well = silence <= SILENCE_MAX && source_silence <= SOURCE_SILENCE_MAX;
    Verdict { well, detail, sink: None, partitions_assigned: None, waiting: None }
}

/// Whether partitions are ours and written, or waited with on purpose.
pub fn readiness(statistics: &Statistics) -> Verdict {
    let sink = match (statistics.sink.reachable, &statistics.sink.failure) {
        (None, _) => "unknown: nothing was written yet".to_owned(),
        (Some(true), _) => "reachable".to_owned(),
        (Some(false), failure) => format!("waiting: {}", failure.as_deref().unwrap_or("no reason was given")),
    };
    let waiting = statistics.partitions.iter().filter(|partition| partition.state.is_waiting());
    let waiting = waiting.map(|of| {
        format!("{}/{} {}: {}", of.topic, of.partition, of.state.name(), of.detail.as_deref().unwrap_or("no reason"))
    });
    let detail = match (statistics.stopping, statistics.settled) {
        (true, _) => "the run ends",
        (false, false) => "the group has not said yet which partitions are ours",
        (false, true) if statistics.partitions_assigned == 0 => {
            "a spare: no partition is ours; others have them, or the topics have none"
        }
        (false, true) => "partitions are ours",
    };
    Verdict {
        well: statistics.settled && !statistics.stopping,
        detail: detail.to_owned(),
        sink: Some(sink),
        partitions_assigned: Some(statistics.partitions_assigned),
        waiting: Some(waiting.collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_loop_is_dead() {
        let heart = Heart::default();
        heart.beat();
        assert!(liveness(&heart).well);
        heart.note_source(61.0);
        assert!(liveness(&heart).detail.contains("reads from Kafka has shown no life for 61 s"));
        let long_ago = Heart { started: door::now() - SILENCE_MAX - Duration::from_secs(1), ..Heart::default() };
        let verdict = liveness(&long_ago);
        assert!(!verdict.well && verdict.detail.contains("no life for 16 s"), "{verdict:?}");
    }

    #[test]
    fn ready_is_who_has_heard_from_the_group_whatever_the_database_does() {
        let mut statistics = Statistics::default();
        assert!(!readiness(&statistics).well);
        statistics.settled = true;
        assert!(readiness(&statistics).detail.contains("spare"));
        statistics.sink.reachable = Some(false);
        statistics.sink.failure = Some("connection refused".into());
        let verdict = readiness(&statistics);
        assert_eq!((verdict.well, verdict.sink.as_deref()), (true, Some("waiting: connection refused")));
        statistics.stopping = true;
        assert!(!readiness(&statistics).well);
    }
}
