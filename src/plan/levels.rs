//! Levels and phases: what can be done in one go, and what has to be known before.
//!
//! A shuffle ends a level where somebody looks at its order: a step that writes, or another shuffle, which ranks rows by it.
//! Where only sums are made of its rows it is a selection, done in place: nothing is put aside, nothing is sorted.

use super::{PhasePlan, Plan, PlannedStep, Port};
use calostream_operators::{Lanes, Shape, column};
use std::sync::Arc;

/// Says of every step its level, and of every shuffle whether it spills and whether its rows are counted.
pub fn number(steps: &mut [PlannedStep]) {
    let mut ordered = vec![false; steps.len()];
    for number in (0..steps.len()).rev() {
        let taken = |steps: &[PlannedStep]| {
            let takers = steps.iter().enumerate().filter(|(_, s)| s.from.iter().any(|port| port.step == number));
            takers.into_iter().any(|(taker, s)| ordered[taker] || matches!(s.planned.shape, Shape::Sink | Shape::Shuffle))
        };
        let taken = taken(steps);
        match steps[number].planned.shape {
            Shape::Shuffle => steps[number].spills = taken || steps[number].planned.lanes == Lanes::None,
            Shape::Map | Shape::Device => ordered[number] = taken,
            Shape::Source | Shape::Fold | Shape::Sink | Shape::Page => {}
        }
    }
    for number in 0..steps.len() {
        let from = steps[number].from.iter().map(|port| {
            let before = &steps[port.step];
            let later = before.spills || before.planned.outputs[port.output].table;
            before.level + usize::from(later && steps[number].planned.shape != Shape::Page)
        });
        let level = from.max().unwrap_or(0);
        steps[number].level = level;
        steps[number].counted = match steps[number].planned.lanes {
            Lanes::None => false,
            Lanes::Rows => true,
            Lanes::Samples => !said_by_units(steps, number),
        };
        let before = steps[number].from.iter().map(|port| &steps[port.step]).filter(|s| s.level == level);
        steps[number].stage = before.map(|s| s.stage + usize::from(s.surveys())).max().unwrap_or(0);
    }
    let last = steps.iter().map(|s| s.level).max().unwrap_or(0);
    for step in steps.iter_mut().filter(|s| s.planned.shape == Shape::Page) {
        step.level = last;
    }
}

/// True where the units say how many rows of each sample come to a shuffle: all of a unit are of one sample, and none is cut
/// on the way on purpose.
fn said_by_units(steps: &[PlannedStep], shuffle: usize) -> bool {
    let names = column::samples(&steps[shuffle].inputs[0].schema);
    let mut at = steps[shuffle].from[0].step;
    loop {
        let step = &steps[at];
        match step.planned.shape {
            Shape::Source => return names.is_empty() || step.planned.units.iter().all(|u| u.sample.is_some()),
            Shape::Map | Shape::Device if step.planned.cuts => return false,
            Shape::Map | Shape::Device => at = step.from[0].step,
            Shape::Shuffle | Shape::Fold | Shape::Sink | Shape::Page => return false,
        }
    }
}

/// The step of the source whose rows come to a shuffle through steps of its own level; none where they come from a shuffle.
#[must_use]
pub fn origin(steps: &[PlannedStep], shuffle: usize) -> Option<Port> {
    let mut port = *steps[shuffle].from.first()?;
    loop {
        let step = &steps[port.step];
        match step.planned.shape {
            Shape::Source => return Some(port),
            Shape::Map | Shape::Device => port = *step.from.first()?,
            Shape::Shuffle | Shape::Fold | Shape::Sink | Shape::Page => return None,
        }
    }
}

/// The phases of a plan whose steps are numbered, with the surveying plans by level.
#[must_use]
pub fn phases(plan: &Plan, surveys: Vec<(usize, Vec<PlannedStep>)>) -> Vec<PhasePlan> {
    let last = plan.steps.iter().map(|s| s.level).max().unwrap_or(0);
    let mut phases = Vec::new();
    let mut surveys = surveys.into_iter().peekable();
    for level in 0..=last {
        while let Some((_, steps)) = surveys.next_if(|(of, _)| *of == level) {
            let plan = Plan {
                name: plan.name.clone(),
                about: None,
                out: plan.out.clone(),
                steps,
                phases: Vec::new(),
                canonical: serde_json::Value::Null,
                hash: plan.hash.clone(),
                facts: Arc::clone(&plan.facts),
                remarks: Vec::new(),
                ..*plan
            };
            phases.push(PhasePlan { level, survey: Some(Arc::new(plan)) });
        }
        phases.push(PhasePlan { level, survey: None });
    }
    phases
}
