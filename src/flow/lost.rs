//! What was put aside and is not there any more: scratch of a node may be emptied between two jobs, and a run that is done
//! removes what it has put aside. It also removes the files of parts that it has put together to one.
//!
//! A committed part whose runs are gone is done again, but only where its runs will be read. Its rows come out the same, so
//! what the later phases have committed stays.

use super::phase::{Basis, Phase};
use super::start;
use crate::ledger::State;
use crate::ledger::lock::host;
use crate::ledger::log::{FileMade, Spill};
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

/// The committed parts with a file that is not there, of the steps whose parts are put together: each with whether what was
/// put together is out of date, so that the file is needed whatever else is done. Process 0 sees the folder.
pub fn files(plan: &Plan, state: &State, folder: &Path) -> Vec<(PartOf, bool)> {
    let mut found = Vec::new();
    for step in plan.steps.iter().filter(|s| s.planned.assembled.is_some()) {
        let out_of_date = state.assembled_of(&step.name).is_none();
        let gone = |f: &FileMade| f.step == step.name && !folder.join(&f.step).join(&f.name).exists();
        let parts = state.commits.iter().filter(|(_, c)| c.files.iter().any(gone));
        found.extend(parts.map(|(part, _)| (*part, out_of_date)));
    }
    found
}

/// The parts to be done again: of those that miss a run, none where no phase is left that would read them; of those that
/// miss a [file](files) that is put together with others, none where all of that is done.
pub fn again(
    plan: &Plan,
    state: &State,
    units: &[Numbered],
    (runtime, names): (&Runtime, &[String]),
    missing: impl IntoIterator<Item = PartOf>,
    files: &[(PartOf, bool)],
) -> Result<Vec<PartOf>> {
    let mut gone: BTreeSet<PartOf> = missing.into_iter().collect();
    let elsewhere = |s: &Spill| s.path.is_absolute() && !names.contains(&s.host);
    gone.extend(state.commits.iter().filter(|(_, c)| c.spills.iter().any(elsewhere)).map(|(part, _)| *part));
    if gone.is_empty() && files.is_empty() {
        return Ok(Vec::new());
    }
    let start = |step: usize| start(plan, runtime, step, ((0, 1), None));
    let mut open = None;
    for number in 0..plan.phases.len() {
        let phase = Phase::of(Basis { plan, state, units, folder: &plan.out, start: &start }, number)?;
        let begun = state.basis.get(&number) == Some(&phase.basis);
        if !begun || (0..phase.parts.len() as u64).any(|part| !state.commits.contains_key(&(number, part))) {
            open = Some(number);
            break;
        }
    }
    // Whether a part that is done now will be among others in the end is not known while a phase is open.
    let needed: BTreeSet<PartOf> = files.iter().filter(|f| f.1 || open.is_some()).map(|f| f.0).collect();
    let level_of = |phase: usize| plan.phases.get(phase).map_or(0, |p| p.level);
    let first = open.into_iter().chain(needed.iter().map(|part| part.0)).map(level_of).min();
    let Some(mut level) = first else { return Ok(Vec::new()) };
    // The open phase reads the runs of the level before; where these are done again, so are they from the one before that.
    while level > 0 && gone.iter().any(|(phase, _)| level_of(*phase) == level - 1) {
        level -= 1;
    }
    let runs = gone.into_iter().filter(|(phase, _)| level_of(*phase) >= level);
    Ok(needed.into_iter().chain(runs).collect::<BTreeSet<_>>().into_iter().collect())
}
