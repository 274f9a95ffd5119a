//! ROC curves, the areas under them and their working points: one class against the others, one against one, or one signal
//! by several scores, also in bins of a column.
//!
//! * AUC: the chance that a signal outscores a background, ties one half (Mann-Whitney), for weighted rows by weight; its error
//!   is DeLong's where rows count 1 and the bootstrap's where they have weights (see [`crate::auc`], [`crate::bootstrap`]).
//! * Working points: signal efficiency at a fixed background efficiency, background rejection (1 / efficiency) at a fixed
//!   signal efficiency, with the cut that makes it and intervals (see [`crate::working_point`]; with weights, the
//!   bootstrap's standard error to both sides).
//! * Gain of one score over another: the difference of the areas, of the signal efficiencies (or rejections) at the same
//!   working point, and the relative increase, with errors from the paired bootstrap.
//!
//! What the precision of the ladder could change at most stands beside every number that is read from it.
//!
//! * [`counting`]: rows to sums. * [`measuring`]: sums to numbers. * [`telling`]: numbers to tables and plots.

mod counting;
mod measuring;
mod telling;

use crate::binning::{Binning, By};
use crate::bootstrap::{MOST_REPLICAS, REPLICAS};
use crate::column;
use crate::folding::{Classes, gather, one_input, table};
use crate::ladder::MOST_STEPS;
use crate::registry::Describe;
use crate::working_point::Fixed;
use crate::{Facts, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::datatypes::{DataType, Schema};
use counting::{Layout, Precision};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rungs in an octave where nothing is said.
const STEPS: u32 = 256;

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
    /// The column of weights; without it every row counts 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// Replicas of the bootstrap: 100 where there are weights or a gain, else 0. With 0, errors of weighted areas are DeLong's
    /// with effective counts.
    #[serde(default)]
    pub bootstrap: Option<Placed<u32>>,
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

/// Efficiencies that are held fixed, between 0 and 1.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkingPoints {
    /// Background efficiencies at which the signal efficiency is wanted.
    #[serde(default)]
    pub background_efficiency: Option<Placed<Numbers>>,
    /// Signal efficiencies at which the background efficiency and the rejection are wanted.
    #[serde(default)]
    pub signal_efficiency: Option<Placed<Numbers>>,
}

/// One number or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Numbers {
    /// One.
    One(f64),
    /// Several.
    Several(Vec<f64>),
}

impl WorkingPoints {
    /// The working points in order, or what is wrong with them.
    pub fn plan(&self) -> Result<Vec<Fixed>, Vec<Problem>> {
        let (mut points, mut problems) = (Vec::new(), Vec::new());
        let words = [(&self.background_efficiency, Fixed::Background as fn(f64) -> Fixed), (&self.signal_efficiency, Fixed::Signal)];
        for (words, fixed) in words {
            let Some(words) = words else { continue };
            let numbers = match &words.value {
                Numbers::One(number) => std::slice::from_ref(number),
                Numbers::Several(numbers) => numbers,
            };
            if numbers.is_empty() {
                problems.push(Problem::at(words, "no efficiency is given").help("[0.1, 0.2]"));
            }
            for number in numbers {
                if !(*number > 0.0 && *number < 1.0) {
                    let problem = Problem::at(words, format!("{number} is no efficiency between 0 and 1"));
                    problems.push(if *number > 1.0 && *number < 100.0 {
                        problem.help(format!("for {number} % write {}", number / 100.0))
                    } else {
                        problem
                    });
                } else if points.contains(&fixed(*number)) {
                    problems.push(Problem::at(words, format!("{number} is given twice")));
                } else {
                    points.push(fixed(*number));
                }
            }
        }
        if problems.is_empty() { Ok(points) } else { Err(problems) }
    }
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

/// How fine a ladder is.
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
    classes: Classes,
    binning: Binning,
    points: Vec<Fixed>,
    /// Of which score over which, by number.
    gain: Option<(usize, usize)>,
    /// True where all scores look for the same class.
    one_signal: bool,
    weight: Option<String>,
    seed: u64,
    layout: Layout,
    schema: Arc<Schema>,
    hand: counting::Hand,
}

/// A score and what it looks for.
#[derive(Debug)]
struct Score {
    name: String,
    column: String,
    signal: usize,
    /// The side on which a class stands: the signal on 0; none where it takes no part.
    sides: Vec<Option<usize>>,
}

/// A score against some sides.
#[derive(Debug)]
struct Contest {
    score: usize,
    background: Vec<usize>,
    /// The only background, where each is by itself.
    against: Option<String>,
}

impl Roc {
    fn class(&self, classes: &Classes, word: &Placed<String>) -> Result<usize, Problem> {
        classes.names.iter().position(|name| *name == word.value).ok_or_else(|| {
            Problem::at(word, format!("no sample `{}`", word.value)).suggest(word, classes.names.iter().map(String::as_str))
        })
    }

    /// The scores with their signals, and what each is against.
    fn contests(&self, classes: &Classes, problems: &mut Vec<Problem>) -> (Vec<Score>, Vec<Contest>) {
        let signal = self.signal.as_ref().and_then(|word| gather(self.class(classes, word), problems));
        let mut backgrounds = Vec::new();
        if let Some(words) = &self.background {
            if words.is_empty() {
                problems.push(Problem::at(words, "`background` names no class").help("leave it out for all but the signal"));
            }
            for word in &words.value {
                let Some(class) = gather(self.class(classes, word), problems) else { continue };
                if Some(class) == signal {
                    problems.push(Problem::at(word, format!("`{}` is the signal", word.value)));
                } else if !backgrounds.contains(&class) {
                    backgrounds.push(class);
                }
            }
        } else {
            backgrounds.extend(0..classes.names.len());
        }
        let (mut scores, mut contests) = (Vec::new(), Vec::new());
        for (name, score) in &self.scores.value {
            let found = if self.signal.is_some() { signal } else { gather(self.class(classes, name), problems) };
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
            scores.push(Score { name: name.value.clone(), column: score.value.clone(), signal, sides });
            match self.against {
                Against::Rest => contests.push(Contest { score: score_number, background: vec![1], against: None }),
                Against::Each => contests.extend(against.iter().enumerate().map(|(number, class)| Contest {
                    score: score_number,
                    background: vec![1 + number],
                    against: Some(classes.names[*class].clone()),
                })),
            }
        }
        (scores, contests)
    }

    fn gain(&self, problems: &mut Vec<Problem>) -> Option<(usize, usize)> {
        let gain = self.gain.as_ref()?;
        if self.signal.is_none() {
            problems.push(Problem::at(gain, "a gain is of two scores for the same class").help("name the class: `signal: electron`"));
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

    fn precision(&self, schema: &Schema, rows: Option<u64>, problems: &mut Vec<Problem>) -> Precision {
        match self.precision.as_ref().map(|word| (word, word.value)) {
            None => Precision { steps: STEPS, exact: false },
            Some((word, PrecisionWord::Steps(steps))) => {
                if steps == 0 || steps > MOST_STEPS {
                    problems.push(Problem::at(word, format!("{steps} rungs in an octave")).help(format!("give 1 to {MOST_STEPS}")));
                }
                Precision { steps, exact: false }
            }
            Some((word, PrecisionWord::Exact(_))) => {
                for score in self.scores.values() {
                    let fits = |t: &DataType| matches!(t, DataType::Float16 | DataType::Float32 | DataType::Boolean);
                    if schema.field_with_name(score).is_ok_and(|field| !fits(field.data_type())) {
                        let problem = Problem::at(word, format!("`{}` is no float32, so its values cannot all be told apart", score.value));
                        problems.push(problem.help(format!("give a number of rungs, up to {MOST_STEPS}, or derive `cast({} as real)`", score.value)));
                    }
                }
                if rows.is_none() {
                    let problem = Problem::at(word, "how many rows come is not known before the run, so `exact` may not fit the memory");
                    problems.push(problem.help(format!("give a number of rungs in an octave, as `precision: {STEPS}`")));
                }
                Precision { steps: MOST_STEPS, exact: true }
            }
        }
    }

    /// How many replicas.
    fn replicas(&self, schema: &Schema, problems: &mut Vec<Problem>) -> u32 {
        let drawn = schema.field_with_name(column::EVENT).is_ok_and(|field| *field.data_type() == DataType::UInt64);
        let no_event = "the bootstrap draws events by the column `event`, which does not come here";
        let help = "keep it where columns are selected";
        match (&self.bootstrap, &self.gain) {
            (Some(word), _) if word.value > MOST_REPLICAS => {
                problems.push(Problem::at(word, format!("{} replicas", word.value)).help(format!("give up to {MOST_REPLICAS}; 100 know an error to 7 %")));
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
            (None, None) => if self.weight.is_some() && drawn { REPLICAS } else { 0 },
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
        let precision = self.precision(schema, rows, &mut problems);
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let replicas = self.replicas(schema, &mut problems);
        let (Some(classes), Some((scores, contests)), Some(binning), Some(points), true) =
            (classes, contests, binning, points, problems.is_empty())
        else {
            return Err(problems);
        };
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        let sides = scores.iter().flat_map(|score| &score.sides).flatten().max().map_or(1, |side| side + 1);
        let layout = Layout::new((binning.slots(), scores.len(), sides), precision, weight.is_some(), replicas);
        let one_signal = self.signal.is_some();
        let table = telling::table_schema(&binning, one_signal, self.against, !points.is_empty(), gain.is_some());
        let hand = counting::Hand::default();
        let schema = Arc::new(table);
        Ok(Scoring { scores, contests, classes, binning, points, gain, one_signal, weight, seed, layout, schema, hand })
    }
}

impl Operator for Roc {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let schema = one_input(inputs)?;
        let scoring = self.scoring(schema, inputs[0].rows, 0)?;
        let scores = scoring.scores.iter().map(|score| score.column.clone());
        let event = scoring.layout.replicas.as_ref().map(|_| column::EVENT.to_owned());
        let others = scoring.classes.column.clone().into_iter().chain(scoring.weight.clone()).chain(event);
        let reads = Reads::columns(scores.chain(scoring.binning.names()).chain(others));
        let rows = scoring.contests.len() * (1 + scoring.binning.len()) * scoring.points.len().max(1);
        let bytes = scoring.layout.bytes(inputs[0].rows);
        let mut planned = Planned::new(Shape::Fold, vec![table(scoring.schema, rows)]).reading(reads).holding(bytes);
        if self.weight.is_some() && self.bootstrap.is_none() && scoring.layout.replicas.is_none() {
            planned.remarks.push("no column `event` to draw from: errors of weighted areas are DeLong's with effective counts".into());
        }
        Ok(planned)
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a roc of one input"))?;
        let scoring = self.scoring(schema, at.inputs[0].rows, at.facts.seed);
        Ok(Work::Fold(Box::new(scoring.map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?)))
    }
}

#[cfg(test)]
mod tests;
