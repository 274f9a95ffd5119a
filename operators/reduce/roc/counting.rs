//! Rows to sums.
//!
//! A group is a slot of the bins, a score and a side (0 the signal, then the backgrounds). In each group is summed how much stands on each
//! rung of the score's ladder: rows or, where they have weights, w and w^2. The keys of counts, in this order:
//!
//! * rows of a group whose score or weight is not finite; rows of a group; rows that no replica could take;
//! * the cells of the groups' replicas;
//! * the rungs where nearly all scores stand, which lie in a slice (where rows have no weights and these rungs take little memory);
//! * all other rungs.
//!
//! Where rows have weights, `2 rung` and `2 rung + 1` of the last are the keys of the sums of w and w^2.

use super::Scoring;
use crate::auc::Load;
use crate::bootstrap::{self, Replicas};
use crate::column::{self, EVENT};
use crate::ladder::{Ladder, Window};
use crate::sums::Sums;
use crate::Fault;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;

/// Rungs in slices take no more than these bytes on a worker.
const MOST_DENSE: u64 = 64 << 20;
/// Scores of a network spread over some forty octaves at most.
const OCTAVES: u64 = 40;

/// How fine a ladder is, and whether all scores are told apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Precision {
    pub steps: u32,
    pub exact: bool,
}

/// What the keys mean.
#[derive(Debug)]
pub(super) struct Layout {
    slots: usize,
    scores: usize,
    sides: usize,
    pub precision: Precision,
    pub ladder: Ladder,
    weighted: bool,
    window: Option<Window>,
    pub replicas: Option<Replicas>,
}

/// Room for a batch, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Hand {
    classes: Vec<u32>,
    slots: Vec<u32>,
    drawn: Vec<i64>,
    elsewhere: Vec<(u64, usize)>,
}

/// The weights of a side on a rung.
pub(super) type OnRung = (u64, Load);

impl Layout {
    pub fn new((slots, scores, sides): (usize, usize, usize), precision: Precision, weighted: bool, replicas: u32) -> Self {
        let ladder = Ladder::new(precision.steps);
        let window = Window::of_scores(ladder);
        let fits = 8 * (slots * scores * sides * window.len()) as u64 <= MOST_DENSE;
        let window = (fits && !weighted).then_some(window);
        let replicas = (replicas > 0).then(|| Replicas::new(replicas, weighted));
        Self { slots, scores, sides, precision, ladder, weighted, window, replicas }
    }

    pub fn slots(&self) -> usize {
        self.slots
    }

    fn groups(&self) -> usize {
        self.slots * self.scores * self.sides
    }

    pub fn group(&self, slot: usize, score: usize, side: usize) -> usize {
        (slot * self.scores + score) * self.sides + side
    }

    /// Where the rows of a group are counted whose score or weight is not finite.
    pub fn odd(&self, group: usize) -> u64 {
        group as u64
    }

    /// Where the rows of a group are counted.
    fn rows(&self, group: usize) -> usize {
        self.groups() + group
    }

    /// Where the rows are counted that no replica could take.
    pub fn unplayed(&self) -> u64 {
        2 * self.groups() as u64
    }

    fn first_cell(&self) -> usize {
        2 * self.groups() + 1
    }

    fn first_dense_rung(&self) -> usize {
        self.first_cell() + self.groups() * self.replicas.as_ref().map_or(0, Replicas::cells)
    }

    /// Counts that lie in a slice.
    fn dense(&self) -> usize {
        self.first_dense_rung() + self.groups() * self.window.as_ref().map_or(0, Window::len)
    }

    /// The key of a rung that does not lie in a slice.
    fn rung(&self, group: usize, rung: u64) -> u64 {
        self.dense() as u64 + group as u64 * self.ladder.rungs() + rung
    }

    /// What a worker may hold, for so many rows.
    pub fn bytes(&self, rows: Option<u64>) -> u64 {
        let rungs = self.groups() as u64 * OCTAVES * u64::from(self.precision.steps);
        let rungs = rows.map_or(rungs, |rows| rungs.min(rows.saturating_mul(self.scores as u64)));
        let rungs = if self.window.is_some() { rungs / 16 } else { rungs };
        8 * self.dense() as u64 + rungs * if self.weighted { 256 } else { 24 }
    }
}

impl Scoring {
    pub(super) fn count(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        let Self { layout, hand, classes, binning, scores, .. } = self;
        classes.numbers(batch, &mut hand.classes)?;
        binning.numbers(batch, &mut hand.slots)?;
        let columns = scores.iter().map(|score| column::floats(batch, &score.column)).collect::<Result<Vec<_>, _>>()?;
        let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
        let finite = |row: usize| weights.as_ref().is_none_or(|weights| weights[row].is_finite());
        for (number, (score, values)) in scores.iter().zip(&columns).enumerate() {
            let (counts, _) = into.dense(layout.dense(), 0);
            let (groups, first) = (layout.groups(), layout.first_dense_rung());
            hand.elsewhere.clear();
            for (row, ((class, slot), x)) in hand.classes.iter().zip(&hand.slots).zip(values.iter()).enumerate() {
                let Some(side) = score.sides[*class as usize] else { continue };
                let group = layout.group(*slot as usize, number, side);
                if !(x.is_finite() && finite(row)) {
                    counts[group] += 1;
                    continue;
                }
                counts[groups + group] += 1;
                let rung = layout.ladder.rung(*x);
                let near = layout.window.as_ref().and_then(|window| Some(first + group * window.len() + window.place(rung)?));
                match near {
                    Some(key) => counts[key] += 1,
                    None => hand.elsewhere.push((layout.rung(group, rung), row)),
                }
            }
            for (key, row) in &hand.elsewhere {
                match &weights {
                    None => into.tally(*key, 1),
                    Some(weights) => {
                        into.add(2 * key, weights[*row]);
                        into.add(2 * key + 1, weights[*row] * weights[*row]);
                    }
                }
            }
        }
        let Some(replicas) = &layout.replicas else { return Ok(()) };
        let (counts, _) = into.dense(layout.dense(), 0);
        hand.drawn.resize(replicas.number(), 0);
        let events = column::get(batch, EVENT).as_primitive::<UInt64Type>().values();
        for (row, event) in events.iter().enumerate().filter(|(row, _)| finite(*row)) {
            let (class, slot) = (hand.classes[row] as usize, hand.slots[row] as usize);
            let weight = weights.as_ref().map_or(1.0, |weights| weights[row]);
            bootstrap::counts(*event, self.seed, &mut hand.drawn);
            for (number, (score, values)) in scores.iter().zip(&columns).enumerate() {
                let Some(side) = score.sides[class].filter(|_| values[row].is_finite()) else { continue };
                let first = layout.first_cell() + layout.group(slot, number, side) * replicas.cells();
                if !replicas.add(&mut counts[first..first + replicas.cells()], values[row], weight, &hand.drawn) {
                    counts[layout.unplayed() as usize] += 1;
                }
            }
        }
        Ok(())
    }
}

/// What was summed, by group.
pub(super) struct Counted {
    /// What stands on the rungs of each group, by ascending rung.
    groups: Vec<Vec<OnRung>>,
    /// The rows of each group.
    rows: Vec<i64>,
    cells: Vec<i64>,
}

impl Counted {
    pub fn of(layout: &Layout, sums: &Sums) -> Self {
        let counts = sums.counts();
        let between = |from: usize, to: usize| {
            let at = |key: usize| counts.partition_point(|(k, _)| *k < key as u64);
            &counts[at(from)..at(to)]
        };
        let mut groups = vec![Vec::new(); layout.groups()];
        let rows = (0..layout.groups()).map(|group| sums.count(layout.rows(group) as u64)).collect();
        let mut cells = vec![0; layout.first_dense_rung() - layout.first_cell()];
        for (key, n) in between(layout.first_cell(), layout.first_dense_rung()) {
            cells[*key as usize - layout.first_cell()] = *n;
        }
        let unit = |n: i64| Load { n, w: n as f64, w2: n as f64 };
        if let Some(window) = &layout.window {
            for (key, n) in between(layout.first_dense_rung(), layout.dense()) {
                let place = *key as usize - layout.first_dense_rung();
                groups[place / window.len()].push((window.rung(place % window.len()), unit(*n)));
            }
        }
        let (first, rungs) = (layout.dense() as u64, layout.ladder.rungs());
        if layout.weighted {
            for (key, sum) in sums.sums() {
                let (place, squared) = (key / 2 - first, key % 2 == 1);
                let group = &mut groups[(place / rungs) as usize];
                if group.last().is_none_or(|(rung, _)| *rung != place % rungs) {
                    group.push((place % rungs, Load::default()));
                }
                if let Some((_, load)) = group.last_mut() {
                    *if squared { &mut load.w2 } else { &mut load.w } = sum;
                }
            }
        } else {
            for (key, n) in &counts[counts.partition_point(|(key, _)| *key < first)..] {
                groups[((key - first) / rungs) as usize].push(((key - first) % rungs, unit(*n)));
            }
            // Rungs within the window and beyond it are each in order.
            groups.iter_mut().for_each(|group| group.sort_by_key(|(rung, _)| *rung));
        }
        Self { groups, rows, cells }
    }

    /// The rows of some groups.
    pub fn rows(&self, groups: impl Iterator<Item = usize>) -> i64 {
        groups.map(|group| self.rows[group]).sum()
    }

    /// What stands on the rungs of several groups together.
    pub fn on_rungs(&self, groups: impl Iterator<Item = usize>) -> Vec<OnRung> {
        let mut all: Vec<OnRung> = Vec::new();
        groups.for_each(|group| all.extend(&self.groups[group]));
        all.sort_by_key(|(rung, _)| *rung); // runs in order are merged, not sorted
        all.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1.plus(next.1);
            }
            same
        });
        all
    }

    /// The cells of some groups' replicas.
    pub fn cells<'a>(&'a self, replicas: &Replicas, groups: impl Iterator<Item = usize> + 'a) -> impl Iterator<Item = &'a [i64]> {
        let length = replicas.cells();
        groups.map(move |group| &self.cells[group * length..(group + 1) * length])
    }
}
