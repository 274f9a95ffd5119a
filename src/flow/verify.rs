//! Is a new order what it must be? The order is computed again from the inputs, event by event, and compared with what the
//! parts hold.
//!
//! What each part must hold follows from the counts in the ledger and from the lanes of the rows, which are read again (only
//! the columns that the lanes take, as in the phase that counts); no run that was put aside is looked at. Parts are looked at
//! in groups, so that no more seats than [`SEATS`] are in memory; for each group the lanes are read once.

use super::order::Order;
use super::phase::{Basis, Phase, surveyed};
use super::ranks::{Counts, Router, Routing};
use super::replay::Replay;
use super::start;
use crate::ledger::units::Numbered;
use crate::plan::{Plan, Port};
use anyhow::{Context, Result, bail, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Schema, UInt32Type, UInt64Type};
use calostream_operators::work::Runtime;
use calostream_operators::{Fault, Shape, Unit, Work, column};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// So many seats are in memory.
const SEATS: u64 = 8 << 20;

/// An event of a mix: the number of its file, its row there, and how often it was there before.
pub type Event = (u32, u64, u32);

/// Where an event belongs: output and part, what its part is sorted by, and its rank, and how often the mix repeats it before.
type Taken = ((usize, u64), (u64, u16, u64), Event, (u64, u32));

/// An event where a part must have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Which it is.
    pub event: Event,
    /// Its stratum.
    pub stratum: u16,
    /// Its rank among the events of its stratum, in the order in which they were read.
    pub rank: u64,
    /// How often the mix has it before.
    pub time: u32,
}

/// What the parts of an output must hold.
#[derive(Debug)]
pub struct Expected {
    /// The output.
    pub port: Port,
    /// The part.
    pub part: u64,
    /// Its events in their order.
    pub events: Vec<Due>,
}

/// An order that can be computed again.
pub struct Again<'a> {
    plan: &'a Plan,
    basis: Basis<'a>,
    runtime: &'a Runtime,
    step: usize,
    routing: Arc<Routing>,
    /// Units that were not read.
    left_out: BTreeSet<u64>,
}

impl<'a> Again<'a> {
    /// For a shuffle; an error that says why where it can't be computed again.
    pub fn of(basis: Basis<'a>, runtime: &'a Runtime, step: usize) -> Result<Self> {
        let planned = &basis.plan.steps[step];
        ensure!(planned.level == 0, "it mixes what was mixed before");
        let phase = basis.plan.phase_of(planned.level);
        let routing = Phase::of(basis, phase)?.routings.remove(&step).context("a shuffle that is not in the plan")?;
        ensure!(!routing.orders.is_empty(), "it pairs rows");
        let counting = basis.plan.survey_of(step);
        let plan = counting.map_or(basis.plan, |counting| basis.plan.of_phase(counting));
        let left_out = basis.state.quarantined.keys().filter(|(p, _)| basis.state.reads_files(*p)).map(|(_, unit)| *unit);
        let left_out = left_out.chain(basis.state.replaced.iter().copied());
        let left_out = left_out.chain(basis.state.withdrawn.iter().copied()).collect();
        Ok(Self { plan, basis, runtime, step, routing, left_out })
    }

    /// The order of an output.
    #[must_use]
    pub fn order(&self, output: usize) -> &Order {
        &self.routing.orders[output]
    }

    /// Gives what each part of these outputs must hold, part by part.
    pub fn parts(&self, outputs: &[usize], each: &mut dyn FnMut(Expected) -> Result<()>) -> Result<()> {
        let all: Vec<(usize, u64)> = outputs.iter().flat_map(|o| (0..self.order(*o).parts()).map(|part| (*o, part))).collect();
        let mut groups: Vec<BTreeSet<(usize, u64)>> = Vec::new();
        let mut seats = u64::MAX;
        for (output, part) in all {
            let of_part = self.order(output).part_rows(part);
            if seats.saturating_add(of_part) > SEATS {
                groups.push(BTreeSet::new());
                seats = 0;
            }
            seats += of_part;
            groups.last_mut().context("a group")?.insert((output, part));
        }
        for group in groups {
            let mut found: BTreeMap<(usize, u64), Vec<Taken>> = BTreeMap::new();
            self.seats(&mut |taken| {
                if group.contains(&taken.0) {
                    found.entry(taken.0).or_default().push(taken);
                }
            })?;
            for (output, part) in group {
                let mut seats = found.remove(&(output, part)).unwrap_or_default();
                seats.sort_unstable();
                let due = |(_, (_, stratum, _), event, (rank, time)): Taken| Due { event, stratum, rank, time };
                let events = seats.into_iter().map(due).collect();
                each(Expected { port: Port { step: self.step, output }, part, events })?;
            }
        }
        Ok(())
    }

    /// Reads the lanes of all rows and gives each of their seats: part, key, event and rank.
    fn seats(&self, each: &mut dyn FnMut(Taken)) -> Result<()> {
        let mut chain = Vec::new();
        let mut at = self.plan.steps[self.step].from[0];
        while self.plan.steps[at.step].planned.shape != Shape::Source {
            chain.push(at.step);
            at = self.plan.steps[at.step].from[0];
        }
        chain.reverse();
        let (state, folder) = (self.basis.state, self.basis.folder);
        let begin = |step: usize| {
            let surveyed = surveyed(self.basis.plan, state, folder, step)?;
            start(self.plan, self.runtime, step, ((0, 1), surveyed))
        };
        let mut replay = Replay::new(std::iter::once(at.step).chain(chain).map(begin))?;
        let Work::Shuffle(shuffle) = begin(self.step)? else { bail!("a shuffle that is none") };
        let mut router = Router::shuffle(shuffle, Arc::clone(&self.routing));
        let name = &self.plan.steps[at.step].name;
        let units = self.basis.units.iter().filter(|u| u.unit.step == *name && !self.left_out.contains(&u.number));
        for Numbered { number, unit, .. } in units {
            let mut route = |batch: &RecordBatch| -> Result<(), Fault> {
                let mut counts = Counts { out: vec![0; self.routing.orders.len()], ..Counts::default() };
                let file = column::get(batch, column::FILE).as_primitive::<UInt32Type>();
                let row = column::get(batch, column::ROW).as_primitive::<UInt64Type>();
                // A step before may have repeated rows: then it is its column that the files have.
                let came = batch.column_by_name(column::COPY).and_then(|c| c.as_primitive_opt::<UInt32Type>());
                router.ranked(*number, batch, &mut counts, |place, index, rank| {
                    let order = &self.routing.orders[usize::from(place.output)];
                    let (index, time) = (index as usize, order.copy(place.stratum, place.row));
                    let event = (file.value(index), row.value(index), came.map_or(time, |came| came.value(index)));
                    let part = (usize::from(place.output), u64::from(place.part));
                    each((part, order.key(place.stratum, place.row), event, (rank, time)));
                })
            };
            let known = !self.plan.steps[self.step].counted && replay.is_direct() && !self.reads_itself(at.step);
            let read = if known {
                route(&provenance(unit, &self.plan.steps[at.step].planned.outputs[0].schema)?)
            } else {
                replay.read(unit, &mut route)
            };
            read.map_err(|fault| anyhow::anyhow!("{}: {fault}", unit.path))?;
            router.end();
        }
        Ok(())
    }

    /// True where the rows of a unit can't be told without reading it: some were cut.
    fn reads_itself(&self, source: usize) -> bool {
        let name = &self.plan.steps[source].name;
        self.basis.state.commits.values().flat_map(|c| &c.rows).any(|rows| rows.step == *name && rows.cut > 0)
    }
}

/// Where the rows of a unit come from: all that is known of them without reading it.
fn provenance(unit: &Unit, schema: &Schema) -> Result<RecordBatch> {
    let rows = usize::try_from(unit.rows)?;
    let fields = column::provenance_fields(unit.sample.is_some());
    let columns = column::provenance(&column::samples(schema), unit, unit.first, rows);
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
