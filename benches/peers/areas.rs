//! The areas under ROC curves per class per bin, in memory: what the engine does with the batches of a `roc` step.

use anyhow::{Result, bail};
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int8Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use calostream_operators::column::{SAMPLE, with_samples};
use calostream_operators::reduce::roc::Roc;
use calostream_operators::statistics::sums::Sums;
use calostream_operators::work::{Runtime, Work, Worker};
use calostream_operators::{Facts, Operator, Output, Start};
use std::sync::Arc;
use std::time::Instant;

const BATCH: usize = 1 << 16;
const SAMPLES: [&str; 4] = ["electron", "photon", "pi0", "pion"];
const SCORES: [&str; 4] = ["p_electron", "p_photon", "p_pi0", "p_pion"];

/// The least seconds of `times` times from columns to the table of areas, by one thread: 4 classes, 10 bins and all rows.
///
/// # Errors
/// The step is not what it was when this was written.
pub fn seconds(rows: usize, times: usize) -> Result<f64> {
    let scores: serde_json::Map<String, serde_json::Value> =
        SAMPLES.iter().zip(SCORES).map(|(class, score)| ((*class).to_owned(), score.into())).collect();
    let step: Roc =
        serde_json::from_value(serde_json::json!({ "scores": scores, "by": { "energy": { "range": [10, 510], "bins": 10 } } }))?;
    let batches = batches(rows)?;
    let (facts, runtime) = (Facts::default(), Runtime::default());
    let inputs = [Output { name: String::new(), schema: batches[0].schema(), table: false, rows: None, row_bytes: 41 }];
    let planned = step.plan(&facts, &inputs).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let worker = Worker { index: 0, peers: 1 };
    let mut least = f64::INFINITY;
    for _ in 0..times {
        let start = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &runtime };
        let Work::Fold(mut fold) = step.start(&start)? else { bail!("`roc` is no fold") };
        let begun = Instant::now();
        let mut sums = Sums::default();
        for batch in &batches {
            fold.add(batch, &mut sums).map_err(|fault| anyhow::anyhow!("{fault:?}"))?;
        }
        let lines = fold.finish(&sums)?.table.num_rows();
        least = least.min(begun.elapsed().as_secs_f64());
        anyhow::ensure!(lines == 44, "{lines} lines");
    }
    Ok(least)
}

/// Energies from 5 to 520 and scores that are sigmoids of normal numbers: what the script beside has.
fn batches(rows: usize) -> Result<Vec<RecordBatch>> {
    let names = SAMPLES.map(str::to_owned);
    let sample = DataType::Dictionary(DataType::Int8.into(), DataType::Utf8.into());
    let number = |name| Field::new(name, DataType::Float64, false);
    let mut fields = vec![Field::new(SAMPLE, sample, false), number("energy")];
    fields.extend(SCORES.map(number));
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
        let keys: Vec<i8> = (0..n).map(|_| (random() * 4.0) as i8).collect();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(DictionaryArray::<Int8Type>::new(Int8Array::from(keys.clone()), classes.clone())),
            Arc::new(Float64Array::from_iter_values((0..n).map(|_| 5.0 + 515.0 * random()))),
        ];
        for class in 0..4 {
            // A sum of twelve is normal enough.
            let mut logit = |key: &i8| {
                let normal = (0..12).map(|_| random()).sum::<f64>() - 6.0;
                let shift = if *key == class { 1.0 } else { -1.0 };
                shift + 2.0 * normal
            };
            columns.push(Arc::new(Float64Array::from_iter_values(keys.iter().map(|key| 1.0 / (1.0 + (-logit(key)).exp())))));
        }
        batches.push(RecordBatch::try_new(schema.clone(), columns)?);
    }
    Ok(batches)
}
