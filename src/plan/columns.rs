//! Which columns each output must have: those that somebody downstream reads, and where the row came from.
//!
//! A column that nobody reads is not decoded, not sent and not spilled. Steps that pass rows on (Map, Device, Shuffle) pass
//! columns through: what is needed of their input is what they read themselves and what is needed of their outputs, without
//! what they make. Streams always keep the provenance columns, because every row keeps where it came from.

use super::{PlannedStep, Port};
use calostream_operators::column::PROVENANCE;
use calostream_operators::{Output, Reads, Shape};
use std::collections::{BTreeMap, BTreeSet};

/// The columns that each output must have; what is not in the map is read by nobody. In a counting plan a shuffle is the end.
pub fn needed(steps: &[PlannedStep], counting: bool) -> BTreeMap<Port, BTreeSet<String>> {
    let mut needed: BTreeMap<Port, BTreeSet<String>> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate().rev().filter(|(_, s)| !s.idle) {
        let mut passed = BTreeSet::new();
        let ends = counting && step.counted;
        if matches!(step.planned.shape, Shape::Map | Shape::Device | Shape::Shuffle) && !ends {
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

/// The output with only these columns and, for a stream, where its rows came from.
#[must_use]
pub fn narrowed(output: &Output, keep: &BTreeSet<String>) -> Output {
    output.narrowed(|name| keep.contains(name) || (!output.table && PROVENANCE.contains(&name)))
}
