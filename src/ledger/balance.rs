//! Every event accounted for, over the whole run: rows in + repeated = rows out + cut, and what goes out of a step comes into the next.
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
    /// How often rows went out once more.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeated: u64,
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
    // A shuffle that spills stands on two levels: what it put aside, and what it gave back in the new order.
    let mut given: BTreeMap<Port, (u64, u64)> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut seen: BTreeMap<(usize, u64), u32> = BTreeMap::new();
    for commit in state.commits.values() {
        commit.units.iter().chain(&commit.left_out).for_each(|u| *seen.entry((commit.phase, *u)).or_default() += 1);
        let Some(phase) = plan.phases.get(commit.phase).filter(|p| p.survey.is_none()) else { continue };
        for noticed in &commit.noticed {
            let Some(step) = index.get(noticed.step.as_str()) else { continue };
            for (what, count) in &noticed.counts {
                *table[*step].noticed.entry(what.clone()).or_default() += count;
            }
        }
        for rows in &commit.rows {
            let Some(step) = index.get(rows.step.as_str()).copied() else { continue };
            if plan.steps[step].level < phase.level {
                let output = rows.out.len().saturating_sub(1);
                let given = given.entry(Port { step, output }).or_default();
                given.0 += rows.out.iter().sum::<u64>();
                given.1 += rows.cut;
                continue;
            }
            let of = &mut table[step];
            of.came += rows.came;
            of.cut += rows.cut;
            of.repeated += rows.repeated;
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
        *lost.entry(plan.phases.get(q.phase).map_or(0, |p| p.level)).or_default() += q.rows;
        if let Some(step) = index.get(q.step.as_str()) {
            table[*step].quarantined += q.rows;
        }
    }
    let sources: u64 = plan.steps.iter().zip(&table).filter(|(s, _)| s.planned.shape == Shape::Source).map(|(_, t)| t.came).sum();
    let first = plan.phase_of(0);
    let due = unit_rows.iter().filter(|((phase, unit), _)| *phase == first && !state.replaced.contains(unit));
    let due: u64 = due.map(|(_, rows)| rows).sum();
    if sources + lost.get(&0).copied().unwrap_or(0) != due {
        wrong.push(format!("the units have {due} rows; {sources} were read and {} are quarantined", lost.get(&0).unwrap_or(&0)));
    }
    let mut after: BTreeMap<Port, u64> = BTreeMap::new();
    for (port, (out, cut)) in &given {
        let step = &plan.steps[port.step];
        let aside = table[port.step].out.get(port.output).copied().unwrap_or(0);
        let quarantined = lost.get(&(step.level + 1)).copied().unwrap_or(0);
        // A row of a join is made of one row of each input.
        let back = out * step.from.len() as u64 + cut;
        // Parts of several shuffled outputs may be quarantined on one level: then only a bound can be checked.
        if back > aside || back + quarantined < aside {
            let name = &step.name;
            wrong.push(format!("{aside} rows were put aside by `{name}`; {out} came back in the new order and {cut} were cut"));
        }
        after.insert(*port, *out);
    }
    for (step, planned) in plan.steps.iter().enumerate() {
        let ports = planned.from.iter().filter(|p| !plan.steps[p.step].planned.outputs[p.output].table);
        let sent =
            |port: &Port| after.get(port).copied().unwrap_or_else(|| table[port.step].out.get(port.output).copied().unwrap_or(0));
        let all: u64 = ports.clone().map(sent).sum();
        if all != table[step].came && ports.clone().next().is_some() {
            let names: Vec<&str> = ports.map(|p| plan.steps[p.step].name.as_str()).collect();
            let (names, came) = (names.join("`, `"), table[step].came);
            wrong.push(format!("{all} rows went out of `{names}`, {came} came into `{}`", planned.name));
        }
        let of = &table[step];
        if matches!(planned.planned.shape, Shape::Source | Shape::Map | Shape::Device | Shape::Shuffle)
            && of.came + of.repeated != of.out.iter().sum::<u64>() + of.cut
        {
            let repeated = if of.repeated > 0 { format!(" ({} of them again)", of.repeated) } else { String::new() };
            let (came, out, cut) = (of.came, &of.out, of.cut);
            wrong.push(format!("{came} rows came into `{}`{repeated}, {out:?} went out and {cut} were cut", planned.name));
        }
    }
    for (port, (out, cut)) in given {
        // Shown where people look for it: rows of a join without a partner are cut, not given.
        table[port.step].cut += cut;
        table[port.step].out[port.output] = out;
    }
    (table, wrong)
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn streams(shape: Shape) -> bool {
    matches!(shape, Shape::Source | Shape::Map | Shape::Device | Shape::Shuffle)
}
