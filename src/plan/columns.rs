//! Which columns each output must have: those that somebody downstream reads, and where the row came from.
//!
//! A column that nobody reads is not decoded, not sent and not spilled. Steps that pass rows on (Map, Device, Shuffle) pass
//! columns through: what is needed of their input is what they read themselves and what is needed of their outputs, without
//! what they make. Streams always keep the provenance columns, because every row keeps where it came from.

use super::{PlannedStep, Port};
use calostream_operators::column::{COPY, PROVENANCE};
use calostream_operators::{Facts, Output, Place, Problem, Reads, Shape};
use std::collections::{BTreeMap, BTreeSet};

/// The columns that each output must have; what is not in the map is read by nobody. A plan that surveys ends with
/// its goals.
pub fn needed(steps: &[PlannedStep]) -> BTreeMap<Port, BTreeSet<String>> {
    let mut needed: BTreeMap<Port, BTreeSet<String>> = BTreeMap::new();
    for (number, step) in steps.iter().enumerate().rev().filter(|(_, s)| !s.idle) {
        let mut passed = BTreeSet::new();
        if matches!(step.planned.shape, Shape::Map | Shape::Device | Shape::Shuffle) && !step.goal {
            for output in 0..step.planned.outputs.len() {
                passed.extend(needed.get(&Port { step: number, output }).into_iter().flatten().cloned());
            }
        }
        let survey = step.planned.survey.as_ref().filter(|_| step.goal);
        let inputs = if survey.is_some() { 1 } else { step.inputs.len() };
        for (index, (port, input)) in step.from.iter().zip(&step.inputs).enumerate().take(inputs) {
            let into = needed.entry(*port).or_default();
            for field in input.schema.fields() {
                let name = field.name();
                let own = match survey.or(step.planned.reads.get(index)) {
                    Some(Reads::Columns(columns)) => columns.contains(name),
                    Some(Reads::All) | None => true,
                };
                let provenance = !input.table && is_provenance(name);
                if own || provenance || passed.contains(name) {
                    into.insert(name.clone());
                }
            }
        }
    }
    needed
}

/// True for a column that goes on whether somebody reads it or not: of an event that comes several times, also which time
/// this is.
fn is_provenance(name: &str) -> bool {
    PROVENANCE.contains(&name) || name == COPY
}

/// The output with only these columns and, for a stream, where its rows came from.
#[must_use]
pub fn narrowed(output: &Output, keep: &BTreeSet<String>) -> Output {
    output.narrowed(|name| keep.contains(name) || (!output.table && is_provenance(name)))
}

/// Takes out the columns that nobody reads and plans every step again with what is left.
pub fn narrow(
    steps: &mut [PlannedStep],
    facts: &Facts,
    remarks: &mut Vec<(String, String)>,
    surveying: bool,
) -> Result<(), Vec<Problem>> {
    let needed = needed(steps);
    for number in 0..steps.len() {
        let (before, rest) = steps.split_at_mut(number);
        let step = &mut rest[0];
        if step.idle {
            continue;
        }
        if step.planned.shape != Shape::Source {
            step.inputs = step.from.iter().map(|port| before[port.step].planned.outputs[port.output].clone()).collect();
            // What it surveys may be less than what it is planned with.
            if step.goal && step.planned.survey.is_some() {
                continue;
            }
            let quarantined = std::mem::take(&mut step.planned.quarantined);
            step.planned = step.operator.plan(facts, &step.inputs).map_err(|found| placed(found, step.place))?;
            step.planned.quarantined = quarantined;
        }
        let mut share = 0.0f64;
        let several = step.planned.outputs.len() > 1;
        for (output, made) in step.planned.outputs.iter_mut().enumerate() {
            let columns = needed.get(&Port { step: number, output });
            let stream = !made.table;
            if columns.is_none() && stream && !surveying {
                let which = if several { format!("the output `{}`", made.name) } else { "the output".to_owned() };
                remarks.push((step.name.clone(), format!("nobody reads {which} of `{}`", step.name)));
            }
            if stream {
                let narrowed = narrowed(made, &columns.cloned().unwrap_or_default());
                share = share.max(narrowed.row_bytes as f64 / made.row_bytes.max(1) as f64);
                *made = narrowed;
            }
        }
        for unit in &mut step.planned.units {
            unit.row_bytes = (unit.row_bytes as f64 * share).ceil() as u64;
        }
    }
    Ok(())
}

/// Problems that stand nowhere (a default, a word inside a choice) are shown at the operator.
pub fn placed(problems: Vec<Problem>, place: Place) -> Vec<Problem> {
    problems.into_iter().map(|p| if p.place == Place::default() { Problem { place, ..p } } else { p }).collect()
}
