//! Where rows come from: a reader thread a worker, and the operator that puts what it reads under its timestamp.
//!
//! In phase 0 the parts of a process stand in one queue, and whichever reader is free takes the next: one slow file keeps one
//! reader. The reader says with every part, and while it waits, below which timestamp it will never send again; the operator
//! downgrades its capabilities to that. Two things hold a reader back: the byte budget, and the window (a part may be at most
//! so far ahead of the frontier), which bounds what is not committed yet, also between processes, where permits don't ride.

use super::parcel::{Chunk, Content, Parcel};
use super::stage::Record;
use super::{Pass, Shared};
use anyhow::{Context, Result};
use calostream_operators::Fault;
use calostream_operators::work::Source;
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

/// What a reader thread tells its operator.
pub enum Read {
    /// Nothing below this timestamp will come any more.
    Bound(u64),
    /// A parcel for an output, at the last bound.
    Parcel(usize, Parcel),
    /// Records, at the last bound.
    Records(Vec<Record>),
}

/// The way from a reader thread to its operator.
pub struct Reading {
    send: SyncSender<Read>,
    wake: Box<dyn Fn() + Send>,
}

impl Reading {
    /// Sends; an error where the dataflow is gone.
    pub fn send(&self, read: Read) -> Result<()> {
        self.send.send(read).ok().context("the dataflow has ended")?;
        (self.wake)();
        Ok(())
    }
}

/// Runs `read` on a thread of its own and puts what it sends into streams, one an output, and one of records.
pub fn source<'s>(
    scope: Scope<'s, u64>,
    name: &str,
    outputs: usize,
    shared: &Arc<Shared>,
    read: impl FnOnce(&Reading) -> Result<()> + Send + 'static,
) -> super::operator::Streams<'s> {
    let mut builder = OperatorBuilder::new(name.to_owned(), scope);
    let (mut ports, mut streams) = (Vec::new(), Vec::new());
    for _ in 0..outputs {
        let (port, stream) = builder.new_output::<Chunk>();
        ports.push(OutputBuilder::<_, NoopBuilder<Chunk>>::from(port));
        streams.push(stream);
    }
    let (records, record_stream) = builder.new_output::<Vec<Record>>();
    let mut records = OutputBuilder::<_, CapacityContainerBuilder<Vec<Record>>>::from(records);
    let waker = scope.worker().sync_activator_for(builder.operator_info().address.to_vec());
    let (send, receive): (_, Receiver<Read>) = sync_channel(4);
    let wake = Box::new(move || {
        let _ = waker.activate();
    });
    let (failure, title) = (shared.failure.clone(), name.to_owned());
    let thread = std::thread::Builder::new().name(format!("{name}-reader")).spawn(move || {
        let reading = Reading { send, wake };
        match catch_unwind(AssertUnwindSafe(|| read(&reading))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failure.raise(error),
            Err(panic) => failure.panicked(&title, panic.as_ref()),
        }
        let Reading { send, wake } = reading;
        drop(send);
        wake();
    });
    let failure = shared.failure.clone();
    if let Err(error) = thread {
        failure.raise(anyhow::Error::new(error).context("cannot start a reader thread"));
    }
    builder.build(move |capabilities| {
        let mut capabilities = Some(capabilities);
        move |_| {
            let Some(held) = capabilities.as_mut() else { return };
            loop {
                match receive.try_recv() {
                    Ok(Read::Bound(time)) => held.iter_mut().for_each(|c| c.downgrade(&time)),
                    Ok(Read::Parcel(output, parcel)) => {
                        let mut active = ports[output].activate();
                        active.session_with_builder(&held[output]).give_container(&mut parcel.into());
                    }
                    Ok(Read::Records(mut new)) => {
                        let mut active = records.activate();
                        active.session(&held[outputs]).give_iterator(new.drain(..));
                    }
                    Err(TryRecvError::Empty) => return,
                    Err(TryRecvError::Disconnected) => {
                        // After a failure the capabilities stay: nobody may take the part in hand for complete.
                        if !failure.raised() {
                            capabilities = None;
                        }
                        return;
                    }
                }
            }
        }
    });
    (streams, record_stream)
}

/// The parts of a process that nobody has taken yet.
#[derive(Debug)]
pub struct Queue {
    parts: Mutex<VecDeque<u64>>,
}

impl Queue {
    /// A queue of these parts, ascending.
    pub fn new(parts: impl IntoIterator<Item = u64>) -> Self {
        Self { parts: Mutex::new(parts.into_iter().collect()) }
    }

    /// The next part when the window allows; else a bound below which nothing will be taken any more.
    fn take(&self, pass: &Pass) -> Option<Result<u64, u64>> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let next = *parts.front()?;
        if next > pass.frontier() + pass.window {
            return Some(Err(next));
        }
        parts.pop_front();
        Some(Ok(next))
    }
}

/// Reads parts from the queue until it is empty: what a reader thread of phase 0 does.
pub fn read_parts(
    pass: &Pass,
    mut sources: BTreeMap<usize, (Box<dyn Source>, arrow::datatypes::SchemaRef)>,
    shared: &Arc<Shared>,
    reading: &Reading,
) -> Result<()> {
    let phase = &pass.phase;
    let stop = || shared.failure.raised();
    let mut last = None;
    loop {
        let number = match pass.queue.take(pass) {
            None => return Ok(()),
            Some(Ok(number)) => number,
            Some(Err(bound)) => {
                if stop() {
                    return Ok(());
                }
                if last.replace(bound) != Some(bound) {
                    reading.send(Read::Bound(bound))?;
                }
                std::thread::sleep(Duration::from_millis(2));
                continue;
            }
        };
        last = Some(number);
        reading.send(Read::Bound(number))?;
        let part = phase.part(number)?;
        let (step, output) = (part.origin.step, phase.origin(part.origin));
        let (source, schema) = sources.get_mut(&step).context("a source that was not started")?;
        let counter = &shared.counters[step];
        let (mut rows, mut faults) = (0, Vec::new());
        for planned in part.units.iter().filter(|u| !pass.left_out.contains(&u.number)) {
            let Some(unit) = &planned.unit else { continue };
            let mut of_unit = 0;
            let mut each = |batch| -> Result<bool, Fault> {
                let (batch, permit): (arrow::array::RecordBatch, super::budget::Permit) = batch;
                of_unit += batch.num_rows() as u64;
                // With a fault found the rest of the part is read only to find the others, not to be sent.
                if faults.is_empty() && batch.num_rows() > 0 {
                    counter.add(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
                    let batch = super::stage::project(&batch, schema)?;
                    let parcel =
                        Parcel { unit: planned.number, to: 0, content: Content::Batch(batch), permit: Some(Arc::new(permit)) };
                    reading.send(Read::Parcel(output, parcel))?;
                }
                Ok(!stop())
            };
            let read = read_unit(source.as_mut(), unit, shared, &mut each);
            match read {
                Ok(false) => return Ok(()),
                Ok(true) if of_unit != unit.rows => {
                    faults.push((planned.number, format!("{of_unit} rows could be read of {}", unit.rows)));
                }
                Ok(true) => {}
                Err(Fault::Content(reason)) => faults.push((planned.number, reason)),
                Err(Fault::Machine(error)) => return Err(error.context(phase.unit_name(planned.number))),
            }
            if faults.is_empty() {
                rows += of_unit;
                reading.send(Read::Parcel(
                    output,
                    Parcel { unit: planned.number, to: 0, content: Content::UnitEnd, permit: None },
                ))?;
            }
        }
        let end = if faults.is_empty() {
            reading.send(Read::Records(vec![Record::Rows { step, came: rows, out: vec![rows], cut: 0 }]))?;
            Content::PartEnd
        } else {
            let records = faults.into_iter().map(|(unit, reason)| Record::Fault { step, unit, reason }).collect();
            reading.send(Read::Records(records))?;
            Content::Abort
        };
        reading.send(Read::Parcel(output, Parcel { unit: 0, to: 0, content: end, permit: None }))?;
    }
}

/// Reads a unit under the budget; false where the run has stopped.
fn read_unit(
    source: &mut dyn Source,
    unit: &calostream_operators::Unit,
    shared: &Arc<Shared>,
    each: &mut dyn FnMut((arrow::array::RecordBatch, super::budget::Permit)) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    // Until the first batch is seen: what it may hold at most.
    let mut expected = (unit.rows * unit.row_bytes).min(16 << 20);
    let mut batches = source.read(unit)?;
    loop {
        let Some(mut permit) = shared.budget.take(expected, &|| shared.failure.raised()) else { return Ok(false) };
        let Some(batch) = batches.next() else { return Ok(true) };
        let batch = batch?;
        expected = batch.get_array_memory_size() as u64;
        permit.settle(expected);
        if !each((batch, permit))? {
            return Ok(false);
        }
    }
}
