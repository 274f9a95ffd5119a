//! Moves of an image onto itself: cells change places, whole and unchanged; and the work of the operators that do it.
//!
//! A motion takes the cell at coordinates (i, j, ..) to one whose flat index is a sum over the axes, `origin + sum of
//! coordinate * step`: flips and quarter turns are all of that form. Hits stay in ascending order of their cells, each cell
//! at most once, as [`crate::hits`] promises.

use crate::draw;
use crate::work::{Map, Mapped};
use crate::{Fault, words};
use anyhow::Context;
use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, PrimitiveArray, RecordBatch, StructArray, UInt32Array,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{ArrowPrimitiveType, DataType, UInt32Type};
use arrow::downcast_primitive_array;
use std::sync::Arc;

/// Where each cell of an image goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Motion {
    /// Length and stride of each axis where a cell comes from, and its stride where it goes.
    axes: Vec<(usize, usize, isize)>,
    origin: isize,
}

impl Motion {
    /// Every cell stays.
    #[must_use]
    pub fn rest(shape: &[usize]) -> Self {
        let mut stride = 1_usize;
        let mut axes: Vec<(usize, usize, isize)> = shape
            .iter()
            .rev()
            .map(|length| {
                let axis = (*length, stride, stride.cast_signed());
                stride *= length;
                axis
            })
            .collect();
        axes.reverse();
        Self { axes, origin: 0 }
    }

    /// Also the other way round along an axis, as `numpy.flip`.
    #[must_use]
    pub fn flipped(mut self, axis: usize) -> Self {
        let (length, _, step) = &mut self.axes[axis];
        self.origin += (length.cast_signed() - 1) * *step;
        *step = -*step;
        self
    }

    /// Quarter turns in the plane of two axes, from the first towards the second, as `numpy.rot90`. A shape keeps itself
    /// only where the axes are equally long, or the turns a half one.
    #[must_use]
    pub fn turned(shape: &[usize], plane: [usize; 2], quarters: usize) -> Self {
        let [a, b] = plane;
        let mut motion = Self::rest(shape);
        match quarters % 4 {
            0 => motion,
            2 => motion.flipped(a).flipped(b),
            one_or_three => {
                // numpy: one quarter is a flip of b, then the axes exchanged; three are the exchange, then the flip.
                let (step_a, step_b) = (motion.axes[a].2, motion.axes[b].2);
                (motion.axes[a].2, motion.axes[b].2) = (step_b, step_a);
                motion.flipped(if one_or_three == 1 { b } else { a })
            }
        }
    }

    fn is_rest(&self) -> bool {
        self.axes.iter().all(|(_, stride, step)| stride.cast_signed() == *step)
    }

    /// Where a cell goes.
    #[must_use]
    pub fn of(&self, cell: usize) -> usize {
        let place = |(length, stride, step): &(usize, usize, isize)| ((cell / stride) % length).cast_signed() * step;
        (self.origin + self.axes.iter().map(place).sum::<isize>()).cast_unsigned()
    }

    fn cells(&self) -> usize {
        self.axes.iter().map(|(length, ..)| length).product()
    }
}

/// The images of a hits or dense column, moved: that of row i by `motions[which[i]]`. An error where a hit has no such cell.
pub fn moved(column: &ArrayRef, motions: &[Motion], which: &[usize]) -> anyhow::Result<ArrayRef> {
    let cells = motions.first().map_or(0, Motion::cells);
    match column.as_any().downcast_ref::<FixedSizeListArray>() {
        Some(dense) => moved_dense(dense, cells, motions, which),
        None => moved_hits(column.as_list_opt::<i32>().context("a hits or dense column")?, cells, motions, which),
    }
}

fn moved_hits(list: &ListArray, cells: usize, motions: &[Motion], which: &[usize]) -> anyhow::Result<ArrayRef> {
    let (hits, from) = rows_of(list)?;
    let index = cast(hits.column(0), &DataType::UInt32)?;
    let index = index.as_primitive::<UInt32Type>().values();
    let mut order: Vec<u32> = Vec::with_capacity(index.len());
    let mut places: Vec<u32> = Vec::with_capacity(index.len());
    let mut keys: Vec<u64> = Vec::new();
    for (ends, which) in list.value_offsets().windows(2).zip(which) {
        let (first, last) = ((ends[0] - from) as usize, (ends[1] - from) as usize);
        if let Some(cell) = index[first..last].iter().find(|cell| **cell as usize >= cells) {
            anyhow::bail!("a hit in cell {cell} of {}", words::count(cells as u64));
        }
        let motion = &motions[*which];
        if motion.is_rest() {
            order.extend(first as u32..last as u32);
            places.extend(&index[first..last]);
            continue;
        }
        keys.clear();
        keys.extend((first..last).map(|i| (motion.of(index[i] as usize) as u64) << 32 | i as u64));
        keys.sort_unstable();
        order.extend(keys.iter().map(|key| *key as u32));
        places.extend(keys.iter().map(|key| (key >> 32) as u32));
    }
    let order = UInt32Array::from(order);
    let mut columns = vec![cast(&UInt32Array::from(places), hits.column(0).data_type())?];
    for values in &hits.columns()[1..] {
        columns.push(take(values, &order, None)?);
    }
    rebuilt(list, columns)
}

/// The hits of the rows of a list, and the offset of the first; an error where some are missing.
pub(crate) fn rows_of(list: &ListArray) -> anyhow::Result<(StructArray, i32)> {
    let hits = list.values().as_struct_opt().context("a hits column")?;
    let (from, to) = (list.value_offsets()[0], list.value_offsets()[list.len()]);
    let hits = hits.slice(from as usize, (to - from) as usize);
    let whole = hits.null_count() == 0 && hits.num_columns() > 0 && hits.column(0).null_count() == 0;
    anyhow::ensure!(whole, "hits without a cell");
    Ok((hits, from))
}

/// The list with other hits in the places of its own: as many in each row.
fn rebuilt(list: &ListArray, columns: Vec<ArrayRef>) -> anyhow::Result<ArrayRef> {
    let from = list.value_offsets()[0];
    let offsets: Vec<i32> = list.value_offsets().iter().map(|offset| offset - from).collect();
    with_offsets(list, offsets, columns)
}

/// A list of the type of another, of these offsets and columns of hits.
pub(crate) fn with_offsets(like: &ListArray, offsets: Vec<i32>, columns: Vec<ArrayRef>) -> anyhow::Result<ArrayRef> {
    let DataType::List(item) = like.data_type() else { anyhow::bail!("a hits column") };
    let DataType::Struct(fields) = item.data_type() else { anyhow::bail!("a hits column") };
    let hits = StructArray::try_new(fields.clone(), columns, None)?;
    let list = ListArray::try_new(item.clone(), OffsetBuffer::new(offsets.into()), Arc::new(hits), like.nulls().cloned())?;
    Ok(Arc::new(list))
}

fn moved_dense(dense: &FixedSizeListArray, cells: usize, motions: &[Motion], which: &[usize]) -> anyhow::Result<ArrayRef> {
    let length = usize::try_from(dense.value_length())?;
    anyhow::ensure!(length == cells && cells > 0, "images of {length} cells, not {cells}");
    let values: &dyn Array = dense.values();
    anyhow::ensure!(values.null_count() == 0, "{} missing", words::counted(values.null_count() as u64, "value"));
    let values: ArrayRef = downcast_primitive_array! {
        values => {
            let mut into = values.values().to_vec();
            for ((image, old), which) in into.chunks_exact_mut(cells).zip(values.values().chunks_exact(cells)).zip(which) {
                let motion = &motions[*which];
                if !motion.is_rest() {
                    old.iter().enumerate().for_each(|(cell, value)| image[motion.of(cell)] = *value);
                }
            }
            like(values, into)
        }
        other => anyhow::bail!("values of type {other}"),
    };
    dense_like(dense, values)
}

/// A dense column of the type of another, of these values.
pub(crate) fn dense_like(dense: &FixedSizeListArray, values: ArrayRef) -> anyhow::Result<ArrayRef> {
    let DataType::FixedSizeList(item, length) = dense.data_type() else { anyhow::bail!("a dense column") };
    Ok(Arc::new(FixedSizeListArray::try_new(item.clone(), *length, values, dense.nulls().cloned())?))
}

fn like<T: ArrowPrimitiveType>(old: &PrimitiveArray<T>, values: Vec<T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), None).with_data_type(old.data_type().clone()))
}

/// Which motion an event gets.
pub enum Choice {
    /// The same for all.
    Fixed(usize),
    /// Drawn by its identity.
    Drawn(Box<dyn Fn(u64) -> usize + Send>),
}

/// Moves images, all of an event by the same choice.
pub struct Moving {
    /// The columns, each with the motions to choose from.
    pub images: Vec<(String, Vec<Motion>)>,
    /// Which of them.
    pub choice: Choice,
}

impl Map for Moving {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        let which: Vec<usize> = match &self.choice {
            Choice::Fixed(which) => vec![*which; batch.num_rows()],
            Choice::Drawn(draw) => draw::events(&batch)?.iter().map(|event| draw(*event)).collect(),
        };
        let mut columns = batch.columns().to_vec();
        for (name, motions) in &self.images {
            let at = batch.schema_ref().index_of(name)?;
            columns[at] =
                moved(&columns[at], motions, &which).map_err(|reason| Fault::content(format!("`{name}`: {reason:#}")))?;
        }
        Ok(Mapped { batch: RecordBatch::try_new(batch.schema(), columns)?, cut: 0 })
    }
}

#[cfg(test)]
mod tests;
