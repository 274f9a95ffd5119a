//! Histograms of one or more columns, with exact contents and variances.
//!
//! A cell holds how many rows fell into it, and, where rows have weights, the exact sums of w and of w^2 (w^2 rounded once
//! to f64). Cells are numbered class first, the last axis fastest, with a slot for underflow, overflow and NaN on each axis;
//! behind the last cell is counted how many rows had no finite weight.

use crate::axis::{Axis, AxisWords};
use crate::column;
use crate::figure::{Content, Figure, Summary};
use crate::folding::{Classes, gather, one_input, table};
use crate::registry::Describe;
use crate::sums::Sums;
use crate::uhi::{self, UhiAxis};
use crate::work::Fold;
use crate::{Facts, Fault, Operator, Output, Placed, Planned, Problem, Reads, Shape, Start, Work, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use schemars::JsonSchema;
use serde::Deserialize;
use std::sync::Arc;

/// More cells than these are taken for a mistake.
const MOST_CELLS: usize = 1 << 25;

/// Counts rows, or sums their weights, in bins of one or more columns.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// The axes: a column each, with its bins. Bins are half-open, `[low, high)`; what lies outside is kept in flow bins.
    pub axes: Placed<Vec<HistogramAxis>>,
    /// The column of weights; without it every row counts 1.
    #[serde(default)]
    pub weight: Option<Placed<String>>,
    /// The class column that gets an axis of its own: `sample`.
    #[serde(default)]
    pub for_each: Option<Placed<String>>,
}

/// One axis of a histogram: `{ column: energy, range: [10, 510], bins: 50 }`, or `{ column: energy, edges: [10, 20, 50] }`.
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
    /// The edges of bins of any width, ascending.
    #[serde(default)]
    pub edges: Option<Placed<Vec<f64>>>,
}

impl Describe for Histogram {
    const ABOUT: &'static str = "Counts rows, or sums their weights, in bins of one or more columns";
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
    columns: Vec<Column>,
    weight: Option<String>,
    schema: Arc<Schema>,
    numbers: Vec<u32>,
}

#[derive(Debug)]
struct Column {
    name: String,
    label: String,
    axis: Axis,
}

impl Histogram {
    fn filling(&self, schema: &Schema) -> Result<Filling, Vec<Problem>> {
        let mut problems = Vec::new();
        if self.axes.is_empty() {
            problems.push(
                Problem::at(&self.axes, "a histogram needs an axis").help("- { column: energy, range: [0, 100], bins: 50 }"),
            );
        }
        let mut columns: Vec<Column> = Vec::new();
        for words in &self.axes.value {
            let HistogramAxis { column: name, range, bins, edges } = words.clone();
            if columns.iter().any(|c| c.name == name.value) {
                problems.push(Problem::at(&name, format!("a second axis of `{}`", name.value)));
                continue;
            }
            gather(column::number(schema, &name), &mut problems);
            let axis = gather(Axis::plan(&name, &AxisWords { range, bins, edges }), &mut problems);
            let label = column::label(schema, &name);
            columns.extend(axis.map(|axis| Column { name: name.value, label, axis }));
        }
        if let Some(weight) = &self.weight {
            gather(column::number(schema, weight), &mut problems);
        }
        let classes = gather(Classes::plan(schema, self.for_each.as_ref()), &mut problems);
        let Some(classes) = classes.filter(|_| problems.is_empty()) else { return Err(problems) };
        let weight = self.weight.as_ref().map(|w| w.value.clone());
        let schema = Arc::new(table_schema(schema, &classes, &columns));
        let filling = Filling { classes, columns, weight, schema, numbers: Vec::new() };
        match filling.cells() {
            cells if cells <= MOST_CELLS => Ok(filling),
            cells => {
                Err(vec![Problem::at(&self.axes, format!("{cells} cells are too many")).help(format!("stay below {MOST_CELLS}"))])
            }
        }
    }
}

fn table_schema(input: &Schema, classes: &Classes, columns: &[Column]) -> Schema {
    let mut fields: Vec<Field> = classes.field().into_iter().collect();
    for Column { name, .. } in columns {
        let unit = input.field_with_name(name).ok().and_then(column::unit);
        for edge in ["low", "high"] {
            fields.push(column::with_unit(Field::new(format!("{name}_{edge}"), DataType::Float64, false), unit));
        }
    }
    fields.push(Field::new("count", DataType::Int64, false));
    fields.push(Field::new("content", DataType::Float64, false));
    fields.push(Field::new("variance", DataType::Float64, false));
    Schema::new(fields)
}

impl Operator for Histogram {
    fn plan(&self, _: &Facts, inputs: &[Output]) -> Result<Planned, Vec<Problem>> {
        let filling = self.filling(one_input(inputs)?)?;
        let rows = filling.shown().product();
        let columns = filling.columns.iter().map(|c| c.name.clone());
        let reads = columns.chain(filling.classes.column.clone()).chain(filling.weight.clone());
        let cell_bytes = if filling.weight.is_some() { 8 + 2 * 112 } else { 8 };
        let bytes = (filling.cells() * cell_bytes) as u64;
        let reads = Reads::columns(reads);
        Ok(Planned::new(Shape::Fold, vec![table(filling.schema, rows)]).reading(reads).holding(bytes))
    }

    fn start(&self, at: &Start<'_>) -> anyhow::Result<Work> {
        let schema = one_input(at.inputs).map_err(|_| anyhow::anyhow!("a histogram of one input"))?;
        let filling = self.filling(schema).map_err(|problems| anyhow::anyhow!("{}", problems[0].what))?;
        Ok(Work::Fold(Box::new(filling)))
    }
}

impl Filling {
    fn cells(&self) -> usize {
        self.columns.iter().fold(self.classes.names.len(), |cells, c| cells.saturating_mul(c.axis.slots()))
    }

    /// How many of each class and axis are shown in the table: all but NaN.
    fn shown(&self) -> impl Iterator<Item = usize> {
        [self.classes.names.len()].into_iter().chain(self.columns.iter().map(|c| c.axis.nan()))
    }
}

impl Fold for Filling {
    fn add(&mut self, batch: &RecordBatch, into: &mut Sums) -> Result<(), Fault> {
        self.classes.numbers(batch, &mut self.numbers)?;
        for Column { name, axis, .. } in &self.columns {
            axis.refine(&column::floats(batch, name)?, &mut self.numbers);
        }
        let cells = self.cells();
        match &self.weight {
            None => {
                let (counts, _) = into.dense(cells, 0);
                for number in &self.numbers {
                    counts[*number as usize] += 1;
                }
            }
            Some(weight) => {
                let (counts, sums) = into.dense(cells + 1, 2 * cells);
                for (number, w) in self.numbers.iter().zip(column::floats(batch, weight)?.iter()) {
                    let number = *number as usize;
                    if w.is_finite() {
                        counts[number] += 1;
                        sums[2 * number].add(*w);
                        sums[2 * number + 1].add(w * w);
                    } else {
                        counts[cells] += 1;
                    }
                }
            }
        }
        Ok(())
    }

    fn finish(&self, sums: &Sums) -> anyhow::Result<Summary> {
        let cells = self.cells() as u64;
        let counts: Vec<i64> = (0..cells).map(|cell| sums.count(cell)).collect();
        let (contents, variances) = match self.weight {
            None => (counts.iter().map(|n| *n as f64).collect(), counts.iter().map(|n| *n as f64).collect()),
            Some(_) => {
                ((0..cells).map(|cell| sums.sum(2 * cell)).collect(), (0..cells).map(|cell| sums.sum(2 * cell + 1)).collect())
            }
        };
        let filled = Filled { counts, contents, variances };
        Ok(Summary {
            table: self.table(&filled)?,
            histograms: vec![(self.name(), self.uhi(&filled))],
            figures: self.figures(&filled),
            highlights: self.highlights(&filled),
            remarks: self.remarks(&filled, sums.count(cells)),
        })
    }
}

/// Everything in the cells, by number.
struct Filled {
    counts: Vec<i64>,
    contents: Vec<f64>,
    variances: Vec<f64>,
}

impl Filling {
    fn name(&self) -> String {
        self.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join("-")
    }

    /// The class and the slots of a cell.
    fn slots(&self, mut cell: usize) -> (usize, Vec<usize>) {
        let mut slots = vec![0; self.columns.len()];
        for (slot, Column { axis, .. }) in slots.iter_mut().zip(&self.columns).rev() {
            *slot = cell % axis.slots();
            cell /= axis.slots();
        }
        (cell, slots)
    }

    fn table(&self, filled: &Filled) -> anyhow::Result<RecordBatch> {
        let mut names: Vec<&str> = Vec::new();
        let mut edges: Vec<Vec<f64>> = vec![Vec::new(); 2 * self.columns.len()];
        let mut cells = Vec::new();
        let bounds: Vec<Vec<f64>> = self.columns.iter().map(|c| flow_edges(&c.axis)).collect();
        for cell in 0..filled.counts.len() {
            let (class, slots) = self.slots(cell);
            if slots.iter().zip(&self.columns).any(|(slot, c)| *slot == c.axis.nan()) {
                continue;
            }
            names.push(&self.classes.names[class]);
            for (i, slot) in slots.iter().enumerate() {
                edges[2 * i].push(bounds[i][*slot]);
                edges[2 * i + 1].push(bounds[i][*slot + 1]);
            }
            cells.push(cell);
        }
        let mut columns: Vec<ArrayRef> = Vec::new();
        if self.classes.column.is_some() {
            columns.push(Arc::new(StringArray::from(names)));
        }
        columns.extend(edges.into_iter().map(|edges| Arc::new(Float64Array::from(edges)) as ArrayRef));
        columns.push(Arc::new(Int64Array::from_iter_values(cells.iter().map(|cell| filled.counts[*cell]))));
        columns.push(Arc::new(Float64Array::from_iter_values(cells.iter().map(|cell| filled.contents[*cell]))));
        columns.push(Arc::new(Float64Array::from_iter_values(cells.iter().map(|cell| filled.variances[*cell]))));
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    fn uhi(&self, filled: &Filled) -> serde_json::Value {
        let classes = self.classes.column.as_ref().map(|name| UhiAxis::Classes(&self.classes.names, name));
        let bins = self.columns.iter().map(|c| UhiAxis::Bins(&c.axis, &c.name, &c.label));
        let axes: Vec<UhiAxis<'_>> = classes.into_iter().chain(bins).collect();
        uhi::histogram(&axes, &filled.contents, &filled.variances)
    }

    fn entries(&self) -> String {
        self.weight.as_ref().map_or_else(|| "events".into(), |w| format!("events weighted by {w}"))
    }

    fn figures(&self, filled: &Filled) -> Vec<Figure> {
        let per_class = filled.contents.len() / self.classes.names.len();
        let (name, y) = (self.name(), self.entries());
        match &self.columns[..] {
            [x] => {
                let bins = 1..=x.axis.bins();
                let series = self.classes.names.iter().zip(filled.contents.chunks_exact(per_class));
                let series = series.enumerate().map(|(class, (_, contents))| {
                    (self.classes.label(class, &x.name).to_owned(), contents[bins.clone()].to_vec())
                });
                let content = Content::Steps { edges: x.axis.edges(), series: series.collect(), log_y: false };
                vec![Figure { title: x.name.clone(), name, x: x.label.clone(), y, content }]
            }
            [x, y] => {
                let heat = |(class, contents): (usize, &[f64])| {
                    let values = contents.chunks_exact(y.axis.slots()).skip(1).take(x.axis.bins());
                    let values = values.flat_map(|row| row[1..=y.axis.bins()].to_vec()).collect();
                    let suffix =
                        self.classes.column.as_ref().map(|_| format!("-{}", self.classes.names[class])).unwrap_or_default();
                    let whose =
                        self.classes.column.as_ref().map(|_| format!(", {}", self.classes.names[class])).unwrap_or_default();
                    Figure {
                        name: format!("{name}{suffix}"),
                        title: format!("{} against {}{whose}", y.name, x.name),
                        x: x.label.clone(),
                        y: y.label.clone(),
                        content: Content::Heat { x_edges: x.axis.edges(), y_edges: y.axis.edges(), values, log: true },
                    }
                };
                filled.contents.chunks_exact(per_class).enumerate().map(heat).collect()
            }
            _ => Vec::new(),
        }
    }

    fn highlights(&self, filled: &Filled) -> Vec<Vec<String>> {
        let mut lines: Vec<Vec<String>> = vec![self.classes.column.clone().into_iter().collect()];
        lines[0].extend(["events".into(), "in range".into()]);
        if self.weight.is_some() {
            lines[0].push("sum of weights in range".into());
        }
        let per_class = filled.counts.len() / self.classes.names.len();
        for (class, name) in self.classes.names.iter().enumerate() {
            let (mut all, mut inside, mut content, mut variance) = (0, 0, 0.0, 0.0);
            for cell in class * per_class..(class + 1) * per_class {
                all += filled.counts[cell];
                if self.slots(cell).1.iter().zip(&self.columns).all(|(slot, c)| (1..=c.axis.bins()).contains(slot)) {
                    inside += filled.counts[cell];
                    content += filled.contents[cell];
                    variance += filled.variances[cell];
                }
            }
            let mut line: Vec<String> = self.classes.column.iter().map(|_| name.clone()).collect();
            line.extend([all.to_string(), inside.to_string()]);
            if self.weight.is_some() {
                line.push(words::with_error(content, f64::sqrt(variance)));
            }
            lines.push(line);
        }
        lines
    }

    fn remarks(&self, filled: &Filled, unweighable: i64) -> Vec<String> {
        let mut remarks = Vec::new();
        let rows = |n: i64| words::counted(n.unsigned_abs(), "row");
        for (i, Column { name, axis, .. }) in self.columns.iter().enumerate() {
            let mut outside = [0; 3];
            for (cell, n) in filled.counts.iter().enumerate().filter(|(_, n)| **n != 0) {
                match self.slots(cell).1[i] {
                    0 => outside[0] += n,
                    slot if slot == axis.nan() => outside[2] += n,
                    slot if slot > axis.bins() => outside[1] += n,
                    _ => {}
                }
            }
            let edges = axis.edges();
            let (low, high) = (edges[0], edges[edges.len() - 1]);
            if outside[0] != 0 {
                remarks.push(format!("{} with {name} below {low}", rows(outside[0])));
            }
            if outside[1] != 0 {
                remarks.push(format!("{} with {name} at or above {high}", rows(outside[1])));
            }
            if outside[2] != 0 {
                remarks.push(format!("{} with {name} NaN, in no bin", rows(outside[2])));
            }
        }
        if let (Some(weight), true) = (&self.weight, unweighable != 0) {
            remarks.push(format!("{} without a finite {weight}, in no bin", rows(unweighable)));
        }
        remarks
    }
}

/// The edges of all slots but NaN: those of the axis, and infinity on both sides.
fn flow_edges(axis: &Axis) -> Vec<f64> {
    [f64::NEG_INFINITY].into_iter().chain(axis.edges()).chain([f64::INFINITY]).collect()
}

#[cfg(test)]
mod tests;
