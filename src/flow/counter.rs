//! What went through a step so far, and what its threads spent their time on. Every stage adds to one; the display, the devices'
//! figures and `speed.json` read it.

use super::timeline::{self, Spent};
use calostream_operators::meter;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What went through a step so far, in this process.
#[derive(Debug, Default)]
pub struct Counter {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Bytes that stand in front of the step's threads.
    queued: AtomicU64,
    /// Nanoseconds, by [`Spent`], over all threads.
    spent: [AtomicU64; 3],
    /// Nanoseconds that its threads waited for storage, of those that they worked.
    storage: AtomicU64,
    /// The name of the step, for a timeline.
    step: Option<Arc<str>>,
}

impl Counter {
    /// Of the step of this name.
    #[must_use]
    pub fn of(step: &str) -> Self {
        Self { step: Some(step.into()), ..Self::default() }
    }

    /// Rows, bytes, and nanoseconds by [`Spent`] so far.
    #[must_use]
    pub fn total(&self) -> (u64, u64, [u64; 3]) {
        let Seen { rows, bytes, spent, .. } = self.see();
        (rows, bytes, spent)
    }

    /// Adds a batch.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Does something and adds the time that it took.
    pub fn spend<T>(&self, on: Spent, what: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let made = what();
        let lasted = start.elapsed();
        let nanoseconds = u64::try_from(lasted.as_nanos()).unwrap_or(u64::MAX);
        self.spent[on as usize].fetch_add(nanoseconds, Ordering::Relaxed);
        timeline::keep(self.step.as_ref(), on, start, lasted);
        made
    }

    /// Does some work that reads from storage, and adds how long it took and how much of that was for storage.
    pub fn read<T>(&self, what: impl FnOnce() -> T) -> T {
        let before = meter::read_so_far();
        let made = self.spend(Spent::Busy, what);
        self.storage.fetch_add(meter::read_so_far() - before, Ordering::Relaxed);
        made
    }

    /// Nanoseconds of its work that were for storage.
    #[must_use]
    pub fn storage(&self) -> u64 {
        self.storage.load(Ordering::Relaxed)
    }

    /// Bytes now stand in the queue.
    pub fn queue(&self, bytes: u64) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes left the queue.
    pub fn dequeue(&self, bytes: u64) {
        self.queued.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The counter at this moment.
    pub(super) fn see(&self) -> Seen {
        let read = |n: &AtomicU64| n.load(Ordering::Relaxed);
        Seen {
            rows: read(&self.rows),
            bytes: read(&self.bytes),
            queued: read(&self.queued),
            spent: self.spent.each_ref().map(read),
        }
    }
}

/// A counter at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub rows: u64,
    pub bytes: u64,
    pub queued: u64,
    pub spent: [u64; 3],
}

/// What each step did in a go of so many seconds: rows and bytes that came, and the shares of the time of `threads` threads
/// that it worked, waited for its input, and waited for room behind it.
#[must_use]
pub fn shares(steps: &[(String, Arc<Counter>)], seconds: f64, threads: usize) -> Value {
    let each = steps.iter().map(|(name, counter)| {
        let (rows, bytes, spent) = counter.total();
        let share = |on: Spent| (spent[on as usize] as f64 / 1e9 / seconds.max(1e-9) / threads as f64).min(1.0);
        json!({
            "step": name,
            "rows": rows,
            "rows_per_second": rows as f64 / seconds.max(1e-9),
            "bytes": bytes,
            "busy": share(Spent::Busy),
            "waiting_for_input": share(Spent::Hungry),
            "waiting_for_room": share(Spent::Blocked),
        })
    });
    json!({ "seconds": seconds, "threads": threads, "steps": each.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn shares_are_of_all_threads() {
        let counter = Arc::new(Counter::default());
        counter.add(50, 4000);
        counter.spend(Spent::Busy, || std::thread::sleep(Duration::from_millis(30)));
        let said = shares(&[("predicted".into(), counter)], 0.1, 2);
        let step = &said["steps"][0];
        assert_eq!(
            (&step["rows"], &step["rows_per_second"], &step["waiting_for_input"]),
            (&json!(50), &json!(500.0), &json!(0.0))
        );
        let busy = step["busy"].as_f64().unwrap();
        assert!((0.15..0.6).contains(&busy), "{busy}");
    }
}
