//! A table or a histogram as numbers with names and errors.
//!
//! In a table, what names a row are its texts (but for reasons) and the edges of bins: `x_low` and `x_high` where there is no `x`. All
//! other numbers are values. The error of `x` is `x_error`, or half of what lies between `x_low` and `x_high`; that of `content` the root
//! of `variance`; that of a count its root. A histogram has the errors of its storage.

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use calostream_operators::words;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// What a number is called.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What names its row.
    place: Vec<(String, String)>,
    /// How many rows of that name came before.
    again: usize,
    /// The column.
    column: String,
}

impl Key {
    /// `bias where sample = electron, energy_low = 10`.
    pub fn words(&self) -> String {
        // Edges are matched by all their digits and shown with a few.
        let shown = |text: &str| match text.parse::<f64>() {
            Ok(number) if number.is_finite() => words::plain(format!("{number:.6e}").parse().unwrap_or(number)),
            _ => text.to_owned(),
        };
        let place: Vec<String> = self.place.iter().map(|(name, value)| format!("{name} = {}", shown(value))).collect();
        if place.is_empty() { self.column.clone() } else { format!("{} where {}", self.column, place.join(", ")) }
    }
}

/// A number with its error.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number {
    /// None where there is none.
    pub value: Option<f64>,
    /// One standard error, where it is known.
    pub error: Option<f64>,
}

impl Number {
    /// `0.0120 ± 0.0011`, `nothing`.
    pub fn words(&self) -> String {
        match (self.value, self.error) {
            (None, _) => "nothing".into(),
            (Some(value), Some(error)) if error > 0.0 => words::with_error(value, error),
            (Some(value), _) => words::plain(value),
        }
    }
}

/// All numbers of a result.
pub type Numbers = BTreeMap<Key, Number>;

/// The numbers of a file.
pub fn of_file(path: &Path) -> Result<Numbers> {
    let file = || path.display().to_string();
    match path.extension().and_then(|e| e.to_str()) {
        Some("parquet") => {
            let reader = File::open(path).map_err(Into::into).and_then(ParquetRecordBatchReaderBuilder::try_new);
            let batches = reader.and_then(|reader| Ok(reader.build()?.collect::<Result<Vec<_>, _>>()?)).with_context(file)?;
            let Some(first) = batches.first() else { return Ok(Numbers::new()) };
            of_table(&arrow::compute::concat_batches(&first.schema(), &batches)?).with_context(file)
        }
        Some("json") => {
            let histogram = serde_json::from_slice(&std::fs::read(path).with_context(file)?).with_context(file)?;
            of_histogram(&histogram).with_context(file)
        }
        _ => bail!("{} is no table (.parquet) and no histogram (.json)", path.display()),
    }
}

fn of_table(table: &RecordBatch) -> Result<Numbers> {
    let schema = table.schema();
    let has = |name: &str| schema.field_with_name(name).is_ok();
    let edge = |name: &str| {
        let base = name.strip_suffix("_low").or(name.strip_suffix("_high"));
        base.is_some_and(|base| base != "core" && !has(base) && has(&format!("{base}_low")) && has(&format!("{base}_high")))
    };
    let mut keys: Vec<(String, Vec<String>)> = Vec::new();
    let mut values: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
    for (field, column) in schema.fields().iter().zip(table.columns()) {
        let name = field.name().as_str();
        let text = matches!(field.data_type(), DataType::Utf8 | DataType::Dictionary(..));
        if text || edge(name) || name == "at" {
            let texts = cast(column, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter().map(|text| text.unwrap_or("all").to_owned()).collect();
            if name != "reason" {
                keys.push((name.to_owned(), texts));
            }
        } else if field.data_type().is_numeric() {
            let numbers = cast(column, &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>();
            values.insert(name, numbers.iter().map(|value| value.filter(|value| !value.is_nan())).collect());
        }
    }
    let error = |name: &str, row: usize| -> Option<f64> {
        let of = |name: String| values.get(name.as_str()).and_then(|values| values[row]);
        if values.contains_key(format!("{name}_error").as_str()) {
            return of(format!("{name}_error"));
        }
        if let (Some(low), Some(high)) = (of(format!("{name}_low")), of(format!("{name}_high"))) {
            return Some((high - low) / 2.0);
        }
        if name == "content" {
            return of("variance".to_owned()).map(|variance| variance.max(0.0).sqrt());
        }
        let count = schema.field_with_name(name).is_ok_and(|f| f.data_type().is_integer()) && !name.ends_with("ndf");
        count.then(|| values[name][row].map(|n| n.max(0.0).sqrt())).flatten()
    };
    let mut numbers = Numbers::new();
    let mut seen: BTreeMap<Vec<(String, String)>, usize> = BTreeMap::new();
    for row in 0..table.num_rows() {
        let place: Vec<(String, String)> = keys.iter().map(|(name, texts)| (name.clone(), texts[row].clone())).collect();
        let again = seen.entry(place.clone()).or_default();
        for (name, column) in &values {
            let key = Key { place: place.clone(), again: *again, column: (*name).to_owned() };
            numbers.insert(key, Number { value: column[row], error: error(name, row) });
        }
        *again += 1;
    }
    Ok(numbers)
}

fn of_histogram(histogram: &Value) -> Result<Numbers> {
    let storage = &histogram["storage"];
    ensure!(histogram["uhi_schema"].is_number() && storage.is_object(), "this is no histogram in the UHI serialization");
    let mut cells: BTreeMap<&str, BTreeMap<Vec<usize>, f64>> = BTreeMap::new();
    for (name, array) in storage.as_object().into_iter().flatten().filter(|(_, array)| array.is_array()) {
        flatten(array, &mut Vec::new(), cells.entry(name).or_default());
    }
    let axes: Vec<String> = histogram["axes"].as_array().into_iter().flatten().map(ToString::to_string).collect();
    let names: Vec<String> = histogram["axes"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(i, axis)| axis["metadata"]["name"].as_str().map_or_else(|| format!("axis {i}"), str::to_owned))
        .collect();
    let values = cells.get("values").context("a histogram without values")?;
    let get = |name: &str, place: &Vec<usize>| cells.get(name).and_then(|cells| cells.get(place)).copied();
    let kind = storage["type"].as_str().unwrap_or_default();
    let mut numbers = Numbers::new();
    for (place, value) in values {
        let variance = get("variances", place);
        let error = match kind {
            // What is stored of a profile is the spread of its rows; the mean's error is less.
            "mean" => get("counts", place).zip(variance).filter(|(n, _)| *n > 1.0).map(|(n, v)| (v / n).sqrt()),
            "weighted_mean" => {
                let sums = get("sum_of_weights", place).zip(get("sum_of_weights_squared", place)).zip(variance);
                sums.filter(|((w, _), _)| *w > 0.0).map(|((w, w2), v)| (v * w2).sqrt() / w)
            }
            _ => variance.or(Some(value.abs())).map(|v| v.max(0.0).sqrt()),
        };
        let place = names.iter().zip(place).map(|(name, slot)| (name.clone(), format!("bin {slot}"))).collect();
        numbers.insert(Key { place, again: 0, column: "values".into() }, Number { value: Some(*value), error });
    }
    // Histograms on other axes have other names here, so they differ.
    for (number, axis) in axes.into_iter().enumerate() {
        numbers.insert(
            Key { place: Vec::new(), again: number, column: format!("axis {axis}") },
            Number { value: Some(0.0), error: Some(0.0) },
        );
    }
    Ok(numbers)
}

/// The numbers of arrays in arrays, by their places.
fn flatten(array: &Value, place: &mut Vec<usize>, into: &mut BTreeMap<Vec<usize>, f64>) {
    match array {
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                place.push(number);
                flatten(item, place, into);
                place.pop();
            }
        }
        Value::Number(number) => {
            into.insert(place.clone(), number.as_f64().unwrap_or(f64::NAN));
        }
        _ => {}
    }
}
