//! Who computes: on the CPU each worker its own sessions, on a GPU one thread a device for all workers of the process.
//!
//! Invariants: a batch goes in with its buffers and comes back with them; batches of one worker come back in their order; a
//! session is used by one thread only. On a GPU a worker may have two batches under way, so that it fills one while the
//! other is computed.

use super::bind::{Bound, BoundModel};
use super::tail;
use crate::kept::Kept;
use crate::meter::Meter;
use crate::onnx::feed::Feed;
use crate::onnx::provider::Processor;
use crate::onnx::session::{Input, Network};
use crate::onnx::sparse::{Hits, Joined, Opened};
use crate::onnx::tensor::{Fed, Values};
use crate::work::Runtime;
use anyhow::{Context, anyhow};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

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
    on: Processor,
    meter: Arc<Meter>,
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

struct Seat {
    network: Network,
    model: BoundModel,
    /// Where its first layer is computed from hits: the number of its group, and its own in there.
    layer: Option<(usize, usize)>,
    /// Rows of a run, where the device had no memory for more.
    at_most: Option<usize>,
    /// Rows for which there is memory.
    #[cfg(test)]
    room: usize,
    /// Time that went by until its inputs had the form that the model takes, since it was taken.
    upload: Duration,
}

impl Station {
    /// A session for each model.
    pub fn open(bound: &Bound, on: &Processor, runtime: &Runtime) -> anyhow::Result<Self> {
        let (layers, mut rests) = Layers::open(bound)?;
        let seat = |(number, model): (usize, &BoundModel)| {
            let outputs = model.outputs.clone();
            let (network, layer) = match rests.remove(&number) {
                Some((place, input, rest)) => {
                    (Network::open_rest((&model.path, &rest), (vec![input], outputs), runtime)?, Some(place))
                }
                None => (Network::open(&model.path, &model.facts, (model.inputs.clone(), outputs), on, runtime)?, None),
            };
            Ok(Seat {
                network,
                model: model.clone(),
                layer,
                at_most: None,
                #[cfg(test)]
                room: usize::MAX,
                upload: Duration::ZERO,
            })
        };
        let seats = bound.models.iter().enumerate().map(seat).collect::<anyhow::Result<Vec<_>>>()?;
        let lanes = if bound.key.is_some() { seats.into_iter().map(|seat| vec![seat]).collect() } else { vec![seats] };
        let meter = Arc::new(Meter::of(on.to_string(), *on == Processor::Cpu));
        Ok(Self { lanes, layers, on: on.clone(), meter })
    }

    /// Computes one batch.
    pub fn compute(&mut self, job: &Job) -> anyhow::Result<Vec<Values>> {
        let begun = Instant::now();
        let said = self.compute_all(job)?;
        let seats = self.lanes.get_mut(job.lane).into_iter().flatten();
        let upload = seats.map(|seat| std::mem::take(&mut seat.upload)).sum();
        self.meter.computed(job.filled, begun.elapsed(), upload);
        let up = self.lanes.get(job.lane).into_iter().flatten().map(|seat| seat.bytes(job)).sum();
        self.meter.moved(up, said.iter().map(Values::bytes).sum());
        Ok(said)
    }

    fn compute_all(&mut self, job: &Job) -> anyhow::Result<Vec<Values>> {
        for layers in &mut self.layers {
            layers.compute(job)?;
        }
        let mut said = Vec::new();
        for seat in self.lanes.get_mut(job.lane).into_iter().flatten() {
            let from = said.len();
            said.extend(seat.model.outputs.iter().map(|o| Values::zeros(o.element, 0)));
            let halves = self.on == Processor::Cpu;
            if let Err(error) = seat.run(job, &self.layers, halves, &mut said[from..]) {
                let rows = seat.at_most.unwrap_or(job.rows);
                let memory = self.on != Processor::Cpu && is_out_of_memory(&error);
                anyhow::ensure!(memory && rows > 1 && seat.model.fixed.is_none() && seat.at_most.is_none(), error);
                seat.at_most = Some(rows.div_ceil(2));
                tracing::warn!("{} has no memory for {rows} rows of {}: half as many are tried", self.on, seat.model.path);
                said[from..].iter_mut().for_each(Values::clear);
                seat.run(job, &self.layers, false, &mut said[from..])?;
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

fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["out of memory", "failed to allocate memory", "cudaerrormemoryallocation", "alloc_failed"]
        .iter()
        .any(|words| text.contains(words))
}

impl Seat {
    /// Bytes of the inputs of a batch, as they are fed.
    fn bytes(&self, job: &Job) -> usize {
        let feeds = self.model.feeds.iter().filter_map(|feed| job.feeds[*feed].as_ref());
        feeds.map(|feed| feed.bytes(self.model.room(job.rows))).sum()
    }

    fn run(&mut self, job: &Job, layers: &[Layers], halves: bool, said: &mut [Values]) -> anyhow::Result<()> {
        if let Some((group, number)) = self.layer {
            let values = &layers[group].values[number];
            self.upload += self.network.run(job.rows, &[Fed::F32(values)], said)?;
            return Ok(());
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
            let inputs: Vec<Fed<'_>> = feeds.collect::<Option<_>>().context("every feed of a lane")?;
            self.upload += self.network.run(rows, &inputs, said)?;
            first += rows;
        }
        Ok(())
    }
}

/// Takes batches and gives them back computed.
pub(super) enum Computer {
    /// The worker itself.
    Here(Own),
    /// The thread of a device.
    There { device: Arc<Gpu>, answer: Sender<anyhow::Result<Done>>, answers: Receiver<anyhow::Result<Done>> },
}

/// What a worker computes with itself.
pub(super) struct Own {
    /// None when it is kept for the next go.
    station: Option<Box<Station>>,
    done: VecDeque<anyhow::Result<Done>>,
    /// Where it goes at the end, where another go may follow.
    kept: Option<(Arc<Kept>, String)>,
}

impl Own {
    /// Opens sessions, or takes those of an earlier go: they are the same where all that they are made of is.
    fn open(bound: &Bound, on: &Processor, runtime: &Runtime) -> anyhow::Result<Self> {
        let kept = runtime.kept.as_ref().map(|kept| (Arc::clone(kept), format!("{on:?} {bound:?}")));
        let station = match kept.as_ref().and_then(|(kept, key)| kept.take::<Box<Station>>(key)) {
            Some(mut station) => {
                station.meter = Arc::new(Meter::of(on.to_string(), *on == Processor::Cpu));
                station
            }
            None => Box::new(Station::open(bound, on, runtime)?),
        };
        Ok(Self { station: Some(station), done: VecDeque::new(), kept })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let (Some((kept, key)), Some(station)) = (self.kept.take(), self.station.take()) {
            kept.put(key, station);
        }
    }
}

type Question = (Job, Sender<anyhow::Result<Done>>);

/// A device with its thread, which ends when the last worker has gone.
pub(super) struct Gpu {
    jobs: SyncSender<Question>,
    meter: Arc<Meter>,
}

/// The devices that are at work in this process, by what they compute.
static GPUS: Mutex<Vec<(String, Weak<Gpu>)>> = Mutex::new(Vec::new());

impl Computer {
    /// For one of the workers.
    pub fn open(bound: &Bound, worker: usize, runtime: &Runtime) -> anyhow::Result<Self> {
        let on = &bound.processors[worker % bound.processors.len()];
        if *on == Processor::Cpu {
            return Ok(Self::Here(Own::open(bound, on, runtime)?));
        }
        let open = || Station::open(bound, on, runtime);
        Self::shared(&format!("{on:?} {}", bound.settled_as()), open)
    }

    /// With the thread that is known by this name; `open` makes its sessions where there is none yet.
    fn shared(key: &str, open: impl FnOnce() -> anyhow::Result<Station>) -> anyhow::Result<Self> {
        let mut known = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, gpu)| gpu.strong_count() > 0);
        let found = known.iter().find(|(other, _)| other == key).and_then(|(_, gpu)| gpu.upgrade());
        let device = match found {
            Some(gpu) => gpu,
            None => {
                let gpu = Arc::new(Gpu::start(open()?)?);
                known.push((key.to_owned(), Arc::downgrade(&gpu)));
                gpu
            }
        };
        let (answer, answers) = channel();
        Ok(Self::There { device, answer, answers })
    }

    /// Batches that may be under way at a time.
    pub fn depth(&self) -> usize {
        match self {
            Self::Here(..) => 1,
            Self::There { .. } => 2,
        }
    }

    /// Gives a batch away.
    pub fn submit(&mut self, job: Job) -> anyhow::Result<()> {
        match self {
            Self::Here(Own { station, done, .. }) => {
                let said = station.as_mut().context("a station")?.compute(&job);
                done.push_back(said.map(|said| Done { job, said }));
                Ok(())
            }
            Self::There { device, answer, .. } => {
                device.jobs.send((job, answer.clone())).map_err(|_| anyhow!("the thread of the GPU has ended"))
            }
        }
    }

    /// Waits for the oldest batch that was given away.
    pub fn take(&mut self) -> anyhow::Result<Done> {
        match self {
            Self::Here(own) => own.done.pop_front().context("a batch under way")?,
            Self::There { device, answers, .. } => {
                let begun = Instant::now();
                let done = answers.recv().context("the thread of the GPU has ended")?;
                device.meter.waited(begun.elapsed());
                done
            }
        }
    }

    /// Where it is counted what the device does.
    pub fn meter(&self) -> Option<Arc<Meter>> {
        match self {
            Self::Here(own) => own.station.as_ref().map(|station| Arc::clone(&station.meter)),
            Self::There { device, .. } => Some(Arc::clone(&device.meter)),
        }
    }
}

impl Gpu {
    fn start(mut station: Station) -> anyhow::Result<Self> {
        let (jobs, questions) = sync_channel::<Question>(4);
        let meter = Arc::clone(&station.meter);
        std::thread::Builder::new().name(format!("{}", station.on)).spawn(move || {
            while let Ok((job, answer)) = questions.recv() {
                let done = station.compute(&job).map(|said| Done { job, said });
                // A worker that has gone wants no answer.
                let _ = answer.send(done);
            }
        })?;
        Ok(Self { jobs, meter })
    }
}

#[cfg(test)]
impl Computer {
    /// As a GPU that has memory for so many rows, computed on the CPU.
    pub fn with_room(bound: &Bound, room: usize, runtime: &Runtime) -> anyhow::Result<Self> {
        let mut station = Station::open(bound, &Processor::Cpu, runtime)?;
        station.on = Processor::Gpu { device: 0, tensorrt: false, cpu_nodes: false };
        station.lanes.iter_mut().flatten().for_each(|seat| seat.room = room);
        Ok(Self::Here(Own { station: Some(Box::new(station)), done: VecDeque::new(), kept: None }))
    }

    /// A thread as of a GPU, which computes on the CPU: for tests of everything but the device.
    pub fn thread_on_cpu(bound: &Bound, name: &str, runtime: &Runtime) -> anyhow::Result<Self> {
        let open = || {
            let station = Station::open(bound, &Processor::Cpu, runtime)?;
            Ok(Station { meter: Arc::new(Meter::of("thread".into(), false)), ..station })
        };
        Self::shared(name, open)
    }
}
