//! Histograms and profiles of columns, with exact contents and variances.
//!
//! A cell holds how many rows fell into it, and, where rows have weights, the exact sums of w and of w^2 (w^2 rounded once
//! to f64). A profile of a column y holds the sums of w y and w y^2 (of y and y^2 where rows count 1) beside them: in each cell the mean
//! of y, its spread rms = sqrt(sum w y^2 / sum w - mean^2), and the error of the mean, rms / sqrt(n) with n the effective number
//! (sum w)^2 / sum w^2 (ROOT's TProfile).
//!
//! Several variables (`of`) make a histogram each. Cells are numbered variable first, then group, the last axis fastest, with a slot for
//! underflow, overflow and NaN on each axis; behind the last cell is counted how many rows had no finite weight, and how many no
//! finite y.

mod telling;

use crate::column;
use crate::registry::Describe;
use crate::statistics::axis::{Axis, AxisWords, Category};
use crate::statistics::binning::{Binned, By, at_once, labelled};
use crate::statistics::folding::{gather, one_input, table};
use crate::statistics::for_each::{ForEach, Regions};
use crate::statistics::groups::{Groups, Reference};
use crate::statistics::sums::Sums;
use crate::weights;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// More cells than these are taken for a mistake.
const MOST_CELLS: usize = 1 << 25;

/// Counts rows, or sums their weights, in bins of one or more columns; or gives the mean of another column there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// The axes: a column each, with its bins. Bins are half-open, `[low, high)`; what lies outside is kept in flow bins.
    #[serde(default)]
    pub axes: Option<Placed<Vec<HistogramAxis>>>,
    /// Several variables with a histogram of one axis each: `{ energy: { range: [0, 100], bins: 50 }, eta: { edges: [0, 0.8, 1.4] } }`.
    #[serde(default)]
    pub of: Option<By>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// The columns that get an axis of their own: `sample`, `[sample, converted]`, or with the values that are told apart
    /// `{ layer: [1, 2, 3] }`.
    #[serde(default)]
    pub for_each: Option<ForEach>,
    /// Named selections, each a SQL condition: `{ barrel: abs(eta) < 1.4, all: true }`. A row counts in every one that it fits.
    #[serde(default)]
    pub regions: Option<Regions>,
    /// A column whose mean is wanted in each bin, with its error: a profile.
    #[serde(default)]
    pub profile: Option<Placed<String>>,
    /// The class, or another value that rows are told apart by, that the others are divided by in a panel below the plot: `signal`. Its
    /// bars are the errors of both, as of independent contents.
    #[serde(default)]
    pub ratio: Option<Placed<String>>,
}

/// One axis of a histogram: `{ column: energy, range: [10, 510], bins: 50 }`, `{ column: energy, range: [1, 1000], bins: 30, log: true }`,
/// `{ column: energy, edges: [10, 20, 50] }`, `{ column: hits, integers: [0, 9] }`, `{ column: pdg, categories: [11, 22, 211] }`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HistogramAxis {
    /// The column.
    pub column: Placed<String>,
    /// The lowest and the highest edge of bins of equal width.
    #[serde(default)]
    pub range: Option<Placed<(f64, f64)>>,
    /// The number of bins of equal width.
    #[serde(default)]
    pub bins: Option<Placed<u32>>,
    /// True for bins of equal width in the logarithm.
    #[serde(default)]
    pub log: Option<Placed<bool>>,
    /// The edges of bins of any width, ascending.
    #[serde(default)]
    pub edges: Option<Placed<Vec<f64>>>,
    /// The first and the last whole number, each with a bin of its own: `[0, 9]` makes ten.
    #[serde(default)]
    pub integers: Option<Placed<(i64, i64)>>,
    /// The values that have a bin each: texts, or whole numbers. All others are in one flow bin.
    #[serde(default)]
    pub categories: Option<Placed<Vec<Category>>>,
}

impl Describe for Histogram {
    const ABOUT: &'static str =
        "Counts rows, or sums their weights, in bins of one or more columns; or gives the mean of another there";
    const EXAMPLE: &'static str = "\
spectrum:
  from: events
  histogram:
    axes:
      - { column: energy, range: [10, 510], bins: 50 }
    for_each: sample
    ratio: electron
# Many variables and selections in the same pass:
#   of: { energy: { range: [10, 510], bins: 50 }, eta: { range: [-3, 3], bins: 60 } }
#   regions: { barrel: abs(eta) < 1.4, endcap: abs(eta) > 1.5 }
";
}

/// A histogram whose words were found right.
#[derive(Debug)]
struct Filling {
    groups: Groups,
    parts: Vec<Part>,
    /// True where the table says which variable a row is of.
    told_apart: bool,
    weight: Option<String>,
    /// The column of a profile, and its label.
    profile: Option<(String, String)>,
    /// What the others are divided by.
    ratio: Option<Reference>,
    schema: Arc<Schema>,
    of_groups: Vec<u32>,
    numbers: Vec<u32>,
}

/// A histogram of its own.
#[derive(Debug)]
struct Part {
    columns: Vec<Binned>,
    /// Its first cell, and how many it has.
    first: usize,
    cells: usize,
}

impl Histogram {
    /// The columns of each part, with their bins.
    fn written(&self, problems: &mut Vec<Problem>) -> Vec<Vec<(Placed<String>, AxisWords)>> {
        const AXIS: &str = "- { column: energy, range: [0, 100], bins: 50 }";
        let of_axis = |words: &HistogramAxis| {
            let HistogramAxis { column, range, bins, log, edges, integers, categories } = words.clone();
            (column, AxisWords { range, bins, log, edges, integers, categories, populations: None })
        };
        match (&self.axes, &self.of) {
            (Some(axes), None) => {
                if axes.is_empty() {
                    problems.push(Problem::at(axes, "a histogram needs an axis").help(AXIS));
                }
                vec![axes.iter().map(of_axis).collect()]
            }
            (None, Some(of)) => {
                if of.is_empty() {
                    problems.push(Problem::at(of, "`of` names no column").help("of: { energy: { range: [0, 100], bins: 50 } }"));
                }
                let mut variables: Vec<_> = of.iter().map(|(column, words)| vec![(column.clone(), words.clone())]).collect();
                variables.sort_by_key(|variable| variable[0].0.place);
                variables
            }
            (None, None) => {
                problems
                    .push(Problem::at(&Placed::unplaced(()), "a histogram needs `axes`, or `of`").help(format!("axes: {AXIS}")));
                Vec::new()
            }
            (Some(_), Some(of)) => {
                let problem = Problem::at(of, "a histogram has either `axes`, or a histogram of each variable in `of`");
                problems.push(problem.help("take another step for the other: all steps are filled in one pass"));
                Vec::new()
            }
        }
    }

    fn filling(&self, schema: &Schema) -> Result<Filling, Vec<Problem>> {
        let mut problems = Vec::new();
        let groups = gather(Groups::plan(schema, self.for_each.as_ref(), self.regions.as_ref()), &mut problems);
        let (mut parts, mut all) = (Vec::new(), 0_usize);
        for part in self.written(&mut problems) {
            let mut columns: Vec<Binned> = Vec::new();
            for (name, words) in part {
                if columns.iter().any(|c| c.column == name.value) {
                    problems.push(Problem::at(&name, format!("a second axis of `{}`", name.value)));
                    continue;
                }
                if groups.as_ref().is_some_and(|groups| groups.has(&name)) {
                    problems.push(Problem::at(&name, format!("rows are told apart by `{}` already", name.value)));
                }
                let Some(axis) = gather(Axis::plan_column(schema, &name, &words), &mut problems) else { continue };
                let unit = schema.field_with_name(&name).ok().and_then(column::unit).map(str::to_owned);
                let label = labelled(column::label(schema, &name), Some(&axis));
                columns.push(Binned { column: name.value, label, unit, axis });
            }
            let each = groups.as_ref().map_or(1, Groups::len);
            let cells = columns.iter().fold(each, |cells, c| cells.saturating_mul(c.axis.slots()));
            parts.push(Part { columns, first: all, cells });
            all = all.saturating_add(cells);
        }
        for number in self.weight.iter().chain(&self.profile) {
            gather(column::number(schema, number), &mut problems);
        }
        let ratio = self.ratio.as_ref().zip(groups.as_ref()).and_then(|(word, groups)| {
            if parts.iter().any(|part| part.columns.len() > 1) || self.profile.is_some() {
                problems.push(Problem::at(word, "ratios are of contents along one axis").help("leave `ratio` out"));
            }
            gather(groups.reference(word), &mut problems)
        });
        if problems.is_empty() && all > MOST_CELLS {
            let place = self.axes.as_ref().map(|axes| axes.place).or(self.of.as_ref().map(|of| of.place)).unwrap_or_default();
            let problem = Problem::at(&Placed { value: (), place }, format!("{all} cells are too many"));
            problems.push(problem.help(format!("stay below {MOST_CELLS}")));
        }
        let Some(groups) = groups.filter(|_| problems.is_empty()) else { return Err(problems) };
        let mut filling = Filling {
            groups,
            parts,
            told_apart: self.of.is_some(),
            weight: self.weight.as_ref().map(|w| w.value.clone()),
            profile: self.profile.as_ref().map(|y| (y.value.clone(), column::label(schema, y))),
            ratio,
            schema: Arc::new(Schema::empty()),
            of_groups: Vec::new(),
            numbers: Vec::new(),
        };
        filling.groups = filling.groups.clone().carrying(filling.reads());
        filling.schema = Arc::new(filling.table_schema(schema));
        Ok(filling)
    }
}

impl Histogram {
    /// The same with the weights that it takes where it is told none.
    fn weighed(&self, schema: &Schema) -> Self {
        Self { weight: weights::of(schema, self.weight.as_ref()), ..self.clone() }
    }
}

impl Operator for Histogram {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let this = self.weighed(one_input(inputs)?);
        let filling = this.filling(one_input(inputs)?)?;
        let rows = filling.parts.iter().map(|part| filling.groups.len() * part.shown()).sum();
        let reads = Reads::Columns(filling.reads());
        let bytes = (filling.cells() * (8 + 112 * filling.powers())) as u64;
        Ok(Planned::new(Shape::Fold, vec![table(filling.schema, rows)]).reading(reads).holding(bytes))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a histogram of one input"))?;
        let this = self.weighed(schema);
        let filling = this.filling(schema).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        Ok(Work::Fold(Box::new(filling)))
    }
}

impl Part {
    /// The slots of an axis that are shown in the table: all but NaN, and the underflow that categories do not have.
    fn shown_slots(axis: &Axis) -> std::ops::Range<usize> {
        usize::from(axis.names().is_some())..axis.nan()
    }

    /// How many cells of a group are shown in the table.
    fn shown(&self) -> usize {
        self.columns.iter().map(|c| Self::shown_slots(&c.axis).len()).product()
    }
}

impl Filling {
    /// The columns that are read.
    fn reads(&self) -> BTreeSet<String> {
        let columns = self.parts.iter().flat_map(|part| &part.columns).map(|c| c.column.clone());
        let profile = self.profile.iter().map(|(name, _)| name.clone());
        columns.chain(self.groups.reads()).chain(self.weight.clone()).chain(profile).collect()
    }

    fn cells(&self) -> usize {
        self.parts.iter().map(|part| part.cells).sum()
    }

    /// Sums of a cell: w and w^2 where rows have weights, then (w) y and (w) y^2 of a profile.
    fn powers(&self) -> usize {
        2 * (usize::from(self.weight.is_some()) + usize::from(self.profile.is_some()))
    }

    /// Where rows are counted that have no finite weight, and no finite y.
    fn beside(&self) -> [usize; 2] {
        [self.cells(), self.cells() + 1]
    }

    fn add_rows(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        let (mut of_groups, mut numbers) = (std::mem::take(&mut self.of_groups), std::mem::take(&mut self.numbers));
        let batch = &*self.groups.enter(batch, &mut of_groups, into)?;
        let others = self.weight.as_deref().into_iter().chain(self.profile.as_ref().map(|(name, _)| name.as_str()));
        for part in &self.parts {
            let names: Vec<&str> = part.columns.iter().map(|c| c.column.as_str()).chain(others.clone()).collect();
            for (first, block) in column::blocks(batch, at_once(&part.columns), &names)? {
                numbers.clear();
                numbers.extend_from_slice(&of_groups[first..first + block.num_rows()]);
                self.add_block(&block, part, &mut numbers, into)?;
            }
        }
        (self.of_groups, self.numbers) = (of_groups, numbers);
        Ok(())
    }

    /// Adds rows of which the groups are known to the cells of a part.
    fn add_block(&self, batch: &RecordBatch, part: &Part, numbers: &mut [u32], into: &mut Sums) -> Result<(), Fault> {
        for Binned { column, axis, .. } in &part.columns {
            axis.refine_by(batch, column, numbers)?;
        }
        if part.first > 0 {
            numbers.iter_mut().for_each(|number| *number += part.first as u32);
        }
        let (cells, powers, [no_weight, no_value]) = (self.cells(), self.powers(), self.beside());
        let profiled = self.profile.as_ref().map(|(name, _)| column::floats(batch, name)).transpose()?;
        match (&self.weight, &profiled) {
            (None, None) => {
                let (counts, _) = into.dense(cells, 0);
                for number in &*numbers {
                    counts[*number as usize] += 1;
                }
            }
            (Some(weight), None) => match column::with_floats(batch, weight, |weights| into.weigh(cells, numbers, weights))? {
                0 => {}
                not_finite => into.tally(no_weight as u64, not_finite as i64),
            },
            (weight, Some(profiled)) => {
                let weights = weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
                let (counts, sums) = into.dense(cells + 2, powers * cells);
                for (row, (number, y)) in numbers.iter().zip(profiled.iter()).enumerate() {
                    let number = *number as usize;
                    let w = weights.as_ref().map(|weights| weights[row]);
                    if w.is_some_and(|w| !w.is_finite()) {
                        counts[no_weight] += 1;
                    } else if !y.is_finite() {
                        counts[no_value] += 1;
                    } else {
                        counts[number] += 1;
                        let own = &mut sums[number * powers..(number + 1) * powers];
                        match (w, own) {
                            (Some(w), [sum_w, sum_w2, sum_wy, sum_wy2]) => {
                                sum_w.add(w);
                                sum_w2.add(w * w);
                                sum_wy.add(w * y);
                                sum_wy2.add(w * (y * y));
                            }
                            (_, [sum_y, sum_y2, ..]) => {
                                sum_y.add(*y);
                                sum_y2.add(y * y);
                            }
                            _ => {}
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
