//! What goes wrong, drawn from a seed; and defects to plant, so that a test can show that it would see them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::core::backoff::Chance;
use crate::core::record::TopicPartition;
use crate::core::verdict::ErrorClass;
use crate::port::SinkError;

/// What can become of a call of the sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It fails and changes nothing.
    Refused(ErrorClass),
    /// It succeeds, and the connection breaks before the answer.
    LostAnswer,
    /// It answers for fewer batches than it was given, having written none.
    Silence,
    /// It panics.
    Panic,
}

/// A defect to plant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bug {
    /// The position is committed first, the records are written then.
    CommitBeforeWrite,
    /// What may be committed is taken to be all below the highest record written.
    TrackerOfRanges,
    /// The client gives revoked partitions back without telling the engine.
    LostRevoke,
    /// The position is moved without a look at the owner's epoch.
    EpochIgnored,
    /// What may have been committed is written again, whatever the position says.
    BlindRetry,
}

struct Weather {
    chance: Chance,
    percent: u64,
    kinds: Vec<Fault>,
    outage: bool,
    bad_permille: u64,
    bad_salt: u64,
}

/// Bad luck for everything of one world. Clones share it.
#[derive(Clone)]
pub struct Faults {
    weather: Arc<Mutex<Weather>>,
    bug: Option<Bug>,
}

impl Faults {
    /// Of a hundred calls of the sink `percent` fail, in one of these ways.
    pub fn new(seed: u64, percent: u64, kinds: Vec<Fault>) -> Self {
        let weather =
            Weather { chance: Chance::seeded(seed), percent, kinds, outage: false, bad_permille: 0, bad_salt: seed };
        Self { weather: Arc::new(Mutex::new(weather)), bug: None }
    }

    /// The same, and of a thousand records so many are bad.
    pub fn with_bad_records(self, permille: u64) -> Self {
        self.weather.lock().bad_permille = permille;
        self
    }

    /// The same with a defect.
    pub fn with_bug(self, bug: Option<Bug>) -> Self {
        Self { bug, ..self }
    }

    /// Whether this defect was planted.
    pub fn planted(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// What becomes of a call of the sink; `None`: it goes well.
    pub fn strike(&self) -> Option<Fault> {
        let mut weather = self.weather.lock();
        if weather.outage {
            return Some(Fault::Refused(ErrorClass::Transient));
        }
        if weather.kinds.is_empty() || weather.chance.draw() % 100 >= weather.percent {
            return None;
        }
        let kind = weather.chance.draw() as usize % weather.kinds.len();
        Some(weather.kinds[kind])
    }

    /// Fails as often as calls of the sink do, with something that will pass.
    pub fn away(&self, what: &str) -> Result<(), SinkError> {
        match self.strike() {
            Some(_) => Err(SinkError::new(ErrorClass::Transient, format!("planted: {what}"))),
            None => Ok(()),
        }
    }

    /// Whether something happens that does in so many of a thousand cases; never once it is calm.
    pub fn happens(&self, permille: u64) -> bool {
        let mut weather = self.weather.lock();
        weather.chance.draw() % 1000 < permille && weather.percent > 0
    }

    /// Whether a call panics that nobody guards; only where calls of the sink may panic.
    pub fn kills(&self) -> bool {
        let mut weather = self.weather.lock();
        weather.kinds.contains(&Fault::Panic) && weather.percent > 0 && weather.chance.draw().is_multiple_of(8)
    }

    /// Any number.
    pub fn draw(&self) -> u64 {
        self.weather.lock().chance.draw()
    }

    /// The database is away, or back.
    pub fn outage(&self, away: bool) {
        self.weather.lock().outage = away;
    }

    /// Nothing fails from now on but bad records.
    pub fn calm(&self) {
        let mut weather = self.weather.lock();
        (weather.percent, weather.outage) = (0, false);
    }

    /// No record is bad any more: the table was mended.
    pub fn mend(&self) {
        self.weather.lock().bad_permille = 0;
    }

    /// Whether a record cannot be written.
    pub fn is_bad(&self, partition: &TopicPartition, offset: i64) -> bool {
        let weather = self.weather.lock();
        let mut hasher = DefaultHasher::new();
        (weather.bad_salt, partition, offset).hash(&mut hasher);
        hasher.finish() % 1000 < weather.bad_permille
    }
}
