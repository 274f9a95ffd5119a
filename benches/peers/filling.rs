//! Histograms and tables in bins, in memory: what the engine does with the batches of a `histogram` and of a `resolution` with
//! quantiles.

use super::reduction::{in_memory, made_meanwhile};
use anyhow::Result;
use arrow::array::{ArrayRef, Float32Array, RecordBatch};
use calostream_operators::reduce::histogram::Histogram;
use calostream_operators::reduce::resolution::Resolution;
use std::sync::Arc;

const BATCH: usize = 1 << 16;

/// The least seconds of filling a weighted histogram of these bins (x and y from 0 to 1, z a whole number where it has four).
///
/// # Errors
/// The step is not what it was when this was written.
pub fn histogram(rows: usize, bins: [u32; 3], times: usize) -> Result<f64> {
    let axis = |name: &str, bins: u32, high: f64| serde_json::json!({ "column": name, "range": [0.0, high], "bins": bins });
    let [x, y, z] = bins;
    let axes = [axis("x", x, 1.0), axis("y", y, 1.0), axis("z", z, if z == 4 { 4.0 } else { 1.0 })];
    let step: Histogram = serde_json::from_value(serde_json::json!({ "axes": axes, "weight": "w" }))?;
    let lines = bins.iter().map(|n| *n as usize + 2).product();
    in_memory(&step, &batches(rows, z == 4)?, lines, times)
}

/// The least seconds of mean, sigma and five quantiles of w in 200 bins of x.
///
/// # Errors
/// The step is not what it was when this was written.
pub fn quantiles(rows: usize, times: usize) -> Result<f64> {
    let by = serde_json::json!({ "x": { "range": [0.0, 1.0], "bins": 200 } });
    let step: Resolution = serde_json::from_value(serde_json::json!({ "of": "w", "by": by, "robust": 64 }))?;
    in_memory(&step, &batches(rows, true)?, 200, times)
}

/// Reduces so many rows to mean, sigma and five quantiles in 50 bins, at the usual precision: batches are made meanwhile, so that the memory
/// that the program takes is that of the sums.
///
/// # Errors
/// The step is not what it was when this was written.
pub fn many(rows: usize) -> Result<()> {
    let by = serde_json::json!({ "x": { "range": [0.0, 1.0], "bins": 50 } });
    let step: Resolution = serde_json::from_value(serde_json::json!({ "of": "w", "by": by, "robust": 256 }))?;
    let made = |seed: u64| {
        let mut random = random(seed);
        let mut column =
            move |add: f32| -> ArrayRef { Arc::new(Float32Array::from_iter_values((0..BATCH).map(|_| random() + add))) };
        std::iter::repeat_with(move || RecordBatch::try_from_iter([("x", column(0.0)), ("w", column(0.5))]).expect("two columns"))
    };
    let each = rows.div_ceil(2 * BATCH);
    let first = made(1).next().expect("a batch");
    made_meanwhile(&step, &first, [made(1).take(each), made(2).take(each)], 50)
}

/// Numbers from 0 to 1.
fn random(mut state: u64) -> impl FnMut() -> f32 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32
    }
}

/// Uniform x, y and z (classes 0 to 3 or numbers), weights around 1: what the scripts beside have.
fn batches(rows: usize, classes: bool) -> Result<Vec<RecordBatch>> {
    let mut random = random(1);
    let mut batches = Vec::new();
    for first in (0..rows).step_by(BATCH) {
        let n = BATCH.min(rows - first);
        let mut column = |scale: f32, floor: bool, add: f32| -> ArrayRef {
            let value = |x: f32| if floor { (x * scale).floor() } else { x * scale } + add;
            Arc::new(Float32Array::from_iter_values((0..n).map(|_| value(random()))))
        };
        let z = if classes { column(4.0, true, 0.0) } else { column(1.0, false, 0.0) };
        let columns = [("x", column(1.0, false, 0.0)), ("y", column(1.0, false, 0.0)), ("z", z), ("w", column(1.0, false, 0.5))];
        batches.push(RecordBatch::try_from_iter(columns)?);
    }
    Ok(batches)
}
