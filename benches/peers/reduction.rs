//! The reduction to sums in bins, in memory: what the engine does with the batches of a `resolution` step.

use anyhow::{Context, Result, bail};
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int8Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use calostream_operators::column::{SAMPLE, with_samples};
use calostream_operators::reduce::resolution::Resolution;
use calostream_operators::statistics::sums::Sums;
use calostream_operators::work::{Fold, Runtime, Work, Worker};
use calostream_operators::{Facts, Operator, Output, Start};
use std::sync::{Arc, Barrier};
use std::time::Instant;

const BATCH: usize = 1 << 16;
const SAMPLES: [&str; 4] = ["electron", "photon", "pi0", "pion"];

/// The least seconds of `times` reductions of `rows` rows to 50 bins of 4 classes, by two threads with half of them each.
///
/// # Errors
/// The step is not what it was when this was written.
pub fn seconds(rows: usize, times: usize) -> Result<f64> {
    let step: Resolution = serde_json::from_value(serde_json::json!({
        "of": "relative_error", "by": { "energy": { "range": [10, 510], "bins": 50 } }, "for_each": "sample",
    }))?;
    in_memory(&step, &batches(rows)?, 200, times)
}

/// The least seconds of `times` reductions of batches in memory to a table of so many lines, by two threads with half of them
/// each.
///
/// # Errors
/// The step can't be started, or the table is another one.
pub fn in_memory(step: &dyn Operator, batches: &[RecordBatch], lines: usize, times: usize) -> Result<f64> {
    let (left, right) = batches.split_at(batches.len() / 2);
    let mut folds = folds(step, &batches[0])?;
    let mut least = f64::INFINITY;
    for _ in 0..times {
        let (begin, [ours, other]) = (Barrier::new(2), &mut folds);
        let seconds = std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                begin.wait();
                reduce(other.as_mut(), right.iter().cloned())
            });
            begin.wait();
            let begun = Instant::now();
            let mut sums = reduce(ours.as_mut(), left.iter().cloned())?;
            sums.merge(&other.join().ok().context("a thread")??);
            let seconds = begun.elapsed().as_secs_f64();
            anyhow::Ok((seconds, ours.finish(&sums)?.table.num_rows()))
        })?;
        anyhow::ensure!(seconds.1 == lines, "{} lines", seconds.1);
        least = least.min(seconds.0);
    }
    Ok(least)
}

/// Reduces batches that are made when they are wanted to a table of so many lines, by two threads with batches of their own.
///
/// # Errors
/// The step can't be started, or the table is another one.
pub fn made_meanwhile<I: Iterator<Item = RecordBatch> + Send>(
    step: &dyn Operator,
    first: &RecordBatch,
    batches: [I; 2],
    lines: usize,
) -> Result<()> {
    let ([mut ours, mut other], [left, right]) = (folds(step, first)?, batches);
    let sums = std::thread::scope(|scope| {
        let other = scope.spawn(|| reduce(other.as_mut(), right));
        let mut sums = reduce(ours.as_mut(), left)?;
        sums.merge(&other.join().ok().context("a thread")??);
        anyhow::Ok(sums)
    })?;
    let found = ours.finish(&sums)?.table.num_rows();
    anyhow::ensure!(found == lines, "{found} lines");
    Ok(())
}

/// The work of two workers with batches like this one.
fn folds(step: &dyn Operator, first: &RecordBatch) -> Result<[Box<dyn Fold>; 2]> {
    let (facts, runtime) = (Facts::default(), Runtime::default());
    let inputs = [Output { name: String::new(), schema: first.schema(), table: false, rows: None, row_bytes: 17 }];
    let planned = step.plan(&facts, &inputs).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let fold = |index| -> Result<Box<dyn Fold>> {
        let worker = Worker { index, peers: 2 };
        let start = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
        let Work::Fold(fold) = step.start(&start)? else { bail!("the step is no fold") };
        Ok(fold)
    };
    Ok([fold(0)?, fold(1)?])
}

fn reduce(fold: &mut dyn Fold, batches: impl Iterator<Item = RecordBatch>) -> Result<Sums> {
    let mut sums = Sums::default();
    for batch in batches {
        fold.add(&batch, &mut sums).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
    }
    Ok(sums)
}

/// Energies from 5 to 520, errors of about 0.1, classes at random: what the script beside has.
fn batches(rows: usize) -> Result<Vec<RecordBatch>> {
    let names = SAMPLES.map(str::to_owned);
    let sample = DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into());
    let number = |name| Field::new(name, DataType::Float64, false);
    let fields = vec![Field::new(SAMPLE, sample, false), number("energy"), number("relative_error")];
    let schema = Arc::new(with_samples(Schema::new(fields), &names));
    let classes: ArrayRef = Arc::new(StringArray::from_iter_values(&names));
    let mut state = 1_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut batches = Vec::new();
    for first in (0..rows).step_by(BATCH) {
        let n = BATCH.min(rows - first);
        let keys = Int8Array::from_iter_values((0..n).map(|_| (random() * 4.0) as i8));
        let energy = Float64Array::from_iter_values((0..n).map(|_| 5.0 + 515.0 * random()));
        // A sum of twelve is normal enough.
        let error = Float64Array::from_iter_values((0..n).map(|_| 0.1 * ((0..12).map(|_| random()).sum::<f64>() - 6.0)));
        let sample = DictionaryArray::<Int8Type>::new(keys, classes.clone());
        batches.push(RecordBatch::try_new(schema.clone(), vec![Arc::new(sample), Arc::new(energy), Arc::new(error)])?);
    }
    Ok(batches)
}
