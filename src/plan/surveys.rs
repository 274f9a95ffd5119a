//! The plans of the phases that only survey: on each level, the steps that lead to those that must know something of all rows
//! before they work (how many there are, where the edges lie), with just the columns that this takes.

use super::{PlannedStep, columns};
use calostream_operators::{Facts, Problem};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The steps of each surveying plan with its level, in the order of their phases; made of steps with full schemas.
pub fn plans(steps: &[PlannedStep], facts: &Facts) -> Result<Vec<(usize, Vec<PlannedStep>)>, Vec<Problem>> {
    let surveys: BTreeSet<(usize, usize)> = steps.iter().filter(|s| s.surveys()).map(|s| (s.level, s.stage)).collect();
    surveys.into_iter().map(|(level, stage)| Ok((level, plan(steps, (level, stage), facts)?))).collect()
}

fn plan(steps: &[PlannedStep], (level, stage): (usize, usize), facts: &Facts) -> Result<Vec<PlannedStep>, Vec<Problem>> {
    let goal = |step: &PlannedStep| step.surveys() && (step.level, step.stage) == (level, stage);
    let mut leads = vec![false; steps.len()];
    for number in (0..steps.len()).rev() {
        let step = &steps[number];
        leads[number] |= goal(step);
        if leads[number] {
            // What comes from the level below comes from there as it is: the shuffle itself, but nothing before it.
            let from = step.from.iter().take(if goal(step) { 1 } else { usize::MAX });
            from.filter(|_| step.level == level).for_each(|port| leads[port.step] = true);
        }
    }
    let copy = |(number, s): (usize, &PlannedStep)| PlannedStep {
        name: s.name.clone(),
        place: s.place,
        kind: s.kind.clone(),
        operator: Arc::clone(&s.operator),
        from: s.from.clone(),
        inputs: s.inputs.clone(),
        planned: s.planned.clone(),
        idle: !leads[number],
        goal: goal(s),
        ..*s
    };
    let mut narrowed: Vec<PlannedStep> = steps.iter().enumerate().map(copy).collect();
    columns::narrow(&mut narrowed, facts, &mut Vec::new(), true)?;
    Ok(narrowed)
}
