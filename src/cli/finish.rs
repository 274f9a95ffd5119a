//! The end of a run: sums become tables, tables become the page. Done by process 0 when all phases are committed.
//!
//! Everything here is a function of the log's contributions, so it is done again after a kill and comes out the same.

use crate::ledger::{State, sums};
use crate::plan::{Plan, Port};
use anyhow::{Context, Result, bail};
use calostream_operators::statistics::figure::Summary;
use calostream_operators::statistics::sums::Sums;
use calostream_operators::work::{Runtime, Start};
use calostream_operators::{Operator, Shape, Work, Worker};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is to be said, by step (or by output).
pub type Remarks = BTreeMap<String, Vec<String>>;

/// How a step is started for what is done when all parts are committed.
fn at<'a>(plan: &'a Plan, step: usize, runtime: &'a Runtime) -> (&'a Arc<dyn Operator>, Start<'a>) {
    let planned = &plan.steps[step];
    let worker = Worker { index: 0, peers: 1 };
    let (inputs, outputs) = (&planned.inputs, &planned.planned.outputs);
    (&planned.operator, Start { worker, facts: &plan.facts, inputs, outputs, runtime })
}

/// The work of a step, for what is done when all parts are committed.
pub fn start(plan: &Plan, step: usize, runtime: &Runtime) -> Result<Work> {
    let (operator, at) = at(plan, step, runtime);
    operator.start(&at).with_context(|| format!("step `{}`", plan.steps[step].name))
}

/// The sums of a fold, added up from what all parts have contributed.
pub fn sums(plan: &Plan, state: &State, step: &str) -> Result<Sums> {
    sums::of(state, &plan.out, step, |phase| plan.phases.get(phase).is_some_and(|p| p.survey.is_none()))
}

/// The summary of every fold, and of every survey whose step has no table of its own; in the order of the steps.
pub fn summaries(
    plan: &Plan,
    sums_of: &dyn Fn(&str) -> Result<Sums>,
    state: &State,
    runtime: &Runtime,
) -> Result<BTreeMap<usize, Summary>> {
    let mut summaries = BTreeMap::new();
    for (step, planned) in plan.steps.iter().enumerate() {
        let (name, folds) = (&planned.name, planned.planned.shape == Shape::Fold);
        let survey = plan.survey_of(step).filter(|_| planned.planned.survey.is_some());
        let surveyed = survey.map(|survey| sums::of(state, &plan.out, name, |phase| phase == survey)).transpose()?;
        let summary = match (folds, survey, surveyed) {
            (true, _, surveyed) => {
                let runtime = Runtime { surveyed: surveyed.map(Arc::new), ..runtime.clone() };
                let Work::Fold(fold) = start(plan, step, &runtime)? else { bail!("`{name}` is no fold any more") };
                fold.finish(&sums_of(name)?)
            }
            (false, Some(survey), Some(sums)) => {
                let (operator, at) = at(plan.of_phase(survey), step, runtime);
                operator.survey(&at).and_then(|fold| fold.finish(&sums))
            }
            _ => continue,
        };
        summaries.insert(step, summary.with_context(|| format!("step `{name}`"))?);
    }
    Ok(summaries)
}

/// What is to be said of the steps when all is done: what surveys have found, of steps that make no table of their own, and the
/// mixes that are not as they were asked for.
pub fn remarks(plan: &Plan, summaries: &BTreeMap<usize, Summary>, mixes: &BTreeMap<Port, Vec<(u64, u64)>>) -> Remarks {
    let mut found = Remarks::new();
    let surveys = summaries.iter().filter(|(step, _)| plan.steps[**step].planned.shape != Shape::Fold);
    for (step, summary) in surveys.filter(|(_, summary)| !summary.remarks.is_empty()) {
        found.entry(plan.steps[*step].name.clone()).or_default().extend_from_slice(&summary.remarks);
    }
    for (port, classes) in mixes {
        let step = &plan.steps[port.step];
        if let Some(short) = step.operator.fell_short(&step.inputs, port.output, classes) {
            found.entry(plan.name_of(*port)).or_default().push(short);
        }
    }
    found
}

/// The pages of a plan: the step, and what it shows in order.
pub fn pages(plan: &Plan, runtime: &Runtime) -> Result<Vec<(usize, calostream_operators::work::Page)>> {
    let mut pages = Vec::new();
    for (step, planned) in plan.steps.iter().enumerate().filter(|(_, s)| s.planned.shape == Shape::Page) {
        let Work::Page(page) = start(plan, step, runtime)? else { bail!("`{}` is no page any more", planned.name) };
        pages.push((step, page));
    }
    Ok(pages)
}
