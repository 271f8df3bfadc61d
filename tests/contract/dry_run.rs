//! What a transactional sink does in a dry run: the same as ever, and nothing of it is kept.
//!
//! A sink joins by implementing [`Rehearsed`] and calling [`check`] with a way to make a fresh database, with this CHECK
//! on a message table or with no table at all.

use konekt::port::{Aside, Sink, Write, Writer, Written};

use super::bad_records::{REFUSED_UNLESS_FAILED, aside, with_bad};
use super::records::{Log, claim};
use super::{Subject, owner, partition};

/// A subject of which a dry run can be made.
pub trait Rehearsed: Subject {
    /// A sink over the same database whose transactions are rolled back.
    fn dry(&self) -> Box<dyn Sink>;
    /// Whether any of the sink's tables is there.
    fn has_tables(&self) -> bool;
}

/// Runs every scenario.
pub fn check<S: Rehearsed>(fresh: impl Fn(&str) -> S) {
    what_is_there_stays_as_it_is(&fresh(""));
    what_is_absent_stays_absent(&fresh(""));
    a_bad_record_is_found_and_not_kept(&fresh(REFUSED_UNLESS_FAILED));
}

/// A dry writer, and the epoch and offset that a claim from 0 gives it.
fn dry_owner(sink: &dyn Sink) -> (Box<dyn Writer>, i64, Option<i64>) {
    let mut writer = sink.writer().expect("a writer opens");
    let claimed = writer.claim(&[claim(&partition(0), Some(0))]).expect("the claim succeeds").remove(0);
    (writer, claimed.owner_epoch, claimed.next_offset)
}

fn what_is_there_stays_as_it_is(subject: &dyn Rehearsed) {
    let (mut real, real_epoch) = owner(subject, 1);
    assert_eq!(real.write(&[Log::plain(&partition(0), 0, 3).write(real_epoch)]), [Ok(Written::all(3))]);
    let before = (subject.rows(), subject.position(&partition(0)));

    let sink = subject.dry();
    let (mut writer, epoch, next) = dry_owner(&*sink);
    assert_eq!((next, sink.absent()), (Some(3), vec![]));
    for first in [3, 6, 9] {
        assert_eq!(writer.write(&[Log::plain(&partition(0), first, 3).write(epoch)]), [Ok(Written::all(3))], "{first}");
    }
    let repeated = Written { repeated: 3, ..Written::all(3) };
    assert_eq!(writer.write(&[Log::plain(&partition(0), 0, 3).write(epoch)]), [Ok(repeated)]);
    writer.note_pause(&partition(0), true).expect("noted, and forgotten");
    drop(writer);
    assert_eq!((subject.rows(), subject.position(&partition(0))), before);
    let log = Log::plain(&partition(0), 3, 3);
    assert_eq!(real.write(&[log.write(real_epoch)]), [Ok(Written::all(3))], "the owner is not fenced");
}

fn what_is_absent_stays_absent(subject: &dyn Rehearsed) {
    assert!(!subject.has_tables());
    let sink = subject.dry();
    for round in 0..2 {
        let (mut writer, epoch, next) = dry_owner(&*sink);
        assert_eq!(next, Some(0), "round {round}");
        for first in [0, 1000] {
            let log = Log::plain(&partition(0), first, 1000);
            assert_eq!(writer.write(&[log.write(epoch)]), [Ok(Written::all(1000))], "round {round}, from {first}");
        }
        let logs = [0, 1].map(|index| Log::plain(&partition(index), 2000, 3));
        let writes = logs.each_ref().map(|log| log.write(epoch));
        assert_eq!(writer.write(&writes), [Ok(Written::all(3)), Ok(Written::all(3))], "round {round}");
        assert!(writer.phases().get(konekt::core::tally::Phase::Commit).is_some(), "its end is measured");
    }
    for table in ["processed_messages", "konekt_positions"] {
        assert!(sink.absent().iter().any(|absent| absent.contains(table)), "{table}: {:?}", sink.absent());
    }
    drop(sink);
    assert!(!subject.has_tables());
}

fn a_bad_record_is_found_and_not_kept(subject: &dyn Rehearsed) {
    let sink = subject.dry();
    let (mut writer, epoch, _) = dry_owner(&*sink);
    let log = with_bad(&partition(0), 100, &[3, 77]);
    let leave: Option<Aside<'_>> = Some(aside(true, None));
    let written = Written { dead_lettered: 2, ..Written::all(98) };
    assert_eq!(writer.write(&[Write { aside: leave, ..log.write(epoch) }]), [Ok(written)]);
    drop(writer);
    assert_eq!(subject.rows(), []);
}
