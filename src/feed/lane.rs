//! A lane: the thread that reads pieces one after the other, takes them through the steps, and says of every row whether it is
//! still there.
//!
//! A lane has a source of its own, so that a piece lies open while others are read; it is ahead of the order by what its queue
//! holds. As many lanes work at the same time as there are workers; those that wait for room are not at work.
//!
//! The steps start anew in each epoch: their draws are others then.

use super::Going;
use super::chain::{Chain, Out, events, start};
use crate::files::Patience;
use anyhow::{Context, Result, bail};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use calostream_operators::work::Source;
use calostream_operators::{Fault, Work, column};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// What is known of the rows of a piece up to a place, from where the chunk before ended.
#[derive(Debug)]
pub struct Chunk {
    /// The epoch.
    pub epoch: u32,
    /// The piece.
    pub piece: usize,
    /// The place in the piece up to which all rows are here, or in a chunk before, or gone.
    pub until: u64,
    /// The rows that are there, as they wait.
    pub batch: Option<RecordBatch>,
    /// Their places in the piece.
    pub places: Vec<u64>,
    _held: Held,
}

/// Rows that are to be made into a batch.
#[derive(Debug)]
pub struct Picked {
    /// The epoch.
    pub epoch: u32,
    /// The position of each row.
    pub positions: Vec<u64>,
    /// Where rows are.
    pub chunks: Vec<Arc<Chunk>>,
    /// Each row: its chunk among those, and its place there.
    pub rows: Vec<(usize, usize)>,
}

/// Bytes of rows that wait; given back when dropped.
#[derive(Debug)]
struct Held(Arc<AtomicU64>, u64);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Lets so many at a time.
#[derive(Debug)]
pub struct Gate {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    /// A gate for so many.
    pub fn new(many: usize) -> Self {
        Self { free: Mutex::new(many), freed: Condvar::new() }
    }

    /// Does something when it is let.
    pub fn pass<T>(&self, work: impl FnOnce() -> T) -> T {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        drop(free);
        let made = work();
        *self.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.freed.notify_one();
        made
    }
}

/// What a lane does, until it is done or nobody listens.
pub fn read(going: &Going, lane: usize, send: &SyncSender<Chunk>) -> Result<()> {
    let of = (lane, going.order.lanes());
    let Work::Source(mut source) = start(&going.plan, going.source, &going.plan.facts, &going.runtime, of)? else {
        bail!("`{}` is no source", going.plan.steps[going.source].name)
    };
    for (epoch, positions) in going.epochs() {
        let known = going.epoch(epoch, &positions);
        let list = known.lists.get(lane).context("a lane without a list")?;
        if list.is_empty() {
            continue;
        }
        let mut chain = Chain::new(&going.plan, &going.steps, &going.feeding, &known.facts, &going.runtime, of)?;
        for (piece, rows) in list {
            let mut reading = Reading { going, send, epoch, piece: *piece, rows: rows.clone(), done: rows.start };
            if !reading.piece(source.as_mut(), &mut chain)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A piece that is being read.
struct Reading<'a> {
    going: &'a Going,
    send: &'a SyncSender<Chunk>,
    epoch: u32,
    piece: usize,
    rows: Range<u64>,
    /// Rows below this place have gone into the steps.
    done: u64,
}

impl Reading<'_> {
    /// Reads the piece; false where nobody listens any more. A failure of the storage is waited out. Where the data are wrong,
    /// the rest of the piece is left out, and said.
    fn piece(&mut self, source: &mut dyn Source, chain: &mut Chain<'_>) -> Result<bool> {
        let (mut patience, stop) = (Patience::default(), || self.going.failure.raised());
        let unit = &self.going.units[self.piece];
        let name = || format!("{}, rows {} to {}", unit.path, unit.first, unit.first + unit.rows);
        loop {
            match self.once(source, chain) {
                Ok(false) => return Ok(false),
                Ok(true) => break,
                Err(Fault::Content(reason)) => {
                    chain.forget();
                    drop(source.noticed());
                    source.cut();
                    self.going.told.left_out(self.piece, &name(), &reason, self.going)?;
                    break;
                }
                Err(Fault::Machine(error)) if patience.again(&error, &stop) => {}
                Err(Fault::Machine(error)) => return Err(error.context(name())),
            }
        }
        self.say(None, Vec::new(), self.rows.end)
    }

    fn once(&mut self, source: &mut dyn Source, chain: &mut Chain<'_>) -> Result<bool, Fault> {
        let unit = &self.going.units[self.piece];
        let gate = &self.going.gate;
        // In the piece; rows that the source itself cuts leave gaps.
        let mut next = 0;
        let mut batches = gate.pass(|| source.read(unit))?;
        while next < self.rows.end {
            if self.going.failure.raised() {
                return Ok(false);
            }
            let made = gate.pass(|| -> Result<Option<Vec<Out>>, Fault> {
                let Some(batch) = batches.next().transpose()? else { return Ok(None) };
                let places = places(unit, &batch, next)?;
                next = places.last().map_or(next, |last| last + 1);
                let wanted = |place: u64| places.partition_point(|p| *p < place);
                let (from, to) = (wanted(self.done), wanted(self.rows.end));
                if from >= to {
                    return Ok(Some(Vec::new()));
                }
                let batch = crate::flow::project(&batch, &self.going.plan.steps[self.going.source].planned.outputs[0].schema)?;
                let out = chain.push(batch.slice(from, to - from), places[from..to].iter().copied())?;
                self.done = places[to - 1] + 1;
                Ok(Some(out))
            })?;
            let Some(made) = made else { break };
            if !self.give(made, chain.settled())? {
                return Ok(false);
            }
        }
        let whole = next >= unit.rows;
        drop(batches);
        let mut noticed = source.noticed();
        let cut = source.cut();
        if self.rows.end == unit.rows && !whole && next + cut < unit.rows {
            return Err(Fault::content(format!("{next} rows could be read of {}", unit.rows)));
        }
        let tail = gate.pass(|| chain.end())?;
        chain.noticed().into_iter().for_each(|(what, count)| *noticed.entry(what).or_default() += count);
        self.going.told.noticed(noticed);
        self.give(tail, self.rows.end)
    }

    fn give(&mut self, made: Vec<Out>, settled: u64) -> Result<bool, Fault> {
        let many = made.len();
        for (number, out) in made.into_iter().enumerate() {
            let until = if number + 1 == many { settled } else { out.places.last().map_or(0, |last| last + 1) };
            if !self.say(Some(out.batch), out.places, until)? {
                return Ok(false);
            }
        }
        if many == 0 && settled > 0 { Ok(self.say(None, Vec::new(), settled)?) } else { Ok(true) }
    }

    fn say(&self, batch: Option<RecordBatch>, places: Vec<u64>, until: u64) -> Result<bool> {
        let bytes = batch.as_ref().map_or(0, RecordBatch::get_array_memory_size) as u64;
        let all = self.going.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let held = Held(Arc::clone(&self.going.held), bytes);
        self.going.told.holds(all);
        self.going.fits(all)?;
        let chunk = Chunk { epoch: self.epoch, piece: self.piece, until, batch, places, _held: held };
        Ok(self.send.send(chunk).is_ok())
    }
}

/// The places of a batch's rows in their unit. A source that makes the identities of its events may cut rows, and their numbers
/// say which; where identities came with the file, rows follow each other.
fn places(unit: &calostream_operators::Unit, batch: &RecordBatch, next: u64) -> Result<Vec<u64>, Fault> {
    let rows = batch.column_by_name(column::ROW).and_then(|rows| rows.as_primitive_opt::<UInt64Type>());
    let made_here = |row: u64, event: u64| column::event_identity(&unit.fingerprint, row) == event;
    match (rows, events(batch)?.first()) {
        (Some(rows), Some(event)) if made_here(rows.value(0), *event) => {
            Ok(rows.values().iter().map(|row| row.saturating_sub(unit.first)).collect())
        }
        _ => Ok((next..next + batch.num_rows() as u64).collect()),
    }
}
