//! The shapes of work that the engine can schedule. What is not here, an operator cannot do.
//!
//! Each shape is a small trait; the engine owns threads, order, memory permits, counting and commits. Rows are counted by
//! the engine on both sides of every call: rows in = rows out + cut, for every step and unit, or the run is not done.

use crate::feeding::Feeding;
use crate::kept::Kept;
use crate::meter::Meter;
use crate::statistics::figure::Summary;
use crate::statistics::sums::Sums;
use crate::{Facts, Fault, Output, Unit};
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Which worker this is.
#[derive(Debug, Clone, Copy)]
pub struct Worker {
    /// Its number, over all processes.
    pub index: usize,
    /// How many there are, over all processes.
    pub peers: usize,
}

/// What is known only when a run begins: where the parts of calostream that are not in this process are to be found, and
/// which files are read.
#[derive(Debug, Clone, Default)]
pub struct Runtime {
    /// The HDF5 reader program.
    pub reader: PathBuf,
    /// ONNX Runtime's shared library, where `--onnxruntime` names one.
    pub onnxruntime: Option<PathBuf>,
    /// How long the HDF5 reader may be silent, where it is not the usual minute.
    pub patience: Option<Duration>,
    /// The fingerprints of the files that are read, by their number (as in the column `file`).
    pub fingerprints: Arc<BTreeMap<u32, String>>,
    /// The folder in which long chunk indices of HDF5 files are kept from one go to the next (`hdf5::chunk_file`).
    pub chunks: Option<PathBuf>,
    /// What the survey of the step that starts has found, where it has one ([`crate::Operator::survey`]): the sums over all
    /// rows that come to it.
    pub surveyed: Option<Arc<Sums>>,
    /// What was measured once before the first unit, by name ([`crate::Operator::settle`]).
    pub settled: Arc<BTreeMap<String, u64>>,
    /// What was opened in goes before this one; none where there are no others.
    pub kept: Option<Arc<Kept>>,
}

/// What an operator is given to start its work on one worker.
#[derive(Debug)]
pub struct Start<'a> {
    /// Which worker this is.
    pub worker: Worker,
    /// What was found before planning.
    pub facts: &'a Facts,
    /// The inputs as they will come: the columns that nobody reads are taken out.
    pub inputs: &'a [Output],
    /// The outputs as they must go; a source may leave out what is not in here and should not read it.
    pub outputs: &'a [Output],
    /// Paths of helpers.
    pub runtime: &'a Runtime,
}

/// The work of one step on one worker.
pub enum Work {
    /// Reads one unit at a time, on a thread of its own, under the byte budget.
    Source(Box<dyn Source>),
    /// Batch to batch, row order kept, never waits.
    Map(Box<dyn Map>),
    /// The same on a thread of its own, with a tail at the end of a unit: inference, anything long or blocking.
    Device(Box<dyn Device>),
    /// A place in a new order for each row; the engine counts, routes, spills and sorts.
    Shuffle(Box<dyn Shuffle>),
    /// Rows of several inputs brought together by key; the engine routes and spills.
    Join(Box<dyn Join>),
    /// Batch to sums by key, which the engine adds up exactly; and sums to a table.
    Fold(Box<dyn Fold>),
    /// Stages a part; the engine commits it.
    Sink(Box<dyn Sink>),
    /// A page made of tables.
    Page(Page),
    /// Batches for a program that trains on them; the engine orders, mixes and hands over.
    Feed(Box<Feeding>),
}

/// Reads one unit at a time.
pub trait Source: Send {
    /// The batches of a unit, in row order. The engine takes a permit for `unit.row_bytes` a row before each `next`, so a
    /// batch must be made in `next` and not before.
    fn read<'a>(&'a mut self, unit: &'a Unit) -> Result<Batches<'a>, Fault>;
    /// What was noticed since this was asked last: the engine asks at the end of each unit, and writes it down with the
    /// unit's commit.
    fn noticed(&mut self) -> Noticed {
        Noticed::new()
    }
    /// How many rows were cut since this was asked last: asked with [`Source::noticed`]. Rows that are given and rows that
    /// are cut make the rows of the unit.
    fn cut(&mut self) -> u64 {
        0
    }
}

/// How many of what were dropped or changed on purpose within rows that go on, in words (`` negative cells of `ecal`
/// dropped``). Nothing that the pipeline asked for happens without a count.
pub type Noticed = BTreeMap<String, u64>;

/// Adds `count` to what was noticed, where it is any.
pub fn notice(noticed: &mut Noticed, count: usize, what: impl FnOnce() -> String) {
    if count > 0 {
        *noticed.entry(what()).or_default() += count as u64;
    }
}

/// The batches of one unit, in row order.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch, Fault>> + 'a>;

/// What a map made of a batch: rows in (+ repeated) = rows out + cut.
pub struct Mapped {
    /// The rows that go on, in their order.
    pub batch: RecordBatch,
    /// The rows that were cut.
    pub cut: u64,
}

/// Batch to batch.
pub trait Map: Send {
    /// One batch.
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault>;
    /// How many rows were given beyond the first of each that came, since this was asked last: asked after each batch.
    fn repeated(&mut self) -> u64 {
        0
    }
    /// What was noticed since this was asked last: asked at the end of each unit.
    fn noticed(&mut self) -> Noticed {
        Noticed::new()
    }
}

/// Batch to batch on a thread of its own.
pub trait Device: Send {
    /// Takes a batch of a unit, gives the batches that are ready. Every row comes out once, in order, or is cut.
    fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, Fault>;
    /// The unit is over: gives the rest. What is held belongs to no later unit.
    fn end(&mut self) -> Result<Vec<RecordBatch>, Fault>;
    /// The unit is quarantined: what is held is dropped.
    fn forget(&mut self);
    /// Where it is counted what the device does: asked once, before the first batch.
    fn meter(&self) -> Option<Arc<Meter>> {
        None
    }
    /// How many rows were cut since this was asked last: asked at the end of each unit.
    fn cut(&mut self) -> u64 {
        0
    }
    /// What was noticed since this was asked last: asked at the end of each unit.
    fn noticed(&mut self) -> Noticed {
        Noticed::new()
    }
}

/// Where a row belongs in a shuffle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    /// The output, by number.
    pub output: u8,
    /// The stratum (a class) within the output; each stratum is spread evenly over the whole order.
    pub stratum: u16,
}

/// What becomes of the rows of a lane, which stand in a keyed order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// So many of them are taken, the first ones; where there are fewer, they come again, each time in another order.
    pub rows: u64,
    /// They are spread as if they were so many: more than `rows` where the lane ends before the others do.
    pub of: u64,
}

/// A new order, made of lanes. The engine counts the rows of each lane first, then gives each row its rank in its lane, and
/// from the rank its place: the `j`-th row of a lane of `of` stands at `(j + u) / of` of the way, `u` in [0, 1) by key.
pub trait Shuffle: Send {
    /// The lane of each row of the batch, none for a row that is cut: the same each time the row comes.
    fn lanes(&mut self, batch: &RecordBatch, lanes: &mut Vec<Option<Lane>>) -> Result<(), Fault>;
    /// What is taken of each lane, from how many rows there are: `[output][stratum]`; pure. An error where what was asked
    /// for can't be had.
    fn shares(&self, counts: &[Vec<u64>]) -> anyhow::Result<Vec<Vec<Share>>>;
    /// The seed of the order.
    fn seed(&self) -> u64;
}

/// Rows of several inputs that have a key in common. The engine brings the rows of equal keys together.
pub trait Join: Send {
    /// The key of each row of a batch of an input, hashed: equal keys have equal hashes, which are spread over `u64`.
    fn keys(&mut self, input: usize, batch: &RecordBatch, keys: &mut Vec<u64>) -> Result<(), Fault>;
    /// Joins what has come of the inputs within a range of hashes, in no particular order. What comes out depends on the rows
    /// alone.
    fn join(&mut self, inputs: &[RecordBatch]) -> Result<Mapped, Fault>;
}

/// Batch to sums by key; and, from the sums, a table.
pub trait Fold: Send {
    /// Adds the rows of a batch.
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault>;
    /// What people quote: a pure function of the sums.
    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary>;
}

/// The part that a sink is asked to make: a run of units, in order.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its number among the parts of this step, from 1.
    pub number: u64,
    /// Its number among the parts of this step and sample, from 1.
    pub number_in_sample: u64,
    /// The sample, where all of its rows are of one.
    pub sample: Option<&'a str>,
    /// The folder to write into. Names in it are free until the part is committed.
    pub staging: &'a Path,
}

/// A file that was written whole and fsynced, waiting for its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Where it is now.
    pub path: PathBuf,
    /// The name that it gets in the step's folder: a function of the part alone.
    pub name: String,
    /// Rows in it.
    pub rows: u64,
}

/// Stages parts, on a thread of its own.
pub trait Sink: Send {
    /// Begins a part.
    fn begin(&mut self, part: &Part<'_>) -> Result<(), Fault>;
    /// Adds rows to the part.
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Fault>;
    /// Ends the part: everything is on disk and fsynced.
    fn finish(&mut self) -> Result<Vec<Staged>, Fault>;
    /// Forgets the part that was begun.
    fn abandon(&mut self);
    /// Makes one file (or some) of all parts of the step, where it was planned to ([`crate::planned::Assembled`]).
    ///
    /// Asked of a sink of its own, in one process, when every part of the run is committed; the engine commits what comes
    /// back. A pure function of the parts in their order: a run that is killed meanwhile asks again.
    fn assemble(&mut self, _: &Assembly<'_>) -> Result<Vec<Staged>, Fault> {
        Ok(Vec::new())
    }
}

/// The parts of a step that are to be put together, and what may be used for it.
pub struct Assembly<'a> {
    /// The files, in the order of their parts.
    pub files: &'a [Finished],
    /// Looks at all bytes of file number `n`, which it must before that is read: an error where they are not those that were
    /// committed.
    pub check: &'a dyn Fn(usize) -> anyhow::Result<()>,
    /// The folder to write into. Names in it are free.
    pub staging: &'a Path,
    /// Threads that may be at work.
    pub threads: usize,
    /// Bytes that may be held.
    pub memory: u64,
    /// True when the run is to stop; to be asked often.
    pub stop: &'a dyn Fn() -> bool,
}

/// A file of a part that is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Where it is.
    pub path: PathBuf,
    /// Rows in it.
    pub rows: u64,
}

/// A page made of tables.
#[derive(Debug, Clone)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// A sentence or two under the title.
    pub about: Option<String>,
}
