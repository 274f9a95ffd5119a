//! From records to the log: when the frontier passes a part, what was said of it is checked and committed.
//!
//! All records go to worker 0, which is in the process that holds the ledger. A thread beside it writes (an fsync may take
//! long on a shared file system), and takes all parts that are settled by then with one write. What was committed comes back
//! as notices to every worker, so that all processes know the same at the end of a pass; the capabilities are kept until
//! then, so a dataflow that has ended is a dataflow whose parts are on disk.
//!
//! A part with a fault is not committed: its units are written into the quarantine, and the next pass does it again without
//! them. Parts whose rows were put aside wait for the run that holds them, and are committed with all others of the run in
//! one line; where one of them has a fault, all are done again.

mod runs;

use super::Shared;
use super::pass::Pass;
use super::phase::{PartPlan, Phase};
use super::stage::Record;
use crate::ledger::log::{Commit, Line, Noticed, Quarantine, Rows, Tally};
use crate::ledger::{Contribution, Settled};
use crate::plan::{Plan, PlannedStep, Port};
use anyhow::{Context, Result, ensure};
use calostream_operators::Shape;
use runs::Runs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, PoisonError};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::vec::Broadcast;
use timely::dataflow::operators::{Capability, Probe};
use timely::dataflow::{ProbeHandle, Scope, Stream};

/// Commits the parts of a pass; the probe is done when everything is on disk and every worker knows it.
pub fn commit<'s>(
    scope: Scope<'s, u64>,
    records: Stream<'s, u64, Vec<Record>>,
    plan: &Arc<Plan>,
    pass: &Arc<Pass>,
    shared: &Arc<Shared>,
) -> ProbeHandle<u64> {
    let mut builder = OperatorBuilder::new("commit".to_owned(), scope);
    let mut input = builder.new_input(records, Exchange::new(|_: &Record| 0));
    let (port, notices) = builder.new_output::<Vec<String>>();
    let mut port = OutputBuilder::<_, CapacityContainerBuilder<Vec<String>>>::from(port);
    let waker = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let (send, jobs): (Sender<Group>, Receiver<_>) = channel();
    let (answers, receive): (Sender<(Vec<u64>, Vec<Line>)>, _) = channel();
    if scope.worker().index() == 0 {
        let (plan, pass, shared) = (Arc::clone(plan), Arc::clone(pass), Arc::clone(shared));
        let (failure, last) = (shared.failure.clone(), waker.clone());
        let work = move || {
            while let Ok(first) = jobs.recv() {
                let mut groups = vec![first];
                groups.extend(jobs.try_iter());
                let mut lines: Settled = Vec::new();
                let parts = groups.iter().flatten().map(|(part, _)| *part).collect();
                for group in groups {
                    lines.extend(together(&plan, &pass.phase, &pass.left_out, group)?);
                }
                if shared.failure.raised() {
                    break;
                }
                let written = shared.commit(lines)?;
                if answers.send((parts, written)).is_err() {
                    break;
                }
                let _ = waker.activate();
            }
            Ok(())
        };
        failure.thread("commit", last, work);
    }
    builder.build_reschedule(move |capabilities| {
        drop(capabilities);
        let mut send = Some(send);
        let mut open: BTreeMap<u64, (Capability<u64>, Vec<Record>)> = BTreeMap::new();
        let mut sent: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        let mut runs = Runs::default();
        move |frontiers| {
            input.for_each(|capability, records| {
                let Some((part, kept)) = capability.least().copied().zip(capability.retain_least(0)) else { return };
                for record in records.drain(..) {
                    // What is said of a run comes when it is written, which may be in a later part.
                    match record {
                        Record::Run { .. } => runs.written(record),
                        record => open.entry(part).or_insert_with(|| (kept.clone(), Vec::new())).1.push(record),
                    }
                }
            });
            while let Some(entry) = open.first_entry().filter(|e| !frontiers[0].less_equal(e.key())) {
                let (part, (capability, records)) = entry.remove_entry();
                sent.insert(part, capability);
                runs.said(part, records);
            }
            for group in runs.complete() {
                if let Some(send) = &send {
                    let _ = send.send(group);
                }
            }
            while let Ok((parts, lines)) = receive.try_recv() {
                let last = parts.iter().copied().max();
                if let Some(capability) = last.and_then(|p| sent.get(&p)) {
                    // A line is a record of its own; JSON, because a line leaves out what is empty.
                    let texts = lines.iter().filter_map(|l| serde_json::to_string(l).ok());
                    port.activate().session(capability).give_iterator(texts);
                }
                parts.iter().for_each(|p| drop(sent.remove(p)));
            }
            if frontiers[0].is_empty() && open.is_empty() && runs.is_empty() {
                send = None;
            }
            !sent.is_empty()
        }
    });
    let shared = Arc::clone(shared);
    let probe = ProbeHandle::new();
    notices
        .broadcast()
        .unary::<CapacityContainerBuilder<Vec<String>>, _, _, _>(Pipeline, "notices", move |_, _| {
            move |input, _| {
                input.for_each(|_, texts| {
                    let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
                    for text in texts.drain(..) {
                        match serde_json::from_str::<Line>(&text) {
                            Ok(line) => state.apply(&line),
                            Err(error) => shared.failure.raise(error.into()),
                        }
                    }
                });
            }
        })
        .probe_with(&probe);
    probe
}

/// Parts that are committed together, each with what was said of it.
type Group = Vec<(u64, Vec<Record>)>;

/// A commit, with its contributions by step.
type Said = (Commit, Vec<(String, Vec<u8>)>);

/// The lines for parts whose records are all here.
fn together(plan: &Plan, phase: &Phase, left_out: &BTreeSet<u64>, group: Group) -> Result<Settled> {
    let mut faults: BTreeMap<u64, Quarantine> = BTreeMap::new();
    let (mut commits, mut contributions) = (Vec::new(), Vec::new());
    for (part, records) in group {
        let number = commits.len();
        let (commit, of_part) = settle(plan, phase, left_out, (part, records), &mut faults)?;
        commits.push(commit);
        contributions.extend(of_part.into_iter().map(|(step, bytes)| Contribution { commit: number, step, bytes }));
    }
    if !faults.is_empty() {
        return Ok(faults.into_values().map(|q| (Line::Quarantine(q), Vec::new())).collect());
    }
    for commit in &commits {
        check(plan, phase, phase.part(commit.part)?, commit)?;
    }
    let line = match <[Commit; 1]>::try_from(commits) {
        Ok([commit]) => Line::Commit(commit),
        Err(commits) => Line::Together(commits),
    };
    Ok(vec![(line, contributions)])
}

/// The commit of a part, with its contributions by step; adds to the faults.
fn settle(
    plan: &Plan,
    phase: &Phase,
    left_out: &BTreeSet<u64>,
    (part, records): (u64, Vec<Record>),
    faults: &mut BTreeMap<u64, Quarantine>,
) -> Result<Said> {
    let planned = phase.part(part)?;
    let mut commit = Commit { phase: phase.number, part, ..Commit::default() };
    (commit.left_out, commit.units) = planned.units.iter().map(|u| u.number).partition(|u| left_out.contains(u));
    let (mut contributions, mut runs) = (Vec::new(), Vec::new());
    let name = |step: usize| plan.steps[step].name.clone();
    for record in records {
        match record {
            Record::Rows { step, came, out, cut, repeated } => {
                commit.rows.push(Rows { step: name(step), came, out, cut, repeated });
            }
            Record::Noticed { step, unit, counts } => commit.noticed.push(Noticed { step: name(step), unit, counts }),
            Record::Files { files, .. } => commit.files.extend(files),
            Record::Sums { step, bytes } => contributions.push((name(step), bytes)),
            Record::Aside { .. } => {}
            Record::Run { step, spill, index, .. } => {
                runs.push((spill, (name(step), index)));
            }
            Record::Tally { step, unit, lanes } => commit.tallies.push(Tally { step: name(step), unit, lanes }),
            Record::Fault { step, unit, reason } => {
                let rows = planned.units.iter().find(|u| u.number == unit).map_or(0, |u| u.rows);
                let what = phase.unit_name(unit);
                faults.entry(unit).or_insert(Quarantine { phase: phase.number, unit, step: name(step), what, rows, reason });
            }
        }
    }
    let order = |step: &str| plan.steps.iter().position(|s| s.name == step);
    commit.rows.sort_by_key(|r| order(&r.step));
    // Two inputs of a join may come from one part, and each worker has rows of a bucket.
    let joined = |a: &Rows| order(&a.step).is_some_and(|step| plan.steps[step].from.len() > 1);
    commit.rows.dedup_by(|b, a| {
        let same = a.step == b.step && (joined(a) || phase.regroups);
        if same {
            (a.came, a.cut) = (a.came + b.came, a.cut + b.cut);
            a.out.iter_mut().zip(&b.out).for_each(|(a, b)| *a += b);
        }
        same
    });
    commit.noticed.sort_by_key(|n| (order(&n.step), n.unit));
    commit.files.sort_by_key(|f| (order(&f.step), f.name.clone()));
    commit.tallies.sort_by_key(|t| (order(&t.step), t.unit));
    // With the first part of a run stands its index; of several runs in their order.
    runs.sort();
    contributions.extend(runs.iter().filter(|(spill, _)| spill.first == part).map(|(_, index)| index.clone()));
    commit.spills = runs.into_iter().map(|(spill, _)| spill).collect();
    contributions.sort_by_key(|(step, _)| order(step));
    Ok((commit, contributions))
}

/// Every step that the part goes through has reported, and no row was lost between or in them.
fn check(plan: &Plan, phase: &Phase, part: &PartPlan, commit: &Commit) -> Result<()> {
    let twice = commit.rows.windows(2).find(|w| w[0].step == w[1].step);
    ensure!(twice.is_none(), "part {} was done twice: {twice:?}", commit.part);
    let rows = |step: usize| commit.rows.iter().find(|r| r.step == plan.steps[step].name);
    let mut reached = BTreeSet::from([part.origin]);
    let at_work = |s: &PlannedStep| s.level == phase.level && !s.idle && !phase.regroups;
    for (step, planned) in plan.steps.iter().enumerate().filter(|(_, s)| at_work(s)) {
        let from: Vec<Port> = planned.from.iter().filter(|port| reached.contains(port)).copied().collect();
        let shape = planned.planned.shape;
        if from.is_empty() || shape == Shape::Page {
            continue;
        }
        let report = rows(step).with_context(|| format!("step `{}` did not report on part {}", planned.name, commit.part))?;
        let sent = |port: &Port| rows(port.step).and_then(|r| r.out.get(port.output).copied()).unwrap_or_default();
        let sent: u64 = from.iter().map(sent).sum();
        ensure!(sent == report.came, "{sent} rows went to step `{}`, {} arrived", planned.name, report.came);
        let out: u64 = report.out.iter().sum();
        // What surveys gives nothing, whatever comes.
        let through = matches!(shape, Shape::Map | Shape::Device | Shape::Shuffle) && !planned.goal;
        ensure!(
            !through || report.came + report.repeated == out + report.cut,
            "{} rows came into step `{}`, {} of them again, {out} went out and {} were cut",
            report.came,
            planned.name,
            report.repeated,
            report.cut
        );
        if !planned.goal && (!planned.spills || shape != Shape::Shuffle) {
            reached.extend((0..planned.planned.outputs.len()).map(|output| Port { step, output }));
        }
    }
    let due: u64 = part.units.iter().filter(|u| commit.units.contains(&u.number)).map(|u| u.rows).sum();
    // A source may cut rows of its units; what a shuffle gives back is counted as it comes.
    let read = rows(part.origin.step).map_or(0, |r| r.came);
    ensure!(due == read, "part {} has {due} rows, {read} were read", commit.part);
    Ok(())
}
