//! Which setting one would choose, and why: the smallest that is about as fast as the fastest.

use std::collections::BTreeMap;

use serde::Serialize;

use super::report::Cell;
use super::{Contender, Setting, Subject};
use crate::core::digits::{counted, grouped};

/// What is slower than the fastest by less than this is as fast, for a choice.
const TOLERANCE_PERCENT: f64 = 5.0;

/// A choice for one kind of work.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Choice {
    /// Among its settings…
    pub record_bytes: usize,
    pub partitions: usize,
    /// …take these,
    pub workers: usize,
    pub batch_size: usize,
    /// which give so much (median).
    pub records_per_second: f64,
    /// In a sentence, for people.
    pub reason: String,
}

impl Choice {
    /// Whether this cell was chosen.
    pub fn is(&self, cell: &Cell) -> bool {
        let Setting { record_bytes, partitions, workers, batch_size } = cell.setting;
        cell.contender == Contender::Konekt
            && (self.record_bytes, self.partitions) == (record_bytes, partitions)
            && (self.workers, self.batch_size) == (workers, batch_size)
    }

    /// What it is a choice for: `records of 200 bytes in 8 partitions`.
    pub fn work(&self, subject: Subject) -> String {
        let records = format!("records of {} bytes", self.record_bytes);
        match subject {
            Subject::Decode => records,
            _ => format!("{records} in {}", counted(self.partitions, "partition")),
        }
    }

    /// The settings to make, by their names.
    pub fn settings(&self, subject: Subject) -> String {
        match subject {
            Subject::Decode => format!("batches of {}, {}", self.batch_size, counted(self.workers, "worker")),
            _ => format!("batch_size {}, max_workers {}", self.batch_size, self.workers),
        }
    }
}

/// One choice for each size of record and number of partitions, in that order.
///
/// The fewest workers and then the smallest batch whose median is within 5 % of the fastest: what is smaller holds less
/// memory and connections, makes a record wait less, and has less to do again when a write fails.
pub fn choose(cells: &[Cell]) -> Vec<Choice> {
    let mut works: BTreeMap<(usize, usize), Vec<&Cell>> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.contender == Contender::Konekt) {
        works.entry((cell.setting.record_bytes, cell.setting.partitions)).or_default().push(cell);
    }
    works.values().filter_map(|cells| of_one_work(cells)).collect()
}

fn of_one_work(cells: &[&Cell]) -> Option<Choice> {
    let rate = |cell: &Cell| cell.records_per_second.median;
    let size = |cell: &Cell| (cell.setting.workers, cell.setting.batch_size);
    let best = cells.iter().max_by(|a, b| rate(a).total_cmp(&rate(b)))?;
    let enough = rate(best) * (1.0 - TOLERANCE_PERCENT / 100.0);
    let chosen = cells.iter().filter(|cell| rate(cell) >= enough).min_by_key(|cell| size(cell))?;
    // A smaller one whose better runs were fast enough may be as good: its median lies below by chance, perhaps.
    let doubtful = cells.iter().filter(|cell| size(cell) < size(chosen) && cell.records_per_second.max >= enough);
    let mut reason = match cells.len() {
        1 => "the only setting that was measured".to_owned(),
        _ if chosen.setting == best.setting && cells.iter().all(|cell| size(cell) >= size(chosen)) => {
            format!("the fastest of {} settings, and the smallest", cells.len())
        }
        _ if chosen.setting == best.setting => {
            format!("the fastest of {} settings; none that is smaller comes within {TOLERANCE_PERCENT} %", cells.len())
        }
        _ => format!(
            "the smallest within {TOLERANCE_PERCENT} % of the fastest ({} at {} records/s): it holds less memory, \
             records wait less, and less is done again when a write fails",
            described(best.setting),
            grouped(rate(best).round() as u64)
        ),
    };
    if let Some(cell) = doubtful.min_by_key(|cell| size(cell)) {
        reason.push_str(&format!(
            ". Runs differ enough that {} may be as good: measure with more --repeats or --seconds",
            described(cell.setting)
        ));
    }
    let Setting { record_bytes, partitions, workers, batch_size } = chosen.setting;
    Some(Choice { record_bytes, partitions, workers, batch_size, records_per_second: rate(chosen), reason })
}

fn described(setting: Setting) -> String {
    format!("batches of {} with {}", setting.batch_size, counted(setting.workers, "worker"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::bench::Measurement;

    /// A cell whose runs had these rates.
    fn cell(workers: usize, batch_size: usize, rates: &[u64]) -> Cell {
        let setting = Setting { record_bytes: 200, partitions: 8, workers, batch_size };
        let run = |records: &u64| Measurement { records: *records, seconds: 1.0, ..Measurement::default() };
        Cell::new(Contender::Konekt, setting, rates.iter().map(run).collect())
    }

    fn check(cells: &[Cell], workers: usize, batch_size: usize, reason: &str) {
        let choices = choose(cells);
        assert_eq!(choices.len(), 1, "{choices:?}");
        let choice = &choices[0];
        assert_eq!((choice.workers, choice.batch_size), (workers, batch_size), "{choice:?}");
        assert!(choice.reason.contains(reason), "{choice:?}");
    }

    #[test]
    fn the_smallest_that_is_about_as_fast_is_chosen() {
        let rising =
            |at_1000| [cell(1, 10, &[20]), cell(1, 100, &[80]), cell(1, 1000, &[at_1000]), cell(1, 5000, &[100])];
        check(&rising(96), 1, 1000, "within 5 % of the fastest (batches of 5000 with 1 worker at 100 records/s)");
        check(&rising(94), 1, 5000, "the fastest of 4 settings");
        check(
            &[cell(4, 100, &[100]), cell(1, 5000, &[97]), cell(1, 100, &[50])],
            1,
            5000,
            "batches of 100 with 4 workers",
        );
        check(&[cell(1, 10, &[20]), cell(1, 20, &[10])], 1, 10, "the fastest of 2 settings, and the smallest");
        check(&[cell(2, 50, &[10])], 2, 50, "the only setting");
    }

    #[test]
    fn a_doubt_is_said() {
        let doubt = "batches of 100 with 1 worker may be as good";
        check(&[cell(1, 100, &[90, 92, 97]), cell(1, 1000, &[99, 100, 101])], 1, 1000, doubt);
        let clear = choose(&[cell(1, 100, &[90, 92, 94]), cell(1, 1000, &[99, 100, 101])]);
        assert!(!clear[0].reason.contains("may be as good"), "{clear:?}");
    }

    #[test]
    fn each_work_has_its_choice_and_the_ceiling_is_none() {
        let mut large = cell(1, 10, &[5]);
        large.setting.record_bytes = 10_000;
        let mut ceiling = cell(1, 10, &[1_000]);
        ceiling.contender = Contender::Ceiling;
        let choices = choose(&[cell(1, 100, &[100]), large, ceiling]);
        assert_eq!(choices.iter().map(|choice| choice.record_bytes).collect::<Vec<_>>(), [200, 10_000]);
        assert_eq!(choices.iter().map(|choice| choice.batch_size).collect::<Vec<_>>(), [100, 10]);
    }
}
