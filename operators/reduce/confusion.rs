//! The confusion matrix: what each true class is taken for, in counts and as shares of the class, also in bins.
//!
//! A row is taken for the class of its largest score (of equal ones the first, which is counted); with a `threshold`, only
//! where that score reaches it, else for `none`. A row with a NaN among its scores is taken for nothing and counted beside.
//! What is summed, by slot of the bins, true class and predicted class: rows, and w and w^2 where rows have weights. A share
//! is of all rows (or weights) of the true class in the bin, with its interval as in [`crate::statistics::interval`].

use crate::column;
use crate::registry::Describe;
use crate::statistics::auc::Load;
use crate::statistics::binning::{Binning, By, Cell};
use crate::statistics::figure::{Content, Curve, Figure, Point, Summary};
use crate::statistics::folding::{Classes, gather, one_input, table};
use crate::statistics::for_each::{ForEach, Regions};
use crate::statistics::groups::Groups;
use crate::statistics::interval::{Efficiency, Method, ONE_SIGMA};
use crate::statistics::populations;
use crate::statistics::sums::Sums;
use crate::weights;
use crate::work::Fold;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What a row is taken for that reaches no threshold.
const NONE: &str = "none";

/// What each true class is taken for: the class of the largest score.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confusion {
    /// The score column of each class: `{ electron: p_electron, pion: p_pion }`.
    pub scores: Placed<BTreeMap<Placed<String>, Placed<String>>>,
    /// What the largest score has to reach; rows below are taken for `none`. Needed where there is one score.
    #[serde(default)]
    pub threshold: Option<Placed<f64>>,
    /// The column of the true class.
    #[serde(default = "sample")]
    pub truth: Placed<String>,
    /// A column to bin in, with its bins, for a matrix in each bin: `{ energy: { range: [10, 510], bins: 10 } }`.
    #[serde(default)]
    pub by: Option<By>,
    /// The columns to tell rows apart by, each group with a matrix of its own: `converted`, or with the values that are told apart
    /// `{ layer: [1, 2, 3] }`, or several in a list.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, all: true }`. A row counts in every one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// How intervals are found: `clopper_pearson` (covers at least as often as it says), `wilson`, `jeffreys`.
    #[serde(default)]
    pub interval: Method,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
}

fn sample() -> Placed<String> {
    Placed::unplaced(column::SAMPLE.to_owned())
}

impl Describe for Confusion {
    const ABOUT: &'static str = "Gives the confusion matrix of a classifier, in counts and as shares of each true class";
    const EXAMPLE: &'static str = "\
# By the largest score. With `threshold: 0.5`, rows whose largest score is below it are taken for `none`.
confusion:
  from: predicted
  confusion:
    scores: { electron: p_electron, photon: p_photon, pion: p_pion }
";
}

/// A `confusion` whose words were found right.
#[derive(Debug)]
struct Judging {
    classes: Classes,
    groups: Groups,
    /// Class number and column of each score.
    scores: Vec<(usize, String)>,
    threshold: Option<f64>,
    binning: Binning,
    method: Method,
    weight: Option<String>,
    schema: Arc<Schema>,
    of_groups: Vec<u32>,
    numbers: Vec<u32>,
    slots: Vec<u32>,
}

impl Confusion {
    fn judging(&self, schema: &Schema) -> Result<Judging, Vec<Problem>> {
        let mut problems = Vec::new();
        let classes = gather(Classes::plan(schema, Some(&self.truth)), &mut problems);
        let binning = gather(Binning::plan(schema, self.by.as_ref(), 1), &mut problems);
        let mut scores = Vec::new();
        for (class, score) in &self.scores.value {
            gather(column::number(schema, score), &mut problems);
            let number = classes.as_ref().and_then(|classes| gather(classes.number(class), &mut problems));
            scores.extend(number.map(|number| (number, score.value.clone())));
        }
        // In the order of the classes, as the rows of the matrix are.
        scores.sort_unstable();
        match (self.scores.len(), &self.threshold) {
            (0, _) => {
                problems.push(Problem::at(&self.scores, "`scores` names no class").help("scores: { electron: p_electron }"));
            }
            (1, None) => {
                problems.push(
                    Problem::at(&self.scores, "one score is always the largest").help("give a `threshold`, or more scores"),
                );
            }
            (_, Some(threshold)) if !threshold.is_finite() => {
                problems.push(Problem::at(threshold, format!("the threshold {} is not finite", threshold.value)));
            }
            _ => {}
        }
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let groups = Groups::beside(schema, self.for_each.as_ref(), self.regions.as_ref(), &self.truth);
        let groups = gather(groups, &mut problems);
        if let (Some(groups), Some(binning), Some(classes)) = (&groups, &binning, &classes) {
            let fields = classes.names.len() * (scores.len() + 1);
            gather(groups.binned(binning, fields, self.by.as_ref()), &mut problems);
        }
        let (Some(classes), Some(groups), Some(binning), true) = (classes, groups, binning, problems.is_empty()) else {
            return Err(problems);
        };
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        let mut judging = Judging {
            schema: Arc::new(table_schema(&groups, &binning, weight.is_some())),
            threshold: self.threshold.as_ref().map(|t| t.value),
            method: self.interval,
            numbers: Vec::new(),
            slots: Vec::new(),
            of_groups: Vec::new(),
            classes,
            groups,
            scores,
            binning,
            weight,
        };
        judging.groups = judging.groups.clone().carrying(judging.reads());
        let schema = judging.schema.as_ref().clone().with_metadata(judging.metadata(&self.truth));
        judging.schema = Arc::new(schema);
        Ok(judging)
    }
}

fn table_schema(groups: &Groups, binning: &Binning, weighted: bool) -> Schema {
    let float = |name: &str, nullable| Field::new(name, DataType::Float64, nullable);
    let mut fields: Vec<Field> = groups.fields().collect();
    fields.extend(binning.fields());
    fields.extend(["truth", "predicted"].map(|name| Field::new(name, DataType::Utf8, false)));
    fields.push(Field::new("n", DataType::Int64, false));
    fields.extend(weighted.then(|| float("content", false)));
    fields.extend(["share", "share_low", "share_high"].map(|name| float(name, true)));
    fields.push(Field::new("reason", DataType::Utf8, true));
    Schema::new(fields)
}

impl Confusion {
    /// The same with the weights that it takes where it is told none.
    fn weighed(&self, schema: &Schema) -> Self {
        Self { weight: weights::of(schema, self.weight.as_ref()), ..self.clone() }
    }
}

impl Operator for Confusion {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let this = self.weighed(one_input(inputs)?);
        let judging = this.judging(one_input(inputs)?)?;
        let reads = Reads::Columns(judging.reads());
        let bytes = (judging.keys() * if this.weight.is_some() { 8 + 2 * 112 } else { 8 }) as u64;
        let rows = judging.groups.len() * (1 + judging.binning.len()) * judging.classes.names.len() * judging.predictions();
        let planned = Planned::new(Shape::Fold, vec![table(judging.schema, rows)]).reading(reads).holding(bytes);
        Ok(Planned { survey: populations::reads(self.by.as_ref()), ..planned })
    }

    fn survey(&self, _: &Start<'_>) -> anyhow::Result<Box<dyn Fold>> {
        Ok(populations::survey(self.by.as_ref()))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a confusion of one input"))?;
        let by = populations::settled(self.by.as_ref(), at.runtime.surveyed.as_ref())?;
        let this = Self { by, ..self.clone() }.weighed(schema);
        let judging = this.judging(schema).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        Ok(Work::Fold(Box::new(judging)))
    }
}

/// A field of the matrix, in a cell or in all rows.
struct Line<'a> {
    group: usize,
    cell: Option<&'a Cell>,
    class: usize,
    predicted: usize,
    load: Load,
    share: Result<Efficiency, &'static str>,
}

impl Line<'_> {
    fn value(&self) -> Option<&Efficiency> {
        self.share.as_ref().ok()
    }

    fn ends(&self) -> Option<(f64, f64)> {
        self.value()?.interval
    }

    fn reason(&self) -> Option<String> {
        match &self.share {
            Err(reason) => Some((*reason).to_owned()),
            Ok(share) if share.interval.is_none() => Some("negative weights leave no share between 0 and 1".into()),
            Ok(_) => None,
        }
    }

    /// In per cent.
    fn shown(&self) -> String {
        let Some(share) = self.value() else { return "-".into() };
        words::with_ends(100.0 * share.value, share.interval.map(|(low, high)| (100.0 * low, Some(100.0 * high))))
    }
}

impl Judging {
    /// The columns that are read.
    fn reads(&self) -> BTreeSet<String> {
        let scores = self.scores.iter().map(|(_, column)| column.clone());
        let others = self.classes.column.clone().into_iter().chain(self.weight.clone());
        scores.chain(self.binning.names()).chain(self.groups.reads()).chain(others).collect()
    }

    /// What a row may be taken for.
    fn predictions(&self) -> usize {
        self.scores.len() + usize::from(self.threshold.is_some())
    }

    fn prediction(&self, number: usize) -> &str {
        self.scores.get(number).map_or(NONE, |(class, _)| &self.classes.names[*class])
    }

    /// What an event must have to be of a true class, and to be taken for one.
    fn metadata(&self, truth: &str) -> HashMap<String, String> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let is = |name: &String| (name.clone(), format!("{} = '{}'", quoted(truth), name.replace('\'', "''")).into());
        let taken = |predicted: usize| -> String {
            let score = |number: usize| quoted(&self.scores[number].1);
            let all = 0..self.scores.len();
            let conditions: Vec<String> = match self.threshold {
                Some(threshold) if predicted == self.scores.len() => {
                    all.map(|other| format!("{} < {threshold:?}", score(other))).collect()
                }
                threshold => {
                    // Of equal scores the first.
                    let over = |other: usize| if other < predicted { ">" } else { ">=" };
                    let others = all.filter(|other| *other != predicted);
                    let others = others.map(|other| format!("{} {} {}", score(predicted), over(other), score(other)));
                    others.chain(threshold.map(|threshold| format!("{} >= {threshold:?}", score(predicted)))).collect()
                }
            };
            conditions.join(" and ")
        };
        let predicted = (0..self.predictions()).map(|number| (self.prediction(number).to_owned(), taken(number).into()));
        let truths = self.classes.names.iter().map(is);
        self.groups.metadata_with([("truth", truths.collect()), ("predicted", predicted.collect())])
    }

    fn key(&self, slot: usize, class: usize, predicted: usize) -> usize {
        (slot * self.classes.names.len() + class) * self.predictions() + predicted
    }

    /// Fields of all matrices; behind them are counted rows with a NaN among the scores, without a weight, and with equal scores.
    fn keys(&self) -> usize {
        self.key(self.groups.len() * self.binning.slots(), 0, 0)
    }
}

impl Fold for Judging {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        let batch = &*self.groups.enter(batch, &mut self.of_groups, into)?;
        self.classes.numbers(batch, &mut self.numbers)?;
        self.binning.numbers(batch, &mut self.slots)?;
        let bins = self.binning.slots() as u32;
        self.slots.iter_mut().zip(&self.of_groups).for_each(|(slot, group)| *slot += *group * bins);
        let columns = self.scores.iter().map(|(_, score)| column::floats(batch, score)).collect::<Result<Vec<_>, _>>()?;
        let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
        let keys = self.keys();
        let (counts, sums) = into.dense(keys + 3, if weights.is_some() { 2 * keys } else { 0 });
        for (row, (class, slot)) in self.numbers.iter().zip(&self.slots).enumerate() {
            let weight = weights.as_ref().map(|weights| weights[row]);
            if columns.iter().any(|scores| scores[row].is_nan()) {
                counts[keys] += 1;
                continue;
            }
            if weight.is_some_and(|w| !w.is_finite()) {
                counts[keys + 1] += 1;
                continue;
            }
            let (mut best, mut largest, mut tie) = (0, columns[0][row], false);
            for (number, scores) in columns.iter().enumerate().skip(1) {
                tie = if scores[row] > largest { false } else { tie || scores[row] == largest };
                if scores[row] > largest {
                    (best, largest) = (number, scores[row]);
                }
            }
            if self.threshold.is_some_and(|threshold| largest < threshold) {
                best = self.scores.len();
            } else {
                counts[keys + 2] += i64::from(tie);
            }
            let key = self.key(*slot as usize, *class as usize, best);
            counts[key] += 1;
            if let Some(w) = weight {
                sums[2 * key].add(w);
                sums[2 * key + 1].add(w * w);
            }
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let cells = self.binning.cells();
        let cells: Vec<Option<&Cell>> = [None].into_iter().chain(cells.iter().map(Some)).collect();
        let mut lines: Vec<Line<'_>> = Vec::new();
        for group in 0..self.groups.len() {
            for cell in &cells {
                lines.extend((0..self.classes.names.len()).flat_map(|class| self.row(sums, group, *cell, class)));
            }
        }
        let mut figures = Vec::new();
        for group in 0..self.groups.len() {
            figures.push(self.matrix(&lines, group));
            figures.extend(self.against(&lines, group));
        }
        let (highlights, remarks) = (self.highlights(&lines), self.remarks(sums));
        Ok(Summary { table: self.table(&lines)?, histograms: Vec::new(), figures, highlights, remarks })
    }
}

impl Judging {
    /// What a true class is taken for.
    fn row<'a>(&self, sums: &Sums, group: usize, cell: Option<&'a Cell>, class: usize) -> Vec<Line<'a>> {
        let first = group * self.binning.slots();
        let slots = cell.map_or(0..self.binning.slots(), |cell| cell.slot..cell.slot + 1);
        let slots = first + slots.start..first + slots.end;
        let load = |predicted: usize| {
            let keys = || slots.clone().map(|slot| self.key(slot, class, predicted) as u64);
            let n = keys().map(|key| sums.count(key)).sum();
            let (w, w2) = match self.weight {
                None => (n as f64, n as f64),
                Some(_) => (sums.sum_over(keys().map(|key| 2 * key)), sums.sum_over(keys().map(|key| 2 * key + 1))),
            };
            Load { n, w, w2 }
        };
        let loads: Vec<Load> = (0..self.predictions()).map(load).collect();
        let line = |(predicted, load): (usize, &Load)| {
            let mut others = Load::default();
            loads.iter().enumerate().filter(|(other, _)| *other != predicted).for_each(|(_, load)| others.plus(*load));
            let share = Efficiency::of(*load, others, self.method, ONE_SIGMA);
            Line { group, cell, class, predicted, load: *load, share }
        };
        loads.iter().enumerate().map(line).collect()
    }

    fn table(&self, lines: &[Line<'_>]) -> anyhow::Result<RecordBatch> {
        let float =
            |f: &dyn Fn(&Line<'_>) -> Option<f64>| -> ArrayRef { Arc::new(lines.iter().map(f).collect::<Float64Array>()) };
        let mut columns = self.groups.arrays(lines.iter().map(|line| line.group));
        columns.extend(self.binning.arrays(lines.iter().map(|line| line.cell)));
        columns.push(Arc::new(StringArray::from_iter_values(lines.iter().map(|line| &self.classes.names[line.class]))));
        columns.push(Arc::new(StringArray::from_iter_values(lines.iter().map(|line| self.prediction(line.predicted)))));
        columns.push(Arc::new(Int64Array::from_iter_values(lines.iter().map(|line| line.load.n))));
        if self.weight.is_some() {
            columns.push(float(&|line| Some(line.load.w)));
        }
        columns.push(float(&|line| Some(line.value()?.value)));
        columns.push(float(&|line| Some(line.ends()?.0)));
        columns.push(float(&|line| Some(line.ends()?.1)));
        columns.push(Arc::new(lines.iter().map(Line::reason).collect::<StringArray>()));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// A group, behind a title.
    fn whose(&self, group: usize) -> String {
        self.groups.name(group).map(|name| format!(", {name}")).unwrap_or_default()
    }

    fn matrix(&self, lines: &[Line<'_>], group: usize) -> Figure {
        let whole = || lines.iter().filter(|line| line.cell.is_none() && line.group == group);
        Figure {
            name: format!("confusion{}", self.groups.suffix(group)),
            title: format!("What each class is taken for: rows, and share of the class [%]{}", self.whose(group)),
            x: "predicted class".into(),
            y: "true class".into(),
            content: Content::Matrix {
                columns: (0..self.predictions()).map(|number| self.prediction(number).to_owned()).collect(),
                rows: self.classes.names.clone(),
                shares: whole().map(|line| line.value().map_or(f64::NAN, |share| share.value)).collect(),
                texts: whole().map(|line| format!("{}\n{}", words::count(line.load.n.unsigned_abs()), line.shown())).collect(),
            },
        }
    }

    /// The share of each class that is recognised, against the column that is binned in.
    fn against(&self, lines: &[Line<'_>], group: usize) -> Option<Figure> {
        let bins = self.binning.columns.first()?;
        let curve = |(number, (class, _)): (usize, &(usize, String))| {
            let own = |line: &&Line<'_>| line.group == group && line.class == *class && line.predicted == number;
            let of = lines.iter().filter(own);
            let point = |line: &Line<'_>| {
                let ((low, high), share) = (line.cell?.edges[0], line.value()?);
                let (from, to) = share.interval.unwrap_or((share.value, share.value));
                let (x, x_error) = (f64::midpoint(low, high), (high - low) / 2.0);
                let distance = |end: f64| (end - share.value).abs();
                Some(Point { x, x_error, y: share.value, y_error: distance(from), y_error_up: Some(distance(to)) })
            };
            Curve { label: self.classes.names[*class].clone(), points: of.filter_map(point).collect(), line: Vec::new() }
        };
        Some(Figure {
            name: format!("recognised{}", self.groups.suffix(group)),
            title: format!("Share of each class that is recognised against {}{}", bins.column, self.whose(group)),
            x: bins.label.clone(),
            y: "share recognised".into(),
            content: Content::Curves { curves: self.scores.iter().enumerate().map(curve).collect(), log_y: false },
        })
    }

    fn highlights(&self, lines: &[Line<'_>]) -> Vec<Vec<String>> {
        let mut header: Vec<String> = self.groups.columns().map(str::to_owned).collect();
        header.extend(["true class".to_owned(), "rows".to_owned()]);
        header.extend((0..self.predictions()).map(|number| format!("as {} [%]", self.prediction(number))));
        let mut told = vec![header];
        for group in 0..self.groups.len() {
            for (class, name) in self.classes.names.iter().enumerate() {
                let own = |line: &&Line<'_>| line.group == group && line.cell.is_none() && line.class == class;
                let row = || lines.iter().filter(own);
                let n: i64 = row().map(|line| line.load.n).sum();
                let mut line: Vec<String> = self.groups.values(group).map(str::to_owned).collect();
                line.extend([name.clone(), n.to_string()].into_iter().chain(row().map(Line::shown)));
                told.push(line);
            }
        }
        told
    }

    fn remarks(&self, sums: &Sums) -> Vec<String> {
        let mut remarks = vec![match self.threshold {
            None => "a row is taken for the class of its largest score".to_owned(),
            Some(threshold) => format!("a row is taken for the class of its largest score where that reaches {threshold}"),
        }];
        remarks.push(format!("intervals of shares are those of {} at one standard deviation", self.method.name()));
        let beside = |behind: usize, what: String| {
            let n = sums.count((self.keys() + behind) as u64).unsigned_abs();
            (n != 0).then(|| format!("{} {what}", words::counted(n, "row")))
        };
        remarks.extend(beside(0, "with a NaN among the scores in no matrix".into()));
        remarks.extend(self.weight.as_ref().and_then(|weight| beside(1, format!("without a finite {weight} in no matrix"))));
        remarks.extend(beside(2, "with two largest scores that are equal, taken for the first class".into()));
        remarks.extend(self.groups.remarks(sums));
        remarks
    }
}

#[cfg(test)]
mod tests;
