//! What a device that runs networks did: counted where it computes, read by whoever shows it; and how long this thread waited
//! for storage.
//!
//! Times of several threads are added up. Nothing here decides anything: results never depend on it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What a device did so far.
#[derive(Debug)]
pub struct Meter {
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// True where the threads of the step compute themselves, false where a thread of the device does it for all of them.
    pub on_threads_of_the_step: bool,
    since: Instant,
    counts: [AtomicU64; 7],
}

/// The counts of a meter, or of several added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Metered {
    /// Seconds since the device was opened.
    pub open: f64,
    /// Seconds in which it computed, copies over the bus that are part of a run among them.
    pub computing: f64,
    /// Seconds in which its thread put inputs into the form that the models take.
    pub upload: f64,
    /// Seconds in which the threads of the step waited for it.
    pub waited_for: f64,
    /// Rows computed, those that only fill up not counted.
    pub rows: u64,
    /// Batches computed.
    pub batches: u64,
    /// Bytes of inputs.
    pub up: u64,
    /// Bytes of outputs.
    pub down: u64,
}

#[derive(Clone, Copy)]
enum Of {
    Computing,
    Upload,
    WaitedFor,
    Rows,
    Batches,
    Up,
    Down,
}

impl Meter {
    /// Of a device that is opened now.
    #[must_use]
    pub fn of(device: String, on_threads_of_the_step: bool) -> Self {
        Self { device, on_threads_of_the_step, since: Instant::now(), counts: Default::default() }
    }

    fn add(&self, to: Of, count: u64) {
        self.counts[to as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// A batch of so many rows was computed, which took `all`, of which `upload` went by before it began.
    pub fn computed(&self, rows: usize, all: Duration, upload: Duration) {
        self.add(Of::Computing, nanoseconds(all.saturating_sub(upload)));
        self.add(Of::Upload, nanoseconds(upload));
        self.add(Of::Rows, rows as u64);
        self.add(Of::Batches, 1);
    }

    /// So many bytes went to the device, and so many came back.
    pub fn moved(&self, up: usize, down: usize) {
        self.add(Of::Up, up as u64);
        self.add(Of::Down, down as u64);
    }

    /// A thread of the step waited for the device.
    pub fn waited(&self, lasted: Duration) {
        self.add(Of::WaitedFor, nanoseconds(lasted));
    }

    /// All of it, until now.
    #[must_use]
    pub fn read(&self) -> Metered {
        let [computing, upload, waited_for, rows, batches, up, down] = self.counts.each_ref().map(|n| n.load(Ordering::Relaxed));
        let seconds = |n: u64| n as f64 / 1e9;
        Metered {
            open: self.since.elapsed().as_secs_f64(),
            computing: seconds(computing),
            upload: seconds(upload),
            waited_for: seconds(waited_for),
            rows,
            batches,
            up,
            down,
        }
    }
}

impl Metered {
    /// With those of another thread of the same device.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            open: self.open.max(other.open),
            computing: self.computing + other.computing,
            upload: self.upload + other.upload,
            waited_for: self.waited_for + other.waited_for,
            rows: self.rows + other.rows,
            batches: self.batches + other.batches,
            up: self.up + other.up,
            down: self.down + other.down,
        }
    }

    /// What was added since an earlier reading.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            open: self.open - before.open,
            computing: self.computing - before.computing,
            upload: self.upload - before.upload,
            waited_for: self.waited_for - before.waited_for,
            rows: self.rows.saturating_sub(before.rows),
            batches: self.batches.saturating_sub(before.batches),
            up: self.up.saturating_sub(before.up),
            down: self.down.saturating_sub(before.down),
        }
    }
}

fn nanoseconds(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap_or(u64::MAX)
}

thread_local! {
    /// Nanoseconds that this thread waited for storage.
    static STORAGE: Cell<u64> = const { Cell::new(0) };
}

/// Reads from storage, and adds the time to this thread's.
pub fn reading<T>(read: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let made = read();
    STORAGE.with(|sum| sum.set(sum.get() + nanoseconds(start.elapsed())));
    made
}

/// Nanoseconds that this thread has waited for storage so far.
#[must_use]
pub fn read_so_far() -> u64 {
    STORAGE.with(Cell::get)
}
