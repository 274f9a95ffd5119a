//! The dataflow: the only place that knows timely.
//!
//! ```text
//!   level 0                                         level 1, 2, ...
//!
//!   reader threads (a queue of parts)               reader threads (this worker's runs, part by part)
//!        | permits, window                               | window
//!     [source]                                        [source]
//!        | parcels of one part after the other           | pieces, to the worker whose part it is
//!     [stage] map, fold: in place                     [placer] puts rows in their places
//!     [stage] device, sink, spill: own thread            |
//!        |                                            [stage] ...
//!        +------------ records ------------+-------------+
//!                                          |
//!                                      [commit]  worker 0; fsync on a thread
//!                                          | notices, to every worker
//!                                       (probe)
//! ```
//!
//! Rows that a level has put aside may be put aside once more before the next level reads them ([`regroup`]): then a reader
//! thread is the whole dataflow, and what it says goes to [commit].
//!
//! Invariants:
//!
//! 1. A timestamp is a part of the phase. A part stays on one worker from its reader to its sinks, in order.
//! 2. A part is committed when the frontier has passed it (everything that was to be said of it has arrived) and, where its
//!    rows were put aside, the run that holds them is written.
//! 3. Whoever fails keeps its capability and raises the failure; everybody looks at it and stops. So nothing that failed
//!    looks complete, and nothing waits for ever.
//! 4. Every worker builds the same dataflow, whatever fails while building.
//! 5. Each phase runs in passes: a pass that quarantines units is followed by one that does their parts again without them.
//!    What a pass has to do follows from the log, which all processes know in the same words.
//! 6. Nothing that is computed depends on which worker did what.

mod budget;
mod cluster;
mod columns;
mod commit;
mod counter;
pub mod devices;
mod failure;
mod gather;
mod kept;
pub mod lost;
mod operator;
mod order;
mod parcel;
mod phase;
mod progress;
mod ranks;
mod regroup;
pub mod replay;
mod source;
mod spiller;
mod stage;
pub mod timeline;
pub mod totals;
pub mod verify;

pub use cluster::{Cluster, secret};
pub use columns::project;
pub use failure::Failure;
pub use phase::{Basis, Phase};
pub use progress::Display;

use crate::files;
use crate::ledger::log::{Commit, Line, Rows};
use crate::ledger::units::Numbered;
use crate::ledger::{Ledger, Settled, State};
use crate::plan::{Plan, Port, spill};
use anyhow::{Context, Result, bail};
use budget::Budget;
use calostream_operators::statistics::sums::Sums;
use calostream_operators::work::{Runtime, Start};
use calostream_operators::{Shape, Work, Worker};
use counter::Counter;
use devices::{Devices, Figures};
use operator::On;
use phase::{PartPlan, strata};
use ranks::{Router, Tally};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use source::Queue;
use spiller::Spiller;
use stage::{Given, Kind, SinkPlace, Stage, StepStage};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use timely::dataflow::operators::{Concatenate, Probe};
use timely::dataflow::{ProbeHandle, Stream};

/// What a run is to do, beside the plan.
#[derive(Debug, Clone)]
pub struct Options {
    /// Worker threads of this process.
    pub workers: usize,
    /// How many of them read: fewer where what a reader holds is much.
    pub readers: usize,
    /// Bytes that data under way may take.
    pub budget: u64,
    /// Where runs are put aside; in the run folder where none is given.
    pub scratch: Option<PathBuf>,
    /// What runs are measured by.
    pub sizes: spill::Sizes,
    /// Where helpers are found.
    pub runtime: Runtime,
}

/// What the workers of a process share.
pub struct Shared {
    failure: Failure,
    budget: Arc<Budget>,
    /// Bytes that a shuffle holds on one worker until it writes a run.
    aside: u64,
    counters: Vec<Arc<Counter>>,
    devices: Devices,
    folder: PathBuf,
    /// Runs that stay in memory; none where nothing may.
    kept: Option<Arc<kept::Kept>>,
    /// Where runs are put aside, and what the log calls it: in the run folder by its name there, so that the folder may be
    /// moved; elsewhere by its whole path.
    scratch: (PathBuf, PathBuf),
    runtime: Runtime,
    threads: usize,
    readers: usize,
    /// The place of this process among those of its host, and their number.
    on_host: (usize, usize),
    process: usize,
    peers: usize,
    units: Vec<Numbered>,
    state: Mutex<State>,
    /// In process 0.
    ledger: Mutex<Option<Ledger>>,
    passes: Mutex<BTreeMap<usize, Arc<Pass>>>,
}

/// One go at the parts of a phase that are not committed, shared by the workers of a process.
pub struct Pass {
    phase: Arc<Phase>,
    pending: Vec<u64>,
    left_out: BTreeSet<u64>,
    queue: Queue,
    frontier: AtomicU64,
    window: u64,
}

impl Pass {
    /// No part below this will say anything any more.
    fn frontier(&self) -> u64 {
        self.frontier.load(Ordering::Relaxed)
    }
}

/// What a run has come to.
pub struct Outcome {
    /// What the log says.
    pub state: State,
    /// The rows of every unit, by phase and number.
    pub unit_rows: BTreeMap<(usize, u64), u64>,
    /// Of each output of a mix, for each class, how many events there are and how many are taken.
    pub mixes: BTreeMap<Port, Vec<(u64, u64)>>,
    /// The ledger, in the process that has it.
    pub ledger: Option<Ledger>,
}

impl Shared {
    /// A run that this process has in memory.
    fn kept(&self, name: &std::path::Path) -> Option<Arc<kept::KeptRun>> {
        self.kept.as_ref()?.get(name)
    }

    /// What the steps did in so many seconds, and the devices since they were opened.
    pub fn speed(&self, plan: &Plan, seconds: f64) -> (serde_json::Value, Vec<Figures>) {
        let steps: Vec<_> = plan.steps.iter().map(|s| s.name.clone()).zip(self.counters.iter().cloned()).collect();
        let mut speed = counter::shares(&steps, seconds, self.threads);
        let devices = self.devices.figures(plan, &BTreeMap::new(), &self.devices.see(plan, &self.counters));
        speed["devices"] = devices.iter().map(Figures::json).collect();
        (speed, devices)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits to the log; nothing in a process that has no ledger.
    fn commit(&self, lines: Settled) -> Result<Vec<Line>> {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        ledger.as_mut().map_or_else(|| Ok(Vec::new()), |ledger| ledger.commit(lines))
    }

    /// What the workers of this process share.
    pub fn new(
        plan: &Plan,
        options: &Options,
        cluster: &Cluster,
        units: Vec<Numbered>,
        state: State,
        ledger: Option<Ledger>,
    ) -> Result<Arc<Self>> {
        let scratch = match &options.scratch {
            None => (plan.out.join(".spill"), PathBuf::from(".spill")),
            Some(folder) => {
                // Many runs may share a scratch: each has a folder of its own there.
                let own = xxhash_rust::xxh3::xxh3_64(std::path::absolute(&plan.out)?.as_os_str().as_encoded_bytes());
                let path = std::path::absolute(folder)?.join(format!("calostream-{own:016x}"));
                (path.clone(), path)
            }
        };
        // Said now, and not when memory is full.
        if options.scratch.is_some() && plan.steps.iter().any(|s| s.spills) {
            files::make_folder(&scratch.0).context("rows can't be put aside where `--scratch` says")?;
        }
        let fingerprints = units.iter().map(|u| (u.unit.file, u.unit.fingerprint.clone())).collect();
        // The larger a run, the longer are its pieces; on one level shuffles work at the same time.
        let (aside, at_work) = spill::held(plan, options.budget);
        Ok(Arc::new(Self {
            failure: Failure::default(),
            budget: Budget::new(options.budget - aside * at_work),
            aside: options.sizes.run.unwrap_or(aside / options.workers as u64),
            devices: Devices::default(),
            counters: plan.steps.iter().map(|s| Arc::new(Counter::of(&s.name))).collect(),
            folder: plan.out.clone(),
            kept: options.sizes.run.is_none().then(Arc::default),
            scratch,
            runtime: Runtime { fingerprints: Arc::new(fingerprints), ..options.runtime.clone() },
            threads: options.workers,
            readers: options.readers,
            process: cluster.process,
            peers: options.workers * cluster.processes,
            units,
            state: Mutex::new(state),
            ledger: Mutex::new(ledger),
            passes: Mutex::default(),
            on_host: cluster.on_this_host(),
        }))
    }

    /// Removes what was put aside: when all is committed, nobody reads it again.
    pub fn clear_scratch(&self) {
        if self.process == 0 || self.scratch.1.is_absolute() {
            // What can't be removed (or was, by another process here) is no reason to fail a run that is done.
            let _ = std::fs::remove_dir_all(&self.scratch.0);
        }
    }
}

/// Runs all phases of a plan; returns when everything is committed, or with the first thing that went wrong.
pub fn run(plan: &Arc<Plan>, shared: &Arc<Shared>, cluster: Cluster) -> Result<Outcome> {
    let alone = cluster.processes == 1;
    let cut = cluster.cut()?;
    let (builders, guard) = cluster.allocators(shared.threads)?;
    if !alone {
        quiet_panics();
    }
    let (job, all) = (Arc::clone(plan), Arc::clone(shared));
    // Batch systems say it with SIGTERM before they kill: the run stops cleanly, and what is under way is done again later.
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (until, failure) = (signals.handle(), shared.failure.clone());
    let listening = std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let name = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            failure.raise(anyhow::anyhow!("stopped by {name}; the same command goes on from here"));
        }
    })?;
    let guards = timely::communication::initialize_from(builders, guard, move |allocator| {
        let failure = all.failure.clone();
        // The readers and the models want the cores: no spinning.
        let config = timely::WorkerConfig::default().idle_spin(Duration::ZERO);
        let mut worker = timely::worker::Worker::new(config, allocator, Some(Instant::now()));
        match catch_unwind(AssertUnwindSafe(|| work(&mut worker, &job, &all))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failure.raise(error),
            Err(panic) if failure::disconnected(panic.as_ref()) => {
                failure.raise(anyhow::anyhow!("another process has stopped or can't be reached; its own message says why"));
            }
            Err(panic) => failure.panicked(&format!("worker {}", worker.index()), panic.as_ref()),
        }
        if failure.raised() {
            cut();
        }
        for dataflow in worker.installed_dataflows() {
            worker.drop_dataflow(dataflow);
        }
    });
    let guards = guards.map_err(|e| anyhow::anyhow!("cannot start the workers: {e}"))?;
    // Timely's threads panic where a connection breaks, and so does who joins them.
    match catch_unwind(AssertUnwindSafe(|| guards.join())) {
        Ok(all) => {
            for error in all.into_iter().filter_map(Result::err) {
                shared.failure.raise(anyhow::anyhow!("a worker has stopped: {error}"));
            }
        }
        Err(_) => shared.failure.raise(anyhow::anyhow!("the connection to another process broke; its own message says why")),
    }
    until.close();
    let _ = listening.join();
    if let Some(error) = shared.failure.take() {
        // Not before a commit that is under way is written: the lock goes with the ledger.
        drop(shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).take());
        return Err(error);
    }
    let passes = shared.passes.lock().unwrap_or_else(PoisonError::into_inner);
    let unit_rows = passes.values().flat_map(|p| p.phase.unit_rows()).collect();
    let ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner).take();
    let routings = passes.values().flat_map(|p| &p.phase.routings);
    let orders =
        routings.flat_map(|(step, routing)| routing.orders.iter().enumerate().map(|(output, order)| (*step, output, order)));
    let mixes = orders.map(|(step, output, order)| (Port { step, output }, order.taken_of().collect())).collect();
    Ok(Outcome { state: shared.state().clone(), unit_rows, mixes, ledger })
}

/// Panics on timely's own threads are reported as failures; here they would be shown as well.
fn quiet_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let of_timely = std::thread::current().name().is_some_and(|n| n.starts_with("timely:"));
        if !of_timely && !failure::disconnected(info.payload()) {
            usual(info);
        }
    }));
}

/// What one worker does: phase after phase, pass after pass.
fn work(worker: &mut timely::worker::Worker, plan: &Arc<Plan>, shared: &Arc<Shared>) -> Result<()> {
    let mut number = 0;
    for phase in 0..plan.phases.len() {
        loop {
            let pass = pass(worker, plan, shared, number, phase)?;
            number += 1;
            if pass.pending.is_empty() {
                break;
            }
            let (committed, over) = build(worker, plan, shared, &pass);
            while !committed.done() {
                if shared.failure.raised() {
                    return Ok(());
                }
                worker.step_or_park(Some(Duration::from_millis(20)));
                over.with_frontier(|f| f.first().map(|t| pass.frontier.fetch_max(*t, Ordering::Relaxed)));
            }
            // Not a moment may lie between: another pass would do what has failed as if it had been quarantined.
            if shared.failure.raised() {
                return Ok(());
            }
            enough_is_left(plan, shared, &pass.phase)?;
        }
    }
    Ok(())
}

/// The pass of this number: the first worker of the process that comes makes it, from what the log says.
fn pass(
    worker: &timely::worker::Worker,
    plan: &Arc<Plan>,
    shared: &Arc<Shared>,
    number: usize,
    phase: usize,
) -> Result<Arc<Pass>> {
    let mut passes = shared.passes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pass) = passes.get(&number) {
        return Ok(Arc::clone(pass));
    }
    let before = number.checked_sub(1).and_then(|n| passes.get(&n)).filter(|p| p.phase.number == phase);
    let phase = match before {
        Some(pass) => Arc::clone(&pass.phase),
        None => {
            let state = shared.state().clone();
            let start = |step: usize| start(plan, &shared.runtime, step, ((worker.index(), shared.peers), None));
            let basis = Basis { plan, state: &state, units: &shared.units, folder: &shared.folder, start: &start };
            let made = Phase::of(basis, phase)?;
            tell(shared, vec![made.begin()])?;
            Arc::new(made)
        }
    };
    // In every pass: the one before may have quarantined ranges.
    let idle = idle_parts(plan, &phase, &shared.state());
    tell(shared, idle)?;
    let state = shared.state();
    // What another level will not read any more, and what a pass has made in vain.
    let read = |c: &&Commit| plan.phases.get(c.phase).is_some_and(|of| of.level + 1 >= phase.level);
    if let Some(kept) = &shared.kept {
        kept.retain(state.commits.values().filter(read).flat_map(|c| &c.spills));
    }
    let pending: Vec<u64> = (0..phase.parts.len() as u64).filter(|p| !state.commits.contains_key(&(phase.number, *p))).collect();
    // What could not be surveyed can't be read.
    let same = |p: usize| p <= phase.number && plan.phases.get(p).is_some_and(|of| of.level == phase.level);
    let left_out: BTreeSet<u64> = state.quarantined.keys().filter(|(p, _)| same(*p)).map(|(_, u)| *u).collect();
    drop(state);
    let processes = (shared.peers / shared.threads) as u64;
    let mine = pending.iter().enumerate().filter(|(i, _)| *i as u64 % processes == shared.process as u64).map(|(_, p)| *p);
    // Ranges hold no permits: the window keeps them within the budget. Each is in memory up to three times (as it came, in
    // its new order, and on its way); those under way are spread over all processes.
    let largest = phase.largest_part(plan).max(1);
    let fit = if phase.level == 0 { u64::MAX } else { shared.budget.limit().saturating_mul(processes) / (3 * largest) };
    let window = fit.clamp(1, 4 * shared.peers as u64);
    let queue = Queue::new(mine.collect::<Vec<_>>());
    // So that reading begins while the workers still open what they need.
    let frontier = AtomicU64::new(pending.first().copied().unwrap_or(0));
    let pass = Arc::new(Pass { phase, pending, left_out, queue, frontier, window });
    passes.insert(number, Arc::clone(&pass));
    Ok(pass)
}

/// Lines that every process can write down for itself; the one with the ledger does it in the log as well.
fn tell(shared: &Shared, lines: Vec<Line>) -> Result<()> {
    let mut state = shared.state();
    let new: Vec<Line> = lines
        .into_iter()
        .filter(|line| match line {
            Line::Begin { phase, basis, .. } => state.basis.get(phase) != Some(basis),
            Line::Commit(c) => !state.commits.contains_key(&(c.phase, c.part)),
            _ => true,
        })
        .collect();
    new.iter().for_each(|line| state.apply(line));
    drop(state);
    shared.commit(new.into_iter().map(|line| (line, Vec::new())).collect())?;
    Ok(())
}

/// Commits for ranges in which nothing is to be done: empty ones.
fn idle_parts(plan: &Plan, phase: &Phase, state: &State) -> Vec<Line> {
    let mut lines = Vec::new();
    // Of input files, a unit that can't be read is left out by the part that does the others; a part without any has nothing to do.
    let idle = |part: &&PartPlan| phase.level > 0 || part.units.is_empty();
    for (number, part) in phase.parts.iter().enumerate().filter(|(_, part)| idle(part)) {
        let left_out = part.units.iter().all(|u| state.quarantined.contains_key(&(phase.number, u.number)));
        if left_out || part.units.iter().all(|u| u.rows == 0) {
            let (out, kept) = part.units.iter().map(|u| u.number).partition(|_| left_out);
            let step = plan.steps[part.origin.step].name.clone();
            let rows = Rows { step, came: 0, out: vec![0; part.origin.output + 1], cut: 0, repeated: 0 };
            lines.push(Line::Commit(Commit {
                phase: phase.number,
                part: number as u64,
                units: kept,
                left_out: out,
                rows: vec![rows],
                ..Commit::default()
            }));
        }
    }
    lines
}

/// An error when more is quarantined than the pipeline allows: of the units, and of the parts of a new order.
fn enough_is_left(plan: &Plan, shared: &Shared, phase: &Phase) -> Result<()> {
    let state = shared.state();
    let Some(first) = state.in_quarantine().next() else { return Ok(()) };
    if plan.strict {
        bail!("{}: {} (`on_error: stop`)", first.what, first.reason);
    }
    let bad = state.in_quarantine().filter(|q| q.phase == phase.number).count();
    let (all, of) = match phase.level {
        0 => (shared.units.len(), "units"),
        _ => (phase.parts.len(), "parts of the new order"),
    };
    if bad as f64 / all.max(1) as f64 > plan.quarantine_at_most {
        bail!(
            "{bad} of {all} {of} are quarantined, more than `quarantine_at_most: {}` allows; the first: {}: {} (all of them: {})",
            plan.quarantine_at_most,
            first.what,
            first.reason,
            shared.folder.join("quarantine.jsonl").display()
        );
    }
    Ok(())
}

/// What the steps of a plan measure once, before the first unit, and that is not known yet, by name.
pub fn settle(plan: &Plan, runtime: &Runtime) -> Result<BTreeMap<String, u64>> {
    let mut settled = BTreeMap::new();
    for step in &plan.steps {
        let at = Start {
            worker: Worker { index: 0, peers: 1 },
            facts: &plan.facts,
            inputs: &step.inputs,
            outputs: &step.planned.outputs,
            runtime,
        };
        settled.extend(step.operator.settle(&at).with_context(|| format!("step `{}`", step.name))?);
    }
    Ok(settled)
}

/// A worker (its number, and how many there are), and what the step has found in its survey.
type OnWorker = ((usize, usize), Option<Arc<Sums>>);

/// Starts a step on a worker: its work or, where it is here to survey, that.
pub fn start(plan: &Plan, runtime: &Runtime, step: usize, ((index, peers), surveyed): OnWorker) -> Result<Work> {
    let planned = &plan.steps[step];
    let runtime = &Runtime { surveyed, ..runtime.clone() };
    let at = Start {
        worker: Worker { index, peers },
        facts: &plan.facts,
        inputs: &planned.inputs,
        outputs: &planned.planned.outputs,
        runtime,
    };
    let surveys = planned.goal && planned.planned.survey.is_some();
    let work = if surveys { planned.operator.survey(&at).map(Work::Fold) } else { planned.operator.start(&at) };
    work.with_context(|| format!("step `{}` could not start", planned.name))
}

/// Starts a step again, when its run is over: it knows what its survey has found.
pub fn again(plan: &Plan, state: &State, folder: &Path, runtime: &Runtime, step: usize) -> Result<Work> {
    let runtime = Runtime { settled: Arc::new(state.settled.clone()), ..runtime.clone() };
    start(plan, &runtime, step, ((0, 1), phase::surveyed(plan, state, folder, step)?))
}

/// The bytes of a run, and below which no piece should be, as the options of a run folder's first go have them.
pub fn sizes(plan: &Plan, options: &Options) -> (u64, u64) {
    let run = spill::held(plan, options.budget).0 / options.workers as u64;
    (options.sizes.run.unwrap_or(run), options.sizes.piece)
}

/// Bytes that a worker holds of an input of a step until it writes a run: what an earlier pass has kept is held already.
fn limit(shared: &Shared, step: &str) -> u64 {
    let kept = shared.kept.as_ref().map_or(0, |kept| kept.bytes_of(step)) / shared.threads as u64;
    shared.aside.saturating_sub(kept).max(shared.aside / 8)
}

/// Stands where a step could not start, so that the dataflow has the same form everywhere.
struct Broken;

impl Stage for Broken {
    fn take(&mut self, _: u64, _: parcel::Parcel, _: &mut Given) -> Result<()> {
        bail!("a step could not start")
    }
}

/// Builds the dataflow of a pass on this worker: what is done when everything is committed, and what says which parts are over.
fn build(
    worker: &mut timely::worker::Worker,
    plan: &Arc<Plan>,
    shared: &Arc<Shared>,
    pass: &Arc<Pass>,
) -> (ProbeHandle<u64>, ProbeHandle<u64>) {
    let index = worker.index();
    let whole = plan;
    let plan = plan.phases[pass.phase.number].survey.as_ref().unwrap_or(plan);
    worker.dataflow::<u64, _, _>(|scope| {
        let phase = &pass.phase;
        let mut streams: BTreeMap<Port, Stream<'_, u64, parcel::Chunk>> = BTreeMap::new();
        let mut records = Vec::new();
        if phase.regroups {
            let (of, all, plan) = (Arc::clone(pass), Arc::clone(shared), Arc::clone(plan));
            let (_, told) = source::source(scope, "runs again", 0, shared, move |reading| {
                regroup::put_aside_again(&plan, &of, &all, index, reading)
            });
            records.push(told);
        } else if phase.level == 0 {
            let mut sources = BTreeMap::new();
            let reads = index % shared.threads < shared.readers;
            for port in phase.origins.iter().filter(|_| reads) {
                match start(plan, &shared.runtime, port.step, ((index, shared.peers), None)) {
                    Ok(Work::Source(s)) => {
                        let schema = Arc::clone(&plan.steps[port.step].planned.outputs[0].schema);
                        sources.insert(port.step, (s, schema));
                    }
                    Ok(_) => shared.failure.raise(anyhow::anyhow!("`{}` is no source any more", plan.steps[port.step].name)),
                    Err(error) => shared.failure.raise(error),
                }
            }
            let (of, all) = (Arc::clone(pass), Arc::clone(shared));
            let (outputs, told) = source::source(scope, "read", phase.origins.len(), shared, move |reading| {
                if reads { source::read_parts(&of, sources, &all, reading) } else { Ok(()) }
            });
            streams.extend(phase.origins.iter().copied().zip(outputs));
            records.push(told);
        } else {
            let (of, all) = (Arc::clone(pass), Arc::clone(shared));
            let (outputs, told) = source::source(scope, "runs", phase.origins.len(), shared, move |reading| {
                gather::read_parts(&of, &all, index, reading)
            });
            records.push(told);
            for (port, stretches) in phase.origins.iter().zip(outputs) {
                let schema = Arc::clone(&plan.steps[port.step].planned.outputs[port.output].schema);
                let making = match start(whole, &shared.runtime, port.step, ((index, shared.peers), None)) {
                    Ok(Work::Join(join)) => gather::Making::Join(join, plan.steps[port.step].from.len()),
                    Ok(_) => {
                        gather::Making::Order(phase.asides.get(&port.step).map(|a| Arc::clone(&a.routing)).unwrap_or_default())
                    }
                    Err(error) => {
                        shared.failure.raise(error);
                        gather::Making::Order(Arc::default())
                    }
                };
                let placer = Box::new(gather::Placer::new(*port, Arc::clone(phase), schema, making));
                let name = format!("{} in order", plan.steps[port.step].name);
                let (mut placed, told) = operator::exchanged(scope, &name, stretches, 1, (placer, On::Thread), shared);
                records.push(told);
                streams.extend(placed.pop().map(|s| (*port, s)));
            }
        }
        for (step, planned) in plan.steps.iter().enumerate() {
            let shape = planned.planned.shape;
            if planned.level != phase.level || phase.regroups || planned.idle || matches!(shape, Shape::Source | Shape::Page) {
                continue;
            }
            let gives = match shape {
                Shape::Map | Shape::Device => !planned.goal,
                Shape::Shuffle => !planned.spills && !planned.goal,
                _ => false,
            };
            let on = match shape {
                Shape::Map | Shape::Fold => On::Worker,
                Shape::Shuffle if gives || planned.goal => On::Worker,
                _ => On::Thread,
            };
            let surveys = planned.goal && planned.planned.survey.is_some();
            let inputs = if surveys { 1 } else { planned.from.len() };
            for (input, port) in planned.from.iter().enumerate().take(inputs) {
                let Some(stream) = streams.get(port).cloned() else { continue };
                let stage: Box<dyn Stage> = match step_stage((whole, plan), shared, pass, (step, input), index) {
                    Ok(stage) => Box::new(stage),
                    Err(error) => {
                        shared.failure.raise(error);
                        Box::new(Broken)
                    }
                };
                let outputs = if gives { planned.planned.outputs.len() } else { 0 };
                let (outputs, told) = operator::stage(scope, &planned.name, stream, outputs, (stage, on), shared);
                records.push(told);
                streams.extend(outputs.into_iter().enumerate().map(|(output, s)| (Port { step, output }, s)));
            }
        }
        let over = ProbeHandle::new();
        let records = scope.concatenate(records).probe_with(&over);
        (commit::commit(scope, records, plan, pass, shared), over)
    })
}

/// The stage of an input of a step.
fn step_stage(
    (whole, plan): (&Plan, &Plan),
    shared: &Arc<Shared>,
    pass: &Pass,
    (step, input): (usize, usize),
    worker: usize,
) -> Result<StepStage> {
    let planned = &plan.steps[step];
    let outputs = &planned.planned.outputs;
    let routing = || pass.phase.routings.get(&step).cloned().context("a shuffle whose rows were not counted");
    let spill = |router| -> Result<Kind> {
        let routing = routing()?;
        let read = |output| whole.takers(Port { step, output }).next().is_some();
        let parts = (0..outputs.len()).map(|output| if read(output) { routing.pieces(output).0 } else { 0 }).collect();
        let schema = &planned.inputs[input].schema;
        let limit = limit(shared, &planned.name);
        let spiller = Spiller::new((&planned.name, input), schema, shared.scratch.clone(), parts, limit);
        let spiller = spiller.in_pieces_of(routing.pieces(0).1).until(&shared.failure);
        Ok(Kind::Spill(router, Box::new(spiller.keeping(shared.kept.clone())), input))
    };
    let surveyed = pass.phase.surveyed.get(&step).cloned();
    let kind = match start(plan, &shared.runtime, step, ((worker, shared.peers), surveyed))? {
        Work::Map(map) => Kind::Map(map),
        Work::Device(device) => {
            if let Some(meter) = device.meter() {
                timeline::follow(&meter, &planned.name);
                shared.devices.add(step, meter);
            }
            Kind::Device(device)
        }
        Work::Fold(fold) => Kind::Fold(fold, Sums::default()),
        Work::Sink(sink) => {
            let place = SinkPlace {
                folder: shared.folder.join(&planned.name),
                staging: shared.folder.join(".staging").join(format!("{}-{worker}", planned.name)),
            };
            Kind::Sink { sink, place, begun: false }
        }
        Work::Shuffle(shuffle) if planned.goal => Kind::Count(Tally::new(shuffle, outputs.len(), strata(plan, step))),
        Work::Shuffle(shuffle) if planned.spills => spill(Router::shuffle(shuffle, routing()?))?,
        Work::Shuffle(shuffle) => Kind::Select(Router::shuffle(shuffle, routing()?)),
        Work::Join(join) => spill(Router::join(join, input, routing()?))?,
        Work::Source(_) | Work::Page(_) | Work::Feed(_) => {
            bail!("`{}` was planned as another shape than it started as", planned.name)
        }
    };
    let schemas = match planned.planned.shape {
        _ if matches!(kind, Kind::Fold(..)) => Vec::new(),
        Shape::Sink => Vec::new(),
        _ => outputs.iter().map(|o| Arc::clone(&o.schema)).collect(),
    };
    let counter = Arc::clone(&shared.counters[step]);
    Ok(StepStage::new((step, &planned.name), schemas, kind, (Arc::clone(&pass.phase), counter)))
}
