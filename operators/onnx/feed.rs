//! What a model reads: the batch buffer of one input, filled from hits, dense images, lists or numbers of one or several columns.
//!
//! Invariants: hits become dense in this buffer and nowhere else; it is made once, aligned to 64 bytes, for a GPU in memory that it
//! reads by itself, and used again and again. A cell that holds nothing is what the transform makes of 0, so that hits and dense
//! images give the same; what only fills up (the zeros around an image, behind a list, behind the last row) is 0 itself.

use super::memory::{Pinned, Room};
use super::norm::{Real, Transform};
use super::ready::{Form, Ready};
use super::tensor::{Fed, FedHits, Prepare};
use crate::Fault;
use anyhow::{Context, bail};
use arrow::array::{ArrayRef, AsArray};

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
    /// By what the entries of a list are ordered; as they stand, where there is none.
    pub order: Option<Order>,
}

/// By what the entries of a list are ordered: equal ones stay in their order, those without a value are the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The list with the values, which has as many entries.
    pub column: String,
    /// The value of its entries, by number.
    pub value: usize,
    /// True from the largest on.
    pub falling: bool,
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
    pub(super) fn there(&self, width: usize) -> usize {
        match self {
            Self::All => width,
            Self::Strided { count, .. } => *count,
            Self::Placed(of) => of.len(),
        }
    }

    pub(super) fn place(&self, cell: usize) -> Option<usize> {
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
    /// The type in which values are prepared.
    pub to: Prepare,
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
    Signed(Room<i64>),
    Unsigned(Room<u64>),
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
    /// In `i64`.
    Signed(Vec<Ready<i64>>),
    /// In `u64`.
    Unsigned(Vec<Ready<u64>>),
}

impl Plan {
    /// The columns of a batch, in the type in which they are prepared, transformed.
    ///
    /// # Errors
    /// A column is not what was planned.
    pub fn prepare<'a>(&self, column: impl Fn(&str) -> &'a ArrayRef) -> Result<Prepared, Fault> {
        fn all<'a, R: Real>(plan: &Plan, column: impl Fn(&str) -> &'a ArrayRef) -> Result<Vec<Ready<R>>, Fault> {
            let without_nan = plan.to.without_nan();
            let one = |part: &Part| {
                let by = part.order.as_ref().map(|order| (order, column(&order.column)));
                Ready::new(part, column(&part.column), by, without_nan).map_err(|e| fault_in(&part.column, e))
            };
            plan.parts.iter().map(one).collect()
        }
        Ok(match self.to {
            Prepare::F32 => Prepared::Narrow(all(self, column)?),
            Prepare::F64 | Prepare::Truth => Prepared::Wide(all(self, column)?),
            Prepare::I64 => Prepared::Signed(all(self, column)?),
            Prepare::U64 => Prepared::Unsigned(all(self, column)?),
        })
    }

    /// True where hits may stay hits: they are images of hits alone, prepared in `f32`, and nothing becomes nothing.
    #[must_use]
    pub fn may_stay_hits(&self, is_hits: impl Fn(&str) -> bool) -> bool {
        let part = |part: &Part| {
            matches!(part.what, What::Value(_)) && is_hits(&part.column) && part.transform.of_nothing::<f32>().to_bits() == 0
        };
        self.to == Prepare::F32 && self.parts.iter().all(part)
    }

    /// Bytes of a row.
    #[must_use]
    pub fn row_bytes(&self) -> usize {
        self.row * if self.to == Prepare::F32 { size_of::<f32>() } else { size_of::<f64>() }
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

impl Feed {
    /// A buffer for `rows` rows, where a device reads by itself if it gives such memory.
    #[must_use]
    pub fn new(plan: Plan, rows: usize, pinned: Option<&Pinned>) -> Self {
        let length = rows * plan.row;
        let values = match plan.to {
            _ if plan.hits => Rows::Hits(Hits { ends: vec![0], ..Hits::default() }),
            Prepare::F32 => Rows::Narrow(Room::zeros(length, pinned)),
            Prepare::F64 | Prepare::Truth => Rows::Wide(Room::zeros(length, pinned)),
            Prepare::I64 => Rows::Signed(Room::zeros(length, pinned)),
            Prepare::U64 => Rows::Unsigned(Room::zeros(length, pinned)),
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
            (Prepared::Signed(columns), Rows::Signed(into)) => fill(&self.plan, into.all_mut(), columns, first, rows, at),
            (Prepared::Unsigned(columns), Rows::Unsigned(into)) => fill(&self.plan, into.all_mut(), columns, first, rows, at),
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
            Rows::Signed(values) => values.all_mut()[cells].fill(0),
            Rows::Unsigned(values) => values.all_mut()[cells].fill(0),
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
            Rows::Signed(values) => Fed::I64(&values.all()[cells]),
            Rows::Unsigned(values) => Fed::U64(&values.all()[cells]),
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
