//! What a file holds of a stream: which columns, and images as hits, as dense tensors, or as both.
//!
//! Invariants: the columns that say where a row came from are always written; `sample` is text (which Parquet keeps as a
//! dictionary of its own), because awkward can't put files with Arrow's dictionaries together, and the cells of dense images are such as might be missing, because pyarrow knows no other
//! tensors. Rows become dense slice by slice, so that the file is the only place where they are.

use crate::column;
use crate::hits;
use crate::weights::carried;
use crate::{Placed, Problem, Reads};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How images are written that are hits in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Images {
    /// As hits: lists of cells and values.
    #[default]
    Hits,
    /// As dense tensors: a column for each value of a hit (`ecal`; `ecal_energy` and `ecal_time` where there are several).
    Dense,
    /// As both: hits under the image's own name, tensors behind it with `_dense` in their names.
    Both,
}

/// A column of the file.
#[derive(Debug, Clone)]
struct Written {
    /// The column of the stream.
    of: String,
    /// The value of its hits that is written as tensors.
    dense: Option<usize>,
}

/// What a file holds of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Form {
    /// What is read of the stream.
    pub stream: SchemaRef,
    /// What stands in the file.
    pub in_file: SchemaRef,
    columns: Vec<Written>,
}

impl Form {
    /// The form of a stream of this schema; everything that is wrong with the wish.
    pub fn new(stream: &Schema, only: Option<&[Placed<String>]>, images: Placed<Images>) -> Result<Self, Vec<Problem>> {
        let mut problems: Vec<Problem> =
            only.into_iter().flatten().filter_map(|name| column::field(stream, name).err()).collect();
        let wanted = |field: &Field| {
            only.is_none_or(|columns| carried(field) || columns.iter().any(|column| column.value == *field.name()))
        };
        let read: Vec<usize> = (0..stream.fields().len()).filter(|i| wanted(stream.field(*i))).collect();
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        for field in read.iter().map(|i| stream.field(*i)) {
            let of = field.name().clone();
            let values = if hits::is_hits(field) { hits::value_names(field) } else { Vec::new() };
            if values.is_empty() || images.value != Images::Dense {
                fields.push(as_in_file(field));
                columns.push(Written { of: of.clone(), dense: None });
            }
            if images.value == Images::Hits {
                continue;
            }
            for (number, value) in values.iter().enumerate() {
                let dense = if images.value == Images::Both { "_dense" } else { "" };
                let which = if values.len() > 1 { format!("_{value}") } else { String::new() };
                fields.extend(hits::tensor_field(field, number, &format!("{of}{dense}{which}")).map(|f| as_in_file(&f)));
                columns.push(Written { of: of.clone(), dense: Some(number) });
            }
        }
        let mut names = BTreeSet::new();
        for field in fields.iter().filter(|f| !names.insert(f.name().clone())) {
            problems.push(Problem::at(&images, format!("two columns of the file would be called `{}`", field.name())));
        }
        if problems.is_empty() && fields.is_empty() {
            problems.push(Problem { place: images.place, what: "there is no column to write".into(), help: None });
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let metadata = stream.metadata().clone();
        let schema = |fields: Vec<Field>| Arc::new(Schema::new_with_metadata(fields, metadata.clone()));
        Ok(Self { stream: schema(read.iter().map(|i| stream.field(*i).clone()).collect()), in_file: schema(fields), columns })
    }

    /// The columns that are read.
    pub fn reads(&self, all: bool) -> Reads {
        if all { Reads::All } else { Reads::columns(self.stream.fields().iter().map(|f| f.name().as_str())) }
    }

    /// How many bytes a row of the file takes for one of `stream` bytes in the stream, at most.
    pub fn row_bytes(&self, stream: u64) -> u64 {
        let dense = self.in_file.fields().iter().zip(&self.columns).filter(|(_, column)| column.dense.is_some());
        let cells = |field: &Field| match field.data_type() {
            DataType::FixedSizeList(item, length) => *length as u64 * item.data_type().primitive_width().unwrap_or(8) as u64,
            _ => 0,
        };
        stream + dense.map(|(field, _)| cells(field)).sum::<u64>()
    }

    /// The columns of the stream that are read, out of a batch of it.
    pub fn read(&self, batch: &RecordBatch) -> anyhow::Result<RecordBatch> {
        let columns = self.stream.fields().iter().map(|f| column::get(batch, f.name()).clone()).collect();
        Ok(RecordBatch::try_new(self.stream.clone(), columns)?)
    }

    /// Rows that were [`read`](Self::read) as they stand in the file.
    pub fn of(&self, rows: &RecordBatch) -> anyhow::Result<RecordBatch> {
        let column = |(written, field): (&Written, &Arc<Field>)| -> anyhow::Result<ArrayRef> {
            let column = column::get(rows, &written.of);
            let cells = || hits::shape(field).map_or(0, |shape| shape.iter().product());
            let column = match written.dense {
                Some(value) => Arc::new(hits::tensors(column, cells(), value)?) as ArrayRef,
                None => column.clone(),
            };
            Ok(hits::retyped(&column, field.data_type())?)
        };
        let columns = self.columns.iter().zip(self.in_file.fields()).map(column).collect::<anyhow::Result<_>>()?;
        Ok(RecordBatch::try_new(self.in_file.clone(), columns)?)
    }
}

fn as_in_file(field: &Field) -> Field {
    let kind = match field.data_type() {
        _ if field.name() == column::SAMPLE => DataType::Utf8,
        // awkward 2.14 knows no dictionary with keys of 16 bits.
        DataType::Dictionary(_, values) => DataType::Dictionary(DataType::Int32.into(), values.clone()),
        _ => hits::dense_type(field, true),
    };
    field.clone().with_data_type(kind)
}
