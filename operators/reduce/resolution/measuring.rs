//! Rows to sums, and sums to moments.
//!
//! A cell is a class and a slot of the bins, flow included. Counts, in this order: for each cell and quantity, rows summed and rows
//! whose value or weight is not finite; rows that no replica could take; the replicas' cells and the rungs near 0 (in a slice, where they
//! fit), both for bins alone and not for the flow; all other rungs. Sums: the moments of each cell and quantity; where rows have
//! weights, those of w and w^2 on rungs.

use super::Measuring;
use crate::Fault;
use crate::column::{self, EVENT};
use crate::statistics::binning::{Binned, Binning, Cell, at_once};
use crate::statistics::bootstrap::{self, Replicas};
use crate::statistics::ladder::{Ladder, Window};
use crate::statistics::moments::{is_lost, rounding};
use crate::statistics::sums::Sums;
use crate::words;
use arrow::array::{AsArray, RecordBatch};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::UInt64Type;

/// Counts of a cell: rows summed, and rows whose value or weight is not finite.
const COUNTS: usize = 2;
/// Rungs in slices take no more than these bytes on a worker.
const MOST_DENSE: u64 = 64 << 20;
/// Values spread over some twenty octaves on either side of 0.
const OCTAVES: u64 = 40;
/// What a slot is that lies in no bin.
const FLOW: u32 = u32::MAX;

/// What the keys mean.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    slots: usize,
    classes: usize,
    quantities: usize,
    axes: usize,
    weighted: bool,
    /// The number of each class and slot among the classes and bins.
    bins: Vec<u32>,
    cells: usize,
    ladder: Option<Ladder>,
    window: Option<Window>,
    replica_cells: usize,
}

/// Room for a batch, kept from one to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Hand {
    numbers: Vec<u32>,
    places: Vec<u32>,
    drawn: Vec<i64>,
    elsewhere: Vec<(u64, f64)>,
}

impl Keys {
    pub(super) fn new(
        (binning, classes, quantities): (&Binning, usize, usize),
        weighted: bool,
        ladder: Option<Ladder>,
        replicas: Option<&Replicas>,
    ) -> Self {
        let slots = binning.slots();
        let mut bins = vec![FLOW; classes * slots];
        let cells = if binning.is_empty() { vec![Cell { slot: 0, edges: Vec::new() }] } else { binning.cells() };
        let all = (0..classes).flat_map(|class| cells.iter().map(move |cell| class * slots + cell.slot));
        all.zip(0..).for_each(|(place, number)| bins[place] = number);
        let window = ladder.map(Window::coarse).filter(|_| !weighted);
        let replica_cells = replicas.map_or(0, Replicas::cells);
        let (axes, cells) = (binning.columns.len(), cells.len());
        let mut keys = Self { slots, classes, quantities, axes, weighted, bins, cells, ladder, window, replica_cells };
        if 8 * (keys.groups() * keys.window.as_ref().map_or(0, Window::len)) as u64 > MOST_DENSE {
            keys.window = None;
        }
        keys
    }

    /// The number of a cell and quantity, flow included.
    pub(super) fn place(&self, class: usize, slot: usize, quantity: usize) -> usize {
        (class * self.slots + slot) * self.quantities + quantity
    }

    fn places(&self) -> usize {
        self.classes * self.slots * self.quantities
    }

    /// The number of a bin and quantity; none for the flow.
    pub(super) fn group(&self, class: usize, slot: usize, quantity: usize) -> Option<usize> {
        self.group_of(class * self.slots + slot, quantity)
    }

    /// The same by the number of class and slot together.
    fn group_of(&self, number: usize, quantity: usize) -> Option<usize> {
        let bin = self.bins[number];
        (bin != FLOW).then(|| bin as usize * self.quantities + quantity)
    }

    fn groups(&self) -> usize {
        self.classes * self.cells * self.quantities
    }

    /// Sums of a cell.
    fn powers(&self) -> usize {
        self.axes + if self.weighted { 6 } else { 4 }
    }

    /// Where the rows are counted that no replica could take.
    pub(super) fn unplayed(&self) -> u64 {
        (self.places() * COUNTS) as u64
    }

    /// Where the rows of a cell are counted that are in no number.
    pub(super) fn odd(&self, place: usize) -> u64 {
        (place * COUNTS + 1) as u64
    }

    /// Where the rows of a cell are counted.
    pub(super) fn count(&self, place: usize) -> u64 {
        (place * COUNTS) as u64
    }

    fn first_replica(&self) -> usize {
        self.places() * COUNTS + 1
    }

    /// The keys of a group's replicas.
    pub(super) fn replicas(&self, group: usize) -> std::ops::Range<usize> {
        let first = self.first_replica() + group * self.replica_cells;
        first..first + self.replica_cells
    }

    fn first_window(&self) -> usize {
        self.first_replica() + self.groups() * self.replica_cells
    }

    fn dense(&self) -> usize {
        self.first_window() + self.groups() * self.window.as_ref().map_or(0, Window::len)
    }

    fn dense_sums(&self) -> usize {
        self.places() * self.powers()
    }

    /// The key of a rung that lies in no slice: of a count or, where rows have weights, of the sum of w; that of w^2 follows.
    fn rung(&self, ladder: Ladder, group: usize, rung: u64) -> u64 {
        let number = group as u64 * ladder.rungs() + rung;
        if self.weighted { self.dense_sums() as u64 + 2 * number } else { self.dense() as u64 + number }
    }

    /// What a worker may hold.
    pub(super) fn bytes(&self, rows: Option<u64>) -> u64 {
        let steps = self.ladder.map_or(0, |ladder| u64::from(ladder.steps()));
        let rungs = self.groups() as u64 * OCTAVES * steps;
        let rungs = rows.map_or(rungs, |rows| rungs.min(rows.saturating_mul(self.quantities as u64)));
        let rungs = if self.window.is_some() { rungs / 16 } else { rungs };
        8 * self.dense() as u64 + 112 * self.dense_sums() as u64 + rungs * if self.weighted { 256 } else { 24 }
    }
}

impl Measuring {
    pub(super) fn bytes(&self, rows: Option<u64>) -> u64 {
        self.keys.bytes(rows)
    }

    /// Adds the rows of a batch.
    pub(super) fn add_rows(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        let mut numbers = std::mem::take(&mut self.hand.numbers);
        let batch = &*self.groups.enter(batch, &mut numbers, into)?;
        let reads = self.reads();
        let names: Vec<&str> = reads.iter().map(String::as_str).collect();
        for (first, block) in column::blocks(batch, at_once(&self.binning.columns), &names)? {
            self.add_block(&block, &mut numbers[first..first + block.num_rows()], into)?;
        }
        self.hand.numbers = numbers;
        Ok(())
    }

    /// Adds rows of which the groups are known.
    fn add_block(&mut self, batch: &RecordBatch, numbers: &mut [u32], into: &mut Sums) -> Result<(), Fault> {
        let Self { quantities, binning, keys, hand, ladder, replicas, pivot, .. } = self;
        for Binned { column, axis, .. } in &binning.columns {
            axis.refine_by(batch, column, numbers)?;
        }
        let columns = |names: &mut dyn Iterator<Item = &str>| -> anyhow::Result<Vec<ScalarBuffer<f64>>> {
            names.map(|name| column::floats(batch, name)).collect()
        };
        let mut by = Vec::new();
        for binned in &binning.columns {
            // Categories have no mean; they are drawn at their numbers.
            by.push(if binned.axis.names().is_some() {
                hand.places.clear();
                hand.places.resize(batch.num_rows(), 0);
                binned.axis.refine_by(batch, &binned.column, &mut hand.places)?;
                hand.places.iter().map(|slot| f64::from(*slot)).collect::<Vec<f64>>().into()
            } else {
                column::floats(batch, &binned.column)?
            });
        }
        let values = columns(&mut quantities.iter().map(|q| q.column.as_str()))?;
        let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
        let powers = keys.powers();
        for (quantity, x) in values.iter().enumerate() {
            let (counts, sums) = into.dense(keys.dense(), keys.dense_sums());
            for (row, (number, x)) in numbers.iter().zip(x.iter()).enumerate() {
                let place = *number as usize * keys.quantities + quantity;
                let w = weights.as_ref().map(|weights| weights[row]);
                if !(x.is_finite() && w.is_none_or(f64::is_finite)) {
                    counts[place * COUNTS + 1] += 1;
                    continue;
                }
                counts[place * COUNTS] += 1;
                let d = x - *pivot;
                let square = d * d;
                let own = &mut sums[place * powers..(place + 1) * powers];
                let (own, of_axes) = own.split_at_mut(powers - keys.axes);
                match (w, own) {
                    (None, [sum_d, sum_d2, sum_d3, sum_d4]) => {
                        sum_d.add(d);
                        sum_d2.add(square);
                        sum_d3.add(square * d);
                        sum_d4.add(square * square);
                        of_axes.iter_mut().zip(&by).for_each(|(sum, by)| sum.add(by[row]));
                    }
                    (Some(w), own) => {
                        let summands = [w * d, w * square, w * (square * d), w * (square * square), w, w * w];
                        own.iter_mut().zip(summands).for_each(|(sum, summand)| sum.add(summand));
                        of_axes.iter_mut().zip(&by).for_each(|(sum, by)| sum.add(w * by[row]));
                    }
                    _ => {}
                }
            }
            let Some(ladder) = ladder else { continue };
            let (first, rungs) = (keys.first_window(), keys.window.as_ref().map_or(0, Window::len));
            hand.elsewhere.clear();
            for (row, (number, x)) in numbers.iter().zip(x.iter()).enumerate() {
                let w = weights.as_ref().map_or(1.0, |weights| weights[row]);
                let Some(group) = keys.group_of(*number as usize, quantity).filter(|_| x.is_finite() && w.is_finite()) else {
                    continue;
                };
                let found = keys.window.as_ref().map_or_else(|| Err(ladder.rung(x - *pivot)), |window| window.find(x - *pivot));
                match found {
                    Ok(place) => counts[first + group * rungs + place] += 1,
                    Err(rung) => hand.elsewhere.push((keys.rung(*ladder, group, rung), w)),
                }
            }
            for (key, w) in &hand.elsewhere {
                if keys.weighted {
                    into.add(*key, *w);
                    into.add(*key + 1, w * w);
                } else {
                    into.tally(*key, 1);
                }
            }
        }
        let Some(replicas) = replicas else { return Ok(()) };
        let (counts, _) = into.dense(keys.dense(), 0);
        hand.drawn.resize(replicas.number(), 0);
        for (row, event) in column::get(batch, EVENT).as_primitive::<UInt64Type>().values().iter().enumerate() {
            let w = weights.as_ref().map_or(1.0, |weights| weights[row]);
            let number = numbers[row] as usize;
            if keys.bins[number] == FLOW || !w.is_finite() {
                continue;
            }
            bootstrap::counts(*event, self.seed, &mut hand.drawn);
            for (quantity, x) in values.iter().enumerate().filter(|(_, x)| x[row].is_finite()) {
                let Some(group) = keys.group_of(number, quantity) else { continue };
                if !replicas.add(&mut counts[keys.replicas(group)], x[row] - *pivot, w, &hand.drawn) {
                    counts[keys.unplayed() as usize] += 1;
                }
            }
        }
        Ok(())
    }
}

/// What was summed, for reading: sums by key, and what stands on rungs.
pub(super) struct Summed<'a> {
    pub keys: &'a Keys,
    pub sums: &'a Sums,
    counts: Vec<(u64, i64)>,
    weights: Vec<(u64, f64)>,
}

/// What stands on a rung: its number, the sums of w and of w^2.
pub(super) type OnRung = (u64, f64, f64);

impl<'a> Summed<'a> {
    pub(super) fn new(keys: &'a Keys, sums: &'a Sums) -> Self {
        let counts = if keys.ladder.is_some() { sums.counts() } else { Vec::new() };
        let weights = if keys.ladder.is_some() && keys.weighted { sums.sums() } else { Vec::new() };
        Self { keys, sums, counts, weights }
    }

    /// What stands on the rungs of a group, in order.
    pub(super) fn rungs(&self, group: usize) -> Vec<OnRung> {
        let Some(ladder) = self.keys.ladder else { return Vec::new() };
        let (first, last) = (self.keys.rung(ladder, group, 0), self.keys.rung(ladder, group + 1, 0));
        if self.keys.weighted {
            let mut rungs: Vec<OnRung> = Vec::new();
            for (key, sum) in between(&self.weights, first, last) {
                let (rung, square) = ((key - first) / 2, (key - first) % 2 == 1);
                if rungs.last().is_none_or(|last| last.0 != rung) {
                    rungs.push((rung, 0.0, 0.0));
                }
                if let Some(last) = rungs.last_mut() {
                    *if square { &mut last.2 } else { &mut last.1 } = *sum;
                }
            }
            return rungs;
        }
        let unit = |rung: u64, n: i64| (rung, n as f64, n as f64);
        let mut rungs: Vec<OnRung> = between(&self.counts, first, last).iter().map(|(key, n)| unit(key - first, *n)).collect();
        if let Some(window) = &self.keys.window {
            let first = (self.keys.first_window() + group * window.len()) as u64;
            let near = between(&self.counts, first, first + window.len() as u64);
            rungs.extend(near.iter().map(|(key, n)| unit(window.rung((key - first) as usize), *n)));
            rungs.sort_unstable_by_key(|(rung, ..)| *rung);
        }
        rungs
    }

    /// The cells of a group's replicas.
    pub(super) fn replicas(&self, group: usize) -> Vec<i64> {
        let keys = self.keys.replicas(group);
        let mut cells = vec![0; keys.len()];
        for (key, n) in between(&self.counts, keys.start as u64, keys.end as u64) {
            cells[*key as usize - keys.start] = *n;
        }
        cells
    }
}

/// The entries whose keys lie in a range.
fn between<T>(entries: &[(u64, T)], from: u64, to: u64) -> &[(u64, T)] {
    let at = |key: u64| entries.partition_point(|(k, _)| *k < key);
    &entries[at(from)..at(to)]
}

/// Sums of one cell or of several.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    n: i64,
    w: f64,
    w2: f64,
    by: Vec<f64>,
    powers: [f64; 4],
}

/// A bin of which nothing is known but its rows.
#[derive(Debug, Clone)]
pub(super) struct Unknown {
    pub n: i64,
    pub why: &'static str,
}

/// What is known of a bin with rows in it.
#[derive(Debug, Clone)]
pub(super) struct Bin {
    pub n: i64,
    pub effective: f64,
    /// The means of the binned columns.
    pub by: Vec<f64>,
    pub bias: f64,
    pub bias_error: Option<f64>,
    pub resolution: Option<f64>,
    pub resolution_error: Option<f64>,
    pub moments_error: Option<f64>,
    /// Why something is missing.
    pub reasons: Vec<String>,
}

impl Moments {
    /// Those of the cells with these numbers ([`Keys::place`]).
    pub(super) fn of(summed: &Summed<'_>, places: &[usize]) -> Self {
        let Summed { keys, sums, .. } = summed;
        let n = places.iter().map(|place| sums.count(keys.count(*place))).sum();
        let sum = |power: usize| sums.sum_over(places.iter().map(|place| (place * keys.powers() + power) as u64));
        let (w, w2) = if keys.weighted { (sum(4), sum(5)) } else { (n as f64, n as f64) };
        let own = keys.powers() - keys.axes;
        Self { n, w, w2, by: (0..keys.axes).map(|axis| sum(own + axis)).collect(), powers: [0, 1, 2, 3].map(sum) }
    }

    /// The numbers that people quote, or why there are none.
    pub(super) fn bin(self, pivot: f64) -> Result<Bin, Unknown> {
        let unknown = |why| Err(Unknown { n: self.n, why });
        if self.n == 0 {
            return unknown("no rows");
        }
        if !(self.w > 0.0 && self.w2 > 0.0) {
            return unknown("the weights do not sum to more than 0");
        }
        if ![self.w, self.w2].iter().chain(&self.powers[..1]).chain(&self.by).all(|sum| sum.is_finite()) {
            return unknown("the sums are too large for a number");
        }
        let effective = self.w * self.w / self.w2;
        let [mean, raw2, raw3, raw4] = self.powers.map(|sum| sum / self.w);
        let square = mean * mean;
        let second = raw2 - square;
        let fourth = raw4 - 4.0 * mean * raw3 + 6.0 * square * raw2 - 3.0 * square * square;
        let mut bin = Bin {
            n: self.n,
            effective,
            by: self.by.iter().map(|sum| sum / self.w).collect(),
            bias: mean + pivot,
            bias_error: None,
            resolution: None,
            resolution_error: None,
            moments_error: None,
            reasons: Vec::new(),
        };
        // Rounding of the sums can leave a spread of 0 slightly below 0.
        if self.n == 1 {
            bin.reasons.push("one row has no spread".into());
        } else if !second.is_finite() {
            bin.reasons.push("the squares of the values are too large for a number".into());
        } else if second < -1e-9 * raw2.abs() {
            bin.reasons.push("negative weights leave no spread".into());
        } else if raw2 == 0.0 {
            (bin.resolution, bin.bias_error, bin.resolution_error) = (Some(0.0), Some(0.0), Some(0.0));
            bin.reasons.push("all values are the same".into());
        } else if is_lost(second, rounding(2, raw2)) {
            let near = near(mean + pivot, 6);
            bin.reasons.push(format!(
                "all values are the same, or too close for sums at their distance from the pivot: try `pivot: {near}`"
            ));
        } else {
            let resolution = second.sqrt();
            bin.resolution = Some(resolution);
            bin.bias_error = Some(resolution / effective.sqrt());
            bin.resolution_error = Some(resolution / (2.0 * effective).sqrt());
            let (excess, rounded) = (fourth - second * second, rounding(4, raw4));
            if is_lost(second * second, rounded) {
                let near = near(mean + pivot, 3);
                bin.reasons.push(format!(
                    "no error from the fourth moment, which is lost at this distance from the pivot: try `pivot: {near}`"
                ));
            } else if excess > rounded && fourth.is_finite() {
                bin.moments_error = Some((excess / (4.0 * second * effective)).sqrt());
            } else {
                bin.reasons.push("the fourth moment leaves no error of the spread".into());
            }
        }
        Ok(bin)
    }
}

/// A number with so many digits, as people would write it.
fn near(value: f64, digits: usize) -> String {
    words::plain(format!("{value:.*e}", digits - 1).parse().unwrap_or(value))
}
