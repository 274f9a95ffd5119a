//! Reading a new order back: each worker reads its runs, part by part, and sends each piece to the worker whose part it is;
//! that one puts the rows in their places.
//!
//! A run is read by a worker of the process that can see it (scratch may be local to a node); parts go round all workers.
//! Whether a piece crosses a thread or a network is timely's business. A part is complete when as many rows have come as
//! were put aside for it, which the ledger says beforehand.

use super::columns::{project, with_copies};
use super::parcel::{Content, Parcel};
use super::phase::{Phase, Run};
use super::ranks::{EXTRA, Routing};
use super::source::{Read, Reading};
use super::spiller::RunReader;
use super::stage::{Given, Record, Stage};
use super::{Pass, Shared};
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

/// What a reader thread of a later phase does: all pending parts, ascending; of each, what this worker's runs hold.
pub fn read_parts(pass: &Pass, shared: &Arc<Shared>, worker: usize, reading: &Reading) -> Result<()> {
    let phase = &pass.phase;
    let mut readers: BTreeMap<(usize, usize), RunReader> = BTreeMap::new();
    let me = host();
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
        let (port, to) = (part.origin, usize::try_from(*number)? % shared.peers);
        let output = phase.origin(port);
        let aside = phase.asides.get(&port.step).context("runs that are not known")?;
        for (index, run) in aside.runs.iter().enumerate().filter(|(index, run)| is_mine(shared, &me, (*index, run), worker)) {
            if readers.len() >= OPEN && !readers.contains_key(&(port.step, index)) {
                readers.pop_first();
            }
            let reader = match readers.entry((port.step, index)) {
                std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                std::collections::btree_map::Entry::Vacant(e) => e.insert(RunReader::open(&run.path, run.end)?),
            };
            let piece =
                usize::try_from(run.first.get(port.output).context("an output that is not in a run")? + part.number_in_origin)?;
            if let Some(batch) = reader.piece(piece)? {
                let parcel = Parcel { unit: part.units[0].number, to, content: Content::Batch(batch), permit: None };
                reading.send(Read::Parcel(output, parcel))?;
            }
        }
    }
    Ok(())
}

/// True for a run that this worker reads.
fn is_mine(shared: &Shared, me: &str, (index, run): (usize, &Run), worker: usize) -> bool {
    if run.local {
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
    came: BTreeMap<u64, (u64, Vec<RecordBatch>)>,
}

impl Placer {
    /// For the parts of one shuffled output, whose rows have this schema.
    pub fn new(port: Port, phase: Arc<Phase>, schema: SchemaRef, making: Making) -> Self {
        Self { port, phase, schema, making, came: BTreeMap::new() }
    }

    /// The rows in their order, and how many came to nothing.
    fn make(&mut self, batches: &[RecordBatch]) -> Result<(Vec<RecordBatch>, u64), Fault> {
        match &mut self.making {
            Making::Order(routing) => {
                let order = routing.orders.get(self.port.output).context("an order that was not made")?;
                let first = batches.first().context("a part without rows")?;
                let rows = column::concat(&first.schema(), batches)?;
                let [strata, of] = EXTRA.map(|name| column::get(&rows, name).clone());
                let (strata, of) = (strata.as_primitive::<UInt16Type>().values(), of.as_primitive::<UInt64Type>().values());
                let mut placed: Vec<((u64, u16, u64), u64)> =
                    strata.iter().zip(of.iter()).zip(0..).map(|((stratum, row), i)| (order.key(*stratum, *row), i)).collect();
                placed.sort_unstable();
                // Each batch in memory of its own: slices of one would all keep, and be counted as, the whole part.
                let batch = |rows_of: &[((u64, u16, u64), u64)]| {
                    let taken = take_record_batch(&rows, &UInt64Array::from_iter_values(rows_of.iter().map(|p| p.1)))?;
                    let copies = rows_of.iter().map(|((_, stratum, row), _)| order.copy(*stratum, *row));
                    with_copies(&taken, copies, &self.schema)
                };
                Ok((placed.chunks(BATCH_ROWS).map(batch).collect::<Result<_>>()?, 0))
            }
            Making::Join(join, inputs) => {
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

impl Stage for Placer {
    fn take(&mut self, part: u64, parcel: Parcel, given: &mut Given) -> Result<()> {
        let Content::Batch(batch) = parcel.content else { return Ok(()) };
        let planned = self.phase.part(part)?;
        let (number, due) = (planned.units[0].number, planned.units[0].rows);
        let held = self.came.entry(part).or_default();
        held.0 += batch.num_rows() as u64;
        held.1.push(batch);
        ensure!(held.0 <= due, "{} rows came for a part of {due}", held.0);
        if held.0 < due {
            return Ok(());
        }
        let (_, batches) = self.came.remove(&part).unwrap_or_default();
        let made = self.make(&batches);
        drop(batches);
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
