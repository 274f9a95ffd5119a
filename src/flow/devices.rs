//! What each device that runs networks did, and what it waited for when it did nothing: `busy` and the shares of `starved by` are
//! those of its time and make one together.
//!
//! Where the threads of a step compute themselves (on the CPU), their time is known to the end: computing, making dense batches
//! and columns (`transform`), converting inputs (`upload`), waiting for rows. A GPU has threads of its own; what they wait for is told by what
//! the threads that fill its batches did meanwhile. Waiting for rows is shared out by what those worked who make them: the
//! reader's time for storage (`read`), its other work (`decode`), and the work of the steps between (`transform`). What nobody
//! can be named for is `other`: the beginning and the end of a run, and rows on their way from thread to thread.

use super::counter::Counter;
use crate::plan::Plan;
use calostream_operators::meter::{Meter, Metered};
use calostream_operators::words;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What a device may have waited for, in the order in which it is said.
pub const CAUSES: [&str; 5] = ["read", "decode", "transform", "upload", "other"];

/// A device of a step.
#[derive(Debug)]
struct Device {
    step: usize,
    name: String,
    /// One, or one a thread of the step.
    meters: Vec<Arc<Meter>>,
}

/// The devices of this process.
#[derive(Debug, Default)]
pub struct Devices(Mutex<Vec<Device>>);

/// The counters of a device, of its step, and of those that it reads, at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    metered: Metered,
    /// Seconds in which the step's threads worked, and in which they waited for rows.
    worked: f64,
    waited: f64,
    /// Seconds of work behind them: for storage, of readers besides, of steps between.
    behind: [f64; 3],
}

/// What a device did in some time.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// The step.
    pub step: String,
    /// The device.
    pub device: String,
    /// Threads that compute on it.
    pub threads: usize,
    /// The share of its time that it computed.
    pub busy: f64,
    /// The shares that it did not, by [`CAUSES`].
    pub starved_by: [f64; 5],
    /// Of each second: rows, and bytes to it and from it.
    pub rows: f64,
    /// Bytes of inputs.
    pub up: f64,
    /// Bytes of outputs.
    pub down: f64,
    /// Rows of a batch, on average.
    pub batch: f64,
}

impl Devices {
    /// A device that a step has opened.
    pub fn add(&self, step: usize, meter: Arc<Meter>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|device| device.step == step && device.name == meter.device) {
            Some(device) if device.meters.iter().any(|known| Arc::ptr_eq(known, &meter)) => {}
            Some(device) => device.meters.push(meter),
            None => all.push(Device { step, name: meter.device.clone(), meters: vec![meter] }),
        }
    }

    /// All of them, by step, as they are now.
    pub fn see(&self, plan: &Plan, counters: &[Arc<Counter>]) -> BTreeMap<(usize, String), Seen> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|device| ((device.step, device.name.clone()), device.see(plan, counters))).collect()
    }

    /// What they did between two moments.
    pub fn figures(
        &self,
        plan: &Plan,
        before: &BTreeMap<(usize, String), Seen>,
        now: &BTreeMap<(usize, String), Seen>,
    ) -> Vec<Figures> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut figures = Vec::new();
        for device in all.iter() {
            let key = (device.step, device.name.clone());
            let Some(now) = now.get(&key) else { continue };
            let before = before.get(&key).copied().unwrap_or_default();
            let on_threads = device.meters.iter().all(|meter| meter.on_threads_of_the_step);
            let names = (plan.steps[device.step].name.clone(), device.name.clone());
            figures.extend(now.since(before).figures(names, device.meters.len(), on_threads));
        }
        figures
    }
}

impl Device {
    fn see(&self, plan: &Plan, counters: &[Arc<Counter>]) -> Seen {
        let seconds = |n: u64| n as f64 / 1e9;
        let (_, _, spent) = counters[self.step].total();
        let mut behind = [0.0; 3];
        let mut step = self.step;
        while let Some(port) = plan.steps[step].from.first() {
            step = port.step;
            let ((_, _, [busy, ..]), storage) = (counters[step].total(), counters[step].storage());
            if plan.steps[step].from.is_empty() {
                behind[0] += seconds(storage);
                behind[1] += seconds(busy.saturating_sub(storage));
            } else {
                behind[2] += seconds(busy);
            }
        }
        let metered = self.meters.iter().map(|meter| meter.read()).reduce(Metered::and).unwrap_or_default();
        Seen { metered, worked: seconds(spent[0]), waited: seconds(spent[1]), behind }
    }
}

impl Seen {
    fn since(self, before: Self) -> Self {
        Self {
            metered: self.metered.since(before.metered),
            worked: self.worked - before.worked,
            waited: self.waited - before.waited,
            behind: std::array::from_fn(|i| self.behind[i] - before.behind[i]),
        }
    }

    /// None where it was not open.
    fn figures(self, (step, device): (String, String), threads: usize, on_threads: bool) -> Option<Figures> {
        let Metered { open, computing, upload, waited_for, rows, batches, up, down } = self.metered;
        let lines = if on_threads { threads as f64 } else { 1.0 };
        // Waits are added when they are over, so that times may be a little more than the clock says.
        let window = (open * lines).max(computing + upload);
        if window <= 0.0 {
            return None;
        }
        let idle = window - computing;
        let starved = (idle - upload).max(0.0);
        let of_the_device = if on_threads { computing + upload } else { waited_for };
        let transform = (self.worked - of_the_device).max(0.0);
        let (transform, waited) = if on_threads {
            let transform = transform.min(starved);
            (transform, self.waited.min(starved - transform))
        } else {
            let both = (transform + self.waited).max(f64::MIN_POSITIVE);
            (starved * transform / both, starved * self.waited / both)
        };
        let behind: f64 = self.behind.iter().sum();
        let share = |i: usize| if behind > 0.0 { waited * self.behind[i] / behind } else { 0.0 };
        let named = [share(0), share(1), transform + share(2), upload];
        let other = (idle - named.iter().sum::<f64>()).max(0.0);
        let [read, decode, transform, upload] = named;
        let starved_by = [read, decode, transform, upload, other].map(|seconds| seconds / window);
        let rate = |count: u64| count as f64 / open.max(1e-9);
        let batch = rows as f64 / batches.max(1) as f64;
        let busy = computing / window;
        Some(Figures { step, device, threads, busy, starved_by, rows: rate(rows), up: rate(up), down: rate(down), batch })
    }
}

impl Figures {
    /// For `speed.json`.
    #[must_use]
    pub fn json(&self) -> Value {
        let starved: serde_json::Map<String, Value> =
            CAUSES.iter().zip(self.starved_by).map(|(cause, share)| ((*cause).to_owned(), share.into())).collect();
        json!({
            "device": self.device,
            "step": self.step,
            "threads": self.threads,
            "busy": self.busy,
            "starved_by": starved,
            "images_per_second": self.rows,
            "bytes_up_per_second": self.up,
            "bytes_down_per_second": self.down,
            "batch": self.batch,
        })
    }

    /// `cpu of predicted: busy 91 %, starved by decode 6 %; 1,834 images/s, 126 MB/s up, 0.0 MB/s down, batches of 128`.
    #[must_use]
    pub fn words(&self) -> String {
        let percent = |share: f64| (100.0 * share).round();
        let starved = CAUSES.iter().zip(self.starved_by).filter(|(_, share)| percent(*share) > 0.0);
        let starved: Vec<String> = starved.map(|(cause, share)| format!("{cause} {} %", percent(share))).collect();
        let starved = if starved.is_empty() { String::new() } else { format!(", starved by {}", starved.join(", ")) };
        format!(
            "{} of {}: busy {} %{starved}; {} images/s, {:.1} MB/s up, {:.1} MB/s down, batches of {:.0}",
            self.device,
            self.step,
            percent(self.busy),
            words::count(self.rows as u64),
            self.up / 1e6,
            self.down / 1e6,
            self.batch
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names() -> (String, String) {
        ("predicted".into(), "cpu".into())
    }

    #[test]
    fn what_a_slow_reader_does_is_named() {
        let metered =
            Metered { open: 10.0, computing: 4.0, rows: 2560, batches: 20, up: 50_000_000, down: 10_240, ..Metered::default() };
        let seen = Seen { metered, worked: 5.0, waited: 15.0, behind: [6.0, 1.5, 0.0] };
        let said = seen.figures(names(), 2, true).unwrap();
        let [read, decode, transform, upload, other] = said.starved_by;
        assert_eq!((said.busy, transform, upload, said.batch, said.rows), (0.2, 0.05, 0.0, 128.0, 256.0));
        assert!((read - 0.6).abs() < 1e-12 && (decode - 0.15).abs() < 1e-12 && other < 1e-12, "{said:?}");
        assert_eq!(
            said.words(),
            "cpu of predicted: busy 20 %, starved by read 60 %, decode 15 %, transform 5 %; 256 images/s, 5.0 MB/s up, 0.0 MB/s down, \
             batches of 128"
        );
    }

    proptest! {
        /// Whatever the counters say, and they are not read at one instant: the shares are shares and make one.
        #[test]
        fn busy_and_starved_are_all_of_the_time(
            (open, computing, upload, waited_for) in (0.01..10f64, 0.0..20f64, 0.0..2f64, 0.0..20f64),
            (worked, waited) in (0.0..40f64, 0.0..40f64),
            behind in prop::array::uniform3(0.0..30f64),
            (threads, on_threads) in (1..8usize, any::<bool>()),
        ) {
            let metered = Metered { open, computing, upload, waited_for, ..Metered::default() };
            let said = Seen { metered, worked, waited, behind }.figures(names(), threads, on_threads).unwrap();
            let all: f64 = said.busy + said.starved_by.iter().sum::<f64>();
            prop_assert!((all - 1.0).abs() < 1e-9, "{said:?}");
            prop_assert!(said.starved_by.iter().chain([&said.busy]).all(|share| (0.0..=1.0 + 1e-9).contains(share)), "{said:?}");
        }
    }
}
