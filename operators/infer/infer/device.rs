//! Rows into model batches, predictions back to their rows.

use super::bind::Bound;
use crate::onnx::feed::{Feed, prepare};
use crate::onnx::model::ModelFacts;
use crate::onnx::session::Network;
use crate::work::{self, Runtime};
use crate::{Fault, column};
use arrow::array::{ArrayRef, Float32Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use std::collections::VecDeque;
use std::sync::Arc;

/// One network and the rows that wait for it.
pub(super) struct Batches {
    network: Network,
    bound: Bound,
    feeds: Vec<Feed>,
    /// Rows in the feeds that were not run yet.
    filled: usize,
    /// What came in and is not out yet, oldest first.
    waiting: VecDeque<Waiting>,
    /// Where each column of the output comes from.
    columns: Vec<Origin>,
    schema: SchemaRef,
    /// What the network said last: for each output its values.
    said: Vec<Vec<f32>>,
}

/// A batch that came in, without the columns that nobody reads any more.
struct Waiting {
    batch: RecordBatch,
    /// For each new column the values so far.
    new: Vec<Vec<f32>>,
    predicted: usize,
}

/// Where a column of the output comes from.
enum Origin {
    Input(String),
    /// A new column, by number.
    New(usize),
}

impl Batches {
    /// A session for the model, with its buffers.
    pub fn open(path: &str, model: &ModelFacts, bound: Bound, schema: SchemaRef, runtime: &Runtime) -> anyhow::Result<Self> {
        let inputs = bound.inputs.iter().map(|i| i.input.clone()).collect();
        let outputs = bound.outputs.iter().map(|(output, _)| output.clone()).collect();
        let network = Network::open(path, model, inputs, outputs, runtime)?;
        let feeds = bound.inputs.iter().map(|i| Feed::new(bound.batch, i.cells(), i.value, i.transform)).collect();
        let origin = |name: &String| {
            let new = bound.new_columns().position(|n| n == name);
            new.map_or_else(|| Origin::Input(name.clone()), Origin::New)
        };
        let columns = schema.fields().iter().map(|f| origin(f.name())).collect();
        let said = vec![Vec::new(); bound.outputs.len()];
        Ok(Self { network, bound, feeds, filled: 0, waiting: VecDeque::new(), columns, schema, said })
    }

    /// Runs the rows that are in the feeds, padded to `size`.
    fn run(&mut self, size: usize) -> Result<(), Fault> {
        for feed in &mut self.feeds {
            feed.pad(self.filled, size);
        }
        self.said.iter_mut().for_each(Vec::clear);
        let inputs: Vec<&[f32]> = self.feeds.iter().map(|f| f.rows(size)).collect();
        self.network.run(size, &inputs, &mut self.said)?;
        self.hand_out();
        Ok(())
    }

    /// Gives the rows that wait what the network said of them.
    fn hand_out(&mut self) {
        let mut first = 0;
        for waiting in &mut self.waiting {
            let rows = (waiting.batch.num_rows() - waiting.predicted).min(self.filled - first);
            let mut new = waiting.new.iter_mut();
            for ((output, _), said) in self.bound.outputs.iter().zip(&self.said) {
                let said = &said[first * output.width..(first + rows) * output.width];
                for (k, column) in new.by_ref().take(output.width).enumerate() {
                    column.extend(said.iter().skip(k).step_by(output.width));
                }
            }
            waiting.predicted += rows;
            first += rows;
        }
        self.filled = 0;
    }

    /// The batches whose rows are all predicted.
    fn ready(&mut self) -> Result<Vec<RecordBatch>, Fault> {
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|w| w.predicted == w.batch.num_rows()) {
            let Some(Waiting { batch, new, .. }) = self.waiting.pop_front() else { break };
            let new: Vec<ArrayRef> = new.into_iter().map(|v| Arc::new(Float32Array::from(v)) as ArrayRef).collect();
            let column = |origin: &Origin| match origin {
                Origin::Input(name) => column::get(&batch, name).clone(),
                Origin::New(number) => new[*number].clone(),
            };
            let columns = self.columns.iter().map(column).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            ready.push(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?);
        }
        Ok(ready)
    }

    /// The batch without the columns that go no further, so that waiting rows hold no images.
    fn kept(&self, batch: &RecordBatch) -> Result<RecordBatch, Fault> {
        let schema = batch.schema();
        let kept = self.columns.iter().filter_map(|origin| match origin {
            Origin::Input(name) => Some(schema.index_of(name)),
            Origin::New(_) => None,
        });
        Ok(batch.project(&kept.collect::<Result<Vec<_>, _>>()?)?)
    }
}

impl work::Device for Batches {
    fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, Fault> {
        let rows = batch.num_rows();
        let new = vec![Vec::with_capacity(rows); self.bound.new_columns().count()];
        self.waiting.push_back(Waiting { batch: self.kept(&batch)?, new, predicted: 0 });
        let columns = self.bound.inputs.iter().map(|i| prepare(column::get(&batch, &i.column))).collect::<Result<Vec<_>, _>>()?;
        let mut first = 0;
        while first < rows {
            let take = (rows - first).min(self.bound.batch - self.filled);
            for ((feed, column), input) in self.feeds.iter_mut().zip(&columns).zip(&self.bound.inputs) {
                feed.fill(column, first, take, self.filled)
                    .map_err(|fault| fault_in(&input.column, fault))?;
            }
            self.filled += take;
            first += take;
            if self.filled == self.bound.batch {
                self.run(self.bound.batch)?;
            }
        }
        self.ready()
    }

    fn end(&mut self) -> Result<Vec<RecordBatch>, Fault> {
        if self.filled > 0 {
            let size = if self.bound.full_batches_only { self.bound.batch } else { padded(self.filled, self.bound.batch) };
            self.run(size)?;
        }
        self.ready()
    }

    fn forget(&mut self) {
        self.filled = 0;
        self.waiting.clear();
    }
}

fn fault_in(column: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Content(reason) => Fault::Content(format!("column `{column}`: {reason}")),
        Fault::Machine(error) => Fault::Machine(error.context(format!("column `{column}`"))),
    }
}

/// The smallest of `batch`, `batch`/2, .. 1 that holds `rows`, where `1 <= rows <= batch`.
pub(super) fn padded(rows: usize, batch: usize) -> usize {
    let mut size = batch;
    while size / 2 >= rows {
        size /= 2;
    }
    size
}
