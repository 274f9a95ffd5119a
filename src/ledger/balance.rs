//! Every event accounted for, over the whole run: rows in = rows out + cut, and what goes out of a step comes into the next.
//!
//! The sums are made from the commit log alone, so they hold for a run that was killed and went on as well. Each part was
//! checked for itself before it was committed; here the parts are checked against the list of units and against each other.

use super::State;
use crate::plan::{Plan, Port};
use calostream_operators::Shape;
use std::collections::BTreeMap;

/// What went through a step in the whole run.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct StepRows {
    /// The step.
    pub step: String,
    /// Rows that came in.
    #[serde(rename = "in")]
    pub came: u64,
    /// Rows that went out, by output.
    pub out: Vec<u64>,
    /// Rows that were cut.
    pub cut: u64,
    /// Rows of units that are quarantined.
    pub quarantined: u64,
    /// What was dropped or changed on purpose within rows, and how many of it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub noticed: BTreeMap<String, u64>,
}

/// The balance of a run, and every way in which it does not add up.
pub fn balance(plan: &Plan, state: &State, unit_rows: &BTreeMap<(usize, u64), u64>) -> (Vec<StepRows>, Vec<String>) {
    let index: BTreeMap<&str, usize> = plan.steps.iter().enumerate().map(|(i, s)| (s.name.as_str(), i)).collect();
    let empty = |s: &crate::plan::PlannedStep| StepRows {
        step: s.name.clone(),
        out: vec![0; if streams(s.planned.shape) { s.planned.outputs.len() } else { 0 }],
        ..StepRows::default()
    };
    let mut table: Vec<StepRows> = plan.steps.iter().map(empty).collect();
    // A shuffle stands in two phases: what it put aside, and what it gave back in the new order.
    let mut given: BTreeMap<Port, (u64, u64)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<(usize, u64), u32> = BTreeMap::new();
    for commit in state.commits.values() {
        commit.units.iter().chain(&commit.left_out).for_each(|u| *seen.entry((commit.phase, *u)).or_default() += 1);
        for noticed in &commit.noticed {
            let Some(step) = index.get(noticed.step.as_str()) else { continue };
            for (what, count) in &noticed.counts {
                *table[*step].noticed.entry(what.clone()).or_default() += count;
            }
        }
        for rows in &commit.rows {
            let Some(step) = index.get(rows.step.as_str()).copied() else { continue };
            if plan.steps[step].phase < commit.phase {
                let output = rows.out.len().saturating_sub(1);
                let given = given.entry(Port { step, output }).or_default();
                given.0 += rows.out.iter().sum::<u64>();
                given.1 += rows.cut;
                continue;
            }
            let of = &mut table[step];
            of.came += rows.came;
            of.cut += rows.cut;
            rows.out.iter().zip(&mut of.out).for_each(|(a, b)| *b += a);
        }
    }
    for (unit, rows) in unit_rows {
        match seen.get(unit).copied().unwrap_or(0) {
            1 => {}
            0 => wrong.push(format!("unit {} of phase {} ({rows} rows) is in no committed part", unit.1, unit.0)),
            n => wrong.push(format!("unit {} of phase {} is in {n} committed parts", unit.1, unit.0)),
        }
    }
    let mut lost: BTreeMap<usize, u64> = BTreeMap::new();
    for q in state.in_quarantine() {
        *lost.entry(q.phase).or_default() += q.rows;
        if let Some(step) = index.get(q.step.as_str()) {
            table[*step].quarantined += q.rows;
        }
    }
    let sources: u64 = plan.steps.iter().zip(&table).filter(|(s, _)| s.planned.shape == Shape::Source).map(|(_, t)| t.came).sum();
    let due = unit_rows.iter().filter(|((phase, unit), _)| *phase == 0 && !state.replaced.contains(unit)).map(|(_, rows)| rows);
    let due: u64 = due.sum();
    if sources + lost.get(&0).copied().unwrap_or(0) != due {
        wrong.push(format!("the units have {due} rows; {sources} were read and {} are quarantined", lost.get(&0).unwrap_or(&0)));
    }
    let mut after: BTreeMap<Port, u64> = BTreeMap::new();
    for (port, (out, cut)) in &given {
        let aside = table[port.step].out.get(port.output).copied().unwrap_or(0);
        let quarantined = lost.get(&(plan.steps[port.step].phase + 1)).copied().unwrap_or(0);
        // Ranges of several shuffled outputs may be quarantined in one phase: then only a bound can be checked.
        if out + cut > aside || out + cut + quarantined < aside {
            let name = &plan.steps[port.step].name;
            wrong.push(format!("{aside} rows were put aside by `{name}`; {out} came back in the new order and {cut} were cut"));
        }
        after.insert(*port, *out);
    }
    for (step, planned) in plan.steps.iter().enumerate() {
        for port in planned.from.iter().filter(|p| !plan.steps[p.step].planned.outputs[p.output].table) {
            let from = &plan.steps[port.step];
            let sent = after.get(port).copied().unwrap_or_else(|| table[port.step].out.get(port.output).copied().unwrap_or(0));
            if sent != table[step].came {
                wrong.push(format!("{sent} rows went out of `{}`, {} came into `{}`", from.name, table[step].came, planned.name));
            }
        }
        let of = &table[step];
        if matches!(planned.planned.shape, Shape::Source | Shape::Map | Shape::Device | Shape::Shuffle)
            && of.came != of.out.iter().sum::<u64>() + of.cut
        {
            wrong.push(format!("{} rows came into `{}`, {:?} went out and {} were cut", of.came, planned.name, of.out, of.cut));
        }
    }
    for (port, (_, cut)) in given {
        // Shown where people look for it: the rows beyond the shares are cut, not given.
        table[port.step].cut += cut;
        table[port.step].out[port.output] -= cut.min(table[port.step].out[port.output]);
    }
    (table, wrong)
}

fn streams(shape: Shape) -> bool {
    matches!(shape, Shape::Source | Shape::Map | Shape::Device | Shape::Shuffle)
}
