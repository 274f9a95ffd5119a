//! A stage as a timely operator, in place or on a thread of its own.
//!
//! Nothing may wait in a timely operator. So a stage that may (inference, writing) runs on its own thread: the operator keeps
//! the capabilities of each parcel in a queue, the thread answers each parcel once and in order, and wakes the operator.
//! A stage that fails keeps its capabilities: no frontier passes the part, so nobody commits it.

use super::Shared;
use super::parcel::{Chunk, Parcel};
use super::stage::{Given, Record, Stage};
use super::timeline::Spent;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use timely::communication::Push;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::channels::Message;
use timely::dataflow::channels::pact::{DistributorPact, ParallelizationContract, Pipeline};
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};
use timely::progress::Stamp;

/// Where a stage runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    /// In the operator: it never waits.
    Worker,
    /// On a thread of its own.
    Thread,
}

/// Parcels for the workers they name. Whole parcels: the number of records must not change on the way.
struct ByParcel;

impl Distributor<Chunk> for ByParcel {
    fn partition<T: Clone, P: Push<Message<T, Chunk>>>(&mut self, chunk: &mut Chunk, stamp: &Stamp<T>, pushers: &mut [P]) {
        let to = chunk.parcel.as_ref().map_or(0, |p| p.to);
        Message::push_at(chunk, stamp.clone(), &mut pushers[to]);
    }
    fn flush<T: Clone, P: Push<Message<T, Chunk>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

/// The streams of a stage: one an output, and one of records.
pub type Streams<'s> = (Vec<Stream<'s, u64, Chunk>>, Stream<'s, u64, Vec<Record>>);

/// Runs a stage over a stream that stays on its worker.
pub fn stage<'s>(
    scope: Scope<'s, u64>,
    name: &str,
    input: Stream<'s, u64, Chunk>,
    outputs: usize,
    (stage, on): (Box<dyn Stage>, On),
    shared: &Arc<Shared>,
) -> Streams<'s> {
    build(scope, name, input, Pipeline, outputs, (stage, on), shared)
}

/// Runs a stage over a stream whose parcels go to the workers they name.
pub fn exchanged<'s>(
    scope: Scope<'s, u64>,
    name: &str,
    input: Stream<'s, u64, Chunk>,
    outputs: usize,
    (stage, on): (Box<dyn Stage>, On),
    shared: &Arc<Shared>,
) -> Streams<'s> {
    build(scope, name, input, DistributorPact(|_| ByParcel), outputs, (stage, on), shared)
}

type Answer = Given;

enum Runner {
    Here(Box<dyn Stage>),
    There { send: Option<Sender<(u64, Parcel)>>, receive: Receiver<Answer> },
}

fn build<'s, P>(
    scope: Scope<'s, u64>,
    name: &str,
    input: Stream<'s, u64, Chunk>,
    pact: P,
    outputs: usize,
    (stage, on): (Box<dyn Stage>, On),
    shared: &Arc<Shared>,
) -> Streams<'s>
where
    P: ParallelizationContract<u64, Chunk> + 'static,
{
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let mut input = builder.new_input(input, pact);
    let (mut ports, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..outputs {
        let (port, stream) = builder.new_output::<Chunk>();
        ports.push(OutputBuilder::<_, NoopBuilder<Chunk>>::from(port));
        streams.push(stream);
    }
    let (records, record_stream) = builder.new_output::<Vec<Record>>();
    let mut records = OutputBuilder::<_, CapacityContainerBuilder<Vec<Record>>>::from(records);
    let waker = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let (failure, counter, lingers) = (shared.failure.clone(), stage.counter(), stage.lingers() && on == On::Thread);
    let mut runner = match on {
        On::Worker => Runner::Here(stage),
        On::Thread => {
            let (send, jobs) = channel::<(u64, Parcel)>();
            let (answers, receive) = channel();
            let (failed, last, queued) = (failure.clone(), waker.clone(), counter.clone());
            let work = move || {
                let mut stage = stage;
                while let Ok((part, parcel)) = queued.spend(Spent::Hungry, || jobs.recv()) {
                    let (mut given, bytes) = (Given::default(), parcel.bytes());
                    queued.spend(Spent::Busy, || stage.take(part, parcel, &mut given))?;
                    queued.dequeue(bytes);
                    if failed.raised() || answers.send(given).is_err() {
                        return Ok(());
                    }
                    let _ = waker.activate();
                }
                let mut given = Given::default();
                if !failed.raised() {
                    queued.spend(Spent::Busy, || stage.close(&mut given))?;
                    let _ = answers.send(given);
                }
                Ok(())
            };
            failure.thread(name, last, work);
            Runner::There { send: Some(send), receive }
        }
    };
    builder.build_reschedule(move |capabilities| {
        // What a stage has to say when nothing will come any more is said at the last moment: this one follows the frontier,
        // so that it keeps nobody waiting.
        let mut last = lingers.then_some(capabilities);
        let mut held: VecDeque<Vec<Capability<u64>>> = VecDeque::new();
        move |frontiers| {
            if let (Some(last), Some(frontier)) = (&mut last, frontiers[0].frontier().first()) {
                last.iter_mut().filter(|c| c.time() < frontier).for_each(|c| c.downgrade(frontier));
            }
            let mut answers: Vec<(Vec<Capability<u64>>, Given)> = Vec::new();
            input.for_each(|capability, chunk| {
                let Some(parcel) = chunk.parcel.take() else { return };
                let Some(part) = capability.least().copied() else { return };
                let kept: Vec<_> = (0..=outputs).filter_map(|port| capability.retain_least(port)).collect();
                match &mut runner {
                    Runner::Here(stage) if !failure.raised() => {
                        let mut given = Given::default();
                        match counter.spend(Spent::Busy, || stage.take(part, parcel, &mut given)) {
                            Ok(()) => answers.push((kept, given)),
                            Err(error) => {
                                failure.raise(error);
                                held.push_back(kept);
                            }
                        }
                    }
                    Runner::Here(_) => held.push_back(kept),
                    Runner::There { send, .. } => {
                        held.push_back(kept);
                        counter.queue(parcel.bytes());
                        if let Some(send) = send {
                            let _ = send.send((part, parcel));
                        }
                    }
                }
            });
            if let Runner::There { send, receive } = &mut runner {
                while let Ok(given) = receive.try_recv() {
                    if let Some(kept) = held.pop_front().or_else(|| last.take()) {
                        answers.push((kept, given));
                    }
                }
                if frontiers[0].is_empty() {
                    *send = None;
                }
            }
            for (kept, given) in answers {
                for (output, parcel) in given.parcels {
                    ports[output].activate().session_with_builder(&kept[output]).give_container(&mut parcel.into());
                }
                if !given.records.is_empty() {
                    records.activate().session(&kept[outputs]).give_iterator(given.records.into_iter());
                }
            }
            !held.is_empty() || last.is_some()
        }
    });
    (streams, record_stream)
}
