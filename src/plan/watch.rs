//! Which plans can be kept up to date while files come and go: those in which what a file adds does not depend on the others.

use super::{Plan, PlannedStep};
use calostream_operators::{Problem, Shape};

/// The steps that can't be kept up to date, each with why.
#[must_use]
pub fn problems(plan: &Plan) -> Vec<Problem> {
    let problem = |step: &PlannedStep| {
        let (name, kind) = (&step.name, &step.kind);
        let what = match step.planned.shape {
            Shape::Shuffle => {
                format!("`{name}` can't be watched: with each file that comes, `{kind}` gives all events another order")
            }
            _ if step.planned.survey.is_some() => {
                format!("`{name}` can't be watched: with each file that comes, `{kind}` knows something else of all events")
            }
            _ if step.planned.feeds => {
                let help = Some("use `calostream feed`".to_owned());
                return Some(Problem { place: step.place, what: format!("`{name}` feeds a program and writes no files"), help });
            }
            _ => return None,
        };
        let help = "run the pipeline without `--watch`, or leave out the step";
        Some(Problem { place: step.place, what, help: Some(help.to_owned()) })
    };
    plan.steps.iter().filter_map(problem).collect()
}
