//! ROC curves, the areas under them and their working points: one class against the others, one against one, or one signal
//! by several scores, also in bins of a column.
//!
//! * AUC: the chance that a signal outscores a background, ties one half (Mann-Whitney), for weighted rows by weight; its error
//!   is DeLong's where rows count 1 and the bootstrap's where they have weights (see [`crate::statistics::auc`], [`crate::statistics::bootstrap`]).
//! * Working points: signal efficiency at a fixed background efficiency, background rejection (1 / efficiency) at a fixed
//!   signal efficiency, with the cut that makes it and intervals (see [`crate::statistics::working_point`]; with weights, the
//!   bootstrap's standard error to both sides).
//! * Gain of one score over another: the difference of the areas, of the signal efficiencies (or rejections) at the same
//!   working point, and the relative increase, with errors from the paired bootstrap.
//!
//! What the precision of the ladder could change at most stands beside every number that is read from it.
//!
//! [`crate::statistics::rungs`] makes sums of rows, [`measuring`] numbers of sums, [`telling`] tables and plots of numbers.

mod measuring;
mod telling;

use crate::column;
use crate::registry::Describe;
use crate::statistics::binning::{Binning, By};
use crate::statistics::bootstrap::{MOST_REPLICAS, REPLICAS};
use crate::statistics::folding::{Classes, gather, one_input, table};
use crate::statistics::for_each::{ForEach, Regions};
use crate::statistics::groups::Groups;
use crate::statistics::populations;
use crate::statistics::rungs::{Counter, Precision, PrecisionWord, Scored};
use crate::statistics::working_point::{Fixed, WorkingPoints};
use crate::weights;
use crate::work::Fold;
use crate::{Facts, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::datatypes::{DataType, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// ROC curves, areas and working points. Without `signal`, each score is that of a class, and the class is told from all others; with
/// `signal`, the scores are several ways to tell that one class from the others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roc {
    /// The score column of each class that is to be told from the others, `{ electron: p_electron, pion: p_pion }`; with
    /// `signal`, the score columns that are to be compared, by any names: `{ CNN: p_cnn, BDT: p_bdt }`.
    pub scores: Placed<BTreeMap<Placed<String>, Placed<String>>>,
    /// The column of the true class.
    #[serde(default = "sample")]
    pub truth: Placed<String>,
    /// The class that all scores look for.
    #[serde(default)]
    pub signal: Option<Placed<String>>,
    /// The classes that count as background; without it all but the signal.
    #[serde(default)]
    pub background: Option<Placed<Vec<Placed<String>>>>,
    /// `rest`: against all backgrounds together (one-vs-rest). `each`: against each background by itself (one-vs-one).
    #[serde(default)]
    pub against: Against,
    /// A column to bin in, with its bins, for all numbers in each bin: `{ energy: { range: [10, 510], bins: 10 } }`.
    #[serde(default)]
    pub by: Option<By>,
    /// The columns to tell rows apart by, each group with curves of its own: `converted`, or with the values that are told apart
    /// `{ layer: [1, 2, 3] }`, or several in a list.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, all: true }`. A row counts in every one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// Working points: `{ background_efficiency: [0.1, 0.2], signal_efficiency: 0.9 }`.
    #[serde(default)]
    pub at: WorkingPoints,
    /// The gain of one score over another, with its error from the paired bootstrap: `{ of: CNN, over: BDT }`. Needs `signal`.
    #[serde(default)]
    pub gain: Option<Placed<Gain>>,
    /// Rungs of the ladder of scores in an octave (a factor of two of the score, or of 1 - score above one half); 256 where
    /// nothing is said. `exact` tells all scores of a float32 column apart. The error that this causes is printed with every number.
    #[serde(default)]
    pub precision: Option<Placed<PrecisionWord>>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// Replicas of the bootstrap: 100 where there are weights or a gain, else 0. With 0, errors of weighted areas are DeLong's
    /// with effective counts. A hundred hold 0.6 MB for each bin, score, and signal or background; with weights 1.9 MB.
    #[serde(default)]
    pub bootstrap: Option<Placed<u32>>,
    /// Reproduces the numbers of an older code where they differ from the right ones, and says so.
    #[serde(default)]
    pub compat: Option<Placed<Compat>>,
}

/// Codes whose numbers can be reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// DLKit: numbers in bins are drawn at the lower edge of their bin.
    Dlkit,
    /// The CMS electron identification of 2018: the signal efficiency is that of the first point of scikit-learn's `roc_curve` whose
    /// background efficiency is above the one that is asked for, without an interval; none in bins of 10 rows or fewer.
    Eml,
}

/// What a signal is told from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// All backgrounds together.
    #[default]
    Rest,
    /// Each background by itself.
    Each,
}

/// Two scores to compare.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gain {
    /// The score that is hoped to be better.
    pub of: Placed<String>,
    /// The score that it is measured by.
    pub over: Placed<String>,
}

fn sample() -> Placed<String> {
    Placed::unplaced(column::SAMPLE.to_owned())
}

impl Describe for Roc {
    const ABOUT: &'static str = "Gives ROC curves, the areas under them, working points, and the gain of one score over another";
    const EXAMPLE: &'static str = "\
# One class against the others, in bins of energy. For one signal by two scores, and what the first gains over the second:
#   scores: { CNN: p_cnn, BDT: p_bdt }
#   signal: electron
#   gain: { of: CNN, over: BDT }
separation:
  from: predicted
  roc:
    scores: { electron: p_electron, pion: p_pion }
    by: { energy: { range: [10, 510], bins: 10 } }
    at: { background_efficiency: [0.1, 0.2], signal_efficiency: 0.9 }
";
}

/// A `roc` whose words were found right.
#[derive(Debug)]
struct Scoring {
    scores: Vec<Score>,
    contests: Vec<Contest>,
    counter: Counter,
    points: Vec<Fixed>,
    /// Of which score over which, by number.
    gain: Option<(usize, usize)>,
    /// True where all scores look for the same class.
    one_signal: bool,
    compat: Option<Compat>,
    schema: Arc<Schema>,
}

/// A score and what it looks for.
#[derive(Debug)]
struct Score {
    name: String,
    signal: usize,
}

/// A score against some sides; its signal stands on side 0.
#[derive(Debug)]
struct Contest {
    score: usize,
    background: Vec<usize>,
    /// The only background, where each is by itself.
    against: Option<String>,
}

impl Roc {
    /// The scores with their signals, and what each is against.
    fn contests(&self, classes: &Classes, problems: &mut Vec<Problem>) -> (Vec<Score>, Vec<Scored>, Vec<Contest>) {
        let signal = self.signal.as_ref().and_then(|word| gather(classes.number(word), problems));
        let mut backgrounds = Vec::new();
        if let Some(words) = &self.background {
            if words.is_empty() {
                problems.push(Problem::at(words, "`background` names no class").help("leave it out for all but the signal"));
            }
            for word in &words.value {
                let Some(class) = gather(classes.number(word), problems) else { continue };
                if Some(class) == signal {
                    problems.push(Problem::at(word, format!("`{}` is the signal", word.value)));
                } else if !backgrounds.contains(&class) {
                    backgrounds.push(class);
                }
            }
        } else {
            backgrounds.extend(0..classes.names.len());
        }
        let (mut scores, mut scored, mut contests) = (Vec::new(), Vec::new(), Vec::new());
        for (name, score) in &self.scores.value {
            let found = if self.signal.is_some() { signal } else { gather(classes.number(name), problems) };
            let Some(signal) = found else { continue };
            let against: Vec<usize> = backgrounds.iter().copied().filter(|class| *class != signal).collect();
            if against.is_empty() {
                problems.push(Problem::at(name, format!("`{}` is against no other class", classes.names[signal])));
            }
            let mut sides = vec![None; classes.names.len()];
            sides[signal] = Some(0);
            for (number, class) in against.iter().enumerate() {
                sides[*class] = Some(if self.against == Against::Each { 1 + number } else { 1 });
            }
            let score_number = scores.len();
            scores.push(Score { name: name.value.clone(), signal });
            scored.push(Scored { column: score.value.clone(), sides });
            match self.against {
                Against::Rest => contests.push(Contest { score: score_number, background: vec![1], against: None }),
                Against::Each => contests.extend(against.iter().enumerate().map(|(number, class)| Contest {
                    score: score_number,
                    background: vec![1 + number],
                    against: Some(classes.names[*class].clone()),
                })),
            }
        }
        (scores, scored, contests)
    }

    fn gain(&self, problems: &mut Vec<Problem>) -> Option<(usize, usize)> {
        let gain = self.gain.as_ref()?;
        if self.signal.is_none() {
            problems
                .push(Problem::at(gain, "a gain is of two scores for the same class").help("name the class: `signal: electron`"));
            return None;
        }
        let mut find = |word: &Placed<String>| {
            let found = self.scores.keys().position(|name| name.value == word.value);
            if found.is_none() {
                let problem = Problem::at(word, format!("no score `{}`", word.value));
                problems.push(problem.suggest(word, self.scores.keys().map(|name| name.value.as_str())));
            }
            found
        };
        let (of, over) = (find(&gain.of), find(&gain.over));
        if of.is_some() && of == over {
            problems.push(Problem::at(&gain.over, format!("`{}` has no gain over itself", gain.over.value)));
        }
        of.zip(over)
    }

    /// How many replicas.
    fn replicas(&self, schema: &Schema, problems: &mut Vec<Problem>) -> u32 {
        let drawn = schema.field_with_name(column::EVENT).is_ok_and(|field| *field.data_type() == DataType::UInt64);
        let no_event = "the bootstrap draws events by the column `event`, which does not come here";
        let help = "keep it where columns are selected";
        match (&self.bootstrap, &self.gain) {
            (Some(word), _) if word.value > MOST_REPLICAS => {
                problems.push(
                    Problem::at(word, format!("{} replicas", word.value))
                        .help(format!("give up to {MOST_REPLICAS}; 100 know an error to 7 %")),
                );
                0
            }
            (Some(word), _) => {
                if word.value == 1 {
                    problems.push(Problem::at(word, "1 replica has no spread").help("give 100, or 0 for none"));
                } else if word.value > 0 && !drawn {
                    problems.push(Problem::at(word, no_event).help(help));
                }
                word.value
            }
            (None, Some(gain)) => {
                if !drawn {
                    problems.push(Problem::at(gain, no_event).help(help));
                }
                REPLICAS
            }
            (None, None) => {
                if self.weight.is_some() && drawn {
                    REPLICAS
                } else {
                    0
                }
            }
        }
    }

    fn scoring(&self, schema: &Schema, rows: Option<u64>, seed: u64) -> Result<Scoring, Vec<Problem>> {
        let mut problems = Vec::new();
        let classes = gather(Classes::plan(schema, Some(&self.truth)), &mut problems);
        if self.scores.is_empty() {
            problems.push(Problem::at(&self.scores, "`scores` names no class").help("scores: { electron: p_electron }"));
        }
        for score in self.scores.values() {
            gather(column::number(schema, score), &mut problems);
        }
        let contests = classes.as_ref().map(|classes| self.contests(classes, &mut problems));
        let binning = gather(Binning::plan(schema, self.by.as_ref(), 1), &mut problems);
        let points = gather(self.at.plan(), &mut problems);
        let gain = self.gain(&mut problems);
        let precision = gather(Precision::plan(self.precision.as_ref(), self.scores.values(), schema, rows), &mut problems);
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let replicas = self.replicas(schema, &mut problems);
        let groups = Groups::beside(schema, self.for_each.as_ref(), self.regions.as_ref(), &self.truth);
        let groups = gather(groups, &mut problems);
        if let (Some(groups), Some(binning)) = (&groups, &binning) {
            gather(groups.binned(binning, self.scores.len(), self.by.as_ref()), &mut problems);
        }
        let (Some(classes), Some((scores, scored, contests)), Some(points), Some(precision), true) =
            (classes, contests, points, precision, problems.is_empty())
        else {
            return Err(problems);
        };
        let (Some(groups), Some(binning)) = (groups, binning) else {
            return Err(problems);
        };
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        let one_signal = self.signal.is_some();
        let table = telling::table_schema((&groups, &binning), one_signal, self.against, !points.is_empty(), gain.is_some());
        let counter = Counter::new((classes, groups, binning), scored, weight, precision, (replicas, seed));
        Ok(Scoring {
            scores,
            contests,
            counter,
            points,
            gain,
            one_signal,
            compat: self.compat.as_ref().map(|c| c.value),
            schema: Arc::new(table),
        })
    }
}

impl Roc {
    /// The same with the weights that it takes where it is told none.
    fn weighed(&self, schema: &Schema) -> Self {
        Self { weight: weights::of(schema, self.weight.as_ref()), ..self.clone() }
    }
}

impl Operator for Roc {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let this = self.weighed(one_input(inputs)?);
        let schema = one_input(inputs)?;
        let scoring = this.scoring(schema, inputs[0].rows, 0)?;
        let reads = Reads::Columns(scoring.counter.reads());
        let each = scoring.contests.len() * scoring.counter.groups.len();
        let rows = each * (1 + scoring.counter.binning.len()) * scoring.points.len().max(1);
        let bytes = scoring.counter.layout.bytes(inputs[0].rows);
        let mut planned = Planned::new(Shape::Fold, vec![table(scoring.schema, rows)]).reading(reads).holding(bytes);
        if this.weight.is_some() && this.bootstrap.is_none() && scoring.counter.layout.replicas.is_none() {
            planned
                .remarks
                .push("no column `event` to draw from: errors of weighted areas are DeLong's with effective counts".into());
        }
        planned.survey = populations::reads(self.by.as_ref());
        Ok(planned)
    }

    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        Ok(populations::survey(self.by.as_ref()))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a roc of one input"))?;
        let by = populations::settled(self.by.as_ref(), at.runtime.surveyed.as_ref())?;
        let this = Self { by, ..self.clone() }.weighed(schema);
        let scoring = this.scoring(schema, at.inputs[0].rows, at.facts.seed);
        Ok(Work::Fold(Box::new(scoring.map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?)))
    }
}

#[cfg(test)]
mod tests;
