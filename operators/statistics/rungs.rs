//! Scores on ladders, in groups: from rows to sums, and from sums to what stands on rungs.
//!
//! A group is a slot (of the bins of a group of [`crate::statistics::groups`]), a score and a side (a class, or several together). In each group is summed how much stands on each
//! rung of the score's ladder: rows and, where they have weights, w and w^2. The keys of counts, in this order:
//!
//! * rows of a group whose score or weight is not finite; rows that no replica could take;
//! * the cells of the groups' replicas;
//! * the rungs where nearly all scores stand, which lie in a slice (where rows have no weights and these rungs take little memory);
//! * all other rungs.
//!
//! Where rows have weights, `2 rung` and `2 rung + 1` of the last are the keys of the sums of w and w^2.

use crate::column::{self, EVENT};
use crate::statistics::auc::Load;
use crate::statistics::binning::Binning;
use crate::statistics::bootstrap::{self, Replicas};
use crate::statistics::folding::Classes;
use crate::statistics::groups::{BESIDE, Groups};
use crate::statistics::ladder::{Ladder, MOST_STEPS, Window};
use crate::statistics::sums::Sums;
use crate::{Fault, Placed, Problem};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, UInt64Type};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;

/// Rungs in an octave where nothing is said.
const STEPS: u32 = 256;
/// Rungs in slices take no more than these bytes on a worker.
const MOST_DENSE: u64 = 64 << 20;
/// Scores of a network spread over some forty octaves at most.
const OCTAVES: u64 = 40;

/// How fine a ladder is, and whether all scores are told apart.
#[derive(Debug, Clone, Copy)]
pub struct Precision {
    /// Rungs in an octave.
    pub steps: u32,
    /// True where no two scores share a rung.
    pub exact: bool,
}

/// How fine a ladder is, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PrecisionWord {
    /// Rungs in an octave.
    Steps(u32),
    /// A rung for every float32.
    Exact(ExactWord),
}

/// `exact`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExactWord {
    /// A rung for every float32.
    Exact,
}

impl Precision {
    /// The precision that is asked for, 256 rungs in an octave where nothing is; `exact` only where it can be kept.
    pub fn plan<'a>(
        word: Option<&Placed<PrecisionWord>>,
        scores: impl Iterator<Item = &'a Placed<String>>,
        schema: &Schema,
        rows: Option<u64>,
    ) -> Result<Self, Vec<Problem>> {
        let Some(word) = word else { return Ok(Self { steps: STEPS, exact: false }) };
        let mut problems = Vec::new();
        let steps = match word.value {
            PrecisionWord::Steps(steps) => {
                if steps == 0 || steps > MOST_STEPS {
                    problems
                        .push(Problem::at(word, format!("{steps} rungs in an octave")).help(format!("give 1 to {MOST_STEPS}")));
                }
                steps
            }
            PrecisionWord::Exact(_) => {
                let fits = |t: &DataType| matches!(t, DataType::Float16 | DataType::Float32 | DataType::Boolean);
                for score in scores.filter(|score| schema.field_with_name(score).is_ok_and(|field| !fits(field.data_type()))) {
                    let what = format!("`{}` is no float32, so its values cannot all be told apart", score.value);
                    let help = format!("derive `cast({} as real)`, or give a number of rungs up to {MOST_STEPS}", score.value);
                    problems.push(Problem::at(word, what).help(help));
                }
                if rows.is_none() {
                    let what = "how many rows come is not known before the run, so `exact` may not fit the memory";
                    problems.push(Problem::at(word, what).help(format!("give a number of rungs, as in `precision: {STEPS}`")));
                }
                MOST_STEPS
            }
        };
        if problems.is_empty() { Ok(Self { steps, exact: matches!(word.value, PrecisionWord::Exact(_)) }) } else { Err(problems) }
    }
}

/// What the keys mean.
#[derive(Debug)]
pub struct Layout {
    slots: usize,
    scores: usize,
    sides: usize,
    /// The ladder's precision.
    pub precision: Precision,
    /// The ladder of all scores.
    pub ladder: Ladder,
    weighted: bool,
    window: Option<Window>,
    /// The bootstrap, where there is one.
    pub replicas: Option<Replicas>,
}

/// Room for a batch, kept from one to the next.
#[derive(Debug, Default)]
struct Hand {
    groups: Vec<u32>,
    classes: Vec<u32>,
    slots: Vec<u32>,
    drawn: Vec<i64>,
    elsewhere: Vec<(u64, usize)>,
}

/// The weights of a side on a rung.
pub type OnRung = (u64, Load);

impl Layout {
    /// For so many slots, scores and sides.
    #[must_use]
    pub fn new((slots, scores, sides): (usize, usize, usize), precision: Precision, weighted: bool, replicas: u32) -> Self {
        let ladder = Ladder::new(precision.steps);
        let window = Window::of_scores(ladder);
        let fits = 8 * (slots * scores * sides * window.len()) as u64 <= MOST_DENSE;
        let window = (fits && !weighted).then_some(window);
        let replicas = (replicas > 0).then(|| Replicas::new(replicas, weighted));
        Self { slots, scores, sides, precision, ladder, weighted, window, replicas }
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    fn groups(&self) -> usize {
        self.slots * self.scores * self.sides
    }

    /// The number of a group.
    #[must_use]
    pub fn group(&self, slot: usize, score: usize, side: usize) -> usize {
        (slot * self.scores + score) * self.sides + side
    }

    /// Where the rows of a group are counted whose score or weight is not finite.
    #[must_use]
    pub fn odd(&self, group: usize) -> u64 {
        group as u64
    }

    /// Where the rows are counted that no replica could take.
    #[must_use]
    pub fn unplayed(&self) -> u64 {
        self.groups() as u64
    }

    fn first_cell(&self) -> usize {
        self.groups() + 1
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

    /// The values between which all scores on a rung lie; one value where all are told apart.
    #[must_use]
    pub fn bounds(&self, rung: u64) -> (f64, f64) {
        let (low, high) = self.ladder.bounds(rung);
        if !self.precision.exact {
            return (low, high);
        }
        // The float32 on the rung is one end of it: the one towards 0, or towards 1 where rungs are counted from there.
        let is_on = |x: &f64| f64::from(*x as f32) == *x && self.ladder.rung(*x) == rung;
        let value = [low, high].into_iter().find(is_on).unwrap_or(low);
        (value, value)
    }

    /// What a worker may hold, for so many rows.
    #[must_use]
    pub fn bytes(&self, rows: Option<u64>) -> u64 {
        let rungs = self.groups() as u64 * OCTAVES * u64::from(self.precision.steps);
        let rungs = rows.map_or(rungs, |rows| rungs.min(rows.saturating_mul(self.scores as u64)));
        let rungs = if self.window.is_some() { rungs / 16 } else { rungs };
        8 * self.dense() as u64 + rungs * if self.weighted { 384 } else { 24 }
    }
}

/// A score, and on which side each class stands; none where it takes no part.
#[derive(Debug)]
pub struct Scored {
    /// The column.
    pub column: String,
    /// By class.
    pub sides: Vec<Option<usize>>,
}

/// Counts rows on rungs.
#[derive(Debug)]
pub struct Counter {
    /// The classes.
    pub classes: Classes,
    /// The groups that are counted each by itself.
    pub groups: Groups,
    /// The bins.
    pub binning: Binning,
    /// The scores.
    pub scores: Vec<Scored>,
    /// The column of weights.
    pub weight: Option<String>,
    /// The seed of the bootstrap.
    pub seed: u64,
    /// What the keys mean.
    pub layout: Layout,
    hand: Hand,
}

impl Counter {
    /// A counter with so many replicas.
    #[must_use]
    pub fn new(
        (classes, groups, binning): (Classes, Groups, Binning),
        scores: Vec<Scored>,
        weight: Option<String>,
        precision: Precision,
        (replicas, seed): (u32, u64),
    ) -> Self {
        let sides = scores.iter().flat_map(|score| &score.sides).flatten().max().map_or(1, |side| side + 1);
        let slots = groups.len() * binning.slots();
        let layout = Layout::new((slots, scores.len(), sides), precision, weight.is_some(), replicas);
        let mut counter = Self { classes, groups, binning, scores, weight, seed, layout, hand: Hand::default() };
        counter.groups = counter.groups.clone().carrying(counter.reads());
        counter
    }

    /// The slots of a group.
    #[must_use]
    pub fn slots(&self, group: usize) -> std::ops::Range<usize> {
        group * self.binning.slots()..(group + 1) * self.binning.slots()
    }

    /// The columns that are read.
    #[must_use]
    pub fn reads(&self) -> BTreeSet<String> {
        let event = self.layout.replicas.as_ref().map(|_| EVENT.to_owned());
        let scores = self.scores.iter().map(|score| score.column.clone());
        let others = self.classes.column.clone().into_iter().chain(self.weight.clone()).chain(event);
        scores.chain(self.binning.names()).chain(self.groups.reads()).chain(others).collect()
    }

    /// How many rows of a score have no finite score or weight.
    #[must_use]
    pub fn odd(&self, sums: &Sums, score: usize) -> u64 {
        let groups = (0..self.layout.slots).flat_map(|slot| (0..self.layout.sides).map(move |side| (slot, side)));
        groups.map(|(slot, side)| sums.count(self.layout.odd(self.layout.group(slot, score, side)))).sum::<i64>().unsigned_abs()
    }

    /// Adds the rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        let Self { layout, hand, classes, groups, binning, scores, .. } = self;
        let batch = &*groups.enter(batch, &mut hand.groups, into)?;
        classes.numbers(batch, &mut hand.classes)?;
        binning.numbers(batch, &mut hand.slots)?;
        hand.slots.iter_mut().zip(&hand.groups).for_each(|(slot, group)| *slot += *group * binning.slots() as u32);
        let columns = scores.iter().map(|score| column::floats(batch, &score.column)).collect::<Result<Vec<_>, _>>()?;
        let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
        let finite = |row: usize| weights.as_ref().is_none_or(|weights| weights[row].is_finite());
        for (number, (score, values)) in scores.iter().zip(&columns).enumerate() {
            let (counts, _) = into.dense(layout.dense(), 0);
            let (first, rungs) = (layout.first_dense_rung(), layout.window.as_ref().map_or(0, Window::len));
            hand.elsewhere.clear();
            for (row, ((class, slot), x)) in hand.classes.iter().zip(&hand.slots).zip(values.iter()).enumerate() {
                let Some(side) = score.sides[*class as usize] else { continue };
                let group = layout.group(*slot as usize, number, side);
                if !(x.is_finite() && finite(row)) {
                    counts[group] += 1;
                    continue;
                }
                let found = layout.window.as_ref().map_or_else(|| Err(layout.ladder.rung(*x)), |window| window.find(*x));
                match found {
                    Ok(place) => counts[first + group * rungs + place] += 1,
                    Err(rung) => hand.elsewhere.push((layout.rung(group, rung), row)),
                }
            }
            for (key, row) in &hand.elsewhere {
                into.tally(*key, 1);
                if let Some(weights) = &weights {
                    into.add(2 * key, weights[*row]);
                    into.add(2 * key + 1, weights[*row] * weights[*row]);
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
pub struct Counted {
    /// What stands on the rungs of each group, by ascending rung.
    groups: Vec<Vec<OnRung>>,
    cells: Vec<i64>,
}

impl Counted {
    /// What these sums hold.
    #[must_use]
    pub fn of(layout: &Layout, sums: &Sums) -> Self {
        let counts = sums.counts();
        let between = |from: usize, to: usize| {
            let at = |key: usize| counts.partition_point(|(k, _)| *k < key as u64);
            &counts[at(from)..at(to)]
        };
        let mut groups = vec![Vec::new(); layout.groups()];
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
        for (key, n) in between(layout.dense(), BESIDE as usize) {
            groups[((key - first) / rungs) as usize].push(((key - first) % rungs, unit(*n)));
        }
        // Rungs within the window and beyond it are each in order.
        groups.iter_mut().for_each(|group| group.sort_by_key(|(rung, _)| *rung));
        if layout.weighted {
            groups.iter_mut().flatten().for_each(|(_, load)| (load.w, load.w2) = (0.0, 0.0));
            for (key, sum) in sums.sums() {
                let place = key / 2 - first;
                let group = &mut groups[(place / rungs) as usize];
                let Ok(at) = group.binary_search_by_key(&(place % rungs), |(rung, _)| *rung) else { continue };
                let load = &mut group[at].1;
                *if key % 2 == 1 { &mut load.w2 } else { &mut load.w } = sum;
            }
        }
        Self { groups, cells }
    }

    /// The rows of some groups.
    #[must_use]
    pub fn rows(&self, groups: impl Iterator<Item = usize>) -> i64 {
        groups.flat_map(|group| &self.groups[group]).map(|(_, load)| load.n).sum()
    }

    /// What stands on the rungs of several groups together.
    #[must_use]
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
    pub fn cells<'a>(
        &'a self,
        replicas: &Replicas,
        groups: impl Iterator<Item = usize> + Clone + 'a,
    ) -> impl Iterator<Item = &'a [i64]> + Clone {
        let length = replicas.cells();
        groups.map(move |group| &self.cells[group * length..(group + 1) * length])
    }
}
