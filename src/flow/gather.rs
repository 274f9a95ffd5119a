//! Reading a new order back: each worker reads its runs, range by range, and sends each stretch to the worker whose range it
//! is; that one puts the rows in their places.
//!
//! A run is read by a worker of the process that can see it (scratch may be local to a node); ranges go round all workers.
//! Whether a stretch crosses a thread or a network is timely's business. A range is complete when as many rows have come as
//! it must have, which the order says beforehand.

use super::parcel::{Content, Parcel};
use super::phase::{Order, Phase};
use super::source::{Read, Reading};
use super::spill::RunReader;
use super::stage::{Given, Record, Stage};
use super::{Pass, Shared};
use crate::ledger::lock::host;
use crate::plan::Port;
use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt16Array, UInt32Array, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt16Type, UInt32Type, UInt64Type};
use calostream_operators::column;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Rows of a batch in the new order.
const BATCH_ROWS: usize = 512;
const EXTRA: [&str; 3] = ["$key", "$run", "$stratum"];

/// What a reader thread of a later phase does: all pending ranges, ascending; of each, what this worker's runs hold.
pub fn read_ranges(pass: &Pass, shared: &Arc<Shared>, worker: usize, reading: &Reading) -> Result<()> {
    let phase = &pass.phase;
    let mut readers: BTreeMap<(Port, u32), RunReader> = BTreeMap::new();
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
        let (port, range) = (part.origin, part.number_in_origin);
        let output = phase.origin(port);
        let order = phase.orders.get(&port).context("an order that was not made")?;
        let to = usize::try_from(*number)? % shared.peers;
        let out = u8::try_from(port.output)?;
        for (index, run) in order.runs.iter().enumerate() {
            let run_number = u32::try_from(index)?;
            let mine = if run.local {
                // Scratch outside of the run folder is seen by the processes of its host, and read by one of them.
                let (place, count) = shared.on_host;
                run.host == me && index % (count * shared.threads) == place * shared.threads + worker % shared.threads
            } else {
                index % shared.peers == worker
            };
            if !mine {
                continue;
            }
            for stratum in &order.strata {
                let Some((from, until)) = order.stretch(run_number, out, stratum, range) else { continue };
                if readers.len() > 64 {
                    readers.clear();
                }
                let reader = match readers.entry((port, run_number)) {
                    std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
                    std::collections::btree_map::Entry::Vacant(e) => {
                        e.insert(RunReader::open(&run.path, &run.groups, &order.columns)?)
                    }
                };
                let group = run.groups.iter().find(|g| (g.output, g.stratum) == (out, stratum.number)).context("a group")?;
                let mut row = from;
                for batch in reader.read(out, stratum.number, from, until)? {
                    let rows = batch.num_rows();
                    let keyed = with_keys(&batch, &group.keys[row..row + rows], run_number, stratum.number)?;
                    row += rows;
                    let parcel = Parcel { unit: part.units[0].number, to, content: Content::Batch(keyed), permit: None };
                    reading.send(Read::Parcel(output, parcel))?;
                }
            }
        }
    }
    Ok(())
}

fn with_keys(batch: &RecordBatch, keys: &[u64], run: u32, stratum: u16) -> Result<RecordBatch> {
    let mut fields: Vec<Arc<Field>> = batch.schema().fields().iter().cloned().collect();
    for (name, kind) in EXTRA.iter().zip([DataType::UInt64, DataType::UInt32, DataType::UInt16]) {
        fields.push(Arc::new(Field::new(*name, kind, false)));
    }
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    columns.push(Arc::new(UInt64Array::from(keys.to_vec())));
    columns.push(Arc::new(UInt32Array::from(vec![run; keys.len()])));
    columns.push(Arc::new(UInt16Array::from(vec![stratum; keys.len()])));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Puts the rows of ranges in their places.
pub struct Placer {
    port: Port,
    phase: Arc<Phase>,
    schema: SchemaRef,
    came: BTreeMap<u64, (u64, Vec<RecordBatch>)>,
}

impl Placer {
    /// For the ranges of one shuffled output, whose rows have this schema.
    pub fn new(port: Port, phase: Arc<Phase>, schema: SchemaRef) -> Self {
        Self { port, phase, schema, came: BTreeMap::new() }
    }

    fn place(&self, range: u64, batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
        let order: &Order = self.phase.orders.get(&self.port).context("an order that was not made")?;
        let first = batches.first().context("a range without rows")?;
        let rows = column::concat(&first.schema(), batches)?;
        let column = |name: &str| rows.column_by_name(name).context("a keyed stretch");
        let (keys, runs, strata) = (column(EXTRA[0])?, column(EXTRA[1])?, column(EXTRA[2])?);
        let (keys, runs) = (keys.as_primitive::<UInt64Type>().values(), runs.as_primitive::<UInt32Type>().values());
        let strata = strata.as_primitive::<UInt16Type>().values();
        let mut by_rank: Vec<u32> = (0..u32::try_from(rows.num_rows())?).collect();
        // Stable: rows of equal keys stay in the order of their run.
        by_rank.sort_by_key(|i| {
            let i = *i as usize;
            (strata[i], keys[i], runs[i])
        });
        let mut placed: Vec<(u64, u16, u64, u32)> = Vec::with_capacity(by_rank.len());
        let mut next: BTreeMap<u16, u64> = BTreeMap::new();
        for i in by_rank {
            let number = strata[i as usize];
            let stratum = &order.strata[usize::from(number)];
            let rank = next.entry(number).or_insert(stratum.span(range).0);
            placed.push((order.place(stratum, *rank), number, *rank, i));
            *rank += 1;
        }
        placed.sort_unstable();
        // Each batch in memory of its own: slices of one would all keep, and be counted as, the whole range.
        let batch = |rows_of: &[(u64, u16, u64, u32)]| {
            let take = UInt64Array::from_iter_values(rows_of.iter().map(|p| u64::from(p.3)));
            super::stage::project(&take_record_batch(&rows, &take)?, &self.schema)
        };
        placed.chunks(BATCH_ROWS).map(batch).collect()
    }
}

impl Stage for Placer {
    fn take(&mut self, part: u64, parcel: Parcel, given: &mut Given) -> Result<()> {
        let Content::Batch(batch) = parcel.content else { return Ok(()) };
        let planned = self.phase.part(part)?;
        let (range, due) = (planned.number_in_origin, planned.units[0].rows);
        let held = self.came.entry(part).or_default();
        held.0 += batch.num_rows() as u64;
        held.1.push(batch);
        ensure!(held.0 <= due, "{} rows came for a range of {due}", held.0);
        if held.0 < due {
            return Ok(());
        }
        let (_, batches) = self.came.remove(&part).unwrap_or_default();
        let rows = self.place(range, &batches)?;
        drop(batches);
        let unit = planned.units[0].number;
        let mut say = |content| given.parcels.push((0, Parcel { unit, to: 0, content, permit: None }));
        rows.into_iter().for_each(|batch| say(Content::Batch(batch)));
        say(Content::UnitEnd);
        say(Content::PartEnd);
        let mut out = vec![0; self.port.output + 1];
        out[self.port.output] = due;
        given.records.push(Record::Rows { step: self.port.step, came: due + planned.surplus, out, cut: planned.surplus });
        Ok(())
    }
}
