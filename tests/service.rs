//! The real binary as a service of systemd, with a socket in the manager's place: readiness, life, status, the end, and
//! lines as the journal wants them. The unit file itself: `tests/deploy`.
#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod support;

use std::fs::File;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use support::konekt::{Konekt, Place};
use support::wait;

const SOON: Duration = Duration::from_secs(60);

fn broker() -> Broker {
    let topics = vec![TopicSpec::new("orders", 2)];
    Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker")
}

fn sink(place: &Place, broker: &Broker) -> Konekt {
    let sink = place.konekt(&["sink", "sqlite", "--db", "out.db", "--topics", "orders", "--group-id", "g"]);
    sink.arguments(&["--bootstrap-servers", &broker.address()])
}

/// The service manager's end.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn new(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket has time-outs");
        Self { socket, heard: Vec::new() }
    }

    /// Hears what is said until there are `count` lines that begin so.
    fn expect(&mut self, beginning: &str, count: usize) {
        wait::until(beginning, SOON, || {
            let mut news = [0; 4096];
            if let Ok(length) = self.socket.recv(&mut news) {
                let news = std::str::from_utf8(&news[..length]).expect("text");
                self.heard.extend(news.lines().map(str::to_owned));
            }
            (self.count(beginning) >= count).then_some(())
        });
    }

    fn count(&self, beginning: &str) -> usize {
        self.heard.iter().filter(|line| line.starts_with(beginning)).count()
    }
}

/// A run from its start to its end, told to this manager.
fn check(mut manager: Manager, address: &str, watchdog: Option<Duration>) {
    let (place, broker) = (Place::new(), broker());
    let mut run = sink(&place, &broker).variable("NOTIFY_SOCKET", address);
    if let Some(watchdog) = watchdog {
        run = run.variable("WATCHDOG_USEC", &watchdog.as_micros().to_string());
    }
    let run = run.start();
    manager.expect("READY=1", 1);
    manager.expect("STATUS=0 written, 0/s, 0 failed, lag 0, 2 partitions", 1);
    if watchdog.is_some() {
        manager.expect("WATCHDOG=1", 5);
    }
    let stopped = Instant::now();
    run.signal("TERM");
    manager.expect("STOPPING=1", 1);
    run.wait().expect_code(0);
    assert!(stopped.elapsed() < Duration::from_secs(45), "longer than TimeoutStopSec");
    assert_eq!((manager.count("READY=1"), manager.count("STOPPING=1")), (1, 1), "{:?}", manager.heard);
    assert_eq!(manager.count("WATCHDOG=1") > 0, watchdog.is_some(), "{:?}", manager.heard);
}

#[test]
fn a_manager_hears_when_it_is_ready_that_it_lives_and_that_it_stops() {
    let place = Place::new();
    let path = place.file("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    check(Manager::new(socket), &path.display().to_string(), Some(Duration::from_millis(300)));
}

#[test]
fn a_socket_may_have_a_name_of_linuxs_own() {
    let name = format!("konekt-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    check(Manager::new(socket), &format!("@{name}"), None);
}

#[test]
fn a_manager_that_is_gone_holds_up_nothing() {
    let (place, broker) = (Place::new(), broker());
    let run = sink(&place, &broker).arguments(&["--until-end"]).variable("NOTIFY_SOCKET", "/nowhere/notify");
    run.run().expect_code(0).expect_stderr("NOTIFY_SOCKET=/nowhere/notify");
}

#[test]
fn lines_for_the_journal_have_their_priority_and_no_time() {
    let (place, broker) = (Place::new(), broker());
    let lines_of = |arguments: &[&str], journal: bool| {
        let path = place.file("stderr");
        let stderr = File::create(&path).expect("a file");
        let of = stderr.metadata().expect("its inode");
        let mut command = Command::new(env!("CARGO_BIN_EXE_konekt"));
        command.args(arguments).current_dir(place.file(".")).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let inode = if journal { of.ino() } else { of.ino() + 1 };
        command.env("JOURNAL_STREAM", format!("{}:{inode}", of.dev())).stderr(stderr).status().expect("it runs");
        std::fs::read_to_string(path).expect("its lines").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let address = broker.address();
    let run =
        ["consume", "--topics", "orders", "--until-end", "--bootstrap-servers", &address, "--http", "127.0.0.1:0"];
    let lines = lines_of(&run, true);
    assert!(lines.iter().all(|line| line.starts_with("<6>")) && lines.len() > 5, "{lines:#?}");
    assert!(lines.iter().any(|line| line == "<6>records written   0 (0/s)"), "{lines:#?}");
    assert!(lines.iter().any(|line| line.starts_with("<6>main http://127.0.0.1:")), "{lines:#?}");
    let wrong = lines_of(&["consume", "--batch-size", "0"], true);
    assert!(wrong.len() > 1 && wrong.iter().all(|line| line.starts_with("<3>")), "{wrong:#?}");
    let elsewhere = lines_of(&run, false);
    assert!(elsewhere.iter().all(|line| !line.starts_with('<')), "{elsewhere:#?}");
}
