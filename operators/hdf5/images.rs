//! From the bytes of a dataset to Arrow columns: hits straight from byte planes, hits from dense values, dense tensors, numbers.
//!
//! A cell is a hit unless all its bytes are zero (+0), which [`scan`] looks for. Thresholds and narrowing come after that, on
//! the few hits that there are. Invariant: no hit of a finished column holds +0.

use super::element::{Kind, Number, Numbers};
use super::rows::{Run, Values};
use super::scan;
use crate::Fault;
use crate::work::{Noticed, notice};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray, StructArray};
use arrow::buffer::{Buffer, MutableBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options, filter};
use arrow::datatypes::{
    ArrowNativeType, DataType, Field, Fields, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    ToByteSlice, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use std::cmp::Ordering;
use std::sync::Arc;

/// Bytes that are read at a time where they are only looked through: they stay in the second cache.
const PIECE_BYTES: usize = 128 << 10;

/// Which numbers of a row make a column: `groups` elements of `stride` bytes from byte `start` on, of each the first `each` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// The number.
    pub number: Number,
    /// Bytes of a row.
    pub row_bytes: usize,
    /// The first byte of the first number.
    pub start: usize,
    /// Elements.
    pub groups: usize,
    /// Bytes from one element to the next.
    pub stride: usize,
    /// Numbers in each element, one after the other.
    pub each: usize,
}

impl Pick {
    /// Numbers in a row.
    #[must_use]
    pub fn numbers(&self) -> usize {
        self.groups * self.each
    }

    /// True where the numbers of a row are the whole row.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.start == 0 && self.numbers() * usize::from(self.number.bytes) == self.row_bytes
    }

    /// The same numbers in rows as the library hands them over: only these numbers, little-endian, without gaps.
    #[must_use]
    pub fn packed(&self, numbers: &Numbers) -> Self {
        let bytes = usize::from(self.number.bytes);
        let (elements, first) = (self.row_bytes / self.stride, (self.start - numbers.offset as usize) / self.stride);
        let stride = self.each * bytes;
        let number = Number { big_endian: false, plain: true, stored: self.number.bytes.into(), ..self.number };
        Self { number, row_bytes: elements * stride, start: first * stride, groups: self.groups, stride, each: self.each }
    }

    /// The numbers of all rows, one after the other, little-endian.
    #[must_use]
    pub fn take(&self, rows: &[u8]) -> MutableBuffer {
        let size = usize::from(self.number.bytes);
        let count = rows.len() / self.row_bytes.max(1);
        let mut out = MutableBuffer::with_capacity(count * self.numbers() * size);
        if self.is_whole() {
            out.extend_from_slice(rows);
        } else {
            for row in rows.chunks_exact(self.row_bytes.max(1)) {
                for group in 0..self.groups {
                    out.extend_from_slice(&row[self.start + group * self.stride..][..self.each * size]);
                }
            }
        }
        if self.number.big_endian && size > 1 {
            out.as_slice_mut().chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        out
    }
}

/// Runs the body with the Arrow type of a data type.
macro_rules! with_type {
    ($type:expr, $T:ident => $body:expr) => {
        match $type {
            DataType::Int8 => {
                type $T = Int8Type;
                $body
            }
            DataType::Int16 => {
                type $T = Int16Type;
                $body
            }
            DataType::Int32 => {
                type $T = Int32Type;
                $body
            }
            DataType::Int64 => {
                type $T = Int64Type;
                $body
            }
            DataType::UInt8 => {
                type $T = UInt8Type;
                $body
            }
            DataType::UInt16 => {
                type $T = UInt16Type;
                $body
            }
            DataType::UInt32 => {
                type $T = UInt32Type;
                $body
            }
            DataType::UInt64 => {
                type $T = UInt64Type;
                $body
            }
            DataType::Float16 => {
                type $T = Float16Type;
                $body
            }
            DataType::Float32 => {
                type $T = Float32Type;
                $body
            }
            DataType::Float64 => {
                type $T = Float64Type;
                $body
            }
            other => Err(Fault::Machine(anyhow::anyhow!("{other} is no number"))),
        }
    };
}

/// The type of a hit's value or a tensor's cell: truth values become 0 and 1.
#[must_use]
pub fn cell_value(number: Number) -> DataType {
    if number.kind == Kind::Boolean { DataType::UInt8 } else { number.arrow() }
}

/// What is done to hits after they were found.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Refine {
    /// Hits of a magnitude below this are dropped.
    pub threshold: Option<f64>,
    /// Hits below 0 are dropped.
    pub drop_negative: bool,
}

/// Hits of rows of `cells` numbers, run by run.
pub fn hits_of_runs(
    runs: &[Run<'_>],
    cells: usize,
    number: Number,
    field: &Field,
    refine: Refine,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let bytes = cell_value(number).primitive_width();
    let find = match (bytes, hit_fields(field)?[0].data_type()) {
        (Some(1), DataType::UInt16) => found::<1, u16, u8>,
        (Some(2), DataType::UInt16) => found::<2, u16, u16>,
        (Some(4), DataType::UInt16) => found::<4, u16, u32>,
        (Some(8), DataType::UInt16) => found::<8, u16, u64>,
        (Some(1), _) => found::<1, u32, u8>,
        (Some(2), _) => found::<2, u32, u16>,
        (Some(4), _) => found::<4, u32, u32>,
        (Some(8), _) => found::<8, u32, u64>,
        _ => return Err(anyhow::anyhow!("{} is no number", cell_value(number)).into()),
    };
    find(runs, cells, number, field, refine, noticed)
}

/// The same for numbers of `SIZE` bytes, the bits of which are `V`.
fn found<const SIZE: usize, C: scan::Cell + ArrowNativeType, V: scan::Bits + ArrowNativeType>(
    runs: &[Run<'_>],
    cells: usize,
    number: Number,
    field: &Field,
    refine: Refine,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let mut hits = Hits::<C, V>::new(runs.iter().map(|run| run.rows).sum(), cells);
    let row_bytes = cells * SIZE;
    let mut piece = Vec::new();
    for run in runs {
        let rows = run.first..run.first + run.rows;
        if let Some(Values::Stored(stored)) = run.values {
            let step = (PIECE_BYTES / row_bytes.max(1)).max(1);
            for first in rows.step_by(step) {
                let count = step.min(run.first + run.rows - first);
                piece.resize(count * row_bytes, 0);
                stored.read(&mut piece, first * row_bytes)?;
                for row in 0..count {
                    let image = &piece[row * row_bytes..][..row_bytes];
                    hits.row(|cells, values| scan::plain::<SIZE, C, V>(image, number.big_endian, cells, values))?;
                }
            }
            continue;
        }
        for row in rows {
            match run.values {
                Some(Values::Planes { bytes, block }) => {
                    let (first, end) = (row * cells, (row + 1) * cells);
                    hits.row(|cells, values| {
                        let (mut at, mut found) = (first, 0);
                        while at < end {
                            let begin = at / block * block;
                            let length = block.min(bytes.len() / SIZE - begin);
                            let to = end.min(begin + length);
                            // The least significant byte first.
                            let planes: [&[u8]; SIZE] = std::array::from_fn(|b| {
                                let plane = if number.big_endian { SIZE - 1 - b } else { b };
                                &bytes[begin * SIZE + plane * length + at - begin..][..to - at]
                            });
                            found += scan::planes(planes, at - first, &mut cells[found..], &mut values[found..]);
                            at = to;
                        }
                        found
                    })?;
                }
                Some(Values::Plain(bytes)) => {
                    let image = &bytes[row * row_bytes..][..row_bytes];
                    hits.row(|cells, values| scan::plain::<SIZE, C, V>(image, number.big_endian, cells, values))?;
                }
                Some(Values::Stored(_)) | None => hits.row(|_, _| 0)?,
            }
        }
    }
    hits.finish(number, field, refine, noticed)
}

/// Hits of rows of `cells` numbers that stand one after the other, little-endian.
pub fn hits_of_plain(
    values: &[u8],
    rows: usize,
    cells: usize,
    number: Number,
    field: &Field,
    refine: Refine,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let run = Run { values: Some(Values::Plain(values)), first: 0, rows };
    hits_of_runs(&[run], cells, Number { big_endian: false, ..number }, field, refine, noticed)
}

/// A dense column (of [`crate::hits::dense_field`]) of rows of `cells` little-endian numbers.
pub fn dense(
    values: MutableBuffer,
    rows: usize,
    cells: usize,
    number: Number,
    field: &Field,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let DataType::FixedSizeList(item, _) = field.data_type() else {
        return Err(anyhow::anyhow!("{} is not dense", field.name()).into());
    };
    let values = narrowed(array(values.into(), rows * cells, cell_value(number))?, item.data_type(), field.name(), noticed)?;
    Ok(Arc::new(FixedSizeListArray::try_new(item.clone(), i32::try_from(cells)?, values, None)?))
}

/// A column of one little-endian number a row.
pub fn numbers(
    values: MutableBuffer,
    rows: usize,
    number: Number,
    field: &Field,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    let values = array(values.into(), rows, cell_value(number))?;
    if number.kind == Kind::Boolean {
        let truth: ArrayRef =
            Arc::new(values.as_primitive::<UInt8Type>().values().iter().map(|v| Some(*v != 0)).collect::<BooleanArray>());
        return narrowed(truth, field.data_type(), field.name(), noticed);
    }
    narrowed(values, field.data_type(), field.name(), noticed)
}

fn array(bytes: Buffer, length: usize, of: DataType) -> Result<ArrayRef, Fault> {
    with_type!(of, T => Ok(Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::new(bytes, 0, length), None))))
}

/// The same values as another type; a value that it cannot hold at all is an error, one that it holds with fewer digits is
/// noticed.
fn narrowed(values: ArrayRef, to: &DataType, column: &str, noticed: &mut Noticed) -> Result<ArrayRef, Fault> {
    if values.data_type() == to {
        return Ok(values);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let narrow =
        cast_with_options(&values, to, &options).map_err(|e| Fault::content(format!("column `{column}` as {to}: {e}")))?;
    if values.data_type().is_numeric() {
        let back = cast(&narrow, values.data_type())?;
        let rounded = with_type!(values.data_type(), T => {
            let (before, after) = (values.as_primitive::<T>().values(), back.as_primitive::<T>().values());
            // A NaN is equal to nothing, and stays one.
            Ok(before.iter().zip(after).filter(|(b, a)| b.partial_cmp(a).is_some_and(Ordering::is_ne)).count())
        })?;
        notice(noticed, rounded, || format!("values of `{column}` rounded to {to}"));
    }
    Ok(narrow)
}

/// Hits under construction: indices and bits, image by image.
struct Hits<C, V> {
    /// Longer than the hits are many, because [`scan`] writes more than it keeps.
    cells: Vec<C>,
    values: Vec<V>,
    found: usize,
    offsets: Vec<i32>,
    rows: usize,
    most: usize,
}

impl<C: scan::Cell + ArrowNativeType, V: scan::Bits + ArrowNativeType> Hits<C, V> {
    /// For so many rows of at most so many hits.
    fn new(rows: usize, most: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { cells: Vec::new(), values: Vec::new(), found: 0, offsets, rows, most }
    }

    /// Takes the hits of one image from `find`, which says how many it wrote.
    #[inline]
    fn row(&mut self, find: impl FnOnce(&mut [C], &mut [V]) -> usize) -> Result<(), Fault> {
        let needed = self.found + self.most + scan::ROOM;
        if self.cells.len() < needed {
            // The images so far say how much the others will need; an eighth more, because no two are the same.
            let done = self.offsets.len() - 1;
            let expected = self.found.checked_div(done).map_or(0, |each| each * self.rows * 9 / 8);
            let length = needed.max(expected + self.most + scan::ROOM);
            self.cells = grown(&self.cells[..self.found], length);
            self.values = grown(&self.values[..self.found], length);
        }
        self.found += find(&mut self.cells[self.found..], &mut self.values[self.found..]);
        self.offsets.push(i32::try_from(self.found).map_err(|_| Fault::content("more than 2^31 hits in a batch"))?);
        Ok(())
    }

    fn finish(self, number: Number, field: &Field, refine: Refine, noticed: &mut Noticed) -> Result<ArrayRef, Fault> {
        let Self { mut cells, mut values, mut offsets, found, .. } = self;
        cells.truncate(found);
        values.truncate(found);
        values.shrink_to_fit();
        let fields = hit_fields(field)?;
        let (name, wanted) = (field.name(), fields[1].data_type());
        let mut array = array(Buffer::from_vec(values), found, cell_value(number))?;
        let mut keep: Option<Vec<bool>> = None;
        if refine != Refine::default() {
            let kept = keep.insert(vec![true; cells.len()]);
            let (mut negative, mut small) = (0, 0);
            let as_f64 = cast(&array, &DataType::Float64)?;
            for (keep, value) in kept.iter_mut().zip(as_f64.as_primitive::<Float64Type>().values()) {
                // NaN is below nothing and stays; -0 is not below 0.
                if refine.drop_negative && *value < 0.0 {
                    (*keep, negative) = (false, negative + 1);
                } else if refine.threshold.is_some_and(|t| value.abs() < t) {
                    (*keep, small) = (false, small + 1);
                }
            }
            notice(noticed, negative, || format!("negative cells of `{name}` dropped"));
            notice(noticed, small, || format!("cells of `{name}` dropped below the threshold"));
        }
        if array.data_type() != wanted {
            array = narrowed(array, wanted, name, noticed)?;
            let kept = keep.get_or_insert_with(|| vec![true; cells.len()]);
            let mut zeros = 0;
            with_type!(wanted, U => {
                for (keep, value) in kept.iter_mut().zip(array.as_primitive::<U>().values()) {
                    // +0 is the one value all of whose bytes are 0.
                    let zero = value.to_byte_slice().iter().all(|byte| *byte == 0);
                    zeros += usize::from(*keep && zero);
                    *keep &= !zero;
                }
                Ok(())
            })?;
            notice(noticed, zeros, || format!("cells of `{name}` that are 0 as {wanted}"));
        }
        if let Some(keep) = keep.filter(|k| k.contains(&false)) {
            array = filter(&array, &BooleanArray::from(keep.clone()))?;
            let (mut from, mut left) = (0, 0);
            for end in offsets.iter_mut().skip(1) {
                left += keep[from..end.as_usize()].iter().filter(|k| **k).count();
                from = end.as_usize();
                *end = i32::try_from(left)?;
            }
            let mut kept = keep.iter();
            cells.retain(|_| *kept.next().unwrap_or(&true));
        }
        cells.shrink_to_fit();
        let (count, index) = (cells.len(), fields[0].data_type().clone());
        let cells = self::array(Buffer::from_vec(cells), count, index)?;
        let hits = StructArray::try_new(fields.clone(), vec![cells, array], None)?;
        let DataType::List(item) = field.data_type() else { return Err(anyhow::anyhow!("{} is not hits", field.name()).into()) };
        Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::new(offsets.into()), Arc::new(hits), None)?))
    }
}

/// The same at the front of so many zeros, of which the pages that nobody touches cost nothing.
fn grown<T: Copy + Default>(known: &[T], length: usize) -> Vec<T> {
    let mut longer = vec![T::default(); length];
    longer[..known.len()].copy_from_slice(known);
    longer
}

/// The fields of a hit.
fn hit_fields(field: &Field) -> Result<&Fields, Fault> {
    if let DataType::List(item) = field.data_type()
        && let DataType::Struct(fields) = item.data_type()
    {
        return Ok(fields);
    }
    Err(anyhow::anyhow!("{} is not hits", field.name()).into())
}
