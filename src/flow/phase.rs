//! A phase as data: its parts, in order, and for a new order what is where.
//!
//! On level 0 the units are the written-down ones and parts are groups of them. On a later level a unit is a part of the order
//! of one shuffled output. Both follow from the plan, the list of units and the log alone, so every process computes the same.

use super::order::Order;
use super::ranks::{Routing, first_ranks, totals};
use super::spiller::{End, read_index};
use crate::ledger::State;
use crate::ledger::log::{self, Line, Spill};
use crate::ledger::sums;
use crate::ledger::units::Numbered;
use crate::plan::parts::{self, Rows};
use crate::plan::{Plan, PlannedStep, Port, spill};
use anyhow::{Context, Result, bail, ensure};
use calostream_operators::statistics::sums::Sums;
use calostream_operators::{Lanes, Shape, Unit, Work, column};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A phase.
#[derive(Debug, Default)]
pub struct Phase {
    /// Its number.
    pub number: usize,
    /// The level of its steps.
    pub level: usize,
    /// True where it only puts rows aside again: its parts are buckets.
    pub regroups: bool,
    /// Its parts: a part's number is its place here and its timestamp.
    pub parts: Vec<PartPlan>,
    /// Where rows come from in this phase: sources, or shuffled outputs.
    pub origins: Vec<Port>,
    /// What is known of the shuffles of this level, by step.
    pub routings: BTreeMap<usize, Arc<Routing>>,
    /// What the steps of this level know from their surveys, by step.
    pub surveyed: BTreeMap<usize, Arc<Sums>>,
    /// What the shuffles of the level before have put aside, by step.
    pub asides: BTreeMap<usize, Aside>,
    /// A digest of all this.
    pub basis: String,
}

/// A part.
#[derive(Debug, Clone)]
pub struct PartPlan {
    /// Its origin.
    pub origin: Port,
    /// Its place among the parts of the origin.
    pub number_in_origin: u64,
    /// Its place among the parts of the origin with the same sample.
    pub number_in_sample: u64,
    /// The sample, where there is one.
    pub sample: Option<String>,
    /// Its units.
    pub units: Vec<PartUnit>,
}

/// A unit of a part.
#[derive(Debug, Clone)]
pub struct PartUnit {
    /// Its number within the phase.
    pub number: u64,
    /// Its rows; of a join those of all inputs.
    pub rows: u64,
    /// What to read, on level 0.
    pub unit: Option<Unit>,
}

/// What a shuffle has put aside.
#[derive(Debug)]
pub struct Aside {
    /// The order, and where its rows are.
    pub routing: Arc<Routing>,
    /// The runs that hold the rows.
    pub runs: Vec<Run>,
}

/// A run on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The file.
    pub path: PathBuf,
    /// True where it is outside of the run folder, on scratch that others may not see.
    pub local: bool,
    /// True where it is no file, but in the memory of the process that made it.
    pub in_memory: bool,
    /// The host that wrote it.
    pub host: String,
    /// The pieces of each output.
    pub pieces: Vec<Pieces>,
    /// What it ends with.
    pub end: End,
}

/// Which pieces of an output a run has: those of the parts (or buckets) from `part` on, so many; `first` is the first of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    first: u64,
    part: u64,
    count: u64,
}

impl Run {
    /// The number of the piece for a part; none where the run has no row of it.
    pub fn piece(&self, output: usize, part: u64) -> Option<usize> {
        let of = self.pieces.get(output)?;
        let number = part.checked_sub(of.part).filter(|number| *number < of.count)?;
        usize::try_from(of.first + number).ok()
    }
}

/// How a step is started, to be asked what it makes of counts.
pub type Starter<'a> = &'a dyn Fn(usize) -> Result<Work>;

/// What phases are made from.
#[derive(Clone, Copy)]
pub struct Basis<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// What the log says of the phases before.
    pub state: &'a State,
    /// The written-down units.
    pub units: &'a [Numbered],
    /// The run folder.
    pub folder: &'a Path,
    /// Starts a step.
    pub start: Starter<'a>,
}

impl Phase {
    /// The phase `number` of a plan.
    pub fn of(basis: Basis<'_>, number: usize) -> Result<Self> {
        let planned = basis.plan.phases.get(number).context("a phase that is not in the plan")?;
        let (level, regroups) = (planned.level, planned.regroups);
        let mut phase = Self { number, level, regroups, ..Self::default() };
        let mut digest = String::new();
        if level == 0 {
            phase.read(basis);
        } else {
            phase.gather(basis, &mut digest)?;
        }
        // The goals of a survey are there to find out what all others know by now.
        let knows = |s: &PlannedStep| s.level == level && !s.idle && !s.goal && !regroups;
        for (step, planned) in basis.plan.of_phase(number).steps.iter().enumerate().filter(|(_, s)| knows(s)) {
            if planned.planned.shape == Shape::Shuffle {
                let routing = routing(basis, step, &phase)?;
                digest.push_str(&format!("{}: {}\n", planned.name, routing.digest()));
                phase.routings.insert(step, Arc::new(routing));
            }
            if let Some(sums) = surveyed(basis.plan, basis.state, basis.folder, step)? {
                digest.push_str(&format!("{} knows {}\n", planned.name, log::hash(&sums.encode())));
                phase.surveyed.insert(step, sums);
            }
        }
        phase.basis = log::hash(digest.as_bytes());
        Ok(phase)
    }

    /// Parts of the written-down units.
    fn read(&mut self, basis: Basis<'_>) {
        let plan = basis.plan.of_phase(self.number);
        for (step, _) in plan.steps.iter().enumerate().filter(|(_, s)| s.planned.shape == Shape::Source && !s.idle) {
            self.origins.push(Port { step, output: 0 });
        }
        let mut counts: BTreeMap<(usize, Option<&str>), u64> = BTreeMap::new();
        let mut of_origin: BTreeMap<Port, u64> = BTreeMap::new();
        let mut places: BTreeMap<u64, usize> = BTreeMap::new();
        for u in basis.units {
            let Some(step) = plan.steps.iter().position(|s| s.name == u.unit.step) else { continue };
            if plan.steps[step].idle {
                continue;
            }
            let index = *places.entry(u.part).or_insert(self.parts.len());
            if index == self.parts.len() {
                let sample = u.unit.sample.as_deref();
                let in_sample = counts.entry((step, sample)).or_default();
                let number_in_sample = *in_sample;
                *in_sample += 1;
                let origin = Port { step, output: 0 };
                let in_origin = of_origin.entry(origin).or_default();
                let number_in_origin = *in_origin;
                *in_origin += 1;
                let sample = u.unit.sample.clone();
                self.parts.push(PartPlan { origin, number_in_origin, number_in_sample, sample, units: Vec::new() });
            }
            // A part stays where it is when all of its units are taken back.
            if let Some(part) = self.parts.get_mut(index).filter(|_| !basis.state.withdrawn.contains(&u.number)) {
                part.units.push(PartUnit { number: u.number, rows: u.unit.rows, unit: Some(u.unit.clone()) });
            }
        }
    }

    /// Parts of the orders of the level before.
    fn gather(&mut self, basis: Basis<'_>, digest: &mut String) -> Result<()> {
        let plan = basis.plan;
        let active = plan.of_phase(self.number);
        let mut unit = 0;
        for (step, planned) in plan.steps.iter().enumerate().filter(|(_, s)| s.spills && s.level + 1 == self.level) {
            let order = match planned.planned.lanes {
                Lanes::None => None,
                Lanes::Samples | Lanes::Rows => Some(routing(basis, step, &Self::default())?),
            };
            let twice = order.as_ref().and_then(|order| order.grain);
            if self.regroups && twice.is_none() {
                continue;
            }
            let (runs, rows) = put_aside(basis, step, twice.filter(|_| !self.regroups).and(plan.regrouping_of(self.level)))?;
            digest.push_str(&format!("{}: {rows:?}\n", planned.name));
            // The parts of a join are those of its runs: how many there are was settled when they were made.
            let parts = || rows.iter().map(|of| of.len() as u64).max().unwrap_or(0).max(1);
            let routing = order.unwrap_or_else(|| Routing { parts: parts(), ..Routing::default() });
            for (output, rows) in rows.into_iter().enumerate() {
                let port = Port { step, output };
                if plan.takers(port).next().is_none() {
                    continue;
                }
                // Where only some outputs are counted, the numbers of their units are the same.
                let active = active.takers(port).next().is_some();
                self.origins.extend((active && !self.regroups).then_some(port));
                let parts = if self.regroups { routing.pieces(output).0 } else { routing.parts(output) };
                for part in 0..parts {
                    let rows = usize::try_from(part).ok().and_then(|part| rows.get(part)).copied().unwrap_or(0);
                    let units = vec![PartUnit { number: unit, rows, unit: None }];
                    unit += 1;
                    let plan = PartPlan { origin: port, number_in_origin: part, number_in_sample: part, sample: None, units };
                    self.parts.extend(active.then_some(plan));
                }
            }
            self.asides.insert(step, Aside { routing: Arc::new(routing), runs });
        }
        Ok(())
    }

    /// A part by its number.
    pub fn part(&self, number: u64) -> Result<&PartPlan> {
        self.parts.get(usize::try_from(number)?).context("a part that is not in the plan")
    }

    /// Expected bytes of the largest part.
    pub fn largest_part(&self, plan: &Plan) -> u64 {
        let bytes = |p: &PartPlan| {
            p.units.iter().map(|u| u.rows).sum::<u64>() * plan.steps[p.origin.step].planned.outputs[p.origin.output].row_bytes
        };
        self.parts.iter().map(bytes).max().unwrap_or(0)
    }

    /// The number of an origin among the origins.
    pub fn origin(&self, port: Port) -> usize {
        self.origins.iter().position(|o| *o == port).unwrap_or(usize::MAX)
    }

    /// What a unit is, for people.
    pub fn unit_name(&self, unit: u64) -> String {
        for part in &self.parts {
            if let Some(u) = part.units.iter().find(|u| u.number == unit) {
                return match &u.unit {
                    Some(unit) => format!("{}, rows {} to {}", unit.path, unit.first, unit.first + unit.rows),
                    None if self.regroups => format!("bucket {} of the new order ({} rows)", part.number_in_origin + 1, u.rows),
                    None => format!("part {} of the new order ({} rows)", part.number_in_origin + 1, u.rows),
                };
            }
        }
        format!("unit {unit}")
    }

    /// The rows of every unit.
    pub fn unit_rows(&self) -> impl Iterator<Item = ((usize, u64), u64)> {
        self.parts.iter().flat_map(|p| &p.units).map(|u| ((self.number, u.number), u.rows))
    }

    /// The line with which this phase begins.
    pub fn begin(&self) -> Line {
        Line::Begin { phase: self.number, level: self.level, basis: self.basis.clone() }
    }
}

/// What the survey of a step has found, where it makes one.
pub fn surveyed(plan: &Plan, state: &State, folder: &Path, step: usize) -> Result<Option<Arc<Sums>>> {
    let planned = &plan.steps[step];
    let survey = plan.survey_of(step).filter(|_| planned.planned.survey.is_some());
    let sums = survey.map(|survey| sums::of(state, folder, &planned.name, |phase| phase == survey));
    Ok(sums.transpose()?.map(Arc::new))
}

/// How many strata the outputs of a shuffle have.
pub fn strata(plan: &Plan, step: usize) -> usize {
    column::samples(&plan.steps[step].inputs[0].schema).len().max(1)
}

/// The runs of a shuffle, in order, and the rows that they hold for each part of each output: those that were made where its
/// rows came, or in a phase that regroups them.
fn put_aside(basis: Basis<'_>, step: usize, regrouping: Option<usize>) -> Result<(Vec<Run>, Vec<Vec<u64>>)> {
    let Basis { plan, state, folder, .. } = basis;
    let planned = &plan.steps[step];
    let contributions = std::fs::File::open(folder.join("contributions.bin")).context("cannot open contributions.bin")?;
    let mut runs: BTreeMap<&Spill, Run> = BTreeMap::new();
    let mut rows: Vec<Vec<u64>> = vec![Vec::new(); planned.planned.outputs.len()];
    let phase = regrouping.unwrap_or_else(|| plan.phase_of(planned.level));
    for commit in state.commits.values().filter(|c| c.phase == phase) {
        // The first part of a run has its index; the others only name it.
        let spills = commit.spills.iter().filter(|s| s.step == planned.name && s.first == commit.part);
        let mut indices = commit.contributions.iter().filter(|p| p.step == planned.name);
        for spill in spills {
            let index = indices.next().context("a run without an index")?;
            let (end, index) = read_index(&log::contribution(&contributions, index)?)?;
            ensure!(index.len() == rows.len(), "a run of `{}` with {} outputs", planned.name, index.len());
            let (mut pieces, mut first) = (Vec::new(), 0);
            for (rows, (part, of_run)) in rows.iter_mut().zip(&index) {
                let (begin, count) = (usize::try_from(*part)?, of_run.len() as u64);
                rows.resize((begin + of_run.len()).max(rows.len()), 0);
                rows[begin..].iter_mut().zip(of_run).for_each(|(all, n)| *all += n);
                pieces.push(Pieces { first, part: *part, count });
                first += count;
            }
            let path = if spill.in_memory { spill.path.clone() } else { folder.join(&spill.path) };
            let (local, host, in_memory) = (spill.path.is_absolute(), spill.host.clone(), spill.in_memory);
            runs.insert(spill, Run { path, local, in_memory, host, pieces, end });
        }
    }
    Ok((runs.into_values().collect(), rows))
}

/// What is known of a shuffle when the rows of its level were counted.
fn routing(basis: Basis<'_>, step: usize, phase: &Phase) -> Result<Routing> {
    let Basis { plan, state, start, .. } = basis;
    let planned = &plan.steps[step];
    let shuffle = match start(step)? {
        Work::Join(_) => return Ok(Routing { parts: parts_of_join(plan, step, phase), ..Routing::default() }),
        Work::Shuffle(shuffle) => shuffle,
        _ => bail!("`{}` is no shuffle any more", planned.name),
    };
    let (outputs, strata) = (planned.planned.outputs.len(), strata(plan, step));
    let counts = if planned.counted { tallied(plan, state, step)? } else { said(basis, step, outputs * strata) };
    let totals = totals(&counts, outputs, strata);
    let shares = shuffle.shares(&totals).with_context(|| format!("step `{}`", planned.name))?;
    let orders = totals.iter().zip(&shares).zip(0..);
    let order = |((counts, shares), output): ((&Vec<u64>, &Vec<_>), u8)| {
        let (Rows::About(rows) | Rows::Just(rows)) = Rows::of(&plan.steps, Port { step, output: output.into() });
        Order::new(shuffle.seed(), output, counts, shares, rows)
    };
    let orders: Vec<Order> = orders.map(order).collect();
    let grain = state.sizes.map_or(1, |sizes| grain(plan, step, &orders, sizes));
    let grain = (grain > 1).then_some(grain);
    Ok(Routing { orders, strata, units: first_ranks(counts, outputs * strata), parts: 0, grain })
}

/// How many parts share a piece in the first pass.
fn grain(plan: &Plan, step: usize, orders: &[Order], (run, piece): (u64, u64)) -> u64 {
    let read = orders.iter().enumerate().filter(|(output, _)| plan.takers(Port { step, output: *output }).next().is_some());
    let (rows, parts) = read.fold((0, 0), |(rows, parts), (_, order)| (rows + order.rows(), parts + order.parts()));
    spill::grain(rows * plan.steps[step].inputs[0].row_bytes, parts, run, piece)
}

/// The counts of the lanes of each unit, as the phase that counts has found them.
fn tallied(plan: &Plan, state: &State, step: usize) -> Result<BTreeMap<u64, Vec<u64>>> {
    let planned = &plan.steps[step];
    let phase = plan.survey_of(step).with_context(|| format!("the rows of `{}` are not counted", planned.name))?;
    let commits = state.commits.values().filter(|c| c.phase == phase);
    let tallies = commits.flat_map(|c| &c.tallies).filter(|t| t.step == planned.name);
    Ok(tallies.map(|t| (t.unit, t.lanes.clone())).collect())
}

/// The counts of the lanes of each unit, as the list of units says.
fn said(basis: Basis<'_>, step: usize, lanes: usize) -> BTreeMap<u64, Vec<u64>> {
    let Basis { plan, state, units, .. } = basis;
    let names = column::samples(&plan.steps[step].inputs[0].schema);
    let source = crate::plan::origin(&plan.steps, step).map(|port| plan.steps[port.step].name.as_str());
    let of_source = units.iter().filter(|u| {
        Some(u.unit.step.as_str()) == source && !state.replaced.contains(&u.number) && !state.withdrawn.contains(&u.number)
    });
    let count = |u: &Numbered| {
        let mut counts = vec![0; lanes];
        let stratum = u.unit.sample.as_ref().and_then(|sample| names.iter().position(|name| name == sample)).unwrap_or(0);
        if let Some(lane) = counts.get_mut(stratum) {
            *lane = u.unit.rows;
        }
        (u.number, counts)
    };
    of_source.map(count).collect()
}

/// Parts of a join: as many as its inputs have bytes for.
fn parts_of_join(plan: &Plan, step: usize, phase: &Phase) -> u64 {
    let planned = &plan.steps[step];
    let bytes = planned.from.iter().zip(&planned.inputs).map(|(port, input)| {
        let mut origin = *port;
        while !phase.origins.contains(&origin) {
            let Some(before) = plan.steps[origin.step].from.first() else { break };
            origin = *before;
        }
        let rows: u64 = phase.parts.iter().filter(|p| p.origin == origin).flat_map(|p| &p.units).map(|u| u.rows).sum();
        rows * (input.row_bytes + parts::PLACE_BYTES)
    });
    bytes.sum::<u64>().div_ceil(parts::BYTES).max(1)
}
