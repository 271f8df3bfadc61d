//! Where requests come from, and go on coming from: `tiny_http` listens no more after the first connection that it cannot
//! accept, be it that the process has no file descriptor left for a moment. Then another server listens in its place.
//! A connection that was open before is not answered any more; its client opens another one after its time-out.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, TryRecvError};
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tiny_http::{Request, Server};

/// How long to wait before listening anew, and again when that fails.
const PAUSE: Duration = Duration::from_secs(1);
/// A client that says nothing for so long is asked whether it is still there: each has a thread that listens to it.
const CLIENT_SILENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Listener {
    pub address: SocketAddr,
    /// A client that takes nothing of its answer for so long is given up.
    patience: Duration,
    server: Mutex<Arc<Server>>,
}

impl Listener {
    pub fn new(listener: TcpListener, patience: Duration) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { address, patience, server: Mutex::new(serve(listener, patience)?) })
    }

    /// Hands requests on until `closed` is disconnected and [`Listener::unblock`] was called. For several threads.
    pub fn hand_on(&self, closed: &Receiver<()>, answer: impl Fn(Request)) {
        loop {
            let server = Arc::clone(&self.server.lock());
            let error = loop {
                match server.recv() {
                    Ok(request) => answer(request),
                    Err(error) => break error,
                }
            };
            if !self.goes_on(&server, &error, closed) {
                return;
            }
        }
    }

    /// Lets one thread that waits for a request look whether there is an end.
    pub fn unblock(&self) {
        self.server.lock().unblock();
    }

    /// Whether another server listens in place of the one that ended, by this thread or by another one.
    fn goes_on(&self, ended: &Arc<Server>, error: &io::Error, closed: &Receiver<()>) -> bool {
        let mut server = self.server.lock();
        if closed.try_recv() == Err(TryRecvError::Disconnected) {
            return false;
        }
        if !Arc::ptr_eq(&server, ended) {
            return true;
        }
        let address = self.address;
        log::warn!("--http {address}: a connection could not be accepted: {error}; listens anew every {PAUSE:?}");
        while closed.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
            match TcpListener::bind(address).and_then(|listener| serve(listener, self.patience)) {
                Ok(next) => {
                    log::info!("--http {address}: listens again");
                    *server = next;
                    ended.unblock();
                    return true;
                }
                Err(error) => log::debug!("--http {address}: {error}"),
            }
        }
        false
    }
}

fn serve(listener: TcpListener, patience: Duration) -> io::Result<Arc<Server>> {
    give_up_clients_after(patience, &listener)?;
    Server::from_listener(listener, None).map(Arc::new).map_err(io::Error::other)
}

/// Holds for the connections that are accepted.
fn give_up_clients_after(patience: Duration, listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(CLIENT_SILENCE))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(patience))?;
    #[cfg(not(target_os = "linux"))]
    let _ = patience; // others have nothing like it
    Ok(())
}
