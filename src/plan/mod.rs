//! A pipeline that was found right: everything that can be said before a run, as data.
//!
//! Invariants: steps stand in an order in which each comes after its inputs; every schema is the narrowed one (columns that
//! nobody reads are taken out); levels are numbered from 0 and a step's level is never below that of an input.
//!
//! A level is what lies between two shuffles (or behind a table). It takes one phase, and others before it where a step must
//! know something of all rows before it works: a shuffle how many there are, a weight its histogram, a table the edges of its
//! bins. These survey, and read no more columns than that takes. Steps that survey stand at stages: what must be known
//! before another survey can be made is of an earlier stage, and each stage is a phase.

mod canonical;
mod columns;
mod expected;
mod feed;
mod forward;
mod levels;
pub mod parts;
pub mod probe;
pub mod spill;
mod surveys;
#[cfg(test)]
mod tests;
pub mod watch;

pub use canonical::difference;
pub use forward::plan;
pub use levels::origin;

use calostream_operators::{Facts, Operator, Output, Place, Planned};
use std::path::PathBuf;
use std::sync::Arc;

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
    /// The phases, in order.
    pub phases: Vec<PhasePlan>,
    /// The plan without its inputs, as canonical JSON: what a run folder belongs to.
    pub canonical: serde_json::Value,
    /// The hash of `canonical`.
    pub hash: String,
    /// What was looked up.
    pub facts: Arc<Facts>,
    /// Remarks that are no mistakes, with the step they belong to.
    pub remarks: Vec<(String, String)>,
}

/// A phase.
#[derive(Debug, Clone)]
pub struct PhasePlan {
    /// The level of its steps.
    pub level: usize,
    /// Where it only surveys: the plan that it follows, whose other steps are idle and whose streams have just the columns
    /// that surveying takes.
    pub survey: Option<Arc<Plan>>,
    /// True where it only puts rows of the level before aside again, where that takes two passes; else it is empty.
    pub regroups: bool,
}

impl Plan {
    /// The number of the phase in which the steps of a level do their work.
    #[must_use]
    pub fn phase_of(&self, level: usize) -> usize {
        self.phases.iter().position(|p| p.level == level && p.survey.is_none() && !p.regroups).unwrap_or(usize::MAX)
    }

    /// The number of the phase in which rows are put aside again, before a level.
    #[must_use]
    pub fn regrouping_of(&self, level: usize) -> Option<usize> {
        self.phases.iter().position(|p| p.level == level && p.regroups)
    }

    /// The phases that do more than to put rows aside again: those that people count.
    pub fn main_phases(&self) -> impl Iterator<Item = &PhasePlan> {
        self.phases.iter().filter(|p| !p.regroups)
    }

    /// The number of the phase in which a step surveys.
    #[must_use]
    pub fn survey_of(&self, step: usize) -> Option<usize> {
        self.phases.iter().position(|p| p.survey.as_ref().is_some_and(|plan| plan.steps[step].goal))
    }

    /// The plan that a phase follows.
    #[must_use]
    pub fn of_phase(&self, phase: usize) -> &Self {
        self.phases.get(phase).and_then(|p| p.survey.as_deref()).unwrap_or(self)
    }

    /// The name of an output, as pipelines have it.
    #[must_use]
    pub fn name_of(&self, port: Port) -> String {
        let step = &self.steps[port.step];
        match step.planned.outputs[port.output].name.as_str() {
            "" => step.name.clone(),
            name => format!("{}.{name}", step.name),
        }
    }

    /// Who takes an output, each with the number of the input.
    pub fn takers(&self, port: Port) -> impl Iterator<Item = (usize, usize)> + '_ {
        let inputs = move |(step, s): (usize, &PlannedStep)| {
            let found = s.from.iter().enumerate().filter(|(_, from)| **from == port);
            found.map(|(input, _)| (step, input)).collect::<Vec<_>>()
        };
        self.steps.iter().enumerate().filter(|(_, s)| !s.idle).flat_map(inputs)
    }
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
    pub operator: Arc<dyn Operator>,
    /// Where its inputs come from.
    pub from: Vec<Port>,
    /// The inputs as they come.
    pub inputs: Vec<Output>,
    /// What it makes of them.
    pub planned: Planned,
    /// The level on which it works.
    pub level: usize,
    /// Of a shuffle: true where its rows are put aside and come back in their new order, on the next level. False where
    /// nobody looks at the order: then it only selects.
    pub spills: bool,
    /// Of a shuffle: true where its rows are counted in a phase of their own.
    pub counted: bool,
    /// How many surveys on its level come before it, one after the other.
    pub stage: usize,
    /// True where the step has nothing to do in this (surveying) plan.
    pub idle: bool,
    /// True where it is what this (surveying) plan is made for: it counts, or sums, and gives nothing.
    pub goal: bool,
}

impl PlannedStep {
    /// True where it must know something of all rows before it works.
    #[must_use]
    pub fn surveys(&self) -> bool {
        self.counted || self.planned.survey.is_some()
    }
}
