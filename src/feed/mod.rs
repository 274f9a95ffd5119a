//! Feeding: the rows of a pipeline as batches for a program that trains on them, epoch after epoch.
//!
//! ```text
//!   lane 0: source -> steps -> rows that wait      (as many lanes at work as there are workers)
//!   lane 1: ...                     |
//!                                [mixing]           one thread: rows in the order of their keys, `window` of them held
//!                                   | which rows make the next batch
//!                            [maker] [maker] ...    images made dense, the batch encoded
//!                                   |
//!                                [giving]           the main thread: writes to the consumer
//! ```
//!
//! Invariants:
//!
//! 1. Which row stands at which position of an epoch follows from the seed, the epoch, the window and the list of pieces alone
//!    ([`order`]). Steps may cut rows: that leaves holes, and moves nobody.
//! 2. Every queue is bounded, so a consumer that is slow holds everything up and costs no memory.
//! 3. A row that was read is fed, cut by a step that was asked to, or said to be left out: nothing is lost in silence.
//! 4. No timely here: a feed commits nothing and is never gone on with from a ledger; the consumer knows what it has used, and
//!    says where to begin.

mod chain;
mod giving;
mod lane;
mod mixing;
pub mod order;
pub mod outlet;
mod quality;
pub mod told;

use crate::flow::Failure;
use crate::plan::Plan;
use anyhow::{Context, Result, bail, ensure};
use calostream_operators::feeding::{Feeding, Last};
use calostream_operators::work::Runtime;
use calostream_operators::{Facts, Unit, Work, words};
pub use giving::End;
use lane::Gate;
use order::Order;
use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use told::{Display, Manner, Told};

/// A batch of a lane's queue is about so large, and a lane holds about three: in hand, in the queue, in the window.
const QUEUED: u64 = 3 * (8 << 20);
/// Batches of a maker on their way to the consumer: one that is made, what it is encoded to, one before it.
const HANDED: u64 = 3;
/// More makers than this wait for each other.
const MOST_MAKERS: usize = 8;

/// What lanes have to know of an epoch.
#[derive(Debug)]
struct Epoch {
    /// What each lane reads: pieces in order, with the rows that are wanted of each.
    lists: Vec<Vec<(usize, Range<u64>)>>,
    /// What the steps are started with, whose draws depend on the epoch.
    facts: Facts,
}

/// What a feed is to do, beside the plan.
#[derive(Debug, Clone)]
pub struct Options {
    /// The number of the step.
    pub step: usize,
    /// Threads that may be at work on reading, and as many that make batches.
    pub workers: usize,
    /// Bytes that may be held.
    pub budget: u64,
    /// Rows of a batch, where not those of the pipeline.
    pub batch: Option<usize>,
    /// Which consumer of how many.
    pub rank: (u64, u64),
    /// Epoch and position to begin at; none for their beginnings.
    pub start: Option<(u32, Option<u64>)>,
    /// How many epochs there are; none without an end.
    pub epochs: Option<u32>,
    /// How it says how it goes.
    pub manner: Manner,
    /// Where helpers are found.
    pub runtime: Runtime,
}

/// A feed under way: what its threads share.
#[derive(Debug)]
pub struct Going {
    plan: Arc<Plan>,
    source: usize,
    steps: Vec<usize>,
    feeding: Feeding,
    units: Vec<Unit>,
    order: Order,
    runtime: Runtime,
    gate: Gate,
    makers: usize,
    held: Arc<AtomicU64>,
    limit: u64,
    failure: Failure,
    /// What is said.
    pub told: Told,
    rank: (u64, u64),
    start: (u32, u64),
    epochs: Option<u32>,
    known: Mutex<BTreeMap<u32, Arc<Epoch>>>,
}

impl Going {
    /// A feed; an error where what was asked for can't be.
    pub fn new(plan: &Arc<Plan>, units: Vec<Unit>, options: Options) -> Result<Self> {
        let (source, steps) = chain::between(plan, options.step)?;
        let Work::Feed(feeding) = chain::start(plan, options.step, &plan.facts, &options.runtime, (0, 1))? else {
            bail!("`{}` is no feed", plan.steps[options.step].name)
        };
        let feeding = Feeding { batch: options.batch.unwrap_or(feeding.batch), ..*feeding };
        let order = Order::new(&units, plan.seed, feeding.window, feeding.files_at_once);
        ensure!(order.rows() > 0, "there is nothing to feed: {} without events", words::counted(units.len() as u64, "file"));
        let (rank, of) = options.rank;
        let own = order.positions(rank, of);
        ensure!(!own.is_empty(), "rank {rank} of {of} would have none of the {}", words::counted(order.rows(), "event"));
        let enough = feeding.last == Last::Keep || own.end - own.start >= feeding.batch as u64;
        ensure!(enough, "rank {rank} of {of} has {}, fewer than a batch, and `last: drop` leaves them out", own.end - own.start);
        let start = options.start.map_or((0, own.start), |(epoch, position)| (epoch, position.unwrap_or(own.start)));
        if let Some(epochs) = options.epochs {
            ensure!(start.0 < epochs, "epoch {} is beyond the end: `--epochs {epochs}` are epochs 0 to {}", start.0, epochs - 1);
        }
        ensure!(
            (own.start..=own.end).contains(&start.1),
            "position {} is not one of this consumer: rank {rank} of {of} has {} to {}",
            start.1,
            own.start,
            own.end
        );
        let limit = limit(plan, &options, (source, &steps), &feeding, order.lanes())?;
        Ok(Self {
            plan: Arc::clone(plan),
            source,
            steps,
            feeding,
            units,
            order,
            runtime: options.runtime,
            gate: Gate::new(options.workers),
            makers: options.workers.min(MOST_MAKERS),
            held: Arc::default(),
            limit,
            failure: Failure::default(),
            told: Told::new(options.manner),
            rank: options.rank,
            start,
            epochs: options.epochs,
            known: Mutex::default(),
        })
    }

    /// What the order follows from, in short: who goes on with another one gets other events.
    pub fn digest(&self) -> String {
        let units = self.units.iter().map(|u| (&u.fingerprint, u.first, u.rows, &u.sample));
        let of = (self.plan.seed, self.order.window(), self.order.lanes(), units.collect::<Vec<_>>());
        crate::ledger::log::hash(serde_json::json!(of).to_string().as_bytes())
    }

    /// What is fed, and to whom, in words.
    pub fn about(&self) -> String {
        let own = self.own();
        let which = match self.rank {
            (_, 1) => String::new(),
            (rank, of) => format!(", of which rank {rank} of {of} has positions {} to {}", own.start, own.end),
        };
        let (epoch, position) = self.start;
        let from = if (epoch, position) == (0, own.start) {
            String::new()
        } else {
            format!(", from epoch {epoch}, position {position} on")
        };
        format!(
            "{}{which}, in batches of {}, {} files at once, mixed over {}{from}",
            words::counted(self.order.rows(), "event"),
            words::count(self.feeding.batch as u64),
            self.order.lanes(),
            words::counted(self.order.window(), "event"),
        )
    }

    /// The positions of this consumer.
    fn own(&self) -> Range<u64> {
        self.order.positions(self.rank.0, self.rank.1)
    }

    /// The epochs, each with the positions that are wanted of it.
    fn epochs(&self) -> impl Iterator<Item = (u32, Range<u64>)> + '_ {
        let own = self.own();
        let begin = move |epoch| if epoch == self.start.0 { self.start.1 } else { own.start };
        (self.start.0..self.epochs.unwrap_or(u32::MAX)).map(move |epoch| (epoch, begin(epoch)..own.end))
    }

    /// What lanes have to know of an epoch; made once.
    fn epoch(&self, epoch: u32, positions: &Range<u64>) -> Arc<Epoch> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Lanes are at most an epoch apart.
        known.retain(|of, _| of + 2 > epoch);
        let made = || Epoch {
            lists: self.order.lists(epoch, self.order.numbers(positions)),
            facts: Facts { epoch: u64::from(epoch), ..(*self.plan.facts).clone() },
        };
        Arc::clone(known.entry(epoch).or_insert_with(|| Arc::new(made())))
    }

    /// An error where the rows that wait are more than the budget has room for.
    fn fits(&self, held: u64) -> Result<()> {
        ensure!(
            held <= self.limit,
            "the {} that are mixed take {} and the budget has room for {}: give `feed` a smaller `window`, or the pipeline a larger `budget`",
            words::counted(self.order.window(), "event"),
            words::bytes(held),
            words::bytes(self.limit)
        );
        Ok(())
    }
}

/// The bytes that rows may take while they wait: the budget less what reading, the steps and batches on their way take.
fn limit(plan: &Plan, options: &Options, (source, steps): (usize, &[usize]), feeding: &Feeding, lanes: usize) -> Result<u64> {
    let lanes = lanes as u64;
    let holds = |step: usize| plan.steps[step].planned.holds;
    let reading = lanes * (holds(source) + steps.iter().map(|step| holds(*step)).sum::<u64>());
    let row_bytes = plan.steps[options.step].inputs.first().map_or(0, |input| input.row_bytes);
    let makers = options.workers.min(MOST_MAKERS) as u64;
    let handed = (HANDED * makers + 1) * feeding.batch as u64 * feeding.rows.row_bytes(row_bytes);
    let waiting = feeding.window * row_bytes + lanes * QUEUED;
    let least = reading + handed + waiting;
    let (of, share) = (options.rank.1, words::bytes(options.budget.saturating_mul(options.rank.1)));
    let share = match plan.budget {
        None if of > 1 => {
            format!(" (of this machine's {share}, shared by `--of {of}` consumers; elsewhere `budget:` says what each has)")
        }
        _ => String::new(),
    };
    ensure!(
        options.budget >= least,
        "the budget of {}{share} is too small: {lanes} files that are read at once hold up to {}, rows that are mixed {}, batches {}; \
         at least `budget: {}`, or fewer `files_at_once`, a smaller `window` or `batch`",
        words::bytes(options.budget),
        words::bytes(reading),
        words::bytes(waiting),
        words::bytes(handed),
        words::bytes(least)
    );
    Ok(options.budget - reading - handed)
}

/// Feeds whom `connect` waits for; everything is under way by then.
///
/// `connect` is given a question that it asks while it waits: whether that is in vain, because something has failed.
pub fn run(going: &Arc<Going>, connect: impl FnOnce(&dyn Fn() -> bool) -> Result<Box<dyn Write>>) -> Result<End> {
    let mut lanes = Vec::new();
    for lane in 0..going.order.lanes() {
        let (send, receive) = sync_channel(1);
        lanes.push(receive);
        thread(going, format!("lane-{lane}"), move |going| lane::read(going, lane, &send))?;
    }
    let (mut picked, mut made): (Vec<_>, Vec<Receiver<_>>) = (Vec::new(), Vec::new());
    for maker in 0..going.makers {
        let (send_picked, receive_picked) = sync_channel(1);
        let (send_made, receive_made) = sync_channel(1);
        picked.push(send_picked);
        made.push(receive_made);
        thread(going, format!("maker-{maker}"), move |going| giving::make(going, &receive_picked, &send_made))?;
    }
    let mut queues = Some((lanes, picked));
    thread(going, "mixing".into(), move |going| {
        let Some((lanes, picked)) = queues.take() else { return Ok(()) };
        let mut mixing = mixing::Mixing::new(going, lanes, picked);
        mixing.run().map_err(|error| going.failure.raise(error)).ok();
        Ok(())
    })?;
    let display = Display::start(going);
    let end = connect(&|| going.failure.raised()).and_then(|mut to| giving::give(going, &made, to.as_mut()));
    drop(display);
    match going.failure.take() {
        Some(error) => Err(error),
        None => end,
    }
}

/// Runs a part of a feed on a thread of its own; however it ends, an error or a panic of it is raised before its queues close
/// (they are the closure's, which is therefore not consumed): who finds a queue closed looks whether something has failed.
fn thread(going: &Arc<Going>, name: String, mut work: impl FnMut(&Going) -> Result<()> + Send + 'static) -> Result<()> {
    let going = Arc::clone(going);
    let words = name.clone();
    let body = move || {
        let failure = going.failure.clone();
        let inner = AssertUnwindSafe(|| work(&going).map_err(|error| failure.raise(error)));
        if let Err(panic) = catch_unwind(inner) {
            failure.panicked(&words, panic.as_ref());
        }
    };
    std::thread::Builder::new().name(name).spawn(body).map(drop).context("cannot start a thread")
}
