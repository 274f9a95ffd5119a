//! Rows into model batches, predictions back to their rows.

use super::bind::Bound;
use super::computer::Computer;
use super::outputs::not_finite;
use super::station::{Done, Job};
use super::tail;
use crate::meter::Meter;
use crate::onnx::feed::{Feed, Prepared};
use crate::onnx::tensor::Values;
use crate::work::{self, Noticed, notice};
use crate::{Fault, Start, column};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int64Type, SchemaRef, UInt64Type};
use std::collections::VecDeque;
use std::sync::Arc;

/// The models and the rows that wait for them.
pub(super) struct Batches {
    computer: Computer,
    bound: Bound,
    /// Rows of a model batch.
    rows: usize,
    lanes: Vec<Lane>,
    /// What is computed now, oldest first: the lane, and whose rows they are.
    under_way: VecDeque<(usize, Vec<Whose>)>,
    /// What came in and is not out yet, oldest first.
    waiting: VecDeque<Waiting>,
    /// How many batches have gone out: the number of the first that waits.
    gone: u64,
    /// Where each column of the output comes from.
    columns: Vec<Origin>,
    schema: SchemaRef,
    cut: u64,
    noticed: Noticed,
}

/// The buffers of a set of models.
struct Lane {
    /// The buffers that are being filled; none while all are under way.
    feeds: Option<Vec<Option<Feed>>>,
    /// Buffers that came back.
    spare: Vec<Vec<Option<Feed>>>,
    /// Whose rows are in the buffers that are being filled.
    filled: Vec<Whose>,
}

/// A run of rows in a buffer: so many rows of a batch, from `first` on.
#[derive(Debug, Clone, Copy)]
struct Whose {
    batch: u64,
    first: usize,
    rows: usize,
}

/// A batch that came in, without the columns that nobody reads any more.
struct Waiting {
    batch: RecordBatch,
    /// What was said so far, by slot.
    said: Vec<Values>,
    predicted: usize,
}

/// Where a column of the output comes from.
enum Origin {
    Input(String),
    /// A new column, by number.
    New(usize),
}

impl Batches {
    /// Sessions for the models, with their buffers.
    pub fn open(bound: Bound, schema: SchemaRef, at: &Start<'_>) -> anyhow::Result<Self> {
        let computer = Computer::open(&bound, at.worker.index, at.runtime)?;
        let rows = bound.rows(at.runtime);
        Ok(Self::with(computer, bound, schema, rows))
    }

    pub(super) fn with(computer: Computer, bound: Bound, schema: SchemaRef, rows: usize) -> Self {
        let origin = |name: &String| {
            let new = bound.columns.iter().position(|column| column.field.name() == name);
            new.map_or_else(|| Origin::Input(name.clone()), Origin::New)
        };
        let columns = schema.fields().iter().map(|f| origin(f.name())).collect();
        let lanes = (0..bound.lanes()).map(|lane| Lane {
            feeds: None,
            spare: (0..computer.depth()).map(|_| buffers(&bound, &computer, lane, rows)).collect(),
            filled: Vec::new(),
        });
        Self {
            lanes: lanes.collect(),
            computer,
            rows,
            under_way: VecDeque::new(),
            waiting: VecDeque::new(),
            gone: 0,
            columns,
            schema,
            cut: 0,
            noticed: Noticed::new(),
            bound,
        }
    }

    fn in_lane(&self, lane: usize) -> usize {
        self.lanes[lane].filled.iter().map(|whose| whose.rows).sum()
    }

    /// Puts the rows `first..first + rows` of a batch into the buffers of a lane, and runs those that are full.
    fn fill(&mut self, lane: usize, prepared: &[Prepared], whose: Whose) -> Result<(), Fault> {
        let (mut first, end) = (whose.first, whose.first + whose.rows);
        while first < end {
            let at = self.in_lane(lane);
            let take = (end - first).min(self.rows - at);
            if self.lanes[lane].feeds.is_none() {
                while self.lanes[lane].spare.is_empty() {
                    self.collect()?;
                }
                let into = &mut self.lanes[lane];
                into.feeds = into.spare.pop();
            }
            let into = &mut self.lanes[lane];
            for (feed, prepared) in into.feeds.iter_mut().flatten().zip(prepared) {
                if let Some(feed) = feed {
                    feed.fill(prepared, first, take, at)?;
                }
            }
            match into.filled.last_mut() {
                Some(last) if last.batch == whose.batch && last.first + last.rows == first => last.rows += take,
                _ => into.filled.push(Whose { first, rows: take, ..whose }),
            }
            first += take;
            if at + take == self.rows {
                self.run(lane, self.rows)?;
            }
        }
        Ok(())
    }

    /// Gives away the rows that are in the buffers of a lane, padded to `size`.
    fn run(&mut self, lane: usize, size: usize) -> Result<(), Fault> {
        let filled = self.in_lane(lane);
        let into = &mut self.lanes[lane];
        let Some(mut feeds) = into.feeds.take() else { return Ok(()) };
        let whose = std::mem::take(&mut into.filled);
        let room = self.bound.models.iter().map(|m| m.room(size)).max().unwrap_or(size);
        feeds.iter_mut().flatten().for_each(|feed| feed.pad(filled, room));
        self.computer.submit(Job { lane, rows: size, filled, feeds })?;
        self.under_way.push_back((lane, whose));
        while self.under_way.len() >= self.computer.depth() {
            self.collect()?;
        }
        Ok(())
    }

    /// Waits for the oldest batch under way, and hands out what was said.
    fn collect(&mut self) -> Result<(), Fault> {
        let Some((lane, whose)) = self.under_way.pop_front() else { return Err(anyhow::anyhow!("no batch is under way").into()) };
        let Done { job, said } = self.computer.take()?;
        let fold = self.bound.key.is_some();
        let models = if fold { &self.bound.models[lane..=lane] } else { &self.bound.models[..] };
        let slots = models.iter().flat_map(|m| m.slots.iter().zip(&m.outputs));
        for ((slot, output), said) in slots.zip(&said) {
            let mut from = 0;
            for whose in &whose {
                if let Some(waiting) = whose.batch.checked_sub(self.gone).and_then(|n| self.waiting.get_mut(n as usize)) {
                    waiting.said[*slot].put(whose.first * output.width, said, from * output.width, whose.rows * output.width);
                }
                from += whose.rows;
            }
        }
        for whose in &whose {
            if let Some(waiting) = whose.batch.checked_sub(self.gone).and_then(|n| self.waiting.get_mut(n as usize)) {
                waiting.predicted += whose.rows;
            }
        }
        self.lanes[lane].spare.push(job.feeds);
        Ok(())
    }

    /// The batches whose rows are all predicted.
    fn ready(&mut self) -> Result<Vec<RecordBatch>, Fault> {
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|w| w.predicted == w.batch.num_rows()) {
            let Some(Waiting { batch, said, .. }) = self.waiting.pop_front() else { break };
            self.gone += 1;
            let column = |origin: &Origin| match origin {
                Origin::Input(name) => Ok(column::get(&batch, name).clone()),
                Origin::New(number) => {
                    let new = &self.bound.columns[*number];
                    new.make(&said[new.slot], self.bound.slots[new.slot].output.width)
                }
            };
            let columns = self.columns.iter().map(column).collect::<anyhow::Result<Vec<ArrayRef>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let made = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
            ready.push(self.without_infinities(made, &said)?);
        }
        Ok(ready)
    }

    /// Counts the rows that have values that are not finite, and cuts them where that was asked.
    fn without_infinities(&mut self, made: RecordBatch, said: &[Values]) -> Result<RecordBatch, Fault> {
        let mut bad = vec![false; made.num_rows()];
        for (slot, said) in self.bound.slots.iter().zip(said) {
            let of_output = not_finite(said, slot.output.width);
            let count = of_output.iter().filter(|bad| **bad).count();
            notice(&mut self.noticed, count, || format!("rows whose {} is NaN or infinite", slot.called));
            bad.iter_mut().zip(of_output).for_each(|(bad, more)| *bad |= more);
        }
        if !self.bound.cut || !bad.contains(&true) {
            return Ok(made);
        }
        let keep: BooleanArray = bad.iter().map(|bad| Some(!bad)).collect();
        let kept = filter_record_batch(&made, &keep)?;
        self.cut += (made.num_rows() - kept.num_rows()) as u64;
        Ok(kept)
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

    /// The fold of each row.
    fn folds(&self, batch: &RecordBatch, key: &str) -> Result<Vec<usize>, Fault> {
        let count = self.bound.models.len();
        let key = column::get(batch, key);
        if key.null_count() > 0 {
            return Err(Fault::content("a row has no key to find its fold by"));
        }
        if *key.data_type() == DataType::UInt64 {
            return Ok(key.as_primitive::<UInt64Type>().values().iter().map(|k| (*k % count as u64) as usize).collect());
        }
        let key = cast(key, &DataType::Int64)?;
        Ok(key.as_primitive::<Int64Type>().values().iter().map(|k| k.rem_euclid(count as i64) as usize).collect())
    }
}

/// Buffers for the feeds that a lane reads.
fn buffers(bound: &Bound, computer: &Computer, lane: usize, rows: usize) -> Vec<Option<Feed>> {
    let models = if bound.key.is_some() { &bound.models[lane..=lane] } else { &bound.models[..] };
    // All buffers of a lane have room for what any of its models takes at once: they are padded together.
    let room = bound.models.iter().map(|m| m.room(rows)).max().unwrap_or(rows);
    let read = |feed: usize| models.iter().any(|m| m.reads().any(|read| read == feed));
    bound.feeds.iter().enumerate().map(|(feed, plan)| read(feed).then(|| computer.buffer(plan, room))).collect()
}

impl work::Device for Batches {
    fn push(&mut self, batch: RecordBatch) -> Result<Vec<RecordBatch>, Fault> {
        let rows = batch.num_rows();
        let number = self.gone + self.waiting.len() as u64;
        let said = self.bound.slots.iter().map(|slot| Values::zeros(slot.output.element, rows * slot.output.width)).collect();
        self.waiting.push_back(Waiting { batch: self.kept(&batch)?, said, predicted: 0 });
        let mut prepared = Vec::new();
        for plan in &self.bound.feeds {
            prepared.push(plan.prepare(|name| column::get(&batch, name))?);
        }
        for name in columns_once(&self.bound) {
            let array = column::get(&batch, &name);
            let most = self.bound.feeds.iter().map(|plan| plan.too_long(&name, array)).max().unwrap_or(0);
            notice(&mut self.noticed, most, || format!("rows with more entries of `{name}` than the model takes"));
        }
        match self.bound.key.clone() {
            None => self.fill(0, &prepared, Whose { batch: number, first: 0, rows })?,
            Some(key) => {
                for (row, lane) in self.folds(&batch, &key)?.into_iter().enumerate() {
                    self.fill(lane, &prepared, Whose { batch: number, first: row, rows: 1 })?;
                }
            }
        }
        self.ready()
    }

    fn end(&mut self) -> Result<Vec<RecordBatch>, Fault> {
        for lane in 0..self.lanes.len() {
            let filled = self.in_lane(lane);
            if filled > 0 {
                self.run(lane, tail::padded(filled, self.rows))?;
            }
        }
        while !self.under_way.is_empty() {
            self.collect()?;
        }
        self.ready()
    }

    fn forget(&mut self) {
        // What is under way comes back with buffers that are needed.
        while !self.under_way.is_empty() {
            if self.collect().is_err() {
                break;
            }
        }
        self.lanes.iter_mut().for_each(|lane| lane.filled.clear());
        self.gone += self.waiting.len() as u64;
        self.waiting.clear();
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        self.computer.meter()
    }

    fn cut(&mut self) -> u64 {
        std::mem::take(&mut self.cut)
    }

    fn noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.noticed)
    }
}

/// The columns that are read, each once.
fn columns_once(bound: &Bound) -> Vec<String> {
    let mut names: Vec<String> = bound.feeds.iter().flat_map(|f| &f.parts).map(|p| p.column.clone()).collect();
    names.sort();
    names.dedup();
    names
}
