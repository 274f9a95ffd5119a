//! The threads of a GPU, which all workers of the process share.
//!
//! Each GPU has two threads with a session each, which take batches from one queue: while the GPU computes one batch, the inputs
//! of the next go up and the predictions of the last come down. (One session would do for that if it could be run from two threads;
//! `ort` asks for it alone.) Weights lie twice on the device. Where it has no memory for the second, one thread goes on alone, and says so.
//!
//! Invariants: a session is used by one thread only; batches of one worker come back to it in the order in which it gave them
//! away, whichever thread computed them; a batch comes back with its buffers, or an error comes in its place, never nothing.

use super::bind::SESSIONS;
use super::station::{self, Done, Job, Station};
use crate::meter::{Doing, Meter};
use crate::onnx::feed::{Feed, Plan};
use crate::onnx::memory::Pinned;
use anyhow::{Context, anyhow};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

/// A batch of a worker, by number, and where to it goes back.
struct Question {
    number: u64,
    job: Job,
    answer: Sender<Answer>,
}

type Answer = (u64, anyhow::Result<Done>);

/// A device with its threads, which end when the last worker has gone.
pub(super) struct Gpu {
    jobs: SyncSender<Question>,
    meter: Arc<Meter>,
    pinned: Mutex<Option<Pinned>>,
}

/// The devices that are at work in this process, by what they compute.
static GPUS: Mutex<Vec<(String, Weak<Gpu>)>> = Mutex::new(Vec::new());

impl Gpu {
    /// The device that is known by this name, for one more worker; `open` makes its sessions where there are none yet.
    pub fn shared(key: &str, open: impl Fn() -> anyhow::Result<Station>) -> anyhow::Result<Client> {
        let mut known = GPUS.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, gpu)| gpu.strong_count() > 0);
        let found = known.iter().find(|(other, _)| other == key).and_then(|(_, gpu)| gpu.upgrade());
        let device = match found {
            Some(gpu) => gpu,
            None => {
                let gpu = Arc::new(Self::start(open)?);
                known.push((key.to_owned(), Arc::downgrade(&gpu)));
                gpu
            }
        };
        let (answer, answers) = channel();
        Ok(Client { device, answer, answers, given: 0, taken: 0, early: BTreeMap::new() })
    }

    fn start(open: impl Fn() -> anyhow::Result<Station>) -> anyhow::Result<Self> {
        let mut stations = vec![open()?];
        let (meter, pinned) = (Arc::clone(&stations[0].meter), stations[0].pinned.take());
        while stations.len() < SESSIONS {
            match open() {
                Ok(mut station) => {
                    station.meter = Arc::clone(&meter);
                    stations.push(station);
                }
                // Whatever else is wrong (a model that has changed, say) must be told, not gone around.
                Err(error) if !station::is_out_of_memory(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!("{}: copies don't overlap with computing: {error:#}", stations[0].on);
                    break;
                }
            }
        }
        let (jobs, questions) = sync_channel::<Question>(2 * SESSIONS);
        let questions = Arc::new(Mutex::new(questions));
        for mut station in stations {
            let questions = Arc::clone(&questions);
            let next = move |meter: &Meter| {
                let waiting = || questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
                meter.during(Doing::Waiting, waiting).ok()
            };
            std::thread::Builder::new().name(station.meter.device.clone()).spawn(move || {
                while let Some(Question { number, job, answer }) = next(&station.meter) {
                    let compute = || station.compute(&job);
                    let said = catch_unwind(AssertUnwindSafe(compute)).unwrap_or_else(|_| Err(anyhow!("ONNX Runtime panicked")));
                    // A worker that has gone wants no answer.
                    let _ = answer.send((number, said.map(|said| Done { job, said })));
                }
            })?;
        }
        Ok(Self { jobs, meter, pinned: Mutex::new(pinned) })
    }
}

/// A worker's way to a device.
pub(super) struct Client {
    device: Arc<Gpu>,
    answer: Sender<Answer>,
    answers: Receiver<Answer>,
    /// Batches that were given away, and that were taken back.
    given: u64,
    taken: u64,
    /// Those that came back before their turn.
    early: BTreeMap<u64, anyhow::Result<Done>>,
}

impl Client {
    /// A buffer for `rows` rows that the device reads by itself.
    pub fn buffer(&self, plan: &Plan, rows: usize) -> Feed {
        Feed::new(plan.clone(), rows, self.device.pinned.lock().unwrap_or_else(PoisonError::into_inner).as_ref())
    }

    /// Gives a batch away.
    pub fn submit(&mut self, job: Job) -> anyhow::Result<()> {
        let question = Question { number: self.given, job, answer: self.answer.clone() };
        self.given += 1;
        self.device.jobs.send(question).map_err(|_| anyhow!("the threads of the GPU have ended"))
    }

    /// Waits for the oldest batch that was given away.
    pub fn take(&mut self) -> anyhow::Result<Done> {
        let begun = Instant::now();
        let done = loop {
            if let Some(done) = self.early.remove(&self.taken) {
                break done;
            }
            let (number, done) = self.answers.recv().context("the threads of the GPU have ended")?;
            self.early.insert(number, done);
        };
        self.taken += 1;
        self.device.meter.waited(begun.elapsed());
        done
    }

    /// Where it is counted what the device does.
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.device.meter)
    }
}
