//! Detector images as Arrow columns: jagged hits, or dense tensors where most cells are filled.
//!
//! A *hits* column is `List<Struct{cell, <value>...}>`: `cell` is the flat index (C order) into the tensor's shape, `u16` if
//! the product of the shape fits, else `u32`, ascending within an event and each at most once. A cell is a hit unless its
//! value is +0: negatives, -0 and NaN are hits, so that dense -> hits -> dense gives back every bit.
//! A *dense* column is `arrow.fixed_shape_tensor`. Both carry the shape in the field's metadata.

use crate::column::{unit, with_unit};
use anyhow::{Context, bail, ensure};
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, FixedSizeListArray, Float32Array, ListArray, PrimitiveArray, StructArray,
};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float32Type, ToByteSlice, UInt16Type, UInt32Type};
use arrow::downcast_primitive_array;
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::sync::Arc;

/// The name of the index in the struct of a hit.
pub const CELL: &str = "cell";
const SHAPE_KEY: &str = "calostream.shape";
const EXTENSION_NAME: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";

/// The type of `cell` for a shape: the smallest that holds every flat index.
#[must_use]
pub fn cell_type(shape: &[usize]) -> DataType {
    if shape.iter().product::<usize>() <= usize::from(u16::MAX) + 1 { DataType::UInt16 } else { DataType::UInt32 }
}

/// The field of a hits column of this shape with these values (`energy: f32`, say).
#[must_use]
pub fn hits_field(name: &str, shape: &[usize], values: &[Field]) -> Field {
    let mut fields = vec![Field::new(CELL, cell_type(shape), false)];
    fields.extend(values.iter().cloned());
    let item = Field::new("item", DataType::Struct(Fields::from(fields)), false);
    Field::new(name, DataType::List(Arc::new(item)), false).with_metadata(shape_metadata(shape))
}

/// The field of a dense column of this shape.
#[must_use]
pub fn dense_field(name: &str, shape: &[usize], value: DataType) -> Field {
    let length = i32::try_from(shape.iter().product::<usize>()).unwrap_or(i32::MAX);
    let mut metadata = shape_metadata(shape);
    metadata.insert(EXTENSION_NAME.into(), "arrow.fixed_shape_tensor".into());
    metadata.insert(EXTENSION_METADATA.into(), serde_json::json!({ "shape": shape }).to_string());
    Field::new(name, DataType::FixedSizeList(Arc::new(Field::new("item", value, false)), length), false).with_metadata(metadata)
}

/// The column as another type that differs in keys, offsets or in whether values may be missing. An error where they are.
pub(crate) fn retyped(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    match (column.as_any().downcast_ref::<FixedSizeListArray>(), to) {
        (Some(list), DataType::FixedSizeList(item, length)) if item.data_type() == list.values().data_type() => {
            let list = FixedSizeListArray::try_new(item.clone(), *length, list.values().clone(), list.nulls().cloned())?;
            Ok(Arc::new(list))
        }
        _ => cast(column, to),
    }
}

/// The type of a dense column with items that may (or may not) be missing; any other type as it is.
pub(crate) fn dense_type(field: &Field, nullable: bool) -> DataType {
    match field.data_type() {
        DataType::FixedSizeList(item, length) if shape(field).is_some() => {
            DataType::FixedSizeList(Arc::new(item.as_ref().clone().with_nullable(nullable)), *length)
        }
        other => other.clone(),
    }
}

fn shape_metadata(shape: &[usize]) -> HashMap<String, String> {
    HashMap::from([(SHAPE_KEY.to_owned(), serde_json::json!(shape).to_string())])
}

/// The tensor shape of a hits or dense column; none for any other column.
#[must_use]
pub fn shape(field: &Field) -> Option<Vec<usize>> {
    if let Some(text) = field.metadata().get(SHAPE_KEY) {
        return serde_json::from_str(text).ok();
    }
    let text = field.metadata().get(EXTENSION_METADATA)?;
    serde_json::from_value(serde_json::from_str::<serde_json::Value>(text).ok()?.get("shape")?.clone()).ok()
}

/// True for a hits column.
#[must_use]
pub fn is_hits(field: &Field) -> bool {
    matches!(field.data_type(), DataType::List(item) if matches!(item.data_type(), DataType::Struct(f) if f.first().is_some_and(|f| f.name() == CELL)))
}

/// The names of the values of a hit (`energy`, `time`).
#[must_use]
pub fn value_names(field: &Field) -> Vec<String> {
    match field.data_type() {
        DataType::List(item) => match item.data_type() {
            DataType::Struct(fields) => fields.iter().skip(1).map(|f| f.name().clone()).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// A hits column under construction: cells and one value, event by event.
#[derive(Debug)]
pub struct HitsBuilder<T: ArrowPrimitiveType> {
    /// Flat indices; narrowed to `u16` at the end where the shape allows.
    pub cells: Vec<u32>,
    /// Values.
    pub values: Vec<T::Native>,
    offsets: Vec<i32>,
}

impl<T: ArrowPrimitiveType> Default for HitsBuilder<T> {
    fn default() -> Self {
        Self { cells: Vec::new(), values: Vec::new(), offsets: vec![0] }
    }
}

impl<T: ArrowPrimitiveType> HitsBuilder<T> {
    /// Pushes the hits of one dense image: every cell whose value is not +0.
    pub fn push_dense(&mut self, image: &[T::Native]) {
        for (cell, value) in (0u32..).zip(image) {
            // +0 is the one value all of whose bytes are 0, for floats and for integers.
            if value.to_byte_slice().iter().any(|byte| *byte != 0) {
                self.cells.push(cell);
                self.values.push(*value);
            }
        }
    }

    /// Ends an event: what was pushed since the last end is its hits.
    pub fn end_event(&mut self) {
        self.offsets.push(i32::try_from(self.cells.len()).expect("at most 2^30 hits a batch"));
    }

    /// The column of `field` (made by [`hits_field`] with one value of type `T`).
    pub fn finish(self, field: &Field) -> anyhow::Result<ListArray> {
        let DataType::List(item) = field.data_type() else { bail!("{} is not a hits column", field.name()) };
        let DataType::Struct(fields) = item.data_type() else { bail!("{} is not a hits column", field.name()) };
        let cells: ArrayRef = match fields.first().map(|f| f.data_type()) {
            Some(DataType::UInt16) => {
                let narrow = self.cells.iter().map(|c| u16::try_from(*c)).collect::<Result<Vec<_>, _>>()?;
                Arc::new(PrimitiveArray::<UInt16Type>::from(narrow))
            }
            _ => Arc::new(PrimitiveArray::<UInt32Type>::from(self.cells)),
        };
        let values: ArrayRef = Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(self.values), None));
        let hits = StructArray::try_new(fields.clone(), vec![cells, values], None)?;
        Ok(ListArray::try_new(item.clone(), OffsetBuffer::new(self.offsets.into()), Arc::new(hits), None)?)
    }
}

/// Fills `into` (rows x cells, every value of it) with the rows `first..first + rows` of a hits or dense column; `value` is
/// the number of the value within the hit (0 for the first). Values that are not f32 are rounded to it. An image that is
/// missing (null) is NaN in all of its cells, as a missing number is: it is not an image without hits.
///
/// An error where the column is neither, has fewer rows, or names a cell that the shape has not (a file may say anything).
pub fn to_dense(
    column: &dyn Array,
    cells: usize,
    value: usize,
    first: usize,
    rows: usize,
    into: &mut [f32],
) -> anyhow::Result<()> {
    ensure!(cells > 0 && into.len() == rows * cells, "the buffer holds {} values, not {rows} x {cells}", into.len());
    ensure!(first + rows <= column.len(), "rows {first} to {} of {}", first + rows, column.len());
    known_to_dense(column, cells, value, first, rows, into)?;
    if column.null_count() > 0 {
        let images = into.chunks_exact_mut(cells).enumerate().filter(|(row, _)| column.is_null(first + row));
        images.for_each(|(_, image)| image.fill(f32::NAN));
    }
    Ok(())
}

/// The same for images of which none is missing.
fn known_to_dense(
    column: &dyn Array,
    cells: usize,
    value: usize,
    first: usize,
    rows: usize,
    into: &mut [f32],
) -> anyhow::Result<()> {
    if let Some(dense) = column.as_any().downcast_ref::<FixedSizeListArray>() {
        ensure!(dense.value_length() as usize == cells, "a row has {} cells, not {cells}", dense.value_length());
        let wanted = dense.values().slice(first * cells, rows * cells);
        into.copy_from_slice(as_f32(&wanted)?.values());
        return Ok(());
    }
    let list = column.as_list_opt::<i32>().context("a hits or dense column")?;
    let hits = list.values().as_struct_opt().context("a hits column")?;
    ensure!(value + 1 < hits.num_columns(), "a hit has {} values", hits.num_columns() - 1);
    let offsets = &list.value_offsets()[first..=first + rows];
    let (from, to) = (offsets[0] as usize, offsets[rows] as usize);
    let values = as_f32(&hits.column(value + 1).slice(from, to - from))?;
    let index = hits.column(0).slice(from, to - from);
    let inside = match index.data_type() {
        DataType::UInt16 => scatter(index.as_primitive::<UInt16Type>().values(), values.values(), offsets, cells, into),
        DataType::UInt32 => scatter(index.as_primitive::<UInt32Type>().values(), values.values(), offsets, cells, into),
        other => bail!("cells of type {other}"),
    };
    ensure!(inside, "a hit lies outside of the {cells} cells");
    Ok(())
}

/// The field of value number `value` of a hits column as dense tensors called `name`; none for another column.
#[must_use]
pub fn tensor_field(hits: &Field, value: usize, name: &str) -> Option<Field> {
    let DataType::List(item) = hits.data_type() else { return None };
    let DataType::Struct(fields) = item.data_type() else { return None };
    let (shape, value) = (shape(hits)?, fields.get(value + 1)?);
    let dense = dense_field(name, &shape, value.data_type().clone()).with_nullable(hits.is_nullable());
    Some(with_unit(dense, unit(value)))
}

/// A hits column as dense tensors of `cells` cells, of the type of the hits' value, missing where the hits are; an error where
/// a cell lies outside.
pub fn tensors(column: &dyn Array, cells: usize, value: usize) -> anyhow::Result<FixedSizeListArray> {
    let list = column.as_list_opt::<i32>().context("a hits column")?;
    let hits = list.values().as_struct_opt().context("a hits column")?;
    ensure!(value + 1 < hits.num_columns(), "a hit has {} values", hits.num_columns() - 1);
    let offsets = list.value_offsets();
    let (from, to) = (offsets[0] as usize, offsets[list.len()] as usize);
    let (index, values) = (hits.column(0).slice(from, to - from), hits.column(value + 1).slice(from, to - from));
    let values: &dyn Array = &values;
    let dense: ArrayRef = downcast_primitive_array! {
        values => {
            let mut into = vec![Default::default(); list.len() * cells];
            let inside = match index.data_type() {
                DataType::UInt16 => scatter(index.as_primitive::<UInt16Type>().values(), values.values(), offsets, cells, &mut into),
                DataType::UInt32 => scatter(index.as_primitive::<UInt32Type>().values(), values.values(), offsets, cells, &mut into),
                other => bail!("cells of type {other}"),
            };
            ensure!(inside, "a hit lies outside of the {cells} cells");
            primitive_like(values, into)
        }
        other => bail!("values of type {other}"),
    };
    let item = Arc::new(Field::new("item", dense.data_type().clone(), false));
    Ok(FixedSizeListArray::try_new(item, i32::try_from(cells)?, dense, list.nulls().cloned())?)
}

fn primitive_like<T: ArrowPrimitiveType>(_: &PrimitiveArray<T>, values: Vec<T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(values))
}

/// The values as f32, without a copy where they are.
fn as_f32(values: &ArrayRef) -> anyhow::Result<Float32Array> {
    ensure!(
        values.data_type().is_numeric() && values.null_count() == 0,
        "values of type {}, {} missing",
        values.data_type(),
        values.null_count()
    );
    Ok(cast(values, &DataType::Float32)?.as_primitive::<Float32Type>().clone())
}

/// Puts the hits of each row into its zeroed image; false where a cell lies outside.
fn scatter<C: Copy + Into<u32>, V: Copy + Default>(
    index: &[C],
    values: &[V],
    offsets: &[i32],
    cells: usize,
    into: &mut [V],
) -> bool {
    let mut inside = true;
    let start = offsets[0];
    for (image, ends) in into.chunks_exact_mut(cells).zip(offsets.windows(2)) {
        // One image at a time is zeroed and filled, so that it is still in the cache when its hits come.
        image.fill(V::default());
        let of_row = (ends[0] - start) as usize..(ends[1] - start) as usize;
        for (cell, value) in index[of_row.clone()].iter().zip(&values[of_row]) {
            let cell: u32 = (*cell).into();
            match image.get_mut(cell as usize) {
                Some(slot) => *slot = *value,
                None => inside = false,
            }
        }
    }
    inside
}

#[cfg(test)]
mod tests;
