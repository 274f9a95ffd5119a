//! Batches with just the columns that were planned: what goes from one step to the next has these and no others.

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::SchemaRef;
use calostream_operators::column;
use std::sync::Arc;

/// The batch with just the planned columns, in the planned order.
pub fn project(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column =
            batch.column_by_name(field.name()).with_context(|| format!("the planned column `{}` was not made", field.name()))?;
        ensure!(
            column.data_type() == field.data_type(),
            "column `{}` was planned as {} and made as {}",
            field.name(),
            field.data_type(),
            column.data_type()
        );
        columns.push(Arc::clone(column));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// The planned columns, with how often each event was there before where that is one of them.
pub fn with_copies(batch: &RecordBatch, copies: impl Iterator<Item = u32>, schema: &SchemaRef) -> Result<RecordBatch> {
    if schema.field_with_name(column::COPY).is_err() || batch.column_by_name(column::COPY).is_some() {
        return project(batch, schema);
    }
    let mut columns: Vec<ArrayRef> = Vec::new();
    let copies: ArrayRef = Arc::new(UInt32Array::from_iter_values(copies));
    for field in schema.fields() {
        let of_batch = batch.column_by_name(field.name()).filter(|_| field.name() != column::COPY);
        let made = of_batch.or((field.name() == column::COPY).then_some(&copies));
        columns.push(made.with_context(|| format!("the planned column `{}` was not put aside", field.name()))?.clone());
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
