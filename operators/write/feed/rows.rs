//! Rows of many batches as one batch in the form in which it is fed.
//!
//! Rows become dense when they are picked, each from the batch in which it waits straight into its place: an image is written
//! once and read from what is small. What that needs (values of 32 bits, cells that lie in the image, one class map) is seen
//! to before rows wait, unit by unit, where a fault can still be told of the unit that has it.

use super::{EPOCH, POSITION};
use crate::column::{self, PROVENANCE, SAMPLE};
use crate::feeding::Rows;
use crate::{Fault, Placed, Problem, Reads, hits};
use anyhow::{Context, bail, ensure};
use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Float32Array, ListArray, RecordBatch, RecordBatchOptions,
    StringArray, StructArray, UInt32Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float32Type, Int8Type, Schema, SchemaRef, UInt16Type, UInt32Type};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A column of what is fed.
#[derive(Debug, Clone)]
struct Made {
    /// The column that waits.
    of: usize,
    /// Where it is an image that becomes dense: its cells, and the number of the hits' value.
    dense: Option<(usize, usize)>,
}

/// Rows whose images may become dense.
#[derive(Debug, Clone)]
pub struct DenseRows {
    waiting: SchemaRef,
    fed: SchemaRef,
    made: Vec<Made>,
    samples: ArrayRef,
}

impl DenseRows {
    /// Rows of a stream of this schema; everything that is wrong with the wish.
    pub fn new(stream: &Schema, only: Option<&[Placed<String>]>, dense: Placed<bool>) -> Result<Self, Vec<Problem>> {
        let mut problems: Vec<Problem> =
            only.into_iter().flatten().filter_map(|name| column::field(stream, name).err()).collect();
        let wanted = |name: &str| {
            only.is_none_or(|columns| PROVENANCE.contains(&name) || columns.iter().any(|column| column.value == name))
        };
        let (mut waiting, mut fed, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for field in stream.fields().iter().filter(|field| wanted(field.name())) {
            let (of, held) = (waiting.len(), held(field, dense.value));
            let cells = hits::shape(&held).map_or(0, |shape| shape.iter().product());
            if dense.value && hits::is_hits(&held) {
                let values = hits::value_names(&held);
                for (number, value) in values.iter().enumerate() {
                    let name = if values.len() > 1 { format!("{}_{value}", held.name()) } else { held.name().clone() };
                    fed.extend(hits::tensor_field(&held, number, &name).map(|field| nullable_cells(&field).with_nullable(false)));
                    made.push(Made { of, dense: Some((cells, number)) });
                }
            } else if dense.value && matches!(held.data_type(), DataType::FixedSizeList(..)) && cells > 0 {
                fed.push(nullable_cells(&held).with_nullable(false));
                made.push(Made { of, dense: Some((cells, 0)) });
            } else {
                fed.push(held.clone());
                made.push(Made { of, dense: None });
            }
            waiting.push(held);
        }
        fed.push(Field::new(EPOCH, DataType::UInt32, false));
        fed.push(Field::new(POSITION, DataType::UInt64, false));
        let mut names = BTreeSet::new();
        for field in fed.iter().filter(|field| !names.insert(field.name().clone())) {
            let problem = Problem::at(&dense, format!("two columns of a batch would be called `{}`", field.name()));
            problems.push(problem.help("leave one out with `columns`, or give it another name with `derive`"));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let schema = |fields: Vec<Field>| Arc::new(Schema::new_with_metadata(fields, stream.metadata().clone()));
        let samples = Arc::new(StringArray::from_iter_values(column::samples(stream)));
        Ok(Self { waiting: schema(waiting), fed: schema(fed), made, samples })
    }

    /// The columns that are read.
    pub(super) fn reads(&self, all: bool) -> Reads {
        if all { Reads::All } else { Reads::columns(self.waiting.fields().iter().map(|f| f.name().as_str())) }
    }

    /// The samples by the one class map of the stream.
    fn numbered(&self, column: &ArrayRef) -> anyhow::Result<ArrayRef> {
        let samples = column.as_dictionary_opt::<Int8Type>().context("not a sample")?;
        ensure!(samples.values() == &self.samples, "a class map that is not that of the stream");
        Ok(Arc::new(DictionaryArray::<Int8Type>::try_new(samples.keys().clone(), self.samples.clone())?))
    }
}

impl Rows for DenseRows {
    fn schema(&self) -> &SchemaRef {
        &self.fed
    }

    fn row_bytes(&self, stream: u64) -> u64 {
        stream + self.made.iter().filter_map(|made| made.dense).map(|(cells, _)| 4 * cells as u64).sum::<u64>()
    }

    fn prepare(&self, batch: &RecordBatch) -> Result<RecordBatch, Fault> {
        let mut columns = Vec::with_capacity(self.waiting.fields().len());
        for (number, field) in self.waiting.fields().iter().enumerate() {
            let column = column::get(batch, field.name());
            let wrong = |what: anyhow::Error| Fault::content(format!("column `{}`: {what:#}", field.name()));
            let dense = self.made.iter().any(|made| made.dense.is_some() && made.of == number);
            columns.push(match field.data_type() {
                DataType::Dictionary(..) => self.numbered(column).map_err(wrong)?,
                DataType::List(_) if dense => checked_hits(column, field).map_err(wrong)?,
                DataType::FixedSizeList(..) if dense => checked_cells(column, field).map_err(wrong)?,
                kind if kind == column.data_type() => column.clone(),
                kind => cast(column, kind).map_err(|error| wrong(error.into()))?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.waiting.clone(), columns, &options)?)
    }

    fn gather(
        &self,
        batches: &[&RecordBatch],
        rows: &[(usize, usize)],
        epoch: u32,
        positions: Vec<u64>,
    ) -> anyhow::Result<RecordBatch> {
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.made.len() + 2);
        let plain: Vec<usize> = self.made.iter().filter(|made| made.dense.is_none()).map(|made| made.of).collect();
        let projected = batches.iter().map(|batch| batch.project(&plain)).collect::<Result<Vec<_>, _>>()?;
        let mut picked = column::interleave(&projected.iter().collect::<Vec<_>>(), rows)?.into_iter();
        for (made, field) in self.made.iter().zip(self.fed.fields()) {
            columns.push(match made.dense {
                None => picked.next().context("as many columns as were picked")?,
                Some((cells, value)) => {
                    let views = batches.iter().map(|batch| View::new(batch.column(made.of), value));
                    let views = views.collect::<anyhow::Result<Vec<_>>>()?;
                    let mut into = vec![0_f32; rows.len() * cells];
                    for (image, (batch, row)) in into.chunks_exact_mut(cells.max(1)).zip(rows) {
                        ensure!(views[*batch].put(*row, image), "a hit of `{}` lies outside of its image", field.name());
                    }
                    let DataType::FixedSizeList(item, length) = field.data_type() else {
                        bail!("`{}` is no tensor", field.name())
                    };
                    Arc::new(FixedSizeListArray::try_new(item.clone(), *length, Arc::new(Float32Array::from(into)), None)?)
                }
            });
        }
        columns.push(Arc::new(UInt32Array::from(vec![epoch; rows.len()])));
        columns.push(Arc::new(UInt64Array::from(positions)));
        Ok(RecordBatch::try_new(self.fed.clone(), columns)?)
    }
}

/// The field of a column as it waits: of images that become dense with values of 32 bits, and without dictionaries, of which
/// there may be as many as files (the class map is one).
fn held(field: &Field, dense: bool) -> Field {
    let kind = match field.data_type() {
        _ if field.name() == SAMPLE => field.data_type().clone(),
        DataType::Dictionary(_, values) => values.as_ref().clone(),
        DataType::List(item) if dense && hits::is_hits(field) => match item.data_type() {
            DataType::Struct(fields) => {
                let value = |(number, field): (usize, &Arc<Field>)| {
                    if number == 0 { field.as_ref().clone() } else { field.as_ref().clone().with_data_type(DataType::Float32) }
                };
                let fields: Fields = fields.iter().enumerate().map(value).collect();
                DataType::List(Arc::new(item.as_ref().clone().with_data_type(DataType::Struct(fields))))
            }
            _ => field.data_type().clone(),
        },
        DataType::FixedSizeList(item, length) if dense && hits::shape(field).is_some() => {
            DataType::FixedSizeList(Arc::new(item.as_ref().clone().with_data_type(DataType::Float32)), *length)
        }
        other => other.clone(),
    };
    field.clone().with_data_type(kind)
}

/// Tensors with cells that might be missing: pyarrow knows no others.
fn nullable_cells(field: &Field) -> Field {
    field.clone().with_data_type(hits::dense_type(field, true))
}

/// Hits with values of 32 bits, none missing, every cell in the image.
fn checked_hits(column: &ArrayRef, field: &Field) -> anyhow::Result<ArrayRef> {
    let cells: usize = hits::shape(field).context("an image without a shape")?.iter().product();
    let list = column.as_list_opt::<i32>().context("not hits")?;
    let hits = list.values().as_struct_opt().context("not hits")?;
    let (DataType::List(item), [index, values @ ..]) = (field.data_type(), hits.columns()) else { bail!("not hits") };
    let DataType::Struct(fields) = item.data_type() else { bail!("not hits") };
    let missing = hits.null_count() + hits.columns().iter().map(Array::null_count).sum::<usize>();
    ensure!(missing == 0, "{missing} values of hits are missing");
    let last = match index.data_type() {
        DataType::UInt16 => index.as_primitive::<UInt16Type>().values().iter().max().map(|c| usize::from(*c)),
        DataType::UInt32 => index.as_primitive::<UInt32Type>().values().iter().max().map(|c| *c as usize),
        other => bail!("cells of type {other}"),
    };
    ensure!(last.is_none_or(|cell| cell < cells), "a hit in cell {} of {cells}", last.unwrap_or(0));
    if values.iter().all(|value| value.data_type() == &DataType::Float32) {
        return Ok(column.clone());
    }
    let mut columns = vec![index.clone()];
    for value in values {
        columns.push(cast(value, &DataType::Float32)?);
    }
    let hits = StructArray::try_new(fields.clone(), columns, None)?;
    Ok(Arc::new(ListArray::try_new(item.clone(), list.offsets().clone(), Arc::new(hits), list.nulls().cloned())?))
}

/// Dense images with values of 32 bits, none missing.
fn checked_cells(column: &ArrayRef, field: &Field) -> anyhow::Result<ArrayRef> {
    let list = column.as_fixed_size_list_opt().context("not dense")?;
    let DataType::FixedSizeList(item, length) = field.data_type() else { bail!("not dense") };
    ensure!(list.value_length() == *length, "images of {} cells, not {length}", list.value_length());
    ensure!(list.values().null_count() == 0 || list.null_count() > 0, "{} cells are missing", list.values().null_count());
    let values = cast(list.values(), &DataType::Float32)?;
    let item = item.as_ref().clone().with_nullable(true);
    let list = FixedSizeListArray::try_new(Arc::new(item), *length, values, list.nulls().cloned())?;
    Ok(hits::retyped(&(Arc::new(list) as ArrayRef), field.data_type())?)
}

/// Cells of hits, of either width.
enum Cells<'a> {
    Narrow(&'a [u16]),
    Wide(&'a [u32]),
}

/// The images of a batch.
enum Images<'a> {
    Hits(&'a [i32], Cells<'a>, &'a [f32]),
    Dense(&'a [f32]),
}

/// The images of a batch, and which of them are missing.
struct View<'a> {
    images: Images<'a>,
    missing: Option<&'a NullBuffer>,
}

impl<'a> View<'a> {
    fn new(column: &'a ArrayRef, value: usize) -> anyhow::Result<Self> {
        let missing = column.nulls();
        if let Some(list) = column.as_fixed_size_list_opt() {
            let values = list.values().as_primitive_opt::<Float32Type>().context("float32 cells")?;
            return Ok(Self { images: Images::Dense(values.values()), missing });
        }
        let list = column.as_list_opt::<i32>().context("hits")?;
        let hits = list.values().as_struct_opt().context("hits")?;
        let index = hits.column(0);
        let cells = match index.as_primitive_opt::<UInt16Type>() {
            Some(narrow) => Cells::Narrow(narrow.values()),
            None => Cells::Wide(index.as_primitive_opt::<UInt32Type>().context("cells of 16 or 32 bits")?.values()),
        };
        let values = hits.column(value + 1).as_primitive_opt::<Float32Type>().context("float32 values")?;
        Ok(Self { images: Images::Hits(list.value_offsets(), cells, values.values()), missing })
    }

    /// Puts an image into its zeroed place; false where a cell lies outside. An image that is missing is NaN everywhere.
    fn put(&self, row: usize, image: &mut [f32]) -> bool {
        if self.missing.is_some_and(|missing| missing.is_null(row)) {
            image.fill(f32::NAN);
            return true;
        }
        match &self.images {
            Images::Dense(values) => {
                image.copy_from_slice(&values[row * image.len()..(row + 1) * image.len()]);
                true
            }
            Images::Hits(offsets, cells, values) => {
                let hits = offsets[row] as usize..offsets[row + 1] as usize;
                match cells {
                    Cells::Narrow(cells) => scatter(&cells[hits.clone()], &values[hits], image),
                    Cells::Wide(cells) => scatter(&cells[hits.clone()], &values[hits], image),
                }
            }
        }
    }
}

fn scatter<C: Copy + Into<u32>>(cells: &[C], values: &[f32], image: &mut [f32]) -> bool {
    let mut inside = true;
    for (cell, value) in cells.iter().zip(values) {
        match image.get_mut(Into::<u32>::into(*cell) as usize) {
            Some(slot) => *slot = *value,
            None => inside = false,
        }
    }
    inside
}
