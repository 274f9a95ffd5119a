//! Who computes: on the CPU each worker its own sessions, on a GPU two threads a device for all workers of the process.
//!
//! Invariants: a batch goes in with its buffers and comes back with them; batches of one worker come back in their order.

use super::bind::{Bound, SESSIONS};
use super::gpu::{Client, Gpu};
use super::station::{Done, Job, Station};
use crate::kept::Kept;
use crate::meter::Meter;
use crate::onnx::feed::{Feed, Plan};
use crate::onnx::provider::Processor;
use crate::work::Runtime;
use anyhow::Context;
use std::collections::VecDeque;
use std::sync::Arc;

/// Takes batches and gives them back computed.
pub(super) enum Computer {
    /// The worker itself.
    Here(Own),
    /// The threads of a device.
    There(Client),
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

impl Computer {
    /// For one of the workers.
    pub fn open(bound: &Bound, worker: usize, runtime: &Runtime) -> anyhow::Result<Self> {
        let on = &bound.processors[worker % bound.processors.len()];
        if *on == Processor::Cpu {
            return Ok(Self::Here(Own::open(bound, on, runtime)?));
        }
        let open = || Station::open(bound, on, runtime);
        Ok(Self::There(Gpu::shared(&format!("{on:?} {}", bound.settled_as()), open)?))
    }

    /// Batches that a worker needs buffers for: those under way, and the one that it fills.
    pub fn depth(&self) -> usize {
        match self {
            Self::Here(..) => 1,
            Self::There(..) => SESSIONS + 1,
        }
    }

    /// A buffer for `rows` rows.
    pub fn buffer(&self, plan: &Plan, rows: usize) -> Feed {
        match self {
            Self::Here(..) => Feed::new(plan.clone(), rows, None),
            Self::There(client) => client.buffer(plan, rows),
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
            Self::There(client) => client.submit(job),
        }
    }

    /// Waits for the oldest batch that was given away.
    pub fn take(&mut self) -> anyhow::Result<Done> {
        match self {
            Self::Here(own) => own.done.pop_front().context("a batch under way")?,
            Self::There(client) => client.take(),
        }
    }

    /// Where it is counted what the device does.
    pub fn meter(&self) -> Option<Arc<Meter>> {
        match self {
            Self::Here(own) => own.station.as_ref().map(|station| Arc::clone(&station.meter)),
            Self::There(client) => Some(client.meter()),
        }
    }
}

#[cfg(test)]
impl Computer {
    /// As a GPU that has memory for so many rows, computed on the CPU.
    pub fn with_room(bound: &Bound, room: usize, runtime: &Runtime) -> anyhow::Result<Self> {
        let mut station = Station::open(bound, &Processor::Cpu, runtime)?.with_room(room);
        station.on = Processor::Gpu { device: 0, tensorrt: false, cpu_nodes: false };
        Ok(Self::Here(Own { station: Some(Box::new(station)), done: VecDeque::new(), kept: None }))
    }

    /// The threads as of a GPU, which compute on the CPU: for tests of everything but the device. A session after the first is
    /// refused with `refused`, where there is such.
    pub fn threads_on_cpu(bound: &Bound, name: &str, refused: Option<&'static str>) -> anyhow::Result<Self> {
        let (runtime, opened) = (&Runtime::default(), std::cell::Cell::new(0));
        let open = || {
            opened.set(opened.get() + 1);
            if let (2.., Some(refused)) = (opened.get(), refused) {
                anyhow::bail!(refused);
            }
            let mut station = Station::open(bound, &Processor::Cpu, runtime)?.pinned_on_cpu();
            station.meter = Arc::new(Meter::of("thread".into(), false));
            Ok(station)
        };
        Ok(Self::There(Gpu::shared(name, open)?))
    }
}
