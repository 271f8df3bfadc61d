//! What real brokers answer to our own client, recorded: a wire between the two that keeps the answers. It also makes the
//! broker look older and older, so that every version that this client speaks is spoken, and each command works in it.
//!
//! `KONEKT_BLESS=1` writes what was heard to `tests/fixtures/wire`, where the decoders' own tests and the fuzzer find it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};
use kafka_protocol::protocol::{Decodable, Encodable};
use konekt::kafka::answers;

use crate::support::kafka::{self, RealKafka, free_port, lock};
use crate::support::konekt::{Konekt, Place};
use crate::support::{or_skip, wait};

/// What `konekt` calls itself in its requests; other clients come by too.
const OURS: &[u8] = b"konekt";
/// The version of ApiVersions that is asked for.
const API_VERSIONS: i16 = 3;
/// Longer answers are more of the same.
const BODY_BYTES_MAX: usize = 8_000;
/// The consumer protocol (KIP-848), which wants the newest versions of all the rest.
const CONSUMER_PROTOCOL: [ApiKey; 2] = [ApiKey::ConsumerGroupHeartbeat, ApiKey::ConsumerGroupDescribe];

/// An API key and its version.
type Spoken = (i16, i16);

#[test]
fn the_newest_kafka_is_understood_in_every_version() {
    check("newest", kafka::version("KAFKA_NEW"), true);
}

#[test]
fn the_oldest_kafka_is_understood_in_every_version() {
    check("oldest", kafka::version("KAFKA_OLD"), false);
}

fn check(name: &str, version: &'static str, consumer_protocol: bool) {
    let Some((_kafka, wire, addresses)) = or_skip(start(version)) else { return };
    let ages = answers::apis().map(|(_, spoken)| spoken.end() - spoken.start()).max().unwrap_or(0);
    // One more than there are versions of anything, since metadata lags by one.
    for age in 0..=ages + 1 {
        lock(&wire).newest = aged(age);
        use_everything(&wire, &addresses, "classic", age);
    }
    for age in 0..if consumer_protocol { 2 } else { 0 } {
        lock(&wire).newest = CONSUMER_PROTOCOL.map(|key| (key as i16, 1 - age)).into();
        use_everything(&wire, &addresses, "consumer", age);
    }
    let answers = std::mem::take(&mut lock(&wire).answers);
    expect_every_version(&answers, consumer_protocol);
    compare_with_fixture(name, &answers);
}

/// The newest version of each API that a broker of this age lets us see.
fn aged(age: i16) -> BTreeMap<i16, i16> {
    let newest = |(key, spoken): (ApiKey, std::ops::RangeInclusive<i16>)| {
        // No broker ever wanted topic ids in a Fetch before its Metadata had them.
        let back = if key == ApiKey::Metadata { age - 1 } else { age };
        (key as i16, (spoken.end() - back.max(0)).max(*spoken.start()))
    };
    answers::apis().map(newest).collect()
}

/// A broker, its wire, and where that begins: in the clear, and with passwords.
type Wired = (RealKafka, Arc<Mutex<Wire>>, [String; 2]);

/// A broker that tells everybody to come through the wire.
fn start(version: &'static str) -> Result<Wired, String> {
    let [plain, sasl] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [plain_address, sasl_address] =
        [&plain, &sasl].map(|listener| listener.local_addr().expect("it is bound").to_string());
    let sasl_port = free_port();
    let listeners = format!(
        "listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller_port}},SASL://127.0.0.1:{sasl_port}"
    );
    let advertised = format!("advertised.listeners=PLAINTEXT://{plain_address},SASL://{sasl_address}");
    let kafka = RealKafka::start_with(
        version,
        &[
            &listeners,
            &advertised,
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT",
            "sasl.enabled.mechanisms=PLAIN",
            "listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
             user_alice=\"secret\";",
        ],
    )?;
    let wire = Arc::new(Mutex::new(Wire::default()));
    for (listener, target) in [(plain, kafka.address()), (sasl, format!("127.0.0.1:{sasl_port}"))] {
        let wire = Arc::clone(&wire);
        std::thread::spawn(move || {
            for from in listener.incoming().flatten() {
                if let Ok(to) = TcpStream::connect(&target) {
                    connect(from, to, &wire);
                }
            }
        });
    }
    Ok((kafka, wire, [plain_address, sasl_address]))
}

/// The commands, run one after the other in a place of their own.
struct Commands<'a> {
    place: Place,
    address: &'a str,
}

impl Commands<'_> {
    fn konekt(&self, command: &str) -> Konekt {
        let words: Vec<&str> = command.split(' ').collect();
        self.place.konekt(&words).arguments(&["--bootstrap-servers", self.address])
    }

    fn run(&self, command: &str) {
        self.konekt(command).run().expect_code(0);
    }

    fn produce(&self, topic: &str) {
        std::fs::write(self.place.file("lines"), "one\ntwo\nthree\nfour\n").expect("a file");
        let lines = File::open(self.place.file("lines")).expect("the file");
        self.konekt(&format!("produce --topic {topic}")).input(lines).run().expect_code(0);
    }

    /// Reads all, and stays in the group until it has sent a heartbeat.
    fn consume(&self, topic: &str, protocol: &str, has_beaten: impl Fn() -> bool) {
        let group = format!("--group-id {topic} --group-protocol {protocol} --heartbeat-interval-ms 100");
        let run = self.konekt(&format!("consume --topics {topic} {group}")).start();
        let is_done = || (run.stdout().lines().count() == 4 && has_beaten()).then_some(());
        wait::until("all is read and a heartbeat answered", Duration::from_secs(60), is_done);
        run.stop("TERM", Duration::from_secs(60)).expect_code(0);
    }
}

/// Each command, so that each API is spoken.
fn use_everything(wire: &Mutex<Wire>, [plain, sasl]: &[String; 2], protocol: &str, age: i16) {
    let commands = Commands { place: Place::new(), address: plain };
    let heartbeat = if protocol == "consumer" { ApiKey::ConsumerGroupHeartbeat } else { ApiKey::Heartbeat } as i16;
    let topic = format!("{protocol}-{age}");
    commands.run(&format!("admin topic create {topic} --partitions 3 --replication-factor 1"));
    commands.produce(&topic);
    commands.consume(&topic, protocol, || {
        let wire = lock(wire);
        wire.answers.contains_key(&(heartbeat, wire.newest[&heartbeat]))
    });
    commands.run("admin cluster");
    commands.run(&format!("admin topics --topics {topic}"));
    commands.run("admin groups");
    commands.run(&format!("admin groups --group {topic}"));
    commands.run(&format!("admin lag --group {topic} --interval-ms 0"));
    commands.run(&format!("admin configs --topics {topic}"));
    commands.run(&format!("admin topic delete {topic} --execute"));
    let credentials = "security.protocol=sasl_plaintext sasl.mechanism=PLAIN sasl.username=alice sasl.password=secret";
    let credentials: String = credentials.split(' ').map(|property| format!(" -X {property}")).collect();
    Commands { address: sasl, ..commands }.run(&format!("admin cluster{credentials}"));
}

// ---- the wire

#[derive(Default)]
struct Wire {
    /// The newest version of each API that the broker may offer.
    newest: BTreeMap<i16, i16>,
    /// The longest answer in each version: it says most.
    answers: BTreeMap<Spoken, Vec<u8>>,
}

/// Requests on one connection whose answers are to be kept, by correlation id.
type Asked = Arc<Mutex<HashMap<i32, Spoken>>>;

/// Passes bytes both ways, frame by frame.
fn connect(from: TcpStream, to: TcpStream, wire: &Arc<Mutex<Wire>>) {
    let asked = Asked::default();
    let clone = |stream: &TcpStream| stream.try_clone().expect("a file descriptor");
    let (client, broker) = (clone(&from), clone(&to));
    let (noting, wire) = (Arc::clone(&asked), Arc::clone(wire));
    std::thread::spawn(move || pass(client, broker, |frame| note(frame, &noting)));
    std::thread::spawn(move || pass(to, from, |frame| lock(&wire).answered(frame, &asked)));
}

fn pass(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&mut Vec<u8>)) {
    let mut forward = || -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            from.read_exact(&mut frame)?;
            look(&mut frame);
            to.write_all(&[&(frame.len() as u32).to_be_bytes(), &frame[..]].concat())?;
        }
    };
    let _ = forward(); // one side has hung up
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A request's header: key, version, correlation id, client id.
fn note(frame: &[u8], asked: &Asked) {
    let Some((&[k1, k2, v1, v2, i1, i2, i3, i4, n1, n2], rest)) = frame.split_first_chunk() else { return };
    let name_bytes = usize::from(u16::from_be_bytes([n1, n2]));
    if rest.get(..name_bytes) == Some(OURS) {
        let spoken = (i16::from_be_bytes([k1, k2]), i16::from_be_bytes([v1, v2]));
        lock(asked).insert(i32::from_be_bytes([i1, i2, i3, i4]), spoken);
    }
}

impl Wire {
    fn answered(&mut self, frame: &mut Vec<u8>, asked: &Asked) {
        let Some((id, rest)) = frame.split_first_chunk::<4>() else { return };
        let Some(spoken) = lock(asked).remove(&i32::from_be_bytes(*id)) else { return };
        let (key, version) = spoken;
        let header = ApiKey::try_from(key).expect("we speak known APIs").response_header_version(version);
        // Newer headers end with tagged fields, of which there are none.
        let body = &rest[usize::from(header > 0)..];
        let longest = self.answers.entry(spoken).or_default();
        if (longest.len()..BODY_BYTES_MAX).contains(&body.len()) {
            *longest = body.to_vec();
        }
        if spoken == (ApiKey::ApiVersions as i16, API_VERSIONS) {
            let mut older = BytesMut::from(&id[..]);
            self.older(body).encode(&mut older, API_VERSIONS).expect("it was decoded");
            *frame = older.to_vec();
        }
    }

    fn older(&self, body: &[u8]) -> ApiVersionsResponse {
        let mut answer = offered(body);
        for api in &mut answer.api_keys {
            let newest = self.newest.get(&api.api_key).copied().unwrap_or(i16::MAX);
            api.max_version = api.max_version.min(newest).max(api.min_version);
        }
        answer
    }
}

fn offered(body: &[u8]) -> ApiVersionsResponse {
    ApiVersionsResponse::decode(&mut Bytes::copy_from_slice(body), API_VERSIONS).expect("an ApiVersions answer")
}

// ---- what was heard

/// Every version that both sides speak was spoken.
fn expect_every_version(answers: &BTreeMap<Spoken, Vec<u8>>, consumer_protocol: bool) {
    let offered = offered(&answers[&(ApiKey::ApiVersions as i16, API_VERSIONS)]).api_keys;
    let mut expected = vec![(ApiKey::ApiVersions as i16, API_VERSIONS)];
    for (key, spoken) in answers::apis().filter(|(key, _)| *key != ApiKey::ApiVersions) {
        // Kafka 3.9 offers it and then refuses it.
        let is_refused = key == ApiKey::ConsumerGroupHeartbeat && !consumer_protocol;
        let offered = offered.iter().find(|offered| offered.api_key == key as i16).filter(|_| !is_refused);
        let common = offered.map(|of| *spoken.start().max(&of.min_version)..=*spoken.end().min(&of.max_version));
        expected.extend(common.into_iter().flatten().map(|version| (key as i16, version)));
    }
    expected.sort_unstable();
    let heard: Vec<Spoken> = answers.keys().copied().collect();
    assert_eq!(heard, expected, "API keys and versions");
}

fn compare_with_fixture(name: &str, answers: &BTreeMap<Spoken, Vec<u8>>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/wire/{name}.bin"));
    if std::env::var_os("KONEKT_BLESS").is_some() {
        let entry = |((key, version), body): (&Spoken, &Vec<u8>)| {
            let length = body.len() as u32;
            [&key.to_be_bytes()[..], &version.to_be_bytes(), &length.to_be_bytes(), body].concat()
        };
        std::fs::write(&path, answers.iter().flat_map(entry).collect::<Vec<u8>>()).expect("the fixture can be written");
    }
    let fixture = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let recorded: Vec<Spoken> = answers::entries(&fixture).iter().map(|entry| (entry.key, entry.version)).collect();
    let heard: Vec<Spoken> = answers.keys().copied().collect();
    assert_eq!(heard, recorded, "{} is out of date: KONEKT_BLESS=1 ./check conformance", path.display());
}
