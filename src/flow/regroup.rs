//! The second of two passes: rows that were put aside in coarse pieces are put aside again, in a piece for each part.
//!
//! A run has a piece for every part of the new order, so where there are many parts its pieces are short, and each is a seek.
//! Then the first pass makes no more pieces than about the root of the number of parts, each for that many parts in a row (a
//! bucket). Here each worker takes the runs that it can see, bucket after bucket, and puts their rows aside again; its new runs
//! hold few buckets, so few parts, so their pieces are long. The phase behind reads them as it would have read the first ones.
//!
//! ```text
//!   level n            regrouping                       level n + 1
//!   rows -> runs       bucket by bucket: runs -> runs   part by part: runs -> placer -> steps
//!   a piece a bucket   a piece a part, of few buckets
//! ```
//!
//! Rows stay with the process whose run they are in: they cross to another one once, when their part is made, and scratch of a
//! node is read there. A bucket is a part of this phase, and no row of it goes through a step: what is committed with it are the
//! runs that have its rows, of all workers, as everywhere ([`super::commit`]).
//!
//! What a kill leaves: runs that no line names, which are written over or removed in the end. Buckets that are committed stay; of
//! the others the runs of the first pass are read again, which are kept until the whole run is done for that. Whether a mix takes
//! two passes follows from its counts and from the size of a run, which is written into the log when a run folder begins: so
//! whoever goes on there, with whatever memory, finds what he looks for.
//!
//! Which bucket a row was in, and in which run, leaves no trace: a part is sorted, and its rows are the same.

use super::Shared;
use super::build::limit;
use super::gather::{Mine, take};
use super::pass::Pass;
use super::ranks::{EXTRA, Place};
use super::source::{Read, Reading};
use super::spiller::{Made, Spiller};
use super::stage::{Record, run};
use crate::plan::{Plan, Port};
use anyhow::{Context, Result};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{UInt16Type, UInt64Type};
use calostream_operators::column;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a reader thread of this phase does: all pending buckets, ascending; of each, what this worker's runs hold.
pub fn put_aside_again(plan: &Plan, pass: &Pass, shared: &Arc<Shared>, worker: usize, reading: &Reading) -> Result<()> {
    let phase = &pass.phase;
    let mut mine = Mine::new(phase, shared, worker);
    let mut spillers: BTreeMap<usize, Spiller> = BTreeMap::new();
    for number in &pass.pending {
        reading.send(Read::Bound(*number))?;
        let bucket = phase.part(*number)?;
        let port = bucket.origin;
        let routing = &phase.asides.get(&port.step).context("runs that are not known")?.routing;
        let order = routing.orders.get(port.output).context("an order that was not made")?;
        let spiller = match spillers.entry(port.step) {
            std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::btree_map::Entry::Vacant(e) => {
                let planned = &plan.steps[port.step];
                let read = |output| plan.takers(Port { step: port.step, output }).next().is_some();
                let parts = (0..planned.planned.outputs.len()).map(|o| if read(o) { routing.parts(o) } else { 0 }).collect();
                let (schema, limit) = (&planned.inputs[0].schema, limit(shared, &planned.name));
                e.insert(
                    Spiller::new((&planned.name, 0), schema, shared.scratch.clone(), parts, limit)
                        .again(worker)
                        .until(&shared.failure),
                )
            }
        };
        let (mut rows, mut held, mut records) = (0, false, Vec::new());
        let aside = |step| Record::Aside { step, input: 0 };
        mine.pieces(port, bucket.number_in_origin, &mut |piece| {
            let batch = take(piece)?;
            rows += batch.num_rows() as u64;
            let output = u8::try_from(port.output)?;
            let [strata, of] = EXTRA.map(|name| column::get(&batch, name).clone());
            let (strata, of) = (strata.as_primitive::<UInt16Type>().values(), of.as_primitive::<UInt64Type>().values());
            let place = |((stratum, row), i): ((&u16, &u64), u32)| {
                (Place { output, part: order.part_of(*stratum, *row), stratum: *stratum, row: *row }, i)
            };
            spiller.take(without_places(&batch)?, strata.iter().zip(of).zip(0..).map(place))?;
            held = true;
            if let Some(made) = spiller.within(*number)? {
                records.extend([aside(port.step), run(port.step, made)]);
                held = false;
            }
            Ok(!shared.failure.raised())
        })?;
        if shared.failure.raised() {
            return Ok(());
        }
        if rows > 0 {
            let mut out = vec![0; port.output + 1];
            out[port.output] = rows;
            records.push(Record::Rows { step: port.step, came: rows, out, cut: 0, repeated: 0 });
        }
        if held {
            records.push(aside(port.step));
            records.extend(spiller.finish(*number)?.map(|made: Made| run(port.step, made)));
        }
        reading.send(Read::Records(records))?;
    }
    for (step, mut spiller) in spillers {
        let made = spiller.write()?;
        reading.send(Read::Records(made.map(|made| run(step, made)).into_iter().collect()))?;
    }
    Ok(())
}

/// The columns of the rows alone.
fn without_places(batch: &RecordBatch) -> Result<RecordBatch> {
    Ok(batch.project(&(0..batch.num_columns() - EXTRA.len()).collect::<Vec<_>>())?)
}
