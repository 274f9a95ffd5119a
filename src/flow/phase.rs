//! A phase as data: its parts, in order, and for a new order what is where.
//!
//! In phase 0 the units are the written-down ones and parts are groups of them. In a later phase a unit is a range of
//! positions of one shuffled output and a part of its own. Both follow from the plan, the list of units and the log alone,
//! so every process computes the same.

use super::order::{among_first, first_behind, place};
use super::spill::{Group, decode};
use crate::ledger::State;
use crate::ledger::log::{self, Line};
use crate::ledger::units::Numbered;
use crate::plan::parts::Rows;
use crate::plan::{Plan, Port};
use anyhow::{Context, Result};
use calostream_operators::{Shape, Unit, Work};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A phase.
#[derive(Debug, Default)]
pub struct Phase {
    /// Its number.
    pub number: usize,
    /// Its parts: a part's number is its place here and its timestamp.
    pub parts: Vec<PartPlan>,
    /// Where rows come from in this phase: sources, or shuffled outputs.
    pub origins: Vec<Port>,
    /// The order of each shuffled output.
    pub orders: BTreeMap<Port, Order>,
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
    /// Rows that the shuffle leaves out of its order, accounted for in the first part of the order.
    pub surplus: u64,
}

/// A unit of a part.
#[derive(Debug, Clone)]
pub struct PartUnit {
    /// Its number within the phase.
    pub number: u64,
    /// Its rows.
    pub rows: u64,
    /// What to read, in phase 0.
    pub unit: Option<Unit>,
}

/// The order of one shuffled output.
#[derive(Debug)]
pub struct Order {
    /// The runs that hold the rows.
    pub runs: Arc<Vec<Run>>,
    /// The strata.
    pub strata: Vec<Stratum>,
    /// The number of ranges.
    pub ranges: u64,
    /// The columns of the runs that the output has: not all, where other outputs need more.
    pub columns: Vec<usize>,
    seed: u64,
}

/// A run on disk.
#[derive(Debug)]
pub struct Run {
    /// The file.
    pub path: PathBuf,
    /// True where it is outside of the run folder, on scratch that others may not see.
    pub local: bool,
    /// The host that wrote it.
    pub host: String,
    /// Its keys.
    pub groups: Vec<Group>,
}

/// One stratum of an order.
#[derive(Debug)]
pub struct Stratum {
    /// Its number.
    pub number: u16,
    /// The rows that are kept.
    pub kept: u64,
    /// For each range boundary (ranges + 1 of them) the first row behind it: its rank, and its (key, run, row in the run).
    pub bounds: Vec<(u64, (u64, u32, u32))>,
}

impl Order {
    /// Rows of a range.
    pub fn rows(&self, range: u64) -> u64 {
        self.strata.iter().map(|s| s.span(range).1 - s.span(range).0).sum()
    }

    /// The rows `from..to` of a run's group that are in a range.
    pub fn stretch(&self, run: u32, output: u8, stratum: &Stratum, range: u64) -> Option<(usize, usize)> {
        let group = self.runs[run as usize].groups.iter().find(|g| (g.output, g.stratum) == (output, stratum.number))?;
        let cut = |bound: (u64, u32, u32)| {
            let key = |row: usize, key: u64| (key, run, u32::try_from(row).unwrap_or(u32::MAX));
            // Binary search over (key, run, row), which ascends within a group.
            let (mut low, mut high) = (0, group.keys.len());
            while low < high {
                let middle = low + (high - low) / 2;
                if key(middle, group.keys[middle]) < bound { low = middle + 1 } else { high = middle }
            }
            low
        };
        let range = usize::try_from(range).ok()?;
        let (from, to) = (cut(stratum.bounds[range].1), cut(stratum.bounds[range + 1].1));
        (from < to).then_some((from, to))
    }

    /// The place of a row by its rank in its stratum.
    pub fn place(&self, stratum: &Stratum, rank: u64) -> u64 {
        place(self.seed, stratum.number, rank, stratum.kept)
    }
}

impl Stratum {
    /// The ranks of a range, from and to.
    pub fn span(&self, range: u64) -> (u64, u64) {
        let range = usize::try_from(range).unwrap_or(usize::MAX - 1);
        (self.bounds[range].0, self.bounds[range + 1].0)
    }
}

impl Phase {
    /// The phase `number` of a plan, from what the log says of the phases before.
    pub fn of(
        plan: &Plan,
        number: usize,
        state: &State,
        units: &[Numbered],
        folder: &Path,
        start: &dyn Fn(usize) -> Result<Work>,
    ) -> Result<Self> {
        let mut phase = if number == 0 { Self::first(plan, units) } else { Self::later(plan, number, state, folder, start)? };
        phase.number = number;
        let mut digest = String::new();
        for (port, order) in &phase.orders {
            digest.push_str(&format!("{port:?} {} ranges\n", order.ranges));
            for s in &order.strata {
                digest.push_str(&format!("{} {} {:?}\n", s.number, s.kept, s.bounds));
            }
            order.runs.iter().for_each(|r| digest.push_str(&format!("{}\n", log::hash(&super::spill::encode(&r.groups)))));
        }
        phase.basis = log::hash(digest.as_bytes());
        Ok(phase)
    }

    fn first(plan: &Plan, units: &[Numbered]) -> Self {
        let mut parts: Vec<PartPlan> = Vec::new();
        let mut origins = Vec::new();
        for (step, _) in plan.steps.iter().enumerate().filter(|(_, s)| s.planned.shape == Shape::Source) {
            origins.push(Port { step, output: 0 });
        }
        let mut counts: BTreeMap<(usize, Option<&str>), u64> = BTreeMap::new();
        let mut of_origin: BTreeMap<Port, u64> = BTreeMap::new();
        for u in units {
            let Some(step) = plan.steps.iter().position(|s| s.name == u.unit.step) else { continue };
            let index = usize::try_from(u.part).unwrap_or(usize::MAX);
            if index == parts.len() {
                let sample = u.unit.sample.as_deref();
                let in_sample = counts.entry((step, sample)).or_default();
                let number_in_sample = *in_sample;
                *in_sample += 1;
                let origin = Port { step, output: 0 };
                let in_origin = of_origin.entry(origin).or_default();
                let number_in_origin = *in_origin;
                *in_origin += 1;
                let sample = u.unit.sample.clone();
                parts.push(PartPlan { origin, number_in_origin, number_in_sample, sample, units: Vec::new(), surplus: 0 });
            }
            if let Some(part) = parts.get_mut(index) {
                part.units.push(PartUnit { number: u.number, rows: u.unit.rows, unit: Some(u.unit.clone()) });
            }
        }
        Self { parts, origins, ..Self::default() }
    }

    fn later(plan: &Plan, number: usize, state: &State, folder: &Path, start: &dyn Fn(usize) -> Result<Work>) -> Result<Self> {
        let mut phase = Self::default();
        let mut unit = 0;
        let contributions = std::fs::File::open(folder.join("contributions.bin")).context("cannot open contributions.bin")?;
        for (step, planned) in plan.steps.iter().enumerate() {
            if planned.planned.shape != Shape::Shuffle || planned.phase + 1 != number {
                continue;
            }
            let mut runs = Vec::new();
            for commit in state.commits.values().filter(|c| c.phase == planned.phase) {
                let keys = commit.contributions.iter().filter(|p| p.step == planned.name);
                for (spill, pointer) in commit.spills.iter().filter(|s| s.step == planned.name).zip(keys) {
                    let groups = decode(&log::contribution(&contributions, pointer)?)?;
                    let local = spill.path.is_absolute();
                    runs.push(Run { path: folder.join(&spill.path), local, host: spill.host.clone(), groups });
                }
            }
            let runs = Arc::new(runs);
            let Work::Shuffle(shuffle) = start(step)? else { anyhow::bail!("`{}` is no shuffle any more", planned.name) };
            let strata = runs.iter().flat_map(|r| &r.groups).map(|g| usize::from(g.stratum) + 1).max().unwrap_or(0);
            let mut counts = vec![vec![0; strata]; planned.planned.outputs.len()];
            for group in runs.iter().flat_map(|r| &r.groups) {
                counts[usize::from(group.output)][usize::from(group.stratum)] += group.keys.len() as u64;
            }
            let kept = shuffle.keep(&counts);
            for (output, planned_output) in planned.planned.outputs.iter().enumerate() {
                let port = Port { step, output };
                if !plan.steps.iter().any(|s| s.from.contains(&port)) {
                    continue;
                }
                phase.origins.push(port);
                let total: u64 = kept[output].iter().sum();
                let surplus = counts[output].iter().sum::<u64>() - total;
                let cut = Rows::of(&plan.steps, port);
                let (Rows::About(rows) | Rows::Just(rows)) = cut;
                let ranges = total.div_ceil(rows).max(1);
                let ranks: Vec<Vec<u64>> = (0..=ranges)
                    .map(|k| match cut {
                        _ if k == ranges => kept[output].clone(),
                        Rows::Just(rows) => among_first(plan.seed, &kept[output], k * rows),
                        // At even places of the way.
                        Rows::About(_) => {
                            let of_stratum = |(s, m): (u16, &u64)| first_behind(plan.seed, s, *m, k, ranges);
                            (0..).zip(&kept[output]).map(of_stratum).collect()
                        }
                    })
                    .collect();
                let in_runs = &planned.inputs[0].schema;
                let columns = planned_output.schema.fields().iter().map(|f| in_runs.index_of(f.name()));
                let columns = columns.collect::<Result<_, _>>().context("a column that was not put aside")?;
                let order = Order {
                    runs: Arc::clone(&runs),
                    strata: (0..strata)
                        .map(|s| stratum(u16::try_from(s).unwrap_or(u16::MAX), output, &runs, ranks.iter().map(|ranks| ranks[s])))
                        .collect(),
                    ranges,
                    columns,
                    seed: plan.seed,
                };
                for range in 0..ranges {
                    let units = vec![PartUnit { number: unit, rows: order.rows(range), unit: None }];
                    unit += 1;
                    let surplus = if range == 0 { surplus } else { 0 };
                    phase.parts.push(PartPlan {
                        origin: port,
                        number_in_origin: range,
                        number_in_sample: range,
                        sample: None,
                        units,
                        surplus,
                    });
                }
                phase.orders.insert(port, order);
            }
        }
        Ok(phase)
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
                    None => format!("range {} of the new order ({} rows)", part.number_in_origin, u.rows),
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
        Line::Begin { phase: self.number, basis: self.basis.clone() }
    }
}

/// A stratum that is cut at these ranks, the last of which is how many rows are kept.
fn stratum(number: u16, output: usize, runs: &[Run], ranks: impl Iterator<Item = u64>) -> Stratum {
    let mut rows: Vec<(u64, u32, u32)> = Vec::new();
    for (run, of) in runs.iter().enumerate() {
        for group in of.groups.iter().filter(|g| (usize::from(g.output), g.stratum) == (output, number)) {
            rows.extend(group.keys.iter().zip(0..).map(|(key, row)| (*key, u32::try_from(run).unwrap_or(u32::MAX), row)));
        }
    }
    rows.sort_unstable();
    let end = (u64::MAX, u32::MAX, u32::MAX);
    let bound = |rank: u64| usize::try_from(rank).ok().and_then(|r| rows.get(r)).copied().unwrap_or(end);
    let bounds: Vec<_> = ranks.map(|rank| (rank, bound(rank))).collect();
    Stratum { number, kept: bounds.last().map_or(0, |last| last.0), bounds }
}
