//! The status page in a browser, during real runs: a healthy flow, a partition paused by hand, a database that died. Each
//! must say what is the matter in one sentence, fit a phone, and reach no other site.
//!
//! The pictures are left in `target/tmp/page`; with `KONEKT_PAGE_SECONDS` the runs go on for longer before they are taken.
#![allow(clippy::disallowed_methods, reason = "tests stand outside the door")]

mod browser;
#[path = "../support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use browser::Browser;
use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::wire::builder::RecordBatchBuilder;
use konekt::kafka::wire::compression::Codec;
use serde_json::Value;
use support::http::{ask, get};
use support::kafka::free_port;
use support::konekt::{Konekt, Place, Running};
use support::{databases, or_skip, wait};

const SOON: Duration = Duration::from_secs(90);
const PARTITIONS: i32 = 6;
/// Phone and desktop.
const SIZES: [(&str, u32, u32); 2] = [("phone", 390, 844), ("desktop", 1280, 800)];

/// A broker into which orders go all the time, at a rate that breathes.
struct Scene {
    broker: Arc<Broker>,
    place: Place,
    port: u16,
    over: Arc<AtomicBool>,
    producer: Option<JoinHandle<()>>,
}

impl Scene {
    fn new() -> Self {
        let topics = vec![TopicSpec::new("orders", PARTITIONS)];
        let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
        let (broker, over) = (Arc::new(broker), Arc::new(AtomicBool::new(false)));
        let (into, ended) = (Arc::clone(&broker), Arc::clone(&over));
        let producer = std::thread::spawn(move || {
            let mut number = 0;
            while !ended.load(Ordering::Relaxed) {
                (0..PARTITIONS).for_each(|partition| produce(&into, partition, &mut number));
                wait::pause(Duration::from_millis(100));
            }
        });
        Self { broker, place: Place::new(), port: free_port(), over, producer: Some(producer) }
    }

    fn start(&self, konekt: Konekt) -> Running {
        let (address, broker) = (format!("127.0.0.1:{}", self.port), self.broker.address());
        let running = konekt
            .arguments(&["--bootstrap-servers", &broker, "--topics", "orders", "--group-id", "billing"])
            .arguments(&["--http", &address, "--stats-interval-ms", "1000"])
            .start();
        wait::until("it shows itself", SOON, || ask(self.port, "GET", "/livez", &[]));
        running
    }

    fn status(&self) -> Value {
        get(self.port, "/status").json()
    }

    /// Waits until the plots have something to show.
    fn let_it_run(&self) {
        let seconds = std::env::var("KONEKT_PAGE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let begun = Instant::now();
        wait::until("there is a past to show", SOON + Duration::from_secs(seconds), || {
            let samples = self.status()["history"]["samples"].as_array().map_or(0, Vec::len);
            (samples >= 3 && begun.elapsed().as_secs() >= seconds).then_some(())
        });
    }

    /// Looks at the page on a phone and on a desktop, by day and by night: what it says, and that nothing sticks out.
    fn look(&self, name: &str, mood: &str, sentence: &str) {
        let Some(mut browser) = or_skip(Browser::start()) else { return };
        let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
        std::fs::create_dir_all(&pictures).expect("a folder for pictures");
        for (size, width, height) in SIZES {
            for (light, dark) in [("light", false), ("dark", true)] {
                browser.show_at(width, height, dark);
                browser.open(&format!("http://127.0.0.1:{}/", self.port));
                let said = browser.run("document.querySelector('#verdict strong').textContent");
                let said = said.as_str().unwrap_or_default();
                assert!(said.contains(sentence), "{name}: {said:?} does not say {sentence:?}");
                let class = browser.run("document.querySelector('#verdict').className");
                assert_eq!(class, format!("verdict {mood}"), "{name}: {said}");
                let too_wide = browser.run("document.documentElement.scrollWidth - window.innerWidth");
                assert_eq!(too_wide, 0, "{name} at {width}: sticks out");
                assert_eq!(browser.run("document.querySelectorAll('tbody tr').length"), PARTITIONS, "{name}");
                assert_eq!(
                    browser.run("document.querySelectorAll('.plot polyline').length > 1"),
                    true,
                    "{name}: plots"
                );
                let foreign =
                    "performance.getEntriesByType('resource').filter(r => !r.name.startsWith(location.origin)).length";
                assert_eq!(browser.run(foreign), 0, "{name}: asks other sites");
                browser.picture(&pictures.join(format!("{name}-{size}-{light}.png")));
            }
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(producer) = self.producer.take() {
            producer.join().ok();
        }
    }
}

fn produce(broker: &Broker, partition: i32, number: &mut u64) {
    let mut batch = RecordBatchBuilder::default();
    let wave = 60.0 + 40.0 * (*number as f64 / 40_000.0).sin();
    for _ in 0..wave as u64 {
        *number += 1;
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
        let word = if number.is_multiple_of(20_011) { "broken" } else { "order" };
        let value = format!(r#"{{"{word}":{number},"customer":"c-{}","cents":{}}}"#, *number % 997, *number % 90_001);
        batch.append(Some(&number.to_be_bytes()), Some(value.as_bytes()), &[], now);
    }
    broker.append("orders", partition, batch.finish(Codec::None).expect("a batch"));
}

fn sqlite(scene: &Scene) -> Konekt {
    scene.place.konekt(&["sink", "sqlite", "--db", "shop.db"])
}

#[test]
fn a_healthy_flow_is_seen_as_such() {
    let scene = Scene::new();
    let running = scene.start(sqlite(&scene));
    scene.let_it_run();
    wait::until("it is nearly caught up", SOON, || {
        (scene.status()["statistics"]["lag_records"].as_u64()? < 100_000).then_some(())
    });
    scene.look("healthy", "well", "");
    running.stop("TERM", SOON).expect_code(0);
}

#[test]
fn a_partition_paused_by_hand_is_seen_and_resumed_with_its_button() {
    let scene = Scene::new();
    let running = scene.start(sqlite(&scene));
    let state = |partition: usize| scene.status()["statistics"]["partitions"][partition]["state"].clone();
    wait::until("it runs", SOON, || (state(3) == "running").then_some(()));
    assert_eq!(ask(scene.port, "POST", "/partitions/orders/3/pause", &[]).map(|answer| answer.status), Some(202));
    wait::until("it is paused", SOON, || (state(3) == "paused").then_some(()));
    scene.let_it_run();
    scene.look("paused", "wait", "1 partition is paused by hand");
    if let Some(mut browser) = or_skip(Browser::start()) {
        browser.show_at(1280, 800, false);
        browser.open(&format!("http://127.0.0.1:{}/", scene.port));
        assert_eq!(
            browser.run("document.querySelector('tbody .name-cell').firstChild.textContent"),
            "orders/3",
            "it stands first"
        );
        browser.run("document.querySelector('tbody button').click()");
        wait::until("the button has resumed it", SOON, || (state(3) == "running").then_some(()));
    }
    running.stop("TERM", SOON).expect_code(0);
}

#[test]
fn a_database_that_died_is_seen_and_its_return() {
    let Some(server) = or_skip(databases::own_postgres()) else { return };
    let scene = Scene::new();
    let connection = server.database().connection_string();
    let konekt = scene.place.konekt(&["sink", "odbc", "--connection-timeout", "5"]);
    let running = scene.start(konekt.variable("ODBC_CONNECTION_STRING", &connection));
    let reachable = || scene.status()["statistics"]["sink"]["reachable"].clone();
    wait::until("it writes", SOON, || (reachable() == true).then_some(()));
    scene.let_it_run();
    server.stop();
    wait::until("it notices", SOON, || (reachable() == false).then_some(()));
    scene.let_it_run();
    scene.look("dead-database", "bad", "The database is away");
    let ready = get(scene.port, "/readyz");
    assert_eq!(ready.status, 200, "waiting on purpose is no reason for a restart: {}", ready.body);
    assert!(ready.json()["sink"].as_str().expect("a word").starts_with("waiting: "), "{}", ready.body);
    server.start_again().expect("it comes back");
    wait::until("it writes again", SOON, || (reachable() == true).then_some(()));
    let ended = running.stop("TERM", SOON).expect_code(0);
    assert!(!ended.stderr.contains("UNACCOUNTED"), "{}", ended.stderr);
}
