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
mod build;
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
mod pass;
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
use crate::ledger::log::Line;
use crate::ledger::units::Numbered;
use crate::ledger::{Ledger, Settled, State};
use crate::plan::{Plan, Port, spill};
use anyhow::{Context, Result};
use budget::Budget;
use calostream_operators::statistics::sums::Sums;
use calostream_operators::work::{Runtime, Start};
use calostream_operators::{Work, Worker};
use counter::Counter;
use devices::{Devices, Figures};
use pass::Pass;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
            let pass = pass::pass(worker, plan, shared, number, phase)?;
            number += 1;
            if pass.pending.is_empty() {
                break;
            }
            let (committed, over) = build::build(worker, plan, shared, &pass);
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
            pass::enough_is_left(plan, shared, &pass.phase)?;
        }
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
