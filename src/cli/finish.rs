//! The end of a run: sums become tables, tables become the page. Done by process 0 when all phases are committed.
//!
//! Everything here is a function of the log's contributions, so it is done again after a kill and comes out the same.

use crate::ledger::{State, log};
use crate::plan::Plan;
use anyhow::{Context, Result, bail};
use calostream_operators::figure::Summary;
use calostream_operators::sums::Sums;
use calostream_operators::work::{Runtime, Start};
use calostream_operators::{Shape, Work, Worker};
use std::collections::BTreeMap;
use std::fs::File;

/// The work of a step, for what is done when all parts are committed.
pub fn start(plan: &Plan, step: usize, runtime: &Runtime) -> Result<Work> {
    let planned = &plan.steps[step];
    let at = Start {
        worker: Worker { index: 0, peers: 1 },
        facts: &plan.facts,
        inputs: &planned.inputs,
        outputs: &planned.planned.outputs,
        runtime,
    };
    planned.operator.start(&at).with_context(|| format!("step `{}`", planned.name))
}

/// The summary of every fold, in the order of the steps.
pub fn summaries(plan: &Plan, state: &State, runtime: &Runtime) -> Result<BTreeMap<usize, Summary>> {
    let mut summaries = BTreeMap::new();
    let path = plan.out.join("contributions.bin");
    for (step, planned) in plan.steps.iter().enumerate().filter(|(_, s)| s.planned.shape == Shape::Fold) {
        let Work::Fold(fold) = start(plan, step, runtime)? else { bail!("`{}` is no fold any more", planned.name) };
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut sums = Sums::default();
        for pointer in state.commits.values().flat_map(|c| &c.contributions).filter(|p| p.step == planned.name) {
            sums.merge(&Sums::decode(&log::contribution(&file, pointer)?)?);
        }
        let summary = fold.finish(&sums).with_context(|| format!("step `{}`", planned.name))?;
        summaries.insert(step, summary);
    }
    Ok(summaries)
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
