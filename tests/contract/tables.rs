//! What a person does with a sink's positions and FAILED rows, `konekt positions` and `konekt dlq`, run against each sink.

use konekt::core::verdict::ErrorClass;
use konekt::ops::dlq::Entry;
use konekt::ops::dlq::replay::{Outcome, in_place};
use konekt::port::Write;
use konekt::sink::operate::SqlTables;
use konekt::sink::position::{PositionLine, PositionStore};
use konekt::sink::row::FailedRows;

use super::bad_records::{REFUSED_UNLESS_FAILED, aside, with_bad};
use super::records::{GROUP, Log};
use super::{NOW_TEXT, Subject, owner, partition};

/// A sink over tables in a SQL database.
pub trait SqlSubject: Subject {
    /// The tables, for a person.
    fn tables(&self) -> SqlTables;
    /// Runs a statement beside the sink.
    fn run(&self, sql: &str);
}

/// A sink with a database that a person looks after.
pub trait Operated: Subject {
    fn position_store(&self) -> Box<dyn PositionStore>;
    fn failed_rows(&self) -> Box<dyn FailedRows>;
    /// Makes the values of FAILED rows good, beside the sink.
    fn mend(&self);
}

impl<S: SqlSubject> Operated for S {
    fn position_store(&self) -> Box<dyn PositionStore> {
        Box::new(self.tables())
    }

    fn failed_rows(&self) -> Box<dyn FailedRows> {
        Box::new(self.tables())
    }

    fn mend(&self) {
        self.run("UPDATE processed_messages SET message_value = 'good' WHERE processing_status = 'FAILED'");
    }
}

/// Runs every scenario; `fresh` makes a subject with an empty database whose message table, if any, has this CHECK.
pub fn check<S: Operated>(fresh: impl Fn(&str) -> S) {
    positions_are_listed_and_changed_by_whoever_saw_them_last(&fresh("1 = 1"));
    failed_rows_are_listed_and_tried_again(&fresh(REFUSED_UNLESS_FAILED));
}

fn positions_are_listed_and_changed_by_whoever_saw_them_last(subject: &dyn Operated) {
    let mut tables = subject.position_store();
    assert_eq!(tables.list(), Ok(vec![]), "looking makes no table");
    let (mut writer, epoch) = owner(subject, 2);
    let mut write = |first| writer.write(&[Log::plain(&partition(0), first, 3).write(epoch)]).remove(0);
    write(0).expect("the batch is written");
    let listed = tables.list().expect("the positions");
    let expected = PositionLine {
        consumer_group: GROUP.to_owned(),
        topic: "orders".to_owned(),
        partition: 0,
        next_offset: 3,
        written: 3,
        dead_lettered: 0,
        skipped: 0,
        epoch,
        paused: false,
        updated_at: NOW_TEXT.to_owned(),
    };
    assert_eq!((&listed[0], listed[1].next_offset, listed.len()), (&expected, 0, 2));

    assert_eq!(tables.change(&expected, Some(1)), Ok(true));
    assert_eq!(tables.change(&expected, Some(2)), Ok(false), "it is not as it was seen");
    assert_eq!(write(3).expect_err("the owner is fenced").class, ErrorClass::Fenced);
    let moved = tables.list().expect("the positions").remove(0);
    assert_eq!((moved.next_offset, moved.written, moved.epoch), (1, 3, epoch + 1));
    assert!(moved.updated_at.as_str() > NOW_TEXT, "{moved:?}");

    assert_eq!(tables.change(&expected, None), Ok(false));
    assert_eq!(tables.change(&moved, None), Ok(true));
    assert_eq!(tables.list().expect("the positions"), listed[1..]);
}

fn failed_rows_are_listed_and_tried_again(subject: &dyn Operated) {
    let (mut writer, epoch) = owner(subject, 1);
    let log = with_bad(&partition(0), 10, &[2, 7]);
    let write = Write { aside: Some(aside(true, None)), ..log.write(epoch) };
    writer.write(&[write]).remove(0).expect("the batch is written");

    let mut tables = subject.failed_rows();
    let ids = tables.ids().expect("the FAILED rows");
    let stored: Vec<String> =
        subject.rows().into_iter().filter(|row| row.status == "FAILED").map(|row| row.id).collect();
    assert_eq!((ids.len(), &ids), (2, &stored), "in the order of offsets");
    let row = tables.row(&ids[1]).expect("the row").expect("it is there");
    let place = (&*row.group, &*row.topic, row.partition, row.offset, &*row.at);
    assert_eq!(place, (GROUP, "orders", 0, 7, NOW_TEXT));
    assert_eq!((row.key.as_deref(), &*row.value), (Some("k"), "bad"));
    let said = row.message.to_lowercase();
    assert!(said.contains("constraint") || said.contains("validation"), "{row:?}");

    let entry = Entry::of_row(tables.row(&ids[0]).expect("the row").expect("it is there"));
    let mut again = || {
        let mut outcome = Outcome::default();
        in_place(&mut *tables, &entry, &mut outcome).expect("nothing else fails");
        (outcome.replayed, outcome.done_before, outcome.refused.len())
    };
    assert_eq!(again(), (0, 0, 1), "it is as bad as before");
    subject.mend();
    assert_eq!(again(), (1, 0, 0));
    assert_eq!(again(), (0, 1, 0), "exactly once");
    assert_eq!((tables.row(&ids[0]), tables.ids()), (Ok(None), Ok(ids[1..].to_vec())));
    let row = subject.rows().remove(2);
    assert_eq!((row.offset, &*row.status, row.error), (2, "SUCCESS", None));
}
