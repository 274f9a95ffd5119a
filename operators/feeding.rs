//! What the engine has to know to feed a training program: how many rows make a batch, how they are mixed, and how they
//! become columns. The step `feed` says it; in which order rows come, and how they are handed over, is the engine's.

use crate::Fault;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt::Debug;

/// What becomes of a last batch that is not full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Last {
    /// It is fed.
    #[default]
    Keep,
    /// It is left out.
    Drop,
}

/// How a program is fed.
#[derive(Debug)]
pub struct Feeding {
    /// Rows of a batch.
    pub batch: usize,
    /// How far a row is moved, at most.
    pub window: u64,
    /// Files that are read side by side.
    pub files_at_once: usize,
    /// What becomes of a last batch that is not full.
    pub last: Last,
    /// How rows are made into batches.
    pub rows: Box<dyn Rows>,
}

/// How rows are made into batches.
pub trait Rows: Debug + Send + Sync {
    /// What is fed.
    fn schema(&self) -> &SchemaRef;
    /// How many bytes a row takes as it is fed, for one of `stream` bytes in the stream, at most.
    fn row_bytes(&self, stream: u64) -> u64;
    /// A batch of a unit as it waits; a fault of the data where it can't be fed.
    fn prepare(&self, batch: &RecordBatch) -> Result<RecordBatch, Fault>;
    /// Rows of batches that were [`prepare`](Self::prepare)d, each as batch and row, with their positions in this epoch.
    fn gather(
        &self,
        batches: &[&RecordBatch],
        rows: &[(usize, usize)],
        epoch: u32,
        positions: Vec<u64>,
    ) -> anyhow::Result<RecordBatch>;
}
