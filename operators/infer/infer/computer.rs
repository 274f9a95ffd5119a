//! Who computes: on the CPU each worker its own sessions, on a GPU one thread a device for all workers of the process.
//!
//! Invariants: a batch goes in with its buffers and comes back with them; batches of one worker come back in their order; a
//! session is used by one thread only. On a GPU a worker may have two batches under way, so that it fills one while the
//! other is computed.

use super::bind::{Bound, BoundModel};
use crate::onnx::feed::Feed;
use crate::onnx::provider::Processor;
use crate::onnx::session::Network;
use crate::onnx::tensor::{Fed, Values};
use crate::work::Runtime;
use anyhow::{Context, anyhow};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A batch to compute.
pub(super) struct Job {
    /// The set of models: of a cross-validation the fold.
    pub lane: usize,
    /// Rows, with those that only fill up.
    pub rows: usize,
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
    on: Processor,
}

struct Seat {
    network: Network,
    model: BoundModel,
    /// Rows of a run, where the device had no memory for more.
    at_most: Option<usize>,
}

impl Station {
    /// A session for each model.
    pub fn open(bound: &Bound, on: &Processor, runtime: &Runtime) -> anyhow::Result<Self> {
        let seat = |model: &BoundModel| {
            let network = Network::open(&model.path, &model.facts, (model.inputs.clone(), model.outputs.clone()), on, runtime)?;
            Ok(Seat { network, model: model.clone(), at_most: None })
        };
        let seats = bound.models.iter().map(seat).collect::<anyhow::Result<Vec<_>>>()?;
        let lanes = if bound.key.is_some() { seats.into_iter().map(|seat| vec![seat]).collect() } else { vec![seats] };
        Ok(Self { lanes, on: on.clone() })
    }

    /// Computes one batch.
    pub fn compute(&mut self, job: &Job) -> anyhow::Result<Vec<Values>> {
        let mut said = Vec::new();
        for seat in self.lanes.get_mut(job.lane).into_iter().flatten() {
            let from = said.len();
            said.extend(seat.model.outputs.iter().map(|o| Values::zeros(o.element, 0)));
            if let Err(error) = seat.run(job, &mut said[from..]) {
                let rows = seat.at_most.unwrap_or(job.rows);
                let memory = self.on != Processor::Cpu && is_out_of_memory(&error);
                anyhow::ensure!(memory && rows > 1 && seat.model.fixed.is_none() && seat.at_most.is_none(), error);
                seat.at_most = Some(rows.div_ceil(2));
                tracing::warn!("{} has no memory for {rows} rows of {}: half as many are tried", self.on, seat.model.path);
                said[from..].iter_mut().for_each(Values::clear);
                seat.run(job, &mut said[from..])?;
            }
        }
        Ok(said)
    }
}

fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}").to_lowercase();
    ["out of memory", "failed to allocate memory", "cudaerrormemoryallocation", "alloc_failed"]
        .iter()
        .any(|words| text.contains(words))
}

impl Seat {
    fn run(&mut self, job: &Job, said: &mut [Values]) -> anyhow::Result<()> {
        let whole = self.model.room(job.rows);
        let piece = self.model.fixed.or(self.at_most).unwrap_or(whole).min(whole);
        let mut first = 0;
        while first < whole {
            let rows = piece.min(whole - first);
            let feeds = self.model.feeds.iter().map(|f| job.feeds[*f].as_ref().map(|feed| feed.rows(first, rows)));
            let inputs: Vec<Fed<'_>> = feeds.collect::<Option<_>>().context("every feed of a lane")?;
            self.network.run(rows, &inputs, said)?;
            first += rows;
        }
        Ok(())
    }
}

/// Takes batches and gives them back computed.
pub(super) enum Computer {
    /// The worker itself.
    Here(Box<Station>, VecDeque<anyhow::Result<Done>>),
    /// The thread of a device.
    There { device: Arc<Gpu>, answer: Sender<anyhow::Result<Done>>, answers: Receiver<anyhow::Result<Done>> },
}

type Question = (Job, Sender<anyhow::Result<Done>>);

/// A device with its thread, which ends when the last worker has gone.
pub(super) struct Gpu {
    jobs: SyncSender<Question>,
}

/// The devices that are at work in this process, by what they compute.
static GPUS: Mutex<Vec<(String, Weak<Gpu>)>> = Mutex::new(Vec::new());

impl Computer {
    /// For one of the workers.
    pub fn open(bound: &Bound, worker: usize, runtime: &Runtime) -> anyhow::Result<Self> {
        let on = &bound.processors[worker % bound.processors.len()];
        if *on == Processor::Cpu {
            return Ok(Self::Here(Box::new(Station::open(bound, on, runtime)?), VecDeque::new()));
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
            Self::Here(station, done) => {
                let said = station.compute(&job);
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
            Self::Here(_, done) => done.pop_front().context("a batch under way")?,
            Self::There { answers, .. } => answers.recv().context("the thread of the GPU has ended")?,
        }
    }
}

impl Gpu {
    fn start(mut station: Station) -> anyhow::Result<Self> {
        let (jobs, questions) = sync_channel::<Question>(4);
        std::thread::Builder::new().name(format!("{}", station.on)).spawn(move || {
            while let Ok((job, answer)) = questions.recv() {
                let done = station.compute(&job).map(|said| Done { job, said });
                // A worker that has gone wants no answer.
                let _ = answer.send(done);
            }
        })?;
        Ok(Self { jobs })
    }
}

#[cfg(test)]
impl Computer {
    /// A thread as of a GPU, which computes on the CPU: for tests of everything but the device.
    pub fn thread_on_cpu(bound: &Bound, name: &str, runtime: &Runtime) -> anyhow::Result<Self> {
        Self::shared(name, || Station::open(bound, &Processor::Cpu, runtime))
    }
}
