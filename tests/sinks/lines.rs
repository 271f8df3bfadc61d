//! The sinks without positions: exec, handler, print, null.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use konekt::TopicPartition;
use konekt::core::verdict::ErrorClass;
use konekt::port::{Sink, SinkError, Written};
use konekt::sink::exec::ExecSink;
use konekt::sink::handler::HandlerSink;
use konekt::sink::null::NullSink;
use konekt::sink::print::{Format, PrintSink};
use parking_lot::Mutex;

use crate::contract::records::{Log, claim};

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 3)
}

/// What a sink answers to records 41 and 42.
fn answer(sink: &dyn Sink) -> Result<Written, SinkError> {
    let log = Log::plain(&orders(), 41, 2);
    let mut writer = sink.writer().unwrap();
    writer.write(&[log.write_without_position()]).remove(0)
}

const BOTH: Result<Written, SinkError> = Ok(Written::all(2));

#[test]
fn without_positions_there_is_nothing_to_claim() {
    let sinks: [Box<dyn Sink>; 4] = [
        Box::new(ExecSink::new("true", None)),
        Box::new(HandlerSink::new(|_| Ok(()))),
        Box::new(NullSink::default()),
        Box::new(PrintSink::new(Format::Json, Box::new(io::sink()), Box::new(|| {}))),
    ];
    for sink in sinks {
        let name = sink.traits().name;
        assert!(!sink.traits().transactional, "{name}");
        let error = sink.writer().unwrap().claim(&[claim(&orders(), Some(0))]).unwrap_err();
        assert!(error.message.contains("at-least-once"), "{name}: {error}");
        assert_eq!(answer(&*sink), BOTH, "{name}");
        let empty = Log::plain(&orders(), 0, 0);
        let answers = sink.writer().unwrap().write(&[empty.write_without_position()]);
        assert_eq!(answers, [Ok(Written::default())], "{name}");
    }
}

#[test]
fn a_command_gets_lines_and_environment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let what = r#"echo "$KONEKT_TOPIC $KONEKT_PARTITION $KONEKT_FIRST_OFFSET $KONEKT_LAST_OFFSET $KONEKT_COUNT""#;
    let command = format!("({what}; cat) > '{}'", path.display());
    for timeout in [None, Some(Duration::from_secs(60))] {
        assert_eq!(answer(&ExecSink::new(&*command, timeout)), BOTH);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (3, "orders 3 41 42 2"));
        assert_eq!(
            lines[2],
            r#"{"topic":"orders","partition":3,"offset":42,"timestamp":1700000000042,"key":"k","value":"value 42","headers":[]}"#
        );
    }
}

#[test]
fn a_command_that_fails_says_how() {
    let cases = [
        ("exit 3", "exit status 3"),
        ("kill -9 $$", "signal: 9"),
        ("konekt-no-such-command 2>&-", "was not found"),
        ("sleep 60 | cat", "longer than 50 ms"),
    ];
    for (command, expected) in cases {
        let error = answer(&ExecSink::new(
            command,
            Some(Duration::from_millis(if expected.contains("50") { 50 } else { 60_000 })),
        ))
        .unwrap_err();
        assert_eq!(error.class, ErrorClass::Unclassified, "{error}");
        for part in [command, expected, "offsets 41..=42", "orders/3"] {
            assert!(error.message.contains(part), "{part:?} is missing: {error}");
        }
    }
}

/// More than a pipe holds, so that a writer who waits for it to be read would never come back.
#[test]
fn a_command_need_not_read_its_input() {
    let log = Log::plain(&orders(), 0, 20_000);
    let write = |command: &str, timeout| {
        let mut writer = ExecSink::new(command, timeout).writer().unwrap();
        writer.write(&[log.write_without_position()]).remove(0)
    };
    let all = Ok(Written::all(20_000));
    assert_eq!(write("exec 0<&-; exit 0", None), all);
    assert_eq!(write("head -1 > /dev/null", Some(Duration::from_secs(60))), all);
    assert!(write("sleep 60", Some(Duration::from_millis(50))).unwrap_err().message.contains("longer than 50 ms"));
}

#[test]
fn a_handler_sees_the_batch_and_its_error_keeps_its_class() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let sink = HandlerSink::new(move |batch| {
        kept.lock().extend(batch.iter().map(|record| record.offset));
        Ok(())
    });
    assert_eq!((answer(&sink), &*seen.lock()), (BOTH, &vec![41, 42]));
    let plain = answer(&HandlerSink::new(|_| Err("no room at the inn".into()))).unwrap_err();
    assert_eq!(plain.class, ErrorClass::Unclassified);
    assert!(plain.message.contains("no room at the inn") && plain.message.contains("orders/3"), "{plain}");
    let away = SinkError::new(ErrorClass::Transient, "the database is away");
    let told = away.clone();
    assert_eq!(answer(&HandlerSink::new(move |_| Err(told.clone().into()))), Err(away));
}

#[test]
fn the_null_sink_counts() {
    let sink = NullSink::default();
    assert_eq!(answer(&sink), BOTH);
    assert_eq!((sink.records(), sink.bytes()), (2, 2 * "kvalue 41".len() as u64));
}

#[test]
fn printing_is_one_line_per_record_in_both_formats() {
    for (format, expected) in [
        (Format::Text, "orders[3]@41 k: value 41\norders[3]@42 k: value 42\n"),
        (
            Format::Json,
            concat!(
                r#"{"topic":"orders","partition":3,"offset":41,"timestamp":1700000000041,"key":"k","value":"value 41","headers":[]}"#,
                "\n",
                r#"{"topic":"orders","partition":3,"offset":42,"timestamp":1700000000042,"key":"k","value":"value 42","headers":[]}"#,
                "\n"
            ),
        ),
    ] {
        let output = Shared::default();
        assert_eq!(answer(&PrintSink::new(format, Box::new(output.clone()), Box::new(|| {}))), BOTH);
        assert_eq!(String::from_utf8(output.0.lock().clone()).unwrap(), expected);
    }
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
