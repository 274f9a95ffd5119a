//! What the tests of row operators share: a batch by name, and the work of an operator on it.

use crate::hits::{HitsBuilder, dense_field, hits_field, to_dense};
use crate::work::{Map, Runtime};
use crate::{Facts, Operator, Output, Start, Work, Worker};
use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Float32Type, Schema};
use std::sync::Arc;

/// A batch of these columns, all nullable.
pub fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// The output that gives such batches.
pub fn output_of(batch: &RecordBatch) -> Output {
    Output { name: String::new(), schema: batch.schema(), table: false, rows: None, row_bytes: 8 * batch.num_columns() as u64 }
}

/// The work of a map on such batches.
pub fn map_of(operator: &dyn Operator, batch: &RecordBatch) -> Box<dyn Map> {
    map_with(operator, batch, &Facts::default())
}

/// The same, with other facts.
pub fn map_with(operator: &dyn Operator, batch: &RecordBatch, facts: &Facts) -> Box<dyn Map> {
    let inputs = [output_of(batch)];
    let planned = operator.plan(facts, &inputs).unwrap();
    let worker = Worker { index: 0, peers: 1 };
    let start = Start { worker, facts, inputs: &inputs, outputs: &planned.outputs, runtime: &Runtime::default() };
    match operator.start(&start).unwrap() {
        Work::Map(map) => map,
        _ => panic!("{operator:?} is no map"),
    }
}

/// Events with an image of each of these shapes and contents (events x cells), as hits called `a`, `b`, .. and dense as `a_dense`, ..
pub fn images(events: &[u64], images: &[(&[usize], &[f32])]) -> RecordBatch {
    let mut fields = vec![Field::new("event", DataType::UInt64, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(events.to_vec()))];
    for (name, (shape, values)) in ["a", "b", "c"].iter().zip(images) {
        let cells: usize = shape.iter().product();
        let mut builder = HitsBuilder::<Float32Type>::default();
        for image in values.chunks_exact(cells) {
            builder.push_dense(image);
            builder.end_event();
        }
        let hits = hits_field(name, shape, &[Field::new("energy", DataType::Float32, false)]);
        columns.push(Arc::new(builder.finish(&hits).unwrap()));
        fields.push(hits);
        fields.push(dense_field(&format!("{name}_dense"), shape, DataType::Float32));
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        columns.push(Arc::new(FixedSizeListArray::new(item, cells as i32, Arc::new(Float32Array::from(values.to_vec())), None)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// All cells of an image column, event by event.
pub fn cells_of(batch: &RecordBatch, name: &str) -> Vec<f32> {
    let cells = crate::hits::shape(batch.schema().field_with_name(name).unwrap()).unwrap().iter().product();
    let mut into = vec![0.0; batch.num_rows() * cells];
    to_dense(batch.column_by_name(name).unwrap(), cells, 0, 0, batch.num_rows(), &mut into).unwrap();
    into
}
