//! Accepts connections, gives each a thread, and knows them all so that they can be cut.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::{Shared, connection};
use crate::door;

/// More connections than any test opens; beyond it a client in a loop would eat all threads.
const CONNECTIONS_MAX: usize = 1_000;
/// How long to wait after a failed accept, which is mostly for want of file handles.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long waking the accept thread may take.
const WAKE_TIMEOUT: Duration = Duration::from_secs(1);

/// The open connections.
#[derive(Default)]
pub struct Connections {
    open: Mutex<Vec<Open>>,
}

/// The socket belongs to its thread; here it is only known, so that it closes when the thread ends.
struct Open {
    socket: Weak<TcpStream>,
    thread: JoinHandle<()>,
}

impl Connections {
    /// Shuts every socket down; their threads end by themselves.
    pub fn cut_all(&self) {
        for socket in self.open.lock().iter().filter_map(|open| open.socket.upgrade()) {
            // An error says that the connection is gone already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn add(&self, open: Open) {
        self.open.lock().push(open);
    }

    /// Joins the threads that have ended and counts the others.
    fn reap(&self) -> usize {
        let mut open = self.open.lock();
        let (ended, running): (Vec<_>, Vec<_>) = open.drain(..).partition(|open| open.thread.is_finished());
        *open = running;
        ended.into_iter().for_each(join);
        open.len()
    }

    fn join_all(&self) {
        let all = std::mem::take(&mut *self.open.lock());
        all.into_iter().for_each(join);
    }
}

fn join(open: Open) {
    if open.thread.join().is_err() {
        ::log::error!("a connection of the embedded broker panicked; its message stands on stderr");
    }
}

/// Accepts until the broker stops, then cuts and joins all connections.
pub fn run(shared: &Arc<Shared>, listener: &TcpListener) {
    for number in 0u64.. {
        let accepted = listener.accept();
        if shared.stop.is_raised() {
            break;
        }
        match accepted {
            Ok((socket, peer)) => open(shared, number, socket, peer),
            Err(error) => {
                ::log::warn!("embedded broker: cannot accept a connection: {error}");
                if shared.stop.comes_within(ACCEPT_RETRY) {
                    break;
                }
            }
        }
    }
    shared.connections.cut_all();
    shared.connections.join_all();
}

fn open(shared: &Arc<Shared>, number: u64, socket: TcpStream, peer: SocketAddr) {
    if shared.connections.reap() >= CONNECTIONS_MAX {
        ::log::warn!("embedded broker: {peer} is refused, {CONNECTIONS_MAX} connections are open");
        return;
    }
    let socket = Arc::new(socket);
    let known = Arc::downgrade(&socket);
    let for_thread = Arc::clone(shared);
    let thread = door::spawn(format!("konekt-broker-conn-{number}"), move || {
        connection::serve(&for_thread, &socket, peer);
    });
    shared.connections.add(Open { socket: known, thread });
}

/// Connects once, so that a blocked accept returns and sees the stop.
pub fn wake(listening: SocketAddr) -> io::Result<()> {
    let mut address = listening;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    TcpStream::connect_timeout(&address, WAKE_TIMEOUT).map(drop)
}
