//! The byte budget: a reader takes a permit before it reads, the permit rides with the data, and whoever drops the data
//! last gives it back.
//!
//! Timely has no flow control of its own; this is ours, together with the window in [`super::source`]. A permit larger than
//! the whole budget is given when nothing else is out, so that one large batch is slow and not stuck.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// Bytes that data under way may take in this process.
#[derive(Debug)]
pub struct Budget {
    limit: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

/// A share of the budget; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
    /// What it was taken for, see [`Permit::on_behalf`].
    task: Option<Arc<()>>,
}

impl Budget {
    /// A budget of this many bytes.
    pub fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: Mutex::new(0), freed: Condvar::new() })
    }

    /// Waits for `bytes`; nothing when `stop` says that the run is over.
    pub fn take(self: &Arc<Self>, bytes: u64, stop: &dyn Fn() -> bool) -> Option<Permit> {
        let mut used = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while *used > 0 && *used + bytes > self.limit {
            if stop() {
                return None;
            }
            // A time limit only so that a stop is seen.
            used = self.freed.wait_timeout(used, Duration::from_millis(50)).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
        *used += bytes;
        Some(Permit { budget: Arc::clone(self), bytes, task: None })
    }

    /// Bytes that are out.
    pub fn used(&self) -> u64 {
        *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The limit.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

impl Permit {
    /// Says what the memory is for: whoever has the other end sees by its count whether anything of it is still out.
    pub fn on_behalf(&mut self, task: &Arc<()>) {
        self.task = Some(Arc::clone(task));
    }

    /// The batch turned out to take this many bytes: the rest is given back, what is missing is taken without waiting
    /// (the memory is taken already).
    pub fn settle(&mut self, bytes: u64) {
        let mut used = self.budget.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *used = *used + bytes - self.bytes;
        self.bytes = bytes;
        self.budget.freed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *self.budget.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner) -= self.bytes;
        self.budget.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn never_more_is_out_than_the_limit_but_one_large_piece_passes() {
        let (budget, out, peak) = (Budget::new(10), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    for _ in 0..200 {
                        let permit = budget.take(3, &|| false).unwrap();
                        peak.fetch_max(out.fetch_add(3, Ordering::SeqCst) + 3, Ordering::SeqCst);
                        std::thread::yield_now();
                        out.fetch_sub(3, Ordering::SeqCst);
                        drop(permit);
                    }
                });
            }
        });
        assert!(peak.load(Ordering::SeqCst) <= 10, "{peak:?}");
        assert_eq!(budget.used(), 0);
        let mut large = budget.take(1000, &|| false).unwrap();
        assert!(budget.take(1, &|| true).is_none());
        large.settle(2);
        assert!(budget.take(8, &|| true).is_some());
    }
}
