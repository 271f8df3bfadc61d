//! Memory for fetched frames: used again, and accounted to the [`MemoryBudget`].
//!
//! A fetcher reserves what an answer may need before it asks ([`Reservation`]). The frame then keeps what it really
//! takes and gives the rest back. Its records cross the threads as slices of the frame; when the last of them is
//! dropped, the vector returns to the [`BufferPool`] and its bytes to the budget.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::connection::{Frame, FrameSource};
use crate::port::{MemoryBudget, MemoryTurn};

/// A claimed length makes us allocate at most this before bytes have come, or what was reserved if that is more.
const FRAME_BYTES_AT_ONCE: usize = 1 << 20;
/// A vector is used for a frame of at least this part of it: a small frame must not hold a large vector.
const USED_PART_MIN: usize = 4;

/// Vectors waiting to be used again. Not in the budget: they hold at most `idle_bytes_max` together.
pub struct BufferPool {
    idle: Mutex<Vec<Vec<u8>>>,
    idle_bytes_max: usize,
    budget: Arc<MemoryBudget>,
}

impl BufferPool {
    /// A pool that keeps up to `idle_bytes_max` bytes for later.
    pub fn new(budget: Arc<MemoryBudget>, idle_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { idle: Mutex::default(), idle_bytes_max, budget })
    }

    /// A place in the queue for room in the budget.
    pub fn turn(&self) -> MemoryTurn {
        MemoryTurn::new(Arc::clone(&self.budget))
    }

    /// Sets `bytes` of the budget aside, waiting up to `wait` for its turn and room.
    pub fn reserve(self: &Arc<Self>, turn: &mut MemoryTurn, bytes: usize, wait: Duration) -> Option<Reservation> {
        turn.reserve(bytes, wait).then(|| Reservation { pool: Arc::clone(self), bytes })
    }

    /// The smallest vector that fits without being far too large, or a new one.
    fn take(&self, bytes: usize) -> Vec<u8> {
        let mut idle = self.idle.lock();
        let fits = |buffer: &Vec<u8>| (bytes..=bytes.saturating_mul(USED_PART_MIN)).contains(&buffer.capacity());
        let fitting = (0..idle.len()).filter(|&at| fits(&idle[at]));
        match fitting.min_by_key(|&at| idle[at].capacity()) {
            Some(at) => idle.swap_remove(at),
            None => Vec::with_capacity(bytes),
        }
    }

    /// Keeps the vector if there is room; older ones leave first, since they fitted less often.
    fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut idle = self.idle.lock();
        idle.push(buffer);
        let mut bytes: usize = idle.iter().map(Vec::capacity).sum();
        while bytes > self.idle_bytes_max {
            bytes -= idle.remove(0).capacity();
        }
    }
}

/// Bytes of the budget for an answer that is awaited. Dropping it gives back what no frame took.
pub struct Reservation {
    pool: Arc<BufferPool>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.pool.budget.release(self.bytes);
        }
    }
}

impl FrameSource for Reservation {
    fn frame(&mut self, length: usize) -> Box<dyn Frame> {
        let buffer = self.pool.take(length.min(self.bytes.max(FRAME_BYTES_AT_ONCE)));
        let charge = Charge { pool: Arc::clone(&self.pool), bytes: std::mem::take(&mut self.bytes) };
        let mut frame = PooledFrame { buffer, charge };
        frame.settle();
        Box::new(frame)
    }
}

/// Bytes of the budget that a frame holds.
struct Charge {
    pool: Arc<BufferPool>,
    bytes: usize,
}

impl Charge {
    fn set(&mut self, bytes: usize) {
        let budget = &self.pool.budget;
        match bytes.checked_sub(self.bytes) {
            Some(0) => {}
            // Not reserved: a batch larger than was asked for, which must come through all the same.
            Some(more) => budget.charge(more),
            None => budget.release(self.bytes - bytes),
        }
        self.bytes = bytes;
    }
}

/// A frame in a pooled vector, charged with the vector's whole capacity.
struct PooledFrame {
    buffer: Vec<u8>,
    charge: Charge,
}

impl PooledFrame {
    fn settle(&mut self) {
        self.charge.set(self.buffer.capacity());
    }
}

impl Frame for PooledFrame {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    fn freeze(mut self: Box<Self>) -> Bytes {
        self.settle();
        Bytes::from_owner(*self)
    }
}

impl AsRef<[u8]> for PooledFrame {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for PooledFrame {
    fn drop(&mut self) {
        self.charge.set(0);
        self.charge.pool.put(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(reservation: &mut Reservation, length: usize) -> Bytes {
        let mut frame = reservation.frame(length);
        frame.buffer().extend(std::iter::repeat_n(7, length));
        frame.freeze()
    }

    #[test]
    fn a_frame_keeps_what_it_takes_until_its_last_slice_is_gone() {
        let budget = MemoryBudget::new(10_000);
        let pool = BufferPool::new(Arc::clone(&budget), 10_000);
        let mut reservation = pool.reserve(&mut pool.turn(), 8_000, Duration::ZERO).unwrap();
        let bytes = frame(&mut reservation, 1_000);
        drop(reservation);
        assert_eq!(budget.used(), 1_000);
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(budget.used(), 1_000, "a slice holds the whole frame");
        drop(slice);
        assert_eq!(budget.used(), 0);
        assert_eq!(pool.idle.lock().len(), 1);
    }

    #[test]
    fn an_answer_larger_than_reserved_is_charged_too() {
        let budget = MemoryBudget::new(1_000);
        let pool = BufferPool::new(Arc::clone(&budget), 0);
        let mut reservation = pool.reserve(&mut pool.turn(), 500, Duration::ZERO).unwrap();
        let bytes = frame(&mut reservation, 5_000);
        assert!(budget.used() >= 5_000);
        drop((bytes, reservation));
        assert_eq!((budget.used(), pool.idle.lock().len()), (0, 0));
    }

    #[test]
    fn vectors_are_used_again_for_frames_of_their_size_only() {
        let budget = MemoryBudget::new(usize::MAX);
        let pool = BufferPool::new(budget, 100_000);
        for (length, reused) in [(40_000, false), (30_000, true), (100, false), (100, true), (50_000, false)] {
            let before: Vec<*const u8> = pool.idle.lock().iter().map(|buffer| buffer.as_ptr()).collect();
            let bytes = frame(&mut pool.reserve(&mut pool.turn(), length, Duration::ZERO).unwrap(), length);
            assert_eq!(before.contains(&bytes.as_ptr()), reused, "frame of {length} bytes");
        }
        assert!(pool.idle.lock().iter().map(Vec::capacity).sum::<usize>() <= 100_000);
    }

    #[test]
    fn an_unused_reservation_returns() {
        let budget = MemoryBudget::new(100);
        let pool = BufferPool::new(Arc::clone(&budget), 0);
        drop(pool.reserve(&mut pool.turn(), 100, Duration::ZERO));
        assert_eq!(budget.used(), 0);
        let _held = pool.reserve(&mut pool.turn(), 100, Duration::ZERO);
        assert!(pool.reserve(&mut pool.turn(), 1, Duration::ZERO).is_none());
    }
}
