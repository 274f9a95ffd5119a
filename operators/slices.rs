//! Cuts a stream of rows into slices whose borders depend on the rows alone.
//!
//! What a Parquet writer puts into a page depends on the arrays that it is handed, and batches come as the reader, the
//! budget and the cuts upstream made them. Rows that are cut anew, where their own bytes add up to a limit, give the same
//! slices and so the same file, whatever the batches were.

use crate::column;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};

/// A stream of rows on its way to be cut anew.
#[derive(Debug)]
pub struct Slicer {
    schema: SchemaRef,
    bytes_at_most: u64,
    rows_at_most: usize,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: u64,
    row_bytes: Vec<u64>,
}

/// A run of rows of a known size.
#[derive(Debug, Clone, PartialEq)]
pub struct Slice {
    /// The rows.
    pub rows: RecordBatch,
    /// Their bytes in memory, counted row by row: the same for the same rows.
    pub bytes: u64,
}

impl Slicer {
    /// Slices end with the row that makes `bytes` bytes or `rows` rows full.
    #[must_use]
    pub fn new(schema: SchemaRef, bytes: u64, rows: usize) -> Self {
        let (pending, row_bytes) = (Vec::new(), Vec::new());
        Self { schema, bytes_at_most: bytes, rows_at_most: rows.max(1), pending, pending_rows: 0, pending_bytes: 0, row_bytes }
    }

    /// Takes a batch of the schema; gives the slices that are full.
    pub fn push(&mut self, batch: &RecordBatch) -> anyhow::Result<Vec<Slice>> {
        let mut row_bytes = std::mem::take(&mut self.row_bytes);
        row_bytes.clear();
        row_bytes.resize(batch.num_rows(), 0);
        batch.columns().iter().for_each(|column| add_row_bytes(column, &mut row_bytes));
        let mut full = Vec::new();
        let mut start = 0;
        for (row, bytes) in row_bytes.iter().enumerate() {
            self.pending_bytes += bytes;
            self.pending_rows += 1;
            if self.pending_bytes >= self.bytes_at_most || self.pending_rows >= self.rows_at_most {
                self.pending.push(batch.slice(start, row + 1 - start));
                start = row + 1;
                full.extend(self.rest()?);
            }
        }
        if start < batch.num_rows() {
            self.pending.push(batch.slice(start, batch.num_rows() - start));
        }
        self.row_bytes = row_bytes;
        Ok(full)
    }

    /// What is left, at the end of the stream.
    pub fn rest(&mut self) -> anyhow::Result<Option<Slice>> {
        let rows = match self.pending.len() {
            0 => return Ok(None),
            1 => self.pending.remove(0),
            _ => column::concat(&self.schema, &self.pending)?,
        };
        self.pending.clear();
        self.pending_rows = 0;
        Ok(Some(Slice { rows, bytes: std::mem::take(&mut self.pending_bytes) }))
    }
}

/// Bytes of a value of a type whose values are all of one size.
fn fixed_bytes(of: &DataType) -> Option<u64> {
    match of {
        DataType::Boolean => Some(1),
        DataType::Dictionary(key, _) => fixed_bytes(key),
        DataType::FixedSizeBinary(bytes) => u64::try_from(*bytes).ok(),
        DataType::FixedSizeList(item, length) => Some(fixed_bytes(item.data_type())? * u64::try_from(*length).ok()?),
        DataType::Struct(fields) => fields.iter().map(|f| fixed_bytes(f.data_type())).sum(),
        other => other.primitive_width().map(|bytes| bytes as u64),
    }
}

/// What stands in for the bytes of a value inside a list whose size is not looked at.
const NESTED: u64 = 16;

/// Adds the bytes of each row; a function of the row alone, never of its neighbours or of how it is stored.
fn add_row_bytes(column: &ArrayRef, into: &mut [u64]) {
    let mut lengths = |item: u64, ends: &mut dyn Iterator<Item = u64>| {
        let mut start = ends.next().unwrap_or_default();
        for (bytes, end) in into.iter_mut().zip(ends) {
            *bytes += 4 + (end - start) * item;
            start = end;
        }
    };
    match column.data_type() {
        DataType::List(item) => {
            let bytes = fixed_bytes(item.data_type()).unwrap_or(NESTED);
            lengths(bytes, &mut column.as_list::<i32>().value_offsets().iter().map(|o| *o as u64));
        }
        DataType::Utf8 => lengths(1, &mut column.as_string::<i32>().value_offsets().iter().map(|o| *o as u64)),
        DataType::Binary => lengths(1, &mut column.as_binary::<i32>().value_offsets().iter().map(|o| *o as u64)),
        other => {
            let bytes = fixed_bytes(other).unwrap_or(NESTED);
            into.iter_mut().for_each(|b| *b += bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ListArray, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn batch(lists: &[Vec<i32>]) -> RecordBatch {
        let jagged = ListArray::from_iter_primitive::<Int32Type, _, _>(lists.iter().map(|l| Some(l.iter().copied().map(Some))));
        let text = StringArray::from_iter_values(lists.iter().map(|l| "x".repeat(l.len() % 3)));
        RecordBatch::try_from_iter([("jagged", Arc::new(jagged) as ArrayRef), ("text", Arc::new(text) as ArrayRef)]).unwrap()
    }

    fn cut(rows: &RecordBatch, batches: &[usize]) -> Vec<Slice> {
        let mut slicer = Slicer::new(rows.schema(), 64, 5);
        let (mut slices, mut at) = (Vec::new(), 0);
        for length in batches.iter().cycle() {
            let length = (*length).min(rows.num_rows() - at);
            slices.extend(slicer.push(&rows.slice(at, length)).unwrap());
            at += length;
            if at == rows.num_rows() {
                break;
            }
        }
        slices.extend(slicer.rest().unwrap());
        slices
    }

    proptest! {
        #[test]
        fn slices_do_not_depend_on_batches(
            lists in prop::collection::vec(prop::collection::vec(any::<i32>(), 0..12), 1..60),
            batches in prop::collection::vec(1usize..20, 1..8),
        ) {
            let rows = batch(&lists);
            let one = cut(&rows, &[rows.num_rows()]);
            prop_assert_eq!(&cut(&rows, &batches), &one);
            let all: Vec<RecordBatch> = one.iter().map(|s| s.rows.clone()).collect();
            prop_assert_eq!(concat_batches(&rows.schema(), &all).unwrap(), rows);
            for slice in &one {
                // each row: two offsets of 4 bytes, 4 bytes a number, 1 byte a letter
                let lengths = slice.rows.column(0).as_list::<i32>().value_offsets().windows(2).map(|w| (w[1] - w[0]) as u64);
                let bytes: Vec<u64> = lengths.map(|n| 8 + 4 * n + n % 3).collect();
                prop_assert_eq!(slice.bytes, bytes.iter().sum::<u64>());
                prop_assert!(slice.rows.num_rows() <= 5);
                prop_assert!(bytes[..bytes.len() - 1].iter().sum::<u64>() < 64, "a slice ends with the row that fills it");
            }
        }
    }
}
