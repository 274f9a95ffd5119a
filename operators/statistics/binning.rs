//! The bins that a fold gives its numbers in: those of one or more columns, as `by` says them.
//!
//! Every row has a slot: the slots of the axes, the last fastest, flow included, so that all slots together are all rows.
//! A cell is a slot within all axes.

use crate::column;
use crate::statistics::axis::{Axis, AxisWords};
use crate::statistics::folding::gather;
use crate::{Placed, Problem};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What `by` says: columns with their bins.
pub type By = Placed<BTreeMap<Placed<String>, AxisWords>>;

/// More slots than these are taken for a mistake.
const MOST_SLOTS: usize = 1 << 20;
/// More bins of equal population than these, too: their edges are good to 0.1 %.
const MOST_POPULATIONS: u32 = 1000;

/// The bins of one column.
#[derive(Debug, Clone)]
pub struct Binned {
    /// The column.
    pub column: String,
    /// Its name with its unit.
    pub label: String,
    /// Its unit.
    pub unit: Option<String>,
    /// Its bins.
    pub axis: Axis,
}

/// The bins of all columns of a `by`; a single slot where there are none.
#[derive(Debug, Clone, Default)]
pub struct Binning {
    /// The columns, in the order of their names.
    pub columns: Vec<Binned>,
}

/// A bin on every axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Its slot.
    pub slot: usize,
    /// Its edges on each axis.
    pub edges: Vec<(f64, f64)>,
}

impl Cell {
    /// The number of its category on an axis of them, from 0.
    #[must_use]
    pub fn category(&self, axis: usize) -> usize {
        self.edges[axis].0 as usize // between i + 1/2 and i + 3/2
    }
}

/// The label of an axis; of categories, with what stands where.
#[must_use]
pub fn labelled(label: String, axis: Option<&Axis>) -> String {
    let Some(names) = axis.and_then(Axis::names) else { return label };
    let names: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{} {name}", i + 1)).collect();
    format!("{label}: {}", names.join(", "))
}

/// Rows whose columns stay in the cache while they are put into bins, one axis after the other; all, where an axis has texts to look up.
#[must_use]
pub fn at_once(columns: &[Binned]) -> usize {
    if columns.iter().any(|c| matches!(c.axis, Axis::Texts { .. })) { usize::MAX } else { 1 << 12 }
}

/// The axis of a column; of bins of equal population one that stands for it.
fn planned(schema: &Schema, name: &Placed<String>, words: &AxisWords) -> Result<Axis, Vec<Problem>> {
    let AxisWords { populations: Some(bins), .. } = words else { return Axis::plan_column(schema, name, words) };
    let alone = AxisWords { populations: Some(bins.clone()), ..AxisWords::default() };
    if *words != alone {
        let problem = Problem::at(bins, "an axis has either `populations`, or `range` and `bins`, or `edges`");
        return Err(vec![problem.help("by: { energy: { populations: 10 } }")]);
    }
    column::number(schema, name).map_err(|problem| vec![problem])?;
    let few = |bins: &u32| (1..=MOST_POPULATIONS).contains(bins);
    if !few(&bins.value) {
        return Err(vec![Problem::at(bins, format!("{} bins", bins.value)).help(format!("give 1 to {MOST_POPULATIONS}"))]);
    }
    // What stands for them while their edges are not known.
    Axis::between((0..=bins.value).map(f64::from).collect()).map_err(|what| vec![Problem::at(bins, what)])
}

impl Binning {
    /// The bins of at most `most` columns.
    pub fn plan(schema: &Schema, by: Option<&By>, most: usize) -> Result<Self, Vec<Problem>> {
        let Some(by) = by else { return Ok(Self::default()) };
        let mut problems = Vec::new();
        if by.is_empty() || by.len() > most {
            let takes = if most == 1 { "one column".to_owned() } else { format!("one to {most} columns") };
            let problem = Problem::at(by, format!("`by` takes {takes}, not {}", by.len()));
            return Err(vec![problem.help("by: { energy: { range: [10, 510], bins: 10 } }")]);
        }
        let mut columns = Vec::new();
        for (name, words) in &by.value {
            let unit = schema.field_with_name(name).ok().and_then(column::unit).map(str::to_owned);
            let axis = gather(planned(schema, name, words), &mut problems);
            let label = labelled(column::label(schema, name), axis.as_ref());
            columns.extend(axis.map(|axis| Binned { column: name.value.clone(), label, unit, axis }));
        }
        let binning = Self { columns };
        if problems.is_empty() && binning.slots() > MOST_SLOTS {
            problems
                .push(Problem::at(by, format!("{} bins are too many", binning.slots())).help(format!("stay below {MOST_SLOTS}")));
        }
        if problems.is_empty() { Ok(binning) } else { Err(problems) }
    }

    /// How many slots there are, with flow.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.columns.iter().fold(1, |slots, c| slots.saturating_mul(c.axis.slots()))
    }

    /// The slot of each row.
    pub fn numbers(&self, batch: &RecordBatch, into: &mut Vec<u32>) -> anyhow::Result<()> {
        into.clear();
        into.resize(batch.num_rows(), 0);
        for Binned { column, axis, .. } in &self.columns {
            axis.refine_by(batch, column, into)?;
        }
        Ok(())
    }

    /// The cells in order; none where no bins are asked for.
    #[must_use]
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = vec![Cell { slot: 0, edges: Vec::new() }];
        for Binned { axis, .. } in &self.columns {
            let edges = axis.edges();
            let deeper = |cell: Cell| {
                let pairs = edges.windows(2).enumerate().map(|(i, pair)| Cell {
                    slot: cell.slot * axis.slots() + i + 1,
                    edges: cell.edges.iter().copied().chain([(pair[0], pair[1])]).collect(),
                });
                pairs.collect::<Vec<_>>()
            };
            cells = cells.into_iter().flat_map(deeper).collect();
        }
        if self.columns.is_empty() { Vec::new() } else { cells }
    }

    /// How many cells there are.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.columns.is_empty() { 0 } else { self.columns.iter().map(|c| c.axis.bins()).product() }
    }

    /// True where no bins are asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The names of the columns.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.columns.iter().map(|c| c.column.clone())
    }

    /// The fields `<column>_low` and `<column>_high` of a table, or `<column>` with the category; null where all rows are meant.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        let edge = |c: &Binned, edge: &str| {
            column::with_unit(Field::new(format!("{}_{edge}", c.column), DataType::Float64, true), c.unit.as_deref())
        };
        let of = |c: &Binned| match c.axis.names() {
            Some(_) => vec![Field::new(&c.column, DataType::Utf8, true)],
            None => vec![edge(c, "low"), edge(c, "high")],
        };
        self.columns.iter().flat_map(of).collect()
    }

    /// The columns of these fields, for rows of the table that each stand for a cell, or for all rows.
    #[must_use]
    pub fn arrays<'a>(&self, rows: impl Iterator<Item = Option<&'a Cell>> + Clone) -> Vec<ArrayRef> {
        let side = |axis: usize, of: fn(&(f64, f64)) -> f64| -> ArrayRef {
            Arc::new(rows.clone().map(|cell| cell.map(|cell| of(&cell.edges[axis]))).collect::<Float64Array>())
        };
        let of = |axis: usize| match self.columns[axis].axis.names() {
            Some(names) => {
                let name = |cell: Option<&Cell>| cell.map(|cell| names[cell.category(axis)].clone());
                vec![Arc::new(rows.clone().map(name).collect::<StringArray>()) as ArrayRef]
            }
            None => vec![side(axis, |e| e.0), side(axis, |e| e.1)],
        };
        (0..self.columns.len()).flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::{batch, word};

    #[test]
    fn every_row_has_a_slot_and_cells_are_those_within() {
        let rows = batch(&["a"], &[0; 4], &[("x", &[0.5, 1.5, -1.0, f64::NAN]), ("y [GeV]", &[5.0, 15.0, 15.0, 5.0])]);
        let axis = |range, bins| AxisWords {
            range: Some(Placed::unplaced(range)),
            bins: Some(Placed::unplaced(bins)),
            ..AxisWords::default()
        };
        let by = BTreeMap::from([(word("y"), axis((0.0, 20.0), 2)), (word("x"), axis((0.0, 2.0), 2))]);
        let binning = Binning::plan(&rows.schema(), Some(&Placed::unplaced(by)), 2).unwrap();
        let mut numbers = Vec::new();
        binning.numbers(&rows, &mut numbers).unwrap();
        assert_eq!(numbers, [5 + 1, 2 * 5 + 2, 2, 4 * 5 + 1]);
        let cells = binning.cells();
        assert_eq!((cells.len(), binning.len(), binning.slots()), (4, 4, 25));
        assert_eq!(cells[1], Cell { slot: 7, edges: vec![(0.0, 1.0), (10.0, 20.0)] });
        assert_eq!(binning.fields()[2].name(), "y_low");
        assert_eq!(column::unit(&binning.fields()[3]), Some("GeV"));
    }
}
