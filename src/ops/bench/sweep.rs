//! Which settings are measured, and in which order.

use super::{Contender, Measurement, Setting};

/// The values of each dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimensions {
    pub record_bytes: Vec<usize>,
    pub partitions: Vec<usize>,
    pub workers: Vec<usize>,
    pub batch_sizes: Vec<usize>,
}

impl Dimensions {
    /// Every combination. More workers than find work, which depends on the partitions, are not told from as many.
    pub fn settings(&self, workers_max: impl Fn(usize) -> usize) -> Vec<Setting> {
        let mut settings = Vec::new();
        for &record_bytes in &self.record_bytes {
            for &partitions in &self.partitions {
                for &workers in &self.workers {
                    let workers = workers.min(workers_max(partitions));
                    let with = |&batch_size| Setting { record_bytes, partitions, workers, batch_size };
                    settings.extend(self.batch_sizes.iter().map(with));
                }
            }
        }
        let mut seen = std::collections::HashSet::new();
        settings.retain(|setting| seen.insert(*setting));
        settings
    }

    /// What the bare loop is measured with: each size of record, in transactions as large as the largest batch.
    pub fn ceilings(&self) -> Vec<Setting> {
        let batch_size = self.batch_sizes.iter().copied().max().unwrap_or(1);
        let partitions = self.partitions.first().copied().unwrap_or(1);
        let with = |&record_bytes| Setting { record_bytes, partitions, workers: 1, batch_size };
        self.record_bytes.iter().map(with).collect()
    }
}

/// How often everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rounds {
    pub warm_up: u64,
    pub repeats: u64,
}

impl Rounds {
    /// All of them.
    pub fn count(self) -> u64 {
        self.warm_up + self.repeats
    }

    /// Measures everything once per round, back and forth, so that what drifts hits all alike. Answers the measurements
    /// that count, for each in the order of `all`.
    ///
    /// # Errors
    /// The first of `measure`.
    pub fn run<E>(
        self,
        all: &[(Contender, Setting)],
        mut measure: impl FnMut(Contender, Setting) -> Result<Measurement, E>,
    ) -> Result<Vec<Vec<Measurement>>, E> {
        let mut measured = vec![Vec::new(); all.len()];
        for round in 0..self.count() {
            let forth = 0..all.len();
            let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
            for index in order {
                let (contender, setting) = all[index];
                let measurement = measure(contender, setting)?;
                if round >= self.warm_up {
                    measured[index].push(measurement);
                }
            }
        }
        Ok(measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions() -> Dimensions {
        Dimensions { record_bytes: vec![200], partitions: vec![2, 8], workers: vec![1, 4], batch_sizes: vec![100, 10] }
    }

    #[test]
    fn every_setting_that_differs_is_measured_once() {
        let shown = |writers_max| -> Vec<(usize, usize, usize)> {
            let settings = dimensions().settings(|partitions| partitions.min(writers_max)).into_iter();
            settings.map(|setting| (setting.partitions, setting.workers, setting.batch_size)).collect()
        };
        assert_eq!(shown(1), [(2, 1, 100), (2, 1, 10), (8, 1, 100), (8, 1, 10)]);
        let all = [(2, 1, 100), (2, 1, 10), (2, 2, 100), (2, 2, 10), (8, 1, 100), (8, 1, 10), (8, 4, 100), (8, 4, 10)];
        assert_eq!(shown(usize::MAX), all);
        let ceiling = Setting { record_bytes: 200, partitions: 2, workers: 1, batch_size: 100 };
        assert_eq!(dimensions().ceilings(), [ceiling]);
    }

    #[test]
    fn rounds_go_back_and_forth_and_the_first_does_not_count() {
        let settings = dimensions().settings(|_| 1);
        let all: Vec<_> = settings[..3].iter().map(|setting| (Contender::Konekt, *setting)).collect();
        let mut order = Vec::new();
        let measured = Rounds { warm_up: 1, repeats: 2 }.run(&all, |_, setting| {
            order.push(settings.iter().position(|known| *known == setting).unwrap());
            Ok::<_, ()>(Measurement { records: order.len() as u64, ..Measurement::default() })
        });
        assert_eq!(order, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
        let records: Vec<Vec<u64>> =
            measured.unwrap().iter().map(|runs| runs.iter().map(|run| run.records).collect()).collect();
        assert_eq!(records, [[6, 7], [5, 8], [4, 9]]);
    }

    #[test]
    fn a_run_that_fails_ends_the_sweep() {
        let all = [(Contender::Konekt, dimensions().settings(|_| 1)[0]); 2];
        let mut count = 0;
        let failed = Rounds { warm_up: 0, repeats: 3 }.run(&all, |_, _| {
            count += 1;
            Err("the database is away")
        });
        assert_eq!((failed, count), (Err("the database is away"), 1));
    }
}
