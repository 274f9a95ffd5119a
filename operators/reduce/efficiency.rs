//! Efficiencies of cuts and of working points, for each class and in bins, with intervals; mis-identification at a working point.
//!
//! An efficiency is the share of rows (or of their weights) that pass; the formulae and their sources are in
//! [`crate::statistics::interval`]. A cut is a condition. A working point is the cut on a score at which its signal (or all else) has a given
//! efficiency over all rows; since it is put between two rungs of the score's ladder, the efficiencies at it are exact, and what
//! the ladder costs is that the efficiency asked for is reached to within a rung. The efficiencies of all classes
//! at the working points of all scores are the mis-identification matrix.
//!
//! What is summed for a cut, by slot of the bins and group: rows that pass and that fail, and their w and w^2. A row for
//! which a cut is unknown, because a value is missing or NaN, does not pass it (`keep` cuts it, too), and is counted.

mod telling;

use crate::column;
use crate::expression::Expression;
use crate::registry::Describe;
use crate::statistics::auc::Load;
use crate::statistics::binning::{Binning, By};
use crate::statistics::folding::{Classes, gather, one_input, table};
use crate::statistics::for_each::{ForEach, Regions, Told};
use crate::statistics::groups::Groups;
use crate::statistics::interval::{Method, ONE_SIGMA};
use crate::statistics::populations;
use crate::statistics::rungs::{Counted, Counter, Precision, PrecisionWord, Scored};
use crate::statistics::sums::Sums;
use crate::statistics::working_point::{Fixed, WorkingPoints};
use crate::weights;
use crate::work::Fold;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Schema;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The efficiency of a cut, of several, or of the working points of scores.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Efficiency {
    /// The condition whose efficiency is wanted, as an SQL expression: `p_electron > 0.5`.
    #[serde(default)]
    pub cut: Option<Placed<String>>,
    /// Several conditions by name: `{ loose: p_electron > 0.5, tight: p_electron > 0.9 }`.
    #[serde(default)]
    pub cuts: Option<Placed<BTreeMap<Placed<String>, Placed<String>>>>,
    /// The score column of each class, for cuts at working points: `{ electron: p_electron }`.
    #[serde(default)]
    pub scores: Option<Placed<BTreeMap<Placed<String>, Placed<String>>>>,
    /// The working points of the scores, over all rows: `{ signal_efficiency: 0.9 }`, `{ background_efficiency: [0.01, 0.1] }`.
    #[serde(default)]
    pub at: WorkingPoints,
    /// One or two columns to bin in, with their bins: `{ energy: { range: [10, 510], bins: 10 } }`.
    #[serde(default)]
    pub by: Option<By>,
    /// The columns to tell rows apart by, each group by itself: `sample`, `[sample, converted]`, or with the values that are told apart
    /// `{ layer: [1, 2, 3] }`. With `scores`, `sample` is the true class and always told apart; each other group has working points
    /// of its own.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, all: true }`. A row counts in every one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// How intervals are found: `clopper_pearson` (covers at least as often as it says), `wilson`, `jeffreys`.
    #[serde(default)]
    pub interval: Method,
    /// How often an interval covers the truth; 0.6827 (one standard deviation) where nothing is said.
    #[serde(default)]
    pub level: Option<Placed<f64>>,
    /// Rungs of the ladder of scores in an octave, 256 where nothing is said, or `exact` for float32 scores: how
    /// closely a working point is met.
    #[serde(default)]
    pub precision: Option<Placed<PrecisionWord>>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
}

impl Describe for Efficiency {
    const ABOUT: &'static str = "Gives the efficiency of cuts or working points, by class and in bins, with intervals";
    const EXAMPLE: &'static str = "\
# Of a cut, against energy. Of working points, and so the mis-identification matrix:
#   scores: { electron: p_electron, pion: p_pion }
#   at: { signal_efficiency: 0.9 }
efficiency:
  from: predicted
  efficiency:
    cut: p_electron > 0.5
    by: { energy: { range: [10, 510], bins: 10 } }
    for_each: sample
    interval: wilson
";
}

/// An `efficiency` whose words were found right.
#[derive(Debug)]
struct Testing {
    of: Of,
    method: Method,
    level: f64,
    weight: Option<String>,
    schema: Arc<Schema>,
}

/// What is tested.
#[derive(Debug)]
enum Of {
    /// Conditions.
    Cuts(Cuts),
    /// Scores, each with its name and its class, and their working points.
    /// Groups are told with the true class as the last way to tell rows apart.
    Points { counter: Box<Counter>, told: Box<Groups>, signals: Vec<(String, usize)>, points: Vec<Fixed> },
}

#[derive(Debug)]
struct Cuts {
    cuts: Vec<(String, Expression)>,
    groups: Groups,
    binning: Binning,
    numbers: Vec<u32>,
    slots: Vec<u32>,
}

/// What was tested, with what came of it.
struct Tested {
    name: String,
    fixed: Option<Fixed>,
    /// The threshold of each group, or why there is none; empty where a cut is tested.
    thresholds: Vec<Result<f64, String>>,
    /// `[slot * groups + group]`: what passed, and what failed.
    loads: Vec<(Load, Load)>,
}

impl Efficiency {
    fn testing(&self, schema: &Schema, rows: Option<u64>) -> Result<Testing, Vec<Problem>> {
        let mut problems = Vec::new();
        let binning = gather(Binning::plan(schema, self.by.as_ref(), 2), &mut problems);
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let level = self.level.as_ref().map_or(ONE_SIGMA, |level| level.value);
        if let Some(word) = self.level.as_ref().filter(|level| !(level.value > 0.0 && level.value < 1.0)) {
            let problem = Problem::at(word, format!("{level} is no confidence level between 0 and 1"));
            problems.push(problem.help(if level > 1.0 && level < 100.0 {
                format!("for {level} % write {}", level / 100.0)
            } else {
                "0.95".into()
            }));
        }
        let of = match (&self.cut, &self.cuts, &self.scores) {
            (Some(cut), None, None) => self.cuts(schema, binning.clone(), &[(cut.value.clone(), cut)], &mut problems),
            (None, Some(cuts), None) => {
                if cuts.is_empty() {
                    problems.push(Problem::at(cuts, "`cuts` names no cut").help("cuts: { tight: p_electron > 0.9 }"));
                }
                let cuts: Vec<_> = cuts.value.iter().map(|(name, cut)| (name.value.clone(), cut)).collect();
                self.cuts(schema, binning.clone(), &cuts, &mut problems)
            }
            (None, None, Some(scores)) => self.points(schema, (binning.clone(), rows), scores, &mut problems),
            (cut, cuts, _) => {
                let places = [cut.as_ref().map(|word| word.place), cuts.as_ref().map(|word| word.place)];
                let at = Placed { value: (), place: places.into_iter().flatten().max().unwrap_or_default() };
                let problem = Problem::at(&at, "an efficiency is either of a `cut`, of `cuts`, or of `scores`");
                problems.push(problem.help("cut: p_electron > 0.5"));
                None
            }
        };
        let (Some(of), Some(binning), true) = (of, binning, problems.is_empty()) else { return Err(problems) };
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        let table = Arc::new(telling::table_schema(&of, &binning, weight.is_some()));
        Ok(Testing { of, method: self.interval, level, weight, schema: table })
    }

    fn cuts(
        &self,
        schema: &Schema,
        binning: Option<Binning>,
        cuts: &[(String, &Placed<String>)],
        problems: &mut Vec<Problem>,
    ) -> Option<Of> {
        let groups = gather(Groups::plan(schema, self.for_each.as_ref(), self.regions.as_ref()), problems);
        if let (Some(groups), Some(binning)) = (&groups, &binning) {
            gather(groups.binned(binning, cuts.len(), self.by.as_ref()), problems);
        }
        for words in [&self.at.background_efficiency, &self.at.signal_efficiency].into_iter().flatten() {
            problems
                .push(Problem::at(words, "a cut has no working points").help("they are of `scores`: { electron: p_electron }"));
        }
        if let Some(word) = &self.precision {
            problems.push(Problem::at(word, "a cut has no precision").help("leave it out"));
        }
        let cut = |(name, text): &(String, &Placed<String>)| {
            Some((name.clone(), gather(Expression::condition(text, schema), problems)?))
        };
        let cuts: Vec<_> = cuts.iter().filter_map(cut).collect();
        let mut cuts = Cuts { cuts, groups: groups?, binning: binning?, numbers: Vec::new(), slots: Vec::new() };
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        cuts.groups = cuts.groups.clone().carrying(cuts.reads().into_iter().chain(weight));
        Some(Of::Cuts(cuts))
    }

    fn points(
        &self,
        schema: &Schema,
        (binning, rows): (Option<Binning>, Option<u64>),
        scores: &Placed<BTreeMap<Placed<String>, Placed<String>>>,
        problems: &mut Vec<Problem>,
    ) -> Option<Of> {
        let mut others = self.for_each.clone().unwrap_or_default();
        let is_sample = |told: &Told| told.column.value == column::SAMPLE && told.values.is_none();
        let sample = others.0.iter().find(|told| is_sample(told)).map(|told| told.column.clone());
        let sample = sample.unwrap_or_else(|| Placed::unplaced(column::SAMPLE.to_owned()));
        others.0.retain(|told| !is_sample(told));
        let classes = gather(Classes::plan(schema, Some(&sample)), problems);
        let groups = gather(Groups::plan(schema, Some(&others), self.regions.as_ref()), problems);
        if let (Some(groups), Some(binning)) = (&groups, &binning) {
            gather(groups.binned(binning, scores.len(), self.by.as_ref()), problems);
        }
        if scores.is_empty() {
            problems.push(Problem::at(scores, "`scores` names no class").help("scores: { electron: p_electron }"));
        }
        let points = gather(self.at.plan(), problems);
        if points.as_ref().is_some_and(Vec::is_empty) {
            problems.push(Problem::at(scores, "scores without a working point").help("at: { signal_efficiency: 0.9 }"));
        }
        let precision = gather(Precision::plan(self.precision.as_ref(), scores.values(), schema, rows), problems);
        let (mut signals, mut scored) = (Vec::new(), Vec::new());
        for (class, score) in &scores.value {
            gather(column::number(schema, score), problems);
            let Some(classes) = &classes else { continue };
            let Some(number) = gather(classes.number(class), problems) else { continue };
            signals.push((class.value.clone(), number));
            scored.push(Scored { column: score.value.clone(), sides: (0..classes.names.len()).map(Some).collect() });
        }
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        let (classes, groups) = (classes?, groups?);
        let told = Box::new(groups.clone().and(&classes));
        let counter = Counter::new((classes, groups, binning?), scored, weight, precision?, (0, 0));
        Some(Of::Points { counter: Box::new(counter), told, signals, points: points? })
    }
}

impl Efficiency {
    /// The same with the weights that it takes where it is told none.
    fn weighed(&self, schema: &Schema) -> Self {
        Self { weight: weights::of(schema, self.weight.as_ref()), ..self.clone() }
    }
}

impl Operator for Efficiency {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let this = self.weighed(one_input(inputs)?);
        let testing = this.testing(one_input(inputs)?, inputs[0].rows)?;
        let (reads, bytes) = match &testing.of {
            Of::Cuts(cuts) => (cuts.reads(), (cuts.keys() * if this.weight.is_some() { 8 + 2 * 112 } else { 8 }) as u64),
            Of::Points { counter, .. } => (counter.reads(), counter.layout.bytes(inputs[0].rows)),
        };
        let reads = Reads::Columns(reads.into_iter().chain(testing.weight.clone()).collect());
        let rows = testing.of.tests() * testing.of.groups().len() * (1 + testing.of.binning().len());
        let planned = Planned::new(Shape::Fold, vec![table(testing.schema, rows)]).reading(reads).holding(bytes);
        Ok(Planned { survey: populations::reads(self.by.as_ref()), ..planned })
    }

    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        Ok(populations::survey(self.by.as_ref()))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("an efficiency of one input"))?;
        let by = populations::settled(self.by.as_ref(), at.runtime.surveyed.as_ref())?;
        let this = Self { by, ..self.clone() }.weighed(schema);
        let testing = this.testing(schema, at.inputs[0].rows);
        Ok(Work::Fold(Box::new(testing.map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?)))
    }
}

impl Of {
    fn groups(&self) -> &Groups {
        match self {
            Self::Cuts(cuts) => &cuts.groups,
            Self::Points { told, .. } => told,
        }
    }

    fn binning(&self) -> &Binning {
        match self {
            Self::Cuts(cuts) => &cuts.binning,
            Self::Points { counter, .. } => &counter.binning,
        }
    }

    /// How many things are tested.
    fn tests(&self) -> usize {
        match self {
            Self::Cuts(cuts) => cuts.cuts.len(),
            Self::Points { signals, points, .. } => signals.len() * points.len(),
        }
    }

    /// What came of each test.
    fn tested(&self, sums: &Sums, weighted: bool) -> Vec<Tested> {
        match self {
            Self::Cuts(cuts) => cuts.tested(sums, weighted),
            Self::Points { counter, signals, points, .. } => {
                let counted = Counted::of(&counter.layout, sums);
                let tests = signals
                    .iter()
                    .enumerate()
                    .flat_map(|(score, signal)| points.iter().map(move |fixed| (score, signal, *fixed)));
                tests.map(|(score, (name, class), fixed)| at_point(counter, &counted, (score, name, *class), fixed)).collect()
            }
        }
    }
}

/// Where a working point of a score is in each group, and what passes it.
fn at_point(counter: &Counter, counted: &Counted, (score, name, class): (usize, &str, usize), fixed: Fixed) -> Tested {
    let (classes, groups, bins) = (counter.classes.names.len(), counter.groups.len(), counter.binning.slots());
    let cuts: Vec<Result<u64, String>> =
        (0..groups).map(|group| lowest(counter, counted, (group, score, class), fixed)).collect();
    let load = |slot: usize, group: usize, class: usize| {
        let lowest = cuts[group].as_ref().map_or(u64::MAX, |lowest| *lowest);
        let (mut passed, mut failed) = (Load::default(), Load::default());
        let place = counter.layout.group(counter.slots(group).start + slot, score, class);
        for (rung, load) in counted.on_rungs([place].into_iter()) {
            if rung >= lowest { &mut passed } else { &mut failed }.plus(load);
        }
        (passed, failed)
    };
    let told = (0..groups).flat_map(|group| (0..classes).map(move |class| (group, class)));
    let loads = (0..bins).flat_map(|slot| told.clone().map(move |(group, class)| (slot, group, class)));
    let loads = loads.map(|(slot, group, class)| load(slot, group, class)).collect();
    let bound = |lowest: u64| counter.layout.bounds(lowest.min(counter.layout.ladder.rungs() - 1)).0;
    let thresholds = cuts.iter().flat_map(|cut| vec![cut.clone().map(bound); classes]).collect();
    Tested { name: name.to_owned(), fixed: Some(fixed), thresholds, loads }
}

/// The lowest rung that passes a working point in a group; why there is none.
fn lowest(
    counter: &Counter,
    counted: &Counted,
    (group, score, class): (usize, usize, usize),
    fixed: Fixed,
) -> Result<u64, String> {
    let of = |classes: &[usize]| {
        let slots = counter.slots(group);
        counted.on_rungs(slots.flat_map(|slot| classes.iter().map(move |class| counter.layout.group(slot, score, *class))))
    };
    let others: Vec<usize> = (0..counter.classes.names.len()).filter(|other| *other != class).collect();
    let (fixes, what) = match fixed {
        Fixed::Signal(_) => (of(&[class]), "signal"),
        Fixed::Background(_) => (of(&others), "background"),
    };
    let all: f64 = fixes.iter().map(|(_, load)| load.w).sum();
    // Down the rungs: the first at which the signal reaches its efficiency, the last at which the background keeps within its own.
    let (mut above, mut lowest) = (0.0, None);
    for (rung, load) in fixes.iter().rev() {
        above += load.w / all;
        match fixed {
            Fixed::Signal(target) if above >= target * (1.0 - 1e-12) => {
                lowest = Some(*rung);
                break;
            }
            Fixed::Background(target) if above > target * (1.0 + 1e-12) => {
                lowest = Some(rung + 1);
                break;
            }
            _ => {}
        }
    }
    lowest.filter(|_| all > 0.0).ok_or_else(|| {
        if fixes.is_empty() {
            format!("no {what}, so no working point")
        } else {
            format!("the weights of the {what} make no working point")
        }
    })
}

impl Cuts {
    fn reads(&self) -> BTreeSet<String> {
        let cuts = self.cuts.iter().flat_map(|(_, cut)| cut.columns());
        cuts.chain(self.binning.names()).chain(self.groups.reads()).collect()
    }

    /// The slots of all groups.
    fn places(&self) -> usize {
        self.binning.slots() * self.groups.len()
    }

    /// Passed and failed, of each group and cut; behind them, for each cut, rows for which it is unknown; rows without a weight.
    fn keys(&self) -> usize {
        2 * self.places() * self.cuts.len()
    }

    fn unknown(&self, cut: usize) -> usize {
        self.keys() + cut
    }

    fn unweighable(&self) -> usize {
        self.keys() + self.cuts.len()
    }

    fn add(&mut self, batch: &RecordBatch, weight: Option<&String>, into: &mut Sums) -> Result<(), Fault> {
        let batch = &*self.groups.enter(batch, &mut self.numbers, into)?;
        self.binning.numbers(batch, &mut self.slots)?;
        let weights = weight.map(|weight| column::floats(batch, weight)).transpose()?;
        let finite = |row: usize| weights.as_ref().is_none_or(|weights| weights[row].is_finite());
        let (keys, groups) = (self.keys(), self.groups.len());
        let (counts, sums) = into.dense(self.unweighable() + 1, if weights.is_some() { 2 * keys } else { 0 });
        counts[self.unweighable()] += (0..batch.num_rows()).filter(|row| !finite(*row)).count() as i64;
        for (cut, (_, condition)) in self.cuts.iter().enumerate() {
            let passes = condition.evaluate(batch)?;
            let known = passes.logical_nulls();
            let passes = passes.as_boolean();
            for (row, (group, slot)) in self.numbers.iter().zip(&self.slots).enumerate().filter(|(row, _)| finite(*row)) {
                let known = known.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                counts[self.unknown(cut)] += i64::from(!known);
                let place = *slot as usize * groups + *group as usize;
                let key = 2 * (cut * self.places() + place) + usize::from(!(known && passes.value(row)));
                counts[key] += 1;
                if let Some(weights) = &weights {
                    sums[2 * key].add(weights[row]);
                    sums[2 * key + 1].add(weights[row] * weights[row]);
                }
            }
        }
        Ok(())
    }

    fn tested(&self, sums: &Sums, weighted: bool) -> Vec<Tested> {
        let load = |key: usize| {
            let (key, n) = (key as u64, sums.count(key as u64));
            let (w, w2) = if weighted { (sums.sum(2 * key), sums.sum(2 * key + 1)) } else { (n as f64, n as f64) };
            Load { n, w, w2 }
        };
        let tested = |(cut, (name, _)): (usize, &(String, Expression))| {
            let both = |place: usize| {
                let key = 2 * (cut * self.places() + place);
                (load(key), load(key + 1))
            };
            let loads = (0..self.places()).map(both).collect();
            Tested { name: name.clone(), fixed: None, thresholds: Vec::new(), loads }
        };
        self.cuts.iter().enumerate().map(tested).collect()
    }
}

#[cfg(test)]
mod tests;
