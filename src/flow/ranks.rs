//! From rows to places: what a shuffle says of a row (its lane, or its key) and what is known of the whole (how many rows of
//! each lane come before) make the part of the new order in which the row belongs.
//!
//! A row's rank in its lane is its place among the rows of the lane in the order of the units. It follows from the counts of
//! all units and from the rows of its own unit before it, so no worker has to know what another one does. Where a row is lost
//! after it was counted, the ranks behind it in its unit move up, and the last rank of the unit stays empty: a hole.

use super::order::Order;
use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use calostream_operators::Fault;
use calostream_operators::work::{Join, Lane, Shuffle};
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3Default;

/// The columns that go with rows that are put aside: their stratum (or input), and their row in it (or the hash of their key).
pub const EXTRA: [&str; 2] = ["$stratum", "$row"];

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The output.
    pub output: u8,
    /// The part of its order.
    pub part: u32,
    /// The stratum; of a join, the input.
    pub stratum: u16,
    /// The row in the stratum; of a join, the hash of the key.
    pub row: u64,
}

/// What is known of a shuffle before its rows come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routing {
    /// The order of each output; none for a join.
    pub orders: Vec<Order>,
    /// Strata of an output.
    pub strata: usize,
    /// Of each unit the first rank, and the number of rows, in each lane (`output * strata + stratum`).
    pub units: BTreeMap<u64, Vec<(u64, u64)>>,
    /// Parts of a join.
    pub parts: u64,
    /// Parts that share a piece when rows are put aside for the first time, where they are so twice.
    pub grain: Option<u64>,
}

impl Routing {
    /// What tells this routing from another one.
    #[must_use]
    pub fn digest(&self) -> String {
        let orders: Vec<String> = self.orders.iter().map(Order::digest).collect();
        let mut units = Xxh3Default::new();
        for (unit, lanes) in &self.units {
            let words = lanes.iter().flat_map(|(first, count)| [*first, *count]);
            [*unit].into_iter().chain(words).for_each(|word| units.update(&word.to_le_bytes()));
        }
        format!("{} parts; {}; units {:016x}", self.parts, orders.join("; "), units.digest())
    }

    /// Pieces of an output when rows are put aside for the first time, and how many parts share one.
    #[must_use]
    pub fn pieces(&self, output: usize) -> (u64, u64) {
        let grain = self.grain.unwrap_or(1).max(1);
        (self.parts(output).div_ceil(grain), grain)
    }

    /// Parts of an output.
    #[must_use]
    pub fn parts(&self, output: usize) -> u64 {
        self.orders.get(output).map_or(self.parts, Order::parts)
    }
}

/// The counts of the lanes of units: `[output][stratum]`.
pub fn totals(units: &BTreeMap<u64, Vec<u64>>, outputs: usize, strata: usize) -> Vec<Vec<u64>> {
    let mut totals = vec![vec![0; strata]; outputs];
    for counts in units.values() {
        for (lane, count) in counts.iter().enumerate() {
            totals[lane / strata][lane % strata] += count;
        }
    }
    totals
}

/// The first rank and the number of rows of each unit in each lane.
#[must_use]
pub fn first_ranks(units: BTreeMap<u64, Vec<u64>>, lanes: usize) -> BTreeMap<u64, Vec<(u64, u64)>> {
    let mut next = vec![0; lanes];
    let mut of_unit = |counts: Vec<u64>| {
        let first = next.clone();
        next.iter_mut().zip(&counts).for_each(|(next, count)| *next += count);
        first.into_iter().zip(counts).collect()
    };
    units.into_iter().map(|(unit, counts)| (unit, of_unit(counts))).collect()
}

/// Says where rows go.
pub struct Router {
    kind: Kind,
    routing: Arc<Routing>,
    /// The unit in hand, and the rows that came of each of its lanes.
    unit: Option<(u64, Vec<u64>)>,
    lanes: Vec<Option<Lane>>,
    keys: Vec<u64>,
}

enum Kind {
    Shuffle(Box<dyn Shuffle>),
    Join(Box<dyn Join>, usize),
}

/// How many rows went where.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    /// By output.
    pub out: Vec<u64>,
    /// Rows that go nowhere.
    pub cut: u64,
    /// How often rows go to more than one place.
    pub repeated: u64,
}

impl Router {
    /// For a shuffle.
    pub fn shuffle(shuffle: Box<dyn Shuffle>, routing: Arc<Routing>) -> Self {
        Self { kind: Kind::Shuffle(shuffle), routing, unit: None, lanes: Vec::new(), keys: Vec::new() }
    }

    /// For an input of a join.
    pub fn join(join: Box<dyn Join>, input: usize, routing: Arc<Routing>) -> Self {
        Self { kind: Kind::Join(join, input), routing, unit: None, lanes: Vec::new(), keys: Vec::new() }
    }

    /// How often the row at a place stood in the order before.
    #[must_use]
    pub fn copy(&self, place: Place) -> u32 {
        self.routing.orders.get(usize::from(place.output)).map_or(0, |order| order.copy(place.stratum, place.row))
    }

    /// The unit in hand is over, or given up.
    pub fn end(&mut self) {
        self.unit = None;
    }

    /// The places of the rows of a batch of a unit, each with the number of the row in the batch; adds to the counts.
    pub fn places(&mut self, unit: u64, batch: &RecordBatch, counts: &mut Counts) -> Result<Vec<(Place, u32)>, Fault> {
        let mut places = Vec::with_capacity(batch.num_rows());
        self.ranked(unit, batch, counts, |place, row, _| places.push((place, row)))?;
        Ok(places)
    }

    /// The same; gives for each place the number of the row in the batch, and its rank in its lane (0 in a join).
    pub fn ranked(
        &mut self,
        unit: u64,
        batch: &RecordBatch,
        counts: &mut Counts,
        mut each: impl FnMut(Place, u32, u64),
    ) -> Result<(), Fault> {
        match &mut self.kind {
            Kind::Join(join, input) => {
                self.keys.clear();
                join.keys(*input, batch, &mut self.keys)?;
                ensure_rows(self.keys.len(), batch)?;
                counts.out[0] += self.keys.len() as u64;
                let (parts, stratum) = (u128::from(self.routing.parts), u16::try_from(*input)?);
                let part = |key: u64| u32::try_from((u128::from(key) * parts) >> 64).unwrap_or(u32::MAX);
                let place = |key: u64| Place { output: 0, part: part(key), stratum, row: key };
                (0..).zip(&self.keys).for_each(|(row, key)| each(place(*key), row, 0));
                Ok(())
            }
            Kind::Shuffle(shuffle) => {
                self.lanes.clear();
                shuffle.lanes(batch, &mut self.lanes)?;
                ensure_rows(self.lanes.len(), batch)?;
                // A unit of which no row had come was not counted.
                let known = self.routing.units.get(&unit).map_or(&[][..], Vec::as_slice);
                let seen = match &mut self.unit {
                    Some((of, seen)) if *of == unit => seen,
                    other => &mut other.insert((unit, vec![0; self.routing.strata * self.routing.orders.len()])).1,
                };
                for (row, lane) in (0..).zip(&self.lanes) {
                    let Some(lane) = lane else {
                        counts.cut += 1;
                        continue;
                    };
                    let index = usize::from(lane.output) * self.routing.strata + usize::from(lane.stratum);
                    let (first, count) = known.get(index).copied().unwrap_or_default();
                    let seen = seen.get_mut(index).context("a lane that is not there")?;
                    let rank = *seen;
                    *seen += 1;
                    if rank >= count {
                        return Err(Fault::content(format!(
                            "it gives more rows now than the {count} that were counted before: it has changed since"
                        )));
                    }
                    let order = &self.routing.orders[usize::from(lane.output)];
                    let mut seats = 0;
                    for seat in order.seats(lane.stratum, first + rank) {
                        let place = Place { output: lane.output, part: seat.part, stratum: lane.stratum, row: seat.row };
                        each(place, row, first + rank);
                        seats += 1;
                    }
                    counts.out[usize::from(lane.output)] += seats;
                    counts.cut += u64::from(seats == 0);
                    counts.repeated += seats.saturating_sub(1);
                }
                Ok(())
            }
        }
    }
}

fn ensure_rows(found: usize, batch: &RecordBatch) -> Result<()> {
    ensure!(found == batch.num_rows(), "{found} rows were sorted of {}", batch.num_rows());
    Ok(())
}

/// Counts the rows of each lane, unit by unit.
pub struct Tally {
    shuffle: Box<dyn Shuffle>,
    strata: usize,
    lanes: Vec<Option<Lane>>,
    /// Of the units of the part in hand.
    counts: BTreeMap<u64, Vec<u64>>,
    outputs: usize,
}

impl Tally {
    /// For a shuffle with so many outputs and strata.
    pub fn new(shuffle: Box<dyn Shuffle>, outputs: usize, strata: usize) -> Self {
        Self { shuffle, strata, lanes: Vec::new(), counts: BTreeMap::new(), outputs }
    }

    /// Counts the rows of a batch of a unit; how many have no lane.
    pub fn take(&mut self, unit: u64, batch: &RecordBatch) -> Result<u64, Fault> {
        self.lanes.clear();
        self.shuffle.lanes(batch, &mut self.lanes)?;
        ensure_rows(self.lanes.len(), batch)?;
        let counts = self.counts.entry(unit).or_insert_with(|| vec![0; self.outputs * self.strata]);
        for lane in self.lanes.iter().flatten() {
            let index = usize::from(lane.output) * self.strata + usize::from(lane.stratum);
            *counts.get_mut(index).context("a lane that is not there")? += 1;
        }
        Ok(self.lanes.iter().filter(|lane| lane.is_none()).count() as u64)
    }

    /// The counts of the part in hand.
    pub fn finish(&mut self) -> BTreeMap<u64, Vec<u64>> {
        std::mem::take(&mut self.counts)
    }
}
