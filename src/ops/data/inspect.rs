//! What is in a data set: its fields by JSON pointer, with types, nulls, sizes and how many different values they have.
//!
//! Memory does not grow with the data: sizes go into a histogram, different values are counted exactly up to
//! [`DISTINCT_KEPT`] and estimated beyond (the k smallest hashes, Bar-Yossef et al. 2002; within about 3 %), and of
//! fields no more than [`FIELDS_MAX`] are kept apart.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::{DataError, each_batch};

/// Different values that are counted exactly.
pub const DISTINCT_KEPT: usize = 1024;
/// Fields that are told apart: more have documents whose keys are data.
pub const FIELDS_MAX: usize = 2000;

/// What is in the files.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Documents that are JSON.
    pub documents: u64,
    /// Those that are not; [`validate`](super::validate) names them.
    pub bad_documents: u64,
    /// In bytes, without line ends.
    pub document_sizes: SizeReport,
    pub fields: Vec<FieldReport>,
    /// Values of fields beyond [`FIELDS_MAX`].
    pub values_of_further_fields: u64,
}

/// One field.
#[derive(Debug, Serialize)]
pub struct FieldReport {
    /// A JSON pointer, with `*` for each element of an array. The document itself is the empty text.
    pub pointer: String,
    pub values: u64,
    pub nulls: u64,
    /// How often each type occurs, the most frequent one first; without null.
    pub types: Vec<(&'static str, u64)>,
    /// Different scalars; see [`DISTINCT_KEPT`].
    pub distinct: u64,
    pub distinct_is_exact: bool,
    /// Of strings the bytes, of arrays the elements, of objects the members.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sizes: Option<SizeReport>,
    /// The smallest and the largest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<(f64, f64)>,
}

/// How large things are; quantiles are at most an eighth above the truth.
#[derive(Debug, Default, Serialize)]
pub struct SizeReport {
    pub total: u64,
    pub min: u64,
    pub median: u64,
    pub p90: u64,
    pub p99: u64,
    pub max: u64,
}

/// Reads all documents of the files.
///
/// # Errors
/// When a file cannot be read.
pub fn inspect(files: &[PathBuf]) -> Result<Report, DataError> {
    let mut whole = Profile::default();
    each_batch(files, |_, batch| {
        let documents = batch.documents();
        let part = documents
            .par_iter()
            .fold(Profile::default, |mut profile, (_, document)| {
                profile.add(document);
                profile
            })
            .reduce(Profile::default, Profile::merged);
        whole = std::mem::take(&mut whole).merged(part);
        Ok(())
    })?;
    Ok(whole.report())
}

#[derive(Default)]
struct Profile {
    documents: u64,
    bad_documents: u64,
    sizes: Sizes,
    fields: BTreeMap<String, Field>,
    further: u64,
}

impl Profile {
    fn add(&mut self, document: &[u8]) {
        match serde_json::from_slice::<Value>(document) {
            Ok(value) => {
                self.documents += 1;
                self.sizes.add(document.len() as u64);
                self.walk(&mut String::new(), &value);
            }
            Err(_) => self.bad_documents += 1,
        }
    }

    fn walk(&mut self, pointer: &mut String, value: &Value) {
        match self.field(pointer) {
            Some(field) => field.add(value),
            None => self.further += 1,
        }
        let length = pointer.len();
        match value {
            Value::Array(elements) => {
                pointer.push_str("/*");
                elements.iter().for_each(|element| self.walk(pointer, element));
                pointer.truncate(length);
            }
            Value::Object(members) => {
                for (name, member) in members {
                    pointer.push('/');
                    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                    self.walk(pointer, member);
                    pointer.truncate(length);
                }
            }
            _ => {}
        }
    }

    fn field(&mut self, pointer: &str) -> Option<&mut Field> {
        if !self.fields.contains_key(pointer) {
            if self.fields.len() >= FIELDS_MAX {
                return None;
            }
            self.fields.insert(pointer.to_owned(), Field::default());
        }
        self.fields.get_mut(pointer)
    }

    fn merged(mut self, other: Profile) -> Profile {
        self.documents += other.documents;
        self.bad_documents += other.bad_documents;
        self.further += other.further;
        self.sizes.merge(&other.sizes);
        for (pointer, field) in other.fields {
            let is_full = self.fields.len() >= FIELDS_MAX;
            match self.fields.entry(pointer) {
                Entry::Occupied(mut known) => known.get_mut().merge(field),
                Entry::Vacant(_) if is_full => self.further += field.values(),
                Entry::Vacant(new) => drop(new.insert(field)),
            }
        }
        self
    }

    fn report(self) -> Report {
        Report {
            documents: self.documents,
            bad_documents: self.bad_documents,
            document_sizes: self.sizes.report().unwrap_or_default(),
            fields: self.fields.into_iter().map(|(pointer, field)| field.report(pointer)).collect(),
            values_of_further_fields: self.further,
        }
    }
}

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

#[derive(Default)]
struct Field {
    types: [u64; TYPES.len()],
    sizes: Sizes,
    range: Option<(f64, f64)>,
    distinct: Distinct,
}

impl Field {
    fn add(&mut self, value: &Value) {
        let kind = match value {
            Value::Null => 0,
            Value::Bool(truth) => {
                self.distinct.add(truth);
                1
            }
            Value::Number(number) => {
                self.distinct.add(&number.to_string());
                let number_now = number.as_f64().unwrap_or(f64::NAN);
                self.widen((number_now, number_now));
                if number.is_f64() { 3 } else { 2 }
            }
            Value::String(text) => {
                self.distinct.add(text);
                self.sizes.add(text.len() as u64);
                4
            }
            Value::Array(elements) => {
                self.sizes.add(elements.len() as u64);
                5
            }
            Value::Object(members) => {
                self.sizes.add(members.len() as u64);
                6
            }
        };
        self.types[kind] += 1;
    }

    fn widen(&mut self, (low, high): (f64, f64)) {
        let (known_low, known_high) = self.range.unwrap_or((low, high));
        self.range = Some((known_low.min(low), known_high.max(high)));
    }

    fn values(&self) -> u64 {
        self.types.iter().sum()
    }

    fn merge(&mut self, other: Field) {
        self.types.iter_mut().zip(other.types).for_each(|(mine, theirs)| *mine += theirs);
        self.sizes.merge(&other.sizes);
        other.range.into_iter().for_each(|range| self.widen(range));
        self.distinct.merge(other.distinct);
    }

    fn report(self, pointer: String) -> FieldReport {
        let mut types: Vec<(&str, u64)> = TYPES.into_iter().zip(self.types).skip(1).collect();
        types.retain(|(_, count)| *count > 0);
        types.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        FieldReport {
            pointer,
            values: self.values(),
            nulls: self.types[0],
            types,
            distinct: self.distinct.estimate(),
            distinct_is_exact: self.distinct.is_exact(),
            sizes: self.sizes.report(),
            range: self.range,
        }
    }
}

/// The smallest hashes of what was seen.
#[derive(Default)]
struct Distinct {
    hashes: BTreeSet<u64>,
    /// Whether any was left out.
    full: bool,
}

impl Distinct {
    fn add(&mut self, value: &(impl Hash + ?Sized)) {
        // With fixed keys: the same data gives the same estimate.
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        self.insert(hasher.finish());
    }

    fn insert(&mut self, hash: u64) {
        let is_full = self.hashes.len() >= DISTINCT_KEPT;
        if is_full && self.hashes.last().is_some_and(|largest| hash > *largest) {
            self.full = true;
            return;
        }
        if self.hashes.insert(hash) && is_full {
            self.hashes.pop_last();
            self.full = true;
        }
    }

    fn merge(&mut self, other: Distinct) {
        self.full |= other.full;
        other.hashes.into_iter().for_each(|hash| self.insert(hash));
    }

    fn is_exact(&self) -> bool {
        !self.full
    }

    fn estimate(&self) -> u64 {
        match self.hashes.last() {
            Some(largest) if self.full => {
                let share = *largest as f64 / u64::MAX as f64;
                ((DISTINCT_KEPT - 1) as f64 / share).round() as u64
            }
            _ => self.hashes.len() as u64,
        }
    }
}

/// A histogram with eight steps to each power of two.
struct Sizes {
    counts: Box<[u64; STEPS]>,
    count: u64,
    total: u64,
    min: u64,
    max: u64,
}

const STEPS: usize = 64 * 8;

impl Default for Sizes {
    fn default() -> Self {
        Self { counts: Box::new([0; STEPS]), count: 0, total: 0, min: u64::MAX, max: 0 }
    }
}

impl Sizes {
    fn add(&mut self, size: u64) {
        self.counts[step_of(size)] += 1;
        self.count += 1;
        self.total += size;
        self.min = self.min.min(size);
        self.max = self.max.max(size);
    }

    fn merge(&mut self, other: &Sizes) {
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.total += other.total;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The largest size that falls into the step below which `percent` of all are.
    fn quantile(&self, percent: u64) -> u64 {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        step.map_or(self.max, largest_of).clamp(self.min, self.max)
    }

    fn report(&self) -> Option<SizeReport> {
        (self.count > 0).then(|| SizeReport {
            total: self.total,
            min: self.min,
            median: self.quantile(50),
            p90: self.quantile(90),
            p99: self.quantile(99),
            max: self.max,
        })
    }
}

/// Sizes below 8 have a step each; above, the three bits behind the highest one tell the step.
fn step_of(size: u64) -> usize {
    match size {
        ..8 => size as usize,
        _ => {
            let power = size.ilog2() as usize;
            let rest = (size >> (power - 3)) as usize & 7;
            (power - 2) * 8 + rest
        }
    }
}

fn largest_of(step: usize) -> u64 {
    match step {
        ..8 => step as u64,
        _ => {
            let power = step / 8 + 2;
            let next = (step % 8 + 9) as u128;
            (next << (power - 3)).saturating_sub(1).min(u128::from(u64::MAX)) as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(documents: &[&str]) -> Report {
        let mut halves = [Profile::default(), Profile::default()];
        for (index, document) in documents.iter().enumerate() {
            halves[index % 2].add(document.as_bytes());
        }
        let [first, second] = halves;
        first.merged(second).report()
    }

    #[test]
    fn fields_are_told_by_pointer_with_types_nulls_sizes_and_ranges() {
        let report = profile(&[
            r#"{"id":1,"name":"a","tags":["x","yy"],"a/b":{"c~":null}}"#,
            r#"{"id":2.5,"name":null,"tags":[]}"#,
            r#"{"id":-3,"name":"a"}"#,
            "{",
        ]);
        assert_eq!((report.documents, report.bad_documents), (3, 1));
        let field = |pointer: &str| report.fields.iter().find(|field| field.pointer == pointer).expect(pointer);
        let id = field("/id");
        assert_eq!(
            (&id.types[..], id.range, id.distinct),
            (&[("integer", 2), ("number", 1)][..], Some((-3.0, 2.5)), 3)
        );
        let name = field("/name");
        assert_eq!((name.values, name.nulls, name.distinct, name.distinct_is_exact), (3, 1, 1, true));
        assert_eq!(field("/tags").sizes.as_ref().map(|sizes| (sizes.min, sizes.max)), Some((0, 2)));
        assert_eq!(field("/tags/*").sizes.as_ref().map(|sizes| (sizes.total, sizes.max)), Some((3, 2)));
        assert_eq!(field("/a~1b/c~0").nulls, 1);
    }

    #[test]
    fn different_values_are_estimated_well_beyond_what_is_kept() {
        let (mut even, mut odd) = (Distinct::default(), Distinct::default());
        for number in 0..200_000_u64 {
            // everything twice, in both halves
            even.add(&(number / 2));
            odd.add(&(number / 2));
        }
        even.merge(odd);
        assert!(!even.is_exact());
        let estimate = even.estimate() as f64;
        assert!((estimate / 100_000.0 - 1.0).abs() < 0.1, "{estimate}");
    }

    #[test]
    fn a_quantile_is_at_most_an_eighth_too_large() {
        for size in (0..1000).chain([4095, 4096, 4097, 1 << 40, u64::MAX - 1, u64::MAX]) {
            let largest = largest_of(step_of(size));
            assert!(largest >= size && largest - size <= size / 8, "{size}: {largest}");
        }
        let mut sizes = Sizes::default();
        (1..=100).for_each(|size| sizes.add(size));
        let report = sizes.report().unwrap();
        assert_eq!((report.min, report.max, report.total), (1, 100, 5050));
        assert!((50..=57).contains(&report.median) && report.p99 >= 99, "{report:?}");
    }

    #[test]
    fn keys_that_are_data_do_not_fill_the_memory() {
        let mut profile = Profile::default();
        for number in 0..2 * FIELDS_MAX {
            profile.add(format!("{{\"key {number}\":1}}").as_bytes());
        }
        let report = profile.report();
        assert_eq!(report.fields.len(), FIELDS_MAX);
        assert_eq!(report.values_of_further_fields, FIELDS_MAX as u64 + 1);
    }
}
