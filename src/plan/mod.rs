//! A pipeline that was found right: everything that can be said before a run, as data.
//!
//! Invariants: steps stand in an order in which each comes after its inputs; every schema is the narrowed one (columns that
//! nobody reads are taken out); phases are numbered from 0 and a step's phase is never below that of an input.

mod canonical;
mod columns;
mod forward;
pub mod probe;
#[cfg(test)]
mod tests;

pub use canonical::difference;
pub use forward::plan;

use calostream_operators::{Facts, Operator, Output, Place, Planned};
use std::path::PathBuf;

/// Data under way must have room for a few batches of every worker.
pub const LEAST_BUDGET: u64 = 64 << 20;

/// The budget of a process that may use so many bytes, where the pipeline names none.
#[must_use]
pub fn default_budget(memory: u64) -> u64 {
    memory / 10 * 6
}

/// A pipeline, planned.
#[derive(Debug)]
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// What it shows.
    pub about: Option<String>,
    /// The run folder.
    pub out: PathBuf,
    /// The seed from which every random key starts.
    pub seed: u64,
    /// Bytes that data under way may take in one process; none for the default share of what the machine allows.
    pub budget: Option<u64>,
    /// The share of units that may be quarantined before the run stops.
    pub quarantine_at_most: f64,
    /// True where any content error stops the run (`on_error: stop`).
    pub strict: bool,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// How many phases there are.
    pub phases: usize,
    /// The plan without its inputs, as canonical JSON: what a run folder belongs to.
    pub canonical: serde_json::Value,
    /// The hash of `canonical`.
    pub hash: String,
    /// What was looked up.
    pub facts: Facts,
    /// Remarks that are no mistakes, with the step they belong to.
    pub remarks: Vec<(String, String)>,
}

/// One output of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// The number of the step.
    pub step: usize,
    /// The number of its output.
    pub output: usize,
}

/// A step, planned.
#[derive(Debug)]
pub struct PlannedStep {
    /// Its name.
    pub name: String,
    /// Where its name was typed.
    pub place: Place,
    /// The word of its operator.
    pub kind: String,
    /// Its parameters.
    pub operator: Box<dyn Operator>,
    /// Where its inputs come from.
    pub from: Vec<Port>,
    /// The inputs as they come.
    pub inputs: Vec<Output>,
    /// What it makes of them.
    pub planned: Planned,
    /// The phase in which it works.
    pub phase: usize,
}
