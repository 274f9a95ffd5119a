//! What was put aside and is not there any more: scratch of a node may be emptied between two jobs, and a run that is done
//! removes what it has put aside.
//!
//! A committed part whose runs are gone is done again, but only where its runs will be read. Its rows come out the same, so
//! what the later phases have committed stays.

use super::phase::{Basis, Phase};
use super::start;
use crate::ledger::State;
use crate::ledger::lock::host;
use crate::ledger::log::Spill;
use crate::ledger::units::Numbered;
use crate::plan::Plan;
use anyhow::Result;
use calostream_operators::work::Runtime;
use std::collections::BTreeSet;
use std::path::Path;

/// Phase and part.
type PartOf = (usize, u64);

/// The committed parts with a run that this process should see, and doesn't. What is in the run folder is for process 0.
pub fn missing(state: &State, folder: &Path, first: bool) -> Vec<PartOf> {
    let me = host();
    let mine = |s: &&Spill| if s.path.is_relative() { first } else { s.host == me };
    let gone = |s: &Spill| !folder.join(&s.path).exists();
    state.commits.iter().filter(|(_, c)| c.spills.iter().filter(mine).any(gone)).map(|(part, _)| *part).collect()
}

/// The parts to be done again, of those that miss a run: none where no phase is left that would read them.
pub fn again(
    plan: &Plan,
    state: &State,
    units: &[Numbered],
    (runtime, names): (&Runtime, &[String]),
    missing: impl IntoIterator<Item = PartOf>,
) -> Result<Vec<PartOf>> {
    let mut gone: BTreeSet<PartOf> = missing.into_iter().collect();
    let elsewhere = |s: &Spill| s.path.is_absolute() && !names.contains(&s.host);
    gone.extend(state.commits.iter().filter(|(_, c)| c.spills.iter().any(elsewhere)).map(|(part, _)| *part));
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let start = |step: usize| start(plan, runtime, step, (0, 1));
    let mut open = None;
    for number in 0..plan.phases.len() {
        let phase = Phase::of(Basis { plan, state, units, folder: &plan.out, start: &start }, number)?;
        let begun = state.basis.get(&number) == Some(&phase.basis);
        if !begun || (0..phase.parts.len() as u64).any(|part| !state.commits.contains_key(&(number, part))) {
            open = Some(number);
            break;
        }
    }
    let Some(open) = open else { return Ok(Vec::new()) };
    // The open phase reads the runs of the level before; where these are done again, so are they from the one before that.
    let mut level = plan.phases[open].level;
    while level > 0 && gone.iter().any(|(phase, _)| plan.phases.get(*phase).is_some_and(|p| p.level == level - 1)) {
        level -= 1;
    }
    Ok(gone.into_iter().filter(|(phase, _)| plan.phases.get(*phase).is_some_and(|p| p.level >= level)).collect())
}
