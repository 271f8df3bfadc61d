//! What a transactional sink does that can put bad records aside within its write: exactly those, and all others are
//! written once, in order.
//!
//! A sink joins by calling [`check`] with what its database calls a refusal, and a way to make a fresh database whose
//! message table has a CHECK.

use konekt::TopicPartition;
use konekt::core::verdict::ErrorClass;
use konekt::port::{Aside, DeadLetters, Letter, SinkError, Write, Written};
use parking_lot::Mutex;

use super::records::{Log, Sample};
use super::{StoredPosition, Subject, offsets, owner, partition};

/// A table that takes bad records as dead letters only…
pub const REFUSED_UNLESS_FAILED: &str = "NOT (message_value = 'bad') OR processing_status = 'FAILED'";
/// …and one that does not take them at all.
pub const REFUSED: &str = "NOT (message_value = 'bad')";

/// Letters in memory: topic partition, offset and the error's message of each.
#[derive(Default)]
pub struct Letters {
    pub kept: Mutex<Vec<(String, i64, String)>>,
    refuse: bool,
}

impl DeadLetters for Letters {
    fn put(&self, letters: &[Letter<'_>]) -> Result<(), SinkError> {
        if self.refuse {
            return Err(SinkError::new(ErrorClass::Data, "the letter is too large"));
        }
        let kept = |letter: &Letter<'_>| {
            assert_eq!((letter.attempts, letter.error.offset), (1, Some(letter.record.offset)));
            (letter.partition.to_string(), letter.record.offset, letter.error.message.clone())
        };
        self.kept.lock().extend(letters.iter().map(kept));
        Ok(())
    }
}

/// Leave to put aside up to ten records.
pub fn aside(rows: bool, letters: Option<&dyn DeadLetters>) -> Aside<'_> {
    Aside { rows, letters, bad_max: 10, unclassified: false, attempts: 1, told: None }
}

/// `count` records of which these are bad.
pub fn with_bad(partition: &TopicPartition, count: usize, bad: &[i64]) -> Log {
    let sample = |offset: i64| Sample {
        key: Some(b"k"),
        value: Some(if bad.contains(&offset) { &b"bad"[..] } else { b"good" }),
        headers: &[],
    };
    let samples: Vec<Sample<'_>> = (0..count as i64).map(sample).collect();
    Log::of(partition, 0, &samples)
}

/// So many statements more than without bad records may be sent for them.
const STATEMENTS_MORE: usize = 40;

/// Runs every scenario; `fresh` makes a subject with an empty database whose message table has this CHECK.
pub fn check<S: Subject>(fresh: impl Fn(&str) -> S) {
    let without = as_rows(&fresh(REFUSED_UNLESS_FAILED), &[]);
    for bad in [&[0][..], &[2500], &[4999], &[0, 2500, 4999], &[3500, 4500, 4800], &[4200, 4500, 4800]] {
        let with = as_rows(&fresh(REFUSED_UNLESS_FAILED), bad);
        if let (Some(with), Some(without)) = (with, without) {
            println!("{bad:?} of 5,000 are bad: {with} statements, {without} without");
            assert!(with <= without + STATEMENTS_MORE, "{bad:?}: {with} statements, {without} without");
        }
    }
    for bad in [&[0][..], &[2500], &[4999], &[0, 2500, 4999], &[7, 8, 9], &[]] {
        as_letters(&fresh(REFUSED), bad);
    }
    rows_that_the_table_refuses_become_letters(&fresh(REFUSED));
    without_a_place_nothing_is_written(&fresh(REFUSED));
    a_letter_that_cannot_be_kept_keeps_the_position(&fresh(REFUSED));
    too_many_are_the_tables_fault(&fresh(REFUSED));
    one_partitions_bad_record_is_not_the_others_affair(&fresh(REFUSED));
}

/// How many statements that took, where it is known.
fn as_rows(subject: &dyn Subject, bad: &[i64]) -> Option<usize> {
    let (mut writer, epoch) = owner(subject, 1);
    let log = with_bad(&partition(0), 5000, bad);
    let write = Write { aside: Some(aside(true, None)), ..log.write(epoch) };
    let before = subject.statements();
    assert_eq!(writer.write(&[write]), [Ok(written(5000, bad))], "{bad:?}");
    let taken = subject.statements().zip(before).map(|(after, before)| after - before);
    let rows = subject.rows();
    assert!(rows.iter().map(|row| row.offset).eq(0..5000), "{bad:?}: every record once, in order");
    for row in rows {
        let failed = bad.contains(&row.offset);
        assert_eq!((row.status == "FAILED", row.value == "bad"), (failed, failed), "{row:?}");
        assert_eq!(row.error.is_some_and(|error| says_constraint(&error)), failed);
    }
    expect_position(subject, epoch, 5000, bad);
    taken
}

fn as_letters(subject: &dyn Subject, bad: &[i64]) {
    let (mut writer, epoch) = owner(subject, 1);
    let (log, letters) = (with_bad(&partition(0), 5000, bad), Letters::default());
    let write = Write { aside: Some(aside(false, Some(&letters))), ..log.write(epoch) };
    assert_eq!(writer.write(&[write]), [Ok(written(5000, bad))], "{bad:?}");
    assert!(offsets(subject, 0).into_iter().eq((0..5000).filter(|offset| !bad.contains(offset))), "{bad:?}");
    let kept = letters.kept.into_inner();
    assert!(kept.iter().map(|(_, offset, _)| offset).eq(bad), "{kept:?}");
    assert!(kept.iter().all(|(place, _, why)| place == "orders/0" && says_constraint(why)), "{kept:?}");
    expect_position(subject, epoch, 5000, bad);
    // Asked again, since the answer of a commit can be lost, it knows that this is done.
    let write = Write { aside: Some(aside(false, None)), ..log.write(epoch) };
    assert_eq!(writer.write(&[write]), [Ok(Written { repeated: 5000, ..Written::all(5000) })]);
}

fn rows_that_the_table_refuses_become_letters(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let (log, letters) = (with_bad(&partition(0), 10, &[3]), Letters::default());
    let write = Write { aside: Some(aside(true, Some(&letters))), ..log.write(epoch) };
    assert_eq!(writer.write(&[write]), [Ok(written(10, &[3]))]);
    assert_eq!((letters.kept.lock().len(), offsets(subject, 0).len()), (1, 9));
}

fn without_a_place_nothing_is_written(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let log = with_bad(&partition(0), 10, &[3]);
    for aside in [None, Some(aside(true, None))] {
        let error = writer.write(&[Write { aside, ..log.write(epoch) }]).remove(0).unwrap_err();
        assert_eq!((error.class, error.offset), (ErrorClass::Data, Some(3)), "{error}");
    }
    assert_eq!(offsets(subject, 0), [0i64; 0]);
    expect_position(subject, epoch, 0, &[]);
}

fn a_letter_that_cannot_be_kept_keeps_the_position(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let (log, letters) = (with_bad(&partition(0), 10, &[3]), Letters { refuse: true, ..Letters::default() });
    let write = Write { aside: Some(aside(false, Some(&letters))), ..log.write(epoch) };
    let error = writer.write(&[write]).remove(0).unwrap_err();
    assert!(error.message.contains("the letter is too large"), "{error}");
    assert_eq!(offsets(subject, 0), [0i64; 0]);
    expect_position(subject, epoch, 0, &[]);
}

fn too_many_are_the_tables_fault(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let bad: Vec<i64> = (0..11).collect();
    let (log, letters) = (with_bad(&partition(0), 100, &bad), Letters::default());
    let write = Write { aside: Some(aside(false, Some(&letters))), ..log.write(epoch) };
    let error = writer.write(&[write]).remove(0).unwrap_err();
    assert_eq!(error.class, ErrorClass::Schema, "{error}");
    assert!(error.message.contains("11 of 100") && says_constraint(&error.message), "{error}");
    assert_eq!((offsets(subject, 0), letters.kept.into_inner()), (vec![], vec![]));
}

fn one_partitions_bad_record_is_not_the_others_affair(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 3);
    let letters = Letters::default();
    let logs: Vec<Log> = (0..3).map(|index| with_bad(&partition(index), 10, &[[4, 11, 0][index as usize]])).collect();
    let writes: Vec<Write<'_>> =
        logs.iter().map(|log| Write { aside: Some(aside(false, Some(&letters))), ..log.write(epoch) }).collect();
    assert_eq!(writer.write(&writes), [Ok(written(10, &[4])), Ok(written(10, &[])), Ok(written(10, &[0]))]);
    let kept: Vec<(String, i64)> = letters.kept.into_inner().into_iter().map(|(place, at, _)| (place, at)).collect();
    assert_eq!(kept, [("orders/0".to_owned(), 4), ("orders/2".to_owned(), 0)], "each once");
}

/// Each database names it in words of its own.
fn says_constraint(error: &str) -> bool {
    error.to_lowercase().contains("constraint") || error.contains("failed validation")
}

fn written(count: u64, bad: &[i64]) -> Written {
    let dead_lettered = bad.len() as u64;
    Written { dead_lettered, ..Written::all(count - dead_lettered) }
}

fn expect_position(subject: &dyn Subject, epoch: i64, next_offset: i64, bad: &[i64]) {
    let dead_lettered = bad.len() as i64;
    let written = next_offset - dead_lettered;
    let expected = StoredPosition { next_offset, epoch, written, dead_lettered, skipped: 0 };
    assert_eq!(subject.position(&partition(0)), Some(expected));
}
