//! Which columns each output must have: those that somebody downstream reads, and where the row came from.
//!
//! A column that nobody reads is not decoded, not sent and not spilled. Steps that pass rows on (Map, Device, Shuffle) pass
//! columns through: what is needed of their input is what they read themselves and what is needed of their outputs, without
//! what they make. Streams always keep the provenance columns, because every row keeps where it came from.

use super::{PlannedStep, Port};
use arrow::datatypes::{DataType, Field, Schema};
use calostream_operators::column::PROVENANCE;
use calostream_operators::{Output, Reads, Shape};
use std::collections::{BTreeMap, BTreeSet};

/// The columns that each output must have; what is not in the map is read by nobody.
pub fn needed(steps: &[PlannedStep]) -> BTreeMap<Port, BTreeSet<String>> {
    let mut needed: BTreeMap<Port, BTreeSet<String>> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate().rev() {
        let mut passed = BTreeSet::new();
        if matches!(step.planned.shape, Shape::Map | Shape::Device | Shape::Shuffle) {
            for output in 0..step.planned.outputs.len() {
                passed.extend(needed.get(&Port { step: number, output }).into_iter().flatten().cloned());
            }
        }
        for (index, (port, input)) in step.from.iter().zip(&step.inputs).enumerate() {
            let into = needed.entry(*port).or_default();
            for field in input.schema.fields() {
                let name = field.name();
                let own = match step.planned.reads.get(index) {
                    Some(Reads::Columns(columns)) => columns.contains(name),
                    Some(Reads::All) | None => true,
                };
                let provenance = !input.table && PROVENANCE.contains(&name.as_str());
                if own || provenance || passed.contains(name) {
                    into.insert(name.clone());
                }
            }
        }
    }
    needed
}

/// The output with only these columns, and the share of a row's bytes that they take.
#[must_use]
pub fn narrowed(output: &Output, keep: &BTreeSet<String>) -> (Output, f64) {
    let (mut kept, mut all) = (0.0, 0.0);
    let mut fields = Vec::new();
    for field in output.schema.fields() {
        let weight = weight(field);
        all += weight;
        let provenance = !output.table && PROVENANCE.contains(&field.name().as_str());
        if provenance || keep.contains(field.name()) {
            kept += weight;
            fields.push(field.clone());
        }
    }
    if fields.len() == output.schema.fields().len() {
        return (output.clone(), 1.0);
    }
    let share = if all > 0.0 { kept / all } else { 1.0 };
    let schema = Schema::new_with_metadata(fields, output.schema.metadata().clone()).into();
    let row_bytes = scaled(output.row_bytes, share);
    (Output { schema, row_bytes, ..output.clone() }, share)
}

/// That share of a row's bytes, rounded up.
#[must_use]
pub fn scaled(row_bytes: u64, share: f64) -> u64 {
    (row_bytes as f64 * share).ceil() as u64
}

/// How many bytes a value of this column takes next to the others. Only proportions matter; a jagged column counts as its
/// dense image, which is right up to the filling that images of one event share.
fn weight(field: &Field) -> f64 {
    let cells = calostream_operators::hits::shape(field).map(|shape| shape.iter().product::<usize>() as f64);
    match field.data_type() {
        DataType::List(item) => cells.unwrap_or(16.0) * weight(item),
        DataType::FixedSizeList(item, length) => f64::from(*length) * weight(item),
        DataType::Struct(fields) => fields.iter().map(|f| weight(f)).sum(),
        DataType::Dictionary(key, _) => key.primitive_width().unwrap_or(4) as f64,
        other => other.primitive_width().unwrap_or(if *other == DataType::Boolean { 1 } else { 16 }) as f64,
    }
}
