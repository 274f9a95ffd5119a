//! What a device that runs networks did: counted where it computes, read by whoever shows it; and how long this thread waited
//! for storage.
//!
//! A device that several threads use at once is busy while any of them computes: what overlaps counts once. Nothing here decides
//! anything: results never depend on it.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a thread does for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It waits for a batch.
    Waiting,
    /// It puts inputs into the form that the models take.
    Upload,
    /// It has the device compute, copies over the bus that are part of a run among it.
    Computing,
}

/// Who is told what a thread did for a device, when, and for how long.
type Watch = Box<dyn Fn(Doing, Instant, Duration) + Send + Sync>;

/// What a device did so far.
#[derive(Debug)]
pub struct Meter {
    /// `cpu`, `cuda:0`.
    pub device: String,
    /// True where the threads of the step compute themselves, false where a thread of the device does it for all of them.
    pub on_threads_of_the_step: bool,
    since: Instant,
    counts: [AtomicU64; 7],
    now: Mutex<Now>,
    watch: OnceLock<Watched>,
}

/// What the threads of a device do at this moment.
#[derive(Debug)]
struct Now {
    uploading: u32,
    computing: u32,
    /// When that changed last.
    since: Instant,
}

struct Watched(Watch);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

/// The counts of a meter, or of several added up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Metered {
    /// Seconds since the device was opened.
    pub open: f64,
    /// Seconds in which it computed, copies over the bus that are part of a run among them.
    pub computing: f64,
    /// Seconds in which it did not, and inputs were put into the form that the models take.
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
        let since = Instant::now();
        let now = Mutex::new(Now { uploading: 0, computing: 0, since });
        Self { device, on_threads_of_the_step, since, counts: Default::default(), now, watch: OnceLock::new() }
    }

    /// From now on this is told what each thread does for the device; only the first that asks is.
    pub fn watch(&self, told: impl Fn(Doing, Instant, Duration) + Send + Sync + 'static) {
        // Who comes second goes without.
        let _ = self.watch.set(Watched(Box::new(told)));
    }

    fn add(&self, to: Of, count: u64) {
        self.counts[to as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Does something for the device.
    pub fn during<T>(&self, doing: Doing, what: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        self.change(doing, start, 1);
        let made = what();
        let end = Instant::now();
        self.change(doing, end, -1);
        if let Some(Watched(told)) = self.watch.get() {
            told(doing, start, end.saturating_duration_since(start));
        }
        made
    }

    /// One thread more or less does this from now on: the time until now goes to what was done in it.
    fn change(&self, doing: Doing, at: Instant, by: i32) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let lasted = nanoseconds(at.saturating_duration_since(now.since));
        match *now {
            Now { computing: 1.., .. } => self.add(Of::Computing, lasted),
            Now { uploading: 1.., .. } => self.add(Of::Upload, lasted),
            Now { .. } => {}
        }
        now.since = now.since.max(at);
        match doing {
            Doing::Waiting => {}
            Doing::Upload => now.uploading = now.uploading.saturating_add_signed(by),
            Doing::Computing => now.computing = now.computing.saturating_add_signed(by),
        }
    }

    /// A batch of so many rows was computed.
    pub fn computed(&self, rows: usize) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Barrier};

    /// One thread computes all the while; another puts inputs in order and computes in between.
    #[test]
    fn what_overlaps_counts_once() {
        let meter = Meter::of("cuda:0".into(), false);
        let told: Arc<Mutex<Vec<Doing>>> = Arc::default();
        let into = Arc::clone(&told);
        meter.watch(move |doing, _, lasted| {
            assert!(lasted >= Duration::from_millis(29));
            into.lock().unwrap().push(doing);
        });
        let sleep = || std::thread::sleep(Duration::from_millis(30));
        let (begun, end) = (Barrier::new(2), Barrier::new(2));
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                meter.during(Doing::Computing, || {
                    begun.wait();
                    end.wait();
                });
            });
            begun.wait();
            meter.during(Doing::Upload, sleep);
            meter.during(Doing::Computing, sleep);
            end.wait();
        });
        let (all, overlapped) = (start.elapsed().as_secs_f64(), meter.read());
        assert!((0.06..=all).contains(&overlapped.computing), "{} of {all}", overlapped.computing);
        assert_eq!(overlapped.upload, 0.0);
        meter.during(Doing::Upload, sleep);
        meter.during(Doing::Waiting, sleep);
        let alone = meter.read().since(overlapped);
        assert!(alone.upload >= 0.03 && alone.computing == 0.0, "{alone:?}");
        assert_eq!(*told.lock().unwrap(), [Doing::Upload, Doing::Computing, Doing::Computing, Doing::Upload, Doing::Waiting]);
    }
}
