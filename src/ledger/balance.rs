//! Every event accounted for: rows in = rows out + cut, for every step; and what goes out of a step comes into the next.
//!
//! The sums are made from the commit log alone, so they hold for a run that was killed and went on as well.

use super::State;
use crate::plan::Plan;
use std::collections::BTreeMap;

/// What went through a step in the whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StepRows {
    /// The step.
    pub step: String,
    /// Rows that came in.
    pub came: u64,
    /// Rows that went out, by output.
    pub out: Vec<u64>,
    /// Rows that were cut.
    pub cut: u64,
    /// Rows of quarantined units (at the source, or at the order of a shuffle).
    pub quarantined: u64,
}

/// The balance of a run, and every way in which it does not add up.
pub fn balance(plan: &Plan, state: &State, unit_rows: &BTreeMap<(usize, u64), u64>) -> (Vec<StepRows>, Vec<String>) {
    let mut table: Vec<StepRows> =
        plan.steps.iter().map(|s| StepRows { step: s.name.clone(), out: vec![0; s.planned.outputs.len()], ..StepRows::default() }).collect();
    let mut wrong = Vec::new();
    // A shuffle stands in two phases: what it spilled, and what it gave in the new order.
    let mut given: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for commit in state.commits.values() {
        let mut read = 0;
        for rows in &commit.rows {
            let Some(index) = plan.steps.iter().position(|s| s.name == rows.step) else { continue };
            let sum: u64 = rows.out.iter().sum();
            let sink = plan.steps[index].planned.outputs.is_empty() || plan.steps[index].planned.outputs.iter().all(|o| o.table);
            if !sink && rows.came != sum + rows.cut {
                wrong.push(format!(
                    "part {} of phase {}: {} rows came into `{}`, {sum} went out and {} were cut",
                    commit.part, commit.phase, rows.came, rows.step, rows.cut
                ));
            }
            if plan.steps[index].phase < commit.phase {
                let (out, cut) = given.entry(index).or_default();
                *out += sum;
                *cut += rows.cut;
                read += sum;
                continue;
            }
            if plan.steps[index].from.is_empty() {
                read += rows.came;
            }
            let step = &mut table[index];
            step.came += rows.came;
            step.cut += rows.cut;
            rows.out.iter().zip(&mut step.out).for_each(|(a, b)| *b += a);
        }
        let due: u64 = commit.units.iter().filter_map(|u| unit_rows.get(&(commit.phase, *u))).sum();
        if due != read {
            wrong.push(format!("part {} of phase {}: its units have {due} rows, {read} were read", commit.part, commit.phase));
        }
    }
    for ((phase, unit), q) in &state.quarantined {
        let rows = unit_rows.get(&(*phase, *unit)).copied().unwrap_or(q.rows);
        if let Some(step) = table.iter_mut().find(|s| s.step == q.step) {
            step.quarantined += rows;
        }
    }
    for (index, step) in plan.steps.iter().enumerate() {
        for port in &step.from {
            if plan.steps[port.step].planned.outputs[port.output].table {
                continue;
            }
            let from = &plan.steps[port.step];
            let out = table[port.step].out.get(port.output).copied().unwrap_or_default();
            if from.phase == step.phase && out != table[index].came {
                wrong.push(format!("{out} rows went out of `{}`, {} came into `{}`", from.name, table[index].came, step.name));
            }
        }
    }
    for (index, (out, cut)) in given {
        table[index].cut += cut;
        let spilled: u64 = table[index].out.iter().sum();
        if out + cut > spilled {
            wrong.push(format!("{spilled} rows were put aside by `{}`, {} came back", table[index].step, out + cut));
        }
    }
    (table, wrong)
}
