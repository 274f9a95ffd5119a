//! What computes batches: a session for each model, and what each of them reads.
//!
//! Invariants: it is used by one thread at a time; what it says of a batch depends on that batch alone.

use super::bind::{Bound, BoundModel};
use super::tail;
use crate::meter::{Doing, Meter};
use crate::onnx::convolution::{Convolution, Scratch};
use crate::onnx::feed::Feed;
use crate::onnx::first_convolution;
use crate::onnx::memory::Pinned;
use crate::onnx::provider::Processor;
use crate::onnx::session::{Input, Network};
use crate::onnx::sparse::{Hits, Joined, Opened};
use crate::onnx::tensor::{Element, Fed, Values};
use crate::work::Runtime;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A batch to compute.
pub(super) struct Job {
    /// The set of models: of a cross-validation the fold.
    pub lane: usize,
    /// Rows, with those that only fill up.
    pub rows: usize,
    /// Rows, without them.
    pub filled: usize,
    /// The buffers, by the number of their feed; none where the lane reads no such.
    pub feeds: Vec<Option<Feed>>,
}

/// A batch that was computed: what the models of the lane said, model by model, output by output.
pub(super) struct Done {
    pub job: Job,
    pub said: Vec<Values>,
}

/// Sessions, and what each reads.
pub(super) struct Station {
    lanes: Vec<Vec<Seat>>,
    /// First layers that are computed from hits.
    layers: Vec<Layers>,
    pub on: Processor,
    pub meter: Arc<Meter>,
    /// Memory that its device reads by itself; the CPU needs none.
    pub pinned: Option<Pinned>,
}

/// The first layers of models that read the same.
struct Layers {
    opened: Arc<Opened>,
    /// What they read, by the number of the feed.
    feeds: Vec<usize>,
    hits: Hits,
    /// What they gave, model by model.
    values: Vec<Vec<f32>>,
}

/// A first convolution that is computed from hits.
struct Convolved {
    convolution: Convolution,
    /// What it reads, by the number of the feed.
    feed: usize,
    /// What it gave.
    values: Vec<f32>,
}

struct Seat {
    network: Network,
    model: BoundModel,
    /// Where its first layer is computed from hits: the number of its group, and its own in there.
    layer: Option<(usize, usize)>,
    convolutions: Vec<Convolved>,
    scratch: Scratch,
    /// Rows of a run, where the device had no memory for more.
    at_most: Option<usize>,
    /// Rows for which there is memory.
    #[cfg(test)]
    room: usize,
}

impl Station {
    /// A session for each model.
    pub fn open(bound: &Bound, on: &Processor, runtime: &Runtime) -> anyhow::Result<Self> {
        let (layers, mut rests) = Layers::open(bound)?;
        let seat = |(number, model): (usize, &BoundModel)| {
            let outputs = model.outputs.clone();
            let (mut layer, mut convolutions) = (None, Vec::new());
            let network = match rests.remove(&number) {
                Some((place, input, rest)) => {
                    layer = Some(place);
                    Network::open_rest((&model.path, &rest), (vec![input], outputs), runtime)?
                }
                None if !model.convolved.is_empty() => {
                    let (inputs, rest) = Convolved::open(model, &mut convolutions)?;
                    Network::open_rest((&model.path, &rest), (inputs, outputs), runtime)?
                }
                None => Network::open(&model.path, &model.facts, (model.inputs.clone(), outputs), on, runtime)?,
            };
            Ok(Seat {
                network,
                model: model.clone(),
                layer,
                convolutions,
                scratch: Scratch::default(),
                at_most: None,
                #[cfg(test)]
                room: usize::MAX,
            })
        };
        let seats = bound.models.iter().enumerate().map(seat).collect::<anyhow::Result<Vec<_>>>()?;
        let meter = Arc::new(Meter::of(on.to_string(), *on == Processor::Cpu));
        let pinned = seats.first().and_then(|seat| seat.network.pinned(on));
        let lanes = if bound.key.is_some() { seats.into_iter().map(|seat| vec![seat]).collect() } else { vec![seats] };
        Ok(Self { lanes, layers, on: on.clone(), meter, pinned })
    }

    /// Computes one batch.
    pub fn compute(&mut self, job: &Job) -> anyhow::Result<Vec<Values>> {
        let said = self.compute_all(job)?;
        self.meter.computed(job.filled);
        let up = self.lanes.get(job.lane).into_iter().flatten().map(|seat| seat.bytes(job)).sum();
        self.meter.moved(up, said.iter().map(Values::bytes).sum());
        Ok(said)
    }

    fn compute_all(&mut self, job: &Job) -> anyhow::Result<Vec<Values>> {
        for layers in &mut self.layers {
            self.meter.during(Doing::Computing, || layers.compute(job))?;
        }
        let mut said = Vec::new();
        for seat in self.lanes.get_mut(job.lane).into_iter().flatten() {
            let from = said.len();
            said.extend(seat.model.outputs.iter().map(|o| Values::zeros(o.element, 0)));
            let halves = self.on == Processor::Cpu;
            if let Err(error) = seat.run(job, (&self.layers, halves), &self.meter, &mut said[from..]) {
                let rows = seat.at_most.unwrap_or(job.rows);
                let memory = self.on != Processor::Cpu && is_out_of_memory(&error);
                anyhow::ensure!(memory && rows > 1 && seat.model.fixed.is_none() && seat.at_most.is_none(), error);
                seat.at_most = Some(rows.div_ceil(2));
                tracing::warn!("{} has no memory for {rows} rows of {}: half as many are tried", self.on, seat.model.path);
                said[from..].iter_mut().for_each(Values::clear);
                seat.run(job, (&self.layers, false), &self.meter, &mut said[from..])?;
            }
        }
        Ok(said)
    }
}

/// For each model whose first layer is computed from hits, by its number: where, and what stands behind it.
type Rests = BTreeMap<usize, ((usize, usize), Input, Vec<u8>)>;

impl Layers {
    /// The layers of models that read the same together.
    fn open(bound: &Bound) -> anyhow::Result<(Vec<Self>, Rests)> {
        let mut groups: Vec<(&[usize], Vec<usize>)> = Vec::new();
        for (number, model) in bound.models.iter().enumerate().filter(|(_, model)| model.from_hits) {
            match groups.iter_mut().find(|(feeds, _)| *feeds == model.feeds) {
                Some((_, models)) => models.push(number),
                None => groups.push((&model.feeds, vec![number])),
            }
        }
        let (mut all, mut rests) = (Vec::new(), Rests::new());
        for (feeds, numbers) in groups {
            let models: Vec<_> =
                numbers.iter().map(|n| (bound.models[*n].path.as_str(), bound.models[*n].facts.as_ref())).collect();
            let opened = Joined::open(&models, &bound.models[numbers[0]].inputs)?;
            for ((place, number), (input, rest)) in numbers.iter().enumerate().zip(&opened.1) {
                rests.insert(*number, ((all.len(), place), input.clone(), rest.clone()));
            }
            all.push(Self { opened, feeds: feeds.to_vec(), hits: Hits::default(), values: vec![Vec::new(); numbers.len()] });
        }
        Ok((all, rests))
    }

    fn compute(&mut self, job: &Job) -> anyhow::Result<()> {
        let inputs = self.feeds.iter().map(|feed| job.feeds[*feed].as_ref().map(|feed| feed.rows(0, job.rows)));
        let inputs: Vec<Fed<'_>> = inputs.collect::<Option<_>>().context("every feed of a lane")?;
        self.opened.0.multiply(&inputs, job.rows, &mut self.hits, &mut self.values)
    }
}

impl Convolved {
    /// Those of a model; gives what stands behind them, and its inputs.
    fn open(model: &BoundModel, all: &mut Vec<Self>) -> anyhow::Result<(Vec<Input>, Vec<u8>)> {
        let names: Vec<&str> = model.convolved.iter().map(|hits| hits.input.name.as_str()).collect();
        let (layers, rest) = first_convolution::open(&model.path, &model.facts, &names)?;
        let mut inputs = model.inputs.clone();
        for layer in layers {
            let hits = model.convolved.iter().find(|hits| hits.input.name == model.facts.inputs[layer.input].name);
            let feed = hits.context("the hits of a convolution")?.feed;
            inputs.push(Input { name: layer.name, row: layer.row, element: Element::F32, hits: false });
            all.push(Self { convolution: layer.convolution, feed, values: Vec::new() });
        }
        Ok((inputs, rest))
    }

    fn compute(&mut self, job: &Job, first: usize, rows: usize, scratch: &mut Scratch) -> anyhow::Result<()> {
        let feed = job.feeds[self.feed].as_ref().context("every feed of a lane")?;
        let Fed::Hits(hits) = feed.rows(first, rows) else { bail!("a convolution of what is no hits") };
        self.values.resize(rows * self.convolution.width(), 0.0);
        self.convolution.compute(hits, scratch, &mut self.values)
    }
}

/// True where a device has said that it has no memory.
pub(super) fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["out of memory", "failed to allocate memory", "cudaerrormemoryallocation", "alloc_failed"]
        .iter()
        .any(|words| text.contains(words))
}

impl Seat {
    /// Bytes of the inputs of a batch, as they are fed.
    fn bytes(&self, job: &Job) -> usize {
        let feeds = self.model.reads().filter_map(|feed| job.feeds[feed].as_ref());
        feeds.map(|feed| feed.bytes(self.model.room(job.rows))).sum()
    }

    fn run(&mut self, job: &Job, (layers, halves): (&[Layers], bool), meter: &Meter, said: &mut [Values]) -> anyhow::Result<()> {
        if let Some((group, number)) = self.layer {
            let values = &layers[group].values[number];
            return self.network.run(job.rows, &[Fed::F32(values)], said, meter);
        }
        let whole = self.model.room(job.rows);
        let runs = match self.model.fixed.or(self.at_most) {
            Some(piece) => (0..whole).step_by(piece).map(|first| piece.min(whole - first)).collect(),
            None if halves => tail::halves(job.filled, whole),
            None => vec![whole],
        };
        let mut first = 0;
        for rows in runs {
            #[cfg(test)]
            anyhow::ensure!(
                rows <= self.room,
                "Non-zero status code returned while running Conv node: CUDA failure 2: out of memory ; GPU=0"
            );
            let feeds = self.model.feeds.iter().map(|f| job.feeds[*f].as_ref().map(|feed| feed.rows(first, rows)));
            let mut inputs: Vec<Fed<'_>> = feeds.collect::<Option<_>>().context("every feed of a lane")?;
            let scratch = &mut self.scratch;
            let compute = || self.convolutions.iter_mut().try_for_each(|of| of.compute(job, first, rows, scratch));
            meter.during(Doing::Computing, compute)?;
            inputs.extend(self.convolutions.iter().map(|of| Fed::F32(&of.values)));
            self.network.run(rows, &inputs, said, meter)?;
            first += rows;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Station {
    /// As if its device had memory for so many rows.
    pub fn with_room(mut self, room: usize) -> Self {
        self.lanes.iter_mut().flatten().for_each(|seat| seat.room = room);
        self
    }

    /// As if the memory of the CPU were that of a device.
    pub fn pinned_on_cpu(mut self) -> Self {
        self.pinned = self.lanes.iter_mut().flatten().map(|seat| seat.network.pin_on_cpu()).last();
        self
    }
}
