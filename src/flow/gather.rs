//! Reading a new order back: each worker reads its runs, part by part, and sends each piece to the worker whose part it is;
//! that one puts the rows in their places.
//!
//! A run is read by a worker of the process that can see it (scratch may be local to a node, and a run in memory is in one
//! process); parts go round all workers. Rows that are in memory are copied once, into their place. Whether a piece crosses a thread or a network is timely's business. A part is complete when as many rows have come as
//! were put aside for it, which the ledger says beforehand.

use super::Shared;
use super::columns::{project, with_copies};
use super::kept::{KeptRun, Placed};
use super::order::Order;
use super::parcel::{Content, Parcel};
use super::pass::Pass;
use super::phase::{Phase, Run};
use super::ranks::{EXTRA, Routing};
use super::source::{Read, Reading};
use super::spiller::{RunReader, one_dictionary};
use super::stage::{Given, Record, Stage};
use crate::ledger::lock::host;
use crate::plan::Port;
use crate::plan::spill::OPEN;
use anyhow::{Context, Result, ensure};
use arrow::array::{AsArray, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{SchemaRef, UInt16Type, UInt64Type};
use calostream_operators::work::Join;
use calostream_operators::{Fault, column};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Rows of a batch in the new order.
const BATCH_ROWS: usize = 512;

/// The runs that a worker reads, piece by piece.
pub struct Mine<'a> {
    shared: &'a Shared,
    /// By step.
    runs: BTreeMap<usize, Vec<&'a Run>>,
    /// Open ones, by step and place in that list: where there are too many, the one that stands first is closed.
    open: BTreeMap<(usize, usize), RunReader>,
}

impl<'a> Mine<'a> {
    /// Those of a phase.
    pub fn new(phase: &'a Phase, shared: &'a Shared, worker: usize) -> Self {
        let me = host();
        let mine = |runs: &'a [Run]| {
            runs.iter()
                .enumerate()
                .filter(|(index, run)| is_mine(shared, &me, (*index, run), worker))
                .map(|(_, run)| run)
                .collect()
        };
        let runs = phase.asides.iter().map(|(step, aside)| (*step, mine(&aside.runs))).collect();
        Self { shared, runs, open: BTreeMap::new() }
    }

    /// Gives the pieces for a part (or bucket) of an output, until `each` says that it is enough.
    pub fn pieces(&mut self, port: Port, part: u64, each: &mut dyn FnMut(Piece) -> Result<bool>) -> Result<()> {
        for (index, run) in self.runs.get(&port.step).into_iter().flatten().enumerate() {
            let Some(number) = run.piece(port.output, part) else { continue };
            let piece = if run.in_memory {
                let kept = self.shared.kept(&run.path).context("a run that is not in memory any more")?;
                (!kept.rows(number).is_empty()).then_some(Piece::Kept(kept, number))
            } else {
                if self.open.len() >= OPEN && !self.open.contains_key(&(port.step, index)) {
                    self.open.pop_first();
                }
                let reader = match self.open.entry((port.step, index)) {
                    std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                    std::collections::btree_map::Entry::Vacant(e) => e.insert(RunReader::open(&run.path, run.end)?),
                };
                reader.piece(number)?.map(Piece::Batch)
            };
            if let Some(piece) = piece
                && !each(piece)?
            {
                break;
            }
        }
        Ok(())
    }
}

/// A piece as a batch, with the columns that say where its rows belong.
pub fn take(piece: Piece) -> Result<RecordBatch> {
    match piece {
        Piece::Batch(batch) => Ok(batch),
        Piece::Kept(run, piece) => run.piece(piece),
    }
}

/// What a reader thread of a later phase does: all pending parts, ascending; of each, what this worker's runs hold.
pub fn read_parts(pass: &Pass, shared: &Arc<Shared>, worker: usize, reading: &Reading) -> Result<()> {
    let phase = &pass.phase;
    let mut mine = Mine::new(phase, shared, worker);
    for number in &pass.pending {
        while *number > pass.frontier() + pass.window {
            if shared.failure.raised() {
                return Ok(());
            }
            reading.send(Read::Bound(*number))?;
            std::thread::sleep(Duration::from_millis(2));
        }
        reading.send(Read::Bound(*number))?;
        let part = phase.part(*number)?;
        let (unit, to) = (part.units[0].number, usize::try_from(*number)? % shared.peers);
        let output = phase.origin(part.origin);
        mine.pieces(part.origin, part.number_in_origin, &mut |piece| {
            let content = match piece {
                Piece::Batch(batch) => Content::Batch(batch),
                Piece::Kept(run, piece) => Content::Kept(run, piece),
            };
            reading.send(Read::Parcel(output, Parcel { unit, to, content, permit: None }))?;
            Ok(true)
        })?;
    }
    Ok(())
}

/// True for a run that this worker reads.
fn is_mine(shared: &Shared, me: &str, (index, run): (usize, &Run), worker: usize) -> bool {
    if run.in_memory {
        shared.kept(&run.path).is_some() && index % shared.threads == worker % shared.threads
    } else if run.local {
        // Scratch outside of the run folder is seen by the processes of its host, and read by one of them.
        let (place, count) = shared.on_host;
        run.host == me && index % (count * shared.threads) == place * shared.threads + worker % shared.threads
    } else {
        index % shared.peers == worker
    }
}

/// What is made of the rows of a part.
pub enum Making {
    /// They are put in their order.
    Order(Arc<Routing>),
    /// Those of equal keys are joined, from so many inputs.
    Join(Box<dyn Join>, usize),
}

/// Puts the rows of parts in their places.
pub struct Placer {
    port: Port,
    phase: Arc<Phase>,
    schema: SchemaRef,
    making: Making,
    came: BTreeMap<u64, (u64, Vec<Piece>)>,
}

/// Rows of a part, with what says where they belong.
#[derive(Clone)]
pub enum Piece {
    /// In columns of the batch.
    Batch(RecordBatch),
    /// Beside batches in memory that have rows of other parts as well.
    Kept(Arc<KeptRun>, usize),
}

impl Placer {
    /// For the parts of one shuffled output, whose rows have this schema.
    pub fn new(port: Port, phase: Arc<Phase>, schema: SchemaRef, making: Making) -> Self {
        Self { port, phase, schema, making, came: BTreeMap::new() }
    }

    /// The rows in their order, and how many came to nothing.
    fn make(&mut self, pieces: &[Piece]) -> Result<(Vec<RecordBatch>, u64), Fault> {
        match &mut self.making {
            Making::Order(routing) => {
                let order = routing.orders.get(self.port.output).context("an order that was not made")?;
                let (batches, mut placed) = self::placed(order, pieces)?;
                placed.sort_unstable();
                let batches = one_dictionary(&batches, &mut placed)?;
                let held: Vec<&RecordBatch> = batches.iter().collect();
                let schema = held.first().context("a part without rows")?.schema();
                // Each batch in memory of its own: slices of one would all keep, and be counted as, the whole part.
                let batch = |rows_of: &[(Key, u32, u32)]| {
                    let rows: Vec<(usize, usize)> = rows_of.iter().map(|(_, b, row)| (*b as usize, *row as usize)).collect();
                    let taken = RecordBatch::try_new(schema.clone(), column::interleave(&held, &rows)?)?;
                    let copies = rows_of.iter().map(|((_, stratum, row), ..)| order.copy(*stratum, *row));
                    with_copies(&taken, copies, &self.schema)
                };
                Ok((placed.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?, 0))
            }
            Making::Join(join, inputs) => {
                let batches = pieces.iter().cloned().map(take).collect::<Result<Vec<_>>>()?;
                let of_input = |input: usize| -> Result<Option<RecordBatch>> {
                    let is = |batch: &&RecordBatch| {
                        column::get(batch, EXTRA[0]).as_primitive::<UInt16Type>().values().first().copied()
                            == u16::try_from(input).ok()
                    };
                    let batches: Vec<RecordBatch> = batches.iter().filter(is).cloned().collect();
                    let Some(first) = batches.first() else { return Ok(None) };
                    Ok(Some(column::concat(&first.schema(), &batches)?))
                };
                let rows = (0..*inputs).map(of_input).collect::<Result<Vec<_>>>()?;
                let all: u64 = rows.iter().flatten().map(|b| b.num_rows() as u64).sum();
                let Some(rows) = rows.into_iter().collect::<Option<Vec<_>>>() else { return Ok((Vec::new(), all)) };
                let joined = join.join(&rows)?;
                let batch = |first: usize| {
                    let count = BATCH_ROWS.min(joined.batch.num_rows() - first) as u64;
                    let take = UInt64Array::from_iter_values(first as u64..first as u64 + count);
                    project(&take_record_batch(&joined.batch, &take)?, &self.schema)
                };
                let batches = (0..joined.batch.num_rows()).step_by(BATCH_ROWS).map(batch).collect::<Result<_>>()?;
                Ok((batches, joined.cut))
            }
        }
    }
}

/// What rows are sorted by.
type Key = (u64, u16, u64);

/// Batches, and rows of them: `(key, batch, row)`.
type Rows = (Vec<RecordBatch>, Vec<(Key, u32, u32)>);

/// The rows of the pieces, with the batches that hold them.
fn placed(order: &Order, pieces: &[Piece]) -> Result<Rows> {
    let (mut batches, mut placed) = (Vec::new(), Vec::new());
    for piece in pieces {
        let first = u32::try_from(batches.len())?;
        match piece {
            Piece::Batch(batch) => {
                let [strata, rows] = EXTRA.map(|name| column::get(batch, name).clone());
                let (strata, rows) = (strata.as_primitive::<UInt16Type>().values(), rows.as_primitive::<UInt64Type>().values());
                placed.extend(strata.iter().zip(rows).zip(0..).map(|((s, r), row)| (order.key(*s, *r), first, row)));
                batches.push(batch.project(&(0..batch.num_columns() - EXTRA.len()).collect::<Vec<_>>())?);
            }
            Piece::Kept(run, piece) => {
                let place = |(place, batch, row): &Placed| (order.key(place.stratum, place.row), first + batch, *row);
                placed.extend(run.rows(*piece).iter().map(place));
                batches.extend_from_slice(run.batches());
            }
        }
    }
    Ok((batches, placed))
}

impl Stage for Placer {
    fn take(&mut self, part: u64, parcel: Parcel, given: &mut Given) -> Result<()> {
        let (rows, piece) = match parcel.content {
            Content::Batch(batch) => (batch.num_rows(), Piece::Batch(batch)),
            Content::Kept(run, piece) => (run.rows(piece).len(), Piece::Kept(run, piece)),
            Content::UnitEnd | Content::PartEnd | Content::Abort => return Ok(()),
        };
        let planned = self.phase.part(part)?;
        let (number, due) = (planned.units[0].number, planned.units[0].rows);
        let held = self.came.entry(part).or_default();
        held.0 += rows as u64;
        held.1.push(piece);
        ensure!(held.0 <= due, "{} rows came for a part of {due}", held.0);
        if held.0 < due {
            return Ok(());
        }
        let (_, pieces) = self.came.remove(&part).unwrap_or_default();
        let made = self.make(&pieces);
        drop(pieces);
        let mut say = |content| given.parcels.push((0, Parcel { unit: number, to: 0, content, permit: None }));
        let (rows, cut) = match made {
            Ok(made) => made,
            Err(Fault::Content(reason)) => {
                say(Content::Abort);
                given.records.push(Record::Fault { step: self.port.step, unit: number, reason });
                return Ok(());
            }
            Err(Fault::Machine(error)) => return Err(error),
        };
        let mut out = vec![0; self.port.output + 1];
        out[self.port.output] = rows.iter().map(|batch| batch.num_rows() as u64).sum();
        rows.into_iter().for_each(|batch| say(Content::Batch(batch)));
        say(Content::UnitEnd);
        say(Content::PartEnd);
        given.records.push(Record::Rows { step: self.port.step, came: due, out, cut, repeated: 0 });
        Ok(())
    }
}
