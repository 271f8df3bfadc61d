//! An issuer of tokens for SASL OAUTHBEARER, as small as it gets: HTTP, one client, tokens without a signature.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;

/// The client that it knows, and its secret.
pub const CLIENT: [&str; 2] = ["konekt", "client-secret"];

/// A token without a signature, as the broker's validator for tests takes it.
pub fn token(life_seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() as i64;
    let claims = json!({"sub": "dave", "iat": now - 100, "exp": now + life_seconds});
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(json!({"alg": "none"})), part(claims))
}

/// A running issuer. Dropping it ends it.
pub struct Issuer {
    /// Its token endpoint.
    pub url: String,
    issued: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: String,
}

impl Issuer {
    /// Gives out tokens that live so long from now on; negative: that have ended already.
    pub fn start(life_seconds: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (issued, stopping) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stop) = (issued.clone(), stopping.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Acquire) {
                    return;
                }
                if answer(&stream.expect("a connection"), life_seconds).is_some() {
                    count.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        Self { url: format!("http://{address}/token"), issued, stopping, thread: Some(thread), address }
    }

    /// How many tokens it has given out.
    pub fn issued(&self) -> usize {
        self.issued.load(Ordering::Acquire)
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        TcpStream::connect(&self.address).ok();
        self.thread.take().map(JoinHandle::join);
    }
}

/// Answers one request; `Some` when it gave out a token.
fn answer(stream: &TcpStream, life_seconds: i64) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? <= 2 {
            break;
        }
        headers.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        headers.iter().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    };
    let mut form = vec![0; header("content-length")?.parse().ok()?];
    reader.read_exact(&mut form).ok()?;
    let basic = format!("Basic {}", STANDARD.encode(CLIENT.join(":")));
    let knows = header("authorization") == Some(basic.as_str());
    let asks = form == b"grant_type=client_credentials&scope=read+kafka"
        || form == b"grant_type=client_credentials&scope=read%20kafka";
    let (status, body) = match (knows, asks) {
        (true, true) => {
            let body = json!({"access_token": token(life_seconds), "expires_in": life_seconds.max(0)});
            ("200 OK", body)
        }
        (true, false) => ("400 Bad Request", json!({"error": "invalid_request"})),
        (false, _) => ("401 Unauthorized", json!({"error": "invalid_client", "error_description": "no such client"})),
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (&*stream).write_all((head + &body).as_bytes()).ok()?;
    status.starts_with("200").then_some(())
}
