//! The plans of the phases that only count: of each level whose shuffles have to know how many rows there are, the steps that
//! lead to them, with just the columns that it takes to count.

use super::{PlannedStep, columns};
use calostream_operators::{Facts, Problem};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The steps of each counting plan with its level; made of steps with full schemas.
pub fn plans(steps: &[PlannedStep], facts: &Facts) -> Result<Vec<(usize, Vec<PlannedStep>)>, Vec<Problem>> {
    let levels: BTreeSet<usize> = steps.iter().filter(|s| s.counted).map(|s| s.level).collect();
    levels.into_iter().map(|level| Ok((level, plan(steps, level, facts)?))).collect()
}

fn plan(steps: &[PlannedStep], level: usize, facts: &Facts) -> Result<Vec<PlannedStep>, Vec<Problem>> {
    let mut leads = vec![false; steps.len()];
    for number in (0..steps.len()).rev() {
        let step = &steps[number];
        leads[number] |= step.counted && step.level == level;
        if leads[number] {
            // What comes from the level below comes from there as it is: the shuffle itself, but nothing before it.
            step.from.iter().filter(|_| step.level == level).for_each(|port| leads[port.step] = true);
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
        ..*s
    };
    let mut narrowed: Vec<PlannedStep> = steps.iter().enumerate().map(copy).collect();
    columns::narrow(&mut narrowed, facts, &mut Vec::new(), true)?;
    Ok(narrowed)
}
