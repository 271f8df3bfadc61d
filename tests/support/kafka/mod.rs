//! A real Kafka, broker and controller in one JVM (`java/Broker.java`), and the clients that speak to it.

pub mod secured;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cache;
use super::helper::{Helper, tail};

/// Shared with prepare.sh, so that both speak of the same versions.
const VERSIONS: &str = include_str!("versions.env");
/// What a busy two-core machine may need to start a JVM and elect a leader.
const START_LIMIT: Duration = Duration::from_secs(90);
/// C1 alone and the class-data archive: a broker for tests starts in two seconds and never gets hot.
const JVM: [&str; 5] = [
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// A setting for a broker that is to be killed: its controller forgets the dead one after three seconds, not nine.
pub const FORGETS_SOON: &str = "broker.session.timeout.ms=3000";

/// The newest Kafka that is supported, one for all tests of this binary.
pub fn newest() -> Result<&'static RealKafka, String> {
    static SHARED: OnceLock<Result<RealKafka, String>> = OnceLock::new();
    SHARED.get_or_init(|| RealKafka::start(version("KAFKA_NEW"))).as_ref().map_err(Clone::clone)
}

/// The oldest Kafka that is supported, one for all tests of this binary.
pub fn oldest() -> Result<&'static RealKafka, String> {
    static SHARED: OnceLock<Result<RealKafka, String>> = OnceLock::new();
    SHARED.get_or_init(|| RealKafka::start(version("KAFKA_OLD"))).as_ref().map_err(Clone::clone)
}

/// A Kafka of its own, for a test that stops it or needs other settings. In these, `{port}` and `{controller_port}`
/// stand for its ports.
pub fn own(settings: &[&str]) -> Result<RealKafka, String> {
    RealKafka::start_with(version("KAFKA_NEW"), settings)
}

/// Three brokers of one cluster, numbered from 1; the first is the controller too. Every topic that Kafka makes for
/// itself has three replicas.
pub fn three(settings: &[&str]) -> Result<[RealKafka; 3], String> {
    const SHARED: [&str; 3] = [
        "offsets.topic.replication.factor=3",
        "transaction.state.log.replication.factor=3",
        "default.replication.factor=3",
    ];
    let all = |own: &[String]| -> Vec<String> {
        let shared = SHARED.iter().chain(settings).map(|setting| (*setting).to_owned());
        shared.chain(own.iter().cloned()).collect()
    };
    let version = version("KAFKA_NEW");
    let first = RealKafka::start_as(version, |_| all(&["broker.rack=rack-1".to_owned()]), None)?;
    let further = |node: u16| {
        let own = move |port: u16| {
            [
                format!("node.id={node}"),
                format!("broker.rack=rack-{node}"),
                format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
                "process.roles=broker".to_owned(),
            ]
        };
        RealKafka::start_as(version, |port| all(&own(port)), Some(first.controller_port))
    };
    let (second, third) = (further(2)?, further(3)?);
    Ok([first, second, third])
}

/// A version that versions.env names.
pub fn version(name: &str) -> &'static str {
    let found = VERSIONS.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("versions.env does not name {name}"))
}

/// A running broker. Dropping it stops it and removes its data; so does the end of the test process.
pub struct RealKafka {
    version: &'static str,
    port: u16,
    controller_port: u16,
    folder: PathBuf,
    settings: Vec<String>,
    broker: Mutex<Option<Child>>,
    java: Mutex<Option<Helper>>,
    librdkafka: Mutex<Option<Helper>>,
}

impl RealKafka {
    /// Starts a broker of this version on free ports and waits until it answers.
    pub fn start(version: &'static str) -> Result<Self, String> {
        Self::start_with(version, &[])
    }

    /// The same with further settings; see [`own`].
    pub fn start_with(version: &'static str, settings: &[&str]) -> Result<Self, String> {
        Self::start_as(version, |_| settings.iter().map(|setting| (*setting).to_owned()).collect(), None)
    }

    /// Starts a broker whose settings may depend on its port, with a controller of its own or another's.
    fn start_as(
        version: &'static str,
        settings: impl Fn(u16) -> Vec<String>,
        controller_port: Option<u16>,
    ) -> Result<Self, String> {
        // a port found free can be taken before the broker has it: other ports, then
        let mut failure = String::new();
        for _ in 0..3 {
            let port = free_port();
            let kafka = Self {
                version,
                port,
                controller_port: controller_port.unwrap_or_else(free_port),
                folder: fresh_folder(&format!("kafka-{version}")),
                settings: settings(port),
                broker: Mutex::new(None),
                java: Mutex::new(None),
                librdkafka: Mutex::new(None),
            };
            match kafka.start_again() {
                Ok(()) => return Ok(kafka),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Starts the broker after [`stop`](Self::stop) or [`kill`](Self::kill), with the data it had.
    pub fn start_again(&self) -> Result<(), String> {
        let home = home(self.version)?;
        let log_path = self.folder.join("broker.log");
        std::fs::create_dir_all(&self.folder).map_err(|error| format!("{}: {error}", self.folder.display()))?;
        let log = File::options().append(true).create(true).open(&log_path);
        let log = log.map_err(|error| format!("{}: {error}", log_path.display()))?;
        let mut command = java(&home, &self.folder);
        command.arg("Broker").arg(&self.folder).args([self.port.to_string(), self.controller_port.to_string()]);
        command
            .args(self.settings.iter().map(|setting| self.with_ports(setting)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log);
        let mut child = command.spawn().map_err(|error| format!("java: {error}"))?;

        let started = Instant::now();
        while !answers(self.port) {
            let dead = child.try_wait().map_err(|error| error.to_string())?;
            if dead.is_some() || started.elapsed() > START_LIMIT {
                child.kill().ok();
                child.wait().ok();
                let fate = dead.map_or(format!("no answer in {START_LIMIT:?}"), |status| format!("{status}"));
                return Err(format!("Kafka {} did not start: {fate}\n{}", self.version, tail(&log_path)));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        *lock(&self.broker) = Some(child);
        Ok(())
    }

    fn with_ports(&self, setting: &str) -> String {
        let controller_port = self.controller_port.to_string();
        setting.replace("{port}", &self.port.to_string()).replace("{controller_port}", &controller_port)
    }

    /// Stops the broker as an operator would; its data stay.
    pub fn stop(&self) {
        let mut child = lock(&self.broker).take().expect("the broker runs");
        writeln!(child.stdin.take().expect("stdin is piped"), "stop").expect("the broker reads its stdin");
        let started = Instant::now();
        while child.try_wait().expect("the broker is our child").is_none() {
            if started.elapsed() > START_LIMIT {
                child.kill().ok();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the broker as a power cut would; its data stay.
    pub fn kill(&self) {
        let mut child = lock(&self.broker).take().expect("the broker runs");
        child.kill().expect("the broker is our child");
        child.wait().expect("the broker is our child");
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it keeps its data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Which Kafka this is.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// A new topic with further settings (`name=value`).
    pub fn create_topic(&self, topic: &str, partitions: u32, settings: &[(&str, &str)]) {
        let config: serde_json::Map<_, _> =
            settings.iter().map(|(name, value)| ((*name).into(), json!(value))).collect();
        self.java(&json!({"do": "create-topic", "topic": topic, "partitions": partitions, "config": config}));
    }

    /// A new topic that holds `records` numbered records of `size` bytes, dealt to its partitions in turn.
    pub fn filled_topic(&self, topic: &str, partitions: u32, records: u64, size: u32) {
        self.create_topic(topic, partitions, &[]);
        self.fill(topic, partitions, 0, records, size);
    }

    /// Appends records numbered from `first` on.
    pub fn fill(&self, topic: &str, partitions: u32, first: u64, records: u64, size: u32) {
        self.java(&json!({"do": "bulk", "topic": topic, "partitions": partitions, "first": first, "records": records,
            "size": size, "codec": "lz4"}));
    }

    /// The log end of each partition.
    pub fn ends(&self, topic: &str) -> Vec<i64> {
        let answer = self.java(&json!({"do": "ends", "topic": topic}));
        serde_json::from_value(answer["ends"].clone()).expect("ends are numbers")
    }

    /// What a group has committed, as Kafka's own tools see it: topic, partition, offset.
    pub fn committed(&self, group: &str) -> Vec<(String, i32, i64)> {
        let answer = self.java(&json!({"do": "committed", "group": group}));
        serde_json::from_value(answer["committed"].clone()).expect("topic, partition, offset")
    }

    /// How many partitions each member of a group holds, sorted.
    pub fn members(&self, group: &str) -> Vec<usize> {
        let answer = self.java(&json!({"do": "group", "group": group}));
        let mut members: Vec<usize> = serde_json::from_value(answer["members"].clone()).expect("counts");
        members.sort_unstable();
        members
    }

    /// A command to Kafka's Java client.
    ///
    /// # Panics
    /// When it fails: a test has nothing to say then.
    pub fn java(&self, command: &Value) -> Value {
        let mut java = lock(&self.java);
        let helper = java.get_or_insert_with(|| self.start_java().expect("the Java client starts"));
        helper.call(command).unwrap_or_else(|error| panic!("Java client: {error}"))
    }

    /// A command to librdkafka.
    pub fn librdkafka(&self, command: &Value) -> Result<Value, String> {
        let mut librdkafka = lock(&self.librdkafka);
        if librdkafka.is_none() {
            *librdkafka = Some(self.start_librdkafka()?);
        }
        librdkafka.as_mut().expect("just started").call(command)
    }

    fn start_java(&self) -> Result<Helper, String> {
        let mut command = java(&home(self.version)?, &self.folder);
        command.args(["Tool", &self.address()]);
        Helper::start(command, &self.folder.join("tool.log"))
    }

    fn start_librdkafka(&self) -> Result<Helper, String> {
        let python = cache().join(format!("librdkafka-{}", version("CONFLUENT_KAFKA"))).join("bin/python");
        if !python.exists() {
            return Err(format!("{} is missing: run tests/support/kafka/prepare.sh", python.display()));
        }
        let mut command = Command::new(python);
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/python/librdkafka_tool.py"))
            .arg(self.address());
        Helper::start(command, &self.folder.join("librdkafka.log"))
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        if let Some(mut child) = lock(&self.broker).take() {
            drop(child.stdin.take()); // it removes its folder and halts
            child.wait().ok();
        }
        std::fs::remove_dir_all(&self.folder).ok();
    }
}

/// A lock whatever a failed test left behind: what it guards is replaced whole or not at all.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Where prepare.sh put a version.
fn home(version: &str) -> Result<PathBuf, String> {
    let home = cache().join(format!("kafka-{version}"));
    match home.join("recipe").exists() {
        true => Ok(home),
        false => Err(format!("Kafka {version} is not in {}: run tests/support/kafka/prepare.sh", home.display())),
    }
}

/// A JVM with Kafka's jars; the class's name and its arguments are the caller's.
fn java(home: &Path, scratch: &Path) -> Command {
    let mut command = Command::new("java");
    command.args(JVM).arg(format!("-Djava.io.tmpdir={}", scratch.display()));
    command.arg("-Xshare:auto").arg(format!("-XX:SharedArchiveFile={}", home.join("classes.jsa").display()));
    command.arg("-cp").arg(format!("{0}/testkit.jar:{0}/lib/*", home.display()));
    command
}

/// Whether a broker answers ApiVersions version 0: it serves then.
fn answers(port: u16) -> bool {
    const API_VERSIONS: &[u8] = b"\0\0\0\x0a\0\x12\0\0\0\0\0\x01\xff\xff";
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    stream.set_read_timeout(Some(Duration::from_secs(2))).expect("not zero");
    stream.write_all(API_VERSIONS).is_ok() && stream.read_exact(&mut [0; 8]).is_ok()
}

/// A port that nobody listens on, below the range that the system gives to outgoing connections, so that it is still
/// free when a broker comes back to it.
pub fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(97);
    loop {
        let nth = start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + (nth % 12_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A new folder for a server's data, below target/.
pub fn fresh_folder(name: &str) -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let nth = MADE.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}-{nth}", std::process::id()))
}
