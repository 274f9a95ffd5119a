//! What may stand between a source and a `feed`.
//!
//! A feed reads its source again in every epoch, in an order of its own: steps that take rows as they come may stand between,
//! another order (or a table, or what must see all rows first) may not. It has a command of its own, so that the other ends of
//! its pipeline would be made by nobody.

use super::PlannedStep;
use calostream_operators::{Problem, Shape};

/// What is wrong with the feeds of a pipeline.
pub fn problems(steps: &[PlannedStep]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let Some(first) = steps.iter().find(|s| s.planned.feeds) else { return problems };
    for step in steps.iter().filter(|s| s.planned.feeds) {
        let mut at = step;
        while let Some(port) = at.from.first() {
            let before = &steps[port.step];
            let why = match before.planned.shape {
                Shape::Shuffle => Some("makes a new order"),
                _ if before.planned.survey.is_some() => Some("must see all rows before it gives the first"),
                _ => None,
            };
            if let Some(why) = why {
                let what = format!("`{}` is fed from `{}`, which {why} (`{}`)", step.name, before.name, before.kind);
                let help =
                    "write its rows to files with `calostream run`, and feed from those: they are mixed anew in each epoch";
                problems.push(Problem { place: step.place, what, help: Some(help.into()) });
                break;
            }
            at = before;
        }
    }
    let others = steps.iter().filter(|s| matches!(s.planned.shape, Shape::Sink | Shape::Fold | Shape::Page) && !s.planned.feeds);
    problems.extend(others.map(|s| Problem {
        place: s.place,
        what: format!("`{}` would never be made: a pipeline with a `feed` (`{}`) only feeds", s.name, first.name),
        help: Some("put it into a pipeline of its own, for `calostream run`".into()),
    }));
    problems
}
