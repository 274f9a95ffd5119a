//! What a model reads: the batch buffer of one input, filled from hits, dense images, lists or numbers of one or several columns.
//!
//! Invariants: hits become dense in this buffer and nowhere else; it is made once, aligned to 64 bytes, for a GPU in memory that it
//! reads by itself, and used again and again. A cell that holds nothing is what the transform makes of 0, so that hits and dense
//! images give the same; what only fills up (the zeros around an image, behind a list, behind the last row) is 0 itself. A row without a value is NaN.

use super::memory::{Pinned, Room};
use super::norm::{Real, Transform};
use super::tensor::{Fed, FedHits};
use crate::Fault;
use anyhow::{Context, bail, ensure};
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{ArrowPrimitiveType, DataType, UInt16Type, UInt32Type};
use std::ops::Range;

/// One column (or one value of its hits) within the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The column.
    pub column: String,
    /// What of it is read.
    pub what: What,
    /// What happens to its values.
    pub transform: Transform,
    /// Its cells in a row of the input.
    pub cells: Cells,
}

/// What of a column is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The values; of hits and lists of structures the value of this number.
    Value(usize),
    /// 1 for each entry of a list.
    Mask,
}

/// Where the cells of a column stand in a row of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cells {
    /// They are the row, in their order.
    All,
    /// Cell `i` stands at `first + i * step`; there are `count`, and of a list no more are taken.
    Strided {
        /// The place of the first.
        first: usize,
        /// From one to the next.
        step: usize,
        /// How many.
        count: usize,
    },
    /// Cell `i` stands at `of[i]`: an image within a larger one.
    Placed(Vec<u32>),
}

impl Cells {
    /// How many there are, in rows of so many values.
    fn there(&self, width: usize) -> usize {
        match self {
            Self::All => width,
            Self::Strided { count, .. } => *count,
            Self::Placed(of) => of.len(),
        }
    }

    fn place(&self, cell: usize) -> Option<usize> {
        match self {
            Self::All => Some(cell),
            Self::Strided { first, step, count } => (cell < *count).then_some(first + cell * step),
            Self::Placed(of) => of.get(cell).map(|place| *place as usize),
        }
    }
}

/// What an input is made of: equal plans are fed once.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// True where values are prepared in `f32`, else in `f64`.
    pub narrow: bool,
    /// True where hits stay hits: for models that take them so.
    pub hits: bool,
    /// The number of values in a row.
    pub row: usize,
    /// What it is filled from.
    pub parts: Vec<Part>,
}

/// The batch buffer of one input.
#[derive(Debug)]
pub struct Feed {
    plan: Plan,
    values: Rows,
}

/// The rows of a buffer.
#[derive(Debug)]
enum Rows {
    Narrow(Room<f32>),
    Wide(Room<f64>),
    /// Hits that stay hits.
    Hits(Hits),
}

/// The hits of some rows.
#[derive(Debug, Default)]
struct Hits {
    ends: Vec<usize>,
    cells: Vec<u32>,
    values: Vec<f32>,
}

/// The columns of one input, ready to be put into its buffer.
#[derive(Debug)]
pub enum Prepared {
    /// In `f32`.
    Narrow(Vec<Ready<f32>>),
    /// In `f64`.
    Wide(Vec<Ready<f64>>),
}

/// A column, its values transformed.
#[derive(Debug)]
pub struct Ready<R: Real> {
    form: Form<R>,
    nulls: Option<NullBuffer>,
    nothing: R,
}

/// Where the entries of each row end, in values of which those before the first row are gone: the rows may be a slice of many.
#[derive(Debug)]
struct Ends(OffsetBuffer<i32>);

impl Ends {
    fn of(&self, row: usize) -> Range<usize> {
        (self.0[row] - self.0[0]) as usize..(self.0[row + 1] - self.0[0]) as usize
    }

    /// The entries of all rows.
    fn slice(&self, values: &ArrayRef) -> ArrayRef {
        let first = self.0[0] as usize;
        values.slice(first, self.0[self.0.len() - 1] as usize - first)
    }
}

#[derive(Debug)]
enum Form<R: Real> {
    /// So many values a row.
    Dense(usize, ScalarBuffer<R>),
    Narrow(Ends, ScalarBuffer<u16>, ScalarBuffer<R>),
    Wide(Ends, ScalarBuffer<u32>, ScalarBuffer<R>),
    List(Ends, ScalarBuffer<R>),
    Mask(Ends),
}

impl Plan {
    /// The columns of a batch, in the type in which they are prepared, transformed.
    ///
    /// # Errors
    /// A column is not what was planned.
    pub fn prepare<'a>(&self, column: impl Fn(&str) -> &'a ArrayRef) -> Result<Prepared, Fault> {
        fn all<'a, R: Real>(parts: &[Part], column: impl Fn(&str) -> &'a ArrayRef) -> Result<Vec<Ready<R>>, Fault> {
            let one = |part: &Part| Ready::new(part, column(&part.column)).map_err(|e| fault_in(&part.column, e));
            parts.iter().map(one).collect()
        }
        Ok(if self.narrow { Prepared::Narrow(all(&self.parts, column)?) } else { Prepared::Wide(all(&self.parts, column)?) })
    }

    /// True where hits may stay hits: they are images of hits alone, prepared in `f32`, and nothing becomes nothing.
    #[must_use]
    pub fn may_stay_hits(&self, is_hits: impl Fn(&str) -> bool) -> bool {
        let part = |part: &Part| {
            matches!(part.what, What::Value(_)) && is_hits(&part.column) && part.transform.of_nothing::<f32>().to_bits() == 0
        };
        self.narrow && self.parts.iter().all(part)
    }

    /// Bytes of a row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row * if self.narrow { size_of::<f32>() } else { size_of::<f64>() }
    }

    /// How many lists of these rows are longer than what is taken of them, each with its column.
    #[must_use]
    pub fn too_long(&self, column: &str, array: &ArrayRef) -> usize {
        let taken = self.parts.iter().filter(|p| p.column == column).filter_map(|p| match &p.cells {
            Cells::Strided { count, .. } => Some(*count),
            _ => None,
        });
        let (Some(taken), Some(list)) = (taken.min(), array.as_list_opt::<i32>()) else { return 0 };
        list.offsets().lengths().filter(|length| *length > taken).count()
    }
}

fn fault_in(column: &str, error: anyhow::Error) -> Fault {
    Fault::content(format!("column `{column}`: {error:#}"))
}

impl<R: Real> Ready<R> {
    fn new(part: &Part, column: &ArrayRef) -> anyhow::Result<Self> {
        let nothing = part.transform.of_nothing();
        let nulls = column.nulls().cloned();
        let form = match (column.data_type(), part.what) {
            (DataType::List(_), What::Mask) => Form::Mask(Ends(column.as_list::<i32>().offsets().clone())),
            (DataType::List(item), What::Value(value)) => {
                let list = column.as_list::<i32>();
                let ends = Ends(list.offsets().clone());
                let DataType::Struct(fields) = item.data_type() else {
                    let values = values(&ends.slice(list.values()), part)?;
                    return Ok(Self { form: Form::List(ends, values), nulls, nothing });
                };
                let hits = list.values().as_struct();
                let hits_of_an_image = fields.first().is_some_and(|f| f.name() == crate::hits::CELL);
                let number = value + usize::from(hits_of_an_image);
                ensure!(number < hits.num_columns(), "value {value} of {}", hits.num_columns());
                let values = values(&ends.slice(hits.column(number)), part)?;
                let index = ends.slice(hits.column(0));
                match index.data_type() {
                    _ if !hits_of_an_image => Form::List(ends, values),
                    DataType::UInt16 => Form::Narrow(ends, index.as_primitive::<UInt16Type>().values().clone(), values),
                    DataType::UInt32 => Form::Wide(ends, index.as_primitive::<UInt32Type>().values().clone(), values),
                    other => bail!("cells of type {other}"),
                }
            }
            (DataType::FixedSizeList(..), _) => {
                let list = column.as_fixed_size_list();
                let width = usize::try_from(list.value_length())?;
                Form::Dense(width, values(list.values(), part)?)
            }
            _ => Form::Dense(1, values(column, part)?),
        };
        Ok(Self { form, nulls, nothing })
    }

    /// Puts row number `row` of the column into a row of the input, which is all 0.
    fn put(&self, row: usize, cells: &Cells, into: &mut [R]) -> anyhow::Result<()> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return each(cells, into, |slot| *slot = R::of(f64::NAN));
        }
        match &self.form {
            Form::Dense(width, values) => {
                let values = &values[row * width..(row + 1) * width];
                if *cells == Cells::All {
                    ensure!(values.len() == into.len(), "a row has {width} values, not {}", into.len());
                    into.copy_from_slice(values);
                    return Ok(());
                }
                for (cell, value) in values.iter().enumerate() {
                    *slot(cells, cell, into)? = *value;
                }
                Ok(())
            }
            Form::Narrow(ends, index, values) => {
                let of_row = ends.of(row);
                scatter(&index[of_row.clone()], &values[of_row], self.nothing, cells, into)
            }
            Form::Wide(ends, index, values) => {
                let of_row = ends.of(row);
                scatter(&index[of_row.clone()], &values[of_row], self.nothing, cells, into)
            }
            Form::List(ends, values) => {
                for (cell, value) in values[ends.of(row)].iter().enumerate() {
                    let Some(slot) = cells.place(cell).and_then(|place| into.get_mut(place)) else { break };
                    *slot = *value;
                }
                Ok(())
            }
            Form::Mask(ends) => {
                for cell in 0..ends.of(row).len() {
                    let Some(slot) = cells.place(cell).and_then(|place| into.get_mut(place)) else { break };
                    *slot = R::of(1.0);
                }
                Ok(())
            }
        }
    }
}

/// The values of a column in their type, transformed; without a copy where nothing changes. A missing one is NaN.
fn values<R: Real>(column: &ArrayRef, part: &Part) -> anyhow::Result<ScalarBuffer<R>> {
    let cast = cast(column, &R::Arrow::DATA_TYPE)?;
    let array: &PrimitiveArray<R::Arrow> = cast.as_primitive();
    if array.null_count() == 0 && part.transform.is_nothing() {
        return Ok(array.values().clone());
    }
    let mut values: Vec<R> = array.values().to_vec();
    R::transform(&part.transform, &mut values);
    let missing = values.iter_mut().enumerate().filter(|(row, _)| array.is_null(*row));
    missing.for_each(|(_, value)| *value = R::of(f64::NAN));
    Ok(values.into())
}

fn slot<'a, R>(cells: &Cells, cell: usize, into: &'a mut [R]) -> anyhow::Result<&'a mut R> {
    let there = cells.there(into.len());
    let outside = || format!("a hit lies outside of the {there} cells");
    cells.place(cell).and_then(|place| into.get_mut(place)).with_context(outside)
}

fn each<R>(cells: &Cells, into: &mut [R], mut change: impl FnMut(&mut R)) -> anyhow::Result<()> {
    match cells {
        Cells::All => into.iter_mut().for_each(change),
        Cells::Strided { first, step, count } => into.iter_mut().skip(*first).step_by(*step).take(*count).for_each(change),
        Cells::Placed(of) => {
            for place in of {
                change(into.get_mut(*place as usize).context("a place within the row")?);
            }
        }
    }
    Ok(())
}

/// Hits into a row that is all 0.
fn scatter<R: Real, C: Copy + Into<u32>>(
    index: &[C],
    values: &[R],
    nothing: R,
    cells: &Cells,
    into: &mut [R],
) -> anyhow::Result<()> {
    if nothing != R::default() {
        each(cells, into, |slot| *slot = nothing)?;
    }
    if *cells != Cells::All {
        for (cell, value) in index.iter().zip(values) {
            *slot(cells, (*cell).into() as usize, into)? = *value;
        }
        return Ok(());
    }
    let mut inside = true;
    for (cell, value) in index.iter().zip(values) {
        let cell: u32 = (*cell).into();
        match into.get_mut(cell as usize) {
            Some(slot) => *slot = *value,
            None => inside = false,
        }
    }
    ensure!(inside, "a hit lies outside of the {} cells", into.len());
    Ok(())
}

impl Feed {
    /// A buffer for `rows` rows, where a device reads by itself if it gives such memory.
    #[must_use]
    pub fn new(plan: Plan, rows: usize, pinned: Option<&Pinned>) -> Self {
        let values = match (plan.hits, plan.narrow) {
            (true, _) => Rows::Hits(Hits { ends: vec![0], ..Hits::default() }),
            (false, true) => Rows::Narrow(Room::zeros(rows * plan.row, pinned)),
            (false, false) => Rows::Wide(Room::zeros(rows * plan.row, pinned)),
        };
        Self { plan, values }
    }

    /// What it is made of.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Puts the rows `first..first + rows` of columns that went through [`Plan::prepare`] at row `at` of the buffer.
    ///
    /// # Errors
    /// A hit that is not in the image.
    pub fn fill(&mut self, prepared: &Prepared, first: usize, rows: usize, at: usize) -> Result<(), Fault> {
        match (prepared, &mut self.values) {
            (Prepared::Narrow(columns), Rows::Hits(hits)) => hits.fill(&self.plan, columns, first, rows, at),
            (Prepared::Narrow(columns), Rows::Narrow(into)) => fill(&self.plan, into.all_mut(), columns, first, rows, at),
            (Prepared::Wide(columns), Rows::Wide(into)) => fill(&self.plan, into.all_mut(), columns, first, rows, at),
            _ => Err(anyhow::anyhow!("columns were prepared for another buffer").into()),
        }
    }

    /// Bytes of so many rows.
    #[must_use]
    pub fn bytes(&self, rows: usize) -> usize {
        match &self.values {
            Rows::Hits(hits) => hits.cells.len() * (size_of::<u32>() + size_of::<f32>()),
            _ => rows * self.plan.row_bytes(),
        }
    }

    /// Zeroes the rows `from..to`.
    pub fn pad(&mut self, from: usize, to: usize) {
        let cells = from * self.plan.row..to * self.plan.row;
        match &mut self.values {
            Rows::Narrow(values) => values.all_mut()[cells].fill(0.0),
            Rows::Wide(values) => values.all_mut()[cells].fill(0.0),
            Rows::Hits(hits) => {
                hits.cut(from);
                hits.ends.resize(to + 1, hits.cells.len());
            }
        }
    }

    /// Fills hits that stay hits with every tenth cell, as in a shower, to measure with; dense values stay 0.
    pub fn sketch(&mut self, rows: usize) {
        let Rows::Hits(hits) = &mut self.values else { return };
        hits.cut(0);
        for _ in 0..rows {
            hits.cells.extend((0..self.plan.row as u32).step_by(10));
            hits.ends.push(hits.cells.len());
        }
        hits.values.resize(hits.cells.len(), 1.0);
    }

    /// `rows` rows from row `first` on.
    #[must_use]
    pub fn rows(&self, first: usize, rows: usize) -> Fed<'_> {
        let cells = first * self.plan.row..(first + rows) * self.plan.row;
        match &self.values {
            Rows::Narrow(values) => Fed::F32(&values.all()[cells]),
            Rows::Wide(values) => Fed::F64(&values.all()[cells]),
            Rows::Hits(Hits { ends, cells, values }) => Fed::Hits(FedHits { ends: &ends[first..=first + rows], cells, values }),
        }
    }
}

impl Hits {
    /// Forgets all rows from this one on.
    fn cut(&mut self, at: usize) {
        self.ends.truncate(at + 1);
        let end = self.ends.last().copied().unwrap_or(0);
        self.cells.truncate(end);
        self.values.truncate(end);
    }

    fn fill(&mut self, plan: &Plan, columns: &[Ready<f32>], first: usize, rows: usize, at: usize) -> Result<(), Fault> {
        self.cut(at);
        for row in first..first + rows {
            for (column, part) in columns.iter().zip(&plan.parts) {
                self.put(column, row, &part.cells, plan.row).map_err(|e| fault_in(&part.column, e))?;
            }
            self.ends.push(self.cells.len());
        }
        Ok(())
    }

    /// Appends the hits of a row of a column.
    fn put(&mut self, column: &Ready<f32>, row: usize, cells: &Cells, width: usize) -> anyhow::Result<()> {
        if column.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            let there = cells.there(width);
            let all = (0..there).filter_map(|cell| cells.place(cell)).map(|place| place as u32);
            self.cells.extend(all);
            self.values.resize(self.cells.len(), f32::NAN);
            return Ok(());
        }
        match &column.form {
            Form::Narrow(ends, index, values) => {
                let of = ends.of(row);
                self.append(&index[of.clone()], &values[of], cells, width)
            }
            Form::Wide(ends, index, values) => {
                let of = ends.of(row);
                self.append(&index[of.clone()], &values[of], cells, width)
            }
            _ => bail!("it holds no hits"),
        }
    }

    fn append<C: Copy + Into<u32>>(&mut self, index: &[C], values: &[f32], cells: &Cells, width: usize) -> anyhow::Result<()> {
        let from = self.cells.len();
        let mut sorted = true;
        let mut last = None;
        for cell in index {
            let cell: u32 = (*cell).into();
            sorted &= last.is_none_or(|last| last < cell);
            last = Some(cell);
            let place = cells.place(cell as usize).filter(|place| *place < width);
            let place = place.with_context(|| format!("a hit lies outside of the {} cells", cells.there(width)))?;
            self.cells.push(place as u32);
        }
        self.values.extend_from_slice(values);
        if !sorted {
            // The last of several hits of a cell counts, as in a dense image.
            let mut last: std::collections::BTreeMap<u32, f32> = std::collections::BTreeMap::new();
            last.extend(self.cells.drain(from..).zip(self.values.drain(from..)));
            self.cells.extend(last.keys());
            self.values.extend(last.values());
        }
        Ok(())
    }
}

fn fill<R: Real>(plan: &Plan, into: &mut [R], columns: &[Ready<R>], first: usize, rows: usize, at: usize) -> Result<(), Fault> {
    // An image that is dense already is the row as it stands.
    let whole =
        matches!((columns, &plan.parts[..]), ([one], [part]) if part.cells == Cells::All && matches!(one.form, Form::Dense(..)));
    for row in 0..rows {
        let into = &mut into[(at + row) * plan.row..(at + row + 1) * plan.row];
        if !whole {
            // One row at a time is zeroed and filled, so that it is still in the cache when its hits come.
            into.fill(R::default());
        }
        for (column, part) in columns.iter().zip(&plan.parts) {
            column.put(first + row, &part.cells, into).map_err(|e| fault_in(&part.column, e))?;
        }
    }
    Ok(())
}
