//! What is going on, for people: the display of the counters that every stage adds to.
//!
//! A step's threads spend their time on one of three things: work, waiting for their input, waiting for room (the budget,
//! the window, or a full queue, so for a later step). The display shows the shares of the last moments, and names the step
//! that is waited for: so one sees at a glance which step all others wait for.

use super::counter::{Counter, Seen};
use crate::plan::Plan;
use calostream_operators::Shape;
use calostream_operators::words;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// A step as the display knows it.
struct Shown {
    name: String,
    /// The step that it reads, by its place among those shown.
    from: Option<usize>,
    rows: Option<u64>,
    counter: Arc<Counter>,
}

/// What the threads of each step spent their time on between two moments that lie `seconds` apart: shares of one, over all
/// `workers`.
fn shares(before: &[Seen], now: &[Seen], seconds: f64, workers: usize) -> Vec<[f64; 3]> {
    let of = |(b, n): (&Seen, &Seen)| {
        std::array::from_fn(|i| (n.spent[i].saturating_sub(b.spent[i]) as f64 / 1e9 / seconds / workers as f64).min(1.0))
    };
    before.iter().zip(now).map(of).collect()
}

/// `busy 82 %, waits for predicted 18 %`; nothing for a step whose threads don't run.
fn state(steps: &[Shown], shares: &[[f64; 3]], step: usize) -> String {
    let [busy, hungry, blocked] = shares[step];
    let percent = |share: f64| (100.0 * share).round();
    let mut words = Vec::new();
    if percent(busy) > 0.0 {
        words.push(format!("busy {} %", percent(busy)));
    }
    if percent(hungry) > 0.0
        && let Some(from) = steps[step].from
    {
        words.push(format!("waits for {} {} %", steps[from].name, percent(hungry)));
    }
    if percent(blocked) > 0.0 {
        // Room is made by those who read this step, of them by the one that works most.
        let behind = (0..steps.len()).filter(|s| is_behind(steps, *s, step));
        let slowest = behind.max_by(|a, b| shares[*a][0].total_cmp(&shares[*b][0]));
        let who = slowest.map_or("room", |s| steps[s].name.as_str());
        words.push(format!("waits for {who} {} %", percent(blocked)));
    }
    words.join(", ")
}

/// True where rows of step `first` come to `step`.
fn is_behind(steps: &[Shown], step: usize, first: usize) -> bool {
    std::iter::successors(steps[step].from, |s| steps[*s].from).any(|s| s == first)
}

/// Shows the counters until dropped: bars on a terminal, a line now and then elsewhere.
pub struct Display {
    stop: Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Display {
    /// Starts the display; nothing is shown where `quiet`.
    pub fn start(plan: &Arc<Plan>, shared: &Arc<super::Shared>, quiet: bool) -> Option<Self> {
        if quiet {
            return None;
        }
        let (stop, stopped) = channel::<()>();
        let kept: Vec<usize> = (0..plan.steps.len()).filter(|s| plan.steps[*s].planned.shape != Shape::Page).collect();
        let shown = |step: &usize| {
            let of = &plan.steps[*step];
            Shown {
                name: of.name.clone(),
                from: of.from.first().and_then(|port| kept.iter().position(|s| *s == port.step)),
                rows: of.inputs.first().map_or_else(|| of.planned.outputs[0].rows, |i| i.rows),
                counter: Arc::clone(&shared.counters[*step]),
            }
        };
        let steps: Vec<Shown> = kept.iter().map(shown).collect();
        let (shared, planned, terminal) = (Arc::clone(shared), Arc::clone(plan), std::io::stderr().is_terminal());
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            // Long enough that waits, which are added when they are over, are seen in proportion.
            let (tick, span) = if terminal {
                (Duration::from_millis(200), Duration::from_secs(2))
            } else {
                (Duration::from_millis(500), Duration::from_secs(10))
            };
            let see = || steps.iter().map(|s| s.counter.see()).collect::<Vec<_>>();
            let lines = Lines::of(&steps, terminal);
            let start = Instant::now();
            let (mut told, mut before, mut states) = (start, see(), vec![String::new(); steps.len()]);
            let see_devices = || shared.devices.see(&planned, &shared.counters);
            let (mut devices_before, mut devices) = (see_devices(), String::new());
            loop {
                let over = stopped.recv_timeout(tick) != Err(RecvTimeoutError::Timeout);
                let (now, seconds) = (see(), start.elapsed().as_secs_f64());
                let full = 100.0 * shared.budget.used() as f64 / shared.budget.limit() as f64;
                let due = told.elapsed() >= span;
                if due {
                    let shares = shares(&before, &now, told.elapsed().as_secs_f64(), shared.threads);
                    states = (0..steps.len()).map(|s| state(&steps, &shares, s)).collect();
                    (told, before) = (Instant::now(), now.clone());
                    let devices_now = see_devices();
                    let figures = shared.devices.figures(&planned, &devices_before, &devices_now);
                    devices = figures.iter().map(|device| format!("; {}", device.words())).collect();
                    devices_before = devices_now;
                }
                for (bar, ((step, seen), state)) in lines.bars.iter().zip(steps.iter().zip(&now).zip(&states)) {
                    bar.set_position(seen.rows);
                    let per_second = words::count((seen.rows as f64 / seconds) as u64);
                    bar.set_message(format!("{per_second:>8}/s {:>10}  {}", rate(seen, seconds), standing(seen, state)));
                    step.rows.is_none().then(|| bar.tick());
                }
                lines.budget.set_message(format!("budget {full:.0} % full{devices}"));
                if !terminal && !over && due {
                    let each = steps.iter().zip(&now).zip(&states).filter(|((_, seen), _)| seen.rows > 0);
                    let each: Vec<String> = each.map(|((step, seen), state)| line(step, seen, state, seconds)).collect();
                    eprintln!("{seconds:.0} s, budget {full:.0} % full: {}{devices}", each.join("; "));
                }
                if over {
                    lines.bars.iter().for_each(ProgressBar::abandon);
                    lines.budget.finish_and_clear();
                    return;
                }
            }
        });
        Some(Self { stop, thread: thread.ok() })
    }
}

fn rate(seen: &Seen, seconds: f64) -> String {
    format!("{:.0} MB/s", seen.bytes as f64 / seconds / 1e6)
}

/// What a step's threads do, and what stands in front of them.
fn standing(seen: &Seen, state: &str) -> String {
    let queued = (seen.queued > 0).then(|| format!("{} queued", words::bytes(seen.queued)));
    [Some(state.to_owned()).filter(|s| !s.is_empty()), queued].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `predicted 12,000 of 40,000 rows (2300/s, 540 MB/s, 12 s left; busy 93 %, 12.0 MiB queued)`.
fn line(step: &Shown, seen: &Seen, state: &str, seconds: f64) -> String {
    let per_second = (seen.rows as f64 / seconds).max(1e-9);
    let of = step.rows.map(|n| format!(" of {}", words::count(n))).unwrap_or_default();
    let left = step.rows.map(|n| n.saturating_sub(seen.rows)).filter(|n| *n > 0);
    let left = left.map(|n| format!(", {:.0} s left", n as f64 / per_second)).unwrap_or_default();
    let standing = Some(standing(seen, state)).filter(|s| !s.is_empty()).map(|s| format!("; {s}")).unwrap_or_default();
    format!(
        "{} {}{of} rows ({}/s, {}{left}{standing})",
        step.name,
        words::count(seen.rows),
        words::count(per_second as u64),
        rate(seen, seconds)
    )
}

/// The lines on a terminal: none elsewhere.
struct Lines {
    bars: Vec<ProgressBar>,
    budget: ProgressBar,
    /// Draws them together.
    _all: MultiProgress,
}

impl Lines {
    fn of(steps: &[Shown], terminal: bool) -> Self {
        let all = MultiProgress::new();
        if !terminal {
            return Self { bars: Vec::new(), budget: ProgressBar::hidden(), _all: all };
        }
        let width = steps.iter().map(|s| s.name.len()).max().unwrap_or(0);
        let known = "{prefix} {bar:20} {human_pos:>10}/{human_len:<10} {eta:>5} {msg}";
        let unknown = "{prefix} {spinner} {human_pos:>10} {msg}";
        let styled = |bar: ProgressBar, template: &str| {
            let bar = all.add(bar);
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        };
        let bars = steps.iter().map(|step| {
            let bar = match step.rows {
                Some(rows) => styled(ProgressBar::new(rows), known),
                None => styled(ProgressBar::new_spinner(), unknown),
            };
            bar.set_prefix(format!("{:width$}", step.name));
            bar
        });
        let bars = bars.collect();
        let budget = styled(ProgressBar::new_spinner(), "{msg}");
        Self { bars, budget, _all: all }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::timeline::Spent;
    use super::*;

    #[test]
    fn everybody_names_whom_they_wait_for() {
        let step = |name: &str, from| Shown { name: name.into(), from, rows: Some(100), counter: Arc::default() };
        let steps = [step("events", None), step("predicted", Some(0)), step("table", Some(1))];
        let [events, predicted, table] = [0, 1, 2].map(|s: usize| &steps[s].counter);
        let before: Vec<Seen> = steps.iter().map(|s| s.counter.see()).collect();
        let mut now = before.clone();
        now[0].spent = [200_000_000, 0, 1_700_000_000];
        now[1].spent = [1_900_000_000, 100_000_000, 0];
        now[2].spent = [10_000_000, 0, 0];
        let shares = shares(&before, &now, 1.0, 2);
        let states: Vec<String> = (0..3).map(|s| state(&steps, &shares, s)).collect();
        assert_eq!(states, ["busy 10 %, waits for predicted 85 %", "busy 95 %, waits for events 5 %", "busy 1 %"]);

        events.add(50, 1_000_000);
        predicted.queue(3 << 20);
        predicted.queue(1 << 20);
        predicted.dequeue(1 << 20);
        assert_eq!(
            line(&steps[0], &events.see(), &states[0], 0.5),
            "events 50 of 100 rows (100/s, 2 MB/s, 0 s left; busy 10 %, waits for predicted 85 %)"
        );
        assert_eq!(standing(&predicted.see(), &states[1]), "busy 95 %, waits for events 5 %, 3.00 MiB queued");
        assert_eq!(table.spend(Spent::Busy, || 7), 7);
    }
}
