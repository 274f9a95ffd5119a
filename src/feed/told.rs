//! What a feed says of itself, on standard error: a line while it runs, and what it came to.

use super::Going;
use super::quality::Mixed;
use anyhow::{Result, bail, ensure};
use calostream_operators::words::{bytes, count, counted};
use calostream_operators::work::Noticed;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How it is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Nothing while it runs.
    Quiet,
    /// In words.
    Words,
    /// As JSON, one object a line.
    Json,
}

/// What happened so far.
#[derive(Debug, Default)]
struct Facts {
    /// The epoch and position after the last row that was handed over.
    reached: Option<(u32, u64)>,
    epochs: Vec<Mixed>,
    left_out: BTreeSet<usize>,
    noticed: Noticed,
    dropped: u64,
}

/// What a feed says of itself.
#[derive(Debug)]
pub struct Told {
    manner: Manner,
    batches: AtomicU64,
    rows: AtomicU64,
    bytes: AtomicU64,
    most: AtomicU64,
    facts: Mutex<Facts>,
    turn: Mutex<Turn>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// Nobody waits: the feed begins, or has ended.
    Nobody,
    /// The consumer waits for data.
    Consumer,
    /// Data wait for the consumer.
    Data,
}

/// Who waits, since when, and for how long each has waited before.
#[derive(Debug, Clone, Copy)]
struct Turn {
    waits: Waits,
    since: Instant,
    consumer: Duration,
    data: Duration,
}

impl Turn {
    fn now(mut self) -> Self {
        let elapsed = self.since.elapsed();
        match self.waits {
            Waits::Nobody => {}
            Waits::Consumer => self.consumer += elapsed,
            Waits::Data => self.data += elapsed,
        }
        self.since += elapsed;
        self
    }
}

/// What was counted at a moment.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    batches: u64,
    rows: u64,
    bytes: u64,
    hungry: f64,
    full: f64,
}

impl Told {
    /// Nothing said yet.
    pub fn new(manner: Manner) -> Self {
        let zero = AtomicU64::default;
        let (batches, rows, bytes, most) = (zero(), zero(), zero(), zero());
        let turn = Turn { waits: Waits::Nobody, since: Instant::now(), consumer: Duration::ZERO, data: Duration::ZERO };
        Self { manner, batches, rows, bytes, most, facts: Mutex::default(), turn: Mutex::new(turn) }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this one waits.
    pub fn waits(&self, waits: Waits) {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *turn = Turn { waits, ..turn.now() };
    }

    /// A batch was handed over.
    pub fn given(&self, reached: (u32, u64), rows: u64, bytes: u64) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.facts().reached = Some(reached);
    }

    /// An epoch is mixed.
    pub fn epoch(&self, mixed: Mixed) {
        self.facts().epochs.push(mixed);
    }

    /// A last batch was left out.
    pub fn dropped(&self, rows: u64) {
        self.facts().dropped += rows;
    }

    /// Steps noticed this.
    pub fn noticed(&self, noticed: Noticed) {
        let mut facts = self.facts();
        noticed.into_iter().for_each(|(what, count)| *facts.noticed.entry(what).or_default() += count);
    }

    /// So many bytes of rows wait.
    pub fn holds(&self, bytes: u64) {
        self.most.fetch_max(bytes, Ordering::Relaxed);
    }

    /// The data of a piece are wrong: the rest of it is left out. An error where that is more than the pipeline allows.
    pub fn left_out(&self, piece: usize, name: &str, reason: &str, going: &Going) -> Result<()> {
        ensure!(!going.plan.strict, "{name}: {reason} (`on_error: stop`)");
        let mut facts = self.facts();
        if !facts.left_out.insert(piece) {
            return Ok(());
        }
        match self.manner {
            Manner::Json => eprintln!("{}", json!({ "left_out": name, "reason": reason })),
            Manner::Quiet | Manner::Words => eprintln!("left out: {name}, from where it is wrong: {reason}"),
        }
        let most = going.plan.quarantine_at_most;
        if facts.left_out.len() as f64 / going.units.len() as f64 > most {
            let many = counted(facts.left_out.len() as u64, "piece");
            bail!("{many} of files are wrong, more than `quarantine_at_most: {most}` allows; the last: {name}: {reason}");
        }
        Ok(())
    }

    /// How many pieces were left out.
    pub fn lost(&self) -> usize {
        self.facts().left_out.len()
    }

    /// The epoch and position after the last row that was handed over.
    pub fn reached(&self) -> Option<(u32, u64)> {
        self.facts().reached
    }

    fn seen(&self) -> Seen {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner).now();
        Seen {
            at: Instant::now(),
            batches: get(&self.batches),
            rows: get(&self.rows),
            bytes: get(&self.bytes),
            hungry: turn.consumer.as_secs_f64(),
            full: turn.data.as_secs_f64(),
        }
    }

    fn pace(&self, from: Seen, to: Seen) -> serde_json::Value {
        let seconds = (to.at - from.at).as_secs_f64().max(1e-9);
        let rate = |from: u64, to: u64| ((to - from) as f64 / seconds * 10.0).round() / 10.0;
        let share = |from: f64, to: f64| ((to - from) / seconds * 1000.0).round() / 1000.0;
        let (epoch, position) = self.reached().unwrap_or_default();
        json!({
            "epoch": epoch,
            "position": position,
            "batches": to.batches,
            "rows": to.rows,
            "batches_per_second": rate(from.batches, to.batches),
            "rows_per_second": rate(from.rows, to.rows),
            "bytes_per_second": rate(from.bytes, to.bytes),
            "consumer_waited": share(from.hungry, to.hungry),
            "data_waited": share(from.full, to.full),
        })
    }

    fn words(&self, from: Seen, to: Seen) -> String {
        let pace = self.pace(from, to);
        let number = |name: &str| pace[name].as_f64().unwrap_or(0.0);
        let (epoch, position) = self.reached().unwrap_or_default();
        format!(
            "epoch {epoch}, position {}: {:.1} batches/s, {} events/s, {}/s; the consumer waited for data {:.0} % of the time, data for the consumer {:.0} %",
            count(position),
            number("batches_per_second"),
            count(number("rows_per_second") as u64),
            bytes(number("bytes_per_second") as u64),
            100.0 * number("consumer_waited"),
            100.0 * number("data_waited"),
        )
    }

    /// What it came to; `all` where everything was handed over.
    pub fn sum_up(&self, begun: Instant, all: bool) {
        let (from, to) = (Seen { at: begun, batches: 0, rows: 0, bytes: 0, hungry: 0.0, full: 0.0 }, self.seen());
        let facts = self.facts();
        // Rows are mixed ahead of their consumer.
        let over = |mixed: &&Mixed| all || facts.reached.is_some_and(|(epoch, _)| mixed.epoch < epoch);
        let epochs: Vec<Mixed> = facts.epochs.iter().filter(over).cloned().collect();
        let (noticed, dropped) = (facts.noticed.clone(), facts.dropped);
        drop(facts);
        let most = self.most.load(Ordering::Relaxed);
        if self.manner == Manner::Json {
            let mut all = self.pace(from, to);
            all["seconds"] = (to.at - begun).as_secs_f64().into();
            all["mixing"] = json!(epochs);
            all["noticed"] = json!(noticed);
            all["dropped"] = dropped.into();
            all["left_out"] = self.lost().into();
            all["held_at_most"] = most.into();
            eprintln!("{all}");
            return;
        }
        if self.manner == Manner::Quiet {
            return;
        }
        for mixed in epochs.iter().rev().take(3).rev() {
            eprintln!("{mixed}");
        }
        noticed.iter().for_each(|(what, many)| eprintln!("{}{what}", count(*many)));
        if dropped > 0 {
            eprintln!("{} in last batches that were not full were left out (`last: drop`)", counted(dropped, "event"));
        }
        let seconds = (to.at - begun).as_secs_f64();
        eprintln!("fed {} in {} in {seconds:.1} s", counted(to.rows, "event"), batches(to.batches));
        eprintln!("{}", self.words(from, to));
        eprintln!("rows that waited took up to {}", bytes(most));
    }
}

fn batches(n: u64) -> String {
    if n == 1 { "1 batch".into() } else { format!("{} batches", count(n)) }
}

/// Says how a feed goes, until it is dropped.
pub struct Display {
    stop: Option<Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Display {
    /// Begins: a line that changes on a terminal, else a line every ten seconds.
    pub fn start(going: &Arc<Going>) -> Self {
        let manner = going.told.manner;
        if manner == Manner::Quiet {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = channel();
        let going = Arc::clone(going);
        let terminal = std::io::stderr().is_terminal() && manner == Manner::Words;
        let every = if terminal { Duration::from_millis(500) } else { Duration::from_secs(10) };
        let say = move || {
            let mut before = going.told.seen();
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let now = going.told.seen();
                match manner {
                    Manner::Json => eprintln!("{}", going.told.pace(before, now)),
                    _ if terminal => eprint!("\r\x1b[K{}", going.told.words(before, now)),
                    _ => eprintln!("{}", going.told.words(before, now)),
                }
                let _ = std::io::stderr().flush();
                before = now;
            }
            if terminal {
                eprint!("\r\x1b[K");
            }
        };
        Self { stop: Some(stop), thread: std::thread::Builder::new().name("display".into()).spawn(say).ok() }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
