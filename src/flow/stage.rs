//! What one step does with a parcel, whatever the shape of its work; and the counting of rows.
//!
//! A stage sees the parcels of one part after the other, in order, on one worker; it is run in place or on a thread of its
//! own by [`super::operator`]. Invariants:
//!
//! - Rows are counted here and not in the operators' code, and the count goes to the ledger with everything else.
//! - A content fault aborts the part: the stage reports the unit, drops what it has and says so downstream. The part is done
//!   again without the unit in the next pass, so no other stage has to know how to take rows back.
//! - What comes out has the planned columns, in the planned order; anything else is a mistake in calostream and stops the run.

use super::columns::{project, with_copies};
use super::counter::Counter;
use super::parcel::{Content, Parcel};
use super::phase::Phase;
use super::ranks::{Counts, Place, Router, Tally};
use super::spiller::{Made, Spiller};
use crate::files;
use crate::ledger::log::{self, FileMade, Spill};
use anyhow::{Context, Result};
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use calostream_operators::Fault;
use calostream_operators::statistics::sums::Sums;
use calostream_operators::work::{Device, Fold, Map, Noticed, Part, Sink};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// What a stage tells the ledger about the part in hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Record {
    /// Rows that went through.
    Rows { step: usize, came: u64, out: Vec<u64>, cut: u64, repeated: u64 },
    /// What was dropped or changed on purpose within the rows of a unit.
    Noticed { step: usize, unit: u64, counts: Noticed },
    /// Files that are in place.
    Files { step: usize, files: Vec<FileMade> },
    /// What the part adds to the step's sums.
    Sums { step: usize, bytes: Vec<u8> },
    /// The rows of the part are put aside: it waits for the run that will hold them.
    Aside { step: usize, input: usize },
    /// A run of rows put aside, of all these parts, with the rows of its pieces.
    Run { step: usize, spill: Spill, index: Vec<u8>, parts: Vec<u64> },
    /// The rows of each lane of a shuffle in a unit.
    Tally { step: usize, unit: u64, lanes: Vec<u64> },
    /// The data of a unit are wrong.
    Fault { step: usize, unit: u64, reason: String },
}

impl Record {
    /// What was noticed, if anything.
    pub fn noticed(step: usize, unit: u64, counts: Noticed) -> Option<Self> {
        (!counts.is_empty()).then_some(Self::Noticed { step, unit, counts })
    }
}

/// What a stage gives for a parcel.
#[derive(Debug, Default)]
pub struct Given {
    /// Parcels by output.
    pub parcels: Vec<(usize, Parcel)>,
    /// What the ledger is to know.
    pub records: Vec<Record>,
}

/// What one step does with parcels, one after the other.
pub trait Stage: Send {
    /// Takes a parcel of a part. An error stops the run.
    fn take(&mut self, part: u64, parcel: Parcel, given: &mut Given) -> Result<()>;
    /// True where it may keep something for the ledger until nothing will come any more. Such a stage has a thread.
    fn lingers(&self) -> bool {
        false
    }
    /// Nothing will come any more: gives what it still has for the ledger.
    fn close(&mut self, _given: &mut Given) -> Result<()> {
        Ok(())
    }
    /// Where its times and rows are counted.
    fn counter(&self) -> Arc<Counter> {
        Arc::default()
    }
}

/// Where a sink's files go.
#[derive(Debug, Clone)]
pub struct SinkPlace {
    /// The step's folder.
    pub folder: PathBuf,
    /// The folder of files under way, of this worker and step.
    pub staging: PathBuf,
}

/// What a stage does.
pub enum Kind {
    /// Batch to batch.
    Map(Box<dyn Map>),
    /// Batch to batch, with a tail at the end of a unit.
    Device(Box<dyn Device>),
    /// Batch to sums.
    Fold(Box<dyn Fold>, Sums),
    /// Files.
    Sink { sink: Box<dyn Sink>, place: SinkPlace, begun: bool },
    /// Rows are put aside.
    Spill(Router, Box<Spiller>, usize),
    /// Rows are selected in place.
    Select(Router),
    /// Rows are counted, lane by lane.
    Count(Tally),
}

/// The stage of a planned step.
pub struct StepStage {
    step: usize,
    name: String,
    schemas: Vec<SchemaRef>,
    kind: Kind,
    phase: Arc<Phase>,
    counter: Arc<Counter>,
    came: u64,
    out: Vec<u64>,
    cut: u64,
    repeated: u64,
    noticed: Vec<Record>,
    aborted: bool,
}

impl StepStage {
    /// The stage of step number `step`, whose outputs have these schemas.
    pub fn new(
        (step, name): (usize, &str),
        schemas: Vec<SchemaRef>,
        kind: Kind,
        (phase, counter): (Arc<Phase>, Arc<Counter>),
    ) -> Self {
        let out = vec![0; schemas.len()];
        let (came, cut, repeated, noticed, aborted) = (0, 0, 0, Vec::new(), false);
        Self { step, name: name.to_owned(), schemas, kind, phase, counter, came, out, cut, repeated, noticed, aborted }
    }

    fn batch(&mut self, part: u64, parcel: Parcel, given: &mut Given) -> Result<(), Fault> {
        let Content::Batch(batch) = parcel.content else { return Ok(()) };
        let rows = batch.num_rows() as u64;
        self.came += rows;
        self.counter.add(rows, batch.get_array_memory_size() as u64);
        let mut made = Vec::new();
        match &mut self.kind {
            Kind::Map(map) => {
                let mapped = map.map(batch)?;
                self.cut += mapped.cut;
                self.repeated += map.repeated();
                made.push((0, mapped.batch));
            }
            Kind::Device(device) => made.extend(device.push(batch)?.into_iter().map(|batch| (0, batch))),
            Kind::Fold(fold, sums) => fold.add(&batch, sums)?,
            Kind::Sink { sink, place, begun } => {
                if !*begun {
                    let planned = self.phase.part(part)?;
                    std::fs::create_dir_all(&place.staging)?;
                    sink.begin(&Part {
                        number: planned.number_in_origin + 1,
                        number_in_sample: planned.number_in_sample + 1,
                        sample: planned.sample.as_deref(),
                        staging: &place.staging,
                    })?;
                    *begun = true;
                }
                sink.write(&batch)?;
            }
            Kind::Spill(router, spiller, _) => {
                let mut counts = Counts { out: vec![0; self.out.len()], ..Counts::default() };
                let places = router.places(parcel.unit, &batch, &mut counts)?;
                self.out.iter_mut().zip(&counts.out).for_each(|(all, more)| *all += more);
                self.cut += counts.cut;
                self.repeated += counts.repeated;
                let (batch, places) = spiller.wanted(batch, places)?;
                spiller.take(batch, places)?;
            }
            Kind::Select(router) => {
                let mut counts = Counts { out: vec![0; self.out.len()], ..Counts::default() };
                let places = router.places(parcel.unit, &batch, &mut counts)?;
                self.cut += counts.cut;
                self.repeated += counts.repeated;
                for output in 0..self.schemas.len() {
                    let of: Vec<(Place, u32)> = places.iter().filter(|(p, _)| usize::from(p.output) == output).copied().collect();
                    if !of.is_empty() {
                        let rows = UInt32Array::from_iter_values(of.iter().map(|(_, row)| *row));
                        let taken = take_record_batch(&batch, &rows)?;
                        let copies = of.iter().map(|(place, _)| router.copy(*place));
                        let taken = with_copies(&taken, copies, &self.schemas[output])?;
                        made.push((output, taken));
                    }
                }
            }
            Kind::Count(tally) => self.cut += tally.take(parcel.unit, &batch)?,
        }
        for made in made {
            self.give(made, parcel.unit, parcel.permit.clone(), given)?;
        }
        Ok(())
    }

    fn give(
        &mut self,
        (output, batch): (usize, RecordBatch),
        unit: u64,
        permit: Option<Arc<super::budget::Permit>>,
        given: &mut Given,
    ) -> Result<(), Fault> {
        self.out[output] += batch.num_rows() as u64;
        if batch.num_rows() > 0 {
            let batch = project(&batch, &self.schemas[output]).with_context(|| format!("step `{}`", self.name))?;
            given.parcels.push((output, Parcel { unit, to: 0, content: Content::Batch(batch), permit }));
        }
        Ok(())
    }

    fn unit_end(&mut self, unit: u64, given: &mut Given) -> Result<(), Fault> {
        let noticed = match &mut self.kind {
            Kind::Device(device) => {
                let (tail, noticed) = (device.end()?, device.noticed());
                self.cut += device.cut();
                for batch in tail {
                    self.give((0, batch), unit, None, given)?;
                }
                noticed
            }
            Kind::Map(map) => map.noticed(),
            Kind::Spill(router, ..) | Kind::Select(router) => {
                router.end();
                Noticed::new()
            }
            _ => Noticed::new(),
        };
        self.noticed.extend(Record::noticed(self.step, unit, noticed));
        self.say(Content::UnitEnd, unit, given);
        Ok(())
    }

    fn part_end(&mut self, part: u64, given: &mut Given) -> Result<(), Fault> {
        match &mut self.kind {
            Kind::Map(_) | Kind::Device(_) => {}
            Kind::Fold(_, sums) => {
                let sums = std::mem::take(sums);
                if !sums.is_empty() {
                    given.records.push(Record::Sums { step: self.step, bytes: sums.encode() });
                }
            }
            Kind::Sink { sink, place, begun } => {
                if std::mem::take(begun) {
                    let mut files = Vec::new();
                    for staged in sink.finish()? {
                        let (length, hash) = log::hash_file(&staged.path)?;
                        files::settle(&staged.path, &place.folder.join(&staged.name))?;
                        let step = self.name.clone();
                        files.push(FileMade { step, name: staged.name, rows: staged.rows, bytes: length, hash });
                    }
                    let written: u64 = files.iter().map(|f| f.rows).sum();
                    if written != self.came {
                        return Err(anyhow::anyhow!("step `{}` wrote {written} rows of {}", self.name, self.came).into());
                    }
                    given.records.push(Record::Files { step: self.step, files });
                }
            }
            Kind::Spill(_, spiller, input) => {
                given.records.push(Record::Aside { step: self.step, input: *input });
                let made = spiller.finish(part)?;
                given.records.extend(made.map(|made| run(self.step, made)));
            }
            Kind::Select(_) => {}
            Kind::Count(tally) => {
                for (unit, lanes) in tally.finish() {
                    self.out[0] += lanes.iter().sum::<u64>();
                    given.records.push(Record::Tally { step: self.step, unit, lanes });
                }
            }
        }
        let out = std::mem::replace(&mut self.out, vec![0; self.schemas.len()]);
        let (came, cut, repeated) =
            (std::mem::take(&mut self.came), std::mem::take(&mut self.cut), std::mem::take(&mut self.repeated));
        given.records.push(Record::Rows { step: self.step, came, out, cut, repeated });
        given.records.append(&mut self.noticed);
        self.say(Content::PartEnd, 0, given);
        Ok(())
    }

    fn drop_part(&mut self, given: &mut Given) {
        match &mut self.kind {
            // What was noticed or cut on the way to a fault is so again.
            Kind::Map(map) => {
                map.repeated();
                drop(map.noticed());
            }
            Kind::Device(device) => {
                device.forget();
                device.cut();
                drop(device.noticed());
            }
            Kind::Fold(_, sums) => *sums = Sums::default(),
            Kind::Sink { sink, begun, .. } => {
                if std::mem::take(begun) {
                    sink.abandon();
                }
            }
            Kind::Spill(router, spiller, _) => {
                router.end();
                spiller.forget();
            }
            Kind::Select(router) => router.end(),
            Kind::Count(tally) => drop(tally.finish()),
        }
        (self.came, self.cut, self.repeated) = (0, 0, 0);
        self.out.fill(0);
        self.noticed.clear();
        self.say(Content::Abort, 0, given);
    }

    fn say(&self, content: Content, unit: u64, given: &mut Given) {
        if !matches!(self.kind, Kind::Spill(..) | Kind::Count(_)) {
            for output in 0..self.schemas.len() {
                given.parcels.push((output, Parcel { unit, to: 0, content: content.clone(), permit: None }));
            }
        }
    }
}

impl Stage for StepStage {
    fn counter(&self) -> Arc<Counter> {
        Arc::clone(&self.counter)
    }

    fn lingers(&self) -> bool {
        matches!(self.kind, Kind::Spill(..))
    }

    fn close(&mut self, given: &mut Given) -> Result<()> {
        if let Kind::Spill(_, spiller, _) = &mut self.kind {
            let made = spiller.end()?;
            given.records.extend(made.map(|made| run(self.step, made)));
        }
        Ok(())
    }

    fn take(&mut self, part: u64, parcel: Parcel, given: &mut Given) -> Result<()> {
        let (unit, content) = (parcel.unit, parcel.content.clone());
        if self.aborted {
            // Upstream may not know: what is left of the part is dropped here.
            self.aborted = !matches!(content, Content::PartEnd | Content::Abort);
            return Ok(());
        }
        let done = match content {
            Content::Batch(_) | Content::Kept(..) => self.batch(part, parcel, given),
            Content::UnitEnd => self.unit_end(unit, given),
            Content::PartEnd => self.part_end(part, given),
            Content::Abort => {
                self.drop_part(given);
                Ok(())
            }
        };
        match done {
            Ok(()) => Ok(()),
            Err(Fault::Content(reason)) => {
                given.parcels.clear();
                given.records.clear();
                given.records.push(Record::Fault { step: self.step, unit, reason });
                self.drop_part(given);
                self.aborted = !matches!(content, Content::PartEnd);
                Ok(())
            }
            Err(Fault::Machine(error)) => {
                let what = self.phase.unit_name(unit);
                Err(error.context(format!("step `{}`, {what}", self.name)))
            }
        }
    }
}

/// What the ledger is told of a run.
pub fn run(step: usize, Made { spill, index, parts }: Made) -> Record {
    Record::Run { step, spill, index, parts }
}
