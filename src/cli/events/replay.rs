//! Units read again, through the steps up to a table.
//!
//! A mix on the way is passed by: which events it took is known elsewhere, and what the steps behind it make of a row they make of it
//! before. What draws random numbers for copies of an event sees each as the first one.

use super::bins::Predicate;
use crate::flow::{self, replay::Replay};
use crate::ledger::State;
use crate::plan::{Plan, Port};
use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, UInt32Type, UInt64Type};
use calostream_operators::column::{COPY, EVENT, FILE, ROW};
use calostream_operators::work::{Map, Mapped, Runtime};
use calostream_operators::{Fault, Shape, Unit, Work};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// An event behind a bin.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The number of its file.
    pub file: u32,
    /// Its row there.
    pub row: u64,
    /// Its identity, where it has one.
    pub event: Option<u64>,
    /// How often it was summed: more than once where a mix repeats events.
    pub times: u64,
    /// What it has in the columns of the bins.
    pub values: BTreeMap<String, String>,
}

/// The steps from the source (the first) to a step that takes one input.
fn chain(plan: &Plan, step: usize) -> Result<Vec<usize>> {
    let mut chain = Vec::new();
    let mut at = *plan.steps[step].from.first().context("a step without an input")?;
    loop {
        chain.push(at.step);
        match &plan.steps[at.step].from[..] {
            [] => break,
            [from] => at = *from,
            _ => bail!("`{}` brings rows of several inputs together, which can't be followed back", plan.steps[at.step].name),
        }
    }
    chain.reverse();
    Ok(chain)
}

/// The source of what a step reads.
pub fn source_of(plan: &Plan, step: usize) -> Result<usize> {
    chain(plan, step)?.first().copied().context("a source")
}

/// The mix that lies before a step and which of its outputs is taken; none where there is none.
pub fn shuffle_of(plan: &Plan, step: usize) -> Result<Option<(usize, usize)>> {
    let steps = chain(plan, step)?;
    let mut mixes = steps.iter().filter(|at| plan.steps[**at].planned.shape == Shape::Shuffle);
    let Some(mix) = mixes.next() else { return Ok(None) };
    ensure!(mixes.next().is_none(), "the events were mixed twice before the table, which can't be followed back");
    let takes = |at: usize| plan.steps[at].from.iter().find(|port| port.step == *mix).map(|port: &Port| port.output);
    Ok(steps.iter().copied().chain([step]).find_map(takes).map(|output| (*mix, output)))
}

/// A mix that is passed by: an event that might come again is the first of its kind.
struct Mixed {
    copies: bool,
}

impl Map for Mixed {
    fn map(&mut self, batch: RecordBatch) -> Result<Mapped, Fault> {
        Ok(Mapped { batch: if self.copies { with_copies(&batch)? } else { batch }, cut: 0 })
    }
}

/// The steps up to a table, at work.
pub struct Behind {
    name: String,
    replay: Replay,
}

impl Behind {
    /// Those before the step of this name.
    pub fn new((plan, state, folder): (&Plan, &State, &Path), runtime: &Runtime, before: &str) -> Result<Self> {
        let step = plan.steps.iter().position(|s| s.name == before).context("the step that reads")?;
        let steps = chain(plan, step)?;
        let begin = |step: &usize| {
            let outputs = &plan.steps[*step].planned.outputs;
            Ok(match flow::again(plan, state, folder, runtime, *step)? {
                Work::Shuffle(_) => {
                    let copies = outputs.iter().any(|o| o.schema.field_with_name(COPY).is_ok());
                    Work::Map(Box::new(Mixed { copies }))
                }
                work @ (Work::Source(_) | Work::Map(_) | Work::Device(_)) => work,
                _ => bail!("`{}` can't be followed back", plan.steps[*step].name),
            })
        };
        let replay = Replay::new(steps.iter().map(begin))?;
        Ok(Self { name: plan.steps[*steps.first().context("a source")?].name.clone(), replay })
    }

    /// True for a unit of the source.
    pub fn reads(&self, unit: &Unit) -> bool {
        unit.step == self.name
    }

    /// Adds the events of a unit that fit one of the predicates.
    pub fn read(&mut self, unit: &Unit, predicates: &[Predicate], keep: &BTreeSet<String>, into: &mut Vec<Found>) -> Result<()> {
        let mut end = |batch: &RecordBatch| Ok(take(batch, predicates, keep, into)?);
        self.replay.read(unit, &mut end).map_err(|fault| anyhow::anyhow!("{}: {fault}", unit.path))
    }
}

/// The same with a column that says that each event is the first of its copies.
fn with_copies(batch: &RecordBatch) -> Result<RecordBatch> {
    if batch.column_by_name(COPY).is_some() {
        return Ok(batch.clone());
    }
    let schema = batch.schema();
    let fields: Vec<_> = schema.fields().iter().cloned().chain([Arc::new(Field::new(COPY, DataType::UInt32, false))]).collect();
    let none: ArrayRef = Arc::new(UInt32Array::from(vec![0; batch.num_rows()]));
    let columns = batch.columns().iter().cloned().chain([none]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), columns)?)
}

/// Adds the events of a batch that fit.
fn take(batch: &RecordBatch, predicates: &[Predicate], keep: &BTreeSet<String>, into: &mut Vec<Found>) -> Result<()> {
    let (Some(files), Some(rows)) = (batch.column_by_name(FILE), batch.column_by_name(ROW)) else {
        bail!("the rows of the table don't say where they came from (`{FILE}` and `{ROW}` were taken out)");
    };
    let (files, rows) = (files.as_primitive::<UInt32Type>(), rows.as_primitive::<UInt64Type>());
    let events = batch.column_by_name(EVENT).and_then(|c| c.as_primitive_opt::<UInt64Type>());
    let mut fits = vec![false; batch.num_rows()];
    for predicate in predicates {
        fits.iter_mut().zip(&predicate.fits(batch)?).for_each(|(fits, this)| *fits |= this == Some(true));
    }
    if !fits.contains(&true) {
        return Ok(());
    }
    let mut texts = BTreeMap::new();
    for name in keep {
        if let Some(column) = batch.column_by_name(name) {
            texts.insert(name, cast(column, &DataType::Utf8)?);
        }
    }
    for row in (0..batch.num_rows()).filter(|row| fits[*row]) {
        let value = |column: &ArrayRef| column.as_string::<i32>().value(row).to_owned();
        let values = texts.iter().map(|(name, column)| ((*name).clone(), value(column))).collect();
        let event = events.map(|events| events.value(row));
        into.push(Found { file: files.value(row), row: rows.value(row), event, times: 1, values });
    }
    Ok(())
}
