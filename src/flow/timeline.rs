//! What every step's threads did, for who wants to know why a run was not faster: a timeline that Perfetto (ui.perfetto.dev)
//! and `chrome://tracing` open.
//!
//! A timeline is the "Trace Event Format" of Chrome: an array of complete events (`ph: X`) with microseconds from the start, a
//! line a thread, those of GPUs among them. Spans are kept in memory and written at the end; what is shorter than [`LEAST`] and all beyond [`MOST`] spans
//! is left out and counted.

use crate::files;
use anyhow::Result;
use calostream_operators::meter::{Doing, Meter};
use serde_json::json;
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Spans that are shorter are not kept.
const LEAST: Duration = Duration::from_micros(20);
/// No more spans than this are kept: some 100 MB of JSON.
const MOST: usize = 1_000_000;

/// What a thread of a step spends its time on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// Its work.
    Busy,
    /// Waiting for its input.
    Hungry,
    /// Waiting until there is room for what it has made.
    Blocked,
}

/// The spans of this process, where a timeline is wanted.
static TIMELINE: OnceLock<Timeline> = OnceLock::new();

thread_local! {
    /// The number of this thread in the timeline; 0 where it has none yet.
    static LINE: Cell<u64> = const { Cell::new(0) };
}

#[derive(Debug)]
struct Timeline {
    start: Instant,
    threads: Mutex<Vec<String>>,
    spans: Mutex<Vec<Span>>,
    left_out: AtomicU64,
}

#[derive(Debug, Clone)]
struct Span {
    step: Arc<str>,
    on: Spent,
    thread: u64,
    from: Duration,
    lasted: Duration,
}

/// From now on spans are kept.
pub fn begin() {
    TIMELINE.get_or_init(|| Timeline {
        start: Instant::now(),
        threads: Mutex::default(),
        spans: Mutex::default(),
        left_out: AtomicU64::new(0),
    });
}

/// Keeps what a step did from `start` on, where a timeline is wanted.
pub fn keep(step: Option<&Arc<str>>, on: Spent, start: Instant, lasted: Duration) {
    let (Some(timeline), Some(step)) = (TIMELINE.get(), step) else { return };
    let lock = |mutex: &'static Mutex<Vec<Span>>| mutex.lock().unwrap_or_else(PoisonError::into_inner);
    if lasted < LEAST {
        return;
    }
    let thread = LINE.with(|line| {
        if line.get() == 0 {
            let mut threads = timeline.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.push(std::thread::current().name().unwrap_or("thread").to_owned());
            line.set(threads.len() as u64);
        }
        line.get()
    });
    let mut spans = lock(&timeline.spans);
    if spans.len() < MOST {
        let from = start.saturating_duration_since(timeline.start);
        spans.push(Span { step: Arc::clone(step), on, thread, from, lasted });
    } else {
        timeline.left_out.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps what the threads of a device do for a step, where a timeline is wanted. (Those of the step are kept as such.)
pub fn follow(meter: &Meter, step: &str) {
    if TIMELINE.get().is_none() || meter.on_threads_of_the_step {
        return;
    }
    let (step, inputs): (Arc<str>, Arc<str>) = (step.into(), format!("{step}: inputs").into());
    meter.watch(move |doing, start, lasted| match doing {
        Doing::Waiting => keep(Some(&step), Spent::Hungry, start, lasted),
        Doing::Upload => keep(Some(&inputs), Spent::Busy, start, lasted),
        Doing::Computing => keep(Some(&step), Spent::Busy, start, lasted),
    });
}

/// Writes the timeline.
pub fn write(path: &Path, process: usize) -> Result<()> {
    let Some(timeline) = TIMELINE.get() else { return Ok(()) };
    let threads = timeline.threads.lock().unwrap_or_else(PoisonError::into_inner);
    let spans = timeline.spans.lock().unwrap_or_else(PoisonError::into_inner);
    let text = events(&threads, &spans, process, timeline.left_out.load(Ordering::Relaxed));
    // A name alone has no folder to sync.
    files::write_whole(&std::path::absolute(path)?, text.as_bytes())
}

fn events(threads: &[String], spans: &[Span], process: usize, left_out: u64) -> String {
    let named = threads.iter().enumerate().map(
        |(line, name)| json!({ "ph": "M", "name": "thread_name", "pid": process, "tid": line + 1, "args": { "name": name } }),
    );
    let microseconds = |of: Duration| of.as_nanos() as f64 / 1e3;
    let each = spans.iter().map(|span| {
        let (name, category) = match span.on {
            Spent::Busy => (span.step.to_string(), "busy"),
            Spent::Hungry => (format!("{} waits for input", span.step), "waiting"),
            Spent::Blocked => (format!("{} waits for room", span.step), "waiting"),
        };
        json!({
            "ph": "X", "name": name, "cat": category, "pid": process, "tid": span.thread,
            "ts": microseconds(span.from), "dur": microseconds(span.lasted),
        })
    });
    let events: Vec<String> = named.chain(each).map(|event| event.to_string()).collect();
    format!("{{\"displayTimeUnit\": \"ms\", \"leftOut\": {left_out}, \"traceEvents\": [\n{}\n]}}\n", events.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn events_are_as_perfetto_reads_them() {
        let span = |step: &str, on, thread, from, lasted| Span {
            step: step.into(),
            on,
            thread,
            from: Duration::from_micros(from),
            lasted: Duration::from_nanos(lasted),
        };
        let spans = [span("events", Spent::Busy, 1, 10, 2500), span("predicted", Spent::Hungry, 2, 12, 1000)];
        let text = events(&["reader-0".into(), "predicted-0".into()], &spans, 3, 7);
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["leftOut"], 7);
        let events = read["traceEvents"].as_array().unwrap();
        assert_eq!(events[0], json!({ "ph": "M", "name": "thread_name", "pid": 3, "tid": 1, "args": { "name": "reader-0" } }));
        assert_eq!(events[2], json!({ "ph": "X", "name": "events", "cat": "busy", "pid": 3, "tid": 1, "ts": 10.0, "dur": 2.5 }));
        assert_eq!((&events[3]["name"], &events[3]["cat"]), (&json!("predicted waits for input"), &json!("waiting")));
    }

    /// A device of the step's own threads is not followed: their lines say it.
    #[test]
    fn a_device_has_lines_of_its_own() {
        begin();
        let (gpu, cpu) = (Meter::of("cuda:0".into(), false), Meter::of("cpu".into(), true));
        follow(&gpu, "followed");
        follow(&cpu, "not followed");
        for doing in [Doing::Waiting, Doing::Upload, Doing::Computing] {
            gpu.during(doing, || std::thread::sleep(LEAST));
            cpu.during(doing, || std::thread::sleep(LEAST));
        }
        let spans = TIMELINE.get().unwrap().spans.lock().unwrap();
        let kept: Vec<_> = spans.iter().filter(|s| s.step.contains("followed")).map(|s| (s.step.as_ref(), s.on)).collect();
        assert_eq!(kept, [("followed", Spent::Hungry), ("followed: inputs", Spent::Busy), ("followed", Spent::Busy)]);
    }
}
