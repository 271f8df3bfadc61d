//! A wire between a client and a server that a test can cut, clog or slow down: a forwarder on a port of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::kafka::lock;

/// When to cut the connections as a certain message comes by on one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never gets it.
    Before,
    /// The server gets it; nobody hears of what it did with it.
    After,
    /// Nothing is cut: the server gets its beginning, and the rest when the wire is thawed.
    Within,
}

/// A wire to one port of this machine. Dropping it cuts all connections.
pub struct Link {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// Both ends of each connection.
    streams: Vec<TcpStream>,
    /// What is waited for (in capital letters), and what happens then. Once.
    trap: Option<(Vec<u8>, Cut)>,
    frozen: bool,
    /// How often it was thawed.
    thaws: u64,
    /// How long everything is under way.
    delay: Duration,
    closed: bool,
}

impl Link {
    /// A wire to `target`.
    pub fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("a bound listener").port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        std::thread::spawn(move || accept(&listener, target, &shared));
        Self { port, state }
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection that there is; new ones may come.
    pub fn cut(&self) {
        lock(&self.state.inner).cut();
    }

    /// Once, when a client sends `message`, in whatever case of letters: cuts all connections, or holds this one up.
    pub fn cut_at(&self, message: &str, when: Cut) {
        lock(&self.state.inner).trap = Some((message.to_uppercase().into_bytes(), when));
    }

    /// Whether the trap of [`cut_at`](Self::cut_at) has snapped.
    pub fn was_cut(&self) -> bool {
        lock(&self.state.inner).trap.is_none()
    }

    /// Lets nothing through any more, in either direction, and says nothing of it: a dead network.
    pub fn freeze(&self) {
        lock(&self.state.inner).frozen = true;
    }

    /// From now on everything arrives so much later, in either direction.
    pub fn delay(&self, delay: Duration) {
        lock(&self.state.inner).delay = delay;
    }

    /// Lets everything through that was held up.
    pub fn thaw(&self) {
        let mut inner = lock(&self.state.inner);
        (inner.frozen, inner.thaws) = (false, inner.thaws + 1);
        drop(inner);
        self.state.changed.notify_all();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let mut inner = lock(&self.state.inner);
        (inner.closed, inner.frozen) = (true, false);
        inner.cut();
        self.state.changed.notify_all();
        drop(inner);
        TcpStream::connect(("127.0.0.1", self.port)).ok(); // wakes the thread that accepts
    }
}

impl Inner {
    fn cut(&mut self) {
        for stream in self.streams.drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

fn accept(listener: &TcpListener, target: u16, state: &Arc<State>) {
    for client in listener.incoming() {
        if lock(&state.inner).closed {
            return;
        }
        // A server that is down refuses; its client sees the end of the connection.
        let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", target))) else { continue };
        let ends = [client, server].map(|end| {
            end.set_nodelay(true).ok();
            end
        });
        let copies = ends.each_ref().map(|end| end.try_clone().expect("a handle"));
        lock(&state.inner).streams.extend(ends.each_ref().map(|end| end.try_clone().expect("a handle")));
        let ([client, server], [client_too, server_too]) = (ends, copies);
        let (up, down) = (Arc::clone(state), Arc::clone(state));
        std::thread::spawn(move || forward(client, server, &up, true));
        std::thread::spawn(move || forward(server_too, client_too, &down, false));
    }
}

/// Copies until either end is gone.
fn forward(mut from: TcpStream, mut to: TcpStream, state: &State, upwards: bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        let mut inner = lock(&state.inner);
        while inner.frozen {
            inner = state.changed.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let sprung = inner.trap.take_if(|(message, _)| upwards && contains(&buffer[..read], message));
        match sprung {
            Some((_, Cut::Within)) => {
                let (beginning, rest) = buffer[..read].split_at(read / 2);
                to.write_all(beginning).ok();
                let thaws = inner.thaws;
                while inner.thaws == thaws && !inner.closed {
                    inner = state.changed.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
                }
                drop(inner);
                if to.write_all(rest).is_err() {
                    break;
                }
                continue;
            }
            Some((_, cut)) => {
                if cut == Cut::After {
                    // Its answer finds the way back cut already.
                    from.shutdown(Shutdown::Write).ok();
                    to.write_all(&buffer[..read]).ok();
                }
                inner.cut();
                break;
            }
            None => {}
        }
        let delay = inner.delay;
        drop(inner);
        std::thread::sleep(delay);
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

fn contains(bytes: &[u8], message: &[u8]) -> bool {
    bytes.to_ascii_uppercase().windows(message.len()).any(|window| window == message)
}
