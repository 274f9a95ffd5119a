//! Many models in one pass over the data: one row a model, chosen metrics as columns, sorted as asked.
//!
//! Each model is a [`Roc`] of its scores, an [`Efficiency`] of its cuts and a [`Resolution`] of its errors, with all their formulae; their
//! sums lie side by side, and their tables are where the metrics are read from ([`metric`]). So a number in the scan is the number that
//! the step by itself would give. [`scanning`] sums and puts the table together.

mod metric;
mod scanning;

use crate::column;
use crate::names::Names;
use crate::reduce::efficiency::Efficiency;
use crate::reduce::resolution::{FitWord, Resolution};
use crate::reduce::roc::{Against, Roc};
use crate::registry::Describe;
use crate::statistics::binning::{Binning, By};
use crate::statistics::bootstrap::REPLICAS;
use crate::statistics::folding::{one_input, table};
use crate::statistics::for_each::{ForEach, Regions};
use crate::statistics::groups::Groups;
use crate::statistics::interval::Method;
use crate::statistics::populations;
use crate::statistics::rungs::PrecisionWord;
use crate::statistics::working_point::WorkingPoints;
use crate::work::Fold;
use crate::{Facts, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::datatypes::{DataType, Field, Schema};
use metric::{Asked, Metric, Of, Part};
use scanning::Scanning;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// More models than these are taken for a mistake.
const MOST_MODELS: usize = 127;
/// What the keys of sums have room for.
const MOST_PARTS: usize = 255;
/// Rungs in an octave of errors.
const STEPS: u32 = 256;

/// One row a model, with chosen metrics as columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// The models by name, each with what it has predicted for the rows: `{ wide: { scores: { electron: p_wide }, values: { width: 32 } } }`.
    pub models: Placed<BTreeMap<Placed<String>, Model>>,
    /// The column of the true class.
    #[serde(default = "sample")]
    pub truth: Placed<String>,
    /// The columns to tell rows apart by, one row of the table for each model and group: `converted`, or with the values that are told
    /// apart `{ layer: [1, 2, 3] }`, or several in a list.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, all: true }`. A row counts in every one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// A column to bin in, with its bins, for a row of the table for each model in each bin: `{ energy: { range: [10, 510], bins: 10 } }`.
    #[serde(default)]
    pub by: Option<By>,
    /// Working points: `{ background_efficiency: 0.1, signal_efficiency: 0.9 }`.
    #[serde(default)]
    pub at: WorkingPoints,
    /// Also a Gaussian fitted to the errors within so many sigmas of its own mean on both sides, `2`: `core_mean` and `core_sigma`.
    #[serde(default)]
    pub core: Option<Placed<f64>>,
    /// The model whose errors those of all others are compared with, `bdt`: `reiqr`, 1 - eIQR / eIQR of this one, and `reiqr95` of the
    /// central 95 %, with their errors from the paired bootstrap.
    #[serde(default)]
    pub reference: Option<Placed<String>>,
    /// Replicas of the bootstrap, for the errors of `median`, `sigma68`, `half95` and `eiqr`: 100 with a `reference`, else 0. A hundred hold
    /// 0.6 MB for each model, group and bin; with weights 1.9 MB.
    #[serde(default)]
    pub bootstrap: Option<Placed<u32>>,
    /// A column with bins to fit sigma/E = a/sqrt(E) (+) b (+) c/E along, `{ energy: { range: [10, 510], bins: 10 } }`: `stochastic`,
    /// `constant` and `noise`, relative as the errors are.
    #[serde(default)]
    pub fit: Option<By>,
    /// The columns of the table in their order, all where nothing is said: the models' own `values`; `<class>_auc`,
    /// `<class>_signal_efficiency_at_0.1`, `<class>_rejection_at_0.9`; `<cut>_efficiency`; `bias`, `resolution`, `median`, `sigma68`,
    /// `half95`, `eiqr`; with a `reference`, `reiqr` and `reiqr95`; with a `core`, `core_mean` and `core_sigma`; with a `fit`, `stochastic`,
    /// `constant` and `noise`. Each has its error beside it.
    #[serde(default)]
    pub columns: Option<Placed<Vec<Placed<String>>>>,
    /// The columns to sort by, the first one first, with `-` in front for the largest first: `[-electron_auc, width]`.
    #[serde(default)]
    pub sort: Option<Names>,
    /// Rungs of the ladder of scores in an octave, 256 where nothing is said, or `exact` for float32 scores.
    #[serde(default)]
    pub precision: Option<Placed<PrecisionWord>>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
}

/// What a model has predicted.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The score column of each class that is to be told from the others.
    #[serde(default)]
    pub scores: Option<Placed<BTreeMap<Placed<String>, Placed<String>>>>,
    /// The column of its errors: `(energy - predicted) / energy`, say.
    #[serde(default)]
    pub errors: Option<Placed<String>>,
    /// Its cuts by name, each a SQL condition: `{ tight: p_wide > 0.9 }`.
    #[serde(default)]
    pub cuts: Option<Placed<BTreeMap<Placed<String>, Placed<String>>>>,
    /// What else is to stand in its row: `{ width: 32, depth: 2 }`.
    #[serde(default)]
    pub values: BTreeMap<String, Said>,
}

/// What somebody wants to stand in the table.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Said {
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
}

impl Model {
    /// The classes that it has scores of.
    fn classes(&self) -> impl Iterator<Item = &String> {
        self.scores.iter().flat_map(|scores| scores.keys()).map(|name| &name.value)
    }
}

fn sample() -> Placed<String> {
    Placed::unplaced(column::SAMPLE.to_owned())
}

impl Describe for Scan {
    const ABOUT: &'static str = "Compares many models in one pass: one row a model, chosen metrics as columns, sorted as asked";
    const EXAMPLE: &'static str = "\
models:
  from: predicted
  scan:
    models:
      wide: { scores: { electron: p_wide }, values: { width: 512, depth: 2 } }
      deep: { scores: { electron: p_deep }, values: { width: 32, depth: 8 } }
    columns: [width, depth, electron_auc]
    sort: [-electron_auc]
";
}

/// A `scan` whose words were found right, but for the work of its parts.
struct Planning {
    /// In the order in which they are written.
    models: Vec<String>,
    /// The number of a model, what the part is of it, and the step.
    parts: Vec<(usize, Part, Box<dyn Operator>)>,
    groups: Groups,
    binning: Binning,
    metrics: Vec<Metric>,
    sort: Vec<(usize, bool)>,
    schema: Arc<Schema>,
}

impl Scan {
    fn planning(&self, facts: &Facts, inputs: &[Output]) -> Result<(Planning, Vec<Planned>), Vec<Problem>> {
        let mut problems = Vec::new();
        if self.models.is_empty() || self.models.len() > MOST_MODELS {
            let what = format!("`models` takes 1 to {MOST_MODELS}, not {}", self.models.len());
            problems.push(Problem::at(&self.models, what).help("models: { wide: { scores: { electron: p_wide } } }"));
        }
        let mut models: Vec<(&Placed<String>, &Model)> = self.models.iter().collect();
        models.sort_by_key(|(name, _)| name.place);
        let reference = self.reference(&mut problems);
        if let (Some(fit), Some(_)) = (&self.fit, &self.by) {
            problems.push(
                Problem::at(fit, "a fit goes along its own bins, and `by` asks for a row in each of others")
                    .help("make two scans"),
            );
        } else if let Some(fit) = self.fit.as_ref().filter(|fit| fit.len() != 1) {
            problems
                .push(Problem::at(fit, "a fit goes along one column").help("fit: { energy: { range: [10, 510], bins: 10 } }"));
        }
        let (mut parts, mut planned) = (Vec::new(), Vec::new());
        for (model, (name, words)) in models.iter().enumerate() {
            if words.scores.is_none() && words.errors.is_none() && words.cuts.is_none() {
                problems.push(Problem::at(name, format!("`{}` has neither `scores` nor `errors` nor `cuts`", name.value)));
            }
            for (part, operator) in self.parts(words, reference) {
                match operator.plan(facts, inputs) {
                    Ok(part) => planned.push(part),
                    Err(found) => problems.extend(found.into_iter().filter(|new| !problems.contains(new)).collect::<Vec<_>>()),
                }
                parts.push((model, part, operator));
            }
        }
        if parts.len() > MOST_PARTS {
            let what = format!(
                "{} models make {} steps of scores, errors, fits and cuts, more than {MOST_PARTS}",
                models.len(),
                parts.len()
            );
            problems.push(Problem::at(&self.models, what).help("divide them among two scans"));
        }
        let points = self.at.plan().unwrap_or_default(); // each part has said what is wrong with it
        let asked = Asked {
            points: &points,
            core: self.core.is_some(),
            reference: reference.is_some(),
            fit: self.fit.is_some(),
            bootstrap: self.replicas().is_some_and(|n| n.value > 0),
        };
        let known = asked.metrics(&models);
        let mut metrics = Vec::new();
        match &self.columns {
            None => metrics.clone_from(&known),
            Some(columns) => {
                for word in &columns.value {
                    match known.iter().find(|metric| metric.name == word.value) {
                        Some(metric) if !metrics.contains(metric) => metrics.push(metric.clone()),
                        Some(_) => problems.push(Problem::at(word, format!("`{}` is given twice", word.value))),
                        None => {
                            let problem = Problem::at(word, format!("no metric `{}`", word.value));
                            problems.push(problem.suggest(word, known.iter().map(|metric| metric.name.as_str())));
                        }
                    }
                }
            }
        }
        let mut sort = Vec::new();
        for word in self.sort.iter().flat_map(|sort| &sort.words) {
            let name = word.strip_prefix('-').unwrap_or(word);
            match metrics.iter().position(|metric| metric.name == name) {
                Some(metric) => sort.push((metric, name.len() < word.len())),
                None => {
                    let problem = Problem::at(word, format!("no column `{name}` to sort by"));
                    problems.push(problem.suggest(name, metrics.iter().map(|metric| metric.name.as_str())));
                }
            }
        }
        let groups = Groups::plan(one_input(inputs)?, self.for_each.as_ref(), self.regions.as_ref());
        let binning = Binning::plan(one_input(inputs)?, self.by.as_ref(), 1);
        let (Ok(groups), Ok(binning), true) = (groups, binning, problems.is_empty()) else { return Err(problems) };
        let schema = Arc::new(table_schema(&groups, &binning, &metrics));
        let models = models.into_iter().map(|(name, _)| name.value.clone()).collect();
        Ok((Planning { models, parts, groups, binning, metrics, sort, schema }, planned))
    }

    /// The column of the errors that all others are compared with.
    fn reference(&self, problems: &mut Vec<Problem>) -> Option<&Placed<String>> {
        let word = self.reference.as_ref()?;
        let Some((_, model)) = self.models.iter().find(|(name, _)| name.value == word.value) else {
            let problem = Problem::at(word, format!("no model `{}`", word.value));
            problems.push(problem.suggest(word, self.models.keys().map(|name| name.value.as_str())));
            return None;
        };
        if model.errors.is_none() {
            problems.push(Problem::at(word, format!("`{}` has no `errors` to compare with", word.value)));
        }
        model.errors.as_ref()
    }

    /// The replicas of the bootstrap.
    fn replicas(&self) -> Option<Placed<u32>> {
        let of_reference = || self.reference.as_ref().map(|word| Placed { value: REPLICAS, place: word.place });
        self.bootstrap.clone().or_else(of_reference)
    }

    /// The steps that say something of a model.
    fn parts(&self, model: &Model, reference: Option<&Placed<String>>) -> Vec<(Part, Box<dyn Operator>)> {
        let mut parts: Vec<(Part, Box<dyn Operator>)> = Vec::new();
        if let Some(scores) = &model.scores {
            parts.push((Part::Scores, Box::new(self.roc(scores.clone()))));
        }
        if let Some(cuts) = &model.cuts {
            parts.push((Part::Cuts, Box::new(self.efficiency(cuts.clone()))));
        }
        if let Some(errors) = &model.errors {
            let reference = reference.filter(|reference| reference.value != errors.value);
            parts.push((Part::Errors(errors.value.clone()), Box::new(self.resolution(errors.clone(), reference.cloned()))));
            if let Some(by) = &self.fit {
                let fit = Some(Placed { value: FitWord::Calorimeter, place: by.place });
                let plain = Resolution { core: None, robust: None, bootstrap: None, ..self.resolution(errors.clone(), None) };
                parts.push((Part::Fit, Box::new(Resolution { by: Some(by.clone()), fit, ..plain })));
            }
        }
        parts
    }

    /// The bins that a survey may have to find.
    fn bins(&self) -> Option<&By> {
        self.by.as_ref().or(self.fit.as_ref())
    }

    fn efficiency(&self, cuts: Placed<BTreeMap<Placed<String>, Placed<String>>>) -> Efficiency {
        Efficiency {
            cut: None,
            cuts: Some(cuts),
            scores: None,
            at: WorkingPoints::default(),
            by: self.by.clone(),
            for_each: self.for_each.clone(),
            regions: self.regions.clone(),
            interval: Method::default(),
            level: None,
            precision: None,
            weight: self.weight.clone(),
        }
    }

    fn roc(&self, scores: Placed<BTreeMap<Placed<String>, Placed<String>>>) -> Roc {
        Roc {
            scores,
            truth: self.truth.clone(),
            signal: None,
            background: None,
            against: Against::Rest,
            by: self.by.clone(),
            for_each: self.for_each.clone(),
            regions: self.regions.clone(),
            at: self.at.clone(),
            gain: None,
            precision: self.precision.clone(),
            weight: self.weight.clone(),
            bootstrap: None,
            compat: None,
        }
    }

    fn resolution(&self, errors: Placed<String>, reference: Option<Placed<String>>) -> Resolution {
        Resolution {
            of: errors.into(),
            by: self.by.clone(),
            for_each: self.for_each.clone(),
            regions: self.regions.clone(),
            fit: None,
            along: None,
            weight: self.weight.clone(),
            robust: Some(Placed::unplaced(STEPS)),
            reference,
            ratio: None,
            core: self.core.clone(),
            bootstrap: self.replicas(),
            pivot: 0.0,
            compat: None,
        }
    }
}

fn table_schema(groups: &Groups, binning: &Binning, metrics: &[Metric]) -> Schema {
    let mut fields = vec![Field::new("model", DataType::Utf8, false)];
    fields.extend(groups.fields());
    fields.extend(binning.fields());
    for metric in metrics {
        if let Of::Values(cells) = &metric.of {
            let numbers = cells.iter().flatten().all(|cell| matches!(cell, Said::Number(_)));
            fields.push(Field::new(&metric.name, if numbers { DataType::Float64 } else { DataType::Utf8 }, true));
        } else {
            fields.push(Field::new(&metric.name, DataType::Float64, true));
            fields.extend(metric.error.then(|| Field::new(format!("{}_error", metric.name), DataType::Float64, true)));
            fields.extend(metric.climbs().then(|| Field::new(format!("{}_ladder_error", metric.name), DataType::Float64, true)));
        }
    }
    fields.push(Field::new("reason", DataType::Utf8, true));
    Schema::new_with_metadata(fields, groups.metadata())
}

impl Operator for Scan {
    fn plan(&self, facts: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        one_input(inputs)?;
        let (planning, parts) = self.planning(facts, inputs)?;
        let reads = parts.iter().flat_map(|part| &part.reads).flat_map(|reads| match reads {
            Reads::Columns(columns) => columns.iter().cloned().collect::<Vec<_>>(),
            Reads::All => Vec::new(),
        });
        let reads = Reads::columns(reads);
        let holds = parts.iter().map(|part| part.holds).sum();
        let rows = planning.models.len() * planning.groups.len() * planning.binning.len().max(1);
        let planned = Planned::new(Shape::Fold, vec![table(planning.schema, rows)]).reading(reads).holding(holds);
        Ok(Planned { survey: populations::reads(self.bins()), ..planned })
    }

    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        Ok(populations::survey(self.bins()))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let bins = populations::settled(self.bins(), at.runtime.surveyed.as_ref())?;
        let (by, fit) = if self.by.is_some() { (bins, None) } else { (None, bins) };
        let this = Self { by, fit, ..self.clone() };
        let (planning, _) = this.planning(at.facts, at.inputs).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        let mut folds = Vec::new();
        for (model, part, operator) in &planning.parts {
            let Work::Fold(fold) = operator.start(at)? else { anyhow::bail!("a part of a scan is no fold") };
            folds.push((*model, part.clone(), fold));
        }
        let Planning { models, groups, binning, metrics, sort, schema, .. } = planning;
        Ok(Work::Fold(Box::new(Scanning { models, groups, binning, metrics, sort, schema, folds })))
    }
}

#[cfg(test)]
mod tests;
