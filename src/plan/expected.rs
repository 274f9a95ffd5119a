//! How many rows of each class will come: for what is said and refused before a run.
//!
//! Of a source that is known. What cuts leaves no more than came; what gives rows again, or other classes, leaves it open. A mix
//! takes of them what was asked for.

use super::{PlannedStep, Port};
use calostream_operators::{Problem, Shape, column};

/// Rows by class (of one class, where there are none), at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// By class.
    pub classes: Vec<u64>,
    /// True where it will be just so many.
    pub exact: bool,
}

/// What comes out at a port; none where nobody knows.
#[must_use]
pub fn rows(steps: &[PlannedStep], port: Port) -> Option<Expected> {
    let step = &steps[port.step];
    let names = column::samples(&step.planned.outputs[port.output].schema);
    let expected = match step.planned.shape {
        Shape::Source => {
            let mut classes = vec![0; names.len().max(1)];
            for unit in &step.planned.units {
                let class = unit.sample.as_ref().and_then(|sample| names.iter().position(|name| name == sample));
                classes[class.unwrap_or(0)] += unit.rows;
            }
            Expected { classes, exact: true }
        }
        Shape::Map | Shape::Device => {
            step.planned.outputs[port.output].rows?;
            let came = rows(steps, *step.from.first()?)?;
            if column::samples(&step.inputs[0].schema) != names {
                return None;
            }
            Expected { exact: came.exact && !step.planned.cuts, ..came }
        }
        Shape::Shuffle => {
            let mut outputs = taken(steps, port.step).ok()??;
            Expected { classes: outputs.swap_remove(port.output), exact: false }
        }
        Shape::Fold | Shape::Sink | Shape::Page => return None,
    };
    (expected.classes.len() == names.len().max(1)).then_some(expected)
}

/// What a shuffle takes, by output and class (or one number for each output); none where nobody knows.
pub fn taken(steps: &[PlannedStep], step: usize) -> Result<Option<Vec<Vec<u64>>>, Problem> {
    let planned = &steps[step];
    let come = match planned.from.as_slice() {
        [one] => rows(steps, *one),
        _ => None,
    };
    planned.operator.forecast(&planned.inputs, come.as_ref().map(|come| come.classes.as_slice()))
}

/// What is refused before the run, because all that it follows from is known.
pub fn problems(steps: &[PlannedStep]) -> Vec<Problem> {
    let known = |step: &PlannedStep| step.from.first().and_then(|port| rows(steps, *port)).is_some_and(|come| come.exact);
    let shuffles = steps.iter().enumerate().filter(|(_, s)| s.planned.shape == Shape::Shuffle && known(s));
    let found = shuffles.filter_map(|(step, planned)| Some((taken(steps, step).err()?, planned.place)));
    found.flat_map(|(problem, place)| super::columns::placed(vec![problem], place)).collect()
}
