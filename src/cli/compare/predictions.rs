//! The predictions of two runs, row by row, where they wrote them to files.
//!
//! Devices do not sum in the same order, so predictions of a CPU and of a GPU differ in their last digits. What is asked is said:
//! the largest difference in a column, of the largest value of the column, is at most [`ACROSS_DEVICES`] where `run.json` says that the
//! models of a step computed on other devices, and [`ON_ONE_DEVICE`] where it says the same, or what `--tolerance` says.

use anyhow::{Context, Result};
use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use calostream_operators::words;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The tolerance where one run computed on a CPU and the other on a GPU.
pub const ACROSS_DEVICES: f64 = 1e-4;
/// The tolerance where both computed on the same devices: of other batches, or another ONNX Runtime.
pub const ON_ONE_DEVICE: f64 = 1e-6;

/// The columns that networks of a run said, each with the devices it was computed on.
pub fn predicted(run: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(run.join("run.json")).unwrap_or_default();
    let goes: Value = serde_json::from_str(&text).unwrap_or_default();
    let mut columns = BTreeMap::new();
    let steps = goes.as_array().and_then(|goes| goes.last()).and_then(|go| go["used"].as_object());
    for used in steps.into_iter().flat_map(|steps| steps.values()) {
        let words = |of: &Value| -> Vec<String> {
            of.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let devices = words(&used["devices"]).join(", ");
        columns.extend(words(&used["columns"]).into_iter().map(|column| (column, devices.clone())));
    }
    columns
}

/// What is said of the predictions of two runs, how many columns were compared, and whether they agree.
pub fn compare(a: &Path, b: &Path, tolerance: Option<f64>) -> Result<(String, usize, bool)> {
    let (of_a, of_b) = (predicted(a), predicted(b));
    let (mut said, mut compared, mut agree) = (String::new(), 0, true);
    for step in super::entries(a)?.into_iter().filter(|folder| folder.is_dir()) {
        let Some(name) = step.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else { continue };
        let parts = [parts(a, name)?, parts(b, name)?];
        if parts.iter().any(Vec::is_empty) {
            continue;
        }
        for (column, device) in &of_a {
            let Some(other) = of_b.get(column) else { continue };
            let (Some(x), Some(y)) = (values(&parts[0], column)?, values(&parts[1], column)?) else { continue };
            compared += 1;
            let (least, why) = match tolerance {
                Some(tolerance) => (tolerance, "--tolerance".to_owned()),
                None if device == other => (ON_ONE_DEVICE, format!("both on {device}")),
                None => (ACROSS_DEVICES, format!("{device} and {other}")),
            };
            if x.len() != y.len() {
                agree = false;
                said += &format!("{name}: {column}: {} rows against {}\n", x.len(), y.len());
                continue;
            }
            let scale = x.iter().chain(&y).filter(|v| v.is_finite()).fold(0.0, |scale: f64, v| scale.max(v.abs()));
            let apart = x.iter().zip(&y).map(|(x, y)| difference(*x, *y)).fold(0.0, f64::max);
            let relative = if apart == 0.0 { 0.0 } else { apart / scale };
            let fits = relative <= least;
            agree &= fits;
            said += &format!(
                "{name}: {column}: {} of {} apart at most, {} of the largest value; {}at most {least:e} is asked ({why})\n",
                words::significant(apart, 2),
                words::counted(x.len() as u64, "value"),
                words::significant(relative, 2),
                if fits { "" } else { "too far: " },
            );
        }
    }
    Ok((said, compared, agree))
}

/// How far two values are apart; infinite where only one is a number, or they are other infinities.
fn difference(x: f64, y: f64) -> f64 {
    if x == y || x.is_nan() && y.is_nan() {
        return 0.0;
    }
    let apart = (x - y).abs();
    if apart.is_nan() { f64::INFINITY } else { apart }
}

/// The parts of rows that a step wrote, in order.
fn parts(run: &Path, step: &str) -> Result<Vec<PathBuf>> {
    let folder = run.join(step);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let table = format!("{step}.parquet");
    let is_part = |file: &PathBuf| {
        file.extension().is_some_and(|e| e == "parquet") && file.file_name().and_then(|n| n.to_str()) != Some(table.as_str())
    };
    Ok(super::entries(&folder)?.into_iter().filter(is_part).collect())
}

/// The numbers of a column over all parts; none where there is no such column of numbers.
fn values(parts: &[PathBuf], column: &str) -> Result<Option<Vec<f64>>> {
    let mut all = Vec::new();
    for path in parts {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?).with_context(|| path.display().to_string())?;
        let Some((number, field)) = builder.schema().column_with_name(column) else { return Ok(None) };
        if !field.data_type().is_numeric() {
            return Ok(None);
        }
        let mask = ProjectionMask::roots(builder.parquet_schema(), [number]);
        for batch in builder.with_projection(mask).build()? {
            let numbers = cast(batch?.column(0), &DataType::Float64)?;
            all.extend(numbers.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)));
        }
    }
    Ok(Some(all))
}
