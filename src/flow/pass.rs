//! A pass: one go at the parts of a phase that are not committed, until no more units are quarantined.
//!
//! The first worker of a process that comes makes it, from what the log says; all processes find the same words there, so they make the
//! same pass. What has nothing to do is committed as it begins, and after it a run ends where more is quarantined than is allowed.

use super::phase::{Basis, PartPlan};
use super::source::Queue;
use super::{Phase, Shared, start};
use crate::ledger::State;
use crate::ledger::log::{Commit, Line, Rows};
use crate::plan::Plan;
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// One go at the parts of a phase that are not committed, shared by the workers of a process.
pub struct Pass {
    pub phase: Arc<Phase>,
    pub pending: Vec<u64>,
    pub left_out: BTreeSet<u64>,
    pub queue: Queue,
    pub frontier: AtomicU64,
    pub window: u64,
}

impl Pass {
    /// No part below this will say anything any more.
    pub fn frontier(&self) -> u64 {
        self.frontier.load(Ordering::Relaxed)
    }
}

/// The pass of this number: the first worker of the process that comes makes it, from what the log says.
pub fn pass(
    worker: &timely::worker::Worker,
    plan: &Arc<Plan>,
    shared: &Arc<Shared>,
    number: usize,
    phase: usize,
) -> Result<Arc<Pass>> {
    let mut passes = shared.passes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pass) = passes.get(&number) {
        return Ok(Arc::clone(pass));
    }
    let before = number.checked_sub(1).and_then(|n| passes.get(&n)).filter(|p| p.phase.number == phase);
    let phase = match before {
        Some(pass) => Arc::clone(&pass.phase),
        None => {
            let state = shared.state().clone();
            let start = |step: usize| start(plan, &shared.runtime, step, ((worker.index(), shared.peers), None));
            let basis = Basis { plan, state: &state, units: &shared.units, folder: &shared.folder, start: &start };
            let made = Phase::of(basis, phase)?;
            tell(shared, vec![made.begin()])?;
            Arc::new(made)
        }
    };
    // In every pass: the one before may have quarantined ranges.
    let idle = idle_parts(plan, &phase, &shared.state());
    tell(shared, idle)?;
    let state = shared.state();
    // What another level will not read any more, and what a pass has made in vain.
    let read = |c: &&Commit| plan.phases.get(c.phase).is_some_and(|of| of.level + 1 >= phase.level);
    if let Some(kept) = &shared.kept {
        kept.retain(state.commits.values().filter(read).flat_map(|c| &c.spills));
    }
    let pending: Vec<u64> = (0..phase.parts.len() as u64).filter(|p| !state.commits.contains_key(&(phase.number, *p))).collect();
    // What could not be surveyed can't be read.
    let same = |p: usize| p <= phase.number && plan.phases.get(p).is_some_and(|of| of.level == phase.level);
    let left_out: BTreeSet<u64> = state.quarantined.keys().filter(|(p, _)| same(*p)).map(|(_, u)| *u).collect();
    drop(state);
    let processes = (shared.peers / shared.threads) as u64;
    let mine = pending.iter().enumerate().filter(|(i, _)| *i as u64 % processes == shared.process as u64).map(|(_, p)| *p);
    // Ranges hold no permits: the window keeps them within the budget. Each is in memory up to three times (as it came, in
    // its new order, and on its way); those under way are spread over all processes.
    let largest = phase.largest_part(plan).max(1);
    let fit = if phase.level == 0 { u64::MAX } else { shared.budget.limit().saturating_mul(processes) / (3 * largest) };
    let window = fit.clamp(1, 4 * shared.peers as u64);
    let queue = Queue::new(mine.collect::<Vec<_>>());
    // So that reading begins while the workers still open what they need.
    let frontier = AtomicU64::new(pending.first().copied().unwrap_or(0));
    let pass = Arc::new(Pass { phase, pending, left_out, queue, frontier, window });
    passes.insert(number, Arc::clone(&pass));
    Ok(pass)
}

/// Lines that every process can write down for itself; the one with the ledger does it in the log as well.
fn tell(shared: &Shared, lines: Vec<Line>) -> Result<()> {
    let mut state = shared.state();
    let new: Vec<Line> = lines
        .into_iter()
        .filter(|line| match line {
            Line::Begin { phase, basis, .. } => state.basis.get(phase) != Some(basis),
            Line::Commit(c) => !state.commits.contains_key(&(c.phase, c.part)),
            _ => true,
        })
        .collect();
    new.iter().for_each(|line| state.apply(line));
    drop(state);
    shared.commit(new.into_iter().map(|line| (line, Vec::new())).collect())?;
    Ok(())
}

/// Commits for ranges in which nothing is to be done: empty ones.
fn idle_parts(plan: &Plan, phase: &Phase, state: &State) -> Vec<Line> {
    let mut lines = Vec::new();
    // Of input files, a unit that can't be read is left out by the part that does the others; a part without any has nothing to do.
    let idle = |part: &&PartPlan| phase.level > 0 || part.units.is_empty();
    for (number, part) in phase.parts.iter().enumerate().filter(|(_, part)| idle(part)) {
        let left_out = part.units.iter().all(|u| state.quarantined.contains_key(&(phase.number, u.number)));
        if left_out || part.units.iter().all(|u| u.rows == 0) {
            let (out, kept) = part.units.iter().map(|u| u.number).partition(|_| left_out);
            let step = plan.steps[part.origin.step].name.clone();
            let rows = Rows { step, came: 0, out: vec![0; part.origin.output + 1], cut: 0, repeated: 0 };
            lines.push(Line::Commit(Commit {
                phase: phase.number,
                part: number as u64,
                units: kept,
                left_out: out,
                rows: vec![rows],
                ..Commit::default()
            }));
        }
    }
    lines
}

/// An error when more is quarantined than the pipeline allows: of the units, and of the parts of a new order.
pub fn enough_is_left(plan: &Plan, shared: &Shared, phase: &Phase) -> Result<()> {
    let state = shared.state();
    let Some(first) = state.in_quarantine().next() else { return Ok(()) };
    if plan.strict {
        bail!("{}: {} (`on_error: stop`)", first.what, first.reason);
    }
    let bad = state.in_quarantine().filter(|q| q.phase == phase.number).count();
    let (all, of) = match phase.level {
        0 => (shared.units.len(), "units"),
        _ => (phase.parts.len(), "parts of the new order"),
    };
    if bad as f64 / all.max(1) as f64 > plan.quarantine_at_most {
        bail!(
            "{bad} of {all} {of} are quarantined, more than `quarantine_at_most: {}` allows; the first: {}: {} (all of them: {})",
            plan.quarantine_at_most,
            first.what,
            first.reason,
            shared.folder.join("quarantine.jsonl").display()
        );
    }
    Ok(())
}
