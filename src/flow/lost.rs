//! What was put aside and is not there any more: what was kept in memory is gone with its process, scratch of a node may be
//! emptied between two jobs, and a run that is done removes what it has put aside. It also removes the files of parts that it
//! has put together to one. And people remove outputs, or lose a disk.
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
use calostream_operators::Shape;
use calostream_operators::work::Runtime;
use std::collections::BTreeSet;
use std::path::Path;

/// Phase and part.
type PartOf = (usize, u64);

/// The committed parts with a run that this process should see, and doesn't. What is in the run folder is for process 0.
pub fn missing(state: &State, folder: &Path, first: bool) -> Vec<PartOf> {
    let me = host();
    let mine = |s: &&Spill| if s.path.is_relative() { first } else { s.host == me };
    // What was in memory was in that of a process that has ended: this is asked when a run begins.
    let gone = |s: &Spill| s.in_memory || !folder.join(&s.path).exists();
    state.commits.iter().filter(|(_, c)| c.spills.iter().filter(mine).any(gone)).map(|(part, _)| *part).collect()
}

/// The committed parts with a file that is not there, or not as long as it was: each with whether it is needed whatever else is
/// done. Process 0 sees the folder.
///
/// Of steps whose parts are put together it is needed where what was put together is out of date. Of all others it is an output,
/// and needed where `outputs` says so: whoever watches may take outputs away while the run goes on.
pub fn files(plan: &Plan, state: &State, outputs: bool) -> Vec<(PartOf, bool)> {
    let mut found = Vec::new();
    for step in plan.steps.iter().filter(|s| s.planned.shape == Shape::Sink) {
        let needed = match &step.planned.assembled {
            None if !outputs => continue,
            None => true,
            Some(assembled) => state.assembled_of(&step.name).is_none() || outputs && assembled.parts_stay,
        };
        let gone = |f: &FileMade| f.step == step.name && !f.is_whole(&plan.out);
        let parts = state.commits.iter().filter(|(_, c)| c.files.iter().any(gone));
        found.extend(parts.map(|(part, _)| (*part, needed)));
    }
    found
}

/// The parts to be done again: of those that miss a run, none where no phase is left that would read them; of those that
/// miss a [file](files), those that need it, and the others where a phase is left.
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
    // Levels, and between them what was put aside again.
    let rank = |phase: usize| plan.phases.get(phase).map_or(0, |p| 2 * p.level - usize::from(p.regroups));
    let spills = |part: &PartOf| state.commits.get(part).into_iter().flat_map(|c| &c.spills);
    let again = state.commits.keys().filter(|(phase, _)| rank(*phase) % 2 == 1);
    let again: BTreeSet<(usize, &str)> = again.flat_map(|p| spills(p).map(|s| (rank(p.0), s.step.as_str()))).collect();
    let read_by = |reader: usize, part: &PartOf| match reader.saturating_sub(rank(part.0)) {
        1 => true,
        2 if reader.is_multiple_of(2) => spills(part).any(|s| !again.contains(&(reader - 1, s.step.as_str()))),
        _ => false,
    };
    let first = open.into_iter().chain(needed.iter().map(|part| part.0)).map(rank).min();
    let Some(mut first) = first else { return Ok(Vec::new()) };
    // The open phase reads the runs of the one before; where these are done again, so are they from the one before that.
    while let Some(before) = gone.iter().filter(|part| read_by(first, part)).map(|part| rank(part.0)).min() {
        first = before;
    }
    let runs = gone.into_iter().filter(|(phase, _)| rank(*phase) >= first);
    Ok(needed.into_iter().chain(runs).collect::<BTreeSet<_>>().into_iter().collect())
}
