//! How the events of each class are spread over the bins of one or more columns: what weights and copies are made from.
//!
//! Every event is in a cell of its own class: the slots of the axes, under- and overflow and NaN included, so that the cells
//! together are all events. A cell holds n and, where events have weights, the exact sums of w and w^2.

use crate::column;
use crate::statistics::binning::{Binning, By};
use crate::statistics::folding::{Classes, gather};
use crate::statistics::sums::Sums;
use crate::{Fault, Output, Placed, Problem, words};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use std::sync::Arc;

/// The axes of a spectrum are at most so many.
const MOST_AXES: usize = 3;

/// The classes and bins of a spectrum.
#[derive(Debug, Clone)]
pub struct Spectrum {
    /// The classes.
    pub classes: Classes,
    /// The bins.
    pub binning: Binning,
    /// The column of weights.
    pub weight: Option<String>,
}

/// What is in a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Content {
    /// Events.
    pub n: i64,
    /// The sum of their weights; n where they have none.
    pub w: f64,
    /// The sum of the squares of their weights.
    pub w2: f64,
}

/// Where a cell lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Within all axes.
    Inside,
    /// Below or above an axis.
    Flow,
    /// A value is NaN.
    Nowhere,
}

impl Spectrum {
    /// The spectrum of the samples of a stream in these bins.
    pub fn plan(schema: &Schema, by: &By, weight: Option<&Placed<String>>) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let binning = gather(Binning::plan(schema, Some(by), MOST_AXES), &mut problems);
        let sample = Placed::unplaced(column::SAMPLE.to_owned());
        let classes = gather(Classes::plan(schema, Some(&sample)), &mut problems);
        if let Some(weight) = weight {
            gather(column::number(schema, weight), &mut problems);
        }
        match (binning, classes) {
            (Some(binning), Some(classes)) if problems.is_empty() => {
                Ok(Self { classes, binning, weight: weight.map(|w| w.value.clone()) })
            }
            _ => Err(problems),
        }
    }

    /// The columns that it reads.
    pub fn columns(&self) -> impl Iterator<Item = String> {
        self.classes.column.clone().into_iter().chain(self.binning.names()).chain(self.weight.clone())
    }

    /// Bytes that its sums take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.classes.names.len() * self.binning.slots()) as u64 * if self.weight.is_some() { 256 } else { 16 }
    }

    /// The cell of each row: the class times the slots of the axes, plus the slot.
    pub fn cells(&self, batch: &RecordBatch, into: &mut Vec<u32>) -> Result<(), Fault> {
        self.classes.numbers(batch, into)?;
        for binned in &self.binning.columns {
            binned.axis.refine(&column::floats(batch, &binned.column)?, into);
        }
        Ok(())
    }

    /// Adds rows to the sums. A row whose weight is not finite is in no cell, and counted beside.
    pub fn add(&self, batch: &RecordBatch, cells: &mut Vec<u32>, into: &mut Sums) -> Result<(), Fault> {
        self.cells(batch, cells)?;
        let all = self.classes.names.len() * self.binning.slots();
        let Some(weight) = &self.weight else {
            let (counts, _) = into.dense(all, 0);
            cells.iter().for_each(|cell| counts[*cell as usize] += 1);
            return Ok(());
        };
        match column::with_floats(batch, weight, |weights| into.weigh(all, cells, weights))? {
            0 => {}
            not_finite => into.tally(all as u64, not_finite as i64),
        }
        Ok(())
    }

    /// How many rows have no finite weight.
    #[must_use]
    pub fn unweighable(&self, sums: &Sums) -> i64 {
        sums.count((self.classes.names.len() * self.binning.slots()) as u64)
    }

    /// What is in each cell: by class, and in it by slot.
    #[must_use]
    pub fn contents(&self, sums: &Sums) -> Vec<Vec<Content>> {
        let slots = self.binning.slots();
        let content = |cell: usize| {
            let (n, key) = (sums.count(cell as u64), 2 * cell as u64);
            match self.weight {
                None => Content { n, w: n as f64, w2: n as f64 },
                Some(_) => Content { n, w: sums.sum(key), w2: sums.sum(key + 1) },
            }
        };
        (0..self.classes.names.len()).map(|class| (0..slots).map(|slot| content(class * slots + slot)).collect()).collect()
    }

    /// The slot of each axis.
    fn slots_of(&self, mut slot: usize) -> Vec<usize> {
        let mut slots = vec![0; self.binning.columns.len()];
        for (of_axis, binned) in slots.iter_mut().zip(&self.binning.columns).rev() {
            *of_axis = slot % binned.axis.slots();
            slot /= binned.axis.slots();
        }
        slots
    }

    /// Where a slot lies.
    #[must_use]
    pub fn place(&self, slot: usize) -> Where {
        let slots = self.slots_of(slot);
        let on = || slots.iter().zip(&self.binning.columns);
        if on().any(|(slot, c)| *slot == c.axis.nan()) {
            Where::Nowhere
        } else if on().all(|(slot, c)| (1..=c.axis.bins()).contains(slot)) {
            Where::Inside
        } else {
            Where::Flow
        }
    }

    /// The first fields of a table with a row for each cell: the class and the edges (infinite ones of flow, null ones where a
    /// value is NaN).
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        self.classes.field().into_iter().chain(self.binning.fields()).collect()
    }

    /// The columns of these fields, for cells of classes.
    #[must_use]
    pub fn arrays(&self, cells: &[(usize, usize)]) -> Vec<ArrayRef> {
        let names = cells.iter().map(|(class, _)| self.classes.names[*class].as_str());
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(names.map(Some).collect::<StringArray>())];
        for (axis, binned) in self.binning.columns.iter().enumerate() {
            let edges: Vec<f64> = [f64::NEG_INFINITY].into_iter().chain(binned.axis.edges()).chain([f64::INFINITY]).collect();
            let edge = |slot: usize, side: usize| {
                let of_axis = self.slots_of(slot)[axis];
                (of_axis != binned.axis.nan()).then(|| edges[of_axis + side])
            };
            for side in [0, 1] {
                arrays.push(Arc::new(cells.iter().map(|(_, slot)| edge(*slot, side)).collect::<Float64Array>()));
            }
        }
        arrays
    }

    /// How many rows of a class lie below or above the axes, and how many have a NaN.
    #[must_use]
    pub fn outside(&self, contents: &[Content]) -> (i64, i64) {
        let (mut flow, mut nan) = (0, 0);
        for (slot, content) in contents.iter().enumerate() {
            match self.place(slot) {
                Where::Inside => {}
                Where::Flow => flow += content.n,
                Where::Nowhere => nan += content.n,
            }
        }
        (flow, nan)
    }

    /// What is said of the rows that lie outside, in the classes of whose rows something is made there.
    #[must_use]
    pub fn remarks(&self, contents: &[Vec<Content>], touched: impl Fn(usize) -> bool, made: &str) -> Vec<String> {
        let mut remarks = Vec::new();
        let axes: Vec<String> = self.binning.names().collect();
        for class in (0..contents.len()).filter(|class| touched(*class)) {
            let (name, contents) = (&self.classes.names[class], &contents[class]);
            let (flow, nan) = self.outside(contents);
            let rows = |n: i64| words::counted(n.unsigned_abs(), "row");
            if flow != 0 {
                remarks.push(format!("{} of `{name}` outside the bins of {}: {made}", rows(flow), axes.join(", ")));
            }
            if nan != 0 {
                remarks.push(format!("{} of `{name}` with NaN in {}: {made}", rows(nan), axes.join(", ")));
            }
        }
        remarks
    }
}

/// The column `n` of a table.
#[must_use]
pub fn counts(of: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(of.map(Some).collect::<Int64Array>())
}

/// A column of numbers of a table, null where there is none.
#[must_use]
pub fn numbers(of: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(of.collect::<Float64Array>())
}

/// The output of a step that adds a column to its input.
#[must_use]
pub fn widened(input: &Output, field: Field) -> Output {
    let bytes = field.data_type().primitive_width().unwrap_or(8) as u64;
    let fields: Vec<_> = input.schema.fields().iter().cloned().chain([Arc::new(field)]).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, input.schema.metadata().clone()));
    Output { name: String::new(), schema, row_bytes: input.row_bytes + bytes, ..input.clone() }
}

/// The batch with another column.
pub fn with_column(batch: &RecordBatch, name: &str, data_type: DataType, column: ArrayRef) -> Result<RecordBatch, Fault> {
    let field = Arc::new(Field::new(name, data_type, false));
    let fields: Vec<_> = batch.schema().fields().iter().cloned().chain([field]).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, batch.schema().metadata().clone()));
    let columns = batch.columns().iter().cloned().chain([column]).collect();
    Ok(RecordBatch::try_new(schema, columns)?)
}
