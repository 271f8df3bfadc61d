//! What every transactional sink promises: one list of scenarios, run against each.
//!
//! A sink joins by implementing [`Subject`] and calling [`check`]. Each scenario gets a fresh database. What happens when
//! a server or the way to it fails is in `tests/databases/faults.rs`, for the sinks that have one.

#![allow(dead_code, reason = "every test binary includes this module whole and uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

pub mod bad_records;
pub mod dry_run;
pub mod records;
pub mod tables;

use std::time::Duration;

use konekt::core::verdict::ErrorClass;
use konekt::port::{Claim, Clock, Elapsed, PositionMove, Sink, SinkError, Write, Writer, Written};
use konekt::{RecordIds, TopicPartition};
use uuid::Uuid;

use self::records::{GROUP, Log, Sample, claim};

/// A sink over a database of its own, and a look into that.
pub trait Subject {
    fn sink(&self) -> &dyn Sink;
    /// All rows, in the order of topic, partition and offset.
    fn rows(&self) -> Vec<StoredRow>;
    /// The position row's next offset, counters and epoch.
    fn position(&self, partition: &TopicPartition) -> Option<StoredPosition>;
    /// Whether its text may hold a NUL; where it may not, such a text is stored as base64.
    fn stores_nul(&self) -> bool {
        true
    }
    /// How many statements have arrived so far, where that can be known.
    fn statements(&self) -> Option<usize> {
        None
    }
}

/// A clock that stands still.
pub struct Standing;

impl Clock for Standing {
    fn elapsed(&self) -> Elapsed {
        Duration::ZERO
    }

    fn unix_ms(&self) -> i64 {
        NOW_MS
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    pub id: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: String,
    pub headers: Option<String>,
    pub group: String,
    pub timestamp: String,
    pub status: String,
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPosition {
    pub next_offset: i64,
    pub epoch: i64,
    pub written: i64,
    pub dead_lettered: i64,
    pub skipped: i64,
}

/// The moment at which the subject's clock stands, and how a row says it.
pub const NOW_MS: i64 = 1_709_210_096_789;
const NOW_TEXT: &str = "2024-02-29 12:34:56.789";

/// Runs every scenario; `fresh` makes a subject with an empty database.
pub fn check<S: Subject>(fresh: impl Fn() -> S) {
    for (name, scenario) in SCENARIOS {
        println!("scenario: {name}");
        scenario(&fresh());
    }
}

type Scenario = fn(&dyn Subject);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("a claim starts, then continues a position", a_claim_starts_then_continues),
    ("a claim keeps and fills in ids", a_claim_keeps_and_fills_in_ids),
    ("no call for nothing fails", nothing_to_do),
    ("an empty batch moves the position", an_empty_batch_moves_the_position),
    ("one row has every column", one_row_has_every_column),
    ("many rows come in order", many_rows),
    ("awkward values come back", awkward_values),
    ("a topic's name may be as long as Kafka allows", a_long_topic),
    ("many headers come back", many_headers),
    ("large and small values keep their order", large_among_small),
    ("a repeated batch changes nothing", a_repeated_batch_changes_nothing),
    ("a repeated move is recognised", a_repeated_move_is_recognised),
    ("the older owner is fenced", the_older_owner_is_fenced),
    ("a gap in the position is fenced", a_gap_is_fenced),
    ("several partitions in one write", several_partitions),
    ("one fenced among good ones", one_fenced_among_good_ones),
    ("a record that the engine put aside is counted", a_record_put_aside_is_counted),
    ("a person's pause is known to the next owner", a_pause_is_known_to_the_next_owner),
];

/// The partition that records are of when nothing else is said.
pub fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("orders", index)
}

/// A writer, and the epoch of its claim on partitions `0..count` from offset 0.
pub fn owner(subject: &dyn Subject, count: i32) -> (Box<dyn Writer>, i64) {
    let mut writer = subject.sink().writer().expect("a writer opens");
    let claims: Vec<Claim> = (0..count).map(|index| claim(&partition(index), Some(0))).collect();
    let claimed = writer.claim(&claims).expect("the claim succeeds");
    let epoch = claimed[0].owner_epoch;
    assert!(claimed.iter().all(|claimed| claimed.owner_epoch == epoch), "{claimed:?}");
    (writer, epoch)
}

/// Claims the partition of each log from offset 0 and writes the log.
pub fn write_logs(sink: &dyn Sink, logs: &[Log]) {
    let mut writer = sink.writer().expect("a writer opens");
    for log in logs {
        let epoch = writer.claim(&[claim(&log.partition, Some(0))]).expect("the claim succeeds")[0].owner_epoch;
        writer.write(&[log.write(epoch)]).remove(0).expect("the batch is written");
    }
}

/// How often [`settle`] tries, and how long it waits in between: longer than any server here needs to come back.
const ATTEMPTS: usize = 3000;
const WAIT: Duration = Duration::from_millis(20);

/// Writes as the engine does: what may pass is tried again, on a new writer where the old one is broken.
///
/// # Panics
/// When the answer is of a class that does not pass, or it does not pass within a minute.
pub fn settle(subject: &dyn Subject, writer: &mut Box<dyn Writer>, log: &Log, epoch: i64) -> Written {
    for _ in 0..ATTEMPTS {
        if writer.broken() {
            match subject.sink().writer() {
                Ok(opened) => *writer = opened,
                Err(error) => println!("  no writer: {}: {error}", error.class),
            }
        }
        if !writer.broken() {
            match writer.write(&[log.write(epoch)]).remove(0) {
                Ok(written) => return written,
                Err(error) => {
                    let may_pass =
                        matches!(error.class, ErrorClass::Transient | ErrorClass::Contention | ErrorClass::Overload);
                    assert!(may_pass || writer.broken(), "{}: {error}", error.class);
                }
            }
        }
        std::thread::sleep(WAIT);
    }
    panic!("{} is never written", log.partition);
}

/// That an error has its class, and says all of `parts` in one line.
pub fn expect_says(error: &SinkError, class: ErrorClass, parts: &[&str]) {
    assert_eq!(error.class, class, "{error}");
    assert!(!error.message.contains('\n'), "{error}");
    for part in parts {
        assert!(error.message.to_lowercase().contains(&part.to_lowercase()), "{part:?} is missing: {error}");
    }
}

/// That a partition's rows and position are at `next`, and nothing is there twice.
pub fn expect_written(subject: &dyn Subject, index: i32, next: i64) {
    assert_eq!(offsets(subject, index), (0..next).collect::<Vec<i64>>());
    assert_eq!(self::next(subject, index), Some(next));
}

pub fn offsets(subject: &dyn Subject, partition: i32) -> Vec<i64> {
    subject.rows().iter().filter(|row| row.partition == partition).map(|row| row.offset).collect()
}

fn next(subject: &dyn Subject, index: i32) -> Option<i64> {
    subject.position(&partition(index)).map(|position| position.next_offset)
}

fn new(records: u64) -> Result<Written, ErrorClass> {
    Ok(Written::all(records))
}

fn write(writer: &mut dyn Writer, writes: &[Write<'_>]) -> Vec<Result<Written, ErrorClass>> {
    let answers = writer.write(writes);
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        println!("  answer: {}: {error}", error.class);
    }
    answers.into_iter().map(|answer| answer.map_err(|error| error.class)).collect()
}

fn a_claim_starts_then_continues(subject: &dyn Subject) {
    let mut writer = subject.sink().writer().unwrap();
    let mut claim_both = |start| {
        let claimed = writer.claim(&[claim(&partition(0), start), claim(&partition(1), Some(7))]).unwrap();
        claimed.iter().map(|claimed| (claimed.next_offset, claimed.owner_epoch, claimed.existed)).collect::<Vec<_>>()
    };
    assert_eq!(claim_both(None), [(None, 0, false), (Some(7), 1, false)]);
    assert_eq!(subject.position(&partition(0)), None, "no row without a start");
    assert_eq!(claim_both(Some(3)), [(Some(3), 1, false), (Some(7), 2, true)]);
    assert_eq!(claim_both(Some(99)), [(Some(3), 2, true), (Some(7), 3, true)]);
}

fn a_claim_keeps_and_fills_in_ids(subject: &dyn Subject) {
    let mut writer = subject.sink().writer().unwrap();
    let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let mut claimed = |cluster_id: Option<&str>, topic_id| {
        let ids = Claim { cluster_id: cluster_id.map(Into::into), topic_id, ..claim(&partition(0), Some(0)) };
        let claimed = writer.claim(&[ids]).unwrap().remove(0);
        (claimed.cluster_id, claimed.topic_id)
    };
    assert_eq!(claimed(None, None), (None, None));
    assert_eq!(claimed(Some("c1"), Some(first)), (Some("c1".to_owned()), Some(first)), "filled in");
    assert_eq!(claimed(Some("c2"), Some(second)), (Some("c1".to_owned()), Some(first)), "kept");
}

fn nothing_to_do(subject: &dyn Subject) {
    let mut writer = subject.sink().writer().unwrap();
    assert_eq!(writer.claim(&[]), Ok(vec![]));
    assert_eq!(writer.write(&[]), []);
}

fn an_empty_batch_moves_the_position(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let log = Log::plain(&partition(0), 0, 0);
    let step = PositionMove { owner_epoch: epoch, expected: 0, next: 2, skipped: 2, dead_lettered: 0 };
    let empty = Write { position: Some(step), ..log.write_without_position() };
    assert_eq!(write(&mut *writer, &[empty]), [new(0)]);
    let expected = StoredPosition { next_offset: 2, epoch, written: 0, dead_lettered: 0, skipped: 2 };
    assert_eq!((subject.rows(), subject.position(&partition(0))), (vec![], Some(expected)));
}

fn one_row_has_every_column(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let headers: &[(&[u8], Option<&[u8]>)] = &[(b"trace", Some(b"1"))];
    let log = Log::of(&partition(0), 0, &[Sample { key: Some(b"a"), value: Some(b"{}"), headers }]);
    assert_eq!(write(&mut *writer, &[log.write(epoch)]), [new(1)]);
    let expected = StoredRow {
        id: RecordIds::new(GROUP, &partition(0)).at(0).to_string(),
        topic: "orders".to_owned(),
        partition: 0,
        offset: 0,
        key: Some("a".to_owned()),
        value: "{}".to_owned(),
        headers: Some(r#"{"trace":"1"}"#.to_owned()),
        group: GROUP.to_owned(),
        timestamp: NOW_TEXT.to_owned(),
        status: "SUCCESS".to_owned(),
        error: None,
    };
    assert_eq!(subject.rows(), [expected]);
    let expected = StoredPosition { next_offset: 1, epoch, written: 1, dead_lettered: 0, skipped: 0 };
    assert_eq!(subject.position(&partition(0)), Some(expected));
}

fn many_rows(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    for first in [0, 2000] {
        let log = Log::plain(&partition(0), first, 2000);
        assert_eq!(write(&mut *writer, &[log.write(epoch)]), [new(2000)]);
    }
    let rows = subject.rows();
    assert_eq!(offsets(subject, 0), (0..4000).collect::<Vec<i64>>());
    assert!(rows.is_sorted_by(|a, b| a.id < b.id), "ids grow with the offset");
    assert_eq!(rows[3999].value, "value 3999");
    assert_eq!(subject.position(&partition(0)).unwrap().written, 4000);
}

/// A record, and the key, value, headers and status that its row is to have.
type Case<'a> = (Sample<'a>, Option<&'a str>, &'a str, Option<&'a str>, &'a str);

fn awkward_values(subject: &dyn Subject) {
    let big = "ä€😀\n".repeat(500_000);
    let headers: &[(&[u8], Option<&[u8]>)] = &[(b"r", Some(b"1")), (b"r", None), (b"\xfe", Some(b"\xff"))];
    let text = |text: &'static str| Some(text.as_bytes());
    let nul = Sample { key: text("\0"), value: text("a\0b"), headers: &[] };
    let cases: &[Case<'_>] = &[
        (Sample { key: text("😀"), value: text("日本"), headers: &[] }, Some("😀"), "日本", None, "SUCCESS"),
        match subject.stores_nul() {
            true => (nul, Some("\0"), "a\0b", None, "SUCCESS"),
            false => (nul, Some("AA=="), "YQBi", Some(r#"{"konekt.encoding":["key","value"]}"#), "SUCCESS"),
        },
        (Sample { key: text("\r"), value: text("\n"), headers: &[] }, Some("\r"), "\n", None, "SUCCESS"),
        (Sample { key: text(""), value: text(""), headers: &[] }, Some(""), "", None, "SUCCESS"),
        (Sample { key: None, value: text("'; DROP"), headers: &[] }, None, "'; DROP", None, "SUCCESS"),
        (
            Sample { key: text(" {a,\"b\"} "), value: text("\\N \\ ? :a $1 NULL"), headers: &[] },
            Some(" {a,\"b\"} "),
            "\\N \\ ? :a $1 NULL",
            None,
            "SUCCESS",
        ),
        (Sample { key: text("k"), value: None, headers: &[] }, Some("k"), "", None, "TOMBSTONE"),
        (Sample { key: None, value: Some(big.as_bytes()), headers: &[] }, None, &big, None, "SUCCESS"),
        (
            // The second half of a surrogate pair, alone, in what some take for UTF-8.
            Sample { key: None, value: Some(b"\xed\xb0\x80"), headers: &[] },
            None,
            "7bCA",
            Some(r#"{"konekt.encoding":["value"]}"#),
            "SUCCESS",
        ),
        (
            Sample { key: Some(b"\xff"), value: Some(b"\xc3\x28"), headers },
            Some("/w=="),
            "wyg=",
            Some(r#"{"r":["1",null],"/g==":"/w==","konekt.encoding":["key","value","name:/~1g==","/~1g=="]}"#),
            "SUCCESS",
        ),
    ];
    let (mut writer, epoch) = owner(subject, 1);
    let samples: Vec<Sample<'_>> = cases.iter().map(|case| case.0).collect();
    let log = Log::of(&partition(0), 0, &samples);
    assert_eq!(write(&mut *writer, &[log.write(epoch)]), [new(cases.len() as u64)]);
    for (row, (_, key, value, headers, status)) in subject.rows().iter().zip(cases) {
        assert_eq!(
            (row.key.as_deref(), row.headers.as_deref(), &*row.status),
            (*key, *headers, *status),
            "{}",
            row.offset
        );
        assert!(row.value == *value, "offset {}: {} bytes came back as {}", row.offset, value.len(), row.value.len());
    }
}

fn a_long_topic(subject: &dyn Subject) {
    let long = TopicPartition::new("t".repeat(249), 0);
    let mut writer = subject.sink().writer().unwrap();
    let epoch = writer.claim(&[claim(&long, Some(0))]).unwrap()[0].owner_epoch;
    assert_eq!(write(&mut *writer, &[Log::plain(&long, 0, 3).write(epoch)]), [new(3)]);
    assert!(subject.rows().iter().all(|row| *row.topic == *long.topic));
    assert_eq!(subject.position(&long).map(|position| position.next_offset), Some(3));
}

fn many_headers(subject: &dyn Subject) {
    let names: Vec<String> = (0..2000).map(|index| format!("header-{index:04}")).collect();
    let headers: Vec<(&[u8], Option<&[u8]>)> =
        names.iter().map(|name| (name.as_bytes(), Some("wert 😀".as_bytes()))).collect();
    let (mut writer, epoch) = owner(subject, 1);
    let log = Log::of(&partition(0), 0, &[Sample { key: None, value: Some(b"v"), headers: &headers }]);
    assert_eq!(write(&mut *writer, &[log.write(epoch)]), [new(1)]);
    let stored = subject.rows().remove(0).headers.expect("there are headers");
    let stored: std::collections::BTreeMap<String, String> = serde_json::from_str(&stored).expect("they are JSON");
    assert!(stored.iter().map(|(name, value)| (&**name, &**value)).eq(names.iter().map(|name| (&**name, "wert 😀"))));
}

/// Whatever way a sink takes for long values, the rows of a batch stay whole and in order.
fn large_among_small(subject: &dyn Subject) {
    let large: Vec<String> = (0..4).map(|index| format!("{index}").repeat(1_000_000)).collect();
    let value = |index: usize| if index % 25 == 7 { large[index / 25].as_bytes() } else { b"small" };
    let samples: Vec<Sample<'_>> =
        (0..100).map(|index| Sample { key: Some(b"k"), value: Some(value(index)), headers: &[] }).collect();
    let (mut writer, epoch) = owner(subject, 1);
    assert_eq!(write(&mut *writer, &[Log::of(&partition(0), 0, &samples).write(epoch)]), [new(100)]);
    let rows = subject.rows();
    assert_eq!(offsets(subject, 0), (0..100).collect::<Vec<i64>>());
    assert!(rows.iter().enumerate().all(|(index, row)| row.value.as_bytes() == value(index)));
}

fn a_repeated_batch_changes_nothing(subject: &dyn Subject) {
    let mut writer = subject.sink().writer().unwrap();
    let (short, long) = (Log::plain(&partition(0), 0, 3), Log::plain(&partition(0), 0, 5));
    assert_eq!(write(&mut *writer, &[short.write_without_position()]), [new(3)]);
    let before = subject.rows();
    assert_eq!(write(&mut *writer, &[long.write_without_position()]), [Ok(Written { repeated: 3, ..Written::all(5) })]);
    assert_eq!(subject.rows()[..3], before);
    assert_eq!(offsets(subject, 0), [0, 1, 2, 3, 4]);
}

/// The answer of a commit can be lost; asked again, the sink knows that this step is its own.
fn a_repeated_move_is_recognised(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let log = Log::plain(&partition(0), 0, 3);
    assert_eq!(write(&mut *writer, &[log.write(epoch)]), [new(3)]);
    let once = (subject.rows(), subject.position(&partition(0)));
    let mut reopened = subject.sink().writer().unwrap();
    assert_eq!(write(&mut *reopened, &[log.write(epoch)]), [Ok(Written { repeated: 3, ..Written::all(3) })]);
    assert_eq!((subject.rows(), subject.position(&partition(0))), once);
}

fn the_older_owner_is_fenced(subject: &dyn Subject) {
    let (mut older, older_epoch) = owner(subject, 1);
    let (mut newer, newer_epoch) = owner(subject, 1);
    assert!(newer_epoch > older_epoch);
    let log = Log::plain(&partition(0), 0, 2);
    assert_eq!(write(&mut *older, &[log.write(older_epoch)]), [Err(ErrorClass::Fenced)]);
    assert_eq!((offsets(subject, 0), next(subject, 0)), (vec![], Some(0)));
    assert_eq!(write(&mut *newer, &[log.write(newer_epoch)]), [new(2)]);
    assert_eq!(write(&mut *older, &[log.write(older_epoch)]), [Err(ErrorClass::Fenced)], "not even the same step");
    assert_eq!((offsets(subject, 0), next(subject, 0)), (vec![0, 1], Some(2)));
    assert!(!older.broken(), "the connection is not to blame");
}

fn a_gap_is_fenced(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let log = Log::plain(&partition(0), 1, 2);
    assert_eq!(write(&mut *writer, &[log.write(epoch)]), [Err(ErrorClass::Fenced)]);
    let unclaimed = Log::plain(&partition(9), 0, 2);
    assert_eq!(write(&mut *writer, &[unclaimed.write(1)]), [Err(ErrorClass::Fenced)]);
    assert_eq!(subject.rows(), []);
}

fn several_partitions(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 3);
    let logs: Vec<Log> = (0..3).map(|index| Log::plain(&partition(index), 0, 10 * index as usize)).collect();
    let writes: Vec<Write<'_>> = logs.iter().map(|log| log.write(epoch)).collect();
    assert_eq!(write(&mut *writer, &writes), [new(0), new(10), new(20)]);
    for index in 0..3 {
        assert_eq!(offsets(subject, index).len() as i64, 10 * i64::from(index));
        assert_eq!(next(subject, index), Some(10 * i64::from(index)));
    }
}

fn one_fenced_among_good_ones(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 3);
    subject.sink().writer().unwrap().claim(&[claim(&partition(1), None)]).unwrap();
    let logs: Vec<Log> = (0..3).map(|index| Log::plain(&partition(index), 0, 4)).collect();
    let writes: Vec<Write<'_>> = logs.iter().map(|log| log.write(epoch)).collect();
    assert_eq!(write(&mut *writer, &writes), [new(4), Err(ErrorClass::Fenced), new(4)]);
    assert_eq!([0, 1, 2].map(|index| offsets(subject, index).len()), [4, 0, 4]);
    assert_eq!([0, 1, 2].map(|index| next(subject, index)), [Some(4), Some(0), Some(4)]);
}

fn a_record_put_aside_is_counted(subject: &dyn Subject) {
    let (mut writer, epoch) = owner(subject, 1);
    let log = Log::plain(&partition(0), 0, 0);
    let step = PositionMove { owner_epoch: epoch, expected: 0, next: 1, skipped: 0, dead_lettered: 1 };
    let past = Write { position: Some(step), ..log.write_without_position() };
    assert_eq!(write(&mut *writer, &[past]), [new(0)]);
    let expected = StoredPosition { next_offset: 1, epoch, written: 0, dead_lettered: 1, skipped: 0 };
    assert_eq!(subject.position(&partition(0)), Some(expected));
}

fn a_pause_is_known_to_the_next_owner(subject: &dyn Subject) {
    let (mut writer, _) = owner(subject, 2);
    for paused in [true, false] {
        assert_eq!(writer.note_pause(&partition(0), paused), Ok(()));
        let mut next = subject.sink().writer().unwrap();
        let claimed = next.claim(&[claim(&partition(0), None), claim(&partition(1), None)]).unwrap();
        assert_eq!([claimed[0].paused, claimed[1].paused], [paused, false]);
    }
    assert_eq!(writer.note_pause(&partition(9), true), Ok(()), "nothing to note it with");
}
