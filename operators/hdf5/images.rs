//! From the bytes of a dataset to Arrow columns: hits straight from byte planes, hits from dense values, dense tensors, numbers.
//!
//! A cell is a hit unless all its bytes are zero (+0), so looking for hits needs no arithmetic: eight cells at a time, the
//! planes of all their bytes are or-ed, and what is zero is skipped (most of a calorimeter is). Thresholds and
//! narrowing come after that, on the few hits that there are. Invariant: no hit of a finished column holds +0.

use super::header::{Kind, Number, Numbers};
use super::rows::Run;
use crate::Fault;
use crate::work::{Noticed, notice};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, FixedSizeListArray, ListArray, PrimitiveArray, StructArray,
};
use arrow::buffer::{Buffer, MutableBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{CastOptions, cast, cast_with_options, filter};
use arrow::datatypes::{
    ArrowNativeType, DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use std::cmp::Ordering;
use std::sync::Arc;

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

/// A number that Arrow knows, made of its bits.
trait Value: ArrowPrimitiveType {
    fn of_bits(bits: u64) -> Self::Native;
    fn is_positive_zero(value: Self::Native) -> bool;
}
macro_rules! value {
    ($($kind:ident: |$bits:ident| $make:expr, |$value:ident| $zero:expr;)*) => {
        $(impl Value for $kind {
            fn of_bits($bits: u64) -> Self::Native { $make }
            fn is_positive_zero($value: Self::Native) -> bool { $zero }
        })*
    };
}
value! {
    Int8Type: |b| b as i8, |v| v == 0;
    Int16Type: |b| b as i16, |v| v == 0;
    Int32Type: |b| b as i32, |v| v == 0;
    Int64Type: |b| b as i64, |v| v == 0;
    UInt8Type: |b| b as u8, |v| v == 0;
    UInt16Type: |b| b as u16, |v| v == 0;
    UInt32Type: |b| b as u32, |v| v == 0;
    UInt64Type: |b| b, |v| v == 0;
    Float16Type: |b| <Float16Type as ArrowPrimitiveType>::Native::from_bits(b as u16), |v| v.to_bits() == 0;
    Float32Type: |b| f32::from_bits(b as u32), |v| v.to_bits() == 0;
    Float64Type: |b| f64::from_bits(b), |v| v.to_bits() == 0;
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

/// Hits of rows whose numbers are `cells` byte planes a row.
pub fn hits_of_planes(
    runs: &[Run<'_>],
    cells: usize,
    number: Number,
    field: &Field,
    refine: Refine,
    noticed: &mut Noticed,
) -> Result<ArrayRef, Fault> {
    with_type!(cell_value(number), T => {
        let mut hits = Hits::<T>::default();
        for run in runs {
            for row in run.first..run.first + run.rows {
                if let Some(planes) = run.planes {
                    hits.reserve(cells);
                    let each = |cell, bits| hits.push(cell, bits);
                    match size_of::<<T as ArrowPrimitiveType>::Native>() {
                        1 => scan_planes::<1>(planes, row * cells, cells, number.big_endian, each),
                        2 => scan_planes::<2>(planes, row * cells, cells, number.big_endian, each),
                        4 => scan_planes::<4>(planes, row * cells, cells, number.big_endian, each),
                        _ => scan_planes::<8>(planes, row * cells, cells, number.big_endian, each),
                    }
                }
                hits.end_row()?;
            }
        }
        hits.finish(field, refine, noticed)
    })
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
    with_type!(cell_value(number), T => {
        let mut hits = Hits::<T>::default();
        let row_bytes = cells * size_of::<<T as ArrowPrimitiveType>::Native>();
        for row in 0..rows {
            let bytes = &values[row * row_bytes..][..row_bytes];
            hits.reserve(cells);
            let each = |cell, bits| hits.push(cell, bits);
            match size_of::<<T as ArrowPrimitiveType>::Native>() {
                1 => scan_plain::<1>(bytes, each),
                2 => scan_plain::<2>(bytes, each),
                4 => scan_plain::<4>(bytes, each),
                _ => scan_plain::<8>(bytes, each),
            }
            hits.end_row()?;
        }
        hits.finish(field, refine, noticed)
    })
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

/// Hits under construction.
struct Hits<T: Value> {
    cells: Vec<u32>,
    values: Vec<T::Native>,
    offsets: Vec<i32>,
}

impl<T: Value> Default for Hits<T> {
    fn default() -> Self {
        Self { cells: Vec::new(), values: Vec::new(), offsets: vec![0] }
    }
}

impl<T: Value> Hits<T> {
    fn reserve(&mut self, hits: usize) {
        self.cells.reserve(hits);
        self.values.reserve(hits);
    }

    #[inline]
    fn push(&mut self, cell: usize, bits: u64) {
        self.cells.push(cell as u32);
        self.values.push(T::of_bits(bits));
    }

    fn end_row(&mut self) -> Result<(), Fault> {
        self.offsets.push(i32::try_from(self.cells.len()).map_err(|_| Fault::content("more than 2^31 hits in a batch"))?);
        Ok(())
    }

    fn finish(self, field: &Field, refine: Refine, noticed: &mut Noticed) -> Result<ArrayRef, Fault> {
        let Self { mut cells, values, mut offsets } = self;
        let DataType::List(item) = field.data_type() else { return Err(anyhow::anyhow!("{} is not hits", field.name()).into()) };
        let DataType::Struct(fields) = item.data_type() else {
            return Err(anyhow::anyhow!("{} is not hits", field.name()).into());
        };
        let (name, wanted) = (field.name(), fields[1].data_type());
        let mut array: ArrayRef = Arc::new(PrimitiveArray::<T>::new(values.into(), None));
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
                    let zero = U::is_positive_zero(*value);
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
        let cells: ArrayRef = match fields[0].data_type() {
            DataType::UInt16 => Arc::new(PrimitiveArray::<UInt16Type>::from_iter_values(cells.iter().map(|c| *c as u16))),
            _ => Arc::new(PrimitiveArray::<UInt32Type>::from(cells)),
        };
        let hits = StructArray::try_new(fields.clone(), vec![cells, array], None)?;
        Ok(Arc::new(ListArray::try_new(item.clone(), OffsetBuffer::new(offsets.into()), Arc::new(hits), None)?))
    }
}

/// Calls `each` with the number and the bits of every cell that is not +0, of `count` cells from element `first` on.
#[inline]
fn scan_planes<const SIZE: usize>(planes: &[u8], first: usize, count: usize, big_endian: bool, mut each: impl FnMut(usize, u64)) {
    let elements = planes.len() / SIZE;
    // The least significant byte first.
    let planes: [&[u8]; SIZE] = std::array::from_fn(|b| {
        let plane = if big_endian { SIZE - 1 - b } else { b };
        &planes[plane * elements + first..][..count]
    });
    let whole = count / 8 * 8;
    for at in (0..whole).step_by(8) {
        let words: [u64; SIZE] = std::array::from_fn(|b| word(&planes[b][at..at + 8]));
        let mut any = words.iter().fold(0, |a, w| a | w);
        while any != 0 {
            let lane = any.trailing_zeros() & !7;
            let bits = words.iter().rev().fold(0, |bits, w| bits << 8 | (w >> lane & 0xff));
            each(at + lane as usize / 8, bits);
            any &= !(0xff << lane);
        }
    }
    for at in whole..count {
        let bits = planes.iter().rev().fold(0, |bits, p| bits << 8 | u64::from(p[at]));
        if bits != 0 {
            each(at, bits);
        }
    }
}

/// The same for little-endian numbers that stand one after the other.
#[inline]
fn scan_plain<const SIZE: usize>(values: &[u8], mut each: impl FnMut(usize, u64)) {
    let mut look = |at: usize, block: &[u8]| {
        for (i, value) in block.chunks_exact(SIZE).enumerate() {
            let bits = value.iter().rev().fold(0, |bits, b| bits << 8 | u64::from(*b));
            if bits != 0 {
                each(at + i, bits);
            }
        }
    };
    let mut blocks = values.chunks_exact(8 * SIZE);
    let mut at = 0;
    for block in blocks.by_ref() {
        if block.chunks_exact(8).fold(0, |any, w| any | word(w)) != 0 {
            look(at, block);
        }
        at += 8;
    }
    look(at, blocks.remainder());
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}
