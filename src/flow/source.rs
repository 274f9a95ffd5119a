//! Where rows come from: a reader thread a worker, and the operator that puts what it reads under its timestamp.
//!
//! In phase 0 the parts of a process stand in one queue, and whichever reader is free takes the next: one slow file keeps one
//! reader. The reader says with every part, and while it waits, below which timestamp it will never send again; the operator
//! downgrades its capabilities to that. Two things hold a reader back: the byte budget, and the window (a part may be at most
//! so far ahead of the frontier), which bounds what is not committed yet, also between processes, where permits don't ride.
//! A reader begins a part when at most one of its earlier ones is still on its way: reading is often quicker than what comes
//! after it, and whose worker has done its share is free, not whose reader has.

use super::Shared;
use super::budget::{Budget, Permit};
use super::counter::Counter;
use super::parcel::{Chunk, Content, Parcel};
use super::pass::Pass;
use super::stage::Record;
use super::timeline::Spent;
use crate::files::Patience;
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use calostream_operators::Fault;
use calostream_operators::work::Source;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use timely::container::{CapacityContainerBuilder, NoopBuilder};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::scheduling::SyncActivator;

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
    wake: SyncActivator,
}

impl Reading {
    /// Sends; an error where the dataflow is gone.
    pub fn send(&self, read: Read) -> Result<()> {
        self.send.send(read).ok().context("the dataflow has ended")?;
        let _ = self.wake.activate();
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
    let failure = shared.failure.clone();
    let reading = Reading { send, wake: waker.clone() };
    failure.thread(&format!("{name}-reader"), waker, move || read(&reading));
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

/// How long a reader that finds no room waits before it looks again, at first and at most.
const NAP: Duration = Duration::from_millis(1);
const LONGEST_NAP: Duration = Duration::from_millis(8);

/// Waits, and the next time longer: whoever computes on the same core is seldom disturbed, and no wait is twice as long as needed.
fn doze(nap: &mut Duration) {
    std::thread::sleep(*nap);
    *nap = (*nap * 2).min(LONGEST_NAP);
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
    let (mut last, mut begun): (_, Vec<Weak<()>>) = (None, Vec::new());
    let (mut source_before, mut nap): (Option<usize>, _) = (None, NAP);
    loop {
        begun.retain(|part| part.strong_count() > 0);
        if begun.len() > 1 && !stop() {
            let mut wait = || doze(&mut nap);
            match source_before {
                Some(step) => shared.counters[step].spend(Spent::Blocked, wait),
                None => wait(),
            }
            continue;
        }
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
                let counter = &shared.counters[phase.part(bound)?.origin.step];
                counter.spend(Spent::Blocked, || doze(&mut nap));
                continue;
            }
        };
        (last, nap) = (Some(number), NAP);
        reading.send(Read::Bound(number))?;
        let part = phase.part(number)?;
        let (step, output) = (part.origin.step, phase.origin(part.origin));
        let (source, schema) = sources.get_mut(&step).context("a source that was not started")?;
        let counter = &shared.counters[step];
        let on_its_way = Arc::new(());
        begun.push(Arc::downgrade(&on_its_way));
        source_before = Some(step);
        let (mut rows, mut cut, mut noticed, mut faults) = (0, 0, Vec::new(), Vec::new());
        for planned in part.units.iter().filter(|u| !pass.left_out.contains(&u.number)) {
            let Some(unit) = &planned.unit else { continue };
            let mut of_unit = 0;
            let mut each = |batch| -> Result<bool, Fault> {
                let (batch, mut permit): (RecordBatch, Permit) = batch;
                permit.on_behalf(&on_its_way);
                of_unit += batch.num_rows() as u64;
                // With a fault found the rest of the part is read only to find the others, not to be sent.
                if faults.is_empty() && batch.num_rows() > 0 {
                    counter.add(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
                    let batch = super::columns::project(&batch, schema)?;
                    let parcel =
                        Parcel { unit: planned.number, to: 0, content: Content::Batch(batch), permit: Some(Arc::new(permit)) };
                    counter.spend(Spent::Blocked, || reading.send(Read::Parcel(output, parcel)))?;
                }
                Ok(!stop())
            };
            let read = read_unit(source.as_mut(), unit, (shared, counter), &mut each);
            let cut_of_unit = source.cut();
            match read {
                Ok(false) => return Ok(()),
                Ok(true) if of_unit + cut_of_unit != unit.rows => {
                    let said = format!("{} rows could be read of {}", of_unit + cut_of_unit, unit.rows);
                    faults.push((planned.number, said));
                }
                Ok(true) => {}
                Err(Fault::Content(reason)) => faults.push((planned.number, reason)),
                Err(Fault::Machine(error)) => return Err(error.context(phase.unit_name(planned.number))),
            }
            if faults.is_empty() {
                rows += of_unit;
                cut += cut_of_unit;
                noticed.extend(Record::noticed(step, planned.number, source.noticed()));
                reading.send(Read::Parcel(
                    output,
                    Parcel { unit: planned.number, to: 0, content: Content::UnitEnd, permit: None },
                ))?;
            }
        }
        let end = if faults.is_empty() {
            noticed.push(Record::Rows { step, came: rows + cut, out: vec![rows], cut, repeated: 0 });
            reading.send(Read::Records(noticed))?;
            Content::PartEnd
        } else {
            let records = faults.into_iter().map(|(unit, reason)| Record::Fault { step, unit, reason }).collect();
            reading.send(Read::Records(records))?;
            Content::Abort
        };
        reading.send(Read::Parcel(output, Parcel { unit: 0, to: 0, content: end, permit: None }))?;
    }
}

/// Reads a unit under the budget; false where the run has stopped. A failure of the storage is waited out: the unit is read
/// again, and the rows that went on before it are left out.
fn read_unit(
    source: &mut dyn Source,
    unit: &calostream_operators::Unit,
    (shared, counter): (&Arc<Shared>, &Counter),
    each: &mut dyn FnMut((RecordBatch, Permit)) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    let (mut gone, mut patience, stop) = (0, Patience::default(), || shared.failure.raised());
    loop {
        // What was noticed or cut on the way to a fault is so again.
        drop(source.noticed());
        source.cut();
        match read_once(source, unit, (&shared.budget, counter, &stop), &mut gone, each) {
            Err(Fault::Machine(error)) if patience.again(&error, &stop) => {}
            done => return done,
        }
    }
}

/// Reads a unit once, without its first `gone` rows; adds to `gone` what goes on.
fn read_once(
    source: &mut dyn Source,
    unit: &calostream_operators::Unit,
    (budget, counter, stop): (&Arc<Budget>, &Counter, &dyn Fn() -> bool),
    gone: &mut u64,
    each: &mut dyn FnMut((RecordBatch, Permit)) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    // Until the first batch is seen: what it may hold at most.
    let mut expected = (unit.rows * unit.row_bytes).min(16 << 20);
    let mut before = usize::try_from(*gone)?;
    let mut batches = counter.read(|| source.read(unit))?;
    loop {
        let permit = counter.spend(Spent::Blocked, || budget.take(expected, stop));
        let Some(mut permit) = permit else { return Ok(false) };
        let Some(batch) = counter.read(|| batches.next()) else { return Ok(true) };
        let batch = batch?;
        expected = batch.get_array_memory_size() as u64;
        permit.settle(expected);
        let skipped = before.min(batch.num_rows());
        before -= skipped;
        let batch = batch.slice(skipped, batch.num_rows() - skipped);
        *gone += batch.num_rows() as u64;
        if !each((batch, permit))? {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use calostream_operators::Unit;
    use calostream_operators::work::Batches;

    /// Rows 0 to 9 in batches of three; fails once before the batch with row 6.
    struct Shaky(bool);

    impl Source for Shaky {
        fn read<'a>(&'a mut self, _: &'a Unit) -> Result<Batches<'a>, Fault> {
            Ok(Box::new((0..4).map(|k| {
                if k == 2 && std::mem::take(&mut self.0) {
                    return Err(std::io::Error::from_raw_os_error(5).into());
                }
                let column: ArrayRef = Arc::new(Int64Array::from_iter_values(3 * k..(3 * k + 3).min(10)));
                Ok(RecordBatch::try_from_iter([("x", column)])?)
            })))
        }
    }

    #[test]
    fn a_unit_that_is_read_again_gives_each_row_once() {
        let text = r#"{"step":"s","path":"p","fingerprint":"f","first":0,"rows":10,"row_bytes":8}"#;
        let unit: Unit = serde_json::from_str(text).unwrap();
        let (budget, mut source, mut gone, mut rows) = (Budget::new(1 << 20), Shaky(true), 0, Vec::new());
        let mut each = |(batch, _): (RecordBatch, Permit)| {
            rows.extend(batch.column(0).as_primitive::<Int64Type>().values().iter().copied());
            Ok(true)
        };
        assert!(read_once(&mut source, &unit, (&budget, &Counter::default(), &|| false), &mut gone, &mut each).is_err());
        assert_eq!(gone, 6);
        assert!(read_once(&mut source, &unit, (&budget, &Counter::default(), &|| false), &mut gone, &mut each).unwrap());
        assert_eq!((rows, gone), ((0..10).collect::<Vec<_>>(), 10));
    }
}
