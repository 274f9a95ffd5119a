//! What was found in the world before planning, so that planning is pure.
//!
//! Operators say what they need ([`Need`]); one process looks everything up once; `plan` finds it here by the words that
//! were typed. Nothing here holds an open file.

use crate::hdf5::header::Header;
use crate::onnx::model::ModelFacts;
use crate::{Place, Placed, Problem};
use arrow::datatypes::SchemaRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something that has to be looked up before a step can be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// The HDF5 files (or numpy's archives) that match a pattern, with their headers.
    Hdf5(Placed<String>),
    /// The Parquet files that match a pattern, with their schemas and rows.
    Parquet(Placed<String>),
    /// The inputs and outputs of an ONNX model.
    Model(Placed<String>),
    /// The same of all models that match a pattern (or of one path), whose names count.
    Models(Placed<String>),
    /// Whether a device for models (`cuda:1`) can be had here.
    Processor(Placed<String>),
    /// Which nodes of these models (paths and patterns) a device other than the CPU would leave to the CPU; looked up after all
    /// others.
    Placement(Placed<String>, Vec<Placed<String>>),
    /// A text file, such as a schema that is not one of the built-in ones.
    Text(Placed<String>),
}

/// A file that a pattern matched.
#[derive(Debug, Clone)]
pub struct FileFacts<H> {
    /// Its path: the pattern's own prefix, then what matched. Sorted by path within one pattern.
    pub path: String,
    /// Bytes on disk.
    pub bytes: u64,
    /// The fingerprint of its content (see [`crate::Unit`]).
    pub fingerprint: String,
    /// Its header, or why it can't be read.
    pub header: Result<H, String>,
}

/// What `plan` needs of a Parquet file.
#[derive(Debug, Clone)]
pub struct ParquetHeader {
    /// The Arrow schema, with metadata.
    pub schema: SchemaRef,
    /// Rows of each row group.
    pub row_groups: Vec<u64>,
    /// Bytes in memory of the file's rows, decoded.
    pub uncompressed: u64,
}

/// The files that a pattern matched, by path: all workers share them, as there may be very many.
pub type Found<H> = Arc<Vec<FileFacts<H>>>;

/// All facts, by the words that asked for them. An entry that was asked for and could not be had holds the reason.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// By pattern.
    pub hdf5: BTreeMap<String, Result<Found<Header>, String>>,
    /// By pattern.
    pub parquet: BTreeMap<String, Result<Found<ParquetHeader>, String>>,
    /// By path.
    pub models: BTreeMap<String, Result<ModelFacts, String>>,
    /// By pattern: the paths of the models that match, sorted.
    pub model_sets: BTreeMap<String, Result<Vec<String>, String>>,
    /// By word: nothing, or why it can't be had.
    pub processors: BTreeMap<String, Result<(), String>>,
    /// By device and path of the model: the nodes that would compute on the CPU, by name; or why the device does not take it.
    pub placements: BTreeMap<(String, String), Result<Vec<String>, String>>,
    /// By path.
    pub texts: BTreeMap<String, Result<String, String>>,
    /// True the second time that a step is planned: the columns that nobody reads are gone from its inputs, and that is no
    /// mistake.
    pub narrowed: bool,
    /// The pipeline's seed.
    pub seed: u64,
    /// Bytes of memory that a process may use here, where that is known.
    pub memory: Option<u64>,
    /// Which time over the data this is, from 0: random draws of an event are others in each.
    pub epoch: u64,
}

fn find<'a, T>(map: &'a BTreeMap<String, Result<T, String>>, word: &Placed<String>) -> Result<&'a T, Problem> {
    match map.get(&word.value) {
        Some(Ok(found)) => Ok(found),
        Some(Err(reason)) => Err(Problem::at(word, reason.clone())),
        None => Err(Problem { place: Place::default(), what: format!("`{}` was not looked up", word.value), help: None }),
    }
}

impl Facts {
    /// The HDF5 files behind a pattern; a problem at the pattern where there is none.
    pub fn hdf5(&self, pattern: &Placed<String>) -> Result<&Found<Header>, Problem> {
        find(&self.hdf5, pattern)
    }
    /// The Parquet files behind a pattern; a problem at the pattern where there is none.
    pub fn parquet(&self, pattern: &Placed<String>) -> Result<&[FileFacts<ParquetHeader>], Problem> {
        find(&self.parquet, pattern).map(|files| files.as_slice())
    }
    /// The model at a path.
    pub fn model(&self, path: &Placed<String>) -> Result<&ModelFacts, Problem> {
        find(&self.models, path)
    }
    /// The paths of the models behind a pattern.
    pub fn models_of(&self, pattern: &Placed<String>) -> Result<&[String], Problem> {
        find(&self.model_sets, pattern).map(Vec::as_slice)
    }
    /// Whether a device can be had; a problem at its word where it can't.
    pub fn processor(&self, word: &Placed<String>) -> Result<(), Problem> {
        find(&self.processors, word).copied()
    }
    /// The text at a path.
    pub fn text(&self, path: &Placed<String>) -> Result<&str, Problem> {
        find(&self.texts, path).map(String::as_str)
    }
}
