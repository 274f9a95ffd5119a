//! How a new order is cut into parts: of about so many bytes, or as the steps behind it ask for.
//!
//! A part of a new order is in memory as a whole while its rows are put in their places, so what may be asked for is bounded.

use super::{PlannedStep, Port};
use calostream_operators::{Problem, Shape, words};

/// A part holds about this many bytes of rows ...
pub const BYTES: u64 = 48 << 20;
/// ... and no fewer rows than this, so that batches are full ...
const ROWS: u64 = 2048;
/// ... unless these many rows take more than this.
const MOST: u64 = 256 << 20;

/// What putting a row in its place takes beside the row: its key, its rank, its place.
pub const PLACE_BYTES: u64 = 64;

/// How many rows a part gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// About so many.
    About(u64),
    /// Just so many, the last one what is left.
    Just(u64),
}

impl Rows {
    /// The rows of a part of this output of a shuffle.
    pub fn of(steps: &[PlannedStep], port: Port) -> Self {
        let most = most(steps, port);
        let rows = (BYTES / bytes(steps, port)).max(ROWS).min(most);
        let behind = || steps.iter().filter(|step| origin(steps, step) == Some(port));
        if let Some(rows) = behind().find_map(|s| s.planned.rows_per_part.as_ref()) {
            return Self::Just(rows.value.clamp(1, most));
        }
        let grain = behind().filter_map(|s| s.planned.assembled.as_ref()).map(|a| a.grain).max();
        match grain.filter(|grain| (1..=most).contains(grain)) {
            Some(grain) => Self::Just((rows / grain).max(1) * grain),
            None => Self::About(rows),
        }
    }
}

/// Expected bytes of a row of an output, and of its place.
fn bytes(steps: &[PlannedStep], port: Port) -> u64 {
    steps[port.step].planned.outputs[port.output].row_bytes + PLACE_BYTES
}

/// The most rows of a part.
fn most(steps: &[PlannedStep], port: Port) -> u64 {
    (MOST / bytes(steps, port)).max(1)
}

/// The source, or the shuffle that spills, whose parts a step takes.
fn origin(steps: &[PlannedStep], step: &PlannedStep) -> Option<Port> {
    let mut port = *step.from.first()?;
    while steps[port.step].planned.shape != Shape::Source && !steps[port.step].spills {
        port = *steps[port.step].from.first()?;
    }
    Some(port)
}

/// What is asked for and can't be had.
pub fn problems(steps: &[PlannedStep]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let (Some(asked), Some(port)) = (&step.planned.rows_per_part, origin(steps, step)) else { continue };
        if steps[port.step].planned.shape != Shape::Shuffle {
            let what = format!("there is no new order above `{}` that could be cut into files of so many events", step.name);
            problems
                .push(Problem::at(asked, what).help("put a `premix` above it; else the files are cut as those that are read"));
            continue;
        }
        let most = most(steps, port);
        if asked.value > most {
            let all = words::bytes(asked.value.saturating_mul(bytes(steps, port)));
            let what = format!("{} events take about {all} while they are put in order", words::count(asked.value));
            problems.push(Problem::at(asked, what).help(format!("at most {}", words::count(most))));
        }
        let same = |other: &&PlannedStep| origin(steps, other) == Some(port);
        let before = steps[..number].iter().filter(same).find_map(|s| Some((&s.name, s.planned.rows_per_part.as_ref()?.value)));
        if let Some((name, rows)) = before.filter(|(_, rows)| *rows != asked.value) {
            let what = format!("`{name}` has files of {} events, of the same order", words::count(rows));
            problems.push(Problem::at(asked, what).help("one order is cut in one way; ask for as many, or leave it out here"));
        }
    }
    problems
}
