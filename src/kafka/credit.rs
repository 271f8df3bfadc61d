//! How many chunks of one partition may be outstanding: a partition whose reader is slow is not fetched, and holds
//! nobody else up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

/// Wakes a fetcher that has nothing to ask for.
#[derive(Clone)]
pub struct Wake(Sender<()>);

impl Wake {
    /// A wake and what it is heard at. One unheard wake is as good as many.
    pub fn channel() -> (Wake, Receiver<()>) {
        let (sender, receiver) = bounded(1);
        (Wake(sender), receiver)
    }

    /// Wakes whoever listens.
    pub fn wake(&self) {
        let _ = self.0.try_send(()); // full: already awake; closed: nobody listens any more
    }
}

/// One partition's credit. Clones are the same.
#[derive(Clone)]
pub struct Credit(Arc<Shared>);

struct Shared {
    limit: usize,
    outstanding: AtomicUsize,
    fetcher: Mutex<Option<Wake>>,
}

impl Credit {
    /// Credit for `limit` chunks.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit: limit.max(1), outstanding: AtomicUsize::new(0), fetcher: Mutex::default() }))
    }

    /// Says who is to be woken when credit comes back.
    pub fn wakes(&self, fetcher: Wake) {
        *self.0.fetcher.lock() = Some(fetcher);
    }

    /// Whether another chunk may be fetched.
    pub fn is_available(&self) -> bool {
        self.0.outstanding.load(Ordering::Acquire) < self.0.limit
    }

    /// Takes credit for one chunk; dropping the token gives it back.
    pub fn take(&self) -> CreditToken {
        self.0.outstanding.fetch_add(1, Ordering::AcqRel);
        CreditToken(self.clone())
    }
}

/// One outstanding chunk.
pub struct CreditToken(Credit);

impl Drop for CreditToken {
    fn drop(&mut self) {
        let shared = &self.0.0;
        if shared.outstanding.fetch_sub(1, Ordering::AcqRel) == shared.limit
            && let Some(fetcher) = &*shared.fetcher.lock()
        {
            fetcher.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_runs_out_and_its_return_wakes_the_fetcher() {
        let (wake, woken) = Wake::channel();
        let credit = Credit::new(2);
        credit.wakes(wake);
        let (first, second) = (credit.take(), credit.take());
        assert!(!credit.is_available());
        drop(first);
        assert!(credit.is_available());
        assert!(woken.try_recv().is_ok());
        drop(second);
        assert!(woken.try_recv().is_err(), "there was credit already: no need to wake");
    }
}
