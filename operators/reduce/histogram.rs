//! Histograms and profiles of columns, with exact contents and variances.
//!
//! A cell holds how many rows fell into it, and, where rows have weights, the exact sums of w and of w^2 (w^2 rounded once
//! to f64). A profile of a column y holds the sums of w y and w y^2 (of y and y^2 where rows count 1) beside them: in each cell the mean
//! of y, its spread rms = sqrt(sum w y^2 / sum w - mean^2), and the error of the mean, rms / sqrt(n) with n the effective number
//! (sum w)^2 / sum w^2 (ROOT's TProfile).
//!
//! Cells are numbered class first, the last axis fastest, with a slot for underflow, overflow and NaN on each axis; behind the last
//! cell is counted how many rows had no finite weight, and how many no finite y.

mod telling;

use crate::axis::{Axis, AxisWords, Category};
use crate::binning::{Binned, labelled};
use crate::column;
use crate::folding::{Classes, gather, one_input, table};
use crate::registry::Describe;
use crate::sums::Sums;
use crate::weights;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work};
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// More cells than these are taken for a mistake.
const MOST_CELLS: usize = 1 << 25;

/// Counts rows, or sums their weights, in bins of one or more columns; or gives the mean of another column there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// The axes: a column each, with its bins. Bins are half-open, `[low, high)`; what lies outside is kept in flow bins.
    pub axes: Placed<Vec<HistogramAxis>>,
    /// The column of weights; without it the weights that the source gives its samples, if it does; `none` counts every row 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// The class column that gets an axis of its own: `sample`.
    #[serde(default)]
    pub for_each: Option<Placed<String>>,
    /// A column whose mean is wanted in each bin, with its error: a profile.
    #[serde(default)]
    pub profile: Option<Placed<String>>,
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
";
}

/// A histogram whose words were found right.
#[derive(Debug)]
struct Filling {
    classes: Classes,
    columns: Vec<Binned>,
    weight: Option<String>,
    /// The column of a profile, and its label.
    profile: Option<(String, String)>,
    schema: Arc<Schema>,
    numbers: Vec<u32>,
}

impl Histogram {
    fn filling(&self, schema: &Schema) -> Result<Filling, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.axes.is_empty() {
            problems.push(
                Problem::at(&self.axes, "a histogram needs an axis").help("- { column: energy, range: [0, 100], bins: 50 }"),
            );
        }
        let mut columns: Vec<Binned> = Vec::new();
        for words in &self.axes.value {
            let HistogramAxis { column: name, range, bins, log, edges, integers, categories } = words.clone();
            if columns.iter().any(|c| c.column == name.value) {
                problems.push(Problem::at(&name, format!("a second axis of `{}`", name.value)));
                continue;
            }
            let words = AxisWords { range, bins, log, edges, integers, categories, populations: None };
            let Some(axis) = gather(Axis::plan_column(schema, &name, &words), &mut problems) else { continue };
            let unit = schema.field_with_name(&name).ok().and_then(column::unit).map(str::to_owned);
            let label = labelled(column::label(schema, &name), Some(&axis));
            columns.push(Binned { column: name.value, label, unit, axis });
        }
        for number in self.weight.iter().chain(&self.profile) {
            gather(column::number(schema, number), &mut problems);
        }
        let classes = gather(Classes::plan(schema, self.for_each.as_ref()), &mut problems);
        let Some(classes) = classes.filter(|_| problems.is_empty()) else { return Err(problems) };
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        let profile = self.profile.as_ref().map(|y| (y.value.clone(), column::label(schema, y)));
        let schema = Arc::new(table_schema(schema, &classes, &columns, profile.as_ref().map(|(name, _)| name.as_str())));
        let filling = Filling { classes, columns, weight, profile, schema, numbers: Vec::new() };
        match filling.cells() {
            cells if cells <= MOST_CELLS => Ok(filling),
            cells => {
                Err(vec![Problem::at(&self.axes, format!("{cells} cells are too many")).help(format!("stay below {MOST_CELLS}"))])
            }
        }
    }
}

fn table_schema(input: &Schema, classes: &Classes, columns: &[Binned], profile: Option<&str>) -> Schema {
    let mut fields: Vec<Field> = classes.field().into_iter().collect();
    for Binned { column: name, unit, axis, .. } in columns {
        if axis.names().is_some() {
            fields.push(Field::new(name, DataType::Utf8, false));
            continue;
        }
        for edge in ["low", "high"] {
            fields.push(column::with_unit(Field::new(format!("{name}_{edge}"), DataType::Float64, false), unit.as_deref()));
        }
    }
    fields.push(Field::new("count", DataType::Int64, false));
    fields.push(Field::new("content", DataType::Float64, false));
    fields.push(Field::new("variance", DataType::Float64, false));
    if let Some(name) = profile {
        let unit = input.field_with_name(name).ok().and_then(column::unit);
        let of = |name: &str| column::with_unit(Field::new(name, DataType::Float64, true), unit);
        fields.extend(["mean", "mean_error", "rms"].map(of));
        fields.push(Field::new("reason", DataType::Utf8, true));
    }
    Schema::new(fields)
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
        let rows = filling.shown().product();
        let columns = filling.columns.iter().map(|c| c.column.clone());
        let profile = filling.profile.iter().map(|(name, _)| name.clone());
        let reads = columns.chain(filling.classes.column.clone()).chain(filling.weight.clone()).chain(profile);
        let reads = Reads::columns(reads);
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

impl Filling {
    fn cells(&self) -> usize {
        self.columns.iter().fold(self.classes.names.len(), |cells, c| cells.saturating_mul(c.axis.slots()))
    }

    /// Sums of a cell: w and w^2 where rows have weights, then (w) y and (w) y^2 of a profile.
    fn powers(&self) -> usize {
        2 * (usize::from(self.weight.is_some()) + usize::from(self.profile.is_some()))
    }

    /// Where rows are counted that have no finite weight, and no finite y.
    fn beside(&self) -> [usize; 2] {
        [self.cells(), self.cells() + 1]
    }

    /// The slots of an axis that are shown in the table: all but NaN, and the underflow that categories do not have.
    fn shown_slots(axis: &Axis) -> std::ops::Range<usize> {
        usize::from(axis.names().is_some())..axis.nan()
    }

    /// How many of each class and axis are shown in the table.
    fn shown(&self) -> impl Iterator<Item = usize> {
        [self.classes.names.len()].into_iter().chain(self.columns.iter().map(|c| Self::shown_slots(&c.axis).len()))
    }

    fn add_rows(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.classes.numbers(batch, &mut self.numbers)?;
        for Binned { column, axis, .. } in &self.columns {
            axis.refine_by(batch, column, &mut self.numbers)?;
        }
        let (cells, powers, [no_weight, no_value]) = (self.cells(), self.powers(), self.beside());
        let weights = self.weight.as_ref().map(|weight| column::floats(batch, weight)).transpose()?;
        let profiled = self.profile.as_ref().map(|(name, _)| column::floats(batch, name)).transpose()?;
        match (&weights, &profiled) {
            (None, None) => {
                let (counts, _) = into.dense(cells, 0);
                for number in &self.numbers {
                    counts[*number as usize] += 1;
                }
            }
            (Some(weights), None) => {
                let (counts, sums) = into.dense(cells + 1, 2 * cells);
                for (number, w) in self.numbers.iter().zip(weights.iter()) {
                    let number = *number as usize;
                    if w.is_finite() {
                        counts[number] += 1;
                        sums[2 * number].add(*w);
                        sums[2 * number + 1].add(w * w);
                    } else {
                        counts[no_weight] += 1;
                    }
                }
            }
            (weights, Some(profiled)) => {
                let (counts, sums) = into.dense(cells + 2, powers * cells);
                for (row, (number, y)) in self.numbers.iter().zip(profiled.iter()).enumerate() {
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
