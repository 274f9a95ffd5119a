//! From a file to a plan, as every command does it that needs one.

use super::{LibraryArgs, PipelineArgs};
use crate::language::{self, show};
use crate::plan::{self, Plan};
use calostream_operators::{Place, Problem};
use std::path::Path;

/// What became of a pipeline file.
pub enum Load {
    /// It is right.
    Right {
        /// The plan.
        plan: Box<Plan>,
        /// The file's text.
        text: String,
        /// Remarks that are no mistakes, placed.
        remarks: Vec<Problem>,
    },
    /// It is wrong.
    Wrong {
        /// The file's text.
        text: String,
        /// Everything that is wrong, sorted by place.
        problems: Vec<Problem>,
    },
}

/// Reads, probes and plans a pipeline file.
pub fn load(args: &PipelineArgs, libraries: &LibraryArgs) -> Load {
    let text = match std::fs::read_to_string(&args.file) {
        Ok(text) => text,
        Err(error) => {
            let problem = Problem { place: Place::default(), what: format!("can't be read: {error}"), help: None };
            return Load::Wrong { text: String::new(), problems: vec![problem] };
        }
    };
    let (pipeline, problems) = language::read(&text, &args.set);
    let Some(mut pipeline) = pipeline else { return Load::Wrong { text, problems: show::sorted(problems) } };
    let facts = plan::probe::probe(&pipeline, &libraries.runtime());
    let mut remarks = std::mem::take(&mut pipeline.remarks);
    match plan::plan(pipeline, facts, problems) {
        Ok(plan) => {
            let place = |name: &str| plan.steps.iter().find(|s| s.name == name).map_or(Place::default(), |s| s.place);
            remarks.extend(plan.remarks.iter().map(|(step, what)| Problem {
                place: place(step),
                what: what.clone(),
                help: None,
            }));
            Load::Right { plan: Box::new(plan), text, remarks: show::sorted(remarks) }
        }
        Err(problems) => Load::Wrong { text, problems: show::sorted(problems) },
    }
}

/// Prints what is wrong, to standard error; as JSON to standard output.
pub fn print_problems(file: &Path, text: &str, problems: &[Problem], json: bool) -> anyhow::Result<()> {
    let file = file.display().to_string();
    if json {
        return super::print(&(show::json(&file, problems, &[]) + "\n"));
    }
    eprint!("{}", show::all(&file, text, problems));
    Ok(())
}

/// Prints remarks to standard error.
pub fn print_remarks(file: &Path, text: &str, remarks: &[Problem]) {
    for remark in remarks {
        eprintln!("{}", show::one(&file.display().to_string(), text, "remark", remark));
    }
}
