//! The circuit of one partition: whether it may be tried at the moment, and how many of its records may be put aside
//! before the fault is looked for elsewhere.
//!
//! Reasons to pause are a set: lifting one does not lift another. Those that the partition gave itself (errors, a table
//! that does not fit) end with a probe: after a while the circuit is half open, one record is tried, and a record that
//! is written closes it; else it opens again for twice as long. The state outlives the partition's stay here: when a
//! rebalance brings it back, it goes on where it stood.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Why a partition starts no write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PauseReason {
    /// Too many failed attempts, or a record that can be neither written nor put aside.
    Errors,
    /// The database or Kafka does not let us in.
    Auth,
    /// The table is not what the statement needs.
    Schema,
    /// A person said so.
    Operator,
}

impl PauseReason {
    /// All of them.
    pub const ALL: [PauseReason; 4] =
        [PauseReason::Errors, PauseReason::Auth, PauseReason::Schema, PauseReason::Operator];

    /// Its name in messages and metrics.
    pub fn name(self) -> &'static str {
        match self {
            PauseReason::Errors => "errors",
            PauseReason::Auth => "auth",
            PauseReason::Schema => "schema",
            PauseReason::Operator => "operator",
        }
    }
}

impl fmt::Display for PauseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    reasons: BTreeSet<PauseReason>,
    /// When a probe is due.
    probe_at: Duration,
    /// How often it opened since a record was last written.
    openings: u32,
    share: BadShare,
}

impl Breaker {
    /// A person pauses.
    pub fn pause(&mut self) {
        self.reasons.insert(PauseReason::Operator);
    }

    /// A person resumes; other reasons stay.
    pub fn resume(&mut self) {
        self.reasons.remove(&PauseReason::Operator);
    }

    /// Opens; no probe before `probe_at`. Sub-lanes that fail one after the other open it once.
    pub fn open(&mut self, reason: PauseReason, probe_at: Duration) {
        if self.reasons.iter().all(|reason| *reason == PauseReason::Operator) {
            self.openings = self.openings.saturating_add(1);
        }
        self.reasons.insert(reason);
        self.probe_at = self.probe_at.max(probe_at);
    }

    /// Time for the probe: what the partition gave itself as reasons is set aside.
    pub fn half_open(&mut self) {
        self.reasons.retain(|reason| *reason == PauseReason::Operator);
    }

    /// What became of records. One that was written closes the circuit; one that was put aside proves nothing.
    pub fn handled(&mut self, written: u64, dead_lettered: u64) {
        self.share.add(written, dead_lettered);
        if written > 0 {
            self.openings = 0;
        }
    }

    /// Whether no write may start.
    pub fn paused(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Whether a person paused it.
    pub fn paused_by_operator(&self) -> bool {
        self.reasons.contains(&PauseReason::Operator)
    }

    /// When a probe is due; only of meaning while it is paused.
    pub fn probe_at(&self) -> Duration {
        self.probe_at
    }

    /// Whether the next write is a probe: one record.
    pub fn probing(&self) -> bool {
        self.openings > 0
    }

    /// How often it opened since a record was last written.
    pub fn openings(&self) -> u32 {
        self.openings
    }

    /// The records put aside of late.
    pub fn share(&self) -> BadShare {
        self.share
    }

    /// Whether there is anything to remember while the partition is elsewhere.
    pub fn is_news(&self) -> bool {
        *self != Self::default()
    }

    /// The reasons, for people: `errors, operator`.
    pub fn reasons(&self) -> String {
        let reasons: Vec<String> = self.all_reasons().map(|reason| reason.to_string()).collect();
        reasons.join(", ")
    }

    /// The reasons.
    pub fn all_reasons(&self) -> impl Iterator<Item = PauseReason> {
        self.reasons.iter().copied()
    }
}

/// How many of a partition's last records (some 10,000 of them) were put aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BadShare {
    records: u64,
    bad: u64,
}

impl BadShare {
    /// Beyond so many records, older ones weigh half, and half again.
    const WINDOW: u64 = 10_000;
    /// So few bad records are no evidence against anything but themselves, whatever their share.
    const FEW: u64 = 10;

    /// Records that were handled.
    pub fn add(&mut self, written: u64, dead_lettered: u64) {
        self.records += written + dead_lettered;
        self.bad += dead_lettered;
        while self.records > Self::WINDOW {
            self.records /= 2;
            self.bad /= 2;
        }
    }

    /// How many of the next `count` records may be put aside, when at most `percent` of all may.
    ///
    /// ```
    /// use konekt::core::breaker::BadShare;
    ///
    /// let mut share = BadShare::default();
    /// assert_eq!(share.allowance(1000, 10), 100);
    /// assert_eq!(share.allowance(5, 10), 10, "a few are always let through…");
    /// share.add(20, 10);
    /// assert_eq!(share.allowance(5, 10), 0, "…but not again and again");
    /// ```
    pub fn allowance(&self, count: usize, percent: u32) -> usize {
        let records = self.records + count as u64;
        let most = (records * u64::from(percent) / 100).max(Self::FEW);
        if percent >= 100 { count } else { most.saturating_sub(self.bad) as usize }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_written_record_closes_the_circuit_and_a_dead_letter_does_not() {
        let mut breaker = Breaker::default();
        breaker.open(PauseReason::Errors, SECOND);
        breaker.pause();
        assert_eq!((breaker.reasons(), breaker.probing()), ("errors, operator".to_owned(), true));
        breaker.half_open();
        assert_eq!(breaker.reasons(), "operator", "only a person lifts a person's pause");
        breaker.resume();
        breaker.handled(0, 1);
        assert!(breaker.probing() && !breaker.paused());
        breaker.open(PauseReason::Schema, 3 * SECOND);
        assert_eq!(breaker.openings(), 2);
        breaker.half_open();
        breaker.handled(1, 0);
        assert!(!breaker.probing());
    }

    /// What can happen to a circuit; times in seconds.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Pause,
        Resume,
        Open(PauseReason, u64),
        HalfOpen,
        Handled(u64, u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let own = vec![PauseReason::Errors, PauseReason::Auth, PauseReason::Schema];
        prop_oneof![
            Just(Event::Pause),
            Just(Event::Resume),
            (prop::sample::select(own), 0u64..100).prop_map(|(reason, probe_at)| Event::Open(reason, probe_at)),
            Just(Event::HalfOpen),
            (0u64..2, 0u64..2).prop_map(|(written, dead_lettered)| Event::Handled(written, dead_lettered)),
        ]
    }

    /// The plain model: all that has happened, of which each question looks at the part it is about.
    struct History(Vec<Event>);

    impl History {
        /// What came after the last event like that.
        fn since(&self, is_end: impl Fn(&Event) -> bool) -> &[Event] {
            let end = self.0.iter().rposition(is_end);
            &self.0[end.map_or(0, |end| end + 1)..]
        }

        fn reasons(&self) -> Vec<PauseReason> {
            let said = self.0.iter().rfind(|event| matches!(event, Event::Pause | Event::Resume));
            let opened = self.since(|event| matches!(event, Event::HalfOpen));
            let stands = |reason: &PauseReason| match reason {
                PauseReason::Operator => matches!(said, Some(Event::Pause)),
                own => opened.iter().any(|event| matches!(event, Event::Open(opened, _) if opened == own)),
            };
            PauseReason::ALL.into_iter().filter(stands).collect()
        }

        /// Those that found it closed or half open, since a record was last written.
        fn openings(&self) -> u32 {
            let written = |event: &Event| matches!(event, Event::Handled(1.., _));
            let first = self.0.len() - self.since(written).len();
            let opens = |at: &usize| {
                let before = History(self.0[..*at].to_vec());
                let was_open = before.reasons().iter().any(|reason| *reason != PauseReason::Operator);
                matches!(self.0[*at], Event::Open(..)) && !was_open
            };
            (first..self.0.len()).filter(opens).count() as u32
        }

        fn probe_at(&self) -> u64 {
            let of = |event: &Event| if let Event::Open(_, probe_at) = event { *probe_at } else { 0 };
            self.0.iter().map(of).max().unwrap_or(0)
        }
    }

    proptest! {
        /// In particular: only a person lifts a person's pause, and only a written record ends the probing.
        #[test]
        fn a_circuit_is_what_has_happened_to_it(events in prop::collection::vec(event(), 0..40)) {
            let (mut breaker, mut history) = (Breaker::default(), History(Vec::new()));
            for event in events {
                match event {
                    Event::Pause => breaker.pause(),
                    Event::Resume => breaker.resume(),
                    Event::Open(reason, probe_at) => breaker.open(reason, Duration::from_secs(probe_at)),
                    Event::HalfOpen => breaker.half_open(),
                    Event::Handled(written, dead_lettered) => breaker.handled(written, dead_lettered),
                }
                history.0.push(event);
                let reasons: Vec<PauseReason> = breaker.all_reasons().collect();
                prop_assert_eq!(&reasons, &history.reasons());
                prop_assert_eq!(breaker.paused(), !reasons.is_empty());
                prop_assert_eq!(breaker.paused_by_operator(), reasons.contains(&PauseReason::Operator));
                prop_assert_eq!(breaker.openings(), history.openings());
                prop_assert_eq!(breaker.probing(), history.openings() > 0);
                prop_assert_eq!(breaker.probe_at().as_secs(), history.probe_at());
            }
        }

        /// However the records come, few more than the allowed share of a window is ever put aside.
        #[test]
        fn the_share_is_kept(batches in prop::collection::vec((1usize..2000, 0usize..2000), 1..60), percent in 0u32..100) {
            let (mut share, mut records, mut bad) = (BadShare::default(), 0, 0);
            for (count, wanted) in batches {
                let put_aside = wanted.min(count).min(share.allowance(count, percent));
                share.add((count - put_aside) as u64, put_aside as u64);
                (records, bad) = (records + count as u64, bad + put_aside as u64);
            }
            let windows = 2 + records / (BadShare::WINDOW / 2);
            let most = records * u64::from(percent) / 50 + windows * BadShare::FEW;
            prop_assert!(bad <= most, "{bad} of {records}");
        }
    }
}
