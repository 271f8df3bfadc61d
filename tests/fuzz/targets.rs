//! What is fuzzed, once for both who do it: the seeded suite beside this file (`cargo test --test fuzz`) and cargo-fuzz
//! (`Cargo.toml` in this folder). A target reads bytes that came from outside; it may refuse them, but not panic, and what
//! it accepts has to be right.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use konekt::config::command::COMMANDS;
use konekt::config::layers::Surroundings;
use konekt::core::record::{DecodeError, Encoded, Headers, OwnedRecord, RecordBuffer, Skipped, encode_header};
use konekt::kafka::answers;
use konekt::kafka::offsets::Isolation;
use konekt::kafka::wire::compression::{Codec, compress, decompress};
use konekt::kafka::wire::record_batch::{Aborted, FetchedRecords, RecordBatchBuilder, survey};
use konekt::ops::dlq::Entry;
use konekt::sink::json;
use konekt::sink::odbc::connection_string::{redacted, resolved, value_of};
use konekt::{TopicPartition, config};

/// One of them.
pub struct Target {
    pub name: &'static str,
    /// Inputs to begin with.
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// # Panics
    /// When something is wrong with what reads the bytes.
    pub run: fn(&[u8]),
    /// The most bytes it may ask for at once, for inputs of a few kilobytes.
    pub allocation_bytes_max: usize,
}

const fn target(name: &'static str, corpus: fn() -> Vec<Vec<u8>>, run: fn(&[u8])) -> Target {
    Target { name, corpus, run, allocation_bytes_max: 1 << 20 }
}

pub const TARGETS: &[Target] = &[
    target("record_batches", fetched_batches, record_batches),
    target("damaged_batches", fetched_batches, damaged_batches),
    Target { allocation_bytes_max: 4 * PLAIN_BYTES_MAX, ..target("codecs", compressed, codecs) },
    target("answers", all_answers, read_answer),
    target("headers", encoded_headers, headers),
    target("letters", encoded_headers, letters),
    target("lines", lines, read_line),
    target("settings", settings_files, settings),
    target("properties", properties_of_librdkafka, properties),
    target("connection_strings", connection_strings, connection_string),
];

// ---- record batches

/// Recorded from Java's producer, and of our own in each codec.
fn fetched_batches() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("tests/fixtures"));
    let folder = fixtures.into_iter().find(|folder| folder.is_dir()).expect("tests/fixtures");
    let files = fs::read_dir(folder).expect("tests/fixtures").map(|entry| entry.expect("an entry").path());
    let mut corpus: Vec<Vec<u8>> =
        files.filter(|path| path.is_file()).map(|path| fs::read(path).expect("a fixture")).collect();
    corpus.sort();
    for codec in CODECS {
        let mut builder = RecordBatchBuilder::default();
        for at in 0..3_i64 {
            let headers: [(&[u8], Option<&[u8]>); 2] = [(b"trace", Some(b"1")), (b"empty", None)];
            builder.append(Some(b"key"), (at > 0).then_some(&[b'v'; 40]), &headers, at);
        }
        corpus.push(builder.finish(codec).expect("a batch").to_vec());
    }
    corpus
}

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// As they come: a wrong checksum is the end of most.
fn damaged_batches(input: &[u8]) {
    decode_batches(input.to_vec());
}

/// With the right checksums, so that what is inside is read.
fn record_batches(input: &[u8]) {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(header) = bytes.get(at..at + 61) {
        let length = i32::from_be_bytes(header[8..12].try_into().expect("4 bytes"));
        let Some(end) = usize::try_from(length).ok().map(|length| at + 12 + length) else { break };
        if end < at + 61 || end > bytes.len() {
            break;
        }
        let checksum = crc32c::crc32c(&bytes[at + 21..end]);
        bytes[at + 17..at + 21].copy_from_slice(&checksum.to_be_bytes());
        at = end;
    }
    decode_batches(bytes);
}

fn decode_batches(bytes: Vec<u8>) {
    let from = bytes.first().map_or(0, |byte| i64::from(byte % 8));
    let surveyed = survey(&bytes, from);
    let aborted = vec![Aborted { producer_id: 0, first_offset: 0 }, Aborted { producer_id: 1, first_offset: 5 }];
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let (bytes, aborted) = (bytes.clone().into(), aborted.clone());
        let fetched = Arc::new(FetchedRecords { bytes, aborted, isolation, held: None });
        let mut records = RecordBuffer::default();
        let decoded: Result<Skipped, DecodeError> = fetched.decoder(from).decode_rest(&mut records);
        let mut last = from - 1;
        for index in 0..records.len() {
            let record = records.get(index);
            assert!(record.offset > last, "offset {} stands behind {last}", record.offset);
            assert_eq!(record.headers.iter().count(), record.headers.len(), "headers were checked");
            last = record.offset;
        }
        if let (Ok(survey), Ok(_)) = (&surveyed, decoded) {
            assert!(records.len() <= survey.records_max, "{} records, {survey:?}", records.len());
            assert!(records.is_empty() || last < survey.next_offset, "{last} is not below {survey:?}");
        }
    }
}

// ---- codecs

const PLAIN_BYTES_MAX: usize = 1 << 20;

/// The codec, then data; of each codec some text and a bomb.
fn compressed() -> Vec<Vec<u8>> {
    let text = b"{\"order\":17,\"customer\":\"c-42\"}".repeat(20);
    let bomb = vec![0; 8 * PLAIN_BYTES_MAX];
    let one = |(codec, plain): (usize, &[u8])| {
        let packed = compress(CODECS[codec], plain).expect("compressed");
        [&[codec as u8][..], &packed].concat()
    };
    let all = (1..CODECS.len()).flat_map(|codec| [(codec, &text[..]), (codec, &bomb[..])]);
    // Snappy's bomb is as large as an input should be at most.
    all.map(one).filter(|input| input.len() < 1 << 16).collect()
}

fn codecs(input: &[u8]) {
    let Some((codec, packed)) = input.split_first() else { return };
    let codec = CODECS[*codec as usize % CODECS.len()];
    if let Ok(plain) = decompress(codec, packed, PLAIN_BYTES_MAX) {
        assert!(plain.len() <= PLAIN_BYTES_MAX || codec == Codec::None, "{} bytes", plain.len());
    }
}

// ---- answers of brokers

/// Kind and version, then the answer: an example of each, and what real brokers have answered.
fn all_answers() -> Vec<Vec<u8>> {
    let one = |kind: usize, version: u8, body: &[u8]| [&[kind as u8, version][..], body].concat();
    let kinds = (0..answers::KINDS).flat_map(|kind| (0..20).map(move |version| (kind, version)));
    let mut corpus: Vec<Vec<u8>> =
        kinds.map(|(kind, version)| one(kind, version, &answers::example(kind, version))).collect();
    corpus.dedup();
    corpus.extend(answers::recorded().map(|(kind, version, body)| one(kind, version, body)));
    corpus
}

fn read_answer(input: &[u8]) {
    if let [kind, version, body @ ..] = input {
        // What is wrong with it is said; that it is, is enough here.
        drop(answers::read(*kind as usize, *version, body));
    }
}

// ---- headers and letters

/// The count, then headers as a record has them.
fn encoded_headers() -> Vec<Vec<u8>> {
    let mut encoded = vec![6];
    let headers: [(&str, &str); 6] = [
        ("konekt.dlq.topic", "orders"),
        ("konekt.dlq.partition", "3"),
        ("konekt.dlq.offset", "17"),
        ("konekt.dlq.class", "data"),
        ("konekt.dlq.replays", "1"),
        ("trace", "\u{fc}\0"),
    ];
    headers.iter().for_each(|(name, value)| encode_header(&mut encoded, name.as_bytes(), Some(value.as_bytes())));
    let mut few = vec![2];
    encode_header(&mut few, b"", None);
    encode_header(&mut few, &[0xff], Some(b""));
    vec![encoded, few]
}

fn owned(input: &[u8]) -> OwnedRecord {
    let (count, encoded) = input.split_first().unwrap_or((&0, &[]));
    let headers = Headers::from_encoded(u32::from(*count), encoded);
    let headers = headers.iter().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
    let (partition, value) = (TopicPartition::new("t", 0), Some(encoded.to_vec()));
    OwnedRecord { partition, offset: 7, timestamp_ms: 1, key: None, value, headers }
}

/// What is written as a line says the same when it is read.
fn headers(input: &[u8]) {
    let record = owned(input);
    let mut line = Vec::new();
    json::put_record(&mut line, &record.partition, &record.buffer().get(0));
    let read = json::read_record(line.trim_ascii_end()).and_then(|record| record.in_place());
    assert_eq!(read.as_ref(), Ok(&record), "{}", String::from_utf8_lossy(&line));
}

fn letters(input: &[u8]) {
    let entry = Entry::of_letter(owned(input));
    assert!(entry.json(true)["letter"].is_object(), "{entry:?}");
}

// ---- lines of JSON

fn lines() -> Vec<Vec<u8>> {
    let lines: [&[u8]; 3] = [
        br#"{"topic":"t","partition":0,"offset":17,"timestamp":1700000000000,"key":"a","value":"b","headers":{"h":"1"}}"#,
        br#"{"topic":"t","partition":0,"offset":-1,"key":{"base64":"/w=="},"value":null,"headers":{"h":["1",null,{"base64":""}]}}"#,
        br#"{"value":"\u0000\ud83d\ude00"}"#,
    ];
    lines.map(<[u8]>::to_vec).to_vec()
}

fn read_line(input: &[u8]) {
    let Ok(Ok(record)) = json::read_record(input).map(|record| record.in_place()) else { return };
    let mut line = Vec::new();
    json::put_record(&mut line, &record.partition, &record.buffer().get(0));
    let again = json::read_record(line.trim_ascii_end()).and_then(|record| record.in_place());
    let negative = OwnedRecord { timestamp_ms: record.timestamp_ms.max(-1), ..record };
    assert_eq!(again, Ok(negative), "{}", String::from_utf8_lossy(&line));
}

// ---- settings

/// konekt.toml, .env, and a value for an environment variable and a flag, between NULs.
fn settings_files() -> Vec<Vec<u8>> {
    let files: [&[u8]; 3] = [
        b"topics = ['a', 'b']\nbatch_size = 1\ngroup_id = 'toml'\n[kafka.properties]\n\"linger.ms\" = 5\n\0KAFKA_TOPICS=a,b\n\x005\x001s",
        b"memory_limit = \"1GiB\"\nmax_workers = { a = 1 }\n\0# nothing\nexport SQLITE_DB='a b'\n\x001TiB\0-1",
        b"connection_string = \"DSN=k;PWD={a}}b}\"\nuntil_end = true\n\0KAFKA_STATS_INTERVAL_MS=soon\n\0\0earlest",
    ];
    files.map(<[u8]>::to_vec).to_vec()
}

fn settings(input: &[u8]) {
    let mut parts = input.splitn(4, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (toml, dotenv, variable, flag) = (part(), part(), part(), part());
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("konekt.toml"), toml).expect("written");
    fs::write(folder.path().join(".env"), dotenv).expect("written");
    let variable = String::from_utf8_lossy(variable).into_owned();
    let flag = String::from_utf8_lossy(flag).into_owned();
    let names = ["batch_size", "memory_limit", "topics", "auto_offset_reset", "sqlite_db", "connect_timeout_ms"];
    let name = names[input.len() % names.len()];
    resolve(input.len(), folder.path(), &|_| Some(variable.clone()), vec![(name, flag.clone())], Vec::new());
}

fn resolve(
    command: usize,
    directory: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    flags: Vec<(&'static str, String)>,
    properties: Vec<String>,
) {
    let surroundings = Surroundings {
        directory,
        environment,
        variables: Vec::new(),
        file: None,
        flags: flags.into_iter().collect(),
        properties,
    };
    let resolved = config::resolve(COMMANDS[command % COMMANDS.len()].command, &surroundings);
    resolved.faults.iter().for_each(|fault| assert!(!fault.to_string().is_empty()));
    drop(resolved.effective());
}

/// One property a line, as after `-X`.
fn properties_of_librdkafka() -> Vec<Vec<u8>> {
    let properties: [&[u8]; 2] = [
        b"bootstrap.servers=a:1,b:2\nsecurity.protocol=sasl_ssl\nsasl.mechanism=PLAIN\nenable.auto.commit=false",
        b"linger.ms=5\nstatistics.interval.ms=x\n=\nfetch.min.bytes\ngroup.id==g",
    ];
    properties.map(<[u8]>::to_vec).to_vec()
}

fn properties(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let properties = text.lines().map(str::to_owned).collect();
    resolve(input.len(), Path::new("nowhere"), &|_| None, Vec::new(), properties);
}

// ---- connection strings

fn connection_strings() -> Vec<Vec<u8>> {
    let strings: [&[u8]; 3] = [
        b"Driver={ODBC Driver 18 for SQL Server};Server=tcp:db,1433;UID=sa;PWD={a}}b;c};Encrypt=yes",
        b"DSN=konekt;pwd=secret",
        b"Driver=/usr/lib/x.so;;=;{;Password={",
    ];
    strings.map(<[u8]>::to_vec).to_vec()
}

/// A password is never shown, wherever the braces stand.
fn connection_string(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    drop(resolved(&text, &[]));
    let shown = redacted(&text);
    for key in ["PWD", "Password"] {
        let secret =
            value_of(&text, key).filter(|value| value.len() > 12 && !text.replacen(value, "", 1).contains(value));
        assert!(!secret.is_some_and(|secret| shown.contains(&secret)), "{text:?} is shown as {shown:?}");
    }
}
