//! A run seen from outside: health, metrics, its state as JSON, a page for people, and two commands.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the page (`page.html`), one file without anything from elsewhere |
//! | `GET /livez` | 200 as long as the threads show life, else 503 ([`health`]) |
//! | `GET /readyz` | 200 once the group has said which partitions are ours, and until the run ends; and how the sink is |
//! | `GET /metrics` | Prometheus text ([`metrics`]) |
//! | `GET /status` | the statistics, the last half hour, as JSON |
//! | `POST /partitions/{topic}/{partition}/pause`, `…/resume` | 202; who may: `guard` |
//!
//! A blocking server: two threads answer, so that a question about life is answered while another waits for the loop; one
//! more remembers the last half hour, for whoever opens the page at three in the morning.

mod guard;
pub mod health;
mod history;
mod listener;
pub mod metrics;

use std::io::Cursor;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde_json::json;
use tiny_http::{Header, Method, Request, Response};

use self::guard::Guard;
use self::health::{Heart, Verdict};
use self::history::{History, STEP};
use self::listener::Listener;
use crate::core::record::TopicPartition;
use crate::core::secret::Secret;
use crate::core::statistics::{PartitionStatistics, Statistics};
use crate::door;
use crate::ops::process::Process;

/// The run that is shown and steered.
pub trait Run: Send + Sync {
    /// A snapshot made now, or the last one when none can be made.
    fn statistics(&self) -> Statistics;
    /// Starts no further write of a partition.
    fn pause(&self, partition: &TopicPartition);
    /// Lifts that.
    fn resume(&self, partition: &TopicPartition);
}

/// Where to listen, and who may steer.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// `host:port`; port 0 takes a free one.
    pub address: String,
    /// What whoever steers must know; needed where the address is not this machine's own.
    pub token: Option<Secret>,
}

/// An address that is listened on, before there is a run to show: so a port that is taken ends the program at once.
pub struct Listening {
    listener: Listener,
    guard: Guard,
}

/// The server at work; dropped, it ends.
pub struct HttpServer {
    listener: Arc<Listener>,
    /// Disconnected, it ends the threads.
    closing: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

const ANSWERING_THREADS: usize = 2;
/// A client that takes nothing of its answer for so long is given up: it holds up a thread that answers.
const CLIENT_PATIENCE: Duration = Duration::from_secs(10);
const PAGE: &str = include_str!("page.html");

impl Listening {
    /// Listens.
    ///
    /// # Errors
    /// What stands in the way, with what to do.
    pub fn open(options: &HttpOptions) -> Result<Self, String> {
        Self::open_with(options, CLIENT_PATIENCE)
    }

    fn open_with(options: &HttpOptions, patience: Duration) -> Result<Self, String> {
        let HttpOptions { address, token } = options;
        let failed = |error: &dyn std::fmt::Display| format!("--http {address}: cannot listen there: {error}");
        let found = address.to_socket_addrs().map_err(|error| failed(&error))?.next();
        let found = found.ok_or_else(|| failed(&"the name has no address"))?;
        let listener = TcpListener::bind(found).map_err(|error| failed(&error))?;
        let listener = Listener::new(listener, patience).map_err(|error| failed(&error))?;
        let guard = Guard::new(listener.address.ip().is_loopback(), token.clone());
        Ok(Self { listener, guard })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listener.address
    }

    /// Whether steering is possible at all: not from other machines without a token.
    pub fn can_steer(&self) -> bool {
        self.guard.can_steer()
    }

    /// Starts to answer: `konekt-http-N`, and `konekt-history`.
    pub fn serve(self, run: Arc<dyn Run>, heart: Arc<Heart>) -> HttpServer {
        let listener = Arc::new(self.listener);
        let history = Arc::new(History::default());
        let (closing, closed) = bounded(0);
        let mut threads = Vec::with_capacity(ANSWERING_THREADS + 1);
        let (seen, remembered, told) = (Arc::clone(&run), Arc::clone(&history), Arc::clone(&heart));
        let ended = closed.clone();
        threads.push(door::spawn("konekt-history", move || remember(&*seen, &remembered, &told, &ended)));
        let site = Arc::new(Site { run, heart, history, guard: self.guard, policy: guard::policy_of(PAGE) });
        for number in 0..ANSWERING_THREADS {
            let (listener, site, closed) = (Arc::clone(&listener), Arc::clone(&site), closed.clone());
            threads.push(door::spawn(format!("konekt-http-{number}"), move || {
                listener.hand_on(&closed, |request| site.answer(request));
            }));
        }
        HttpServer { listener, closing: Some(closing), threads }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.closing = None;
        (0..ANSWERING_THREADS).for_each(|_| self.listener.unblock());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread of the HTTP server panicked; this is a defect, please report it");
            }
        }
    }
}

fn remember(run: &dyn Run, history: &History, heart: &Heart, closed: &Receiver<()>) {
    loop {
        let statistics = run.statistics();
        heart.note_source(statistics.source_silent_seconds);
        history.add(&statistics);
        if closed.recv_timeout(STEP) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// What is served.
struct Site {
    run: Arc<dyn Run>,
    heart: Arc<Heart>,
    history: Arc<History>,
    guard: Guard,
    /// The page's Content-Security-Policy.
    policy: String,
}

/// An answer before it is sent.
struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Answer {
    fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into() + "\n" }
    }

    fn json(status: u16, body: &impl serde::Serialize) -> Self {
        match serde_json::to_string(body) {
            Ok(text) => Self { status, kind: "application/json", body: text + "\n" },
            Err(error) => Self::text(500, format!("cannot be written as JSON: {error}")),
        }
    }
}

impl Site {
    fn answer(&self, request: Request) {
        let answer = match self.guard.refuses(&request) {
            Some(why) => Answer::text(403, why),
            None => self.route(&request),
        };
        let mut response = Response::new(
            answer.status.into(),
            vec![header("Content-Type", answer.kind)],
            Cursor::new(answer.body.as_bytes()),
            Some(answer.body.len()),
            None,
        );
        let page = if answer.kind.starts_with("text/html") { self.policy.as_str() } else { "default-src 'none'" };
        for (name, value) in [
            ("Content-Security-Policy", page),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
        ] {
            response.add_header(header(name, value));
        }
        // Whoever asked may be gone.
        let _ = request.respond(response);
    }

    fn route(&self, request: &Request) -> Answer {
        let path = request.url().split(['?', '#']).next().unwrap_or_default();
        match (request.method(), path) {
            (Method::Get | Method::Head, "/") => {
                Answer { status: 200, kind: "text/html; charset=utf-8", body: PAGE.to_owned() }
            }
            (Method::Get | Method::Head, "/livez") => self.health(health::liveness(&self.heart)),
            (Method::Get | Method::Head, "/readyz") => self.health(health::readiness(&self.run.statistics())),
            (Method::Get | Method::Head, "/metrics") => {
                let body = metrics::text(&self.run.statistics(), &Process::now());
                Answer { status: 200, kind: "text/plain; version=0.0.4; charset=utf-8", body }
            }
            (Method::Get | Method::Head, "/status") => self.status(),
            (Method::Post, path) => self.steer(request, path),
            _ => Answer::text(404, "there is /, /livez, /readyz, /metrics, /status"),
        }
    }

    fn health(&self, verdict: Verdict) -> Answer {
        Answer::json(if verdict.well { 200 } else { 503 }, &verdict)
    }

    fn status(&self) -> Answer {
        let statistics = self.run.statistics();
        Answer::json(
            200,
            &json!({
                "konekt": env!("CARGO_PKG_VERSION"),
                "live": health::liveness(&self.heart),
                "ready": health::readiness(&statistics),
                "steering": self.guard.steering(),
                "history": { "step_seconds": STEP.as_secs(), "samples": self.history.samples() },
                "statistics": statistics,
            }),
        )
    }

    fn steer(&self, request: &Request, path: &str) -> Answer {
        let Some((partition, is_pause)) = steering(path) else {
            return Answer::text(404, "there is POST /partitions/{topic}/{partition}/pause, and …/resume");
        };
        if let Err((status, why)) = self.guard.lets_steer(request) {
            return Answer::text(status, why);
        }
        let what = if is_pause { "pause" } else { "resume" };
        log::info!("{partition}: {what} asked for over HTTP");
        let is_it = |of: &PartitionStatistics| *of.topic == *partition.topic && of.partition == partition.partition;
        let is_ours = self.run.statistics().partitions.iter().any(is_it);
        if !is_ours {
            log::warn!(
                "{partition} is not ours now: whoever has it goes on as before until it starts the partition anew"
            );
        }
        match is_pause {
            true => self.run.pause(&partition),
            false => self.run.resume(&partition),
        }
        Answer::json(202, &json!({ "partition": partition.to_string(), "asked": what, "ours": is_ours }))
    }
}

/// The partition and whether it is to be paused, of `/partitions/{topic}/{partition}/pause` and `…/resume`. A topic's
/// name has no character that would be encoded.
fn steering(path: &str) -> Option<(TopicPartition, bool)> {
    let (topic, rest) = path.strip_prefix("/partitions/")?.split_once('/')?;
    let (partition, what) = rest.split_once('/')?;
    let partition: i32 = partition.parse().ok().filter(|number| *number >= 0)?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_pause = match what {
        "pause" => true,
        "resume" => false,
        _ => return None,
    };
    let named = (1..=249).contains(&topic.len()) && topic.bytes().all(is_name);
    named.then(|| (TopicPartition::new(topic, partition), is_pause))
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("the names and values above are ASCII without line ends")
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::TcpStream;

    use super::*;

    struct Idle;

    impl Run for Idle {
        fn statistics(&self) -> Statistics {
            Statistics::default()
        }

        fn pause(&self, _partition: &TopicPartition) {}

        fn resume(&self, _partition: &TopicPartition) {}
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_client_that_reads_nothing_does_not_keep_the_others_from_their_answers() {
        let options = HttpOptions { address: "127.0.0.1:0".to_owned(), token: None };
        let listening = Listening::open_with(&options, Duration::from_millis(500)).unwrap();
        let address = listening.address();
        let _server = listening.serve(Arc::new(Idle), Arc::new(Heart::default()));
        let mut greedy = TcpStream::connect(address).unwrap();
        greedy.write_all(&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000)).unwrap();
        let mut probe = TcpStream::connect(address).unwrap();
        probe.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        probe.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        let read = probe.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{read:?} {answer}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_listener_that_fails_is_opened_anew() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cut = listener.try_clone().unwrap();
        let listener = Listener::new(listener, CLIENT_PATIENCE).unwrap();
        let listening = Listening { listener, guard: Guard::new(true, None) };
        let address = listening.address();
        let server = listening.serve(Arc::new(Idle), Arc::new(Heart::default()));
        let is_alive = || {
            let mut probe = TcpStream::connect(address)?;
            probe.set_read_timeout(Some(Duration::from_secs(5)))?;
            probe.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            probe.read_to_string(&mut answer)?;
            io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
        };
        assert!(is_alive().unwrap());
        // What accepts gets an error, as it does when the process has no file descriptor left.
        socket2::SockRef::from(&cut).shutdown(std::net::Shutdown::Both).unwrap();
        drop(cut);
        let until = door::now() + Duration::from_secs(10);
        while !is_alive().unwrap_or(false) {
            assert!(door::now() < until, "it listens again within seconds");
            door::sleep(Duration::from_millis(50));
        }
        drop(server);
        while TcpStream::connect(address).is_ok() {
            assert!(door::now() < until, "it is closed with the server");
            door::sleep(Duration::from_millis(50));
        }
    }

    #[test]
    fn only_a_partition_and_one_of_two_words_steer() {
        let cases = [
            ("/partitions/orders/3/pause", Some(("orders/3", true))),
            ("/partitions/a.b_c-D9/0/resume", Some(("a.b_c-D9/0", false))),
            ("/partitions/orders/-1/pause", None),
            ("/partitions/orders/3/stop", None),
            ("/partitions/orders/3", None),
            ("/partitions//3/pause", None),
            ("/partitions/a%2Fb/3/pause", None),
            ("/partitions/a\u{e4}/3/pause", None),
            ("/partitions/orders/3/pause/", None),
        ];
        for (path, expected) in cases {
            let found = steering(path).map(|(partition, is_pause)| (partition.to_string(), is_pause));
            assert_eq!(found, expected.map(|(name, is_pause)| (name.to_owned(), is_pause)), "{path}");
        }
    }
}
