//! Rows put aside that never leave memory: what a worker was given of an input of a shuffle, where all of it fits in what the
//! worker may hold.
//!
//! Such a run is committed like one on disk, and the log says that it is in memory: with the process it is gone. What is gone
//! is done again where a later phase still has to read it ([`super::lost`]), so a kill costs reading once more what the
//! memory had room for; parts of the new order that are committed stay.
//!
//! Invariants: rows are copied once, by whoever puts a part together, or where they go to another process; a run stays as long
//! as a phase may read it, and no longer than the pass that made it where the log does not know it.

use super::ranks::{EXTRA, Place};
use crate::ledger::log::Spill;
use anyhow::Result;
use arrow::array::{ArrayRef, RecordBatch, UInt16Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use calostream_operators::column;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A row of a batch, and where it belongs: `(place, batch, row)`.
pub type Placed = (Place, u32, u32);

/// The columns of a piece: those of the rows, and what says where each belongs.
pub fn with_places(schema: &SchemaRef) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    let extra = EXTRA.into_iter().zip([DataType::UInt16, DataType::UInt64]);
    fields.extend(extra.map(|(name, of)| Arc::new(Field::new(name, of, false))));
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The rows of a piece, with the columns that say where they belong.
pub fn piece(schema: &SchemaRef, held: &[&RecordBatch], piece: &[Placed]) -> Result<RecordBatch> {
    let rows: Vec<(usize, usize)> = piece.iter().map(|(_, batch, row)| (*batch as usize, *row as usize)).collect();
    let mut columns: Vec<ArrayRef> = match held.first() {
        // With the dictionaries of the other pieces.
        Some(any) if rows.is_empty() => any.slice(0, 0).columns().to_vec(),
        Some(_) => column::interleave(held, &rows)?,
        None => return Ok(RecordBatch::new_empty(Arc::clone(schema))),
    };
    columns.push(Arc::new(UInt16Array::from_iter_values(piece.iter().map(|(place, ..)| place.stratum))));
    columns.push(Arc::new(UInt64Array::from_iter_values(piece.iter().map(|(place, ..)| place.row))));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}

/// A run in memory.
#[derive(Debug)]
pub struct KeptRun {
    step: String,
    schema: SchemaRef,
    held: Vec<RecordBatch>,
    /// By place.
    places: Vec<Placed>,
    /// The first row of each piece, and behind the last one.
    starts: Vec<usize>,
    bytes: u64,
}

impl KeptRun {
    /// A run of a step, of so many bytes, with the rows of these batches (whose dictionaries are shared), which stand by place,
    /// with so many pieces of each output, each of so many parts; `schema` is that [`with_places`].
    pub fn new(
        (step, bytes): (&str, u64),
        schema: SchemaRef,
        held: Vec<RecordBatch>,
        places: Vec<Placed>,
        (pieces, grain): (&[u64], u64),
    ) -> Self {
        let mut starts = vec![0];
        for (output, pieces) in pieces.iter().enumerate() {
            for piece in 0..*pieces {
                let behind =
                    |(place, ..): &Placed| (u64::from(place.output), u64::from(place.part) / grain) <= (output as u64, piece);
                starts.push(places.partition_point(behind));
            }
        }
        Self { step: step.to_owned(), schema, held, places, starts, bytes }
    }

    /// The batches that hold the rows.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.held
    }

    /// The rows of a piece; none where there is no such piece.
    pub fn rows(&self, piece: usize) -> &[Placed] {
        self.starts.get(piece..piece + 2).and_then(|at| self.places.get(at[0]..at[1])).unwrap_or_default()
    }

    /// How many rows each piece has.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.starts.windows(2).map(|at| (at[1] - at[0]) as u64)
    }

    /// A piece as a batch of its own.
    pub fn piece(&self, number: usize) -> Result<RecordBatch> {
        piece(&self.schema, &self.held.iter().collect::<Vec<_>>(), self.rows(number))
    }
}

/// The runs that this process has in memory.
#[derive(Debug, Default)]
pub struct Kept {
    runs: Mutex<BTreeMap<PathBuf, Arc<KeptRun>>>,
}

impl Kept {
    fn runs(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<KeptRun>>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a run under the name that the log has for it.
    pub fn keep(&self, name: &Path, run: KeptRun) {
        self.runs().insert(name.to_owned(), Arc::new(run));
    }

    /// The run of this name, where this process has it.
    pub fn get(&self, name: &Path) -> Option<Arc<KeptRun>> {
        self.runs().get(name).cloned()
    }

    /// Bytes of the runs of a step.
    pub fn bytes_of(&self, step: &str) -> u64 {
        self.runs().values().filter(|run| run.step == step).map(|run| run.bytes).sum()
    }

    /// Drops all runs but these.
    pub fn retain<'a>(&self, these: impl Iterator<Item = &'a Spill>) {
        let names: Vec<&Path> = these.filter(|spill| spill.in_memory).map(|spill| spill.path.as_path()).collect();
        self.runs().retain(|name, _| names.contains(&name.as_path()));
    }
}
