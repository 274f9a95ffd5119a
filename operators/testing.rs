//! What the tests of row operators share: a batch by name, and the work of an operator on it.

use crate::work::{Map, Runtime};
use crate::{Facts, Operator, Output, Start, Work, Worker};
use arrow::array::{ArrayRef, RecordBatch};

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
    let facts = Facts::default();
    let inputs = [output_of(batch)];
    let planned = operator.plan(&facts, &inputs).unwrap();
    let worker = Worker { index: 0, peers: 1 };
    let start = Start { worker, facts: &facts, inputs: &inputs, outputs: &planned.outputs, runtime: &Runtime::default() };
    match operator.start(&start).unwrap() {
        Work::Map(map) => map,
        _ => panic!("{operator:?} is no map"),
    }
}
