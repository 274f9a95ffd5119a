//! The steps between a source and a feed, on one thread, and which rows come out of them.
//!
//! A row's position is that of the row as it was read, so a feed has to know which rows a step cut. Steps keep the order of
//! rows and the column `event`, and give each row at most once: what comes out is a part of what went in, in order, and is
//! found by walking along.

use crate::flow::project;
use crate::plan::{Plan, PlannedStep};
use anyhow::{Context, Result, bail};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::UInt64Type;
use calostream_operators::feeding::Feeding;
use calostream_operators::work::{Device, Map, Noticed, Runtime, Start};
use calostream_operators::{Facts, Fault, Work, Worker, column};
use std::collections::VecDeque;

enum Kind {
    Map(Box<dyn Map>),
    Device(Box<dyn Device>),
}

struct Link<'a> {
    step: &'a PlannedStep,
    kind: Kind,
}

/// The steps of a feed, begun.
pub struct Chain<'a> {
    links: Vec<Link<'a>>,
    feeding: &'a Feeding,
    /// Rows that are on their way, or cut: their events, and their places in the piece.
    under_way: VecDeque<(u64, u64)>,
    /// Rows below this are out, or cut.
    settled: u64,
}

/// Rows that came out, as they wait, each with its place in the piece; and below which place no more will come.
pub struct Out {
    /// The rows.
    pub batch: RecordBatch,
    /// Their places in the piece.
    pub places: Vec<u64>,
}

/// The steps from the source to the feed, without both.
pub fn between(plan: &Plan, feed: usize) -> Result<(usize, Vec<usize>)> {
    let mut steps = Vec::new();
    let mut at = feed;
    while let Some(port) = plan.steps[at].from.first() {
        at = port.step;
        steps.insert(0, at);
    }
    if steps.is_empty() {
        bail!("a feed without a source");
    }
    Ok((steps.remove(0), steps))
}

/// Starts a step.
pub fn start(plan: &Plan, step: usize, facts: &Facts, runtime: &Runtime, (index, peers): (usize, usize)) -> Result<Work> {
    let planned = &plan.steps[step];
    let (inputs, outputs, worker) = (&planned.inputs, &planned.planned.outputs, Worker { index, peers });
    let work = planned.operator.start(&Start { worker, facts, inputs, outputs, runtime });
    work.with_context(|| format!("step `{}` could not start", planned.name))
}

impl<'a> Chain<'a> {
    /// The steps for one epoch, on one thread of some.
    pub fn new(
        plan: &'a Plan,
        steps: &[usize],
        feeding: &'a Feeding,
        facts: &Facts,
        runtime: &Runtime,
        worker: (usize, usize),
    ) -> Result<Self> {
        let link = |step: &usize| {
            let kind = match start(plan, *step, facts, runtime, worker)? {
                Work::Map(map) => Kind::Map(map),
                Work::Device(device) => Kind::Device(device),
                _ => bail!("`{}` can't stand before a feed", plan.steps[*step].name),
            };
            Ok(Link { step: &plan.steps[*step], kind })
        };
        let links = steps.iter().map(link).collect::<Result<_>>()?;
        Ok(Self { links, feeding, under_way: VecDeque::new(), settled: 0 })
    }

    /// Takes rows whose places in the piece are these.
    pub fn push(&mut self, batch: RecordBatch, places: impl Iterator<Item = u64>) -> Result<Vec<Out>, Fault> {
        let devices = self.links.iter().any(|link| matches!(link.kind, Kind::Device(_)));
        let rows = batch.num_rows() as u64;
        self.under_way.extend(events(&batch)?.iter().copied().zip(places));
        let last = self.under_way.back().map_or(0, |(_, place)| place + 1);
        let made = self.through(0, vec![batch])?;
        let out = self.places(made)?;
        if !devices && rows > 0 {
            // What did not come out was cut.
            self.under_way.clear();
            self.settled = last;
        }
        Ok(out)
    }

    /// The piece is over.
    pub fn end(&mut self) -> Result<Vec<Out>, Fault> {
        let mut made = Vec::new();
        for link in 0..self.links.len() {
            if let Kind::Device(device) = &mut self.links[link].kind {
                let tail = device.end()?;
                device.cut();
                made.extend(self.through(link + 1, tail)?);
            }
        }
        let out = self.places(made)?;
        self.under_way.clear();
        self.settled = 0;
        Ok(out)
    }

    /// The piece is not gone on with.
    pub fn forget(&mut self) {
        for link in &mut self.links {
            if let Kind::Device(device) = &mut link.kind {
                device.forget();
                device.cut();
            }
        }
        drop(self.noticed());
        self.under_way.clear();
        self.settled = 0;
    }

    /// Rows below this place are out, or cut.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// What was noticed since this was asked last.
    pub fn noticed(&mut self) -> Noticed {
        let mut all = Noticed::new();
        for link in &mut self.links {
            let noticed = match &mut link.kind {
                Kind::Map(map) => map.noticed(),
                Kind::Device(device) => device.noticed(),
            };
            noticed.into_iter().for_each(|(what, count)| *all.entry(what).or_default() += count);
        }
        all
    }

    /// Batches through the steps from this one on.
    fn through(&mut self, from: usize, mut batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>, Fault> {
        for link in &mut self.links[from..] {
            let mut made = Vec::with_capacity(batches.len());
            for batch in batches {
                match &mut link.kind {
                    Kind::Map(map) => made.push(map.map(batch)?.batch),
                    Kind::Device(device) => made.extend(device.push(batch)?),
                }
            }
            let schema = &link.step.planned.outputs[0].schema;
            let planned = made.iter().filter(|batch| batch.num_rows() > 0).map(|batch| project(batch, schema));
            batches = planned.collect::<Result<_>>().with_context(|| format!("step `{}`", link.step.name))?;
        }
        Ok(batches)
    }

    /// The places of what came out.
    fn places(&mut self, batches: Vec<RecordBatch>) -> Result<Vec<Out>, Fault> {
        let mut all = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut places = Vec::with_capacity(batch.num_rows());
            for event in events(&batch)? {
                let place = std::iter::from_fn(|| self.under_way.pop_front()).find(|(came, _)| came == event);
                let (_, place) = place.context("a step gave a row that it was not given (a mistake in calostream)")?;
                self.settled = place + 1;
                places.push(place);
            }
            all.push(Out { batch: self.feeding.rows.prepare(&batch)?, places });
        }
        Ok(all)
    }
}

/// The identities of the events of a batch.
pub fn events(batch: &RecordBatch) -> Result<&arrow::buffer::ScalarBuffer<u64>, Fault> {
    let column = batch.column_by_name(column::EVENT).context("rows without an `event`")?;
    match column.as_primitive_opt::<UInt64Type>() {
        Some(events) if events.null_count() == 0 => Ok(events.values()),
        _ => Err(Fault::content("rows without an `event`")),
    }
}
