//! What is going on, for people: counters that every stage adds to, and their display.

use crate::plan::Plan;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What went through a step so far, in this process.
#[derive(Debug, Default)]
pub struct Counter {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// Adds a batch.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Rows and bytes so far.
    pub fn read(&self) -> (u64, u64) {
        (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// Shows the counters until dropped: bars on a terminal, a line now and then elsewhere.
pub struct Display {
    stop: std::sync::mpsc::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Display {
    /// Starts the display; nothing is shown where `quiet`.
    pub fn start(plan: &Plan, shared: &Arc<super::Shared>, quiet: bool) -> Option<Self> {
        if quiet {
            return None;
        }
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let steps: Vec<(String, Option<u64>, Arc<Counter>)> = plan
            .steps
            .iter()
            .zip(&shared.counters)
            .filter(|(s, _)| s.planned.shape != calostream_operators::Shape::Page)
            .map(|(s, c)| (s.name.clone(), s.inputs.first().map_or_else(|| s.planned.outputs[0].rows, |i| i.rows), Arc::clone(c)))
            .collect();
        let shared = Arc::clone(shared);
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            let start = Instant::now();
            let (bars, lines) = bars(&steps, terminal);
            let mut told = Instant::now();
            loop {
                let wait = if terminal { Duration::from_millis(200) } else { Duration::from_millis(500) };
                let over = stopped.recv_timeout(wait) != Err(std::sync::mpsc::RecvTimeoutError::Timeout);
                let seconds = start.elapsed().as_secs_f64();
                for (bar, (_, _, counter)) in lines.iter().zip(&steps) {
                    let (rows, bytes) = counter.read();
                    bar.set_position(rows);
                    bar.set_message(format!("{:.0} MB/s", bytes as f64 / seconds / 1e6));
                }
                let full = 100.0 * shared.budget.used() as f64 / shared.budget.limit() as f64;
                if !terminal && !over && told.elapsed() > Duration::from_secs(10) {
                    told = Instant::now();
                    let each: Vec<String> = steps
                        .iter()
                        .map(|(name, _, c)| format!("{name} {} rows ({:.0}/s)", c.read().0, c.read().0 as f64 / seconds))
                        .collect();
                    eprintln!("{seconds:.0} s, budget {full:.0} % full: {}", each.join(", "));
                }
                if over {
                    lines.iter().for_each(indicatif::ProgressBar::abandon);
                    drop(bars);
                    return;
                }
            }
        });
        Some(Self { stop, thread: thread.ok() })
    }
}

fn bars(
    steps: &[(String, Option<u64>, Arc<Counter>)],
    terminal: bool,
) -> (indicatif::MultiProgress, Vec<indicatif::ProgressBar>) {
    let all = indicatif::MultiProgress::new();
    if !terminal {
        return (all, Vec::new());
    }
    let width = steps.iter().map(|s| s.0.len()).max().unwrap_or(0);
    let known = indicatif::ProgressStyle::with_template(
        "{prefix} {bar:24} {human_pos:>10}/{human_len:<10} {per_sec:>12} {msg:>10} {eta:>5}",
    );
    let unknown = indicatif::ProgressStyle::with_template("{prefix} {spinner} {human_pos:>10} {per_sec:>12} {msg:>10}");
    let lines = steps
        .iter()
        .map(|(name, rows, _)| {
            let bar = rows.map_or_else(indicatif::ProgressBar::new_spinner, indicatif::ProgressBar::new);
            let bar = all.add(bar);
            if let Ok(style) = if rows.is_some() { &known } else { &unknown } {
                bar.set_style(style.clone());
            }
            bar.set_prefix(format!("{name:width$}"));
            bar
        })
        .collect();
    (all, lines)
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
