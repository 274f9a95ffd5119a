//! ROC curves and the areas under them, one class against all others, also in bins of a column.
//!
//! What is summed: for each bin, each score and each true class, how many rows (and which weights: w, w^2) stand on each
//! rung of a [ladder](crate::ladder). A class is the signal of its own score and background to all others. Key of a rung:
//! `((bin * scores + score) * classes + class) * rungs + rung`; behind all of these, how many rows of each group had a score
//! or weight that is not finite.

use crate::auc::{Auc, Load, Rung, thinned};
use crate::axis::{Axis, AxisWords};
use crate::column;
use crate::figure::{Content, Curve, Figure, Point, Summary};
use crate::folding::{Classes, gather, one_input, table};
use crate::ladder::{Ladder, MOST_STEPS};
use crate::registry::Describe;
use crate::sums::Sums;
use crate::work::Fold;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rungs in an octave where nothing is said.
const STEPS: u32 = 256;

/// ROC curves and the areas under them, one class against all others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roc {
    /// The score column of each class that is to be told from the others: `{ electron: p_electron, pion: p_pion }`.
    pub scores: Placed<BTreeMap<Placed<String>, Placed<String>>>,
    /// The column of the true class.
    #[serde(default = "sample")]
    pub truth: Placed<String>,
    /// A column to bin in, with its bins, for the areas in each bin: `{ energy: { range: [10, 510], bins: 10 } }`.
    #[serde(default)]
    pub by: Option<Placed<BTreeMap<Placed<String>, AxisWords>>>,
    /// Rungs of the ladder of scores in an octave (a factor of two of the score, or of 1 - score above one half). The error
    /// that this causes is printed with every area.
    #[serde(default)]
    pub precision: Option<Placed<u32>>,
    /// The column of weights; without it every row counts 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
}

fn sample() -> Placed<String> {
    Placed::unplaced(column::SAMPLE.to_owned())
}

impl Describe for Roc {
    const ABOUT: &'static str = "Gives ROC curves and the areas under them, one class against all others";
    const EXAMPLE: &'static str = "\
separation:
  from: predicted
  roc:
    scores: { electron: p_electron, pion: p_pion }
    by: { energy: { range: [10, 510], bins: 10 } }
";
}

/// A `roc` whose words were found right.
#[derive(Debug)]
struct Scoring {
    /// Class number and column of each score.
    scores: Vec<(usize, String)>,
    classes: Classes,
    bins: Option<Bins>,
    ladder: Ladder,
    weight: Option<String>,
    schema: Arc<Schema>,
    numbers: Vec<u32>,
    slots: Vec<u32>,
}

#[derive(Debug)]
struct Bins {
    column: String,
    label: String,
    axis: Axis,
}

impl Roc {
    fn scoring(&self, schema: &Schema) -> Result<Scoring, Vec<Problem>> {
        let mut problems = Vec::new();
        let classes = gather(Classes::plan(schema, Some(&self.truth)), &mut problems);
        let mut scores = Vec::new();
        if self.scores.is_empty() {
            problems.push(Problem::at(&self.scores, "`scores` names no class").help("scores: { electron: p_electron }"));
        }
        for (class, score) in &self.scores.value {
            gather(column::number(schema, score), &mut problems);
            let Some(classes) = &classes else { continue };
            match classes.names.iter().position(|name| *name == class.value) {
                Some(number) => scores.push((number, score.value.clone())),
                None => {
                    let problem = Problem::at(class, format!("no sample `{}`", class.value));
                    problems.push(problem.suggest(class, classes.names.iter().map(String::as_str)));
                }
            }
        }
        let mut bins = None;
        if let Some(by) = &self.by {
            match by.value.iter().next() {
                Some((name, words)) if by.len() == 1 => {
                    gather(column::number(schema, name), &mut problems);
                    let axis = gather(Axis::plan(name, words), &mut problems);
                    bins = axis.map(|axis| Bins { column: name.value.clone(), label: column::label(schema, name), axis });
                }
                _ => {
                    let problem = Problem::at(by, format!("`by` takes one column, not {}", by.len()));
                    problems.push(problem.help("by: { energy: { range: [10, 510], bins: 10 } }"));
                }
            }
        }
        if let Some(steps) = self.precision.as_ref().filter(|steps| steps.value == 0 || steps.value > MOST_STEPS) {
            problems
                .push(Problem::at(steps, format!("{} rungs in an octave", steps.value)).help(format!("give 1 to {MOST_STEPS}")));
        }
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let Some(classes) = classes.filter(|_| problems.is_empty()) else { return Err(problems) };
        let ladder = Ladder::new(self.precision.as_ref().map_or(STEPS, |steps| steps.value));
        let table = Arc::new(table_schema(schema, bins.as_ref()));
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        Ok(Scoring { scores, classes, bins, ladder, weight, schema: table, numbers: Vec::new(), slots: Vec::new() })
    }
}

fn table_schema(input: &Schema, bins: Option<&Bins>) -> Schema {
    let mut fields = vec![Field::new("class", DataType::Utf8, false)];
    if let Some(Bins { column, .. }) = bins {
        let unit = input.field_with_name(column).ok().and_then(column::unit);
        let edge = |edge: &str| column::with_unit(Field::new(format!("{column}_{edge}"), DataType::Float64, true), unit);
        fields.extend(["low", "high"].map(edge));
    }
    fields.extend(["signal", "background"].map(|name| Field::new(name, DataType::Int64, false)));
    fields.extend(["auc", "auc_error", "ladder_error"].map(|name| Field::new(name, DataType::Float64, true)));
    Schema::new(fields)
}

impl Operator for Roc {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let scoring = self.scoring(one_input(inputs)?)?;
        let scores = scoring.scores.iter().map(|(_, column)| column.clone());
        let by = scoring.bins.as_ref().map(|bins| bins.column.clone());
        let reads = Reads::columns(scores.chain(scoring.classes.column.clone()).chain(by).chain(scoring.weight.clone()));
        let rows = scoring.scores.len() * (1 + scoring.bins.as_ref().map_or(0, |bins| bins.axis.bins()));
        // Scores of a network spread over some forty octaves at most.
        let rungs = scoring.groups() * 40 * u64::from(self.precision.as_ref().map_or(STEPS, |steps| steps.value));
        let bytes = rungs * if scoring.weight.is_some() { 256 } else { 24 };
        Ok(Planned::new(Shape::Fold, vec![table(scoring.schema, rows)]).reading(reads).holding(bytes))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a roc of one input"))?;
        let scoring = self.scoring(schema).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        Ok(Work::Fold(Box::new(scoring)))
    }
}

impl Scoring {
    /// Bins with their flow; 1 where there are none.
    fn all_slots(&self) -> usize {
        self.bins.as_ref().map_or(1, |bins| bins.axis.slots())
    }

    fn groups(&self) -> u64 {
        (self.all_slots() * self.scores.len() * self.classes.names.len()) as u64
    }

    fn group(&self, slot: usize, score: usize, class: usize) -> u64 {
        ((slot * self.scores.len() + score) * self.classes.names.len() + class) as u64
    }

    /// Where the rows of a group are counted whose score or weight is not finite.
    fn odd(&self, group: u64) -> u64 {
        self.groups() * self.ladder.rungs() + group
    }
}

impl Fold for Scoring {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.classes.numbers(batch, &mut self.numbers)?;
        self.slots.clear();
        self.slots.resize(batch.num_rows(), 0);
        if let Some(Bins { column, axis, .. }) = &self.bins {
            axis.refine(&column::floats(batch, column)?, &mut self.slots);
        }
        let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
        for (number, (_, column)) in self.scores.iter().enumerate() {
            let scores = column::floats(batch, column)?;
            for (row, score) in scores.iter().enumerate() {
                let group = self.group(self.slots[row] as usize, number, self.numbers[row] as usize);
                let weight = weights.as_ref().map(|weights| weights[row]);
                if !score.is_finite() || weight.is_some_and(|w| !w.is_finite()) {
                    into.tally(self.odd(group), 1);
                    continue;
                }
                let key = group * self.ladder.rungs() + self.ladder.rung(*score);
                into.tally(key, 1);
                if let Some(w) = weight {
                    into.add(2 * key, w);
                    into.add(2 * key + 1, w * w);
                }
            }
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let loads = Loads::of(self, sums);
        let everywhere: Vec<usize> = (0..self.all_slots()).collect();
        let whole: Vec<Area> = (0..self.scores.len()).map(|score| loads.area(self, score, &everywhere)).collect();
        let bins = self.bins.as_ref().map_or(0, |bins| bins.axis.bins());
        let in_bins: Vec<Vec<Area>> =
            (0..self.scores.len()).map(|score| (1..=bins).map(|slot| loads.area(self, score, &[slot])).collect()).collect();
        let mut figures = vec![self.curves(&whole)];
        figures.extend(self.bins.as_ref().map(|bins| self.against(bins, &in_bins)));
        Ok(Summary {
            table: self.table(&whole, &in_bins)?,
            histograms: Vec::new(),
            figures,
            highlights: self.highlights(&whole),
            remarks: self.remarks(sums),
        })
    }
}

/// The area of a score, or, where there is none, how many rows there are of signal and of background.
struct Area {
    signal: i64,
    background: i64,
    auc: Option<Auc>,
}

/// What stands on the rungs, by ascending key.
struct Loads {
    rungs: Vec<(u64, Load)>,
}

impl Loads {
    fn of(scoring: &Scoring, sums: &Sums) -> Self {
        let weighted: BTreeMap<u64, f64> = sums.sums().into_iter().collect();
        let load = |(key, n): (u64, i64)| {
            let sum = |key: u64| weighted.get(&key).copied().unwrap_or_default();
            let (w, w2) = if scoring.weight.is_some() { (sum(2 * key), sum(2 * key + 1)) } else { (n as f64, n as f64) };
            (key, Load { n, w, w2 })
        };
        let end = scoring.groups() * scoring.ladder.rungs();
        Self { rungs: sums.counts().into_iter().filter(|(key, _)| *key < end).map(load).collect() }
    }

    fn area(&self, scoring: &Scoring, score: usize, slots: &[usize]) -> Area {
        let mut rungs: BTreeMap<u64, Rung> = BTreeMap::new();
        let length = scoring.ladder.rungs();
        for (slot, class) in slots.iter().flat_map(|slot| (0..scoring.classes.names.len()).map(move |class| (*slot, class))) {
            let first = scoring.group(slot, score, class) * length;
            let from = self.rungs.partition_point(|(key, _)| *key < first);
            for (key, load) in self.rungs[from..].iter().take_while(|(key, _)| *key < first + length) {
                let number = key - first;
                let rung = rungs.entry(number).or_insert(Rung { exact: scoring.ladder.is_exact(number), ..Rung::default() });
                if class == scoring.scores[score].0 { &mut rung.signal } else { &mut rung.background }.plus(*load);
            }
        }
        let rungs: Vec<Rung> = rungs.into_values().collect();
        let count = |of: fn(&Rung) -> Load| rungs.iter().map(|rung| of(rung).n).sum();
        Area { signal: count(|r| r.signal), background: count(|r| r.background), auc: Auc::of(&rungs) }
    }
}

impl Scoring {
    fn class(&self, score: usize) -> &str {
        &self.classes.names[self.scores[score].0]
    }

    fn table(&self, whole: &[Area], in_bins: &[Vec<Area>]) -> anyhow::Result<RecordBatch> {
        let edges = self.bins.as_ref().map(|bins| bins.axis.edges()).unwrap_or_default();
        let mut rows: Vec<(usize, Option<usize>, &Area)> = Vec::new();
        for (score, area) in whole.iter().enumerate() {
            rows.push((score, None, area));
            rows.extend(in_bins[score].iter().enumerate().map(|(bin, area)| (score, Some(bin), area)));
        }
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from_iter_values(rows.iter().map(|(score, ..)| self.class(*score))))];
        if self.bins.is_some() {
            for side in 0..2 {
                columns.push(Arc::new(rows.iter().map(|(_, bin, _)| Some(edges[(*bin)? + side])).collect::<Float64Array>()));
            }
        }
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(.., area)| area.signal))));
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(.., area)| area.background))));
        let value = |f: fn(&Auc) -> Option<f64>| -> ArrayRef {
            Arc::new(rows.iter().map(|(.., area)| area.auc.as_ref().and_then(f)).collect::<Float64Array>())
        };
        columns.push(value(|auc| Some(auc.value)));
        columns.push(value(|auc| auc.error));
        columns.push(value(|auc| Some(auc.ladder_error)));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn curves(&self, whole: &[Area]) -> Figure {
        let curve = |(score, area): (usize, &Area)| {
            let auc = area.auc.as_ref()?;
            let label = format!("{} (AUC {})", self.class(score), words::significant(auc.value, 4));
            Some(Curve { label, points: Vec::new(), line: thinned(&auc.curve, 1.0 / 512.0) })
        };
        Figure {
            name: "roc".into(),
            title: "Each class against all others".into(),
            x: "background efficiency".into(),
            y: "signal efficiency".into(),
            content: Content::Curves { curves: whole.iter().enumerate().filter_map(curve).collect(), log_y: false },
        }
    }

    fn against(&self, bins: &Bins, in_bins: &[Vec<Area>]) -> Figure {
        let edges = bins.axis.edges();
        let curve = |(score, areas): (usize, &Vec<Area>)| {
            let point = |(pair, area): (&[f64], &Area)| {
                let auc = area.auc.as_ref()?;
                let (x, x_error) = (f64::midpoint(pair[0], pair[1]), (pair[1] - pair[0]) / 2.0);
                Some(Point { x, x_error, y: auc.value, y_error: auc.error.unwrap_or_default() })
            };
            let points = edges.windows(2).zip(areas).filter_map(point).collect();
            Curve { label: self.class(score).to_owned(), points, line: Vec::new() }
        };
        Figure {
            name: "auc".into(),
            title: format!("Area under the ROC curve against {}", bins.column),
            x: bins.label.clone(),
            y: "AUC".into(),
            content: Content::Curves { curves: in_bins.iter().enumerate().map(curve).collect(), log_y: false },
        }
    }

    fn highlights(&self, whole: &[Area]) -> Vec<Vec<String>> {
        let mut lines = vec![["class", "signal", "background", "AUC", "error of the ladder"].map(String::from).to_vec()];
        for (score, Area { signal, background, auc }) in whole.iter().enumerate() {
            let mut line = vec![self.class(score).to_owned(), signal.to_string(), background.to_string()];
            match auc {
                Some(auc) => line.extend([
                    words::with_error(auc.value, auc.error.unwrap_or(f64::NAN)),
                    format!("at most {}", words::significant(auc.ladder_error, 2)),
                ]),
                None => line.extend(["-", "-"].map(String::from)),
            }
            lines.push(line);
        }
        lines
    }

    fn remarks(&self, sums: &Sums) -> Vec<String> {
        let mut remarks = vec!["errors of areas are DeLong's (1988)".to_owned()];
        for (score, (_, column)) in self.scores.iter().enumerate() {
            let groups = (0..self.all_slots()).flat_map(|slot| (0..self.classes.names.len()).map(move |class| (slot, class)));
            let odd: i64 = groups.map(|(slot, class)| sums.count(self.odd(self.group(slot, score, class)))).sum();
            if odd != 0 {
                let what = self.weight.as_ref().map_or_else(|| column.clone(), |weight| format!("{column} or {weight}"));
                remarks.push(format!(
                    "{} with {what} NaN or infinite in no curve of {}",
                    words::counted(odd.unsigned_abs(), "row"),
                    self.class(score)
                ));
            }
        }
        remarks
    }
}

#[cfg(test)]
mod tests;
